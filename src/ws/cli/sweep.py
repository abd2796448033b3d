"""`ws sweep`: read the grid, show it while it runs, print what all studies say together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import typer

from ws.calibrate import CalibrateSettings
from ws.cli.ending import ended_politely
from ws.cli.live import Watch
from ws.cli.options import Declared, Options, verb
from ws.cli.result import VerbResult
from ws.cli.screen import Screen, safe_text, say
from ws.cli.study import MAKING, Dialed
from ws.cli.tables import grid_table
from ws.cli.words import axes, command_without_address, counts, doing, stage_lines, task_name, time_left
from ws.engine import Outcome, State, places_of
from ws.errors import Failed, WsError
from ws.grid.axes import Grid, Swept, grid_of, refuse_unreachable
from ws.grid.cells import Cell
from ws.grid.look import Look, Status, folder_of, look, statuses
from ws.grid.run import Running
from ws.grid.sweep import SweepResult
from ws.grid.sweep import sweep as run_sweep
from ws.numbers import some
from ws.progress import duration
from ws.results.layouts import sweep as layout
from ws.results.measured import measured
from ws.results.sentences import SMOKE
from ws.results.sentences.questions import not_held_out
from ws.results.sentences.sweep import readings
from ws.study.options import Common
from ws.study.planning import refuse_place_to_work

OWN = ("check", "status", "engine", "address", "workers", "retries")
"""Options that say how a sweep is run, and not what it is."""
CHECK: Declared = (
    bool | None,
    typer.Option("--check", help="Print the plan and what of it is done already; run nothing."),
)
STATUS: Declared = (
    bool | None,
    typer.Option("--status", help="Show the sweeps below --out, running or not; run nothing."),
)


@verb(Swept, CalibrateSettings, Running, Common, Dialed, *MAKING, check=CHECK, status=STATUS)
def sweep(options: Options) -> VerbResult:
    """Many studies, a look at what they would be, or at those that are there."""
    if options.flag("status"):
        out = Path(options.of(Common).out)
        return Statuses(out, statuses(out))
    running = options.of(Running)
    axes_and_options = {k: v for k, v in options.values.items() if k not in OWN}
    grid = grid_of(axes_and_options, threads=torch.get_num_threads())
    for note in grid.notes:
        say(f"note: {options.with_flags(note)}")
    running.check(spread=grid.spread)  # before anything is announced
    if running.address is None:  # a cluster has devices, and a cache, of its own
        refuse_place_to_work(grid.common)
        refuse_unreachable(grid)
    if options.flag("check"):
        return _check(grid, running)
    folder, n = folder_of(grid), some(len(grid.cells), "study", "studies")
    say(f"sweep {grid.name}: {n}, {axes(grid)}; engine {running.engine}; {folder}")
    watch = Watch(grid.cells, options.with_flags, folder)
    try:
        with watch, ended_politely():
            return Studies(run_sweep(grid, running, tell=watch.tell, command=command_without_address(options.words)))
    except KeyboardInterrupt:
        say(watch.stopped())
        raise


# ---------------------------------------------------------------- when it is over


@dataclass(frozen=True, eq=False)
class Studies(VerbResult):
    """What became of every study of a sweep."""

    sweep: SweepResult

    def as_json(self) -> Mapping[str, object]:
        return self.sweep.as_json()

    @property
    def failure(self) -> WsError | None:
        n, total = len(self.sweep.unfinished), len(self.sweep.grid.cells)
        if not n:
            return None
        return Failed(
            f"{n} of {total} studies are not done. What is done is kept; the same command tries the rest again."
        )

    def show(self, screen: Screen) -> None:
        s = self.sweep
        headline = {(c.behavior, m) for c, v in s.studies for m in v["headline"]}
        if effects := [e for e in s.effects if (e.behavior, e.metric) in headline]:
            screen.show("")
            screen.sheet(layout.sheet([e.as_json() for e in effects]))
            if any(e.limit for c in s.grid.cells for e in c.evals):
                screen.points([SMOKE])
            screen.points(not_held_out(measured([Path(p) for _, v in s.studies for p in v["evals"]])))
            unmatched = [c.label for c, v in s.studies if v["matched"] is False]
            screen.points(readings(effects, budget=s.grid.budget, unmatched=unmatched))
        for error, cells in _by_error(s.unfinished).items():
            screen.show(f"• not done: {'; '.join(safe_text(c.label) for c in cells)}\n  because {screen.text(error)}")
        for outcome in s.outcomes.values():
            for warning in outcome.warnings:
                screen.show(f"• {safe_text(outcome.task.name)}: {safe_text(warning)}")
        ready = sum(not v["made"] for _, v in s.studies)
        screen.show(
            f"\n{some(len(s.grid.cells), 'study', 'studies')}: {len(s.studies)} done"
            + (f", {ready} of them found ready" if ready else "")
            + (f", {len(s.unfinished)} not" if s.unfinished else "")
            + f"; {duration(s.seconds)}"
        )
        out = [] if s.grid.common.out == "out" else ["--out", s.grid.common.out]
        screen.show(f"tables {s.folder.resolve()}")
        screen.next(["report", str(s.folder)], ["table", *out], ["runs", *out])


def _by_error(unfinished: Sequence[tuple[Cell, Outcome]]) -> dict[str, list[Cell]]:
    """The cells that were not done, by what stood in their way."""
    cells: dict[str, list[Cell]] = {}
    for cell, outcome in unfinished:
        error = outcome.error if outcome.state == "skipped" else f"it failed: {outcome.error}"
        cells.setdefault(f"{error}{f' Its log: {outcome.log}' if outcome.log else ''}", []).append(cell)
    return cells


# ---------------------------------------------------------------- looking


@dataclass(frozen=True, eq=False)
class SweepPlan(VerbResult):
    """`--check`: the plan, what of it is done, and how much is left."""

    grid: Grid
    running: Running
    look: Look
    workers: int

    @property
    def _left(self) -> float | None:
        """Seconds that are left."""
        return None if self.look.seconds is None else self.look.seconds / self.workers

    @property
    def _cells(self) -> list[dict[str, Any]]:
        impossible = self.look.impossible
        return [{"name": c.name, "state": self.look.state(c), "error": impossible.get(c.name)} for c in self.grid.cells]

    @property
    def _done(self) -> int:
        return sum(self.look.state(c) == "done" for c in self.grid.cells)

    def as_json(self) -> Mapping[str, object]:
        return {
            "name": self.grid.name,
            "studies": len(self.grid.cells),
            "done": self._done,
            "stages": counts(self.look),
            "workers": self.workers,
            "seconds_left": self._left,
            "cells": self._cells,
        }

    def show(self, screen: Screen) -> None:
        grid = self.grid
        screen.show(grid_table(self._cells, [(c.model, c.behavior, c.adapter, c.lr, c.seed) for c in grid.cells]))
        screen.show("")
        screen.show(f"sweep {grid.name}: {some(len(grid.cells), 'study', 'studies')}, {self._done} done; {axes(grid)}")
        for line in stage_lines(self.look):
            screen.show(line)
        screen.show(f"{some(self.workers, 'worker')} of {some(grid.threads, 'thread')}, engine {self.running.engine}")
        screen.show(time_left(self.look, self.workers))
        impossible = self.look.impossible
        for error in dict.fromkeys(impossible.values()):
            n = sum(e == error for e in impossible.values())
            screen.show(f"• {some(n, 'study', 'studies')} cannot be run: {screen.text(error)}")

    @property
    def failure(self) -> WsError | None:
        n = len(self.look.impossible)
        return Failed(f"{n} of {len(self.grid.cells)} studies cannot be run.") if n else None


def _check(grid: Grid, running: Running) -> SweepPlan:
    workers = running.workers or 1  # of a cluster that runs already; how many it has room for is its own business
    if running.address is None:
        workers = len(places_of(running.workers, threads=grid.threads, device=grid.device, spread=grid.spread))
    return SweepPlan(grid, running, look(grid.cells), workers)


@dataclass(frozen=True, eq=False)
class Statuses(VerbResult):
    """`--status`: every sweep below the output folder, as its files show it."""

    out: Path
    sweeps: Sequence[Status]

    def as_json(self) -> Mapping[str, object]:
        return {"sweeps": [_status(s) for s in self.sweeps]}

    def show(self, screen: Screen) -> None:
        if not self.sweeps:
            screen.show(f"no sweep in {self.out.resolve()}; `ws sweep` makes the first")
        for s in self.sweeps:
            _show_status(s, screen)


def _status(s: Status) -> dict[str, object]:
    return {
        "name": s.name,
        "folder": str(s.folder.resolve()),
        "running": bool(s.process.alive) and not s.over,
        "seconds": s.process.seconds,
        "command": s.record.get("command", ""),
        "tasks": {name: _task(s.states.get(name)) for name in s.record["tasks"]},
    }


def _task(state: State | None) -> dict[str, object]:
    if state is None:
        return {"state": "waiting"}
    names = ("state", "alive", "pid", "host", "seconds", "told", "error")
    return {name: getattr(state, name) for name in names}


def _show_status(s: Status, screen: Screen) -> None:
    """One sweep: what runs, what failed, and how to go on."""
    alive = s.process.alive
    since = duration(s.process.seconds)
    if s.over:
        head = "every task has ended"
    elif alive is None:
        head = f"started {since} ago on {s.record['host']}, which cannot be asked from here"
    else:
        head = f"running for {since} (process {s.record['pid']})" if alive else "not running"
    screen.show(f"[bold]sweep {safe_text(s.name)}[/]: {head}")
    cells = [t for t in s.record["tasks"] if t.startswith("cell/")]
    counts = {
        k: sum(t in cells for t in s.named(k)) for k in ("done", "failed", "skipped", "running", "stopped", "waiting")
    }
    if alive is False:  # nobody works on them, whatever their files say
        counts["stopped"] += counts.pop("running")
    counts["interrupted"] = counts.pop("stopped")
    listed = ", ".join(f"{n} {k}" for k, n in counts.items() if n)
    screen.show(f"  {some(len(cells), 'study', 'studies')}: {listed}")
    for name in s.named("running") if alive is not False else ():
        state = s.states[name]
        worker = {True: "", False: "; its worker is gone", None: f" on {state.host}"}[state.alive]
        screen.show(
            f"  running  {safe_text(task_name(name))}: {safe_text(doing(state.told))}, for {duration(state.seconds)}{worker}"
        )
    for name in s.named("failed"):
        screen.show(f"  [red]failed[/]   {safe_text(task_name(name))}: {screen.text(s.states[name].error)}")
    if alive is False and not s.over and s.record.get("command"):
        screen.show(f"  go on with: {safe_text(s.record['command'])}")
