"""Pictures of analyses as SVG inside a page: bars, heat maps and curves."""

import math
from collections.abc import Mapping, Sequence

from ws.explain.protocol import Bars, Curves, Heat, Picture
from ws.explain.show import number
from ws.numbers import finite
from ws.results.chart import Axis, Scale, around, crossing, dots, key, legend, line, picture, plot, text
from ws.results.page import Html, joined, tag

ROW, NAMES, FIELD, NUMBERS = 20, 150, 380, 70
"""Heights and widths of a picture of bars; names that are longer get more."""
CELL, NARROW, BARE, HIGH = 64, 40, 4, 22
"""A cell of a heat map; with many columns it is narrow, and with more than numbers have room for it is bare."""
MANY, MOST = 12, 32
NAMED = 16
"""Of bare columns every so many has its name."""
LETTER = 6.5
"""Width of a letter of a small name."""
STRONGEST = 0.5
"""Of the ink of the largest cell, so that its number stays readable."""


def drawn(what: Picture) -> Html:
    """A picture as SVG, with its legend."""
    if isinstance(what, Bars):
        return bars(what)
    return heat(what) if isinstance(what, Heat) else curves(what)


def bars(b: Bars) -> Html:
    """A line per name: its value with the interval, and where chance lies."""
    values = [*b.values, *b.lows, *b.highs, *b.chance, *(b.band or ())]
    axis = around(b.label, [v for v in values if finite(v)], zero=True)
    left = max(NAMES, round(LETTER * max(map(len, b.names), default=0)) + 12)
    x = axis.scale(left, left + FIELD)
    floor = ROW * len(b.names) + 6
    parts: list[object] = []
    if b.band:
        low, high = x(b.band[0]), x(b.band[1])
        parts.append(tag("rect", x=_at(low), y=4, width=_at(max(high - low, 2)), height=floor - 6, class_="band"))
    parts.append(tag("line", x1=_at(x(0)), x2=_at(x(0)), y1=2, y2=floor, class_="zero"))
    for at in range(len(b.names)):
        parts += _bar(b, at, x, left, ROW * at + ROW / 2 + 2)
    for value, word in axis.marked:
        parts.append(text(x(value), floor + 14, word, anchor="middle", small=True))
    parts.append(text(left + FIELD / 2, floor + 32, b.label, anchor="middle"))
    about = f"{len(b.names)} lines" + (f"; the largest is {_largest(b)}" if any(map(finite, b.values)) else "")
    whole = picture(b.title, about, left + FIELD + NUMBERS, floor + 40, *parts)
    entries = [(key(0), "the value, with its 95 % interval" if b.lows else "the value")]
    if b.band:
        entries.append((key(shape="area"), "range of random draws"))
    if b.chance:
        entries.append((key(1, hollow=True), "what chance gives"))
    return joined(whole, legend(entries))


def _bar(b: Bars, at: int, x: Scale, left: float, y: float) -> list[Html]:
    """One line: its name, its mark and its number."""
    value, name = b.values[at], b.names[at]
    parts = [text(left - 8, y + 4, name, anchor="end", small=True)]
    if b.chance and finite(b.chance[at]):
        parts.append(tag("circle", cx=_at(x(b.chance[at])), cy=y, r=3.5, fill="none", stroke="var(--c1)"))
    if not finite(value):
        return [*parts, text(left + 6, y + 4, "no number", small=True)]
    if b.lows and finite(b.lows[at]) and finite(b.highs[at]):
        ends = _at(x(b.lows[at])), _at(x(b.highs[at]))
        parts.append(tag("line", x1=ends[0], x2=ends[1], y1=y, y2=y, stroke="var(--c0)", stroke_width=2))
    label = f"{name}: {number(value)}"
    parts.append(tag("g", tag("title", label), tag("circle", cx=_at(x(value)), cy=y, r=4, fill="var(--c0)")))
    return [*parts, text(left + FIELD + NUMBERS - 4, y + 4, number(value), anchor="end", small=True)]


def _largest(b: Bars) -> str:
    at = max((k for k, v in enumerate(b.values) if finite(v)), key=lambda k: b.values[k])
    return f"{b.names[at]}, {number(b.values[at])}"


