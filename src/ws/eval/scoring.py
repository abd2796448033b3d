"""Answers scored in one forward pass: the log-ratio of two classes of tokens at a proven slot.

    logratio = log P(yes) - log P(no)        pmass = P(yes) + P(no)

The slot is the last token of every left-padded row. Several strengths share one batch: a row for each item and alpha,
through the per-row alpha of steering. Strength 0 is measured on the bare model, once, or taken from where it was
measured before. What is thought before the slot is the business of `ws.eval.thinking`.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
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
from ws.prefix_cache import (
    Level,
    answering,
    common,
    cut,
    cuttable,
    extended,
    families,
    holds,
    last_logits,
    levels,
    mean_logprobs,
    padded,
    reading_alike,
)

Dial = Callable[[Sequence[float]], AbstractContextManager]
"""Strengths, one per row of the batch, to a context in which the model is steered by them."""
Steer = Callable[[Sequence[float], Sequence[int]], AbstractContextManager]
"""The same, with where each row becomes the model's own: the position of its prompt's last token."""

FEW_STRENGTHS = 7  # that a line of progress names
P = TypeVar("P")


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

    def described(self) -> dict[str, str]:
        """What a person needs to judge its number: the question and which answers were set against each other."""
        if self.texts:
            wanted, unwanted = self.texts[0], self.texts[1] if self.texts[1:] else ""
        else:
            wanted, unwanted = (" / ".join(w) for w in (self.words if self.label > 0 else self.words[::-1]))
        return {
            "row_key": self.row_key,
            "prompt": self.chat.user,
            "system": self.chat.system or "",
            "anchor": self.anchor,
            "wanted": wanted,
            "unwanted": unwanted,
        }


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


Measure = Callable[[Sequence[P], Sequence[float], Steer], list[Score]]
"""(some rows, the strengths each is wanted at, how to steer) to scores, the strengths of a row side by side."""


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
    holds(base)  # tried here, before anything is steered
    # kin are sorted as if they were of one length, so that they meet in one batch
    kin = {i: max(len(prompts[j].ids) for j in f) for f in families([p.ids for p in prompts]) for i in f}

    def measure(part: Sequence[tuple[int, ItemTokens]], strengths: Sequence[float], steer: Steer) -> list[Score]:
        logp = shared_logprobs(base, [p.ids for _, p in part], [p.start for _, p in part], strengths, steer)
        return scores_of(logp, [p.answers for _, p in part for _ in strengths])

    return at_alphas(
        list(enumerate(prompts)),
        measure,
        room=Room(base.model),
        length=lambda p: kin[p[0]],
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
    refuse_too_long(base, {item.row_key: max(len(t.ids) for t in p) for item, p in zip(items, prepared)})

    return at_alphas(
        prepared,
        lambda part, strengths, steer: _texts_scored(base, part, strengths, steer),
        room=Room(base.model),
        length=lambda p: sum(len(t.ids) for t in p),
        alphas=alphas,
        dial=dial,
        label=label,
        reference=reference,
    )


def at_alphas(
    prepared: Sequence[P],
    measure: Measure[P],
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

    @contextmanager
    def steer(each: Sequence[float], starts: Sequence[int]) -> Iterator[None]:
        if dial is None or not any(each):
            yield
            return
        with answering(starts), dial(each):
            yield

    def all_at(strengths: list[float], what: str) -> list[list[Score]]:
        k = len(strengths)

        def batch(part: Sequence[P]) -> list[list[Score]]:
            flat = measure(part, strengths, steer)
            return [flat[i : i + k] for i in range(0, len(flat), k)]

        size = lambda p: room.fits(k * length(p), k)  # noqa: E731
        return in_batches(prepared, batch, size=size, length=length, label=what)[0]

    if 0 not in map(float, alphas):
        zero: list[list[Score]] = [[] for _ in prepared]
    elif reference is not None:
        zero = [[s] for s in reference]
    else:
        zero = all_at([0.0], f"{label}, alpha 0")
    others = all_at(nonzero, f"{label}, {_strengths_as_text(nonzero)}") if nonzero else [[] for _ in zero]
    rows = []
    for z, o in zip(zero, others):
        by_alpha = dict(zip([*nonzero, *[0.0] * len(z)], [*o, *z]))
        rows.append([by_alpha[float(a)] for a in alphas])
    return rows


def _strengths_as_text(alphas: Sequence[float]) -> str:
    """A few strengths by number; of many, how many there are."""
    if len(alphas) > FEW_STRENGTHS:
        return f"{len(alphas)} strengths"
    return f"alpha {', '.join(f'{a:g}' for a in alphas)}"


@dataclass(frozen=True)
class ItemTokens:
    """One item made ready: the ids up to the slot, and the answer tokens proven there."""

    item: Item
    ids: tuple[int, ...]
    start: int
    """The last token of what was asked; the anchor after it is the model's own."""
    answers: Answers


