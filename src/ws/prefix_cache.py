"""Prefix caches: the keys and values of tokens that a model has read, cut into rows and extended, so that none is read twice.

Rows of a batch start alike: the same template, the same instruction, often the same question in two orders. What they
share is read once, and every row goes on from its share of the cache. The columns between a row's start and its end
are masked, and its positions count only what it has read, so the numbers are those of reading each row alone.

Whether that holds is tried once per model, with a few tokens. Recurrent layers, windows that have moved on and
positions counted in columns (ALiBi) fail the trial, and everything is then read from its beginning.
"""

import copy as copying
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache as cache_once
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from ws.models.head import target_logprobs
from ws.models.load import Base
from ws.types import Cache, CacheLayer, Network

SHORTEST = 8  # tokens: sharing less costs more than it saves
HEAD_ROWS = 512  # of the vocabulary at once
HEAD_LEAST = 16  # rows that meet the head: products of fewer are other bits, and not quicker
WORTH = 0.9  # shared reading must save a tenth of the tokens

_holds: "WeakKeyDictionary[nn.Module, bool]" = WeakKeyDictionary()
_starts: ContextVar[tuple[int, ...] | None] = ContextVar("starts", default=None)
_prompts: ContextVar[bool] = ContextVar("prompts", default=False)
_alike: ContextVar[int] = ContextVar("alike", default=1)


@contextmanager
def answering(starts: Sequence[int]) -> Iterator[None]:
    """A block in which row i of every batch is the model's own from position `starts[i]` on, the last token of its prompt.

    For methods that steer answers and not prompts. They look at it when they are entered, so this block goes around theirs.
    Without it, each pass counts as a step of writing, and only its last token is the model's own.
    """
    before = _starts.set(tuple(starts))
    try:
        yield
    finally:
        _starts.reset(before)


def answer_starts() -> tuple[int, ...] | None:
    """The positions where the rows' answers start, or None where nobody said."""
    return _starts.get()


@contextmanager
def reading_alike(k: int) -> Iterator[None]:
    """A block in which every k rows of a batch read the same tokens, at strengths of their own.

    For methods that can compute such rows once as far as their strengths let them; they look at it when they are entered.
    """
    before = _alike.set(k)
    try:
        yield
    finally:
        _alike.reset(before)


def rows_alike() -> int:
    """How many rows side by side read the same; 1 where nobody said."""
    return _alike.get()


@contextmanager
def reading_prompts() -> Iterator[None]:
    """A block in which no token of any pass is the model's own: prompts are read but for their last token."""
    before = _prompts.set(True)
    try:
        yield
    finally:
        _prompts.reset(before)


def is_reading_prompts() -> bool:
    """True where no token of a pass is the model's own, nor the last of its prompt."""
    return _prompts.get()


def padded(base: Base, rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor, Tensor]:
    """Ids, mask and positions of left-padded rows, so that the last column is the last token of all."""
    width = max(map(len, rows))
    pad = getattr(base.tokenizer, "pad_token_id", None) or 0
    ids = torch.tensor([[pad] * (width - len(r)) + list(r) for r in rows], device=base.device)
    mask = torch.tensor([[0] * (width - len(r)) + [1] * len(r) for r in rows], device=base.device)
    return ids, mask, (mask.cumsum(-1) - 1).clamp(min=0)


def last_logits(model: Network, *, head: bool = True, **inputs: Any) -> tuple[Tensor, Cache | None]:
    """(logits at the last column, cache) of one forward pass; only that column meets the head, or none."""
    if not head:
        none = torch.empty(0, dtype=torch.long, device=inputs["input_ids"].device)
        out = model(**inputs, logits_to_keep=none)
        return out.logits, out.past_key_values
    with _quick_head(model.get_output_embeddings()):
        out = model(**inputs, logits_to_keep=1)
    return out.logits[:, -1], out.past_key_values if inputs.get("use_cache") else None


