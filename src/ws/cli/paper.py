"""`ws paper`: the paper's experiments, each a recipe that ends with a scorecard."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

from ws.cli.options import Declared, Options, verb
from ws.cli.result import VerbResult
from ws.cli.screen import Screen, complain, safe_text, say
from ws.cli.study import MAKING
from ws.cli.words import command_without_address, task_name
from ws.data import DataSettings
from ws.engine import Event, workers_of
from ws.errors import Failed, WsError, not_known
from ws.grid.run import Runner, Running, on_workers, serially
from ws.judge import refuse_nobody
from ws.numbers import some
from ws.paper import missing_data, names, recipe_named
from ws.paper.page import write_page
from ws.paper.recipe import Job, Outcome, Planned, Recipe, refuse_idle
from ws.paper.request import RecipeRequest
from ws.settings import at_least, refuse_outside
from ws.study.options import Common
from ws.study.planning import load_base, refuse_place_to_work
from ws.train import TrainSettings

ALL = "all"
RECIPE: Declared = (
    str | None,
    typer.Argument(metavar="[RECIPE]", help="A recipe by name, or all; the list of them when not given."),
)


@dataclass(frozen=True)
class Handling:
    """What `ws paper` does with a recipe."""

    list: bool = False
    """List the recipes: what each asks."""
    check: bool = False
    """Print the plan, what it costs and which data is missing, and stop."""
    report: bool = False
    """Write one HTML page of each recipe too."""
    workers: int | None = None
    """Processes that do the cells; as many as the cores allow on a CPU, and this process alone on a GPU, when not given."""

    def __post_init__(self):
        refuse_outside(self, workers=at_least(1))


@dataclass(frozen=True, eq=False)
class Listed(VerbResult):
    """The recipes there are."""

    recipes: Sequence[Recipe]

    def as_json(self) -> Mapping[str, object]:
        return {
            "recipes": [
                {
                    **{k: getattr(r, k) for k in ("name", "section", "figures", "question", "model")},
                    "data": [
                        {"name": n.name, "about": n.about, "supply": n.supply, "opt_in": n.opt_in} for n in r.needs
                    ],
                }
                for r in self.recipes
            ]
        }

    def show(self, screen: Screen) -> None:
        wide = max(len(r.name) for r in self.recipes)
        for r in self.recipes:
            screen.show(f"[bold]{r.name:<{wide}}[/]  {safe_text(r.question)} ({r.section}; {r.figures})")
        screen.next(
            ["paper", "lr_sweep", "--check"], ["paper", "lr_sweep", "--report"], ["paper", ALL, "--model", "tiny"]
        )


@dataclass(frozen=True, eq=False)
class Plans(VerbResult):
    """What recipes would do."""

    plans: Sequence[tuple[Recipe, Planned | str]]
    """A recipe, and its plan or why it has none."""

    def as_json(self) -> Mapping[str, object]:
        return {
            "plans": [
                {"recipe": r.name, "refused": p}
                if isinstance(p, str)
                else {
                    "recipe": r.name,
                    **p.numbers,
                    "missing": [{"name": n.name, "supply": n.supply} for n in p.missing],
                }
                for r, p in self.plans
            ]
        }

    def show(self, screen: Screen) -> None:
        for recipe, plan in self.plans:
            screen.show(
                f"[bold]{recipe.name}[/] ({recipe.section}; {safe_text(recipe.figures)}): {safe_text(recipe.question)}"
            )
            if isinstance(plan, str):
                screen.show(f"  {safe_text(plan)}\n")
                continue
            for line in plan.lines:
                screen.show(safe_text(f"  {line}"))
            for need in plan.missing:
                screen.show(safe_text(f"  missing    {need.name}, {need.about}: {need.supply}"))
            screen.show("")


@dataclass(frozen=True, eq=False)
class Recipes(VerbResult):
    """What recipes found."""

    outcomes: Sequence[Outcome]
    refused: Mapping[str, str]
    """Recipes that were not run, and why."""
    pages: Sequence[Path]
    model: str

    def as_json(self) -> Mapping[str, object]:
        return {
            "model": self.model,
            "recipes": [o.as_json() for o in self.outcomes],
            "refused": dict(self.refused),
            "pages": [str(p.resolve()) for p in self.pages],
        }

    def show(self, screen: Screen) -> None:
        for o in self.outcomes:
            for sheet in o.sheets:
                screen.sheet(sheet)
            screen.points(o.notes)
            for picture in o.pictures:
                if picture.suffix == ".png":
                    screen.show(safe_text(f"picture  {picture.resolve()}"))
            screen.show(safe_text(f"tables   {o.folder.resolve()}/scorecard.md, {o.recipe}.csv\n"))
        for page in self.pages:
            screen.show(safe_text(f"page     {page.resolve()}"))
        for name, why in self.refused.items():
            screen.show(safe_text(f"not run  {name}: {screen.with_flags(why)}"))

    @property
    def failure(self) -> WsError | None:
        failed = {f"{o.recipe}: {name}": why for o in self.outcomes for name, why in o.failed.items()}
        if not failed and not self.refused:
            return None
        if not failed:
            return Failed(
                f"{some(len(self.refused), 'recipe')} of {len(self.refused) + len(self.outcomes)} could not be run; the lines above say why."
            )
        name, why = next(iter(failed.items()))
        return Failed(f"{some(len(failed), 'cell')} could not be measured; {name}: {why}")


@verb(Handling, RecipeRequest, Common, *MAKING, unlisted=("pairs", "seed", "adapter"), recipe=RECIPE)
def paper(options: Options) -> VerbResult:
    """The paper's experiments."""
    shown, request, common = options.of(Handling), options.of(RecipeRequest), options.of(Common)
    name = options.text("recipe")
    if name is None or shown.list:
        return Listed([recipe_named(n) for n in names()])
    if common.pairs or options.has("seed") or options.has("adapter"):
        odd = next(x for x in ("pairs", "seed", "adapter") if options.has(x))
        raise ValueError(f"a recipe has arms of its own and takes --seeds; leave out --{odd}")
    _refuse_names(request)
    chosen = [recipe_named(n).on(common.model) for n in (names() if name == ALL else [name])]
    refuse_idle(chosen, request)
    plans = [(r, _plan(r, request, common, alone=name != ALL)) for r in chosen]
    if shown.check:
        return Plans(plans)
    possible = [r for r, p in plans if not isinstance(p, str) and not p.missing]
    refused = {r.name: p if isinstance(p, str) else missing_data(p.missing) for r, p in plans if r not in possible}
    if name != ALL and refused:
        raise ValueError(refused[name])
    return _run(options, possible, refused)


