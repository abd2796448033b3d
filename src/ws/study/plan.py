"""A study: a base, a behavior, how its pairs and adapters are made, and where each of its stages lies."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ws.behaviors import Behavior
from ws.data import GIVEN_PROTOCOL, GIVEN_SETTINGS, IN_NO_KEY, DataSettings, topics_of
from ws.data import PROTOCOL as DATA_PROTOCOL
from ws.endpoint import Endpoint
from ws.judge import PairJudge
from ws.models.load import Base
from ws.pairs import file_mark, load_pairs, normal_form
from ws.records import Place, key_of, slug
from ws.study.keys import base_key
from ws.train import PROTOCOL as TRAIN_PROTOCOL
from ws.train import TrainSettings
from ws.train.sequences import Parts
from ws.types import Json


@dataclass(frozen=True, eq=False)
class Plan:
    """One study: a base, a behavior, and how its pairs and adapters are made."""

    base: Base
    behavior: Behavior | None
    data: DataSettings
    train: TrainSettings
    out: Path = Path("out")
    pairs_file: Path | None = None
    """The user's own pairs; then nothing is generated and `behavior` may be None."""
    mode: str = "contrastive"
    name: str = field(default="")
    endpoint: Endpoint | None = None
    """A server that answers in the base's place."""
    judge: PairJudge | None = None
    """Who keeps pairs and drops others, by the behavior's pos pole."""
    labels: int | None = None
    """A draw: the sides of every pair are swapped or not by its coin, and what is trained is a control."""

    def __post_init__(self):
        if self.behavior is None and self.pairs_file is None:
            raise ValueError("a study needs a behavior or a pairs file")
        if self.judge is not None and self.behavior is None:
            raise ValueError("`judge` measures by what a behavior's pos pole means; name the `behavior` of these pairs")
        if self.has_answers and self.endpoint is not None:
            raise ValueError(f"the answers of {self.name or 'this study'} are there already; leave out `generate_with`")
        if not self.name:
            assert self.behavior is not None or self.pairs_file is not None
            object.__setattr__(self, "name", self.behavior.name if self.behavior else slug(self.pairs_file.stem))  # type: ignore[union-attr]

    @property
    def has_answers(self) -> bool:
        """Whether the answers are there already: in a file of pairs, or in the behavior's data set."""
        return self.pairs_file is not None or (self.behavior is not None and self.behavior.answers is not None)

    @property
    def seed(self) -> int:
        """The seed of initialisation and order."""
        return self.train.seed

    @property
    def run_folder(self) -> Path:
        """Where this study's training, directions and evaluations lie."""
        return self.train_place.folder.parent

    @cached_property
    def data_place(self) -> Place:
        """Where the pairs lie."""
        below = self.out / "data" / slug(self.base.id) / self.name
        return Place.below(below, "data", self.data_settings, self.data_inputs)

    @cached_property
    def train_place(self) -> Place:
        """Where both trained sides lie, in the run's folder."""
        inputs = {**base_key(self.base), "pairs": self.data_place.key, "protocol": TRAIN_PROTOCOL}
        if self.labels is not None:
            inputs["labels"] = self.labels
        return training_place(self.out, self.name, self.base.id, asdict(self.train), inputs)

    @cached_property
    def direction_place(self) -> Place:
        """Where the direction lies, in the run's folder."""
        name = "direction" if self.mode == "contrastive" else f"direction-{self.mode}"
        inputs = {"train": self.train_place.key, **base_key(self.base)}
        return Place("direction", self.run_folder / name, {"mode": self.mode}, inputs)

    @cached_property
    def data_inputs(self) -> Json:
        """All that decides the pairs besides their settings."""
        if self.judge is None:
            return self._answers_inputs
        return {**self._answers_inputs, "judge": {**self.judge.described(), "standard": self.standard}}

    @property
    def standard(self) -> str:
        """What a judge of the pairs measures by."""
        assert self.behavior is not None
        return self.behavior.pos_means

    @property
    def _answers_inputs(self) -> Json:
        """All that decides the answers."""
        checked_by = {"tokenizer": self.base.tokenizer_hash, "protocol": GIVEN_PROTOCOL}
        if self.pairs_file is not None:
            return {"files": [file_mark(self.pairs_file)], **checked_by}
        assert self.behavior is not None
        if self.behavior.answers is not None:
            return {"behavior": self.behavior.content_hash, **checked_by}
        questions = {"behavior": self.behavior.content_hash, "protocol": DATA_PROTOCOL}
        if self.endpoint is not None:  # not the base's own samples; tokenizer and context had a part in them
            part = {k: v for k, v in base_key(self.base).items() if k in ("fingerprint", "config", "tokenizer")}
            return {**part, **questions, "endpoint": self.endpoint.described()}
        return {**base_key(self.base), **questions}

    @property
    def data_settings(self) -> Json:
        """The settings the pairs are keyed by; where the answers are there already, only those that still matter."""
        if self.pairs_file is not None:
            return {"min_distinct": self.data.min_distinct}
        matter = {k: v for k, v in asdict(self.data).items() if k not in IN_NO_KEY}
        return {k: v for k, v in matter.items() if not self.has_answers or k in GIVEN_SETTINGS}

    @cached_property
    def questions(self) -> dict[int, list[str]]:
        """The wordings of every question, by its number; they are there before any answer is."""
        if self.pairs_file is not None:
            rows = load_pairs(self.pairs_file, self.name).rows
        else:
            assert self.behavior is not None
            topics = topics_of(self.behavior, self.data)
            if self.behavior.answers is None:
                return {i: [p.text] for i, p in enumerate(topics)}
            chosen = {normal_form(p.text) for p in topics}
            rows = tuple(r for r in self.behavior.answers.rows if normal_form(r.prompt) in chosen)
        questions: dict[int, list[str]] = {}
        for row in rows:
            wordings = questions.setdefault(row.topic_idx, [])
            wordings += [row.prompt] if row.prompt not in wordings else []
        return questions

    @cached_property
    def parts(self) -> Parts:
        """The numbers of the questions that are learnt from, chosen on, and reported, whatever method learns."""
        return self.train.parts(self.questions)


def training_place(
    out: Path, behavior: str, model: str, settings: Mapping[str, Any], inputs: Mapping[str, Any]
) -> Place:
    """Where both sides of a training lie, by what it was made from.

    A control lies one level deeper than runs are looked for, for it is none: `labels` among its inputs says by which draw
    the sides of its pairs were swapped, `twin` from which start its pairs were trained on a second time.
    """
    adapter = settings["adapter"]
    below = out / behavior / adapter
    if "labels" in inputs:
        below = out / behavior / "controls" / slug(f"random:labels:{inputs['labels']}:{adapter}")
    if "twin" in inputs:
        below = out / behavior / "controls" / slug(f"twin:{inputs['twin']}:{adapter}")
    run = f"{slug(model)}-s{settings['seed']}-{key_of('train', settings, inputs)[:8]}"
    return Place("train", below / run / "train", settings, inputs)
