"""Prompts as a method: a system message for each pole, none at 0.

    prompt:simple        the behavior's first persona pair in its template
    prompt:pairs         every persona pair of the behavior: each question is asked under each, and what comes is averaged
    prompt:engineered    a few sentences that say who speaks, how it decides, and what wins in a conflict

A prompt is there or not, so its strengths are -1, 0 and 1. The texts stand in the behavior packs.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from torch import Tensor, nn

from ws.behaviors import Behavior
from ws.errors import Unsupported
from ws.methods.method import Method, dial_of
from ws.models.chat import Chat
from ws.models.load import Base
from ws.steer import Alpha, checked_alpha
from ws.types import Json

KINDS = ("simple", "engineered", "pairs")


@dataclass(frozen=True, eq=False)
class SystemPrompts(Method):
    """A system message for each pole."""

    pos: str
    neg: str
    others: tuple[tuple[str, str], ...] = ()
    """Further (pos, neg) messages that scores are averaged over."""
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
        """Under the first of its messages, where one answer is wanted."""
        return self.chats(chat, alpha)[0]

    def chats(self, chat: Chat, alpha: float) -> tuple[Chat, ...]:
        _whole(alpha)
        if alpha == 0:
            return (chat,)
        texts = [pos if alpha > 0 else neg for pos, neg in ((self.pos, self.neg), *self.others)]
        return tuple(replace(chat, system=t if chat.system is None else f"{t}\n\n{chat.system}") for t in texts)

    def packed(self) -> tuple[Json, dict[str, Tensor]]:
        others = {"others": [list(pair) for pair in self.others]} if self.others else {}
        return {"pos": self.pos, "neg": self.neg, **others}, {}

    @classmethod
    def unpacked(cls, name: str, settings: Json, tensors: dict[str, Tensor], provenance: Json) -> "SystemPrompts":
        others = tuple((pos, neg) for pos, neg in settings.get("others", []))
        return cls(name, settings["pos"], settings["neg"], others, provenance=provenance)


def of_behavior(behavior: Behavior, which: str) -> SystemPrompts:
    """The simple or the engineered prompt of a behavior, or those of all its persona pairs."""
    if which not in KINDS:
        raise ValueError(f"a prompt is one of {', '.join(KINDS)}; got {which!r}")
    if which == "engineered":
        if behavior.engineered is None:
            raise Unsupported(
                f"the behavior {behavior.name!r} has no `engineered` prompts; add the key with a text for pos and one for neg."
            )
        pairs = [behavior.engineered]
    else:
        pairs = [behavior.systems(i) for i in range(len(behavior.personas) if which == "pairs" else 1)]
    (pos, neg), *others = pairs
    provenance = {"behavior": behavior.name, "tiny": behavior.tiny, "questions": ""}
    return SystemPrompts(f"prompt:{which}", pos, neg, tuple(others), provenance=provenance)


def _whole(alpha: float) -> None:
    if alpha not in (-1.0, 0.0, 1.0):
        raise ValueError(f"a prompt is there or not: alpha is -1, 0 or 1, got {alpha:g}")
