"""One interface for every detector: a case in, a score beside its nulls out, with what a person can look at."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ws.types import Json
from ws.watch.alarm import Against
from ws.watch.detectors.case import Case

MOST_SHOWN = 4


@dataclass(frozen=True)
class Moved:
    """A question at which a fine-tune moved the model, and both answers to it."""

    question: str
    amount: float
    before: str
    after: str

    @property
    def changed(self) -> bool:
        """Whether the answer is another one."""
        return self.before != self.after


@dataclass(frozen=True)
class Reading:
    """What one detector says of one fine-tune and behavior."""

    detector: str
    name: str
    behavior: str
    score: float
    against: Against
    unit: str
    """What the score counts."""
    evidence: tuple[Moved, ...] = ()
    words: tuple[str, ...] = ()
    """More that a person can look at, a sentence each."""
    lacking: str = ""
    """Why there is no score."""
    signed: bool = True
    """Whether its score says which way."""

    @property
    def z(self) -> float | None:
        """Standard deviations above the nulls."""
        return self.against.z(self.score)

    @property
    def toward(self) -> int | None:
        """+1 where the rule raises an alarm, -1 where its mirror image does, 0 where neither; None where it cannot say."""
        if self.lacking or (alarm := self.against.alarm(self.score)) is None:
            return None
        return 1 if alarm else -1 if self.signed and self.against.mirrored.alarm(-self.score) else 0

    @property
    def fired(self) -> bool | None:
        """Whether it raises an alarm for either pole, by the rule that all detectors share; None where it cannot say."""
        return None if self.toward is None else self.toward != 0

    def as_json(self) -> Json:
        """For a program."""
        return {
            **{
                k: getattr(self, k)
                for k in ("detector", "name", "behavior", "score", "z", "fired", "toward", "unit", "lacking")
            },
            "nulls": list(self.against.permuted),
            "control": self.against.control,
            "evidence": [{**vars(m), "changed": m.changed} for m in self.evidence],
            "words": list(self.words),
        }


Detector = Callable[[Case], Reading]


def unable(detector: str, case: Case, unit: str, why: str) -> Reading:
    """A detector that cannot say anything here."""
    return Reading(detector, case.change.name, case.probe.behavior.name, math.nan, Against(), unit, lacking=why)


def most_moved(case: Case, amounts: Sequence[float]) -> tuple[Moved, ...]:
    """The questions of the behavior at which most moved, with both answers; those whose answer changed come first."""
    before, after = case.probe.answers, case.answers
    rows = [Moved(q, a, b, c) for q, a, b, c in zip(case.probe.questions, amounts, before, after)]
    return tuple(sorted(rows, key=lambda m: (not m.changed, -abs(m.amount)))[:MOST_SHOWN])
