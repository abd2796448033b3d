"""Guided chain of thought: the model thinks under steering, for so many tokens, and then has to answer.

1. The prompt ends in an opened thought. Greedy decoding, at most `n_think` tokens, until the token that closes it.
2. A thought that closed itself is cut there. Any other is closed by one sentence in the model's voice and that token.
3. The anchor follows, and one more step, still steered, scores the answer as `ws.eval.scoring` does.

A row that has finished thinking leaves the batch with its share of the cache and is scored from there: the tokens of
the close and the anchor are all that is computed anew. Caches that cannot be cut (recurrent layers, windows that have
moved on) are not reused; those rows are scored from their text, which is the same number at a higher price.

`plain` is for models without thought tokens: some text of an answer, a blank line, the anchor.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ws.batches import Room
from ws.errors import ScoringImpossible
from ws.eval.scoring import (
    Dial,
    Item,
    Score,
    Steer,
    at_alphas,
    last_logprobs,
    logprobs,
    proven,
    refuse_too_long,
    scores_of,
)
from ws.models.answers import Answers
from ws.models.chat import close_of_thought, encode, render, stop_tokens
from ws.models.load import Base
from ws.prefix_cache import cut, cuttable, extended, grown, holds, last_logits, padded

FORCED = " I will answer now."
COTS = ("think", "plain")
LEAVE = 0.25  # of a batch: so many rows must have finished before they are taken out, which copies the cache


@dataclass(frozen=True)
class Thinker:
    """A prompt with an opened thought, and the ways it can be brought to its answer."""

    ids: tuple[int, ...]
    tail: tuple[int, ...]
    """After a thought that closed itself: the anchor."""
    forced: tuple[int, ...]
    """After any other thought: the sentence, the close and the anchor."""
    close: int | None
    """The token that closes a thought; None for `plain`."""
    answers: Answers


def score_thinking(
    base: Base,
    items: Sequence[Item],
    *,
    n_think: int,
    alphas: Sequence[float],
    cot: str = "think",
    dial: Dial | None = None,
    label: str = "thinking",
    reference: Sequence[Score] | None = None,
    reuse_cache: bool = True,
) -> list[list[Score]]:
    """Scores after a thought of at most `n_think` tokens, of every item at every alpha, in the order given."""
    if n_think < 1:
        raise ValueError(f"a thought needs at least one token, got n_think {n_think}; `score` is for none")
    thinkers = [thinker(base, item, cot) for item in items]
    most = [len(t.ids) + n_think + max(len(t.tail), len(t.forced)) for t in thinkers]
    refuse_too_long(base, {i.row_key: n for i, n in zip(items, most)}, n_think)
    stops = set(stop_tokens(base.tokenizer, base.model))
    holds(base)  # tried here, before anything is steered
    return at_alphas(
        list(zip(thinkers, most)),
        lambda part, strengths, steer: _measured(
            base,
            [t for t, _ in part for _ in strengths],
            list(strengths) * len(part),
            n_think,
            stops,
            steer,
            reuse_cache,
        ),
        room=Room(base.model, decodes=True),
        length=lambda row: row[1],
        alphas=alphas,
        dial=dial,
        label=label,
        reference=reference,
    )


def thinker(base: Base, item: Item, cot: str = "think") -> Thinker:
    """An item with its thought opened, and its answer tokens proven where they will be scored."""
    tokenizer = base.tokenizer
    if cot == "think":
        text = render(tokenizer, item.chat, thinking="forced")
        close = close_of_thought(tokenizer)
        after = f"</think>\n\n{item.anchor}"
        tail, forced = _continued(tokenizer, after), _continued(tokenizer, f"{FORCED}\n{after}")
        if tail[0] != close or forced.count(close) != 1:
            raise ScoringImpossible("the close of a thought does not stay one token before the anchor.")
        tail = tail[1:]  # the model's own close is kept, and is the first of what follows
    elif cot == "plain":
        text, close, after = render(tokenizer, item.chat), None, f"\n\n{item.anchor}"
        tail = forced = _continued(tokenizer, after)
    else:
        raise ValueError(f"cot is one of {', '.join(COTS)}; got {cot!r}")
    answers = proven(base, item, text + "Well." + after, after=cot)
    return Thinker(tuple(encode(tokenizer, text)), tail, forced, close, answers)


def _continued(tokenizer: Any, text: str) -> tuple[int, ...]:
    """The ids of text that goes on from other text: some tokenizers put a space before whatever comes first."""
    before = encode(tokenizer, "a")
    both = encode(tokenizer, "a" + text)
    return tuple(both[len(before) :] if both[: len(before)] == before else encode(tokenizer, text))


@dataclass
class _Thought:
    """What one row has said so far."""

    tokens: list[int]
    over: bool = False

    def ending(self, of: Thinker, stops: set[int]) -> tuple[list[int], bool, tuple[int, ...]]:
        """(its tokens without what only ends a turn, whether it was forced, what is appended)."""
        last = self.tokens[-1]
        if last == of.close:
            return self.tokens, False, of.tail
        ended = last in stops
        thought = self.tokens[:-1] if ended else self.tokens
        return thought, of.close is not None or not ended, of.forced


@torch.inference_mode()
def _measured(
    base: Base,
    rows: Sequence[Thinker],
    alphas: Sequence[float],
    n_think: int,
    stops: set[int],
    steer: Steer,
    reuse: bool,
) -> list[Score]:
    """Scores of one batch: think, and let every row that is done leave and be scored."""
    ids, mask, positions = padded(base, [r.ids for r in rows])
    columns = ids.shape[1] + n_think + max(max(len(r.tail), len(r.forced)) for r in rows)
    starts = [len(r.ids) - 1 for r in rows]  # a thought is the model's own, and so is what closes it
    thoughts = [_Thought([]) for _ in rows]
    scores: dict[int, Score] = {}
    here, step, cache = list(range(len(rows))), ids, None  # `here`: which rows the batch still holds
    while here:
        cuts = True
        with steer([alphas[i] for i in here], [starts[i] for i in here]):
            while True:
                logits, cache = last_logits(
                    base.model,
                    input_ids=step,
                    attention_mask=mask,
                    position_ids=positions,
                    past_key_values=cache,
                    use_cache=True,
                )
                cuts = reuse and cuttable(base, cache, columns)
                if cuts and step is ids:
                    cache = grown(cache, columns)
                token = logits.argmax(-1)
                for i, new in zip(here, token.tolist()):
                    if not thoughts[i].over:
                        thoughts[i].tokens.append(new)
                        thoughts[i].over = new == rows[i].close or new in stops or len(thoughts[i].tokens) == n_think
                over = [thoughts[i].over for i in here]
                if all(over) or (cuts and sum(over) >= LEAVE * len(here)):
                    break
                # a row that is over waits: what it is fed meanwhile is masked, for itself and for good
                alive = torch.tensor([not o for o in over], device=mask.device)
                step, mask = token[:, None], torch.cat([mask, alive[:, None].to(mask.dtype)], dim=1)
                positions = (mask.sum(-1, keepdim=True) - 1).clamp(min=0)
        leaving = [at for at, o in enumerate(over) if o]
        staying = [at for at, o in enumerate(over) if not o]
        which = [here[at] for at in leaving]
        with steer([alphas[i] for i in which], [starts[i] for i in which]):
            part = (cut(cache, leaving, copy=bool(staying)), mask[leaving]) if cuts else None
            scored = _scored(base, [rows[i] for i in which], [thoughts[i] for i in which], stops, part)
        scores.update(zip(which, scored))
        if staying:
            cache, mask = cut(cache, staying), mask[staying]
            mask = torch.cat([mask, mask.new_ones(len(staying), 1)], dim=1)
            step, positions = token[staying][:, None], mask.sum(-1, keepdim=True) - 1
        here = [here[at] for at in staying]
    return [scores[i] for i in range(len(rows))]


def _scored(
    base: Base, rows: Sequence[Thinker], thoughts: Sequence[_Thought], stops: set[int], part: tuple[Any, Tensor] | None
) -> list[Score]:
    """Scores of rows whose thoughts are over: from their part of the cache and its mask, or from their whole text."""
    endings = [thought.ending(row, stops) for row, thought in zip(rows, thoughts)]
    if part is None:
        whole = [[*row.ids, *thought_ids, *after] for row, (thought_ids, _, after) in zip(rows, endings)]
        logp = last_logprobs(base, whole)
    else:
        # all of a thought but its last token is in the cache
        last = [
            thought_ids[-1:] if len(thought_ids) == len(t.tokens) else []
            for t, (thought_ids, _, _) in zip(thoughts, endings)
        ]
        logits, _, _ = extended(base, *part, [[*own, *after] for own, (_, _, after) in zip(last, endings)])
        logp = logprobs(logits)
    scores = []
    for row, s, (thought_ids, forced, _) in zip(rows, scores_of(logp, [r.answers for r in rows]), endings):
        words = thought_ids[:-1] if thought_ids and thought_ids[-1] == row.close else thought_ids
        text = base.tokenizer.decode(words, skip_special_tokens=True).strip()
        scores.append(replace(s, forced_close=forced, text=text, n_thought=len(words)))
    return scores
