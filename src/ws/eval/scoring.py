"""Answers scored in one forward pass: the log-ratio of two classes of tokens at a proven slot.

    logratio = log P(yes) - log P(no)        pmass = P(yes) + P(no)

The slot is the last token of every left-padded row. Several strengths share one batch: a row for each item and alpha,
through the per-row alpha of steering. Strength 0 is measured on the bare model, once.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ws.batches import in_batches
from ws.errors import ScoringImpossible
from ws.models.answers import Answers, find_answers
from ws.models.chat import Chat, encode, render
from ws.models.load import Base

Dial = Callable[[Sequence[float]], AbstractContextManager]
"""Strengths, one per row of the batch, to a context in which the model is steered by them."""

ROWS_AT_ONCE = 256


@dataclass(frozen=True)
class Item:
    """One question with the start of its answer, to be finished by one of two words."""

    unit_id: str
    """What was sampled: a dilemma, a claim, a vignette."""
    row_key: str
    """This row within the protocol, the same for every method and strength."""
    chat: Chat
    anchor: str
    """The start of the assistant's answer, up to the slot."""
    words: tuple[tuple[str, ...], tuple[str, ...]]
    """The two classes of answers, e.g. (("yes",), ("no",))."""
    label: int = 1
    """+1 where the first class is the side being measured, -1 where the second is."""
    kind: str = ""
    """What the protocol calls this row: a framing, a foundation."""


@dataclass(frozen=True)
class Score:
    """What one item got at one strength."""

    logratio: float
    pmass: float
    maxp: float


def score(
    base: Base, items: Sequence[Item], *, alphas: Sequence[float], dial: Dial | None = None, label: str = "scoring"
) -> list[list[Score]]:
    """Scores of every item at every alpha, in the order given."""
    if any(alphas) and dial is None:
        raise ValueError(f"alphas {list(alphas)} need something to steer by")
    prepared = [(slot_ids(base, item), *_classes(base, item)) for item in items]
    nonzero = [a for a in alphas if a != 0]

    def run(strengths: Sequence[float]):
        def batch(rows):
            ids = [row[0] for row in rows for _ in strengths]
            steering = dial(list(strengths) * len(rows)) if dial is not None and any(strengths) else nullcontext()
            with steering:
                logp = last_logprobs(base, ids)
            flat = [_scored(lp, *rows[i // len(strengths)][1:]) for i, lp in enumerate(logp)]
            return [flat[i : i + len(strengths)] for i in range(0, len(flat), len(strengths))]

        return batch

    def all_at(strengths: Sequence[float], what: str) -> list[list[Score]]:
        size = max(1, ROWS_AT_ONCE // len(strengths))
        return in_batches(prepared, run(strengths), size=size, length=lambda p: len(p[0]), label=what)[0]

    plain = all_at([0.0], f"{label}, alpha 0") if 0 in alphas else [[] for _ in items]
    steered = all_at(nonzero, f"{label}, {len(nonzero)} alphas") if nonzero else [[] for _ in items]
    found = []
    for zero, others in zip(plain, steered):
        by_alpha = dict(zip([*nonzero, *[0.0] * len(zero)], [*others, *zero]))
        found.append([by_alpha[float(a)] for a in alphas])
    return found


def slot_ids(base: Base, item: Item) -> list[int]:
    """Token ids up to the slot; a prompt longer than the model's context is refused, never cut."""
    ids = encode(base.tokenizer, slot_text(base, item))
    limit = getattr(base.model.config, "max_position_embeddings", None)
    if limit and len(ids) > limit:
        raise ScoringImpossible(
            f"the item {item.row_key} has {len(ids)} tokens, and this model's context holds {limit}; shorten its text."
        )
    return ids


def slot_text(base: Base, item: Item) -> str:
    """The rendered prompt and anchor; a template without a chat gets a space between question and answer."""
    return render(base.tokenizer, item.chat) + (
        item.anchor if getattr(base.tokenizer, "chat_template", None) else "\n" + item.anchor
    )


@torch.inference_mode()
def last_logprobs(base: Base, rows: Sequence[Sequence[int]]) -> Tensor:
    """Log-probabilities over the vocabulary at the last token of every row, in float32 or better."""
    width = max(map(len, rows))
    pad = base.tokenizer.pad_token_id or 0
    ids = torch.tensor([[pad] * (width - len(r)) + list(r) for r in rows], device=base.device)
    mask = torch.tensor([[0] * (width - len(r)) + [1] * len(r) for r in rows], device=base.device)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    logits = base.model(
        input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False, logits_to_keep=1
    ).logits
    last = logits[:, -1]
    return last.to(torch.promote_types(last.dtype, torch.float32)).log_softmax(-1)


def sequence_logprobs(
    base: Base,
    rows: Sequence[tuple[Sequence[int], int]],
    *,
    alphas: Sequence[float],
    dial: Dial | None = None,
    label: str = "scoring",
) -> list[list[float]]:
    """The mean log-probability of the tokens from `start` on, for rows (ids, start), at every alpha."""

    @torch.inference_mode()
    def run(batch):
        strengths = [float(a) for a in alphas]
        flat = [r for r in batch for _ in strengths]
        width, keep = max(len(r[0]) for r in flat), max(len(r[0]) - r[1] for r in flat) + 1
        pad = base.tokenizer.pad_token_id or 0
        ids = torch.tensor([[pad] * (width - len(r[0])) + list(r[0]) for r in flat], device=base.device)
        mask = torch.tensor([[0] * (width - len(r[0])) + [1] * len(r[0]) for r in flat], device=base.device)
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        with dial(strengths * len(batch)) if dial is not None and any(strengths) else nullcontext():
            logits = base.model(
                input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False, logits_to_keep=keep
            ).logits
        logp = logits[:, :-1].float().log_softmax(-1).gather(-1, ids[:, 1 - keep :, None])[..., 0]
        means = [float(lp[-(len(r[0]) - r[1]) :].mean()) for lp, r in zip(logp, flat)]
        return [means[i : i + len(strengths)] for i in range(0, len(means), len(strengths))]

    size = max(1, ROWS_AT_ONCE // 4 // len(alphas))
    return in_batches(rows, run, size=size, length=lambda r: len(r[0]), label=label)[0]


# the tokenizer is kept beside its answers, so that its id cannot pass to another one
_proven: dict[tuple, tuple[Any, Answers]] = {}


def _classes(base: Base, item: Item) -> tuple[Tensor, Tensor]:
    """The token ids of both answer classes."""
    found = proven(base, item)
    return torch.tensor(found.yes), torch.tensor(found.no)


def proven(base: Base, item: Item) -> Answers:
    """The answer tokens of an item, proven once per tokenizer and anchor."""
    key = (id(base.tokenizer), item.anchor, item.words)
    if key not in _proven:
        _proven[key] = base.tokenizer, find_answers(base.tokenizer, item.words, slot_text(base, item))
    return _proven[key][1]


def _scored(logp: Tensor, yes: Tensor, no: Tensor) -> Score:
    a, b = logp[yes.to(logp.device)].logsumexp(0), logp[no.to(logp.device)].logsumexp(0)
    return Score(float(a - b), float(a.exp() + b.exp()), float(logp.max().exp()))
