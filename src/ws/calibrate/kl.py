"""The distance of a steered model from its base: KL(steered || base) per token, on what the steered model itself writes.

1. The steered model writes `tokens` tokens to every prompt, greedily.
2. The base reads the same tokens, step by step in the same batch, so that at strength 0 both do the very same sums
   and the divergence is exactly 0.
3. At each position up to and including the end of the answer: sum over the vocabulary of p_s (ln p_s - ln p_b).

Prompts and strengths share a batch, one row each. What the model is asked may differ between the two (a prompt is a
method too); the tokens it is followed by are the same.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ws.batches import Room, free_memory, in_batches
from ws.generate import context_of
from ws.methods.method import Method
from ws.models.chat import Chat, encode, render, stop_tokens
from ws.models.load import Base
from ws.prefix_cache import (
    SHORTEST,
    Beginnings,
    Read,
    Steps,
    common,
    cut,
    cuttable,
    extended,
    holds,
    reading_prompts,
)
from ws.types import Cache

QUANTILE = 0.95
RESAMPLES = 400
CACHED = 1 << 18  # numbers of one tensor that stay in a core's cache
LOGITS = 1 << 30  # bytes of log-probabilities that a batch may keep; on an accelerator a share of what is free
LOGITS_SHARE = 0.25


@dataclass(frozen=True)
class Divergence:
    """KL(steered || base) at one strength, over all tokens of all prompts."""

    alpha: float
    p95: float
    mean: float
    p50: float
    p99: float
    largest: float
    n_tokens: int
    rollouts: tuple[float, ...] = field(repr=False)
    """The sum over each prompt's tokens, in all ways it is asked."""
    tokens: tuple[tuple[float, ...], ...] = field(repr=False)
    """Every token of every prompt."""

    def interval(self, kinds: Sequence[str] = (), *, level: float = 0.95, seed: int = 0) -> tuple[float, float]:
        """An interval of p95: prompts drawn again with replacement, and all their tokens with them.

        With `kinds`, the kind of each prompt, they are drawn within their kind, because the share of each kind is no accident.
        """
        if math.isnan(self.p95):
            return math.nan, math.nan
        weights = resampled(kinds or [""] * len(self.tokens), np.random.default_rng(seed))
        values = np.concatenate([np.asarray(t) for t in self.tokens])
        owners = np.repeat(np.arange(len(self.tokens)), [len(t) for t in self.tokens])
        order = np.argsort(values)
        quantiles = [_quantile(values[order], w[owners[order]]) for w in weights]
        low, high = np.quantile(quantiles, [(1 - level) / 2, (1 + level) / 2])
        return float(low), float(high)


@dataclass(frozen=True)
class _Row:
    prompt: tuple[int, ...]
    """The prompt the steered model sees."""
    plain: tuple[int, ...]
    """The prompt the base sees."""
    alpha: float


def resampled(kinds: Sequence[str], rng: np.random.Generator) -> np.ndarray:
    """(resamples, prompts): how often each prompt is drawn. Of each kind one fewer than it has, which makes the spread unbiased."""
    counts = np.zeros((RESAMPLES, len(kinds)), dtype=np.int64)
    groups: dict[str, list[int]] = {}
    for at, kind in enumerate(kinds):
        groups.setdefault(kind, []).append(at)
    if min(map(len, groups.values())) < 2:  # one of a kind says nothing about the spread within it
        groups = {"": list(range(len(kinds)))}
    for members in groups.values():
        n = len(members)
        counts[:, members] = rng.multinomial(max(n - 1, 1), [1 / n] * n, size=RESAMPLES)
    return counts


def _quantile(ordered: np.ndarray, counts: np.ndarray) -> float:
    """The statistic of ordered values, each of which is there so many times."""
    ends = counts.cumsum()
    place = QUANTILE * (ends[-1] - 1)
    low, high = np.searchsorted(ends, [int(place), min(int(place) + 1, ends[-1] - 1)], side="right")
    return float(ordered[low] + (place - int(place)) * (ordered[high] - ordered[low]))


