"""Task fine-tunes of a recipe, made as `ws finetune` makes them: a data set of the paper, learnt by one adapter, is a direction."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ws.adapters import family
from ws.derived import derive
from ws.direction import Direction
from ws.models.load import Base
from ws.paper.domains import ANSWER, asked
from ws.paper.recipe import Job
from ws.sets import first_of, load_set
from ws.settings import coerced
from ws.study.task import TaskPlan, make_task, make_task_direction
from ws.train import TrainSettings
from ws.train.task import Example, Task, default_task
from ws.types import Fields


@dataclass(frozen=True)
class TaskData:
    """What a fine-tune learns: data sets of the paper by name, or NAME#SPLIT, one after another, and files in their place."""

    name: str
    sets: tuple[str, ...]

    def read(self, job: Job) -> Task:
        """Its rows, on `tiny` those of its twin; of each set as many where only so many are asked for."""
        parts = [_examples(name, job) for name in self.sets]
        if (most := job.request.task_rows) is not None:
            parts = [part[: most // len(parts) + (k < most % len(parts))] for k, part in enumerate(parts)]
        rows = [example for part in parts for example in part]
        return Task(self.name, tuple(rows), ", ".join(self.sets))


def _examples(text: str, job: Job) -> list[Example]:
    name, _, split = text.partition("#")
    file = job.request.files.get(text)  # NAME alone may be the evaluation's questions, which nobody learns
    twin = job.base.tiny and file is None
    rows = load_set(name, split or None, file=file, opt_in=job.request.opt_in, twin=twin)
    return [Example(asked(rows, n, r), str(first_of(rows, n, r, ANSWER))) for n, r in enumerate(rows, 1)]


def tuned(
    job: Job, data: TaskData, options: Fields, *, seed: int = 0, joint: Task | None = None, times: int = 1
) -> Direction:
    """`theta_ft - theta` of a fine-tune, made once."""
    own = {**options, "seed": seed}
    usual = default_task(job.base, str(own.get("adapter", "lora")))
    of = family(usual.adapter)
    settings = replace(usual, **{k: v for k, v in coerced(TrainSettings, own).items() if not of.lacks(k)})
    plan = TaskPlan(job.base, data.read(job), settings, joint, times, out=Path(job.common.out))
    return make_task_direction(plan, make_task(plan)[0])[0]


def with_all(base: Base, directions: Sequence[tuple[str, Direction, float]]) -> Base:
    """The base with directions folded in: (name, direction, strength) one after another."""
    for name, direction, alpha in directions:
        base = derive(base, direction, alpha, name=name)
    return base
