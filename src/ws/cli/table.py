"""`ws table`: every table again, from its rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

from ws.cli.options import Declared, Options, verb
from ws.cli.result import VerbResult
from ws.cli.screen import Screen, say
from ws.diff import lookup
from ws.records import find_run
from ws.results.csv import as_csv
from ws.results.measured import Measured, measured
from ws.results.published import sheets
from ws.results.sheet import Sheet

RUN: Declared = (str | None, typer.Option("--run", help="The same as an option; several separated by commas."))
PLACES: Declared = (
    list[str] | None,
    typer.Argument(
        metavar="[RUN ...]",
        help="Runs, by folder, by name or the beginning of one, or folders with runs; everything below --out when left out.",
    ),
)
TABLE_WIDTH = 240


@dataclass(frozen=True)
class Tabled:
    """Which tables `ws table` makes, and how it writes them."""

    out: str = "out"
    """Output folder, searched when no run or folder is named."""
    eval: tuple[str, ...] = ()
    """Only these evaluations, by name or protocol id."""
    behavior: tuple[str, ...] = ()
    """Only these behaviors."""
    alpha: float | None = None
    """The strength of the forward arm; +1, or the largest there is, when not given."""
    markdown: bool = False
    """Markdown for a README."""
    csv: bool = False
    """One CSV of every table's numbers."""


@dataclass(frozen=True, eq=False)
class Tables(VerbResult):
    """Tables, and what is said of all of them."""

    sheets: Sequence[Sheet]
    notes: Sequence[str]
    request: Tabled

    def as_json(self) -> Mapping[str, object]:
        tables = [
            {"title": s.title, "columns": s.columns, "rows": s.records, "readings": s.readings} for s in self.sheets
        ]
        return {"tables": tables, "notes": self.notes}

    def show(self, screen: Screen) -> None:
        if self.request.csv:
            records = [{"table": s.title.split(" · ")[0], **r} for s in self.sheets for r in s.records]
            print(as_csv(records), end="")
            for n in self.notes:
                say(screen.with_flags(n))
        elif self.request.markdown:
            notes = "".join(f"\n{screen.with_flags(n)}\n" for n in self.notes)
            print("\n".join(s.markdown() for s in self.sheets) + notes, end="")
        else:
            for s in self.sheets:
                screen.sheet(s, TABLE_WIDTH)
            for n in self.notes:
                screen.show(f"note: {screen.text(n)}")


@verb(Tabled, places=PLACES, run=RUN)
def table(options: Options) -> VerbResult:
    """Tables of the evaluations below folders."""
    request = options.of(Tabled)
    if sum((request.markdown, request.csv, options.json)) > 1:
        raise ValueError("give one of --markdown, --csv and --json")
    evaluations = _chosen(measured_at(_places(options) or [request.out], request.out), request)
    above = ", ".join(f"{a:+g}" for a in sorted({a for m in evaluations for a in m.alphas if a > 0})) or "none above 0"
    if request.alpha is not None and request.alpha <= 0:
        raise ValueError(f"--alpha must be above 0; measured: {above}")
    tables, notes = sheets(evaluations, alpha=request.alpha)
    if not tables and request.alpha is not None:
        raise ValueError(f"nothing was measured at --alpha {request.alpha:g}; measured: {above}")
    if not tables:
        raise ValueError(" ".join(notes) or "only strength 0 was measured, which is no table of methods")
    return Tables(tables, notes, request)


def _places(options: Options) -> list[str]:
    """What was typed to be tabulated, as words or by --run."""
    run = options.text("run")
    return options.texts("places") + (run.split(",") if run else [])


def measured_at(places: Sequence[str], out: str) -> list[Measured]:
    """Evaluations below folders, or of runs named as `ws runs` lists them."""
    folders = [Path(p).expanduser() for p in places]
    return measured([f if f.is_dir() else _run(p, f, out) for p, f in zip(places, folders)])


def _run(text: str, path: Path, out: str) -> Path:
    """The folder of a run that is no folder by this path: named, or by the file of its direction."""
    return (path.is_file() and lookup(path, out).run) or find_run(text, out)[0]


def _chosen(evaluations: Sequence[Measured], request: Tabled) -> list[Measured]:
    """Those that the flags leave, which name only what is there."""
    listed = ", ".join(sorted({f"{m.protocol.eval} ({m.behavior or m.method})" for m in evaluations}))
    there = f"there is {listed}" if listed else "there are no evaluations here: `ws eval` makes one"
    evals = {x for m in evaluations for x in (m.protocol.eval, m.protocol.id)}
    behaviors = {m.behavior for m in evaluations}
    for flag, names, known in (("--eval", request.eval, evals), ("--behavior", request.behavior, behaviors)):
        if missing := [x for x in names if x not in known]:
            raise ValueError(f"nothing to tabulate for {flag} {','.join(missing)}; {there}")
    chosen = [
        m
        for m in evaluations
        if (not request.eval or {m.protocol.eval, m.protocol.id} & set(request.eval))
        and (not request.behavior or m.behavior in request.behavior)
    ]
    if not chosen:
        raise ValueError(f"nothing to tabulate; {there}")
    return chosen
