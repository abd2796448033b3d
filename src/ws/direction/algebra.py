"""Operations on directions besides adding and scaling them, exact and in factors.

    only_mlp   = restricted(honesty, keep=["*.mlp.*"])
    deeper     = over_depth(honesty, [0.5, 1.0])                  # half strength in the first layer, full in the last
    without    = project_out(honesty, candor, base.weight)         # <without, candor> = 0
    small, kept = compressed(honesty, rank=8)                      # and how much of the energy it keeps
    table      = gram([honesty, candor, random], base.weight)      # all inner products at once

Names are matched with globs on full module paths; one that matches nothing is an error.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor

from ws.direction.direction import Direction, WeightOf, dot
from ws.direction.forms import READS_BASE, BiasShift, Dense, Form, LowRank, Stacked, gathered, inner
from ws.errors import DirectionMismatch, Unsupported

Scope = Callable[[str], str]
"""Module name to the group it is counted in."""


def layer_of(name: str) -> int:
    """The block a module belongs to: the first number in its path."""
    match = re.search(r"\.(\d+)\.", name)
    if match is None:
        raise ValueError(f"{name} names no layer, so it has no depth")
    return int(match[1])


def everything(name: str) -> str:
    """One group for all modules."""
    return "all"


def by_layer(name: str) -> str:
    """One group per decoder block."""
    return str(layer_of(name))


def by_module(name: str) -> str:
    """One group per module."""
    return name


def by_kind(name: str) -> str:
    """One group per kind of matrix, e.g. `mlp.down_proj`."""
    return re.split(r"\.\d+\.", name, maxsplit=1)[-1]


RANKS_AT_ONCE, VALUES_AT_ONCE = 96, 1_000_000  # what fits a processor's cache

PLAIN = (LowRank, Dense)
"""Forms that are matrices by themselves; the others read the base's weight or are none."""

SCOPES: dict[str, Scope] = {"global": everything, "layer": by_layer, "module": by_module, "kind": by_kind}


# ---------------------------------------------------------------- choosing and weighing parts


def restricted(
    direction: Direction, *, keep: Sequence[str] | str = ("*",), drop: Sequence[str] | str = ()
) -> Direction:
    """Only the modules that match a `keep` glob and no `drop` glob; their complement is the other half."""
    keep, drop = ((g,) if isinstance(g, str) else g for g in (keep, drop))
    _all_match(direction, [*keep, *drop])
    chosen = {
        name: forms
        for name, forms in direction.forms.items()
        if any(fnmatchcase(name, g) for g in keep) and not any(fnmatchcase(name, g) for g in drop)
    }
    if not chosen:
        raise ValueError(
            f"keep {list(keep)} without {list(drop)} leaves no module of the {len(direction.forms)} there are"
        )
    return Direction(chosen, {**direction.provenance, "restricted": {"keep": list(keep), "drop": list(drop)}})


def scaled_by(direction: Direction, factors: Mapping[str, float]) -> Direction:
    """Every module multiplied by the factors of all globs it matches; modules that match none stay."""
    _all_match(direction, factors)
    if bad := [g for g, k in factors.items() if not math.isfinite(k)]:
        raise ValueError(f"the factors of {bad} are not finite")
    scaled = {}
    for name, forms in direction.forms.items():
        k = math.prod(factor for g, factor in factors.items() if fnmatchcase(name, g))
        scaled[name] = tuple(f.scaled(k) for f in forms)
    return Direction(scaled, {**direction.provenance, "scaled_by": dict(factors)})


def over_depth(direction: Direction, values: Sequence[float]) -> Direction:
    """Factors along the depth: `values` are spread evenly from the first to the last layer touched, linear in between."""
    layers = sorted({layer_of(name) for name in direction.forms})
    if not values or not all(map(math.isfinite, values)):
        raise ValueError(f"depth factors must be finite numbers, got {list(values)}")

    def at(layer: int) -> float:
        place = (layer - layers[0]) / max(1, layers[-1] - layers[0]) * (len(values) - 1)
        low = min(int(place), len(values) - 1)
        high = min(low + 1, len(values) - 1)
        return values[low] + (place - low) * (values[high] - values[low])

    scaled = {n: tuple(f.scaled(at(layer_of(n))) for f in forms) for n, forms in direction.forms.items()}
    return Direction(scaled, {**direction.provenance, "over_depth": list(values)})


