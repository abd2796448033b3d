"""`ws runs`: what lies in the output folder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ws.cli.options import Options, verb
from ws.cli.result import VerbResult
from ws.cli.screen import Screen, safe_text
from ws.cli.tables import runs_table
from ws.numbers import some
from ws.records import refuse_no_folder
from ws.results.layouts.overview import record
from ws.results.measured import measured
from ws.results.overview import Entry, entries
from ws.settings import at_least, refuse_outside
from ws.study.runs import runs as runs_below


@dataclass(frozen=True)
class Listed:
    """Which runs are listed."""

    out: str = "out"
    """Output folder."""
    behavior: str | None = None
    """Only runs of this behavior."""
    adapter: str | None = None
    """Only runs of this adapter family."""
    model: str | None = None
    """Only runs on this model, as the list calls it."""
    seed: int | None = None
    """Only runs of this seed."""

    def __post_init__(self):
        refuse_outside(self, seed=at_least(0))


NARROWING = ("behavior", "adapter", "model", "seed")


@dataclass(frozen=True, eq=False)
class Runs(VerbResult):
    """Runs, and the folder that was searched."""

    rows: Sequence[Mapping[str, Any]]
    effects: Mapping[str, Entry]
    """Run folder to the change that says most of it, where it was measured."""
    out: Path
    narrow: Mapping[str, str]
    """What the list was narrowed to."""

    def as_json(self) -> Mapping[str, object]:
        effects = {folder: record(e) for folder, e in self.effects.items()}
        return {"runs": [{**r, "effect": effects.get(r["folder"])} for r in self.rows]}

    def show(self, screen: Screen) -> None:
        if not self.rows:
            wanted = "".join(f" of {name} {value}" for name, value in self.narrow.items())
            there = len(runs_below(self.out)) if self.narrow else 0
            hint = f"there are {some(there, 'other')}: ws runs" if there else "`ws replicate` makes the first"
            screen.show(safe_text(f"no runs{wanted} in {self.out.resolve()}; {hint}"))
            return
        screen.show(runs_table(self.rows, self.effects))
        screen.show(f"\nfolders: {self.out.resolve()}/BEHAVIOR/ADAPTER/RUN")


@verb(Listed)
def runs(options: Options) -> VerbResult:
    """The runs below the output folder."""
    out = Path(options.of(Listed).out)
    refuse_no_folder(out)
    narrow = {name: str(value) for name, value in options.only(*NARROWING).items()}
    rows = [r for r in runs_below(out) if all(str(r[k]) == v for k, v in narrow.items())]
    lines = {r["folder"]: entries(measured([Path(r["folder"])])) for r in rows}
    return Runs(rows, {folder: each[0] for folder, each in lines.items() if each}, out, narrow)