def _refuse_names(request: RecipeRequest) -> None:
    """Refuse a judge that is nowhere, and data sets to opt into that no recipe has."""
    if request.judge is not None:
        refuse_nobody(request.judge)
    known = sorted({n.name for name in names() for n in recipe_named(name).needs if n.opt_in})
    for name in request.opt_in:
        if name not in known:
            raise ValueError(not_known("data set to opt into", name, known))


def _plan(recipe: Recipe, request: RecipeRequest, common: Common, *, alone: bool) -> Planned | str:
    """The plan of a recipe; of several, why one has none."""
    try:
        return recipe.plan(request, common)
    except (ValueError, WsError) as e:
        if alone:
            raise
        return str(e)


def _run(options: Options, chosen: Sequence[Recipe], refused: dict[str, str]) -> Recipes:
    shown, request, common = options.of(Handling), options.of(RecipeRequest), options.of(Common)
    making = {**options.typed(DataSettings), **options.typed(TrainSettings)}
    refuse_place_to_work(common)
    base = load_base(common)
    run = _runner(common, shown.workers, on_cpu=base.device.type == "cpu")
    outcomes, pages = [], []
    command = command_without_address(options.words)
    for recipe in chosen:
        job = Job(base, common, request, making, run, _tell, say, command)
        try:
            outcomes.append(recipe.run(job))
        except (ValueError, WsError) as e:
            if len(chosen) == 1:
                raise
            refused[recipe.name] = str(e)
            complain(f"{recipe.name}: {e}")
            continue
        pages += [write_page(recipe, outcomes[-1], base.id)] if shown.report else []
    return Recipes(outcomes, refused, pages, base.id)


def _tell(event: Event) -> None:
    """A line for every cell that ends."""
    if event.kind == "done" and event.outcome is not None and event.outcome.value["made"]:
        say(f"done     {task_name(event.task.name)}  {event.outcome.seconds:.1f} s")
    elif event.kind == "failed":
        say(f"failed   {task_name(event.task.name)}: {event.text}")


def _runner(common: Common, workers: int | None, *, on_cpu: bool) -> Runner:
    """This process alone, or several; a GPU holds one model."""
    import torch

    threads = torch.get_num_threads() if on_cpu else 1
    n = workers or (workers_of(threads) if on_cpu else 1)
    if n == 1 or common.device_map is not None:
        return serially
    state = Path(common.out) / "paper" / f".{os.getpid()}.work"
    return on_workers(state, Running(workers=n), threads=threads, device=common.device, keep=False)
