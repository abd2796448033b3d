"""How much of a direction lies in a space, beside random spaces of the same rank and the best there is.

    energy = ||B^T w||^2 / ||w||^2      of matrices that write; ||w B||^2 / ||w||^2 of matrices that read

A random space of K of d dimensions holds K/d of any direction on average; draws say how far chance strays from that, which
depends on the direction's own spectrum. The best space of K dimensions is that of its own singular vectors. A space of the
whole model is compared with one random space for all blocks, a space per block with one per block.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from ws.direction.algebra import spectrum
from ws.direction.direction import Direction
from ws.direction.forms import BiasShift
from ws.explain.bases.basis import Basis, haar
from ws.explain.bases.spaces import Spaces, readers_of, writers_of
from ws.explain.bases.spectra import width_of
from ws.models.base import Base

DRAWS = 100

Factors = Mapping[int, Tensor]
"""Block to F (d, q), with F F^T the sum of w w^T over its writers, or of w^T w over its readers."""


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


def factors(direction: Direction, base: Base, side: str) -> dict[int, Tensor]:
    """What a direction changes of the residual stream's writers, or of its readers, block by block, in factors."""
    linears = writers_of(base) if side == "write" else readers_of(base, width_of(base))
    parts: dict[int, list[Tensor]] = {}
    for x in linears:
        if (part := factor(direction, x.name, base, side)) is not None:
            parts.setdefault(x.block, []).append(part)
    return {block: torch.cat(some, 1) for block, some in parts.items()}


def factor(direction: Direction, name: str, base: Base, side: str) -> Float[Tensor, "d q"] | None:
    """F with F F^T = w w^T, or w^T w for reading, of one module's change; None where its matrix is not changed."""
    matrix = tuple(f for f in direction.forms.get(name, ()) if not isinstance(f, BiasShift))
    if not matrix:
        return None
    left, squares, right = spectrum(name, matrix, base.weight if direction.reads_base else None)
    columns = left if side == "write" else right.mT
    sizes = columns.norm(dim=0)  # one side carries the singular values, the other has length 1
    return columns * (squares.clamp(min=0).sqrt() / torch.where(sizes > 0, sizes, 1.0))


def share(parts: Factors, bases: Mapping[int, Basis], *, draws: int = DRAWS, seed: int = 0) -> Share:
    """The share of some factors that lies in a basis per block; blocks without a basis hold nothing."""
    blocks = sorted(parts)
    size = sum(float(f.square().sum()) for f in parts.values())
    own = [bases[b] for b in blocks if b in bases and bases[b].rank]
    if not (size > 0 and own):
        return Share(*(math.nan,) * 5, rank=0.0, effective_rank=0.0)
    inside = sum(_inside(parts[b], bases[b]) for b in blocks if b in bases)
    whole = len(own) == len(blocks) and all(b is own[0] for b in own)
    # one space for all blocks sees one sum of all of them
    groups = [(own[0], list(blocks))] if whole else [(bases[b], [b]) for b in blocks if b in bases and bases[b].rank]
    null, best, at_random = 0.0, 0.0, torch.zeros(draws, dtype=torch.float64)
    g = torch.Generator().manual_seed(seed)
    for space, members in groups:
        squares = _squares([parts[b] for b in members])
        null += float(squares.sum()) * space.rank / space.width
        best += float(squares[: space.rank].sum())
        rows = row_norms(space.width, space.rank, draws)[torch.randperm(draws, generator=g)]
        at_random += rows[:, : len(squares)] @ squares
    at_random /= size
    ranks = [b.rank for b in own]
    return Share(
        inside / size,
        null / size,
        float(at_random.mean()),
        float(at_random.std()),
        best / size,
        rank=sum(ranks) / len(ranks),
        effective_rank=sum(b.effective_rank for b in own) / len(own),
    )


def shares(direction: Direction, base: Base, spaces: Spaces, *, draws: int = DRAWS, seed: int = 0) -> dict[str, Share]:
    """The share of a direction in spaces, per side that they have and that the direction touches."""
    results = {}
    for side in ("write", "read"):
        if spaces.side(side) and (parts := factors(direction, base, side)):
            results[side] = share(parts, dict(enumerate(spaces.side(side))), draws=draws, seed=seed)
    return results


def _inside(f: Float[Tensor, "d q"], b: Basis) -> float:
    return float((b.vectors.double().mT @ f).square().sum())


def _squares(parts: list[Tensor]) -> Float[Tensor, "m"]:
    """The squared singular values of factors side by side, largest first, through the smaller Gram matrix."""
    f = torch.cat(parts, 1)
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
