"""Pictures of tables: files in, files out, no window and no global state."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ws.types import Fields

COLORS = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#e69f00",
    "#56b4e9",
    "#7f4a1f",
    "#6a3d9a",
)
MARKERS = "osD^vPX*"
PER_PANEL = len(COLORS)
GREY = "0.55"
DECADES = 4
"""Of KL that are drawn beside each other; a strength below does nothing that could be compared."""


def forest(lines: Sequence[Fields], title: str, label: str, path: Path) -> list[Path]:
    """A line per method: the axis with its interval, matched ones filled; a band per kind shows where random ones lie.

    A line has name, value, low, high, matched, control and `band`, (low, high) or None.
    """
    figure, axis = _single(width=9.0, height=1.6 + 0.27 * len(lines))
    axis.axvline(0, color="0.6", linewidth=1, zorder=0)
    for at, line in enumerate(reversed(lines)):
        if line["value"] is None:
            axis.text(0, at, "  no number", va="center", fontsize=8, color=GREY)
            continue
        color = GREY if line["control"] else COLORS[0] if line["matched"] else COLORS[1]
        if line["band"]:
            axis.plot(line["band"], [at, at], color="0.87", linewidth=7, solid_capstyle="butt", zorder=0)
        if line["low"] is not None:
            axis.plot([line["low"], line["high"]], [at, at], color=color, linewidth=1.5)
        axis.plot(
            line["value"],
            at,
            marker="o",
            markersize=5,
            color=color,
            markerfacecolor=color if line["matched"] else "white",
        )
    axis.set_yticks(range(len(lines)), [line["name"] for line in reversed(lines)], fontsize=8)
    axis.set_ylim(-0.8, len(lines) - 0.2)
    axis.set_xlabel(label)
    axis.set_title(title, fontsize=10, loc="left")
    marks = [
        ("o", COLORS[0], COLORS[0], "of equal strength"),
        ("o", COLORS[1], "white", "unmatched (see kl, audit)"),
        ("o", GREY, GREY, "random"),
    ]
    handles = [_mark(m, c, face, text) for m, c, face, text in marks]
    handles.append(_patch("0.87", "range of random draws of its kind"))
    figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    return saved(figure, path)


def frontier(curves: Sequence[Fields], title: str, label: str, budget: float | None, path: Path) -> list[Path]:
    """Effect against KL, every method in colour once, a few per panel, the others grey behind it.

    A curve has name, control and points (alpha, kl, value, low, high); the pos arm is filled, the neg arm open.
    """
    from math import ceil

    curves, weak = _strong_enough(curves)
    front = [c for c in curves if not c["control"]]
    panels = [front[i : i + PER_PANEL] for i in range(0, len(front), PER_PANEL)] or [[]]
    columns = min(2, len(panels))
    rows = ceil(len(panels) / columns)
    figure, axes = grid_of(rows, columns, width=6.4, height=4.0)
    for axis, panel in zip(axes.flat, panels):
        axis.axhline(0, color="0.6", linewidth=1, zorder=0)
        if budget:
            axis.axvline(budget, color="0.8", linewidth=1, linestyle=":", zorder=0)
        for c in curves:
            if c not in panel:
                _arms(axis, c, "0.86" if not c["control"] else "0.75", "o", front=False)
        for c, color, marker in zip(panel, COLORS, MARKERS):
            _arms(axis, c, color, marker, front=True)
        axis.set(xscale="log", xlabel="p95 KL(steered || base), nats", ylabel=label)
        handles = [_mark(m, c, c, x["name"]) for x, c, m in zip(panel, COLORS, MARKERS)]
        handles.append(_mark("o", "0.75", "0.75", "random draws, other methods"))
        axis.legend(handles=handles, loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8, frameon=False)
    for spare in axes.flat[len(panels) :]:
        spare.set_visible(False)
    budgeted = f"; dotted: the budget, {budget:g} nat" if budget else ""
    left_out = f"\n{weak} points whose KL is {DECADES:g} decades below the largest are left out" if weak else ""
    about = f"filled: alpha > 0, open: alpha < 0; bars: 95 % intervals{budgeted}{left_out}"
    figure.suptitle(f"{title}\n{about}", fontsize=10)
    return saved(figure, path)


def _strong_enough(curves: Sequence[Fields]) -> tuple[Sequence[Fields], int]:
    """(the curves with their points that belong on one scale, how many points do not)."""
    largest = max((p["kl"] for c in curves for p in c["points"] if p["kl"]), default=0.0)
    kept = [{**c, "points": [p for p in c["points"] if (p["kl"] or 0.0) >= largest / 10**DECADES]} for c in curves]
    drawn, all_points = (sum(bool(p["kl"]) for c in some for p in c["points"]) for some in (kept, curves))
    return kept, all_points - drawn


def search_panels(calibrations: Sequence[Fields], title: str, path: Path) -> list[Path]:
    """Every search for a strength in a panel of its own: |alpha| against KL, both signs.

    One search alone has a panel per sign, drawn large around the target, with its strengths numbered as they were tried.
    """
    from math import ceil

    alone = len(calibrations) == 1
    columns = 2 if alone else min(4, max(1, len(calibrations)))
    rows = 1 if alone else ceil(len(calibrations) / columns)
    figure, axes = grid_of(rows, columns, width=4.2 if alone else 3.1, height=3.9 if alone else 2.3)
    if alone:
        for axis, side in zip(axes.flat, SIGNS):
            _search(axis, calibrations[0], sides=(side,))
            _close_up(axis, calibrations[0][side])
    else:
        for axis, search in zip(axes.flat, calibrations):
            _search(axis, search)
        for spare in axes.flat[len(calibrations) :]:
            spare.set_visible(False)
    for axis in axes[-1]:
        axis.set_xlabel("|alpha|", fontsize=8)
    figure.supylabel("p95 KL, nats", fontsize=9)
    marks = [
        *((marker, color, color, text) for marker, color, text in SIGNS.values()),
        ("o", COLORS[2], "none", "matched"),
        ("o", "red", "none", "unmatched"),
    ]
    handles = [_mark(m, c, face, text) for m, c, face, text in marks]
    handles += [_line("0.6", "on few prompts"), _patch("0.88", "budget ± tolerance")]
    figure.legend(handles=handles, loc="outside lower center", ncols=6, fontsize=8, frameon=False)
    figure.suptitle(title, fontsize=10)
    return saved(figure, path)


SIGNS = {"neg": ("v", COLORS[1], "alpha < 0"), "pos": ("^", COLORS[0], "alpha > 0")}


def _search(axis: Any, search: Fields, *, sides: Sequence[str] = tuple(SIGNS)) -> None:
    """One search at these signs; the large ring is the strength that was chosen."""
    off = search["settings"]["tolerance"]
    for target in {search[side]["target"] for side in sides}:  # a prompt does not the same at both poles
        axis.axhspan(target * (1 - off), target * (1 + off), color="0.88", zorder=0)
    for side in sides:
        marker, color, _ = SIGNS[side]
        sign = search[side]
        rough = sorted(_drawable(sign["ladder"]))
        if rough:
            axis.plot(*zip(*rough), color=color, linewidth=0.6, marker=".", markersize=3, alpha=0.35, zorder=1)
        if points := _drawable(sign["history"]):
            axis.scatter(*zip(*points), color=color, s=12, marker=marker, zorder=3)
        if sign["p95"]:
            ring = COLORS[2] if sign["verdict"] == "matched" else "red"
            axis.scatter(
                [abs(sign["alpha"])],
                [sign["p95"]],
                s=70,
                facecolors="none",
                linewidths=1.2,
                edgecolors=ring,
                zorder=4,
            )
    why = {search[side]["verdict"] for side in sides} - {"matched"}
    axis.set(xscale="log", yscale="log")
    axis.set_title(search["method"] + "".join(f"\n{w}" for w in sorted(why)), fontsize=8)
    axis.tick_params(labelsize=7)
    _few_ticks(axis)


def _drawable(trials: Sequence[Sequence[float | None]]) -> list[tuple[float, float]]:
    """(|alpha|, KL) of the trials that a logarithmic axis can show."""
    return [(abs(a), kl) for a, kl in trials if a is not None and kl is not None and kl > 0]


def _close_up(axis: Any, side: Fields) -> None:
    """The part of a panel where strengths were tried on all prompts, each with its number; no number covers another."""
    points = _drawable(side["history"])
    if not points:
        return
    for limits, values in ((axis.set_xlim, [a for a, _ in points]), (axis.set_ylim, [kl for _, kl in points])):
        spread = max(max(values) / min(values), 1.2) ** 0.25
        limits(min(values) / spread, max(values) * spread)
    _plain_ticks(axis)
    axis.figure.draw_without_rendering()  # the layout decides where points lie
    taken: list[tuple[float, float]] = []
    for number, point in enumerate(points, 1):
        x, y = axis.transData.transform(point)
        x, y = x + 6, y + 6
        while any(abs(x - a) < 14 and abs(y - b) < 13 for a, b in taken):
            y += 13
        taken.append((x, y))
        axis.annotate(
            str(number),
            point,
            xytext=axis.transData.inverted().transform((x, y)),
            fontsize=8,
            color="0.3",
            arrowprops={"arrowstyle": "-", "color": "0.8", "linewidth": 0.5},
        )


def bars(panels: Sequence[Fields], title: str, label: str, path: Path) -> list[Path]:
    """A panel per method and a pair of bars per foundation: the change at either arm, with intervals.

    A panel has name and lines (name, target, neg, pos), where an arm is (value, low, high).
    """
    from math import ceil

    columns = min(4, max(1, len(panels)))
    rows = ceil(len(panels) / columns)
    figure, axes = grid_of(rows, columns, width=3.1, height=2.2, sharey=True)
    for axis, panel in zip(axes.flat, panels):
        axis.axhline(0, color="0.6", linewidth=1, zorder=3)
        for at, line in enumerate(panel["lines"]):
            color = COLORS[1] if line["target"] else COLORS[0]
            for shift, arm, face in ((-0.2, "neg", "white"), (0.2, "pos", color)):
                value, low, high = line[arm]
                if value is None:
                    axis.plot(at + shift, 0, marker="x", markersize=5, color=color, zorder=4)
                    continue
                axis.bar(at + shift, value, width=0.36, facecolor=face, edgecolor=color, linewidth=1)
                if low is not None:
                    axis.plot([at + shift] * 2, [low, high], color="0.2", linewidth=1)
        axis.set_title(panel["name"], fontsize=8)
        axis.set_xlim(-0.6, len(panel["lines"]) - 0.4)
        axis.set_xticks(range(len(panel["lines"])), [line["name"] for line in panel["lines"]], fontsize=7)
        axis.tick_params(axis="y", labelsize=7)
    for spare in axes.flat[len(panels) :]:
        spare.set_visible(False)
    figure.supylabel(label, fontsize=9)
    handles = [
        _patch(COLORS[0], "alpha > 0"),
        _patch("white", "alpha < 0", COLORS[0]),
        _patch(COLORS[1], "targeted by the axis"),
        _line("0.2", "95 % interval"),
        _mark("x", "0.4", "0.4", "not scored"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=5, fontsize=8, frameon=False)
    figure.suptitle(title, fontsize=10)
    return saved(figure, path)


def _arms(axis: Any, curve: Fields, color: str, marker: str, *, front: bool) -> None:
    points = [p for p in curve["points"] if p["kl"] and p["value"] is not None]
    for sign, face, style in ((1, color, "-"), (-1, "white", "--")):
        arm = sorted((p["kl"], p["value"], p["low"], p["high"]) for p in points if p["alpha"] * sign > 0)
        if not arm:
            continue
        x, y, low, high = zip(*arm)
        if front and None not in (*low, *high):
            below, above = ([b - a for a, b in zip(low, y)], [b - a for a, b in zip(y, high)])
            axis.errorbar(
                x,
                y,
                yerr=[[max(0, v) for v in below], [max(0, v) for v in above]],
                color=color,
                fmt="none",
                linewidth=1,
                zorder=4,
            )
        axis.plot(
            x,
            y,
            color=color,
            linestyle=style,
            linewidth=1.3 if front else 0.7,
            marker=marker,
            markersize=5.5 if front else 3,
            markerfacecolor=face,
            zorder=5 if front else 1,
        )


def grid_of(rows: int, columns: int, *, width: float, height: float, sharey: bool = False) -> tuple[Any, Any]:
    """A figure and its axes, (rows, columns), each of this size in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * columns, height * rows + 0.9), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False, sharey=sharey)
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _single(*, width: float, height: float) -> tuple[Any, Any]:
    figure, axes = grid_of(1, 1, width=width, height=height - 0.9)
    return figure, axes[0, 0]


