"""A small study on tiny for analyses to read, and directions planted where an analysis should find them."""

import torch

from ws.behaviors import load_behavior
from ws.direction import Direction
from ws.direction.forms import LowRank
from ws.explain.bases.spaces import readers_of, writers_of
from ws.explain.bases.spectra import width_of
from ws.explain.protocol import Subject
from ws.methods import Material
from ws.pairs import Pair, Pairs

QUESTIONS = ("What is the capital of Kenya?", "What sound does a cow make?", "What does a builder make?")
RANK = 2


def g(seed):
    return torch.Generator().manual_seed(seed)


def subject(tiny, direction, **more):
    """A direction as a subject with the material of a study of three questions."""
    behavior = load_behavior("honesty", tiny=True)
    rows = [
        Pair(q, "It is true.", "It is false.", f"p{i}", *behavior.systems(i % len(behavior.personas)), topic_idx=i)
        for i, q in enumerate(QUESTIONS)
    ]
    material = Material(
        tiny,
        behavior,
        questions=lambda: [p.text for p in behavior.train[:6]],
        pairs=lambda: Pairs(tuple(rows)),
        held=lambda: Pairs(tuple(rows)),
        items=4,
    )
    return Subject(tiny, direction, material=material, **more)


def writing(base, columns, seed=0, *, blocks=None):
    """A direction whose writers write only into `columns(block)`, (d, k), from random inputs."""
    forms = {}
    for i, x in enumerate(writers_of(base)):
        if blocks is None or x.block in blocks:
            space = columns(x.block)
            b = space @ torch.randn(space.shape[1], RANK, generator=g(91 * seed + i))
            a = torch.randn(RANK, base.weight(x.name).shape[1], generator=g(91 * seed + i + 50_000))
            forms[x.name] = (LowRank(0.05 * b, a),)
    return Direction(forms, {"base": base.described()})


def scrambled(base, seed=0, *, blocks=None, rank=RANK):
    """A direction that writes anywhere."""
    whole = torch.eye(width_of(base))
    return writing(
        base, lambda block: whole @ torch.randn(len(whole), rank, generator=g(seed * 7 + block)), seed, blocks=blocks
    )


def reading(base, columns, seed=0):
    """A direction whose readers read only from `columns(block)`."""
    forms = {}
    for i, x in enumerate(readers_of(base, width_of(base))):
        space = columns(x.block)
        a = (space @ torch.randn(space.shape[1], RANK, generator=g(91 * seed + i))).mT
        b = torch.randn(base.weight(x.name).shape[0], RANK, generator=g(91 * seed + i + 50_000))
        forms[x.name] = (LowRank(0.05 * b, a.contiguous()),)
    return Direction(forms, {"base": base.described()})
