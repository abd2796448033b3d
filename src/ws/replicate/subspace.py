"""The end of a published replication: where the direction lies in the singular spaces of the weights it changes.

What the table holds is `ws explain`'s business (`ws.explain.published`) and comes in as a function; here it is made once and kept, as
`subspace_per_layer.csv` and `subspace_summary.csv` in the columns of the published fork.
"""

import json
from collections.abc import Callable
from pathlib import Path

from ws.direction import Direction
from ws.models import Base
from ws.records import Place, Record, refuse_damaged, write_json
from ws.results.csv import write_csv
from ws.study.evaluations import Subject
from ws.study.keys import base_key, beside
from ws.types import Json

PROTOCOL = "subspace/1"
FILE = "summary.json"

Tables = Callable[[Base, Direction], tuple[list[Json], list[Json]]]
"""A direction to a line per matrix, and one per kind of matrix."""


def make_subspace(subject: Subject, tables: Tables) -> tuple[list[Json], Record]:
    """A line per kind of matrix, made once; those of single matrices lie beside them."""
    base, direction = subject.base, subject.by
    assert isinstance(direction, Direction)
    inputs = {**base_key(base), "direction": direction.content_hash}
    place = Place.below(subject.folder / "subspace", "subspace", {"protocol": PROTOCOL}, inputs)

    def make(work: Path) -> Json:
        per_layer, summary = tables(base, direction)
        write_csv(work / "subspace_per_layer.csv", per_layer)
        write_csv(work / "subspace_summary.csv", summary)
        write_json(work / FILE, summary)
        return {"matrices": len(per_layer)}

    record = place.once(make, beside=beside(base, direction))
    refuse_damaged(record.folder, record.manifest)
    return json.loads((record.folder / FILE).read_text()), record
