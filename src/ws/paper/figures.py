"""Figures in the paper's arrangement as files: capability across, effect upwards, a curve for each arm."""

import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ws.numbers import finite
from ws.paper.panels import Line, Panel
from ws.results.plots import COLORS, GREY, MARKERS, grid_of, saved
from ws.stats.frontier import DELTA

INK = "0.25"
LETTER = 0.1
"""Inches that a letter of a title takes."""


def drawn(panels: Sequence[Panel], columns: int, title: str, path: Path) -> list[Path]:
    """The panels row by row, each row on one scale; larger marks are stronger."""
    names = list(dict.fromkeys(line.name for p in panels for line in p.lines))
    rows = -(-len(panels) // columns)
    figure, axes = grid_of(rows, columns, width=5.0, height=3.9)
    for axis, panel in zip(axes.flat, panels):
        _panel(axis, panel, names)
    for row in axes:
        _same_range(row)
    handles = [*_handles(panels, names), *_marks(panels)]
    ncols = min(3 if columns == 1 else 5, len(handles) or 1)  # as many as the figure is wide
    figure.legend(
        handles=handles, loc="outside lower center", ncols=ncols, fontsize=8.5, frameon=False,
        handletextpad=0.5, columnspacing=1.6,
    )  # fmt: skip
    titled(figure, title)
    return saved(figure, path)


def titled(figure: Any, title: str) -> None:
    """A title of as many lines as the figure is narrow."""
    lines = textwrap.fill(title, int(figure.get_figwidth() / LETTER))
    figure.suptitle(lines, fontsize=11, x=0.02, ha="left", fontweight="bold")


def _panel(axis: Any, panel: Panel, names: Sequence[str]) -> None:
    axis.grid(color="0.92", linewidth=0.8, zorder=-1)
    axis.set_axisbelow(True)
    axis.tick_params(labelsize=8, color="0.7")
    axis.spines[["left", "bottom"]].set_color("0.7")
    for line in panel.lines:
        _curve(axis, line, *_look(line, names.index(line.name)))
    _limits(axis, panel)
    if panel.limit is not None:
        axis.axvspan(-1e3, panel.limit, color="0.955", zorder=-2)
        axis.axvline(panel.limit, color="0.7", linewidth=0.9, linestyle=(0, (4, 3)), zorder=0)
    if panel.start is not None:
        axis.plot(*panel.start, marker="*", markersize=15, color=INK, markeredgecolor="white", zorder=9)
    axis.set_title(panel.title, fontsize=9.5, loc="left", color=INK)
    axis.set_xlabel(panel.x, fontsize=9)
    axis.set_ylabel(panel.y, fontsize=9)


def _curve(axis: Any, line: Line, color: str, marker: str, style: Any, width: float) -> None:
    x, y = [d.x for d in line.dots], [d.y for d in line.dots]
    axis.plot(x, y, color=color, linestyle=style, linewidth=width, zorder=4, solid_capstyle="round", alpha=0.9)
    for k, d in enumerate(line.dots[1:], 1):
        if finite(d.y_ends[0]):
            axis.plot([d.x, d.x], d.y_ends, color=color, linewidth=1, alpha=0.35, zorder=3)
        if finite(d.x_ends[0]):
            axis.plot(d.x_ends, [d.y, d.y], color=color, linewidth=1, alpha=0.2, zorder=3)
        size = 3.5 + 4 * k / max(1, len(line.dots) - 1)
        axis.plot(
            d.x,
            d.y,
            marker=marker,
            markersize=size,
            color=color,
            markeredgecolor="white",
            markeredgewidth=0.6,
            zorder=5,
        )


def _look(line: Line, number: int) -> tuple[str, str, Any, float]:
    """Color, marker, style and width of a line; random ones are grey."""
    if line.random:
        return GREY, "o", (0, (1, 1.6)), 1.2
    return COLORS[number % len(COLORS)], MARKERS[number % len(MARKERS)], "-" if number < len(COLORS) else "--", 1.8


def _handles(panels: Sequence[Panel], names: Sequence[str]) -> list[Any]:
    from matplotlib.lines import Line2D

    lines = {line.name: line for p in panels for line in p.lines}
    looks = [(name, _look(lines[name], k)) for k, name in enumerate(names)]
    return [
        Line2D([], [], color=c, marker=m, linestyle=s, linewidth=w, markersize=6, markeredgecolor="white", label=name)
        for name, (c, m, s, w) in looks
    ]


def _marks(panels: Sequence[Panel]) -> list[Any]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    marks: list[Any] = []
    if any(p.start is not None for p in panels):
        marks.append(Line2D([], [], color=INK, marker="*", linestyle="", markersize=11, label="not steered"))
    if any(p.limit is not None for p in panels):
        marks.append(Patch(facecolor="0.93", label=f"more than {100 * DELTA:.0f} points lost"))
    return marks


def _limits(axis: Any, panel: Panel) -> None:
    """Room for every number; an interval that is much longer is cut."""
    dots = [d for line in panel.lines for d in line.dots]
    for values, limit in (([d.x for d in dots], axis.set_xlim), ([d.y for d in dots], axis.set_ylim)):
        known = [v for v in values if finite(v)]
        low, high = (min(known), max(known)) if known else (0.0, 1.0)
        room = 0.09 * ((high - low) or 1.0)
        limit(low - room, high + room)


def _same_range(row: Iterable[Any]) -> None:
    row = list(row)
    for get, put in (("get_ylim", "set_ylim"), ("get_xlim", "set_xlim")):
        ends = [getattr(axis, get)() for axis in row if axis.has_data()]
        for axis in row if ends else ():
            getattr(axis, put)(min(e[0] for e in ends), max(e[1] for e in ends))