def prompts_of(base: Base, items: Sequence[Item]) -> list[ItemTokens]:
    """Every item made ready; prompts longer than the model's context are refused, never cut."""
    texts = [slot_text(base, i) for i in items]
    ids = [tuple(encode(base.tokenizer, text)) for text in texts]
    prompts = [ItemTokens(i, t, own_start(base, i, t), proven(base, i, text)) for i, t, text in zip(items, ids, texts)]
    refuse_too_long(base, {p.item.row_key: len(p.ids) for p in prompts})
    return prompts


def refuse_too_long(base: Base, tokens: dict[str, int], thought: int = 0) -> None:
    """One sentence for all rows that do not fit the model's context, with `thought` tokens of thought."""
    limit = context_of(base.model)
    if limit and (over := {k: n for k, n in tokens.items() if n > limit}):
        worst = max(over, key=lambda k: over[k])
        raise ScoringImpossible(
            f"{len(over)} of {len(tokens)} rows are longer than this model's context holds ({limit} tokens), e.g. "
            f"{worst} with {over[worst]}; "
            + (
                f"{thought} of these are thought: give fewer."
                if 2 * thought > limit
                else "shorten their text or leave them out."
            )
        )


def slot_text(base: Base, item: Item) -> str:
    """The rendered prompt and anchor; a template without a chat gets a new line between question and answer."""
    return render(base.tokenizer, item.chat) + (
        item.anchor if has_template(base.tokenizer) or not item.anchor else "\n" + item.anchor
    )


def own_start(base: Base, item: Item, ids: Sequence[int]) -> int:
    """The last token of an item's prompt, before its anchor; one that runs over into the anchor is the model's own."""
    return max(0, common(encode(base.tokenizer, render(base.tokenizer, item.chat)), ids) - 1)


@torch.inference_mode()
def last_logprobs(base: Base, rows: Sequence[Sequence[int]]) -> Tensor:
    """Log-probabilities over the vocabulary at the last token of every row, in float32 or better."""
    ids, mask, positions = padded(base, rows)
    logits, _ = last_logits(base.model, input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False)
    return logprobs(logits)


@torch.inference_mode()
def shared_logprobs(
    base: Base, rows: Sequence[Sequence[int]], starts: Sequence[int], strengths: Sequence[float], steer: Steer
) -> Tensor:
    """The same at every strength, those of a row side by side; what rows have in common at their start is read once."""
    plan = levels(rows) if holds(base) else []
    logp = _by_levels(base, plan, starts, strengths, steer) if len(plan) > 1 else None
    if logp is not None:
        return logp
    with reading_alike(len(strengths)), steer(list(strengths) * len(rows), [s for s in starts for _ in strengths]):
        return last_logprobs(base, [r for r in rows for _ in strengths])


def _by_levels(
    base: Base, plan: Sequence[Level], starts: Sequence[int], strengths: Sequence[float], steer: Steer
) -> Tensor | None:
    """Log-probabilities of the last level's rows; None where this cache cannot be shared."""
    k, own = len(strengths), _starts_by_level(plan, starts)

    def read(at: int, cache: Any, mask: Tensor | None) -> tuple[Tensor, Any, Tensor]:
        nodes = [tokens for _, tokens in plan[at] for _ in strengths]
        with reading_alike(k), steer(list(strengths) * len(plan[at]), [s for s in own[at] for _ in strengths]):
            return extended(base, cache, mask, nodes, head=at == len(plan) - 1)

    logits, cache, mask = read(0, None, None)
    if not cuttable(base, cache, sum(max(len(tokens) for _, tokens in level) for level in plan)):
        return None
    for at, level in enumerate(plan[1:], 1):
        parents = [parent * k + s for parent, _ in level for s in range(k)]
        logits, cache, mask = read(at, cut(cache, parents), mask[parents])
    return logprobs(logits)


