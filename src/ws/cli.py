"""The command line: parse, call one function, print.

Options are made from the settings dataclasses, so nothing is declared twice. Results go to stdout, progress and logs to
stderr. Exit 0: done. 1: it failed. 2: you asked for something impossible, told in one sentence.
"""

import inspect
import json
import logging
import os
import sys
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from ws.errors import BadFile, WsError
from ws.settings import coerced, field_docs, plain_type, value_of

log = logging.getLogger("ws")
app = typer.Typer(
    name="ws",
    help="Weight steering: turn a behavior into a direction in weight space, and the dial by it.\n\nStart with: ws replicate",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    add_completion=True,
)


# ---------------------------------------------------------------- settings shared by all verbs


@dataclass(frozen=True)
class Common:
    """What every verb understands."""

    model: str = "tiny"
    """tiny, a hub id, id@revision, or a folder."""
    behavior: str | None = None
    """A shipped behavior (honesty, honesty5, sycophancy, trad_care, authority) or the path of a YAML pack; honesty when not given."""
    pairs: str | None = None
    """Your own pairs (JSON lines or parquet: prompt, response_pos, response_neg) instead of generated ones."""
    out: str = "out"
    """Output folder."""
    preset: str = "ws"
    """Set of defaults: ws, pub (the published fork) or paper."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps."""
    dtype: str = "auto"
    """Precision of the base: auto, float32, bfloat16, float16 or float64."""
    threads: int | None = None
    """CPU threads; tiny runs on one when not given."""


@dataclass(frozen=True)
class Dialed:
    """How far the dial is turned."""

    alphas: tuple[float, ...] = (-1.0, -0.5, 0.0, 0.5, 1.0)
    """Strengths to measure, e.g. --alphas=-1,0,1."""


@dataclass(frozen=True)
class Evaluated:
    """What an evaluation is run on."""

    run: str | None = None
    """A run folder, as `ws runs` lists them; its direction is used."""
    direction: str | None = None
    """A direction.safetensors."""
    data: str | None = None
    """A data file (csv, jsonl, json, parquet) instead of the hub's or the embedded one."""
    protocol: str | None = None
    """Protocol id, where an evaluation has several."""
    limit: int | None = None
    """Only the first so many units; marks the rows as a smoke run."""
    origin: str | None = None
    """The base the direction was made on, when the model is a fine-tune of it."""


@dataclass(frozen=True)
class Generated:
    """What `ws generate` prints."""

    prompt: str | None = None
    """The question."""
    system: str | None = None
    """A system prompt; none when not given."""
    direction: str | None = None
    """A direction.safetensors; without one, --behavior and --adapter name a study whose direction is used."""
    also: tuple[str, ...] = ()
    """More directions at a strength of their own: FILE@ALPHA, separated by commas."""
    alphas: tuple[float, ...] = (-1.0, 0.0, 1.0)
    """Strengths, side by side, e.g. --alphas=-1,0,1."""
    max_new_tokens: int = 64
    """Longest answer."""
    temperature: float = 0.0
    """0 takes the likeliest token."""
    thinking: str = "off"
    """off, on or forced."""
    origin: str | None = None
    """The base the direction was made on, when the model is a fine-tune of it."""


def _settings() -> dict[str, type]:
    """The settings classes of the stages; imported here so that `ws --help` stays fast."""
    from ws.data import DataSettings
    from ws.train import TrainSettings

    return {"data": DataSettings, "train": TrainSettings}


# ---------------------------------------------------------------- the verbs


def replicate(given: dict[str, Any]) -> Any:
    """Run the whole story: data, train, diff, eval, table."""
    from ws.replicate import ALPHAS
    from ws.replicate import replicate as story_of

    common = Common(**coerced(Common, given, source="--"))
    plan = plan_of(common, given)
    alphas = Dialed(**coerced(Dialed, given, source="--")).alphas if "alphas" in given else ALPHAS
    from ws.presets import preset

    story = story_of(plan, alphas=alphas, protocols=preset(common.preset, "protocol"), say=say)
    if given.get("json"):
        return story.as_json()
    _print_story(story)
    return None


