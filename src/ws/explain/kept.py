"""Keeping and dropping a space of what a direction writes: the variants, their random controls, and what they hold.

    writers     the direction on the matrices that write, alone: what the others are parts of
    keep:S      P w on those matrices;   drop:S   w - P w;   norm:S   P w, as large as w in every module
    random:S:i  P w with a random space of the same rank

Only what is written is projected, so matrices that read are in none of these: shares are of the whole, and beside it stands what
`writers` alone does.
"""

from collections.abc import Mapping, Sequence

import torch

from ws.direction import Direction
from ws.direction.algebra import restricted
from ws.direction.variants import Flags, as_variant, complement, norm_matched, projected
from ws.explain.bases.basis import Basis, haar
from ws.explain.bases.energies import factors, share
from ws.explain.bases.spaces import writers_of
from ws.explain.in_spaces import InSpace
from ws.explain.protocol import DRAWS, Curves, Effect, Subject, Variant
from ws.models.base import Base

ByBlock = Mapping[int, Basis]
"""A basis per block of what the block writes."""
WRITERS = "writers"


def writers_alone(subject: Subject) -> Direction:
    """The direction on the matrices that write to the residual stream; refused where it changes none."""
    names = [x.name for x in writers_of(subject.base) if x.name in subject.direction.forms]
    if not names:
        raise ValueError("this direction changes no matrix that writes to the residual stream")
    part = restricted(subject.direction, keep=names)
    return as_variant(part, part.forms, WRITERS)


def kept(writers: Direction, base: Base, space: ByBlock, name: str, flags: Flags) -> Direction:
    """`P w` of every writer whose block has a basis."""
    own = {x.name: space[x.block].vectors for x in writers_of(base) if x.block in space and space[x.block].rank}
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
    flags = flags_of_space(space)
    keep = kept(writers, base, space, f"keep:{label}", flags)
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
    s = share(factors(writers, base, "write"), space, seed=seed)
    numbers = (s.energy, s.null, s.ratio, s.z, s.best, s.of_best)
    return InSpace(label, "write", s.rank, s.effective_rank, *numbers, flags_of_space(space))


def effects(subject: Subject, writers: Direction, more: Sequence[Variant]) -> list[Effect]:
    """The effects of the whole, of nothing, of the writers alone and of their parts; none where nothing is measured."""
    if subject.measure is None:
        return []
    return subject.measure([Variant(WRITERS, writers), *more])


def retained(effects: Sequence[Effect], name: str) -> float:
    """The share of the whole effect that one variant keeps, of the first metric."""
    first = effects[0].metric
    return next(e.retained.mean for e in effects if e.variant == name and e.metric == first)


def curves(found: Sequence[Effect], labels: Mapping[int, str], title: str) -> Curves:
    """keep, norm-matched, drop and random against the rank."""
    ranks = list(labels)
    lines = {
        word: [retained(found, f"{prefix}:{labels[k]}") for k in ranks]
        for word, prefix in (("keep", "keep"), ("keep, as large as the whole", "norm"), ("drop", "drop"))
    }
    first = found[0].metric
    at_random = [
        [e.retained.mean for e in found if e.control == f"keep:{labels[k]}" and e.metric == first] for k in ranks
    ]
    if all(at_random):
        lines["random, its mean"] = [sum(r) / len(r) for r in at_random]
    return Curves(title, "rank of the space", "share of the whole effect", ranks, lines)


def reading_of(found: Sequence[Effect], label: str, what: str) -> str:
    """What keeping and dropping a space do, in one sentence."""
    keep, drop, norm, alone = (
        retained(found, name) for name in (f"keep:{label}", f"drop:{label}", f"norm:{label}", WRITERS)
    )
    if keep != keep:
        return "No share can be given: the effect of the whole direction on these rows may be none."
    first = found[0].metric
    by_chance = [e.retained.mean for e in found if e.control == f"keep:{label}" and e.metric == first]
    chance = f", random spaces {min(by_chance):.0%} to {max(by_chance):.0%}" if by_chance else ""
    return (
        f"What is written does {alone:.0%} of the whole effect. Of the whole, {what} keeps {keep:.0%} ({norm:.0%} made as large as "
        f"all that is written{chance}); without it {drop:.0%} remain. The parts need not add up."
    )
