"""One method of one study: what it is made from, and what is measured of it at which strengths. A value that JSON holds.

    cell = Cell(Common(behavior="honesty"), "ws:lora", seed=0, evals=evals_of(behavior), calibrate={"budget": 1.0})

Nothing here knows a method by name, but for one thing: the direction of a whole study (`ws:FAMILY`) is measured in the
folder of its run, whichever verb asked for it.

    out/<behavior>/<family>/<run>/eval/...        rows of a study's own direction, as `ws eval --run` leaves them
    out/<behavior>/<method>/<run>/eval/...        rows of any other method
    out/calibrate/...                             strengths, as `ws calibrate` leaves them
    out/cells/<model>/<behavior>/<method>/<key>/  cell.json: what a cell of a comparison has, and where
"""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from weakref import WeakKeyDictionary

from ws import methods
from ws.adapters import USUAL, family
from ws.behaviors import Behavior
from ws.calibrate import PROTOCOL as CALIBRATE_PROTOCOL
from ws.calibrate import CalibrateSettings, Calibration, divergences, sets_of
from ws.eval import Evaluation
from ws.eval.questions import RunPairs
from ws.methods import Material, Method, as_method
from ws.methods.registry import Needs
from ws.methods.weights import Weights
from ws.models.load import Base
from ws.pairs import mark_of, marks_in
from ws.records import Place, Record, canonical, slug, write_json
from ws.settings import coerced
from ws.study.evaluations import Subject, make_eval
from ws.study.keys import base_key, beside, items_hash
from ws.study.options import Common
from ws.study.plan import Plan
from ws.study.planning import outline_of, refuse_misfit
from ws.study.stages import (
    calibration_place,
    make_calibration,
    make_direction,
    make_pairs,
    make_sides,
    material,
    method_folder,
)
from ws.study.worker import keep_base, kept_base
from ws.types import Fields, Json

PROTOCOL = "compare-cell/5"


@dataclass(frozen=True, eq=False)
class Cell:
    """One method with one seed on one model and behavior, with everything that decides its numbers."""

    common: Common
    """Model, behavior, output folder, and what else every verb understands."""
    method: str
    seed: int
    options: Fields = field(default_factory=dict)
    """How pairs and adapters are made, where not by default; a server among it, so it is sent to workers and never written."""
    evals: tuple[Evaluation, ...] = ()
    alphas: tuple[float, ...] = ()
    """Strengths that are measured as they are."""
    calibrate: Fields | None = None
    """Settings of the calibration; None measures at `alphas` only."""
    kl: Fields | None = None
    """How KL is measured where nothing is calibrated: what a calibration has of it; its defaults when None."""
    fractions: tuple[float, ...] = ()
    """Parts of the calibrated strengths that are measured too, for the curve of effect against KL."""
    lr: float | None = None
    """The learning rate, where studies differ in it."""
    study: bool = False
    """Whether table and picture are left in the run's folder, as `ws replicate` leaves them."""

    @property
    def model(self) -> str:
        """The model as it was named."""
        return self.common.model

    @property
    def behavior(self) -> str | None:
        """The behavior as it was named; None where pairs were given."""
        return self.common.behavior

    @cached_property
    def needs(self) -> Needs:
        """What its method is made from."""
        return methods.needs(self.method)

    @property
    def adapter(self) -> str:
        """The family whose training is its study's: that of the method, or the usual one."""
        return self.needs.adapter or USUAL

    @property
    def whole(self) -> bool:
        """Whether its method is the direction of its study, which has a stage and a folder of its own."""
        return self.method == f"ws:{self.needs.adapter}"

    @property
    def name(self) -> str:
        """How its task is called; names of two cells of one grid differ."""
        rate = f"/lr{self.lr:g}" if self.lr is not None else ""
        return f"cell/{self.model}/{self.behavior}/{self.adapter if self.whole else self.method}/s{self.seed}{rate}"

    @property
    def label(self) -> str:
        """The same for a line in a log."""
        rate = f", lr {self.lr:g}" if self.lr is not None else ""
        return f"{self.behavior}, {self.adapter if self.whole else self.method}, seed {self.seed}{rate}, {self.model}"

    @property
    def short(self) -> str:
        """Method and seed, which is what cells of a comparison differ in."""
        return f"{self.method} s{self.seed}"

    @property
    def plan_options(self) -> Json:
        """What the single verbs would be told of its study: without settings that its family lacks."""
        lacks = family(self.adapter).lacks
        return {**{k: v for k, v in self.options.items() if not lacks(k)}, "adapter": self.adapter, "seed": self.seed}

    def as_json(self) -> Json:
        """The cell as a worker is sent it."""
        return json.loads(canonical(asdict(self)))

    @classmethod
    def from_json(cls, value: Fields) -> "Cell":
        """The inverse of `as_json`."""
        lists = {k: tuple(value[k]) for k in ("alphas", "fractions")}
        evals = tuple(Evaluation(**e) for e in value["evals"])
        return cls(**{**value, **lists, "common": Common(**coerced(Common, value["common"])), "evals": evals})


