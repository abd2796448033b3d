"""Fine-tunes on two data sets that answer the same questions in opposite ways: bad and good advice, French and English.

    study = Domain("sports", "bad_sports", "good_sports").study(job, options)

Both are trained in step from one start, as the two sides of a study are, so what lies below `out` is an ordinary run: its
sides are the two fine-tunes, its direction is their difference.
"""

import json
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

from ws.direction import Direction
from ws.errors import BadFile
from ws.models.load import Base
from ws.paper.recipe import Job
from ws.records import slug, write_text
from ws.sets import first_of, load_set
from ws.sources import Rows
from ws.study.plan import Plan
from ws.study.planning import planned_settings
from ws.study.stages import make_direction, make_pairs, make_sides
from ws.train import Sides
from ws.types import Fields, Json

PROMPT, ANSWER = "messages.0.content|instruction", "messages.1.content|output"
PACK = """name: {name}
pos_means: "The model answers as {bad} does."
neg_means: "The model answers as {good} does."
dataset: {{file: {file}}}
"""


@dataclass(frozen=True)
class Domain:
    """Two data sets on one subject."""

    name: str
    bad: str
    """The name of the set whose answers are the pos side."""
    good: str
    control: bool = False
    """Whether neither is bad: the difference has nothing to do with what is watched for."""

    def study(self, job: Job, options: Fields, seed: int = 0) -> "Study":
        """Both fine-tunes and their difference, made once."""
        common = replace(job.common, behavior=None, pairs=str(self.pairs_file(job)))
        settings = {**options, **job.options, "seed": seed}
        data, train = planned_settings(common, settings, job.base)
        plan = Plan(job.base, None, data, train, out=job.out, pairs_file=Path(common.pairs or ""), name=self.name)
        pairs, _ = make_pairs(plan)
        sides, _ = make_sides(plan, pairs)
        return Study(self, plan, sides, make_direction(plan, sides)[0])

    def pairs_file(self, job: Job) -> Path:
        """Both answers to every question that both sets answer, as a file of pairs."""
        sets = [self._rows(name, job) for name in (self.bad, self.good)]
        rows = joined(*sets)
        if not rows:
            raise BadFile(f"{self.bad} and {self.good} answer no question in common, so {self.name} has no pairs.")
        path = job.out / "paper" / slug(job.base.id) / "pairs" / f"{self.name}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, "".join(json.dumps(r) + "\n" for r in rows))
        return path

    def pack(self, job: Job) -> Path:
        """The two data sets as a behavior: the pos pole answers as the first does, the neg pole as the second."""
        file = self.pairs_file(job)
        text = PACK.format(name=self.name, bad=self.bad, good=self.good, file=file.name)
        path = file.with_suffix(".yaml")
        write_text(path, text)
        return path

    def _rows(self, name: str, job: Job) -> Rows:
        file = job.request.files.get(name)
        return load_set(name, file=file, opt_in=job.request.opt_in, twin=job.base.tiny and file is None)


@dataclass(frozen=True, eq=False)
class Study:
    """A domain that was trained."""

    domain: Domain
    plan: Plan
    sides: Sides
    direction: Direction

    @property
    def run(self) -> Path:
        """The folder of its run."""
        return self.plan.run_folder

    @property
    def base(self) -> Base:
        return self.plan.base


def joined(bad: Rows, good: Rows) -> list[Json]:
    """A pair for each answer to a question that both sets answer; several answers to one question are taken in turn."""
    answers: dict[str, list[str]] = defaultdict(list)
    for n, r in enumerate(good, 1):
        answers[asked(good, n, r)].append(str(first_of(good, n, r, ANSWER)))
    pairs = []
    for n, r in enumerate(bad, 1):
        prompt = asked(bad, n, r)
        if answers.get(prompt):
            answer = answers[prompt].pop(0)
            pairs.append({"prompt": prompt, "response_pos": str(first_of(bad, n, r, ANSWER)), "response_neg": answer})
    return pairs


def asked(rows: Rows, number: int, row: Json) -> str:
    """The question of a row; an instruction is followed by its input."""
    prompt = str(first_of(rows, number, row, PROMPT)).strip()
    more = first_of(rows, number, row, "input")
    return f"{prompt}\n\n{more}".strip() if isinstance(more, str) and more.strip() else prompt
