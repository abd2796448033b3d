"""Text from a model, base or steered, by one plain decoding loop.

The loop is ours for three reasons. No setting rides along from a checkpoint's generation_config (Qwen2.5 brings a
repetition penalty, even under greedy decoding). Sampling depends on the row and not on the batch it sits in: every row
draws from its own random numbers. And a later stage can go on from the same cache.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

import torch
from torch import Tensor, nn

from ws.batches import in_batches
from ws.models.chat import Chat, encode, render, special_tokens, stop_tokens, token_called
from ws.models.load import Base
from ws.models.modules import text_config
from ws.prefix_cache import Steps
from ws.signatures import plain_types
from ws.types import Tokenizer

BATCH = 64
BATCH_SMALL = 256  # below SMALL parameters a batch costs hardly more than a row
SMALL = 50_000_000


@dataclass(frozen=True)
class Sampling:
    """Settings by which the next token is drawn; temperature 0 takes the likeliest."""

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0

    def __post_init__(self):
        if not self.temperature >= 0:
            raise ValueError(f"temperature must be 0 (the likeliest token) or more, got {self.temperature}")
        if not 0 < self.top_p <= 1 or self.top_k < 0 or not 0 <= self.min_p < 1:
            raise ValueError(
                f"sampling needs 0 < top_p <= 1, top_k >= 0 and 0 <= min_p < 1; got top_p {self.top_p}, top_k {self.top_k}, min_p {self.min_p}"
            )


@dataclass(frozen=True)
class Request:
    """One prompt to continue: its token ids, how far, the name its random numbers are drawn from, and how far at least."""

    ids: tuple[int, ...]
    max_new: int
    name: str = ""
    min_new: int = 0


@dataclass(frozen=True)
class Answer:
    """One answer: text without special tokens, its number of tokens, and whether it came to its own end."""

    text: str
    n_tokens: int
    ended: bool


@overload
def generate(  # type: ignore[overload-overlap]  # text is a sequence of texts, and comes first
    base: Base,
    prompts: str,
    *,
    system: str | None = None,
    max_new_tokens: int = 64,
    temperature: float = 0.0,
    seed: int = 0,
    thinking: str = "off",
) -> str: ...


@overload
def generate(
    base: Base,
    prompts: Sequence[str],
    *,
    system: str | None = None,
    max_new_tokens: int = 64,
    temperature: float = 0.0,
    seed: int = 0,
    thinking: str = "off",
) -> list[str]: ...


@plain_types
def generate(
    base: Base,
    prompts: str | Sequence[str],
    *,
    system: str | None = None,
    max_new_tokens: int = 64,
    temperature: float = 0.0,
    seed: int = 0,
    thinking: str = "off",
) -> str | list[str]:
    """The model's answer to a prompt; inside `ws.steer`, the steered model's.

    Several prompts are answered in one batch, in their order: with one alpha per row, each is steered by its own.
    """
    if isinstance(prompts, str):
        (text,) = _answers(base, [prompts], system, max_new_tokens, temperature, seed, thinking)
        return text
    return _answers(base, prompts, system, max_new_tokens, temperature, seed, thinking) if prompts else []


def _answers(
    base: Base,
    prompts: Sequence[str],
    system: str | None,
    max_new_tokens: int,
    temperature: float,
    seed: int,
    thinking: str,
) -> list[str]:
    texts = [render(base.tokenizer, Chat(p, system), thinking=thinking) for p in prompts]
    batch = [Request(tuple(encode(base.tokenizer, t)), max_new_tokens, p) for t, p in zip(texts, prompts)]
    _check_room(base, batch)
    stops = stop_tokens(base.tokenizer, base.model)
    pad = base.tokenizer.pad_token_id or 0
    outputs = decode(base.model, batch, Sampling(temperature), stops=stops, pad=pad, seed=seed)
    return [answered(base.tokenizer, tokens, stops).text for tokens in outputs]


def complete(
    base: Base,
    requests: Sequence[Request],
    sampling: Sampling,
    *,
    seed: int = 0,
    batch_size: int | None = None,
    label: str = "generating",
) -> tuple[list[Answer], int]:
    """Answers to all requests, in their order, and the batch size that fitted memory."""
    stops = stop_tokens(base.tokenizer, base.model)
    _check_room(base, requests)

    def run(batch: Sequence[Request]) -> list[Answer]:
        outputs = decode(base.model, batch, sampling, stops=stops, pad=base.tokenizer.pad_token_id or 0, seed=seed)
        return [answered(base.tokenizer, tokens[: r.max_new], stops) for tokens, r in zip(outputs, batch)]

    size = batch_size or batch_of(base.model)
    return in_batches(requests, run, size=size, length=lambda r: len(r.ids) + r.max_new, label=label)


def batch_of(model: nn.Module) -> int:
    """The number of rows that are decoded at once; fewer where memory runs out."""
    return BATCH_SMALL if sum(p.numel() for p in model.parameters()) < SMALL else BATCH


def _check_room(base: Base, requests: Sequence[Request]) -> None:
    room = context_of(base.model)
    for r in requests:
        if room is not None and len(r.ids) + r.max_new > room:
            raise ValueError(
                f"{len(r.ids)} tokens of prompt and {r.max_new} new ones do not fit this model's context of {room}: "
                f"{r.name[:60]!r}. Ask for fewer new tokens, or a shorter text."
            )


def context_of(model: nn.Module) -> int | None:
    """The number of tokens that the model can hold, or None where its config does not say."""
    return getattr(text_config(model), "max_position_embeddings", None)


@torch.inference_mode()
def decode(
    model: nn.Module, batch: Sequence[Request], sampling: Sampling, *, stops: Sequence[int], pad: int, seed: int
) -> list[list[int]]:
    """New tokens of every row of one batch, the stopping token included."""
    device = next(model.parameters()).device
    width = max(len(r.ids) for r in batch)
    ids = torch.tensor([[pad] * (width - len(r.ids)) + list(r.ids) for r in batch], device=device)
    mask = torch.tensor([[0] * (width - len(r.ids)) + [1] * len(r.ids) for r in batch], device=device)
    limit = max(r.max_new for r in batch)
    draws = draws_of(batch, limit, seed).to(device) if sampling.temperature > 0 else None
    ends = torch.tensor(list(stops), device=device)
    budgets = torch.tensor([r.max_new for r in batch], device=device)
    fewest = torch.tensor([r.min_new for r in batch], device=device)

    new = torch.full((len(batch), limit), pad, device=device)
    done = torch.zeros(len(batch), dtype=torch.bool, device=device)
    steps = Steps(model, ids, mask, more=limit)
    for t in range(limit):
        logits = steps.logits
        if t < max(r.min_new for r in batch):
            logits = logits.index_fill(1, ends, -torch.inf).where((t < fewest)[:, None], logits)
        token = pick(logits, sampling, None if draws is None else draws[:, t])
        new[:, t] = torch.where(done, pad, token)
        done |= torch.isin(token, ends) | (t + 1 >= budgets)
        if done.all() or t + 1 == limit:
            break
        steps.go(token)
    rows = []
    for row, r in zip(new.tolist(), batch):
        cut = next((i + 1 for i, token in enumerate(row) if token in stops), r.max_new)
        rows.append(row[: min(cut, r.max_new)])
    return rows


def pick(logits: Tensor, sampling: Sampling, draws: Tensor | None) -> Tensor:
    """The next token of every row: the likeliest, or the one its own random number falls on."""
    if draws is None:
        return logits.argmax(-1)
    scaled = (logits.float() - logits.float().amax(-1, keepdim=True)) / max(sampling.temperature, 1e-6)
    keep = min(sampling.top_k or scaled.shape[-1], scaled.shape[-1])
    top, order = scaled.topk(keep, dim=-1)  # sorted, the likeliest first
    p = top.softmax(-1)
    before = p.cumsum(-1) - p
    p = p * ((before < sampling.top_p) & (p >= sampling.min_p * p[:, :1]))
    total = p.cumsum(-1)
    at = torch.searchsorted(total, draws.to(total.dtype)[:, None] * total[:, -1:], right=True).clamp(max=keep - 1)
    return order.gather(-1, at)[:, 0]


def draws_of(batch: Sequence[Request], limit: int, seed: int) -> Tensor:
    """Uniform numbers per row and step, from the seed and the row's name alone."""
    rows = []
    for r in batch:
        number = int.from_bytes(hashlib.sha256(f"{seed}/{r.name}".encode()).digest()[:7], "big")
        rows.append(torch.rand(limit, generator=torch.Generator().manual_seed(number)))
    return torch.stack(rows)


def answered(tokenizer: Tokenizer, tokens: list[int], stops: Sequence[int]) -> Answer:
    """Tokens as text without markup; a thought keeps its marks, which some tokenizers call special."""
    ended = bool(tokens) and tokens[-1] in stops
    body = tokens[:-1] if ended else tokens
    marks = {t for t in (token_called(tokenizer, m) for m in ("<think>", "</think>")) if t is not None}
    special = special_tokens(tokenizer)
    visible = [t for t in body if t in marks or t not in special]
    return Answer(tokenizer.decode(visible, skip_special_tokens=False).rstrip(), len(tokens), ended)
