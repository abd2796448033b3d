"""The tasks of a sweep, as a worker does them: pairs, the unsteered model, and one study.

Each is what a single verb would do, in the same place, so that a sweep finds what was made by hand, and the other way
round.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ws import batches, methods
from ws.calibrate import CalibrateSettings, Calibration
from ws.engine import note
from ws.eval import Evaluation
from ws.replicate import replicate
from ws.study.evaluations import make_reference
from ws.study.options import Common
from ws.study.plan import Plan
from ws.study.planning import plan_of
from ws.study.stages import make_calibration, make_direction, make_pairs, make_sides
from ws.study.worker import address_hidden, kept_base

EVERY = 1.0
"""Seconds between two notes of how far a stage is."""

Given = Mapping[str, Any]


def pairs(given: Given) -> dict[str, Any]:
    """Make the pairs of one behavior, model and seed."""
    with _watched("pairs"), _hidden(given):
        _, record = make_pairs(plan_for(given))
    return {"folder": str(record.folder), "reused": record.reused}


def reference(given: Given) -> dict[str, Any]:
    """Measure the unsteered model on one evaluation, for every study of it."""
    common = Common(**given["common"])
    base = kept_base(common)
    with _watched(f"{given['eval']}, unsteered"):
        questions = Evaluation(given["eval"], given["protocol"]).questions(base)
        record = make_reference(questions, Path(common.out))
    return {"folder": str(record.folder), "reused": record.reused}


def study(given: Given) -> dict[str, Any]:
    """One study from its pairs to its table; what is done already is reused."""
    start = time.perf_counter()
    plan, alphas = plan_for(given), tuple(given["alphas"])
    found: Calibration | None = None
    made: list[str] = []

    def say(line: str) -> None:
        stage, _, rest = line.partition("  ")
        if rest.split()[0] != "reused":
            made.append(stage)
        note({"doing": f"{stage} is done"})

    with _watched("study"), _hidden(given):
        if given["budget"] is not None:
            found, reused = _calibrated(plan, given["budget"])
            alphas = (found.alpha_neg, 0.0, found.alpha_pos)
            made += [] if reused else ["calibrate"]
        story = replicate(plan, alphas=alphas, evals=given["evals"], protocols=given["protocols"], say=say)
    return {
        "run": str(story.folder),
        "made": made,
        "seconds": round(time.perf_counter() - start, 3),
        "alphas": sorted({0.0, *map(float, alphas)}),
        "lr": story.training["lr"],
        "step": story.training["step"],
        "norm": story.direction["norm"],
        "cos_tau": story.direction["cos_tau"],
        "matched": None if found is None else found.matched,
        "headline": sorted({r["metric"] for r in story.headline}),
        "evals": [str(p) for p in story.evals],
        "rows": story.rows,
    }


def plan_for(given: Given) -> Plan:
    """The plan of a cell, on a model that is loaded once per worker."""
    common = Common(**given["common"])
    return plan_of(common, given["options"], kept_base(common))


def _hidden(given: Given) -> Any:
    """Around whatever may ask the server that a study names."""
    return address_hidden(given["options"].get("generate_with"))


def _calibrated(plan: Plan, budget: float) -> tuple[Calibration, bool]:
    """The strengths of a study's direction at a budget, and whether they were there already."""
    made, _ = make_pairs(plan)
    sides, _ = make_sides(plan, made)
    direction, _ = make_direction(plan, sides)
    found, record = make_calibration(
        plan.base, methods.as_method(direction), CalibrateSettings(budget=budget), plan.out, behavior=plan.behavior
    )
    return found, record.reused


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
    batches.watchers.append(watch)
    try:
        yield
    finally:
        batches.watchers.remove(watch)
