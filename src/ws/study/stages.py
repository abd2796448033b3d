"""The verbs with a memory: each stage of a study is made once, found again by its key, and never mistaken for another.

    plan = Plan(base, behavior, data=..., train=...)
    pairs, record = make_pairs(plan)
    sides, record = make_sides(plan)
    direction, record = make_direction(plan)
    found, record = make_calibration(plan.base, method, CalibrateSettings(), plan.out)

Device and batch size are in no key: they do not change what is computed, only how. Precision and thread count are,
because they change the last bits.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

from ws.adapters import Adapter, load_adapter, save_adapter
from ws.behaviors import Behavior
from ws.calibrate import PROTOCOL as CALIBRATE_PROTOCOL
from ws.calibrate import CalibrateSettings, Calibration, calibrate, prompt_targets, sets_of
from ws.data import Preview, checked, data, preview
from ws.diff import diff, geometry
from ws.direction import Direction
from ws.direction import load as load_direction
from ws.errors import BadFile
from ws.eval.questions import RunPairs
from ws.judge import sifted
from ws.methods import Material, Method, save
from ws.methods import load as load_method
from ws.models.checkpoint import Theta, checkpoint_of
from ws.models.load import Base
from ws.pairs import Check, Pairs, load_pairs, save_pairs
from ws.records import Place, Record, read, refuse_damaged, slug, write_json
from ws.results.plots import search_panels
from ws.settings import coerced
from ws.study.card import command_of
from ws.study.keys import base_key, beside
from ws.study.plan import Plan
from ws.train import Sides, TrainSettings, default_train, train
from ws.train.processes import ALONE, Group
from ws.train.tracking import UNTRACKED, Tracking
from ws.types import Json


def make_pairs(plan: Plan) -> tuple[Pairs, Record]:
    """The pairs of a study, generated, answered by a server, or taken from the user's file, made once."""

    def make(work: Path) -> Json:
        if plan.pairs_file is not None:
            pairs = load_pairs(plan.pairs_file, plan.name)
            pairs = checked(plan.base, pairs, min_distinct=plan.data.min_distinct, accept=plan.data.accept)
        else:
            assert plan.behavior is not None
            pairs = data(plan.base, plan.behavior, plan.data, endpoint=plan.endpoint, work=work)
        if plan.judge is not None:
            pairs = sifted(pairs, plan.judge, plan.standard)
        save_pairs(pairs, work / "pairs.jsonl")
        checks = [asdict(c) for c in pairs.checks]
        return {
            "provenance": dict(pairs.provenance),
            "checks": checks,
            "n": len(pairs.rows),
            "content": pairs.content_hash,
        }

    record = plan.data_place.once(make, beside=beside(plan.base))
    return read_pairs(record.folder, record.manifest), record


def preview_pairs(plan: Plan) -> Preview:
    """A few questions of a study, answered and checked; nothing is kept of it."""
    source = plan.behavior if plan.pairs_file is None else load_pairs(plan.pairs_file, plan.name)
    assert source is not None
    return preview(plan.base, source, plan.data, endpoint=plan.endpoint)


def read_pairs(folder: Path, manifest: Mapping[str, Any]) -> Pairs:
    """The pairs of a finished stage, which must be what was written there."""
    pairs = load_pairs(folder / "pairs.jsonl")
    if pairs.content_hash != manifest["content"]:
        raise BadFile(f"{folder}/pairs.jsonl is not what was written there; move the folder away and run again.")
    return Pairs(pairs.rows, manifest["provenance"], tuple(Check(**c) for c in manifest["checks"]))


def pairs_of(manifest: Mapping[str, Any], out: Path) -> RunPairs:
    """The pairs a run was trained on, found by the key in its training's manifest, and its settings."""
    key = manifest["inputs"].get("pairs")
    if key is None:
        raise BadFile("this run is a fine-tune on a data set and has no pairs; take the run of a behavior.")
    for path in out.glob(f"data/*/*/{key[:12]}"):
        if (record := read(path)) and record["key"] == key:
            refuse_damaged(path, record)
            settings = TrainSettings(**coerced(TrainSettings, manifest["settings"], source="the run's "))
            return RunPairs(read_pairs(path, record), settings)
    raise BadFile(f"the pairs of this run (key {key[:12]}) are not below {out}/data; give the `out` they were made in.")


