"""The mean over seeds and items, with an interval that resamples both.

A study is repeated with several seeds, and every seed answers the same items. What a new seed *and* new items would have
given is not known from resampling either alone: items alone leave out that training is a lottery, seeds alone that the
questions are a sample. So each resample draws seeds, and once for all of them the items, because the items are shared:

    mean = 1/S sum_s a_s (sum_u b_u y_su / sum_u b_u)       a_s, b_u: how often a seed, an item was drawn

which for all resamples together is three matrix products. This is the pigeonhole bootstrap; for crossed factors it is a
little too wide, and never too narrow by ignoring one of them. But no bootstrap knows the spread of seeds from a few of
them (with three it can draw ten different sets): below `FEW_SEEDS` a table must say so.

Owen, The pigeonhole bootstrap, Annals of Applied Statistics 2007.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ws.stats.bootstrap import LEVEL, RESAMPLES
from ws.stats.estimates import Made, Totals, _beside, _by_unit

FEW_SEEDS = 5


@dataclass(frozen=True)
class Hierarchical:
    """A mean over seeds and items, its interval, and the seeds one by one."""

    mean: float
    ci_lo: float
    ci_hi: float
    by_seed: tuple[float, ...]
    spread: float
    """The standard deviation of the seeds' means; NaN for one seed."""
    n_seeds: int
    n_items: int

    @property
    def few(self) -> bool:
        """Whether the interval stands on too few seeds to be taken at its word."""
        return self.n_seeds < FEW_SEEDS

    def agreeing(self, sign: int = 1) -> int:
        """How many seeds lie on this side of 0."""
        return sum(sign * m > 0 for m in self.by_seed)


def hierarchical(
    values: Sequence[Mapping[Hashable, float]], *, resamples: int = RESAMPLES, seed: int = 0
) -> Hierarchical:
    """The mean of the seeds' means of values by item; an item that a seed lacks, or that is no number, counts not there."""
    items = list(dict.fromkeys(u for v in values for u in v))
    y = np.array([[v.get(u, math.nan) for u in items] for v in values], float).reshape(len(values), len(items))
    there = np.isfinite(y)
    y, n = np.where(there, y, 0.0), len(values)
    with np.errstate(divide="ignore", invalid="ignore"):
        by_seed = y.sum(axis=1) / there.sum(axis=1)
    mean, told = float(by_seed.mean()), tuple(float(m) for m in by_seed)
    spread = float(np.std(by_seed, ddof=1)) if n > 1 else math.nan
    n_items = int(there.any(axis=0).sum())
    if n_items < 2 or not math.isfinite(mean):
        return Hierarchical(mean, math.nan, math.nan, told, spread, n, n_items)
    rng = np.random.default_rng(seed)
    seeds = rng.multinomial(n, np.full(n, 1 / n), resamples)
    asked = rng.multinomial(len(items), np.full(len(items), 1 / len(items)), resamples)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = (seeds * ((asked @ y.T) / (asked @ there.T.astype(float)))).sum(axis=1) / n
    found = found[np.isfinite(found)]
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(found, (tail, 1 - tail)) if len(found) else (math.nan, math.nan)
    return Hierarchical(mean, float(low), float(high), told, spread, n, n_items)


def contributions(low: Made, high: Made) -> dict[Hashable, float]:
    """What each unit contributes to a change between two strengths, so that the mean over units is that change.

    For a plain mean this is the unit's own difference. A sum of means of several groups, or a statistic of totals, is
    made linear: the number itself plus the unit's influence on it.
    """
    if isinstance(low, Totals) or isinstance(high, Totals):
        assert isinstance(low, Totals) and isinstance(high, Totals), "one metric is made the same way at every strength"
        both = _beside(low, high)
        whole = both.features.sum(axis=0, keepdims=True)
        with np.errstate(divide="ignore", invalid="ignore"):
            value = float(both.statistic(whole)[0]) if len(both.units) else math.nan
            without = np.asarray(both.statistic(whole - both.features), float)
        influence = (len(without) - 1) * (np.nanmean(without) - without) if len(without) else without
        return {u: value + float(i) for u, i in zip(both.units, influence)}
    moved = []
    for a, b in zip(low, high, strict=True):
        before, after = _by_unit(a), _by_unit(b)
        moved.append((b.weight, {u: after[u] - before[u] for u in before if u in after}))
    if not all(m for _, m in moved):
        return {}
    units = list(dict.fromkeys(u for _, m in moved for u in m))
    means = [sum(m.values()) / len(m) for _, m in moved]
    value = sum(w * mean for (w, _), mean in zip(moved, means))
    return {
        u: value + len(units) * sum(w * (m[u] - mean) / len(m) for (w, m), mean in zip(moved, means) if u in m)
        for u in units
    }
