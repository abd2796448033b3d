"""Cells as tasks that need each other, and what a worker does for each of them.

What cells share (pairs, the unsteered model, two trained sides) is a task of its own, done once, and cells wait for it.
Each task does what a single verb would do, in the same place, so that a grid finds what was made by hand, and the other
way round. Which task runs where is the engine's business; whether a stage is done is known by its record alone.
"""

import json
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, replace
from pathlib import Path

from ws import progress
from ws.behaviors import SHIPPED
from ws.engine import Task, note
from ws.eval import Evaluation
from ws.eval.questions import SharedQuestions
from ws.grid.cells import Cell, cell_plan, make_cell, make_method, make_strength, matched
from ws.records import Record, canonical
from ws.replicate import replicate
from ws.settings import coerced
from ws.study.evaluations import make_reference
from ws.study.options import Common
from ws.study.stages import make_pairs, make_sides
from ws.study.worker import address_hidden, kept_base
from ws.types import Fields, Json

EVERY = 1.0
"""Seconds between two notes of how far a stage is."""
ORDER = ("pairs", "base", "sides", "cell")


def tasks_of(cells: Sequence[Cell]) -> list[Task]:
    """Everything that has to be done for these cells: what they share first, each once, then the cells."""
    users = Counter(_sides_name(c) for c in cells if _takes_sides(c))
    shared: dict[str, Task] = {}
    own: list[Task] = []

    def share(name: str, function: str, value: Fields, *needs: str) -> str:
        shared.setdefault(name, Task(name, f"{__name__}:{function}", value, needs))
        return name

    for cell in cells:
        evals = tuple(replace(e, data=_whole(e.data)) for e in cell.evals)
        there = replace(cell, common=from_anywhere(cell.common), evals=evals)
        study = {"cell": replace(there, evals=()).as_json()}
        needs: list[str] = []
        if cell.study or cell.needs.answers:
            needs.append(share(f"pairs/{cell.model}/{cell.behavior}/s{cell.seed}", "pairs", study))
        for name, e in unsteered(there):
            needs.append(
                share(name, "reference", json.loads(canonical({"common": asdict(there.common), "eval": asdict(e)})))
            )
        if users[_sides_name(cell)] > 1 and _takes_sides(cell):
            needs.append(share(_sides_name(cell), "sides", study, *needs[:1]))
        own.append(
            Task(cell.name, f"{__name__}:{'study' if cell.study else 'cell'}", {"cell": there.as_json()}, tuple(needs))
        )
    return sorted([*shared.values(), *own], key=lambda t: ORDER.index(t.name.partition("/")[0]))


def unsteered(cell: Cell) -> list[tuple[str, Evaluation]]:
    """The evaluations of a cell whose unsteered arm other cells share, by the name of its task."""
    several = Counter(e.name for e in cell.evals)
    return [
        (f"base/{cell.model}/{e.name}{f'@{e.chosen.id}' if several[e.name] > 1 else ''}", e)
        for e in cell.evals
        if not e.chosen.of_run  # every study has test questions of its own
    ]


def from_anywhere(common: Common) -> Common:
    """The options with their paths from wherever a worker stands; names stay names."""
    model = common.model
    if model != "tiny" and (folder := Path(model).expanduser()).is_dir():
        model = os.path.abspath(folder)
    behavior = common.behavior if common.behavior in SHIPPED else _whole(common.behavior)
    out = str(Path(common.out).resolve())
    return replace(common, model=model, behavior=behavior, pairs=_whole(common.pairs), out=out)


def _whole(path: str | None) -> str | None:
    """The path of a file from wherever a worker stands; a name stays a name."""
    return os.path.abspath(path) if path is not None and Path(path).is_file() else path


def _takes_sides(cell: Cell) -> bool:
    """Whether its method is made from the two sides that all methods of its family share."""
    return cell.needs.adapter is not None and not cell.needs.trains


