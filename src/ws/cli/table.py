"""`ws table`: every table again, from its rows."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import typer

from ws.cli.options import Declared, Options, verb
from ws.cli.result import VerbResult
from ws.cli.screen import Screen, say
from ws.diff import lookup
from ws.numbers import some
from ws.records import find_run
from ws.results.csv import as_csv
from ws.results.layouts import overview
from ws.results.measured import Measured, evaluations_below, measured
from ws.results.overview import Entry, entries
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


@dataclass(frozen=True)
class Tabled:
    """Which tables `ws table` makes, and how it writes them."""

    out: str = "out"
    """Output folder, searched when no run or folder is named."""
    full: bool = False
    """Every table of every evaluation instead of a line per run or method."""
    eval: tuple[str, ...] = ()
    """Every table of these evaluations, by name or protocol id."""
    behavior: tuple[str, ...] = ()
    """Only these behaviors."""
    alpha: float | None = None
    """The strength of the forward arm; +1, or the largest there is, when not given."""
    markdown: bool = False
    """Every table as Markdown for a README."""
    csv: bool = False
    """One CSV of every table's numbers."""

    @property
    def whole(self) -> bool:
        """Whether tables are asked for, and not a line per run."""
        return bool(self.full or self.eval or self.alpha is not None or self.markdown or self.csv)


@dataclass(frozen=True, eq=False)
class Tables(VerbResult):
    """Tables, and what is said of all of them."""

    sheets: Sequence[Sheet]
    notes: Sequence[str]
    lines: Sequence[Entry]
    request: Tabled

    def as_json(self) -> Mapping[str, object]:
        tables = [
            {"title": s.title, "columns": s.columns, "rows": s.records, "readings": s.readings} for s in self.sheets
        ]
        return {"runs": [overview.record(e) for e in self.lines], "tables": tables, "notes": self.notes}

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
                screen.sheet(s)
            for n in self.notes:
                screen.show(f"note: {screen.text(n)}")


@dataclass(frozen=True, eq=False)
class Overview(Tables):
    """A line per run or method instead of every table."""

    def show(self, screen: Screen) -> None:
        last = len(self.sheets) - 1
        for at, s in enumerate(self.sheets):  # what all of them say is said once
            screen.sheet(s if at == last else replace(s, expected=""))
        for n in self.notes:
            screen.show(f"note: {screen.text(n)}")
        screen.show("every table: ws table --full, or --run RUN, --eval NAME, --markdown")


@verb(Tabled, places=PLACES, run=RUN)
def table(options: Options) -> VerbResult:
    """What was measured below folders: a line per run or method, or every table."""
    request = options.of(Tabled)
    if sum((request.markdown, request.csv, options.json)) > 1:
        raise ValueError("give one of --markdown, --csv and --json")
    places = [_folder(p, request.out) for p in _places(options) or [request.out]]
    evaluations = _chosen(measured(places), request)
    above = ", ".join(f"{a:+g}" for a in sorted({a for m in evaluations for a in m.alphas if a > 0})) or "none above 0"
    if request.alpha is not None and request.alpha <= 0:
        raise ValueError(f"--alpha must be above 0; measured: {above}")
    aside = _aside(places)
    of_runs = all((p / "eval").is_dir() for p in places)  # a run's own tables are asked for by its name
    if not (request.whole or of_runs or options.json):
        return Overview(_overview(evaluations), [*_smoke(evaluations), *aside], (), request)
    tables, notes = sheets(evaluations, alpha=request.alpha)
    if not tables and request.alpha is not None:
        raise ValueError(f"nothing was measured at --alpha {request.alpha:g}; measured: {above}")
    if not tables:
        raise ValueError(" ".join(notes) or NO_METHOD)
    return Tables(tables, [*notes, *aside], entries(evaluations) if options.json else [], request)


NO_METHOD = "only strength 0 was measured, which is no table of methods"


def _overview(evaluations: Sequence[Measured]) -> list[Sheet]:
    if not (lines := entries(evaluations)):
        raise ValueError(NO_METHOD)
    return overview.sheets(lines)


def _smoke(evaluations: Sequence[Measured]) -> list[str]:
    """A sentence on the evaluations of only some units."""
    n = sum(m.smoke for m in evaluations)
    return [f"left out: {some(n, 'evaluation')} of only some units (--limit)."] if 0 < n < len(evaluations) else []


def _aside(places: Sequence[Path]) -> list[str]:
    """A sentence on other output folders inside these, which are not mixed in."""
    inside = Counter(p / e.relative_to(p).parts[0] for p in places for e in evaluations_below(p)[1])
    listed = ", ".join(f"{folder} ({some(n, 'evaluation')})" for folder, n in sorted(inside.items()))
    return [f"other output folders inside are left out: {listed}; name one to see it."] if inside else []


def _folder(place: str, out: str) -> Path:
    """A folder, or that of a run: named, or by the file of its direction."""
    path = Path(place).expanduser()
    if place == out and not path.exists():
        raise ValueError(f"there is no output folder {out} yet; `ws replicate` makes the first run in it")
    return path if path.is_dir() else (path.is_file() and lookup(path, out).run) or find_run(place, out)[0]


def _places(options: Options) -> list[str]:
    """What was typed to be tabulated, as words or by --run."""
    run = options.text("run")
    return options.texts("places") + (run.split(",") if run else [])


def measured_at(places: Sequence[str], out: str) -> list[Measured]:
    """Evaluations below folders, or of runs named as `ws runs` lists them."""
    return measured([_folder(p, out) for p in places])


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
