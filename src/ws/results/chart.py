"""Pictures inside a page: SVG whose colors are the page's, so that they are right in the dark and on paper.

    x, y = Axis("alpha", -1, 1, ticks=((-1, "-1"), (0, "0"), (1, "+1"))), Axis("nats", -1, 2.5)
    plot("title", "what it shows, for who cannot see it", x, y, [crossing(y=0), band(...), line(points), dots(points)])

A mark is drawn by two scales, and later ones lie on top. Nothing here knows what the numbers are.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ws.results.page import Html, joined, tag

Scale = Callable[[float], float]
"""A number to its place in the picture."""
Point = tuple[float, float]
WIDTH, HEIGHT = 400, 260
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 12, 46
"""Room for the numbers and the names of both axes."""
COLORS = 8
"""The page has so many, `--c0` to `--c7`."""


@dataclass(frozen=True)
class Axis:
    """One side of a picture."""

    label: str
    low: float
    high: float
    log: bool = False
    ticks: tuple[tuple[float, str], ...] = ()
    """Where numbers stand, and as what; round numbers when not given."""

    def scale(self, begin: float, end: float) -> Scale:
        """From numbers to places between two ends."""
        f: Scale = math.log if self.log else float
        low, span = f(self.low), f(self.high) - f(self.low) or 1.0
        return lambda value: begin + (f(value) - low) / span * (end - begin)

    @property
    def marked(self) -> tuple[tuple[float, str], ...]:
        """The numbers beside the axis."""
        return self.ticks or tuple((x, f"{x:g}") for x in (_decades if self.log else _round)(self.low, self.high))


@dataclass(frozen=True)
class Frame:
    """What a mark is drawn by: both scales, and where the picture's field ends."""

    x: Scale
    y: Scale
    width: float
    height: float

    @property
    def right(self) -> float:
        return self.width - RIGHT

    @property
    def floor(self) -> float:
        return self.height - BOTTOM

    def path(self, points: Sequence[Point]) -> str:
        """Points joined in their order, as the `d` of a path."""
        return "M" + "L".join(f"{_at(self.x(a))} {_at(self.y(b))}" for a, b in points)


Mark = Callable[[Frame], Html]


def around(label: str, values: Sequence[float], *, zero: bool = False, log: bool = False) -> Axis:
    """An axis with room for these numbers, and for 0 where it is asked for; a logarithmic one takes those above 0."""
    known = [v for v in values if math.isfinite(v) and (v > 0 or not log)] + ([0.0] if zero else [])
    low, high = (min(known), max(known)) if known else (1.0, 10.0) if log else (0.0, 1.0)
    if log:
        room = max(high / low, 1.5) ** 0.08
        return Axis(label, low / room, high * room, log=True)
    room = (high - low or abs(high) or 1.0) * 0.08
    return Axis(label, low - room, high + room)


def plot(
    title: str,
    description: str,
    x: Axis,
    y: Axis,
    marks: Sequence[Mark],
    *,
    width: int = WIDTH,
    height: int = HEIGHT,
) -> Html:
    """A picture with two axes; the description is what it says to who cannot see it."""
    sx, sy = x.scale(LEFT, width - RIGHT), y.scale(height - BOTTOM, TOP)
    frame = Frame(sx, sy, width, height)
    floor, right = frame.floor, frame.right
    lines = [tag("line", x1=LEFT, x2=right, y1=_at(sy(v)), y2=_at(sy(v)), class_="rule") for v, _ in y.marked]
    beside = [
        *(text(LEFT - 8, sy(v) + 4, word, anchor="end", small=True) for v, word in y.marked),
        *(text(sx(v), floor + 17, word, anchor="middle", small=True) for v, word in x.marked),
        text((LEFT + right) / 2, height - 8, x.label, anchor="middle"),
        tag("line", x1=LEFT, x2=right, y1=floor, y2=floor, class_="axis"),
    ]
    named = text(0, 0, y.label, anchor="middle", transform=f"translate(12 {_at((TOP + floor) / 2)}) rotate(-90)")
    drawn = [mark(frame) for mark in marks]
    return picture(title, description, width, height, *lines, *drawn, *beside, named)


def picture(title: str, description: str, width: float, height: float, *inside: object) -> Html:
    """An SVG that says what it is."""
    about = joined(tag("title", title), tag("desc", description))
    return tag(
        "svg", about, *inside, viewBox=f"0 0 {width:g} {height:g}", role="img", aria_label=f"{title}: {description}"
    )


# ---------------------------------------------------------------- marks


def line(points: Sequence[Point], color: int = 0, *, dashed: bool = False, faint: bool = False) -> Mark:
    """Points joined in their order."""

    def draw(f: Frame) -> Html:
        stroke = "var(--band)" if faint else _color(color)
        return tag(
            "path",
            d=f.path(points),
            fill="none",
            stroke=stroke,
            stroke_width=1 if faint else 2,
            stroke_dasharray="5 4" if dashed else None,
        )

    return draw if len(points) > 1 else lambda f: Html()


def dots(
    points: Sequence[Point],
    names: Sequence[str],
    color: int = 0,
    *,
    hollow: bool = False,
    faint: bool = False,
    size: float = 4,
) -> Mark:
    """A dot for each point; `names` say what each is where the pointer rests on it."""
    ink = "var(--faint)" if faint else _color(color)

    def draw(f: Frame) -> Html:
        fill = "var(--paper)" if hollow else ink
        each = [
            tag(
                "g",
                tag("title", name),
                tag("circle", cx=_at(f.x(a)), cy=_at(f.y(b)), r=size, fill=fill, stroke=ink, stroke_width=1.5),
            )
            for (a, b), name in zip(points, names)
        ]
        return joined(*each)

    return draw


