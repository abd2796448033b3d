"""The verbs about numbers: `ws eval` makes rows, `ws table` makes tables of them, `ws show` the items behind a number."""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from shlex import quote
from typing import Any

from ws.cli.flags import Common, Dialed, Evaluated, Shown, Tabled, load_base, pairs_of, plan_of, study_of
from ws.cli.out import plain, said, say, show, show_sheet
from ws.cli.results import known_axis
from ws.settings import coerced

HARNESS = "lm-eval"


@dataclass(frozen=True, eq=False)
class Subject:
    """What is measured: a model, what steers it or nothing, and where its results lie."""

    base: Any
    by: Any
    origin: Any
    folder: Path
    method: str
    seed: int
    behavior: str | None
    pairs: Any = None
    settings: Any = None


def evaluate(given: dict[str, Any]) -> Any:
    """Measure a direction or any method with one evaluation, over a grid of alphas; with --alphas=0, the model alone."""
    name = given.pop("name")
    common = Common(**coerced(Common, given))
    what = Evaluated(**coerced(Evaluated, given))
    alphas = Dialed(**coerced(Dialed, given)).alphas
    if sum(map(bool, (what.run, what.direction, what.method))) > 1:
        raise ValueError("give one of --run, --direction and --method")
    if not alphas:
        raise ValueError("--alphas needs at least one number, e.g. --alphas=-1,0,1")
    if what.axis:  # before any work
        known_axis(name, what.axis)
    measure = _with_harness if name == HARNESS else _with_protocol
    table, record, subject, chosen = measure(name, common, what, alphas, given)
    said(f"eval {name}", record)
    from ws.behaviors import SHIPPED, load_behavior
    from ws.cli.results import few_units, show_note, show_panels, units, with_axis
    from ws.eval import shown
    from ws.results.measured import measured as found_in
    from ws.results.measured import not_held_out
    from ws.results.tables import alpha_table, reading
    from ws.study.evaluations import rows_in

    # a pack is found by the path that was typed, a run's behavior by its name, if it is a shipped one
    pack = common.behavior or (subject.behavior if subject.behavior in SHIPPED else None)
    known = load_behavior(pack, tiny=subject.base.tiny) if pack else None
    behavior, intent = (known.name, known.intent) if known else (None, {})
    if what.axis:
        intent = with_axis(name, what.axis, behavior, intent)
    panels = chosen.panels(rows_in(record), intent)
    note = record.manifest["note"]
    if given.get("json"):
        told = {"model": subject.base.id, "eval": name, "folder": str(record.folder.resolve()), "rows": table}
        told |= {"protocol": record.manifest["settings"]["protocol"], "note": note}
        return told | {"panels": {p.title: list(p.records) for p in panels}}
    show_note(note)
    limited = what.limit if name == HARNESS else None
    smoke = f", SMOKE: only {units(note.get('n_units', limited))}" if note.get("smoke") or limited else ""
    seen = shown(table, intent)
    show(alpha_table(seen, f"{behavior + ': ' if behavior else ''}{subject.method} on {subject.base.id}{smoke}"))
    lines = [*not_held_out(found_in([record.folder])), *reading(table, intent)]
    for line in [*lines, *few_units(seen, lines)]:
        show(f"• {plain(line)}")
    show_panels(panels)
    there = {r["metric"] for r in seen}
    show("")
    for metric, means in chosen.legend.items():
        if metric in there:
            show(f"[dim]{metric}: {plain(means)}[/]")
    show(f"rows: {record.folder.resolve()}/rows.parquet")
    return None