def make_sides(
    plan: Plan, pairs: Pairs, *, group: Group = ALONE, rows_at_once: int | None = None, report_to: Sequence[str] = ()
) -> tuple[Sides, Record]:
    """Both trained sides of a study, made once; a killed training goes on from its last checkpoint.

    With `group`, every process calls this; the main one keeps the record, the others train along when it does.
    """
    folder = plan.train_place.folder
    if plan.labels is not None:
        pairs = pairs.shuffled(plan.labels)

    def fit(work: Path) -> Sides:
        tracking = Tracking(report_to, plan.run_folder / "tracking", _tracked(plan)) if group.main else UNTRACKED
        return train(plan.base, pairs, plan.train, work=work, group=group, rows_at_once=rows_at_once, tracking=tracking)

    def make(work: Path) -> Json:
        group.as_main(work)  # the others go along
        sides = fit(work)
        theta = checkpoint_of(plan.base) if group.shard else plan.base  # weights that are spread cannot be read here
        return {**written_sides(work, sides, plan.base, theta), **group.described()}

    if group.main:
        record = plan.train_place.once(make, beside=beside(plan.base))
        if record.reused:
            group.as_main(None)
    elif (work := group.as_main(None)) is not None:
        fit(work)
    group.wait()
    if not group.main:
        manifest = read(folder)
        if manifest is None:
            raise BadFile(f"this process does not see {folder}; give an `out` that all machines share.")
        record = Record(folder, manifest, reused=True)
    return sides_in(folder), record


def sides_in(folder: Path) -> Sides:
    """Both trained sides of a finished training, and its checkpoints."""
    manifest = read(folder)
    if manifest is None:
        raise BadFile(f"there is no finished training in {folder}")
    report = manifest["report"]
    steps = report["checkpoints"]
    checkpoints = tuple(Sides(*_loaded(folder / checkpoint_name(step)), {"step": step}) for step in steps)
    return Sides(*_loaded(folder), report, checkpoints)


def written_sides(work: Path, sides: Sides, base: Base, theta: Theta | None = None) -> Json:
    """Both sides and their checkpoints as files of a stage, and what its manifest says of them."""
    for place, both in ((work, sides), *((work / checkpoint_name(c), c) for c in sides.checkpoints)):
        for name, side in zip(("pos", "neg"), both):
            save_adapter(side, place / name, base)
    return {
        "report": dict(sides.report),
        "geometry": dict(geometry(theta or base, *sides)),
        "base": base.described(),
    }


def checkpoint_name(of: Sides | int) -> str:
    """Where both sides of a checkpoint lie, beside the result."""
    return f"checkpoints/step-{of if isinstance(of, int) else of.report['step']}"


def _loaded(folder: Path) -> tuple[Adapter, Adapter]:
    return load_adapter(folder / "pos"), load_adapter(folder / "neg")


def _tracked(plan: Plan) -> Json:
    """The names and hashes of a study for an experiment tracker, and no path."""
    return {
        "model": plan.base.id,
        "behavior": plan.name,
        "fingerprint": plan.base.fingerprint,
        "key": plan.train_place.key,
        "run": plan.run_folder.name,
    }


def make_direction(plan: Plan, sides: Sides) -> tuple[Direction, Record]:
    """The direction of a study, made once."""

    def make(work: Path) -> Json:
        file = work / "direction.safetensors"
        change = diff(plan.base, *sides, mode=plan.mode, into=file, card={"command": command_of(plan)})
        return {"content": change.content_hash, "norm": change.norm(plan.base.weight), "bytes": file.stat().st_size}

    record = plan.direction_place.once(make, beside=beside(plan.base))
    folder = record.folder
    direction = load_direction(folder / "direction.safetensors")
    if record.manifest["content"] not in direction.content_hashes:
        raise BadFile(
            f"{folder}/direction.safetensors is not what was written there; move the folder away and run again."
        )
    return direction, record


