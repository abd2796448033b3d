"""How much of a direction lies in a space, beside random spaces of the same rank and the best there is.

    energy = ||B^T w||^2 / ||w||^2      of matrices that write; ||w B||^2 / ||w||^2 of matrices that read

A random space of K of d dimensions holds K/d of any direction on average; draws say how far chance strays from that, which
depends on the direction's own spectrum. The best space of K dimensions is that of its own singular vectors. A space of the
whole model is compared with one random space for all blocks, a space per block with one per block.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from ws.direction.algebra import matrices, spectrum
from ws.direction.direction import Direction, WeightOf
from ws.direction.forms import Form
from ws.explain.bases.basis import Basis, haar, left_singular
from ws.explain.bases.spaces import Spaces, readers_of, writers_of
from ws.explain.bases.spectra import width_of
from ws.models.base import Base

DRAWS = 100


@dataclass(frozen=True, eq=False)
class Factors:
    """What a direction changes on one side, block by block, as F (d, q): F F^T is the sum of w w^T, or of w^T w for reading."""

    of: Mapping[int, Float[Tensor, "d q"]]

    def __bool__(self) -> bool:
        return self.size > 0

    @cached_property
    def size(self) -> float:
        """The squared norm of all of it."""
        return sum(float(f.square().sum()) for f in self.of.values())

    @cached_property
    def together(self) -> Float[Tensor, "m"]:
        """The squared singular values of all blocks side by side, the largest first."""
        parts = list(self.of.values())
        if sum(f.shape[1] for f in parts) < parts[0].shape[0]:
            return _squares(torch.cat(parts, 1))
        gram = torch.zeros(len(parts[0]), len(parts[0]), dtype=torch.float64)
        for f in parts:
            gram.addmm_(f, f.mT)
        return torch.linalg.eigvalsh(gram).flip(0).clamp(min=0)

    @cached_property
    def apart(self) -> dict[int, Float[Tensor, "m"]]:
        """Those of every block."""
        return {block: _squares(f) for block, f in self.of.items()}

    def inside(self, block: int, space: Basis) -> float:
        """The squared norm of one block's part in a space."""
        return float((space.vectors.double().mT @ self.of[block]).square().sum())


@dataclass(frozen=True)
class Share:
    """The share of a direction's squared norm that lies in a space, and what to hold it against."""

    energy: float
    null: float
    """What a random space of this rank holds on average."""
    draws_mean: float
    """The mean of random draws, which is the null but for chance."""
    draws_sd: float
    """How far random spaces of this rank stray from it."""
    best: float
    """What the best space of this rank holds."""
    rank: float
    """The dimensions, the mean of the blocks."""
    effective_rank: float
    """The same, weighted by what counts."""

    @property
    def ratio(self) -> float:
        """Times as much as a random space."""
        return self.energy / self.null if self.null > 0 else math.nan

    @property
    def z(self) -> float:
        """Its distance from random spaces, in their standard deviations."""
        return (self.energy - self.draws_mean) / self.draws_sd if self.draws_sd > 1e-12 else math.nan

    @property
    def of_best(self) -> float:
        """Its energy as a share of what the best space holds."""
        return self.energy / self.best if self.best > 0 else math.nan


def factors(direction: Direction, base: Base, side: str, *, blocks: Collection[int] | None = None) -> Factors:
    """What a direction changes of the residual stream's writers, or of its readers, in factors; of some blocks, or of all.

    A block whose factors have more columns than the stream is wide, as those of full fine-tunes, is kept as a square root.
    Every expert is a matrix like any other.
    """
    layers = writers_of(base, experts=True) if side == "write" else readers_of(base, width_of(base), experts=True)
    parts: dict[int, Tensor] = {}
    for x in layers:
        if (blocks is None or x.block in blocks) and (part := factor(direction, x.name, base, side)) is not None:
            parts[x.block] = _narrow(torch.cat([parts[x.block], part], 1) if x.block in parts else part)
    return Factors(parts)