@contextmanager
def _quick_head(layer: nn.Module | None) -> Iterator[None]:
    """The same head, bit for bit, as a CPU multiplies it fastest: one contiguous column, some of the vocabulary at a time.

    The last column of a batch is a strided slice, which costs seven times its copy; a vocabulary at once does not fit
    the processor's cache, which costs another third.
    """
    if layer is None:
        yield
        return
    whole = layer.register_forward_pre_hook(lambda _, args: (args[0].contiguous(), *args[1:]))
    plain = type(layer) is nn.Linear and layer.bias is None and layer.weight.device.type == "cpu"
    ours = plain and "forward" not in vars(layer)  # another tool may have put its own there
    if ours:
        layer.forward = partial(_in_blocks, layer.weight)  # type: ignore[arg-type]
    try:
        yield
    finally:
        whole.remove()
        if ours:
            del layer.forward


def _in_blocks(weight: Tensor, x: Tensor) -> Tensor:
    """`x W^T`, some rows of W at a time; of so many rows of x that none depends on how many others there are."""
    flat = x.reshape(-1, x.shape[-1])
    if (spare := HEAD_LEAST - len(flat)) > 0:
        return _in_blocks(weight, nn.functional.pad(flat, (0, 0, 0, spare)))[: len(flat)].view(
            *x.shape[:-1], len(weight)
        )
    out = flat.new_empty(len(flat), len(weight))
    for start in range(0, len(weight), HEAD_ROWS):
        part = slice(start, start + HEAD_ROWS)
        torch.mm(flat, weight[part].mT, out=out[:, part])
    return out.view(*x.shape[:-1], len(weight))


def mean_logprobs(base: Base, rows: Sequence[tuple[Sequence[int], int]]) -> list[float]:
    """The mean log-probability of the tokens from `start` on, for rows (ids, start) read side by side."""
    ids, mask, positions = padded(base, [tokens for tokens, _ in rows])
    width = ids.shape[1]
    counts = [len(tokens) - start for tokens, start in rows]
    index = [(at + 1) * width - 1 - i for at, n in enumerate(counts) for i in range(n, 0, -1)]
    targets = [t for tokens, start in rows for t in tokens[start:]]
    logp = target_logprobs(base.model, index, targets, input_ids=ids, attention_mask=mask, position_ids=positions)
    return [float(part.mean()) for part in logp.split(counts)]


def extended(
    base: Base, cache: Cache | None, mask: Tensor | None, rows: Sequence[Sequence[int]], *, head: bool = True
) -> tuple[Tensor, Cache, Tensor]:
    """(logits after each row's new tokens, the cache, its mask), going on from a cache, or from nothing."""
    ids, new, positions = padded(base, rows)
    if mask is not None:
        new = torch.cat([mask, new], dim=1)
        positions = (new.cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :]
    logits, cache = last_logits(
        base.model,
        head=head,
        input_ids=ids,
        attention_mask=new,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
    )
    return logits, cache, new


@dataclass(frozen=True, eq=False)
class Read:
    """What a model has read of some rows: the logits of what comes next, the cache, and which of its columns each row sees."""

    logits: Tensor
    cache: Cache
    mask: Tensor

    def copy(self) -> "Read | None":
        """The same, whose cache can grow without this one's; None of a cache that is not plain."""
        from transformers.cache_utils import DynamicLayer

        layers = getattr(self.cache, "layers", ())
        plain = bool(layers) and all(type(x) is DynamicLayer for x in layers)
        return Read(self.logits, _apart(self.cache), self.mask) if plain else None


def read(model: nn.Module, ids: Tensor, mask: Tensor) -> Read:
    """Rows read from their beginning, padded on the left."""
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    logits, cache = last_logits(model, input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=True)
    return Read(logits, cache, mask)


class Steps:
    """A model that reads on in one batch, token by token; `logits` are those of what comes next. What was read is used up."""

    def __init__(self, model: nn.Module, rows: Read, *, more: int):
        self.model, self.logits, self.mask = model, rows.logits, rows.mask
        self._cache = grown(rows.cache, rows.mask.shape[1] + more)
        self._next = rows.mask.sum(-1, keepdim=True)

    def go(self, token: Tensor) -> None:
        """Read one more token of every row."""
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(token), 1)], dim=1)
        self.logits, self._cache = last_logits(
            self.model,
            input_ids=token[:, None],
            attention_mask=self.mask,
            position_ids=self._next,
            past_key_values=self._cache,
            use_cache=True,
        )
        self._next = self._next + 1


