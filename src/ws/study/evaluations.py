"""Evaluations with a memory: each is made once, found again by its key, and its table comes from its rows.

    subject = Subject(base, direction, run_folder, "ws:lora")
    table, record = make_eval(subject, Evaluation("dilemmas"), alphas=(-1, 0, 1), out=Path("out"))

Nothing here knows one evaluation from another: what sets it apart stands in its protocol.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ws.direction import Direction
from ws.eval import Evaluation, tables
from ws.eval.questions import Questions, RunPairs, SharedQuestions
from ws.methods import Method, as_method, with_origin
from ws.models.load import Base
from ws.pairs import marks_in
from ws.records import Place, Record, refuse_damaged, slug
from ws.study.keys import base_key, beside
from ws.types import Json

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Subject:
    """What is measured: a base and what steers it or nothing, what rows call that, and the folder for its evaluations."""

    base: Base
    by: Direction | Method | None
    folder: Path
    method: str = "base"
    seed: int = 0
    origin: Base | None = None
    """The base a direction was made on, where the model is a fine-tune of that."""
    pairs: RunPairs | None = None
    """The pairs of its run, for evaluations that ask its test questions."""

    @property
    def steering(self) -> Method | None:
        """What steers, as the method it is; of a direction on a fine-tune, with the base it was made on."""
        if self.by is None:
            return None
        return as_method(self.by) if self.origin is None else with_origin(as_method(self.by), self.origin)


def name_and_seed(by: Direction | Method) -> tuple[str, int]:
    """What rows call that which steers, and the seed it was made with, as far as it says."""
    if isinstance(by, Method):
        return by.name, int(by.provenance.get("seed", 0))
    seed = by.provenance.get("training", {}).get("settings", {}).get("seed", 0)
    return f"ws:{by.provenance.get('adapter', 'direction')}", int(seed)


def eval_place(
    subject: Subject,
    evaluation: Evaluation,
    alphas: Sequence[float],
    strength: Mapping[str, Any] | None = None,
    *,
    questions: Questions | None = None,
) -> Place:
    """Where one evaluation of a subject lies, done or not."""
    base, by, origin = subject.base, subject.steering, subject.origin
    questions = questions or evaluation.questions(base, subject.pairs)
    settings = {
        "protocol": questions.protocol.id,
        "alphas": sorted({0.0, *map(float, alphas)}),
        "limit": evaluation.limit,
        "method": subject.method,
        "seed": subject.seed,
        **({} if strength is None else {"strength": dict(strength)}),
        **questions.settings,
    }
    inputs = {
        **base_key(base),
        "direction": None if subject.by is None else subject.by.content_hash,
        **({} if origin is None else {"origin": {"weights": origin.weights_hash, "dtype": str(origin.dtype)}}),
        # of an anchor, only the last token was once steered
        **({} if by is None or by.per_token else {"answers": "from the prompt's last token on"}),
        **questions.inputs,
    }
    return Place.below(subject.folder / "eval" / evaluation.name, "eval", settings, inputs)


def make_eval(
    subject: Subject,
    evaluation: Evaluation,
    *,
    alphas: Sequence[float],
    strength: Mapping[str, Any] | None = None,
    questions: Questions | None = None,
    out: Path | None = None,
) -> tuple[list[Json], Record]:
    """The table and the record of one evaluation over a grid of alphas, made once.

    Below `out` the unsteered arm is kept once per base, protocol and questions, and reused for every method.
    `strength` says where the alphas come from, such as a calibration's two sides; a table reads its KL from there.
    """
    import pandas as pd

    by = subject.steering
    if by is not None:
        by.check_strengths(alphas)
    questions = questions or evaluation.questions(subject.base, subject.pairs)

    def make(work: Path) -> Json:
        unsteered = None if out is None else unsteered_of(questions, out, subject.seed)
        result = questions.run(by, alphas=alphas, method=subject.method, seed=subject.seed, unsteered=unsteered)
        pd.DataFrame(list(result.items)).to_parquet(work / "items.parquet", index=False)
        result.rows.to_parquet(work / "rows.parquet", index=False)
        return {"note": dict(result.note), "table": tables(result.rows), "used": used_for(subject.by, strength)}

    place = eval_place(subject, evaluation, alphas, strength, questions=questions)
    record = place.once(make, beside=beside(subject.base, subject.by))
    return tables(rows_in(record)), record


def unsteered_of(questions: Questions, out: Path, seed: int) -> Path | None:
    """The folder of the unsteered model's answers, made once; None where every study asks questions of its own."""
    return make_reference(questions, out, seed).folder if isinstance(questions, SharedQuestions) else None


def make_reference(questions: SharedQuestions, out: Path, seed: int = 0) -> Record:
    """The record of the unsteered model's answers, measured once per base and questions, whatever steers it later."""
    base = questions.base
    settings, inputs = questions.unsteered_key(seed)
    below = out / "base" / slug(base.id) / questions.protocol.eval
    place = Place.below(below, "reference", settings, {**base_key(base), **inputs})
    return place.once(lambda work: questions.keep_unsteered(work, seed), beside=beside(base))


def used_for(by: Direction | Method | None, strength: Mapping[str, Any] | None) -> dict[str, list[str] | None]:
    """The marks of the questions that a method was made from, None where it does not say, and that its strength was found on."""
    marks = frozenset[str]() if by is None else marks_in(by.provenance)
    return {
        "to make": None if marks is None else sorted(marks),
        "to calibrate": list((strength or {}).get("questions", ())),
    }


def rows_in(record: Record) -> "pd.DataFrame":
    """The scored rows of a finished evaluation, which must be what was written there."""
    import pandas as pd

    refuse_damaged(record.folder, record.manifest)
    return pd.read_parquet(record.folder / "rows.parquet")
