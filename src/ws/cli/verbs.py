"""The verbs as commands: read the flags, call one function, print. Each returns the object that `--json` prints."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import typer

from ws.cli.flags import (
    Across,
    Calibrated,
    Common,
    Dialed,
    Exported,
    Generated,
    insist_on_pairs,
    load_base,
    plan_of,
    study_of,
)
from ws.cli.out import left_out_said, number, plain, said, say, show, show_json, show_story
from ws.errors import DirectionMismatch
from ws.settings import coerced, value_of


def replicate(given: dict[str, Any]) -> Any:
    """Run the whole story: data, train, diff, eval, table."""
    from ws.replicate import ALPHAS
    from ws.replicate import replicate as story_of

    common = Common(**coerced(Common, given))
    plan = plan_of(common, given)
    alphas = Dialed(**coerced(Dialed, given)).alphas if "alphas" in given else ALPHAS
    from ws.presets import preset

    story = story_of(plan, alphas=alphas, protocols=preset(common.preset, "protocol"), say=say)
    if given.get("json"):
        return story.as_json()
    show_story(story)
    return None


def data(given: dict[str, Any]) -> Any:
    """Make pairs: the same questions, answered by two opposite personas."""
    from ws.study.stages import make_pairs

    plan = plan_of(Common(**coerced(Common, given)), given)
    pairs, record = make_pairs(plan)
    said("data", record)
    if given.get("json"):
        return {"folder": str(record.folder.resolve()), "n": len(pairs.rows), "checks": record.manifest["checks"]}
    from ws.results.tables import checks_table

    show(checks_table(record.manifest["checks"]))
    about = pairs.provenance
    notes = [f"{n} {reason} dropped" for reason, n in about["dropped"].items()]
    if about.get("n_questions_used") != about.get("n_questions"):
        notes.append(f"{about['n_questions_used']} of {about['n_questions']} questions used; --n-topics says how many")
    more = f" ({', '.join(notes)})" if notes else ""
    show(f"\n{len(pairs.rows)} pairs{more}  {record.folder.resolve()}/pairs.jsonl")
    for r in list({r.prompt_id: r for r in pairs.rows}.values())[:2]:
        show(f"\n  [bold]{plain(r.prompt)}[/]\n  pos: {plain(r.response_pos)}\n  neg: {plain(r.response_neg)}")
    return None


def train(given: dict[str, Any]) -> Any:
    """Fine-tune two adapters, one on each side of the pairs; on several devices with --processes."""
    from ws.cli.together import joined, start_processes, to_start
    from ws.study.stages import make_pairs, make_sides
    from ws.tracking import refuse_missing

    common = Common(**coerced(Common, given))
    across = Across(**coerced(Across, given))
    refuse_missing(across.report_to)
    if n := to_start(across, common):
        return start_processes(n)
    group = joined(across, common)
    with group.together():
        plan = plan_of(common, given, device=group.device if group.size > 1 else None, waiting=group.shard)
        if group.shard:
            insist_on_pairs(plan)
        with group.main_first():
            pairs, record = make_pairs(plan)
        if group.main:
            said("data", record)
        sides, record = make_sides(
            plan, pairs, group=group, rows_at_once=across.rows_at_once, report_to=across.report_to
        )
    if not group.main:
        raise typer.Exit()  # one speaks for all
    said("train", record)
    g, report = record.manifest["geometry"], sides.report
    if given.get("json"):
        return {"folder": str(record.folder.resolve()), "report": dict(report), "geometry": g}
    pos, neg = report["steps"]
    kept = f"step {pos}" if pos == neg else f"steps {pos} and {neg}"
    word = "last" if plan.train.stop == "none" else "best"
    show(
        f"{plan.train.adapter}: lr {report['lr']:g}, {word} at {kept}, validation loss pos {report['val_pos']:.3f}, "
        f"neg {report['val_neg']:.3f}; |tau+| {g['norm_pos']:.3g}, |tau-| {g['norm_neg']:.3g}, |dW| {g['norm']:.3g}, "
        f"cos(tau+, tau-) {number(g['cos_tau'])}\n{record.folder.resolve()}"
    )
    for note in report["notes"]:
        show(f"note: {note}")
    return None


def diff(given: dict[str, Any]) -> Any:
    """Make the direction: the exact difference of a study's two sides, or of any two models LEFT and RIGHT."""
    if given.get("left"):
        return _diff_of_named(given)
    from ws.diff import checked_mode
    from ws.study.stages import make_direction, make_pairs, make_sides

    mode = checked_mode(given.get("mode") or "contrastive")
    plan = replace(plan_of(Common(**coerced(Common, given)), given), mode=mode)
    pairs, record = make_pairs(plan)
    said("data", record)
    sides, record = make_sides(plan, pairs)
    said("train", record)
    geometry = record.manifest["geometry"]
    direction, record = make_direction(plan, sides)
    said("diff", record)
    file = str((record.folder / "direction.safetensors").resolve())
    told = {
        "file": file,
        "norm": record.manifest["norm"],
        "cos_tau": geometry["cos_tau"],
        "bytes": record.manifest["bytes"],
    }
    lost = None
    if given.get("upstream_bf16"):
        from ws.analysis.rounding import upstream_bf16

        lost = upstream_bf16(plan.base, *sides)
    if given.get("json"):
        return {"direction": told, "modules": len(direction.forms), **({"upstream_bf16": lost} if lost else {})}
    show(
        f"{len(direction.forms)} modules, |dW| {told['norm']:.4g}, cos(tau+, tau-) {number(told['cos_tau'])}, "
        f"{told['bytes'] / 1e6:.2f} MB\n{file}"
    )
    if lost:
        from ws.results.tables import rounding_table

        show("")
        show(rounding_table(lost))
    return None


