"""Pictures of angles: curves against the steps of a training, and fine-tunes on a line beside their nulls."""

import textwrap
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

from ws.results.plots import COLORS, grid_of, saved
from ws.watch.matrix import Angle

LETTERS = 15
"""Of a heading, per inch of its figure."""


def curves(trainings: Sequence[tuple[str, Sequence[int], Sequence[Angle]]], title: str, path: Path) -> list[Path]:
    """cos and alphas against the step: a panel per direction above, a panel below; (name, steps, angles) is a curve."""
    directions = list(dict.fromkeys(a.direction for _, _, angles in trainings for a in angles))
    figure, axes = grid_of(2, len(directions), width=5.4, height=2.5)
    for column, direction in enumerate(directions):
        top, below = axes[0, column], axes[1, column]
        for (name, steps, angles), color in zip(trainings, cycle(COLORS)):
            own = [(s, a) for s, a in zip(steps, angles) if a.direction == direction]
            _nulls(top, [(s, a) for s, a in own], color)
            x = [s for s, _ in own]
            top.plot(x, [a.cos for _, a in own], color=color, marker="o", markersize=3.5, label=f"{name}: cos")
            below.plot(x, [a.alphas for _, a in own], color=color, marker="o", markersize=3.5)
        for axis in (top, below):
            axis.axhline(0, color="0.6", linewidth=1, zorder=0)
        top.set_title(direction, fontsize=9)
        top.set_ylabel("cos(tau, w)", fontsize=8)
        below.set(xlabel="step")
        below.xaxis.get_major_locator().set_params(integer=True)
        below.set_ylabel("alphas of w moved", fontsize=8)
        top.legend(fontsize=7, frameon=False)
    about = "bands: permuted labels, mean ± 3 sd; dashed: control behavior; dotted: ceiling"
    _headed(figure, title, about)
    return saved(figure, path)


def _headed(figure: Any, *lines: str) -> None:
    """Write lines above the panels, broken where the figure ends."""
    letters = int(LETTERS * figure.get_figwidth())
    figure.suptitle("\n".join(textwrap.fill(line, letters) for line in lines), fontsize=8)


def _nulls(axis: Any, own: Sequence[tuple[int, Angle]], color: str) -> None:
    """The band of the permuted labels, the control and the ceiling behind a curve."""
    import numpy as np

    x = [s for s, a in own if len(a.against.permuted) > 2]
    if x:
        rows = [a.against.permuted for _, a in own if len(a.against.permuted) > 2]
        mean, sd = np.array([np.mean(r) for r in rows]), np.array([np.std(r, ddof=1) for r in rows])
        axis.fill_between(x, mean - 3 * sd, mean + 3 * sd, color=color, alpha=0.15, linewidth=0)
    for style, values in (("--", [a.against.control for _, a in own]), (":", [a.ceiling for _, a in own])):
        there = [(s, v) for (s, _), v in zip(own, values) if v is not None]
        if there:
            axis.plot(*zip(*there), color=color, linestyle=style, linewidth=1)


def lines(angles: Sequence[Angle], title: str, path: Path) -> list[Path]:
    """Every fine-tune a line: its cosine, its permuted labels, control and ceiling; a panel per direction."""
    directions = list(dict.fromkeys(a.direction for a in angles))
    rows = max(sum(a.direction == d for a in angles) for d in directions)
    figure, axes = grid_of(1, len(directions), width=5.6, height=max(1.6, 0.24 * rows + 0.8))
    for axis, direction in zip(axes[0], directions):
        own = [a for a in angles if a.direction == direction]
        for y, a in enumerate(own):
            axis.scatter(a.against.random, [y] * len(a.against.random), color="0.8", marker="|", s=30, zorder=1)
            axis.scatter(a.against.permuted, [y] * len(a.against.permuted), color="0.45", marker="|", s=60, zorder=2)
            for value, marker in ((a.against.control, "x"), (a.ceiling, "|")):
                if value is not None:
                    axis.scatter([value], [y], color="#cc79a7", marker=marker, s=34, zorder=3)
            axis.scatter([a.cos], [y], color=COLORS[1] if a.alarm else COLORS[0], s=26, zorder=4)
        axis.set_yticks(range(len(own)), [a.name for a in own], fontsize=7)
        axis.set_ylim(len(own) - 0.4, -0.6)
        axis.axvline(0, color="0.6", linewidth=1, zorder=0)
        axis.set(xlabel="cos(tau, w)")
        axis.set_title(direction, fontsize=9)
    about = "bars: permuted labels (dark), random (light), ceiling (pink); x: control"
    _headed(figure, title, "dot: the fine-tune, orange where it raises an alarm", about)
    return saved(figure, path)
