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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ws import engine
from ws.behaviors import load_behavior
from ws.engine import Outcome
from ws.errors import BadFile
from ws.grid.axes import Grid
from ws.grid.cells import Cell
from ws.grid.look import folder_of, read_sweep
from ws.grid.run import Running, Tell, on_workers
from ws.grid.tasks import tasks_of
from ws.numbers import some
from ws.records import locked, write_json, write_text
from ws.results.effects import Effect, effects
from ws.types import Fields, Json

MOST_SHOWN = 8
"""Effects that a sweep prints in a notebook."""


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
        claimed = [e for e in self.effects if e.sign]
        lines = [
            f"{e.behavior} {e.adapter} on {e.model}, {e.metric}: {e.over.found.mean:+.2f}"
            f" [{e.over.found.ci_lo:+.2f}, {e.over.found.ci_hi:+.2f}] over {some(len(e.seeds), 'seed')}"
            for e in claimed[:MOST_SHOWN]
        ]
        more = f"; {len(claimed) - MOST_SHOWN} more effects" if len(claimed) > MOST_SHOWN else ""
        end = f"{studies} in {self.folder}, {len(self.unfinished)} not done{more}; effects.csv there has every effect"
        return "\n".join([*lines, end])

    @property
    def unfinished(self) -> list[tuple[Cell, Outcome]]:
        """The cells that did not end well."""
        return [(c, o) for c in self.grid.cells if not (o := self.outcomes[c.name]).done]

    @property
    def studies(self) -> list[tuple[Cell, Fields]]:
        """The cells that are done, and what each found."""
        return [(c, o.value) for c in self.grid.cells if (o := self.outcomes[c.name]).done]

    def as_json(self) -> Json:
        """The sweep as one object."""
        return {
            "name": self.grid.name,
            "folder": str(self.folder.resolve()),
            "seconds": round(self.seconds, 3),
            "cells": [
                {**_axes(cell), "state": o.state, "error": o.error, **(o.value or {})}
                for cell in self.grid.cells
                for o in [self.outcomes[cell.name]]
            ],
            "effects": [e.as_json() for e in self.effects],
        }


def sweep(
    grid: Grid,
    running: Running | None = None,
    *,
    tell: Tell = lambda event: None,
    command: str = "",
) -> SweepResult:
    """Run every study of a grid; what is done already is reused. One that fails stops no other.

    `command` is what a person would type to go on, for whoever looks at it from elsewhere.
    """
    start, running = time.perf_counter(), running or Running()
    folder, tasks = folder_of(grid), tasks_of(grid.cells)
    run = on_workers(folder, running, threads=grid.threads, device=grid.device, spread=grid.spread)
    with _alone(folder, grid):
        described = {
            "name": grid.name,
            "tasks": [t.name for t in tasks],
            "engine": running.engine,
            "pid": os.getpid(),
            "born": engine.born(),
            "host": socket.gethostname(),
            "started": time.time(),
            "command": command,
        }
        write_json(folder / "sweep.json", {**grid.described, **described})
        outcomes = run(tasks, tell)
        result = SweepResult(grid, folder, outcomes, _effects(grid, outcomes), time.perf_counter() - start)
        write_json(folder / "results.json", result.as_json())
        _write_tables(result)
    return result


def _axes(cell: Cell) -> Json:
    """What names a study in the tables of a sweep."""
    return {k: getattr(cell, k) for k in ("model", "behavior", "adapter", "seed", "lr")}


def _effects(grid: Grid, outcomes: Mapping[str, Outcome]) -> list[Effect]:
    """What all studies that are done say together."""
    studies = []
    for c in grid.cells:
        if (o := outcomes[c.name]).done:
            intent = load_behavior(c.behavior, tiny=c.model == "tiny").intent if c.behavior else {}
            studies.append({**_axes(c), "intent": intent, "evals": o.value["evals"]})
    return effects(studies)


@contextmanager
def _alone(folder: Path, grid: Grid) -> Iterator[None]:
    """One command at a time runs one sweep: a second would write over what the first says of itself."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise BadFile(f"the output folder {folder} cannot be written ({e.strerror}); give another `out`.") from None
    if (held := locked(folder / ".lock", 0.5)) is None:
        at = ""
        if (record := read_sweep(folder)) is not None:
            at = f" (process {record['pid']} on {record['host']})"
        raise BadFile(
            f"the sweep {grid.name} is running already{at}; `ws sweep --status` shows it. To run it twice, give another `name`."
        )
    try:
        yield
    finally:
        held.release()


def _write_tables(result: SweepResult) -> None:
    """The numbers as CSV: every study's rows, how far each moved, and the same over seeds."""
    import pandas as pd

    studies = [
        {**_axes(cell), "run": Path(value["run"]).name, **row}
        for cell, value in result.studies
        for row in value["rows"]
    ]
    over: list[Fields] = []
    each: list[Fields] = []
    for e in result.effects:
        group: Json = {"model": e.model, "behavior": e.behavior, "adapter": e.adapter, "lr": e.lr}
        number: Json = {"protocol": e.protocol, "metric": e.metric}
        mean, low, high, n = e.over.found.mean, e.over.found.ci_lo, e.over.found.ci_hi, e.over.found.n
        seeds = {"spread": e.over.sd, "agree": e.agree, "n_seeds": len(e.seeds), "n_items": n}
        over.append({**group, **number, "sign": e.sign, "mean": mean, "ci_lo": low, "ci_hi": high, **seeds})
        for seed, ends, one in zip(e.seeds, e.alphas, e.each):
            change = {"change": one.mean, "ci_lo": one.ci_lo, "ci_hi": one.ci_hi, "n": one.n}
            each.append({**group, "seed": seed, **number, "alpha_lo": ends[0], "alpha_hi": ends[1], **change})
    for name, rows in (("studies.csv", studies), ("changes.csv", each), ("effects.csv", over)):
        write_text(result.folder / name, pd.DataFrame(rows).to_csv(index=False))
