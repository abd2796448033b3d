"""Answers scored in one forward pass: the log-ratio of two classes of tokens at a proven slot.

    logratio = log P(yes) - log P(no)        pmass = P(yes) + P(no)

The slot is the last token of every left-padded row. Several strengths share one batch: a row for each item and alpha,
through the per-row alpha of steering. Strength 0 is measured on the bare model, once, or taken from where it was
measured before. What is thought before the slot is the business of `ws.eval.thinking`.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from ws.batches import Room, in_batches
from ws.errors import ScoringImpossible
from ws.generate import context_of
from ws.models.answers import Answers, find_answers
from ws.models.chat import Chat, encode, has_template, render
from ws.models.load import Base

Dial = Callable[[Sequence[float]], AbstractContextManager]
"""Strengths, one per row of the batch, to a context in which the model is steered by them."""

P = TypeVar("P")
Steered = Callable[[Sequence[int]], AbstractContextManager]
"""Rows of a batch, by index and as often as wanted, to a context in which the model steers a batch of just those."""


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
    words: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
    """The two classes of answers, each a set of single words, e.g. (("yes",), ("no",))."""
    label: int = 1
    """+1 where the first class is the side being measured, -1 where the second is."""
    kind: str = ""
    """What the protocol calls this row: a framing, a foundation."""
    texts: tuple[str, ...] = ()
    """Instead of `words`, whole answers: a pair (pos, neg), or one text whose own likelihood is wanted."""


@dataclass(frozen=True)
class Score:
    """What one item got at one strength."""

    logratio: float
    pmass: float
    maxp: float
    forced_close: bool = False
    """Whether the thought came to no end of its own within its budget."""
    text: str = ""
    """The thought, where there was one."""
    n_thought: int = 0


def score(
    base: Base,
    items: Sequence[Item],
    *,
    alphas: Sequence[float],
    dial: Dial | None = None,
    label: str = "scoring",
    reference: Sequence[Score] | None = None,
) -> list[list[Score]]:
    """Scores of every item at every alpha, in the order given; `reference` holds those at alpha 0 if they are known."""
    prompts = prompts_of(base, items)

    def measure(rows: Sequence[Prompt], steered: Steered) -> list[Score]:
        with steered(range(len(rows))):
            logp = last_logprobs(base, [r.ids for r in rows])
        return scores_of(logp, [r.answers for r in rows])

    return at_alphas(
        prompts,
        measure,
        room=Room(base.model),
        length=lambda p: len(p.ids),
        alphas=alphas,
        dial=dial,
        label=label,
        reference=reference,
    )


def score_texts(
    base: Base,
    items: Sequence[Item],
    *,
    alphas: Sequence[float],
    dial: Dial | None = None,
    label: str = "scoring",
    reference: Sequence[Score] | None = None,
) -> list[list[Score]]:
    """Scores of whole answers: the mean log-probability per token of the first text, less that of the second."""
    prepared = [[_with_answer(base, item, text) for text in item.texts] for item in items]
    refuse_too_long(base, {item.row_key: max(len(s[0]) for s in p) for item, p in zip(items, prepared)})

    return at_alphas(
        prepared,
        lambda rows, steered: _texts_scored(base, rows, steered),
        room=Room(base.model),
        length=lambda p: sum(len(ids) for ids, _ in p) * TEXTS_COST,
        alphas=alphas,
        dial=dial,
        label=label,
        reference=reference,
    )


TEXTS_COST = 4  # the logits of every answer token are kept, so a batch holds fewer


def at_alphas(
    prepared: Sequence[P],
    measure: Callable[[Sequence[P], Steered], list[Score]],
    *,
    room: Room,
    length: Callable[[P], int],
    alphas: Sequence[float],
    dial: Dial | None,
    label: str,
    reference: Sequence[Score] | None = None,
) -> list[list[Score]]:
    """`measure` for every row and alpha: the strengths other than 0 side by side, 0 on the bare model and only once."""
    nonzero = list(dict.fromkeys(float(a) for a in alphas if a != 0))
    if nonzero and dial is None:
        raise ValueError(f"alphas {list(alphas)} need something to steer by")
    if reference is not None and len(reference) != len(prepared):
        raise ValueError(f"{len(reference)} reference scores were given for {len(prepared)} items")

    def all_at(strengths: list[float], what: str) -> list[list[Score]]:
        k = len(strengths)

        def batch(part: Sequence[P]) -> list[list[Score]]:
            each = strengths * len(part)

            def steered(kept: Sequence[int]) -> AbstractContextManager:
                return dial([each[i] for i in kept]) if dial is not None and any(strengths) else nullcontext()

            flat = measure([p for p in part for _ in strengths], steered)
            return [flat[i : i + k] for i in range(0, len(flat), k)]

        size = lambda p: room.fits(k * length(p), k)  # noqa: E731
        return in_batches(prepared, batch, size=size, length=length, label=what)[0]

    if 0 not in map(float, alphas):
        zero: list[list[Score]] = [[] for _ in prepared]
    elif reference is not None:
        zero = [[s] for s in reference]
    else:
        zero = all_at([0.0], f"{label}, alpha 0")
    others = (
        all_at(nonzero, f"{label}, alpha {', '.join(f'{a:g}' for a in nonzero)}") if nonzero else [[] for _ in zero]
    )
    found = []
    for z, o in zip(zero, others):
        by_alpha = dict(zip([*nonzero, *[0.0] * len(z)], [*o, *z]))
        found.append([by_alpha[float(a)] for a in alphas])
    return found


@dataclass(frozen=True)
class Prompt:
    """One item made ready: the ids up to the slot, and the answer tokens proven there."""

    item: Item
    ids: tuple[int, ...]
    answers: Answers


def prompts_of(base: Base, items: Sequence[Item]) -> list[Prompt]:
    """Every item made ready; prompts longer than the model's context are refused, never cut."""
    found = [
        Prompt(i, tuple(encode(base.tokenizer, text)), proven(base, i, text))
        for i, text in ((i, slot_text(base, i)) for i in items)
    ]
    refuse_too_long(base, {p.item.row_key: len(p.ids) for p in found})
    return found


