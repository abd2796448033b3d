"""The subspace table of the published fork, in its columns: `subspace_per_layer.csv` and `subspace_summary.csv`.

Its numbers differ from those of `svd_align` and `weak_readout`: energies are shares of what lies in the thin singular bases, which
hides energy outside of them, the null is (k/r)^2, and the head is read without the gain of the norm before it.
"""

import math
from collections.abc import Sequence

from ws.direction import Direction
from ws.direction.algebra import layer_of, spectrum
from ws.direction.forms import BiasShift, Stacked
from ws.direction.groups import WRITES, is_called, kind_of
from ws.explain.bases.spectra import spectrum_of, unembedding
from ws.models import Base
from ws.numbers import finite
from ws.results.sheet import Sheet
from ws.types import Json

TOP, WEAK = 0.1, 0.01
"""Shares of the singular vectors: the largest of W, the smallest of the head."""
RATIOS = ("ratio_top", "ratio_weak")


def tables(base: Base, direction: Direction) -> tuple[list[Json], list[Json]]:
    """A line per matrix, and a line per kind of matrix."""
    lines = per_layer(base, direction)
    return lines, summary(lines)


def per_layer(base: Base, direction: Direction) -> list[Json]:
    """A line per matrix; experts that lie in one tensor are many, and left out."""
    head = unembedding(base, gain=False)[0]
    weak = head[:, head.shape[1] - max(1, round(WEAK * head.shape[1])) :]
    lines = []
    for name, forms in direction.forms.items():
        matrix = tuple(f for f in forms if not isinstance(f, BiasShift))
        if not matrix or any(isinstance(f, Stacked) for f in matrix):
            continue
        left, squares, right = spectrum(name, matrix, base.weight if direction.reads_base else None)
        w = spectrum_of(base, name)
        shape = tuple(w.weight.shape)
        r = min(shape)
        k = max(1, round(TOP * r))
        inside = w.onto_u(left) @ w.onto_v(right.mT).mT  # U^T dW V
        top = float(inside[:k, :k].square().sum() / inside.square().sum())
        null = (k / r) ** 2
        line = {"name": f"{name}.weight", "layer_idx": layer_of(name), "kind": kind_of(name), "shape": str(shape)}
        line |= {"norm": math.sqrt(float(squares.sum())), "k": k, "r": r, "energy_top": top, "null_top": null}
        line |= {"ratio_top": top / null, "energy_weak": None, "null_weak": None, "ratio_weak": None}
        if is_called(name, WRITES) and shape[0] == head.shape[0]:
            energy = float((weak.mT.double() @ left).square().sum() / squares.sum())
            share = weak.shape[1] / head.shape[1]
            line |= {"energy_weak": energy, "null_weak": share, "ratio_weak": energy / share}
        lines.append(line)
    return lines


def summary(lines: Sequence[Json]) -> list[Json]:
    """A line per kind of matrix."""
    result = []
    for kind in sorted({line["kind"] for line in lines}):
        own = [line for line in lines if line["kind"] == kind]
        row: Json = {"kind": kind}
        for column in RATIOS:
            mean, sd = _mean_sd([line[column] for line in own if line[column] is not None])
            row |= {f"mean_{column}": mean, f"std_{column}": sd}
        result.append(row | {"mean_norm": _mean_sd([line["norm"] for line in own])[0], "n": len(own)})
    return result


def sheet(rows: Sequence[Json]) -> Sheet:
    """The lines of kinds as a table."""
    lines = [
        (r["kind"], *(_spread(r, column) for column in RATIOS), f"{r['mean_norm']:.3g}", str(r["n"])) for r in rows
    ]
    return Sheet(
        "where the direction lies in the singular spaces of the weights",
        "top and weak are times what chance puts there, as published: 1 is chance. Where a change lies says nothing about what it does.",
        ("kind", "top tenth of W", "weakest hundredth of the head", "norm", "matrices"),
        tuple(lines),
        tuple(rows),
        words=("kind",),
    )


def _spread(row: Json, column: str) -> str:
    """A mean with the spread over matrices, as far as there are some."""
    mean, sd = row[f"mean_{column}"], row[f"std_{column}"]
    return "" if not finite(mean) else f"{mean:.2f} ± {sd:.2f}" if finite(sd) else f"{mean:.2f}"


def _mean_sd(values: Sequence[float]) -> tuple[float, float]:
    if not values:
        return math.nan, math.nan
    mean = sum(values) / len(values)
    return mean, math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1)) if len(values) > 1 else math.nan
