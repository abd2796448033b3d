"""Looking at a grid without touching it: what is done of it, how long the rest may take, what runs right now.

A stage is done if what lies at its `Place` is what its run would make. The place is built by the functions that make the
stage, so that a look and a run never differ.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean

from ws.direction import load as load_direction
from ws.engine import State, task_states
from ws.engine.work import sentence
from ws.errors import WsError
from ws.eval.questions import RunPairs
from ws.grid.axes import Grid
from ws.grid.cells import (
    Cell,
    calibration_of,
    cell_outline,
    place_of,
    read_strength,
    strength_place,
    strengths_of,
    subject_of,
)
from ws.methods import as_method
from ws.numbers import some
from ws.records import Place, read
from ws.study.evaluations import eval_place
from ws.study.plan import Plan
from ws.study.planning import refuse_misfit
from ws.study.stages import read_pairs
from ws.study.worker import kept_base
from ws.types import Fields

FOLDER = "sweep"


@dataclass(frozen=True)
class Stage:
    """One stage of one cell, and whether it is there."""

    kind: str
    """data, train, direction, calibrate, `eval NAME`, or cell: the record of a comparison."""
    place: str
    """Names the stage, so that one that several cells share is counted once."""
    done: bool
    model: str
    about: str | None = None
    """What the time it takes depends on besides: a family, or a method."""
    within: bool = False
    """Whether its time is that of other stages of its cell."""


@dataclass(frozen=True, eq=False)
class Look:
    """What is done of a grid."""

    cells: Sequence[Cell]
    stages: Mapping[str, tuple[Stage, ...]]
    """The stages of a cell in their order, by the cell's name."""
    impossible: Mapping[str, str]
    """Cells that cannot be run, and why: their model cannot be loaded, or has no place for this adapter."""
    seconds: float | None
    """How long the rest would take one worker, by the times of stages like these; None where of some there are none."""
    known: float = 0.0
    """The part of it that is known."""
    unknown: Mapping[str, int] = field(default_factory=dict)
    """Kinds of stages that nobody has made here yet, and how many of each are to do."""

    def state(self, cell: Cell) -> str:
        """done, the last stage that is, or to do."""
        if cell.name in self.impossible:
            return "impossible"
        stages = self.stages[cell.name]
        done = [s for s in stages if s.done]
        if len(done) == len(stages):
            return "done"
        return f"{done[-1].kind} is done" if done else "to do"

    def ahead(self, cell: Cell) -> str:
        """What of a cell is done, and what is to do, in words."""
        if cell.name in self.impossible:
            return f"impossible: {self.impossible[cell.name]}"
        parts = []
        for done, words in ((True, "done"), (False, "to do")):
            kinds = Counter(s.kind.split()[0] for s in self.stages[cell.name] if s.done is done and s.kind != "cell")
            if kinds:
                parts.append(
                    f"{words}: {', '.join(some(n, 'evaluation') if k == 'eval' else k for k, n in kinds.items())}"
                )
        return "; ".join(parts) or self.state(cell)

    def done(self, cell: Cell) -> bool:
        """Whether every stage of a cell is there."""
        return self.state(cell) == "done"

    def counted(self, kind: str) -> tuple[int, int]:
        """(how many stages of a kind there are, how many are done), each shared one once."""
        each = {s.place: s.done for stages in self.stages.values() for s in stages if s.kind.split()[0] == kind}
        return len(each), sum(each.values())


def look(cells: Sequence[Cell]) -> Look:
    """What is done of these cells. Keys need the models themselves, so each is loaded once, one after the other."""
    stages: dict[str, tuple[Stage, ...]] = {}
    impossible: dict[str, str] = {}
    for model in dict.fromkeys(c.model for c in cells):
        own = [c for c in cells if c.model == model]
        try:
            kept_base(own[0].common)
        except (WsError, ValueError, RuntimeError) as e:  # memory that runs out is the last, and costs its own cells
            impossible |= {c.name: sentence(e) for c in own}
            continue
        for cell in own:
            try:
                stages[cell.name] = _possible(cell)
            except (WsError, ValueError) as e:
                impossible[cell.name] = str(e)
    known, unknown = _left(Path(cells[0].common.out), [s for each in stages.values() for s in each])
    return Look(cells, stages, impossible, None if unknown else known, known, unknown)


def _possible(cell: Cell) -> tuple[Stage, ...]:
    """The stages of a cell; one that is not done, and that its model cannot have, is refused."""
    plan = cell_outline(cell)[0]
    stages = tuple(stages_of(cell, plan))
    if not all(s.done for s in stages):
        refuse_misfit(plan)
    return stages


def stages_of(cell: Cell, plan: Plan) -> Iterator[Stage]:
    """The stages of a cell in their order.

    What a method other than a study's own direction is calibrated and measured by is known only when it is made, so of
    such a cell one record stands for all of it. And strengths that are not known yet may turn out to be those of an
    evaluation that is there: it counts as to do until they are.
    """
    record = None if cell.study else _stage(cell, "cell", place_of(cell, plan), cell.method)
    if record is not None and record.done:  # nothing it was made from is asked for again
        yield from _evaluated_in(cell, record)
        yield record
        return
    if cell.study or cell.needs.answers:
        yield _stage(cell, "data", plan.data_place)
    if cell.needs.adapter is not None and not cell.needs.trains:
        yield _stage(cell, "train", plan.train_place, cell.adapter)
    if cell.whole:
        yield from _of_direction(cell, plan)
    elif record is not None:
        yield from _evaluated_in(cell, record)
    if record is not None:
        yield replace(record, within=cell.whole)


