"""The interval over seeds and items covers, and falls back to what is known where there is one of either."""

import math

import numpy as np
import pytest

from ws.stats import Group, change, totals
from ws.stats.hierarchy import contributions, hierarchical


def study(rng, seeds, items, between, within, noise=0.3, mean=0.5):
    a, b = rng.normal(0, between, seeds), rng.normal(0, within, items)
    y = mean + a[:, None] + b[None] + rng.normal(0, noise, (seeds, items))
    return [dict(enumerate(row)) for row in y]


@pytest.mark.parametrize(("between", "within"), [(0.3, 0.3), (0.0, 0.5), (0.5, 0.0)])
def test_it_covers_the_truth_where_there_are_seeds_enough(between, within):
    rng = np.random.default_rng(0)
    hits = sum(
        h.ci_lo <= 0.5 <= h.ci_hi
        for i in range(300)
        for h in [hierarchical(study(rng, 25, 40, between, within), resamples=300, seed=i)]
    )
    assert 0.90 <= hits / 300 <= 1.0


def test_items_alone_would_not_cover_when_seeds_differ():
    rng = np.random.default_rng(0)
    hits = 0
    for i in range(200):
        values = study(rng, 12, 40, 0.5, 0.1)
        pooled = {u: float(np.mean([v[u] for v in values])) for u in values[0]}
        h = hierarchical([pooled], resamples=300, seed=i)
        hits += h.ci_lo <= 0.5 <= h.ci_hi
    assert hits / 200 < 0.6


def test_one_seed_gives_the_interval_over_items_and_three_are_called_few():
    values = study(np.random.default_rng(1), 1, 200, 0.0, 1.0)
    h = hierarchical(values)
    y = np.array(list(values[0].values()))
    assert h.mean == pytest.approx(y.mean())
    assert math.isnan(h.spread)
    assert h.ci_hi - h.ci_lo == pytest.approx(2 * 1.96 * y.std() / math.sqrt(200), rel=0.1)
    assert h.few
    assert not hierarchical(study(np.random.default_rng(1), 5, 20, 0.1, 0.1)).few


def test_the_mean_is_the_mean_of_the_seeds_and_missing_items_count_nowhere():
    h = hierarchical([{"a": 1.0, "b": 3.0}, {"a": 5.0, "b": math.nan}])
    assert h.by_seed == (2.0, 5.0)
    assert h.mean == 3.5
    assert (h.agreeing(1), h.agreeing(-1)) == (2, 0)
    assert h.n_items == 2
    assert math.isnan(hierarchical([{"a": 1.0}]).ci_lo)


def test_the_same_values_give_the_same_interval():
    values = study(np.random.default_rng(2), 3, 30, 0.2, 0.2)
    assert hierarchical(values) == hierarchical(values)


def test_contributions_have_the_change_as_their_mean_and_spread_as_its_interval_does():
    rng = np.random.default_rng(3)
    units = [f"u{i // 2}" for i in range(120)]

    def group(shift, weight=1.0, of=slice(None)):
        return Group((rng.normal(shift, 1.0, 120)[of]).tolist(), units[of], weight)

    for low, high in (
        ([group(0.0)], [group(0.4)]),
        ([group(0.0, 1.0, slice(0, 60)), group(0.0, -1.0, slice(60, 120))], [group(0.5, 1.0, slice(0, 60)), group(0.1, -1.0, slice(60, 120))]),
    ):  # fmt: skip
        e, parts = change(low, high), contributions(low, high)
        h = hierarchical([parts])
        assert h.mean == pytest.approx(e.mean)
        assert h.ci_hi - h.ci_lo == pytest.approx(e.ci_hi - e.ci_lo, rel=0.15)


def test_a_statistic_of_totals_has_contributions_too():
    rng = np.random.default_rng(4)
    units = [str(i) for i in range(80)]

    def ratio(shift):
        x = rng.uniform(1, 2, 80)
        return totals(np.stack([x * shift + rng.normal(0, 0.2, 80), x], 1), units, lambda t: t[..., 0] / t[..., 1])

    low, high = ratio(0.2), ratio(0.7)
    e, h = change(low, high), hierarchical([contributions(low, high)])
    assert h.mean == pytest.approx(e.mean)
    assert h.ci_hi - h.ci_lo == pytest.approx(e.ci_hi - e.ci_lo, rel=0.2)
