"""The interface of every way to steer: a frozen value with a name, a dial, and a file.

    with method.at(base, [-1.0, 0.0, 1.0]):          # one strength per row of the batch, or one number
        ...
    chat = method.chat(chat, 1.0)                    # what the model is asked; the same chat for all but prompts

Strength 0 is the base for every method. Blocks of any methods nest, overlap and may be left in any order. Whoever
calibrates or compares knows this interface and no method by name.
"""

import hashlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ws.errors import DirectionMismatch
from ws.models.base import Base, how_to_load
from ws.models.chat import Chat
from ws.steer import Alpha, checked_alpha
from ws.types import Json


@dataclass(frozen=True, eq=False)
class Method(ABC):
    """One way to steer a model, with a dial whose zero is the untouched model."""

    name: str
    """Its id: ws:lora, sl:pca, repe, paper:all, prompt:simple, random:spectrum:0."""
    provenance: Mapping[str, Any] = field(default_factory=dict, kw_only=True)
    """What made it: JSON values, no time, host or path. `base.fingerprint` binds it to its base, where there is one."""

    kind: ClassVar[str]
    """How it is called in a file."""
    graded: ClassVar[bool] = True
    """Whether strengths between 0 and the largest mean something."""

    @property
    def bound(self) -> float | None:
        """The largest |alpha| that means something, or None."""
        return None

    @property
    def per_token(self) -> bool:
        """True where every token is changed alike; False where a reader has to say where the answer starts."""
        return True

    def check_strengths(self, alphas: Sequence[float]) -> None:
        """Refuse strengths that mean nothing for this method, before any work."""
        if not self.graded and (odd := [a for a in alphas if a not in (-1.0, 0.0, 1.0)]):
            raise ValueError(
                f"{self.name} is there or not, so its strengths are -1, 0 and 1; got {odd[0]:g}. Give `alphas=-1,0,1`"
            )
        dial_of([float(a) for a in alphas], self.bound)

    @abstractmethod
    def at(self, base: Base, alphas: Alpha) -> AbstractContextManager[nn.Module]:
        """The model steered by `alphas` inside the block: one number, or one per row of every batch."""

    def chat(self, chat: Chat, alpha: float) -> Chat:
        """The chat that the model is asked at this strength."""
        return chat

    def chats(self, chat: Chat, alpha: float) -> tuple[Chat, ...]:
        """Every way in which it is asked at this strength; scores are averaged over them, and tokens pooled."""
        return (self.chat(chat, alpha),)

    @abstractmethod
    def packed(self) -> tuple[Json, dict[str, Tensor]]:
        """(settings, tensors): all there is to store besides name and provenance."""

    @classmethod
    @abstractmethod
    def unpacked(cls, name: str, settings: Json, tensors: dict[str, Tensor], provenance: Json) -> "Method":
        """The inverse of `packed`."""

    @property
    def content_hash(self) -> str:
        """SHA-256 of name, settings, provenance and tensors: the identity of the value, however it is stored."""
        settings, tensors = self.packed()
        parts = [self.kind, self.name, settings, dict(self.provenance)]
        return _hash(json.dumps(parts, sort_keys=True), tensors)

    @property
    def numbers_hash(self) -> str | None:
        """SHA-256 of the tensors alone, None without tensors: two seeds with one hash count as one seed."""
        tensors = self.packed()[1]
        return _hash("", tensors) if tensors else None


def _hash(head: str, tensors: Mapping[str, Tensor]) -> str:
    h = hashlib.sha256(head.encode())
    for name, t in sorted(tensors.items()):
        h.update(f"{name} {t.dtype} {tuple(t.shape)}".encode())
        h.update(t.detach().contiguous().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return h.hexdigest()


def dial_of(alphas: Alpha, bound: float | None) -> float | Tensor | None:
    """The strengths as a number or a tensor of one per row; None where all of them are 0; beyond `bound` is an error."""
    dial = checked_alpha(alphas)
    largest = abs(dial) if isinstance(dial, float) else float(dial.abs().max()) if len(dial) else 0.0
    if bound is not None and largest > bound:
        raise ValueError(f"this method means something up to |alpha| = {bound:g}; got {largest:g}")
    return dial if largest > 0 else None


def refuse_other_base(method: Method, base: Base) -> None:
    """Refuse a method that was made on another base; one that names no base fits wherever its shapes do."""
    made_on = method.provenance.get("base") or {}
    expected = made_on.get("fingerprint") or ""
    if not base.fits(expected):
        raise DirectionMismatch(
            f"{method.name} was made on base {expected[:8]}… ({made_on.get('id')}), this model is "
            f"{base.fingerprint[:8]}…. {how_to_load(made_on)}"
        )


def behavior_name(method: Method) -> str | None:
    """The name of the behavior that a method steers, where it knows it."""
    training = method.provenance.get("training", method.provenance)
    behavior = training.get("behavior")
    return behavior.get("name") if isinstance(behavior, Mapping) else behavior


def dial_names(methods: Sequence[Method], reserved: Sequence[str]) -> list[str]:
    """What the dials of methods are called: by their behaviors; of two with one name the second is NAME2."""
    names: list[str] = []
    for method in methods:
        name = re.sub(r"[^\w-]+", "-", (behavior_name(method) or method.name).lower())
        free = (n for n in (name, *(f"{name}{i}" for i in range(2, 99))) if n not in names and n not in reserved)
        names.append(next(free))
    return names