class Beginnings:
    """The batch of prompts that an unsteered model read last: the same batch again goes on from its cache and is not read anew.

    Only the very same rows are, so that nothing changes in the last bits; and only plain caches, which a copy of their layers
    protects from what is written behind them.
    """

    def __init__(self) -> None:
        self._last: tuple[object, Read] | None = None

    def keep(self, rows: Sequence[object], read: Read) -> None:
        """Remember a batch that was just read, in the place of the one before."""
        kept = read.copy()
        self._last = None if kept is None else (list(rows), kept)

    def of(self, rows: Sequence[object]) -> Read | None:
        """What was read of this batch, or None where another one was read last."""
        return self._last[1].copy() if self._last is not None and self._last[0] == list(rows) else None


def _apart(cache: Cache) -> Cache:
    """A cache whose layers can grow without the other's: tensors are shared, and replaced and not written into."""
    copied = copying.copy(cache)
    copied.layers = [copying.copy(layer) for layer in cache.layers]
    return copied


def cuttable(base: Base, cache: Cache, columns: int) -> bool:
    """True where rows can be taken out of this cache and columns masked, up to so many columns."""
    return holds(base) and _whole(cache, columns)


def _whole(cache: Cache, columns: int) -> bool:
    """True where every layer keeps every column."""
    from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

    def keeps(layer: CacheLayer) -> bool:
        if type(layer) is DynamicSlidingWindowLayer:
            return layer.sliding_window > columns
        return type(layer) in (DynamicLayer, _roomy())

    return all(keeps(layer) for layer in getattr(cache, "layers", [None]))


def why_not_shared(model: Network) -> str | None:
    """The reason the beginnings of prompts cannot be shared, by the config alone; None where `holds` is worth its trial."""
    from transformers.cache_utils import DynamicCache, LinearAttentionLayer

    layers = DynamicCache(config=model.config.get_text_config()).layers
    other = sum(isinstance(layer, LinearAttentionLayer) for layer in layers)
    if other:
        return (
            f"{other} of {len(layers)} blocks remember a row as one state and not by its tokens, which cannot be cut; every "
            "prompt is read from its beginning"
        )
    return None


@torch.inference_mode()
def holds(base: Base) -> bool:
    """True for a model whose logits are the same over a cache with a masked gap as without one; tried once, unsteered."""
    if base.model not in _holds:
        (vocabulary,) = base.model.get_input_embeddings().weight.shape[:1]  # type: ignore[operator]
        row = [(7 * i + 3) % vocabulary for i in range(12)]
        at_once = extended(base, None, None, [row])[0]
        _, cache, mask = extended(base, None, None, [row[:6], row])
        if _holds.setdefault(base.model, _whole(cache, len(row) * 2)):
            _, cache, mask = extended(base, cut(cache, [0]), mask[:1], [row[6:9]])
            in_parts = extended(base, cache, mask, [row[9:]])[0]
            near = 0.01 if at_once.dtype == torch.float32 else 0.1
            _holds[base.model] = bool((in_parts - at_once).abs().max() < near * at_once.std())
    return _holds[base.model]


def cut(cache: Cache, rows: Sequence[int], *, copy: bool = False) -> Cache:
    """A cache of these rows, each as often as it is named; the one given is used up unless `copy`."""
    if copy:  # shallow: selecting rows makes new tensors
        cache, layers = copying.copy(cache), cache.layers
        cache.layers = [copying.copy(layer) for layer in layers]
    keys = next(layer.keys for layer in cache.layers)
    if list(rows) != list(range(keys.shape[0])):
        cache.batch_select_indices(torch.tensor(list(rows), device=keys.device))
    return cache


