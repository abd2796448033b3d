"""`ws report`: one HTML page of a run, a sweep or a comparison."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import typer

from ws.cli.options import Declared, Options, verb
from ws.cli.result import VerbResult
from ws.cli.screen import Screen, safe_text
from ws.report import place_of, write_report

PLACE: Declared = (
    str | None,
    typer.Argument(
        metavar="[RUN|SWEEP|COMPARISON]",
        help="A run by name or the beginning of one, a sweep by name, or the folder of either or of a comparison; the newest run when left out.",
    ),
)


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
    file = out if out.suffix == ".html" else None
    folder = place_of(options.text("place"), out if file is None else Path("out"))
    page = write_report(folder, file)
    return Reports(folder, page, page.stat().st_size)
