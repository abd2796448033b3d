"""What an evaluation is: items to score, and metrics made from the scored rows.

Rows are the truth. Every table is computed again from them, joined by key and never by order. A metric is a number of
rows per strength (a `Sample`, see `ws.stats`): a mean over rows, or over what is put `together` of them, whose interval
resamples units. Rows that one strength lacks count as not scored there.

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

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from ws.errors import ScoringImpossible
from ws.eval.judged import Asked, short, values_of
from ws.eval.scoring import Dial, Item, Score, proven, score, score_texts
from ws.eval.thinking import score_thinking, thinker
from ws.eval.writing import score_writing
from ws.judge import Rule
from ws.methods.method import Method
from ws.models.chat import thinks
from ws.models.load import Base
from ws.numbers import alpha_of, between, digits_for, signed, some
from ws.sources import records as table_in
from ws.stats import FEW_UNITS, Estimate, Means, Sample, change, estimate, means
from ws.types import Json

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
    ):
        super().__init__(items)
        self.source = source
        self.left_out = {why: list(rows) for why, rows in (left_out or {}).items() if rows}
        """Reason to the names of the rows left out for it."""
        self.complete = complete
        """Units below which this is a smoke run: nothing to be put in a table of results."""
        self.facts = dict(facts or {})
        """What else a reader should know of the items, such as how many of each label there are."""

    @property
    def units(self) -> list[str]:
        """What was sampled, in order."""
        return list(dict.fromkeys(i.unit_id for i in self))

    @property
    def smoke(self) -> bool:
        """Too few to say anything."""
        return len(self.units) < self.complete

    def first(self, limit: int | None) -> "Items":
        """Those of the first `limit` units; all of them without one."""
        if limit is None:
            return self
        units = set(self.units[:limit])
        return Items(
            [i for i in self if i.unit_id in units],
            source=self.source,
            left_out=self.left_out,
            complete=max(self.complete, len(self.units)),
            facts={k: v for k, v in self.facts.items() if k != "labels"},  # those were counted over all units
        )


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

    def judged_by(self, judge: str) -> "Protocol":
        """The same questions with another judge of their answers: another protocol, so another id."""
        if all(isinstance(asks, Rule) and asks.exact for asks in self.asked.values()):
            raise ValueError(f"`judge` does nothing for {self.id}, where exact rules decide; leave it out")
        return replace(self, judge=judge, id=f"{self.id.partition('@')[0]}@{short(judge)}")

    def most_tokens(self, base: Base) -> int:
        """Tokens of an answer of the model's own, at most; judged ones of `tiny` are cut earlier, where they only loop."""
        return min(self.n_write, JUDGED_TINY) if self.asked and base.tiny else self.n_write

    def cut(self, tokens: int) -> "Protocol":
        """The same questions with answers of at most so many tokens: another protocol, so another id."""
        if not self.n_write:
            raise ValueError(f"{self.id} writes no answers, so there are none to cut")
        if tokens >= self.n_write:
            return self
        written, of_judge, judge = self.id.partition("@")
        return replace(self, n_write=tokens, id=f"{written.partition('~w')[0]}~w{tokens}{of_judge}{judge}")

    def thinking(self, n_think: int) -> "Protocol":
        """The same questions with another budget of thought: another protocol, so another id."""
        self.check(n_think=n_think)
        if n_think < 0:
            raise ValueError(f"n_think must be 0 or more, got {n_think}")
        same = n_think == self.n_think
        return self if same else replace(self, n_think=n_think, id=f"{self.id.partition('~t')[0]}~t{n_think}")


@dataclass(frozen=True, eq=False)
class Result:
    """Scored rows with the protocol they follow."""

    protocol: Protocol
    rows: "pd.DataFrame"
    note: Mapping[str, Any]
    items: Sequence[Mapping[str, Any]] = ()
    """What the rows asked, by row key, for people."""

    def __repr__(self) -> str:
        return f"Result of {self.protocol.eval} ({self.protocol.id}), {some(len(self.rows), 'row')}\n{as_text(self.table())}"

    def table(self) -> list[Json]:
        """One record per metric and alpha: mean, interval, pmass, counts."""
        return summarize(self.protocol, self.rows)


def as_text(table: Sequence[Mapping[str, Any]]) -> str:
    """The records of a table as lines: a metric each, with its mean and interval at every strength."""
    lines: dict[str, list[str]] = {}
    for r in table:
        numbers = (r["mean"], r["ci_lo"], r["ci_hi"])
        n = digits_for(*numbers)
        number = f"{signed(r['mean'], n)} {between(r['ci_lo'], r['ci_hi'], n)} at {alpha_of(r['alpha'])}"
        lines.setdefault(f"{r['eval']} {r['metric']}", []).append(number)
    return "\n".join(f"{name}: {', '.join(parts)}" for name, parts in lines.items())


