"""How far each direction is turned, as a request names it, and which strengths a server allows.

base                            nothing is steered; the id of the model itself says the same
honesty@-0.8                    one direction, called by its behavior's name
honesty@0.5+authority@-1        several at once; honesty@+0.5 is honesty@0.5
honesty                         honesty@1

and, in the body of a request, `"steer": {"honesty": -0.8}`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cached_property
from typing import Any

from ws.direction import Direction
from ws.direction.card import behavior_of, calibrated_range
from ws.serve.refusal import Refusal
from ws.types import Json

BASE = "base"
UNCALIBRATED = 2.0
"""The largest |alpha| of a direction that nobody has calibrated."""

PLUS = re.compile(r"(?<!@)\+")
"""Between two directions; behind an @ it is a sign."""

Strengths = tuple[tuple[str, float], ...]
"""(direction, alpha) of all that is turned, in the order of the names; alphas of 0 are left out, so () is the base."""


@dataclass(frozen=True, eq=False)
class Dial:
    """A direction that requests may turn, and how far."""

    name: str
    direction: Direction = field(repr=False)
    least: float
    most: float

    @classmethod
    def of(cls, name: str, direction: Direction, max_alpha: float | None) -> "Dial":
        """A dial with the range that was asked for, else the calibrated one, else a usual one."""
        if max_alpha is not None:
            return cls(name, direction, -max_alpha, max_alpha)
        if (known := calibrated_range(direction)) is not None:
            return cls(name, direction, *known)
        return cls(name, direction, -UNCALIBRATED, UNCALIBRATED)

    @cached_property
    def described(self) -> Json:
        """What a client can know of it: how it was learnt, its poles in words, its range, its calibrated strengths."""
        _, pos, neg = behavior_of(self.direction)
        calibrated = [
            {k: s[k] for k in ("budget", "neg", "pos", "matched") if k in s}
            for s in self.direction.card.get("strengths", ())
        ]
        return {
            "adapter": self.direction.provenance.get("adapter"),
            "alpha": {"min": self.least, "max": self.most},
            "poles": {"pos": pos, "neg": neg},
            "calibrated": calibrated,
        }


@dataclass(frozen=True, eq=False)
class Dials:
    """All that a server can turn, by name, and what it calls its model."""

    model: str
    by_name: Mapping[str, Dial]

    def strengths(self, model: str, steer: Mapping[str, Any]) -> Strengths:
        """What a request asks for by the name of its model and by `steer`; refused where it cannot be."""
        turned: dict[str, float] = {}
        parts = [] if model in (BASE, self.model) else [named(part) for part in PLUS.split(model)]
        for name, alpha in (*parts, *steer.items()):
            if name in turned:
                raise Refusal(400, f"{_short(name)} is named twice; give its strength once", param="steer")
            turned[name] = self._allowed(name, alpha, "steer" if name in steer else "model")
        return tuple(sorted((name, alpha) for name, alpha in turned.items() if alpha != 0))

    def listed(self, limits: Json, questions: Mapping[str, Sequence[str]]) -> Json:
        """The base and every direction as `/v1/models` lists them."""
        entry: Json = {"object": "model", "created": 0, "owned_by": "ws", "root": self.model}
        listing = [{"id": BASE, **entry, "kind": "base", "limits": limits}]
        for name, dial in self.by_name.items():
            own = {"kind": "direction", **dial.described, "questions": list(questions.get(name, ()))}
            listing.append({"id": name, **entry, **own})
        return {"object": "list", "data": listing}

    def entry(self, name: str, limits: Json, questions: Mapping[str, Sequence[str]]) -> Json:
        """What `/v1/models/NAME` says of a name that requests may use, refused where they may not."""
        for listed in self.listed(limits, questions)["data"]:
            if listed["id"] == name:
                return listed
        self.strengths(name, {})
        return {"id": name, "object": "model", "created": 0, "owned_by": "ws", "root": self.model, "kind": "strength"}

    def _allowed(self, name: str, alpha: Any, where: str) -> float:
        dial = self.by_name.get(name)
        if dial is None and name in (BASE, self.model):
            raise Refusal(400, f"{_short(name)} has no strength: it is what directions are added to", param=where)
        if dial is None:
            near = get_close_matches(name[:60], self.by_name, 1)
            there = ", ".join([BASE, *self.by_name])
            hint = f"did you mean {near[0]}?" if near else f"there are {there}"
            raise Refusal(404, f"there is no {_short(name)} here; {hint}", param=where, code="model_not_found")
        if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or alpha != alpha:
            example = f"{name}@-0.8" if where == "model" else f'{{"{name}": -0.8}}'
            raise Refusal(400, f"the strength of {name} is a finite number, such as {example}", param=where)
        if not dial.least <= alpha <= dial.most:
            raise Refusal(
                400,
                f"{name} can be turned from {dial.least:g} to {dial.most:g} here; got {_number(alpha)}",
                param=where,
                code="alpha_out_of_range",
            )
        return float(alpha)


def named(part: str) -> tuple[str, Any]:
    """(name, alpha) of NAME@ALPHA; what is no number stays text, and is refused with its name."""
    name, at, text = part.partition("@")
    if not at:
        return name, 1.0
    try:
        return name, float(text.replace("_", "x"))  # for Python 0_5 is 5
    except ValueError:
        return name, text


def _number(alpha: float) -> str:
    return f"{alpha:g}" if abs(alpha) < 1e9 else "far more"


def _short(name: str) -> str:
    return repr(name if len(name) <= 60 else f"{name[:60]}…")


def spelled(strengths: Strengths) -> str:
    """Strengths as the name of a model, with all of their digits: `honesty@0.5+authority@-1`, or `base`."""
    return "+".join(f"{name}@{repr(alpha).removesuffix('.0')}" for name, alpha in strengths) or BASE


def dials_of(model: str, directions: Sequence[tuple[str, Direction]], max_alpha: float | None) -> Dials:
    """The dials of directions with their names."""
    return Dials(model, {name: Dial.of(name, direction, max_alpha) for name, direction in directions})
