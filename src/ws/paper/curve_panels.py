"""Curves as panels: a panel per effect and side of the dial, a line per arm."""

from collections.abc import Sequence

from ws.numbers import alpha_of, finite, nats
from ws.paper.curves import Curves, Side, Spot, wanted
from ws.paper.panels import Dot, Line, Panel
from ws.paper.recipe import Measure
from ws.stats import estimate


def panels_of(
    curves: Curves, arms: Sequence[str], x: Measure, ys: Sequence[Measure], sides: Sequence[Side]
) -> tuple[Panel, ...]:
    """A panel per effect and side of the dial, of the first seed: capability across, effect upwards."""
    return tuple(_panel(curves, arms, x, y, side) for y in ys for side in sides)


def _panel(curves: Curves, arms: Sequence[str], x: Measure, y: Measure, side: Side) -> Panel:
    spots = {arm: curves.of(arm, curves.seeds(arm)[0], side) for arm in arms}
    zero = next((s for own in spots.values() for s in own if s.strength == 0 and _has_place(s, x, y)), None)
    lines = tuple(
        Line(arm, tuple(_dot(s, x, y) for s in sorted(own, key=lambda s: abs(s.strength))), arm.startswith("random"))
        for arm, all_of_it in spots.items()
        if zero is not None and len(own := [s for s in all_of_it if _has_place(s, x, y)]) > 1
    )
    start = None if zero is None else (_number(zero, x), _number(zero, y))
    limit = start[0] - _scale(x) * x.delta if start is not None and x.unit in ("share", "points") else None
    toward = y.label if wanted(y, side) > 0 else f"less: {y.label}"
    return Panel(f"alpha {'above' if side > 0 else 'below'} 0: {toward}", _axis(x), _axis(y), lines, start, limit)


def _has_place(spot: Spot, x: Measure, y: Measure) -> bool:
    """Whether both numbers are known: what is asked of solved questions has none where none is solved."""
    return finite(_number(spot, x)) and finite(_number(spot, y))


def _dot(spot: Spot, x: Measure, y: Measure) -> Dot:
    note = f"{spot.method} at {alpha_of(spot.alpha)}, KL {nats(spot.kl)}"
    return Dot(_number(spot, x), _number(spot, y), _ends(spot, x), _ends(spot, y), note)


def _scale(measure: Measure) -> float:
    return 100.0 if measure.unit == "share" else 1.0


def _axis(measure: Measure) -> str:
    return f"{measure.label} ({'%' if measure.unit == 'share' else measure.unit})"


def _number(spot: Spot, measure: Measure) -> float:
    return _scale(measure) * spot.samples[measure.name].by_unit.value


def _ends(spot: Spot, measure: Measure) -> tuple[float, float]:
    e = estimate(spot.samples[measure.name])
    return _scale(measure) * e.ci_lo, _scale(measure) * e.ci_hi
