"""The states of the model under the two personas: outputs of modules, one vector per text and module.

`last` reads the state at the last token of prompt and a short neutral opening, the same for both personas.
`response_mean` averages over the tokens of the answers the personas gave. The persona is the system message in both.
Hidden 0 is what enters the first block; hidden l + 1 is the output of block l, before any final norm.
"""

import random
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ws.batches import Room, in_batches
from ws.behaviors import Behavior
from ws.generate import context_of
from ws.methods.activation.method import block_name
from ws.models.chat import Chat, encode, render
from ws.models.load import Base
from ws.pairs import Pairs

OPENING = "I think"  # the start of an answer that fits both poles, in words that tiny knows
ITEMS = 256
EMBEDDED = "embedded"
"""Name of hidden 0 among the modules."""
INTO = "into "
"""Before the name of a module: what enters it, and not what it puts out."""

Text = tuple[tuple[int, ...], int]
"""Token ids, and where the tokens to average over start."""


@dataclass(frozen=True, eq=False)
class Contrast:
    """States of both sides, by module: row i of both is the same question."""

    pos: dict[str, Float[Tensor, "n d"]]
    neg: dict[str, Float[Tensor, "n d"]]

    def difference(self, name: str) -> Float[Tensor, "n d"]:
        """pos less neg, row by row."""
        return self.pos[name] - self.neg[name]


def contrast(base: Base, sides: tuple[Sequence[Text], Sequence[Text]], names: Sequence[str]) -> Contrast:
    """The states of both sides' texts at the modules called `names`."""
    pos, neg = (states(base, texts, names) for texts in sides)
    return Contrast(pos, neg)


def persona_texts(
    base: Base, behavior: Behavior, questions: Sequence[str], *, n: int = ITEMS, seed: int = 0
) -> tuple[list[Text], list[Text]]:
    """The same questions under both personas, each with the opening, read at its last token."""
    items = [(question, i) for question in questions for i in range(len(behavior.personas))]
    chosen = random.Random(f"contrast/{seed}").sample(items, min(n, len(items)))
    sides: tuple[list[Text], list[Text]] = ([], [])
    for question, i in chosen:
        for side, system in zip(sides, behavior.systems(i)):
            ids = encode(base.tokenizer, render(base.tokenizer, Chat(question, system)) + OPENING)
            side.append((tuple(ids), len(ids) - 1))
    return sides


def answer_texts(base: Base, pairs: Pairs, *, n: int = ITEMS, seed: int = 0) -> tuple[list[Text], list[Text]]:
    """The answers both personas gave, with their persona in context, averaged over the answer's tokens."""
    rows = random.Random(f"answers/{seed}").sample(pairs.rows, min(n, len(pairs.rows)))
    sides: tuple[list[Text], list[Text]] = ([], [])
    for r in rows:
        answers = ((r.sys_prompt_pos or None, r.response_pos), (r.sys_prompt_neg or None, r.response_neg))
        for side, (system, answer) in zip(sides, answers):
            head = encode(base.tokenizer, render(base.tokenizer, Chat(r.prompt, system)))
            side.append(((*head, *encode(base.tokenizer, answer)), len(head)))
    return sides


def states(base: Base, texts: Sequence[Text], names: Sequence[str]) -> dict[str, Float[Tensor, "n d"]]:
    """The mean output of each module over each text's tokens from its start on, in float32 on the CPU."""
    limit = context_of(base.model)
    if limit and (longest := max(len(ids) for ids, _ in texts)) > limit:
        raise ValueError(f"a text of {longest} tokens is longer than this model's context of {limit}; none is cut.")
    room = Room(base.model)
    rows, _ = in_batches(
        texts,
        lambda part: _batch(base, part, names),
        size=lambda t: room.fits(len(t[0])),
        length=lambda t: len(t[0]),
        label="reading activations",
    )
    return {name: torch.stack([row[at] for row in rows]) for at, name in enumerate(names)}


@torch.inference_mode()
def _batch(base: Base, texts: Sequence[Text], names: Sequence[str]) -> list[list[Tensor]]:
    width = max(len(ids) for ids, _ in texts)
    pad = base.tokenizer.pad_token_id or 0
    ids = torch.tensor([[pad] * (width - len(t)) + list(t) for t, _ in texts], device=base.device)
    mask = torch.tensor([[0] * (width - len(t)) + [1] * len(t) for t, _ in texts], device=base.device)
    # left padding: a text's tokens from `start` on are its last ones
    inside = torch.tensor([[0] * (width - len(t) + start) + [1] * (len(t) - start) for t, start in texts])
    weight = inside / inside.sum(1, keepdim=True)
    means: dict[str, Tensor] = {}

    def keep(name: str, output) -> None:
        h = output[0] if isinstance(output, tuple) else output
        means[name] = torch.einsum("ntd,nt->nd", h.float(), weight.to(h.device)).cpu()

    with ExitStack() as hooks:
        for name in names:
            if name == EMBEDDED or name.startswith(INTO):
                entered = block_name(base, 0) if name == EMBEDDED else name.removeprefix(INTO)
                hook = base.model.get_submodule(entered).register_forward_pre_hook(
                    _entering(name, keep), with_kwargs=True
                )
                hooks.callback(hook.remove)
                continue
            module = base.model.get_submodule(name)
            hooks.callback(module.register_forward_hook(lambda m, a, out, n=name: keep(n, out)).remove)
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        base.model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False, logits_to_keep=1)
    return [[means[name][i] for name in names] for i in range(len(texts))]


def _entering(name: str, keep):
    def hook(module, args, kwargs) -> None:
        keep(name, args[0] if args else kwargs["hidden_states"])

    return hook
