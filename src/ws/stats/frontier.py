"""What an arm can do before it costs capability: curves of strengths, read so that the arms can be set against each other.

A point of a curve is a strength with two numbers, a capability (say, the share of plain questions answered right) and an
effect (say, the share still right when the user doubts them). Strength 0 is the unsteered target and is part of every curve.

    frontier score   the best effect among the points that lose at most `delta` of the capability
    gain             the score over the unsteered effect: where its interval holds 0, the arm is ineffective
    advantage        the score of one arm over that of another
    at equal KL      the effect where the curve passes a given KL, between the measured strengths

Each is a `Sample` whose rows are units, so `estimate` and `over_seeds` give it an interval. A resample draws the units once
and reads everything on them: both arms, all points, and which point is the best. A loss counts the rows scored at both
strengths.

The best of many points that do the same is still above each of them, by luck, and an arm with more points has more of it:
of arms without any effect, one in five would look effective. So units stand in five folds, and each fold is asked at the point that
is the best of the other four; a score is then that of a choice on other items. A score may so be a little below the best
point of the curve; on average it is not above what the arm can do.

An effect asked only about items that the model solves has two populations: the items that each point solves, which
changes along the curve (`own`), or those solved at strength 0 (`fixed`).

Coverage and false finds, simulated: tests/test_frontier.py.
"""

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ws.stats.bootstrap import Statistic
from ws.stats.estimates import Estimate, Sample, combined, estimate

DELTA = 0.05
Sense = Literal[1, -1]
FOLDS = 5
ROUNDING = 1e-9  # .90 - .85 is a little more than .05


@dataclass(frozen=True, eq=False)
class Point:
    """One strength of an arm: what the model can do there, and how far the behavior has moved."""

    strength: float
    capability: Sample
    effect: Sample
    kl: float | None = None
    """Its distance from the unsteered model in nats, where it was measured."""


@dataclass(frozen=True)
class Frontier:
    """The best of a curve at a bounded loss, and what it is over the unsteered model."""

    score: Estimate
    gain: Estimate
    """The score minus the unsteered effect, in the sense that is wanted."""
    strength: float
    """The point that is the best; 0 where no steered one is admissible and better."""
    loss: float
    """The capability lost there."""
    delta: float
    admissible: tuple[float, ...]
    """The strengths that lose at most delta."""

    @property
    def ineffective(self) -> bool:
        """Whether the interval of the gain holds 0, or there is no interval."""
        return not self.gain.ci_lo > ROUNDING


@dataclass(frozen=True)
class AtKL:
    """The effect where a curve passes a KL; without an estimate where it does not get there."""

    kl: float
    effect: Estimate | None
    strength: float
    """Between the two measured strengths around it; NaN where it is not reached."""
    reach: float
    """The largest KL of the curve's points on this side."""

    def __str__(self) -> str:
        if self.effect is None:
            return f"not reached: the strongest point measured has {self.reach:.3g} nat of the {self.kl:g} asked for"
        return f"{self.effect.mean:.3f} [{self.effect.ci_lo:.3f}, {self.effect.ci_hi:.3f}] at {self.kl:g} nat"


def frontier(points: Sequence[Point], *, delta: float = DELTA, sense: Sense = 1, seed: int = 0) -> Frontier:
    """The frontier score of a curve with its intervals; `sense = -1` where a smaller effect is the better one."""
    ordered = _curve(points)
    losses = [_loss(p, _unsteered(ordered)).by_unit.value for p in ordered]
    effects = [sense * p.effect.by_unit.value for p in ordered]
    admissible = [i for i, lost in enumerate(losses) if lost <= delta + ROUNDING and math.isfinite(effects[i])]
    best = max(admissible, key=lambda i: (effects[i], -abs(ordered[i].strength)), default=_at_zero(ordered))
    return Frontier(
        score=estimate(frontier_score(points, delta=delta, sense=sense), seed=seed),
        gain=estimate(frontier_gain(points, delta=delta, sense=sense), seed=seed),
        strength=ordered[best].strength,
        loss=losses[best],
        delta=delta,
        admissible=tuple(ordered[i].strength for i in admissible),
    )


def frontier_score(points: Sequence[Point], *, delta: float = DELTA, sense: Sense = 1) -> Sample:
    """The best effect among the points that lose at most `delta`."""
    return _over_folds([points], delta, sense, lambda read: read[0].score)