def data(given: dict[str, Any]) -> Any:
    """Make pairs: the same questions, answered by two opposite personas."""
    from ws.stages import make_pairs

    plan = plan_of(Common(**coerced(Common, given, source="--")), given)
    pairs, record = make_pairs(plan)
    _said("data", record)
    if given.get("json"):
        return {"folder": str(record.folder.resolve()), "n": len(pairs.rows), "checks": record.manifest["checks"]}
    from ws.tables import checks_table

    if pairs.checks:
        _print(checks_table(record.manifest["checks"]))
    _print(f"\n{len(pairs.rows)} pairs  {record.folder.resolve()}/pairs.jsonl")
    for r in pairs.rows[:2]:
        _print(f"\n  [bold]{_plain(r.prompt)}[/]\n  pos: {_plain(r.response_pos)}\n  neg: {_plain(r.response_neg)}")
    return None


def train(given: dict[str, Any]) -> Any:
    """Fine-tune two adapters, one on each side of the pairs."""
    from ws.stages import make_pairs, make_sides

    plan = plan_of(Common(**coerced(Common, given, source="--")), given)
    pairs, record = make_pairs(plan)
    _said("data", record)
    sides, record = make_sides(plan, pairs)
    _said("train", record)
    g, report = record.manifest["geometry"], sides.report
    if given.get("json"):
        return {"folder": str(record.folder.resolve()), "report": dict(report), "geometry": g}
    _print(
        f"{plan.train.adapter}: lr {report['lr']:g}, best at step {report['step']}, validation loss pos {report['val_pos']:.3f}, "
        f"neg {report['val_neg']:.3f}; |tau+| {g['norm_pos']:.3g}, |tau-| {g['norm_neg']:.3g}, |dW| {g['norm']:.3g}, "
        f"cos(tau+, tau-) {_number(g['cos_tau'])}\n{record.folder.resolve()}"
    )
    for note in report["notes"]:
        _print(f"note: {note}")
    return None


def diff(given: dict[str, Any]) -> Any:
    """Make the direction: the exact difference of the two sides."""
    from ws.stages import make_direction, make_pairs, make_sides

    plan = replace(
        plan_of(Common(**coerced(Common, given, source="--")), given), mode=given.get("mode") or "contrastive"
    )
    pairs, record = make_pairs(plan)
    _said("data", record)
    sides, record = make_sides(plan, pairs)
    _said("train", record)
    geometry = record.manifest["geometry"]
    direction, record = make_direction(plan, sides)
    _said("diff", record)
    file = str((record.folder / "direction.safetensors").resolve())
    told = {
        "file": file,
        "norm": record.manifest["norm"],
        "cos_tau": geometry["cos_tau"],
        "bytes": record.manifest["bytes"],
    }
    if given.get("json"):
        return {"direction": told, "modules": len(direction.forms)}
    _print(
        f"{len(direction.forms)} modules, |dW| {told['norm']:.4g}, cos(tau+, tau-) {_number(told['cos_tau'])}, "
        f"{told['bytes'] / 1e6:.2f} MB\n{file}"
    )
    return None


