"""Estimates: units are resampled, NaN never enters a mean, intervals cover."""

import math

import numpy as np
import pytest

from ws.stats import Group, change, estimate


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


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    rng, hits = np.random.default_rng(0), 0
    for _ in range(200):
        unit = rng.normal(0.3, 1, 60)
        y = np.repeat(unit, 3) + rng.normal(0, 0.2, 180)
        e = estimate([Group(y.tolist(), np.repeat(np.arange(60), 3).tolist())])
        hits += e.ci_lo <= 0.3 <= e.ci_hi
    assert 0.89 <= hits / 200 <= 0.99


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