def _with_protocol(name: str, common: Common, what: Evaluated, alphas: Sequence[float], given: dict[str, Any]) -> Any:
    from ws.eval import protocol as checked
    from ws.presets import preset
    from ws.study.evaluations import make_eval

    if what.tasks or what.include_path:
        raise ValueError(f"--tasks and --include-path belong to ws eval {HARNESS}")
    protocol_id = what.protocol or preset(common.preset, "protocol").get(name)
    chosen = checked(name, protocol_id)  # before any work
    if common.preset != "ws" and protocol_id is None:
        say(f"preset {common.preset} has no protocol of its own for {name}; {chosen.id} is used")
    if what.n_think is not None:
        if name in WHOLE_ANSWERS:
            raise ValueError(f"{name} scores whole answers, which takes no thought; leave out --n-think")
        chosen = chosen.thinking(what.n_think)
    subject = _subject(name, common, what, alphas, given, chosen)
    table, record = make_eval(
        subject.base,
        name,
        subject.by,
        subject.folder,
        alphas=_strengths(subject, alphas, given),
        method=subject.method,
        protocol_id=protocol_id,
        data_file=what.data,
        limit=what.limit,
        seed=subject.seed,
        pairs=subject.pairs,
        settings=subject.settings,
        origin=subject.origin,
        out=Path(common.out),
        n_think=what.n_think,
    )
    return table, record, subject, chosen


WHOLE_ANSWERS = ("pairs", "perplexity")


def _with_harness(name: str, common: Common, what: Evaluated, alphas: Sequence[float], given: dict[str, Any]) -> Any:
    from ws.eval.harness import Tasks, protocol_of
    from ws.study.evaluations import make_harness

    for flag, value in (("--data", what.data), ("--protocol", what.protocol), ("--n-think", what.n_think)):
        if value is not None:
            raise ValueError(f"{flag} does nothing for {name}, whose questions come from --tasks; leave it out")
    tasks = Tasks(what.tasks, what.include_path)
    subject = _subject(name, common, what, alphas, given)
    table, record = make_harness(
        subject.base,
        tasks,
        subject.by,
        subject.folder,
        alphas=_strengths(subject, alphas, given),
        method=subject.method,
        limit=what.limit,
        seed=subject.seed,
        origin=subject.origin,
        out=Path(common.out),
    )
    return table, record, subject, protocol_of(f"{HARNESS}/any")


def _strengths(subject: Subject, alphas: Sequence[float], given: dict[str, Any]) -> Sequence[float]:
    """The strengths asked for; a method that is there or not has only three, and needs no list of them."""
    return (
        alphas if subject.by is None or getattr(subject.by, "graded", True) or "alphas" in given else (-1.0, 0.0, 1.0)
    )


def _subject(
    name: str, common: Common, what: Evaluated, alphas: Sequence[float], given: dict[str, Any], chosen: Any = None
) -> Subject:
    """A run's direction, a file's, a method or a study's direction that is made now, or the model alone."""
    from ws.records import find_run, slug

    if what.method:
        return _subject_by_name(name, what.method, common, what, given, chosen)
    if not (what.run or what.direction):
        if not any(alphas) and name != "pairs":
            base = load_base(common)
            return Subject(base, None, None, Path(common.out) / "base" / slug(base.id), "base", 0, common.behavior)
        plan = plan_of(common, given)
        if chosen is not None and name != "pairs":  # what cannot be scored is said before hours of training
            _can_be_asked(plan.base, chosen, what.data)
        pairs, direction = study_of(plan)
        of = plan.train
        return Subject(
            plan.base, direction, None, plan.run_folder, f"ws:{of.adapter}", of.seed, plan.name, pairs, of
        )  # fmt: skip
    from ws.direction import load as load_direction
    from ws.methods import Method
    from ws.methods.file import is_method
    from ws.methods.file import load as load_method

    manifest = pairs = settings = None
    if what.run:
        folder, manifest = find_run(what.run, common.out)
        _as_the_run(what.run, folder, manifest, given)
        direction = load_direction(folder / "direction" / "direction.safetensors")
        if "model" not in given:
            common = replace(common, model=manifest["model"]["source"])
    else:
        file = what.direction or ""
        direction = load_method(file) if is_method(file) else load_direction(file)
        folder = Path(common.out) / "direct" / direction.content_hash[:12]
    base = load_base(common)
    origin = load_base(replace(common, model=what.origin)) if what.origin else None
    if name == "pairs" and manifest is not None:
        pairs, settings = pairs_of(manifest, common)
    made = direction.provenance
    behavior = common.behavior or (folder.parent.parent.name if what.run else None)
    if isinstance(direction, Method):
        method, seed = direction.name, int(made.get("seed", 0))
    else:
        method = f"ws:{made.get('adapter', 'direction')}"
        seed = int(made.get("training", {}).get("settings", {}).get("seed", 0))
    return Subject(base, direction, origin, folder, method, seed, behavior, pairs, settings)


