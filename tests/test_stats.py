"""Estimates: units are resampled, NaN never enters a mean, intervals cover."""

import importlib.util
import math
import sys
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest

from ws.stats import FEW_UNITS, Sample, change, draw, estimate, interval, means
from ws.stats.bootstrap import reach


def mean(values, units, keys=None):
    """The mean of rows named by their place, or by keys."""
    return means(list(values), units=list(units), keys=list(range(len(values))) if keys is None else list(keys))


def contrast(*groups):
    """The sum of weighted means of groups of rows: (values, units, weight) each."""
    sizes = [len(values) for values, _, _ in groups]
    group = np.repeat(np.arange(len(groups)), sizes)
    return means(
        [y for values, _, _ in groups for y in values],
        units=[u for _, units, _ in groups for u in units],
        keys=list(range(sum(sizes))),
        weights=(group[:, None] == np.arange(len(groups))).astype(float),
        factors=[weight for _, _, weight in groups],
    )


def totals(features, units, statistic):
    return Sample(list(range(len(units))), units, features, statistic)


def test_rows_of_one_unit_count_as_one():
    once = estimate(mean([1.0, 2.0, 3.0, 4.0], list("abcd")))
    four_times = estimate(mean([1.0, 2.0, 3.0, 4.0] * 4, list("abcd") * 4))
    assert (once.mean, once.ci_lo, once.ci_hi) == (four_times.mean, four_times.ci_lo, four_times.ci_hi)
    apart = estimate(mean([1.0, 2.0, 3.0, 4.0] * 4, list(range(16))))
    assert apart.ci_hi - apart.ci_lo < once.ci_hi - once.ci_lo


def test_rows_that_were_not_scored_are_counted_and_left_out():
    e = estimate(mean([1.0, math.nan, 3.0, math.nan], list("abcc")))
    assert (e.mean, e.n, e.n_valid, e.n_total) == (2.0, 2, 2, 4)
    assert math.isnan(estimate(mean([math.nan], ["a"])).mean)
    assert math.isnan(estimate(mean([], [])).mean)


def test_a_contrast_is_the_weighted_sum_of_its_groups():
    e = estimate(contrast(([3.0, 5.0], ["a", "b"], 1.0), ([1.0, 2.0], ["c", "d"], -1.0)))
    assert e.mean == pytest.approx(2.5)
    assert e.n == 4


def test_one_unit_has_a_mean_and_no_interval():
    e = estimate(mean([1.0, 2.0], ["a", "a"]))
    assert e.mean == 1.5
    assert math.isnan(e.ci_lo)


def test_units_that_all_agree_have_a_point_for_an_interval():
    e = estimate(mean([2.0] * 40, list(range(40))))
    assert (e.ci_lo, e.ci_hi) == (2.0, 2.0)


def coverage(make, truth, experiments, **settings):
    rng, hits = np.random.default_rng(7), 0
    for i in range(experiments):
        e = estimate(make(rng), seed=i, **settings)
        hits += e.ci_lo <= truth <= e.ci_hi
    return hits / experiments


def clustered(n, rows):
    def make(rng):
        y = np.repeat(rng.normal(0.3, 1, n), rows) + rng.normal(0, 0.5, n * rows)
        return mean(y.tolist(), np.repeat(np.arange(n), rows).tolist())

    return make


def test_intervals_of_150_units_cover_the_truth_in_93_to_97_percent_of_1000_experiments():
    assert 0.93 <= coverage(clustered(150, 2), 0.3, 1000, resamples=600) <= 0.97


def test_skewed_values_are_covered_as_often():
    skewed = lambda rng: mean(rng.exponential(1, 150).tolist(), list(range(150)))  # noqa: E731
    assert 0.92 <= coverage(skewed, 1.0, 400, resamples=500) <= 0.98  # 400 experiments: 1.1 % of noise


