"""`tau_geometry`: how the two sides of a training lie to each other: global, per layer, per module.

    cos_anti = -cos(tau+, tau-)     drift = |tau+ + tau-| / |dW|     cos_dW_M = | |tau+|^2 - |tau-|^2 | / (|dW| |tau+ + tau-|)

tau+ and tau- are what each side changed of the base. Published (honesty, LoRA, Qwen3-0.6B): cos_anti -0.644, asymmetry 0.967, drift 2.148,
cos_dW_M 0.044.
"""

import math
from dataclasses import dataclass

from torch import Tensor

from ws.diff import diff
from ws.direction.algebra import gram
from ws.errors import Unsupported
from ws.explain.protocol import Analysis, Bars, Finding, Subject, Table


@dataclass(frozen=True)
class Sides:
    """The geometry of both sides in some modules."""

    where: str
    tau_plus: float
    """What the pos side changed, as a norm."""
    tau_minus: float
    """What the neg side changed."""
    direction: float
    """The norm of their difference."""
    cos_anti: float
    """1 where they went opposite ways, -1 where they went the same way."""
    asymmetry: float
    """|tau+| / |tau-|."""
    drift: float
    """What both changed alike, over their difference; above 1 they share more than they differ by."""
    cos_dW_M: float
    """How far the difference lies along what both share."""


def run(subject: Subject) -> Finding:
    """A table per scope, from the adapters of the run."""
    adapter = subject.direction.provenance.get("adapter")
    if subject.material is None or not adapter:
        raise Unsupported("this analysis reads the two sides of a training; explain a run.")
    sides = subject.material.sides_of(adapter)
    plus, minus = (diff(subject.base, *sides, mode=m) for m in ("tau+", "tau-"))
    pair = [plus, -minus]  # `tau-` of `diff` points toward pos
    scopes = {"global": "the whole", "layer": "per layer", "kind": "per kind of matrix", "module": "per matrix"}
    rows = {
        scope: [_row(group, table) for group, table in gram(pair, subject.base.weight, scope=scope).items()]
        for scope in scopes
    }
    whole = rows["global"][0]
    picture = Bars(
        "what both sides changed alike, over what they differ by",
        "drift",
        [r.where for r in rows["layer"]],
        [r.drift for r in rows["layer"]],
    )
    reading = (
        f"The sides have the cosine {-whole.cos_anti:+.2f}; they share {whole.drift:.2f} times what they differ by"
        + (", so each alone is mostly something else than the behavior." if whole.drift > 1 else ".")
    )
    return Finding(tuple(Table(title, rows[scope]) for scope, title in scopes.items()), (picture,), (reading,))


def _row(group: str, table: Tensor) -> Sides:
    pp, nn, pn = float(table[0, 0]), float(table[1, 1]), float(table[0, 1])
    p, n = math.sqrt(max(0.0, pp)), math.sqrt(max(0.0, nn))
    size, common = math.sqrt(max(0.0, pp + nn - 2 * pn)), math.sqrt(max(0.0, pp + nn + 2 * pn))
    return Sides(
        f"layer {group}" if group.isdigit() else group,
        p,
        n,
        size,
        -_over(pn, p * n),
        _over(p, n),
        _over(common, size),
        _over(abs(pp - nn), size * common),
    )


def _over(a: float, b: float) -> float:
    return a / b if b > 0 else math.nan


TAU_GEOMETRY = Analysis(
    "tau_geometry",
    "How do the two fine-tunes lie to each other?",
    "Angles between two changes say nothing about what either does. Both sides start from one point and see the same questions, so "
    "they share much whatever the behavior.",
    run,
    material=True,
)
