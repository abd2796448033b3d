"""`ws runs`: what lies in the output folder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ws.cli.options import Options, verb
from ws.cli.result import VerbResult
from ws.cli.screen import Screen
from ws.cli.study import ADAPTER, SEED
from ws.cli.tables import runs_table
from ws.study.options import Common
from ws.study.runs import runs as runs_below

NARROWING = ("behavior", "adapter", "model", "seed")


@dataclass(frozen=True, eq=False)
class Runs(VerbResult):
    """Runs, and the folder that was searched."""

    rows: Sequence[Mapping[str, Any]]
    out: Path

    def as_json(self) -> Mapping[str, object]:
        return {"runs": self.rows}

    def show(self, screen: Screen) -> None:
        if not self.rows:
            screen.show(f"no runs in {self.out.resolve()}; `ws replicate` makes the first")
            return
        screen.show(runs_table(self.rows))
        screen.show(f"\nfolders: {self.out.resolve()}/BEHAVIOR/ADAPTER/RUN")


@verb(Common, adapter=ADAPTER, seed=SEED)
def runs(options: Options) -> VerbResult:
    """The runs below the output folder."""
    out = Path(options.of(Common).out)
    narrow = {name: str(value) for name, value in options.only(*NARROWING).items()}
    return Runs([r for r in runs_below(out) if all(str(r[k]) == v for k, v in narrow.items())], out)
