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

from ws.stats.bootstrap import RESAMPLES, times_drawn
from ws.stats.estimates import Estimate, Sample, Units, estimate


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
        """The number of seeds that have the sign most have."""
        signs = [math.copysign(1, x) for x in self.each if math.isfinite(x) and x != 0]
        return max((signs.count(s) for s in set(signs)), default=0)


def over_seeds(samples: Sequence[Sample], *, seed: int = 0, resamples: int = RESAMPLES) -> OverSeeds:
    """The mean over seeds of a number, with an interval over seeds and units."""
    if not samples:
        raise ValueError("a mean over seeds needs at least one")
    if len(samples) == 1:
        alone = estimate(samples[0], seed=seed, resamples=resamples)
        return OverSeeds(alone, (alone.mean,))
    parts = [s.by_unit for s in samples]
    each = tuple(p.value for p in parts)
    n = len({u for p in parts for u in p.names})
    fewest = min(p.fewest for p in parts)
    counts = (n, fewest, sum(int(s.scored.sum()) for s in samples), sum(len(s.keys) for s in samples))
    middle = float(np.mean(each))
    if not math.isfinite(middle) or min(p.in_smallest for p in parts) < 2:
        return OverSeeds(Estimate(middle, math.nan, math.nan, *counts), each)
    rng = np.random.default_rng(seed)
    drawn = _drawn(parts, resamples, rng)
    from scipy.special import stdtrit

    # quantiles of t in random order: the same law, without the luck of drawing its tails
    t = stdtrit(len(samples) - 1, (rng.permutation(resamples) + 0.5) / resamples)
    found = drawn.mean(axis=1) + t * drawn.std(axis=1, ddof=1) / math.sqrt(len(samples))
    kept = found[np.isfinite(found)]
    dropped = 1 - len(kept) / len(found)
    low, high = np.quantile(kept, [0.025, 0.975]) if len(kept) else (math.nan, math.nan)
    return OverSeeds(Estimate(middle, float(low), float(high), *counts, dropped), each)


def _drawn(parts: Sequence[Units], resamples: int, rng: np.random.Generator) -> np.ndarray:
    """(B, S): every seed's number on every resample of units, units of one stratum drawn among themselves."""
    units = sorted({u for p in parts for u in p.names}, key=str)
    row = {u: i for i, u in enumerate(units)}
    stratum = np.zeros(len(units), int)
    for p in parts:
        stratum[[row[u] for u in p.names]] = p.strata
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
            found[:, at] = p.statistic(counts[:, [row[u] for u in p.names]] @ p.totals)
    return found
