"""A behavior that was put into one module is found there, by each way of looking, and a scrambled one nowhere."""

import numpy as np
import pytest
import torch
from explain.worlds import METRIC, MODULES, gradients, measure, planted, scrambled
from scipy.stats import spearmanr

from ws.errors import Unsupported
from ws.eval import Evaluation
from ws.explain import localization, places
from ws.explain.attribution import questions_with_slopes, random_steps, row_metric, slopes
from ws.explain.localization import LOCALIZATION, Attribution, attribution, seats
from ws.explain.protocol import Subject, Variant
from ws.explain.show import short
from ws.stats import estimate

DRAWS = len(MODULES)
"""Each module once; `bench/explain.py --planted 20` takes more."""


@pytest.fixture(scope="module")
def gradient(tiny):
    return gradients(tiny, Evaluation("dilemmas", limit=4), MODULES)


@pytest.fixture(autouse=True)
def _few(monkeypatch):
    """Few prompts for a KL: the questions here are whether, not how exactly."""
    monkeypatch.setattr(localization, "KL_PROMPTS", 4)


def few(gradient):
    """The modules of one layer, which are fewer to measure."""
    return {n: gradient[n] for n in MODULES[:3]}


def at_zero(m, seed=0) -> Attribution:
    """The slopes at 0 alone, with random directions beside them."""
    taken = slopes(m, 0.0, random_steps(m.direction, m.base.weight, 20, seed=100 * seed))
    return attribution(m, METRIC, [taken, taken, taken])


def by_parts(m):
    """(the module without which most is lost, the one that alone keeps most), where they keep or lose most of it."""
    names = list(m.direction.forms)
    groups = {n: frozenset([n]) for n in names}
    effects = {e.variant: e for e in m([*places.without(groups, names), *places.only(groups)])}
    lost = {n: 1 - effects[f"without:{n}"].retained.mean for n in names}
    alone = {n: effects[f"only:{n}"].retained.mean for n in names}
    return [max(s, key=s.get) for s in (lost, alone) if max(s.values()) > 0.5], effects["full"]


def test_one_module_is_found_by_parts_and_by_slopes_in_every_draw_and_a_scrambled_one_in_none(tiny, gradient, tmp_path):
    found = {"parts": 0, "slopes": 0, "scrambled": 0}
    for seed in range(DRAWS):
        where = MODULES[seed % len(MODULES)]
        direction = planted(tiny, gradient, where, seed)
        m = measure(tiny, direction, tmp_path / f"p{seed}", limit=2)
        parts, _ = by_parts(m)
        found["parts"] += parts == [where, where]
        found["slopes"] += seats(at_zero(m, seed), MODULES) == [where]
        mixed = measure(tiny, scrambled(tiny, direction, seed), tmp_path / f"s{seed}", limit=2)
        found["scrambled"] += where in seats(at_zero(mixed, seed), MODULES)
    assert found == {"parts": DRAWS, "slopes": DRAWS, "scrambled": 0}


def test_slopes_order_modules_as_leaving_each_out_does_at_a_small_strength(tiny, gradient, tmp_path):
    names = list(MODULES)
    direction = planted(tiny, gradient, names[1], 3)
    m = measure(tiny, direction, tmp_path, alpha=0.1)
    slope = at_zero(m).at_0
    groups = {n: frozenset([n]) for n in names}
    effects = {e.variant: e for e in m(places.without(groups, names))}
    lost = [effects["full"].delta.mean - effects[f"without:{n}"].delta.mean for n in names]
    own = [0.1 * estimate(slope[n], resamples=2).mean for n in names]
    assert spearmanr(own, lost)[0] >= 0.8
    assert own == pytest.approx(lost, abs=0.05 * max(map(abs, lost)))


ROWWISE = ("dilemmas", METRIC)
OVER_FORMS = ("sycophancy", "logratio_claims")
"""A mean of rows, and one whose every number is made of several: framings, polarities and orders of one claim."""


