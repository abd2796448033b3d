"""Rows that are read side by side, each at its own length: they come and go between steps, and no row knows of another.

A row's keys and values begin at column 0 of its slot and grow to the right; what lies behind its end is masked. When a
row leaves, the last row moves into its slot, so that no step computes a row that nobody waits for.

On a CPU in float32 a row's logits are the same bits whoever sits beside it: prompts are read with few others of exactly
their length, a step has at least LEAST rows, and its columns are a multiple of STRIDE, because other shapes would go
another way through the matrix library (`models/turned.py`). Not so in mixtures of experts, where an expert reads as many rows as
chance sends it, and under a head with a bias: there the last bits may differ.
"""

from collections.abc import Iterator, Sequence
from functools import cache as cache_once
from itertools import groupby
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from ws.batches import DEVICE_TOKENS
from ws.errors import Unsupported
from ws.models.turned import SIDE_BY_SIDE
from ws.prefix_cache import last_logits, reading_prompts
from ws.steer import rows_of
from ws.types import Cache

LEAST = 4  # rows of a step and tokens of a prompt: products of fewer are other bits
STRIDE = 64  # columns
GROWTH = 1.25  # times the columns that are needed, where there are too few

Prompt = tuple[int, ...]
_windows: "WeakKeyDictionary[nn.Module, list[int | None] | None]" = WeakKeyDictionary()
"""Of every layer the columns it can see, None for all; None for a model whose rows cannot be read in slots."""


