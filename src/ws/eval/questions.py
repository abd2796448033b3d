"""What one evaluation asks of one base, and how that is measured.

Most protocols list items, which `ItemQuestions` scores one by one. A protocol that asks in another way names a class like
it as its `ask`: `pairs.py` scores the test pairs of a run, `lm_eval.py` lets lm-evaluation-harness ask.
"""

import hashlib
import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ws.errors import BadFile, ScoringImpossible, Unsupported
from ws.eval.judged import values_of
from ws.eval.protocol import COLUMNS, Items, Protocol
from ws.eval.scoring import Dial, Item, Score, prompts_of, proven, score, score_texts
from ws.eval.table import as_text, summarize
from ws.eval.thinking import score_thinking, thinker
from ws.eval.writing import score_writing
from ws.methods.method import Method
from ws.models.chat import Chat, thinks
from ws.models.load import Base
from ws.numbers import some
from ws.pairs import Pairs
from ws.records import canonical
from ws.train import TrainSettings
from ws.types import Json

if TYPE_CHECKING:
    import pandas as pd

SCORES = "scores.parquet"
NOT_KEPT = "(a harmful request, which is not kept)"
LOW_PMASS = 0.01  # of the likeliest token: the answers are beside the point
NAMED = 20  # rows that could not be scored are all counted, and so many are named


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


@dataclass(frozen=True, eq=False)
class RunPairs:
    """All pairs of a run, and the settings that say which of them nothing was learnt from."""

    pairs: Pairs
    settings: TrainSettings

    @property
    def test(self) -> Pairs:
        """The pairs whose questions nothing was learnt from or chosen on."""
        return self.pairs.of(self.settings.parts(self.pairs.topics).test)


class Questions(ABC):
    """What one evaluation asks of one base, known before anything is measured."""

    def __init__(self, protocol: Protocol, base: Base):
        self.protocol, self.base = protocol, base

    @property
    @abstractmethod
    def inputs(self) -> Mapping[str, Any]:
        """What of the questions decides a number: a part of the key of an evaluation."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """What else stands among the settings of an evaluation, and in its key."""
        return {}

    def check(self) -> None:  # noqa: B027  most can be asked of any model
        """Refuse questions that this model cannot be asked, before anything is trained for them."""

    @abstractmethod
    def run(
        self, by: Method | None, *, alphas: Sequence[float], method: str, seed: int, unsteered: Path | None
    ) -> Result:
        """The rows at every strength, and at 0; `unsteered` is the folder where those at 0 are kept already."""


class SharedQuestions(Questions):
    """Questions that are the same for every study, so that the model as it is answers them once for all."""

    @abstractmethod
    def unsteered_key(self, seed: int) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """(settings, inputs) that decide the unsteered arm."""

    @abstractmethod
    def keep_unsteered(self, folder: Path, seed: int) -> Mapping[str, Any]:
        """Measure the model as it is and write that into a folder; what the manifest should say of it."""


class ItemQuestions(SharedQuestions):
    """The items of a protocol, or those of its first `limit` units."""

    def __init__(self, protocol: Protocol, base: Base, items: Sequence[Item], limit: int | None = None):
        super().__init__(protocol, base)
        self.all = items if isinstance(items, Items) else Items(items)
        self.items = self.all.first(limit)

    @cached_property
    def inputs(self) -> Mapping[str, Any]:
        """The very questions, wherever they come from, so that a changed file is never taken for the old one."""
        return {"items": hash_of(self.all)}

    def check(self) -> None:
        """Refuse a thought of a model that has none, and questions whose answers its tokenizer has no tokens for."""
        _refuse_thought(self.base, self.protocol)
        first = self.items[0]
        if first.words[0] and not self.protocol.n_write:
            prompts_of(self.base, [first])

    def unsteered_key(self, seed: int) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """Scores without a dial have no seed."""
        asked = self.protocol.id.partition("@")[0]  # what is written does not depend on who judges it
        settings = {"protocol": asked, "n_think": self.protocol.n_think, "cot": self.protocol.cot}
        return settings, {"items": hash_of(self.items)}

    def keep_unsteered(self, folder: Path, seed: int) -> Mapping[str, Any]:
        """A score for every item."""
        import pandas as pd

        scores = [s for (s,) in measure(self.base, self.protocol, self.items, alphas=[0.0])]
        records = [{"row_key": i.row_key, **asdict(s)} for i, s in zip(self.items, scores)]
        pd.DataFrame(records).to_parquet(folder / SCORES, index=False)
        return {"n_items": len(self.items)}

    def unsteered(self, folder: Path) -> list[Score]:
        """The scores that are kept in a folder, in the order of the items."""
        import pandas as pd

        scores = pd.read_parquet(folder / SCORES)
        if scores["row_key"].tolist() != [i.row_key for i in self.items]:
            raise BadFile(f"{folder / SCORES} is not what was written there; move the folder away and run again.")
        return [Score(**row) for row in scores.drop(columns="row_key").to_dict("records")]

    def run(
        self, by: Method | None, *, alphas: Sequence[float], method: str, seed: int, unsteered: Path | None
    ) -> Result:
        """Every item scored at every strength, the way its protocol asks."""
        reference = None if unsteered is None else self.unsteered(unsteered)
        return score_protocol(
            self.base,
            self.protocol,
            alphas=alphas,
            by=by,
            method=method,
            seed=seed,
            items=self.items,
            reference=reference,
        )


def questions_of(
    protocol: Protocol, base: Base, *, data: str | None = None, limit: int | None = None, pairs: RunPairs | None = None
) -> Questions:
    """What a protocol asks of a base; `data` and `limit` are refused where they would do nothing."""
    protocol.check(data=data, limit=limit)
    if protocol.ask is not None:
        return protocol.ask(protocol, base, data, limit, pairs)
    return ItemQuestions(protocol, base, items_of(protocol, base, data=data), limit)


def items_of(protocol: Protocol, base: Base, *, data: str | None = None, limit: int | None = None) -> Items:
    """The items of a protocol, or of its first `limit` units."""
    listed = protocol.items(base, data)
    items = listed if isinstance(listed, Items) else Items(listed)
    items.refuse_none(protocol.id, data)
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


def _refuse_thought(base: Base, protocol: Protocol) -> None:
    if protocol.n_think and protocol.cot == "think" and not thinks(base.tokenizer):
        instead = f"use {protocol.plain}, whose thought is plain text" if protocol.plain else "ask it without a thought"
        raise ScoringImpossible(
            f"{protocol.id} has the model think between thought tokens, and this one has none; {instead}."
        )


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
        _refuse_thought(base, protocol)
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


def hash_of(items: Sequence[Item]) -> str:
    """A hash of questions, as they are asked."""
    # vars, because asdict copies every text; what `Item` holds is text, numbers and one chat
    return hashlib.sha256(canonical([{**vars(i), "chat": vars(i.chat)} for i in items]).encode()).hexdigest()


def plain_dial(base: Base, by: Method | None, name: str, *, marks_answers: bool = True) -> Dial | None:
    """The dial of an evaluation that asks in its own words, and may not say where an answer starts.

    A method that changes what is asked, or that acts on answers alone, is refused where it could do nothing.
    """
    if by is None:
        return None
    plain = Chat("Hello?")
    if by.chats(plain, 1.0) != (plain,):
        raise Unsupported(f"{by.name} changes what the model is asked, and {name} asks in its own words. Leave it out.")
    if not by.per_token and not marks_answers:
        raise Unsupported(
            f"{by.name} acts on answers and not on prompts, and {name} does not say where an answer starts. Leave it out."
        )
    return partial(by.at, base)
