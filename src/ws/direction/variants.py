"""Parts of a direction, and the same direction with one thing changed: each is a direction, so it steers like any other.

    kept = projected(honesty, write=bases)             # P w on the matrices that write, P = B B^T
    rest = complement(honesty, kept)                   # kept + rest = honesty
    same = norm_matched(kept, honesty, base.weight)    # kept, as large as honesty in every module
    half = cropped(honesty, "top:.5")                  # the upper half of its own singular values
    flat = dir_only(honesty, base.weight)              # every module as large as the others

One layer or kind of matrix alone is `algebra.restricted`. What is low rank stays low rank; other forms are multiplied out, one
module at a time. The provenance of each says which variant it is, and its `Flags`: what made it, and what it cannot show.

Shapes: o = out features, i = in features, k = columns of a basis.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from ws.direction.algebra import matrices, spectrum, whole_matrix
from ws.direction.direction import Direction, WeightOf
from ws.direction.forms import BiasShift, Factors, Form, LowRank, Stacked
from ws.direction.random import random_like
from ws.types import Json

SOURCES = ("", "base", "heldout_acts", "same_direction", "same_prompts", "other_behaviors")
PARTS = ("top", "middle", "bottom", "energy", "rank")
RANK = 1e-5
"""Singular values below this share of the largest are rounding."""

Bases = Mapping[str, Tensor]
"""Module name to orthonormal columns: (o, k) of the space it writes to, or (i, k) of the space it reads from."""


@dataclass(frozen=True)
class Flags:
    """What is to be known of a variant before its number means anything."""

    basis_source: str = ""
    """What its basis was made from: base, heldout_acts, same_direction, same_prompts or other_behaviors; empty without one."""
    tautology: bool = False
    """Whether it is a crop by the direction's own singular values: a crop at its rank changes nothing."""
    rank: float | None = None
    """The effective rank of its basis; of a crop, the rank of the direction."""
    oracle_rank: int | None = None
    """The rank of the best basis that it is graded against."""

    def __post_init__(self):
        if self.basis_source not in SOURCES:
            raise ValueError(f"a basis is made from one of {', '.join(SOURCES[1:])}; got {self.basis_source!r}")

    @property
    def circular(self) -> bool:
        """Whether the basis comes from the direction itself or from the prompts it is measured on: much is then kept by construction."""
        return self.basis_source in ("same_direction", "same_prompts")

    def as_json(self) -> Json:
        """The flags as a record keeps them."""
        return asdict(self) | {"circular": self.circular}


PLAIN = Flags()
"""Those of a variant without a basis."""
OF_THE_BASE = Flags("base")


def as_variant(full: Direction, forms: Mapping[str, tuple[Form, ...]], name: str, flags: Flags = PLAIN) -> Direction:
    """A direction made from another, whose provenance says how."""
    before = full.provenance.get("variant")
    record = {"name": name, **flags.as_json(), **({"of": before} if before else {})}
    return Direction(forms, {**full.provenance, "variant": record})


# ---------------------------------------------------------------- in a space and outside of it


def projected(
    direction: Direction,
    *,
    write: Bases | None = None,
    read: Bases | None = None,
    weight: WeightOf | None = None,
    name: str = "projected",
    flags: Flags = OF_THE_BASE,
) -> Direction:
    """`P w` of the modules that have a basis to write to, `w P` of those that read; of a module with both, `P w P'`.

    Modules without a basis are left out. A bias is written and never read.
    """
    write, read = write or {}, read or {}
    names = {n for n in (*write, *read) if n in direction.forms}
    if not names:
        raise ValueError("none of the modules that have a basis are touched by this direction")
    forms = {n: _inside(direction.forms[n], n, write.get(n), read.get(n), weight) for n in names}
    return as_variant(direction, forms, name, flags)


def _inside(
    parts: Iterable[Form], name: str, write: Tensor | None, read: Tensor | None, weight: WeightOf | None
) -> tuple[Form, ...]:
    forms: list[Form] = []
    rest: list[Form] = []
    for form in parts:
        if isinstance(form, BiasShift):
            if write is not None:
                forms.append(BiasShift(_onto(write, form.v)))
        elif isinstance(form, Factors):
            b = form.b if write is None else _onto(write, form.b)
            a = form.a if read is None else _onto(read, form.a.mT).mT
            forms.append(type(form)(b, a))
        else:
            rest.append(form)
    if rest:  # P w has the rank of P, whatever w is
        w = whole_matrix(name, tuple(rest), weight)
        if read is not None:
            right = read.detach().cpu().double()
            w = w @ right
            w = w if write is None else _onto(write.cpu(), w)
            forms.append(LowRank(w.float(), right.mT.float()))
        elif write is not None:
            left = write.detach().cpu().double()
            forms.append(LowRank(left.float(), (left.mT @ w).float()))
    return tuple(forms)


def _onto(basis: Tensor, x: Tensor) -> Tensor:
    """`B B^T x`, summed in float64; of experts, with one basis for all of them or one for each."""
    b = basis.detach().to(x.device, torch.float64)
    return (b @ (b.mT @ x.double())).to(x.dtype)


def complement(full: Direction, kept: Direction, *, name: str = "complement") -> Direction:
    """What a direction has and a part of it has not: `kept + complement = full`.

    Its flags are those of the part. Restrict `full` first where only some of its modules are meant.
    """
    record = kept.provenance.get("variant") or {}
    return as_variant(full, (full - kept).forms, name, flags_of(record))


def flags_of(record: Mapping) -> Flags:
    """The flags in the record of a variant."""
    return Flags(**{k: record[k] for k in Flags.__dataclass_fields__ if k in record})


