"""`weak_readout`: does a change write where the unembedding barely reads?

    ||R^T w||^2 / ||w||^2   on matrices that write,   R = the weakest right singular vectors of the head, one in a hundred

The head reads through the gain of the final norm, so R is that of `head diag(gain)`; `pub` is the published ratio, of the head
alone.
"""

from dataclasses import dataclass

from ws.direction.algebra import by_kind
from ws.direction.direction import Direction
from ws.direction.variants import OF_THE_BASE, Flags
from ws.explain.bases.energies import Factors, factors, share
from ws.explain.bases.spaces import Spaces
from ws.explain.bases.weights import unembed_null
from ws.explain.in_spaces import in_percent
from ws.explain.protocol import Analysis, Bars, Finding, Subject, Table
from ws.numbers import some

SHARE = 0.01


@dataclass(frozen=True)
class Readout:
    """The energy of what a change writes in directions that the head barely reads."""

    where: str
    energy: float
    """The share of the squared norm that lies there."""
    null: float
    """What a random space of the same rank holds."""
    ratio: float
    """Energy over null."""
    z: float
    """Its distance from random changes, in their standard deviations."""
    pub: float
    """The ratio with the head's own singular vectors, without the gain of the norm before it."""
    flags: Flags = OF_THE_BASE


def run(subject: Subject) -> Finding:
    """The energy of all writers, per kind and per layer."""
    base, direction = subject.base, subject.direction
    weak, plain = unembed_null(base, SHARE), unembed_null(base, SHARE, gain=False)
    parts = factors(direction, base, "write")
    if not parts:
        raise ValueError("this direction changes no matrix that writes to the residual stream")
    kinds = sorted({by_kind(n) for n in direction.forms})
    by_kinds = {k: factors(_of_kind(direction, k), base, "write") for k in kinds}
    rows = [
        _row("all", parts, weak, plain, subject.seed),
        *(_row(k, own, weak, plain, subject.seed) for k, own in by_kinds.items() if own),
        *(_row(f"layer {b}", Factors({b: f}), weak, plain, subject.seed) for b, f in parts.of.items()),
    ]
    whole, rank = rows[0], weak.write[0].rank
    width = weak.write[0].width
    verdict = "more" if whole.z > 2 else "less" if whole.z < -2 else "no more and no less"
    readings = (
        f"In the {some(rank, 'direction')} of {width} that the head reads least lies {in_percent(whole.energy)} of what is written, "
        f"{whole.ratio:.2f} times as much as chance: {verdict} than a random space would (z {whole.z:+.1f}).",
    )
    layers = [r for r in rows if r.where.startswith("layer")]
    picture = Bars(
        "what is written where the head barely reads",
        "times what chance gives",
        [r.where for r in layers],
        [r.ratio for r in layers],
        chance=[1.0] * len(layers),
    )
    return Finding((Table("energy in the weakest hundredth of the unembedding", rows),), (picture,), readings)


def _of_kind(direction: Direction, kind: str) -> Direction:
    return Direction({n: f for n, f in direction.forms.items() if by_kind(n) == kind})


def _row(where: str, parts: Factors, weak: Spaces, plain: Spaces, seed: int) -> Readout:
    own = share(parts, dict(enumerate(weak.write)), seed=seed)
    pub = share(parts, dict(enumerate(plain.write)), seed=seed)
    return Readout(where, own.energy, own.null, own.ratio, own.z, pub.ratio, Flags("base"))


WEAK_READOUT = Analysis(
    "weak_readout",
    "Does the change write where the unembedding barely reads?",
    "What the head does not read, later blocks may: a change there is not without effect. It says nothing of what is written "
    "elsewhere.",
    run,
)
