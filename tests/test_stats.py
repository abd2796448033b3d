"""Estimates: units are resampled, NaN never enters a mean, intervals cover."""

import math

import numpy as np
import pytest

from ws.stats import FEW_UNITS, Group, change, draw, estimate, interval, totals


def test_rows_of_one_unit_count_as_one():
    once = estimate([Group([1.0, 2.0, 3.0, 4.0], list("abcd"))])
    four_times = estimate([Group([1.0, 2.0, 3.0, 4.0] * 4, list("abcd") * 4)])
    assert (once.mean, once.ci_lo, once.ci_hi) == (four_times.mean, four_times.ci_lo, four_times.ci_hi)
    apart = estimate([Group([1.0, 2.0, 3.0, 4.0] * 4, list(range(16)))])
    assert apart.ci_hi - apart.ci_lo < once.ci_hi - once.ci_lo


def test_rows_that_were_not_scored_are_counted_and_left_out():
    e = estimate([Group([1.0, math.nan, 3.0, math.nan], list("abcc"))])
    assert (e.mean, e.n, e.n_valid, e.n_total) == (2.0, 2, 2, 4)
    assert math.isnan(estimate([Group([math.nan], ["a"])]).mean)
    assert math.isnan(estimate([Group([], [])]).mean)


def test_a_contrast_is_the_weighted_sum_of_its_groups():
    e = estimate([Group([3.0, 5.0], ["a", "b"], 1.0), Group([1.0, 2.0], ["c", "d"], -1.0)])
    assert e.mean == pytest.approx(2.5)
    assert e.n == 4


def test_one_unit_has_a_mean_and_no_interval():
    e = estimate([Group([1.0, 2.0], ["a", "a"])])
    assert e.mean == 1.5
    assert math.isnan(e.ci_lo)


def test_units_that_all_agree_have_a_point_for_an_interval():
    e = estimate([Group([2.0] * 40, list(range(40)))])
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
        return [Group(y.tolist(), np.repeat(np.arange(n), rows).tolist())]

    return make


def test_intervals_of_150_units_cover_the_truth_in_93_to_97_percent_of_1000_experiments():
    assert 0.93 <= coverage(clustered(150, 2), 0.3, 1000, resamples=600) <= 0.97


def test_skewed_values_are_covered_as_often():
    skewed = lambda rng: [Group(rng.exponential(1, 150).tolist(), list(range(150)))]  # noqa: E731
    assert 0.92 <= coverage(skewed, 1.0, 250, resamples=800) <= 0.98  # 250 experiments: 1.4 % of noise


def test_below_the_stated_number_of_units_intervals_do_undercover():
    assert coverage(clustered(FEW_UNITS // 3, 2), 0.3, 400, resamples=500) < 0.93


def test_intervals_agree_with_scipy_for_one_group_and_for_a_contrast():
    from scipy.stats import bootstrap

    rng = np.random.default_rng(3)
    a, b = rng.exponential(1, 60), rng.exponential(2, 90)
    groups = [Group(a.tolist(), list(range(60))), Group(b.tolist(), list(range(100, 190)), -1.0)]
    contrast = lambda x, y, axis=-1: x.mean(axis=axis) - y.mean(axis=axis)  # noqa: E731
    settings = dict(n_resamples=20_000, method="BCa", vectorized=True, rng=0)
    one = bootstrap((a,), np.mean, **settings).confidence_interval
    two = bootstrap((a, b), contrast, **settings).confidence_interval
    for ours, theirs in ((estimate(groups[:1], resamples=20_000), one), (estimate(groups, resamples=20_000), two)):
        width = theirs.high - theirs.low
        # a quantile of 20,000 resamples is off by about 1 % of the width
        assert ours.ci_lo == pytest.approx(theirs.low, abs=0.03 * width)
        assert ours.ci_hi == pytest.approx(theirs.high, abs=0.03 * width)


def test_a_skewed_sample_has_a_longer_upper_arm_than_lower():
    values = np.random.default_rng(0).exponential(1, 100)
    e = estimate([Group(values.tolist(), list(range(100)))])
    assert e.ci_hi - e.mean > e.mean - e.ci_lo


def test_groups_that_share_units_are_drawn_together():
    rng = np.random.default_rng(0)
    level = rng.normal(0, 5, 80)
    high, low = (level + 0.5 + rng.normal(0, 0.1, 80)).tolist(), level.tolist()
    units = list(range(80))
    paired = estimate([Group(high, units), Group(low, units, -1.0)])
    apart = estimate([Group(high, units), Group(low, [f"other {u}" for u in units], -1.0)])
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
    g = [Group(np.random.default_rng(1).normal(size=50).tolist(), list(range(50)))]
    assert estimate(g) == estimate(g)


def test_a_change_between_strengths_is_paired_by_unit():
    rng = np.random.default_rng(0)
    level = rng.normal(0, 5, 40)
    low = [Group(level.tolist(), list(range(40)))]
    high = [Group((level + 0.2 + rng.normal(0, 0.1, 40)).tolist(), list(range(40)))]
    moved = change(low, high)
    assert moved.ci_lo > 0
    assert moved.mean == pytest.approx(estimate(high).mean - estimate(low).mean)
    assert estimate(low).ci_hi > estimate(high).ci_lo  # the marginal intervals overlap all the same


def test_few_units_are_counted_in_the_smallest_group():
    e = estimate([Group([1.0] * 40, list(range(40))), Group([1.0, 2.0], ["a", "b"], -1.0)])
    assert (e.n, e.fewest) == (42, 2)


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
    plain = estimate([Group(y.tolist(), units)])
    assert (ratio.mean, ratio.ci_lo, ratio.ci_hi) == pytest.approx((plain.mean, plain.ci_lo, plain.ci_hi))


def test_a_change_of_totals_is_paired_by_unit():
    rng = np.random.default_rng(2)
    x, noise = rng.normal(size=60), rng.normal(size=60)
    low, high = (totals(line(x, b * x + noise), list(range(60)), slope) for b in (1.0, 1.5))
    found = change(low, high)
    assert found.mean == pytest.approx(0.5)
    assert found.ci_hi - found.ci_lo < 1e-6  # the noise is the same on both sides
    alone = estimate(high)
    assert alone.ci_hi - alone.ci_lo > 0.1
    fewer = totals(line(x[:40], 1.5 * x[:40] + noise[:40]), list(range(40)), slope)
    assert change(low, fewer).n == 40
