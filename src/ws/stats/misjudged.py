"""What a judge's errors do to a number, and the number without them: a corrected share, a corrected mean.

A judge that is right on a share `sensitivity` of the true cases and `specificity` of the others sees

    apparent = share x sensitivity + (1 - share) x (1 - specificity)

which is solved for the share (Rogan & Gladen, Am. J. Epidemiology 1978). Both rates are known from cases that people
have labelled, few of them. So the interval draws three things anew: the units, as every interval here does, and both rates.
A rate is drawn from its Beta distribution (Jeffreys), and not from the labelled cases again: among 25 cases without an error a
resample has none either, and the interval would be too sure. Coverage: bench/judged.py.
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from ws.stats.bootstrap import RESAMPLES, Interval, draw, interval, reach
from ws.stats.estimates import means


@dataclass(frozen=True)
class Rates:
    """How often a judge is right, by what is true."""

    hits: int
    """True cases that it found."""
    positives: int
    """True cases."""
    rejections: int
    """Other cases that it told to be none."""
    negatives: int
    """Other cases."""

    @staticmethod
    def of(judged: Sequence[bool], truth: Sequence[bool]) -> "Rates":
        """The rates among labelled cases."""
        both = list(zip(judged, truth, strict=True))
        positives = sum(t for _, t in both)
        hits, rejections = sum(j and t for j, t in both), sum(not j and not t for j, t in both)
        return Rates(hits, positives, rejections, len(both) - positives)

    @property
    def sensitivity(self) -> float:
        """The share of the true cases that it finds."""
        return self.hits / self.positives if self.positives else math.nan

    @property
    def specificity(self) -> float:
        """The share of the others that it tells to be none."""
        return self.rejections / self.negatives if self.negatives else math.nan

    @property
    def informed(self) -> bool:
        """Whether its verdicts say anything: better than a coin on the labelled cases, of which there are both kinds."""
        return self.sensitivity + self.specificity > 1

    def drawn(self, rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Sensitivities and specificities as they may be."""
        found = rng.beta(self.hits + 0.5, self.positives - self.hits + 0.5, n)
        return found, rng.beta(self.rejections + 0.5, self.negatives - self.rejections + 0.5, n)


def corrected_share(
    judged: Sequence[float], units: Sequence[Hashable], rates: Rates, *, seed: int = 0, resamples: int = RESAMPLES
) -> Interval:
    """The share of true cases, given the judge's 0 and 1 (NaN for none) and its rates; no number where it is uninformed."""
    sample = means(judged, units=units, keys=range(len(judged))).by_unit
    if not rates.informed or len(sample.names) < 2:
        return Interval(math.nan, math.nan, math.nan)
    draws = draw([sample.totals], resamples=resamples, seed=seed)
    rng = np.random.default_rng([seed, 1])
    found, told = rates.drawn(rng, resamples)
    seen = sample.statistic(draws.resampled)
    if np.ptp(seen) == 0:  # all verdicts are equal, which a resample cannot doubt
        n, ours = len(sample.names), sample.value * len(sample.names)
        seen = rng.beta(ours + 0.5, n - ours + 0.5, resamples)
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = np.clip((seen + told - 1) / (found + told - 1), 0, 1)
    # with such rates the judge may know nothing, and the share be anything
    shares = np.where(found + told > 1, shares, rng.integers(0, 2, resamples))
    value = (sample.value + rates.specificity - 1) / (rates.sensitivity + rates.specificity - 1)
    far = reach((len(sample.names),))
    low, high = np.quantile(shares, [NormalDist().cdf(-far), NormalDist().cdf(far)])
    value = min(1.0, max(0.0, value))
    return Interval(value, min(float(low), value), max(float(high), value))


def corrected_mean(
    judged: Sequence[float],
    units: Sequence[Hashable],
    gold: Sequence[tuple[float, float]],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Interval:
    """The mean score, less what the judge gives too much on the labelled cases: pairs of (judged, true)."""
    sample = means(judged, units=units, keys=range(len(judged))).by_unit
    if len(sample.names) < 2 or len(gold) < 2:
        return Interval(math.nan, math.nan, math.nan)
    off = np.array([truth - score for score, truth in gold])
    zeros = np.zeros((len(sample.totals), 2))
    ours = np.hstack([sample.totals, zeros])
    theirs = np.stack([0 * off, 0 * off, off, np.ones(len(off))], axis=1)
    draws = draw([ours, theirs], resamples=resamples, seed=seed)
    return interval(draws, lambda t: t[..., 0] / t[..., 1] + t[..., 2] / t[..., 3])