def _diff_of_named(given: dict[str, Any]) -> Any:
    """`ws diff LEFT RIGHT --out FILE`: from adapters, runs, directions, plain tensors or whole checkpoints."""
    from ws.diff import diff_named
    from ws.direction import save
    from ws.direction.file import is_direction

    if odd := sorted(given.keys() - {"left", "right", "out", "model", "rank", "json"}):
        raise ValueError(
            f"--{odd[0].replace('_', '-')} belongs to a study; with LEFT there are --model, --rank and --out"
        )
    if not given.get("out"):
        raise ValueError("ws diff LEFT RIGHT needs a file to write: --out direction.safetensors")
    if Path(given["out"]).suffix != ".safetensors":
        raise ValueError(f"--out names the direction file to write, which ends in .safetensors; got {given['out']}")
    out = Path(given["out"]).expanduser()
    if out.exists() and not is_direction(out):
        raise ValueError(f"{out} exists and is no direction; nothing else is overwritten. Give another --out")
    direction, base = diff_named(given["left"], given.get("right"), model=given.get("model"), rank=given.get("rank"))
    file = save(direction, out)
    made = direction.provenance
    told: dict[str, Any] = {
        "file": str(file.resolve()),
        "norm": direction.norm(base.weight),
        "bytes": file.stat().st_size,
        "base": base.described(),
        "left_out": made.get("left_out"),
        "kept_energy": made.get("compressed", {}).get("kept"),
    }
    if given.get("json"):
        return {"direction": told, "modules": len(direction.forms)}
    show(f"{len(direction.forms)} modules, |dW| {told['norm']:.4g}, {told['bytes'] / 1e6:.2f} MB, for {plain(base.id)}")
    if told["kept_energy"] is not None:
        show(f"rank {made['compressed']['rank']} keeps {100 * told['kept_energy']:.1f} % of the energy")
    if (left_out := told["left_out"]) and left_out["tensors"]:
        show(f"note: {left_out_said(left_out)}")
    show(told["file"])
    return None


