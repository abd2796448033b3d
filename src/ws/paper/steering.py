"""Recipes that steer: arms at their own strengths and at equal KL, curves, frontiers, claims.

    pairs -> sides -> methods -> cells -> evaluations -> curves -> frontier -> scorecard

Everything up to the evaluations are cells of a grid, as `ws compare` makes them, so a recipe that is stopped goes on, and
what another verb has made is found again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from ws import methods
from ws.behaviors import load_behavior, names
from ws.calibrate import CalibrateSettings
from ws.engine import Task
from ws.eval import Evaluation
from ws.grid.cells import Cell, cell_outline, keep, place_of
from ws.grid.compare import MEASURING
from ws.grid.tasks import tasks_of
from ws.numbers import some
from ws.paper import scorecard
from ws.paper.claims import Claim
from ws.paper.curve_panels import panels_of
from ws.paper.curves import Curves, Side, Spot
from ws.paper.figures import drawn
from ws.paper.recipe import Arm, Job, Measure, Need, Outcome, Planned, Recipe, arms_named
from ws.paper.request import RecipeRequest
from ws.presets import preset
from ws.records import Place, slug
from ws.results.csv import write_csv
from ws.results.sheet import Sheet
from ws.results.trials import Trial, trial_of_cell
from ws.study.options import Common
from ws.types import Fields, Json

PROTOCOL = "paper/3"
RAW = "raw"


@dataclass(frozen=True)
class Steering(Recipe):
    """Arms that steer one model toward and away from one behavior."""

    behavior: str = ""
    """Whose pairs the direction is learnt from."""
    arms: tuple[Arm, ...] = ()
    x: Measure | None = None
    """The capability."""
    ys: tuple[Measure, ...] = ()
    """The effects."""
    also: tuple[Measure, ...] = ()
    """Numbers that claims alone read."""
    sides: tuple[Side, ...] = (1, -1)
    """The sides of the dial that the paper looks at."""
    kl: tuple[float, ...] = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0)
    """KL targets in nats, at the 95th percentile."""
    options: Fields = field(default_factory=dict)
    """How pairs and adapters are made, where the paper's settings differ from ours."""
    calibrate: Fields = field(default_factory=dict)
    """How KL is measured and sought, where not by default."""
    claims: tuple[Claim[Curves], ...] = ()
    with_judge: Fields = field(default_factory=dict)
    """Fields that are others where a person named a judge."""
    twin: Fields = field(default_factory=dict)
    """Fields that are others on `tiny`."""

    def on(self, model: str) -> "Steering":
        return replace(self, **self.twin, twin={}) if model == "tiny" and self.twin else self

    @property
    def capability(self) -> Measure:
        """What an arm must not lose."""
        assert self.x is not None, f"{self.name} has a capability"
        return self.x

    @property
    def asks(self) -> Sequence[str]:
        return [m.evaluation for m in (*self.measures, *self.with_judge.get("also", ()))]

    @property
    def reads(self) -> Sequence[str]:
        return [*super().reads, self.behavior, *(a.behavior for a in self.arms if a.behavior)]

    @property
    def measures(self) -> tuple[Measure, ...]:
        """All numbers of this recipe."""
        return (self.capability, *self.ys, *self.also)

    def evals(self, request: RecipeRequest) -> tuple[Evaluation, ...]:
        """The evaluations that its numbers are of, each once, of the files and by the judge that were named."""
        return tuple(dict.fromkeys(m.evaluated(request) for m in self.measures))

    def asked_as(self, request: RecipeRequest) -> Mapping[Measure, str]:
        """Every number with the protocol that it is read from: that of a judge, or of shorter answers, has an id of its own."""
        return {m: m.evaluated(request).chosen.id for m in self.measures}

    def _judged(self) -> "Steering":
        return replace(self, **self.with_judge, with_judge={})

    def plan(self, request: RecipeRequest, common: Common) -> Planned:
        if request.judge is not None and self.with_judge:
            return self._judged().plan(request, common)
        arms, targets = arms_named(self.arms, request.arms), request.targets(self.kl)
        if not request.raw and (alone := next((a.name for a in arms if not a.graded and request.arms), None)):
            raise ValueError(f"{alone} has no strength of a KL; ask for `strengths=raw` too, or leave it out of `arms`")
        if request.raw and (none := next((a for a in arms if not self._own(a, request)), None)):
            sizes = ", ".join(f"{a:g}" for a in sorted({abs(a) for a in none.raw}))
            raise ValueError(f"{none.name} has none of these strengths of its own; the sizes it has are {sizes}")
        missing = self.missing(request, common.model)
        poles = self._poles(common, missing, request)
        if not missing:
            self._refuse_without_personas(arms, common, request)
        raw = sum(len(self._own(a, request)) * len(a.methods) for a in arms) if request.raw else 0
        sought = len(self.sides) * len(targets) * sum(a.graded for a in arms)
        protocols = {m: m.protocol for m in self.measures} if missing else self.asked_as(request)
        evals = list(dict.fromkeys(f"{m.evaluation.partition('@')[0]}@{p}" for m, p in protocols.items()))
        needs = [(methods.needs(m).adapter, a.lr, a.behavior) for a in arms for m in a.methods]
        trained = {need for need in needs if need[0]}
        seeds = len(request.seeds)
        counted = [f"{raw} of the recipe's own"] if raw else []
        counted += [f"{sought} of {', '.join(f'{t:g}' for t in targets)} nat"] if targets else []
        lines = (
            f"behavior   {poles}",
            f"arms       {', '.join(a.name for a in arms)}",
            f"trains     {some(len(trained) * seeds, 'pair of adapters', 'pairs of adapters')}",
            f"strengths  {(raw + sought) * seeds}: {' and '.join(counted)}, for each of {some(seeds, 'seed')}",
            f"measures   {', '.join(evals)}, each at every strength",
        )
        numbers: Json = {
            "behavior": common.behavior or self.behavior,
            "arms": [a.name for a in arms],
            "trainings": len(trained) * seeds,
            "strengths": (raw + sought) * seeds,
            "kl": list(targets),
            "evals": evals,
        }
        return Planned(lines, numbers, missing)

    def _own(self, arm: Arm, request: RecipeRequest) -> tuple[float, ...]:
        """The strengths of an arm that are asked for, on the sides that the recipe looks at."""
        return self._looked_at(arm, request.own(arm.raw))

    def _looked_at(self, arm: Arm, alphas: Sequence[float]) -> tuple[float, ...]:
        """Those of an arm's strengths that lie on the sides that the recipe looks at."""
        toward = -1 if arm.turned else 1
        return tuple(a for a in alphas if (1 if toward * a > 0 else -1) in self.sides)

    def _poles(self, common: Common, missing: Sequence[Need], request: RecipeRequest) -> str:
        """The behavior in words; one whose data is missing is not known yet."""
        name = common.behavior or request.files.get(self.behavior, self.behavior)
        if name not in names() and not Path(name).is_file() and common.behavior is None:
            if not missing:
                raise ValueError(f"{self.name} has no behavior of its own on this model: {self.needs[0].supply}")
            return f"{name}, which you supply"
        behavior = load_behavior(name, tiny=common.model == "tiny")
        return f"{behavior.name}: {behavior.poles[0]} against {behavior.poles[1]}"

    def _refuse_without_personas(self, arms: Sequence[Arm], common: Common, request: RecipeRequest) -> None:
        """Refuse an arm that is made of instructions where the behavior brings answers alone."""
        for arm in (a for a in arms if any(methods.needs(m).personas for m in a.methods)):
            name = self._pack(common, request, arm)
            if load_behavior(name, tiny=common.model == "tiny").answers is not None:
                others = ",".join(a.name for a in arms if a != arm)
                raise ValueError(
                    f"the arm {arm.name} is made of instructions, and {name} has the answers of a data set alone; leave it out: "
                    f"`arms={others}`"
                )

    def run(self, job: Job) -> Outcome:
        if job.request.judge is not None and self.with_judge:
            return self._judged().run(job)
        decides, curves, failed = self.measured(job)
        below = job.out / "paper" / slug(job.base.id) / self.name
        settings = {
            "protocol": PROTOCOL,
            "claims": [c.sentence for c in self.claims],
            "measures": [m.name for m in self.measures],
        }
        place = Place.below(below, "paper", settings, {"cells": decides, "failed": failed})
        record = place.once(lambda work: self._write(work, job, curves, failed), beside={"command": job.command})
        return scorecard.read(self.name, record.folder, failed, reused=record.reused)

    def measured(self, job: Job) -> tuple[Json, Curves, dict[str, str]]:
        """Every arm at every strength: (what decides the numbers, the curves, what failed and why)."""
        arms = arms_named(self.arms, job.request.arms)
        asked = self._asked(job, arms)
        keep(job.base, next(iter(asked.values()))[0].cell.common)
        failed = _done(job, asked)
        trials = {(source, *key): t for source, cells in asked.items() for key, t in _trials(cells, job.out).items()}
        if not trials:
            raise ValueError(f"no arm of {self.name} could be measured; {next(iter(failed.items()), ('', ''))[1]}")
        curves = Curves(tuple(_spots(trials, arms, self.asked_as(job.request))), self._training(arms, asked))
        return _keys_of(asked), curves, failed

    # ------------------------------------------------------------ what is measured

    def _asked(self, job: Job, arms: Sequence[Arm]) -> dict[str, list["Step"]]:
        """Cells by where their strengths come from: those of the recipe, and one group for each KL."""
        request, groups = job.request, {}
        if request.raw:
            groups[RAW] = [c for arm in arms for c in self._cells(job, arm, None)]
        for target in request.targets(self.kl):
            groups[f"{target:g} nat"] = [c for arm in arms if arm.graded for c in self._cells(job, arm, target)]
        return {source: cells for source, cells in groups.items() if cells}

    def _cells(self, job: Job, arm: Arm, target: float | None) -> list["Step"]:
        common = replace(job.common, behavior=self.behavior_of(job, arm))
        own = {**preset(common.preset, "calibrate"), **self.calibrate}
        calibrate = None if target is None else asdict(CalibrateSettings(**{**own, "budget": target}))
        kl = {k: own[k] for k in MEASURING if k in own} or None
        evals, cells = self.evals(job.request), []
        options = {**self.options, **arm.options, **job.options, **({} if arm.lr is None else {"lr": [arm.lr]})}
        for number, method in enumerate(arm.methods):
            methods.check(method)
            for seed in job.request.seeds:
                if seed == job.request.seeds[0] or methods.needs(method).seed == "study":
                    alphas = self._own(arm, job.request) if target is None else ()
                    cell = Cell(common, method, seed, options, evals, alphas, calibrate, kl, lr=arm.lr)
                    cells.append(Step(arm.name, (number + 1) / len(arm.methods), cell))
        return cells

    def behavior_of(self, job: Job, arm: Arm | None = None) -> str:
        """The behavior of the recipe, or of one arm: by name, or the pack that a person gave for it."""
        return self._pack(job.common, job.request, arm)

    def _pack(self, common: Common, request: RecipeRequest, arm: Arm | None = None) -> str:
        name = self.behavior if arm is None else arm.behavior or self.behavior
        own = None if arm is not None and arm.behavior else common.behavior
        return own or request.files.get(name, name)

    def _training(self, arms: Sequence[Arm], asked: Mapping[str, Sequence["Step"]]) -> dict[tuple[str, int], Fields]:
        """What the training of each arm reports."""
        reports = {}
        for step in (s for steps in asked.values() for s in steps if s.cell.needs.adapter):
            if (manifest := cell_outline(step.cell)[0].train_place.manifest) is not None:
                reports[step.arm, step.cell.seed] = manifest["report"]
        return reports

    # ------------------------------------------------------------ what is made of it

    def _write(self, work: Path, job: Job, curves: Curves, failed: Mapping[str, str]) -> Json:
        assert self.x is not None
        job.say(f"{self.name}: frontiers, claims and figures")
        behavior = load_behavior(self.behavior_of(job), tiny=job.base.tiny)
        reduced = job.request.reduced
        where = f"{self.name} · {behavior.name} · {job.base.id}"
        verdicts = [c.judged(curves) for c in self.claims]
        sheets = [
            *(scorecard.frontier_sheet(curves, self.x, y, self.sides, f"{where} · {y.name}{reduced}") for y in self.ys),
            *self._at_kl(job, curves, f"{where}{reduced}"),
            *self.more_sheets(curves, where),
            scorecard.claims_sheet(verdicts, f"{where} · scorecard{reduced}"),
        ]
        in_order = [a.name for a in self.arms if a.name in curves.arms]
        panels = panels_of(curves, in_order, self.x, self.ys, self.sides)
        files = drawn(panels, len(self.sides), f"{where}{reduced}", work / self.name)
        write_csv(work / f"{self.name}.csv", curves.records(self.measures))
        return scorecard.write(work, sheets, verdicts, panels, files, self.notes(curves, failed))

    def _at_kl(self, job: Job, curves: Curves, where: str) -> list[Sheet]:
        """A table for every KL that was sought."""
        targets = job.request.targets(self.kl)
        sheets = [
            scorecard.kl_sheet(curves, self.capability, self.ys, self.sides, t, f"{where} · at {t:g} nat")
            for t in targets
        ]
        return [s for s in sheets if s is not None]

    def more_sheets(self, curves: Curves, where: str) -> list[Sheet]:
        """Tables that this recipe has beside those of its effects."""
        return []

    def notes(self, curves: Curves, failed: Mapping[str, str]) -> list[str]:
        """What the tables do not say."""
        lines = [f"{name} could not be measured: {why}" for name, why in failed.items()]
        off = [s for s in curves.spots if s.verdict.startswith("unmatched")]
        if off:
            arms = ", ".join(dict.fromkeys(s.arm for s in off))
            lines.append(
                f"{some(len(off), 'strength')} of {arms} missed the KL that was sought; they stand in the curves with the KL they have."
            )
        if all(len(curves.seeds(a)) == 1 for a in curves.arms):
            lines.append("One seed: intervals hold the questions that were asked, and not the luck of a training.")
        return lines


