"""The evaluations, one file each. To add one, write its file and its name here, or an entry point of another distribution.

They are imported when the first protocol is asked for: a module that its own package has imported cannot be run by
`python -m ws.eval.NAME` without a warning, and would run twice.
"""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ws.errors import WsError, not_known
from ws.eval.judged import needs_judge
from ws.eval.protocol import Items as Items
from ws.eval.protocol import Panel as Panel
from ws.eval.protocol import Protocol as Protocol
from ws.eval.questions import Questions, RunPairs, questions_of
from ws.eval.questions import Result as Result
from ws.eval.questions import score_protocol as score_protocol
from ws.eval.table import summarize as summarize
from ws.extensions import Extension, extensions
from ws.models.load import Base
from ws.types import Json

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

NAMES = (
    "sycophancy",
    "dilemmas",
    "airisk",
    "tinymfv",
    "foundations",
    "perplexity",
    "answers",
    "pairs",
    "file",
    "lm-eval",
    "syc-qa",
    "gcd",
    "gsm8k",
    "mcqa",
    "tiny-mmlu",
    "safety",
    "tone",
    "em",
)
"""Each has a file of its name, which lists its `PROTOCOLS` and may `resolve` an id that is made of parts."""
PROTOCOLS: dict[tuple[str, str], Protocol]
"""By evaluation and id: the same vignettes, asked the same way, are read by two evaluations."""
EVALS: dict[str, Protocol]
"""The default protocol of every evaluation: the first its file lists."""


def __getattr__(name: str) -> Any:
    if name == "PROTOCOLS":
        return {(p.eval, p.id): p for protocols in _usable().values() for p in protocols}
    if name == "EVALS":
        return {name: protocols[0] for name, protocols in _usable().items()}
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def names() -> list[str]:
    """Every evaluation: those that ship, then those that other distributions add."""
    return [*NAMES, *_added()]


def _added() -> Mapping[str, Extension]:
    return extensions("ws.evals", frozenset(NAMES))


def _module(name: str) -> ModuleType:
    """The file of an evaluation that ships."""
    return import_module(f"{__name__}.{name.replace('-', '_')}")


@cache
def protocols_of(name: str) -> tuple[Protocol, ...]:
    """The protocols of one evaluation, the default first."""
    if name in NAMES:
        return tuple(_module(name).PROTOCOLS)
    protocols = _added()[name].load(tuple)
    if not protocols or any(not isinstance(p, Protocol) or p.eval != name for p in protocols):
        raise _added()[name].unusable(f"is no tuple of protocols whose `eval` is {name!r}")
    return protocols


@cache
def _usable() -> Mapping[str, tuple[Protocol, ...]]:
    """The protocols of every evaluation; one of another distribution that cannot be used is left out, and that is said."""
    usable = {}
    for name in names():
        try:
            usable[name] = protocols_of(name)
        except WsError as e:
            log.warning("%s It is left out.", e)
    return usable


def protocol(name: str, protocol_id: str | None = None, n_think: int | None = None) -> Protocol:
    """The protocol of an evaluation, by name and optionally by id; `ID~t32`, or `n_think`, is ID with another budget of thought.

    `ID~w32` is ID with answers of at most 32 tokens, `ID~T1` with answers drawn at temperature 1.
    """
    if n_think is not None:
        return protocol(name, protocol_id).thinking(n_think)
    if name not in names():
        raise ValueError(not_known("evaluation", name, sorted(names())))
    protocols = protocols_of(name)
    if protocol_id is None:
        return protocols[0]
    written, of_judge, judge = protocol_id.partition("@")
    if of_judge and any(p.asked for p in protocols):
        return protocol(name, written).judged_by(judge)
    written, cut, tokens = protocol_id.partition("~w")
    if cut and tokens.isdigit() and int(tokens):
        return protocol(name, written).cut(int(tokens))
    if drawn := re.fullmatch(r"(.+)~T(\d+\.?\d*)", protocol_id):
        return protocol(name, drawn[1]).drawn_at(float(drawn[2]))
    bare, mark, budget = protocol_id.partition("~t")
    chosen = next((p for p in protocols if p.id == bare), None) or _resolved(name, bare)
    if chosen is None or (mark and not budget.isdigit()):
        raise ValueError(f"{name} has no protocol {protocol_id!r}; there are {', '.join(p.id for p in protocols)}")
    return chosen.thinking(int(budget)) if budget else chosen


def _resolved(name: str, protocol_id: str) -> Protocol | None:
    """The protocol of an id that its file does not list but makes, of a value class or of tasks."""
    resolve = getattr(_module(name), "resolve", None) if name in NAMES else None
    return resolve(protocol_id) if resolve else None


