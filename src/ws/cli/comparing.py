"""The verb about methods: `ws compare` sets them side by side at equal KL."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from ws.cli.flags import Common, Compared, Served, load_base
from ws.cli.out import plain, say, show, show_sheet
from ws.errors import Failed
from ws.records import writable
from ws.settings import coerced
from ws.study.options import endpoint_of

FACTOR = "--seeds is the factor of a comparison; leave out --seed"
TOLD = 10  # failed cells that are named


def compare(given: dict[str, Any]) -> Any:
    """Set methods side by side at equal KL: effects, intervals, side effects, random directions; tables and plots."""
    from ws import methods
    from ws.behaviors import load_behavior
    from ws.calibrate import CalibrateSettings
    from ws.data import DataSettings, default_data
    from ws.grid.compare import cells_of, checked_reference, evals_of
    from ws.grid.compare import compare as compared
    from ws.presets import preset
    from ws.study.options import fitted
    from ws.train import TrainSettings

    common = Common(**coerced(Common, given))
    what = Compared(**coerced(Compared, given))
    if common.pairs:
        raise ValueError("ws compare makes its pairs per seed, from --behavior; leave out --pairs")
    for flag, why in (("seed", FACTOR), ("adapter", "a method names its adapter: --methods ws:lora,ws:oft")):
        if flag in given:
            raise ValueError(f"{why}")
    if "methods" in given and not what.methods:
        raise ValueError("--methods is empty; name at least one, or leave it out")
    if what.workers is not None and what.workers < 1:
        raise ValueError(f"--workers must be at least 1, got {what.workers}")
    if common.device_map and what.workers not in (None, 1):
        raise ValueError("--device-map gives one process all devices; leave out --workers")
    # 1. everything that can be refused is refused before a model is loaded
    chosen = methods.selection(what.methods, draws=what.draws)
    checked_reference(chosen, what.reference)
    settings = None
    if "budget" in given or not what.alphas:
        wanted = {**preset(common.preset, "calibrate"), **coerced(CalibrateSettings, given)}
        settings = CalibrateSettings(**wanted)
    behavior = load_behavior(common.behavior or "honesty", tiny=common.model == "tiny")
    if lacking := [n for n in methods.without_texts(chosen, behavior) if n not in what.methods]:
        chosen = [n for n in chosen if n not in lacking]
        say(f"note: {behavior.name} has no texts for {', '.join(lacking)}, which is left out")
    evals = evals_of(
        behavior, what.evals, protocols=preset(common.preset, "protocol"), data=_files(what.data), limit=what.limit
    )  # fmt: skip
    wanted_data = coerced(DataSettings, given)
    wanted_train = coerced(TrainSettings, given)
    endpoint = endpoint_of(Served(**coerced(Served, given)), common)
    base = load_base(common)

    def fit(of: TrainSettings) -> TrainSettings:
        return fitted(of, {**preset(common.preset, "train", of.adapter), **wanted_train})

    shipped = behavior.name == (common.behavior or "honesty")
    specs = cells_of(
        base, behavior, chosen, evals=evals, seeds=what.seeds, settings=settings, alphas=what.alphas,
        data=replace(default_data(base), **{**preset(common.preset, "data"), **wanted_data}), fit=fit,
        pack=None if shipped else common.behavior, endpoint=endpoint, out=Path(common.out),
    )  # fmt: skip
    if what.check:
        return _planned(specs, base, behavior, given)
    # 2. the cells, and the report
    writable(Path(common.out))
    run, logs = _runner(specs, base, behavior, what.workers, common.device_map)
    found = compared(specs, base, behavior, reference=what.reference, run=run, say=say)
    told: dict[str, Any] = {
        "model": base.id,
        "behavior": behavior.name,
        "budget": None if settings is None else settings.budget,
    }
    told |= {"methods": chosen, "seeds": list(what.seeds), **found.as_json()}
    if given.get("json"):
        if found.failed:  # the record is printed before the failure is said
            from ws.cli.out import show_json

            show_json(told)
    elif what.markdown:
        print((found.folder / "tables.md").read_text(), end="")
    else:
        _show(found)
    if found.failed:
        named = "; ".join(f"{name}: {why}" for name, why in list(found.failed.items())[:TOLD])
        where = f" Logs: {logs}" if logs is not None and logs.is_dir() else ""
        raise Failed(f"{len(found.failed)} of {len(specs)} cells failed: {named}{where}")
    return told


def _runner(specs: Any, base: Any, behavior: Any, workers: int | None, device_map: str | None) -> Any:
    """This process alone, or several; a GPU holds one model, so there this process is all unless more are asked for."""
    import torch

    from ws.engine import workers_of
    from ws.grid.compare import on_workers, serially

    if device_map is not None:
        return serially, None
    on_cpu = base.device.type == "cpu"
    threads = torch.get_num_threads() if on_cpu else 1
    n = workers or (workers_of(threads) if on_cpu else 1)
    if n == 1:
        return serially, None
    study = specs[0].study
    state = Path(study.out) / "compare" / f".{behavior.name}.{os.getpid()}.work"
    return on_workers(state, workers=n, threads=threads, device=study.device), state.resolve() / "logs"


def _show(found: Any) -> None:
    for s in found.tables:
        show_sheet(s, 260)
        for line in (s.expected, *s.readings):
            if line:
                show(f"• {plain(line)}")
        show("")
    for n in found.notes:
        show(f"note: {plain(n)}")
    for p in found.plots:
        if p.suffix == ".png":
            show(f"plot    {p.resolve()}")
    show(f"tables  {found.folder.resolve()}/tables.md, tables.csv, cells.csv, report.json")


def _planned(specs: Any, base: Any, behavior: Any, given: dict[str, Any]) -> Any:
    """What would be done."""
    from ws.grid.compare import place_of, tasks_of

    done = [place_of(s, base, behavior).read() is not None for s in specs]
    todo = [s for s, d in zip(specs, done) if not d]
    tasks = tasks_of(todo)
    told: dict[str, Any] = {
        "cells": [{"cell": s.name, "done": d} for s, d in zip(specs, done)], "tasks": [t.name for t in tasks],
        "evals": [f"{e.name}@{e.protocol}" for e in specs[0].evals], "calibrate": specs[0].calibrate,
    }  # fmt: skip
    if not given.get("json"):
        at = f"at {told['calibrate']['budget']:g} nat" if told["calibrate"] else "at the strengths given"
        show(f"{len(specs)} cells, {len(specs) - len(todo)} done; each measures {', '.join(told['evals'])}, {at}")
        for t in tasks:
            show(f"  {plain(t.name)}")
    return told


def _files(data: tuple[str, ...]) -> dict[str, str]:
    """NAME=FILE, several."""
    found = {}
    for part in data:
        name, mark, file = part.partition("=")
        if not (mark and name and file):
            raise ValueError(f"--data takes NAME=FILE, e.g. dilemmas=mine.parquet; got {part!r}")
        found[name] = file
    return found
