"""Spaces of the residual stream: a basis per block for what the block writes, and one for what it reads.

A space of the whole model has the same basis at every block. Where a space means nothing on one side (what a block's gates
write is read by nobody there), that side is empty. Combinations are those of `basis.py`, block by block.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from ws.direction.groups import WRITES, is_called
from ws.explain.bases.basis import Basis, union
from ws.models.base import Base
from ws.models.modules import Linear

SIDES = ("write", "read")


@dataclass(frozen=True, eq=False)
class Spaces:
    """One kind of space, block by block, for each side; an empty tuple where it means nothing."""

    name: str
    write: tuple[Basis, ...] = ()
    read: tuple[Basis, ...] = ()

    def __post_init__(self):
        if not (self.write or self.read):
            raise ValueError(f"{self.name} has no basis on either side")

    def side(self, side: str) -> tuple[Basis, ...]:
        """The bases of one side, `write` or `read`."""
        return self.write if side == "write" else self.read

    @property
    def all(self) -> tuple[Basis, ...]:
        """Every basis there is."""
        return (*self.write, *self.read)

    @property
    def source(self) -> str:
        """What it was made from."""
        return self.all[0].source

    def cut(self, rank: int) -> "Spaces":
        """The first dimensions of every basis."""
        return self.each(lambda b: b.cut(rank))

    def each(self, change: Callable[[Basis], Basis]) -> "Spaces":
        """The same with every basis changed."""
        return replace(self, write=tuple(map(change, self.write)), read=tuple(map(change, self.read)))


def everywhere(basis: Basis, depth: int, sides: Sequence[str] = SIDES) -> Spaces:
    """The same space at every block."""
    same = (basis,) * depth
    return Spaces(basis.name, same if "write" in sides else (), same if "read" in sides else ())


def combined(name: str, how: Callable[..., Basis], *parts: Spaces) -> Spaces:
    """`how` of several spaces, block by block and side by side; a side that one of them lacks is empty.

    Blocks that share their bases, as those of the whole model do, share the result.
    """
    done: dict[tuple[int, ...], Basis] = {}

    def at(bases: tuple[Basis, ...]) -> Basis:
        key = tuple(map(id, bases))
        if key not in done:
            done[key] = how(*bases).called(name)
        return done[key]

    sides = {s: tuple(map(at, zip(*(p.side(s) for p in parts)))) for s in SIDES}
    return Spaces(name, **sides)


def either(name: str, *parts: Spaces) -> Spaces:
    """The union of several spaces, block by block."""
    return combined(name, lambda *bases: union(bases), *parts)


def writers_of(base: Base, *, experts: bool = False) -> list[Linear]:
    """The matrices that write to the residual stream; those of routed experts too, where they are asked for."""
    return [x for x in (base.layers if experts else base.linears).values() if is_called(x.name, WRITES)]


def readers_of(base: Base, width: int, *, experts: bool = False) -> list[Linear]:
    """The matrices that read the residual stream: as wide as it, and no writers."""
    rest = (x for x in (base.layers if experts else base.linears).values() if not is_called(x.name, WRITES))
    return [x for x in rest if base.weight(x.name).shape[-1] == width]


def in_block(linears: Sequence[Linear], block: int) -> Iterator[Linear]:
    """Those of one block."""
    return (x for x in linears if x.block == block)
