"""`ws judge`: verdicts on the answers of a file, what they add up to, and how far the judge can be believed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import typer
from rich.table import Table

from ws.cli.options import Options, verb
from ws.cli.result import VerbResult
from ws.cli.screen import Screen, safe_text, say
from ws.errors import JudgeUnfit, WsError
from ws.judge import Estimate, JudgeSettings
from ws.judge.asking import Bill
from ws.judge.file import labels_in, rows_in
from ws.judge.inspect_log import write_inspect_log
from ws.judge.judgement import Judgement, as_json, judged, jury
from ws.judge.rubrics import rubric as rubric_named
from ws.numbers import NO, finite, shortened, some
from ws.records import refuse_unwritable
from ws.settings import at_least, refuse_outside
from ws.stats import Estimate as Number
from ws.stats import Interval
from ws.types import Json

LONGEST = 240  # letters of a text that is shown


@dataclass(frozen=True)
class Judging:
    """What is judged, and by whom."""

    rubric: str | None = None
    """What is to be decided: fact_correct, math_correct, agreement, trait_0_100, coherence_0_100, cot_consistent, safety_1_5, refusal, em_alignment or em_coherence."""
    by: str = "rule"
    """The judge: rule, the address of a server of the OpenAI API with the model after a #, or a model by name; a key stands in WS_JUDGE_KEY."""
    gold: str | None = None
    """A file of cases that people have labelled in its column `human`; docs/judges.md has the format."""
    second: str | None = None
    """A second judge, to agree with: as `by`."""
    votes: int = 1
    """How often each case is judged; 2 shows whether the judge agrees with itself."""
    standard: str | None = None
    """The trait, or the policy, that rubrics measure by which need one; for rows that bring none."""
    limit: int | None = None
    """Judge only so many rows, the first."""
    price: str | None = None
    """What a million tokens cost, IN/OUT or one number for both, to estimate the cost, e.g. 3/15."""
    inspect_log: str | None = None
    """Also write a log that inspect's viewer reads (.eval); it holds the texts."""
    out: str = "out"
    """Output folder, below which the judge's replies are kept."""

    def __post_init__(self):
        refuse_outside(self, votes=at_least(1), limit=at_least(1))
        price_of(self.price)


def price_of(text: str | None) -> tuple[float, float] | None:
    """What a million tokens cost, read and written."""
    if text is None:
        return None
    try:
        numbers = [float(x) for x in text.split("/")]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 2) or not all(finite(n) and n >= 0 for n in numbers):
        raise ValueError(f"`price` is IN/OUT for a million tokens, e.g. 3/15; got {text!r}")
    return numbers[0], numbers[-1]


def _cost(tokens_in: int, tokens_out: int, price: tuple[float, float] | None) -> float | None:
    return None if price is None else (tokens_in * price[0] + tokens_out * price[1]) / 1e6


def _priced(tokens_in: int, tokens_out: int, price: tuple[float, float] | None) -> str:
    """A cost in words."""
    cost = _cost(tokens_in, tokens_out, price)
    return "" if cost is None else f", {cost:.2f} at that price" if cost >= 0.01 else ", less than 0.01 at that price"


def in_words(e: Estimate, price: tuple[float, float] | None) -> str:
    """What a judge is about to take."""
    kept = f" ({e.kept} more are kept)" if e.kept else ""
    return (
        f"{e.judge}: {some(e.asked, 'reply', 'replies')} to ask for{kept}, about {e.tokens_in:,} tokens in and at most "
        f"{e.tokens_out:,} out{_priced(e.tokens_in, e.tokens_out, price)}"
    )


def bill_in_words(name: str, bill: Bill, price: tuple[float, float] | None) -> str:
    """What a judge has taken."""
    guess = ", guessed from letters" if bill.guessed else ""
    return (
        f"{name}: {some(bill.asked, 'reply', 'replies')} asked for, {bill.kept} kept, {bill.tokens_in:,} tokens in and "
        f"{bill.tokens_out:,} out{guess}{_priced(bill.tokens_in, bill.tokens_out, price)}"
    )


@dataclass(frozen=True, eq=False)
class JudgingPlan(VerbResult):
    """What a judge would be asked."""

    rubric: str
    cases: int
    labelled: int
    estimates: Sequence[Estimate]
    price: tuple[float, float] | None

    def as_json(self) -> Mapping[str, object]:
        parts: list[Json] = [
            vars(e) | {"asked": e.asked, "cost": _cost(e.tokens_in, e.tokens_out, self.price)} for e in self.estimates
        ]
        return {"rubric": self.rubric, "cases": self.cases, "labelled": self.labelled, "judges": parts}

    def show(self, screen: Screen) -> None:
        screen.show(f"{some(self.cases, 'case')} for {safe_text(self.rubric)}, {some(self.labelled, 'label')}")
        lines = [in_words(e, self.price) for e in self.estimates]
        screen.points(lines or ["A rule decides, which costs nothing."])