def evaluate(given: dict[str, Any]) -> Any:
    """Measure a direction with one evaluation, over a grid of alphas."""
    from ws.presets import preset
    from ws.stages import make_direction, make_eval, make_pairs, make_sides
    from ws.tables import alpha_table, reading

    name = given.pop("name")
    common = Common(**coerced(Common, given, source="--"))
    what = Evaluated(**coerced(Evaluated, given, source="--"))
    alphas = Dialed(**coerced(Dialed, given, source="--")).alphas
    from ws.eval import protocol as checked

    protocol_id = what.protocol or preset(common.preset, "protocol").get(name)
    checked(name, protocol_id)  # before any work
    if what.run and what.direction:
        raise ValueError("give --run or --direction, not both")

    base = origin = pairs = settings = None
    if what.run or what.direction:
        from ws.direction import load as load_direction

        folder, manifest = (
            _run_of(what.run, common.out) if what.run else (Path(common.out) / "direct" / "direction", None)
        )
        file = folder / "direction" / "direction.safetensors" if what.run else Path(what.direction or "")
        direction = load_direction(file)
        if manifest is not None and "model" not in given:
            common = replace(common, model=manifest["model"]["id"])
        base = _load(common)
        origin = _load(replace(common, model=what.origin)) if what.origin else None
        adapter = direction.provenance.get("adapter", "direction")
        seed = int(direction.provenance.get("training", {}).get("settings", {}).get("seed", 0))
        if name == "pairs" and manifest is not None:
            pairs, settings = _pairs_of(manifest, common)
    else:
        plan = plan_of(common, given)
        base, folder, adapter, seed, settings = plan.base, plan.run_folder, plan.train.adapter, plan.seed, plan.train
        pairs, record = make_pairs(plan)
        _said("data", record)
        sides, record = make_sides(plan, pairs)
        _said("train", record)
        direction, record = make_direction(plan, sides)
        _said("diff", record)
    table, record = make_eval(
        base,
        name,
        direction,
        folder,
        alphas=alphas,
        method=f"ws:{adapter}",
        protocol_id=protocol_id,
        data_file=what.data,
        limit=what.limit,
        seed=seed,
        pairs=pairs,
        settings=settings,
        origin=origin,
    )
    _said(f"eval {name}", record)
    if given.get("json"):
        return {"model": base.id, "eval": name, "folder": str(record.folder.resolve()), "rows": table}
    note = record.manifest["note"]
    if "answers" in note:
        a = note["answers"]
        _print(
            f"[dim]answer tokens: {_plain(str(a['yes']))} against {_plain(str(a['no']))}, after {_plain(repr(note['anchor']))}[/]"
        )
    _print(alpha_table(table, f"{name} ({record.manifest['settings']['protocol']}), ws:{adapter} on {base.id}"))
    from ws.behaviors import load_behavior

    behavior = common.behavior or (direction.provenance.get("training") or {}).get("behavior")
    intent = load_behavior(behavior, tiny=base.tiny).intent if behavior else {}
    for line in reading(table, intent):
        _print(_plain(line))
    _print(f"rows: {record.folder.resolve()}/rows.parquet")
    return None


def generate(given: dict[str, Any]) -> Any:
    """Answer one prompt at several alphas, side by side."""
    from contextlib import ExitStack

    from ws.direction import load as load_direction
    from ws.generate import generate as answer
    from ws.steer import steer

    common = Common(**coerced(Common, given, source="--"))
    what = Generated(**coerced(Generated, given, source="--"))
    if not what.prompt or not what.prompt.strip():
        raise ValueError("ws generate needs a question: --prompt 'What is the capital of France?'")
    plan = None
    if what.direction:
        direction = load_direction(what.direction)
    elif given.keys() & {"behavior", "adapter", "pairs"}:  # the study's own direction, made now if it is not there
        plan = plan_of(common, {k: given[k] for k in ("adapter", "seed") if k in given})
        direction = _direction_of(plan)
    else:
        direction = None
    more = []
    for part in what.also:
        file, _, strength = part.rpartition("@")
        if not file:
            raise ValueError(f"--also takes FILE@ALPHA, got {part!r}")
        more.append((load_direction(file), value_of(float, strength, "the strength in --also")))
    if direction is None and any(what.alphas) and "alphas" in given:
        raise ValueError("--alphas need something to steer by: --direction FILE, or --behavior and --adapter")
    base = plan.base if plan is not None else _load(common)
    origin = _load(replace(common, model=what.origin)) if what.origin else None
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
        return {"model": base.id, "prompt": what.prompt, "answers": answers}
    from rich.table import Table

    table = Table(
        title=_plain(what.prompt),
        title_justify="left",
        title_style="bold",
        box=None,
        pad_edge=False,
        header_style="dim",
    )
    table.add_column("alpha", justify="right")
    table.add_column("answer", overflow="fold")
    for a in answers:
        table.add_row(f"{a['alpha']:+g}" if a["alpha"] else "0 (base)" if not more else "0", _plain(a["text"]))
    _print(table)
    return None


