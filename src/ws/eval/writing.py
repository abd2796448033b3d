"""What a model writes when it is left to write, at several strengths: greedy answers, and how much of them goes in circles."""

import math
from collections.abc import Sequence

from ws.batches import Room
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
    alphas: Sequence[float],
    dial: Dial | None = None,
    label: str = "writing",
    reference: Sequence[Score] | None = None,
) -> list[list[Score]]:
    """Answers of at most `n_write` tokens: `logratio` is how much of one repeats itself, `forced_close` that it had no end."""
    prompts = [(i, tuple(encode(base.tokenizer, slot_text(base, i)))) for i in items]
    refuse_too_long(base, {i.row_key: len(ids) + n_write for i, ids in prompts}, n_write)
    stops, pad = stop_tokens(base.tokenizer, base.model), base.tokenizer.pad_token_id or 0

    def written(part: Sequence[tuple[Item, tuple[int, ...]]], strengths: Sequence[float], steer: Steer) -> list[Score]:
        batch = [Request(ids, n_write, i.row_key) for i, ids in part for _ in strengths]
        with steer(list(strengths) * len(part), [own_start(base, i, ids) for i, ids in part for _ in strengths]):
            outputs = decode(base.model, batch, Sampling(0.0), stops=stops, pad=pad, seed=0)
        answers = [answered(base.tokenizer, tokens, stops) for tokens in outputs]
        return [
            Score(repeated(tokens), math.nan, math.nan, forced_close=not a.ended, text=a.text, n_thought=a.n_tokens)
            for tokens, a in zip(outputs, answers)
        ]

    return at_alphas(
        prompts,
        written,
        room=Room(base.model, decodes=True),
        length=lambda row: len(row[1]) + n_write,
        alphas=alphas,
        dial=dial,
        label=label,
        reference=reference,
    )


def repeated(tokens: Sequence[int]) -> float:
    """The share of runs of four tokens that stood there before; 0 for an answer too short to have any."""
    runs = [tuple(tokens[i : i + RUN]) for i in range(len(tokens) - RUN + 1)]
    return 1 - len(set(runs)) / len(runs) if runs else 0.0
