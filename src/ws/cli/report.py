"""`ws report`: one HTML page of a run, a sweep or a comparison."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import typer

from ws.cli.options import Declared, Options, verb
from ws.cli.result import VerbResult
from ws.cli.screen import Screen, safe_text
from ws.errors import BadFile
from ws.records import find_run, refuse_unwritable, write_text
from ws.report import has_page, report_of
from ws.study.runs import runs

PLACE: Declared = (
    str | None,
    typer.Argument(
        metavar="[RUN|SWEEP|COMPARISON]",
        help="A run by name or the beginning of one, a sweep by name, or the folder of either or of a comparison; the newest run when left out.",
    ),
)
FILE = "report.html"


@dataclass(frozen=True)
class Reported:
    """What `ws report` writes."""

    out: str = "out"
    """The page to write, where it ends in .html; otherwise the output folder, and the page is report.html in the folder it is about."""


@dataclass(frozen=True, eq=False)
class Reports(VerbResult):
    """The page, and what it is about."""

    folder: Path
    file: Path
    bytes: int

    def as_json(self) -> Mapping[str, object]:
        return {"about": str(self.folder.resolve()), "page": str(self.file.resolve()), "bytes": self.bytes}

    def show(self, screen: Screen) -> None:
        screen.show(
            safe_text(f"page   {self.file.resolve()}  ({self.bytes / 1000:.0f} kB)\nabout  {self.folder.resolve()}")
        )


@verb(Reported, place=PLACE)
def report(options: Options) -> VerbResult:
    """The page of a run, a sweep or a comparison."""
    out = Path(options.of(Reported).out).expanduser()
    typed = out if out.suffix == ".html" else None
    folder = _folder(options.text("place"), Path("out") if typed else out)
    file = typed or folder / FILE
    refuse_unwritable(file.parent)
    text = report_of(folder)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, text)
    return Reports(folder, file, len(text.encode()))


def _folder(place: str | None, out: Path) -> Path:
    """The folder that a page is made of."""
    if place is None:
        newest = next(iter(runs(out)), None)
        if newest is None:
            raise BadFile(f"there is no run in {out} yet; `ws replicate` makes the first.")
        return Path(newest["folder"])
    for folder in (Path(place).expanduser(), out / "sweep" / place):
        if has_page(folder):
            return folder
    return find_run(place, out)[0]
