"""Records as CSV: one a line, the union of their columns in order of appearance; what is missing is empty."""

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ws.records import write_text
from ws.types import Fields


def as_csv(records: Sequence[Fields]) -> str:
    """The text of the file."""
    columns = list(dict.fromkeys(c for r in records for c in r))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: _cell(v) for k, v in r.items()} for r in records)
    return text.getvalue()


def write_csv(path: Path, records: Sequence[Fields]) -> None:
    """The file itself, whole or not at all."""
    write_text(path, as_csv(records))


def _cell(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return " ".join(str(_cell(v)) for v in value)
    return "" if value is None or (isinstance(value, float) and math.isnan(value)) else value