@dataclass(frozen=True, eq=False)
class Verdicts(VerbResult):
    """What a judge says."""

    judgement: Judgement
    price: tuple[float, float] | None
    texts: bool

    def as_json(self) -> Mapping[str, object]:
        return as_json(self.judgement, texts=self.texts)

    def show(self, screen: Screen) -> None:
        j = self.judgement
        why = f" ({', '.join(f'{n} {safe_text(label)}' for label, n in j.why.items())})" if j.why else ""
        screen.show(f"[bold]{safe_text(j.rubric.id)}[/] by {safe_text(j.by)}")
        screen.show(f"{some(len(j.rows), 'case')}, {j.abstained} without a verdict{why}, which count in no mean\n")
        screen.show(_numbers(j))
        if j.agreements:
            screen.show("")
            screen.show(_agreements(j))
        screen.show("")
        screen.points(j.readings())
        screen.points(bill_in_words(name, bill, self.price) for name, bill in j.bills.items())
        if self.texts:
            for row, v in zip(j.rows, j.verdicts):
                screen.show(f"\n[bold]{safe_text(v.label)}[/] [dim]{safe_text(row.case.id)}[/]")
                screen.show(f"  {safe_text(shortened(row.case.question, LONGEST))}")
                screen.show(f"  {safe_text(shortened(row.case.answer, LONGEST))}")

    @property
    def failure(self) -> WsError | None:
        if self.judgement.abstained < len(self.judgement.verdicts):
            return None
        return JudgeUnfit(f"{self.judgement.by} gives no verdict on any of {some(len(self.judgement.rows), 'case')}.")


def _numbers(j: Judgement) -> Table:
    """Every share, and the mean of scores, as the judge says and corrected."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column(j.rubric.name)
    table.add_column("as judged", justify="right")
    if j.labels:
        for name in ("corrected", "finds", "leaves alone"):
            table.add_column(name, justify="right")
    for s in j.shares:
        rates = [NO, NO] if s.rates is None else [_rate(s.rates.sensitivity), _rate(s.rates.specificity)]
        table.add_row(f"share {s.name}", _between(s.raw), *([_between(s.corrected), *rates] if j.labels else []))
    if j.mean is not None:
        table.add_row("mean", _between(j.mean, 1), *([_between(j.corrected_mean, 1), NO, NO] if j.labels else []))
    return table


def _agreements(j: Judgement) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("agreement with", "cases", "the same", "alpha"):
        table.add_column(name, justify="left" if name == "agreement with" else "right")
    for a in j.agreements:
        table.add_row(safe_text(a.beside), str(a.n), _between(a.equal), _between(a.alpha))
    return table


def _between(e: Number | Interval | None, digits: int = 2) -> str:
    """A number without a sign, with its interval."""
    if e is None:
        return NO
    value, low, high = (e.mean, e.ci_lo, e.ci_hi) if isinstance(e, Number) else (e.value, e.low, e.high)
    if not finite(value):
        return NO
    return f"{value:.{digits}f}" + (f" [{low:.{digits}f}, {high:.{digits}f}]" if finite(low) else "")


def _rate(x: float) -> str:
    return f"{x:.2f}" if finite(x) else NO


@verb(
    Judging,
    JudgeSettings,
    file=(str, typer.Argument(metavar="FILE", help="Cases to judge: question, answer and what the rubric needs.")),
    check=(bool | None, typer.Option("--check", help="Say what it would take, and ask nothing.")),
    show_texts=(
        bool | None,
        typer.Option("--show-texts", help="Show questions, answers and replies, which may be harmful."),
    ),
)
def judge(options: Options) -> VerbResult:
    """Verdicts on the answers of a file, and how far the judge can be believed."""
    asked, settings = options.of(Judging), options.of(JudgeSettings)
    if asked.rubric is None:
        raise ValueError("ws judge needs a `rubric`, e.g. `rubric=math_correct`")
    one, file, price = rubric_named(asked.rubric), options.text("file") or "", price_of(asked.price)
    rows = rows_in(file, one, standard=asked.standard or "")[: asked.limit]
    labelled = [r for r in rows if r.human is not None]
    if asked.gold is not None:
        labelled = labels_in(asked.gold, one, rows, standard=asked.standard or "")
    refuse_unwritable(Path(asked.out))
    judges = jury(
        asked.rubric, asked.by, second=asked.second, votes=asked.votes, settings=settings, out=Path(asked.out)
    )
    estimates = judges.estimates(rows, labelled)
    if options.flag("check"):
        return JudgingPlan(one.id, len(rows), len(labelled), estimates, price)
    for e in estimates:
        say(in_words(e, price))
    judgement = judged(rows, judges, labelled)
    if asked.inspect_log is not None:
        say(f"written: {write_inspect_log(judgement, Path(asked.inspect_log).expanduser())}")
    return Verdicts(judgement, price, options.flag("show_texts"))
