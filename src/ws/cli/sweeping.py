"""`ws sweep`: read the grid, show it while it runs, print what all studies say together."""

import re
import shlex
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ws.cli.out import plain, say, show, show_json, typed
from ws.cli.words import axes, doing, duration, spoken
from ws.errors import Failed
from ws.results.tables import some
from ws.settings import coerced
from ws.study.options import Common

FEW_SEEDS = 5
SERVER = "--generate-with"
OWN = ("check", "status", "json", "engine", "address", "workers", "retries")


def sweep(given: dict[str, Any]) -> Any:
    """Run many studies: families, seeds, behaviors, models and learning rates; restarted at will."""
    if given.get("status"):
        return _status(Path(Common(**coerced(Common, given)).out), bool(given.get("json")))
    import torch

    from ws.grid.sweep import Running, grid_of
    from ws.grid.sweep import sweep as run

    running = Running(**coerced(Running, given))
    grid = grid_of({k: v for k, v in given.items() if k not in OWN}, threads=torch.get_num_threads())
    for note in grid.notes:
        say(f"note: {note}")
    if given.get("check"):
        return _check(grid, running, bool(given.get("json")))
    from ws.cli.live import Watch

    running.check(grid)  # before anything is announced
    watch = Watch(grid, running)
    watch.announce()
    try:
        with watch, _ended_politely():
            found = run(grid, running, tell=watch.tell, command=command(written=True))
    except KeyboardInterrupt:
        say(watch.stopped())
        raise
    told = found.as_json()
    if not given.get("json"):
        show_sweep(found)
    if found.unfinished:
        if given.get("json"):
            show_json(told)
        raise Failed(_unfinished(found))
    return told


