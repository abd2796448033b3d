"""Which page a folder gets."""

from pathlib import Path

from ws.errors import BadFile
from ws.report import comparison, run, sweep

PAGES = {"train/manifest.json": run.page_of, "sweep.json": sweep.page_of, "report.json": comparison.page_of}
"""The file that tells a run, a sweep or a comparison, and what makes its page."""


def report_of(folder: Path) -> str:
    """The page of a run, a sweep or a comparison, as the text of one HTML file."""
    for file, make in PAGES.items():
        if (folder / file).is_file():
            return make(folder)
    raise BadFile(
        f"{folder} is no run, no sweep and no comparison; `ws runs` lists the runs, and `ws sweep` and `ws compare` end with "
        "the folder of theirs."
    )


def has_page(folder: Path) -> bool:
    """Whether there is a page for this folder."""
    return any((folder / file).is_file() for file in PAGES)