def _sides_name(cell: Cell) -> str:
    rate = f"/lr{cell.lr:g}" if cell.lr is not None else ""
    return f"sides/{cell.model}/{cell.behavior}/{cell.adapter}/s{cell.seed}{rate}"


# ---------------------------------------------------------------- what a worker does


def pairs(task: Fields) -> Json:
    """Make the pairs of one behavior, model and seed."""
    cell = Cell.from_json(task["cell"])
    with _watched("pairs"), _hidden(cell):
        return _answer("data", make_pairs(cell_plan(cell)[0])[1])


def sides(task: Fields) -> Json:
    """Train both sides of one family and seed."""
    cell = Cell.from_json(task["cell"])
    with _watched("train"), _hidden(cell):
        plan, _ = cell_plan(cell)
        return _answer("train", make_sides(plan, make_pairs(plan)[0])[1])


def reference(task: Fields) -> Json:
    """Measure the unsteered model on one evaluation, for every cell of it."""
    common, e = Common(**coerced(Common, task["common"])), Evaluation(**task["eval"])
    with _watched(f"{e.name}, unsteered"):
        questions = e.questions(kept_base(common))
        assert isinstance(questions, SharedQuestions), f"{e.name} asks questions of each study, see `unsteered`"
        return _answer("unsteered", make_reference(questions, Path(common.out)))


def cell(task: Fields) -> Json:
    """One cell of a comparison; what is done already is reused."""
    one = Cell.from_json(task["cell"])
    with _watched(one.method), _hidden(one):
        return _answer("cell", make_cell(one))


def study(task: Fields) -> Json:
    """One study from its pairs to its table; what is done already is reused."""
    start, one = time.perf_counter(), Cell.from_json(task["cell"])
    made: list[str] = []

    def say(line: str) -> None:
        stage, _, rest = line.partition("  ")
        if not stage.strip():  # a remark below a stage
            return
        if rest.split()[0] != "reused":
            made.append(stage)
        note({"doing": f"{stage} is done"})

    with _watched("study"), _hidden(one):
        plan, parts = cell_plan(one)
        strength, alphas = None, one.alphas
        if one.calibrate is not None:
            strength, searched = make_strength(one, plan, make_method(one, plan, parts))
            alphas = tuple(p["alpha"] for p in strength["points"])
            made += ["calibrate"] if searched is not None and not searched.reused else []
        story = replicate(plan, alphas=alphas, evals=one.evals, strength=strength, say=say)
    return {
        "run": str(story.folder),
        "made": made,
        "seconds": round(time.perf_counter() - start, 3),
        "alphas": sorted({0.0, *map(float, alphas)}),
        "lr": story.training["lr"],
        "step": story.training["step"],
        "norm": story.direction["norm"],
        "cos_tau": story.direction["cos_tau"],
        "matched": None if strength is None else matched(strength),
        "headline": sorted({r["metric"] for r in story.headline}),
        "evals": [str(p) for p in story.evals],
        "rows": story.rows,
    }


def _answer(stage: str, record: Record) -> Json:
    """Where a stage lies, and whether it had to be made."""
    return {"folder": str(record.folder), "made": [] if record.reused else [stage]}


def _hidden(one: Cell) -> AbstractContextManager[None]:
    """Around whatever may ask the server that a study names."""
    return address_hidden(one.options.get("generate_with"))


@contextmanager
def _watched(first: str) -> Iterator[None]:
    """Say how far this task is, now and then, to whoever looks."""
    last, seen = time.monotonic(), first

    def watch(label: str, done: int, total: int) -> None:
        nonlocal last, seen
        if label != seen or time.monotonic() - last >= EVERY:
            last, seen = time.monotonic(), label
            note({"doing": label, "done": done, "of": total})

    note({"doing": first})
    progress.watchers.append(watch)
    try:
        yield
    finally:
        progress.watchers.remove(watch)
