"""Evaluations that are done, found below folders, with what their manifests say of them.

Rows are the truth: a table is made from `rows.parquet` and never from the numbers another command printed.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ws.errors import BadFile
from ws.eval import Protocol, recorded
from ws.pairs import marks_of_text
from ws.records import read, refuse_damaged
from ws.stats.arms import NEEDED
from ws.types import Fields, Json

if TYPE_CHECKING:
    import pandas as pd

ROWS, ITEMS = "rows.parquet", "items.parquet"


@dataclass(frozen=True, eq=False)
class Measured:
    """The rows of one protocol of one method, with the study they belong to."""

    folder: Path
    manifest: Json
    protocol: Protocol
    rows: "pd.DataFrame"

    @property
    def run(self) -> str:
        """The name of the run folder; of a direction file or the bare model, what stands for it."""
        return self.folder.parents[2].name

    @property
    def behavior(self) -> str | None:
        """The behavior of the study, or what the file of a direction said it is of; None for the bare model."""
        behavior = self.manifest.get("behavior")
        if isinstance(behavior, str):  # what steers says it, wherever its folder was moved
            return behavior
        names = [p.name for p in self.folder.parents]
        return names[4] if len(names) > 4 and names[3] not in ("direct", "base") else None

    @property
    def method(self) -> str:
        return str(self.manifest["settings"]["method"])

    @property
    def seed(self) -> int:
        return int(self.manifest["settings"]["seed"])

    @property
    def model(self) -> str:
        return str(self.manifest["model"]["id"])

    @property
    def budget(self) -> float | None:
        """The KL its strengths were calibrated to; None where they were given."""
        return (self.manifest["settings"].get("strength") or {}).get("budget")

    @property
    def sought(self) -> tuple[float, float] | None:
        """(neg, pos), the strengths that were found for the budget; None where they were given."""
        strength = self.manifest["settings"].get("strength") or {}
        return (float(strength["neg"]), float(strength["pos"])) if self.budget is not None else None

    @property
    def matched(self) -> bool:
        """Whether both of these have it."""
        points = [self.point(a) for a in self.sought or ()]
        return bool(points) and all(p is not None and p["verdict"] == "matched" for p in points)

    def point(self, alpha: float | None) -> Fields | None:
        """The KL of a strength and whether that is the budget, where it was measured."""
        points = (self.manifest["settings"].get("strength") or {}).get("points", ())
        return next((p for p in points if p["alpha"] == alpha), None)

    @property
    def smoke(self) -> bool:
        """Fewer units were scored than the evaluation has: nothing for a table of results."""
        limited = self.manifest["settings"]["limit"] is not None
        return bool(self.manifest.get("note", {}).get("smoke", limited))

    @property
    def alphas(self) -> list[float]:
        return sorted(float(a) for a in self.rows["alpha"].unique())

    @property
    def source(self) -> str:
        """Where the questions were read from; nothing where the evaluation does not say."""
        source = str(self.manifest.get("note", {}).get("source") or "")
        return "".join(c if c.isprintable() else "�" for c in source)

    @property
    def asked(self) -> str:
        """The identity of the questions: a hash of them, or the description that a harness gives of its tasks."""
        inputs = self.manifest["inputs"]
        return str(inputs.get("items") or inputs.get("pairs") or inputs.get("asked"))

    @property
    def items_hash(self) -> str:
        """The identity of the questions in eight letters."""
        known = len(self.asked) == 64 and set(self.asked) <= set("0123456789abcdef")
        return (self.asked if known else hashlib.sha256(self.asked.encode()).hexdigest())[:8]

    @property
    def data(self) -> str:
        """The name of the questions in a title."""
        return self.source or f"items {self.items_hash}"

    @property
    def study(self) -> tuple:
        """The identity of one direction."""
        return (self.behavior, self.run, self.method, self.seed, self.manifest["inputs"].get("direction"), self.budget)

    @property
    def weights(self) -> str:
        """The identity of the model's weights: the hash of all bytes; in older records, of a sample."""
        inputs = self.manifest["inputs"]
        return inputs.get("weights") or inputs["fingerprint"]

    @property
    def same(self) -> tuple:
        """The values that two evaluations must share to stand in one table: model, precision, protocol and questions."""
        inputs = self.manifest["inputs"]
        # other strengths of one run share its rows at 0; `limit` is part of the questions
        return (
            self.protocol.eval,
            self.protocol.id,
            self.model,
            self.weights,
            inputs["dtype"],
            self.asked,
            self.manifest["settings"]["limit"],
        )

    @cached_property
    def seen(self) -> Mapping[str, frozenset[str]]:
        """For what questions were used before (to make, to calibrate) to the units among these rows that ask them again."""
        used = {why: frozenset(marks or ()) for why, marks in self.manifest.get("used", {}).items()}
        if self.items is None or not any(used.values()):
            return {}
        marks: dict[str, frozenset[str]] = {}
        unit_of = self.rows.drop_duplicates("row_key").set_index("row_key")["unit_id"].to_dict()
        for key, prompt in self.items["prompt"].items():
            if (unit := unit_of.get(key)) is not None:
                marks[unit] = marks.get(unit, frozenset()) | marks_of_text(str(prompt))
        again = {why: frozenset(u for u, own in marks.items() if own & known) for why, known in used.items()}
        return {why: units for why, units in again.items() if units}

    @property
    def held_out(self) -> bool | None:
        """Whether nothing that is asked here was used before; None where the method does not say what it was made from."""
        if self.seen:
            return False
        return True if self.manifest.get("used", {}).get("to make") is not None else None

    @cached_property
    def items(self) -> "pd.DataFrame | None":
        """The questions by row key; None where an older version did not keep them."""
        import pandas as pd

        path = self.folder / ITEMS
        return pd.read_parquet(path).set_index("row_key") if path.is_file() else None