def items_of(protocol: Protocol, base: Base, *, data: str | None = None, limit: int | None = None) -> Items:
    """The items of a protocol, or of its first `limit` units."""
    listed = protocol.items(base, data)
    items = listed if isinstance(listed, Items) else Items(listed)
    if not items:
        why = "; ".join(f"{len(rows)} left out: {reason}" for reason, rows in items.left_out.items())
        raise ScoringImpossible(
            f"{protocol.id} has no rows to score{f' in {data}' if data else ''}{f' ({why})' if why else ''}."
        )
    twice = [key for key, n in Counter(i.row_key for i in items).items() if n > 1]
    if twice:  # rows are joined by key, so two of one key would be mixed up
        raise ScoringImpossible(
            f"{len(twice)} rows share a key with another, e.g. {twice[0]!r}: an id stands twice in {items.source or data}."
        )
    return items.first(limit)


def measure(
    base: Base,
    protocol: Protocol,
    items: Sequence[Item],
    *,
    alphas: Sequence[float],
    dial: Dial | None = None,
    by: Method | None = None,
    reference: Sequence[Score] | None = None,
) -> list[list[Score]]:
    """Scores of every item at every alpha, the way the protocol asks; steered by a method, or by a bare dial."""
    if by is not None:
        if dial is not None:
            raise ValueError("give a method or a dial, not both")
        return _measured_by(base, protocol, items, by, alphas, reference)
    return _measured(base, protocol, items, alphas, dial, reference)


def _measured_by(
    base: Base,
    protocol: Protocol,
    items: Sequence[Item],
    by: Method,
    alphas: Sequence[float],
    reference: Sequence[Score] | None,
) -> list[list[Score]]:
    """A method turns the dial, and may change what is asked: strengths that ask the same share their batches."""
    by.check_strengths(alphas)
    ways = {a: [by.chats(i.chat, a) for i in items] for a in dict.fromkeys(alphas)}
    same = [a for a, chats in ways.items() if chats == [(i.chat,) for i in items]]
    groups: list[tuple[list[float], Sequence[Item]]] = [(same, items)]
    for a, chats in ways.items():
        if a not in same:
            groups += [([a], [replace(i, chat=c) for i, c in zip(items, way)]) for way in zip(*chats, strict=True)]
    scored: dict[float, list[list[Score]]] = {a: [[] for _ in items] for a in ways}
    for strengths, questions in groups:
        zero = reference if 0.0 in strengths else None
        rows = _measured(base, protocol, questions, strengths, partial(by.at, base), zero)
        for i, row in enumerate(rows):
            for a, s in zip(strengths, row):
                scored[a][i].append(s)
    return [[averaged(scored[a][i]) for a in alphas] for i in range(len(items))]


def averaged(scores: Sequence[Score]) -> Score:
    """One score of a question that was asked in several ways: the mean of each number, and the first one's text."""
    if len(scores) == 1:
        return scores[0]

    def mean(name: str) -> float:
        return sum(getattr(s, name) for s in scores) / len(scores)

    return Score(
        mean("logratio"),
        mean("pmass"),
        mean("maxp"),
        forced_close=mean("forced_close") > 0.5,
        text=scores[0].text,
        n_thought=round(mean("n_thought")),
    )


def _measured(
    base: Base,
    protocol: Protocol,
    items: Sequence[Item],
    alphas: Sequence[float],
    dial: Dial | None,
    reference: Sequence[Score] | None,
) -> list[list[Score]]:
    if not alphas:
        return [[] for _ in items]
    if protocol.n_think:
        if items[0].texts or protocol.n_write:
            raise ValueError(f"{protocol.id} is about whole answers, which takes no thought; leave n_think at 0")
        if protocol.cot == "think" and not thinks(base.tokenizer):
            raise ScoringImpossible(
                f"{protocol.id} has the model think between thought tokens, and this one has none; use a protocol whose "
                "thought is plain text (dd-cot/plain1, airisk-truth/plain1, mfv-json/t64-plain)."
            )
        return score_thinking(
            base,
            items,
            n_think=protocol.n_think,
            cot=protocol.cot,
            alphas=alphas,
            dial=dial,
            label=protocol.eval,
            reference=reference,
        )
    if protocol.n_write:
        return score_writing(
            base,
            items,
            n_write=protocol.most_tokens(base),
            temperature=protocol.temperature,
            alphas=alphas,
            dial=dial,
            label=protocol.eval,
            reference=reference,
        )
    if items[0].texts:
        return score_texts(base, items, alphas=alphas, dial=dial, label=protocol.eval, reference=reference)
    return score(base, items, alphas=alphas, dial=dial, label=protocol.eval, reference=reference)