def calibrate(given: dict[str, Any]) -> Any:
    """Find the strengths, one per sign, at which a direction or any other method moves the model by a given KL."""
    from ws import methods
    from ws.calibrate import CalibrateSettings
    from ws.pairs import marks_in
    from ws.presets import preset
    from ws.results.tables import calibration_table
    from ws.study.stages import make_calibration, material

    common = Common(**coerced(Common, given))
    what = Calibrated(**coerced(Calibrated, given))
    wanted = {**preset(common.preset, "calibrate"), **coerced(CalibrateSettings, given)}
    settings = CalibrateSettings(**wanted)
    if bool(what.direction) == bool(what.method):
        raise ValueError("ws calibrate needs one of --direction FILE and --method NAME (with --behavior)")
    if what.like and not common.behavior:
        raise ValueError("--like names a prompt of a behavior; say which with --behavior")
    if what.save and Path(what.save).suffix != ".safetensors":
        raise ValueError(f"--save names the file to write, which ends in .safetensors; got {what.save}")
    if what.like and "budget" in given:
        raise ValueError("give --budget or --like, not both")
    for name in filter(None, (what.method, what.like)):
        methods.check(name)
    plan = None
    if what.method or what.like or common.behavior:
        plan = plan_of(common, {k: given[k] for k in ("adapter", "seed") if k in given})
    base = plan.base if plan else load_base(common)
    made = material(plan) if plan else methods.Material(base)
    method = methods.load(what.direction) if what.direction else methods.make(what.method or "", made)
    if what.origin:
        method = methods.with_origin(method, load_base(replace(common, model=what.origin)))
    like = methods.make(what.like, made) if what.like else None
    found, record = make_calibration(
        base, method, settings, Path(common.out), behavior=plan.behavior if plan else None, like=like, say=say
    )
    said("calibrate", record)
    file = methods.save(method, what.save) if what.save else None
    told = found.as_json()
    if given.get("json"):
        return {
            "model": base.id, **told, "folder": str(record.folder.resolve()),
            "plot": str((record.folder / "history.png").resolve()), "file": file and str(file.resolve()),
        }  # fmt: skip
    show(calibration_table([told]))
    show("")
    for side in (found.neg, found.pos):
        show(f"• {plain(_read(side, settings.tolerance))}")
    if what.direction and plan is None and marks_in(method.provenance) is None:
        show(
            "• note: the file does not say what it was trained on, so that was not compared with the prompts used here."
        )
    show(f"\n{(record.folder / 'history.png').resolve()}" + (f"\n{file.resolve()}" if file else ""))
    return None


def _read(side: Any, tolerance: float) -> str:
    """What one sign's calibration says."""
    at = f"alpha {side.alpha:+.4g}"
    if side.matched:
        return f"{at}: {side.p95:.3f} nat of {side.target:.3g}, {side.audit:.3f} on other prompts: of equal strength with what else is matched."
    if side.status == "ok":
        return f"{at}: on target here, but {side.audit:.3f} nat on other prompts, more than 1.5 times off: unmatched. Use more prompts."
    why = {
        "inert": "no effect at all",
        "no_bracket": f"no strength it has reaches {side.target:.3g} nat",
        "jump": f"it jumps over {side.target:.3g} nat, more than {100 * tolerance:g} % off on both sides",
        "max_iter": "not found in the evaluations allowed",
        "nan": "the divergence is not a number",
    }[side.status]
    return f"{at}: {side.p95:.3f} nat, {why}: unmatched, and not to be shown among matched ones."


