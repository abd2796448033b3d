"""Pairs as token ids: what a side is trained on, and which positions count.

A finished sequence is the prompt as it is asked, the answer, and the end of the turn; only answer and end are targets.
The prompt's ids are kept as they are, so the mask is a prefix by construction, and the whole is compared with what the
chat template itself writes. A study's questions are split in three: some are learnt from, others
choose the step that is kept, and results are reported on the rest, which the training never saw.
"""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NoReturn

from ws.errors import Unsupported
from ws.models.chat import Chat, encode, end_of_turn, render, render_whole
from ws.models.load import Base
from ws.pairs import Pair, Pairs, because
from ws.types import Json, Tokenizer

SIDES = ("pos", "neg")
STRAY = 0.05  # a few sampled answers hold markup that a template rewrites; those pairs are dropped and counted
FEWEST_TARGETS = 64  # below so many target tokens a side, published tries found nothing


@dataclass(frozen=True)
class Row:
    """One finished sequence: its ids, and where the targets start."""

    ids: tuple[int, ...]
    start: int


def rows_of(
    base: Base,
    pairs: Pairs,
    *,
    max_len: int,
    allow_template_diff: bool = False,
    fewest: int = FEWEST_TARGETS,
    whole: bool = False,
) -> tuple[dict[str, list[Row]], Json]:
    """Both sides as token ids with their mask, row by row; pairs that cannot be used are dropped on both sides.

    A longer answer is cut; with `whole` its pair is dropped, because part of an answer is another answer.
    """
    thinking = pairs.provenance.get("settings", {}).get("thinking", "off")
    sides: dict[str, list[Row]] = {s: [] for s in SIDES}
    encoded = [[_row(base.tokenizer, pair, side, thinking, max_len) for side in SIDES] for pair in pairs.rows]
    strange = [at for at, both in enumerate(encoded) if any(difference is not None for _, _, difference in both)]
    if len(strange) > STRAY * len(encoded) and not allow_template_diff:
        _refuse_template(pairs, encoded, strange)
    indices, cut, left_out = [], [], dict[str, list[str]]()
    for at, both in enumerate(encoded):
        name, long = pairs.rows[at].name, any(c for _, c, _ in both)
        if any(len(r.ids) <= r.start for r, _, _ in both):
            why = "no token of an answer is left"
        elif at in strange and not allow_template_diff:
            why = "the chat template rewrites an answer"
        elif long and whole:
            why = f"longer than {max_len} tokens"
        else:
            cut += [name] if long else []
            indices.append(at)
            for side, (row, _, _) in zip(SIDES, both):
                sides[side].append(row)
            continue
        left_out.setdefault(why, []).append(name)
    targets = {s: sum(len(r.ids) - r.start for r in rows) for s, rows in sides.items()}
    if min(targets.values()) < fewest:
        raise ValueError(
            f"only {min(targets.values())} target tokens on a side; a direction needs at least {fewest}. "
            f"Give more or longer answers.{because(pairs)}"
        )
    return sides, {
        "kept": indices,
        "left_out": left_out,
        "n_pairs": len(indices),
        "n_dropped": len(encoded) - len(indices),
        "n_truncated": len(cut),
        "template_differs": len(strange),
        "targets": targets,
    }


def _refuse_template(
    pairs: Pairs, encoded: Sequence[Sequence[tuple[Row, bool, int | None]]], strange: Sequence[int]
) -> NoReturn:
    """Refuse a chat template that writes many finished conversations in its own way, by the first of them."""
    at = strange[0]
    side, place = next((s, d) for s, (_, _, d) in zip(SIDES, encoded[at]) if d is not None)
    raise Unsupported(
        f"the chat template writes {len(strange)} of {len(encoded)} finished conversations differently from prompt + answer "
        f"+ end of turn, first at {pairs.rows[at].prompt_id or at} ({side}), token {place}. Training text would not be "
        "what the model sees; `allow_template_diff` trains anyway."
    )


def _row(tokenizer: Tokenizer, pair: Pair, side: str, thinking: str, max_len: int) -> tuple[Row, bool, int | None]:
    """(row, whether it was cut, first differing position against the template's own rendering or None)."""
    ids, start, difference = finished(tokenizer, pair.prompt, getattr(pair, f"response_{side}"), thinking=thinking)
    if not getattr(pair, f"ended_{side}"):
        ids = ids[:-1]  # an answer that was cut short has no end to learn
    return Row(tuple(ids[:max_len]), start), len(ids) > max_len, difference


def finished(
    tokenizer: Tokenizer, prompt: str | Chat, answer: str, *, thinking: str = "off"
) -> tuple[list[int], int, int | None]:
    """Prompt + answer + end of turn as ids, where the answer starts, and the first position the template differs at.

    The prompt's ids are kept as they are, so the mask is a prefix by construction. Some templates put a space before
    the answer (Llama 2), which changes its first token; the join that agrees with the template is taken.
    """
    chat = prompt if isinstance(prompt, Chat) else Chat(prompt)
    text = render(tokenizer, chat, thinking=thinking)
    head, end = encode(tokenizer, text), end_of_turn(tokenizer)
    whole = encode(tokenizer, render_whole(tokenizer, chat, answer, thinking=thinking))
    bodies = []
    for join in ("", " "):
        ids = encode(tokenizer, text + join + answer)
        body = ids if ids[: len(head)] == head else head + encode(tokenizer, join + answer)
        rest = whole[len(body) :]
        if whole[: len(body)] == body and end in rest and not tokenizer.decode(rest[: rest.index(end)]).strip():
            return [*body, end], len(head), None
        bodies.append(body)
    first = next((i for i, (a, b) in enumerate(zip(bodies[0], whole)) if a != b), min(len(bodies[0]), len(whole)))
    return [*bodies[0], end], len(head), first


@dataclass(frozen=True)
class Parts:
    """The numbers of a study's questions: learnt from, chosen on, and reported. None is in two parts."""

    train: frozenset[int]
    val: frozenset[int]
    test: frozenset[int]


def split(topics: Iterable[int], *, val_share: float, test_share: float, seed: int) -> Parts:
    """A study's questions in three parts, the same for both sides and for every method.

    It depends on the questions and not on which answers are of use, so that it can be found again without any answers.
    """
    order = sorted(set(topics))
    n_test, n_val = (max(1, round(share * len(order))) for share in (test_share, val_share))
    if n_test + n_val >= len(order):
        count = "1 question" if len(order) == 1 else f"{len(order)} questions"
        raise ValueError(
            f"{count}: {n_test} for the test and {n_val} for validation would leave none to train on. "
            "Give at least three questions, or smaller shares."
        )
    random.Random(f"split/{seed}").shuffle(order)
    test, val, rest = order[:n_test], order[n_test : n_test + n_val], order[n_test + n_val :]
    return Parts(frozenset(rest), frozenset(val), frozenset(test))
