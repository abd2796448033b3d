"""Text from a model, base or steered: a stream of rows that come and go, and one plain loop for a batch that stays whole.

The loops are ours for three reasons. No setting rides along from a checkpoint's generation_config (Qwen2.5 brings a
repetition penalty, even under greedy decoding). Sampling depends on the row and not on the batch it sits in: every row
draws from its own random numbers. And a later stage can go on from the same cache.
"""

import hashlib
import logging
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, overload

import torch
from torch import Tensor, nn

from ws.batches import free_cached, in_batches, is_out_of_memory
from ws.errors import Broken, Unsupported
from ws.models.chat import (
    Chat,
    check_thinking,
    encode,
    refuse_thoughtless,
    render,
    special_tokens,
    stop_tokens,
    token_called,
)
from ws.models.load import Base
from ws.models.modules import text_config
from ws.prefix_cache import Steps, read
from ws.progress import progress
from ws.settings import Range, above, at_least, refuse_outside
from ws.signatures import plain_types
from ws.slots import Slots, slots_fit
from ws.types import Tokenizer

log = logging.getLogger(__name__)

HOTTEST = 100.0
"""Largest temperature; above a few, every token is as likely as any other."""
BATCH = 64
BATCH_SMALL = 256  # below SMALL parameters a batch costs hardly more than a row
SMALL = 50_000_000
REFILL = 16  # rows wait until a share of 1/REFILL of the batch is free, so that small models do not read prompts all the time


@dataclass(frozen=True)
class Sampling:
    """Settings by which the next token is drawn; temperature 0 takes the likeliest."""

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0

    def __post_init__(self):
        refuse_outside(self, temperature=Range(0, HOTTEST), top_p=above(0, 1), top_k=at_least(0), min_p=Range(0, 0.999))


@dataclass(frozen=True)
class Request:
    """One prompt to continue: its token ids, how far, the name its random numbers are drawn from, and how far at least."""

    ids: tuple[int, ...]
    max_new: int
    name: str = ""
    min_new: int = 0
    alpha: int = 0
    """The number of its alpha, where a stream is steered by several."""


@dataclass(frozen=True)
class Answer:
    """One answer: text without special tokens, its number of tokens, and whether it came to its own end."""

    text: str
    n_tokens: int
    ended: bool
    n_read: int = 0
    """Tokens of the prompt, where a server that is paid by them says so."""


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
    refuse_request(max_new_tokens=max_new_tokens, temperature=temperature, seed=seed, thinking=thinking)
    refuse_thoughtless(base.tokenizer, thinking)
    texts = [render(base.tokenizer, Chat(p, system), thinking=thinking) for p in prompts]
    batch = [Request(tuple(encode(base.tokenizer, t)), max_new_tokens, p) for t, p in zip(texts, prompts)]
    _check_room(base, batch)
    stops = stop_tokens(base.tokenizer, base.model)
    pad = base.tokenizer.pad_token_id or 0
    with _finite(base.model):
        outputs = decode(base.model, batch, Sampling(temperature), stops=stops, pad=pad, seed=seed)
    return [answered(base.tokenizer, tokens, stops).text for tokens in outputs]


@contextmanager
def _finite(model: nn.Module) -> Iterator[None]:
    """Inside the block, a model whose first logits are not finite is an error and no empty or senseless answer."""

    def check(module: nn.Module, args: object, output: Any) -> None:
        handle.remove()
        if not torch.isfinite(output.logits).all():
            raise Broken(
                "the model's logits are not finite, so there is no answer: at this strength it is broken. Take a smaller alpha; "
                "`ws calibrate` says how far one may go."
            )

    handle = model.register_forward_hook(check)
    try:
        yield
    finally:
        handle.remove()


def refuse_request(*, max_new_tokens: int, temperature: float, seed: int = 0, thinking: str = "off") -> None:
    """Refuse what no model can answer, before one is loaded for it."""
    at_least(1).check("max_new_tokens", max_new_tokens)
    Range(0, HOTTEST).check("temperature", temperature)
    at_least(0).check("seed", seed)
    check_thinking(thinking)