@pytest.mark.parametrize(("evaluation", "metric"), [ROWWISE, OVER_FORMS, ("sycophancy", "yes_bias")])
def test_slopes_are_the_change_of_the_metric_by_a_small_step(tiny, gradient, tmp_path, evaluation, metric):
    direction = planted(tiny, gradient, MODULES[0], 0)
    m = measure(tiny, direction, tmp_path, alpha=0.01, evaluation=evaluation, metric=metric)
    change = m([Variant("one", scales={MODULES[0]: 1.0})])[2].delta.mean
    taken = slopes(m, 0.0)
    linear = row_metric(m, taken.rows, metric)
    one = [estimate(linear.sample(column)).mean for column in taken.tables[0].numpy().T]
    assert one[list(direction.forms).index(MODULES[0])] == pytest.approx(change / 0.01, rel=0.02)
    assert linear.values(taken.tables[0].numpy()) == pytest.approx(one)  # one number at a time, and all at once


def test_a_row_that_was_not_scored_takes_its_whole_claim_out_of_the_slopes_and_no_other(tiny, gradient, tmp_path):
    m = measure(tiny, planted(tiny, gradient, MODULES[0], 0), tmp_path, evaluation="sycophancy", metric="syco")
    _, rows = questions_with_slopes(m)
    linear, y = row_metric(m, rows, "syco"), np.random.default_rng(1).standard_normal(len(rows))
    lost, unread = (rows["row_key"].str.contains(f"/{framing}/").to_numpy().nonzero()[0][0] for framing in "FT")
    for row, n in ((lost, 3), (unread, 4)):  # syco is F less N, and says nothing of T
        spoilt = y.copy()
        spoilt[row] = np.nan
        got = linear.sample(spoilt)
        assert got.scored.sum() == n
        own = m.evaluation.chosen.metrics(rows.assign(alpha=1.0, y=spoilt, logratio=rows["label"] * spoilt))["syco"][
            1.0
        ]
        np.testing.assert_allclose(got.features[got.scored], own.features[own.scored], atol=1e-12)
        assert linear.values(spoilt[:, None]) == pytest.approx([estimate(got).mean])


def test_a_metric_that_is_no_sum_of_rows_has_no_slopes(tiny, gradient, tmp_path):
    m = measure(tiny, planted(tiny, gradient, MODULES[0], 0), tmp_path, evaluation="tinymfv", metric="gap")
    with pytest.raises(Unsupported, match="gap is no mean of single rows"):
        row_metric(m, questions_with_slopes(m)[1], "gap")


def test_random_directions_beside_the_slopes_steer_nothing_at_any_strength(tiny, gradient, tmp_path):
    m = measure(tiny, planted(tiny, gradient, MODULES[0], 0), tmp_path, limit=2)
    beside = random_steps(m.direction, m.base.weight, 2)
    at_0, alone, together = (slopes(m, at, dials).tables for at, dials in ((0.0, ()), (1.0, ()), (1.0, beside)))
    torch.testing.assert_close(together[0], alone[0], rtol=1e-4, atol=1e-6)
    assert (alone[0] - at_0[0]).norm() > 0.01 * at_0[0].norm()


def test_the_smallest_part_that_keeps_most_is_chosen_on_other_questions_and_exported(tiny, gradient, tmp_path):
    direction = planted(tiny, few(gradient), MODULES[1], 0)
    m = measure(tiny, direction, tmp_path)
    finding = LOCALIZATION.run(Subject(tiny, direction, m))
    (name, part), *_ = finding.parts.items()
    assert list(part.forms) == [MODULES[1]] and name == f"top-1-{METRIC}"
    row = next(r for t in finding.tables for r in t.rows if hasattr(r, "kl"))
    assert row.retained.mean > 0.85 and 0 < row.kl < 2 * row.kl_full and row.retained.n == 2
    assert any(short(MODULES[1]) in line for line in finding.readings)
    heat = finding.pictures[0]
    assert max(v for line in heat.values for v in line) > 0.8


def test_where_there_are_no_slopes_modules_are_ordered_by_what_each_does_alone(tiny, gradient, tmp_path, monkeypatch):
    def none(*arguments, **more):
        raise Unsupported("answers of whole texts")

    direction = planted(tiny, few(gradient), MODULES[2], 0)
    monkeypatch.setattr(localization, "row_metric", none)
    monkeypatch.setattr(localization, "passes", lambda *a: pytest.fail("three passes in vain"))
    finding = LOCALIZATION.run(Subject(tiny, direction, measure(tiny, direction, tmp_path)))
    assert finding.readings[0] == "Without slopes: answers of whole texts"
    assert list(next(iter(finding.parts.values())).forms) == [MODULES[2]]
    assert all(r.slope is None for r in finding.tables[0].rows)