def test_below_the_stated_number_of_units_intervals_of_skewed_values_undercover_and_of_others_do_not():
    few = FEW_UNITS // 3
    assert coverage(clustered(few, 2), 0.3, 300, resamples=400) >= 0.92
    assert coverage(lambda rng: mean(rng.exponential(1, few), range(few)), 1.0, 300, resamples=400) < 0.92


def test_intervals_agree_with_scipy_for_one_group_and_for_a_contrast():
    from scipy.stats import bootstrap

    rng = np.random.default_rng(3)
    a, b = rng.exponential(1, 60), rng.exponential(2, 90)
    groups = (a.tolist(), range(60), 1.0), (b.tolist(), range(100, 190), -1.0)
    less = lambda x, y, axis=-1: x.mean(axis=axis) - y.mean(axis=axis)  # noqa: E731

    def theirs_of(samples, what):
        # as wide as ours, which allow for few units
        sizes = tuple(map(len, samples))
        widened = reach(sizes) * (sum(sizes) / (sum(sizes) - len(sizes))) ** 0.5
        level = 2 * NormalDist().cdf(widened) - 1
        settings = dict(n_resamples=20_000, method="BCa", vectorized=True, rng=0, confidence_level=level)
        return bootstrap(samples, what, **settings).confidence_interval

    one, two = theirs_of((a,), np.mean), theirs_of((a, b), less)
    for made, theirs in ((contrast(groups[0]), one), (contrast(*groups), two)):
        ours = estimate(made, resamples=20_000)
        width = theirs.high - theirs.low
        # a quantile of 20,000 resamples is off by about 1 % of the width
        assert ours.ci_lo == pytest.approx(theirs.low, abs=0.03 * width)
        assert ours.ci_hi == pytest.approx(theirs.high, abs=0.03 * width)


def test_a_skewed_sample_has_a_longer_upper_arm_than_lower():
    values = np.random.default_rng(0).exponential(1, 100)
    e = estimate(mean(values.tolist(), list(range(100))))
    assert e.ci_hi - e.mean > e.mean - e.ci_lo


def test_groups_that_share_units_are_drawn_together():
    rng = np.random.default_rng(0)
    level = rng.normal(0, 5, 80)
    high, low = (level + 0.5 + rng.normal(0, 0.1, 80)).tolist(), level.tolist()
    units = list(range(80))
    paired = estimate(contrast((high, units, 1.0), (low, units, -1.0)))
    apart = estimate(contrast((high, units, 1.0), (low, [f"other {u}" for u in units], -1.0)))
    assert paired.mean == pytest.approx(apart.mean)
    assert paired.ci_hi - paired.ci_lo < 0.1 * (apart.ci_hi - apart.ci_lo)
    assert (paired.n, apart.n) == (80, 160)


def test_resamples_in_which_a_rate_has_no_class_are_dropped_and_counted():
    hits = np.zeros((40, 2))
    hits[0] = 1  # one unit in the class: about 1 / e of the resamples miss it
    found = interval(draw([hits]), lambda t: t[..., 0] / t[..., 1])
    assert found.dropped == pytest.approx(math.exp(-1), abs=0.05)
    assert found.unstable
    assert not interval(draw([np.ones((40, 2))]), lambda t: t[..., 0] / t[..., 1]).unstable


def test_two_methods_measured_on_the_same_units_share_their_draws():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(50, 1)), rng.normal(size=(50, 1))
    assert np.allclose(draw([a]).resampled + draw([b]).resampled, draw([a + b]).resampled)


def test_the_same_rows_give_the_same_interval():
    g = mean(np.random.default_rng(1).normal(size=50).tolist(), list(range(50)))
    assert estimate(g) == estimate(g)


def test_a_change_between_strengths_is_paired_by_unit():
    rng = np.random.default_rng(0)
    level = rng.normal(0, 5, 40)
    low = mean(level.tolist(), list(range(40)))
    high = mean((level + 0.2 + rng.normal(0, 0.1, 40)).tolist(), list(range(40)))
    moved = change(low, high)
    assert moved.ci_lo > 0
    assert moved.mean == pytest.approx(estimate(high).mean - estimate(low).mean)
    assert estimate(low).ci_hi > estimate(high).ci_lo  # the marginal intervals overlap all the same