def _subject_by_name(
    name: str, method: str, common: Common, what: Evaluated, given: dict[str, Any], chosen: Any
) -> Subject:
    """Any method, made now from a study's material."""
    from ws import methods
    from ws.study.stages import make_pairs, material, method_folder

    methods.check(method)
    plan = plan_of(common, given)
    if chosen is not None and name != "pairs":
        _can_be_asked(plan.base, chosen, what.data)
    made = methods.make(method, material(plan))
    origin = load_base(replace(common, model=what.origin)) if what.origin else None
    pairs = make_pairs(plan)[0] if name == "pairs" else None
    folder = method_folder(plan, made)
    return Subject(plan.base, made, origin, folder, made.name, plan.seed, plan.name, pairs, plan.train)


def _can_be_asked(base: Any, chosen: Any, data: str | None) -> None:
    """Refuse questions that this model's tokenizer cannot be asked."""
    from ws.eval.protocol import items_of
    from ws.eval.scoring import prompts_of

    (first, *_) = items_of(chosen, base, data=data, limit=1)
    if first.words[0]:
        prompts_of(base, [first])


def _as_the_run(run: str, folder: Path, manifest: dict[str, Any], given: dict[str, Any]) -> None:
    """Refuse flags that describe another study than the run is."""
    own = {"behavior": folder.parent.parent.name, **manifest["settings"]}
    for flag in ("behavior", "adapter", "seed"):
        if flag in given and str(given[flag]) != str(own.get(flag)):
            raise ValueError(f"--{flag} {given[flag]} is not what {run} was made with ({own.get(flag)}); leave it out")


def table(given: dict[str, Any]) -> Any:
    """Make every table again from the rows: runs and methods side by side, published columns first."""
    from ws.results.summary import sheets

    what = Tabled(**coerced(Tabled, given))
    if sum(map(bool, (what.markdown, what.csv, given.get("json")))) > 1:
        raise ValueError("give one of --markdown, --csv and --json")
    found = _measured(given.get("places") or [what.out], what.out)
    there = ", ".join(sorted({f"{m.protocol.eval} ({m.behavior or m.method})" for m in found}))
    there = f"there is {there}" if there else "there are no evaluations here: `ws eval` makes one"
    names = {
        "--eval": {x for m in found for x in (m.protocol.eval, m.protocol.id)},
        "--behavior": {m.behavior for m in found},
    }
    for flag, asked in (("--eval", what.eval), ("--behavior", what.behavior)):
        if missing := [x for x in asked if x not in names[flag]]:
            raise ValueError(f"nothing to tabulate for {flag} {','.join(missing)}; {there}")
    kept = [
        m for m in found
        if (not what.eval or {m.protocol.eval, m.protocol.id} & set(what.eval))
        and (not what.behavior or m.behavior in what.behavior)
    ]  # fmt: skip
    if not kept:
        raise ValueError(f"nothing to tabulate; {there}")
    measured_at = ", ".join(f"{a:+g}" for a in sorted({a for m in kept for a in m.alphas if a > 0})) or "none above 0"
    if what.alpha is not None and what.alpha <= 0:
        raise ValueError(f"--alpha must be above 0; measured: {measured_at}")
    made, notes = sheets(kept, alpha=what.alpha)
    if not made and what.alpha is not None:
        raise ValueError(f"nothing was measured at --alpha {what.alpha:g}; measured: {measured_at}")
    if not made:
        raise ValueError(" ".join(notes) or "only strength 0 was measured, which is no table of methods")
    if given.get("json"):
        tables = [{"title": s.title, "columns": s.columns, "rows": s.records, "readings": s.readings} for s in made]
        return {"tables": tables, "notes": notes}
    if what.csv:
        _write_csv(made)
        for n in notes:
            say(n)
        return None
    if what.markdown:
        print("\n".join(s.markdown() for s in made) + "".join(f"\n{n}\n" for n in notes), end="")
        return None
    for s in made:
        show_sheet(s, 240)
        for line in (s.expected, *s.readings):
            if line:
                show(f"• {plain(line)}")
        show("")
    for n in notes:
        show(f"note: {plain(n)}")
    return None