NOT_OF_RUNS = ("direct", "base")
"""Where an output folder holds evaluations of files, and of the bare model."""
PARTS = "explain"
"""The folder of a run where `ws explain` measures parts of its direction."""


def evaluations_below(folder: Path) -> tuple[list[Path], list[Path]]:
    """(the evaluations of an output folder, those of other output folders inside it); below any other folder, all are its own."""
    every = []
    for place, inside, files in os.walk(folder):  # which passes over what may not be read, or is gone by then
        # a stage that is not done works in a folder that begins with a dot; parts of a direction are lines of another page
        inside[:] = [name for name in inside if not name.startswith(".") and name != PARTS]
        every += [Path(place)] if ROWS in files else []
    own = {p for p in every if _is_of_output(p.relative_to(folder).parts)}
    return (sorted(own), sorted({*every} - own)) if own else (sorted(every), [])


def _is_of_output(parts: Sequence[str]) -> bool:
    """Whether an evaluation lies where an output folder holds it: BEHAVIOR/ADAPTER/RUN/eval/NAME/KEY, or base/MODEL/eval/NAME/KEY."""
    if len(parts) == 6:
        return parts[3] == "eval" and parts[1] not in NOT_OF_RUNS
    return len(parts) == 5 and parts[2] == "eval" and parts[0] in NOT_OF_RUNS


def measured(folders: Sequence[Path]) -> list[Measured]:
    """Everything measured below the folders, each once, oldest first; other output folders inside them stay out."""
    import pandas as pd

    by_folder: dict[Path, Measured] = {}
    parts: list[Measured] = []
    for folder in folders:
        if not folder.is_dir():
            raise BadFile(f"there is no folder {folder}; `ws runs` lists the runs.")
        for evaluation in evaluations_below(folder)[0]:
            place, file = evaluation.resolve(), evaluation / ROWS
            manifest = read(place)
            if manifest is None or manifest.get("stage") != "eval" or place in by_folder:
                continue
            refuse_damaged(place, manifest)
            rows = pd.read_parquet(file)
            if missing := [c for c in NEEDED if c not in rows.columns]:
                raise BadFile(f"{file} lacks the columns {missing}; it was not written by `ws eval`.")
            for key, part in rows.groupby("protocol", sort=True):
                # resampling goes by the order of units, so that is fixed here
                part = part.sort_values(["unit_id", "row_key", "alpha"], ignore_index=True)
                by_folder[place] = Measured(place, manifest, recorded(str(part["eval"].iloc[0]), str(key)), part)
                parts.append(by_folder[place])
    return sorted(parts, key=lambda m: (m.manifest["finished"], str(m.folder)))