def generate(given: dict[str, Any]) -> Any:
    """Answer one prompt at several alphas, side by side."""
    from contextlib import ExitStack

    from ws.direction import load as load_direction
    from ws.generate import generate as answer
    from ws.steer import steer

    common = Common(**coerced(Common, given))
    what = Generated(**coerced(Generated, given))
    if not what.prompt or not what.prompt.strip():
        raise ValueError("ws generate needs a question: --prompt 'What is the capital of France?'")
    plan = None
    if what.direction:
        direction = load_direction(what.direction)
    elif given.keys() & {"behavior", "adapter", "pairs"}:  # the study's own direction, made now if it is not there
        plan = plan_of(common, {k: given[k] for k in ("adapter", "seed") if k in given})
        _, direction = study_of(plan)
    else:
        direction = None
    more = []
    for part in what.also:
        file, _, strength = part.rpartition("@")
        if not file:
            raise ValueError(f"--also takes FILE@ALPHA, got {part!r}")
        more.append((load_direction(file), value_of(float, strength, "the strength in `also`")))
    if direction is None and any(what.alphas) and "alphas" in given:
        raise ValueError("--alphas need something to steer by: --direction FILE, or --behavior and --adapter")
    if direction is None and not more:
        say(
            "no direction given, so this is the base alone; steer with --direction FILE, or --behavior NAME for a study's own"
        )
    base = plan.base if plan is not None else load_base(common)
    origin = load_base(replace(common, model=what.origin)) if what.origin else None
    answers: list[dict[str, Any]] = []
    for alpha in what.alphas if direction is not None else (0.0,):
        with ExitStack() as dials:
            for other, strength in more:
                dials.enter_context(steer(base, other, strength, origin=origin))
            if direction is not None:
                dials.enter_context(steer(base, direction, alpha, origin=origin))
            text = answer(
                base, what.prompt, system=what.system, max_new_tokens=what.max_new_tokens,
                temperature=what.temperature, seed=given.get("seed") or 0, thinking=what.thinking,
            )  # fmt: skip
        answers.append({"alpha": alpha, "text": text})
    if given.get("json"):
        others = [{"file": str(Path(p.rpartition("@")[0]).resolve()), "alpha": k} for p, (_, k) in zip(what.also, more)]
        return {
            "model": base.id,
            "prompt": what.prompt,
            "direction": what.direction,
            "also": others,
            "answers": answers,
        }
    from rich.table import Table

    show(f"[bold]{plain(what.prompt)}[/]\n")
    for part in what.also:
        show(f"[dim]with {plain(part)}[/]")
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("alpha", justify="right")
    table.add_column("answer", overflow="fold")
    for a in answers:
        table.add_row(f"{a['alpha']:+g}" if a["alpha"] else "0 (base)" if not more else "0", plain(a["text"]))
    show(table)
    return None


def runs(given: dict[str, Any]) -> Any:
    """List the runs in the output folder; --behavior, --adapter, --model and --seed narrow the list."""
    from ws.results.tables import runs_table
    from ws.study.runs import runs as found

    out = Path(Common(**coerced(Common, given)).out)
    narrow = {k: str(given[k]) for k in ("behavior", "adapter", "model", "seed") if k in given}
    rows = [r for r in found(out) if all(str(r[k]) == v for k, v in narrow.items())]
    if given.get("json"):
        return {"runs": rows}
    if not rows:
        show(f"no runs in {out.resolve()}; `ws replicate` makes the first")
        return None
    show(runs_table(rows))
    show(f"\nfolders: {out.resolve()}/BEHAVIOR/ADAPTER/RUN")
    return None