def divergences(
    base: Base,
    method: Method,
    prompts: Sequence[str],
    alphas: Sequence[float],
    *,
    tokens: int = 50,
    thinking: str = "auto",
    batch_size: int | None = None,
    beginnings: Beginnings | None = None,
) -> list[Divergence]:
    """The divergence at every strength, over all prompts: all of them side by side in few batches.

    The base reads the same prompts at any strength; with `beginnings` what it read last time is gone on from.
    """
    how = thinking_of(base, thinking)

    def ids(chat: Chat) -> tuple[int, ...]:
        return tuple(encode(base.tokenizer, render(base.tokenizer, chat, thinking=how)))

    plain = {p: ids(Chat(p)) for p in prompts}
    rows, cells = [], []  # cells: which prompt and strength a row belongs to; a method may ask in several ways
    for at, p in enumerate(prompts):
        for k, alpha in enumerate(alphas):
            for chat in method.chats(Chat(p), alpha):
                rows.append(_Row(plain[p] if chat == Chat(p) else ids(chat), plain[p], alpha))
                cells.append((at, k))
    _check_room(base, rows, tokens)
    room = Room(base.model, decodes=True)
    free = free_memory(base.device) if base.device.type != "cpu" else None
    keep = LOGITS if free is None else int(LOGITS_SHARE * free)
    most = max(1, keep // (4 * tokens * base.model.get_output_embeddings().weight.shape[0]))  # type: ignore[operator]

    def length(row: _Row) -> int:
        return max(len(row.prompt), len(row.plain)) + tokens

    size = batch_size or (lambda row: min(most, room.fits(length(row))))
    stops = stop_tokens(base.tokenizer, base.model)
    per_row, _ = in_batches(
        rows,
        lambda part: _batch(base, method, part, tokens, stops, beginnings),
        size=size,
        length=length,
        label="divergence",
    )
    pooled: list[list[tuple[float, ...]]] = [[()] * len(prompts) for _ in alphas]
    for (at, k), tokens_of in zip(cells, per_row):
        pooled[k][at] += tokens_of
    return [divergence_of(alpha, per_prompt) for alpha, per_prompt in zip(alphas, pooled)]


def thinking_of(base: Base, thinking: str) -> str:
    """The setting of thoughts for this base: `auto` opens one where the model thinks."""
    if thinking != "auto":
        return thinking
    return "forced" if base.thinks else "off"


def _batch(
    base: Base,
    method: Method,
    rows: Sequence[_Row],
    tokens: int,
    stops: Sequence[int],
    beginnings: Beginnings | None,
) -> list[tuple[float, ...]]:
    strengths = [r.alpha for r in rows]
    walk = _written(base, method, [r.prompt for r in rows], strengths, tokens, stops)
    plain = [r.plain for r in rows]
    read = beginnings.of(plain) if beginnings else None
    if read is None:
        read = _read(base, *_begun(base, plain, strengths))
        if beginnings:
            beginnings.keep(plain, read)
    return _divergence_along(base, read, walk)


def _begun(
    base: Base,
    prompts: Sequence[Sequence[int]],
    strengths: Sequence[float],
    steer: Callable[[Sequence[float]], AbstractContextManager[object]] = nullcontext,
) -> tuple[Cache | None, Tensor | None, Sequence[Sequence[int]]]:
    """What all prompts of one strength begin with, such as a template's instruction, read once for it: (cache, its mask, the rests).

    Unsteered the same is read in the same way, so that what is steered by 0 has the same bits.
    """
    starts: dict[float, Sequence[int]] = {}
    for prompt, alpha in zip(prompts, strengths):
        known = starts.setdefault(alpha, prompt[:-1])  # every row keeps a token of its own
        starts[alpha] = known[: common(known, prompt[:-1])]
    own = list(starts)
    if min(map(len, starts.values())) < SHORTEST or len(prompts) == len(own) or not holds(base):
        return None, None, prompts
    with steer(own), reading_prompts(), torch.inference_mode():
        _, cache, mask = extended(base, None, None, [starts[a] for a in own], head=False)
    if not cuttable(base, cache, sum(max(map(len, rows)) for rows in (prompts, starts.values()))):
        return None, None, prompts
    parents = [own.index(a) for a in strengths]
    return cut(cache, parents), mask[parents], [p[len(starts[a]) :] for p, a in zip(prompts, strengths)]


@dataclass(frozen=True, eq=False)
class _Walk:
    """The tokens that were written (rows, steps), which of them count, and the log-probabilities they were drawn from."""

    tokens: Tensor
    valid: Tensor
    logp: list[Tensor]


def _written(
    base: Base,
    method: Method,
    prompts: Sequence[Sequence[int]],
    strengths: Sequence[float],
    limit: int,
    stops: Sequence[int],
) -> _Walk:
    """Greedy answers of the steered model."""
    begun = _begun(base, prompts, strengths, lambda alphas: method.at(base, alphas))
    with method.at(base, strengths):
        return _walk(base, _read(base, *begun), limit, stops)


@torch.inference_mode()
def _read(base: Base, cache: Cache | None, mask: Tensor | None, rests: Sequence[Sequence[int]]) -> Read:
    """All of the prompts, whose beginnings were read."""
    return Read(*extended(base, cache, mask, rests))


@torch.inference_mode()
def _walk(base: Base, prompts: Read, limit: int, stops: Sequence[int]) -> _Walk:
    """Greedy answers, until all rows have ended."""
    steps = Steps(base.model, prompts, more=limit)
    ends = torch.tensor(list(stops), device=base.device)
    done = torch.zeros(len(prompts.mask), dtype=torch.bool, device=base.device)
    tokens, valid, logp = [], [], []
    for _ in range(limit):
        logp.append(_logp(steps.logits))
        token = logp[-1].argmax(-1)
        tokens.append(token)
        valid.append(~done)
        done = done | torch.isin(token, ends)
        if done.all() or len(tokens) == limit:
            break
        steps.go(token)
    return _Walk(torch.stack(tokens, 1), torch.stack(valid, 1), logp)


@torch.inference_mode()
def _divergence_along(base: Base, prompts: Read, walk: _Walk) -> list[tuple[float, ...]]:
    """KL per counted token, the base reading what was written."""
    steps = Steps(base.model, prompts, more=len(walk.logp))
    columns = []
    for t, steered in enumerate(walk.logp):
        columns.append(kl(steered, _logp(steps.logits)))
        if t + 1 < len(walk.logp):
            steps.go(walk.tokens[:, t])
    per_row = torch.stack(columns, 1).tolist()
    return [tuple(kl for kl, v in zip(row, valid) if v) for row, valid in zip(per_row, walk.valid.tolist())]


def kl(steered: Tensor, plain: Tensor) -> Tensor:
    """KL of rows of log-probabilities; clamped, since rounding may leave it below 0."""
    # on a CPU a few rows at a time, so that what is in between stays in the cache: 3.5 times as fast at 150 k words
    size = max(1, CACHED // steered.shape[-1]) if steered.device.type == "cpu" else len(steered)
    parts = zip(steered.split(size), plain.split(size))
    return torch.cat([((s - p) * s.exp()).sum(-1) for s, p in parts]).clamp(min=0)


def _logp(logits: Tensor) -> Tensor:
    """Log-probabilities, in single precision at least."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)


def divergence_of(alpha: float, per_prompt: Sequence[tuple[float, ...]]) -> Divergence:
    """The divergence at one strength of the tokens of every prompt."""
    pooled = np.concatenate([np.asarray(t) for t in per_prompt])
    if not np.isfinite(pooled).all():
        p50 = p95 = p99 = largest = mean = float("nan")
    else:
        p50, p95, p99 = (float(q) for q in np.quantile(pooled, [0.5, QUANTILE, 0.99]))
        mean, largest = float(pooled.mean()), float(pooled.max())
    rollouts = tuple(float(sum(t)) for t in per_prompt)
    return Divergence(alpha, p95, mean, p50, p99, largest, len(pooled), rollouts, tuple(per_prompt))


def _check_room(base: Base, rows: Sequence[_Row], tokens: int) -> None:
    limit, longest = context_of(base.model), max(max(len(r.prompt), len(r.plain)) for r in rows)
    if tokens < 1:
        raise ValueError(f"a divergence needs at least one token, got {tokens}")
    if limit is not None and longest + tokens > limit:
        raise ValueError(
            f"{longest} tokens of prompt and {tokens} new ones do not fit this model's context of {limit}."
        )