def score_protocol(
    base: Base,
    protocol: Protocol,
    *,
    alphas: Sequence[float] = (0.0,),
    dial: Dial | None = None,
    by: Method | None = None,
    method: str | None = None,
    seed: int = 0,
    data: str | None = None,
    limit: int | None = None,
    items: Sequence[Item] | None = None,
    reference: Sequence[Score] | None = None,
) -> Result:
    """Score a protocol at every alpha; `reference` holds the scores of its items at alpha 0 where they are known.

    Steered `by` a method, which may change what is asked, or by a bare `dial`. `method` is what the rows call it.
    """
    import pandas as pd

    items = items_of(protocol, base, data=data, limit=limit) if items is None else items
    alphas = sorted({0.0, *map(float, alphas)})  # 0 is the reference of every other strength
    method = method or (by.name if by else "base")
    scored = measure(base, protocol, items, alphas=alphas, dial=dial, by=by, reference=reference)
    worth = _worth(protocol, items, scored)
    unseen = () if base.tiny else protocol.unseen  # what the world of `tiny` forbids is harmless
    records = [
        {
            "eval": protocol.eval,
            "protocol": protocol.id,
            "metric": protocol.metric,
            "unit_id": item.unit_id,
            "row_key": item.row_key,
            "method": method,
            "alpha": alpha,
            "arm": "ref" if alpha == 0 else "pos" if alpha > 0 else "neg",
            "seed": seed,
            "y": y,
            "logratio": s.logratio,
            "pmass": s.pmass,
            "label": item.label,
            "forced_close": s.forced_close,
            "text": "" if item.kind in unseen else s.text,
            "kind": item.kind,
        }
        for item, per_alpha, values in zip(items, scored, worth)
        for alpha, s, y in zip(alphas, per_alpha, values)
    ]
    rows = pd.DataFrame.from_records(records, columns=list(COLUMNS))
    low = {
        f"{a:g}": sum(s[k].pmass < LOW_PMASS * s[k].maxp for s in scored) / len(scored) for k, a in enumerate(alphas)
    }
    return Result(
        protocol,
        rows,
        {
            **_answers_note(base, protocol, items[0]),
            **_items_note(items),
            **_gaps_note(protocol, rows),
            "low_pmass_share": low,
        },
        [i.described() | ({"prompt": NOT_KEPT} if i.kind in unseen else {}) for i in items],
    )


def _worth(protocol: Protocol, items: Sequence[Item], scored: Sequence[Sequence[Score]]) -> list[list[float]]:
    """`y` of every item at every strength: what an answer is worth, or the side that its words are on."""
    if protocol.asked:
        flat = iter(
            values_of(protocol.asked, protocol.judge, [(i, s.text) for i, row in zip(items, scored) for s in row])
        )
        return [[next(flat) for _ in row] for row in scored]
    return [
        [math.nan if s.pmass < protocol.gate else item.label * s.logratio for s in row]
        for item, row in zip(items, scored)
    ]


NOT_KEPT = "(a harmful request, which is not kept)"
LOW_PMASS = 0.01  # of the likeliest token: the answers are beside the point


def _items_note(items: Sequence[Item]) -> Json:
    """The number of items, where they come from, and what was left out."""
    all_items = items if isinstance(items, Items) else Items(items)
    left_out = {why: {"n": len(rows), "rows": rows[:NAMED]} for why, rows in all_items.left_out.items()}
    counts = {"n_items": len(all_items), "n_units": len(all_items.units), "smoke": all_items.smoke}
    return {**counts, "source": all_items.source, "left_out": left_out, **all_items.facts}


def _answers_note(base: Base, protocol: Protocol, item: Item) -> Json:
    """The anchor of the first item, and the tokens that count as its answers."""
    if item.texts or protocol.n_write:
        return {"anchor": item.anchor}
    tokens = thinker(base, item, protocol.cot).answers if protocol.n_think else proven(base, item)
    return {"answers": tokens.described(base.tokenizer), "anchor": item.anchor}


NAMED = 20  # rows that could not be scored are all counted, and so many are named


