"""Intervals of what is no plain mean: ties, a class that hangs on one unit, and very many units."""

import numpy as np
import pytest

from ws.stats import Draws, draw, interval
from ws.stats.bootstrap import times_drawn


@pytest.mark.parametrize("hits", [1, 4, 13])
def test_the_interval_of_a_rate_is_the_mirror_of_that_of_its_complement(hits):
    n = 60
    draws = draw([np.stack([np.arange(n) < hits, np.arange(n) >= hits, np.ones(n)], axis=1).astype(float)])
    rate, rest = (interval(draws, lambda t, k=k: t[..., k] / t[..., 2]) for k in (0, 1))
    assert (rate.value, rest.value) == (hits / n, 1 - hits / n)
    assert (rate.low, rate.high) == pytest.approx(
        (1 - rest.high, 1 - rest.low)
    )  # equal resamples count half to either side
    assert rate.low < rate.value < rate.high


def test_where_leaving_one_unit_out_leaves_nothing_the_interval_is_that_of_the_resamples():
    rng = np.random.default_rng(0)
    y = rng.normal(1, 1, 80)
    alone = (np.arange(80) == 3).astype(float)  # without this unit the second term is 0 / 0
    draws = draw([np.stack([y, np.ones(80), alone, alone], axis=1)])
    found = interval(draws, lambda t: t[..., 0] / t[..., 1] + t[..., 2] / t[..., 3])
    plain = interval(draws, lambda t: t[..., 0] / t[..., 1])
    assert found.dropped == pytest.approx(np.exp(-1), abs=0.05)
    assert (found.low, found.value, found.high) == pytest.approx(
        (plain.low + 1, plain.value + 1, plain.high + 1), abs=0.05
    )


def test_a_number_that_no_resample_has_gets_no_interval():
    never = Draws(np.array([[3.0, 2.0]]), np.zeros((5, 2)), [np.zeros((2, 2))])
    found = interval(never, lambda t: t[..., 0] / t[..., 1])
    assert (found.value, found.dropped, found.unstable) == (1.5, 1.0, True)
    assert np.isnan([found.low, found.high]).all()


def test_a_number_that_every_resample_exceeds_has_the_interval_of_the_resamples():
    above = Draws(np.array([[0.0]]), np.arange(1.0, 101.0)[:, None], [np.array([[0.0], [1.0]])])
    found = interval(above, lambda t: t[..., 0])
    assert found.value == 0 and 1 <= found.low < 10 and 90 < found.high <= 100


def test_each_of_very_many_units_can_be_drawn():
    n = 70_000  # more than 16 bits count
    counts = np.concatenate(list(times_drawn(n, 3, np.random.default_rng(0))))
    assert counts.shape == (3, n) and (counts.sum(axis=1) == n).all()
    assert counts[:, 2**16 :].mean() == pytest.approx(1, abs=0.05)
    assert counts.var() == pytest.approx(1, abs=0.05)
