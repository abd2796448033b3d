"""The page of a run: its parts in the order in which they are read."""

from pathlib import Path

from ws.report import answers, effect, items, limits, origin, pairs, strengths
from ws.report.study import Study
from ws.results.page import page

PARTS = (
    effect.part,
    limits.part,
    answers.part,
    items.part,
    effect.costs,
    strengths.part,
    pairs.part,
    effect.tables,
    origin.part,
)


def page_of(folder: Path) -> str:
    """The page of a run; what has not been made or measured yet is left out, or said."""
    study = Study(folder)
    parts = [made for part in PARTS if (made := part(study)) is not None]
    about = f"weight steering · a run of {study.train['finished'][:10]}"
    return page(study.title, effect.answer(study), parts, about=about)
