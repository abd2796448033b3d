"""The value: one question answered twice, and all such pairs of a behavior."""

import hashlib
import json
import random
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal


@dataclass(frozen=True)
class Pair:
    """One question, answered twice."""

    prompt: str
    response_pos: str
    response_neg: str
    prompt_id: str = ""
    sys_prompt_pos: str = ""
    sys_prompt_neg: str = ""
    topic_idx: int = 0
    persona_idx: int = 0
    sample_idx: int = 0
    behavior: str = ""
    ended_pos: bool = True
    ended_neg: bool = True
    n_tok_pos: int = 0
    n_tok_neg: int = 0

    @property
    def name(self) -> str:
        """The name of a row in notes and results."""
        return f"{self.prompt_id}/{self.persona_idx}/{self.sample_idx}"


Grade = Literal["ok", "warn", "fail"]

KINDS: dict[str, type] = {name: kind for name, kind in Pair.__annotations__.items() if isinstance(kind, type)}


@dataclass(frozen=True)
class Check:
    """One number about the pairs, and whether it is healthy."""

    name: str
    value: float
    pos: float | None
    neg: float | None
    verdict: Grade
    means: str


@dataclass(frozen=True, eq=False)
class Pairs:
    """All pairs of one behavior, with what made them."""

    rows: tuple[Pair, ...]
    provenance: Mapping[str, Any] = field(default_factory=dict)
    checks: tuple[Check, ...] = ()

    def __repr__(self) -> str:
        return f"Pairs({len(self.rows)} rows, {len({r.topic_idx for r in self.rows})} questions)"

    @property
    def topics(self) -> set[int]:
        """The questions by number: all that were asked, also those of which no answer was of use."""
        return {*self.provenance.get("topics", ()), *(r.topic_idx for r in self.rows)}

    def of(self, topics: Collection[int]) -> "Pairs":
        """The pairs of some questions."""
        return Pairs(tuple(r for r in self.rows if r.topic_idx in topics), self.provenance)

    @property
    def content_hash(self) -> str:
        """SHA-256 of every field of every row, in order."""
        h = hashlib.sha256()
        for r in self.rows:
            h.update(json.dumps(asdict(r), sort_keys=True).encode())
        return h.hexdigest()

    def swapped(self) -> "Pairs":
        """The same pairs with the two sides exchanged: their direction is the negative one."""
        return Pairs(tuple(map(_swapped, self.rows)), {**self.provenance, "swapped": True})

    def shuffled(self, draw: int) -> "Pairs":
        """The same pairs with the sides of each exchanged or not, by a coin: what is learnt from them is a control."""
        coin = random.Random(f"labels/{draw}")
        rows = tuple(_swapped(r) if coin.random() < 0.5 else r for r in self.rows)
        return Pairs(rows, {**self.provenance, "shuffled": draw})


def _swapped(pair: Pair) -> Pair:
    """One pair with its sides exchanged."""
    names = ("response", "sys_prompt", "ended", "n_tok")
    other = {"pos": "neg", "neg": "pos"}
    return replace(pair, **{f"{n}_{s}": getattr(pair, f"{n}_{o}") for n in names for s, o in other.items()})