def _evaluated_in(cell: Cell, record: Stage) -> Iterator[Stage]:
    """The evaluations that one record of a cell stands for."""
    for e in cell.evals:
        yield Stage(f"eval {e.name}", f"{record.place}/{e.chosen.id}", record.done, cell.model, within=True)


def _stage(cell: Cell, kind: str, place: Place, about: str | None = None) -> Stage:
    return Stage(kind, str(place.folder), place.manifest is not None, cell.model, about)


def _of_direction(cell: Cell, plan: Plan) -> Iterator[Stage]:
    """What comes after a study's training; the places of all that is measured follow from the direction itself."""
    yield _stage(cell, "direction", plan.direction_place)
    run, data, file = plan.run_folder, plan.data_place, plan.direction_place.folder / "direction.safetensors"
    method = None if plan.direction_place.manifest is None else as_method(load_direction(file))
    strength = None
    if cell.calibrate is not None:
        if method is not None:
            strength = read_strength(strength_place(cell, plan, method))
            place = calibration_of(cell, plan, method)
            yield Stage("calibrate", str(place.folder), place.manifest is not None and strength is not None, cell.model)
        else:
            yield Stage("calibrate", str(run / "calibrate"), False, cell.model)
    known = method is not None and (strength is not None or cell.calibrate is None)
    pairs = None if data.manifest is None else RunPairs(read_pairs(data.folder, data.manifest), plan.train)
    for e in cell.evals:
        if method is None or not known or (pairs is None and e.chosen.of_run):
            yield Stage(f"eval {e.name}", str(run / "eval" / e.name / e.chosen.id), False, cell.model)
        else:
            place = eval_place(subject_of(cell, plan, method, pairs), e, strengths_of(cell, strength), strength)
            yield _stage(cell, f"eval {e.name}", place)


def _left(out: Path, stages: Sequence[Stage]) -> tuple[float, dict[str, int]]:
    """(seconds, stages by their kind): how long the stages to do took before, for this model, and this family or method where there is one; and those of which nothing is known."""
    took: dict[tuple[str, str, str | None], list[float]] = defaultdict(list)
    folders = (p.parent for p in out.glob("**/manifest.json") if ".part" not in str(p.parent))
    for manifest in filter(None, map(read, sorted(folders))):
        kind, model = manifest["stage"], manifest.get("model", {}).get("id", "")
        about = manifest["settings"].get({"train": "adapter", "cell": "method"}.get(kind, ""))
        for of in {about, None}:
            took[kind, model, of].append(manifest["seconds"])
    names = {m: Path(m).name if Path(m).is_dir() else m.partition("@")[0] for m in {s.model for s in stages}}
    total, unknown = 0.0, Counter[str]()
    for s in {s.place: s for s in stages if not s.done and not s.within}.values():
        kind = s.kind.split()[0]
        seconds = took.get((kind, names[s.model], s.about)) or took.get((kind, names[s.model], None))
        if seconds is None:
            unknown[kind] += 1
        else:
            total += mean(seconds)
    return total, dict(unknown)


# ---------------------------------------------------------------- while it runs


@dataclass(frozen=True)
class Status:
    """One sweep as its files show it."""

    name: str
    folder: Path
    record: Fields
    """What it said of itself when it was started."""
    states: Mapping[str, State]

    @property
    def process(self) -> State:
        """The process that runs it, or ran it last."""
        r = self.record
        ends = [self.states[t].ended for t in r["tasks"]] if self.over else []
        ended = max((e for e in ends if e is not None), default=None)
        return State(self.name, "running", r["pid"], r["host"], r["started"], born=r.get("born"), ended=ended)

    @property
    def over(self) -> bool:
        """Whether every task has ended."""
        ended = {"done", "failed", "skipped"}
        return all(t in self.states and self.states[t].state in ended for t in self.record["tasks"])

    def named(self, state: str) -> list[str]:
        """The tasks in this state."""
        tasks = self.record["tasks"]
        return [t for t in tasks if (self.states[t].state if t in self.states else "waiting") == state]


def folder_of(grid: Grid) -> Path:
    """Where the state and the tables of a sweep lie; its studies lie where single verbs put them."""
    return Path(grid.common.out) / FOLDER / grid.name


def read_sweep(folder: Path) -> Fields | None:
    """What a sweep said of itself when it was started."""
    try:
        return json.loads((folder / "sweep.json").read_text())
    except (OSError, ValueError):
        return None


def statuses(out: Path) -> list[Status]:
    """Every sweep below an output folder."""
    folders = sorted((out / FOLDER).glob("*"))
    return [Status(f.name, f, record, task_states(f)) for f in folders if (record := read_sweep(f)) is not None]
