"""One fair table: methods x seeds x evaluations at equal KL, beside random directions and what each costs.

    cells = cells_of(base, behavior, ["ws:lora", "repe", "random:act:0"], evals=evals_of(behavior), out=Path("out"))
    comparison = compare(cells, base, behavior, reference="ws:lora")
    print(comparison.tables[0].markdown())

Knows no method by name. Each cell is a function of JSON and its record is kept; numbers and tables are made again from
rows, and a report that is there is read and not made.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from ws import methods
from ws.behaviors import Behavior
from ws.calibrate import CalibrateSettings
from ws.endpoint import Endpoint
from ws.eval import PROTOCOLS, Evaluation
from ws.grid.axes import further
from ws.grid.cells import Cell, CellPlace, cell_outline, cell_plan, keep, place_of
from ws.grid.run import Runner, Tell, serially
from ws.grid.tasks import tasks_of
from ws.models.load import Base
from ws.numbers import some
from ws.records import Place, slug
from ws.results.comparison import write
from ws.results.sheet import Sheet
from ws.settings import at_least
from ws.steer import distinct_strengths
from ws.study.asked import evaluations_named
from ws.study.options import Common
from ws.study.planning import served_by, settings_for
from ws.types import Fields, Json

PROTOCOL = "compare/4"
MEASURING = ("n_calib", "tokens", "thoughts")
"""What a calibration has of how KL is measured."""
COSTS = ("neutral-nll/1", "neutral-choice/1", "neutral-free/1")
"""Protocols that say what steering costs; always measured."""

Say = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Comparison:
    """What a comparison found, and where everything lies."""

    folder: Path
    tables: tuple[Sheet, ...]
    cells: tuple[Fields, ...]
    """One record per method, seed and metric."""
    failed: Mapping[str, str]
    plots: tuple[Path, ...]
    notes: tuple[str, ...]
    reused: bool
    """Whether the report was there already."""

    def __repr__(self) -> str:
        first = "".join(f"{t.title}\n{t.markdown()}\n" for t in self.tables[:1])
        return f"{first}{some(len(self.tables), 'table')} in {self.folder}, {some(len(self.failed), 'cell')} failed"

    def as_json(self) -> Json:
        """All of it: absolute paths, NaN as None."""
        tables = [
            {"title": t.title, "columns": t.columns, "rows": t.records, "readings": t.readings} for t in self.tables
        ]
        return {
            "folder": str(self.folder.resolve()), "tables": tables, "cells": list(self.cells),
            "failed": dict(self.failed), "plots": [str(p.resolve()) for p in self.plots], "notes": list(self.notes),
        }  # fmt: skip


def evals_of(
    behavior: Behavior,
    names: Sequence[str] = (),
    *,
    protocols: Mapping[str, str] | None = None,
    data: Mapping[str, str] | None = None,
    limit: int | None = None,
) -> tuple[Evaluation, ...]:
    """The evaluations of a comparison: by name or NAME@PROTOCOL; what the behavior claims by default; and always the costs."""
    costs = [p for p in PROTOCOLS.values() if p.id in COSTS]
    return evaluations_named(
        behavior, names, also=costs, protocols=protocols, data=data, limit=limit, refused=lambda p: p.incomparable
    )


def cells_of(
    base: Base,
    behavior: Behavior,
    chosen: Sequence[str],
    *,
    evals: Sequence[Evaluation],
    seeds: Sequence[int] = (0,),
    settings: CalibrateSettings | None = None,
    alphas: Sequence[float] = (),
    kl: Fields | None = None,
    options: Fields | None = None,
    preset: str = "ws",
    pack: str | None = None,
    endpoint: Endpoint | None = None,
    onto: Sequence[str] = (),
    out: Path = Path("out"),
) -> list[Cell]:
    """The cells of a comparison. What no seed changes is measured once; a draw is a seed of its own.

    Without `settings` nothing is calibrated and `alphas` are measured as they are, their KL with the fields in `kl`.
    `options` say how pairs and adapters are made; `pack` is the path of a behavior that is not shipped; `endpoint` a server that writes the pairs.
    `onto` is what a worker folds into the model that it loads.
    """
    refuse_cells(seeds, settings, alphas)
    common = Common(
        model=base.source or base.id,
        onto=tuple(onto),
        behavior=pack or behavior.name,
        out=str(out),
        preset=preset,
        device=str(base.device),
        dtype=str(base.dtype).removeprefix("torch."),
        quantize=None if base.quantised is None else base.quantised.by,
        threads=torch.get_num_threads() if base.device.type == "cpu" else None,
    )
    served = None if endpoint is None else replace(endpoint, model=endpoint.served())
    training = {**(options or {}), **served_by(served)}
    calibrate = None if settings is None else asdict(settings)
    cells = []
    for seed in seeds:
        for name in chosen:
            cell = Cell(common, name, seed, training, tuple(evals), tuple(alphas), calibrate, kl)
            if seed == seeds[0] or cell.needs.seed == "study":
                cells.append(replace(cell, fractions=further(cell, seeds)))
    for cell in cells:
        if (n := cell.needs.checkpoint) > settings_for(common, cell.plan_options, base)[1].checkpoints:
            raise ValueError(f"{cell.method} is a checkpoint, and none is kept so far; give `checkpoints` {n} or more")
    return cells


def refuse_cells(seeds: Sequence[int], settings: CalibrateSettings | None, alphas: Sequence[float]) -> None:
    """Refuse seeds and strengths that no comparison can have, before a model is loaded for it."""
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"`seeds` are different whole numbers from 0 on, got {list(seeds)}")
    for seed in seeds:
        at_least(0).check("seeds", seed)
    if settings is None and not (any(a < 0 for a in alphas) and any(a > 0 for a in alphas)):
        raise ValueError("strengths need one below 0 and one above: `alphas=-1,1`; or give a `budget`")
    distinct_strengths(alphas)


def how_kl_is_measured(options: Fields) -> Fields | None:
    """The fields of a calibration that say how KL is measured, where strengths are given; those of a search are refused."""
    if sought := [name for name in options if name not in MEASURING]:
        raise ValueError(f"`{sought[0]}` says how strengths are sought; give a `budget` with it")
    return dict(options) or None


def compare(
    cells: Sequence[Cell],
    base: Base,
    behavior: Behavior,
    *,
    reference: str | None = None,
    run: Runner = serially,
    tell: Tell = lambda event: None,
    say: Say = lambda line: None,
    command: str = "",
) -> Comparison:
    """Do the cells that are not done, and report on all of them. `reference` is the first method when not given.

    `command` is what a person would type for the same again.
    """
    chosen = list(dict.fromkeys(c.method for c in cells))
    reference = methods.needs(checked_reference(chosen, reference)).kin
    # 1. what is there already
    keep(base, cells[0].common)
    places = cell_places(cells)
    todo = [c for c, p in zip(cells, places) if p.read() is None]
    for cell in todo:
        cell_plan(cell)  # refuses what its model cannot have
    say(f"{len(cells)} cells, {len(cells) - len(todo)} of them done already")
    # 2. the rest
    outcomes = run(tasks_of(todo), tell) if todo else {}
    failed = {c.short: outcomes[c.name].error or "it left no record" for c, p in zip(cells, places) if p.read() is None}
    if len(failed) == len(cells):
        raise ValueError(f"none of {len(cells)} cells could be made; {cells[0].short}: {failed[cells[0].short]}")
    # 3. the report
    settings = {"protocol": PROTOCOL, "reference": reference}
    names = [[p.folder.name, c.short] for c, p in zip(cells, places)]
    # which way a metric is meant to go decides signs and cues, and is in no cell
    inputs = {"cells": names, "failed": failed, "intent": dict(behavior.intent)}
    out = Path(cells[0].common.out)
    place = Place.below(out / "compare" / slug(base.id) / behavior.name, "compare", settings, inputs)

    def make(work: Path) -> Json:
        say("making tables and plots")
        records = [r for p in places if (r := p.read()) is not None]
        lost: dict[str, dict[str, str]] = {}
        for c in cells:
            if c.short in failed:
                lost.setdefault(c.needs.kin, {})[c.short] = failed[c.short]
        return write(work, out, records, lost, model=base.id, behavior=behavior, reference=reference)

    record = place.once(make, beside={"command": command})
    return read_report(record.folder, failed, reused=record.reused)


def cell_places(cells: Sequence[Cell]) -> list[CellPlace]:
    """The places of cells, in their order."""
    return [place_of(c, cell_outline(c)[0]) for c in cells]


def read_report(folder: Path, failed: Mapping[str, str], *, reused: bool) -> Comparison:
    """A report that is done."""
    report = json.loads((folder / "report.json").read_text())
    tables = tuple(Sheet.from_json(t) for t in report["tables"])
    plots = tuple(folder / p for p in report["plots"])
    return Comparison(folder, tables, tuple(report["cells"]), failed, plots, tuple(report["notes"]), reused)


def checked_reference(chosen: Sequence[str], reference: str | None) -> str:
    """The method others are set against: the one asked for, which must be among them, or the first."""
    if reference is None:
        return chosen[0]
    known = {n: methods.needs(n).kin for n in chosen}
    for name, kin in known.items():
        if reference in (name, kin):
            return name
    raise ValueError(f"the reference {reference!r} is not among the methods {', '.join(dict.fromkeys(known.values()))}")