def grown(cache: Cache, columns: int) -> Cache:
    """The same cache with room for so many columns, so that a decoding step does not copy all that was read before."""
    from transformers.cache_utils import DynamicLayer

    if hasattr(cache, "layers"):
        cache.layers = [_roomy()(x, columns) if type(x) is DynamicLayer else x for x in cache.layers]
    return cache


@cache_once
def _roomy() -> type:
    """A cache layer that writes new columns into room made beforehand; transformers' own makes a new tensor each step."""
    from transformers.cache_utils import DynamicLayer

    class Roomy(DynamicLayer):
        def __init__(self, layer: CacheLayer, columns: int):
            super().__init__()
            self.keys, self.values, self.columns = layer.keys, layer.values, columns
            self.dtype, self.device, self.is_initialized = layer.keys.dtype, layer.keys.device, True
            self.room: list[Tensor] = []

        def update(
            self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
        ) -> tuple[Tensor, Tensor]:
            start = self.keys.shape[-2]
            end = start + key_states.shape[-2]
            if not self.room or end > self.room[0].shape[-2]:
                self.room = [self._with_room(old, max(end, self.columns)) for old in (self.keys, self.values)]
            for room, new in zip(self.room, (key_states, value_states)):
                room[..., start:end, :] = new
            self.keys, self.values = (room[..., :end, :] for room in self.room)
            return self.keys, self.values

        def _with_room(self, old: Tensor, columns: int) -> Tensor:
            room = old.new_empty(*old.shape[:-2], columns, old.shape[-1])
            room[..., : old.shape[-2], :] = old
            return room

        def batch_select_indices(self, indices: Tensor) -> None:
            super().batch_select_indices(indices)  # new tensors, so the room is no longer theirs
            self.room = []

    return Roomy


# ---------------------------------------------------------------- what rows share

Level = list[tuple[int, Sequence[int]]]
"""Nodes, each with its parent in the level before and the tokens it adds; the last level's nodes are the rows."""


def common(a: Sequence[int], b: Sequence[int]) -> int:
    """The number of tokens that two rows have in common at their start."""
    return next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))


def families(rows: Sequence[Sequence[int]]) -> list[list[int]]:
    """Rows that share more than half of their tokens, such as one question asked in two orders."""
    groups: list[list[int]] = []
    for i in sorted(range(len(rows)), key=lambda i: list(rows[i])):
        first = rows[groups[-1][0]] if groups else ()
        if groups and 2 * common(first, rows[i]) > max(len(first), len(rows[i])):
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups


def levels(rows: Sequence[Sequence[int]]) -> list[Level]:
    """The levels in which rows are read, so that nothing shared is read twice: the common start, each family's, the rest.

    One level means that sharing is not worth it.
    """
    single: list[Level] = [[(0, r) for r in rows]]
    kin = families(rows)
    # every row keeps a token of its own to read, because its logits come from there
    starts = [min(min(common(rows[f[0]], rows[i]) for i in f), min(len(rows[i]) for i in f) - 1) for f in kin]
    root = min(common(rows[kin[0][0]], rows[kin[-1][0]]), *starts)  # sorted: the first and last differ the earliest
    root = root if root >= SHORTEST and len(rows) > 1 else 0
    rest = max((len(rows[i]) - s for f, s in zip(kin, starts) if len(f) > 1 for i in f), default=0)
    # a row without kin ends where the others do, so that no short rests are padded to its length
    ends = [s if len(f) > 1 else max(root, len(rows[f[0]]) - rest) for f, s in zip(kin, starts)]
    nested = rest > 0 and all(e > root for e in ends)
    plan: list[Level] = [[(0, rows[0][:root])]] if root else []
    if nested:
        plan.append([(0, rows[f[0]][root:e]) for f, e in zip(kin, ends)])
        home = {i: (n, e) for n, (f, e) in enumerate(zip(kin, ends)) for i in f}
        plan.append([(home[i][0], rows[i][home[i][1] :]) for i in range(len(rows))])
    else:
        plan.append([(0, r[root:]) for r in rows])
    cost = sum(len(level) * max(len(tokens) for _, tokens in level) for level in plan)
    return plan if cost < WORTH * len(rows) * max(map(len, rows)) else single
