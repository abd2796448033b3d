"""Recipes that steer a task fine-tune by directions of its base: `theta_ft + k w`.

A method is made where its persona data come from, on the base, and measured on the fine-tune, which is the base with the
task's direction folded in. The base itself is the fine-tune less that direction, so it is an arm like the others; so are
fine-tunes that learnt the task together with data of the wanted pole.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ws.derived import derive
from ws.direction import Direction
from ws.eval import Evaluation
from ws.grid.cells import Cell, cell_plan, keep, make_method, make_strength, strengths_of
from ws.methods import as_method
from ws.models.load import Base
from ws.paper.curves import Curves, Spot
from ws.paper.domains import Domain
from ws.paper.recipe import Arm, Job, Measure, Need, Outcome, Planned, arms_named
from ws.paper.request import RecipeRequest
from ws.paper.steering import RAW, Steering
from ws.paper.tuned import TaskData, tuned
from ws.records import Record, slug
from ws.stats import Sample
from ws.study.evaluations import Subject, make_eval, rows_in
from ws.study.options import Common
from ws.study.stages import make_pairs, method_folder
from ws.train.task import Task, task_of_pairs
from ws.types import Fields, Json

BASE_ARM, JOINT_ARM = "base", "joint"


@dataclass(frozen=True)
class OnTask(Steering):
    """Arms that steer a task fine-tune; `base` and `joint` among them, whose strengths are how far they go."""

    poles: Domain | None = None
    """Two data sets that are the poles, where no behavior is."""
    task: TaskData | None = None
    learning: Fields | None = None
    """How the task is learnt."""
    wanted: str = "neg"
    """The pole whose answers are learnt along in the arm `joint`."""
    joint: TaskData | None = None
    """Data that is learnt along there, where it is not that pole's."""
    times: tuple[int, ...] = (1, 3, 6)
    """How often a pass of the arm `joint` holds every row of them."""

    def plan(self, request: RecipeRequest, common: Common) -> Planned:
        plan = super().plan(request, common)
        assert self.task is not None
        joint = len(self.times) if any(a.name == JOINT_ARM for a in arms_named(self.arms, request.arms)) else 0
        line = f"task       {self.task.name} ({', '.join(self.task.sets)}): {1 + joint} fine-tunes, which everything is measured on"
        return Planned((*plan.lines, line), {**plan.numbers, "finetunes": 1 + joint}, plan.missing)

    def run(self, job: Job) -> Outcome:
        if self.poles is not None and job.common.behavior is None:
            job = replace(job, common=replace(job.common, behavior=str(self.poles.pack(job))))
        return super().run(job)

    def _poles(self, common: Common, missing: Sequence[Need]) -> str:
        if self.poles is not None and common.behavior is None:
            return f"{self.poles.name}: {self.poles.bad} against {self.poles.good}"
        return super()._poles(common, missing)

    def measured(self, job: Job) -> tuple[Json, Curves, dict[str, str]]:
        """Every arm on the fine-tune, stage by stage in this process: (what decides the numbers, curves, what failed)."""
        assert self.task is not None
        seed, request = job.request.seeds[0], job.request
        tau = tuned(job, self.task, self.learning or {}, seed=seed)
        on = derive(job.base, tau, name=self.task.name)
        job.say(f"trained  {self.task.name}")
        keep(job.base, replace(job.common, behavior=job.common.behavior or self.behavior))
        spots: list[Spot] = []
        records: list[Json] = []
        failed: dict[str, str] = {}
        for arm in arms_named(self.arms, request.arms):
            if arm.name == JOINT_ARM:
                spots += self._joint(job, arm, on)
                continue
            sources: list[float | None] = [None] if request.raw else []
            sources += list(request.targets(self.kl)) if arm.graded else []
            for source in sources:
                name = RAW if source is None else f"{source:g} nat"
                for step in self._cells(job, arm, source):
                    try:
                        own = self._spots_of(job, arm, step.cell, on, tau, name)
                    except (ValueError, RuntimeError) as e:
                        failed[f"{step.name}, {name}"] = str(e)
                        continue
                    spots += own
                    records.append(
                        {"arm": arm.name, "cell": step.cell.as_json()["method"], "source": name, "seed": step.cell.seed}
                    )
                    job.say(f"measured {arm.name} s{step.cell.seed}, {name}")
        decides = {
            "tau": tau.content_hash,
            "on": on.fingerprint,
            "cells": records,
            "spots": [[s.arm, s.seed, s.alpha, s.kl] for s in spots],
        }
        return decides, Curves(tuple(spots)), failed

    def _spots_of(self, job: Job, arm: Arm, cell: Cell, on: Base, tau: Direction, source: str) -> list[Spot]:
        """One method at its strengths on the fine-tune."""
        plan, parts = cell_plan(cell)
        method = as_method(tau) if arm.name == BASE_ARM else make_method(cell, plan, parts)
        strength, _ = make_strength(cell, replace(plan, base=on), method)
        alphas = strengths_of(cell, strength)
        subject = Subject(on, method, method_folder(replace(plan, base=on), method), method.name, cell.seed)
        evals = [(e, make_eval(subject, e, alphas=alphas, strength=strength, out=job.out)[1]) for e in cell.evals]
        return spots_of(arm.name, cell, strength, evals, source, self.asked_as(job.request))

    def _joint(self, job: Job, arm: Arm, on: Base) -> list[Spot]:
        """Fine-tunes that learnt the task and the wanted pole: further along the more often they saw it."""
        assert self.task is not None
        seed, spots = job.request.seeds[0], []
        more = self._wanted(job)
        for n in self.times:
            tau = tuned(job, self.task, self.learning or {}, seed=seed, joint=more, times=n)
            model = derive(job.base, tau, name=f"{self.task.name}-joint-{n}")
            here = job.out / "paper" / slug(job.base.id) / self.name / f"joint-{n}"
            there = here.parent / "unsteered"
            samples, zero = (self._unsteered(m, folder, job) for m, folder in ((model, here), (on, there)))
            side = self.sides[0]
            spots.append(
                Spot(
                    arm.name, seed, side * n / max(self.times), f"joint x{n}", side * n, None, "as given", RAW, samples
                )
            )
            spots.append(Spot(arm.name, seed, 0.0, "joint", 0.0, 0.0, "not steered", RAW, zero))
            job.say(f"trained  {self.task.name} with {len(more.rows)} rows of the wanted pole, {n} times")
        return spots

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


def spots_of(
    arm: str,
    cell: Cell,
    strength: Fields,
    evals: Sequence[tuple[Evaluation, Record]],
    source: str,
    measures: Mapping[Measure, str],
) -> list[Spot]:
    """The spots of evaluations that were just made or found again."""
    rows = {e.chosen.id: e.chosen.metrics(rows_in(record)) for e, record in evals}
    points = {p["alpha"]: p for p in strength["points"]}
    spots = []
    for alpha in (0.0, *points):
        point = points.get(alpha, {"kl": 0.0, "verdict": "not steered"})
        samples = {m.name: rows[chosen][m.metric][alpha] for m, chosen in measures.items()}
        spots.append(Spot(arm, cell.seed, alpha, cell.method, alpha, point["kl"], point["verdict"], source, samples))
    return spots
