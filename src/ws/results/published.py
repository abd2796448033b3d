"""Every table again from rows, methods of one protocol together: the published columns first, in their order, then ours.

Measurements stand in one table only if they share model, precision, protocol and questions. A run that was limited to its
first units is left out, and said. Where one direction was measured more than once, the measurement that holds the strength
of the table counts, the later one among equals; a row of another strength says so in its label.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from ws.results.layouts import airisk, changes, dilemmas, foundations, informedness, sycophancy, tinymfv
from ws.results.line import Line
from ws.results.lines import lines_of
from ws.results.measured import Measured
from ws.results.sheet import Sheet


def sheets(evaluations: Sequence[Measured], *, alpha: float | None = None) -> tuple[list[Sheet], list[str]]:
    """(tables, sentences on what was left out of them). `alpha` is the strength of the forward arm; +1 or the largest there is."""
    full = [m for m in evaluations if not m.smoke]
    notes = []
    if full and len(full) < len(evaluations):
        notes.append(
            f"left out, because they scored fewer units than the evaluation has: {len(evaluations) - len(full)}."
        )
    groups: dict[tuple, list[Measured]] = {}
    for m in full or evaluations:
        groups.setdefault(m.same, []).append(m)
    tables: list[tuple[Sheet, Measured]] = []
    for group in groups.values():
        lines, lacking = lines_of(group, alpha)
        notes += lacking
        for make in TABLES.get(group[0].protocol.eval, (changes.tables,)) if lines else ():
            tables += [(s, group[0]) for s in make(lines)]
    return with_titles_apart(tables), notes


def with_titles_apart(tables: Sequence[tuple[Sheet, Measured]]) -> list[Sheet]:
    """Tables of one title get what they differ in: the questions, or how the model was run."""
    sheets = []
    for s, m in tables:
        alike = [n for t, n in tables if t.title == s.title]
        differ = [about for about in APART if len({about(n) for n in alike}) > 1]
        sheets.append(replace(s, title=" · ".join([s.title, *(about(m) for about in differ)])))
    return sheets


APART: tuple[Callable[[Measured], str], ...] = (
    lambda m: f"items {m.items_hash}",
    lambda m: str(m.manifest["inputs"]["dtype"]),
    lambda m: f"weights {m.weights[:8]}",
    lambda m: f"limit {m.manifest['settings']['limit']}",
)


def informed(lines: Sequence[Line]) -> list[Sheet]:
    """Surgical informedness, as a table of its own."""
    return [informedness.surgical_sheet(lines)]


TABLES: dict[str, tuple[Callable[[Sequence[Line]], list[Sheet]], ...]] = {
    "dilemmas": (dilemmas.tables, informed),
    "sycophancy": (sycophancy.tables,),
    "airisk": (airisk.tables, informed),
    "tinymfv": (tinymfv.tables,),
    "foundations": (foundations.tables,),
    "file": (changes.tables, informed),
}
"""Evaluation to its tables; any other has the changes of all its metrics."""
