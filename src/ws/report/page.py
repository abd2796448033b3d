"""Which page a folder gets, and where it is written."""

from difflib import SequenceMatcher
from pathlib import Path

from ws.errors import BadFile
from ws.records import find_run, named_runs, refuse_unwritable, write_text
from ws.report import comparison, run, sweep
from ws.study.runs import runs

FILE = "report.html"
PAGES = {"train/manifest.json": run.page_of, "sweep.json": sweep.page_of, "report.json": comparison.page_of}
"""The file that tells a run, a sweep or a comparison, and what makes its page."""
BELOW = {"*/*/*/train/manifest.json": 1, "sweep/*/sweep.json": 0, "compare/*/*/*/report.json": 0}
"""Where these files lie below an output folder, and how far above them the folder is that has a page."""
NEARBY = 5


def place_of(text: str | None, out: Path) -> Path:
    """The folder of a run, a sweep or a comparison that a text names; the newest run below `out` that was measured where nothing is named."""
    if text is None:
        folders = [Path(r["folder"]) for r in runs(out)]
        if not folders:
            raise BadFile(f"there is no run in {out} yet; `ws replicate` makes the first.")
        # one that was measured: those that others are held against are trained and never measured
        return next((f for f in folders if any(f.glob("eval/*/*/manifest.json"))), folders[0])
    places = (Path(text).expanduser(), out / "sweep" / text, out / text)
    if (place := next((p for p in places if has_page(p)), None)) is not None:
        return place.resolve()
    if not named_runs(text, out):
        raise BadFile(f"{text!r} is no run, no sweep and no comparison below {out}; {_there(text, out)}.")
    return find_run(text, out)[0]


def _there(text: str, out: Path) -> str:
    """What there is below an output folder that has a page, the likeliest first."""
    places = [p.parents[up] for file, up in BELOW.items() for p in out.glob(file)]
    names = [p.relative_to(out).as_posix() for p in places]
    likely = sorted(names, key=lambda name: -SequenceMatcher(None, text, name).ratio())[:NEARBY]
    return f"there are {', '.join(likely)}" if likely else "there is none yet"


def write_report(folder: Path, file: Path | None = None) -> Path:
    """The page in a file, beside what it is about when none is named; its path."""
    file = file or folder / FILE
    refuse_unwritable(file.parent, "file")
    text = report_of(folder)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, text)
    return file


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
