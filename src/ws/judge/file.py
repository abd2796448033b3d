"""Cases in a file, and what people say of them.

| column   | holds                                                                                        |
|----------|----------------------------------------------------------------------------------------------|
| question | what was asked                                                                               |
| answer   | what is judged; may be empty                                                                 |
| id       | the name of the row; its number when there is no such column                                 |
| unit     | what was sampled, for the interval; the id when there is no such column                      |
| gold     | what is right, for rubrics that need it: a text, or a list of ways to say it                 |
| wrong    | what is known to be wrong, for rules that need it                                            |
| standard | the trait or the policy, for rubrics that need it                                            |
| human    | a person's verdict, in the rubric's words or as a number; empty where nobody gave one        |

A file of labels has these columns too, or just `id` and `human`: then its rows are those of the file that is judged.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ws.errors import BadFile
from ws.judge.case import Case
from ws.judge.rubrics import Rubric
from ws.sources import Rows, list_of, records
from ws.types import Json

NEEDED = ("question", "answer")


@dataclass(frozen=True)
class Row:
    """A case with the unit that it belongs to, and a person's verdict where there is one."""

    case: Case
    unit: str
    human: float | None = None


def rows_in(file: str | Path, rubric: Rubric, *, standard: str = "") -> list[Row]:
    """The rows of a file, with all that the rubric needs; `standard` is that of the rows that have none."""
    own = bool(standard or rubric.standard)
    needed = [*NEEDED, *(n for n in rubric.needs if n not in NEEDED and not (n == "standard" and own))]
    table = records(file, needed)
    _refuse_twice(table)
    return [_row(r, i, rubric, standard, table.source) for i, r in enumerate(table, 1)]


def labels_in(file: str | Path, rubric: Rubric, rows: Sequence[Row], *, standard: str = "") -> list[Row]:
    """The rows that people have labelled; a file with ids and labels alone is about `rows`."""
    table = records(file, ("human",))
    if all(name in table[0] for name in NEEDED):
        labelled = [r for r in rows_in(file, rubric, standard=standard) if r.human is not None]
    else:
        if "id" not in table[0]:
            raise BadFile(f"{file} has neither `id` nor {' and '.join(NEEDED)}, so nobody knows what it labels.")
        _refuse_twice(table)
        by_id = {r.case.id: r for r in rows}
        unknown = [str(r["id"]) for r in table if str(r["id"]) not in by_id]
        if unknown:
            raise BadFile(
                f"{file} labels {len(unknown)} ids that are not in the file that is judged, e.g. {unknown[0]!r}."
            )
        read = [(by_id[str(r["id"])], _human(r, rubric, str(r["id"]), table.source)) for r in table]
        labelled = [Row(row.case, row.unit, human) for row, human in read if human is not None]
    if not labelled:
        raise BadFile(f"{file} has no label in its column `human`.")
    return labelled


def _row(r: Json, number: int, rubric: Rubric, standard: str, source: str) -> Row:
    name = str(r["id"]) if _there(r.get("id")) else str(number)
    case = Case(
        name,
        _text(r.get("question")),
        _text(r.get("answer")),
        _texts(r.get("gold")),
        _texts(r.get("wrong")),
        _text(r.get("standard")) or standard,
    )
    try:
        rubric.check(case)
    except ValueError as e:
        raise BadFile(f"{source}: {e}.") from None
    unit = _text(r.get("unit")) or name
    return Row(case, unit, _human(r, rubric, name, source))


def _human(r: Json, rubric: Rubric, name: str, source: str) -> float | None:
    """A person's verdict as a number; None where there is none, or where the person abstains as the rubric has it."""
    word = _text(r.get("human")).strip().upper()
    if not word or word in rubric.abstains:
        return None
    if word in rubric.labels:
        return rubric.labels[word]
    low, high = rubric.bounds
    try:
        number = float(word)
    except ValueError:
        number = low - 1
    if not low <= number <= high or (rubric.labels and number not in rubric.labels.values()):
        words = ", ".join([*rubric.labels, *rubric.abstains])
        raise BadFile(
            f"{source}: `human` of {name!r} is {_text(r.get('human'))!r}; {rubric.name} has "
            f"{words}{' and ' if words and rubric.graded else ''}{f'{low:g} to {high:g}' if rubric.graded else ''}."
        )
    return number


def _refuse_twice(table: Rows) -> None:
    """Refuse ids of which one stands twice: verdicts are joined by them."""
    twice = [i for i, n in Counter(str(r["id"]) for r in table if _there(r.get("id"))).items() if n > 1]
    if twice:
        raise BadFile(f"{table.source}: {len(twice)} ids stand twice, e.g. {twice[0]!r}.")


def _there(value: object) -> bool:
    return value is not None and value == value and value != ""  # an empty cell of a table is NaN


def _text(value: object) -> str:
    if not _there(value):
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _texts(value: object) -> tuple[str, ...]:
    """One text, or several; in CSV files a list is written out as text."""
    if isinstance(value, str):
        many = list_of(value) if value.startswith("[") else [value]
    else:
        many = list(value) if isinstance(value, Iterable) else [value]
    return tuple(_text(v) for v in many if _there(v))