# ---------------------------------------------------------------- sizes and angles


def gram(
    directions: Sequence[Direction], weight: WeightOf | None = None, *, scope: str = "global"
) -> dict[str, Tensor]:
    """All inner products of n directions, one (n, n) float64 table per group of the scope.

    Module by module. Low ranks of one module are multiplied together at once, in factors or in slices of rows, whichever
    is less work; nothing the size of all matrices is built.
    """
    group = _group(scope)
    n = len(directions)
    tables: dict[str, Tensor] = {}
    for name in sorted(set().union(*(d.forms for d in directions))):
        table = tables.setdefault(group(name), torch.zeros(n, n, dtype=torch.float64))
        parts = [d.forms.get(name, ()) for d in directions]
        reads = any(isinstance(f, READS_BASE) for forms in parts for f in forms)
        w = weight(name) if reads and weight is not None else None
        if reads and w is None:
            raise ValueError(
                f"{name} is changed relative to its own weight, so its size needs the base: pass weight=base.weight"
            )
        table += gram_of_module(parts, w)
    return tables


def _group(scope: str) -> Scope:
    if scope not in SCOPES:
        raise ValueError(f"scope is one of {', '.join(SCOPES)}; got {scope!r}")
    return SCOPES[scope]


def cosines(table: Tensor) -> Tensor:
    """The cosines of a Gram table; NaN where a direction is zero."""
    size = table.diagonal().clamp(min=0).sqrt()
    ratios = table / (size[:, None] * size)
    return torch.where((size[:, None] * size) > 0, ratios, torch.nan)


def gram_of_module(parts: Sequence[tuple[Form, ...]], w: Tensor | None) -> Tensor:
    """All inner products of n changes of one module, (n, n) in float64; `w` is its base weight where a form reads it."""
    n = len(parts)
    low = [[f for f in forms if isinstance(f, LowRank)] for forms in parts]
    rest = [[f for f in forms if not isinstance(f, LowRank)] for forms in parts]
    table = _gram_of_low_ranks(low)
    if not any(rest):
        return table
    for i in range(n):
        for j in range(i, n):
            extra = sum(inner(a, b, w) for a in rest[i] for b in rest[j])
            extra += sum(inner(a, b, w) for a in low[i] for b in rest[j])
            extra += sum(inner(a, b, w) for a in rest[i] for b in low[j])
            table[i, j] += extra
            if j > i:
                table[j, i] += extra
    return table


def products_of_module(left: Sequence[tuple[Form, ...]], right: Sequence[tuple[Form, ...]], w: Tensor | None) -> Tensor:
    """The inner products of n changes of one module with m others, (n, m) in float64; those within a side are left out."""
    sides = [
        [(at, f) for at, forms in enumerate(side) for f in forms if isinstance(f, PLAIN)] for side in (left, right)
    ]
    table = torch.zeros(len(left), len(right), dtype=torch.float64)
    if sides[0] and sides[1]:
        dense = any(isinstance(f, Dense) for side in sides for _, f in side)
        table += (_products_in_slices if dense else _products_in_factors)(sides, (len(left), len(right)))
    for i, forms in enumerate(left):
        for j, others in enumerate(right):
            both = ((f, g) for f in forms for g in others if not (isinstance(f, PLAIN) and isinstance(g, PLAIN)))
            table[i, j] += sum(inner(f, g, w) for f, g in both)
    return table


def _products_in_factors(sides: Sequence[Sequence[tuple[int, Any]]], shape: tuple[int, int]) -> Tensor:
    """Of low ranks: `<b p, d q> = sum((b . d) (p . q))`, all of one side with all of the other."""
    (rows, b, a), (columns, d, c) = map(_stacked, sides)
    products = (b @ d.mT).mul_(a @ c.mT)
    by_row = torch.zeros(shape[0], len(columns), dtype=torch.float64).index_add_(0, rows, products)
    return torch.zeros(shape, dtype=torch.float64).index_add_(1, columns, by_row)


