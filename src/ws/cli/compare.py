"""`ws compare`: methods side by side at equal KL."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ws import methods
from ws.behaviors import Behavior, load_behavior
from ws.calibrate import CalibrateSettings
from ws.cli.live import Watch
from ws.cli.options import Options, verb
from ws.cli.result import VerbResult
from ws.cli.screen import Screen, safe_text, say
from ws.cli.study import MAKING, rooted
from ws.cli.words import command_without_address, counts, stage_lines, time_left
from ws.data import DataSettings
from ws.engine import workers_of
from ws.errors import Failed, WsError
from ws.grid.cells import Cell, keep
from ws.grid.compare import Comparison, cells_of, checked_reference, evals_of, how_kl_is_measured, refuse_cells
from ws.grid.compare import compare as compare_cells
from ws.grid.look import Look, look
from ws.grid.run import Runner, Running, on_workers, serially
from ws.grid.tasks import tasks_of
from ws.models import Base
from ws.numbers import some
from ws.presets import preset
from ws.settings import at_least, refuse_outside
from ws.steer import distinct_strengths
from ws.study.asked import named_files
from ws.study.options import Common, Served
from ws.study.planning import endpoint_of, load_base, refuse_place_to_work
from ws.train import TrainSettings

MOST_NAMED = 10  # failed cells that are named


@dataclass(frozen=True)
class Compared:
    """What `ws compare` sets side by side."""

    methods: tuple[str, ...] = ()
    """Methods by name, or default, published (the fork's), all; random:act stands for --draws of them. See docs/calibrate.md for the names."""
    seeds: tuple[int, ...] = (0,)
    """Seeds of pairs and training, e.g. --seeds=0,1,2."""
    evals: tuple[str, ...] = ()
    """Evaluations by name or NAME@PROTOCOL; those of the behavior's claims when not given. What steering costs is always measured."""
    alphas: tuple[float, ...] = ()
    """Strengths measured as they are, e.g. --alphas=-1,1; without --budget nothing is calibrated then."""
    reference: str | None = None
    """The method that the others are set against, paired; the first when not given."""
    draws: int | None = None
    """Random directions of each form; when not given 5, and 20 of random:spectrum, :act and :paper with --methods all."""
    data: tuple[str, ...] = ()
    """Data files of evaluations: NAME=FILE, separated by commas."""
    limit: int | None = None
    """Only the first so many units of every evaluation; the tables say SMOKE."""
    check: bool = False
    """Print the cells, which of them are done, and stop."""
    workers: int | None = None
    """Processes that do the cells; as many as the cores allow on a CPU, and this process alone on a GPU, when not given."""
    markdown: bool = False
    """Print the tables as Markdown."""

    def __post_init__(self):
        refuse_outside(self, limit=at_least(1), draws=at_least(1), seeds=at_least(0))
        distinct_strengths(self.alphas)


@dataclass(frozen=True, eq=False)
class Planned(VerbResult):
    """What a comparison would do."""

    look: Look

    @property
    def _evals(self) -> list[str]:
        return [f"{e.name}@{e.protocol}" for e in self.look.cells[0].evals]

    @property
    def _tasks(self) -> list[str]:
        return [t.name for t in tasks_of([c for c in self.look.cells if not self.look.done(c)])]

    def as_json(self) -> Mapping[str, object]:
        return {
            "cells": [{"cell": c.short, "done": self.look.done(c)} for c in self.look.cells],
            "tasks": self._tasks,
            "evals": self._evals,
            "calibrate": self.look.cells[0].calibrate,
            "stages": counts(self.look),
            "seconds_left": self.look.seconds,
        }

    def show(self, screen: Screen) -> None:
        cells, calibrate = self.look.cells, self.look.cells[0].calibrate
        strengths = f"at {calibrate['budget']:g} nat" if calibrate else "at the strengths given"
        done = sum(map(self.look.done, cells))
        screen.show(f"{some(len(cells), 'cell')}, {done} done; each measures {', '.join(self._evals)}, {strengths}")
        for cell in cells:
            if not self.look.done(cell):
                screen.show(f"  {safe_text(cell.short)}: {safe_text(self.look.ahead(cell))}")
        for line in stage_lines(self.look):
            screen.show(line)
        screen.show(time_left(self.look))


@dataclass(frozen=True, eq=False)
class ComparedMethods(VerbResult):
    """A comparison, and what it was asked for."""

    comparison: Comparison
    cells: Sequence[Cell]
    base: Base
    behavior: Behavior
    budget: float | None
    methods: Sequence[str]
    seeds: Sequence[int]
    markdown: bool
    logs: Path | None
    """Where workers leave what they say."""
    words: Sequence[str]
    """The same command, without its seeds."""

    def as_json(self) -> Mapping[str, object]:
        return {
            "model": self.base.id,
            "behavior": self.behavior.name,
            "budget": self.budget,
            "methods": self.methods,
            "seeds": list(self.seeds),
            **self.comparison.as_json(),
        }

    def show(self, screen: Screen) -> None:
        c = self.comparison
        if self.markdown:
            print((c.folder / "tables.md").read_text(), end="")
            return
        for s in c.tables:
            screen.sheet(s)
        for n in c.notes:
            screen.show(f"note: {screen.text(n)}")
        for p in c.plots:
            if p.suffix == ".png":
                screen.show(f"plot    {p.resolve()}")
        screen.show(f"tables  {c.folder.resolve()}/tables.md, tables.csv, cells.csv, report.json")
        more = [[*self.words, "--seeds=0,1,2"]] if len(self.seeds) == 1 else []
        out = self.cells[0].common.out
        screen.next(["report", str(c.folder)], *more, ["table", *([] if out == "out" else ["--out", out])])

    @property
    def failure(self) -> WsError | None:
        failed = self.comparison.failed
        if not failed:
            return None
        named = "; ".join(f"{name}: {why}" for name, why in list(failed.items())[:MOST_NAMED])
        where = f" Logs: {self.logs}" if self.logs is not None and self.logs.is_dir() else ""
        return Failed(f"{len(failed)} of {len(self.cells)} cells failed: {named}{where}")


@verb(Compared, CalibrateSettings, Common, *MAKING, unlisted=("pairs", "seed", "adapter"))
def compare(options: Options) -> VerbResult:
    """Methods, each at the strengths of one KL."""
    common, request = rooted(options, options.of(Common)), options.of(Compared)
    # 1. everything that can be refused is refused before a model is loaded
    _refuse_contradictions(options, common, request)
    chosen = methods.selection(request.methods, draws=request.draws)
    checked_reference(chosen, request.reference)
    settings = _settings(options, common, request)
    kl = how_kl_is_measured(options.typed(CalibrateSettings)) if settings is None else None
    behavior = load_behavior(common.behavior or "honesty", tiny=common.model == "tiny")
    chosen = _with_texts(chosen, behavior, request.methods)
    protocols = preset(common.preset, "protocol")
    evals = evals_of(behavior, request.evals, protocols=protocols, data=named_files(request.data), limit=request.limit)
    refuse_cells(request.seeds, settings, request.alphas)
    options.of(DataSettings), options.of(TrainSettings)
    refuse_place_to_work(common)
    endpoint = endpoint_of(options.of(Served), common)
    base = load_base(common)
    cells = cells_of(
        base,
        behavior,
        chosen,
        evals=evals,
        seeds=request.seeds,
        settings=settings,
        alphas=request.alphas,
        kl=kl,
        options={**options.typed(DataSettings), **options.typed(TrainSettings)},
        preset=common.preset,
        pack=None if behavior.name == (common.behavior or "honesty") else common.behavior,
        endpoint=endpoint,
        onto=common.onto,
        out=Path(common.out),
    )
    if request.check:
        keep(base, cells[0].common)
        return Planned(look(cells))
    # 2. the cells, and the report
    run, logs = _runner(cells[0], base, behavior, request.workers, common.device_map)
    with Watch(cells, options.with_flags) as watch:
        comparison = compare_cells(
            cells,
            base,
            behavior,
            reference=request.reference,
            run=run,
            tell=watch.tell,
            say=watch.say,
            command=command_without_address(options.words),
        )
    budget = None if settings is None else settings.budget
    return ComparedMethods(
        comparison,
        cells,
        base,
        behavior,
        budget,
        chosen,
        request.seeds,
        request.markdown,
        logs,
        options.words_for("compare", without={"seeds", "check"}),
    )


def _refuse_contradictions(options: Options, common: Common, request: Compared) -> None:
    if common.pairs:
        raise ValueError("ws compare makes its pairs per seed, from --behavior; leave out --pairs")
    if options.has("seed"):
        raise ValueError("--seeds is the factor of a comparison; leave out --seed")
    if options.has("adapter"):
        raise ValueError("a method names its adapter: --methods ws:lora,ws:oft")
    if options.has("methods") and not request.methods:
        raise ValueError("--methods is empty; name at least one, or leave it out")
    Running(workers=request.workers)
    if common.device_map and request.workers not in (None, 1):
        raise ValueError("--device-map gives one process all devices; leave out --workers")


def _settings(options: Options, common: Common, request: Compared) -> CalibrateSettings | None:
    """How strengths are found; None where those that were typed are measured as they are."""
    if request.alphas and not options.has("budget"):
        return None
    return CalibrateSettings(**{**preset(common.preset, "calibrate"), **options.typed(CalibrateSettings)})


def _with_texts(chosen: Sequence[str], behavior: Behavior, typed: Sequence[str]) -> list[str]:
    """The methods that this behavior has the texts of; one that was named itself stays, and is refused later."""
    lacking = [n for n in methods.without_texts(chosen, behavior) if n not in typed]
    if lacking:
        say(f"note: {behavior.name} has no texts for {', '.join(lacking)}, which is left out")
    return [n for n in chosen if n not in lacking]


def _runner(
    first: Cell, base: Base, behavior: Behavior, workers: int | None, device_map: str | None
) -> tuple[Runner, Path | None]:
    """This process alone, or several; a GPU holds one model, so there this process is all unless more are asked for."""
    if device_map is not None:
        return serially, None
    on_cpu = base.device.type == "cpu"
    threads = torch.get_num_threads() if on_cpu else 1
    n = workers or (workers_of(threads) if on_cpu else 1)
    if n == 1:
        return serially, None
    state = Path(first.common.out) / "compare" / f".{behavior.name}.{os.getpid()}.work"
    run = on_workers(state, Running(workers=n), threads=threads, device=first.common.device, keep=False)
    return run, state.resolve() / "logs"
