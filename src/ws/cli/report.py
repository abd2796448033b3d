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
    """Output folder, below which runs, sweeps and comparisons are found."""
    file: str | None = None
    """The page to write, which ends in .html; report.html in the folder it is about when not given."""

    def __post_init__(self):
        if self.file is not None and Path(self.file).suffix != ".html":
            raise ValueError(f"`file` is the page to write, which ends in .html; got {self.file}")


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
    request = options.of(Reported)
    if request.file is None and Path(request.out).suffix == ".html":  # how the page was named before there was --file
        request = Reported(file=request.out)
    folder = place_of(options.text("place"), Path(request.out).expanduser())
    page = write_report(folder, None if request.file is None else Path(request.file).expanduser())
    return Reports(folder, page, page.stat().st_size)