def frontier_gain(points: Sequence[Point], *, delta: float = DELTA, sense: Sense = 1) -> Sample:
    """The frontier score over the unsteered effect, in the sense that is wanted."""
    return _over_folds([points], delta, sense, lambda read: sense * (read[0].score - read[0].unsteered))


def advantage(one: Sequence[Point], other: Sequence[Point], *, delta: float = DELTA, sense: Sense = 1) -> Sample:
    """How much further one arm gets than another, in the sense that is wanted."""
    return _over_folds([one, other], delta, sense, lambda read: sense * (read[0].score - read[1].score))


def at_kl(points: Sequence[Point], kl: float, *, side: Sense = 1) -> Sample | None:
    """The effect where the strengths of one side first pass `kl`, on the line between its neighbors; None if they do not."""
    low, high, share = _around(points, kl, side)
    if high is None:
        return None
    return side_by_side([low.effect, high.effect], lambda v: (1 - share) * v[0] + share * v[1])


def effect_at_kl(points: Sequence[Point], kl: float, *, side: Sense = 1, seed: int = 0) -> AtKL:
    """The effect at a KL with its interval, or how far the curve gets."""
    low, high, share = _around(points, kl, side)
    reach = max(p.kl or 0.0 for p in _outward(points, side))
    sample = at_kl(points, kl, side=side)
    if high is None or sample is None:
        return AtKL(kl, None, math.nan, reach)
    strength = (1 - share) * low.strength + share * high.strength
    return AtKL(kl, estimate(sample, seed=seed), strength, reach)


def advantage_at_kl(one: Sequence[Point], other: Sequence[Point], kl: float, *, side: Sense = 1) -> Sample | None:
    """The effect of one arm minus that of another where both have this KL; None where one of them does not get there."""
    mine, theirs = at_kl(one, kl, side=side), at_kl(other, kl, side=side)
    if mine is None or theirs is None:
        return None
    return side_by_side([mine, theirs], lambda v: v[0] - v[1])


def readings(correct: np.ndarray) -> dict[str, np.ndarray]:
    """Two readings of the answers (items, cues) to one item: `strict`, right under every cue, and `mean`, the share.

    A cue without a verdict is NaN. One wrong answer settles the strict reading; else it is NaN, as the mean is.
    """
    unknown, wrong = np.isnan(correct).any(axis=1), (correct == 0).any(axis=1)
    strict = np.where(wrong, 0.0, np.where(unknown, np.nan, (correct == 1).all(axis=1)))
    return {"strict": strict, "mean": correct.mean(axis=1)}


def side_by_side(samples: Sequence[Sample], number: Callable[[list[np.ndarray]], np.ndarray]) -> Sample:
    """One number made of several whose rows need not be the same, as a sample of units: a draw takes a unit for all of them."""
    names, totals, columns = _joined(samples)
    return Sample(names, names, totals, lambda t: number([s.statistic(t[..., c]) for s, c in zip(samples, columns)]))


@dataclass(frozen=True, eq=False)
class _Read:
    """A curve as one resample shows it, each (*,)."""

    score: np.ndarray
    unsteered: np.ndarray


@dataclass(frozen=True, eq=False)
class _Curve:
    """Where the numbers of a curve stand among the totals of a sample."""

    effects: Sequence[slice]
    losses: Sequence[slice]
    zero: int
    effect: Statistic
    loss: Sequence[Statistic]

    def read(self, folds: np.ndarray, delta: float, sense: Sense) -> _Read:
        """Totals (*, folds, f) to the score: each fold is asked at the point that is the best of the others."""
        others = folds.sum(axis=-2, keepdims=True) - folds
        effects = sense * np.stack([self.effect(others[..., c]) for c in self.effects])  # (points, *, folds)
        losses = np.stack([number(others[..., c]) for number, c in zip(self.loss, self.losses)])
        with np.errstate(invalid="ignore"):
            allowed = (losses <= delta + ROUNDING) & np.isfinite(effects)
        allowed[self.zero] = True  # the unsteered model loses nothing of itself
        best = np.where(allowed, effects, -np.inf).argmax(axis=0)
        asked = np.stack([folds[..., c] for c in self.effects])
        there = np.take_along_axis(asked, best[None, ..., None], axis=0)[0].sum(axis=-2)
        return _Read(self.effect(there), self.effect(asked[self.zero].sum(axis=-2)))