def complete(
    base: Base,
    requests: Sequence[Request],
    sampling: Sampling,
    *,
    seed: int = 0,
    batch_size: int | None = None,
    alphas: int = 1,
    first: Collection[int] = (),
    keep: Callable[[int, Answer], object] = lambda number, answer: None,
    label: str = "generating",
) -> tuple[list[Answer], int]:
    """Answers to all requests, in their order, and the number of rows that fitted memory.

    `keep` gets every answer with its number as soon as it has ended, and those of `first` are begun before the others.
    `alphas` is how many `ws.steer` was given.
    """
    stops = stop_tokens(base.tokenizer, base.model)
    _check_room(base, requests)
    size = batch_size or batch_of(base.model)
    if not requests:
        return [], size
    columns = max(len(r.ids) + r.max_new for r in requests)
    if not slots_fit(base.model, columns, alphas=alphas):
        return _complete_batches(base, requests, sampling, stops, seed, size, keep, label)

    answers: dict[int, Answer] = {}
    # equal prompts side by side, and long ones first, so that memory runs out early
    order = sorted(range(len(requests)), key=lambda i: (i not in first, -len(requests[i].ids), requests[i].ids, i))
    with progress(len(requests), label) as tick:
        while len(answers) < len(requests):
            stream = Stream(base.model, sampling, stops=stops, rows=size, seed=seed, alphas=alphas)
            numbers = {stream.add(requests[i]): i for i in order if i not in answers}
            tokens: dict[int, list[int]] = {number: [] for number in numbers}
            try:
                while stream:
                    for number, token, done in stream.step():
                        tokens[number].append(token)
                        if done:
                            answer = answered(base.tokenizer, tokens.pop(number), stops)
                            answers[numbers[number]] = answer
                            keep(numbers[number], answer)
                            tick(1)
            except (torch.OutOfMemoryError, RuntimeError) as e:
                if not is_out_of_memory(e) or size == 1:
                    raise
                size = max(1, min(size, len(requests)) // 2)
                del stream
                free_cached()
                log.warning("out of memory; going on with %d rows", size)
    return [answers[i] for i in range(len(requests))], size


def _complete_batches(
    base: Base,
    requests: Sequence[Request],
    sampling: Sampling,
    stops: Sequence[int],
    seed: int,
    size: int,
    keep: Callable[[int, Answer], object],
    label: str,
) -> tuple[list[Answer], int]:
    """The same, batch by batch to the end of its longest answer, for models whose rows cannot come and go."""

    def run(batch: Sequence[tuple[int, Request]]) -> list[Answer]:
        rows = [r for _, r in batch]
        outputs = decode(base.model, rows, sampling, stops=stops, pad=base.tokenizer.pad_token_id or 0, seed=seed)
        answers = [answered(base.tokenizer, tokens, stops) for tokens in outputs]
        for (number, _), answer in zip(batch, answers):
            keep(number, answer)
        return answers

    length = lambda numbered: len(numbered[1].ids) + numbered[1].max_new  # noqa: E731
    return in_batches(list(enumerate(requests)), run, size=size, length=length, label=label)


class Written(NamedTuple):
    """One token of one request, by the number it was added under; `done` where it is the last."""

    number: int
    token: int
    done: bool


@dataclass(eq=False)
class _Row:
    """A request that is being written."""

    number: int
    request: Request
    draws: list[float]
    last: int
    """The token that is read next."""
    count: int = 0


class Stream:
    """Answers that are written side by side, a token of each at a time; requests may come and go between any two steps.

        stream = Stream(model, Sampling(0.7), stops=[2], rows=64)
        number = stream.add(request)
        while stream:
            for number, token, done in stream.step():
                ...

    A row that has ended leaves, and one that waits takes its place. What a row says depends on its request alone.
    """

    def __init__(
        self, model: nn.Module, sampling: Sampling, *, stops: Sequence[int], rows: int, seed: int = 0, alphas: int = 1
    ):
        self.sampling, self.rows, self.seed = sampling, rows, seed
        self.slots = Slots(model, alphas=alphas)
        self._stops = frozenset(stops)
        self._waiting: deque[_Row] = deque()
        self._active: list[_Row] = []  # row i is in slot i
        self._total = 0

    def __bool__(self) -> bool:
        return bool(self._waiting or self._active)

    def add(self, request: Request) -> int:
        """Let a request wait for a free row; its number."""
        if not slots_fit(self.slots.model, len(request.ids) + request.max_new, alphas=self.slots.alphas):
            raise Unsupported(
                f"{len(request.ids)} tokens of prompt and {request.max_new} new ones are more than the windows of this model "
                "hold, behind which its rows cannot come and go; write them as one batch, by `decode`"
            )
        draws = draws_of([request], request.max_new, self.seed)[0].tolist() if self.sampling.temperature > 0 else []
        self._waiting.append(_Row(self._total, request, draws, request.ids[-1]))
        self._total += 1
        return self._total - 1

    def cancel(self, number: int) -> None:
        """Forget a request, whether it waits or is being written; one that has ended is no mistake."""
        self._waiting = deque(row for row in self._waiting if row.number != number)
        for i, row in enumerate(self._active):
            if row.number == number:
                self._leave(i)
                return

    def step(self) -> list[Written]:
        """One more token of every row."""
        self._fill()
        if not self._active:
            return []
        logits = self.slots.go([row.last for row in self._active])
        if early := [i for i, row in enumerate(self._active) if row.count < row.request.min_new]:
            logits = logits.clone()
            logits[torch.tensor(early)[:, None], torch.tensor(sorted(self._stops))] = -torch.inf
        draws = None
        if self.sampling.temperature > 0:
            draws = torch.tensor([row.draws[row.count] for row in self._active], device=logits.device)
        written = []
        for row, token in zip(self._active, pick(logits, self.sampling, draws).tolist()):
            row.last, row.count = token, row.count + 1
            done = token in self._stops or row.count >= row.request.max_new
            written.append(Written(row.number, token, done))
        for i in reversed(range(len(written))):  # from behind: a row that moves has been looked at
            if written[i].done:
                self._leave(i)
        return written

    def _fill(self) -> None:
        """Let waiting rows take free places."""
        free = self.rows - len(self._active)
        if not self._waiting or free < min(self.rows, max(1, self.rows // REFILL)):
            return
        new = [self._waiting.popleft() for _ in range(min(free, len(self._waiting)))]
        self.slots.enter([row.request.ids for row in new], [row.request.alpha for row in new])
        self._active += new

    def _leave(self, i: int) -> None:
        self.slots.leave(i)
        self._active[i] = self._active[-1]
        self._active.pop()


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
    steps = Steps(model, read(model, ids, mask), more=limit)
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
    words = logits.shape[-1]
    keep = min(sampling.top_k or words, words)
    top, order = logits.float().topk(keep, dim=-1)  # sorted, the likeliest first
    p = ((top - top[:, :1]) / max(sampling.temperature, 1e-6)).softmax(-1)
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
