"""Cosines as squares of color, in the paper's arrangement: directions with fine-tunes, directions, fine-tunes."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ws.results.plots import saved

if TYPE_CHECKING:
    from ws.paper.monitoring import Cosines

INK = "0.25"


def heatmaps(cos: "Cosines", title: str, path: Path) -> list[Path]:
    """Three panels on one scale; cells of one data set are crossed out."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    n = len(cos.names)
    figure = Figure(figsize=(4.4 + 1.75 * n, 1.7 + 0.36 * 2 * n), layout="constrained")
    FigureCanvasAgg(figure)
    wide = figure.subplots(1, 3, width_ratios=[n, n, 2 * n])
    taus = [(name, side) for name in cos.names for side in ("bad", "good")]
    named = [f"τ {m} {_side(cos, m, s)}" for m, s in taus]
    ws = [f"w {m}" for m in cos.names]
    cells = [
        ([[cos.w_tau[w, m, s] for w in cos.names] for m, s in taus], named, ws, [[m == w for w in cos.names] for m, _ in taus]),
        ([[cos.w_w[a, b] for b in cos.names] for a in cos.names], ws, ws, [[a == b for b in cos.names] for a in cos.names]),
        (
            [[cos.tau_tau[a, s, b, t] for b, t in taus] for a, s in taus], named, named,
            [[a == b for b, _ in taus] for a, _ in taus],
        ),
    ]  # fmt: skip
    off = [
        abs(v) for values, _, _, same in cells for row, hide in zip(values, same) for v, h in zip(row, hide) if not h
    ]
    most = max(off, default=1.0) or 1.0
    image: Any = None
    titles = ("directions and fine-tunes", "directions", "fine-tunes")
    for axis, (values, rows, columns, same), name in zip(wide, cells, titles):
        image = _panel(axis, values, rows, columns, same, most)
        axis.set_title(name, fontsize=10, loc="left", color=INK)
    figure.colorbar(image, ax=list(wide), shrink=0.6, label="cosine", pad=0.01).outline.set_visible(False)
    figure.suptitle(f"{title}: cosines; crossed out: one data set", fontsize=11, x=0.01, ha="left", fontweight="bold")
    return saved(figure, path)


def _side(cos: "Cosines", name: str, side: str) -> str:
    return {"bad": "pos", "good": "neg"}[side] if name in cos.controls else side


def _panel(
    axis: Any, values: Sequence[Sequence[float]], rows: Sequence[str], columns: Sequence[str], same: Sequence[Sequence[bool]], most: float
) -> Any:  # fmt: skip
    import numpy as np

    shown = np.ma.masked_where(np.array(same), np.array(values))
    image = axis.imshow(shown, cmap="RdBu_r", vmin=-most, vmax=most, aspect="equal")
    axis.set_facecolor("0.93")
    axis.set_xticks(range(len(columns)), columns, rotation=45, ha="right", fontsize=8, rotation_mode="anchor")
    axis.set_yticks(range(len(rows)), rows, fontsize=8)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    for i, (row, hide) in enumerate(zip(values, same)):
        for j, (v, h) in enumerate(zip(row, hide)):
            ink = "white" if abs(v) > 0.6 * most and not h else INK
            axis.text(
                j, i, "×" if h else f"{v:+.2f}", ha="center", va="center", fontsize=7.5, color="0.6" if h else ink
            )
    return image
