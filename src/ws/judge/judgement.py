"""What a judge says of many cases, and how far it can be believed: counts, intervals, agreement, its errors.

    judged(rows, "math_correct", by="http://localhost:8000/v1", gold=labelled, votes=2)

A number stands beside what may be wrong with it: abstentions are counted and never averaged; agreement with a rule, with
people, with a second judge and of the judge with itself; and, where people have labelled cases, the number corrected for the
judge's errors, with an interval that knows how few the labels are.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ws.judge.asking import Bill, Estimate, JudgeSettings, ModelJudge, judge_named
from ws.judge.case import Case, Judge, Verdict
from ws.judge.file import Row
from ws.judge.rubrics import Rubric, rubric
from ws.judge.rules import RULES, Rule
from ws.judge.writers import Local
from ws.models.load import Base
from ws.stats import Estimate as Number
from ws.stats import Interval, estimate, means
from ws.stats.agreement import equal_share, krippendorff_estimate
from ws.stats.misjudged import Rates, corrected_mean, corrected_share
from ws.types import Json

RELIABLE, TENTATIVE = 0.8, 0.667
"""Alpha from which data are taken for reliable, and for conclusions with a question mark (Krippendorff)."""
LABELS, FEW_LABELS = 50, 30


@dataclass(frozen=True)
class Share:
    """How many of the verdicts count as something: as the judge says, and without its errors."""

    name: str
    raw: Number
    rates: Rates | None = None
    """How often the judge is right, on labelled cases."""
    corrected: Interval | None = None


@dataclass(frozen=True)
class Agreement:
    """How far the judge says the same as somebody else."""

    beside: str
    """A rule, `human`, another judge, or `itself`."""
    equal: Number
    """The share of cases on which both say the same: of scores, on which both are on one side of the rubric's line."""
    alpha: Number
    """Krippendorff's alpha: nominal of words, interval of scores."""

    @property
    def n(self) -> int:
        """The cases on which both have a verdict."""
        return self.equal.n_valid


@dataclass(frozen=True, eq=False)
class Judgement:
    """The verdicts of one judge on many cases."""

    rubric: Rubric
    by: str
    rows: Sequence[Row]
    verdicts: Sequence[Verdict]
    shares: Sequence[Share]
    mean: Number | None
    """The mean score, where the rubric gives scores."""
    corrected_mean: Interval | None
    agreements: Sequence[Agreement]
    labels: int
    """Labelled cases on which the judge has a verdict."""
    bills: Mapping[str, Bill] = field(default_factory=dict)
    """What each judge that is a model was asked."""

    def __repr__(self) -> str:
        shares = ", ".join(f"{s.name} {s.raw.mean:.2f}" for s in self.shares)
        return (
            f"Judgement of {len(self.rows)} cases by {self.by} ({self.rubric.id}): {shares}, {self.abstained} abstained"
        )

    @property
    def abstained(self) -> int:
        """Cases without a verdict."""
        return sum(v.value is None for v in self.verdicts)

    @property
    def why(self) -> Mapping[str, int]:
        """Abstentions by their reason."""
        return dict(Counter(v.label for v in self.verdicts if v.value is None).most_common())

    def readings(self) -> list[str]:
        """What the numbers mean, and what is missing for more."""
        lines = []
        if weak := [a for a in self.agreements if a.alpha.mean < TENTATIVE]:
            names = ", ".join(f"{a.beside} ({a.alpha.mean:.2f})" for a in weak)
            lines.append(
                f"Alpha below {TENTATIVE} with {names}: too little to draw conclusions from; {RELIABLE} is reliable."
            )
        if doubtful := [s.name for s in self.shares if s.rates is not None and not s.rates.informed]:
            lines.append(
                f"On the labelled cases the judge is no better than a coin about {', '.join(doubtful)}, or they are all "
                "of one kind, so nothing can be corrected."
            )
        if not self.labels and not self.by.startswith("rule:"):
            lines.append(
                f"The judge's own errors are in no interval: label about {LABELS} cases and give them by `gold`."
            )
        elif 0 < self.labels < FEW_LABELS:
            lines.append(f"{self.labels} labelled cases say little about the judge; {LABELS} are better.")
        if self.abstained > 0.1 * len(self.verdicts):
            lines.append(
                f"{self.abstained} of {len(self.verdicts)} cases have no verdict, and the numbers are about the others."
            )
        return lines


@dataclass(frozen=True, eq=False)
class Jury:
    """Who is asked about which cases: the judge, its further votes, and a second judge."""

    rubric: Rubric
    judge: Judge
    others: Sequence[Judge] = ()
    """Further votes of the same judge."""
    second: Judge | None = None

    @property
    def models(self) -> list[ModelJudge]:
        """Those that take tokens."""
        return [j for j in (self.judge, *self.others, self.second) if isinstance(j, ModelJudge)]

    def estimates(self, rows: Sequence[Row], labelled: Sequence[Row] = ()) -> list[Estimate]:
        """What each judge that is a model will take."""
        cases = [r.case for r in rows]
        both = [*cases, *(r.case for r in labelled)]
        return [j.estimate(both if j is self.judge else cases) for j in self.models]


