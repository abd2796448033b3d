"""Answers as they come: all of a batch again after every token, so that they can be read, or stopped, on the way.

    for (answer,) in stream(base, [Chat("What is the capital of Kenya?")]):
        print(answer.text)

To the end it decodes what `ws.generate` decodes, with the same random numbers.
"""

from collections.abc import Iterator, Sequence

import torch

from ws.errors import Failed, Unsupported
from ws.generate import Answer, Request, Sampling, answered, context_of, draws_of, pick
from ws.models.base import Base
from ws.models.chat import Chat, encode, refuse_thoughtless, render, stop_tokens
from ws.prefix_cache import Steps, padded, read


@torch.inference_mode()
def stream(
    base: Base,
    chats: Sequence[Chat],
    *,
    max_new_tokens: int = 64,
    temperature: float = 0.0,
    seed: int = 0,
    thinking: str = "off",
) -> Iterator[list[Answer]]:
    """The answers so far, one per chat, after every token; inside `ws.steer`, the steered model's.

    Where the model's context leaves less room than `max_new_tokens`, an answer may fill it.
    """
    refuse_thoughtless(base.tokenizer, thinking)
    rows = [encode(base.tokenizer, render(base.tokenizer, chat, thinking=thinking)) for chat in chats]
    limit = min(max_new_tokens, _room(base, rows))
    requests = [Request(tuple(row), limit, chat.user) for row, chat in zip(rows, chats)]
    sampling, stops = Sampling(temperature), stop_tokens(base.tokenizer, base.model)
    draws = draws_of(requests, limit, seed).to(base.device) if temperature > 0 else None
    tokens: list[list[int]] = [[] for _ in rows]
    ids, mask, _ = padded(base, rows)
    steps = Steps(base.model, read(base.model, ids, mask), more=limit)
    for t in range(limit):
        if steps.logits.isnan().any():
            raise Failed("the model's numbers overflow at this strength; turn it down.")
        new = pick(steps.logits, sampling, None if draws is None else draws[:, t])
        for row, token in zip(tokens, new.tolist()):
            if not row or row[-1] not in stops:
                row.append(token)
        yield [answered(base.tokenizer, row, stops) for row in tokens]
        if all(row[-1] in stops for row in tokens):
            return
        if t + 1 < limit:
            steps.go(new)


def _room(base: Base, rows: Sequence[Sequence[int]]) -> int:
    """The number of new tokens that fit behind the longest row."""
    context, longest = context_of(base.model), max(map(len, rows))
    if context is None:
        return 2**31
    if longest >= context:
        raise Unsupported(
            f"this chat is {longest} tokens long, and {base.id} can hold {context}: no answer fits. Begin anew (`/reset` in a chat)."
        )
    return context - longest
