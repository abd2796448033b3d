"""The strength at which a method reaches a target, found in few evaluations.

One side of the dial at a time, in x = ln c and f = ln(stat / target). `searching` asks for strengths and is sent what
they gave, so that several searches can be answered by one batch. The smallest crossing is kept: curves need not be
monotone. A rollout changes in steps, so a curve may also jump over its target; that is told and never called found.

| status     | means                                                              |
|------------|--------------------------------------------------------------------|
| ok         | within the tolerance                                               |
| inert      | no effect at all at the first strength tried                       |
| no_bracket | the target lies beyond the largest or below the smallest strength  |
| jump       | two strengths within 2 % lie on both sides, and the curve between them is a step |
| max_iter   | out of evaluations                                                 |
| nan        | the statistic is not a number                                      |
"""

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass

LARGEST, SMALLEST = 1e4, 1e-3
NARROW = 0.02
STEP = 50.0  # of ln stat over ln c: the measured slopes are 2 to 20, so a narrow bracket that is steeper holds a step
INSIDE = 0.05
FAR = 0.1  # of the target: below, the statistic still grows as c squared, and a guess may reach further than twice
FLAT = 0.5  # a slope below says that the curve bends over and needs a long way, if it gets there
USUAL, STEEPEST = 5.0, 12.0  # slopes near the target
SATURATED = 4.0
NEAR = 0.2  # of ln stat: so near the target a guess needs no bracket
SPREAD = 1.4  # between neighbours of the strengths that are tried around a guess
CLOSE, APART = 0.1, 1.0  # of ln c between two points: nearer, their slope is chance; farther, it is not the slope there


@dataclass(frozen=True)
class Ending:
    """The end of a search: the evaluated strength closest to the target, and all that were evaluated."""

    status: str
    c: float
    stat: float
    trials: tuple[tuple[float, float], ...]
    """(strength, statistic) in the order of evaluation."""


Search = Generator[float, float, Ending]


def searching(
    target: float,
    *,
    tolerance: float = 0.05,
    bound: float | None = None,
    graded: bool = True,
    probe: float = 1.0,
    slope: float = 2.0,
    max_evals: int = 12,
) -> Search:
    """A search as a generator: it yields strengths c > 0, is sent the statistic at each, and returns its `Ending`.

    `probe` is the first strength, `slope` that of ln stat over ln c around it, where something is known of them.
    """
    if not target > 0 or not tolerance > 0 or max_evals < 1:
        raise ValueError(f"target, tolerance and evaluations must be positive, got {target}, {tolerance}, {max_evals}")
    largest = LARGEST if bound is None else bound
    trials: list[tuple[float, float]] = []
    c = min(probe, largest) if graded else largest
    stale, inside = 0, False  # how often running one end of the bracket was kept: + the upper one, - the lower one
    while True:
        stat = yield c
        trials.append((c, stat))
        status = _status(trials, target, tolerance, largest, graded, max_evals)
        if status:
            return _ended(status, trials, target)
        lo, hi = bracket(trials, target)
        if lo is None or hi is None:
            c, stale, inside = _outward(trials, target, largest, slope), 0, False
        else:
            if inside:
                end = 1 if c == lo[0] else -1
                stale = stale + end if stale * end > 0 else end
            c, inside = illinois(lo, hi, target, stale), True


def solve(
    evaluate: Callable[[Sequence[float]], Sequence[float]], searches: Mapping[float, Search]
) -> dict[float, Ending]:
    """Run a search per sign, answering all of them with one evaluation of several strengths."""
    strengths = {sign: next(search) for sign, search in searches.items()}
    ends: dict[float, Ending] = {}
    while strengths:
        stats = evaluate([sign * c for sign, c in strengths.items()])
        for sign, stat in zip(list(strengths), stats):
            try:
                strengths[sign] = searches[sign].send(stat)
            except StopIteration as end:
                ends[sign] = end.value
                del strengths[sign]
    return ends


def bracket(
    trials: Sequence[tuple[float, float]], target: float
) -> tuple[tuple[float, float] | None, tuple[float, float] | None]:
    """The smallest strength above the target, and the largest strength below that one."""
    hi = min((t for t in trials if t[1] > target), default=None)
    lo = max((t for t in trials if t[1] <= target and (hi is None or t[0] < hi[0])), default=None)
    return lo, hi


def illinois(lo: tuple[float, float], hi: tuple[float, float], target: float, stale: int) -> float:
    """The next strength inside a bracket: regula falsi, with half the weight of an end that was kept twice or more."""
    f_lo, f_hi = _f(lo[1], target), _f(hi[1], target)
    if abs(stale) >= 2:
        shrink = 0.5 ** (abs(stale) - 1)
        f_lo, f_hi = (f_lo, f_hi * shrink) if stale > 0 else (f_lo * shrink, f_hi)
    x_lo, x_hi = math.log(lo[0]), math.log(hi[0])
    x = (x_lo * f_hi - x_hi * f_lo) / (f_hi - f_lo)
    edge = INSIDE * (x_hi - x_lo)
    if not x_lo + edge <= x <= x_hi - edge:
        x = (x_lo + x_hi) / 2
    return math.exp(x)


