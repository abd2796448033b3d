"""Prompts, read a piece at a time, and the pieces that are kept because others may begin alike.

A piece is PIECE tokens from a multiple of PIECE on, or what is left at the end. It is read alone, after the pieces before it,
always in the same shape: its keys and values are the same bits whoever else is served, and whether they were read now or
taken from memory. What was read under one strength is never taken for another.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn

from ws.prefix_cache import last_logits, reading_prompts
from ws.serve.strengths import Strengths
from ws.steer import rows_of

PIECE = 64

Layers = list[tuple[Tensor, Tensor]]
"""Keys and values (1, heads, tokens, size) of every layer."""
Key = tuple[object, tuple[int, ...]]


@dataclass(frozen=True, eq=False)
class Piece:
    """What was read of some tokens, after what stood before them."""

    serial: int
    key: Key
    layers: Layers

    @property
    def bytes(self) -> int:
        """The memory that it takes."""
        return sum(t.nbytes for pair in self.layers for t in pair)


class Pieces:
    """Pieces by what stood before them, the longest unused forgotten where there is no room."""

    def __init__(self, most_bytes: int):
        self.most, self.bytes = most_bytes, 0
        self._kept: OrderedDict[Key, Piece] = OrderedDict()
        self._serials = count(1)

    def get(self, before: object, ids: Sequence[int]) -> Piece | None:
        """A piece after another, or None where it is not known."""
        return self._kept.get((before, tuple(ids)))

    def of(self, strengths: Strengths, ids: Sequence[int]) -> list[Piece]:
        """The pieces that are known of the beginning of a prompt, under these strengths."""
        known: list[Piece] = []
        before: object = strengths
        for start in range(0, len(ids), PIECE):
            if (piece := self.get(before, ids[start : start + PIECE])) is None:
                break
            known.append(piece)
            before = piece.serial
        for piece in reversed(known):  # a beginning is forgotten after what goes on from it
            self._kept.move_to_end(piece.key)
        return known

    def keep(self, before: object, ids: Sequence[int], layers: Layers) -> Piece:
        """Remember a piece that was read after another, or after nothing under some strengths."""
        piece = Piece(next(self._serials), (before, tuple(ids)), layers)
        if piece.bytes <= self.most:
            self._kept[piece.key] = piece
            self.bytes += piece.bytes
            while self.bytes > self.most:
                self.bytes -= self._kept.popitem(last=False)[1].bytes
        return piece


class Reading:
    """One prompt that is being read, but for its last token."""

    def __init__(
        self, model: nn.Module, pieces: Pieces, ids: Sequence[int], strengths: Strengths, number: int, of: int
    ):
        self.number = number
        """Of the strengths, among `of` that the model is steered by."""
        self.logprobs: list[Tensor] | None = None
        """Of what follows each token that is read, where somebody puts a list here."""
        self._model, self._pieces, self._of = model, pieces, of
        self._ids = list(ids[:-1])
        known = pieces.of(strengths, self._ids)
        self._before: object = known[-1].serial if known else strengths
        self.at = self.known = sum(piece.layers[0][0].shape[-2] for piece in known)
        """Tokens that are read, and those of them that were known."""
        self._cache = _joined(model, [piece.layers for piece in known])

    def __bool__(self) -> bool:
        return self.at < len(self._ids)

    @property
    def layers(self) -> Layers:
        """Keys and values of all that is read."""
        return [(layer.keys, layer.values) for layer in self._cache.layers] if self.at else []

    @torch.inference_mode()
    def go(self) -> int:
        """Read the next piece, or take it from another prompt that came to it first; the number of tokens read."""
        start, ids = self.at, self._ids[self.at : self.at + PIECE]
        self.at += len(ids)
        if (piece := self._pieces.get(self._before, ids)) is not None:
            for i, (keys, values) in enumerate(piece.layers):
                self._cache.update(keys, values, i)
            self.known += len(ids)
            self._before = piece.serial
            return 0
        device = next(self._model.parameters()).device
        inputs = {
            "input_ids": torch.tensor([ids], device=device),
            "attention_mask": torch.ones(1, self.at, dtype=torch.long, device=device),
            "position_ids": torch.arange(start, self.at, device=device)[None],
            "past_key_values": self._cache,
            "use_cache": True,
        }
        with rows_of([self.number], self._of), reading_prompts():
            if self.logprobs is None:
                last_logits(self._model, head=False, **inputs)
            else:
                self.logprobs += self._model(**inputs).logits[0].float().log_softmax(-1).unbind()
        # copies, because a view would keep the whole alive
        new = [(k[:, :, start:].clone(), v[:, :, start:].clone()) for k, v in self.layers]
        self._before = self._pieces.keep(self._before, ids, new).serial
        return len(ids)


def _joined(model: nn.Module, pieces: Sequence[Layers]) -> Any:
    """A cache that holds these pieces, and grows without changing them."""
    from transformers.cache_utils import DynamicCache

    cache = DynamicCache(config=model.config)
    for i, layer in enumerate(zip(*pieces)):
        keys, values = (torch.cat(tensors, dim=-2) for tensors in zip(*layer))
        cache.update(keys, values, i)
    return cache
