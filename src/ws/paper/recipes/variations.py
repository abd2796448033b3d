"""4.7: what makes the difference between steering by weights and by activations? Orderings of arms, counted over recipes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from ws.paper import scorecard
from ws.paper.claims import Claim, Verdict, alike, all_of, beats
from ws.paper.curves import Curves
from ws.paper.recipe import Job, Outcome, Planned, Recipe
from ws.paper.recipes import evil, syc, tasks
from ws.paper.request import RecipeRequest
from ws.paper.steering import Steering
from ws.records import Place, canonical, slug
from ws.results.csv import write_csv
from ws.results.sheet import Sheet
from ws.stats import estimate
from ws.study.options import Common
from ws.types import Json

PROTOCOL = "paper-variations/3"
COLUMNS = ("weight", "bias_only", "act_all", "act_single", "tau+", "tau-")
OVER: Mapping[str, Steering] = {r.name: r for r in (syc.SYC_QA, tasks.GCD, evil.EVIL_MCQA, tasks.REFUSAL)}
"""The recipes that are counted."""
Evidence = Mapping[str, tuple[Steering, Curves]]


def counted(test: Callable[[Steering], Callable[[Curves], Verdict]]) -> Callable[[Evidence], Verdict]:
    """A test in every recipe; its parts are the recipes."""

    def over(evidence: Evidence) -> Verdict:
        parts = {name: test(recipe)(curves) for name, (recipe, curves) in evidence.items()}
        whole = all_of(list(parts.values()))
        return replace(whole, why=f"{whole.why} ({', '.join(f'{n}: {v.says}' for n, v in parts.items())})")

    return over


def _alike(recipe: Steering) -> Callable[[Curves], Verdict]:
    return alike("act_all", "act_single", recipe.capability, recipe.ys[0], sides=recipe.sides, at_rest=True)


def _beats(one: str, other: str) -> Callable[[Steering], Callable[[Curves], Verdict]]:
    return lambda recipe: beats(one, other, recipe.capability, recipe.ys[0], sides=recipe.sides)


CLAIMS: tuple[Claim[Evidence], ...] = (
    Claim("act_all gets as far as act_single, so the number of layers is not the reason", counted(_alike)),
    Claim("bias_only gets further than act_single", counted(_beats("bias_only", "act_single"))),
    Claim("weight gets further than bias_only", counted(_beats("weight", "bias_only"))),
    Claim("weight gets further than act_single", counted(_beats("weight", "act_single"))),
)


@dataclass(frozen=True)
class Variations(Recipe):
    """A table over other recipes, which are run where they are not done."""

    learns_tasks: ClassVar[bool] = True
    over: tuple[Steering, ...] = tuple(OVER.values())

    def on(self, model: str) -> "Variations":
        return replace(self, over=tuple(r.on(model) for r in self.over))

    @property
    def asks(self) -> Sequence[str]:
        return [name for r in self.over for name in r.asks]

    @property
    def reads(self) -> Sequence[str]:
        return [name for r in self.over for name in r.reads]

    def plan(self, request: RecipeRequest, common: Common) -> Planned:
        if request.arms or common.behavior:
            raise ValueError(
                f"{self.name} counts {', '.join(COLUMNS)} in recipes with behaviors of their own; leave out --arms and --behavior"
            )
        lines, numbers = [], {}
        for r in self.over:
            if lacking := r.missing(_of(r, request), common.model):
                lines.append(f"left out   {r.name}: {lacking[0].name} is missing, {lacking[0].supply}")
            else:
                numbers[r.name] = r.plan(_of(r, request), common).numbers["strengths"]
                lines.append(f"over       {r.name}: {numbers[r.name]} strengths")
        return Planned(tuple(lines), {"over": list(numbers), "strengths": sum(numbers.values())})

    def run(self, job: Job) -> Outcome:
        evidence: dict[str, tuple[Steering, Curves]] = {}
        failed: dict[str, str] = {}
        cells: list[Json] = []
        for recipe in (r for r in self.over if not r.missing(_of(r, job.request), job.common.model)):
            decides, curves, lost = recipe.measured(replace(job, request=_of(recipe, job.request)))
            evidence[recipe.name] = (recipe, curves)
            failed |= {f"{recipe.name}: {k}": why for k, why in lost.items()}
            cells.append({recipe.name: decides})
        below = job.out / "paper" / slug(job.base.id) / self.name
        place = Place.below(below, "paper", {"protocol": PROTOCOL}, {"cells": canonical(cells), "failed": failed})
        record = place.once(lambda work: self._write(work, job, evidence), beside={"command": job.command})
        return scorecard.read(self.name, record.folder, failed, reused=record.reused)

    def _write(self, work: Path, job: Job, evidence: Evidence) -> Json:
        where = f"{self.name} · {job.base.id}{job.request.reduced}"
        verdicts = [c.judged(evidence) for c in CLAIMS]
        targets = job.request.targets(self.over[0].kl)
        sheets = [_frontiers(evidence, f"{where} · gain at 5 points")]
        sheets += [_at_kl(evidence, t, f"{where} · effect at {t:g} nat") for t in targets]
        sheets.append(scorecard.claims_sheet(verdicts, f"{where} · scorecard"))
        write_csv(work / f"{self.name}.csv", sheets[0].records)
        absent = [r.name for r in self.over if r.name not in evidence]
        notes = [f"Counted over {', '.join(evidence)}."]
        notes += [f"Not counted, for want of data: {', '.join(absent)}."] if absent else []
        return scorecard.write(work, sheets, verdicts, (), (), notes)


def _of(recipe: Steering, request: RecipeRequest) -> RecipeRequest:
    """The same request for the columns that a recipe has as arms."""
    rows = request.task_rows if recipe.learns_tasks else None
    return replace(request, arms=tuple(a.name for a in recipe.arms if a.name in COLUMNS), task_rows=rows)


def _frontiers(evidence: Evidence, title: str) -> Sheet:
    """A line per recipe, number and side; a column per arm."""
    lines, records = [], []
    for name, (recipe, curves) in evidence.items():
        for y in recipe.ys:
            for side in recipe.sides:
                reach = {a: curves.numbers(a, recipe.capability, y, side) for a in COLUMNS if a in curves.arms}
                shown = [scorecard.ranged(*_three(reach[a].gain.found), y.unit) if a in reach else "–" for a in COLUMNS]
                lines.append((name, y.name, "+" if side > 0 else "-", *shown))
                records.append(
                    {
                        "recipe": name,
                        "metric": y.name,
                        "side": side,
                        **{a: r.gain.found.mean for a, r in reach.items()},
                    }
                )
    columns = ("recipe", "metric", "side", *COLUMNS)
    return Sheet(title, scorecard.EXPECTED, columns, tuple(lines), tuple(records), words=("recipe", "metric", "side"))


def _at_kl(evidence: Evidence, target: float, title: str) -> Sheet:
    """The same at one KL: effects, between the measured strengths around it."""
    lines, records = [], []
    for name, (recipe, curves) in evidence.items():
        y = recipe.ys[0]
        for side in recipe.sides:
            effects = {a: curves.at_kl(a, target, recipe.capability, y, side) for a in COLUMNS if a in curves.arms}
            shown = [
                scorecard.level(e.mean, y.unit) if (e := effects.get(a)) is not None else "not reached" for a in COLUMNS
            ]
            zero = next(
                p.effect
                for p in curves.points(curves.arms[0], curves.seeds(curves.arms[0])[0], recipe.capability, y)
                if p.strength == 0
            )
            lines.append(
                (name, y.metric, "+" if side > 0 else "-", scorecard.level(estimate(zero).mean, y.unit), *shown)
            )
            records.append(
                {
                    "recipe": name,
                    "metric": y.name,
                    "side": side,
                    "kl": target,
                    **{a: None if e is None else e.mean for a, e in effects.items()},
                }
            )
    columns = ("recipe", "metric", "side", "not steered", *COLUMNS)
    return Sheet(title, "", columns, tuple(lines), tuple(records), words=("recipe", "metric", "side"))


def _three(e) -> tuple[float, float, float]:
    return e.mean, e.ci_lo, e.ci_hi


RECIPE = Variations(
    name="variations",
    section="4.7",
    figures="section 4.4",
    question="Which difference matters: layers, averaging, or the space?",
    model="those of 4.1, 4.3, 4.4 and 4.6",
)
