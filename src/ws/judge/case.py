"""What is judged, what comes of it, and who may do it: a case, a verdict, a judge."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

from ws.answer_store import sha_of


@dataclass(frozen=True)
class Case:
    """One answer to be judged, with what its rubric needs to know; `id` is the caller's and no judge sees it."""

    id: str
    question: str
    """What was asked, all of it: with a cue or a proposed solution where the user gave one."""
    answer: str
    gold: tuple[str, ...] = ()
    """What is right: one text, or several ways to say it."""
    wrong: tuple[str, ...] = ()
    """What is known to be wrong: the answer that the user proposed, or the other options."""
    standard: str = ""
    """What a rubric measures by where that is not in itself: a trait in words, or a policy of prohibited uses."""

    @cached_property
    def key(self) -> str:
        """A hash of the content without the id: two cases that read alike are one and are judged once."""
        return sha_of([self.question, self.answer, self.gold, self.wrong, self.standard])


@dataclass(frozen=True)
class Verdict:
    """What a judge says of a case: a number, or None where it abstains. An abstention is counted and never averaged."""

    value: float | None
    label: str
    """The verdict in the rubric's words; of an abstention, why there is none."""
    by: str
    """The id of the judge."""
    tokens_in: int = 0
    tokens_out: int = 0
    """What the verdict took, over all tries; a rule takes nothing."""
    reply: str = ""
    """What the judge wrote."""

    @property
    def number(self) -> float:
        """The value, NaN for an abstention: how rows of an evaluation say that something is not scored."""
        return math.nan if self.value is None else self.value


@runtime_checkable
class Judge(Protocol):
    """Whoever gives verdicts by one rubric: a rule, a server, a model."""

    @property
    def id(self) -> str:
        """Its name, which stands in every verdict."""
        ...

    @property
    def measures(self) -> str:
        """The name of the rubric whose numbers it gives."""
        ...

    def __call__(self, cases: Sequence[Case]) -> list[Verdict]:
        """A verdict for every case, in their order."""
        ...


Shares = Mapping[str, tuple[float, float]]
"""What is counted of a rubric: name to the smallest and the largest value that counts."""