def whiskers(ends: Sequence[tuple[float, float, float]], color: int = 0) -> Mark:
    """(x, low, high) as lines with a cap at both ends."""

    def draw(f: Frame) -> Html:
        d = "".join(
            f"M{_at(f.x(a))} {_at(f.y(low))}V{_at(f.y(high))}M{_at(f.x(a) - 4)} {_at(f.y(low))}h8M{_at(f.x(a) - 4)} {_at(f.y(high))}h8"
            for a, low, high in ends
        )
        return tag("path", d=d, fill="none", stroke=_color(color), stroke_width=1.5)

    return draw if ends else lambda f: Html()


def band(ends: Sequence[tuple[float, float, float]], kind: str = "band") -> Mark:
    """(x, low, high) as an area."""

    def draw(f: Frame) -> Html:
        there, back = [(a, high) for a, _, high in ends], [(a, low) for a, low, _ in reversed(ends)]
        return tag("path", d=f.path([*there, *back]) + "Z", class_=kind)

    return draw


def crossing(*, x: float | None = None, y: float | None = None) -> Mark:
    """A thin line through the whole picture, at one x or one y."""

    def draw(f: Frame) -> Html:
        if y is not None:
            return tag("line", x1=LEFT, x2=f.right, y1=_at(f.y(y)), y2=_at(f.y(y)), class_="zero")
        return tag("line", x1=_at(f.x(x or 0)), x2=_at(f.x(x or 0)), y1=TOP, y2=f.floor, class_="zero")

    return draw


def labels(points: Sequence[tuple[float, float, str]]) -> Mark:
    """(x, y, name) beside dots; a name that would cover another moves down."""

    def draw(f: Frame) -> Html:
        taken: list[Point] = []
        each = []
        for a, b, name in sorted(points, key=lambda p: -p[1]):
            at, down = f.x(a) + 8, f.y(b) + 4
            while any(abs(down - d) < 13 and abs(at - c) < 7 * max(len(name), 8) for c, d in taken):
                down += 13
            taken.append((at, down))
            each.append(text(at, down, name))
        return joined(*each)

    return draw


def text(
    x: float, y: float, word: str, *, anchor: str = "start", small: bool = False, transform: str | None = None
) -> Html:
    """A word in a picture."""
    place = {} if transform else {"x": _at(x), "y": _at(y)}
    return tag("text", word, **place, text_anchor=anchor, class_="small" if small else None, transform=transform)


def strip(
    name: str,
    span: tuple[float, float],
    *,
    value: float | None,
    ends: tuple[float, float] | None = None,
    around: tuple[float, float] | None = None,
    each: Sequence[float] = (),
    color: int | None = 0,
    hollow: bool = False,
) -> Html:
    """A number on one line for the cell of a table: its interval, single seeds as small dots, and the range of chance behind it.

    A color of None is grey.
    """
    scale = Axis("", *span).scale(8, 232)

    def x(value: float) -> str:
        return _at(min(max(scale(value), 4.0), 236.0))

    parts: list[object] = [tag("line", x1=x(0), x2=x(0), y1=1, y2=19, class_="zero")]
    if around:
        width = _at(max(float(x(around[1])) - float(x(around[0])), 2))
        parts.append(tag("rect", x=x(around[0]), y=4, width=width, height=12, class_="band"))
    if ends:
        parts.append(tag("line", x1=x(ends[0]), x2=x(ends[1]), y1=10, y2=10, stroke=_color(color), stroke_width=2))
    parts += [tag("circle", cx=x(v), cy=10, r=2.5, fill="var(--paper)", stroke=_color(color)) for v in each]
    if value is not None and math.isfinite(value):
        fill = "var(--paper)" if hollow else _color(color)
        parts.append(tag("circle", cx=x(value), cy=10, r=4.5, fill=fill, stroke=_color(color), stroke_width=1.5))
    return tag("svg", tag("title", name), *parts, viewBox="0 0 240 20", role="img", aria_label=name, class_="strip")


def legend(entries: Sequence[tuple[Html, str]]) -> Html:
    """Small pictures with their words."""
    return tag("p", [tag("span", key, " ", word) for key, word in entries], class_="legend")


def key(color: int = 0, *, shape: str = "dot", hollow: bool = False, faint: bool = False) -> Html:
    """The small picture of a legend: a dot, or an area."""
    ink = "var(--faint)" if faint else _color(color)
    if shape == "area":
        inside = tag("rect", x=0, y=2, width=18, height=10, class_="band")
    else:
        inside = tag("circle", cx=9, cy=7, r=4.5, fill="var(--paper)" if hollow else ink, stroke=ink, stroke_width=1.5)
    return tag("svg", inside, viewBox="0 0 18 14", class_="key", aria_hidden="true")


# ---------------------------------------------------------------- numbers


def _at(place: float) -> str:
    """A place in the picture, as short as it can be seen."""
    return f"{place:.1f}".removesuffix(".0")


def _color(color: int | None) -> str:
    return "var(--faint)" if color is None else f"var(--c{color % COLORS})"


def _round(low: float, high: float) -> list[float]:
    """A few round numbers between two."""
    step = 10.0 ** math.floor(math.log10((high - low) / 4 or 1.0))
    step *= next(k for k in (1, 2, 5, 10) if (high - low) / (k * step) <= 5)
    return [round(k * step, 12) + 0.0 for k in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _decades(low: float, high: float) -> list[float]:
    """Powers of ten between two numbers, with others between where there are few; plain round numbers where it is narrow."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1,), (1, 3), (1, 2, 5)):
        marks = [k * 10.0**p for p in powers for k in steps if low <= k * 10.0**p <= high]
        if len(marks) >= 3:
            return marks[:: -(-len(marks) // 6)]
    return _round(low, high)