def jury(
    name: str,
    by: str | Base = "rule",
    *,
    second: str | Base | None = None,
    votes: int = 1,
    settings: JudgeSettings | None = None,
    out: Path | None = None,
) -> Jury:
    """The judges that are meant, before anything is asked."""
    one = rubric(name)
    named: Callable[..., Judge] = lambda who, vote=0: judge_named(who, name, settings, out=out, vote=vote)  # noqa: E731
    judge = named(by)
    if judge.measures != one.name:
        raise ValueError(f"the rule {judge.id} is about {judge.measures}, and not about {one.name}")
    if votes > 1 and not isinstance(judge, ModelJudge):
        raise ValueError("a rule says the same every time; leave out `votes`")
    if votes > 1 and isinstance(judge, ModelJudge) and judge.writer.greedy:
        raise ValueError(
            f"{judge.writer.id} says the same every time at temperature 0; leave out `votes`, or give a `temperature`"
        )
    loaded = judge.writer.base if isinstance(judge, ModelJudge) and isinstance(judge.writer, Local) else by
    return Jury(
        one, judge, [named(loaded, vote) for vote in range(1, votes)], None if second is None else named(second)
    )


def judged(rows: Sequence[Row], jury: Jury, labelled: Sequence[Row] = ()) -> Judgement:
    """The verdicts on these rows, and all that is known of the judge."""
    judge, cases = jury.judge, [r.case for r in rows]
    verdicts = judge(cases)
    on_labelled = judge([r.case for r in labelled]) if labelled else []
    agreements = [
        *_beside_rules(jury, cases, verdicts),
        *([_agreement(jury.rubric, "human", on_labelled, [r.human for r in labelled])] if labelled else []),
        *(
            _agreement(jury.rubric, "itself, another vote", verdicts, [v.value for v in other(cases)])
            for other in jury.others
        ),
    ]
    if jury.second is not None:
        theirs = [v.value for v in jury.second(cases)]
        agreements.append(_agreement(jury.rubric, jury.second.id, verdicts, theirs))
    known = [(v.value, r.human) for v, r in zip(on_labelled, labelled) if v.value is not None and r.human is not None]
    scores, units = [v.number for v in verdicts], [r.unit for r in rows]
    graded = jury.rubric.graded
    return Judgement(
        jury.rubric,
        judge.id,
        rows,
        verdicts,
        [_share(name, bounds, scores, units, known) for name, bounds in jury.rubric.shares.items()],
        estimate(means(scores, units=units, keys=range(len(scores)))) if graded else None,
        corrected_mean(scores, units, known) if graded and known else None,
        agreements,
        len(known),
        {j.name: j.bill for j in jury.models},
    )


def _share(
    name: str,
    bounds: tuple[float, float],
    scores: Sequence[float],
    units: Sequence[str],
    known: Sequence[tuple[float, float]],
) -> Share:
    low, high = bounds
    counts = [math.nan if math.isnan(s) else float(low <= s <= high) for s in scores]
    raw = estimate(means(counts, units=units, keys=range(len(counts))))
    if not known:
        return Share(name, raw)
    rates = Rates.of(*([low <= pair[i] <= high for pair in known] for i in (0, 1)))
    return Share(name, raw, rates, corrected_share(counts, units, rates))


def _beside_rules(jury: Jury, cases: Sequence[Case], verdicts: Sequence[Verdict]) -> list[Agreement]:
    """Agreement with every rule of the rubric that has what it needs, unless it is the judge itself."""
    rules = [r for r in RULES if r.measures == jury.rubric.name and not isinstance(jury.judge, Rule)]
    able = [r for r in rules if all(getattr(c, n) for n in r.needs for c in cases)]
    return [_agreement(jury.rubric, r.id, verdicts, [v.value for v in r(cases)]) for r in able]


def _agreement(one: Rubric, beside: str, verdicts: Sequence[Verdict], theirs: Sequence[float | None]) -> Agreement:
    ours = [v.value for v in verdicts]
    low, high = next(iter(one.shares.values()))
    side = lambda values: [None if v is None else float(low <= v <= high) for v in values]  # noqa: E731
    alpha = krippendorff_estimate(list(zip(ours, theirs)), "interval" if one.graded else "nominal")
    return Agreement(beside, equal_share(side(ours), side(theirs), list(range(len(ours)))), alpha)


def as_json(judgement: Judgement, *, texts: bool = False) -> Json:
    """A judgement for programs; what was asked, answered and replied only where `texts` are wanted."""
    return {
        "rubric": judgement.rubric.id,
        "by": judgement.by,
        "n": len(judgement.rows),
        "abstained": judgement.abstained,
        "why": dict(judgement.why),
        "mean": None if judgement.mean is None else vars(judgement.mean),
        "corrected_mean": None if judgement.corrected_mean is None else vars(judgement.corrected_mean),
        "shares": {
            s.name: {
                "raw": vars(s.raw),
                "corrected": None if s.corrected is None else vars(s.corrected),
                "rates": None if s.rates is None else vars(s.rates),
            }
            for s in judgement.shares
        },
        "labels": judgement.labels,
        "agreement": [
            {"beside": a.beside, "n": a.n, "equal": vars(a.equal), "alpha": vars(a.alpha)} for a in judgement.agreements
        ],
        "bills": {name: vars(bill) for name, bill in judgement.bills.items()},
        "verdicts": [
            {"id": r.case.id, "unit": r.unit, "value": v.value, "label": v.label, "key": r.case.key}
            | ({"question": r.case.question, "answer": r.case.answer, "reply": v.reply} if texts else {})
            for r, v in zip(judgement.rows, judgement.verdicts)
        ],
    }