def material(plan: Plan, train_of: Mapping[str, TrainSettings] | None = None) -> Material:
    """What methods are made from, of a study: its pairs and its trained sides are made when a method asks for them.

    `train_of` says how families other than the plan's own are trained; without it, by their defaults.
    """

    @cache
    def pairs() -> Pairs:
        return make_pairs(plan)[0]

    def settings(adapter: str) -> TrainSettings:
        by_family = {plan.train.adapter: plan.train, **(train_of or {})}
        # one split for all: what one method is tested on, no other has learnt from
        shared = {k: getattr(plan.train, k) for k in ("seed", "val_share", "test_share")}
        return replace(by_family.get(adapter) or default_train(plan.base, adapter), **shared)

    @cache
    def sides(adapter: str) -> Sides:
        return make_sides(replace(plan, train=settings(adapter)), pairs())[0]

    def controls(adapter: str, draw: int) -> Sides:
        return make_sides(replace(plan, train=settings(adapter), labels=draw), pairs())[0]

    def trained_once(name: str, how: Json, make: Callable[[], Method]) -> Method:
        return make_trained(plan, name, how, make)

    return Material(
        plan.base,
        plan.behavior,
        questions=lambda: [text for number in sorted(plan.parts.train) for text in plan.questions[number]],
        pairs=lambda: pairs().of(plan.parts.train),
        held=lambda: pairs().of(plan.parts.val),
        sides=sides,
        controls=controls,
        settings=settings,
        once=trained_once,
        seed=plan.seed,
    )


def make_trained(plan: Plan, name: str, how: Json, make: Callable[[], Method]) -> Method:
    """A method that takes a training of its own, or as long, made once from a study's pairs."""
    below = plan.out / "methods" / slug(plan.base.id) / plan.name / slug(name)
    place = Place.below(below, "method", how, {**base_key(plan.base), "pairs": plan.data_place.key})

    def write(work: Path) -> Json:
        method = make()
        save(method, work / "method.safetensors")
        return {"content": method.content_hash}

    record = place.once(write, beside=beside(plan.base))
    file = record.folder / "method.safetensors"
    method = load_method(file)
    if record.manifest["content"] != method.content_hash:
        raise BadFile(f"{file} is not what was written there; move the folder away and run again.")
    return method


def method_folder(plan: Plan, method: Method) -> Path:
    """Where evaluations of a method lie, as those of a run do."""
    run = f"{slug(plan.base.id)}-s{plan.seed}-{method.content_hash[:8]}"
    return plan.out / plan.name / slug(method.name) / run


def calibration_place(
    base: Base,
    method: Method,
    settings: CalibrateSettings,
    out: Path,
    *,
    behavior: Behavior | None = None,
    like: Method | None = None,
) -> Place:
    """Where the strengths of a method at a budget lie, found or not."""
    sets = sets_of(base, settings, behavior)
    inputs = {
        **base_key(base),
        "method": method.content_hash,
        "prompts": [list(sets.calib), list(sets.audit)],
        "like": None if like is None else like.content_hash,
    }
    folder = out / "calibrate" / slug(base.id) / slug(method.name)
    return Place.below(folder, "calibrate", {**asdict(settings), "protocol": CALIBRATE_PROTOCOL}, inputs)


def strengths_in(record: Record) -> Calibration:
    """The strengths of a finished calibration, which must be what was written there."""
    refuse_damaged(record.folder, record.manifest)
    return Calibration.from_json(json.loads((record.folder / "calibration.json").read_text()))


def make_calibration(
    base: Base,
    method: Method,
    settings: CalibrateSettings,
    out: Path,
    *,
    behavior: Behavior | None = None,
    like: Method | None = None,
    plot: bool = True,
    say: Callable[[str], None] = lambda line: None,
) -> tuple[Calibration, Record]:
    """The strengths of one method at a budget, found once; with `like`, at what that prompt does to the model.

    A picture takes as long as several strengths, so whoever draws many of them together leaves `plot` out.
    """
    place = calibration_place(base, method, settings, out, behavior=behavior, like=like)

    def make(work: Path) -> Json:
        targets = None if like is None else prompt_targets(base, like, settings, behavior=behavior)
        strengths = calibrate(
            base, method, settings=settings, targets=targets, prompts=sets_of(base, settings, behavior), progress=say
        )
        write_json(work / "calibration.json", strengths.as_json())
        return {"matched": strengths.matched, "method": method.name}

    record = place.once(make, beside=beside(base))
    calibration = strengths_in(record)
    if plot and not (record.folder / "history.png").is_file():
        strengths = calibration.as_json()
        targets = " and ".join(sorted({f"{strengths[side]['target']:.3g}" for side in ("neg", "pos")}))
        search_panels([strengths], f"{base.id}: search for {targets} nat", record.folder / "history")
    return calibration, record
