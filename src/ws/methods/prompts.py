"""Prompts as a method: a system message for each pole, none at 0.

    prompt:simple        the behavior's first persona pair in its template
    prompt:engineered    a few sentences that say who speaks, how it decides, and what wins in a conflict

A prompt is there or not, so its strengths are -1, 0 and 1. The texts stand in the behavior packs.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from ws.behaviors import Behavior
from ws.errors import Unsupported
from ws.methods.method import Method, dial_of
from ws.models.chat import Chat
from ws.models.load import Base
from ws.steer import Alpha, checked_alpha

KINDS = ("simple", "engineered")


@dataclass(frozen=True, eq=False)
class Prompt(Method):
    """A system message for each pole."""

    pos: str
    neg: str
    kind = "prompt"
    graded = False

    @property
    def bound(self) -> float:
        return 1.0

    @contextmanager
    def at(self, base: Base, alphas: Alpha) -> Iterator[nn.Module]:
        """The model as it is: only what it is asked changes. Strengths that mean nothing are still refused."""
        if dial_of(alphas, self.bound) is not None:
            dial = checked_alpha(alphas)
            for alpha in [dial] if isinstance(dial, float) else dial.tolist():
                _whole(alpha)
        yield base.model

    def chat(self, chat: Chat, alpha: float) -> Chat:
        _whole(alpha)
        if alpha == 0:
            return chat
        text = self.pos if alpha > 0 else self.neg
        return replace(chat, system=text if chat.system is None else f"{text}\n\n{chat.system}")

    def packed(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        return {"pos": self.pos, "neg": self.neg}, {}

    @classmethod
    def unpacked(
        cls, name: str, settings: dict[str, Any], tensors: dict[str, Tensor], provenance: dict[str, Any]
    ) -> "Prompt":
        return cls(name, settings["pos"], settings["neg"], provenance=provenance)


def of_behavior(behavior: Behavior, which: str) -> Prompt:
    """The simple or the engineered prompt of a behavior."""
    if which not in KINDS:
        raise ValueError(f"a prompt is one of {', '.join(KINDS)}; got {which!r}")
    if which == "engineered" and behavior.engineered is None:
        raise Unsupported(
            f"the behavior {behavior.name!r} has no `engineered` prompts; add the key with a text for pos and one for neg."
        )
    pos, neg = behavior.systems(0) if which == "simple" or behavior.engineered is None else behavior.engineered
    return Prompt(f"prompt:{which}", pos, neg, provenance={"behavior": behavior.name, "tiny": behavior.tiny})


def _whole(alpha: float) -> None:
    if alpha not in (-1.0, 0.0, 1.0):
        raise ValueError(f"a prompt is there or not: alpha is -1, 0 or 1, got {alpha:g}")