def inspect(given: dict[str, Any]) -> Any:
    """Say what a direction file is: what made it, its forms, and how large it is per layer and module."""
    from ws.direction import load as load_direction
    from ws.direction.forms import LowRank
    from ws.results.tables import heat_map

    file = given["file"]
    direction = load_direction(file)
    weight = other_bytes = None
    if direction.reads_base or given.get("model"):
        from ws.diff import base_of
        from ws.models import open_checkpoint

        theta = open_checkpoint(base_of(direction, given.get("model")))
        if direction.fingerprint not in (None, theta.fingerprint):
            raise DirectionMismatch(f"the direction was not made on {theta.id}; name its base with --model.")
        made_on = (direction.provenance.get("base") or {}).get("weights_hash")
        other_bytes = None if made_on in (None, theta.weights_hash) else theta.weights_hash
        weight = theta.weight
    norms = direction.norms(weight)
    kinds = sorted({f.kind for forms in direction.forms.values() for f in forms})
    ranks = sorted({f.a.shape[0] for forms in direction.forms.values() for f in forms if isinstance(f, LowRank)})
    told: dict[str, Any] = {
        "file": str(Path(file).resolve()),
        "bytes": Path(file).stat().st_size,
        "hash": direction.content_hash,
        "modules": len(direction.forms),
        "forms": kinds,
        "ranks": ranks,
        "norm": direction.norm(weight),
        "norms": norms,
        "provenance": dict(direction.provenance),
        "other_bytes": other_bytes,
    }
    if given.get("json"):
        return told
    made = direction.provenance
    base, training = made.get("base") or {}, made.get("training") or {}
    show(
        f"[bold]{plain(told['file'])}[/]\n"
        f"base       {base.get('id')} {base.get('revision') or ''} ({(direction.fingerprint or 'unknown')[:16]}, "
        f"weights {(base.get('weights_hash') or 'unknown')[:16]})\n"
        f"made by    {made.get('adapter') or made.get('made_by')}, {made.get('mode') or 'combined'}"
        f"{', lr ' + format(training['lr'], 'g') + ', best step ' + str(training['step']) if training.get('lr') else ''}\n"
        f"forms      {' + '.join(kinds)}{', rank ' + ', '.join(map(str, ranks)) if ranks else ''}\n"
        f"size       |dW| {told['norm']:.4g} over {told['modules']} modules, {told['bytes'] / 1e6:.2f} MB\n"
        f"content    {direction.content_hash[:16]}, every value finite, every tensor accounted for\n"
    )
    if other_bytes:
        show(
            f"note: {plain(theta.id)} has the fingerprint of its base and other bytes (weights {other_bytes[:16]}): another "
            "precision, or an edit of a few values. It can be steered; compare its numbers with care.\n"
        )
    if (left_out := made.get("left_out")) and left_out["tensors"]:
        show(f"note: {left_out_said(left_out)}\n")
    if (kept := (made.get("compressed") or {}).get("kept")) is not None and kept < 1 - 1e-9:
        show(f"note: cut to rank {made['compressed']['rank']}, which keeps {100 * kept:.1f} % of the energy.\n")
    show(heat_map(norms))
    return None


def export(given: dict[str, Any]) -> Any:
    """Carry a direction to another tool, load it again (transformers, peft) and prove that it moves the model as promised."""
    from ws.diff import base_of
    from ws.direction import load as load_direction
    from ws.export import export as write

    what = Exported(**coerced(Exported, given))
    if not what.out:
        raise ValueError("ws export needs a folder to write: --out DIR")
    if what.alpha is not None and what.alphas:
        raise ValueError("give --alpha or --alphas, not both")
    alphas = list(what.alphas) or ([what.alpha] if what.alpha is not None else [])
    direction = load_direction(given["file"])
    base = load_base(replace(what, model=what.model or base_of(direction, what.origin)))
    origin = load_base(replace(what, model=what.origin)) if what.origin else None
    told, verdicts = write(
        direction, base, Path(what.out).expanduser(), to=what.to, alphas=alphas, rank=what.rank, origin=origin
    )
    if given.get("json"):
        return {"folder": str(Path(what.out).resolve()), **told, "proof": [vars(v) for v in verdicts]}
    if "delivered" in told:
        show(f"{100 * told['delivered']:.2f} % of the step survived rounding to the stored precision")
    if told.get("kept_energy", 1.0) < 1 - 1e-9:
        show(
            f"rank {what.rank} keeps {100 * told['kept_energy']:.1f} % of the energy; the logits' change is off by "
            f"{100 * told['cut_error']:.1f} % of the whole direction's"
        )
    _show_verdicts(verdicts)
    show(str(Path(what.out).resolve()))
    return None


def verify(given: dict[str, Any]) -> Any:
    """Load an export again with its consumer's own loader and check that it does what was promised."""
    from ws.export.verify import insist
    from ws.export.verify import verify as checked

    verdicts = checked(Path(given["folder"]))
    told = {"folder": str(Path(given["folder"]).resolve()), "proof": [vars(v) for v in verdicts]}
    if not given.get("json"):
        _show_verdicts(verdicts)
    elif any(v.verdict != "ok" for v in verdicts):  # the record is printed before the failure is said
        show_json(told)
    insist(verdicts)
    return told


def _show_verdicts(verdicts: list[Any]) -> None:
    for v in verdicts:
        show(
            f"alpha {v.alpha:+g}: {v.verdict}. Loaded again, it changes the probes' logits by {100 * v.moved:.2f} % of the "
            f"promised change; the difference is {100 * v.error:.2g} % (at most {100 * v.limit:g} %)."
        )