@dataclass(frozen=True, eq=False)
class Step:
    """A cell, and where its method lies on the way of an arm."""

    arm: str
    at: float
    """1 is the end of the way."""
    cell: Cell

    @property
    def name(self) -> str:
        """The cell for a line in a log."""
        return f"{self.arm} s{self.cell.seed} ({self.cell.method})"

    def read(self) -> Json | None:
        """What is there of it, or None."""
        return place_of(self.cell, cell_outline(self.cell)[0]).read()


def _keys_of(asked: Mapping[str, Sequence[Step]]) -> Json:
    """The names of all cells with their keys: what decides every number."""
    return {
        source: [[s.name, place_of(s.cell, cell_outline(s.cell)[0]).folder.name] for s in steps]
        for source, steps in asked.items()
    }


def _done(job: Job, asked: Mapping[str, Sequence[Step]]) -> dict[str, str]:
    """Do the cells that are not done; what failed, and why."""
    todo = {source: [s for s in steps if s.read() is None] for source, steps in asked.items()}
    n = sum(map(len, asked.values()))
    job.say(f"{some(n, 'cell')}, {n - sum(map(len, todo.values()))} of them done already")
    tasks: dict[str, Task] = {}
    for source, steps in todo.items():
        for task in tasks_of([s.cell for s in steps]):
            own = {s.cell.name for s in steps}
            name = f"{task.name}/{source}" if task.name in own else task.name
            tasks.setdefault(name, replace(task, name=name))
    outcomes = job.run(list(tasks.values()), job.tell) if tasks else {}
    return {
        f"{s.name}, {source}": outcomes[f"{s.cell.name}/{source}"].error or "it left no record"
        for source, steps in todo.items()
        for s in steps
        if s.read() is None
    }