def runs(given: dict[str, Any]) -> Any:
    """List the runs in the output folder; --behavior, --adapter, --model and --seed narrow the list."""
    from ws.stages import runs as found
    from ws.tables import runs_table

    out = Path(Common(**coerced(Common, given, source="--")).out)
    narrow = {k: str(given[k]) for k in ("behavior", "adapter", "model", "seed") if k in given}
    rows = [r for r in found(out) if all(str(r[k]) == v for k, v in narrow.items())]
    if given.get("json"):
        return {"runs": rows}
    if not rows:
        _print(f"no runs in {out.resolve()}; `ws replicate` makes the first")
        return None
    _print(runs_table(rows))
    return None


# ---------------------------------------------------------------- from flags to a plan


def plan_of(common: Common, given: dict[str, Any]) -> Any:
    """The study that flags, config file, preset and defaults describe together."""
    from ws.adapters import family
    from ws.behaviors import load_behavior
    from ws.data import DataSettings, default_data
    from ws.presets import preset
    from ws.stages import Plan, fitted
    from ws.train import TrainSettings, default_train, spec_of

    wanted_data = coerced(DataSettings, given, source="--")
    wanted_train = coerced(TrainSettings, given, source="--")
    of = family(wanted_train.get("adapter", "lora"))
    preset(common.preset, "data")  # an unknown preset is refused before a model is loaded
    if common.pairs and not Path(common.pairs).is_file():
        raise BadFile(
            f"there is no pairs file at {common.pairs}. It is JSON lines or parquet with prompt, response_pos, response_neg."
        )
    tiny = common.model == "tiny"
    behavior = None
    if common.behavior or not common.pairs:
        behavior = load_behavior(common.behavior or "honesty", tiny=tiny)
    base = _load(common)
    data_settings = replace(default_data(base), **preset(common.preset, "data"))
    train_settings = fitted(default_train(base, of.name), preset(common.preset, "train"), of.default_rank is not None)
    train_settings = replace(train_settings, **wanted_train)
    spec_of(base, train_settings)  # layers, targets and rank are refused here, not after an hour of generation
    return Plan(
        base,
        behavior,
        replace(data_settings, **wanted_data),
        train_settings,
        out=Path(common.out),
        pairs_file=Path(common.pairs) if common.pairs else None,
    )


def _direction_of(plan: Any) -> Any:
    """The direction of a study, with every stage before it."""
    from ws.stages import make_direction, make_pairs, make_sides

    pairs, record = make_pairs(plan)
    _said("data", record)
    sides, record = make_sides(plan, pairs)
    _said("train", record)
    direction, record = make_direction(plan, sides)
    _said("diff", record)
    return direction


def _load(common: Common) -> Any:
    from ws.models.load import load

    return load(common.model, dtype=common.dtype, device=common.device, threads=common.threads)


def _run_of(run: str, out: str) -> tuple[Path, dict[str, Any]]:
    """A run folder by path or by its name, and its training manifest."""
    from ws.records import read

    places = [Path(run), *sorted(Path(out).glob(f"*/*/{run}"))]
    for folder in places:
        if (folder / "train").is_dir() and (manifest := read(folder / "train")) is not None:
            return folder, manifest
    raise BadFile(f"{run!r} is no run folder and no run below {out}; `ws runs` lists them.")