def refuse_too_long(base: Base, tokens: dict[str, int]) -> None:
    """One sentence for all rows that do not fit the model's context."""
    limit = context_of(base.model)
    if limit and (over := {k: n for k, n in tokens.items() if n > limit}):
        worst = max(over, key=lambda k: over[k])
        raise ScoringImpossible(
            f"{len(over)} of {len(tokens)} rows are longer than this model's context holds ({limit} tokens), e.g. "
            f"{worst} with {over[worst]}; shorten their text or leave them out."
        )


def slot_text(base: Base, item: Item) -> str:
    """The rendered prompt and anchor; a template without a chat gets a new line between question and answer."""
    return render(base.tokenizer, item.chat) + (
        item.anchor if has_template(base.tokenizer) or not item.anchor else "\n" + item.anchor
    )


@torch.inference_mode()
def last_logprobs(base: Base, rows: Sequence[Sequence[int]]) -> Tensor:
    """Log-probabilities over the vocabulary at the last token of every row, in float32 or better."""
    ids, mask, positions = padded(base, rows)
    logits = base.model(
        input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False, logits_to_keep=1
    ).logits
    return logprobs(logits[:, -1])


def padded(base: Base, rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor, Tensor]:
    """Ids, mask and positions of left-padded rows, so that the slot is the last column of all."""
    width = max(map(len, rows))
    pad = base.tokenizer.pad_token_id or 0
    ids = torch.tensor([[pad] * (width - len(r)) + list(r) for r in rows], device=base.device)
    mask = torch.tensor([[0] * (width - len(r)) + [1] * len(r) for r in rows], device=base.device)
    return ids, mask, (mask.cumsum(-1) - 1).clamp(min=0)


def logprobs(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)


def scores_of(logp: Tensor, answers: Sequence[Answers]) -> list[Score]:
    """One score per row of log-probabilities; logits that are not finite score NaN."""
    found: dict[int, Score] = {}
    for each in dict.fromkeys(answers):
        rows = [i for i, a in enumerate(answers) if a == each]
        part = logp if len(rows) == len(answers) else logp[rows]
        a, b = (part[:, list(ids)].logsumexp(-1) for ids in (each.yes, each.no))
        told = torch.stack([a - b, a.exp() + b.exp(), part.amax(-1).exp()], dim=1)
        found.update({i: Score(*values) for i, values in zip(rows, told.tolist())})
    return [found[i] for i in range(len(answers))]


def sequence_logprobs(
    base: Base,
    rows: Sequence[tuple[Sequence[int], int]],
    *,
    alphas: Sequence[float],
    dial: Dial | None = None,
    label: str = "scoring",
) -> list[list[float]]:
    """The mean log-probability of the tokens from `start` on, for rows (ids, start), at every alpha."""
    found = at_alphas(
        rows,
        lambda part, steered: _texts_scored(base, [[r] for r in part], steered),
        room=Room(base.model),
        length=lambda r: len(r[0]) * TEXTS_COST,
        alphas=alphas,
        dial=dial,
        label=label,
    )
    return [[s.logratio for s in per_alpha] for per_alpha in found]


def _texts_scored(base: Base, rows: Sequence[Sequence[tuple[Sequence[int], int]]], steered: Steered) -> list[Score]:
    flat = [(i, sequence) for i, row in enumerate(rows) for sequence in row]
    with steered([i for i, _ in flat]):
        means = iter(_mean_logprobs(base, [s for _, s in flat]))
    found = [[next(means) for _ in row] for row in rows]
    return [Score(f[0] - sum(f[1:]), math.nan, math.nan) for f in found]


@torch.inference_mode()
def _mean_logprobs(base: Base, rows: Sequence[tuple[Sequence[int], int]]) -> list[float]:
    keep = max(len(ids) - start for ids, start in rows) + 1
    ids, mask, positions = padded(base, [r[0] for r in rows])
    logits = base.model(
        input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False, logits_to_keep=keep
    ).logits
    logp = logprobs(logits[:, :-1]).gather(-1, ids[:, 1 - keep :, None])[..., 0]
    return [float(lp[start - len(r) :].mean()) for lp, (r, start) in zip(logp, rows)]


def _with_answer(base: Base, item: Item, text: str) -> tuple[list[int], int]:
    """(ids, where the answer starts) of a prompt with one whole answer; they may not share a token."""
    before = slot_text(base, item)
    start, ids = encode(base.tokenizer, before), encode(base.tokenizer, before + text)
    if ids[: len(start)] != start or len(ids) == len(start):
        raise ScoringImpossible(
            f"the answer {text[:40]!r} of {item.row_key} does not start a new token after {before[-20:]!r}; "
            "begin it with a space, or end the anchor at a token boundary."
        )
    return ids, len(start)


# the tokenizer is kept beside its answers, so that its id cannot pass to another one
_proven: dict[tuple, tuple[Any, Answers]] = {}


def proven(base: Base, item: Item, slot: str | None = None, after: str = "") -> Answers:
    """The answer tokens of an item, proven at its slot, once per tokenizer and per what stands before the anchor."""
    key = (id(base.tokenizer), after, item.anchor, item.words)
    if key not in _proven:
        text = slot_text(base, item) if slot is None else slot
        _proven[key] = base.tokenizer, find_answers(base.tokenizer, item.words, text)
    return _proven[key][1]
