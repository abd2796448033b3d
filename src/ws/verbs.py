"""The verbs as a notebook calls them: a model by name or loaded, a behavior by name, results as values.

    ws.replicate("tiny", behavior="honesty", seed=1)
    with ws.steer(base, "out/honesty/lora/tiny-s1-4f0c2a77", -1.0):
        ws.generate(base, "What is the capital of Kenya?")

What they do is done elsewhere, by what the command line calls too; here are the arguments and their defaults. Verbs that
need neither a name nor a file, such as `ws.data`, `ws.train` and `ws.diff`, are themselves.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from torch import Tensor, get_num_threads, nn

from ws import eval as evaluations
from ws import methods as ways
from ws.adapters import USUAL as USUAL_ADAPTER
from ws.behaviors import USUAL, load_behavior
from ws.behaviors import names as behaviors
from ws.calibrate import CalibrateSettings, Calibration
from ws.calibrate import calibrate as calibrate_method
from ws.data import DataSettings
from ws.derived import derive as derive_base
from ws.diff import lookup, run_with
from ws.direction import Direction
from ws.errors import Unsupported
from ws.eval import Result
from ws.eval.questions import RunPairs
from ws.explain.published import tables as subspace_tables
from ws.explain.story import Asked, Explanation
from ws.explain.story import explain as explain_subject
from ws.export import check_request
from ws.export import export as export_direction
from ws.export.verify import Deviation, insist
from ws.export.verify import verify as verify_folder
from ws.grid.axes import grid_of
from ws.grid.compare import Comparison, cells_of, evals_of, how_kl_is_measured, refuse_cells
from ws.grid.compare import compare as compare_cells
from ws.grid.run import Running
from ws.grid.sweep import SweepResult
from ws.grid.sweep import sweep as sweep_grid
from ws.judge import Case, JudgeSettings
from ws.judge.file import Row, labels_in, rows_in
from ws.judge.judgement import Judgement, judged, jury
from ws.judge.rubrics import rubric as rubric_named
from ws.methods import Method
from ws.methods.file import load_named
from ws.models import Base, load
from ws.paper import missing_data, recipe_named
from ws.paper.recipe import Job, Outcome, refuse_idle
from ws.paper.request import RecipeRequest
from ws.presets import preset as preset_of
from ws.records import find_run, refuse_unwritable
from ws.replicate import ALPHAS, Ending, Story, steering
from ws.replicate import replicate as replicate_plan
from ws.report import place_of, write_report
from ws.settings import coerced
from ws.signatures import plain_types
from ws.steer import distinct_strengths
from ws.steer import steer as steer_module
from ws.study.asked import evaluations_named, usual
from ws.study.evaluations import Subject, name_and_seed
from ws.study.options import Common, Judged, Served
from ws.study.plan import Plan
from ws.study.planning import behavior_meant, plan_of
from ws.study.runs import behavior_of
from ws.study.stages import make_pairs, material, pairs_of
from ws.study.task import Learning, make_task, make_task_direction
from ws.train import TrainSettings
from ws.train.task import Task, default_task, refuse_task
from ws.types import Json

Model = Base | str | Path
By = Direction | Method | str | Path


@plain_types
def steer(
    base: Base | nn.Module,
    direction: By,
    alpha: float | Sequence[float] | Tensor,
    *,
    fold: bool = False,
    origin: Base | None = None,
    out: str | Path = "out",
) -> AbstractContextManager[nn.Module]:
    """The model steered by `alpha * direction` inside the block; `alpha` is one number, or one per row of the batch.

    The direction may be its file, a run by folder or by name below `out`, the folder of an adapter, or any other method.
    `fold` writes the change into the weights and takes it out again, bit for bit. `origin` is the base that the direction
    was made on, where `base` is a fine-tune of it.
    """
    by = direction if isinstance(direction, (Direction, Method)) else _loaded(base, direction, Path(out))
    if isinstance(by, Direction):
        return steer_module(base, by, alpha, fold=fold, origin=origin)
    if fold or origin is not None or not isinstance(base, Base):
        raise Unsupported(f"{by.name} is no direction; steer a loaded base by it, without `fold` and `origin`.")
    return by.at(base, alpha)


@plain_types
def derive(
    model: Model, by: Direction | str | Path, alpha: float = 1.0, *, name: str | None = None, out: str | Path = "out"
) -> Base:
    """The base `theta + alpha * direction`, such as a fine-tune, as a base of its own; a base that is given is left as it is.

    What was made on the root fits the derived base. `by` is a direction, or what `ws.load_direction` finds.
    """
    base = _base(model)
    direction = by if isinstance(by, Direction) else load_direction(by, base, out=out)
    return derive_base(base, direction, alpha, name=name, in_place=not isinstance(model, Base))


@plain_types
def load_direction(place: str | Path, base: Base | None = None, *, out: str | Path = "out") -> Direction:
    """A direction by its file or folder, by its run, as a peft adapter, or by its id on the hub.

    A run is found below `out`, by a beginning of its name too. An adapter becomes a direction on `base`, or on the model
    that it names.
    """
    return lookup(place, out).direction(base)


@plain_types
def calibrate(
    model: Model,
    by: By,
    *,
    budget: float = 1.0,
    behavior: str | Path | None = None,
    out: str | Path = "out",
    **settings: Any,
) -> Calibration:
    """The strength of each sign at which a direction or another method moves the model by `budget` nats.

    `by` is a value, what `ws.steer` takes, or a method's name, which is made from a study of `behavior`. `settings` are
    fields of the calibration, such as `n_calib`, or of that study's data and training. Runs are found below `out`, and the
    study is kept there; the strengths themselves are not: `ws calibrate` keeps them.
    """
    _refuse_unknown(settings, CalibrateSettings)
    own = {f.name: settings.pop(f.name) for f in fields(CalibrateSettings) if f.name in settings}
    calibration = CalibrateSettings(budget=budget, **own)
    base = _base(model)
    method = _method(base, by, behavior, Path(out), settings)
    if behavior is None and isinstance(method, Method) and by == method.name:
        behavior = USUAL  # whose questions it was made from
    known = None if behavior is None else load_behavior(str(behavior), tiny=base.tiny)
    return calibrate_method(base, method, settings=calibration, behavior=known)


@plain_types
def evaluate(
    model: Model,
    by: By | None,
    evaluation: str,
    *,
    alphas: float | Sequence[float] | None = None,
    protocol: str | None = None,
    n_think: int | None = None,
    data: str | Path | None = None,
    tasks: Sequence[str] = (),
    limit: int | None = None,
    judge: str | None = None,
    behavior: str | Path | None = None,
    out: str | Path = "out",
    **settings: Any,
) -> Result:
    """One evaluation of a direction or another method over a grid of strengths, or of the model alone; nothing is stored.

    `by` is what `ws.calibrate` takes, or None. `alphas` is one strength or several; -1, 0 and 1 when not given, and 0 for the
    model alone. `judge` gives the verdicts on written answers that no exact rule does. The evaluation `pairs` asks the test questions of a run, or those of the study of `behavior`.
    """
    _refuse_unknown(settings)
    asked = evaluations.evaluation(
        evaluation,
        protocol,
        n_think=n_think,
        data=None if data is None else str(data),
        limit=limit,
        tasks=tasks,
        judge=judge,
    )
    usual = (0.0,) if by is None else (-1.0, 0.0, 1.0)
    strengths = usual if alphas is None else [alphas] if isinstance(alphas, (int, float)) else list(alphas)
    distinct_strengths(strengths)
    base = _base(model)
    steering = None if by is None else _method(base, by, behavior, Path(out), settings)
    pairs = _pairs(base, by, behavior, Path(out), settings) if asked.chosen.of_run else None
    name, seed = ("base", 0) if steering is None else name_and_seed(steering)
    questions = asked.questions(base, pairs)
    method = None if steering is None else ways.as_method(steering)
    return questions.run(method, alphas=list(strengths), method=name, seed=seed, unsteered=None)


@plain_types
def explain(
    model: Model,
    direction: Direction | str | Path,
    *,
    what: Sequence[str] = (),
    evals: Sequence[str] = (),
    alpha: float = 1.0,
    top: int | None = None,
    limit: int | None = None,
    beside: Sequence[str] = (),
    behavior: str | Path | None = None,
    out: str | Path = "out",
) -> Explanation:
    """Where in the weights the behavior of a direction sits: analyses by name, and one page of them.

    Effects are measured at `alpha` on the evaluations `evals`: the first that the behavior claims when none is named, and
    none at all for ("none",). `top` is how many modules the exported part may have that keeps 90 % of the effect.
    """
    asked = Asked(tuple(what), tuple(evals), float(alpha), top, limit, tuple(map(str, beside)))
    place, below = None if isinstance(direction, Direction) else lookup(direction, out), Path(out)
    base = _base(model)
    loaded = direction if isinstance(direction, Direction) else load_direction(direction, base, out=out)
    run = (place.run if place is not None else None) or run_with(loaded, below)
    own = None if run is None else behavior_of(run)
    known = behavior if behavior is not None else own if own in behaviors() else None
    pack = None if known is None else load_behavior(str(known), tiny=base.tiny)
    of_run = any(e.chosen.of_run for e in asked.evaluations(pack, of_run=run is not None).values())
    pairs = pairs_of(find_run(str(run), below)[1], below) if of_run and run is not None else None
    folder = run or below / "direct" / loaded.content_hash[:12]
    subject = Subject(base, loaded, folder, *name_and_seed(loaded), pairs=pairs)
    return explain_subject(subject, asked, pack, below)


@plain_types
def judge(
    cases: str | Path | Sequence[Case],
    rubric: str,
    *,
    by: str | Base = "rule",
    gold: str | Path | None = None,
    second: str | Base | None = None,
    votes: int = 1,
    standard: str = "",
    out: str | Path = "out",
    **settings: Any,
) -> Judgement:
    """Verdicts on answers, and how far the judge can be believed.

    `cases` are values, or a file that docs/judges.md describes. `by` is "rule", the address of a server with its model
    after a #, or a model; `second` another judge to agree with. `gold` is a file of cases that people have labelled. The
    judge's replies are kept below `out`. `settings` are fields of `JudgeSettings`, such as `judge_concurrency`.
    """
    how, one = JudgeSettings(**coerced(JudgeSettings, settings)), rubric_named(rubric)
    for name in settings:
        if name not in {f.name for f in fields(JudgeSettings)}:
            raise TypeError(f"there is no setting {name!r} of a judge")
    if isinstance(cases, (str, Path)):
        rows = rows_in(cases, one, standard=standard)
    else:
        rows = [Row(case, case.id) for case in cases]
    labelled = [r for r in rows if r.human is not None]
    if gold is not None:
        labelled = labels_in(gold, one, rows, standard=standard)
    return judged(rows, jury(rubric, by, second=second, votes=votes, settings=how, out=Path(out)), labelled)


@plain_types
def finetune(
    model: Model,
    data: Task | str | Path,
    *,
    name: str | None = None,
    prompt: str | None = None,
    response: str | None = None,
    messages: str | None = None,
    joint: Task | str | Path | None = None,
    times: int = 1,
    keep_every: int = 0,
    opt_in: Sequence[str] = (),
    out: str | Path = "out",
    **settings: Any,
) -> Direction:
    """A fine-tune on a data set as a direction, `theta_ft - theta`, kept below `out` as a run.

    `data` is a file, a hub data set as org/name#config/split, a set of the paper as gcd#train_instr_q, or one side of a
    behavior as honesty:pos. `joint` is learnt along, each of its rows `times` times in a pass; `keep_every` keeps the adapter
    every so many steps. `settings` are fields of the training, such as `adapter="full"` or `lr=[1e-5]`.
    """
    _refuse_unknown(settings, kinds=(TrainSettings,))
    how = coerced(TrainSettings, settings)
    learnt, along = (str(x) if isinstance(x, Path) else x for x in (data, joint))
    learning = Learning(learnt, along, times, keep_every, name)  # type: ignore[arg-type]
    refuse_task(TrainSettings(**how), times=times, keep_every=keep_every, joint=joint is not None)
    refuse_unwritable(Path(out))
    tiny = model.tiny if isinstance(model, Base) else model == "tiny"
    learning = learning.read(prompt=prompt, response=response, messages=messages, opt_in=opt_in, twin=tiny)
    base = _base(model)
    common = Common(model=base.source or base.id, out=str(out))
    plan = learning.plan(base, replace(default_task(base, how.get("adapter", USUAL_ADAPTER)), **how), common)
    return make_task_direction(plan, make_task(plan)[0])[0]


@plain_types
def replicate(
    model: Model = "tiny",
    *,
    behavior: str | Path | None = None,
    pairs: str | Path | None = None,
    alphas: Sequence[float] = ALPHAS,
    evals: Sequence[str] = (),
    data: Mapping[str, str | Path] | None = None,
    limit: int | None = None,
    samples: int = 3,
    draws: int | None = None,
    subspace: bool | None = None,
    preset: str = "ws",
    out: str | Path = "out",
    **settings: Any,
) -> Story:
    """The whole study of a behavior: pairs, two adapters, their difference, evaluations, a table and a plot.

    `samples` held-out questions are answered along the dial. `draws` random directions of the same norm are measured beside
    it; 9 where the model is small and none are asked for. `data` names files of questions by evaluation, and `limit` measures
    the first so many units of each. `subspace` says where the direction lies in the singular spaces of the weights; of a small
    model when not given. `settings` are fields of how pairs and adapters are made, such as `adapter="oft"`, `seed=1` or
    `n_topics=40`. What is done already below `out` is found again.
    """
    steering(alphas)
    ending = Ending(samples, draws, subspace)
    meant = behavior_meant(_common(model, behavior, Path(out), pairs=pairs, preset=preset))
    files, protocols = _files(data), preset_of(preset, "protocol")
    asked = evaluations_named(meant, evals or usual(meant), protocols=protocols, data=files, limit=limit)
    plan = _plan(model, behavior, Path(out), settings, pairs=pairs, preset=preset)
    return replicate_plan(plan, alphas=alphas, evals=asked, ending=ending, tables=subspace_tables)


@plain_types
def compare(
    model: Model = "tiny",
    *,
    behavior: str | Path = USUAL,
    methods: Sequence[str] = (),
    seeds: Sequence[int] = (0,),
    evals: Sequence[str] = (),
    budget: float | None = None,
    alphas: Sequence[float] = (),
    reference: str | None = None,
    draws: int | None = None,
    data: Mapping[str, str | Path] | None = None,
    limit: int | None = None,
    preset: str = "ws",
    out: str | Path = "out",
    **settings: Any,
) -> Comparison:
    """Methods side by side at equal KL, over seeds: tables, what each costs, and random directions beside them.

    With `alphas` and no `budget`, nothing is calibrated and these are measured as they are. `data` names files of questions
    by evaluation. `settings` are fields of the calibration (of how KL is measured alone, where nothing is calibrated) and of
    how pairs and adapters are made. What is done already below `out` is found again.
    """
    _refuse_unknown(settings, CalibrateSettings)
    own = {f.name: settings.pop(f.name) for f in fields(CalibrateSettings) if f.name in settings}
    own |= {} if budget is None else {"budget": budget}
    given = len(alphas) > 0 and budget is None
    calibration = None if given else CalibrateSettings(**{**preset_of(preset, "calibrate"), **own})
    kl = how_kl_is_measured(own) if given else None
    refuse_cells(seeds, calibration, alphas)
    making = {**coerced(DataSettings, settings), **coerced(TrainSettings, settings)}
    DataSettings(**coerced(DataSettings, settings)), TrainSettings(**coerced(TrainSettings, settings))
    known = load_behavior(str(behavior), tiny=model.tiny if isinstance(model, Base) else model == "tiny")
    files = _files(data)
    chosen = ways.selection(methods, draws=draws)
    without = [name for name in ways.without_texts(chosen, known) if name not in methods]
    evaluated = evals_of(known, evals, protocols=preset_of(preset, "protocol"), data=files, limit=limit)
    refuse_unwritable(Path(out))
    base = _base(model)
    cells = cells_of(
        base,
        known,
        [name for name in chosen if name not in without],
        evals=evaluated,
        seeds=seeds,
        settings=calibration,
        alphas=tuple(alphas),
        kl=kl,
        options=making,
        preset=preset,
        pack=None if known.name == behavior else str(behavior),
        out=Path(out),
    )
    return compare_cells(cells, base, known, reference=reference)


@plain_types
def paper(
    recipe: str,
    model: Model = "tiny",
    *,
    arms: Sequence[str] = (),
    strengths: Sequence[str | float] = (),
    limit: int | None = None,
    seeds: Sequence[int] = (0,),
    opt_in: Sequence[str] = (),
    data: Mapping[str, str | Path] | None = None,
    judge: str | None = None,
    answer_tokens: int | None = None,
    temperature: float | None = None,
    task_rows: int | None = None,
    behavior: str | Path | None = None,
    preset: str = "ws",
    out: str | Path = "out",
    **settings: Any,
) -> Outcome:
    """One of the paper's experiments: its tables, the verdict on each claim, and its figures.

    `strengths` are "raw" (the recipe's own), "kl" (its targets) or targets in nats; "raw:1" is only its own of size 1. `data` names files by data set or
    evaluation; data sets with harmful texts are read where `opt_in` names them. `settings` are fields of how pairs and
    adapters are made. What is done already below `out` is found again.
    """
    _refuse_unknown(settings)
    files = tuple(f"{name}={file}" for name, file in _files(data).items())
    named = tuple(map(str, strengths))
    asked = RecipeRequest(
        tuple(arms), named, limit, tuple(seeds), tuple(opt_in), files, judge, answer_tokens, temperature, task_rows
    )
    name = (model.source or model.id) if isinstance(model, Base) else str(model)
    pack = None if behavior is None else str(behavior)
    common = Common(model=name, behavior=pack, out=str(out), preset=preset)
    chosen = recipe_named(recipe).on(name)
    refuse_idle([chosen], asked)
    if missing := chosen.plan(asked, common).missing:
        raise ValueError(missing_data(missing))
    refuse_unwritable(Path(out))
    making = {**coerced(DataSettings, settings), **coerced(TrainSettings, settings)}
    return chosen.run(Job(_base(model), common, asked, making))


@plain_types
def sweep(
    model: str | Path = "tiny",
    *,
    models: Sequence[str] = (),
    behaviors: Sequence[str] = (),
    adapters: Sequence[str] = (),
    seeds: Sequence[int] = (),
    lrs: Sequence[float] = (),
    evals: Sequence[str] = (),
    data: Mapping[str, str | Path] | None = None,
    limit: int | None = None,
    alphas: Sequence[float] | None = None,
    budget: float | None = None,
    workers: int | None = None,
    preset: str = "ws",
    out: str | Path = "out",
    **settings: Any,
) -> SweepResult:
    """A study for every combination of models, behaviors, families, seeds and learning rates, by worker processes.

    Models are named, because every worker loads its own. `data` names files of questions by evaluation. `budget` calibrates
    every direction to that KL, in the place of `alphas`. `settings` are fields of the calibration and of how pairs and adapters are made. What is done already below
    `out` is found again, and a study that fails stops no other.
    """
    _refuse_unknown(settings, CalibrateSettings)
    axes = {"models": models, "behaviors": behaviors, "adapters": adapters, "seeds": seeds, "lrs": lrs, "evals": evals}
    options = {**{name: list(values) for name, values in axes.items() if len(values)}, **settings}
    options |= {} if alphas is None else {"alphas": list(alphas)}
    options |= {} if budget is None else {"budget": budget}
    options |= {} if limit is None else {"limit": limit}
    options |= {"data": [f"{name}={file}" for name, file in _files(data).items()]} if data else {}
    grid = grid_of({**options, "model": str(model), "preset": preset, "out": str(out)}, threads=get_num_threads())
    return sweep_grid(grid, Running(workers=workers))


@plain_types
def export(
    model: Model,
    direction: Direction | str | Path,
    folder: str | Path,
    *,
    to: str = "peft",
    alpha: float | Sequence[float] = 1.0,
    rank: int | None = None,
    origin: Base | None = None,
    out: str | Path = "out",
) -> list[Deviation]:
    """A direction written for another tool, and the proof that it moves the model there as promised.

    `to` is peft, merged, gguf-lora or mergekit.
    """
    alphas = [alpha] if isinstance(alpha, (int, float)) else list(alpha)
    place = Path(folder).expanduser()
    check_request(place, to=to, alphas=alphas, rank=rank)
    base = _base(model)
    loaded = direction if isinstance(direction, Direction) else load_direction(direction, base, out=out)
    return export_direction(loaded, base, place, to=to, alphas=alphas, rank=rank, origin=origin)[1]


@plain_types
def verify(folder: str | Path) -> list[Deviation]:
    """How an export does when it is loaded again; one that does not do what was promised is an error."""
    verdicts = verify_folder(Path(folder).expanduser())
    insist(verdicts)
    return verdicts


@plain_types
def report(about: str | Path | None = None, file: str | Path | None = None, *, out: str | Path = "out") -> Path:
    """One HTML page of a run, a sweep or a comparison; its path.

    `about` is a run by a beginning of its name, a sweep by its name, or the folder of either or of a comparison; the newest
    run below `out` when not given. The page is `report.html` in that folder, or `file`.
    """
    folder = place_of(None if about is None else str(about), Path(out).expanduser())
    return write_report(folder, None if file is None else Path(file).expanduser())


# ---------------------------------------------------------------- what the arguments name


def _base(model: Model) -> Base:
    return model if isinstance(model, Base) else load(model)


def _loaded(base: Base | nn.Module, place: str | Path, out: Path) -> Direction | Method:
    """The direction or the method at a place; that of an adapter is taken on the base where it is loaded."""
    return load_named(place, base if isinstance(base, Base) else None, out=out)


def _method(base: Base, by: By, behavior: str | Path | None, out: Path, settings: Json) -> Direction | Method:
    """What steers: a value, the method of a name, made from its study, or what lies at a place."""
    if isinstance(by, (Direction, Method)) or not (isinstance(by, str) and ways.is_name(by)):
        if settings:
            raise TypeError(f"{', '.join(settings)} would change nothing: only a method's name is made from a study.")
        return by if isinstance(by, (Direction, Method)) else _loaded(base, by, out)
    return ways.make(by, material(_plan(base, behavior, out, settings)))


def _pairs(base: Base, by: By | None, behavior: str | Path | None, out: Path, settings: Json) -> RunPairs | None:
    """The pairs of the run or of the study that is named, if one is."""
    named = isinstance(by, str) and ways.is_name(by)
    if isinstance(by, (str, Path)) and not named and (run := lookup(by, out).run) is not None:
        return pairs_of(find_run(str(run), out)[1], out)
    if named or behavior is not None:
        plan = _plan(base, behavior, out, settings)
        return RunPairs(make_pairs(plan)[0], plan.train)
    return None


def _plan(
    model: Model,
    behavior: str | Path | None,
    out: Path,
    settings: Json,
    *,
    pairs: str | Path | None = None,
    preset: str = "ws",
) -> Plan:
    """The study that the arguments of a verb describe."""
    _refuse_unknown(settings, Judged)
    base = model if isinstance(model, Base) else None  # one that is named is loaded when all else is known to be right
    return plan_of(_common(model, behavior, out, pairs=pairs, preset=preset), settings, base)


def _common(
    model: Model, behavior: str | Path | None, out: Path, *, pairs: str | Path | None = None, preset: str = "ws"
) -> Common:
    return Common(
        model=model.source or model.id if isinstance(model, Base) else str(model),
        behavior=None if behavior is None else str(behavior),
        pairs=None if pairs is None else str(pairs),
        out=str(out),
        preset=preset,
    )


def _files(data: Mapping[str, str | Path] | None) -> dict[str, str]:
    return {name: str(file) for name, file in (data or {}).items()}


def _refuse_unknown(settings: Json, *more: type, kinds: Sequence[type] = (DataSettings, TrainSettings, Served)) -> None:
    """Refuse a keyword that is no field of how pairs and adapters are made, nor of these."""
    known = {f.name for kind in (*kinds, *more) for f in fields(kind)}
    for name in settings:
        if name not in known:
            near = get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(known))}."
            raise TypeError(f"there is no setting {name!r}; {hint}")
