"""One method with one seed: made, calibrated, measured, and kept. Nothing here knows a method by name.

A cell is a function of JSON: any process can do it, and what it found lies in files. Its record is found again by what
determines it, without making the method: a second call costs a few milliseconds.

    out/<behavior>/<method>/<run>/eval/...        rows, as `ws eval` leaves them
    out/calibrate/...                             strengths, as `ws calibrate` leaves them
    out/cells/<model>/<behavior>/<method>/<key>/  cell.json: where both lie, and at which strengths
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ws import methods
from ws.behaviors import Behavior, load_behavior
from ws.calibrate import PROTOCOL as CALIBRATE_PROTOCOL
from ws.calibrate import CalibrateSettings, Calibration, divergences, sets_of
from ws.data import DataSettings
from ws.endpoint import Endpoint
from ws.engine import Task
from ws.eval import Evaluation
from ws.methods import Material, Method
from ws.models.load import Base
from ws.pairs import mark_of, marks_in
from ws.records import Place, Record, canonical, slug, write_json
from ws.study.evaluations import Subject, make_eval, make_reference
from ws.study.keys import base_key, items_hash
from ws.study.options import Common, Served
from ws.study.plan import Plan
from ws.study.planning import endpoint_of
from ws.study.stages import make_calibration, make_pairs, material, method_folder
from ws.study.worker import address_hidden, kept_base
from ws.train import TrainSettings

PROTOCOL = "compare-cell/5"


@dataclass(frozen=True)
class Study:
    """What every cell of one seed shares, in values that JSON holds."""

    model: str
    behavior: str
    out: str
    seed: int
    data: Mapping[str, Any]
    train: Mapping[str, Mapping[str, Any]]
    """How each family is trained."""
    dtype: str = "auto"
    device: str = "auto"
    threads: int | None = None
    served: Mapping[str, Any] | None = None
    """The server that writes the pairs, as options; its address goes to workers and is written nowhere."""

    @property
    def endpoint(self) -> Endpoint | None:
        """That server."""
        return endpoint_of(Served(**(self.served or {})), Common())

    @property
    def usual(self) -> Mapping[str, Any]:
        """How the usual family is trained: what holds for methods that are made from answers and no family. JSON keeps
        no order, so it is found by name."""
        return self.train[TrainSettings().adapter]


@dataclass(frozen=True)
class Spec:
    """One cell."""

    study: Study
    method: str
    evals: tuple[Evaluation, ...]
    calibrate: Mapping[str, Any] | None = None
    """Settings of the calibration; None measures at `alphas` only."""
    alphas: tuple[float, ...] = ()
    """Strengths that are measured as they are."""
    fractions: tuple[float, ...] = ()
    """Parts of the calibrated strengths that are measured too, for the curve of effect against KL."""

    @property
    def name(self) -> str:
        """How progress calls it; different also as a file name, where + and - are one."""
        return f"{self.method.replace('tau+', 'tau-plus')} s{self.study.seed}"

    def as_json(self) -> dict[str, Any]:
        return json.loads(canonical(asdict(self)))


def spec_of(given: Mapping[str, Any]) -> Spec:
    """The inverse of `Spec.as_json`."""
    parts = {**given, "study": Study(**given["study"]), "evals": tuple(Evaluation(**e) for e in given["evals"])}
    return Spec(**{**parts, "alphas": tuple(given["alphas"]), "fractions": tuple(given["fractions"])})


# ---------------------------------------------------------------- what a process keeps between its cells


@lru_cache(maxsize=2)
def _plan(study: str) -> tuple[Plan, Material]:
    told = Study(**json.loads(study))
    base = kept_base(told)
    train = {
        a: TrainSettings(**{**s, "lr": tuple(s["lr"]), "targets": tuple(s["targets"])}) for a, s in told.train.items()
    }
    plan = Plan(
        base, load_behavior(told.behavior, tiny=base.tiny), DataSettings(**told.data), train[TrainSettings().adapter],
        out=Path(told.out), endpoint=told.endpoint,
    )  # fmt: skip
    return plan, material(plan, train)


def plan_of(study: Study) -> tuple[Plan, Material]:
    """The study of a cell, and what methods are made from; kept, so that states read for one method serve the next."""
    return _plan(canonical(asdict(study)))


# ---------------------------------------------------------------- the tasks


def pairs(given: Mapping[str, Any]) -> None:
    """The pairs of one seed."""
    with _hidden(given["study"]):
        make_pairs(plan_of(Study(**given["study"]))[0])


def sides(given: Mapping[str, Any]) -> None:
    """Both trained sides of one family and seed."""
    with _hidden(given["study"]):
        plan_of(Study(**given["study"]))[1].sides_of(given["adapter"])


def unsteered(given: Mapping[str, Any]) -> None:
    """The scores of the base, once for all cells."""
    plan, _ = plan_of(Study(**given["study"]))
    for evaluation in (Evaluation(**e) for e in given["evals"]):
        make_reference(evaluation.questions(plan.base), plan.out)


def cell(given: Mapping[str, Any]) -> None:
    """Make a method, find its strengths, measure it; everything is found again where it lies."""
    spec = spec_of(given)
    plan, made = plan_of(spec.study)
    assert plan.behavior is not None
    place, needs = place_of(spec, plan.base, plan.behavior), methods.needs(spec.method)

    def make(work: Path) -> dict[str, Any]:
        method = methods.make(spec.method, made)
        found, kept = None, None
        if spec.calibrate is not None:
            found, kept = make_calibration(
                plan.base, method, CalibrateSettings(**spec.calibrate), plan.out, behavior=plan.behavior, plot=False
            )
        strength = strengths(plan.base, plan.behavior, method, spec, found)
        evals = [_measured(plan, method, asked, strength) for asked in spec.evals]
        told = {
            "asked": spec.method, "kin": needs.kin, "control": needs.seed == "draw", "places": methods.places(spec.method),
            "method": method.name, "kind": method.kind, "graded": method.graded, "seed": plan.seed,
            "content": method.content_hash, "numbers": method.numbers_hash, "strength": strength,
            "questions": sorted(marks_in(method.provenance) or ()),
            "calibration": None if kept is None else str(kept.folder.relative_to(plan.out)),
            "evals": [
                {**asdict(asked), "folder": str(r.folder.relative_to(plan.out))} for asked, r in zip(spec.evals, evals)
            ],
        }  # fmt: skip
        write_json(work / "cell.json", told)
        return {}

    with _hidden(given["study"]):
        place.once(make)


def _hidden(study: Mapping[str, Any]) -> Any:
    """Around whatever may ask the server that a study names."""
    return address_hidden((study.get("served") or {}).get("generate_with"))


def strengths(
    base: Base, behavior: Behavior | None, method: Method, spec: Spec, found: Calibration | None
) -> dict[str, Any]:
    """Every strength that is measured, with the KL it has; and which two of them are to be compared."""
    settings = CalibrateSettings(**(spec.calibrate or {}))
    points: dict[float, dict[str, Any]] = {}
    if found is not None:
        for side in (found.neg, found.pos):
            points[side.alpha] = {
                "kl": side.p95, "kl_lo": side.ci_lo, "kl_hi": side.ci_hi, "audit": side.audit, "verdict": side.verdict,
            }  # fmt: skip
        neg, pos = found.alpha_neg, found.alpha_pos
    else:
        neg, pos = min(spec.alphas), max(spec.alphas)
    whole = method.graded and found is not None
    own = [a for a in spec.alphas if found is None or means(method, a)]
    more = [*own, *([f * a for a in (neg, pos) for f in spec.fractions] if whole else [])]
    more = list(dict.fromkeys(a for a in more if a and a not in points))
    method.check_strengths(more)
    if more:
        sets = sets_of(base, settings, behavior)
        for d in divergences(base, method, sets.calib, more, tokens=settings.tokens, thinking=settings.thoughts):
            low, high = d.interval() if d.p95 == d.p95 else (d.p95, d.p95)
            points[d.alpha] = {"kl": d.p95, "kl_lo": low, "kl_hi": high, "audit": None, "verdict": "as given"}
    listed = [{"alpha": a, **points[a]} for a in sorted(points)]
    budget = None if found is None else found.settings.budget
    asked = [] if found is None else sorted(map(mark_of, sets_of(base, settings, behavior).calib))
    return {"budget": budget, "neg": neg, "pos": pos, "points": listed, "questions": asked}


def means(method: Method, alpha: float) -> bool:
    """Whether a strength is one that this method has."""
    try:
        method.check_strengths([alpha])
    except ValueError:
        return False
    return True


def _measured(plan: Plan, method: Method, evaluation: Evaluation, strength: Mapping[str, Any]) -> Record:
    subject = Subject(plan.base, method, method_folder(plan, method), method.name, plan.seed)
    alphas = [p["alpha"] for p in strength["points"]]
    return make_eval(subject, evaluation, alphas=alphas, strength=strength, out=plan.out)[1]


# ---------------------------------------------------------------- found again


class CellPlace(Place):
    """Where a cell's record lies, and what determines it."""

    def read(self) -> dict[str, Any] | None:
        """What the cell found, or None where it is not done."""
        return None if self.manifest is None else json.loads((self.folder / "cell.json").read_text())