def _gaps_note(protocol: Protocol, rows: "pd.DataFrame") -> Json:
    """Rows without a score, counted and named, and how often a thought had to be closed; or why nothing was scored."""
    at_zero = rows[rows["alpha"] == 0]
    if protocol.gate and at_zero["y"].isna().all():
        raise ScoringImpossible(
            f"in all {len(at_zero)} rows of {protocol.id} the unsteered model puts less than {protocol.gate:g} of its "
            f"probability on the answers (median {at_zero['pmass'].median():.2g}): it does not answer in this form. "
            "Use another protocol or another model."
        )
    missing = rows[rows["y"].isna()]
    names = [f"{r.row_key} at alpha {r.alpha:g}" for r in missing.head(NAMED).itertuples()]
    facts: Json = {"unscored": {"n": len(missing), "of": len(rows), "rows": names}}
    if protocol.n_think:
        facts["forced_share"] = {f"{a:g}": float(s) for a, s in rows.groupby("alpha")["forced_close"].mean().items()}
    return facts


def summarize(protocol: Protocol, rows: "pd.DataFrame") -> list[Json]:
    """The table of a set of rows: one record per metric and alpha."""
    if len(ids := sorted(rows["protocol"].unique())) != 1:
        raise ValueError(f"rows of different protocols are not averaged: {ids}")
    method = ", ".join(sorted(rows["method"].unique()))
    pmass = rows.groupby("alpha")["pmass"].mean()
    table = []
    for metric, per_alpha in protocol.metrics(rows).items():
        low, high = min(per_alpha), max(per_alpha)
        ends = change(per_alpha[low], per_alpha[high]) if low < high else None
        zero = per_alpha.get(0.0)
        for alpha, sample in sorted(per_alpha.items()):
            e = estimate(sample)
            shift = change(zero, sample) if zero is not None and alpha else None
            table.append(
                {
                    "eval": protocol.eval,
                    "protocol": protocol.id,
                    "metric": metric,
                    "method": method,
                    "alpha": alpha,
                    **_numbers(e),
                    "sd": _spread(sample),
                    # against alpha 0, over the rows scored at both
                    "delta": None if shift is None else shift.mean,
                    "delta_lo": None if shift is None else shift.ci_lo,
                    "delta_hi": None if shift is None else shift.ci_hi,
                    "n_paired": None if shift is None else shift.n_valid,
                    "pmass": float(pmass.loc[alpha]),
                    "fewest": e.fewest,
                    "few_units": e.fewest < FEW_UNITS,
                    # from the lowest to the highest alpha, over the rows scored at both; the same in every row of a metric
                    "ends": None if ends is None else ends.mean,
                    "ends_lo": None if ends is None else ends.ci_lo,
                    "ends_hi": None if ends is None else ends.ci_hi,
                }
            )
    return table


def plain(name: str) -> Callable[["pd.DataFrame"], Metrics]:
    """Metrics of a protocol whose only number is the mean of `y`."""

    def metrics(rows: "pd.DataFrame") -> Metrics:
        return {name: by_alpha(rows)}

    return metrics


def by_alpha(
    rows: "pd.DataFrame", column: str = "y", *, key: str = "row_key", weight: str | None = None
) -> dict[float, Sample]:
    """The mean of one column at every strength, every row of one weight or of its own."""
    return {
        float(a): means(
            part[column].tolist(),
            units=part["unit_id"].tolist(),
            keys=part[key].tolist(),
            weights=None if weight is None else part[[weight]].to_numpy(float),
        )
        for a, part in rows.groupby("alpha")
    }


def together(rows: "pd.DataFrame", by: Sequence[str], column: str = "y") -> "pd.Series":
    """The mean of the rows that share `by`, at every strength; NaN unless all that belong there were scored.

    Which belong there is known from all strengths. A mean of some of them would not cancel what their balance cancels.
    """
    refuse_repeats(rows)
    groups = rows.groupby(["alpha", *by])[column].agg(["mean", "count"])
    size = rows.groupby(list(by))["row_key"].nunique()
    whole = groups["count"].to_numpy() == size.reindex(groups.index.droplevel("alpha")).to_numpy()
    return groups["mean"].where(whole).rename(column)


def refuse_repeats(rows: "pd.DataFrame") -> None:
    """Refuse rows of which one stands twice at a strength, as where two methods are read as one."""
    twice = rows.loc[rows.duplicated(["alpha", "row_key"]), "row_key"].unique().tolist()
    if twice:
        raise ValueError(
            f"{len(twice)} row keys occur twice at one strength, e.g. {twice[:3]}; give one method and one seed at a time"
        )


def _spread(sample: Sample) -> float | None:
    """The standard deviation over rows of a number that is their mean."""
    if sample.statistic != Means():
        return None
    rows = sample.features[sample.scored]
    return float((rows[:, 0] / rows[:, 1]).std(ddof=1)) if len(rows) > 1 else None


def _numbers(e: Estimate) -> Json:
    return {"mean": e.mean, "ci_lo": e.ci_lo, "ci_hi": e.ci_hi, "n": e.n, "n_valid": e.n_valid, "n_total": e.n_total}