class Slots:
    """Rows of one model. `enter` reads prompts, `go` one more token of every row, `leave` takes a row out."""

    def __init__(self, model: nn.Module, *, alphas: int = 1):
        self.model = model
        self.alphas = alphas
        """The number of alphas that `ws.steer` has, one of which steers each row."""
        self.lengths: list[int] = []
        """The number of tokens that were read of every row."""
        self.computed = 0
        """Rows times steps until now, the padding of small batches included."""
        self._keys: list[tuple[Prompt, int]] = []  # of every row its prompt and the number of its alpha
        if not slots_fit(model, 1, alphas=alphas):
            raise Unsupported("the rows of this model cannot come and go; write them as one batch, by `decode`")
        self._layers = [_slot_layer()() for _ in _windows[model] or ()]
        self._device = next(model.parameters()).device

    def __len__(self) -> int:
        return len(self.lengths)

    # ------------------------------------------------------------ coming and going

    @torch.inference_mode()
    def enter(self, prompts: Sequence[Prompt], alphas: Sequence[int]) -> None:
        """Read new rows but for the last token of each, which is the first that `go` takes.

        Equal prompts under one alpha are read once, also where a row that is still here began with the same.
        """
        known = {key: i for i, key in enumerate(self._keys)}
        keys = list(zip(prompts, alphas))
        places: dict[tuple[Prompt, int], list[int]] = {}
        for i, key in enumerate(keys, len(self)):
            places.setdefault(key, []).append(i)
        self._keys += keys
        self.lengths += [len(p) - 1 for p in prompts]
        for key in places.keys() & known.keys():
            self._copy(known[key], places[key], len(key[0]) - 1)
        new = sorted((k for k in places if k not in known and len(k[0]) > 1), key=lambda k: -len(k[0]))
        for length, alike in groupby(new, key=lambda k: len(k[0]) - 1):
            for part in _parts(list(alike), length, self._device):
                self._read(part, length, [places[k] for k in part])

    @torch.inference_mode()
    def seat(self, length: int, alpha: int, layers: Sequence[tuple[Tensor, Tensor]]) -> None:
        """A row whose prompt of `length` tokens, but for the last, was read elsewhere: keys and values of every layer."""
        self._keys.append(((), alpha))  # no prompt: who is read here later cannot know under which alpha this one was
        self.lengths.append(length - 1)
        for layer, (keys, values) in zip(self._layers, layers):
            layer.take(keys, values, [[len(self) - 1]], rows=len(self))

    def empty(self) -> None:
        """Give back the memory of rows that have all left."""
        for layer in self._layers:
            layer.rooms = []

    @torch.inference_mode()
    def leave(self, row: int) -> None:
        """Take a row out; the last one moves into its slot."""
        last = len(self) - 1
        if row != last:
            self._copy(last, [row], self.lengths[last])
            self.lengths[row], self._keys[row] = self.lengths[last], self._keys[last]
        self.lengths.pop()
        self._keys.pop()
        for layer in self._layers:
            layer.clear(last)

    def _read(self, keys: Sequence[tuple[Prompt, int]], length: int, places: Sequence[list[int]]) -> None:
        """Read prompts of one length, and put each into its slots."""
        keys = [*keys, *[keys[0]] * (-(-LEAST // length) - len(keys))]
        ids = torch.tensor([prompt[:-1] for prompt, _ in keys], device=self._device)
        with rows_of([number for _, number in keys], self.alphas), reading_prompts():
            cache = _pass(self.model, ids, torch.arange(length, device=self._device).expand_as(ids), head=False)[1]
        for layer, read in zip(self._layers, cache.layers):
            layer.take(read.keys, read.values, places, rows=len(self))

    def _copy(self, source: int, places: Sequence[int], length: int) -> None:
        for layer in self._layers:
            layer.copy(source, places, length, rows=len(self))

    # ------------------------------------------------------------ a step

    @torch.inference_mode()
    def go(self, tokens: Sequence[int]) -> Tensor:
        """Read one more token of every row; the logits of what comes next."""
        spare = max(0, LEAST - len(self))
        ids = torch.tensor([*tokens, *[0] * spare], device=self._device)[:, None]
        at = torch.tensor([*self.lengths, *[0] * spare], device=self._device)
        columns = _whole_strides(max(self.lengths) + 1)
        for layer in self._layers:
            layer.turn_to(at, columns)
        numbers = [number for _, number in self._keys]
        with rows_of([*numbers, *numbers[:1] * spare], self.alphas):
            mask = (torch.arange(columns, device=self._device) <= at[:, None]).long()
            logits, _ = _pass(self.model, ids, at[:, None], mask=mask, cache=_cache_of(self._layers))
        self.lengths = [n + 1 for n in self.lengths]
        self.computed += len(ids)
        return logits[: len(self)]


def _pass(
    model: nn.Module,
    ids: Tensor,
    positions: Tensor,
    *,
    mask: Tensor | None = None,
    cache: Cache | None = None,
    head: bool = True,
) -> tuple[Tensor, Any]:
    return last_logits(
        model,
        head=head,
        input_ids=ids,
        attention_mask=torch.ones_like(ids) if mask is None else mask,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
    )


def _parts(keys: Sequence[Any], length: int, device: torch.device) -> Iterator[Sequence[Any]]:
    """Prompts of one length, so many as one pass should read."""
    size = max(1, (SIDE_BY_SIDE if device.type == "cpu" else DEVICE_TOKENS) // length)
    for start in range(0, len(keys), size):
        yield keys[start : start + size]


def _whole_strides(columns: float) -> int:
    return -(-int(columns) // STRIDE) * STRIDE


@cache_once
def _slot_layer() -> type:
    """A cache layer of slots: rooms (slots, heads, columns, size) that rows are written into, each at its own column."""
    from transformers.cache_utils import DynamicLayer

    class SlotLayer(DynamicLayer):
        def __init__(self) -> None:
            super().__init__()
            self.rooms: list[Tensor] = []
            self.is_initialized = True

        def take(self, keys: Tensor, values: Tensor, places: Sequence[list[int]], *, rows: int) -> None:
            """Row i of keys and values into each of `places[i]`."""
            self._make_room(keys, values, rows, keys.shape[-2] + 1)
            at = torch.tensor([p for group in places for p in group], device=keys.device)
            source = torch.tensor([i for i, group in enumerate(places) for _ in group], device=keys.device)
            for room, new in zip(self.rooms, (keys, values)):
                room[at, :, : new.shape[-2]] = new[source]

        def copy(self, source: int, places: Sequence[int], length: int, *, rows: int) -> None:
            if self.rooms:
                self._make_room(self.rooms[0], self.rooms[1], rows, length + 1)
                for room in self.rooms:
                    for place in places:
                        room[place, :, :length] = room[source, :, :length]
                        room[place, :, length:] = 0

        def clear(self, place: int) -> None:
            """Zeros in a slot that is free: of what is masked, numbers that overflowed would reach the next row."""
            for room in self.rooms:
                room[place] = 0

        def turn_to(self, at: Tensor, columns: int) -> None:
            """The rows of the next step, each with the column that it writes to, and the columns that are looked at."""
            self.at, self.columns = at, columns
            self.number = torch.arange(len(at), device=at.device)

        def update(
            self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
        ) -> tuple[Tensor, ...]:
            self._make_room(key_states, value_states, len(self.at), self.columns)
            # as rows of a flat room, because an index with a gap is ten times as slow
            heads = torch.arange(key_states.shape[1], device=self.at.device)
            first = (self.number[:, None] * len(heads) + heads) * self.rooms[0].shape[2] + self.at[:, None]
            for room, new in zip(self.rooms, (key_states, value_states)):
                room.view(-1, room.shape[-1]).index_copy_(0, first.view(-1), new.reshape(-1, room.shape[-1]))
            return tuple(room[: len(self.at), :, : self.columns] for room in self.rooms)

        def get_seq_length(self) -> int:
            return self.columns - 1

        def _make_room(self, keys: Tensor, values: Tensor, rows: int, columns: int) -> None:
            """Rooms for so many rows and columns, heads and sizes as those of keys and values."""
            old_rows, old_columns = (self.rooms[0].shape[0], self.rooms[0].shape[2]) if self.rooms else (0, 0)
            if rows <= old_rows and columns <= old_columns:
                return
            rows = max(rows, old_rows, LEAST)
            if columns > old_columns:
                columns = _whole_strides(max(columns, GROWTH * old_columns))
            columns = max(columns, old_columns)
            for i, like in enumerate((keys, values)):
                # zeros, because what is masked counts nothing only if it is a number
                room = like.new_zeros(rows, like.shape[1], columns, like.shape[3])
                if self.rooms[i:]:
                    room[:old_rows, :, :old_columns] = self.rooms[i]
                self.rooms[i : i + 1] = [room]

    return SlotLayer


def _cache_of(layers: Sequence[Any]) -> Cache:
    from transformers.cache_utils import DynamicCache

    cache: Any = DynamicCache()
    cache.layers = list(layers)
    return cache


# ---------------------------------------------------------------- which models


def slots_fit(model: nn.Module, columns: int, *, alphas: int = 1) -> bool:
    """True for a model whose rows can be read in slots of so many columns.

    Recurrent layers and windows that move on cannot be cut; whether positions are what a row says is tried, once per model.
    """
    if model not in _windows:
        with rows_of([0], alphas):
            _windows[model] = _tried(model, alphas)
    windows = _windows[model]
    return windows is not None and all(w is None or w > _whole_strides(columns) for w in windows)


@torch.inference_mode()
def _tried(model: nn.Module, alphas: int) -> list[int | None] | None:
    """The windows of the layers, where two rows in slots have the logits that each has alone."""
    from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

    (vocabulary,) = model.get_input_embeddings().weight.shape[:1]  # type: ignore[operator]
    device = next(model.parameters()).device
    rows = [tuple((7 * i + 3 + k) % vocabulary for i in range(n)) for k, n in enumerate((11, 7))]

    def alone(row: Prompt) -> tuple[Tensor, Any]:
        ids = torch.tensor([row], device=device)
        return _pass(model, ids, torch.arange(len(row), device=device)[None])

    layers = getattr(alone(rows[0])[1], "layers", [None])
    if any(type(layer) not in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers):
        return None
    windows = [getattr(layer, "sliding_window", None) for layer in layers]
    if any(w is not None and w <= STRIDE for w in windows):
        return None
    _windows[model] = windows
    slots = Slots(model, alphas=alphas)
    slots.enter(rows, [0, 0])
    together = [slots.go([row[-1] for row in rows])]
    slots.leave(0)
    together.append(slots.go([5]))
    expected = [torch.cat([alone(row)[0] for row in rows]), alone((*rows[1], 5))[0]]
    near = 0.01 if expected[0].dtype == torch.float32 else 0.1
    same = all((a - b).abs().max() < near * b.std() for a, b in zip(together, expected))
    return windows if same else None
