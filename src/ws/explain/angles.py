"""`angles`: do directions of other behaviors or families change the same space?

Per block, the first 8 singular directions of what two changes write (or read): the mean squared cosine of their principal angles,
beside two random spaces of that rank, and the first cosine. Beside it the cosine of the changes themselves, which is another
question: two changes of one space may be orthogonal, and two of like sign may share little of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ws.direction.direction import cosine
from ws.direction.variants import Flags
from ws.explain.bases.basis import Basis, basis, cosines, haar
from ws.explain.bases.energies import factors
from ws.explain.bases.spaces import SIDES
from ws.explain.protocol import Analysis, Bars, Finding, Subject, Table

COLUMNS = ("other", "side", "rank", "overlap", "null", "ratio", "z", "first", "first_at_random", "cosine", "flags")
OF_OTHERS = Flags("other_behaviors")
RANK = 8
DRAWS = 100


@dataclass(frozen=True)
class Meeting:
    """How near two sets of spaces lie, the mean over the blocks that both have."""

    rank: float
    overlap: float
    """The mean squared cosine of the principal angles; 1 where the smaller space lies in the larger."""
    null: float
    """That of two random spaces of these ranks."""
    ratio: float
    z: float
    first: float
    """The cosine of the smallest angle."""
    first_at_random: float


@dataclass(frozen=True)
class Angles(Meeting):
    """How much of one space two directions change."""

    other: str
    side: str
    cosine: float
    """The cosine of the two changes themselves, over all modules."""
    flags: Flags = OF_OTHERS


def spaces_of(subject: Subject, name: str | None, side: str, rank: int = RANK) -> dict[int, Basis]:
    """The first singular directions of what a direction changes, block by block; of the subject itself for None."""
    direction = subject.direction if name is None else subject.others[name]
    source = "same_direction" if name is None else "other_behaviors"
    parts = factors(direction, subject.base, side).of
    return {b: found for b, f in parts.items() if (found := basis(name or "own", f, source).cut(rank)).rank}


def compared(own: Mapping[int, Basis], other: Mapping[int, Basis], seed: int = 0) -> Meeting | None:
    """How near spaces per block lie to others, over the blocks of both; None where they share no block."""
    blocks = sorted(own.keys() & other.keys())
    if not blocks:
        return None
    shared, first, ranks, at_random, first_random = 0.0, 0.0, 0.0, torch.zeros(DRAWS).double(), 0.0
    g = torch.Generator().manual_seed(seed)
    for block in blocks:
        a, b = own[block], other[block]
        found = cosines(a, b)
        shared, first = shared + float(found.square().mean()), first + float(found[0])
        ranks += min(a.rank, b.rank)
        squares, firsts = random_cosines(a.width, a.rank, b.rank)
        at_random += squares[torch.randperm(DRAWS, generator=g)]
        first_random += float(firsts.mean())
    n = len(blocks)
    overlap, draws = shared / n, at_random / n
    null = sum(max(own[b].rank, other[b].rank) / own[b].width for b in blocks) / n
    z = (overlap - float(draws.mean())) / float(draws.std())
    return Meeting(ranks / n, overlap, null, overlap / null, z, first / n, first_random / n)


_random: dict[tuple[int, int, int], tuple[Tensor, Tensor]] = {}


def random_cosines(width: int, i: int, j: int) -> tuple[Float[Tensor, "n"], Float[Tensor, "n"]]:
    """The mean squared and the first cosine of the angles between two random spaces, draw by draw."""
    if (width, i, j) not in _random:
        g = torch.Generator().manual_seed(width * 1009 + i * 31 + j)
        # one of the two may as well be the span of the first axes
        found = [torch.linalg.svdvals(haar(width, j, g)[:i]) for _ in range(DRAWS)]
        _random[width, i, j] = (
            torch.stack([c.square().mean() for c in found]),
            torch.stack([c[0] for c in found]),
        )
    return _random[width, i, j]


def run(subject: Subject) -> Finding:
    """The angles to every other direction."""
    if not subject.others:
        raise ValueError("this analysis lays a direction beside others: name some of the same base")
    rows = []
    for side in SIDES:
        own = spaces_of(subject, None, side)
        for name, other in subject.others.items():
            if (found := compared(own, spaces_of(subject, name, side), subject.seed)) is not None:
                value = cosine(subject.direction, other, subject.base.weight)
                rows.append(Angles(**vars(found), other=name, side=side, cosine=value))
    if not rows:
        raise ValueError("none of these directions touches a block that this one touches")
    most = max(rows, key=lambda r: r.ratio)
    readings = (
        f"The most is shared with {most.other} ({most.side}): {most.overlap:.2f} of the first {most.rank:.0f} dimensions, "
        f"{most.ratio:.1f} times what two random spaces share (z {most.z:+.1f}); the cosine of the two changes is "
        f"{most.cosine:+.2f}.",
    )
    picture = Bars(
        "how much of one space other directions change",
        "overlap of the first 8 dimensions",
        [f"{r.other} ({r.side})" for r in rows],
        [r.overlap for r in rows],
        chance=[r.null for r in rows],
    )
    return Finding((Table("principal angles to other directions", rows, COLUMNS),), (picture,), readings)


ANGLES = Analysis(
    "angles",
    "Do directions of other behaviors or families change the same space?",
    "Adapters that start from one point share their first readers, whatever they learn: an overlap on the side that reads may be "
    "the start and not the behavior. A shared space is no shared effect.",
    run,
    others=1,
)
