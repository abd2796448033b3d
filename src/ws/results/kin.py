"""What the cells of one method say together: numbers over units, and over seeds or draws.

Everything comes from rows. A method's arms are its two strengths of equal KL; the axis is half the difference between
them, so that what both do alike (plain damage, a liking for Yes) cancels. Differences are paired by row.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ws.eval.protocol import Metrics
from ws.results.measured import Measured
from ws.stats import OverSeeds, Sample, combined, over_seeds

if TYPE_CHECKING:
    import pandas as pd

Failures = Mapping[str, Mapping[str, str]]
"""Method to cell to why it could not be made."""

ALIKE = 1e-4  # nats between two readings of one method whose sums ran in another order


@dataclass(frozen=True, eq=False)
class Cell:
    """One method with one seed, as it was measured."""

    record: Mapping[str, Any]
    """What `cell.json` says of it."""
    evals: Mapping[str, Measured]
    """Protocol name to its rows."""

    @property
    def method(self) -> str:
        """The method as it was asked for."""
        return str(self.record["asked"])

    @property
    def seed(self) -> int:
        return int(self.record["seed"])

    @property
    def control(self) -> bool:
        """Whether it is a draw of something random."""
        return bool(self.record["control"])

    @property
    def neg(self) -> float:
        return float(self.record["strength"]["neg"])

    @property
    def pos(self) -> float:
        return float(self.record["strength"]["pos"])

    def point(self, alpha: float) -> Mapping[str, Any]:
        """What is known of one strength: its KL and whether that is the budget."""
        return next(p for p in self.record["strength"]["points"] if p["alpha"] == alpha)

    @property
    def verdicts(self) -> tuple[str, str]:
        """Of neg and pos: matched, unmatched (why), or as given."""
        return self.point(self.neg)["verdict"], self.point(self.pos)["verdict"]

    @property
    def matched(self) -> bool:
        """Whether both strengths have the budget, and other prompts agree."""
        return self.verdicts == ("matched", "matched")

    def calibration(self, out: Path) -> dict[str, Any] | None:
        """How its strengths were found, or None where they were given."""
        where = self.record["calibration"]
        return None if where is None else json.loads((out / where / "calibration.json").read_text())

    @cached_property
    def _metrics(self) -> dict[str, Metrics]:
        return {}

    def metrics(self, asked: str) -> Metrics:
        """Every metric of one evaluation."""
        if asked not in self._metrics:
            self._metrics[asked] = self.evals[asked].protocol.metrics(self.evals[asked].rows)
        return self._metrics[asked]

    def moved(self, asked: str, metric: str, alpha: float) -> Sample:
        """The change of a metric from strength 0 to another."""
        per_alpha = self.metrics(asked)[metric]
        return combined([(1.0, per_alpha[alpha]), (-1.0, per_alpha[0.0])])

    def axis(self, asked: str, metric: str, sign: float = 1.0) -> Sample:
        """Half the difference between the arms."""
        per_alpha = self.metrics(asked)[metric]
        return combined([(sign / 2, per_alpha[self.pos]), (-sign / 2, per_alpha[self.neg])])

    def same(self, other: "Cell") -> bool:
        """Whether the other is this measurement again: one content, or the same scores of the same rows at both arms.

        A content holds the seed it was made with, so what that seed has not changed is known by its rows. Draws are another
        matter: several that do nothing are several.
        """
        hashes = [(c.record.get("content"), c.record.get("numbers")) for c in (self, other)]
        if any(a is not None and a == b for a, b in zip(*hashes)):
            return True
        if not self.evals or self.control:
            return False
        one, two = self._scores, other._scores
        return one.index.equals(two.index) and np.allclose(one, two, rtol=0, atol=ALIKE, equal_nan=True)

    @cached_property
    def _scores(self) -> "pd.Series":
        import pandas as pd

        arms = {"neg": self.neg, "pos": self.pos}
        parts = {
            (asked, arm): m.rows[m.rows["alpha"] == alpha].set_index("row_key")["y"].sort_index()
            for asked, m in self.evals.items()
            for arm, alpha in arms.items()
        }
        return pd.concat(parts)

    def share(self, asked: str, column: str, alpha: float) -> float:
        """The mean of a column of rows at one strength: pmass, forced_close."""
        rows = self.evals[asked].rows
        return float(rows.loc[rows["alpha"] == alpha, column].astype(float).mean())


@dataclass(frozen=True, eq=False)
class Kin:
    """One method over its seeds; a random one over its draws."""

    name: str
    cells: tuple[Cell, ...]
    failed: Mapping[str, str] = field(default_factory=dict)
    """Cells that could not be made, and why."""
    repeats: tuple[Cell, ...] = ()
    """Cells of other seeds that are one of these measurements again; they count once."""
    _kept: dict[tuple, OverSeeds] = field(default_factory=dict, repr=False)

    @property
    def control(self) -> bool:
        """Whether its seeds are draws of something random."""
        return self.cells[0].control

    @property
    def kind(self) -> str:
        """What it is: weights, activation or prompt."""
        return str(self.cells[0].record["kind"])

    @property
    def places(self) -> str:
        """Where it acts; controls of the same places are what it stands beside."""
        return str(self.cells[0].record["places"])

    @property
    def matched(self) -> bool:
        return all(c.matched for c in self.cells)

    @property
    def overlap(self) -> float | None:
        """The share of one seed's questions that another one has too, the largest of any two seeds; None without questions."""
        each = [set(c.record.get("questions", ())) for c in self.cells]
        shares = [len(a & b) / min(len(a), len(b)) for a, b in combinations(each, 2) if a and b]
        return max(shares, default=None)

    @property
    def given(self) -> bool:
        """Whether strengths were given and not sought."""
        return all(c.record["strength"]["budget"] is None for c in self.cells)

    @property
    def verdict(self) -> str:
        """matched, as given, or unmatched with the words for why, and in how many cells."""
        if self.matched or self.given:
            return "matched" if self.matched else "as given"
        if self.control:
            return f"({sum(c.matched for c in self.cells)} of {len(self.cells)} matched)"
        words = sorted({v.partition("(")[2].rstrip(")") for c in self.cells for v in c.verdicts if v != "matched"})
        off = sum(not c.matched for c in self.cells)
        of = "" if len(self.cells) == 1 else f", {off} of {len(self.cells)}"
        return f"unmatched ({', '.join(words)}{of})"

    def moved(self, asked: str, metric: str, arm: str) -> OverSeeds:
        """The change of a metric at one arm, over seeds."""
        return self._once(
            ("moved", asked, metric, arm), lambda: [c.moved(asked, metric, getattr(c, arm)) for c in self.cells]
        )

    def axis(self, asked: str, metric: str, sign: float) -> OverSeeds:
        """Half the difference between the arms, over seeds."""
        return self._once(("axis", asked, metric, sign), lambda: [c.axis(asked, metric, sign) for c in self.cells])

    def against(self, other: "Kin", asked: str, metric: str, sign: float) -> OverSeeds | None:
        """Its axis less another's, paired by row, and by seed where both have seeds; no number where nothing pairs them."""

        def pairs() -> list[Sample]:
            return [
                combined([(1.0, c.axis(asked, metric, sign)), (-1.0, o.axis(asked, metric, sign))])
                for c, o in self.paired(other)
            ]

        return self._once(("against", other.name, asked, metric, sign), pairs) if self.paired(other) else None

    def paired(self, other: "Kin") -> list[tuple[Cell, Cell]]:
        """Cells beside each other: what has one cell stands beside all of the other's; else by seed, which draws have not."""
        if len(other.cells) == 1:
            return [(c, other.cells[0]) for c in self.cells]
        if len(self.cells) == 1:
            return [(self.cells[0], o) for o in other.cells]
        if self.control or other.control:
            return []
        by_seed = {c.seed: c for c in other.cells}
        return [(c, by_seed[c.seed]) for c in self.cells if c.seed in by_seed]

    def share(self, asked: str, column: str, arm: str) -> float:
        """The mean over cells of a column at one arm."""
        found = [c.share(asked, column, getattr(c, arm)) for c in self.cells]
        return sum(found) / len(found)

    def unscored(self, asked: str) -> tuple[int, int]:
        """(rows without a score, all rows) at both arms, over all cells."""
        parts = [c.evals[asked].rows for c in self.cells]
        arms = [r.loc[r["alpha"].isin([c.neg, c.pos]), "y"] for c, r in zip(self.cells, parts)]
        return sum(int(y.isna().sum()) for y in arms), sum(len(y) for y in arms)

    def _once(self, key: tuple, samples: Any) -> OverSeeds:
        if key not in self._kept:
            self._kept[key] = over_seeds(samples())
        return self._kept[key]


def kins(cells: Sequence[Cell], failed: Failures) -> tuple[list[Kin], dict[str, str]]:
    """(methods in the order they were asked for, those of which no cell could be made and why).

    Cells that share all their random choices are one measurement: as several they would agree, and mean nothing.
    """
    grouped: dict[str, list[Cell]] = {}
    for c in cells:
        grouped.setdefault(str(c.record["kin"]), []).append(c)
    found = []
    for name, each in grouped.items():
        own: list[Cell] = []
        for c in each:
            own += [] if any(c.same(o) for o in own) else [c]
        found.append(Kin(name, tuple(own), failed.get(name, {}), tuple(c for c in each if c not in own)))
    return found, {name: next(iter(whys.values())) for name, whys in failed.items() if name not in grouped}