def _products_in_slices(sides: Sequence[Sequence[tuple[int, Any]]], shape: tuple[int, int]) -> Tensor:
    """Of low ranks and whole matrices: the matrices themselves, some rows at a time, in float32 or better."""
    first = sides[0][0][1]
    out_features, in_features = first.m.shape if isinstance(first, Dense) else (first.b.shape[0], first.a.shape[1])
    dtype = torch.promote_types(next(iter(vars(first).values())).dtype, torch.float32)
    at_once = max(1, min(out_features, VALUES_AT_ONCE // (max(shape) * in_features)))
    table = torch.zeros(shape, dtype=torch.float64)
    for start in range(0, out_features, at_once):
        rows = slice(start, min(out_features, start + at_once))
        left, right = (_rows_of(side, n, rows, in_features, dtype) for side, n in zip(sides, shape))
        table += (left @ right.mT).double()
    return table


def _rows_of(side: Sequence[tuple[int, Any]], n: int, rows: slice, in_features: int, dtype: torch.dtype) -> Tensor:
    """Some rows of n matrices, flat."""
    part = torch.zeros(n, rows.stop - rows.start, in_features, dtype=dtype)
    for at, f in side:
        if isinstance(f, Dense):
            part[at] += f.m[rows].detach().to("cpu", dtype)
        else:
            part[at].addmm_(f.b[rows].detach().to("cpu", dtype), f.a.detach().to("cpu", dtype))
    return part.reshape(n, -1)


def _stacked(low: Sequence[tuple[int, LowRank]]) -> tuple[Tensor, Tensor, Tensor]:
    """(owner of each row, all writers as rows, all readers) of low ranks, in float64."""
    ranks = torch.tensor([f.a.shape[0] for _, f in low])
    owners = torch.repeat_interleave(torch.tensor([at for at, _ in low]), ranks)
    b, a = ([t.detach().cpu().double() for t in ts] for ts in zip(*((f.b.mT, f.a) for _, f in low)))
    return owners, torch.cat(b), torch.cat(a)


def _gram_of_low_ranks(low: Sequence[Sequence[LowRank]]) -> Tensor:
    n = len(low)
    every = [form for forms in low for form in forms]
    if not every:
        return torch.zeros(n, n, dtype=torch.float64)
    ranks = [sum(f.a.shape[0] for f in forms) for forms in low]
    total, (out_features, in_features) = sum(ranks), (every[0].b.shape[0], every[0].a.shape[1])
    # float64 costs twice, and symmetry saves half of it
    in_factors = (out_features + in_features) * total**2
    in_slices = out_features * in_features * (total + n * n)
    return _in_factors(low, ranks) if in_factors <= in_slices else _in_slices(low)


def _in_factors(low: Sequence[Sequence[LowRank]], ranks: Sequence[int]) -> Tensor:
    """`<b_p a_p, b_q a_q> = sum((b_p . b_q) (a_p . a_q))`, above the diagonal only, some directions at a time.

    In float64: where factors are large and their sum is small (PiSSA), float32 loses a quarter of the result here.
    """
    n = len(low)
    b = torch.cat([f.b.detach().cpu().mT for forms in low for f in forms]).double()  # (R, o)
    a = torch.cat([f.a.detach().cpu() for forms in low for f in forms]).double()  # (R, i)
    owner = torch.repeat_interleave(torch.arange(n), torch.tensor(ranks))
    edges = [0, *torch.tensor(ranks).cumsum(0).tolist()]
    table = torch.zeros(n, n, dtype=torch.float64)
    first = 0
    while first < n:
        last = first + 1
        while last < n and edges[last + 1] - edges[first] <= RANKS_AT_ONCE:
            last += 1
        here, rest = slice(edges[first], edges[last]), slice(edges[first], None)
        products = (b[here] @ b[rest].mT) * (a[here] @ a[rest].mT)
        rows = torch.zeros(n, products.shape[1], dtype=torch.float64).index_add_(0, owner[here], products)
        table.index_add_(1, owner[rest], rows)
        first = last
    return table.triu() + table.triu(1).mT


def _in_slices(low: Sequence[Sequence[LowRank]]) -> Tensor:
    """The matrices themselves, some rows at a time, in their own precision or float32.

    A difference is taken here before it is squared, so what cancels costs no more digits than in the matrix itself.
    """
    forms = [(at, f) for at, many in enumerate(low) for f in many]
    dtype = torch.promote_types(forms[0][1].b.dtype, torch.float32)
    factors = [(at, f.b.detach().to("cpu", dtype), f.a.detach().to("cpu", dtype)) for at, f in forms]
    n, out_features, in_features = len(low), factors[0][1].shape[0], factors[0][2].shape[1]
    at_once = max(1, min(out_features, VALUES_AT_ONCE // (n * in_features)))
    space = torch.empty(n, at_once, in_features, dtype=dtype)
    table = torch.zeros(n, n, dtype=torch.float64)
    for row in range(0, out_features, at_once):
        part = space[:, : out_features - row].zero_() if out_features - row < at_once else space.zero_()
        for at, b, a in factors:
            part[at].addmm_(b[row : row + at_once], a)
        flat = part.reshape(n, -1)
        table += (flat @ flat.mT).double()
    return table


# ---------------------------------------------------------------- subspaces


def project_out(
    direction: Direction, other: Direction, weight: WeightOf | None = None, *, scope: str = "global"
) -> Direction:
    """`direction` less its part along `other`: afterwards their inner product is 0 in every group of the scope."""
    group = _group(scope)
    names: dict[str, list[str]] = {}
    for name in other.forms:
        names.setdefault(group(name), []).append(name)
    result = direction
    for members in names.values():
        u = Direction({n: other.forms[n] for n in members}, other.provenance)
        size = dot(u, u, weight)
        if size > 0:
            result = result + u * (-dot(direction, u, weight) / size)
    if not names:
        raise DirectionMismatch("there is nothing to project out: the other direction touches no module")
    return Direction(
        result.forms,
        {
            **direction.provenance,
            "projected_out": {"scope": scope, "hash": other.content_hash, "made": dict(other.provenance)},
        },
    )


def orthonormalized(directions: Sequence[Direction], weight: WeightOf | None = None) -> list[Direction]:
    """Gram-Schmidt in the order given: unit norms, all inner products 0."""
    units: list[Direction] = []
    for at, d in enumerate(directions):
        start = d.norm(weight)
        for _ in range(2):  # twice is enough (Kahan): the second pass removes what rounding left
            for u in units:
                d = d + u * -dot(d, u, weight)
        size = d.norm(weight)
        if not size > 1e-6 * max(start, 1e-300):
            raise ValueError(f"direction {at} lies in the span of those before it, so it has no orthogonal part")
        units.append(d * (1 / size))
    return units


def compressed(
    direction: Direction, *, rank: int | None = None, energy: float | None = None, weight: WeightOf | None = None
) -> tuple[Direction, float]:
    """Every matrix at a lower rank, and the share of the energy that is kept.

    Either `rank`, or the least rank per module that keeps `energy` of its own squared norm. Low ranks are cut by QR of
    both factors and an SVD of the small core; other forms are multiplied out first. Biases stay as they are.
    """
    if (rank is None) == (energy is None):
        raise ValueError("give either a rank or an energy")
    if rank is not None and (rank != int(rank) or rank < 1):
        raise ValueError(f"rank must be a whole number of at least 1, got {rank}")
    if energy is not None and not 0 < energy <= 1:
        raise ValueError(f"energy must lie above 0 and at most at 1, got {energy}")
    forms: dict[str, tuple[Form, ...]] = {}
    part = total = 0.0
    for name, parts in direction.forms.items():
        biases = gathered(tuple(f for f in parts if isinstance(f, BiasShift)))
        matrix = gathered(tuple(f for f in parts if not isinstance(f, BiasShift)))
        size_of_bias = sum(float(f.v.double().square().sum()) for f in biases if isinstance(f, BiasShift))
        part, total = part + size_of_bias, total + size_of_bias
        if not matrix:
            forms[name] = biases
            continue
        spectra = [spectrum(name, own, weight) for own in matrices(parts)]
        squares = torch.stack([s for _, s, _ in spectra]).sum(0)  # one rank for all experts
        size = float(squares.sum())
        if rank is None:
            assert energy is not None
            reached = torch.searchsorted(squares.cumsum(0), energy * size * (1 - 1e-12))
            q = min(len(squares), int(reached) + 1)
        else:
            q = min(rank, len(squares))
        b = torch.stack([left[:, :q].float() for left, _, _ in spectra])
        a = torch.stack([right[:q].float() for _, _, right in spectra])
        cut = Stacked(b, a) if isinstance(matrix[0], Stacked) else LowRank(b[0], a[0])
        part, total = part + float(squares[:q].sum()), total + size
        forms[name] = (cut, *biases)
    share = part / total if total > 0 else math.nan
    record = {"rank": rank, "energy": energy, "kept": share}
    return Direction(forms, {**direction.provenance, "compressed": record}), share


def spectrum(name: str, matrix: tuple[Form, ...], weight: WeightOf | None) -> tuple[Tensor, Tensor, Tensor]:
    """(left, squared singular values, right) of one module's change: `left[:, :q] @ right[:q]` is its best rank q.

    In float64. A low rank goes through its factors, anything else through the eigenvectors of its smaller Gram matrix: six
    times faster than an SVD, and what float64 loses by squaring lies far below the float32 that is kept.
    """
    if len(matrix) == 1 and isinstance(matrix[0], LowRank):
        (qb, rb), (qa, ra) = (torch.linalg.qr(t.detach().cpu().double()) for t in (matrix[0].b, matrix[0].a.mT))
        u, s, vh = torch.linalg.svd(rb @ ra.mT)
        return (qb @ u) * s, s.square(), vh @ qa.mT
    whole = whole_matrix(name, matrix, weight)
    if whole.shape[0] > whole.shape[1]:
        squares, v = torch.linalg.eigh(whole.mT @ whole)
        v = v.flip(1)
        return whole @ v, squares.flip(0).clamp(min=0), v.mT
    squares, u = torch.linalg.eigh(whole @ whole.mT)
    u = u.flip(1)
    return u, squares.flip(0).clamp(min=0), u.mT @ whole


def matrices(forms: Sequence[Form]) -> list[tuple[Form, ...]]:
    """The matrices that a module's change is made of, biases left out: one, or that of each expert; none where there is no matrix."""
    matrix = gathered(tuple(f for f in forms if not isinstance(f, BiasShift)))
    if matrix and isinstance(matrix[0], Stacked):
        return [(expert,) for expert in matrix[0].experts]
    return [matrix] if matrix else []


def whole_matrix(name: str, matrix: tuple[Form, ...], weight: WeightOf | None) -> Tensor:
    """The matrix of one module's change in float64."""
    if any(isinstance(f, Stacked) for f in matrix):
        raise Unsupported(f"{name} is a matrix of every expert; ask for those of each with `matrices`.")
    if weight is not None:
        w = weight(name).detach().cpu().double()
    elif any(isinstance(f, READS_BASE) for f in matrix):
        raise ValueError(f"{name} is changed relative to its own weight: pass weight=base.weight")
    else:
        shapes = (f.m.shape if isinstance(f, Dense) else (f.b.shape[0], f.a.shape[1]) for f in matrix)  # type: ignore[union-attr]
        w = torch.zeros(*next(shapes), dtype=torch.float64)
    return Direction({name: matrix}).to(device="cpu", dtype=torch.float64).dense(name, lambda _: w)


def _all_match(direction: Direction, globs) -> None:
    if missing := [g for g in globs if not any(fnmatchcase(name, g) for name in direction.forms)]:
        example = next(iter(direction.forms), "none")
        raise ValueError(f"the patterns {missing} match no module of this direction; its modules look like {example!r}")