def _write_csv(made: Sequence[Any]) -> None:
    """Every record on a line of its own, the union of their columns in order of appearance."""
    import csv

    records = [{"table": s.title.split(" · ")[0], **r} for s in made for r in s.records]
    columns = list(dict.fromkeys(c for r in records for c in r))
    writer = csv.DictWriter(sys.stdout, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: "" if isinstance(v, float) and math.isnan(v) else v for k, v in r.items()} for r in records)


def _measured(places: Sequence[str], out: str) -> list[Any]:
    """Evaluations below folders, or of runs named as `ws runs` lists them."""
    from ws.records import find_run
    from ws.results.measured import measured

    return measured([Path(p) if Path(p).is_dir() else find_run(p, out)[0] for p in places])


def show_items(given: dict[str, Any]) -> Any:
    """Show the items behind a number: what was asked, and what it scored at 0 and steered."""
    from ws.results.items import COSTS, moved
    from ws.results.line import Line
    from ws.results.summary import best, forward

    what = Shown(**coerced(Shown, given))
    for flag, n in (("--worst", what.worst), ("--best", what.best)):
        if n is not None and n < 1:
            raise ValueError(f"{flag} must be at least 1, got {n}")
    if what.worst and what.best:
        raise ValueError("give --worst or --best, not both")
    found = _measured([given["run"]], what.out)
    if what.eval:
        found = [m for m in found if what.eval in (m.protocol.eval, m.protocol.id)] or _nothing(found, what.eval)
    if what.data:
        found = [m for m in found if what.data in m.source or m.items_hash.startswith(what.data)] or _nothing(
            found, f"evaluation on {what.data!r}", of="data"
        )
    if not found:
        raise ValueError(f"{given['run']} has no evaluations; `ws eval NAME --run {given['run']}` makes one")
    steered = [m for m in found if any(m.alphas)] or _nothing(found, "strength other than 0")
    names = list(dict.fromkeys(m.protocol.id for m in sorted(steered, key=lambda m: m.smoke)))
    alike = [m for m in steered if m.protocol.id == names[0]]
    # a strength that was asked for decides; otherwise all units before some, then +1
    having = [m for m in alike if what.alpha is None or what.alpha in m.alphas] or alike
    full = [m for m in having if not m.smoke] or having
    m = best(full, what.alpha if what.alpha is not None else forward({a for m in full for a in m.alphas}, None) or 0.0)
    line = Line(m, m.method, 0.0, None)
    claimed = [x for x in line.metrics if line.intents.get(x)]
    metric = what.metric or (claimed or list(line.metrics))[0]
    alpha = (
        what.alpha if what.alpha is not None else 1.0 if 1.0 in m.alphas else max((a for a in m.alphas if a), key=abs)
    )
    sign = -1 if metric in COSTS else (line.intents.get(metric, 0) or 1) * (1 if alpha > 0 else -1)
    units = moved(m, alpha=alpha, metric=metric, sign=sign)
    n = what.best or what.worst or 10
    shown = units[::-1][:n] if what.best else units[:n]
    told = {
        "run": m.run,
        "method": m.method,
        "model": m.model,
        "protocol": m.protocol.id,
        "metric": metric,
        "alpha": alpha,
        "data": m.source,
        "items": m.items_hash,
        "smoke": m.smoke,
    }
    if given.get("json"):
        return told | {"units": [vars(u) | {"change": u.change} for u in shown]}
    _show_units(m, told, units, shown, best=bool(what.best), wanted=bool(line.intents.get(metric)))
    for o in alike:
        if o is not m:
            at = ", ".join(f"{a:+g}" for a in o.alphas if a)
            smoke = ", SMOKE" if o.smoke else ""
            source = f"{o.source}, " if o.source else ""
            about = f"{source}items {o.items_hash}, at {at}{smoke}: ws show {quote(str(o.folder))}"
            show(f"[dim]also measured: {plain(about)}[/]")
    if len(names) > 1 and not what.eval:
        show(f"[dim]also measured here: {plain(', '.join(names[1:]))}; choose with --eval[/]")
    if len(line.metrics) > 1 and not what.metric:
        show(f"[dim]other metrics: {plain(', '.join(x for x in line.metrics if x != metric))}; choose with --metric[/]")
    return None


