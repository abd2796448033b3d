"""Pictures of tables: files in, files out, no window and no global state."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def effect_by_alpha(table: Sequence[Mapping[str, Any]], title: str, path: Path) -> None:
    """One panel per metric: the mean over alpha with its 95 % interval, and the answer mass as grey dots."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    metrics = list(dict.fromkeys((r["eval"], r["metric"]) for r in table))
    columns = min(3, len(metrics))
    lines = -(-len(metrics) // columns)
    figure = Figure(figsize=(4.2 * columns, 3.2 * lines + 0.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(lines, columns, squeeze=False)
    for spare in axes.flat[len(metrics) :]:
        spare.set_visible(False)
    for axis, (name, metric) in zip(axes.flat, metrics):
        rows = sorted((r for r in table if (r["eval"], r["metric"]) == (name, metric)), key=lambda r: r["alpha"])
        x, y = [r["alpha"] for r in rows], [r["mean"] for r in rows]
        axis.axhline(0, color="0.85", linewidth=1, zorder=0)
        axis.axvline(0, color="0.85", linewidth=1, zorder=0)
        axis.fill_between(
            x, [r["ci_lo"] for r in rows], [r["ci_hi"] for r in rows], alpha=0.25, linewidth=0, color="tab:blue"
        )
        axis.plot(x, y, marker="o", color="tab:blue")
        axis.set_title(f"{name}: {metric}", fontsize=10)
        axis.set_xlabel("alpha")
        axis.set_ylabel("nats")
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, fontsize=11)
    figure.savefig(path, dpi=130)


def calibration_history(calibrations: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Strength against divergence, both in logs, numbered as they were tried; grey rings are the rough ladder, a
    band the target, the large ring what was chosen."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.4, 0.4 + 3.2 * len(calibrations)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(calibrations), 2, squeeze=False)
    for line, told in zip(axes, calibrations):
        for axis, (side, sign) in zip(line, (("neg", "-"), ("pos", "+"))):
            found = told[side]
            tried = [(abs(a), kl) for a, kl in found["history"] if kl is not None and kl > 0]
            axis.axhspan(
                found["target"] * (1 - told["settings"]["tolerance"]),
                found["target"] * (1 + told["settings"]["tolerance"]),
                color="0.9",
                zorder=0,
            )
            rough = [(abs(a), kl) for a, kl in found["ladder"] if kl is not None and kl > 0]
            if rough:
                axis.scatter(*zip(*rough), facecolors="none", edgecolors="0.7", s=18)
            if tried:
                axis.plot(*zip(*sorted(tried)), color="0.7", linewidth=1)
                axis.scatter(*zip(*tried), color="tab:blue", s=18, zorder=3)
            for at, (alpha, kl) in enumerate(tried, 1):
                axis.annotate(str(at), (alpha, kl), textcoords="offset points", xytext=(4, 4), fontsize=8)
            if found["p95"]:
                color = "tab:green" if found["verdict"] == "matched" else "tab:red"
                axis.scatter([abs(found["alpha"])], [found["p95"]], s=90, facecolors="none", edgecolors=color, zorder=4)
            axis.set(xscale="log", yscale="log", xlabel=f"|alpha|, sign {sign}", ylabel="p95 KL, nats")
            axis.set_title(f"{told['method']}: {found['verdict']}", fontsize=10)
            axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)