# ---------------------------------------------------------------- what a process keeps between its cells

KEPT = 4
"""Studies: the methods of a comparison go from one family to the next and come back to the usual one."""
_plans: dict[tuple[str, str], tuple[Plan, Material]] = {}
_keys: WeakKeyDictionary[Base, Json] = WeakKeyDictionary()


def keep(base: Base, common: Common) -> None:
    """Let cells that name this model use a base that is loaded already, and nothing of another one."""
    _plans.clear()
    _keys.clear()
    keep_base(base, common)


def cell_plan(cell: Cell) -> tuple[Plan, Material]:
    """The study of a cell, which its model can have, and what methods are made from."""
    plan, parts = cell_outline(cell)
    refuse_misfit(plan)
    return plan, parts


def cell_outline(cell: Cell) -> tuple[Plan, Material]:
    """The same, not held against the network; kept, so that states read for one method serve the next."""
    common = cell.common
    model = canonical([common.model, common.dtype, common.device, common.threads, common.quantize, common.onto])
    key = model, canonical([asdict(common), cell.plan_options])
    if any(other != model for other, _ in _plans):
        _plans.clear()  # before another model is loaded: memory may hold no two
    base = kept_base(common)
    if key not in _plans or _plans[key][0].base is not base:
        plan = outline_of(common, cell.plan_options, base)
        if len(_plans) == KEPT:
            _plans.pop(next(iter(_plans)))
        _plans[key] = plan, material(plan)
    return _plans[key]


def _key_of(base: Base) -> Json:
    """The key of a base, read once: it holds a hash of the whole tokenizer."""
    if base not in _keys:
        _keys[base] = base_key(base)
    return _keys[base]


# ---------------------------------------------------------------- making one


def make_method(cell: Cell, plan: Plan, parts: Material) -> Method:
    """The method of a cell. A study's own direction is the one that its stage keeps."""
    if not cell.whole:
        return methods.make(cell.method, parts)
    return as_method(make_direction(plan, make_sides(plan, make_pairs(plan)[0])[0])[0])


def subject_of(cell: Cell, plan: Plan, method: Method, pairs: RunPairs | None = None) -> Subject:
    """What the evaluations of a cell measure, and where they lie: a study's own direction is measured in its run's folder."""
    if isinstance(method, Weights) and cell.whole:
        return Subject(plan.base, method.direction, plan.run_folder, method.name, plan.seed, pairs=pairs)
    return Subject(plan.base, method, method_folder(plan, method), method.name, plan.seed, pairs=pairs)


def strengths_of(cell: Cell, strength: Fields | None) -> tuple[float, ...]:
    """The alphas that a cell is measured at: those of its record, or as they are."""
    return cell.alphas if strength is None else tuple(p["alpha"] for p in strength["points"])


def make_strength(cell: Cell, plan: Plan, method: Method) -> tuple[Json, Record | None]:
    """The strengths of a cell as its record has them, and the record of the calibration they come from."""
    calibration, searched = None, None
    if cell.calibrate is not None:
        calibration, searched = make_calibration(
            plan.base, method, settings_of(cell), plan.out, behavior=plan.behavior, plot=cell.study
        )

    def make(work: Path) -> Json:
        write_json(work / "strength.json", strengths(plan.base, plan.behavior, method, cell, calibration))
        return {}

    place = strength_place(cell, plan, method)
    place.once(make)
    strength = read_strength(place)
    assert strength is not None
    return strength, searched


def read_strength(place: Place) -> Json | None:
    """The strengths at a place, or None where they are not known yet."""
    return None if place.manifest is None else json.loads((place.folder / "strength.json").read_text())


def settings_of(cell: Cell) -> CalibrateSettings:
    """How KL is measured for a cell, whether strengths are sought or given."""
    return CalibrateSettings(**(cell.calibrate or cell.kl or {}))


def calibration_of(cell: Cell, plan: Plan, method: Method) -> Place:
    """Where the calibration of a cell lies."""
    return calibration_place(plan.base, method, settings_of(cell), plan.out, behavior=plan.behavior)


def strength_place(cell: Cell, plan: Plan, method: Method) -> Place:
    """Where the strengths of a cell lie, with the KL of each."""
    # all that a calibration depends on is all that KL depends on
    measured = calibration_of(cell, plan, method)
    settings = {"alphas": list(cell.alphas), "fractions": list(cell.fractions), "sought": cell.calibrate is not None}
    below = plan.out / "strengths" / slug(plan.base.id) / slug(method.name)
    return Place.below(below, "strengths", settings, {"calibrate": measured.key})


