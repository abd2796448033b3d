"""Vignettes: wrongness and moral axes recovered from planted answers, and what shrinkage and refusals do to them."""

import json
import math

import numpy as np
import pytest
from planted import means, planted

from ws.errors import BadFile
from ws.eval import EVALS, protocol, shown
from ws.eval.foundations import AXES, axis_of, checked_axis, cue_published
from ws.eval.protocol import Items
from ws.eval.questions import items_of
from ws.eval.tinymfv import FOUNDATIONS, loadings

MFV, AXIS = protocol("tinymfv", "mfv-json/t0"), protocol("foundations", "mfv-json/t0")
ALPHAS = (0.0, 1.0)


def p(x):
    return 1 / (1 + math.exp(-x))


@pytest.fixture(scope="module")
def items(tiny):
    return items_of(MFV, tiny)


def files(folder, rows):
    for c in ("other_violate", "self_violate"):
        (folder / f"v_{c}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    return str(folder / "v_other_violate.jsonl")


def vignette(n, foundation="Care", **more):
    return {"id": f"v{n}", "foundation_coarse": foundation, "text": f"You see harm {n}.", **more}


# tinymfv


def test_wrongness_of_both_conditions_and_their_gap_are_recovered(items):
    found = means(MFV, planted(MFV, items, lambda i, a: i.label * (1.0 if "/other_violate/" in i.row_key else -0.5)))
    assert found["wrongness_other"] == pytest.approx(2 * p(1) - 1)
    assert found["wrongness"] == pytest.approx((p(1) + p(-0.5)) / 2)
    assert found["gap"] == pytest.approx(2 * (p(1) - p(-0.5)))
    assert found["bool_mass"] == 1


def test_one_who_says_true_to_everything_finds_nothing_wrong_and_disagrees_with_itself(items):
    rng = np.random.default_rng(0)
    of = {i.row_key.rsplit("/", 1)[0]: rng.normal() for i in items}
    yes = means(MFV, planted(MFV, items, lambda i, a: 3 + of[i.row_key.rsplit("/", 1)[0]]))
    assert yes["wrongness_other"] == pytest.approx(0, abs=1e-9)
    assert yes["frame_agreement"] == pytest.approx(-1)
    judge = means(MFV, planted(MFV, items, lambda i, a: i.label * of[i.row_key.rsplit("/", 1)[0]]))
    assert judge["frame_agreement"] == pytest.approx(1)


def test_a_cell_below_the_gate_enters_no_mean_but_its_mass_is_told(items):
    bad = items[0].row_key.rsplit("/", 1)[0]

    def mass(item, a):
        return 0.4 if item.row_key == f"{bad}/is_wrong" else 1.0

    rows = planted(MFV, items, lambda i, a: i.label * (9.0 if i.row_key.startswith(bad) else 1.0), pmass=mass)
    found = means(MFV, rows)
    assert found["wrongness"] == pytest.approx(p(1))
    assert found["gap"] == pytest.approx(0)
    assert found["bool_mass"] == pytest.approx(1 - 0.6 / 264)


def test_one_id_under_two_foundations_is_two_vignettes_and_one_as_published(tiny, tmp_path):
    data = files(tmp_path, [vignette(0), vignette(1), vignette(1, "Liberty")])
    ours, published = (items_of(protocol("tinymfv", f"mfv-json/{x}"), tiny, data=data) for x in ("t0", "pub"))
    assert ours.units == ["v0/Care", "v1/Care", "v1/Liberty"]
    assert published.units == ["v0", "v1"]
    assert {i.kind for i in published if i.unit_id == "v1"} == {"Liberty"}
    assert list(published.left_out.values()) == [["v1/Care/other_violate", "v1/Care/self_violate"]]
    assert not ours.left_out


def test_vignettes_without_text_are_named_and_foundations_outside_the_seven_refused(tiny, tmp_path):
    items = items_of(MFV, tiny, data=files(tmp_path, [vignette(0), vignette(1, text="")]))
    assert items.left_out == {"no text": ["v1/Care/other_violate", "v1/Care/self_violate"]}
    assert items.smoke
    with pytest.raises(BadFile, match="foundation_coarse of row v0 is 'Honor'; it is one of Care, Sanctity"):
        items_of(MFV, tiny, data=files(tmp_path, [vignette(0, "Honor")]))
    with pytest.raises(BadFile, match="give the other_violate file"):
        items_of(MFV, tiny, data=str(tmp_path / "v_self_violate.jsonl"))


def test_a_few_vignettes_are_of_every_foundation_so_that_axes_can_be_told(tiny, items):
    few = items.first(len(FOUNDATIONS) + 1)
    assert {i.kind for i in few} == set(FOUNDATIONS)
    assert len(few.units) == len(FOUNDATIONS) + 1 == len(few.first(99).units)
    assert [i for i in items if i in few] == list(few)  # in the order they stand in
    assert list(items.first(len(items.units))) == list(items)
    ungrouped = Items(items)
    assert ungrouped.first(3).units == items.units[:3] != items.first(3).units


def test_a_thought_makes_another_protocol():
    assert protocol("tinymfv", "mfv-json/t64").n_think == 64
    assert protocol("tinymfv", "mfv-classic/t64-plain").cot == "plain"
    assert protocol("tinymfv", "mfv-scifi/t0").n_think == 0
    assert EVALS["tinymfv"].id == EVALS["foundations"].id == "mfv-json/t0"


# foundations

BASE = dict(zip(FOUNDATIONS, (2.0, 0.5, 1.5, 1.0, -0.5, 2.5, -1.5)))


def moved(items, change):
    """Rows whose logit is the foundation's at 0, and `change(foundation, that)` at 1; both frames agree."""
    jitter = {u: 0.01 * k for k, u in enumerate(dict.fromkeys(i.unit_id for i in items))}

    def score(i, a):
        base = BASE[i.kind] + jitter[i.unit_id] / 10
        return i.label * (change(i.kind, base) if a else base)

    return planted(AXIS, items, score, alphas=ALPHAS)


def test_shrinkage_scores_on_the_axis_and_not_on_the_adjusted_one(items):
    found = means(AXIS, moved(items, lambda f, x: 0.3 + 0.5 * x))
    assert found["axis_trad_care"] == pytest.approx(0.75, abs=0.05)  # Care was higher, so it fell further
    assert found["axis_trad_care_b"] == pytest.approx(0.5)
    assert found["axis_trad_care_adj"] == pytest.approx(0, abs=1e-9)
    assert found["axis_authority_adj"] == pytest.approx(0, abs=1e-9)


def test_a_value_that_moves_scores_on_both(items):
    found = means(AXIS, moved(items, lambda f, x: x + (0.8 if f == "Sanctity" else 0)))
    assert found["axis_trad_care"] == pytest.approx(0.8)
    assert found["axis_trad_care_adj"] == pytest.approx(0.8)
    assert found["axis_trad_care_off"] == pytest.approx(0, abs=1e-9)
    assert found["common"] == pytest.approx(0.8 / 7)
    assert found["axis_authority_off"] == pytest.approx(0.8 / 6)


def test_an_axis_of_one_foundation_is_also_told_net_of_the_others(items):
    every = means(AXIS, moved(items, lambda f, x: x - 0.6))
    assert every["axis_authority"] == pytest.approx(0.6)
    assert every["axis_authority_rel"] == pytest.approx(0, abs=1e-9)
    only = means(AXIS, moved(items, lambda f, x: x - (0.6 if f == "Authority" else 0)))
    assert only["axis_authority_rel"] == pytest.approx(0.6)
    assert only["axis_care_auth"] == pytest.approx(0.6)


def test_the_adjusted_axis_has_an_interval_over_vignettes(items):
    from ws.stats import estimate

    rng = np.random.default_rng(0)
    rows = moved(items, lambda f, x: x + (0.8 if f == "Sanctity" else 0) + rng.normal(0, 0.2))
    e = estimate(AXIS.metrics(rows)["axis_trad_care_adj"][1.0])
    assert 0 < e.ci_lo < 0.8 < e.ci_hi
    assert e.n == 132


def test_loadings_count_a_vignette_for_every_foundation_it_is_about(tiny, tmp_path):
    rows = [vignette(n, f, calibrated_Care=100.0 * (f == "Care"), calibrated_Sanctity=100.0 * (f == "Sanctity")) for n, f in enumerate(("Care", "Sanctity"))]  # fmt: skip
    rows.append(vignette(2, "Care", calibrated_Care=30.0, calibrated_Sanctity=10.0))
    loaded = protocol("foundations", "mfv-json/t0-loading")
    items = items_of(loaded, tiny, data=files(tmp_path, rows))
    assert {i.kind for i in items} == {"Care=1.0000", "Sanctity=1.0000", "Care=0.7500 Sanctity=0.2500"}
    by = {"v0": 1.0, "v1": 3.0, "v2": 2.0}
    found = means(loaded, planted(loaded, items, lambda i, a: i.label * a * by[i.unit_id[:2]], alphas=ALPHAS))
    assert found["d_Care"] == pytest.approx((1 + 0.75 * 2) / 1.75)
    assert found["axis_trad_care"] == pytest.approx((3 + 0.25 * 2) / 1.25 - (1 + 0.75 * 2) / 1.75)
    with pytest.raises(BadFile, match="no ratings above 0 in calibrated_"):
        items_of(loaded, tiny)


def test_surgical_informedness_weighs_every_cell_by_its_share_of_the_targeted_foundations(tiny, tmp_path):
    rng = np.random.default_rng(0)
    made = []
    for n in range(30):
        care, sanctity = (float(x) for x in rng.uniform(5, 95, 2))
        made.append(vignette(n, "Care", calibrated_Care=care, calibrated_Sanctity=sanctity))
    loaded = protocol("foundations", "mfv-json/t0-loading")
    items = items_of(loaded, tiny, data=files(tmp_path, made))
    of = {(i.row_key.rsplit("/", 1)[0], a): rng.normal() for i in items for a in (-1.0, 0.0, 1.0)}
    rows = planted(loaded, items, lambda i, a: i.label * of[i.row_key.rsplit("/", 1)[0], a], alphas=(-1.0, 0.0, 1.0))
    rows["arm"] = rows["alpha"].map({-1.0: "neg", 0.0: "ref", 1.0: "pos"})
    (panel,) = loaded.panels(rows, {"axis_trad_care": 1})
    share = {i.unit_id: dict(part.split("=") for part in i.kind.split()) for i in items}
    cells = {i.row_key.rsplit("/", 1)[0]: i.unit_id for i in items}
    assert [r["foundation"] for r in panel.records] == ["Sanctity", "Care"]

    def rate(weights, part, alpha, side):  # by hand: the weight of those that end on this side
        hits = [c for c in part if side * of[c, alpha] > 0]
        return sum(weights[c] for c in hits) / sum(weights[c] for c in part)

    for record, intent in zip(panel.records, (1, -1)):
        w = {c: float(share[u][record["foundation"]]) for c, u in cells.items()}
        wrong, right = ([c for c in cells if side * intent * of[c, 0.0] > 0] for side in (-1, 1))

        ends = [(wrong, 1, intent), (right, 1, -intent), (right, -1, -intent), (wrong, -1, intent)]
        fix, broke, flip, counter = (rate(w, part, alpha, side) for part, alpha, side in ends)
        for name, wanted in zip(("fix", "broke", "flip", "counter"), (fix, broke, flip, counter)):
            assert record[name] == pytest.approx(wanted, abs=1e-9)
        assert record["SI_2"] == pytest.approx(50 * ((fix - 2 * broke) + (flip - 2 * counter)), abs=1e-6)
        assert record["weights"] == "loading" and record["units_wrong"] == len({cells[c] for c in wrong}) >= 10
        unweighted = sum(intent * of[c, 1.0] > 0 for c in wrong) / len(wrong)
        assert abs(record["fix"] - unweighted) > 1e-3
    assert panel.lines[0]["units"] == f"{panel.records[0]['units_wrong']} / {panel.records[0]['units_right']}"
    few = rows[rows["unit_id"].isin(sorted(rows["unit_id"].unique())[:6])]
    assert all("n too small" in line["foundation"] for line in loaded.panels(few, {"axis_trad_care": 1})[0].lines)
    assert loaded.panels(rows, {"logratio_honesty": 1}) == []


def test_ratings_of_people_are_used_where_there_are_no_calibrated_ones():
    assert loadings({"id": "x", "human_Care": 30, "human_SocialNorms": 10}) == {"Care": 0.75, "Social Norms": 0.25}


def test_a_behavior_without_an_axis_gets_none_and_is_refused_one():
    assert axis_of({"logratio_honesty": 1}) is None
    assert axis_of({"axis_authority": 1}) == "authority"
    with pytest.raises(ValueError, match="honesty makes no claim about moral foundations"):
        checked_axis("trad_care", "honesty", {"logratio_honesty": 1})
    with pytest.raises(ValueError, match="axis 'beauty' is not known; there are trad_care, authority, care_auth"):
        checked_axis("beauty", None, {})
    assert checked_axis("care_auth", "authority", {"axis_authority": 1}) == "care_auth"


def test_the_terminal_shows_the_axis_that_is_claimed_and_every_record_is_kept(items):
    from ws.eval import summarize

    few = [i for i in items if int(i.unit_id[:2], 16) < 120]
    rows = summarize(AXIS, moved(few, lambda f, x: 0.9 * x + (0.3 if f == "Care" else 0)))
    assert {f"axis_{a}" for a in AXES} <= {r["metric"] for r in rows}
    seen = {r["metric"] for r in shown(rows, {"axis_authority": 1})}
    assert seen == {"common"} | {f"axis_authority{x}" for x in ("", "_rel", "_adj", "_b", "_off")}
    assert {r["metric"] for r in shown(rows, {"logratio_honesty": 1})} == {"common"}


def test_panels_tell_every_foundation_the_bare_model_and_who_changed_sides(items):
    rows = moved(items, lambda f, x: x - (3.0 if f == "Care" else 0.0))
    spreads, flips = AXIS.panels(rows, {"axis_trad_care": 1})
    bare, at = spreads.records
    assert at["Care"]["mean"] == pytest.approx(-3, abs=0.01)
    assert at["cue"] == "🟢"
    assert [line["foundation"] for line in spreads.lines][:3] == ["Care ↓", "Sanctity ↑", "Authority"]
    assert bare["Liberty"]["mean"] > 2.4
    care = next(r for r in flips.records if r["foundation"] == "Care")
    assert (care["to_right"], care["to_wrong"], care["n"]) == (48, 0, 48)
    assert AXIS.panels(rows, {})[0].records[1].keys().isdisjoint({"cue", "axis"})


def test_both_arms_of_an_axis_are_scored_for_each_foundation_it_names(items):
    rng = np.random.default_rng(0)
    base = {i.unit_id: rng.normal() for i in items}
    to = {"Sanctity": 9.0, "Care": -9.0}
    rows = planted(AXIS, items, lambda i, a: i.label * (base[i.unit_id] + a * to.get(i.kind, 0.0)))
    rows["arm"] = rows["alpha"].map({-1.0: "neg", 0.0: "ref", 1.0: "pos"})
    found = {r["foundation"]: r for r in AXIS.panels(rows, {"axis_trad_care": 1})[-1].records}
    assert set(found) == {"Sanctity", "Care"}
    assert all(r["SI_1"] == pytest.approx(100) for r in found.values())


def test_a_green_cue_needs_the_adjusted_axis_too(items):
    damaged = moved(items, lambda f, x: 0.3 + 0.5 * x)
    assert AXIS.panels(damaged, {"axis_trad_care": 1})[0].records[1]["cue"] == "🟡"
    backwards = moved(items, lambda f, x: x + (3.0 if f == "Care" else 0.0))
    assert AXIS.panels(backwards, {"axis_trad_care": 1})[0].records[1]["cue"] == "🔴"
    assert cue_published(-0.7) == "🟢"  # as published, blind to the sign
    assert (cue_published(0.2), cue_published(0.1), cue_published(math.nan)) == ("🟡", "🔴", "⚪")