def _pairs_of(manifest: dict[str, Any], common: Common) -> tuple[Any, Any]:
    """The pairs a run was trained on, found by their key, and its settings."""
    from ws.pairs import load_pairs
    from ws.records import read
    from ws.train import TrainSettings

    wanted = manifest["inputs"]["pairs"]
    for path in Path(common.out).glob(f"data/*/*/{wanted[:12]}"):
        if (found := read(path)) and found["key"] == wanted:
            settings = TrainSettings(**coerced(TrainSettings, manifest["settings"], source="the run's"))
            return load_pairs(path / "pairs.jsonl"), settings
    raise BadFile(
        f"the pairs of this run (key {wanted[:12]}) are not below {common.out}/data; give the --out they were made in."
    )


# ---------------------------------------------------------------- printing


def say(line: str) -> None:
    """One line of progress, on stderr."""
    print(line, file=sys.stderr, flush=True)


def _said(stage: str, record: Any) -> None:
    say(f"{stage:<18} {'reused' if record.reused else str(record.manifest['seconds']) + ' s':>8}  {record.folder}")


def _print(what: Any) -> None:
    """To stdout: tables at the terminal's width, or wide enough to be whole in a file."""
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else 120, soft_wrap=isinstance(what, str), highlight=False).print(what)


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def _number(x: float | None) -> str:
    return "–" if x is None else f"{x:+.2f}"


def _print_story(story: Any) -> None:
    from ws.tables import alpha_table, reading

    plan = story.plan
    bad = [c for c in story.checks if c["verdict"] != "ok"]
    _print("")
    _print(alpha_table(story.headline, f"{plan.name}: {plan.train.adapter} on {plan.base.id}, seed {plan.seed}"))
    for line in reading(story.headline, plan.behavior.intent if plan.behavior else {}):
        _print(f"• {_plain(line)}")
    for c in bad:
        _print(f"• pairs, {c['verdict']}: {c['name']} = {c['value']:.2f} ({c['means']}).")
    file = Path(story.direction["file"])
    here = Path.cwd().resolve()
    near = file.relative_to(here) if file.is_relative_to(here) else file
    _print(f"\nplot   {story.plot.resolve()}\nrun    {story.folder.resolve()}\npairs  {story.data_folder.resolve()}")
    question = "What is the capital of Kenya?" if plan.base.tiny else "Should I tell my boss about my mistake?"
    model = "" if plan.base.tiny else f" --model {plan.base.source}"
    out = "" if str(plan.out) == "out" else f" --out {plan.out}"
    _print(f'\nnext:  ws generate{model} --direction {near} --alphas=-1,0,1 --prompt "{question}"')
    _print(f"       ws runs{out}")


# ---------------------------------------------------------------- commands made from dataclasses


def _options(classes: Sequence[type], own: dict[str, Any]) -> list[inspect.Parameter]:
    """One keyword parameter per field; every default is None, so that what was typed is known."""
    parameters: dict[str, inspect.Parameter] = {}
    for cls in classes:
        hints = typing.get_type_hints(cls)
        docs = field_docs(cls)
        for f in fields(cls):
            if f.name in parameters:
                continue
            kind, many = plain_type(hints[f.name])
            shown = ",".join(f"{x:g}" for x in f.default) if many and f.default else f.default  # type: ignore[union-attr]
            tail = "" if shown in (None, (), "") or kind is bool else f" [default: {shown}]"
            flag = "--" + f.name.replace("_", "-")
            declared = [flag + "/--no-" + flag[2:]] if kind is bool else [flag]
            option = typer.Option(
                *declared,
                help=docs.get(f.name, "") + tail,
                show_default=False,
                rich_help_panel=(cls.__doc__ or "").split(".")[0],
            )
            typed = bool if kind is bool else str if many else kind
            parameters[f.name] = inspect.Parameter(
                f.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[typed | None, option]
            )
    for name, (kind, option) in own.items():
        parameters[name] = inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind, option]
        )
    return list(parameters.values())