def base_block(direction: Direction, weight: WeightOf, share: float) -> Direction:
    """The part between the top singular vectors of W on both sides, a share of them: the P x P block of `U^T w V`."""
    if not 0 < share <= 1:
        raise ValueError(f"a share of singular vectors lies above 0 and at most at 1, got {share}")
    write, read = {}, {}
    for name in direction.forms:
        w = weight(name).detach().cpu().double()
        u, _, vh = torch.linalg.svd(w, full_matrices=False)
        k = max(1, math.floor(share * vh.shape[-2]))
        write[name], read[name] = u[..., :k], vh[..., :k, :].mT
    return projected(direction, write=write, read=read, weight=weight, name=f"base_block:{share:g}")


# ---------------------------------------------------------------- by its own singular values


def cropped(direction: Direction, part: str, weight: WeightOf | None = None) -> Direction:
    """The part of every module between some of its own singular values; biases go with the first one.

    `top:.25`, `middle:.5` and `bottom:.25` are shares of the rank it has, `energy:.9` the fewest that hold so much of the
    squared norm, and `rank:8` the first eight. Of a direction of rank q, `rank:q` is the direction itself, which says nothing.
    """
    kind, amount = check_part(part)
    forms: dict[str, tuple[Form, ...]] = {}
    ranks = []
    for name, parts in direction.forms.items():
        biases = tuple(f for f in parts if isinstance(f, BiasShift))
        cuts: list[LowRank] = []
        first = 0
        for matrix in matrices(parts):
            left, squares, right = spectrum(name, matrix, weight)
            ranks.append(_rank(squares))
            first, last = _range(kind, amount, squares, ranks[-1])
            cuts.append(LowRank(left[:, first:last].float(), right[first:last].float()))
        forms[name] = (*_together(cuts, any(isinstance(f, Stacked) for f in parts)), *(biases if first == 0 else ()))
    flags = Flags("same_direction", tautology=True, rank=float(max(ranks, default=0)))
    return as_variant(direction, forms, f"cropped:{part}", flags)


def _together(cuts: list[LowRank], of_experts: bool) -> tuple[Form, ...]:
    """The cut matrix of a module, or those of its experts at one rank, the smaller ones with zeros; nothing where no rank is left."""
    rank = max((c.rank for c in cuts), default=0)
    if rank == 0:
        return ()
    if not of_experts:
        return (cuts[0],)
    b = torch.stack([pad(c.b, (0, rank - c.rank)) for c in cuts])
    return (Stacked(b, torch.stack([pad(c.a, (0, 0, 0, rank - c.rank)) for c in cuts])),)


def check_part(part: str) -> tuple[str, float]:
    """(kind, amount) of a crop; one that is none is refused."""
    kind, _, text = part.partition(":")
    try:
        amount = float(text)
    except ValueError:
        amount = math.nan
    whole = kind == "rank" and amount >= 1 and amount == int(amount)
    if not (whole or (kind in PARTS and kind != "rank" and 0 < amount <= 1)):
        raise ValueError(
            f"a crop is top:.25, middle:.5, bottom:.25, energy:.9 (a share of at most 1) or rank:8; got {part!r}"
        )
    return kind, amount


def _rank(squares: Tensor) -> int:
    """The number of singular values that are more than rounding, given their squares."""
    return int((squares > RANK**2 * squares.max()).sum()) if len(squares) else 0


def _range(kind: str, amount: float, squares: Tensor, rank: int) -> tuple[int, int]:
    """The first singular value that is kept, and the one after the last."""
    if kind == "rank":
        return 0, min(int(amount), rank)
    if kind == "energy":
        shares = squares[:rank].cumsum(0) / squares[:rank].sum()
        return 0, min(rank, int(torch.searchsorted(shares, amount * (1 - 1e-12))) + 1)
    n = round(amount * rank)
    first = {"top": 0, "middle": (rank - n) // 2, "bottom": rank - n}[kind]
    return first, first + n


# ---------------------------------------------------------------- other sizes


def norm_matched(variant: Direction, full: Direction, weight: WeightOf | None = None) -> Direction:
    """A variant made as large as the whole direction in every module that it has."""
    sizes = full.norms(weight)
    record = variant.provenance.get("variant") or {}
    forms = _resized(variant, lambda name: sizes.get(name, 0.0), weight)
    return as_variant(variant, forms, "norm_matched", flags_of(record))


def dir_only(direction: Direction, weight: WeightOf | None = None) -> Direction:
    """Every module's own change, all of them equally large; the whole keeps its norm."""
    size = _mean_size(direction, weight)
    return as_variant(direction, _resized(direction, lambda _: size, weight), "dir_only")


def mag_only(direction: Direction, seed: int, weight: WeightOf) -> Direction:
    """Gaussian noise as large as the direction in every module: where it changes much, and nothing of what it changes."""
    return as_variant(direction, random_like(direction, seed, weight, form="gauss").forms, f"mag_only:{seed}")


def random_norm(direction: Direction, seed: int, weight: WeightOf) -> Direction:
    """Gaussian noise that is equally large in every module; the whole has the norm of the direction."""
    noise = random_like(dir_only(direction, weight), seed, weight, form="gauss")
    return as_variant(direction, noise.forms, f"random_norm:{seed}")


def _mean_size(direction: Direction, weight: WeightOf | None) -> float:
    """The root mean square of the norms of its modules."""
    return direction.norm(weight) / math.sqrt(len(direction.forms))


def _resized(
    direction: Direction, size: Callable[[str], float], weight: WeightOf | None
) -> dict[str, tuple[Form, ...]]:
    """Every module scaled to a norm; one that is zero stays."""
    now = direction.norms(weight)
    factors = {n: size(n) / now[n] if now[n] > 0 else 1.0 for n in now}
    return {n: tuple(f.scaled(factors[n]) for f in forms) for n, forms in direction.forms.items()}
