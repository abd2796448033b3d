"""Intervals by drawing units again and again, for any statistic that is a function of totals over units.

A mean is a total over a count, a rate is hits over a class size, a slope is made of five sums. Such a statistic needs of a
resample only how often each unit was drawn, so all resamples together are one matrix product:

    totals (B, f) = counts (B, n) @ features (n, f)

and the totals without one unit, which BCa asks for, are a subtraction. Units of different strata are drawn separately.
The same number of units and the same seed give the same draws, whatever is measured on them; that pairs two methods.

Shapes: B resamples, n units, f features.

BCa: Efron, Better Bootstrap Confidence Intervals, JASA 1987. Compared with `scipy.stats.bootstrap` in tests/test_stats.py.
Few units: Hesterberg, What Teachers Should Know About the Bootstrap, 2015, the expanded interval. Coverage: bench/coverage.py.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np

RESAMPLES = 2000
LEVEL = 0.95
AT_ONCE = 2**16  # drawn units held at a time: they stay in the cache of one core
UNSTABLE = 0.05

Statistic = Callable[[np.ndarray], np.ndarray]
"""Totals (*, f) to one number for each (*); NaN where it is not defined, as a rate of an empty class is not."""


@dataclass(frozen=True, eq=False)
class Draws:
    """Totals of the units as they were sampled, of every resample, and without each unit in turn."""

    whole: np.ndarray
    """(1, f)"""
    resampled: np.ndarray
    """(B, f)"""
    without_one: Sequence[np.ndarray]
    """One array (n, f) per stratum."""


@dataclass(frozen=True)
class Interval:
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float
    dropped: float = 0.0
    """The share of resamples in which the statistic is not defined; they do not count."""

    @property
    def unstable(self) -> bool:
        """So many resamples were dropped that the interval describes the lucky rest."""
        return self.dropped > UNSTABLE


def draw(strata: Sequence[np.ndarray], *, resamples: int = RESAMPLES, seed: int = 0) -> Draws:
    """Draw every stratum's units with replacement, `resamples` times."""
    rng = np.random.default_rng(seed)
    whole = np.sum([s.sum(axis=0, keepdims=True) for s in strata], axis=0)
    resampled = np.zeros((resamples, whole.shape[1]))
    for features in strata:
        at = 0
        for counts in times_drawn(len(features), resamples, rng):
            resampled[at : at + len(counts)] += counts @ features
            at += len(counts)
    return Draws(whole, resampled, [whole - features for features in strata])


def times_drawn(n: int, resamples: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Counts of how often each of n units was drawn, (rows, n) at a time."""
    rows = max(1, AT_ONCE // n)
    for start in range(0, resamples, rows):
        b = min(rows, resamples - start)
        drawn = rng.integers(0, n, (b, n), dtype=np.uint16 if n < 2**16 else np.int64)
        cells = drawn + (np.arange(b) * n)[:, None]  # one bincount for all rows
        yield np.bincount(cells.ravel(), minlength=b * n).reshape(b, n).astype(float)


def interval(draws: Draws, statistic: Statistic) -> Interval:
    """The statistic with its BCa interval; the percentile interval where BCa has nothing to work with."""
    with np.errstate(divide="ignore", invalid="ignore"):
        value = float(statistic(draws.whole)[0])
        found = np.asarray(statistic(draws.resampled), float)
        jackknife = [np.asarray(statistic(t), float) for t in draws.without_one]
    kept = found[np.isfinite(found)]
    dropped = 1 - len(kept) / len(found)
    if not math.isfinite(value) or len(kept) == 0:
        return Interval(value, math.nan, math.nan, dropped)
    if np.ptp(kept) <= 1e-12 * max(1.0, abs(value)):  # all units agree, up to the order of additions
        return Interval(value, value, value, dropped)
    low, high = np.quantile(kept, _corrected(value, kept, jackknife))
    return Interval(value, float(low), float(high), dropped)


def _corrected(value: float, found: np.ndarray, jackknife: list[np.ndarray]) -> tuple[float, float]:
    """The quantiles of the resamples that bound the interval: shifted for bias and skew, or the plain ones."""
    normal, far = NormalDist(), reach(tuple(map(len, jackknife)))
    plain = (normal.cdf(-far), normal.cdf(far))
    near = 1e-9 * float(np.ptp(found))  # a rate has ties, and equal totals differ in their last bits
    below = float((found < value - near).mean() + (np.abs(found - value) <= near).mean() / 2)
    if not 0 < below < 1:
        return plain
    cubes = squares = spread = 0.0
    for j in jackknife:  # the several-sample form of scipy: influence over n, summed over strata
        n = len(j)
        u = (n - 1) * (j.mean() - j) / n
        cubes, squares = cubes + float((u**3).sum()), squares + float((u**2).sum())
        spread += n / max(1, n - 1) * float((u**2).sum())
    if not math.isfinite(cubes) or squares == 0:
        return plain
    bias, skew = normal.inv_cdf(below), cubes / (6 * squares**1.5)
    far *= max(1.0, math.sqrt(spread) / float(found.std()))
    shifted = []
    for end in (-far, far):
        z = bias + end
        if 1 - skew * z <= 0:
            return plain
        shifted.append(normal.cdf(bias + z / (1 - skew * z)))
    return shifted[0], shifted[1]


@lru_cache
def reach(sizes: tuple[int, ...]) -> float:
    """The number of standard errors to either side, given the units of each stratum: 1.96 of many.

    The standard error is itself a guess, for which Student's t allows. Resamples of few units, or of units of unequal size, vary
    less than their jackknife says, and where it is known an interval is that much wider.
    """
    from scipy.special import stdtrit

    return float(stdtrit(max(1, sum(sizes) - len(sizes)), (1 + LEVEL) / 2))
