"""An orthonormal basis of a space, and the small algebra of spaces.

    both  = intersection(taskdiff, write)        # between the two, where they lie within an angle of each other
    unseen = without(write, logits_read)         # `write` projected onto the complement of `logits_read`
    either = union([q, k])
    eight  = either.cut(8)

Every operation is a thin one: nothing here is d x d unless a space is that large. An intersection is not that of sets (two
planes at 1 degree have none): its vectors halve the principal angles between two spaces, and it is empty where no angle
is below the limit. A combination is as circular as the worst of its parts.

Shapes: d = width, k, m = dimensions of a space, n = vectors.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from ws.direction.variants import SOURCES

NOTHING = 1e-6
"""Below this share of the largest, a vector's part outside of the others is rounding."""
SHARED = 0.5
"""The least cosine of an angle at which two spaces count as sharing a direction: 60 degrees."""


@dataclass(frozen=True, eq=False)
class Basis:
    """Orthonormal columns, what they were made from, and how much each of them counts."""

    name: str
    vectors: Float[Tensor, "d k"]
    source: str
    """What it was made from: base, heldout_acts, same_direction, same_prompts or other_behaviors."""
    values: Float[Tensor, "k"] | None = None
    """Singular values, cosines or sines, largest first; None where all count alike."""

    def __post_init__(self):
        if self.source not in SOURCES[1:]:
            raise ValueError(f"a basis is made from one of {', '.join(SOURCES[1:])}; got {self.source!r}")

    def __repr__(self) -> str:
        return f"Basis({self.name}, {self.rank} of {self.width} dimensions, from {self.source})"

    @property
    def rank(self) -> int:
        """The dimensions of the space."""
        return self.vectors.shape[1]

    @property
    def width(self) -> int:
        """The dimensions of what it lies in."""
        return self.vectors.shape[0]

    @property
    def effective_rank(self) -> float:
        """In how many dimensions its values lie: (sum s^2)^2 / sum s^4. Its rank, where all count alike."""
        if self.values is None or not self.rank:
            return float(self.rank)
        return participation(self.values)

    def cut(self, rank: int) -> "Basis":
        """The first `rank` dimensions, those that count most."""
        values = None if self.values is None else self.values[:rank]
        return replace(self, vectors=self.vectors[:, :rank], values=values)

    def called(self, name: str) -> "Basis":
        """The same space by another name."""
        return replace(self, name=name)


def participation(values: Float[Tensor, "k"]) -> float:
    """(sum s^2)^2 / sum s^4: k for k equal singular values, 1 where one holds everything; NaN where all are 0."""
    squares = values.double().square()
    size = float(squares.sum())
    return size**2 / float(squares.square().sum()) if size > 0 else math.nan


def basis(name: str, columns: Float[Tensor, "d n"], source: str, *, rank: int | None = None) -> Basis:
    """The space that columns span, by their singular values; what is rounding is left out."""
    u, s = left_singular(columns)
    k = _above_rounding(s)
    return Basis(name, u[:, :k].float(), source, s[:k].float()).cut(k if rank is None else rank)


def left_singular(columns: Float[Tensor, "d n"]) -> tuple[Float[Tensor, "d m"], Float[Tensor, "m"]]:
    """Left singular vectors and singular values in float64, on the CPU.

    Through QR where there are fewer columns than rows, else through the eigenvectors of the Gram matrix: six times as quick as
    an SVD, and what float64 loses by squaring lies below what is rounding here.
    """
    x = columns.detach().to(quick(columns.device), torch.float64)
    if x.shape[1] < x.shape[0]:
        q, r = torch.linalg.qr(x)
        u, s, _ = torch.linalg.svd(r)
        return (q @ u).cpu(), s.cpu()
    squares, u = torch.linalg.eigh(x @ x.mT)
    return u.flip(1).cpu(), squares.flip(0).clamp(min=0).sqrt().cpu()


def quick(device: torch.device) -> torch.device:
    """The device that decompositions are made on: the same, but for MPS, which has no float64."""
    return torch.device("cpu") if device.type == "mps" else device


