"""Pairs that a judge keeps: those whose pos answer shows the trait, whose neg answer does not, both of them coherent.

The judge gives two scores from 0 to 100 to each answer: how strongly it shows the pos pole, and how coherent it is. It sees
the question and the answer, and never the side. A pair of which any score is missing is dropped, like one below the line.

    sifted(pairs, PairJudge.of("http://localhost:8000/v1"), "The model tells the truth.")
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ws.endpoint import Endpoint
from ws.errors import PairsUnfit
from ws.judge.asking import JudgeSettings, ModelJudge, judge_named, refuse_nobody
from ws.judge.case import Case
from ws.judge.rubrics import rubric
from ws.judge.rules import rule
from ws.judge.writers import FLAGS, Local
from ws.models.load import Base
from ws.pairs import Check, Pair, Pairs, check_pairs
from ws.types import Json

log = logging.getLogger(__name__)

LINE = 50.0
"""The score from which an answer shows the trait, or is coherent."""
FEW = 0.3
"""A smaller share of kept pairs is warned of."""
TRAIT, COHERENCE = "trait_0_100", "coherence_0_100"
REASON = "by the judge"
AGAIN = ("length", "separable", "consistent")
"""Checks that say something else of the pairs that a judge chose."""


@dataclass(frozen=True)
class Scores:
    """What a judge says of both answers of a pair; None where it abstains."""

    trait_pos: float | None
    trait_neg: float | None
    coherence_pos: float | None
    coherence_neg: float | None

    @property
    def good(self) -> bool:
        """Whether the pair shows what it should."""
        numbers = (self.trait_pos, self.trait_neg, self.coherence_pos, self.coherence_neg)
        if any(n is None for n in numbers):
            return False
        pos, neg, *coherence = (float(n) for n in numbers if n is not None)
        return pos >= LINE > neg and min(coherence) >= LINE


@dataclass(frozen=True, eq=False)
class PairJudge:
    """Who scores the answers of pairs; a model is loaded when it is asked."""

    by: str | Base | Endpoint
    settings: JudgeSettings = field(default_factory=JudgeSettings)
    out: Path | None = None
    """Below it replies are kept."""

    @staticmethod
    def of(
        by: "str | Base | Endpoint", settings: JudgeSettings | None = None, *, out: Path | None = None
    ) -> "PairJudge":
        """The judge that is meant: an address with the model after a #, or a model; its model's name is settled."""
        settings = settings or JudgeSettings()
        if isinstance(by, str) and by.partition(":")[0] == "rule":
            rule(TRAIT)  # says that there is none
        if isinstance(by, str) and by.startswith(("http:", "https:")):
            url, _, model = by.partition("#")
            by = Endpoint.from_environment(
                url, model=model or None, concurrency=settings.judge_concurrency, flags=FLAGS
            )
        elif isinstance(by, str):
            refuse_nobody(by)
        if isinstance(by, Endpoint):
            by = replace(by, model=by.served())
        return PairJudge(by, settings, out)

    def described(self) -> Json:
        """All that decides its scores, without an address."""
        if isinstance(self.by, Endpoint):
            name = f"endpoint:{self.by.described()['model']}"
        else:
            name = f"model:{self.by if isinstance(self.by, str) else self.by.id}"
        own = {k: v for k, v in vars(self.settings).items() if k != "judge_concurrency"}
        return {"by": name, "rubrics": [rubric(n).id for n in (TRAIT, COHERENCE)], **own}

    def scores(self, rows: Sequence[Pair], standard: str) -> list[Scores]:
        """The scores of every pair."""
        sides = [
            Case(f"{r.name}/{side}", r.prompt, answer, standard=standard)
            for r in rows
            for side, answer in (("pos", r.response_pos), ("neg", r.response_neg))
        ]
        trait = judge_named(self.by, TRAIT, self.settings, out=self.out)
        assert isinstance(trait, ModelJudge)
        loaded = trait.writer.base if isinstance(trait.writer, Local) else self.by  # a model is loaded once
        coherence = judge_named(loaded, COHERENCE, self.settings, out=self.out)
        trait_of, coherence_of = ([v.value for v in judge(sides)] for judge in (trait, coherence))
        return [
            Scores(*both, *others)
            for both, others in zip(
                zip(trait_of[::2], trait_of[1::2]), zip(coherence_of[::2], coherence_of[1::2]), strict=True
            )
        ]


def sifted(pairs: Pairs, judge: PairJudge, standard: str) -> Pairs:
    """The pairs that the judge keeps, with all scores in their provenance and checks that know of it."""
    scores = judge.scores(pairs.rows, standard)
    rows = tuple(r for r, s in zip(pairs.rows, scores) if s.good)
    share = len(rows) / len(pairs.rows)
    if not rows:
        unscored = sum(None in vars(s).values() for s in scores)
        raise PairsUnfit(
            f"the judge keeps none of {len(pairs.rows)} pairs ({unscored} lack a score): none has a pos answer that shows "
            f"the trait, a neg answer that does not, and sense on both sides. The trait is {standard!r}."
        )
    if share < FEW:
        log.warning("the judge keeps %.0f %% of the pairs; look at them, and at the judge", 100 * share)
    record = {
        **judge.described(),
        "standard": standard,
        "judged": len(pairs.rows),
        "kept": share,
        "columns": ["pair", *Scores.__annotations__],
        "scores": [[r.name, *vars(s).values()] for r, s in zip(pairs.rows, scores)],
    }
    dropped = dict(pairs.provenance.get("dropped") or {})
    if len(rows) < len(pairs.rows):
        dropped[REASON] = len(pairs.rows) - len(rows)
    return Pairs(rows, {**pairs.provenance, "dropped": dropped, "judge": record}, _checks(pairs.checks, rows, share))


def _checks(before: Sequence[Check], rows: Sequence[Pair], share: float) -> tuple[Check, ...]:
    """The checks: what tells the sides apart is looked for again, for a judge that chooses pairs makes that easier."""
    again = {c.name: replace(c, means=f"{c.means}; of the pairs that the judge kept") for c in check_pairs(rows)}
    judged = Check(
        "judged",
        share,
        None,
        None,
        "warn" if share < FEW else "ok",
        "pairs whose sides show what they should and make sense (others dropped)",
    )
    return (*(again.get(c.name, c) if c.name in AGAIN else c for c in before), judged)