def _starts_by_level(plan: Sequence[Level], starts: Sequence[int]) -> list[list[int]]:
    """Where the answers of every node's rows start, the earliest of them; rows that share a start of text share that."""
    by_level = [list(starts)]
    for above, level in zip(plan[-2::-1], plan[:0:-1]):
        children: list[list[int]] = [[] for _ in above]
        for (parent, _), start in zip(level, by_level[0]):
            children[parent].append(start)
        by_level.insert(0, [min(c) for c in children])
    return by_level


def logprobs(logits: Tensor) -> Tensor:
    """Log-softmax in float32 or better."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)


def scores_of(logp: Tensor, answers: Sequence[Answers]) -> list[Score]:
    """One score per row of log-probabilities; logits that are not finite score NaN."""
    scores: dict[int, Score] = {}
    for each in dict.fromkeys(answers):
        rows = [i for i, a in enumerate(answers) if a == each]
        part = logp if len(rows) == len(answers) else logp[rows]
        a, b = (part[:, list(ids)].logsumexp(-1) for ids in (each.yes, each.no))
        numbers = torch.stack([a - b, a.exp() + b.exp(), part.amax(-1).exp()], dim=1)
        scores.update({i: Score(*values) for i, values in zip(rows, numbers.tolist())})
    return [scores[i] for i in range(len(answers))]


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
        lambda part, strengths, steer: _texts_scored(
            base, [[Whole(ids, start, start - 1)] for ids, start in part], strengths, steer
        ),
        room=Room(base.model),
        length=lambda r: len(r[0]),
        alphas=alphas,
        dial=dial,
        label=label,
    )
    return [[s.logratio for s in per_alpha] for per_alpha in found]


@dataclass(frozen=True)
class Whole:
    """A prompt with one whole answer."""

    ids: Sequence[int]
    answer: int
    """Where the answer starts that is scored."""
    start: int
    """The last token of what was asked."""


@torch.inference_mode()
def _texts_scored(base: Base, part: Sequence[Sequence[Whole]], strengths: Sequence[float], steer: Steer) -> list[Score]:
    flat = [(a, text) for row in part for a in strengths for text in row]
    with steer([a for a, _ in flat], [t.start for _, t in flat]):
        means = iter(mean_logprobs(base, [(t.ids, t.answer) for _, t in flat]))
    per_row = [[next(means) for _ in row] for row in part for _ in strengths]
    return [Score(f[0] - sum(f[1:]), math.nan, math.nan) for f in per_row]


def _with_answer(base: Base, item: Item, text: str) -> Whole:
    """A prompt with one whole answer; they may not share a token."""
    before = slot_text(base, item)
    start, ids = encode(base.tokenizer, before), encode(base.tokenizer, before + text)
    if ids[: len(start)] != start or len(ids) == len(start):
        raise ScoringImpossible(
            f"the answer {text[:40]!r} of {item.row_key} does not start a new token after {before[-20:]!r}; "
            "begin it with a space, or end the anchor at a token boundary."
        )
    return Whole(ids, len(start), own_start(base, item, ids))


# the tokenizer is kept beside its answers, so that its id cannot pass to another one
_proven: dict[tuple, tuple[Any, Answers]] = {}


def proven(base: Base, item: Item, slot: str | None = None, after: str = "") -> Answers:
    """The answer tokens of an item, proven at its slot, once per tokenizer and per what stands before the anchor."""
    key = (id(base.tokenizer), after, item.anchor, item.words)
    if key not in _proven:
        text = slot_text(base, item) if slot is None else slot
        _proven[key] = base.tokenizer, find_answers(base.tokenizer, item.words, text)
    return _proven[key][1]
