"""One fair table: methods x seeds x evaluations at equal KL, beside random directions and what each costs.

    specs = cells_of(base, behavior, ["ws:lora", "repe", "random:act:0"], evals=evals_of(behavior), out=Path("out"))
    found = compare(specs, base, behavior, reference="ws:lora")
    print(found.tables[0].markdown())

Knows no method by name. Each cell (`cells.py`) is a function of JSON and is kept; numbers and tables
(`ws.results`) are made again from rows, and a report that is there is read and not made.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ws import methods
from ws.behaviors import Behavior
from ws.calibrate import CalibrateSettings
from ws.data import DataSettings, default_data
from ws.endpoint import Endpoint
from ws.engine import Task
from ws.eval import EVALS, PROTOCOLS, Evaluation, protocol, providing
from ws.grid.cells import CellPlace, Spec, Study, place_of, tasks_of
from ws.grid.run import Runner
from ws.grid.run import on_workers as on_workers
from ws.grid.run import serially as serially
from ws.models.load import Base
from ws.numbers import some
from ws.records import Place, canonical, slug
from ws.results.comparison import write
from ws.results.sheet import Sheet
from ws.study.planning import served_by
from ws.study.worker import keep_base
from ws.train import TrainSettings, default_train

PROTOCOL = "compare/3"
COSTS = ("neutral-nll/1", "neutral-choice/1", "neutral-free/1")
"""Protocols that say what steering costs; always measured."""
BELOW = (0.7,)
"""Parts of a calibrated strength that are measured too. KL grows with about the sixth power: 0.7 is a tenth of the budget."""

Say = Callable[[str], None]
Fit = Callable[[TrainSettings], TrainSettings]


@dataclass(frozen=True, eq=False)
class Comparison:
    """What a comparison found, and where everything lies."""

    folder: Path
    tables: tuple[Sheet, ...]
    cells: tuple[Mapping[str, Any], ...]
    """One record per method, seed and metric."""
    failed: Mapping[str, str]
    plots: tuple[Path, ...]
    notes: tuple[str, ...]
    reused: bool
    """Whether the report was there already."""

    def __repr__(self) -> str:
        first = "".join(f"{t.title}\n{t.markdown()}\n" for t in self.tables[:1])
        return f"{first}{some(len(self.tables), 'table')} in {self.folder}, {some(len(self.failed), 'cell')} failed"

    def as_json(self) -> dict[str, Any]:
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
    asked: Sequence[str] = (),
    *,
    protocols: Mapping[str, str] | None = None,
    data: Mapping[str, str] | None = None,
    limit: int | None = None,
) -> list[Evaluation]:
    """The evaluations of a comparison: by name or NAME@PROTOCOL; what the behavior claims by default; and always the costs."""
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1, got {limit}")
    own = dict.fromkeys(e for m, sign in behavior.intent.items() if sign and (e := providing(m)))
    words = list(asked) or list(own)
    if not words:
        raise ValueError(f"{behavior.name} claims nothing that is measured here; name evaluations with --evals")
    found = []
    for word in words:
        name, _, protocol_id = word.partition("@")
        chosen = protocol(name, protocol_id or (protocols or {}).get(name))
        if chosen.incomparable:
            others = ", ".join(sorted(n for n, p in EVALS.items() if not p.incomparable))
            raise ValueError(f"{name} cannot be compared: {chosen.incomparable}; there are {others}")
        found.append(Evaluation(name, chosen.id, data=(data or {}).get(name), limit=limit))
    costs = [Evaluation(p.eval, p.id, data=(data or {}).get(p.eval)) for p in PROTOCOLS.values() if p.id in COSTS]
    if unknown := sorted(set(data or {}) - {a.name for a in [*found, *costs]}):
        raise ValueError(
            f"--data names {unknown[0]}, which is not among the evaluations {', '.join(a.name for a in found)}"
        )
    return list(dict.fromkeys([*found, *costs]))


def cells_of(
    base: Base,
    behavior: Behavior,
    chosen: Sequence[str],
    *,
    evals: Sequence[Evaluation],
    seeds: Sequence[int] = (0,),
    settings: CalibrateSettings | None = None,
    alphas: Sequence[float] = (),
    data: DataSettings | None = None,
    fit: Fit = lambda settings: settings,
    pack: str | None = None,
    endpoint: Endpoint | None = None,
    out: Path = Path("out"),
) -> list[Spec]:
    """The cells of a comparison. What no seed changes is measured once; a draw is a seed of its own.

    Without `settings` nothing is calibrated and `alphas` are measured as they are. `fit` changes how a family is
    trained; `pack` is the path of a behavior that is not shipped; `endpoint` a server that writes the pairs.
    """
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise ValueError(f"seeds are different whole numbers from 0 on, got {list(seeds)}")
    if settings is None and not (any(a < 0 for a in alphas) and any(a > 0 for a in alphas)):
        raise ValueError("strengths as given need one below 0 and one above: --alphas=-1,1; or give a --budget")
    needed = {name: methods.needs(name) for name in chosen}
    families = dict.fromkeys([TrainSettings().adapter, *(n.adapter for n in needed.values() if n.adapter)])
    by_family = {a: fit(default_train(base, a)) for a in families}
    for name, n in needed.items():
        if n.adapter and n.checkpoint > by_family[n.adapter].checkpoints:
            raise ValueError(
                f"{name} is a checkpoint, and none is kept so far; give --checkpoints {n.checkpoint} or more"
            )
    threads = _threads(base)
    served = None if endpoint is None else served_by(replace(endpoint, model=endpoint.served()))
    found = []
    for at, seed in enumerate(seeds):
        study = Study(
            base.source or base.id, pack or behavior.name, str(out), seed,
            data=_json(asdict(replace(data or default_data(base), seed=seed))),
            train={a: _json(asdict(replace(s, seed=seed))) for a, s in by_family.items()},
            dtype=str(base.dtype).removeprefix("torch."), device=str(base.device), threads=threads, served=served,
        )  # fmt: skip
        for name in chosen:
            if at and needed[name].seed != "study":
                continue
            extra = BELOW if at == 0 and needed[name].seed != "draw" and settings is not None else ()
            found.append(
                Spec(
                    study,
                    name,
                    tuple(evals),
                    None if settings is None else _json(asdict(settings)),
                    tuple(alphas),
                    extra,
                )
            )
    return found


def compare(
    specs: Sequence[Spec],
    base: Base,
    behavior: Behavior,
    *,
    reference: str | None = None,
    run: Runner = serially,
    say: Say = lambda line: None,
) -> Comparison:
    """Do the cells that are not done, and report on all of them. `reference` is the first method when not given."""
    chosen = list(dict.fromkeys(s.method for s in specs))
    reference = methods.needs(checked_reference(chosen, reference)).kin
    # 1. what is there already
    places = [place_of(s, base, behavior) for s in specs]
    todo = [s for s, p in zip(specs, places) if p.read() is None]
    say(f"{len(specs)} cells, {len(specs) - len(todo)} of them done already")
    # 2. the rest
    keep_base(base, specs[0].study)
    failed = run(tasks_of(todo), Progress(tasks_of(todo), say)) if todo else {}
    lost = {s.name: failed.get(s.name, "it left no record") for s, p in zip(specs, places) if p.read() is None}
    if len(lost) == len(specs):
        raise ValueError(f"none of {len(specs)} cells could be made; {specs[0].name}: {lost[specs[0].name]}")
    # 3. the report
    out = Path(specs[0].study.out)
    told = {"protocol": PROTOCOL, "reference": reference}
    cells = [[p.folder.name, s.name] for s, p in zip(specs, places)]
    # which way a metric is meant to go decides signs and cues, and is in no cell
    inputs = {"cells": cells, "failed": lost, "intent": dict(behavior.intent)}
    place = Place.below(out / "compare" / slug(base.id) / behavior.name, "compare", told, inputs)

    def make(work: Path) -> dict[str, Any]:
        say("making tables and plots")
        records = [r for p in places if (r := p.read()) is not None]
        failures: dict[str, dict[str, str]] = {}
        for s in specs:
            if s.name in lost:
                failures.setdefault(methods.needs(s.method).kin, {})[s.name] = lost[s.name]
        return write(work, out, records, failures, model=base.id, behavior=behavior, reference=reference)

    record = place.once(make)
    return read_report(record.folder, lost, reused=record.reused)


def read_report(folder: Path, failed: Mapping[str, str], *, reused: bool) -> Comparison:
    """A report that is done."""
    told = json.loads((folder / "report.json").read_text())
    tables = tuple(_sheet(t) for t in told["tables"])
    plots = tuple(folder / p for p in told["plots"])
    return Comparison(folder, tables, tuple(told["cells"]), failed, plots, tuple(told["notes"]), reused)


def checked_reference(chosen: Sequence[str], reference: str | None) -> str:
    """The method others are set against: the one asked for, which must be among them, or the first."""
    if reference is None:
        return chosen[0]
    known = {n: methods.needs(n).kin for n in chosen}
    for name, kin in known.items():
        if reference in (name, kin):
            return name
    raise ValueError(f"the reference {reference!r} is not among the methods {', '.join(dict.fromkeys(known.values()))}")


class Progress:
    """What is done, how fast, and how much time is left: one line per task."""

    def __init__(self, tasks: Sequence[Task], say: Say):
        self.total, self.say, self.done = len(tasks), say, 0
        self.start = time.monotonic()

    def __call__(self, task: Task, why: str) -> None:
        now = time.monotonic()
        self.done += 1
        each = (now - self.start) / self.done
        left = each * (self.total - self.done)
        told = f"FAILED: {why}" if why else "done"
        rest = f"about {left / 60:.1f} min left at {each:.1f} s each" if self.done < self.total else "all done"
        self.say(f"[{self.done}/{self.total}] {task.name:<28} {told}; {rest}")


def _threads(base: Base) -> int | None:
    import torch

    return torch.get_num_threads() if base.device.type == "cpu" else None


def _json(value: Mapping[str, Any]) -> dict[str, Any]:
    """The same as JSON has it: lists for tuples."""
    return json.loads(canonical(value))


def _sheet(told: Mapping[str, Any]) -> Sheet:
    """A table as it was before it was JSON."""
    lines = tuple(tuple(line) for line in told["lines"])
    listed = {k: tuple(told[k]) for k in ("columns", "records", "readings", "words")}
    return Sheet(told["title"], told["expected"], lines=lines, **listed)


__all__ = ["CellPlace", "Comparison", "Evaluation", "Spec", "Study", "cells_of", "compare", "evals_of"]
