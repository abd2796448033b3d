"""Keeping and dropping a space of what a direction writes: the variants, their random controls, and what they hold.

    writers     the direction on the matrices that write, alone: what the others are parts of
    keep:S      P w on those matrices;   drop:S   w - P w;   norm:S   P w, as large as w in every module
    random:S:i  P w with a random space of the same rank

Only what is written is projected, so matrices that read are in none of these: shares are given of what `writers` alone do, and
beside them of the whole.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch

from ws.direction import Direction
from ws.direction.algebra import restricted
from ws.direction.variants import Flags, as_variant, complement, norm_matched, projected
from ws.explain.bases.basis import Basis, haar
from ws.explain.bases.energies import factors, share
from ws.explain.bases.spaces import writers_of
from ws.explain.in_spaces import InSpace, row_of
from ws.explain.protocol import DRAWS, Curves, Effect, Subject, Table, Variant, measured
from ws.models.base import Base
from ws.numbers import percent
from ws.stats import Estimate, Sample, combined, estimate, quotient

ByBlock = Mapping[int, Basis]
"""A basis per block of what the block writes."""
WRITERS = "writers"


def writers_alone(subject: Subject) -> Direction:
    """The direction on the matrices that write to the residual stream; refused where it changes none."""
    names = [x.name for x in writers_of(subject.base, experts=True) if x.name in subject.direction.forms]
    if not names:
        raise ValueError("this direction changes no matrix that writes to the residual stream")
    part = restricted(subject.direction, keep=names)
    return as_variant(part, part.forms, WRITERS)


def kept(writers: Direction, base: Base, space: ByBlock, name: str, flags: Flags) -> Direction:
    """`P w` of every writer whose block has a basis."""
    own = {
        x.name: space[x.block].vectors
        for x in writers_of(base, experts=True)
        if x.block in space and space[x.block].rank
    }
    weight = base.weight if writers.reads_base else None
    return projected(writers, write=own, weight=weight, name=name, flags=flags)


def flags_of_space(space: ByBlock) -> Flags:
    """What is to be known of a basis per block."""
    own = [b for b in space.values() if b.rank]
    if not own:
        raise ValueError("this space has no dimension at any block, so there is nothing to keep or to drop")
    effective = sum(b.effective_rank for b in own) / len(own)
    return Flags(own[0].source, rank=effective, oracle_rank=max(b.rank for b in own))


def variants(
    writers: Direction, base: Base, space: ByBlock, label: str, *, draws: int = DRAWS["effect"], seed: int = 0
) -> list[Variant]:
    """keep, drop and norm-matched of one space, and random spaces of its rank."""
    keep = kept(writers, base, space, f"keep:{label}", flags_of_space(space))
    flags = Flags(flags_of_space(space).basis_source)  # ranks stand in the tables of energies
    found = [
        Variant(f"keep:{label}", keep, flags=flags),
        Variant(f"drop:{label}", complement(writers, keep, name=f"drop:{label}"), flags=flags),
        Variant(f"norm:{label}", norm_matched(keep, writers, base.weight), flags=flags),
    ]
    for k in range(draws):
        by_chance = random_space(space, seed + k)
        drawn = kept(writers, base, by_chance, f"random:{label}:{k}", Flags("base"))
        found.append(Variant(f"random:{label}:{k}", drawn, flags=Flags("base"), control=f"keep:{label}"))
    return found


def random_space(space: ByBlock, seed: int) -> ByBlock:
    """A random space of the same rank at every block."""
    g = torch.Generator().manual_seed(seed)
    return {b: Basis("random", haar(s.width, s.rank, g).float(), "base") for b, s in sorted(space.items())}


def energy(writers: Direction, base: Base, space: ByBlock, label: str, *, seed: int = 0) -> InSpace:
    """The share of what is written that lies in a space, beside random ones and the best."""
    return row_of(
        label, "write", flags_of_space(space).basis_source, share(factors(writers, base, "write"), space, seed=seed)
    )


@dataclass(frozen=True)
class Inside:
    """What a space of what is written keeps of the effect, as a share of what all that is written does."""

    space: str
    metric: str
    flags: Flags
    rank: int
    keep: Estimate
    """P w."""
    norm: Estimate
    """P w, as large as w in every module."""
    drop: Estimate
    """w - P w."""
    random_low: float
    """The lowest share that random spaces of this rank keep; NaN where none were measured."""
    random_high: float


def measured_parts(
    subject: Subject, writers: Direction, spaces: Mapping[str, ByBlock], *, controlled: Collection[str]
) -> tuple[list[Inside], list[Effect]]:
    """What every space keeps, and the effects of all variants beside the whole; random spaces stand beside the controlled ones."""
    measure = measured(subject)
    base, alone = subject.base, Variant(WRITERS, writers)
    draws = DRAWS["effect"]
    parts = {
        label: variants(writers, base, s, label, draws=draws if label in controlled else 0, seed=subject.seed)
        for label, s in spaces.items()
    }
    every = [alone, *(v for some in parts.values() for v in some)]
    effects = measure(every)
    rows = []
    for metric, numbers in measure.samples(every).items():
        changes = {v.name: combined([(1.0, numbers[float(k)]), (-1.0, numbers[0.0])]) for k, v in enumerate(every, 1)}
        if metric not in {e.metric for e in effects}:
            continue
        for label, some in parts.items():
            keep, drop, norm = (
                share_of(changes[f"{word}:{label}"], changes[WRITERS]) for word in ("keep", "drop", "norm")
            )
            by_chance = [share_of(changes[v.name], changes[WRITERS]).mean for v in some if v.control]
            random = (min(by_chance), max(by_chance)) if by_chance else (math.nan, math.nan)
            flags = Flags(flags_of_space(spaces[label]).basis_source)
            rank = max(b.rank for b in spaces[label].values())
            rows.append(Inside(label, metric, flags, rank, keep, norm, drop, *random))
    return rows, effects


def share_of(part: Sample, whole: Sample) -> Estimate:
    """A change as a share of another; NaN where the other may be none."""
    full = estimate(whole)
    if full.ci_lo > 0 or full.ci_hi < 0:
        return estimate(quotient(part, whole))
    return Estimate(math.nan, math.nan, math.nan, full.n, full.fewest, full.n_valid, full.n_total)


def tables_of(rows: Sequence[Inside], effects: Sequence[Effect], what: str, published: str = "") -> list[Table]:
    """What spaces keep, what every variant does, and the random draws."""
    return [
        Table(
            f"what {what} keeps of the effect of all that is written",
            rows,
            note=f"keep and drop need not add up to 1.{published and ' ' + published}",
        ),
        Table("beside the whole direction", [e for e in effects if not e.control]),
        Table("random spaces of the same rank", [e for e in effects if e.control]),
    ]


def curves(rows: Sequence[Inside], title: str) -> Curves:
    """keep, norm-matched and drop against the rank, for the first metric."""
    own = [r for r in rows if r.metric == rows[0].metric]
    names = {"keep": "inside", "norm": "inside, as large as the whole", "drop": "outside"}
    lines = {word: [getattr(r, name).mean for r in own] for name, word in names.items()}
    return Curves(title, "rank of the space", "share of what is written does", [r.rank for r in own], lines)


def readings_of(rows: Sequence[Inside], effects: Sequence[Effect], label: str, what: str) -> list[str]:
    """What keeping and dropping one space do, a sentence per metric."""
    sentences = []
    for r in (r for r in rows if r.space == label):
        alone = next(e.retained.mean for e in effects if e.variant == WRITERS and e.metric == r.metric)
        if math.isnan(r.keep.mean):
            sentences.append(
                f"{r.metric}: no share can be given, because what is written may do nothing on these rows."
            )
            continue
        of_all = "" if math.isnan(alone) else f", which is {percent(alone)} of the effect of the whole,"
        chance = (
            ""
            if math.isnan(r.random_low)
            else f", where random spaces keep {percent(r.random_low)} to {percent(r.random_high)}"
        )
        sentences.append(
            f"{r.metric}: of the effect of all that is written{of_all} {what} keeps {percent(r.keep.mean)} ({percent(r.norm.mean)} made as "
            f"large as all of it){chance}; without it {percent(r.drop.mean)} remain."
        )
    return sentences
