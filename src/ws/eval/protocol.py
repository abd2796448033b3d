"""What an evaluation is: items to score, and metrics made from the scored rows.

`ws.eval.questions` asks them, and `ws.eval.table` makes numbers of the rows.

A new evaluation touches two files: its own, beside this one, and `NAMES` in `ws/eval/__init__.py`; or it comes by an entry
point of another distribution:

    def items(base, data):                                  # data: the user's file, or None
        rows = records(data or EVALS / "mine.jsonl", ("id", "question", "label"))
        return [Item(unit_id=r["id"], row_key=f"{r['id']}/{order}", chat=Chat(f"{r['question']} {ask}"),
                     anchor="My choice:", words=(("yes",), ("no",)), label=r["label"], kind="")
                for r in rows for order, ask in enumerate(("Answer Yes or No.", "Answer No or Yes."))]

    LEGEND = {"logratio": "says yes where yes is meant"}
    PROTOCOLS = (Protocol("mine", "mine-1f/1", "logratio", items, plain("logratio"), LEGEND),
                 Protocol("mine", "mine-cot/1", "logratio", items, plain("logratio"), LEGEND, n_think=64),
                 Protocol("mine", "mine-plain/1", "logratio", items, plain("logratio"), LEGEND, n_think=64, cot="plain"))

`y` of a row is `label x logratio`, NaN where pmass is below the protocol's `gate`. Rows that belong together (two
orders, two frames) share their `unit_id`; metrics put them together by `row_key` or `kind`. Whole answers instead of
words: `Item(..., texts=(" pos answer", " neg answer"))`, or one text for its own log-probability per token.
`protocol.thinking(64)` asks the same with another budget of thought, under the id `mine-1f/1~t64`.
Answers that the model writes itself: `n_write=600`, and `asked={"right": rule("math_correct")}` with the accepted answers in
`words`; `y` is then what an answer is worth. See `ws.eval.judged`.
`Items([...], left_out=...)` instead of a list also says what of the data was not asked, and why.

What asks by no list of items (the test pairs of a run, the tasks of a harness) names its own `ask`; see
`ws.eval.questions`. What else sets one evaluation apart stands in its protocol, and whoever runs evaluations asks there.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from ws.errors import ScoringImpossible
from ws.eval.judged import Asked, short
from ws.eval.scoring import Item
from ws.judge import Rule
from ws.models.load import Base
from ws.sources import records as table_in
from ws.stats import Sample

if TYPE_CHECKING:
    import pandas as pd

    from ws.eval.questions import Questions, RunPairs

COLUMNS = (
    "eval",
    "protocol",
    "metric",
    "unit_id",
    "row_key",
    "method",
    "alpha",
    "arm",
    "seed",
    "y",
    "logratio",
    "pmass",
    "label",
    "forced_close",
    "text",
    "kind",
)
YES_NO = (("yes",), ("no",))
JUDGED_TINY = 96
"""The longest judged answer of `tiny` that is no loop is shorter."""

Metrics = Mapping[str, Mapping[float, Sample]]
"""Metric to strength to the number of the rows at that strength."""


class Items(list[Item]):
    """Items, with where they come from, and what of that is not asked."""

    def __init__(
        self,
        items: Iterable[Item] = (),
        *,
        source: str = "",
        left_out: Mapping[str, Sequence[str]] | None = None,
        complete: int = 0,
        facts: Mapping[str, Any] | None = None,
        groups: Mapping[str, str] | None = None,
    ):
        super().__init__(items)
        self.source = source
        self.left_out = {why: list(rows) for why, rows in (left_out or {}).items() if rows}
        """Reason to the names of the rows left out for it."""
        self.complete = complete
        """Units below which this is a smoke run: nothing to be put in a table of results."""
        self.facts = dict(facts or {})
        """What else a reader should know of the items, such as how many of each label there are."""
        self.groups = dict(groups or {})
        """Unit to a group without which nothing can be said, such as a foundation; the first units are of each in turn."""

    @property
    def units(self) -> list[str]:
        """What was sampled, in order."""
        return list(dict.fromkeys(i.unit_id for i in self))

    @property
    def smoke(self) -> bool:
        """Too few to say anything."""
        return len(self.units) < self.complete

    def refuse_none(self, name: str, data: str | None) -> None:
        """Refuse a table of which no row is left, and say why the others were left out."""
        if self:
            return
        why = "; ".join(f"{len(rows)} left out: {reason}" for reason, rows in self.left_out.items() if rows)
        raise ScoringImpossible(
            f"{name} has no rows to score{f' in {data}' if data else ''}{f' ({why})' if why else ''}."
        )

    def first(self, limit: int | None) -> "Items":
        """Those of the first `limit` units; all of them without one."""
        if limit is None:
            return self
        units = set(self._in_turn()[:limit])
        return Items(
            [i for i in self if i.unit_id in units],
            source=self.source,
            left_out=self.left_out,
            complete=max(self.complete, len(self.units)),
            facts={k: v for k, v in self.facts.items() if k != "labels"},  # those were counted over all units
            groups=self.groups,
        )

    def _in_turn(self) -> list[str]:
        """The units, of every group one after the other where there are groups."""
        if not self.groups:
            return self.units
        members: dict[str, list[str]] = {}
        for unit in self.units:
            members.setdefault(self.groups[unit], []).append(unit)
        return [unit for rank in zip_longest(*members.values()) for unit in rank if unit is not None]


@dataclass(frozen=True)
class Panel:
    """A small table beside the main one: lines for people, the same as records for programs."""

    title: str
    lines: Sequence[Mapping[str, str]]
    records: Sequence[Mapping[str, Any]]
    note: str = ""
    """What is to be said below it."""


def _no_panels(rows: "pd.DataFrame", intent: Mapping[str, int]) -> list[Panel]:
    return []


def _table(data: str | None) -> object:
    return None if data is None else table_in(data, ())


@dataclass(frozen=True)
class Protocol:
    """One pinned way of asking and counting; its id stands in every row."""

    eval: str
    id: str
    metric: str
    """What `y` of a row is called."""
    items: Callable[[Base, "str | None"], list[Item]]
    """(base, data file or None) -> the items."""
    metrics: Callable[["pd.DataFrame"], Metrics]
    legend: Mapping[str, str]
    """What a larger number of each metric means."""
    gate: float = 0.0
    """Rows whose pmass is below become NaN, and are counted."""
    n_think: int = 0
    """Tokens of thought before the answer; 0 is a single forward pass."""
    cot: str = "think"
    """`think` between thought tokens, or `plain` text for models that have none."""
    plain: str = ""
    """The protocol that asks the same with a thought in plain text, for models that have no thought tokens."""
    n_write: int = 0
    """Tokens of an answer of the model's own; 0 is for answers that are given and scored."""
    temperature: float = 0.0
    """At which that is written; 0 takes the likeliest words."""
    asked: Asked = field(default_factory=dict)
    """What is asked of a written answer, by the kind of its item; `y` is what it is worth. See `ws.eval.judged`."""
    judge: str | None = None
    """Who decides what no exact rule does: URL#MODEL, or a model by name; None for the rules that come near."""
    unseen: Collection[str] = ()
    """Kinds of items that hold harmful texts: neither these nor the answers to them are kept with the rows."""
    panels: Callable[["pd.DataFrame", Mapping[str, int]], list[Panel]] = field(default=_no_panels)
    """(rows, the metrics a claim is made about) -> what is printed below the table."""
    ordered: bool = False
    """Whether the last part of a row key is an answer order; the orders of an item are one decision."""
    claims: tuple[str, ...] = ()
    """Metrics for whose sake this evaluation is taken where a behavior claims to move them."""
    shown: Callable[[Mapping[str, int]], Sequence[str]] | None = None
    """The metrics a terminal shows, given those a claim is made about; all of them by default."""
    read: Callable[["str | None"], object] = field(default=_table)
    """(data file or None) -> what stands in it, so that a file which is of no use is refused before a model is loaded."""
    ask: "Callable[[Protocol, Base, str | None, int | None, RunPairs | None], Questions] | None" = None
    """(protocol, base, data, limit, a run's pairs) -> what is asked, where that is not a list of items."""
    takes: Collection[str] = ("data", "limit", "n_think")
    """The options it takes."""
    because: str = "which asks questions of its own"
    """Why it takes no other: the end of a sentence that begins with its name."""
    needs: str | None = None
    """The option it cannot do without, so that a person has to ask for it."""
    of_run: bool = False
    """Whether it asks the test questions of a run. Then no two studies share its unsteered arm."""
    incomparable: str = ""
    """Why methods cannot be compared on it over seeds, and what to do instead; nothing where they can."""

    def check(self, **options: object) -> None:
        """Refuse options that would do nothing here."""
        for name, value in options.items():
            if value is not None and name not in self.takes:
                raise ValueError(f"`{name}` does nothing for {self.eval}, {self.because}; leave it out")

    @property
    def judgeable(self) -> bool:
        """Whether something of its written answers is decided by no exact rule."""
        return any(not (isinstance(asks, Rule) and asks.exact) for asks in self.asked.values())

    def judged_by(self, judge: str) -> "Protocol":
        """The same questions with another judge of their answers: another protocol, so another id."""
        if not self.judgeable:
            raise ValueError(f"`judge` does nothing for {self.id}, where exact rules decide; leave it out")
        return replace(self, judge=judge, id=f"{self.id.partition('@')[0]}@{short(judge)}")

    def most_tokens(self, base: Base) -> int:
        """Tokens of an answer of the model's own, at most; judged ones of `tiny` are cut earlier, where they only loop."""
        return min(self.n_write, JUDGED_TINY) if self.asked and base.tiny else self.n_write

    def cut(self, tokens: int) -> "Protocol":
        """The same questions with answers of at most so many tokens: another protocol, so another id."""
        if not self.n_write:
            raise ValueError(f"{self.id} writes no answers, so there are none to cut")
        return self if tokens >= self.n_write else replace(self, n_write=tokens, id=self._varied("w", str(tokens)))

    def drawn_at(self, temperature: float) -> "Protocol":
        """The same questions with answers drawn at a temperature, 0 for the likeliest words: another protocol, so another id."""
        if not self.n_write:
            raise ValueError(f"{self.id} writes no answers, so there are none to draw")
        same = temperature == self.temperature
        return self if same else replace(self, temperature=temperature, id=self._varied("T", f"{temperature:g}"))

    def _varied(self, letter: str, value: str) -> str:
        """Its id with one `~` mark more, or another value of it, whatever the order in which they came."""
        written, of_judge, judge = self.id.partition("@")
        bare, *marks = written.split("~")
        own = {mark[0]: mark for mark in marks} | {letter: letter + value}
        return "~".join([bare, *(own[k] for k in sorted(own))]) + of_judge + judge

    def thinking(self, n_think: int) -> "Protocol":
        """The same questions with another budget of thought: another protocol, so another id."""
        self.check(n_think=n_think)
        if n_think < 0:
            raise ValueError(f"n_think must be 0 or more, got {n_think}")
        same = n_think == self.n_think
        return self if same else replace(self, n_think=n_think, id=f"{self.id.partition('~t')[0]}~t{n_think}")