def test_few_units_are_counted_in_the_smallest_group():
    e = estimate(contrast(([1.0] * 40, range(40), 1.0), ([1.0, 2.0], ["a", "b"], -1.0)))
    assert (e.n, e.fewest) == (42, 2)
    e = estimate(contrast(([1.0] * 4, "abcd", 1.0), ([100.0, 0.0, -1.0, 0.5], "efgh", -1.0)))
    assert e.fewest == 4  # sizes are counted and not values


def test_a_units_own_part_is_the_weighted_sum_of_its_own_means():
    weights = np.array([[1.0, 0.0], [3.0, 1.0], [0.0, 2.0], [1.0, 1.0]])
    sample = means([1.0, 2.0, 4.0, 8.0], units=list("aabc"), keys=range(4), weights=weights, factors=(1.0, -0.5))
    assert sample.by_unit.each() == {"a": 7 / 4 - 0.5 * 2, "b": -0.5 * 4, "c": 8 - 0.5 * 8}


def test_units_of_unequal_size_count_as_fewer_and_those_of_one_size_as_they_are():
    """Three of 60 rows among 57 of two: the interval rests on three, and excludes the truth three times as often as it says."""
    sizes = [60] * 3 + [2] * 57
    unequal = mean(np.arange(sum(sizes), dtype=float).tolist(), np.repeat(np.arange(60), sizes).tolist())
    e = estimate(unequal, resamples=50)
    assert (e.n, e.fewest) == (60, 8) and e.fewest == round(294**2 / (3 * 60**2 + 57 * 2**2))
    for rows in (1, 2, 7):
        e = estimate(mean(np.arange(60.0 * rows).tolist(), [i // rows for i in range(60 * rows)]), resamples=50)
        assert (e.n, e.fewest) == (60, 60)
    two = estimate(mean([*range(50), 9.0], ["a"] * 50 + ["b"]), resamples=50)
    assert two.fewest == 1 and math.isfinite(two.ci_lo)  # two units still have an interval, and a warning


def slope(t):
    n, x, y, xx, xy = np.moveaxis(t, -1, 0)
    return (n * xy - x * y) / (n * xx - x * x)


def line(x, y):
    return np.stack([np.ones_like(x), x, y, x * x, x * y], axis=1)


def test_totals_of_rows_are_their_statistic_and_rows_that_are_not_finite_are_counted():
    rng = np.random.default_rng(0)
    x, units = rng.normal(size=80), [i // 2 for i in range(80)]
    y = 3 * x + 1
    y[5] = np.nan
    e = estimate(totals(line(x, y), units, slope))
    assert e.mean == pytest.approx(3)
    assert (e.n, e.n_valid, e.n_total) == (40, 79, 80)
    assert math.isnan(estimate(totals(line(x[:2], y[:2]), [0, 0], slope)).ci_lo)
    assert math.isnan(estimate(totals(line(x[:0], y[:0]), [], slope)).mean)


def test_the_mean_as_totals_has_the_interval_of_the_mean():
    y, units = np.random.default_rng(1).normal(size=60), list(range(60))
    ratio = estimate(totals(np.stack([y, np.ones_like(y)], axis=1), units, lambda t: t[..., 0] / t[..., 1]))
    plain = estimate(mean(y.tolist(), units))
    assert (ratio.mean, ratio.ci_lo, ratio.ci_hi) == pytest.approx((plain.mean, plain.ci_lo, plain.ci_hi))


def test_a_change_of_totals_is_paired_row_by_row():
    rng = np.random.default_rng(2)
    x, noise = rng.normal(size=60), rng.normal(size=60)
    low, high = (totals(line(x, b * x + noise), list(range(60)), slope) for b in (1.0, 1.5))
    found = change(low, high)
    assert found.mean == pytest.approx(0.5)
    assert found.ci_hi - found.ci_lo < 1e-6  # the noise is the same on both sides
    alone = estimate(high)
    assert alone.ci_hi - alone.ci_lo > 0.1
    fewer = totals(line(x[:40], 1.5 * x[:40] + noise[:40]), list(range(40)), slope)
    assert (change(low, fewer).n, change(low, fewer).n_total) == (40, 60)


# rows before units


def test_a_mean_is_over_rows_and_units_only_say_what_is_drawn_together():
    e = estimate(mean([1.0, 2.0, 3.0, 10.0], ["a", "a", "a", "b"]))
    assert (e.mean, e.n) == (4.0, 2)


def test_rows_that_drop_out_at_one_strength_are_no_change():
    rng = np.random.default_rng(0)
    units, kinds = np.repeat(np.arange(60), 2), np.tile([1.0, 0.2], 60)  # two rows a unit, one high and one low
    low = mean(kinds, units)
    lost = mean(np.where((kinds < 1) & (rng.random(120) < 0.5), np.nan, kinds), units)
    found = change(low, lost)
    assert estimate(lost).mean > estimate(low).mean + 0.05
    assert (found.mean, found.ci_lo, found.ci_hi) == (0, 0, 0)
    assert found.n_valid == np.isfinite(lost.features[:, 0]).sum() < found.n_total == 120
    moved = change(low, mean(lost.features[:, 0] + 0.3, units))
    assert (moved.mean, moved.ci_lo, moved.ci_hi) == pytest.approx((0.3, 0.3, 0.3))


def test_the_order_of_rows_changes_no_number_and_no_interval():
    rng = np.random.default_rng(3)
    y, z, units = rng.normal(size=80), rng.normal(size=80), [f"u{i // 2}" for i in range(80)]
    mixed = rng.permutation(80)
    straight = change(mean(y, units), mean(z, units))
    other = change(mean(y, units), mean(z[mixed], [units[i] for i in mixed], keys=mixed.tolist()))
    assert (other.mean, other.ci_lo, other.ci_hi) == pytest.approx((straight.mean, straight.ci_lo, straight.ci_hi))
    wrong = change(mean(y, units), mean(z[mixed], [units[i] for i in mixed], keys=[f"k{i}" for i in mixed]))
    assert wrong.n == 0 and math.isnan(wrong.mean)  # no key in common, so nothing is paired


@pytest.fixture(scope="module")
def simulated():
    """bench/coverage.py, as a module."""
    file = Path(__file__).parents[1] / "bench" / "coverage.py"
    spec = importlib.util.spec_from_file_location("coverage_bench", file)
    module = sys.modules["coverage_bench"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "at", [4, 7, 13]
)  # units of unequal size, low rows gated at one strength, an axis of two halves
def test_intervals_of_changes_hold_what_is_there_and_seldom_exclude_a_nothing(simulated, at):
    design = simulated.DESIGNS[at]
    nothing, planted = (simulated.share(design, effect, 200, 300) for effect in (0.0, 0.4))
    assert 1 - nothing <= 0.11 and planted >= 0.89  # 200 experiments: 5 % with 1.5 % of noise, four times
    low, high = simulated.experiment(np.random.default_rng(0), design, 0.4)
    assert set(low.keys) != set(high.keys) and not (low.scored.all() and high.scored.all())


def test_few_units_reach_further_as_student_says():
    assert [round(reach((n,)), 2) for n in (10, 30, 150, 10_000)] == [2.26, 2.05, 1.98, 1.96]
    assert reach((15, 15)) == pytest.approx(2.0484, abs=1e-4)


def test_a_row_that_stands_twice_at_one_strength_is_refused():
    with pytest.raises(ValueError, match=r"1 row keys occur twice at one strength, e.g. \['p'\]"):
        mean([1.0, 2.0, 3.0], "abc", keys="ppq")
