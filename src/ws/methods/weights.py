"""Directions in weight space as a method: ours, one side alone, fine-tuned checkpoints, and random controls.

ws:lora              theta + alpha * (theta_pos - theta_neg)
ws:lora:tau+         theta + alpha * (theta_pos - theta)
ws:lora:tau-         theta + alpha * (theta - theta_neg)
ws:lora:bisector     alpha * (tau+ / |tau+| + tau- / |tau-|), at the size of the contrast; tau- points toward pos
ft:lora              +1 is theta_pos itself and -1 is theta_neg: the fine-tunes as arms
ft:lora:2            the same at the second checkpoint of the training
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from ws.direction.direction import Direction
from ws.direction.file import flattened, read_forms
from ws.errors import Unsupported
from ws.methods.method import Method, dial_of
from ws.models.load import Base
from ws.steer import Alpha, steer
from ws.types import Json


@dataclass(frozen=True, eq=False)
class Weights(Method):
    """Steer by a direction; or by one for positive strengths and another, `below`, for negative ones."""

    direction: Direction
    below: Direction | None = None
    largest: float | None = None
    origin: Base | None = field(default=None, repr=False)
    """The base the direction was made on, where the model is a fine-tune of it; not stored."""
    kind = "weights"

    def __post_init__(self):
        if not self.provenance:
            object.__setattr__(self, "provenance", dict(self.direction.provenance))
        object.__setattr__(self, "_placed", {})

    @property
    def bound(self) -> float | None:
        return self.largest

    @contextmanager
    def at(self, base: Base, alphas: Alpha) -> Iterator[nn.Module]:
        dial = dial_of(alphas, self.bound)
        with ExitStack() as dials:
            if dial is not None:
                for direction, part in self._parts(dial):
                    here = self._on(direction, base.device)
                    dials.enter_context(steer(base, here, part, origin=self.origin))
            yield base.model

    def _parts(self, dial: float | Tensor) -> list[tuple[Direction, float | Tensor]]:
        if self.below is None:
            return [(self.direction, dial)]
        if isinstance(dial, float):
            return [(self.direction if dial > 0 else self.below, dial)]
        return [(self.direction, dial.clamp(min=0)), (self.below, dial.clamp(max=0))]

    def _on(self, direction: Direction, device: torch.device) -> Direction:
        """The direction on a device, moved there once and not with every block."""
        placed: dict[tuple[int, str], Direction] = self._placed  # type: ignore[attr-defined]
        return placed.setdefault((id(direction), str(device)), direction.to(device=device))

    def __mul__(self, k: float) -> "Weights":
        below = None if self.below is None else self.below * k
        return Weights(self.name, self.direction * k, below, self.largest, self.origin)

    __rmul__ = __mul__

    def packed(self) -> tuple[Json, dict[str, Tensor]]:
        parts = {"direction": self.direction, **({} if self.below is None else {"below": self.below})}
        settings: Json = {"largest": self.largest, "parts": {}}
        tensors: dict[str, Tensor] = {}
        for part, direction in parts.items():
            flat, layout = flattened(direction)
            settings["parts"][part] = {"forms": layout, "provenance": dict(direction.provenance)}
            tensors.update({f"{part}:{key}": t for key, t in flat.items()})
        return settings, tensors

    @classmethod
    def unpacked(cls, name: str, settings: Json, tensors: dict[str, Tensor], provenance: Json) -> "Weights":
        directions = {}
        for part, record in settings["parts"].items():
            own = {k.removeprefix(f"{part}:"): t for k, t in tensors.items() if k.startswith(f"{part}:")}
            directions[part] = Direction(read_forms(Path(name), record["forms"], own), record["provenance"])
        return cls(name, directions["direction"], directions.get("below"), settings["largest"], provenance=provenance)


def method_id(direction: Direction) -> str:
    """The method id of a direction, from what made it."""
    provenance = direction.provenance
    family = provenance.get("adapter") or provenance.get("made_by") or "direction"
    mode = provenance.get("mode", "contrastive")
    variant = (provenance.get("variant") or {}).get("name")
    return f"ws:{family}" + ("" if mode == "contrastive" else f":{mode}") + (f"/{variant}" if variant else "")


def bisector(base: Base, plus: Direction, minus: Direction, contrast: Direction) -> Direction:
    """Halfway between the two sides whatever their sizes: `tau+ / |tau+| + tau- / |tau-|`, as large as the contrast.

    `minus` points toward pos, as everything here does: it is theta - theta_neg.
    """
    half = plus * (1 / plus.norm(base.weight)) + minus * (1 / minus.norm(base.weight))
    result = half * (contrast.norm(base.weight) / half.norm(base.weight))
    return Direction(result.forms, {**contrast.provenance, "mode": "bisector"})


def with_origin(method: Method, origin: Base) -> Method:
    """The method with the base its direction was made on, for steering a fine-tune of it."""
    if not isinstance(method, Weights):
        raise ValueError(f"{method.name} is no direction in weight space, so `origin` says nothing about it")
    return replace(method, origin=origin)


def direction_of(method: Method) -> Direction:
    """The direction that a method is; refused where it is something else, or two of them."""
    if not isinstance(method, Weights) or method.below is not None:
        raise Unsupported(
            f"{method.name} is not one change of the weights, so no other tool can take it; steer by it here."
        )
    return method.direction


def as_method(what: Method | Direction) -> Method:
    """A direction as the method it is; a method as itself."""
    return Weights(method_id(what), what) if isinstance(what, Direction) else what