@contextmanager
def _ended_politely() -> Iterator[None]:
    """What a scheduler sends before it kills (SIGTERM) is met as Ctrl-C is."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def command(*, written: bool = False) -> str:
    """What a person would type to go on; the address of a server is theirs to fill in where it is written."""
    words = ["ws", *typed]
    if written:
        words = [re.sub(f"^{SERVER}=.*", f"{SERVER}=URL", w, flags=re.DOTALL) for w in words]
        words = ["URL" if before == SERVER else w for before, w in zip(["", *words], words)]
    return shlex.join(words)


def _unfinished(found: Any) -> str:
    n, all_ = len(found.unfinished), len(found.grid.cells)
    return f"{n} of {all_} studies are not done. What is done is kept; the same command tries the rest again."


def show_sweep(found: Any) -> None:
    """The closing tables, and what they say."""
    from ws.results.tables import effects_table

    headline = {(c.behavior, m) for c, v in found.studies for m in v["headline"]}
    chosen = [e for e in found.effects if (e.behavior, e.metric) in headline]
    if chosen:
        show("")
        show(effects_table([e.as_json() for e in chosen]))
        show("")
        for line in readings(found, chosen):
            show(f"• {plain(line)}")
    for error, cells in by_error(found.unfinished).items():
        show(f"• not done: {'; '.join(plain(c.label) for c in cells)}\n  because {plain(error)}")
    for outcome in found.outcomes.values():
        for warning in outcome.warnings:
            show(f"• {plain(outcome.task.name)}: {plain(warning)}")
    ready = sum(not v["made"] for _, v in found.studies)
    show(
        f"\n{some(len(found.grid.cells), 'study', 'studies')}: {len(found.studies)} done"
        + (f", {ready} of them found ready" if ready else "")
        + (f", {len(found.unfinished)} not" if found.unfinished else "")
        + f"; {duration(found.seconds)}"
    )
    show(f"tables {found.folder.resolve()}")
    out = "" if found.grid.common.out == "out" else f" --out {shlex.quote(found.grid.common.out)}"
    show(f"\nnext:  ws table{out}\n       ws runs{out}")


def by_error(unfinished: Sequence[tuple[Any, Any]]) -> dict[str, list[Any]]:
    """The cells that were not done, by what stood in their way."""
    found: dict[str, list[Any]] = {}
    for cell, outcome in unfinished:
        error = outcome.error if outcome.state == "skipped" else f"it failed: {outcome.error}"
        found.setdefault(f"{error}{f' Its log: {outcome.log}' if outcome.log else ''}", []).append(cell)
    return found


def readings(found: Any, effects: Sequence[Any]) -> list[str]:
    """What the table says, computed from its numbers."""
    from ws.results.measured import measured, not_held_out
    from ws.stats import FEW_UNITS

    lines = not_held_out(measured([Path(p) for _, v in found.studies for p in v["evals"]]))
    for name, seeds in {f"{e.behavior} {e.adapter}": e.repeats for e in effects if e.repeats}.items():
        listed = ", ".join(map(str, seeds))
        lines.append(f"seeds do not apply to {name}: {listed} gave every number of another seed again, and count once.")
    several = max(len(e.seeds) for e in effects) > 1
    claimed = [e for e in effects if e.sign]
    if several:
        whole = [e for e in claimed if e.agree == len(e.seeds)]
        told = f"seeds: in {len(whole)} of {len(claimed)} rows with a claim every seed moves as the behavior wants" + (
            "." if len(whole) == len(claimed) else "; the others are not to be relied on, whatever their interval."
        )
        lines += [told] if claimed else []
        clear = [e for e in claimed if e.over.found.ci_lo > 0 or e.over.found.ci_hi < 0]
        lines += [f"intervals: {len(clear)} of {len(claimed)} rows with a claim are clear of 0."] if claimed else []
        if few_units := sorted({f"{e.metric} {n}" for e in effects if (n := e.over.found.fewest) < FEW_UNITS}):
            lines.append(
                f"few units ({', '.join(few_units)}): below {FEW_UNITS} an interval undercovers, and of one there is none."
            )
        few = min(len(e.seeds) for e in effects)
        wide = " few seeds make it wide, as they should" if few < FEW_SEEDS else ""
        lines.append(
            f"the interval is over seeds and items, for a new training and new questions;{wide}".rstrip(";") + "."
        )
    else:
        lines.append("one seed: the interval is over items alone, and says nothing of another training. Give --seeds.")
    if len({e.adapter for e in effects}) > 1:
        if found.grid.budget is None:
            lines.append("alpha 1 is another strength in every family: give --budget to compare families at equal KL.")
        else:
            unmatched = [c.label for c, v in found.studies if v["matched"] is False]
            if unmatched:
                lines.append(f"unmatched, and not to be compared: {'; '.join(unmatched)}.")
            else:
                lines.append(f"all studies are calibrated to {found.grid.budget:g} nat, on both sides.")
    return lines


# ---------------------------------------------------------------- looking


def _check(grid: Any, running: Any, json: bool) -> Any:
    """`--check`: the plan, what of it is done, and how much is left."""
    from ws.engine import places_of
    from ws.grid.sweep import look

    running.check(grid)
    found = look(grid)
    workers = running.workers or 1  # of a cluster that runs already; how many it has room for is its own business
    if running.address is None:
        threads = max(grid.threads.values())
        workers = len(places_of(running.workers, threads=threads, device=grid.device, spread=grid.spread))
    done = [c for c in grid.cells if found.state(c) == "done"]
    kinds = ["data", "train", "direction", *(["calibrate"] if grid.budget is not None else []), "eval"]
    left = None if found.seconds is None else found.seconds / workers
    told = {
        "name": grid.name,
        "studies": len(grid.cells),
        "done": len(done),
        "stages": {k: dict(zip(("all", "done"), found.counted(k))) for k in kinds},
        "workers": workers,
        "seconds_left": left,
        "cells": [{"name": c.name, "state": found.state(c), "error": found.impossible.get(c)} for c in grid.cells],
    }
    if not json:
        from ws.results.tables import grid_table

        show(grid_table(told["cells"], [(c.model, c.behavior, c.adapter, c.lr, c.seed) for c in grid.cells]))
        show("")
        show(f"sweep {grid.name}: {some(len(grid.cells), 'study', 'studies')}, {len(done)} done; {axes(grid)}")
        for kind in kinds:
            n, there = found.counted(kind)
            if n:
                show(f"  {NAMES[kind]:<12} {n:>4}, {there} done")
        threads = max(grid.threads.values())
        show(f"{some(workers, 'worker')} of {some(threads, 'thread')}, engine {running.engine}")
        if left is None:
            show("how long it takes is not known: nothing of this kind is done below the output folder")
        elif left:
            show(f"left: about {duration(left)}, by the times of stages like these")
        else:
            show("nothing is left to do but the tables")
        for error in dict.fromkeys(found.impossible.values()):
            cells = [c for c, e in found.impossible.items() if e == error]
            show(f"• {some(len(cells), 'study', 'studies')} cannot be run: {plain(error)}")
    if found.impossible:
        if json:
            show_json(told)
        raise Failed(f"{len(found.impossible)} of {len(grid.cells)} studies cannot be run.")
    return told


NAMES = {
    "data": "pairs", "train": "trainings", "direction": "directions", "calibrate": "calibrations", "eval": "evaluations",
}  # fmt: skip


def _status(out: Path, json: bool) -> Any:
    """`--status`: every sweep below the output folder, as its files show it."""
    from ws.grid.sweep import statuses

    found = statuses(out)
    told = {"sweeps": [_status_of(s) for s in found]}
    if json:
        return told
    if not found:
        show(f"no sweep in {out.resolve()}; `ws sweep` makes the first")
        return None
    for s in found:
        show_status(s)
    return None


def _status_of(s: Any) -> dict[str, Any]:
    return {
        "name": s.name,
        "folder": str(s.folder.resolve()),
        "running": bool(s.process.alive) and not s.over,
        "seconds": s.process.seconds,
        "command": s.told.get("command", ""),
        "tasks": {
            name: {"state": "waiting"} if (at := s.states.get(name)) is None else {
                "state": at.state, "alive": at.alive, "pid": at.pid, "host": at.host, "seconds": at.seconds,
                "told": dict(at.told), "error": at.error,
            }
            for name in s.told["tasks"]
        },
    }  # fmt: skip


def show_status(s: Any) -> None:
    """One sweep: what runs, what failed, and how to go on."""
    here = s.process.alive
    if s.over:
        head = "every task has ended"
    elif here is None:
        head = f"started {duration(s.process.seconds)} ago on {s.told['host']}, which cannot be asked from here"
    else:
        head = f"running for {duration(s.process.seconds)} (process {s.told['pid']})" if here else "not running"
    show(f"[bold]sweep {plain(s.name)}[/]: {head}")
    cells = [t for t in s.told["tasks"] if t.startswith("cell/")]
    states = ("done", "failed", "skipped", "running", "stopped", "waiting")
    counts = {k: sum(t in cells for t in s.named(k)) for k in states}
    if here is False:  # nobody works on them, whatever their files say
        counts["stopped"] += counts.pop("running")
    counts["interrupted"] = counts.pop("stopped")
    show(f"  {some(len(cells), 'study', 'studies')}: " + ", ".join(f"{n} {k}" for k, n in counts.items() if n))
    for name in s.named("running") if here is not False else ():
        at = s.states[name]
        worker = {True: "", False: "; its worker is gone", None: f" on {at.host}"}[at.alive]
        show(f"  running  {plain(spoken(name))}: {plain(doing(at.told))}, for {duration(at.seconds)}{worker}")
    for name in s.named("failed"):
        show(f"  [red]failed[/]   {plain(spoken(name))}: {plain(s.states[name].error)}")
    if here is False and not s.over and s.told.get("command"):
        show(f"  go on with: {plain(s.told['command'])}")
