"""Estimates with intervals over the unit that was sampled.

Rows of one unit (the two actions of a dilemma, the framings of a claim) stand and fall together, so a unit is averaged
first and units are resampled. An estimate is a weighted sum of group means: one group for a plain mean, two for an axis
such as Sanctity minus Care. Rows that could not be scored are NaN: they are left out, and counted.
"""

import math
import warnings
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 2000
FEW_UNITS = 30  # below this an interval undercovers, and a table must say so


@dataclass(frozen=True)
class Group:
    """Values of rows with the unit each belongs to, and the weight of their mean in the estimate."""

    values: Sequence[float]
    units: Sequence[Hashable]
    weight: float = 1.0


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval, over `n` units (`fewest` in its smallest group); `n_valid` of `n_total` rows scored."""

    mean: float
    ci_lo: float
    ci_hi: float
    n: int
    fewest: int
    n_valid: int
    n_total: int


def estimate(groups: Sequence[Group], *, seed: int = 0) -> Estimate:
    """The weighted sum of group means, with an interval that resamples the units of every group."""
    samples = [_unit_means(g) for g in groups]
    n_total = sum(len(g.values) for g in groups)
    n_valid = sum(int(np.isfinite(np.asarray(g.values, float)).sum()) for g in groups)
    n, fewest = sum(len(s) for s in samples), min((len(s) for s in samples), default=0)
    if any(len(s) == 0 for s in samples):
        return Estimate(math.nan, math.nan, math.nan, n, fewest, n_valid, n_total)
    middle = sum(g.weight * float(s.mean()) for g, s in zip(groups, samples))
    if any(len(s) < 2 for s in samples):
        return Estimate(middle, math.nan, math.nan, n, fewest, n_valid, n_total)
    low, high = _interval(samples, [g.weight for g in groups], middle, seed)
    return Estimate(middle, low, high, n, fewest, n_valid, n_total)


def change(low: Sequence[Group], high: Sequence[Group], *, seed: int = 0) -> Estimate:
    """How much an estimate changes between two strengths: the same units on both sides, so the difference is paired."""
    pairs = []
    for a, b in zip(low, high, strict=True):
        before, after = _by_unit(a), _by_unit(b)
        shared = [u for u in before if u in after]
        pairs.append(Group([after[u] - before[u] for u in shared], shared, b.weight))
    return estimate(pairs, seed=seed)


def _by_unit(group: Group) -> dict[Hashable, float]:
    sums: dict[Hashable, list[float]] = {}
    for y, u in zip(group.values, group.units, strict=True):
        if math.isfinite(y):
            sums.setdefault(u, []).append(y)
    return {u: sum(v) / len(v) for u, v in sums.items()}


def _unit_means(group: Group) -> np.ndarray:
    y = np.asarray(group.values, float)
    names = {u: i for i, u in enumerate(dict.fromkeys(group.units))}
    at = np.array([names[u] for u in group.units], int)
    ok = np.isfinite(y)
    counts = np.bincount(at[ok], minlength=len(names))
    sums = np.bincount(at[ok], y[ok], minlength=len(names))
    return sums[counts > 0] / counts[counts > 0]


def _interval(samples: list[np.ndarray], weights: list[float], middle: float, seed: int) -> tuple[float, float]:
    """BCa; the percentile interval where BCa has nothing to work with."""
    from scipy.stats import bootstrap

    if all(np.ptp(s) == 0 for s in samples):
        return middle, middle

    def total(*parts, axis=-1):
        return sum(w * p.mean(axis=axis) for w, p in zip(weights, parts))

    for method in ("BCa", "percentile"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # scipy warns of a degenerate BCa; the percentile interval follows
            found = bootstrap(
                samples, total, paired=False, vectorized=True, n_resamples=RESAMPLES, method=method, rng=seed
            ).confidence_interval
        if math.isfinite(found.low) and math.isfinite(found.high):
            return float(found.low), float(found.high)
    return math.nan, math.nan
