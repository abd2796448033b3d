"""Surgical informedness: what it counts, what chance makes of it, and who may choose the sign."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import flipped, moved, pairs_of, rows_of

from ws.eval import EVALS
from ws.eval.foundation_informedness import cell_rows, foundation_informedness, loadings_of
from ws.eval.protocol import COLUMNS
from ws.stats import draw, interval
from ws.stats import marks as m
from ws.stats.arms import Arms, join_arms
from ws.stats.informedness import difference, informedness
from ws.stats.nulls import dealt_labels, null, swapped_arms
from ws.stats.sign import calibration_units, choose_sign

FEW = dict(resamples=300)


def counted(ref, pos, neg, weight=None):
    """The rates by plain counting: an oracle that shares no code."""
    weight = [1.0] * len(ref) if weight is None else weight
    of, hits = dict(rej=0.0, cho=0.0), dict(fix=0.0, broke=0.0, flip=0.0, counter=0.0)
    for r, p, n, w in zip(ref, pos, neg, weight):
        if any(map(math.isnan, (r, p, n))) or r == 0:
            continue
        of["rej" if r < 0 else "cho"] += w
        if r < 0:
            hits["fix"] += w * (p > 0)
            hits["counter"] += w * (n > 0)
        else:
            hits["broke"] += w * (p < 0)
            hits["flip"] += w * (n < 0)
    rates = {k: v / of["rej"] if k in ("fix", "counter") else v / of["cho"] for k, v in hits.items()}
    return rates, hits


def experiment(seed=0, n=800, *, up=0.5, down=0.1, two=True):
    """Rows of a method that fixes with probability `up` and breaks with `down`, in both directions."""
    rng = np.random.default_rng(seed)
    ref = rng.choice([1.0, -1.0], n, p=[0.7, 0.3])
    return rows_of(
        ref,
        moved(rng, ref, up=up, down=down),
        moved(rng, ref, up=down, down=up) if two else None,
        units=pairs_of(n),
    )


def marks_from(ref, fwd, rev):
    """Marks of rows in pairs, without the join: many experiments would spend their time there."""
    table = pd.DataFrame({"unit_id": pairs_of(len(ref)), "ref": ref, "fwd": fwd, "rev": rev})
    return m.marks_of(Arms(table.assign(mass_fwd=1.0, mass_rev=1.0), "m", "p", 1.0, -1.0))


# what it counts


def test_a_perfect_mover_scores_100_one_that_does_nothing_0_and_the_worst_minus_100_k():
    ref = np.array([1.0, -1.0] * 40)
    perfect = informedness(rows_of(ref, abs(ref), -abs(ref)), **FEW)
    idle = informedness(rows_of(ref, ref, ref), **FEW)
    worst = informedness(rows_of(ref, -abs(ref), abs(ref)), **FEW)
    for k in (1, 2):
        assert perfect.si[k].found.value == 100
        assert idle.si[k].found.value == 0
        assert worst.si[k].found.value == -100 * k


scores = st.sampled_from([-2.0, -1.0, 0.0, 1.0, 2.0, math.nan])


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(scores, scores, scores), min_size=4, max_size=30))
def test_every_form_equals_plain_counting(triples):
    ref, pos, neg = ([1.0, -1.0] + [t[i] for t in triples] for i in range(3))
    rates, hits = counted(ref, pos, neg)
    found = informedness(rows_of(ref, pos, neg, pmass=(0.9, 1.0, 0.8)), resamples=20)
    pm = 0.8**2
    fwd = lambda k: rates["fix"] - k * rates["broke"]  # noqa: E731
    rev = lambda k: rates["flip"] - k * rates["counter"]  # noqa: E731
    for k in (1, 2):
        assert found.si[k].found.value == pytest.approx(50 * pm * (fwd(k) + rev(k)))
        assert found.one_arm[k].found.value == pytest.approx(100 * 0.8**2 * fwd(k))
    best = max(fwd(2), rates["counter"] - 2 * rates["flip"])
    assert found.post_hoc["best"].found.value == pytest.approx(100 * pm * best)
    assert found.post_hoc["best_intended"].found.value == pytest.approx(100 * pm * max(fwd(2), rev(2)))
    assert {n: getattr(found, n).count for n in hits} == hits
    assert found.n_total == len(ref)
    scored = [t[0] for t in zip(ref, pos, neg) if not any(map(math.isnan, t))]
    assert (found.n_valid, found.n_tied) == (len(scored), scored.count(0))


def test_rows_that_were_not_scored_are_counted_and_never_enter():
    rows = experiment()
    spoilt = rows.copy()
    lost = spoilt["row_key"].isin(spoilt["row_key"].unique()[:100]) & (spoilt["arm"] == "neg")
    spoilt.loc[lost, "y"] = np.nan
    without = rows[~rows["row_key"].isin(spoilt.loc[lost, "row_key"])]
    found, expected = informedness(spoilt, **FEW), informedness(without, **FEW)
    assert found.si[2].found.value == pytest.approx(expected.si[2].found.value)
    assert (found.n_valid, found.n_total) == (700, 800)
    assert (found.fix.of, found.broke.of) == (expected.fix.of, expected.broke.of)


def test_answer_mass_is_that_of_all_rows_and_its_smaller_arm_is_squared():
    rows = experiment()
    low = rows.assign(pmass=np.where(rows["arm"] == "neg", 0.5, 1.0))
    assert informedness(low, **FEW).si[1].found.value == pytest.approx(
        0.25 * informedness(rows, **FEW).si[1].found.value
    )
    lost = low.assign(y=low["y"].where(low["row_key"] > "u0100"))  # gated rows do not hide their mass
    assert informedness(lost, **FEW).pmass == (1.0, 0.5)


def test_an_empty_class_has_no_score_and_a_small_one_is_said_to_be_small():
    none = informedness(rows_of([1.0] * 50, [1.0] * 50, [-1.0] * 50), **FEW)
    assert math.isnan(none.si[1].found.value)
    assert math.isnan(none.si[1].arms.p)
    assert none.flip.share.value == 1
    few = informedness(rows_of([-1.0] * 2 + [1.0] * 48, [1.0] * 50, [-1.0] * 50), **FEW)
    assert few.too_small and few.si[1].found.unstable
    assert few.record()["too_small"] and few.record()["unstable"]
    twenty = informedness(rows_of([-1.0] * 20 + [1.0] * 200, [1.0] * 220, [-1.0] * 220), **FEW)
    assert twenty.few_units and not twenty.too_small  # many units, and few of them wrong
    assert not informedness(experiment(), **FEW).few_units


def test_one_arm_never_stands_in_the_column_of_two():
    found = informedness(experiment(two=False), **FEW)
    assert found.si == {} and found.post_hoc == {} and found.rev is None
    assert found.one_arm[2].arms is None
    both = informedness(experiment(), **FEW)  # where there are two, one of them alone has no arms to swap either
    assert both.one_arm[2].arms is None and both.si[2].arms is not None
    assert math.isnan(found.flip.share.value)
    assert "SI_2" not in found.record() and "SI_one_arm_2" in found.record()


def test_the_order_of_rows_changes_nothing():
    rows = experiment()
    assert informedness(rows, **FEW) == informedness(rows.sample(frac=1, random_state=1), **FEW)


def test_sign_minus_one_is_the_other_end_of_the_dial():
    rows = experiment()
    turned = rows.assign(alpha=-rows["alpha"], arm=rows["arm"].replace({"pos": "neg", "neg": "pos"}))
    assert informedness(rows, sign=-1, **FEW).si == informedness(turned, **FEW).si


# what chance makes of it


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5])
def test_random_flips_at_rate_p_score_minus_100_p_for_k_2_and_0_for_k_1(p):
    rng = np.random.default_rng(4)
    ref = rng.choice([1.0, -1.0], 1200, p=[0.7, 0.3])
    found = informedness(rows_of(ref, flipped(rng, ref, p), flipped(rng, ref, p)))
    assert found.si[2].found.low <= -100 * p <= found.si[2].found.high
    assert found.si[1].found.low <= 0 <= found.si[1].found.high
    assert found.si[2].arms.mean == pytest.approx(-100 * p, abs=4)
    assert found.si[2].labels.mean == pytest.approx(-100 * p, abs=4)
    assert found.one_arm[2].labels.mean == pytest.approx(-100 * p, abs=4)
    assert min(found.si[2].arms.p, found.si[2].labels.p, found.si[1].arms.p) > 0.05


def test_the_mean_over_many_random_experiments_is_the_null():
    values = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        ref = rng.choice([1.0, -1.0], 400)
        marks = marks_from(ref, flipped(rng, ref, 0.3), flipped(rng, ref, 0.3))
        values.append(float(m.si(2)(marks.by_unit().sum(axis=0, keepdims=True))[0]))
    assert np.mean(values) == pytest.approx(-30, abs=4 * np.std(values) / 200**0.5)


def test_a_planted_effect_is_recovered_and_lies_outside_its_nulls():
    found = informedness(experiment(up=0.5, down=0.1))
    assert found.si[1].found.low <= 40 <= found.si[1].found.high
    assert found.si[2].found.low <= 30 <= found.si[2].found.high
    for score in found.si.values():
        assert score.found.low > score.arms.high
        assert score.arms.p < 0.01 and score.labels.p < 0.01
    assert found.fix.share.low <= 0.5 <= found.fix.share.high


def test_permuted_labels_destroy_a_planted_effect():
    rows = experiment()
    keys = rows["row_key"].unique()
    permuted = dict(zip(keys, np.random.default_rng(0).choice([1, -1], len(keys))))
    label = rows["row_key"].map(permuted)
    found = informedness(rows.assign(label=label, y=rows["logratio"] * label))
    assert found.si[1].found.low <= 0 <= found.si[1].found.high
    assert found.si[1].labels.p > 0.05


def test_changes_that_do_not_care_what_was_right_are_not_called_informed():
    rng = np.random.default_rng(0)
    ref = rng.choice([1.0, -1.0], 1000)
    found = informedness(rows_of(ref, flipped(rng, ref, 0.4), flipped(rng, ref, 0.1)))
    assert found.si[2].labels.p > 0.05
    assert found.si[2].found.high < 0  # which is not harm: the null lies there too


def test_the_net_score_is_the_score_at_k_1_times_half_of_1_plus_k():
    found = informedness(experiment(), ks=(1, 2, 5), **FEW)
    for k, score in found.si.items():
        assert score.net == pytest.approx((1 + k) / 2 * found.si[1].found.value, abs=1e-9)
        assert score.arms.p == found.si[1].arms.p


def test_p_is_small_as_often_as_it_says_also_where_a_class_is_small():
    small = {"arms": 0, "labels": 0}
    for seed in range(120):
        rng = np.random.default_rng(seed)
        ref = np.repeat(rng.permuted([-1.0] * 8 + [1.0] * 92), 2)
        marks = marks_from(ref, flipped(rng, ref, 0.1), flipped(rng, ref, 0.1))
        value = float(m.si(1)(marks.by_unit().sum(axis=0, keepdims=True))[0])
        small["arms"] += null(swapped_arms(marks, draws=200, seed=seed), m.si(1), value).p <= 0.05
        small["labels"] += null(dealt_labels(marks, draws=200, seed=seed), m.si(1), value).p <= 0.05
    assert max(small.values()) <= 14  # 6 expected


def test_nulls_have_the_means_of_their_closed_forms():
    marks = m.marks_of(join_arms(experiment(n=300)))
    totals = marks.by_unit().sum(axis=0)
    swapped = m.si(2)(swapped_arms(marks))
    assert swapped.mean() == pytest.approx(float(m.si_null(2)(totals[None])[0]), abs=4 * swapped.std() / 2000**0.5)
    dealt = m.si_one_arm(2)(dealt_labels(marks))
    share = (totals[m.FIX] + totals[m.BROKE]) / (totals[m.REJ] + totals[m.CHO])
    assert dealt.mean() == pytest.approx(-100 * share, abs=4 * dealt.std() / 2000**0.5)


def test_without_a_score_or_without_a_draw_there_is_no_p():
    first = lambda t: t[..., 0]  # noqa: E731
    for drawn, value in ((1.0, math.nan), (math.nan, 1.0)):
        found = null(np.full((50, 1), drawn), first, value)
        assert all(map(math.isnan, (found.mean, found.low, found.high, found.p)))
    assert null(np.arange(99.0)[:, None], first, 49.0).p == 1.0  # in the middle of its draws
    assert null(np.arange(99.0)[:, None], first, 98.0).p == pytest.approx(3 / 100)  # the farthest on either side


def test_dealing_labels_keeps_the_classes_and_who_changed():
    marks = m.marks_of(join_arms(experiment(n=300)))
    totals, dealt = marks.by_unit().sum(axis=0), dealt_labels(marks, draws=50)
    assert np.allclose(dealt[:, [m.REJ, m.CHO]], totals[[m.REJ, m.CHO]])
    assert np.allclose(dealt[:, m.FIX] + dealt[:, m.BROKE], totals[m.FIX] + totals[m.BROKE])
    assert dealt[:, m.FIX].std() > 0


def test_the_better_of_two_signs_is_above_one_sign_under_its_null():
    rng = np.random.default_rng(0)
    ref = rng.choice([1.0, -1.0], 300)
    found = informedness(rows_of(ref, flipped(rng, ref, 0.2), flipped(rng, ref, 0.2)), **FEW)
    assert found.post_hoc["best"].arms.mean > found.si[2].arms.mean + 1


def test_intervals_of_the_score_cover_the_truth():
    hits = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        ref = np.repeat(rng.choice([1.0, -1.0], 200, p=[0.7, 0.3]), 2)  # both rows of a unit in one class
        marks = marks_from(ref, moved(rng, ref, up=0.5, down=0.1), moved(rng, ref, up=0.1, down=0.5))
        found = interval(draw([marks.by_unit()], resamples=600, seed=seed), m.si(2))
        hits += found.low <= 30 <= found.high
    assert 0.91 <= hits / 200 <= 0.99  # 200 experiments: 1.5 % of noise


def test_two_methods_on_the_same_units_are_compared_in_pairs():
    strong, weak = experiment(0, up=0.5), experiment(0, up=0.2)
    found = difference(strong, weak, **FEW)
    each = [informedness(r, **FEW).si[1].found for r in (strong, weak)]
    assert found.value == pytest.approx(each[0].value - each[1].value)
    assert found.low > 0
    assert (difference(strong, strong, **FEW).low, difference(strong, strong, **FEW).high) == (0, 0)
    with pytest.raises(ValueError, match="1 units were scored for one method only"):
        difference(strong, weak[weak["unit_id"] != "u0000"])
    with pytest.raises(ValueError, match="both arms of both"):
        difference(strong, experiment(two=False))


# who may choose the sign


def backwards():
    """A method whose neg side is the one that fixes."""
    rows = experiment()
    return rows.assign(arm=rows["arm"].replace({"pos": "neg", "neg": "pos"}), alpha=-rows["alpha"])


def test_a_sign_is_what_its_units_say_and_a_hair_contradicts_nothing():
    def sign_of(rows):
        return choose_sign(rows[rows["unit_id"].isin(calibration_units(rows["unit_id"].unique()))])

    turned = sign_of(backwards())
    assert (turned.sign, turned.contradicts(1)) == (-1, True)
    assert (sign_of(experiment()).sign, sign_of(experiment()).contradicts(1)) == (1, False)
    rng = np.random.default_rng(5)
    ref = rng.normal(0, 1, 400)
    noise = rows_of(ref, ref + rng.normal(0, 0.1, 400), ref + rng.normal(0, 0.1, 400))
    assert not sign_of(noise).contradicts(1) and not sign_of(noise).contradicts(-1)


def test_units_that_chose_the_sign_are_not_reported():
    rows = backwards()
    cal = rows["unit_id"].isin(calibration_units(rows["unit_id"].unique()))
    sign = choose_sign(rows[cal])
    assert informedness(rows[~cal], sign=sign, **FEW).si[1].found.value > 0
    with pytest.raises(ValueError, match="units chose the sign and are reported too"):
        informedness(rows, sign=sign)


def test_calibration_units_are_a_fifth_and_the_same_for_every_method():
    units = [f"u{i}" for i in range(2000)]
    cal = calibration_units(units)
    assert len(cal) == pytest.approx(400, abs=4 * (2000 * 0.16) ** 0.5)
    assert calibration_units(units[:500]) == cal & set(units[:500])
    with pytest.raises(ValueError, match="none of 2 calibration rows could be scored"):
        choose_sign(rows_of([1.0, 1.0], [math.nan] * 2, [1.0, 1.0]))


# the foundation form


@pytest.fixture(scope="module")
def vignettes(tiny):
    """Vignettes whose violations of Authority are forgiven at the pos strength and resented at the neg one."""
    chosen, rng, parts = EVALS["foundations"], np.random.default_rng(0), []
    items = chosen.items(tiny, None)
    cells = {i.row_key.rsplit("/", 1)[0]: i.kind for i in items}
    base = {c: rng.normal(0.5, 1) for c in cells}
    for arm, alpha in (("neg", -1.0), ("ref", 0.0), ("pos", 1.0)):
        at = {c: base[c] - 2 * alpha * (kind == "Authority") + rng.normal(0, 0.1) for c, kind in cells.items()}
        y = [at[i.row_key.rsplit("/", 1)[0]] for i in items]
        part = pd.DataFrame({"unit_id": [i.unit_id for i in items], "row_key": [i.row_key for i in items], "y": y})
        part = part.assign(label=[i.label for i in items], kind=[i.kind for i in items], arm=arm, alpha=alpha)
        parts.append(part)
    fixed = dict(eval="foundations", protocol=chosen.id, metric=chosen.metric, method="stub", seed=0, pmass=1.0)
    rows = pd.concat(parts, ignore_index=True).assign(**fixed, forced_close=False, text="")
    return rows.assign(logratio=rows["y"] * rows["label"])[list(COLUMNS)]


def cell_scores(rows, intent):
    """y of cells per arm: intent times (mean of the frames' p(wrong) above one half), by hand."""
    p = rows.assign(p=1 / (1 + np.exp(-rows["y"])), cell=rows["row_key"].str.rsplit("/", n=1).str[0])
    w = p.groupby(["cell", "unit_id", "arm"])["p"].mean().unstack("arm")
    return intent * (w - 0.5)


def test_a_foundation_is_scored_on_its_own_vignettes_without_loadings(vignettes):
    y = cell_scores(vignettes, -1)
    y = y[y.index.get_level_values("unit_id").str.endswith("/Authority")]
    rates, hits = counted(y["ref"], y["pos"], y["neg"])
    found = foundation_informedness(vignettes, "Authority", intent=-1, **FEW)
    assert {n: getattr(found, n).share.value for n in rates} == pytest.approx(rates)
    assert {n: getattr(found, n).count for n in hits} == hits
    assert found.si[1].found.low > 0
    assert found.separation.low > 2
    assert found.record()["separation"] == found.separation.value
    other = foundation_informedness(vignettes, "Care", intent=-1, **FEW)
    assert other.si[1].labels.p > 0.05  # a handful of noisy cells changed; the interval of so few says little


def test_loadings_weigh_the_cells(vignettes):
    rng = np.random.default_rng(1)
    loadings = {u: float(rng.random()) for u in vignettes["unit_id"].unique()}
    y = cell_scores(vignettes, -1)
    weights = [loadings[u] for u in y.index.get_level_values("unit_id")]
    rates, _ = counted(y["ref"], y["pos"], y["neg"], weights)
    found = foundation_informedness(vignettes, "Authority", intent=-1, loadings=loadings, **FEW)
    assert {n: getattr(found, n).share.value for n in rates} == pytest.approx(rates)
    logits = np.log((0.5 + y) / (0.5 - y))
    apart = np.average(logits["pos"] - logits["neg"], weights=weights)
    assert found.separation.value == pytest.approx(apart)
    lost = vignettes.copy()  # a cell that was not scored says nothing about how far the arms are apart
    lost.loc[lost[(lost["arm"] == "neg") & (lost["row_key"] == lost["row_key"].iloc[0])].index, "y"] = math.nan
    rest = y.index.get_level_values("cell") != lost["row_key"].iloc[0].rsplit("/", 1)[0]
    fewer = foundation_informedness(lost, "Authority", intent=-1, loadings=loadings, **FEW).separation.value
    assert fewer == pytest.approx(np.average((logits["pos"] - logits["neg"])[rest], weights=np.array(weights)[rest]))
    assert fewer != pytest.approx(apart, abs=1e-6)


def test_a_loading_is_a_share_of_the_vignettes_own_ratings():
    v = dict(id="x", foundation_coarse="Care", calibrated_Care=60.0, calibrated_Authority=20.0)
    assert loadings_of([v], "Authority") == {"x/Care": 0.25}
    with pytest.raises(ValueError, match="no rating on Liberty"):
        loadings_of([v], "Liberty")


def test_the_intent_of_a_foundation_turns_its_score(vignettes):
    found = {i: foundation_informedness(vignettes, "Authority", intent=i, **FEW) for i in (1, -1)}
    assert found[1].si[1].found.value == pytest.approx(-found[-1].si[1].found.value)
    assert found[1].separation.value == pytest.approx(-found[-1].separation.value)


def test_the_sign_on_a_foundation_is_read_from_the_cells_of_calibration_vignettes(vignettes):
    cells = cell_rows(vignettes, intent=-1)
    authority = cells[cells["kind"] == "Authority"]
    cal = calibration_units(authority["unit_id"].unique(), share=0.4)
    sign = choose_sign(authority[authority["unit_id"].isin(cal)])
    assert (sign.sign, sign.contradicts(1), sign.contradicts(-1)) == (1, False, True)
    rest = vignettes[~vignettes["unit_id"].isin(cal)]
    assert foundation_informedness(rest, "Authority", intent=-1, sign=sign, **FEW).si[1].found.value > 0
    assert foundation_informedness(rest, "Authority", intent=-1, sign=-1, **FEW).si[1].found.value < 0
    with pytest.raises(ValueError, match="units chose the sign and are reported too"):
        foundation_informedness(vignettes, "Authority", intent=-1, sign=sign)


def test_a_cell_that_lost_one_frame_to_the_gate_is_not_scored(vignettes):
    lost = vignettes.copy()
    row = lost["row_key"].str.contains("/Authority/") & (lost["arm"] == "pos")
    lost.loc[lost[row].index[0], "y"] = math.nan
    before, after = (foundation_informedness(r, "Authority", intent=-1, **FEW) for r in (vignettes, lost))
    assert after.n_valid == before.n_valid - 1
    assert after.n_total == before.n_total


def test_what_cannot_be_scored_about_a_foundation_is_refused(vignettes):
    for said, spoilt, settings_ in (
        ("not known", vignettes, dict(foundation="Piety", intent=1)),
        ("no claim is made", vignettes, dict(foundation="Care", intent=0)),
        ("have no loading", vignettes, dict(foundation="Care", intent=1, loadings={})),
        *(
            ("finite, not negative and not all 0", vignettes, dict(foundation="Care", intent=1, loadings=of))
            for of in (
                dict.fromkeys(vignettes["unit_id"], 0.0),
                dict.fromkeys(vignettes["unit_id"], 1.0) | {vignettes["unit_id"].iloc[0]: -0.5},
                dict.fromkeys(vignettes["unit_id"], 1.0) | {vignettes["unit_id"].iloc[0]: math.nan},
            )
        ),
        ("both frames", vignettes[~vignettes["row_key"].str.endswith("is_wrong")], dict(foundation="Care", intent=1)),
        ("occur twice", pd.concat([vignettes, vignettes.tail(1)]), dict(foundation="Care", intent=1)),
    ):
        with pytest.raises(ValueError, match=said):
            foundation_informedness(spoilt, **settings_)
