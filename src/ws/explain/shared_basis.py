"""`shared_basis`: do other families or behaviors change what the model writes in the same space?

    per block, the first K left singular vectors of all directions' writers side by side, each at length 1 per block;  K = 8, 32

With this direction among them the basis is circular. Left out (`others8`), it is the honest version: what the others share,
and how much of this one lies there. Random spaces of the same rank stand beside both.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from ws.explain import kept
from ws.explain.bases.basis import Basis, basis
from ws.explain.bases.energies import factors
from ws.explain.in_spaces import COLUMNS, in_percent
from ws.explain.protocol import Analysis, Bars, Finding, Subject, Table
from ws.numbers import some

RANKS = (8, 32)


def shared(parts: Mapping[str, Mapping[int, Tensor]], source: str) -> dict[int, Basis]:
    """The left singular vectors of several directions' factors side by side, each direction with one vote per block."""
    blocks = sorted(set().union(*(p.keys() for p in parts.values())))
    found = {}
    for block in blocks:
        own = [p[block] for p in parts.values() if block in p]
        columns = [f / f.norm() for f in own if float(f.norm()) > 0]
        if columns:
            found[block] = basis("shared", torch.cat(columns, 1), source)
    return found


def run(subject: Subject) -> Finding:
    """The energy and, where it is measured, the effect inside and outside of what all, and what the others, share."""
    base = subject.base
    writers = kept.writers_alone(subject)
    others = {n: f.of for n, d in subject.others.items() if (f := factors(d, base, "write"))}
    if not others:
        raise ValueError(
            "this analysis lays a direction beside others that write to the stream: name some of the same base"
        )
    everyone = {"own": factors(writers, base, "write").of, **others}
    whole = {"others": shared(others, "other_behaviors"), "all": shared(everyone, "same_direction")}
    spaces = {}
    for k in RANKS:
        for name, space in whole.items():
            cut = {b: s.cut(k) for b, s in space.items() if b in everyone["own"]}
            if cut and (k == RANKS[0] or max(s.rank for s in cut.values()) > RANKS[0]):
                spaces[f"{name}{k}"] = cut
    if not spaces:
        raise ValueError("none of these directions touches a block that this one touches")
    energies = [kept.energy(writers, base, s, label, seed=subject.seed) for label, s in spaces.items()]
    honest = energies[0]
    readings = [
        f"Of what this one writes, {in_percent(honest.energy)} lies in the first {some(round(honest.rank), 'dimension')} of what the "
        f"others write ({some(len(others), 'direction')}): {honest.ratio:.1f} times chance (z {honest.z:+.1f}), and "
        f"{in_percent(honest.of_best)} of what its own best space of that rank holds.",
    ]
    tables = [Table("energy of what is written in shared spaces", energies, COLUMNS)]
    if subject.measure is not None:
        rows, effects = kept.measured_parts(subject, writers, spaces, controlled=spaces)
        tables += kept.tables_of(rows, effects, "a shared space")
        readings += kept.readings_of(rows, effects, next(iter(spaces)), "what the others share")
    picture = Bars(
        "how much of what is written lies in a shared space",
        "share of its squared norm",
        [e.space for e in energies],
        [e.energy for e in energies],
        chance=[e.null for e in energies],
    )
    return Finding(tuple(tables), (picture,), tuple(readings))


SHARED_BASIS = Analysis(
    "shared_basis",
    "Do other families or behaviors change what the model writes in the same space?",
    "A basis with the direction itself in it (`all`) holds most of it by construction; look at `others`. Families that start from the "
    "same seed and see the same answers may share for that reason, and one that is nearly the same direction shares everything. Matrices that read are left out.",
    run,
    others=1,
)
