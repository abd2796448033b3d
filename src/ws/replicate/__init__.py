"""The whole story as one function: data -> train -> diff -> eval -> table.

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

from ws.eval import Evaluation, providing, shown
from ws.eval.protocol import as_text
from ws.eval.questions import RunPairs
from ws.pairs import Pairs, caveats, counted
from ws.records import Record, canonical, write_json, write_text
from ws.results.layouts.alphas import markdown
from ws.results.plots import effect_by_alpha
from ws.study.evaluations import Subject, make_eval
from ws.study.plan import Plan
from ws.study.stages import make_direction, make_pairs, make_sides
from ws.types import Json

ALPHAS = (-1.0, -0.5, 0.0, 0.5, 1.0)

Say = Callable[[str], None]


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
    evals: list[Path]
    """Where the rows of each evaluation lie."""
    plot: Path
    folder: Path
    data_folder: Path

    def __repr__(self) -> str:
        name = f"{self.plan.name}: {self.plan.train.adapter} on {self.plan.base.id}, seed {self.plan.seed}"
        return f"{name}, in {self.folder}\n{as_text(self.headline)}"

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
            "rows": self.rows,
            "seconds": self.seconds,
            "direction": self.direction,
            "training": self.training,
            "evals": [str(p.resolve()) for p in self.evals],
        }


def replicate(
    plan: Plan,
    *,
    alphas: Sequence[float] = ALPHAS,
    evals: Sequence[str] = (),
    protocols: dict[str, str] | None = None,
    strength: Mapping[str, Any] | None = None,
    say: Say = lambda line: None,
) -> Story:
    """Run a study from its questions to its table; what is done already is reused, and said.

    `strength` says where the alphas come from, where they were calibrated.
    """
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
    for name in evals or default_evals(plan):
        evaluation = Evaluation(name, (protocols or {}).get(name))
        measure = partial(make_eval, subject, evaluation, alphas=alphas, strength=strength, out=plan.out)
        table, record = timed(f"eval {name}", measure)
        rows += table
        measured.append(record.folder)
    # 5. the table, and a picture of it
    headline = [r for r in rows if is_headline(plan, r["metric"])] or rows
    plot = plan.run_folder / "effect.png"
    if not (plot.is_file() and _told_before(plan.run_folder) == json.loads(canonical(rows))):  # drawing takes a second
        effect_by_alpha(headline, f"{plan.name}, {plan.train.adapter} on {plan.base.id}, seed {plan.seed}", plot)
    write_text(plan.run_folder / "table.md", markdown(shown(rows, plan.behavior.intent if plan.behavior else {})))
    story = Story(
        plan=plan,
        rows=rows,
        headline=headline,
        seconds=seconds,
        direction={
            "file": str((direction_record.folder / "direction.safetensors").resolve()),
            "norm": direction_record.manifest["norm"],
            "cos_tau": sides_record.manifest["geometry"]["cos_tau"],
            "bytes": direction_record.manifest["bytes"],
        },
        training={k: sides_record.manifest["report"][k] for k in ("lr", "step", "n_train", "n_val", "n_test")},
        pairs=pairs,
        evals=measured,
        plot=plot,
        folder=plan.run_folder,
        data_folder=pairs_record.folder,
    )
    write_json(plan.run_folder / "replicate.json", story.as_json())
    return story


def say_of_pairs(pairs: Pairs, say: Say) -> None:
    """Say how many pairs there are and what may keep a direction from being learnt, before anything is trained on them."""
    for line in [counted(pairs), *caveats(pairs)]:
        say(f"{'':<18} {line}")


def _told_before(folder: Path) -> Any:
    """The rows that the study's last table and picture were made of, or None."""
    try:
        return json.loads((folder / "replicate.json").read_text())["rows"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def default_evals(plan: Plan) -> list[str]:
    """The evaluations that measure what the behavior claims to change, held-out pairs, and what steering costs."""
    metrics = [m for m, sign in (plan.behavior.intent if plan.behavior else {}).items() if sign]
    return [*dict.fromkeys([*(e for m in metrics if (e := providing(m))), "pairs", "perplexity"])]


def is_headline(plan: Plan, metric: str) -> bool:
    """Whether the behavior makes a claim about this metric."""
    intent = plan.behavior.intent if plan.behavior else {}
    return bool(intent.get(metric)) or metric == "logratio_pairs"
