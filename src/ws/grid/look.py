"""Looking at a sweep without touching it: what is done of a grid, how long the rest may take, what runs right now."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from ws.calibrate import CalibrateSettings
from ws.direction import load as load_direction
from ws.engine import State, states
from ws.engine.work import sentence
from ws.errors import WsError
from ws.eval import protocol
from ws.grid.axes import Cell, Grid
from ws.grid.tasks import FOLDER, evals_of, told_of
from ws.methods import as_method
from ws.models.load import Base
from ws.presets import preset
from ws.records import read
from ws.study.keys import items_hash
from ws.study.options import Common
from ws.study.plan import Plan
from ws.study.planning import load_base, plan_of
from ws.study.stages import calibration_place, strengths_at


@dataclass(frozen=True)
class Stage:
    """One stage of one study: what it is, and whether it is there."""

    kind: str
    """data, train, direction, calibrate, or `eval NAME`."""
    folder: str
    """Names the stage, so that one that several studies share is counted once."""
    done: bool
    model: str
    adapter: str | None = None


@dataclass(frozen=True, eq=False)
class Look:
    """What is done of a grid."""

    grid: Grid
    stages: Mapping[Cell, tuple[Stage, ...]]
    impossible: Mapping[Cell, str]
    """Cells that cannot be run, and why: their model cannot be loaded, or has no place for this adapter."""
    seconds: float | None
    """How long the rest would take one worker, by the times of stages like these; None where there are none."""

    def state(self, cell: Cell) -> str:
        """done, the last stage that is, or nothing."""
        if cell in self.impossible:
            return "impossible"
        stages = self.stages[cell]
        done = [s for s in stages if s.done]
        if len(done) == len(stages):
            return "done"
        return f"{done[-1].kind} is done" if done else "to do"

    def counted(self, kind: str) -> tuple[int, int]:
        """(how many stages of a kind there are, how many are done), each shared one once."""
        found = {s.folder: s.done for stages in self.stages.values() for s in stages if s.kind.split()[0] == kind}
        return len(found), sum(found.values())


def look(grid: Grid) -> Look:
    """What is done of a grid. Keys need the models themselves, so each is loaded once, one after the other."""
    stages: dict[Cell, tuple[Stage, ...]] = {}
    impossible: dict[Cell, str] = {}
    for model in dict.fromkeys(c.model for c in grid.cells):
        cells = [c for c in grid.cells if c.model == model]
        try:
            base = load_base(Common(**grid.common_of(cells[0])))
        except (WsError, ValueError, RuntimeError) as e:  # memory that runs out is the last, and costs its own cells
            impossible |= dict.fromkeys(cells, sentence(e))
            continue
        for cell in cells:
            try:
                plan = plan_of(Common(**grid.common_of(cell)), grid.options(cell), base)
            except (WsError, ValueError) as e:
                impossible[cell] = str(e)
                continue
            stages[cell] = tuple(_stages(grid, cell, plan, base))
    return Look(grid, stages, impossible, _left(grid, [s for found in stages.values() for s in found]))


def _stages(grid: Grid, cell: Cell, plan: Plan, base: Base) -> Iterator[Stage]:
    """The stages of a study in their order."""

    def stage(kind: str, folder: Path, done: bool) -> Stage:
        return Stage(kind, str(folder), done, cell.model, cell.adapter)

    data, train, direction = plan.data_place, plan.train_place, plan.direction_place
    yield Stage("data", str(data.folder), data.manifest is not None, cell.model)
    yield stage("train", train.folder, train.manifest is not None)
    made = direction.manifest
    content = made["content"] if made else None
    yield stage("direction", direction.folder, made is not None)
    run = plan.run_folder
    strengths: list[float] | None = sorted({0.0, *map(float, grid.alphas)})
    if grid.budget is not None:
        strengths = _calibrated(grid.budget, plan) if made else None
        yield stage("calibrate", run / "calibrate", strengths is not None)
    for name in evals_of(grid, cell):
        there = [
            m
            for m in _manifests((run / "eval" / name).glob("[!.]*"))
            if content is not None
            and m["inputs"]["direction"] == content
            and m["settings"]["limit"] is None
            and m["settings"]["seed"] == cell.seed
            and m["settings"]["alphas"] == strengths
            and _asks(m, grid, name, base)
        ]
        yield stage(f"eval {name}", run / "eval" / name, bool(there))


def _calibrated(budget: float, plan: Plan) -> list[float] | None:
    """The strengths that were found for the direction of a study, if they were."""
    method = as_method(load_direction(plan.direction_place.folder / "direction.safetensors"))
    place = calibration_place(plan.base, method, CalibrateSettings(budget=budget), plan.out, behavior=plan.behavior)
    if place.manifest is None:
        return None
    found = strengths_at(place)
    return sorted({0.0, found.alpha_neg, found.alpha_pos})


def _asks(manifest: Mapping[str, Any], grid: Grid, name: str, base: Base) -> bool:
    """Whether an evaluation that is there asked these questions."""
    chosen = protocol(name, preset(grid.common.preset, "protocol").get(name))
    if manifest["settings"]["protocol"] != chosen.id:
        return False
    return chosen.of_run or manifest["inputs"].get("items") == items_hash(base, chosen)


def _manifests(folders: Iterator[Path]) -> Iterator[dict[str, Any]]:
    for folder in sorted(folders):
        if (found := read(folder)) is not None:
            yield found


def _left(grid: Grid, stages: list[Stage]) -> float | None:
    """Seconds for the stages to do: as long as the same took before, for this model, and this family where there is one."""
    took: dict[tuple[str, str, str | None], list[float]] = defaultdict(list)
    out = Path(grid.common.out)
    for manifest in _manifests(p.parent for p in out.glob("**/manifest.json") if ".part" not in str(p.parent)):
        kind, model = manifest["stage"], manifest.get("model", {}).get("id", "")
        adapter = manifest["settings"].get("adapter") if kind == "train" else None
        for about in {adapter, None}:
            took[kind, model, about].append(manifest["seconds"])
    names = {m: Path(m).name if Path(m).is_dir() else m.partition("@")[0] for m in {s.model for s in stages}}
    total = 0.0
    for s in {s.folder: s for s in stages if not s.done}.values():
        kind = s.kind.split()[0]
        found = took.get((kind, names[s.model], s.adapter)) or took.get((kind, names[s.model], None))
        if found is None:
            return None
        total += mean(found)
    return total


# ---------------------------------------------------------------- while it runs


@dataclass(frozen=True)
class Status:
    """One sweep as its files show it."""

    name: str
    folder: Path
    told: Mapping[str, Any]
    states: Mapping[str, State]

    @property
    def process(self) -> State:
        """The process that runs it, or ran it last."""
        return State(
            self.name, "running", self.told["pid"], self.told["host"], self.told["started"], born=self.told.get("born")
        )

    @property
    def over(self) -> bool:
        """Whether every task has ended."""
        ended = {"done", "failed", "skipped"}
        return all(t in self.states and self.states[t].state in ended for t in self.told["tasks"])

    def named(self, state: str) -> list[str]:
        """The tasks in this state."""
        return [t for t in self.told["tasks"] if (self.states[t].state if t in self.states else "waiting") == state]


def statuses(out: Path) -> list[Status]:
    """Every sweep below an output folder."""
    found = []
    for folder in sorted((out / FOLDER).glob("*")):
        if (told := told_of(folder)) is not None:
            found.append(Status(folder.name, folder, told, states(folder)))
    return found
