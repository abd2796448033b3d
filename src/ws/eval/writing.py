"""What a model writes when it is left to write, at several strengths, and how much of that goes in circles."""

import math
from collections.abc import Sequence

from ws.batches import Room
from ws.eval.judged import answer_of
from ws.eval.scoring import Dial, Item, Score, Steer, at_alphas, own_start, refuse_too_long, slot_text
from ws.generate import Request, Sampling, answered, decode
from ws.models.chat import encode, stop_tokens
from ws.models.load import Base

RUN = 4  # tokens: shorter runs come back in any text


def score_writing(
    base: Base,
    items: Sequence[Item],
    *,
    n_write: int,
    temperature: float = 0.0,
    alphas: Sequence[float],
    dial: Dial | None = None,
    label: str = "writing",
    reference: Sequence[Score] | None = None,
) -> list[list[Score]]:
    """Answers of at most `n_write` tokens: `logratio` is how much of one repeats itself, `forced_close` that it had no end.

    Rows that ask something of one answer have one score: it is written once (see `ws.eval.judged`).
    """
    answers = {answer_of(i.row_key): n for n, i in reversed(list(enumerate(items)))}
    first = sorted(answers.values())  # of every answer, the first row that asks for it
    prompts = [(i, tuple(encode(base.tokenizer, slot_text(base, i)))) for i in (items[n] for n in first)]
    refuse_too_long(base, {i.row_key: len(ids) + n_write for i, ids in prompts}, n_write)
    stops, pad = stop_tokens(base.tokenizer, base.model), base.tokenizer.pad_token_id or 0

    def written(part: Sequence[tuple[Item, tuple[int, ...]]], strengths: Sequence[float], steer: Steer) -> list[Score]:
        batch = [Request(ids, n_write, answer_of(i.row_key)) for i, ids in part for _ in strengths]
        with steer(list(strengths) * len(part), [own_start(base, i, ids) for i, ids in part for _ in strengths]):
            outputs = decode(base.model, batch, Sampling(temperature), stops=stops, pad=pad, seed=0)
        answers = [answered(base.tokenizer, tokens, stops) for tokens in outputs]
        return [
            Score(repeated(tokens), math.nan, math.nan, forced_close=not a.ended, text=a.text, n_thought=a.n_tokens)
            for tokens, a in zip(outputs, answers)
        ]

    scores = at_alphas(
        prompts,
        written,
        room=Room(base.model, decodes=True),
        length=lambda row: len(row[1]) + n_write,
        alphas=alphas,
        dial=dial,
        label=label,
        reference=None if reference is None else [reference[n] for n in first],
    )
    by_answer = {answer_of(i.row_key): row for (i, _), row in zip(prompts, scores)}
    return [by_answer[answer_of(i.row_key)] for i in items]


def repeated(tokens: Sequence[int]) -> float:
    """The share of runs of four tokens that stood there before; 0 for an answer too short to have any."""
    runs = [tuple(tokens[i : i + RUN]) for i in range(len(tokens) - RUN + 1)]
    return 1 - len(set(runs)) / len(runs) if runs else 0.0
