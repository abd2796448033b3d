"""Several seeds, the same units: where does the mean over seeds lie?

Every seed is measured on the same units, so a resample draws units once and reads all seeds on them. Drawing three seeds
again with replacement has ten outcomes, and such an interval covers the true mean about three times in four. The part of
the seeds is therefore drawn from Student's t with one degree of freedom less than there are seeds, at the spread the seeds
have in that resample:

    theta* = mean over seeds of theta_s(units*)  +  t* sd over seeds of theta_s(units*) / sqrt(S)

With one seed it is the interval over units alone, and whoever prints it says so. Coverage: docs/design/012-compare.md.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ws.stats.bootstrap import RESAMPLES, Statistic, times_drawn
from ws.stats.estimates import Estimate, Features, Group, Made, Totals, by_unit, estimate, features_of


@dataclass(frozen=True)
class OverSeeds:
    """A number over seeds: the mean with its interval, and what each seed gave."""

    found: Estimate
    each: tuple[float, ...]

    @property
    def sd(self) -> float:
        """The spread over seeds; NaN of one."""
        return float(np.std(self.each, ddof=1)) if len(self.each) > 1 else math.nan

    @property
    def same_sign(self) -> int:
        """How many seeds have the sign that most have."""
        signs = [math.copysign(1, x) for x in self.each if math.isfinite(x) and x != 0]
        return max((signs.count(s) for s in set(signs)), default=0)


def over_seeds(mades: Sequence[Made], *, seed: int = 0, resamples: int = RESAMPLES) -> OverSeeds:
    """The mean over seeds of a number, with an interval over seeds and units."""
    if not mades:
        raise ValueError("a mean over seeds needs at least one")
    if len(mades) == 1:
        alone = estimate(mades[0], seed=seed, resamples=resamples)
        return OverSeeds(alone, (alone.mean,))
    parts = [features_of(m) for m in mades]
    each = tuple(_whole(p.features, p.statistic) for p in parts)
    n = len({u for p in parts for u in p.units})
    fewest = min(p.fewest for p in parts)
    counts = (n, fewest, sum(p.n_valid for p in parts), sum(p.n_total for p in parts))
    middle = float(np.mean(each))
    if not math.isfinite(middle) or fewest < 2:
        return OverSeeds(Estimate(middle, math.nan, math.nan, *counts), each)
    rng = np.random.default_rng(seed)
    drawn = _drawn(parts, resamples, rng)
    from scipy.special import stdtrit

    # quantiles of t in random order: the same law, without the luck of drawing its tails
    t = stdtrit(len(mades) - 1, (rng.permutation(resamples) + 0.5) / resamples)
    found = drawn.mean(axis=1) + t * drawn.std(axis=1, ddof=1) / math.sqrt(len(mades))
    kept = found[np.isfinite(found)]
    dropped = 1 - len(kept) / len(found)
    low, high = np.quantile(kept, [0.025, 0.975]) if len(kept) else (math.nan, math.nan)
    return OverSeeds(Estimate(middle, float(low), float(high), *counts, dropped), each)


def combined(terms: Sequence[tuple[float, Made]]) -> Made:
    """A weighted sum of numbers measured on the same units, as one number: paired, unit by unit."""
    if not terms:
        raise ValueError("a sum needs at least one term")
    if any(isinstance(m, Totals) for _, m in terms):
        assert all(isinstance(m, Totals) for _, m in terms), "one metric is made the same way at every strength"
        return _of_totals([(k, m) for k, m in terms if isinstance(m, Totals)])
    factors, groups = [k for k, _ in terms], [m for _, m in terms if not isinstance(m, Totals)]
    found = []
    for same in zip(*groups, strict=True):
        values = [by_unit(g) for g in same]
        shared = [u for u in values[0] if all(u in v for v in values)]
        found.append(
            Group([sum(k * v[u] for k, v in zip(factors, values)) for u in shared], shared, same[0].weight)
        )  # fmt: skip
    return found


def _of_totals(terms: Sequence[tuple[float, Totals]]) -> Totals:
    at = [{u: i for i, u in enumerate(m.units)} for _, m in terms]
    shared = [u for u in terms[0][1].units if all(u in a for a in at)]
    columns = [m.features[[a[u] for u in shared]] for (_, m), a in zip(terms, at)]
    ends = np.cumsum([0, *(c.shape[1] for c in columns)])

    def statistic(t: np.ndarray) -> np.ndarray:
        return sum(k * m.statistic(t[..., a:b]) for (k, m), a, b in zip(terms, ends, ends[1:]))  # type: ignore[return-value]

    n_valid, n_total = min(m.n_valid for _, m in terms), max(m.n_total for _, m in terms)
    return Totals(shared, np.hstack(columns), statistic, n_valid, n_total)


def _drawn(parts: Sequence[Features], resamples: int, rng: np.random.Generator) -> np.ndarray:
    """(B, S): every seed's number on every resample of units, units of one stratum drawn among themselves."""
    units = list(dict.fromkeys(u for p in parts for u in p.units))
    row = {u: i for i, u in enumerate(units)}
    stratum = np.zeros(len(units), int)
    for p in parts:
        for u, s in zip(p.units, p.strata):
            stratum[row[u]] = s
    counts = np.zeros((resamples, len(units)))
    for s in np.unique(stratum):
        members = np.flatnonzero(stratum == s)
        at = 0
        for some in times_drawn(len(members), resamples, rng):
            counts[at : at + len(some), members] = some
            at += len(some)
    found = np.empty((resamples, len(parts)))
    with np.errstate(divide="ignore", invalid="ignore"):
        for at, p in enumerate(parts):
            found[:, at] = p.statistic(counts[:, [row[u] for u in p.units]] @ p.features)
    return found


def _whole(features: np.ndarray, statistic: Statistic) -> float:
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.asarray(statistic(features.sum(axis=0, keepdims=True)))[0])
