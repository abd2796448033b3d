"""Rows of a table of spaces: how much of a direction lies in each, beside random spaces of the same rank and the best one."""

from collections.abc import Sequence
from dataclasses import dataclass

from ws.direction.direction import Direction
from ws.direction.variants import Flags
from ws.explain.bases.basis import Basis, basis, cosines
from ws.explain.bases.energies import DRAWS, Share, factors, share
from ws.explain.bases.spaces import SIDES, Spaces
from ws.explain.protocol import Bars, Table
from ws.models.base import Base

TRAP = (
    "Intersections shrink: every space is compared with a random one of its own rank, and one of rank 0 holds nothing because "
    "there is nothing of it."
)


COLUMNS = ("space", "flags", "rank", "effective_rank", "energy", "null", "ratio", "z", "of_best")


@dataclass(frozen=True)
class InSpace:
    """The energy of a direction in one space, on the side that writes or the one that reads."""

    space: str
    side: str
    flags: Flags
    rank: float
    """Its dimensions, on average over the blocks; those of the best space that it is held against."""
    effective_rank: float
    """The same, weighted by what counts."""
    energy: float
    null: float
    """What a random space of the same rank holds."""
    ratio: float
    """energy / null."""
    z: float
    """Its distance from random spaces of the same rank, in their standard deviations."""
    best: float
    """What the best space of that rank holds: the direction's own singular vectors."""
    of_best: float
    """energy / best."""


def row_of(space: str, side: str, source: str, s: Share) -> InSpace:
    """A share as a row."""
    numbers = (s.rank, s.effective_rank, s.energy, s.null, s.ratio, s.z, s.best, s.of_best)
    return InSpace(space, side, Flags(source), *numbers)


def rows_in(
    direction: Direction, base: Base, spaces: Sequence[Spaces], *, draws: int = DRAWS, seed: int = 0
) -> list[InSpace]:
    """A row per space and side, those that hold most times chance first."""
    rows = []
    for side in SIDES:
        parts = factors(direction, base, side)
        for space in spaces:
            if parts and (own := dict(enumerate(space.side(side)))):
                rows.append(row_of(space.name, side, space.source, share(parts, own, draws=draws, seed=seed)))
    if not rows:
        raise ValueError("this direction changes nothing that reads or writes the residual stream")
    order = {side: i for i, side in enumerate(SIDES)}
    return sorted(rows, key=lambda r: (order[r.side], -r.ratio if r.ratio == r.ratio else 0.0))


def tables_of(rows: Sequence[InSpace], title: str, note: str) -> tuple[Table, ...]:
    """A table of what is written, and one of what is read."""
    words = {"write": "what the change writes", "read": "what it reads"}
    by_side = {side: [r for r in rows if r.side == side] for side in SIDES}
    return tuple(Table(f"{words[side]}, {title}", own, COLUMNS, note) for side, own in by_side.items() if own)


def own_spaces(direction: Direction, base: Base, rank: int) -> Spaces | None:
    """The direction's own best spaces, block by block: what a circular basis holds of it."""
    sides = {side: _own(direction, base, side, rank) for side in SIDES}
    return Spaces("own", **sides) if any(sides.values()) else None


def _own(direction: Direction, base: Base, side: str, rank: int) -> tuple[Basis, ...]:
    parts = factors(direction, base, side).of
    if not parts:
        return ()
    width = next(iter(parts.values())).shape[0]
    nothing = Basis("own", parts[min(parts)].new_zeros(width, 0).float(), "same_direction")
    return tuple(
        basis("own", parts[b], "same_direction").cut(rank) if b in parts else nothing for b in range(base.depth)
    )


def bars(rows: Sequence[InSpace], title: str) -> Bars:
    """Times what chance gives, per space and side, without what is circular or empty."""
    shown = [r for r in rows if not r.flags.circular and r.rank]
    names = [f"{r.space} ({r.side})" for r in shown]
    return Bars(title, "times what chance gives", names, [r.ratio for r in shown], chance=[1.0] * len(shown))


def reading(rows: Sequence[InSpace]) -> str:
    """What stands out in one sentence, without what is circular."""
    open_rows = [r for r in rows if not r.flags.circular and r.z == r.z]
    if not open_rows:
        return "None of these spaces has a dimension, so there is nothing to compare."
    above = [r for r in open_rows if r.z > limit(len(open_rows)) and r.ratio > 1]
    if not above:
        return f"None of {len(open_rows)} spaces holds more of the change than random spaces of the same rank do."
    most = max(above, key=lambda r: r.ratio)
    does = "writes" if most.side == "write" else "reads"
    return (
        f"{len(above)} of {len(open_rows)} spaces hold{'s' * (len(above) == 1)} more than random spaces do (z above {limit(len(open_rows)):.1f}, for "
        f"so many looks); the most is {most.space}: {most.ratio:.1f} times chance, which is {in_percent(most.energy)} of what the "
        f"change {does} and {in_percent(most.of_best)} of what the best space of that rank holds."
    )


def in_percent(x: float) -> str:
    """A share in percent, with three digits that count."""
    return f"{100 * x:.3g} %"


def limit(looks: int) -> float:
    """The z above which one of so many looks is surprising, at one in twenty (Bonferroni)."""
    from scipy.stats import norm

    return float(norm.isf(0.05 / max(1, looks)))


def closeness(spaces: list[Spaces], side: str) -> list[list[float]]:
    """The overlap of every two spaces, the mean over the blocks: 1 where the smaller lies in the larger."""
    return [[_close(a.side(side), b.side(side)) for b in spaces] for a in spaces]


def _close(a: tuple[Basis, ...], b: tuple[Basis, ...]) -> float:
    found = []
    for x, y in zip(a, b):
        if x.rank and y.rank:
            found.append(float(cosines(x, y).square().sum()) / min(x.rank, y.rank))
    return sum(found) / len(found) if found else float("nan")
