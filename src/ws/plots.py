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