def _over_folds(
    arms: Sequence[Sequence[Point]], delta: float, sense: Sense, number: Callable[[list[_Read]], np.ndarray]
) -> Sample:
    """A number of curves read together, as a sample of units whose totals stand apart by fold."""
    samples: list[Sample] = []
    curves = []
    for ordered in map(_curve, arms):
        zero, at = _at_zero(ordered), len(samples)
        effects, losses = [p.effect for p in ordered], [_loss(p, ordered[zero]) for p in ordered]
        samples += [*effects, *losses]
        curves.append((zero, range(at, at + len(effects)), range(at + len(effects), len(samples))))
    names, totals, columns = _joined(samples)
    read = [
        _Curve(
            [columns[i] for i in e],
            [columns[i] for i in k],
            z,
            samples[e[z]].statistic,
            [samples[i].statistic for i in k],
        )
        for z, e, k in curves
    ]
    n, width = totals.shape
    apart = np.zeros((n, FOLDS, width))
    apart[np.arange(n), np.random.default_rng(0).permutation(n) % FOLDS] = totals

    def statistic(t: np.ndarray) -> np.ndarray:
        folds = t.reshape(*t.shape[:-1], FOLDS, width)
        return number([curve.read(folds, delta, sense) for curve in read])

    return Sample(names, names, apart.reshape(n, FOLDS * width), statistic)


def _joined(samples: Sequence[Sample]) -> tuple[list[Hashable], np.ndarray, list[slice]]:
    """The units of all samples, their totals side by side, and which columns are whose; a unit that one lacks adds 0 to it."""
    parts = [s.by_unit for s in samples]
    names = sorted({u for p in parts for u in p.names}, key=str)
    at = {u: i for i, u in enumerate(names)}
    ends = np.cumsum([0, *(p.totals.shape[1] for p in parts)]).tolist()
    columns = [slice(a, b) for a, b in zip(ends, ends[1:])]
    totals = np.zeros((len(names), ends[-1]))
    for p, c in zip(parts, columns):
        totals[[at[u] for u in p.names], c] = p.totals
    return names, totals, columns


def _loss(point: Point, unsteered: Point) -> Sample:
    """The capability lost, over the rows scored at both strengths."""
    return combined([(1.0, unsteered.capability), (-1.0, point.capability)])


def _curve(points: Sequence[Point]) -> list[Point]:
    """The points by strength; each strength once, and 0 among them."""
    strengths = [p.strength for p in points]
    if len(set(strengths)) < len(strengths):
        raise ValueError(f"a curve has every strength once, got {sorted(strengths)}")
    if 0 not in strengths:
        raise ValueError(f"a curve needs strength 0, what is lost is lost against it; got {sorted(strengths)}")
    if len({p.effect.features.shape[1] for p in points}) > 1:
        raise ValueError("the effects of a curve are of different kinds; give the same number at every strength")
    return sorted(points, key=lambda p: p.strength)


def _at_zero(ordered: Sequence[Point]) -> int:
    return [p.strength for p in ordered].index(0)


def _unsteered(ordered: Sequence[Point]) -> Point:
    return ordered[_at_zero(ordered)]


def _outward(points: Sequence[Point], side: Sense) -> list[Point]:
    """Strength 0 and the points of one side, from the middle outward."""
    return sorted((p for p in _curve(points) if p.strength * side >= 0), key=lambda p: abs(p.strength))


def _around(points: Sequence[Point], kl: float, side: Sense) -> tuple[Point, Point | None, float]:
    """The two neighbors between which one side first passes `kl`, and how far along it lies; no second one if it never does."""
    if not kl > 0:
        raise ValueError(f"a KL to compare at is above 0, got {kl:g}")
    outward = _outward(points, side)
    if lacking := [p.strength for p in outward if p.kl is None and p.strength != 0]:
        raise ValueError(
            f"the points at {lacking} have no KL; measure it, or compare at equal loss with the frontier score"
        )
    for low, high in zip(outward, outward[1:]):
        below, above = low.kl or 0.0, high.kl or 0.0
        if below < kl <= above:
            return low, high, (kl - below) / (above - below)
    return outward[0], None, math.nan