@dataclass(frozen=True)
class Evaluation:
    """One evaluation as a person asks for it, in values that JSON holds."""

    name: str
    protocol: str | None = None
    """The id; the first that the evaluation's file lists when not given."""
    n_think: int | None = None
    data: str | None = None
    limit: int | None = None
    judge: str | None = None
    """Who judges written answers, instead of the rules that come near."""

    def __post_init__(self):
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit must be at least 1, got {self.limit}")

    @property
    def chosen(self) -> Protocol:
        """The protocol these name together."""
        chosen = protocol(self.name, self.protocol, self.n_think)
        return chosen if self.judge is None else chosen.judged_by(self.judge)

    def of_first(self, units: int | None) -> "Evaluation":
        """The same about its first units, where it can be asked about part of them."""
        if not units or "limit" not in self.chosen.takes:
            return self
        return replace(self, limit=min(units, self.limit or units))

    def questions(self, base: Base, pairs: RunPairs | None = None) -> Questions:
        """What it asks of a base; `pairs` are those of a run, for an evaluation that asks its test questions."""
        return questions_of(self.chosen, base, data=self.data, limit=self.limit, pairs=pairs)


def evaluation(
    name: str,
    protocol_id: str | None = None,
    *,
    n_think: int | None = None,
    data: str | None = None,
    limit: int | None = None,
    tasks: Sequence[str] = (),
    include_path: str | None = None,
    judge: str | None = None,
) -> Evaluation:
    """One evaluation from the options of a person; those that would do nothing are refused before any work.

    Tasks are named by the protocol's id, and the folder with their files is its data.
    """
    chosen = protocol(name, protocol_id)
    chosen.check(n_think=n_think, data=data, limit=limit, tasks=tuple(tasks) or None, include_path=include_path)
    refuse_unjudged(chosen, judge)
    chosen.read(data or include_path)  # a file that cannot be asked is refused here, before a model is loaded
    if chosen.needs == "tasks" and not tasks and protocol_id is None:
        raise ValueError(f"{name} needs `tasks`, e.g. `tasks=arc_easy,winogrande`")
    if tasks:
        if protocol_id is not None:
            raise ValueError("give `tasks` or `protocol`, not both")
        chosen = protocol(name, f"{name}/{','.join(tasks)}")
    return Evaluation(name, chosen.id, n_think, data or include_path, limit, judge)


def refuse_unjudged(chosen: Protocol, judge: str | None) -> None:
    """Refuse a judge where there is nothing to judge, and none where no rule decides."""
    if judge is not None:
        if not chosen.asked:
            raise ValueError(f"`judge` does nothing for {chosen.eval}, which judges no written answers; leave it out")
        chosen.judged_by(judge)
    elif rubrics := needs_judge(chosen.asked):
        raise ValueError(
            f"{chosen.id} asks for {', '.join(rubrics)}, which no rule decides; name a judge: `judge=URL#MODEL`, or a model"
        )


def providing(metric: str) -> str | None:
    """The evaluation that measures a metric which a behavior claims to move, or None; `replicate` runs these by itself."""
    return next((name for name, protocols in _usable().items() if metric in protocols[0].claims), None)


def tables(rows: "pd.DataFrame") -> list[Json]:
    """The table of every protocol among the rows: one record per metric and alpha."""
    return [
        record
        for (name, protocol_id), part in rows.groupby(["eval", "protocol"])
        for record in summarize(recorded(str(name), str(protocol_id)), part)
    ]


def shown(rows: Sequence[Mapping[str, Any]], intent: Mapping[str, int]) -> list[Mapping[str, Any]]:
    """The records of a table that a terminal shows, given the metrics a behavior makes a claim about.

    A metric that is another one on this data, number for number, is shown once.
    """
    metric_of: dict[tuple, str] = {}
    records = []
    for row in rows:
        choose = recorded(row["eval"], row["protocol"]).shown
        numbers = tuple(row[k] for k in ("eval", "protocol", "alpha", "mean", "ci_lo", "ci_hi", "n_total"))
        same = row["alpha"] != 0 and metric_of.setdefault(numbers, row["metric"]) != row["metric"]
        if not same and (choose is None or row["metric"] in choose(intent)):
            records.append(row)
    steered = {r["metric"] for r in records if r["alpha"] != 0} or {r["metric"] for r in records}
    return [r for r in records if r["metric"] in steered]


def recorded(name: str, protocol_id: str) -> Protocol:
    """The protocol that stands in a row, also with another budget of thought, also of a harness's task."""
    try:
        return protocol(name, protocol_id)
    except ValueError:
        if name not in names():
            raise ValueError(
                f"rows of the evaluation {name!r} need the distribution that brings it; install that, or move its rows away"
            ) from None
        raise ValueError(
            f"rows of the protocol {protocol_id!r} were written by another version; run the evaluation again"
        ) from None
