"""Intervals over seeds: they cover a planted mean, hold what one seed cannot know, and pair what was measured together."""

import math

import numpy as np
import pytest
from scipy.stats import t

from ws.stats import OverSeeds, Sample, combined, estimate, means, over_seeds

N, UNITS = 60, list(range(60))


def mean(values, units):
    """The mean of one row a unit."""
    return means(list(values), units=list(units), keys=list(units))


def drawn(rng, *, effect, seeds, between, units, noise):
    """Values of every seed on the same units: seeds differ, units differ, and the rest is noise."""
    shared = rng.normal(0, units, N)
    return [
        mean((effect + rng.normal(0, between) + shared + rng.normal(0, noise, N)).tolist(), UNITS) for _ in range(seeds)
    ]


@pytest.mark.parametrize(("between", "units", "noise"), [(1.0, 0.0, 0.5), (0.3, 2.0, 1.0), (0.0, 2.0, 2.0)])
def test_the_interval_over_seeds_covers_a_planted_effect(between, units, noise):
    rng = np.random.default_rng(7)
    covers, runs = 0, 400
    for at in range(runs):
        samples = drawn(rng, effect=1.0, seeds=3, between=between, units=units, noise=noise)
        e = over_seeds(samples, seed=at, resamples=400).found
        covers += e.ci_lo <= 1.0 <= e.ci_hi
    # three seeds drawn again with replacement cover 0.74 where seeds differ most; 0.915 is three errors below 0.95
    assert covers / runs >= 0.915


def test_where_all_units_agree_the_interval_over_seeds_is_students():
    each = [0.3, 1.0, 1.1, 2.0]
    e = over_seeds([mean([y] * N, UNITS) for y in each]).found
    assert (e.ci_lo, e.ci_hi) == pytest.approx(t.interval(0.95, 3, np.mean(each), np.std(each, ddof=1) / 2), abs=0.03)


def test_units_alone_do_not_cover_where_seeds_differ_and_that_is_why_one_seed_is_said():
    rng = np.random.default_rng(8)
    alone = [over_seeds(drawn(rng, effect=1.0, seeds=1, between=1.0, units=0.0, noise=0.5)).found for _ in range(60)]
    assert sum(e.ci_lo <= 1.0 <= e.ci_hi for e in alone) < 30


def test_one_seed_gives_the_interval_over_units_and_every_seed_is_told():
    (one,) = drawn(np.random.default_rng(0), effect=0.5, seeds=1, between=0.0, units=1.0, noise=0.0)
    found = over_seeds([one])
    assert found.found == estimate(one)
    assert found.each == (found.found.mean,)
    assert math.isnan(found.sd)
    three = over_seeds([mean([y + k for y in one.features[:, 0]], UNITS) for k in (-3.0, 0.0, 1.0)])
    assert three.found.mean == pytest.approx(np.mean(three.each))
    assert three.sd == pytest.approx(np.std([-3, 0, 1], ddof=1))
    assert three.same_sign == 2


def test_a_seed_that_gave_no_number_or_exactly_none_is_of_no_sign():
    for each, alike in (((-1.0, math.nan, math.nan, 0.0, 0.0, 2.0, -0.1), 2), ((math.nan, 0.0), 0), ((), 0)):
        assert OverSeeds(estimate(mean([1.0], "a")), each).same_sign == alike


def test_over_seeds_too_resamples_in_which_a_rate_has_no_class_are_dropped_and_counted():
    hits = np.zeros((40, 2))
    hits[0] = 1  # one unit in the class: about 1 / e of the resamples miss it
    rates = [Sample(range(40), range(40), x, lambda t: t[..., 0] / t[..., 1]) for x in (hits, hits * [0.5, 1])]
    found = over_seeds(rates).found
    assert found.dropped == pytest.approx(math.exp(-1), abs=0.05) and found.unstable
    assert found.ci_lo < found.mean == 0.75 < found.ci_hi
    whole = over_seeds([mean(range(40), UNITS[:40]), mean(range(1, 41), UNITS[:40])]).found
    assert whole.dropped == 0 and not whole.unstable


def test_seeds_are_read_on_the_same_draw_of_units_so_what_they_share_is_not_taken_for_their_spread():
    (one,) = drawn(np.random.default_rng(2), effect=0.5, seeds=1, between=0.0, units=1.0, noise=0.0)
    alike, alone = over_seeds([one] * 3).found, estimate(one)
    assert alike.ci_hi - alike.ci_lo == pytest.approx(alone.ci_hi - alone.ci_lo, rel=0.1)  # percentile against BCa
    shifted = over_seeds([mean([y + k for y in one.features[:, 0]], UNITS) for k in (-0.1, 0.0, 0.1)]).found
    assert shifted.ci_hi - shifted.ci_lo > 1.1 * (alike.ci_hi - alike.ci_lo)


def test_a_difference_of_two_methods_is_paired_by_unit():
    rng = np.random.default_rng(1)
    shared = rng.normal(0, 5, N)
    a, b = (mean((shared + k + rng.normal(0, 0.1, N)).tolist(), UNITS) for k in (1.0, 0.0))
    apart = estimate(combined([(1.0, a), (-1.0, b)]))
    assert apart.ci_lo > 0.9
    assert apart.ci_hi < 1.1
    assert estimate(a).ci_hi - estimate(a).ci_lo > 2  # unpaired, nothing could be told
    assert estimate(combined([(1.0, a), (-1.0, a)])).mean == 0.0


def test_rows_that_one_side_lacks_are_left_out_on_both_and_counted():
    keys, units = ["p", "q", "r", "s"], ["x", "x", "y", "z"]
    a = means([1.0, 2.0, 4.0, math.nan], units=units, keys=keys)
    b = means([5.0, 0.0, math.nan], units=["z", "x", "y"], keys=["s", "p", "r"])  # another order, and no q
    found = combined([(1.0, a), (-1.0, b)])
    assert dict(zip(found.keys, found.scored.tolist())) == {"p": True, "q": False, "r": False, "s": False}
    e = estimate(found)
    assert (e.mean, e.n, e.n_valid, e.n_total) == (1.0, 1, 1, 4)


def test_rows_of_one_key_and_two_units_are_different_data():
    a, b = (means([1.0], units=[u], keys=["p"]) for u in "xy")
    with pytest.raises(ValueError, match="row 'p' belongs to 'x' and to 'y'"):
        combined([(1.0, a), (-1.0, b)])


def test_totals_combine_like_their_numbers():
    rng = np.random.default_rng(2)
    first, second = (rng.normal(size=(N, 2)) + 5 for _ in range(2))
    ratio = lambda t: t[..., 0] / t[..., 1]  # noqa: E731
    one, two = (Sample(UNITS, UNITS, x, ratio) for x in (first, second))
    found = combined([(0.5, one), (-0.5, two)])
    wanted = (ratio(first.sum(0)) - ratio(second.sum(0))) / 2
    assert estimate(found).mean == pytest.approx(wanted)
    assert over_seeds([found, found]).found.mean == pytest.approx(wanted)


def test_means_without_shared_units_are_drawn_apart():
    def axis(units):
        return means(
            [1.0, 2.0, 3.0, 5.0], units=units, keys=UNITS[:4], weights=np.eye(2)[[0, 0, 1, 1]], factors=(1.0, -1.0)
        )

    assert axis(["a", "b", "c", "d"]).by_unit.strata.tolist() == [0, 0, 1, 1]
    assert axis(["a", "b", "a", "d"]).by_unit.strata.tolist() == [0, 0, 0]
    assert over_seeds([axis(["a", "b", "c", "d"])] * 2).found.mean == pytest.approx(-2.5)
