"""`svd_align`: does a change lie in the top singular space of the weight it changes?

    M = U^T w V,    top = ||M[:k, :k]||^2 / ||w||^2,    k = a tenth of the shorter side;    by chance k^2 / (out in)

and the same at the bottom. The published form divides by ||M||^2 and (k / r)^2 instead, which hides what lies outside of the
thin U and V: it is `pub`. Random changes have the same singular values and Haar vectors.
"""

import math
import zlib
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from ws.direction.algebra import SCOPES, matrices, spectrum
from ws.direction.forms import Form
from ws.direction.variants import OF_THE_BASE, Flags
from ws.explain.bases.basis import haar
from ws.explain.bases.spectra import spectrum_of
from ws.explain.in_spaces import in_percent
from ws.explain.protocol import Analysis, Bars, Finding, Heat, Subject, Table
from ws.models.base import Base
from ws.progress import progress

SHARE = 0.1
DRAWS = 20
LARGEST = 256
"""Singular values of a change that random ones have: what lies beyond adds nearly nothing to their spread."""


@dataclass(frozen=True)
class Alignment:
    """The energy of a change between the top, or the bottom, singular vectors of its weight on both sides."""

    where: str
    part: str
    """Between the top tenths of singular vectors, or the bottom ones."""
    energy: float
    """The share of the squared norm that lies there."""
    null: float
    """What a random space of the same rank holds."""
    ratio: float
    """Energy over null."""
    z: float
    """Its distance from random changes, in their standard deviations."""
    pub: float
    """The published ratio."""
    flags: Flags = OF_THE_BASE


@dataclass(frozen=True, eq=False)
class _Sums:
    """Squared norms of one module, or of several: what lies in the block, and what the rest is held against."""

    inside: float
    size: float
    null: float
    thin: float
    thin_null: float
    draws: Float[Tensor, "n"]

    def __add__(self, other: "_Sums") -> "_Sums":
        return _Sums(*(getattr(self, n) + getattr(other, n) for n in self.__dataclass_fields__))

    def row(self, where: str, part: str) -> Alignment:
        energy, null = self.inside / self.size, self.null / self.size
        at_random = self.draws / self.size
        sd = float(at_random.std())
        z = (energy - float(at_random.mean())) / sd if sd > 0 else math.nan
        pub = (self.inside / self.thin) / (self.thin_null / self.thin) if self.thin > 0 else math.nan
        return Alignment(where, part, energy, null, energy / null, z, pub)


def aligned(base: Base, subject: Subject, name: str) -> dict[str, _Sums]:
    """The sums of one module at the top and at the bottom, over its experts where it has some; nothing where its matrix is not changed."""
    sums: dict[str, _Sums] = {}
    of_experts = base.weight(name).ndim == 3
    for at, matrix in enumerate(matrices(subject.direction.forms[name])):
        for part, own in _of_matrix(base, subject, name, matrix, at if of_experts else None).items():
            sums[part] = sums[part] + own if part in sums else own
    return sums


def _of_matrix(
    base: Base, subject: Subject, name: str, matrix: tuple[Form, ...], expert: int | None
) -> dict[str, _Sums]:
    left, squares, right = spectrum(name, matrix, base.weight if subject.direction.reads_base else None)
    weight = spectrum_of(base, name, expert)
    out_features, in_features = weight.weight.shape
    r = min(out_features, in_features)
    k = max(1, int(SHARE * r))
    thin_left, thin_right = weight.onto_u(left), weight.onto_v(right.mT)
    thin = float(((thin_left.mT @ thin_left) * (thin_right.mT @ thin_right)).sum())
    size = float(squares.sum())
    values = squares[:LARGEST].clamp(min=0).sqrt()
    products = random_products(out_features, in_features, len(values), k)
    seed = zlib.crc32(name.encode()) + subject.seed + (expert or 0)
    order = torch.randperm(DRAWS, generator=torch.Generator().manual_seed(seed))
    draws = torch.einsum("i,nij,j->n", values, products, values)[order]
    null, thin_null = size * k * k / (out_features * in_features), thin * (k / r) ** 2
    sums = {}
    for part, cut in (("top", slice(0, k)), ("bottom", slice(max(0, len(weight.s) - k), None))):
        inside = float((thin_left[cut] @ thin_right[cut].mT).square().sum())
        sums[part] = _Sums(inside, size, null, thin, thin_null, draws)
    return sums


