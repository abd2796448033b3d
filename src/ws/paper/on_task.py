"""Recipes that steer a task fine-tune by directions of its base: `theta_ft + k w`.

A method is made where its persona data come from, on the base, and measured on the fine-tune, which is the base with the
task's direction folded in. The base itself is the fine-tune less that direction, so it is an arm like the others; so are
fine-tunes that learnt the task together with data of the wanted pole.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import ClassVar

from ws.adapters import USUAL
from ws.derived import derive
from ws.direction import Direction
from ws.errors import WsError
from ws.eval import Evaluation
from ws.grid.cells import cell_plan, keep, make_method, make_strength, strengths_of
from ws.methods import as_method
from ws.models.load import Base
from ws.paper.curves import Curves, Spot
from ws.paper.domains import Domain
from ws.paper.parts import make_ahead
from ws.paper.recipe import Arm, Job, Measure, Need, Outcome, Part, Planned, arms_named
from ws.paper.request import RecipeRequest
from ws.paper.steering import RAW, Steering, Step
from ws.paper.tuned import TaskData, tuned
from ws.records import Record, slug
from ws.stats import Sample
from ws.study.evaluations import Subject, make_eval, rows_in
from ws.study.options import Common
from ws.study.plan import Plan
from ws.study.stages import make_pairs, make_sides, method_folder
from ws.train.task import Task, task_of_pairs
from ws.types import Fields, Json

BASE_ARM, JOINT_ARM = "base", "joint"
TASK, PAIRS, SIDES = "task", "pairs", "sides"
"""Parts that others need."""
Making = tuple[str, Callable[[], object], Sequence[Part]]
"""The name of a part, what makes it, and the parts that are made before."""


@dataclass(frozen=True)
class OnTask(Steering):
    """Arms that steer a task fine-tune; `base` and `joint` among them, whose strengths are how far they go."""

    learns_tasks: ClassVar[bool] = True
    poles: Domain | None = None
    """Two data sets that are the poles, where no behavior is."""
    task: TaskData | None = None
    learning: Fields | None = None
    """How the task is learnt."""
    wanted: str = "neg"
    """The pole whose answers are learnt along in the arm `joint`."""
    joint: TaskData | None = None
    """Data that is learnt along there, where it is not that pole's."""

    @property
    def reads(self) -> Sequence[str]:
        poles = () if self.poles is None else (self.poles.bad, self.poles.good)
        return [*super().reads, *poles, *self.task_data.sets, *(self.joint.sets if self.joint else ())]

    def plan(self, request: RecipeRequest, common: Common) -> Planned:
        plan = super().plan(request, common)
        joint = sum(len(self._times(a, request)) for a in arms_named(self.arms, request.arms) if a.name == JOINT_ARM)
        line = f"task       {self.task_data.name} ({', '.join(self.task_data.sets)}): {1 + joint} fine-tunes, which everything is measured on"
        return Planned((*plan.lines, line), {**plan.numbers, "finetunes": 1 + joint}, plan.missing)

    def run(self, job: Job) -> Outcome:
        return super().run(self._with_poles(job))

    def _with_poles(self, job: Job) -> Job:
        """The job with both data sets as its behavior, where a recipe has such poles."""
        if self.poles is None or job.common.behavior is not None:
            return job
        return replace(job, common=replace(job.common, behavior=str(self.poles.pack(job))))

    def _poles(self, common: Common, missing: Sequence[Need], request: RecipeRequest) -> str:
        if self.poles is not None and common.behavior is None:
            return f"{self.poles.name}: {self.poles.bad} against {self.poles.good}"
        return super()._poles(common, missing, request)

    def measured(self, job: Job) -> tuple[Json, Curves, dict[str, str]]:
        """Every arm on the fine-tune: (what decides the numbers, curves, what failed)."""
        job = self._with_poles(job)
        make_ahead(self, job)
        tau, on = self._tuned(job)
        job.say(f"trained  {self.task_data.name}")
        keep(job.base, replace(job.common, behavior=self.behavior_of(job)))
        spots: list[Spot] = []
        records: list[Json] = []
        failed: dict[str, str] = {}
        for arm in arms_named(self.arms, job.request.arms):
            if arm.name == JOINT_ARM:
                spots += [s for n in self._times(arm, job.request) for s in self._joint(job, arm, on, n)]
                continue
            for own in self._steered(job, arm):
                try:
                    spots += self._spots_of(job, own, tau, on)
                except (ValueError, RuntimeError, WsError) as e:
                    failed[f"{own.step.name}, {own.source}"] = str(e)
                    continue
                cell = own.step.cell
                records.append(
                    {"arm": arm.name, "cell": cell.as_json()["method"], "source": own.source, "seed": cell.seed}
                )
                job.say(f"measured {arm.name} s{cell.seed}, {own.source}")
        decides = {
            "tau": tau.content_hash,
            "on": on.fingerprint,
            "cells": records,
            "spots": [[s.arm, s.seed, s.alpha, s.kl] for s in spots],
        }
        return decides, Curves(tuple(spots)), failed

    @property
    def task_data(self) -> TaskData:
        """What the fine-tune learns."""
        assert self.task is not None, f"{self.name} has a task"
        return self.task

    def _tuned(self, job: Job) -> tuple[Direction, Base]:
        """The fine-tune as a direction and as a base."""
        tau = tuned(job, self.task_data, self.learning or {}, seed=job.request.seeds[0])
        return tau, derive(job.base, tau, name=self.task_data.name)

    # ------------------------------------------------------------ what workers may make

    def parts(self, job: Job) -> list[Part]:
        """The fine-tunes, the sides that arms share, and each arm at each group of strengths."""
        first, cells = {TASK: Part(TASK, partial(self._tuned, job))}, []
        for arm in arms_named(self.arms, job.request.arms):
            for name, make, along in self._joints(job, arm) if arm.name == JOINT_ARM else self._measurings(job, arm):
                for p in along:
                    first.setdefault(p.name, p)
                cells.append(Part(name, make, (TASK, *(p.name for p in along))))
        return [*first.values(), *cells]

    def _joints(self, job: Job, arm: Arm) -> Iterator[Making]:
        """What an arm of joint fine-tunes makes."""
        along = [] if self.joint else self._material(job, arm)  # one side of the pairs is learnt along
        for n in self._times(arm, job.request):
            yield f"{arm.name}/{n}", partial(self._joint_alone, job, arm, n), along

    def _measurings(self, job: Job, arm: Arm) -> Iterator[Making]:
        """What an arm makes that steers the fine-tune."""
        for own in self._steered(job, arm):
            cell = own.step.cell
            shares = arm.name != BASE_ARM and (cell.needs.answers or cell.needs.adapter)
            along = self._material(job, arm, cell.adapter if cell.needs.adapter else None) if shares else []
            yield own.part, partial(self._cell_alone, job, own), along

    def _joint_alone(self, job: Job, arm: Arm, n: int) -> list[Spot]:
        return self._joint(job, arm, self._tuned(job)[1], n)

    def _cell_alone(self, job: Job, own: "Steered") -> list[Spot]:
        return self._spots_of(job, own, *self._tuned(job))

    def _material(self, job: Job, arm: Arm, adapter: str | None = None) -> list[Part]:
        """The pairs that arms of one behavior share, and with an adapter both sides."""

        def plan() -> Plan:
            return cell_plan(self._cells(job, replace(arm, methods=(f"ws:{adapter or USUAL}",)), None)[0].cell)[0]

        pairs = Part(f"{PAIRS}/{arm.behavior}", lambda: make_pairs(plan()))
        if adapter is None:
            return [pairs]
        sides = Part(
            f"{SIDES}/{adapter}/{arm.behavior}", lambda: make_sides(plan(), make_pairs(plan())[0]), (pairs.name,)
        )
        return [pairs, sides]

    def _steered(self, job: Job, arm: Arm) -> list["Steered"]:
        """The cells of an arm: at its own strengths, and at those of every KL."""
        request = job.request
        sources: list[float | None] = [None] if request.raw else []
        sources += list(request.targets(self.kl)) if arm.graded else []
        return [
            Steered(arm, step, RAW if source is None else f"{source:g} nat")
            for source in sources
            for step in self._cells(job, arm, source)
        ]

    def _spots_of(self, job: Job, own: "Steered", tau: Direction, on: Base) -> list[Spot]:
        """One method at its strengths on the fine-tune, on the sides that the recipe looks at."""
        cell = own.step.cell
        plan, parts = cell_plan(cell)
        method = as_method(tau) if own.arm.name == BASE_ARM else make_method(cell, plan, parts)
        strength, _ = make_strength(cell, replace(plan, base=on), method)
        alphas = self._looked_at(own.arm, strengths_of(cell, strength))
        subject = Subject(on, method, method_folder(replace(plan, base=on), method), method.name, cell.seed)
        evals = [(e, make_eval(subject, e, alphas=alphas, strength=strength, out=job.out)[1]) for e in cell.evals]
        return spots_of(own, alphas, strength, evals, self.asked_as(job.request))

    def _times(self, arm: Arm, request: RecipeRequest) -> list[int]:
        """How often a pass of the arm `joint` holds every row of the wanted pole: its strengths, of those that are asked for."""
        return [round(abs(a)) for a in self._own(arm, request)]

    def _joint(self, job: Job, arm: Arm, on: Base, n: int) -> list[Spot]:
        """A fine-tune that learnt the task and, n times in a pass, the wanted pole: further along the more often it saw it."""
        seed, more = job.request.seeds[0], self._wanted(job)
        tau = tuned(job, self.task_data, self.learning or {}, seed=seed, joint=more, times=n)
        model = derive(job.base, tau, name=f"{self.task_data.name}-joint-{n}")
        here = job.out / "paper" / slug(job.base.id) / self.name / f"joint-{n}"
        samples, zero = (self._unsteered(m, f, job) for m, f in ((model, here), (on, here.parent / "unsteered")))
        side, most = self.sides[0], max(map(abs, arm.raw))
        job.say(f"trained  {self.task_data.name} with {len(more.rows)} rows of the wanted pole, {n} times")
        return [
            Spot(arm.name, seed, side * n / most, f"joint x{n}", side * n, None, "as given", RAW, samples),
            Spot(arm.name, seed, 0.0, "joint", 0.0, 0.0, "not steered", RAW, zero),
        ]

    def _wanted(self, job: Job) -> Task:
        """The answers of the wanted pole."""
        if self.joint is not None:
            return self.joint.read(job)
        cell = self._cells(job, next(a for a in self.arms if a.name == "weight"), None)[0].cell
        return task_of_pairs(make_pairs(cell_plan(cell)[0])[0], self.behavior, self.wanted)

    def _unsteered(self, model: Base, folder: Path, job: Job) -> dict[str, Sample]:
        """All numbers of a model as it is."""
        samples: dict[str, Sample] = {}
        for e in self.evals(job.request):
            _, record = make_eval(Subject(model, None, folder, "base"), e, alphas=(0.0,))
            per_metric = e.chosen.metrics(rows_in(record))
            samples |= {
                m.name: per_metric[m.metric][0.0]
                for m, chosen in self.asked_as(job.request).items()
                if chosen == e.chosen.id
            }
        return samples


@dataclass(frozen=True, eq=False)
class Steered:
    """One method of an arm at one group of strengths."""

    arm: Arm
    step: Step
    source: str

    @property
    def part(self) -> str:
        """The part that it is."""
        return f"cell/{self.arm.name}/{self.step.cell.method}/s{self.step.cell.seed}/{self.source}"


def spots_of(
    own: Steered,
    alphas: Sequence[float],
    strength: Fields,
    evals: Sequence[tuple[Evaluation, Record]],
    measures: Mapping[Measure, str],
) -> list[Spot]:
    """The spots of evaluations that were just made or found again."""
    rows = {e.chosen.id: e.chosen.metrics(rows_in(record)) for e, record in evals}
    points = {p["alpha"]: p for p in strength["points"]}
    toward, cell, spots = -1 if own.arm.turned else 1, own.step.cell, []
    for alpha in (0.0, *alphas):
        point = points.get(alpha, {"kl": 0.0, "verdict": "not steered"})
        samples = {m.name: rows[chosen][m.metric][alpha] for m, chosen in measures.items()}
        place = (own.arm.name, cell.seed, toward * alpha, cell.method, alpha, point["kl"], point["verdict"])
        spots.append(Spot(*place, own.source, samples))
    return spots