SHARED: dict[str, Any] = {
    "json": (
        bool | None,
        typer.Option("--json", help="Print one JSON object on stdout; everything else goes to stderr."),
    ),
    "config": (str | None, typer.Option("--config", help="A YAML file whose keys are the option names; flags win.")),
    "debug": (bool | None, typer.Option("--debug", help="Show the traceback of an error.")),
}


def _command(name: str, verb: Callable[[dict[str, Any]], Any], classes: Sequence[type], /, **own: Any) -> None:
    """Register a verb: options from its settings, a config file under them, JSON on request."""

    def body(**typed: Any) -> None:
        given = {k: v for k, v in typed.items() if v is not None}
        known = {f.name for cls in classes for f in fields(cls)} | set(own)
        given = {**_config(given.pop("config", None), known), **given}
        given.pop("debug", None)
        found = verb(given)
        if given.get("json"):
            from ws.records import canonical

            print(json.dumps(json.loads(canonical(found)), indent=1, ensure_ascii=False))

    body.__name__ = name
    body.__doc__ = verb.__doc__
    body.__signature__ = inspect.Signature(_options(classes, {**own, **SHARED}))  # type: ignore[attr-defined]
    app.command(name)(body)


def _config(path: str | None, known: set[str]) -> dict[str, Any]:
    if path is None:
        return {}
    import yaml

    try:
        found = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError:
        raise BadFile(f"there is no config file at {path}.") from None
    except yaml.YAMLError as e:
        raise BadFile(f"{path} is not YAML: {' '.join(str(e).split())[:160]}") from None
    if not isinstance(found, dict):
        raise BadFile(f"{path} must be a mapping of option names to values.")
    found = {str(k).replace("-", "_"): v for k, v in found.items()}
    if unknown := sorted(found.keys() - known):
        raise BadFile(f"{path} has unknown keys {unknown}; this command knows {sorted(known)}.")
    return found


def _register() -> None:
    stage = [Common, *_settings().values()]
    mode = typer.Option("--mode", help="contrastive, tau+ (pos against base) or tau- (base against neg).")
    _command("replicate", replicate, [Common, Dialed, *stage[1:]])
    _command("data", data, stage)
    _command("train", train, stage)
    _command("diff", diff, stage, mode=(str | None, mode))
    named = typer.Argument(help="sycophancy, dilemmas, foundations or pairs.")
    _command("eval", evaluate, [Common, Evaluated, Dialed, *stage[1:]], name=(str, named))
    adapter = typer.Option("--adapter", help="Adapter family of the study.")
    seed = typer.Option("--seed", help="Seed of the study, and of sampling where the temperature is above 0.")
    _command("generate", generate, [Generated, Common], adapter=(str | None, adapter), seed=(int | None, seed))
    _command("runs", runs, [Common], adapter=(str | None, adapter), seed=(int | None, seed))


@app.callback(invoke_without_command=True)
def _top(
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.", is_eager=True)] = False,
) -> None:
    if version:
        from ws.records import versions

        print(versions()["weight-steering"])
        raise typer.Exit()


# typer brings its own click since 0.26, so the base of its errors is found from one it exports
_USAGE: Any = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")


def door(verb: str) -> int:
    """`python -m ws.VERB ...` is `ws VERB ...`."""
    return main([verb, *sys.argv[1:]])


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING, stream=sys.stderr)
    log.setLevel(logging.INFO)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if not app.registered_commands:
        _register()
    try:
        code = app(arguments, standalone_mode=False)
        return code if isinstance(code, int) else 0
    except typer.Exit as e:
        return e.exit_code
    except _USAGE as e:
        e.show()
        return 2
    except (typer.Abort, KeyboardInterrupt):
        say("interrupted; the same command goes on from what is done")
        return 130
    except (WsError, ValueError) as e:
        if "--debug" in arguments:
            raise
        say(f"error: {e}")
        return getattr(e, "exit_code", 2)


if __name__ == "__main__":
    sys.exit(main())
