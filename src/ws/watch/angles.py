"""Angles and sizes of many changes against many others, exact from factors, one module in memory at a time.

    table = angles(finetunes, directions, base)
    table.cos("global")["all"]             # (fine-tunes, directions)
    table.projection("layer")["3"]         # how many alphas of each direction a fine-tune has moved, in layer 3
    angles(directions, directions, base)   # of directions among themselves

Random directions are drawn module by module as they are needed, and never held.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from ws.direction.algebra import SCOPES, gram_of_module, products_of_module
from ws.direction.direction import Direction
from ws.direction.forms import READS_BASE, Factors, Form
from ws.direction.random import random_like
from ws.models.checkpoint import Theta
from ws.progress import progress
from ws.watch.changes import Change

MODULES_LOOKED_AT = 3
"""Modules whose readers say whether two changes began at one start."""
ALIKE = 0.5
"""Two readers of independent starts have cosines near 0, those of one start near 1."""

ByModule = Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class Angles:
    """Inner products of n changes (rows) with m others (columns), by module, and the size of each."""

    products: ByModule = field(repr=False)
    """(n, m)"""
    squares: ByModule = field(repr=False)
    """(n,) squared norms of the rows"""
    column_squares: ByModule = field(repr=False)
    """(m,) squared norms of the columns"""
    random: ByModule = field(repr=False)
    """(n, d, k) products of the rows with k random directions like each of the first d columns"""
    readers: Mapping[tuple[int, int], float] = field(repr=False)
    """How alike the readers of a row and a column are, where both have some."""

    def cos(self, scope: str = "global") -> dict[str, Float[Tensor, "n m"]]:
        """All cosines in each group of a scope (global, layer, kind, module); NaN where a change does nothing there."""
        rows, columns = self.norms(scope), _roots(_grouped(self.column_squares, scope))
        tables = _grouped(self.products, scope)
        return {g: _over(t, rows[g][:, None] * columns[g]) for g, t in tables.items()}

    def projection(self, scope: str = "global") -> dict[str, Float[Tensor, "n m"]]:
        """`<row, column> / |column|^2`: how many alphas of a column a row amounts to."""
        columns = _grouped(self.column_squares, scope)
        return {g: _over(t, columns[g].expand_as(t)) for g, t in _grouped(self.products, scope).items()}

    def norms(self, scope: str = "global") -> dict[str, Tensor]:
        """The norm of every row in each group."""
        return _roots(_grouped(self.squares, scope))

    def shares(self, scope: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The share of each squared norm that lies in each group, of rows and of columns."""
        return _shares(_grouped(self.squares, scope)), _shares(_grouped(self.column_squares, scope))

    def random_cos(self, scope: str = "global") -> dict[str, Float[Tensor, "n d k"]]:
        """Cosines with the random directions, which have the norms of the columns they are like."""
        rows, columns = self.norms(scope), _roots(_grouped(self.column_squares, scope))
        tables = _grouped(self.random, scope)
        return {g: _over(t, rows[g][:, None, None] * columns[g][None, : t.shape[1], None]) for g, t in tables.items()}

    def mode(self, row: int, column: int) -> str:
        """`shared` where two changes began at one start, `independent` where they did not, `none` where neither shows."""
        alike = self.readers.get((row, column))
        return "none" if alike is None else "shared" if alike > ALIKE else "independent"


