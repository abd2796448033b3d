"""Angles and sizes of many changes against many directions, exact from factors, one module in memory at a time.

    table = angles(finetunes, directions, base)
    table.cos("global")["all"]             # (fine-tunes, directions)
    table.projection("layer")["3"]         # how many alphas of each direction a fine-tune has moved, in layer 3

Random directions are drawn module by module as they are needed, and never held.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from ws.direction.algebra import SCOPES, gram_of_module, products_of_module
from ws.direction.direction import Direction
from ws.direction.forms import READS_BASE, Form, LowRank
from ws.direction.random import random_like
from ws.models.checkpoint import Theta
from ws.progress import progress
from ws.watch.changes import Change

MODULES_LOOKED_AT = 8
"""Modules whose readers say whether two changes began at one start."""
ALIKE = 0.5
"""Two readers of independent starts have cosines near 0, those of one start near 1."""


@dataclass(frozen=True, eq=False)
class Angles:
    """Inner products of n changes among each other, and with random directions as large as some of them, by module."""

    names: tuple[str, ...]
    products: Mapping[str, Float[Tensor, "n n"]] = field(repr=False)
    """Module to all inner products there."""
    random: Mapping[str, Float[Tensor, "n m k"]] = field(repr=False)
    """Module to the products of each change with k random directions like each of the m directions, which come last."""
    readers: Mapping[tuple[int, int], float] = field(repr=False)
    """How alike the readers of two changes are, where both have some."""

    def grouped(self, scope: str, *, random: bool = False) -> dict[str, Tensor]:
        """The products summed over the groups of a scope: global, layer, kind or module."""
        tables: dict[str, Tensor] = {}
        for name, table in (self.random if random else self.products).items():
            group = SCOPES[scope](name)
            tables[group] = tables[group] + table if group in tables else table.clone()
        return tables

    def norms(self, scope: str = "global") -> dict[str, Tensor]:
        """The norm of every change in each group."""
        return {g: t.diagonal().clamp(min=0).sqrt() for g, t in self.grouped(scope).items()}

    def cos(self, scope: str = "global") -> dict[str, Tensor]:
        """All cosines in each group; NaN where a change does nothing there."""
        return {g: _over(t, _outer(t.diagonal())) for g, t in self.grouped(scope).items()}

    def projection(self, scope: str = "global") -> dict[str, Tensor]:
        """`<i, j> / |j|^2`: how many alphas of change j the change i amounts to."""
        return {g: _over(t, t.diagonal().expand_as(t)) for g, t in self.grouped(scope).items()}

    def share(self, scope: str) -> dict[str, Tensor]:
        """The share of each change's squared norm that lies in each group."""
        parts = {g: t.diagonal().clamp(min=0) for g, t in self.grouped(scope).items()}
        total = torch.stack(list(parts.values())).sum(0)
        return {g: _over(part, total) for g, part in parts.items()}

    def random_cos(self, scope: str = "global") -> dict[str, Tensor]:
        """(n, m, k) cosines with the random directions, which have the norms of the directions they are like."""
        sizes, tables = self.norms(scope), self.grouped(scope, random=True)
        m = next(iter(tables.values())).shape[1] if tables else 0
        return {g: _over(t, sizes[g][:, None, None] * sizes[g][-m:][None, :, None]) for g, t in tables.items()}

    def mode(self, i: int, j: int) -> str:
        """`shared` where two changes began at one start, `independent` where they did not, `none` where neither shows."""
        alike = self.readers.get((i, j))
        return "none" if alike is None else "shared" if alike > ALIKE else "independent"


def angles(
    changes: Sequence[Change], directions: Sequence[Change], base: Theta, *, draws: int = 0, seed: int = 0
) -> Angles:
    """The angles of changes and directions, and of every change with `draws` random directions like each direction."""
    both = [*changes, *directions]
    names = sorted(set().union(*(c.forms for c in both)))
    products: dict[str, Tensor] = {}
    random: dict[str, Tensor] = {}
    alike: dict[tuple[int, int], list[float]] = {}
    with progress(len(names), "angles") as tick:
        for at, name in enumerate(names):
            parts = [c.forms.get(name, ()) for c in both]
            w = _weight(parts, name, base)
            products[name] = gram_of_module(parts, w)
            if draws:
                random[name] = _with_random(name, parts, len(changes), w, base, draws, seed + at)
            if at % max(1, len(names) // MODULES_LOOKED_AT) == 0:
                _look_at_readers(parts, alike)
            tick(1)
    readers = {pair: sum(values) / len(values) for pair, values in alike.items()}
    return Angles(tuple(c.name for c in both), products, random, readers)


def _weight(parts: Sequence[tuple[Form, ...]], name: str, base: Theta) -> Tensor | None:
    return base.weight(name) if any(isinstance(f, READS_BASE) for forms in parts for f in forms) else None


def _with_random(
    name: str, parts: Sequence[tuple[Form, ...]], n: int, w: Tensor | None, base: Theta, draws: int, seed: int
) -> Tensor:
    """(all changes, directions, draws) products of one module with random directions like each direction there."""
    table = torch.zeros(len(parts), len(parts) - n, draws, dtype=torch.float64)
    for j, own in enumerate(parts[n:]):
        if own:
            like = Direction({name: own})
            drawn = [random_like(like, _seed(seed, j, k), base.weight).forms[name] for k in range(draws)]
            table[:, j] = products_of_module(parts, drawn, w if w is not None else _weight(drawn, name, base))
    return table


def _seed(module: int, direction: int, draw: int) -> int:
    return (module * 1_000 + direction) * 10_000 + draw


def _look_at_readers(parts: Sequence[tuple[Form, ...]], alike: dict[tuple[int, int], list[float]]) -> None:
    """Add how alike the readers of every two changes of one module are."""
    rows = [next((f.a for f in forms if isinstance(f, LowRank)), None) for forms in parts]
    units = [None if a is None else torch.nn.functional.normalize(a.detach().cpu().double(), dim=1) for a in rows]
    for i, a in enumerate(units):
        for j, c in enumerate(units):
            if a is not None and c is not None:
                few, many = (a, c) if a.shape[0] <= c.shape[0] else (c, a)
                alike.setdefault((i, j), []).append(float((few @ many.mT).abs().max(1).values.median()))


def _outer(squares: Tensor) -> Tensor:
    size = squares.clamp(min=0).sqrt()
    return size[:, None] * size


def _over(top: Tensor, below: Tensor) -> Tensor:
    return torch.where(below > 0, top / below, torch.nan)
