"""Claims of the paper as values: a sentence, and the test that decides it from what was measured.

A test answers holds, does not hold, or undecided, with a number, its 95 % interval and how many units it rests on. An
interval that holds 0 leaves a comparison undecided: it shows neither a difference nor that there is none.

    Claim("more steering, more sycophancy", beats("weight", "act_single", x, y))

What is undecided says about how many units would decide it: an interval shrinks with the root of their number.

A test of several parts (both sides of the dial) holds where all of them do and fails where one of them fails.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Generic, TypeVar

from ws.numbers import finite
from ws.paper.curves import Curves, Side, wanted
from ws.paper.recipe import Measure
from ws.stats import Estimate, OverSeeds, estimate
from ws.stats.frontier import Point, side_by_side
from ws.types import Json

HOLDS, FAILS, OPEN = "holds", "does not hold", "undecided"
SIDES: tuple[Side, Side] = (1, -1)
MOST = 100
"""How many times the units that were asked a claim may need; what needs more is next to 0."""
E = TypeVar("E")


@dataclass(frozen=True)
class Verdict:
    """What a test says of a claim."""

    says: str
    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    n: int = 0
    """Units that the interval rests on."""
    why: str = ""
    """What the number is, or why there is none."""
    unit: str = "share"
    needs: int = 0
    """Of an undecided one, about how many units would decide it if its number stayed; 0 where nobody can say."""

    @property
    def whole(self) -> bool:
        """Whether there is a number at all."""
        return finite(self.value)

    def as_json(self) -> Json:
        return {k: getattr(self, k) for k in ("says", "value", "low", "high", "n", "why", "unit", "needs")}


@dataclass(frozen=True)
class Claim(Generic[E]):
    """One qualitative claim, and what decides it."""

    sentence: str
    test: Callable[[E], Verdict]
    by: str = "paper"
    """paper, or ours."""

    def judged(self, evidence: E) -> Json:
        """The claim with its verdict, as a record."""
        return {"claim": self.sentence, "by": self.by, **self.test(evidence).as_json()}


def decided(e: Estimate | OverSeeds | None, why: str, *, unit: str = "share") -> Verdict:
    """Whether a number is above 0: yes and no are for intervals that lie on one side of it."""
    if e is None:
        return Verdict(OPEN, why=f"{why}: not measured")
    found = e.found if isinstance(e, OverSeeds) else e
    if not finite(found.ci_lo):
        return Verdict(OPEN, found.mean, n=found.n, why=f"{why}: too few units for an interval", unit=unit)
    says = HOLDS if found.ci_lo > 0 else FAILS if found.ci_hi < 0 else OPEN
    return Verdict(says, found.mean, found.ci_lo, found.ci_hi, found.n, why, unit, needed(e, says, 0.0))


def needed(e: Estimate | OverSeeds, says: str, *ends: float) -> int:
    """About how many units an undecided number takes until its interval is clear of these ends; 0 where that is no answer."""
    if says != OPEN or (isinstance(e, OverSeeds) and len(e.each) > 1):  # more questions do not bring seeds together
        return 0
    found = e.found if isinstance(e, OverSeeds) else e
    end = min(ends, key=lambda x: abs(found.mean - x))
    room, reach = abs(found.mean - end), found.mean - found.ci_lo if end < found.mean else found.ci_hi - found.mean
    if not 0 < room < reach:
        return 0
    n = found.n * (reach / room) ** 2
    step = 10 ** max(0, math.floor(math.log10(n)) - 1)
    return step * math.ceil(n / step) if n <= MOST * found.n else 0


def all_of(verdicts: Sequence[Verdict]) -> Verdict:
    """Several parts as one: its number is that of the part that decides, the weakest."""
    for says in (FAILS, OPEN, HOLDS):
        if parts := [v for v in verdicts if v.says == says]:
            weakest = min(parts, key=lambda v: v.low if finite(v.low) else -math.inf)
            if len(verdicts) == 1:
                return weakest
            counts = f"{sum(v.says == HOLDS for v in verdicts)} of {len(verdicts)} parts hold"
            needs = [v.needs for v in parts]
            return replace(weakest, why=f"{counts}; shown: {weakest.why}", needs=max(needs) if all(needs) else 0)
    return Verdict(OPEN, why="nothing was measured")


# ---------------------------------------------------------------- tests of curves


def absent(curves: Curves, *arms: str) -> Verdict | None:
    """Why a claim about these arms is open, where one of them was not measured."""
    lacking = [a for a in arms if a not in curves.arms]
    return Verdict(OPEN, why=f"{', '.join(lacking)} was not measured") if lacking else None


def beats(one: str, other: str, x: Measure, *ys: Measure, sides: Sequence[Side] = SIDES) -> Callable[[Curves], Verdict]:
    """One arm reaches more of the effect than another before it costs 5 points, on every side that is named."""

    def test(curves: Curves) -> Verdict:
        if (lacking := absent(curves, one, other)) is not None:
            return lacking
        return all_of(
            [
                decided(curves.between(one, other, x, y, side), f"{one} less {other}, {way(y, side)}", unit=y.unit)
                for y in ys
                for side in sides
            ]
        )

    return test


def alike(
    one: str,
    other: str,
    x: Measure,
    *ys: Measure,
    within: float = 0.1,
    sides: Sequence[Side] = SIDES,
    at_rest: bool = False,
) -> Callable[[Curves], Verdict]:
    """Two arms get equally far: the interval of their difference lies within a margin of ours, to both sides.

    Where neither moves anything there is nothing to compare, unless `at_rest` says that this is likeness too.
    """

    def part(curves: Curves, y: Measure, side: Side) -> Verdict:
        why = f"{one} less {other}, {way(y, side)}"
        found = inside(curves.between(one, other, x, y, side), within, why, y.unit)
        if found.says != HOLDS or at_rest or any(_gained(curves, a, x, y, side).says == HOLDS for a in (one, other)):
            return found
        return replace(found, says=OPEN, why=f"neither {one} nor {other} moves {way(y, side)}")

    def test(curves: Curves) -> Verdict:
        if (lacking := absent(curves, one, other)) is not None:
            return lacking
        return all_of([part(curves, y, side) for y in ys for side in sides])

    return test


def inside(e: Estimate | OverSeeds | None, within: float, why: str, unit: str = "share") -> Verdict:
    """Whether an interval lies within a margin around 0; outside of it altogether, it does not."""
    plain = decided(e, why, unit=unit)
    if not finite(plain.low):
        return plain
    inside = -within < plain.low and plain.high < within
    outside = plain.low > within or plain.high < -within
    margin = f"{100 * within:.0f} points" if unit == "share" else f"{within:g}"
    says = HOLDS if inside else FAILS if outside else OPEN
    return replace(plain, says=says, why=f"{why}; within {margin}", needs=needed(e, says, -within, within) if e else 0)


def moves(arms: Sequence[str], x: Measure, *ys: Measure, sides: Sequence[Side] = SIDES) -> Callable[[Curves], Verdict]:
    """Each of these arms has the effect before it costs 5 points."""

    def test(curves: Curves) -> Verdict:
        if (lacking := absent(curves, *arms)) is not None:
            return lacking
        return all_of([_gained(curves, arm, x, y, side) for arm in arms for y in ys for side in sides])

    return test


def ineffective(
    arms: Sequence[str], x: Measure, *ys: Measure, sides: Sequence[Side] = SIDES
) -> Callable[[Curves], Verdict]:
    """Each of these arms has no effect before it costs 5 points: the interval of what it gains holds 0.

    Where several numbers are asked, their intervals are as wide as lets all of them hold the truth in 95 of 100 draws; each
    at 95 % would deny four true ones in one draw of six.
    """

    def test(curves: Curves) -> Verdict:
        if (lacking := absent(curves, *arms)) is not None:
            return lacking
        gains = [_gained(curves, arm, x, y, side) for arm in arms for y in ys for side in sides]
        parts = [_at_rest(v, among=len(gains)) for v in gains]
        failing = [v for v in parts if v.says == FAILS]
        return all_of(parts) if not failing else max(failing, key=lambda v: v.low)

    return test


def _at_rest(v: Verdict, *, among: int) -> Verdict:
    """Whether a number is no gain for all that is known, as one of so many that are asked together (Bonferroni; normal tails)."""
    if not finite(v.low):
        return replace(v, says=OPEN, needs=0)
    wider = NormalDist().inv_cdf(1 - 0.025 / among) / NormalDist().inv_cdf(0.975)
    low, high = v.value - wider * (v.value - v.low), v.value + wider * (v.high - v.value)
    return replace(v, says=FAILS if low > 0 else HOLDS, low=low, high=high, needs=0)


def costs(arm: str, x: Measure, *, more_than: float, sides: Sequence[Side] = SIDES) -> Callable[[Curves], Verdict]:
    """An arm loses more than so much of the capability at its strongest setting."""

    def part(curves: Curves, side: Side) -> Verdict:
        zero, far = _ends(curves, arm, x, side)
        lost = side_by_side([zero.effect, far.effect], lambda v: v[0] - v[1] - more_than)
        beyond = f" beyond {100 * more_than:.0f} points" if more_than else ""
        return decided(estimate(lost), f"{arm} at {far.strength:+g}: {x.metric} lost{beyond}")

    return lambda curves: absent(curves, arm) or all_of([part(curves, side) for side in sides])


def loses_more(one: str, other: str, y: Measure, *, sides: Sequence[Side] = SIDES) -> Callable[[Curves], Verdict]:
    """One arm loses more of a number at its strongest setting than another does at its own."""

    def part(curves: Curves, side: Side) -> Verdict:
        ends = [p.effect for arm in (one, other) for p in _ends(curves, arm, y, side)]
        lost = side_by_side(ends, lambda v: (v[0] - v[1]) - (v[2] - v[3]))
        return decided(estimate(lost), f"{one} less {other}: {y.metric} lost at the strongest, {y.label}", unit=y.unit)

    return lambda curves: absent(curves, one, other) or all_of([part(curves, side) for side in sides])


def opposed(one: Callable[[E], Verdict], other: Callable[[E], Verdict]) -> Callable[[E], Verdict]:
    """Of two tests one is decided for and the other against; the number is that of the one which is less clear."""

    def test(evidence: E) -> Verdict:
        both = [one(evidence), other(evidence)]
        says = [v.says for v in both]
        shown = min(both, key=lambda v: abs(v.value) if v.whole else -1.0)
        if OPEN in says:
            return next(v for v in both if v.says == OPEN)
        return replace(shown, says=FAILS if says[0] == says[1] else HOLDS, why=f"{both[0].why}; {both[1].why}")

    return test


def raises(arm: str, y: Measure, *, sides: Sequence[Side] = SIDES) -> Callable[[Curves], Verdict]:
    """An arm has the effect at its strongest setting, whatever that costs."""

    def part(curves: Curves, side: Side) -> Verdict:
        zero, far = _ends(curves, arm, y, side)
        gained = side_by_side([zero.effect, far.effect], lambda v: wanted(y, side) * (v[1] - v[0]))
        return decided(estimate(gained), f"{arm} at {far.strength:+g} over no steering, {way(y, side)}", unit=y.unit)

    return lambda curves: absent(curves, arm) or all_of([part(curves, side) for side in sides])


def _ends(curves: Curves, arm: str, y: Measure, side: Side) -> tuple[Point, Point]:
    """An arm unsteered and at its strongest, with one number, of its first seed."""
    points = curves.points(arm, curves.seeds(arm)[0], y, y, side)
    return next(p for p in points if p.strength == 0), max(points, key=lambda p: abs(p.strength))


def between(
    middle: Sequence[str], low: str, high: str, x: Measure, y: Measure, *, sides: Sequence[Side] = SIDES
) -> Callable[[Curves], Verdict]:
    """Each of some arms reaches more than `low` and less than `high`."""

    def test(curves: Curves) -> Verdict:
        if (lacking := absent(curves, *middle, low, high)) is not None:
            return lacking
        parts = []
        for arm in middle:
            parts += [beats(arm, low, x, y, sides=sides)(curves), beats(high, arm, x, y, sides=sides)(curves)]
        return all_of(parts)

    return test


def together(*tests: Callable[[E], Verdict]) -> Callable[[E], Verdict]:
    """A claim of several parts."""
    return lambda evidence: all_of([test(evidence) for test in tests])


def way(y: Measure, side: Side) -> str:
    """Which number, on which side of the dial."""
    return f"{y.metric} at alpha {'above' if side > 0 else 'below'} 0"


def _gained(curves: Curves, arm: str, x: Measure, y: Measure, side: Side) -> Verdict:
    reach = curves.numbers(arm, x, y, side)
    return decided(reach.gain, f"{arm} over no steering, {way(y, side)}", unit=y.unit)
