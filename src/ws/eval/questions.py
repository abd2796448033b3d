"""What one evaluation asks of one base, and how that is measured.

Most protocols list items, which `ItemQuestions` scores one by one. A protocol that asks in another way names a class like
it as its `ask`: `pairs.py` scores the test pairs of a run, `lm_eval.py` lets lm-evaluation-harness ask.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from ws.errors import BadFile, Unsupported
from ws.eval.protocol import Items, Protocol, Result, items_of, measure, score_protocol
from ws.eval.scoring import Dial, Item, Score, prompts_of
from ws.methods.method import Method
from ws.models.chat import Chat
from ws.models.load import Base
from ws.pairs import Pairs
from ws.records import canonical
from ws.train import TrainSettings

SCORES = "scores.parquet"


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
        """Refuse questions whose answers this model's tokenizer has no tokens for."""
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
