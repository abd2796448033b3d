"""When an alarm is raised, and how good alarms are: the rule is fixed before anything is read.

    z = (score - mean of the permuted) / sd of the permuted
    alarm: z > 3, and the score is above that of the control behavior

AUROC with Newcombe's interval (Statistics in Medicine 2006, 25:559, method 5), which stays honest where all is told apart;
the false-positive rate at 95 % of the true ones with a bootstrap over both classes, never narrower than Wilson's.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from ws.stats import Interval
from ws.stats.bootstrap import LEVEL, RESAMPLES

Z = 3.0
TPR = 0.95
FEWEST = 3
"""Permuted scores below which there is no z."""


@dataclass(frozen=True)
class Against:
    """The scores that a score is read against."""

    permuted: tuple[float, ...] = ()
    random: tuple[float, ...] = ()
    control: float | None = None

    def z(self, score: float) -> float | None:
        """How many standard deviations above the permuted a score lies; None where there are too few of them."""
        if len(self.permuted) < FEWEST or not math.isfinite(score):
            return None
        mean, sd = float(np.mean(self.permuted)), float(np.std(self.permuted, ddof=1))
        return (score - mean) / sd if sd > 0 else None

    @property
    def mirrored(self) -> "Against":
        """The same for drift toward the other pole."""
        permuted, random = (tuple(-x for x in scores) for scores in (self.permuted, self.random))
        return Against(permuted, random, None if self.control is None else -self.control)

    def alarm(self, score: float) -> bool | None:
        """Whether the rule raises an alarm; None where a null is missing."""
        z = self.z(score)
        return None if z is None or self.control is None else bool(z > Z and score > self.control)


def by_chance(permuted: int) -> float:
    """How often a normal null passes z > 3 where mean and sd come from so few draws: Student's t, one side."""
    from scipy.stats import t

    return float(t.sf(Z / math.sqrt(1 + 1 / permuted), permuted - 1))


def auroc(pos: Sequence[float], neg: Sequence[float]) -> Interval:
    """The chance that one of `pos` scores above one of `neg`, ties half, with a 95 % interval."""
    if not len(pos) or not len(neg):
        return Interval(math.nan, math.nan, math.nan)
    p, n = np.asarray(pos, float), np.asarray(neg, float)
    value = float(((p[:, None] > n).mean() + (p[:, None] >= n).mean()) / 2)
    return Interval(value, *_newcombe(value, len(p), len(n)))


def _newcombe(value: float, m: int, n: int) -> tuple[float, float]:
    far, more = NormalDist().inv_cdf(0.5 + LEVEL / 2), (m + n) / 2 - 1

    def outside(theta: float) -> bool:
        spread = theta * (1 - theta) * (1 + more * ((1 - theta) / (2 - theta) + theta / (1 + theta))) / (m * n)
        return abs(value - theta) > far * math.sqrt(max(0.0, spread))

    return _edge(outside, 0.0, value), _edge(outside, 1.0, value)


def _edge(outside, far: float, near: float) -> float:
    """The point between `far` and `near` at which `outside` ends."""
    if not outside(far) and far not in (0.0, 1.0):
        return far
    for _ in range(60):
        middle = (far + near) / 2
        far, near = (middle, near) if outside(middle) else (far, middle)
    return near


def fpr_at(pos: Sequence[float], neg: Sequence[float], *, tpr: float = TPR, seed: int = 0) -> Interval:
    """The share of `neg` at or above the threshold that at least `tpr` of `pos` reach, with a 95 % interval."""
    if not len(pos) or not len(neg):
        return Interval(math.nan, math.nan, math.nan)
    p, n = np.asarray(pos, float), np.asarray(neg, float)
    rng = np.random.default_rng(seed)
    drawn = [_fpr(rng.choice(p, len(p)), rng.choice(n, len(n)), tpr) for _ in range(RESAMPLES)]
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    value = _fpr(p, n, tpr)
    least, most = _wilson(value, len(n))
    return Interval(value, min(float(low), least), max(float(high), most))


def _fpr(pos: np.ndarray, neg: np.ndarray, tpr: float) -> float:
    threshold = np.sort(pos)[::-1][math.ceil(tpr * len(pos) - 1e-9) - 1]
    return float((neg >= threshold).mean())


def _wilson(share: float, n: int) -> tuple[float, float]:
    z = NormalDist().inv_cdf(0.5 + LEVEL / 2)
    middle, half = share + z * z / (2 * n), z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, (middle - half) / (1 + z * z / n)), min(1.0, (middle + half) / (1 + z * z / n))
