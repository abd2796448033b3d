"""Estimates with intervals over the unit that was sampled.

A number is a `Sample`: what each row adds to a few totals, and a statistic of these totals. A mean is a total over a count,
so every row weighs the same; the unit a row belongs to (a dilemma, a claim, a vignette) only decides what is resampled,
since rows of one unit stand and fall together.

Numbers are set against each other row by row: `combined` joins them by key, and a row counts only where every term has it
scored. Otherwise rows that drop out at one strength would look like a change. Rows without a score are NaN: left out, and
counted, and so are rows that one of the terms lacks.
"""

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ws.stats.bootstrap import RESAMPLES, UNSTABLE, Statistic, draw, interval

FEW_UNITS = 30  # below so many, as `effective_units` counts, an interval may undercover, and a table must say so


@dataclass(frozen=True)
class Means:
    """The statistic of means: `factors` times (sum of weight x value) / (sum of weights), added up; two totals a mean."""

    factors: tuple[float, ...] = (1.0,)

    def __call__(self, t: np.ndarray) -> np.ndarray:
        return (t[..., 0::2] / t[..., 1::2]) @ np.array(self.factors)


@dataclass(frozen=True, eq=False)
class Sample:
    """A number of rows: what each adds to the totals, and the statistic of these."""

    keys: Sequence[Hashable]
    """The name of each row, which joins it to itself at another strength."""
    units: Sequence[Hashable]
    features: np.ndarray
    """(rows, f); a row with a value that is not finite was not scored."""
    statistic: Statistic

    def __post_init__(self):
        assert len(self.keys) == len(self.units) == len(self.features), "a key and a unit for every row"
        if len(set(self.keys)) < len(self.keys):
            twice = [k for k, n in Counter(self.keys).items() if n > 1]
            raise ValueError(
                f"{len(twice)} row keys occur twice at one strength, e.g. {twice[:3]}; give one method and one seed at a time"
            )

    @cached_property
    def scored(self) -> np.ndarray:
        """(rows,) whether each row counts."""
        return np.isfinite(self.features).all(axis=1)

    @cached_property
    def by_unit(self) -> "Units":
        """The totals of every unit, which a resample adds up."""
        units = [u for u, s in zip(self.units, self.scored) if s]
        names = sorted(set(units), key=str)  # draws go by the order of units, so rows may come in any
        at = {u: i for i, u in enumerate(names)}
        index = np.array([at[u] for u in units], int)
        totals = np.stack([np.bincount(index, c, len(names)) for c in self.features[self.scored].T], axis=1)
        return Units(names, totals, self.statistic)


@dataclass(frozen=True, eq=False)
class Units:
    """The totals of every unit."""

    names: Sequence[Hashable]
    totals: np.ndarray
    """(units, f)"""
    statistic: Statistic

    @cached_property
    def in_mean(self) -> np.ndarray:
        """(units, means) which of several means each unit is in."""
        several = isinstance(self.statistic, Means)
        return self.totals[:, 1::2] > 0 if several else np.ones((len(self.names), 1), bool)

    @property
    def in_smallest(self) -> int:
        """The number of units in the smallest mean."""
        return int(self.in_mean.sum(axis=0).min())

    @property
    def fewest(self) -> int:
        """The same, where units of unequal size count as fewer."""
        if not isinstance(self.statistic, Means):
            return self.in_smallest
        return min(effective_units(weights) for weights in self.totals[:, 1::2].T)

    @cached_property
    def strata(self) -> np.ndarray:
        """(units,) Means that share no unit are drawn apart, others together."""
        apart = bool((self.in_mean.sum(axis=1) == 1).all())
        return self.in_mean.argmax(axis=1) if apart else np.zeros(len(self.names), int)

    @property
    def value(self) -> float:
        """The number itself; NaN where a mean is empty or a slope not defined."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return float(np.asarray(self.statistic(self.totals.sum(axis=0, keepdims=True)))[0])

    def each(self) -> dict[Hashable, float]:
        """Every unit's own part in a mean: the weighted sum of its means."""
        assert isinstance(self.statistic, Means), "what is no mean has no part of a single unit"
        with np.errstate(divide="ignore", invalid="ignore"):
            own = np.where(self.in_mean, self.totals[:, 0::2] / self.totals[:, 1::2], 0.0) @ self.statistic.factors
        return dict(zip(self.names, own.tolist()))


def effective_units(sizes: np.ndarray) -> int:
    """The number of equal units that would weigh as evenly as these (Kish): one of 60 rows among 60 of two is most of a mean."""
    squares = float(np.square(sizes).sum())
    return round(float(np.sum(sizes)) ** 2 / squares) if squares else 0


