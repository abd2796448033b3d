"""Many studies: families x seeds x behaviors x models x learning rates, shared work done once, restarted at will.

    grid = grid_of({"adapters": "all", "seeds": "0,1,2", "behaviors": "honesty,sycophancy"}, threads=1)
    swept = sweep(grid)

What is shared between studies (pairs; the unsteered model) is a task of its own, and studies wait for theirs. Which task
runs where is the engine's business; whether a stage is done is known by its record alone. So a sweep that was killed is
continued by giving the same command, and two sweeps that overlap share what they have in common. It does not know how a
terminal looks.
"""

import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ws import engine
from ws.engine import Event, Outcome
from ws.errors import BadFile
from ws.grid.axes import Cell as Cell
from ws.grid.axes import Grid as Grid
from ws.grid.axes import Running as Running
from ws.grid.axes import Swept as Swept
from ws.grid.axes import grid_of as grid_of
from ws.grid.look import Look as Look
from ws.grid.look import Status as Status
from ws.grid.look import look as look
from ws.grid.look import statuses as statuses
from ws.grid.tasks import evals_of as evals_of
from ws.grid.tasks import folder_of as folder_of
from ws.grid.tasks import intent_of as intent_of
from ws.grid.tasks import tasks_of as tasks_of
from ws.grid.tasks import told_of as told_of
from ws.numbers import some
from ws.records import locked, write_json, write_text
from ws.results.effects import Effect as Effect
from ws.results.effects import effects as effects


@dataclass(frozen=True, eq=False)
class SweepResult:
    """How every cell of a sweep ended, and what all of them say together."""

    grid: Grid
    folder: Path
    outcomes: Mapping[str, Outcome]
    effects: Sequence[Effect]
    seconds: float

    def __repr__(self) -> str:
        studies = some(len(self.grid.cells), "study", "studies")
        return f"{studies} in {self.folder}, {len(self.unfinished)} not done; effects.csv there has every effect over seeds"

    @property
    def unfinished(self) -> list[tuple[Cell, Outcome]]:
        """The cells that did not end well."""
        return [(c, o) for c in self.grid.cells if not (o := self.outcomes[c.name]).done]

    @property
    def studies(self) -> list[tuple[Cell, Mapping[str, Any]]]:
        """The cells that are done, and what each found."""
        return [(c, o.value) for c in self.grid.cells if (o := self.outcomes[c.name]).done]

    def as_json(self) -> dict[str, Any]:
        """The sweep as one object."""
        return {
            "name": self.grid.name,
            "folder": str(self.folder.resolve()),
            "seconds": round(self.seconds, 3),
            "cells": [
                {**_told(cell), "state": o.state, "error": o.error, **(o.value or {})}
                for cell in self.grid.cells
                for o in [self.outcomes[cell.name]]
            ],
            "effects": [e.as_json() for e in self.effects],
        }


def sweep(
    grid: Grid,
    running: Running | None = None,
    *,
    tell: Callable[[Event], None] = lambda event: None,
    command: str = "",
) -> SweepResult:
    """Run every study of a grid; what is done already is reused. One that fails stops no other.

    `command` is what a person would type to go on, for whoever looks at it from elsewhere.
    """
    start, running = time.perf_counter(), running or Running()
    running.check(grid)
    folder = folder_of(grid)
    tasks = tasks_of(grid)
    with _alone(folder, grid):
        write_json(
            folder / "sweep.json",
            {
                **grid.described,
                "name": grid.name,
                "tasks": [t.name for t in tasks],
                "engine": running.engine,
                "pid": os.getpid(),
                "born": engine.born(),
                "host": socket.gethostname(),
                "started": time.time(),
                "command": command,
            },
        )
        outcomes = engine.run(
            tasks,
            folder=folder,
            engine=running.engine,
            workers=running.workers,
            threads=max(grid.threads.values()),
            device=grid.device,
            address=running.address,
            retries=running.retries,
            spread=grid.spread,
            tell=tell,
        )
        done = [
            {**_told(c), "intent": intent_of(c), "evals": o.value["evals"]}
            for c in grid.cells
            if (o := outcomes[c.name]).value is not None and o.done
        ]
        found = SweepResult(grid, folder, outcomes, effects(done), time.perf_counter() - start)
        write_json(folder / "results.json", found.as_json())
        _write_tables(found)
    return found


def _told(cell: Cell) -> dict[str, Any]:
    return {f.name: getattr(cell, f.name) for f in fields(Cell)}


@contextmanager
def _alone(folder: Path, grid: Grid) -> Iterator[None]:
    """One command at a time runs one sweep: a second would write over what the first says of itself."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise BadFile(f"the output folder {folder} cannot be written ({e.strerror}); give another --out.") from None
    if (held := locked(folder / ".lock", 0.5)) is None:
        at = ""
        if (told := told_of(folder)) is not None:
            at = f" (process {told['pid']} on {told['host']})"
        raise BadFile(
            f"the sweep {grid.name} is running already{at}; `ws sweep --status` shows it. To run it twice, give another --name."
        )
    try:
        yield
    finally:
        held.release()


def _write_tables(found: SweepResult) -> None:
    """The numbers as CSV: every study's rows, how far each moved, and the same over seeds."""
    import pandas as pd

    studies = [
        {**_told(cell), "run": Path(value["run"]).name, **row} for cell, value in found.studies for row in value["rows"]
    ]
    over = [
        {
            "model": e.model, "behavior": e.behavior, "adapter": e.adapter, "lr": e.lr, "protocol": e.protocol,
            "metric": e.metric, "sign": e.sign, "mean": e.over.found.mean, "ci_lo": e.over.found.ci_lo,
            "ci_hi": e.over.found.ci_hi, "spread": e.over.sd, "agree": e.agree, "n_seeds": len(e.seeds),
            "n_items": e.over.found.n,
        }
        for e in found.effects
    ]  # fmt: skip
    each = [
        {
            "model": e.model, "behavior": e.behavior, "adapter": e.adapter, "lr": e.lr, "seed": seed,
            "protocol": e.protocol, "metric": e.metric, "alpha_lo": ends[0], "alpha_hi": ends[1],
            "change": one.mean, "ci_lo": one.ci_lo, "ci_hi": one.ci_hi, "n": one.n,
        }
        for e in found.effects
        for seed, ends, one in zip(e.seeds, e.alphas, e.each)
    ]  # fmt: skip
    for name, rows in (("studies.csv", studies), ("changes.csv", each), ("effects.csv", over)):
        write_text(found.folder / name, pd.DataFrame(rows).to_csv(index=False))