def angles(
    changes: Sequence[Change],
    others: Sequence[Change],
    base: Theta,
    *,
    draws: int = 0,
    like: int | None = None,
    seed: int = 0,
) -> Angles:
    """The angles of changes with others, and with `draws` random directions like each of the first `like` others."""
    names = sorted(set().union(*(c.forms for c in (*changes, *others))))
    looked_at = {names[len(names) * (2 * k + 1) // (2 * MODULES_LOOKED_AT)] for k in range(MODULES_LOOKED_AT) if names}
    products: dict[str, Tensor] = {}
    squares: tuple[dict[str, Tensor], dict[str, Tensor]] = ({}, {})
    random: dict[str, Tensor] = {}
    alike: dict[tuple[int, int], list[float]] = {}
    with progress(len(names), "angles") as tick:
        for at, name in enumerate(names):
            rows, columns = ([c.forms.get(name, ()) for c in side] for side in (changes, others))
            w = _weight((*rows, *columns), name, base)
            products[name] = products_of_module(rows, columns, w)
            squares[0][name], squares[1][name] = _squares(rows, w), _squares(columns, w)
            if draws:
                random[name] = _with_random(name, rows, columns[:like], base, draws, seed + at)
            if name in looked_at:
                _look_at_readers(rows, columns, alike)
            tick(1)
    readers = {pair: sum(values) / len(values) for pair, values in alike.items()}
    return Angles(products, *squares, random, readers)


def _weight(parts: Sequence[tuple[Form, ...]], name: str, base: Theta) -> Tensor | None:
    return base.weight(name) if any(isinstance(f, READS_BASE) for forms in parts for f in forms) else None


def _squares(parts: Sequence[tuple[Form, ...]], w: Tensor | None) -> Tensor:
    """The squared norm of every change of one module."""
    return torch.tensor([float(gram_of_module([own], w)[0, 0]) if own else 0.0 for own in parts], dtype=torch.float64)


def _with_random(
    name: str, rows: Sequence[tuple[Form, ...]], columns: Sequence[tuple[Form, ...]], base: Theta, draws: int, seed: int
) -> Tensor:
    """(rows, columns, draws) products of one module with random directions like each column there."""
    table = torch.zeros(len(rows), len(columns), draws, dtype=torch.float64)
    for j, own in enumerate(columns):
        if own:
            like = Direction({name: own})
            drawn = [random_like(like, _seed(seed, j, k), base.weight).forms[name] for k in range(draws)]
            table[:, j] = products_of_module(rows, drawn, _weight((*rows, *drawn), name, base))
    return table


def _seed(module: int, direction: int, draw: int) -> int:
    return (module * 1_000 + direction) * 10_000 + draw


def _look_at_readers(
    rows: Sequence[tuple[Form, ...]], columns: Sequence[tuple[Form, ...]], alike: dict[tuple[int, int], list[float]]
) -> None:
    """Add how alike the readers of every row and column are in one module."""
    left, right = ([_units(forms) for forms in side] for side in (rows, columns))
    for i, a in enumerate(left):
        for j, c in enumerate(right):
            if a is not None and c is not None:
                few, many = (a, c) if a.shape[-2] <= c.shape[-2] else (c, a)
                alike.setdefault((i, j), []).append(float((few @ many.mT).abs().max(-1).values.median()))


def _units(forms: tuple[Form, ...]) -> Tensor | None:
    """The readers of a low rank at length 1; of experts, those of each."""
    a = next((f.a for f in forms if isinstance(f, Factors)), None)
    return None if a is None else torch.nn.functional.normalize(a.detach().cpu().float(), dim=-1)


def _grouped(tables: ByModule, scope: str) -> dict[str, Tensor]:
    """Tables summed over the groups of a scope."""
    sums: dict[str, Tensor] = {}
    for name, table in tables.items():
        group = SCOPES[scope](name)
        sums[group] = sums[group] + table if group in sums else table.clone()
    return sums


def _roots(groups: dict[str, Tensor]) -> dict[str, Tensor]:
    return {g: t.clamp(min=0).sqrt() for g, t in groups.items()}


def _shares(groups: dict[str, Tensor]) -> dict[str, Tensor]:
    total = torch.stack([t.clamp(min=0) for t in groups.values()]).sum(0)
    return {g: _over(t.clamp(min=0), total) for g, t in groups.items()}


def _over(top: Tensor, below: Tensor) -> Tensor:
    return torch.where(below > 0, top / below, torch.nan)
