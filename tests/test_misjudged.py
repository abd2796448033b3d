"""A judge's errors in the interval: the truth is covered, also where the labelled cases show no error at all."""

import math

import numpy as np
import pytest

from bench.judged import coverage
from ws.stats.misjudged import Rates, corrected_mean, corrected_share

SURE = Rates(100_000, 100_000, 100_000, 100_000)


def test_a_judge_without_errors_corrects_nothing():
    judged = [1.0] * 30 + [0.0] * 70
    found = corrected_share(judged, range(100), SURE)
    assert found.value == pytest.approx(0.3)
    assert (found.low, found.high) == pytest.approx((0.21, 0.39), abs=0.02)


def test_the_share_is_that_of_rogan_and_gladen_and_stays_between_nought_and_one():
    judged = [1.0] * 40 + [0.0] * 60 + [math.nan] * 7
    rates = Rates(45, 50, 40, 50)  # sensitivity .9, specificity .8
    assert corrected_share(judged, range(107), rates).value == pytest.approx((0.4 + 0.8 - 1) / (0.9 + 0.8 - 1))
    none = corrected_share([0.0] * 100, range(100), Rates(45, 50, 50, 50))
    assert none.value == none.low == 0
    assert 0.005 < none.high < 0.06
    assert corrected_share([1.0] * 100, range(100), rates).value == 1


def test_fewer_labelled_cases_give_a_wider_interval():
    judged = [1.0] * 40 + [0.0] * 60
    few, many = (corrected_share(judged, range(100), Rates(9 * n, 10 * n, 8 * n, 10 * n)) for n in (2, 40))
    assert few.value == pytest.approx(many.value)
    assert few.high - few.low > 1.5 * (many.high - many.low)


def test_units_are_drawn_and_not_rows():
    judged = [1.0] * 40 + [0.0] * 60
    rows, units = (corrected_share(judged, names, SURE) for names in (range(100), [i // 10 for i in range(100)]))
    assert units.high - units.low > 2 * (rows.high - rows.low)


def test_a_judge_that_knows_nothing_gives_no_number():
    for rates in (Rates(10, 20, 10, 20), Rates(0, 0, 20, 20), Rates(20, 20, 0, 0), Rates(1, 20, 1, 20)):
        assert math.isnan(corrected_share([1.0, 0.0] * 20, range(40), rates).value)


def test_rates_are_counted_by_what_is_true():
    judged, truth = [True, True, False, False, False], [True, False, True, False, False]
    assert Rates.of(judged, truth) == Rates(hits=1, positives=2, rejections=2, negatives=3)


@pytest.mark.parametrize("case", ["usual", "no error seen"])
def test_the_corrected_interval_covers_the_truth_in_about_95_of_100(case):
    covered, raw = coverage(case, simulations=200, resamples=300)
    assert 0.915 <= covered <= 0.985  # 200 simulations: two standard errors are .03
    assert raw < 0.75 or case == "no error seen"


def test_the_mean_of_scores_is_moved_by_what_the_judge_gives_too_much():
    rng, covered = np.random.default_rng(0), 0
    for _ in range(100):
        truth = rng.normal(50, 20, 200)
        judged = truth + 8 + rng.normal(0, 10, 200)
        labelled = rng.normal(50, 20, 50)
        gold = [(x + 8 + e, x) for x, e in zip(labelled, rng.normal(0, 10, 50))]
        found = corrected_mean(judged.tolist(), range(200), gold, resamples=400)
        covered += found.low <= 50 <= found.high
    assert 90 <= covered <= 99
    assert math.isnan(corrected_mean([1.0, 2.0], range(2), []).value)
