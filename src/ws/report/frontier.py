"""Effect against what it costs: each method or study as a point, so that much for little stands out."""

from collections.abc import Sequence
from dataclasses import dataclass

from ws.numbers import signed
from ws.results import chart
from ws.results.page import Html, figure, joined

NAMED = 14
"""Most points that are named in the picture; where there are more, names stand where the pointer rests."""


def against_cost(metric: str, claimed: bool) -> str:
    """What the two ways of a picture of effect and cost mean."""
    up = "what the behavior wants" if claimed else "this metric, about which the behavior claims nothing"
    return f"{metric}: upwards is more of {up}; to the right is more damage."


@dataclass(frozen=True)
class Dot:
    """One method or study in a picture."""

    name: str
    x: float
    y: float
    low: float | None = None
    high: float | None = None
    """The interval of y."""
    color: int = 0
    random: bool = False
    """Whether nothing is expected of it."""
    hollow: bool = False
    """Whether it is not of the same strength as the others."""


def frontier(
    title: str, x: str, y: str, dots: Sequence[Dot], caption: str, *, log: bool = False, named: bool = True
) -> Html:
    """Dots with their intervals, names beside them where there is room."""
    points = [d for d in dots if d.x > 0 or not log]
    values = [v for d in points for v in (d.y, d.low, d.high) if v is not None]
    across = chart.around(x, [d.x for d in points], zero=not log, log=log)
    up = chart.around(y, values, zero=True)
    says = [f"{d.name}: {signed(d.y)} at {d.x:.4g}" for d in points]
    marks = [chart.crossing(y=0), *([] if log else [chart.crossing(x=0)])]
    marks += [
        chart.whiskers([(d.x, d.low, d.high)], d.color)
        for d in points
        if d.low is not None and d.high is not None and not d.random
    ]
    marks += [
        chart.dots([(d.x, d.y)], [text], d.color, faint=d.random, hollow=d.hollow, size=3 if d.random else 5)
        for d, text in sorted(zip(points, says), key=lambda p: not p[0].random)
    ]
    names = [(d.x, d.y, d.name) for d in points if not d.random]
    marks += [chart.labels(names)] if named and len(names) <= NAMED else []
    picture = chart.plot(title, "; ".join(says), across, up, marks, width=640, height=360)
    return figure(picture, joined(caption), wide=True)