def _nothing(found: Sequence[Any], name: str, of: str = "protocol") -> Any:
    there = [m.protocol.id if of == "protocol" else f"{m.source or m.protocol.id} ({m.items_hash})" for m in found]
    raise ValueError(f"no {name} here; there are {', '.join(dict.fromkeys(there)) or 'no evaluations'}")


ROWS, PROMPT, THOUGHT = 4, 400, 240  # rows of a unit that are printed, and characters of a question and of a thought


def _show_units(
    m: Any, told: dict[str, Any], units: Sequence[Any], shown: Sequence[Any], *, best: bool, wanted: bool
) -> None:
    from ws.results.items import COSTS
    from ws.results.tables import signed, some

    alpha = told["alpha"]
    way = "as the behavior wants" if wanted else "upwards" if alpha > 0 else "downwards"
    which = f"moved {'most' if best else 'least'} {way}"
    if told["metric"] in COSTS:
        which = "rose least, or fell" if best else "rose most: larger is worse"
    smoke = "  SMOKE: not all units" if m.smoke else ""
    where = ", ".join([m.protocol.id, m.run, m.data])
    show(
        f"[bold]{plain(told['metric'])}, {plain(m.method)} on {plain(m.model)}: 0 → {alpha:+g}{smoke}[/]  [dim]{plain(where)}[/]\n"
        f"the {len(shown)} of {some(len(units), 'unit')} that {which}"
    )
    if m.items is None:
        show("[dim]made by an older version that did not keep the questions; run the evaluation again to see them[/]")
    for u in shown:
        show(
            f"\n[bold]{signed(u.before)} → {signed(u.after)}[/]  change {signed(u.change)}   [dim]{plain(u.unit_id)}[/]"
        )
        last = None
        for r in u.rows[:ROWS]:
            prompt = _squeezed(r.get("prompt", r["row_key"]), PROMPT)
            if prompt != last:
                show(f"  {plain(prompt)}")
            last = prompt
            answers = f"  {plain(_squeezed(r['wanted'], 80))}" if r.get("wanted") else ""
            answers += f" [dim]over[/] {plain(_squeezed(r['unwanted'], 80))}" if r.get("unwanted") else ""
            show(f"    {signed(r['before'])} → {signed(r['after'])} {answers}")
            for name, text in (("0", r.get("text_before")), (f"{alpha:+g}", r.get("text_after"))):
                if text:
                    show(f"      [dim]at {name}:[/] {plain(_squeezed(text, THOUGHT))}")
        if len(u.rows) > ROWS:
            show(f"    [dim]and {len(u.rows) - ROWS} more rows of this unit; --json has them all[/]")
    show("")


def _squeezed(text: str, most: int) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= most else flat[: most - 1] + "…"