def _trials(steps: Sequence[Step], out: Path) -> dict[tuple[str, int, float], Trial]:
    """What was measured, by arm, seed and place on its way."""
    records = {(s.arm, s.cell.seed, s.at): s.read() for s in steps}
    return {key: trial_of_cell(r, out) for key, r in records.items() if r is not None}


def _spots(
    trials: Mapping[tuple[str, str, int, float], Trial], arms: Sequence[Arm], measures: Mapping[Measure, str]
) -> list[Spot]:
    """Every strength of every trial, arms in their order."""
    order = {a.name: k for k, a in enumerate(arms)}
    spots = []
    for (source, arm, seed, step), trial in sorted(trials.items(), key=lambda item: (order[item[0][1]], item[0][2])):
        points = {p["alpha"]: p for p in trial.record["strength"]["points"]}
        for alpha in (0.0, *points):
            point = points.get(alpha, {"kl": 0.0, "verdict": "not steered"})
            samples = {m.name: trial.metrics(chosen)[m.metric][alpha] for m, chosen in measures.items()}
            strength = (
                alpha if step == 1 and len(_steps(trials, arm)) == 1 else (1 if alpha > 0 else -1) * step * (alpha != 0)
            )
            spots.append(Spot(arm, seed, strength, trial.method, alpha, point["kl"], point["verdict"], source, samples))
    return spots


def _steps(trials: Mapping[tuple[str, str, int, float], Trial], arm: str) -> set[float]:
    return {step for (_, name, _, step) in trials if name == arm}