def means(
    values: Sequence[float],
    *,
    units: Sequence[Hashable],
    keys: Sequence[Hashable],
    weights: np.ndarray | None = None,
    factors: Sequence[float] = (1.0,),
) -> Sample:
    """The mean of the values of rows; with `weights` (rows, means), the sum of `factors` times as many weighted means."""
    y = np.asarray(values, float)
    w = np.ones((len(y), 1)) if weights is None else np.asarray(weights, float)
    assert w.shape == (len(y), len(factors)) and (w >= 0).all(), "a weight of 0 or more for every row and mean"
    features = np.empty((len(y), 2 * w.shape[1]))
    features[:, 0::2], features[:, 1::2] = w * y[:, None], w
    features[~np.isfinite(y)] = np.nan
    rows = np.flatnonzero(w.any(axis=1)).tolist()
    return Sample([keys[i] for i in rows], [units[i] for i in rows], features[rows], Means(tuple(map(float, factors))))


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval, over `n` units; `n_valid` of `n_total` rows scored.

    `fewest` are the units of its smallest group; unequal ones count as fewer, since an interval rests on the large ones.
    """

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


def estimate(sample: Sample, *, seed: int = 0, resamples: int = RESAMPLES) -> Estimate:
    """The number of these rows, with an interval that resamples units."""
    units = sample.by_unit
    counts = (len(units.names), units.fewest, int(sample.scored.sum()), len(sample.keys))
    if units.in_smallest < 2:
        return Estimate(units.value, math.nan, math.nan, *counts)
    strata = [units.totals[units.strata == s] for s in np.unique(units.strata)]
    ends = interval(draw(strata, resamples=resamples, seed=seed), sample.statistic)
    return Estimate(ends.value, ends.low, ends.high, *counts, ends.dropped)


def change(low: Sample, high: Sample, *, seed: int = 0) -> Estimate:
    """The change of a number between two strengths, over the rows that both have scored."""
    return estimate(combined([(1.0, high), (-1.0, low)]), seed=seed)


def combined(terms: Sequence[tuple[float, Sample]]) -> Sample:
    """A weighted sum of numbers as one number, paired row by row."""
    if not terms:
        raise ValueError("a sum needs at least one term")
    factors, parts = [k for k, _ in terms], paired([m for _, m in terms])
    first = parts[0]
    if all(_alike(first, p) for p in parts):  # means over the same rows: the mean of the sum, and nothing cancels late
        features = first.features.copy()
        features[:, 0::2] = sum(k * p.features[:, 0::2] for k, p in zip(factors, parts))
        return Sample(first.keys, first.units, features, first.statistic)
    ends = np.cumsum([0, *(p.features.shape[1] for p in parts)])

    def statistic(t: np.ndarray) -> np.ndarray:
        return sum(k * p.statistic(t[..., a:b]) for k, p, a, b in zip(factors, parts, ends, ends[1:]))  # type: ignore[return-value]

    return Sample(first.keys, first.units, np.hstack([p.features for p in parts]), statistic)


def quotient(top: Sample, bottom: Sample) -> Sample:
    """One number over another, paired row by row; whoever divides by what may be 0 gets no interval to rely on."""
    a, b = paired([top, bottom])
    width = a.features.shape[1]

    def statistic(t: np.ndarray) -> np.ndarray:
        return a.statistic(t[..., :width]) / b.statistic(t[..., width:])

    return Sample(a.keys, a.units, np.hstack([a.features, b.features]), statistic)


def paired(samples: Sequence[Sample]) -> list[Sample]:
    """The same numbers over the rows that all of them have scored, joined by key; the others are NaN in each."""
    first = samples[0]
    if all(s.keys == first.keys and s.units == first.units for s in samples):  # usual, and many times faster
        scored = np.all([s.scored for s in samples], axis=0)[:, None]
        return [Sample(s.keys, s.units, np.where(scored, s.features, np.nan), s.statistic) for s in samples]
    units: dict[Hashable, Hashable] = {}
    for s in samples:
        for key, unit in zip(s.keys, s.units):
            if units.setdefault(key, unit) != unit:
                raise ValueError(f"row {key!r} belongs to {units[key]!r} and to {unit!r}; these are different data")
    at = {key: i for i, key in enumerate(units)}
    features = [np.full((len(units), s.features.shape[1]), np.nan) for s in samples]
    for f, s in zip(features, samples):
        f[[at[k] for k in s.keys]] = s.features
    scored = np.all([np.isfinite(f).all(axis=1) for f in features], axis=0)
    for f in features:
        f[~scored] = np.nan
    return [Sample(list(units), list(units.values()), f, s.statistic) for f, s in zip(features, samples)]


def _alike(one: Sample, other: Sample) -> bool:
    """Whether both are the same means of the same rows, weighted alike."""
    return (
        isinstance(one.statistic, Means)
        and one.statistic == other.statistic
        and np.array_equal(one.features[:, 1::2], other.features[:, 1::2], equal_nan=True)
    )
