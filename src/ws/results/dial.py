"""The picture of a dial: what steering does to each claim, beside chance, and the same questions answered along it."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ws.numbers import alpha_of, finite, some
from ws.results.layouts.alphas import by_metric
from ws.results.sentences import in_nats
from ws.types import Fields

PANELS, QUESTIONS = 3, 2
"""Most panels in a row, and most questions in the picture."""
INK, BAND, GRID = "#1b4f8a", "0.72", "0.9"
TINTS = ("#fbe3d6", "#f1f1f1", "#dbe9f6")
"""Behind answers: toward the neg pole, the base, toward the pos pole."""
LETTERS, LINES, LEADING = 13.5, 5, 0.165
"""Characters of an answer to an inch, most lines of one, and inches from a line to the next."""
HEAD, THOUGHT, FOOT = 0.56, 0.17, 0.2
"""Inches of a question and the strength below it, of a thought, and below an answer."""


def dial_picture(
    table: Sequence[Fields],
    path: Path,
    *,
    title: str,
    poles: tuple[str, str],
    sides: Mapping[str, int],
    meanings: Mapping[str, str],
    random: Sequence[Fields] = (),
    samples: Sequence[Fields] = (),
) -> None:
    """A panel per metric over alpha, with its 95 % interval and the range of random directions; below, answers along the dial.

    `poles` are (pos, neg) in a few words; `sides` says which of them a larger value of a metric is, 0 where neither.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    groups = by_metric(table)
    columns = min(PANELS, len(groups))
    rows = -(-len(groups) // columns)
    asked = samples[:QUESTIONS]
    width = max(9.0, 3.7 * columns)
    boxes = [_Boxes(sample, width) for sample in asked]
    heights = [3.3 * rows + 0.3, 0.05 + sum(b.height for b in boxes)]
    figure = Figure(figsize=(width, sum(heights) if asked else heights[0]), layout="constrained")
    FigureCanvasAgg(figure)
    parts: Any = figure.subfigures(2, 1, height_ratios=heights) if asked else [figure]
    axes = parts[0].subplots(rows, columns, squeeze=False)
    for spare in axes.flat[len(groups) :]:
        spare.set_visible(False)
    bands = {(r["eval"], r["protocol"], r["metric"]): r for r in random}
    for axis, group in zip(axes.flat, groups):
        first = group[0]
        band = bands.get((first["eval"], first["protocol"], first["metric"]))
        metric = first["metric"]
        _panel(axis, group, band, sides.get(metric, 0), poles, meanings.get(metric) or metric)
    if bands:
        draws = len(next(iter(bands.values()))["each"])
        parts[0].legend(handles=_legend(draws), loc="outside lower center", ncols=2, fontsize=9, frameon=False)
    if asked:
        _answers(parts[1], boxes, width, heights[1])
    figure.suptitle(title, fontsize=12, fontweight="bold")
    figure.savefig(path, dpi=150)


def _panel(
    axis: Any, group: Sequence[Fields], band: Fields | None, side: int, poles: tuple[str, str], meaning: str
) -> None:
    """One metric over alpha."""
    x, y = [r["alpha"] for r in group], [r["mean"] for r in group]
    axis.axhline(0, color=GRID, linewidth=1, zorder=0)
    axis.axvline(0, color=GRID, linewidth=1, zorder=0)
    base = next((r["mean"] for r in group if r["alpha"] == 0), None)
    if band is not None and finite(base):
        ends = sorted([(0.0, [0.0]), *zip(band["alphas"], zip(*band["each"]))])
        low, high = ([base + pick(changes) for _, changes in ends] for pick in (min, max))
        axis.fill_between([a for a, _ in ends], low, high, color=BAND, linewidth=1.5, zorder=1)
    if all(finite(r["ci_lo"]) for r in group):
        below = [max(0.0, r["mean"] - r["ci_lo"]) for r in group]
        above = [max(0.0, r["ci_hi"] - r["mean"]) for r in group]
        axis.errorbar(x, y, yerr=[below, above], fmt="none", ecolor=INK, elinewidth=1.6, capsize=4, zorder=3)
    axis.plot(x, y, marker="o", markersize=5, color=INK, linewidth=1.6, zorder=4)
    axis.margins(x=0.08, y=0.12)
    axis.set_xticks(x, [alpha_of(a) for a in x], fontsize=9)
    axis.tick_params(axis="y", labelsize=9)
    unit = ", in nats" if in_nats(group[0]["metric"]) else ""
    about = f"{some(group[0]['n'], 'unit')}, {group[0]['protocol']}{unit}"
    axis.set_title("\n".join([*textwrap.wrap(meaning, 40), about]), fontsize=9)
    axis.set_xlabel("alpha", fontsize=9)
    axis.spines[["top", "right"]].set_visible(False)
    if side:
        up, down = poles if side > 0 else poles[::-1]
        both = f"← {down}    {up} →"
        axis.set_ylabel(both if len(both) < 46 else f"{_in_lines(up, 38, 2)} →", fontsize=9)


def _legend(draws: int) -> list[Any]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    return [
        Line2D([], [], color=INK, marker="o", markersize=5, label="this direction, 95 % interval"),
        Patch(facecolor=BAND, label=f"range of {some(draws, 'random direction')} of the same norm"),
    ]


@dataclass(frozen=True)
class _Boxes:
    """One question with its answers, a box for each, in inches."""

    sample: Fields
    inches: float
    """The width of all."""

    @property
    def width(self) -> float:
        """Of one box and its margin."""
        return self.inches / len(self.sample["answers"])

    @property
    def letters(self) -> int:
        """In a line of a box."""
        return int(LETTERS * (self.width - 0.3))

    @cached_property
    def texts(self) -> list[str]:
        """The answers in lines."""
        return [_in_lines(a["text"] or "(no answer yet)", self.letters, LINES) for a in self.sample["answers"]]

    @property
    def thinks(self) -> bool:
        return any(a["thought"] for a in self.sample["answers"])

    @property
    def height(self) -> float:
        lines = max(text.count("\n") + 1 for text in self.texts)
        return HEAD + THOUGHT * self.thinks + LEADING * lines + FOOT


def _answers(part: Any, questions: Sequence[_Boxes], inches: float, height: float) -> None:
    """The same questions along the dial: a line of boxes per question."""
    axis = part.add_axes((0, 0, 1, 1))  # in inches, and in no layout but this
    axis.set(xlim=(0, inches), ylim=(height, 0))
    axis.axis("off")
    top = 0.0
    for boxes in questions:
        question = _in_lines(f"“{boxes.sample['question']}”", int(LETTERS * inches * 0.9), 1)
        axis.text(0.08, top + 0.15, question, fontsize=10.5, fontweight="bold", va="center")
        for k, (answer, text) in enumerate(zip(boxes.sample["answers"], boxes.texts)):
            left, alpha = k * boxes.width + 0.06, answer["alpha"]
            tint = TINTS[1] if not alpha else TINTS[2] if alpha > 0 else TINTS[0]
            ends = [left, left + boxes.width - 0.12]
            axis.fill_between(ends, top + 0.28, top + boxes.height - 0.08, color=tint, linewidth=0)
            name = f"alpha {alpha_of(alpha)}" if alpha else "alpha 0, the base"
            thought = _in_lines(f"thinks: {answer['thought']}", boxes.letters, 1) if answer["thought"] else ""
            axis.text(left + 0.08, top + 0.33, name, fontsize=8, color="0.35", va="top")
            axis.text(left + 0.08, top + HEAD - 0.04, thought, fontsize=8.5, style="italic", color="0.3", va="top")
            below = top + HEAD + THOUGHT * boxes.thinks - 0.02
            axis.text(left + 0.08, below, text, fontsize=9.5, va="top", linespacing=1.2)
        top += boxes.height


def _in_lines(text: str, letters: int, lines: int) -> str:
    """A text in at most so many lines of the picture."""
    return "\n".join(textwrap.wrap(" ".join(text.split()), letters, max_lines=lines, placeholder=" …"))