@lru_cache(maxsize=32)
def random_products(out_features: int, in_features: int, rank: int, k: int) -> Float[Tensor, "n q q"]:
    """(u u^T) times (v v^T), entry by entry, of the first k rows of random singular vectors, draw by draw.

    `s` times this times `s` is the squared norm of the k x k block of a change with singular values s.
    """
    g = torch.Generator().manual_seed(out_features * 1009 + in_features)
    draws = []
    for _ in range(DRAWS):
        u, v = haar(out_features, rank, g)[:k], haar(in_features, rank, g)[:k]
        draws.append((u.mT @ u) * (v.mT @ v))
    return torch.stack(draws)


def run(subject: Subject) -> Finding:
    """The alignment of all modules, per kind, per layer and together."""
    sums: dict[str, dict[str, _Sums]] = {"top": {}, "bottom": {}}
    with progress(len(subject.direction.forms), "singular spaces of the weights") as step:
        for name in subject.direction.forms:
            for part, found in aligned(subject.base, subject, name).items():
                sums[part][name] = found
            step(1)
    if not sums["top"]:
        raise ValueError("this direction changes biases alone, and they have no singular vectors")
    tables = {s: [r for part, own in sums.items() for r in _rows(own, part, s)] for s in SCOPES}
    (top, bottom) = tables["global"]
    kinds = [r for r in tables["kind"] if r.part == "top"]
    most = max(kinds, key=lambda r: r.ratio)
    readings = (
        f"Between the top tenths of singular vectors lies {in_percent(top.energy)} of the change, {_times(top)}; between the bottom "
        f"tenths {in_percent(bottom.energy)}, {_times(bottom)}. Most aligned of the kinds is {most.where}: {most.ratio:.1f} times chance.",
    )
    return Finding(
        (
            Table("the whole change and each kind of matrix", [*tables["global"], *tables["kind"]]),
            Table("per layer", tables["layer"]),
            Table("per matrix", tables["module"]),
        ),
        (
            Bars(
                "energy in the top singular space of W",
                "times what a random change has there",
                [r.where for r in kinds],
                [r.ratio for r in kinds],
                chance=[1.0] * len(kinds),
            ),
            _heat(tables["module"]),
        ),
        readings,
    )


def _times(row: Alignment) -> str:
    return f"{row.ratio:.2f} times what chance puts there (z {row.z:+.1f})"


def _rows(own: dict[str, _Sums], part: str, scope: str) -> list[Alignment]:
    groups: dict[str, _Sums] = {}
    for name, found in own.items():
        key = SCOPES[scope](name)
        groups[key] = groups[key] + found if key in groups else found
    labels = {"global": "all", "layer": "layer {}"}.get(scope, "{}")
    return [g.row(labels.format(key), part) for key, g in groups.items() if g.size > 0]


def _heat(rows: list[Alignment]) -> Heat:
    top = {r.where: r.ratio for r in rows if r.part == "top"}
    layers = sorted({SCOPES["layer"](n) for n in top}, key=int)
    kinds = sorted({SCOPES["kind"](n) for n in top})
    by_place = {(SCOPES["layer"](n), SCOPES["kind"](n)): ratio for n, ratio in top.items()}
    values = [[by_place.get((layer, kind), math.nan) for kind in kinds] for layer in layers]
    short = [kind.rsplit(".", 1)[-1] for kind in kinds]
    return Heat("per matrix", "times chance", [f"layer {x}" for x in layers], short, values)


SVD_ALIGN = Analysis(
    "svd_align",
    "Does the change lie in the top singular space of the weights it changes?",
    "Where a change lies says nothing about what it does: a part with little energy may carry the effect. A change "
    "that starts from W's own singular vectors (PiSSA), or scales or rotates W (IA3, OFT, a part of DoRA), is aligned by construction.",
    run,
)