def _few_ticks(axis: Any) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    for side in (axis.xaxis, axis.yaxis):
        side.set_major_locator(LogLocator(numticks=5))
        side.set_minor_formatter(NullFormatter())


def _plain_ticks(axis: Any) -> None:
    """A few ticks with plain numbers, for a logarithmic axis that spans less than a decade."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    for side in (axis.xaxis, axis.yaxis):
        side.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10]))
        side.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
        side.minorticks_off()


def _mark(marker: str, color: str, face: str, text: str) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], marker=marker, color=color, markerfacecolor=face, linestyle="", markersize=5.5, label=text)


def _line(color: str, text: str) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], color=color, linewidth=1, label=text)


def _patch(color: str, text: str, edge: str | None = None) -> Any:
    from matplotlib.patches import Patch

    return Patch(facecolor=color, edgecolor=edge or color, label=text)


def saved(figure: Any, path: Path) -> list[Path]:
    """PNG and SVG beside each other; the SVG without a date, so that the same picture is the same file."""
    from matplotlib import rc_context

    files = [path.with_suffix(s) for s in (".png", ".svg")]
    with rc_context({"svg.hashsalt": "ws"}):
        figure.savefig(files[0], dpi=120)
        figure.savefig(files[1], metadata={"Date": None})
    return files