def heat(h: Heat) -> Html:
    """A cell per row and column: blue above 0, orange below, the stronger the larger."""
    left = 12 + 7 * max([3, *map(len, h.rows)])
    numbers = len(h.columns) <= MOST
    cell_width, gap = (CELL if len(h.columns) <= MANY else NARROW, 1) if numbers else (BARE, 0)
    known = [v for row in h.values for v in row if finite(v)]
    largest = max(map(abs, known), default=0.0) or 1.0
    top = 30
    parts = [
        text(left + cell_width * (c + 0.5), top - 8, name, anchor="middle", small=True)
        for c, name in enumerate(h.columns)
        if numbers or c % NAMED == 0
    ]
    for r, name in enumerate(h.rows):
        y = top + HIGH * r
        parts.append(text(left - 6, y + HIGH / 2 + 4, name, anchor="end", small=True))
        for c, value in enumerate(h.values[r]):
            x = left + cell_width * c
            if not finite(value):
                continue
            label = f"{name}, {h.columns[c]}: {number(value)}"
            color = "var(--c0)" if value >= 0 else "var(--c1)"
            strength = STRONGEST * abs(value) / largest if numbers else abs(value) / largest
            cell = tag(
                "rect",
                x=x + gap,
                y=y + 1,
                width=cell_width - 2 * gap,
                height=HIGH - 2,
                fill=color,
                fill_opacity=f"{strength:.3f}",
            )
            parts.append(tag("g", tag("title", label), cell))
            if numbers:
                parts.append(text(x + cell_width / 2, y + HIGH / 2 + 4, _short(value), anchor="middle"))
    width, height = left + cell_width * len(h.columns) + 10, top + HIGH * len(h.rows) + 8
    about = f"{len(h.rows)} rows and {len(h.columns)} columns; the largest is {number(max(known, default=math.nan))}"
    return picture(h.title, about, max(width, 380), height, *parts)


def _short(value: float) -> str:
    """A number for a cell; what rounds to nothing is a dot."""
    return f"{value:.2f}" if abs(value) >= 0.005 else "·"


def curves(c: Curves) -> Html:
    """Lines against one number."""
    values = [v for ys in c.lines.values() for v in ys if finite(v)]
    log = len(c.x) > 2 and min(c.x) > 0 and max(c.x) / min(c.x) >= 8
    ticks = tuple((x, f"{x:g}") for x in _some(c.x))
    low, high = min(c.x, default=0.0), max(c.x, default=1.0)
    x = Axis(c.x_label, low, high if high > low else low + 1, log=log, ticks=ticks)
    y = around(c.y_label, values, zero=True)
    marks = [crossing(y=0)]
    for k, (name, ys) in enumerate(c.lines.items()):
        points = [(a, b) for a, b in zip(c.x, ys) if finite(b)]
        marks += [
            line(points, k, dashed=k > 0),
            dots(points, [f"{name}: {number(b)} at {a:g}" for a, b in points], k, hollow=k > 0),
        ]
    about = "; ".join(f"{name} ends at {number(ys[-1])}" for name, ys in c.lines.items() if ys)
    whole = plot(c.title, about, x, y, marks, width=520)
    return joined(whole, legend([(key(k, hollow=k > 0), name) for k, name in enumerate(c.lines)]))


def _some(x: Sequence[float], most: int = 9) -> Sequence[float]:
    step = -(-len(x) // most)
    return [v for at, v in enumerate(x) if at % step == 0]


def _at(place: float) -> str:
    return f"{place:.1f}".removesuffix(".0")


LIGHT: Mapping[str, str] = {
    "--paper": "#fff",
    "--ink": "#1c1e21",
    "--faint": "#5c6370",
    "--rule": "#d9dce1",
    "--band": "#d4d7dc",
    "--c0": "#0072b2",
    "--c1": "#c24e00",
    "--c2": "#00805f",
    "--c3": "#a8528a",
    "--c4": "#946200",
    "--c5": "#2f7fb3",
    "--c6": "#7f4a1f",
    "--c7": "#6a3d9a",
}
ALONE = (
    "svg {{ background: var(--paper); {colors} }} text {{ fill: var(--ink); font: 12px system-ui, sans-serif; }} "
    ".small {{ font-size: 11px; fill: var(--faint); }} .rule, .zero, .axis {{ stroke: var(--rule); fill: none; }} "
    ".axis {{ stroke: var(--faint); }} .band {{ fill: var(--band); }}"
)


def file_of(what: Picture) -> str:
    """A picture as an SVG file of its own, with the colors of the light page."""
    svg = drawn(what).partition("</svg>")[0] + "</svg>"
    style = ALONE.format(colors=" ".join(f"{k}: {v};" for k, v in LIGHT.items()))
    return svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1).replace(
        "<title>", f"<style>{style}</style><title>", 1
    )