def strengths(
    base: Base, behavior: Behavior | None, method: Method, cell: Cell, calibration: Calibration | None
) -> Json:
    """Every strength that is measured, with the KL it has; and which two of them are to be compared."""
    settings = settings_of(cell)
    points: dict[float, Json] = {}
    if calibration is not None:
        for side in (calibration.neg, calibration.pos):
            known = {"kl": side.p95, "kl_lo": side.ci_lo, "kl_hi": side.ci_hi}
            points[side.alpha] = {**known, "audit": side.audit, "verdict": side.verdict}
        neg, pos = calibration.alpha_neg, calibration.alpha_pos
    else:
        neg, pos = min(cell.alphas), max(cell.alphas)
    whole = method.graded and calibration is not None
    own = [a for a in cell.alphas if calibration is None or has_strength(method, a)]
    more = [*own, *([f * a for a in (neg, pos) for f in cell.fractions] if whole else [])]
    more = list(dict.fromkeys(a for a in more if a and a not in points))
    method.check_strengths(more)
    if more:
        sets = sets_of(base, settings, behavior)
        for d in divergences(base, method, sets.calib, more, tokens=settings.tokens, thinking=settings.thoughts):
            low, high = d.interval(sets.calib_kinds)
            points[d.alpha] = {"kl": d.p95, "kl_lo": low, "kl_hi": high, "audit": None, "verdict": "as given"}
    listed = [{"alpha": a, **points[a]} for a in sorted(points)]
    budget = None if calibration is None else calibration.settings.budget
    questions = [] if calibration is None else sorted(map(mark_of, sets_of(base, settings, behavior).calib))
    return {"budget": budget, "neg": neg, "pos": pos, "points": listed, "questions": questions}


def matched(strength: Fields) -> bool:
    """Whether both strengths to be compared have the budget, and other prompts agree."""
    verdicts = {p["alpha"]: p["verdict"] for p in strength["points"]}
    return verdicts[strength["neg"]] == verdicts[strength["pos"]] == "matched"


def has_strength(method: Method, alpha: float) -> bool:
    """Whether a strength is one that this method has."""
    try:
        method.check_strengths([alpha])
    except ValueError:
        return False
    return True


def make_cell(cell: Cell) -> Record:
    """A cell of a comparison: its method made, brought to its strengths and measured; what is there already is reused."""
    plan, parts = cell_plan(cell)

    def make(work: Path) -> Json:
        method = make_method(cell, plan, parts)
        strength, searched = make_strength(cell, plan, method)
        subject, alphas = subject_of(cell, plan, method), strengths_of(cell, strength)
        evals = [make_eval(subject, e, alphas=alphas, strength=strength, out=plan.out)[1] for e in cell.evals]
        record = {
            "asked": cell.method,
            "kin": cell.needs.kin,
            "control": cell.needs.seed == "draw",
            "places": methods.places(cell.method),
            "method": method.name,
            "kind": method.kind,
            "graded": method.graded,
            "seed": plan.seed,
            "content": method.content_hash,
            "numbers": method.numbers_hash,
            "strength": strength,
            "questions": sorted(marks_in(method.provenance) or ()),
            "calibration": None if searched is None else str(searched.folder.relative_to(plan.out)),
            "evals": [{**asdict(e), "folder": str(r.folder.relative_to(plan.out))} for e, r in zip(cell.evals, evals)],
        }
        write_json(work / "cell.json", record)
        return {}

    return place_of(cell, plan).once(make, beside=beside(plan.base))


# ---------------------------------------------------------------- finding one again


class CellPlace(Place):
    """Where a cell's record lies, and what determines it."""

    def read(self) -> Json | None:
        """The cell's record, or None where it is not done."""
        return None if self.manifest is None else json.loads((self.folder / "cell.json").read_text())


def place_of(cell: Cell, plan: Plan) -> CellPlace:
    """The place of a cell, from what determines its numbers: no method is made for it."""
    behavior, base = plan.behavior, plan.base
    assert behavior is not None, "a comparison has a behavior"
    settings = {
        "protocol": PROTOCOL,
        "method": cell.method,
        "seed": cell.seed,
        "alphas": list(cell.alphas),
        "fractions": list(cell.fractions),
        "calibrate": cell.calibrate,
        **({} if cell.kl is None else {"kl": cell.kl}),
    }
    needs, file = cell.needs, Path(cell.method.partition(":")[2])
    served = plan.endpoint if needs.answers else None
    # settings of pairs and training say which questions a method may read
    reads = needs.answers or needs.personas or needs.seed == "study"
    inputs = {
        **_key_of(base),
        **({} if served is None else {"endpoint": served.described()}),
        "behavior": [behavior.name, behavior.content_hash, behavior.engineered],
        "data": asdict(plan.data) if reads else None,
        "train": asdict(plan.train) if reads else None,
        "files": {str(file): hashlib.sha256(file.read_bytes()).hexdigest()} if file.is_file() else {},
        "calibrate": CALIBRATE_PROTOCOL,
        "evals": [[e.name, e.chosen.id, e.limit, items_hash(base, e.chosen, e.data)] for e in cell.evals],
    }
    below = Path(cell.common.out) / "cells" / slug(base.id) / behavior.name / slug(cell.method)
    return CellPlace.below(below, "cell", settings, inputs)
