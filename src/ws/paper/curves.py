"""Curves: what every arm of a recipe can still do, and how far the behavior has moved, at each of its strengths.

A spot is one strength of one arm with one seed. Spots of an arm on one side of 0, with the unsteered model, are a curve;
`ws.stats.frontier` reads it. Several seeds are read on the same units, see `ws.stats.seeds`.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from ws.paper.recipe import Measure
from ws.stats import Estimate, OverSeeds, Sample, combined, estimate, over_seeds
from ws.stats.frontier import Point, advantage, advantage_at_kl, effect_at_kl, frontier, frontier_gain
from ws.types import Fields, Json

Side = Literal[1, -1]
Sides = tuple[Side, ...]


@dataclass(frozen=True, eq=False)
class Spot:
    """One strength of one arm with one seed, as it was measured."""

    arm: str
    seed: int
    strength: float
    """Its place on the curve: alpha, or how far along a training its checkpoint lies."""
    method: str
    alpha: float
    kl: float | None
    verdict: str
    """as given, or whether the KL that was sought is there: matched, unmatched (why)."""
    source: str
    """raw, or the KL that was sought."""
    samples: Mapping[str, Sample]
    """Name of a measure to its number."""


@dataclass(frozen=True, eq=False)
class Curves:
    """All spots of a recipe."""

    spots: tuple[Spot, ...]
    training: Mapping[tuple[str, int], Fields] = field(default_factory=dict)
    """Arm and seed to what its training reports."""

    @property
    def arms(self) -> list[str]:
        """The arms that were measured, in the recipe's order."""
        return list(dict.fromkeys(s.arm for s in self.spots))

    def seeds(self, arm: str) -> list[int]:
        return sorted({s.seed for s in self.spots if s.arm == arm})

    def of(self, arm: str, seed: int, side: Side | None = None) -> list[Spot]:
        """The spots of a curve by strength, the unsteered model among them, each strength once."""
        own = [s for s in self.spots if s.arm == arm and s.seed == seed]
        kept = {s.strength: s for s in own if side is None or s.strength * side >= 0}
        return [kept[a] for a in sorted(kept)]

    def points(self, arm: str, seed: int, x: Measure, y: Measure, side: Side | None = None) -> list[Point]:
        """The same as the statistics take it."""
        return [Point(s.strength, s.samples[x.name], s.samples[y.name], s.kl) for s in self.of(arm, seed, side)]

    def numbers(self, arm: str, x: Measure, y: Measure, side: Side) -> "Reach":
        """How far an arm gets on one side before it costs 5 points."""
        curves = [self.points(arm, seed, x, y, side) for seed in self.seeds(arm)]
        sense = wanted(y, side)
        best = frontier(curves[0], delta=x.delta, sense=sense)
        gain = over_seeds([frontier_gain(c, delta=x.delta, sense=sense) for c in curves])
        unsteered = estimate(next(p.effect for p in curves[0] if p.strength == 0)).mean
        return Reach(arm, side, unsteered, gain, sense, best.strength, best.loss, len(curves[0]) - 1)

    def between(self, one: str, other: str, x: Measure, y: Measure, side: Side) -> OverSeeds | None:
        """How much further one arm gets than another, in the sense that is wanted; None where one was not measured."""
        pairs = [
            (self.points(one, a, x, y, side), self.points(other, b, x, y, side))
            for a, b in paired_seeds(self.seeds(one), self.seeds(other))
        ]
        if not pairs:
            return None
        return over_seeds([advantage(a, b, delta=x.delta, sense=wanted(y, side)) for a, b in pairs])

    def at_kl(self, arm: str, kl: float, x: Measure, y: Measure, side: Side) -> Estimate | None:
        """The effect of an arm at a KL, of its first seed; None where it does not get there, or has no KL."""
        points = self.points(arm, self.seeds(arm)[0], x, y, side)
        if any(p.kl is None for p in points if p.strength):
            return None
        return effect_at_kl(points, kl, side=side).effect

    def ahead_at_kl(self, one: str, other: str, kl: float, x: Measure, y: Measure, side: Side) -> Estimate | None:
        """How much further one arm is than another at one KL, in the sense that is wanted; None where one does not get there."""
        mine, theirs = (self.points(a, self.seeds(a)[0], x, y, side) for a in (one, other))
        if any(p.kl is None for p in (*mine, *theirs) if p.strength):
            return None
        ahead = advantage_at_kl(mine, theirs, kl, side=side)
        return None if ahead is None else estimate(combined([(float(wanted(y, side)), ahead)]))

    def records(self, measures: Sequence[Measure]) -> list[Json]:
        """Every spot as one line of a file; a metric that several evaluations have bears the protocol's id."""
        several = Counter(m.metric for m in measures)
        lines: list[Json] = []
        for s in self.spots:
            numbers: Json = {}
            for m in measures:
                e = estimate(s.samples[m.name])
                name = m.metric if several[m.metric] == 1 else m.name
                numbers |= {name: e.mean, f"{name}_lo": e.ci_lo, f"{name}_hi": e.ci_hi, f"{name}_n": e.n}
            about = {
                k: getattr(s, k) for k in ("arm", "seed", "strength", "method", "alpha", "kl", "verdict", "source")
            }
            lines.append({**about, **numbers})
        return lines


@dataclass(frozen=True)
class Reach:
    """How far an arm gets on one side of the dial."""

    arm: str
    side: Side
    unsteered: float
    """The effect where nothing is steered."""
    gain: OverSeeds
    """What the best admissible strength adds, in the sense that is wanted."""
    sense: Side
    strength: float
    """Of the first seed, the strength that is the best; 0 where none is better than no steering."""
    loss: float
    """The capability lost there."""
    n_points: int

    @property
    def score(self) -> float:
        """The effect at the best strength."""
        return self.unsteered + self.sense * self.gain.found.mean

    @property
    def ineffective(self) -> bool:
        """Whether the interval of the gain holds 0, or there is none."""
        return not self.gain.found.ci_lo > 0


def wanted(y: Measure, side: Side) -> Side:
    """Whether more or less of a number is wanted on one side of the dial."""
    return 1 if y.toward * side > 0 else -1


def paired_seeds(one: Sequence[int], other: Sequence[int]) -> list[tuple[int, int]]:
    """Seeds to set against each other: an arm that no seed changes stands against every seed of the other."""
    if not one or not other:
        return []
    if len(one) == 1:
        return [(one[0], b) for b in other]
    if len(other) == 1:
        return [(a, other[0]) for a in one]
    return [(a, a) for a in one if a in other]
