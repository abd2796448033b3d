"""Estimates with intervals over the unit that was sampled.

Rows of one unit (the two actions of a dilemma, the framings of a claim) stand and fall together, so a unit is averaged
first and units are resampled. An estimate is a weighted sum of group means: one group for a plain mean, two for an axis
such as Sanctity minus Care. Groups that share units are drawn together, others apart. Rows that could not be scored are
NaN: they are left out, and counted. What is no mean (a slope, a correlation) is made of `Totals`.
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from ws.stats.bootstrap import RESAMPLES, UNSTABLE, Statistic, draw, interval

FEW_UNITS = 30  # below this an interval undercovers, and a table must say so


@dataclass(frozen=True)
class Group:
    """Values of rows with the unit each belongs to, and the weight of their mean in the estimate."""

    values: Sequence[float]
    units: Sequence[Hashable]
    weight: float = 1.0


@dataclass(frozen=True, eq=False)
class Totals:
    """A number that is no mean: a statistic of features summed over units."""

    units: Sequence[Hashable]
    features: np.ndarray
    """(units, f)"""
    statistic: Statistic
    n_valid: int
    n_total: int


Made = Sequence[Group] | Totals
"""What an estimate is made of: groups whose weighted means are added, or totals."""


def totals(features: np.ndarray, units: Sequence[Hashable], statistic: Statistic) -> Totals:
    """Features of rows (rows, f), summed by unit. Rows that are not finite are left out, and counted."""
    valid = np.isfinite(features).all(axis=1)
    names = list(dict.fromkeys(u for u, v in zip(units, valid) if v))
    at = {u: i for i, u in enumerate(names)}
    summed = np.zeros((len(names), features.shape[1]))
    np.add.at(summed, [at[u] for u, v in zip(units, valid) if v], features[valid])
    return Totals(names, summed, statistic, int(valid.sum()), len(units))


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


def estimate(made: Made, *, seed: int = 0, resamples: int = RESAMPLES) -> Estimate:
    """The weighted sum of group means, or the statistic of totals, with an interval that resamples units."""
    if isinstance(made, Totals):
        return _of_totals(made, seed, resamples)
    groups = made
    samples = [by_unit(g) for g in groups]
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


def change(low: Made, high: Made, *, seed: int = 0) -> Estimate:
    """How much an estimate changes between two strengths: the same units on both sides, so the difference is paired."""
    if isinstance(low, Totals) or isinstance(high, Totals):
        assert isinstance(low, Totals) and isinstance(high, Totals), "one metric is made the same way at every strength"
        return _of_totals(_beside(low, high), seed, RESAMPLES)
    pairs = []
    for a, b in zip(low, high, strict=True):
        before, after = by_unit(a), by_unit(b)
        shared = [u for u in before if u in after]
        pairs.append(Group([after[u] - before[u] for u in shared], shared, b.weight))
    return estimate(pairs, seed=seed)


@dataclass(frozen=True, eq=False)
class Features:
    """A number as features of units: what a resample has to add up."""

    units: Sequence[Hashable]
    features: np.ndarray
    strata: Sequence[int]
    """Units of different strata are drawn apart."""
    statistic: Statistic
    fewest: int
    n_valid: int
    n_total: int


def features_of(made: Made) -> Features:
    """What `estimate` resamples, as one matrix."""
    if isinstance(made, Totals):
        n = len(made.units)
        return Features(made.units, made.features, [0] * n, made.statistic, n, made.n_valid, made.n_total)
    samples = [by_unit(g) for g in made]
    weights = np.array([g.weight for g in made])
    units = list(dict.fromkeys(u for s in samples for u in s))
    apart = len(units) == sum(len(s) for s in samples)
    features = np.zeros((len(units), 2 * len(samples)))
    for g, s in enumerate(samples):
        features[:, 2 * g] = [s.get(u, 0.0) for u in units]
        features[:, 2 * g + 1] = [u in s for u in units]
    strata = [next(g for g, s in enumerate(samples) if u in s) if apart else 0 for u in units]
    n_total = sum(len(g.values) for g in made)
    n_valid = sum(int(np.isfinite(np.asarray(g.values, float)).sum()) for g in made)
    fewest = min((len(s) for s in samples), default=0)
    return Features(
        units, features, strata, lambda t: (t[..., 0::2] / t[..., 1::2]) @ weights, fewest, n_valid, n_total
    )  # fmt: skip


def _of_totals(made: Totals, seed: int, resamples: int) -> Estimate:
    n = len(made.units)
    counts = (n, n, made.n_valid, made.n_total)
    if n < 2:
        with np.errstate(divide="ignore", invalid="ignore"):
            alone = float(made.statistic(made.features)[0]) if n else math.nan
        return Estimate(alone, math.nan, math.nan, *counts)
    found = interval(draw([made.features], resamples=resamples, seed=seed), made.statistic)
    return Estimate(found.value, found.low, found.high, *counts, found.dropped)


def _beside(low: Totals, high: Totals) -> Totals:
    """The difference of two statistics as one, of the units that both have."""
    before, after = ({u: i for i, u in enumerate(t.units)} for t in (low, high))
    shared = [u for u in before if u in after]
    both = np.hstack([low.features[[before[u] for u in shared]], high.features[[after[u] for u in shared]]])
    half = low.features.shape[1]
    return Totals(
        shared,
        both,
        lambda t: high.statistic(t[..., half:]) - low.statistic(t[..., :half]),
        min(low.n_valid, high.n_valid),
        high.n_total,
    )


def by_unit(group: Group) -> dict[Hashable, float]:
    """The mean of every unit's scored rows."""
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
