"""Estimates with intervals over the unit that was sampled.

Rows of one unit (the two actions of a dilemma, the framings of a claim) stand and fall together, so a unit is averaged
first and units are resampled. An estimate is a weighted sum of group means: one group for a plain mean, two for an axis
such as Sanctity minus Care. Groups that share units are drawn together, others apart. Rows that could not be scored are
NaN: they are left out, and counted.
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from ws.stats.bootstrap import RESAMPLES, UNSTABLE, draw, interval

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
    dropped: float = 0.0
    """The share of resamples that left a group empty, or a slope undefined."""

    @property
    def unstable(self) -> bool:
        """So many resamples were dropped that the interval describes the lucky rest."""
        return self.dropped > UNSTABLE


def estimate(groups: Sequence[Group], *, seed: int = 0, resamples: int = RESAMPLES) -> Estimate:
    """The weighted sum of group means, with an interval that resamples the units of every group."""
    samples = [_by_unit(g) for g in groups]
    n_total = sum(len(g.values) for g in groups)
    n_valid = sum(int(np.isfinite(np.asarray(g.values, float)).sum()) for g in groups)
    n, fewest = len({u for s in samples for u in s}), min((len(s) for s in samples), default=0)
    if not all(samples):
        return Estimate(math.nan, math.nan, math.nan, n, fewest, n_valid, n_total)
    middle = sum(g.weight * sum(s.values()) / len(s) for g, s in zip(groups, samples))
    if fewest < 2:
        return Estimate(middle, math.nan, math.nan, n, fewest, n_valid, n_total)
    weights = np.array([g.weight for g in groups])
    found = interval(
        draw(_strata(samples), resamples=resamples, seed=seed),
        lambda t: (t[..., 0::2] / t[..., 1::2]) @ weights,
    )
    return Estimate(found.value, found.low, found.high, n, fewest, n_valid, n_total, found.dropped)


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


def _strata(samples: list[dict[Hashable, float]]) -> list[np.ndarray]:
    """Features of units: for every group the unit's mean and a 1, or two zeros where the unit is not in the group."""
    together = len({u for s in samples for u in s}) < sum(len(s) for s in samples)
    drawn = [list(dict.fromkeys(u for s in samples for u in s))] if together else [list(s) for s in samples]
    strata = [np.zeros((len(units), 2 * len(samples))) for units in drawn]
    for g, s in enumerate(samples):
        for features, units in zip(strata, drawn):
            features[:, 2 * g] = [s.get(u, 0.0) for u in units]
            features[:, 2 * g + 1] = [u in s for u in units]
    return strata