def _above_rounding(s: Tensor) -> int:
    return int((s > NOTHING * s[0]).sum()) if len(s) and float(s[0]) > 0 else 0


# ---------------------------------------------------------------- the algebra


def cosines(a: Basis, b: Basis) -> Float[Tensor, "m"]:
    """The cosines of the principal angles between two spaces, the smallest angle first."""
    _same_width(a, b)
    return torch.linalg.svdvals(a.vectors.double().mT @ b.vectors.double()).clamp(max=1.0)


def overlap(a: Basis, b: Basis) -> float:
    """The mean squared cosine over the smaller of two spaces: 1 where it lies inside the other; K/d for random ones."""
    smaller = min(a.rank, b.rank)
    return float(cosines(a, b).square().sum()) / smaller if smaller else math.nan


def intersection(a: Basis, b: Basis, *, least: float = SHARED, name: str = "") -> Basis:
    """What two spaces approximately share: the halves of those principal angles whose cosine is at least `least`.

    A vector between u in A and v in B, at cosine c of each other, has the cosine sqrt((1 + c) / 2) with both spaces. Its
    `values` are the c. Empty where no angle is that small.
    """
    _same_width(a, b)
    x, y = a.vectors.double(), b.vectors.double()
    u, c, vh = torch.linalg.svd(x.mT @ y, full_matrices=False)
    c = c.clamp(max=1.0)
    k = int((c >= least).sum())
    # principal vectors of different angles are orthogonal, so their sums are too
    halves = (x @ u[:, :k] + y @ vh[:k].mT) / (2 + 2 * c[:k]).sqrt()
    return Basis(name or f"{a.name}_x_{b.name}", halves.float(), _worst(a, b), c[:k].float())


def without(a: Basis, b: Basis, *, name: str = "") -> Basis:
    """A projected onto the complement of B, what lies farthest outside first; `values` are the sines of the angles.

    No difference of sets: a vector of A that leans out of B by a degree still leaves a dimension, with a sine of .02.
    """
    _same_width(a, b)
    x, y = a.vectors.double(), b.vectors.double()
    rest = x - y @ (y.mT @ x)
    u, s = left_singular(rest - y @ (y.mT @ rest))  # twice is enough (Kahan)
    k = int((s > NOTHING).sum())  # not as a share of the largest, which may be rounding itself
    return Basis(name or f"{a.name}_not_{b.name}", u[:, :k].float(), _worst(a, b), s[:k].float())


def complement(a: Basis, *, name: str = "") -> Basis:
    """Everything orthogonal to A: d less its dimensions, and as large as that. `without` is the thin way."""
    full, _ = torch.linalg.qr(a.vectors.double(), mode="complete")
    return Basis(name or f"not_{a.name}", full[:, a.rank :].float(), a.source)


def union(parts: Sequence[Basis], *, name: str = "", rank: int | None = None) -> Basis:
    """The space that several span together; cut to a rank, the dimensions that most of them have."""
    _same_width(*parts)
    whole = basis(name or "_or_".join(p.name for p in parts), torch.cat([p.vectors for p in parts], 1), _worst(*parts))
    return whole if rank is None else whole.cut(rank)


def haar(width: int, rank: int, generator: torch.Generator) -> Float[Tensor, "d k"]:
    """Orthonormal columns of a uniformly random space, in float64."""
    q, r = torch.linalg.qr(torch.randn(width, rank, generator=generator, dtype=torch.float64))
    return q * r.diagonal().sign()  # without the signs QR is not Haar


def _worst(*parts: Basis) -> str:
    """The source that says least for a result: what is made from the direction itself before anything else."""
    order = ("base", "other_behaviors", "heldout_acts", "same_prompts", "same_direction")
    return max((p.source for p in parts), key=order.index)


def _same_width(*parts: Basis) -> None:
    if not parts:
        raise ValueError("there are no spaces to combine")
    if len({p.width for p in parts}) > 1:
        listed = ", ".join(f"{p.name} of {p.width}" for p in parts)
        raise ValueError(f"spaces of one width can be combined; got {listed}")
