"""The whole story as one function: data -> train -> diff -> eval -> table, and a look at the dial itself.

It adds nothing of its own: every step is a verb that can be called alone, and every result lies where that verb would
have put it. It does not know how a terminal looks.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ws.eval import Evaluation, protocol, shown
from ws.eval.questions import RunPairs
from ws.eval.table import as_text
from ws.generate import SMALL
from ws.numbers import alpha_of, shortened
from ws.pairs import Pairs, caveats, counted
from ws.records import Record, canonical, write_json, write_text
from ws.replicate.band import make_band
from ws.replicate.samples import make_samples
from ws.replicate.subspace import Tables, make_subspace
from ws.results.dial import dial_picture
from ws.results.layouts.alphas import markdown
from ws.results.sentences import SMOKE, side_of
from ws.settings import at_least, refuse_outside
from ws.steer import distinct_strengths
from ws.study.asked import evaluations_named, usual
from ws.study.card import effects, note
from ws.study.evaluations import Subject, make_eval
from ws.study.plan import Plan
from ws.study.stages import make_direction, make_pairs, make_sides
from ws.types import Json

ALPHAS = (-1.0, -0.5, 0.0, 0.5, 1.0)
DRAWS = 9

Say = Callable[[str], None]


@dataclass(frozen=True)
class Ending:
    """How a replication ends."""

    samples: int = 3
    """Held-out questions that are answered at both ends of the dial and at 0; 0 leaves them out."""
    draws: int | None = None
    """Random directions of the same norm, a band behind the effect in the plot; when not given 9 for a model below 50 million parameters, else none."""
    subspace: bool | None = None
    """Where the direction lies in the singular spaces of the weights, a table at the end; when not given for a model below 50 million parameters. `--no-subspace` leaves it out."""

    def __post_init__(self):
        refuse_outside(self, samples=at_least(0), draws=at_least(0))

    def draws_on(self, plan: Plan) -> int:
        """How many random directions are measured on this model."""
        return self.draws if self.draws is not None else DRAWS if is_small(plan) else 0

    def subspace_on(self, plan: Plan) -> bool:
        """Whether the weights of this model are decomposed."""
        return self.subspace if self.subspace is not None else is_small(plan)


PLAIN = Ending(samples=0, draws=0, subspace=False)
"""Numbers alone, as a sweep wants them."""


def is_small(plan: Plan) -> bool:
    """Whether the model is so small that random directions cost little beside the study."""
    return plan.base.n_parameters < SMALL


@dataclass(frozen=True, eq=False)
class Story:
    """What a replication found, and where everything lies."""

    plan: Plan
    rows: list[Json]
    headline: list[Json]
    """The rows of the metrics that the behavior makes a claim about, and of held-out pairs."""
    seconds: dict[str, float]
    direction: Json
    training: Json
    """Learning rate, best step, and how many pairs were trained on and held out."""
    pairs: Pairs
    samples: list[Json]
    """Questions that training never saw, with an answer, and a thought where there is one, at both ends of the dial and at 0."""
    random: list[Json]
    """The changes that random directions of the same norm make, by metric."""
    subspace: list[Json]
    """Where the direction lies in the singular spaces of the weights, by kind of matrix."""
    evals: list[Path]
    """Where the rows of each evaluation lie."""
    smoke: bool
    """Whether only some units were scored."""
    plot: Path
    table: Path
    """The numbers of every metric, as Markdown."""
    folder: Path
    data_folder: Path

    def __repr__(self) -> str:
        name = f"{self.plan.name}: {self.plan.train.adapter} on {self.plan.base.id}, seed {self.plan.seed}"
        lines = [f"{name}, in {self.folder}"]
        for sample in self.samples:
            lines.append(f"“{sample['question']}”")
            lines += [f"  {alpha_of(a['alpha']):>4}  {shortened(a['text'], 100)}" for a in sample["answers"]]
        return "\n".join([*lines, as_text(self.headline)])

    def as_json(self) -> Json:
        """The story as one object: absolute paths, NaN as None."""
        return {
            "model": self.plan.base.id,
            "behavior": self.plan.name,
            "adapter": self.plan.train.adapter,
            "seed": self.plan.seed,
            "run": str(self.folder.resolve()),
            "data": str(self.data_folder.resolve()),
            "plot": str(self.plot.resolve()),
            "table": str(self.table.resolve()),
            "rows": self.rows,
            "smoke": self.smoke,
            "seconds": self.seconds,
            "direction": self.direction,
            "training": self.training,
            "samples": self.samples,
            "random": self.random,
            "subspace": self.subspace,
            "evals": [str(p.resolve()) for p in self.evals],
        }


def steering(alphas: Sequence[float]) -> Sequence[float]:
    """Strengths by which a study can be told from its base; refused before any work where there is none."""
    if not any(alphas):
        raise ValueError("`alphas` must hold a strength other than 0, e.g. `alphas=-1,0,1`")
    return distinct_strengths(alphas)


def replicate(
    plan: Plan,
    *,
    alphas: Sequence[float] = ALPHAS,
    evals: Sequence[Evaluation] = (),
    strength: Mapping[str, Any] | None = None,
    ending: Ending = PLAIN,
    tables: Tables | None = None,
    say: Say = lambda line: None,
) -> Story:
    """Run a study from its questions to its table; what is done already is reused, and said.

    `strength` says where the alphas come from, where they were calibrated. `tables` makes the table of singular spaces.
    """
    steering(alphas)
    evals = evals or evaluations_named(plan.behavior, usual(plan.behavior))
    # what cannot be asked is told before an hour of training; a run's own questions come with its pairs
    shared = {e: e.questions(plan.base) for e in evals if not e.chosen.of_run}
    for questions in shared.values() if plan.train_place.manifest is None else ():
        questions.check()
    seconds: dict[str, float] = {}

    def timed(stage: str, make: Callable[[], tuple[Any, Record]]) -> tuple[Any, Record]:
        start = time.perf_counter()
        result, record = make()
        seconds[stage] = round(time.perf_counter() - start, 3)
        say(f"{stage:<18} {'reused' if record.reused else f'{seconds[stage]:.1f} s':>8}  {record.folder}")
        return result, record

    # 1. the same questions, answered by two personas
    pairs, pairs_record = timed("data", lambda: make_pairs(plan))
    say_of_pairs(pairs, say)
    # 2. two adapters from one shared start
    sides, sides_record = timed("train", lambda: make_sides(plan, pairs))
    # 3. their exact difference
    direction, direction_record = timed("diff", lambda: make_direction(plan, sides))
    # 4. what it does, on questions training never saw
    rows: list[Json] = []
    measured: list[Path] = []
    subject = Subject(
        plan.base,
        direction,
        plan.run_folder,
        f"ws:{plan.train.adapter}",
        plan.seed,
        pairs=RunPairs(pairs, plan.train),
    )
    for evaluation in evals:
        how: Json = {"alphas": alphas, "strength": strength, "questions": shared.get(evaluation)}
        measure = partial(make_eval, subject, evaluation, **how, out=plan.out)
        table, record = timed(f"eval {evaluation.name}", measure)
        rows += table
        measured.append(record.folder)
    # 5. the dial itself: the same questions along it, and how far chance goes
    samples: list[Json] = []
    random: list[Json] = []
    if ending.samples:
        samples, _ = timed("samples", lambda: make_samples(plan, direction, alphas, ending.samples))
    if draws := ending.draws_on(plan):
        telling = {r["eval"] for r in rows if is_headline(plan, r["metric"])}
        claimed = [e for e in evals if e.name in telling]
        random, _ = timed("random", lambda: make_band(subject, claimed, alphas, draws, plan.out))
    # 6. where it lies in the weights
    subspace: list[Json] = []
    if tables is not None and ending.subspace_on(plan):
        subspace, _ = timed("subspace", lambda: make_subspace(subject, tables))
    # 7. the table, and a picture of it
    headline = [r for r in rows if is_headline(plan, r["metric"])] or rows
    limit = next((e.limit for e in evals if e.limit), None)
    artifact = partial(_artifact, plan.run_folder, alphas, limit)
    picture = {"rows": rows, "samples": samples, "random": random}
    plot = artifact("effect.png")
    if not (plot.is_file() and _before(artifact("replicate.json")) == json.loads(canonical(picture))):
        _draw(plan, headline, samples, random, plot, smoke=limit is not None)  # which takes a second
    page = artifact("table.md")
    numbers = markdown(shown(rows, plan.behavior.intent if plan.behavior else {}))
    write_text(page, f"{SMOKE}\n\n{numbers}" if limit else numbers)
    # 8. what the direction says of itself, wherever its file goes
    intent = plan.behavior.intent if plan.behavior else {}
    note(plan.run_folder, direction, plan.base, effects=[] if limit else effects(rows, intent), answers=samples)
    file = direction_record.folder / "direction.safetensors"
    story = Story(
        plan=plan,
        rows=rows,
        headline=headline,
        seconds=seconds,
        direction={
            "file": str(file.resolve()),
            "norm": direction_record.manifest["norm"],
            "cos_tau": sides_record.manifest["geometry"]["cos_tau"],
            "bytes": file.stat().st_size,
        },
        training={k: sides_record.manifest["report"][k] for k in ("lr", "step", "n_train", "n_val", "n_test")},
        pairs=pairs,
        samples=samples,
        random=random,
        subspace=subspace,
        evals=measured,
        smoke=limit is not None,
        plot=plot,
        table=page,
        folder=plan.run_folder,
        data_folder=pairs_record.folder,
    )
    write_json(artifact("replicate.json"), story.as_json())
    return story


def say_of_pairs(pairs: Pairs, say: Say) -> None:
    """Say how many pairs there are and what may keep a direction from being learnt, before anything is trained on them."""
    for line in [counted(pairs), *caveats(pairs)]:
        say(f"{'':<18} {line}")


def _artifact(folder: Path, alphas: Sequence[float], limit: int | None, name: str) -> Path:
    """A file of the story; those of a grid of strengths other than the usual one, or of some units alone, say so in their names."""
    grid = sorted({0.0, *map(float, alphas)})
    parts = [] if grid == sorted(ALPHAS) else list(map(alpha_of, grid))
    stem, _, kind = name.partition(".")
    return folder / f"{'_'.join([stem, *parts, *([f'limit{limit}'] if limit else [])])}.{kind}"


def _before(file: Path) -> Json | None:
    """What the last picture of this grid was made of, or None."""
    try:
        story = json.loads(file.read_text())
        return {k: story[k] for k in ("rows", "samples", "random")}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _draw(
    plan: Plan, headline: list[Json], samples: list[Json], random: list[Json], plot: Path, *, smoke: bool
) -> None:
    """The picture of a story."""
    intent = plan.behavior.intent if plan.behavior else {}
    dial_picture(
        headline,
        plot,
        title=f"{plan.name}: {plan.train.adapter} on {plan.base.id}, seed {plan.seed}{', SMOKE' if smoke else ''}",
        poles=plan.behavior.poles if plan.behavior else ("more like the pos answers", "more like the neg answers"),
        sides={r["metric"]: side_of(r["metric"], intent) for r in headline},
        meanings={r["metric"]: protocol(r["eval"], r["protocol"]).legend.get(r["metric"], "") for r in headline},
        random=random,
        samples=samples,
    )


def is_headline(plan: Plan, metric: str) -> bool:
    """Whether the behavior makes a claim about this metric."""
    intent = plan.behavior.intent if plan.behavior else {}
    return bool(intent.get(metric)) or metric == "logratio_pairs"
