"""Activation steering as Fierro & Roger describe it (arXiv 2511.05408): mean differences at their own size.

a^l is the mean over answer tokens at hidden index l, pos less neg; hidden l is the output of block l - 1.

    paper:single         block l - 1 gets + alpha a^l for one l, the one that does most on validation pairs
    paper:single-last    the same with a^l read at the last token of a persona prompt
    paper:all            every block l - 1 gets + alpha (a^l - a^(l-1)), l = 1..L, the last block included
    paper:all-code       as their code has it: the last block is left out, and a^1 is not differenced
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ws.batches import Room, in_batches
from ws.methods.activation.method import Activation, Add, block_name
from ws.methods.activation.states import EMBEDDED, Contrast
from ws.methods.method import Method
from ws.models.load import Base
from ws.pairs import Pair
from ws.prefix_cache import answering, mean_logprobs
from ws.train.sequences import finished

POSITIONS = "response"  # the end of the prompt and every token of the answer
HELD_OUT_PAIRS = 24
CHOICE = "paper-single/1"
"""How a layer is chosen."""


def hidden_names(base: Base) -> list[str]:
    """Hidden 0 and every block, in order."""
    return [EMBEDDED, *(block_name(base, at) for at in range(base.depth))]


def mean_differences(states: Contrast, names: Sequence[str]) -> list[Tensor]:
    """The mean differences a^0 .. a^L of the hidden states."""
    return [states.difference(name).mean(0) for name in names]


def all_layers(base: Base, a: Sequence[Tensor], name: str, *, as_code: bool = False) -> Activation:
    """The change from layer to layer, added at each."""
    steps = {at - 1: a[at] - a[at - 1] for at in range(1, len(a))}
    if as_code:
        steps[0] = a[1]
        del steps[len(a) - 2]
    edits = {block_name(base, at): Add(v) for at, v in steps.items()}
    return Activation(name, edits, POSITIONS, provenance={"base": base.described(), "as_code": as_code})


def single_layer(
    base: Base, a: Sequence[Tensor], name: str, pairs: Sequence[Pair], blocks: Sequence[int]
) -> Activation:
    """The block whose vector, at its own size, moves the validation pairs most toward pos."""
    candidates = {at: Activation(name, {block_name(base, at): Add(a[at + 1])}, POSITIONS) for at in blocks}
    effects = {at: effect(base, m, pairs) for at, m in candidates.items()}
    best = max(effects, key=lambda at: effects[at])
    provenance = {
        "base": base.described(),
        "block": best,
        "effects": {str(at): round(e, 6) for at, e in effects.items()},
    }
    return Activation(name, candidates[best].edits, POSITIONS, provenance=provenance)


def effect(base: Base, method: Method, pairs: Sequence[Pair]) -> float:
    """Half the difference between strengths 1 and -1 of log P(pos answer) - log P(neg answer) per token."""
    rows = []
    for pair in pairs[:HELD_OUT_PAIRS]:
        for sign, answer in ((1, pair.response_pos), (-1, pair.response_neg)):
            ids, start, _ = finished(base.tokenizer, pair.prompt, answer)
            rows += [(tuple(ids), start, sign, alpha) for alpha in (1.0, -1.0)]

    @torch.inference_mode()
    def run(part) -> list[float]:
        texts = [(ids, start) for ids, start, *_ in part]
        with answering([start - 1 for _, start in texts]), method.at(base, [alpha for *_, alpha in part]):
            return mean_logprobs(base, texts)

    room = Room(base.model)
    size = lambda r: room.fits(len(r[0]))  # noqa: E731
    scored, _ = in_batches(rows, run, size=size, length=lambda r: len(r[0]), label="choosing a layer")
    return sum(sign * alpha * lp for (_, _, sign, alpha), lp in zip(rows, scored)) / (2 * len(rows) / 4)
