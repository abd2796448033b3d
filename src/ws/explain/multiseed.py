"""`multiseed`: is it the same direction, and the same effect, when everything is trained again?"""

import math
from dataclasses import dataclass

from ws.direction.algebra import cosines, gram
from ws.direction.card import behavior_of
from ws.direction.direction import Direction
from ws.errors import Unsupported
from ws.explain.protocol import Analysis, Bars, Effect, Finding, Subject, Table, Variant
from ws.stats import Estimate

OWN = "this one"


@dataclass(frozen=True)
class Trained:
    """One training of the same behavior and family: its angle to this one, and its effect."""

    name: str
    cosine: float
    """To this direction."""
    norm: float
    delta: Estimate | None
    """The change of the metric at the same alpha."""


def run(subject: Subject) -> Finding:
    """Angles and effects of all trainings of one behavior and family."""
    base, own = subject.base, subject.direction
    same = {n: d for n, d in subject.others.items() if _kin(d) == _kin(own)}
    if not same:
        raise Unsupported(
            "there is no other training of this behavior and family below the output folder; train another seed."
        )
    whole = {OWN: own, **same}
    table = gram(list(whole.values()), base.weight)["all"]
    angles = cosines(table)
    effects: dict[str, Effect] = {}
    if subject.measure is not None:
        found = subject.measure([Variant(name, direction=d) for name, d in same.items()])
        first = found[0].metric
        effects = {(OWN if e.variant == "full" else e.variant): e for e in found if e.metric == first}
    rows = [
        Trained(name, float(angles[0, k]), math.sqrt(float(table[k, k])), effects[name].delta if effects else None)
        for k, name in enumerate(whole)
    ]
    return Finding((Table("trainings of the same behavior and family", rows),), (_picture(rows),), (_reading(rows),))


def _kin(d: Direction) -> tuple:
    return behavior_of(d)[0], d.provenance.get("adapter"), d.provenance.get("mode", "contrastive")


def _picture(rows: list[Trained]) -> Bars:
    if rows[0].delta is None:
        return Bars("angle to this direction", "cosine", [r.name for r in rows[1:]], [r.cosine for r in rows[1:]])
    deltas = [r.delta for r in rows if r.delta is not None]
    ends = [d.ci_lo for d in deltas], [d.ci_hi for d in deltas]
    return Bars("the effect of every training", "change", [r.name for r in rows], [d.mean for d in deltas], *ends)


def _reading(rows: list[Trained]) -> str:
    angles = [r.cosine for r in rows[1:]]
    line = f"{len(rows)} trainings: cosines to this one from {min(angles):+.2f} to {max(angles):+.2f}."
    moved = [r.delta.mean for r in rows if r.delta is not None]
    if not moved:
        return line
    mean = sum(moved) / len(moved)
    sd = math.sqrt(sum((m - mean) ** 2 for m in moved) / (len(moved) - 1))
    up = sum(m > 0 for m in moved)
    agree = max(up, len(moved) - up)
    return f"{line} They move the metric by {mean:+.2f} on average (sd {sd:.2f}), {agree} of {len(moved)} the same way."


MULTISEED = Analysis(
    "multiseed",
    "Is it the same when everything is trained again?",
    "Trainings that start from one point share their first readers, so a cosine says less than it seems. A few seeds give a rough sd.",
    run,
    others=1,
)