def place_of(spec: Spec, base: Base, behavior: Behavior) -> CellPlace:
    """The place of a cell, from what determines its numbers: no method is made for it."""
    study, needs = spec.study, methods.needs(spec.method)
    settings = {
        "protocol": PROTOCOL, "method": spec.method, "seed": study.seed, "alphas": list(spec.alphas),
        "fractions": list(spec.fractions), "calibrate": spec.calibrate,
    }  # fmt: skip
    trained = study.train[needs.adapter] if needs.adapter else study.usual
    served = study.endpoint if needs.answers else None
    reads = needs.answers or needs.personas or needs.seed == "study"
    inputs = {
        **_base_key(base),
        **({} if served is None else {"endpoint": served.described()}),
        "behavior": [behavior.name, behavior.content_hash, behavior.engineered],
        # they say which questions a method may read
        "data": dict(study.data) if reads else None,
        "train": dict(trained) if reads else None,
        "files": {
            part: _hash(Path(part)) for part in (spec.method.partition(":")[2],) if part and Path(part).is_file()
        },
        "calibrate": CALIBRATE_PROTOCOL,
        "evals": [[e.name, e.chosen.id, e.limit, items_hash(base, e.chosen, e.data)] for e in spec.evals],
    }
    where = Path(study.out) / "cells" / slug(base.id) / behavior.name / slug(spec.method)
    return CellPlace.below(where, "cell", settings, inputs)


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@lru_cache(maxsize=2)
def _base_key(base: Base) -> dict[str, Any]:
    """The key of a base, once: it reads the whole tokenizer."""
    return base_key(base)


def tasks_of(specs: Sequence[Spec]) -> list[Task]:
    """The tasks of these cells: what they share first, each once, then the cells."""
    shared: dict[str, Task] = {}

    def share(name: str, function: str, given: Mapping[str, Any], *needs: str) -> str:
        shared.setdefault(name, Task(name, f"{__name__}:{function}", given, needs))
        return name

    cells = []
    for spec in specs:
        told, needs, seed = spec.as_json(), methods.needs(spec.method), f"s{spec.study.seed}"
        study = {"study": told["study"]}
        before = [share("unsteered", "unsteered", {**study, "evals": told["evals"]})]
        if needs.answers:
            before.append(share(f"pairs {seed}", "pairs", study))
        if needs.adapter and not needs.trains:
            trained = {**study, "adapter": needs.adapter}
            before.append(share(f"sides {needs.adapter} {seed}", "sides", trained, f"pairs {seed}"))
        cells.append(Task(spec.name, f"{__name__}:cell", told, tuple(before)))
    return [*shared.values(), *cells]