def _narrow(f: Float[Tensor, "d q"]) -> Float[Tensor, "d m"]:
    """The same f f^T in no more columns than rows."""
    if f.shape[1] <= f.shape[0]:
        return f
    u, s = left_singular(f)
    return u * s


def factor(direction: Direction, name: str, base: Base, side: str) -> Float[Tensor, "d q"] | None:
    """F with F F^T = w w^T, or w^T w for reading, of one module's change; None where nothing of that side is changed.

    What a bias writes is a column of its own: it counts in the norm of a direction too.
    """
    forms = direction.forms.get(name, ())
    shift = direction.bias(name) if side == "write" and forms else None
    columns = [] if shift is None else [shift.detach().cpu().double()[:, None]]
    weight = base.weight if direction.reads_base else None
    columns += [_matrix_factor(name, matrix, weight, side) for matrix in matrices(forms)]
    return torch.cat(columns, 1) if columns else None


def _matrix_factor(name: str, matrix: tuple[Form, ...], weight: WeightOf | None, side: str) -> Float[Tensor, "d q"]:
    left, squares, right = spectrum(name, matrix, weight)
    columns = left if side == "write" else right.mT
    sizes = columns.norm(dim=0)  # one side carries the singular values, the other has length 1
    return columns * (squares.clamp(min=0).sqrt() / torch.where(sizes > 0, sizes, 1.0))


def share(parts: Factors, bases: Mapping[int, Basis], *, draws: int = DRAWS, seed: int = 0) -> Share:
    """The share of some factors that lies in a basis per block; blocks without a basis hold nothing."""
    own = {b: bases[b] for b in parts.of if b in bases and bases[b].rank}
    if not (parts and own):
        return Share(*(math.nan,) * 5, rank=0.0, effective_rank=0.0)
    spaces = list(own.values())
    whole = len(own) == len(parts.of) and all(b is spaces[0] for b in spaces)
    # one space for all blocks is held against one random space, and the best one, for all of them
    groups = [(spaces[0], parts.together)] if whole else [(space, parts.apart[b]) for b, space in own.items()]
    null, best, at_random = 0.0, 0.0, torch.zeros(draws, dtype=torch.float64)
    g = torch.Generator().manual_seed(seed)
    for space, squares in groups:
        null += float(squares.sum()) * space.rank / space.width
        best += float(squares[: space.rank].sum())
        rows = row_norms(space.width, space.rank, draws)[torch.randperm(draws, generator=g)]
        at_random += rows[:, : len(squares)] @ squares
    return Share(
        sum(parts.inside(b, space) for b, space in own.items()) / parts.size,
        null / parts.size,
        float(at_random.mean()) / parts.size,
        float(at_random.std()) / parts.size,
        best / parts.size,
        rank=sum(b.rank for b in spaces) / len(spaces),
        effective_rank=sum(b.effective_rank for b in spaces) / len(spaces),
    )


def shares(direction: Direction, base: Base, spaces: Spaces, *, draws: int = DRAWS, seed: int = 0) -> dict[str, Share]:
    """The share of a direction in spaces, per side that they have and that the direction touches."""
    results = {}
    for side in ("write", "read"):
        if spaces.side(side) and (parts := factors(direction, base, side)):
            results[side] = share(parts, dict(enumerate(spaces.side(side))), draws=draws, seed=seed)
    return results


def _squares(f: Float[Tensor, "d q"]) -> Float[Tensor, "m"]:
    """The squared singular values, largest first, through the smaller Gram matrix."""
    gram = f.mT @ f if f.shape[1] < f.shape[0] else f @ f.mT
    return torch.linalg.eigvalsh(gram).flip(0).clamp(min=0)


@lru_cache(maxsize=64)
def row_norms(width: int, rank: int, draws: int) -> Float[Tensor, "n d"]:
    """What a random space holds of every one of d orthonormal vectors, draw by draw.

    The law of a Haar space is the same in every orthonormal system, so the coordinate axes stand for the singular vectors of
    any direction, and one set of draws serves all of them.
    """
    g = torch.Generator().manual_seed(width * 1009 + rank)
    return torch.stack([haar(width, rank, g).square().sum(1) for _ in range(draws)])