def around(guess: float, bound: float | None) -> list[float]:
    """A guess and a neighbour to each side, none beyond the bound."""
    largest = LARGEST if bound is None else bound
    return sorted({min(max(guess * factor, SMALLEST), largest) for factor in (1 / SPREAD, 1.0, SPREAD)})


def _outward(trials: Sequence[tuple[float, float]], target: float, largest: float, slope: float) -> float:
    """A strength beyond all tried ones: far from the target as the slope says (2: the square root), near it at most twice as far."""
    ordered = sorted(trials)
    upward = all(stat <= target for _, stat in trials)
    c, stat = ordered[-1] if upward else ordered[0]
    if len(trials) == 1 or not FAR < stat / target < 1 / FAR:
        factor = min(max((target / stat) ** (1 / slope), 1 / 8), 8.0) if stat > 0 else 8.0
    else:  # the slope near the target is steeper than 2: as far as the last two say
        low, high = ordered[-2:] if upward else ordered[:2]
        close = math.log(high[0] / low[0]) < CLOSE
        flat = not close and low[1] > 0 and _f(high[1], low[1]) < FLAT * math.log(high[0] / low[0])
        far = 8.0 if flat else 2.0
        seen = max(_slope(low, high), slope / 2) if close else FLAT if flat else _slope(low, high)
        factor = min(max(math.exp(-_f(stat, target) / seen), 1 / far), far)
    if abs(math.log(factor)) < NARROW / 2:  # on the wrong side by a hair: over the edge, not onto it
        factor = math.exp(math.copysign(NARROW / 2, math.log(target / stat)))
    return min(max(c * factor, SMALLEST), largest)


def _slope(low: tuple[float, float], high: tuple[float, float]) -> float:
    """The slope of ln stat over ln c between two strengths, clamped to what such curves do."""
    rise = _f(high[1], 1.0) - _f(low[1], 1.0)
    return min(max(rise / math.log(high[0] / low[0]), 1.0), STEEPEST)


def first_guess(ladder: Sequence[tuple[float, float]], target: float) -> tuple[float, float]:
    """(strength, slope) at the smallest crossing of a few rough points, or beyond their end by the square root."""
    ladder = sorted(t for t in ladder if not math.isnan(t[1]))
    if not ladder:
        return 1.0, 2.0
    lo, hi = bracket(ladder, target)
    near = min((t for t in (lo, hi) if t), key=lambda t: abs(_f(t[1], target)))
    if abs(_f(near[1], target)) < NEAR:  # as good as there
        known = lo is not None and hi is not None and CLOSE <= math.log(hi[0] / lo[0]) <= APART
        slope = _slope(lo, hi) if lo and hi and known else USUAL
        return near[0] * math.exp(-_f(near[1], target) / slope), slope
    if lo is not None and hi is not None:
        slope = _slope(lo, hi)
        if hi[1] > SATURATED * target:  # the upper end is far up where the curve is flat again: it was steeper before
            slope = max(slope, USUAL)
        return min(lo[0] * math.exp(-_f(lo[1], target) / slope), hi[0]), slope
    c, stat = hi or lo or (1.0, target)
    return c * min(max(math.sqrt(target / stat), 1 / 8), 8.0) if stat > 0 else 8 * c, 2.0


def _status(
    trials: Sequence[tuple[float, float]], target: float, tolerance: float, largest: float, graded: bool, max_evals: int
) -> str | None:
    """The status with which the search ends here, or None where it goes on."""
    stat = trials[-1][1]
    if math.isnan(stat):
        return "nan"
    if abs(stat / target - 1) <= tolerance:
        return "ok"
    if stat == 0 and len(trials) == 1:
        return "inert"
    lo, hi = bracket(trials, target)
    if lo is not None and hi is None and lo[0] >= largest:
        return "no_bracket"
    if not graded:
        return "jump"
    if hi is not None and lo is None and hi[0] <= SMALLEST:
        return "no_bracket"
    if lo is not None and hi is not None and hi[0] / lo[0] - 1 < NARROW:
        rise = _f(hi[1], target) - _f(lo[1], target)
        if rise > STEP * math.log(hi[0] / lo[0]):
            return "jump"
    return "max_iter" if len(trials) >= max_evals else None


def _ended(status: str, trials: Sequence[tuple[float, float]], target: float) -> Ending:
    c, stat = min(reversed(trials), key=lambda t: abs(_f(t[1], target)))  # the last of equals is nearest the crossing
    return Ending(status, c, stat, tuple(trials))


def _f(stat: float, target: float) -> float:
    if math.isnan(stat):
        return math.inf
    return math.log(min(max(stat / target, 1e-12), 1e12))
