"""One method in one table: every number a table may want of its rows, computed when it is asked for."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ws import behaviors, methods
from ws.eval.protocol import Metrics
from ws.results.measured import Measured
from ws.stats import Estimate, change, estimate
from ws.stats.arms import decided
from ws.stats.informedness import Informedness, informedness
from ws.stats.shift import Shift, decomposition
from ws.stats.sign import Sign, calibration_units, choose_sign


@dataclass(frozen=True, eq=False)
class Line:
    """A measurement read at two strengths."""

    of: Measured
    label: str
    """The name of the line in its table."""
    pos: float
    neg: float | None

    @property
    def matched(self) -> bool | None:
        """Whether both strengths have the same KL as those of other matched lines; None where no KL was sought."""
        if self.of.budget is None:
            return None
        points = [self.of.point(a) for a in (self.pos, self.neg) if a is not None]
        return all(p is not None and p["verdict"] == "matched" for p in points)

    @property
    def control(self) -> bool:
        """Whether it is a draw of something random."""
        return methods.is_control(self.of.method)

    @cached_property
    def metrics(self) -> Metrics:
        return self.of.protocol.metrics(self.of.rows)

    @cached_property
    def intents(self) -> Mapping[str, int]:
        """The claims of the behavior, metric to side; empty where it is not known."""
        name = self.of.behavior
        return behaviors.load_behavior(name).intent if name in behaviors.names() else {}

    @property
    def intent(self) -> int:
        """The side the behavior wants of this protocol's rows; without a claim the one where y is positive."""
        return self.intents.get(self.of.protocol.metric, 0) or 1

    def at(self, metric: str, alpha: float) -> Estimate | None:
        """A metric at a strength."""
        groups = self.metrics.get(metric, {}).get(alpha)
        return None if groups is None else estimate(groups)

    def delta(self, metric: str, alpha: float | None) -> Estimate | None:
        """Its change against strength 0, over the rows scored at both."""
        per_alpha = self.metrics.get(metric, {})
        return (
            None if alpha is None or not {0.0, alpha} <= per_alpha.keys() else change(per_alpha[0.0], per_alpha[alpha])
        )

    def share(self, column: str, alpha: float | None) -> float | None:
        """The mean of a column of rows at one strength: pmass, forced_close."""
        part = self.of.rows.loc[self.of.rows["alpha"] == alpha, column]
        return None if alpha is None or part.empty else float(part.astype(float).mean())

    @cached_property
    def paired(self) -> Any:
        """By row key, the unit of each row and whether it was scored both at strength 0 and at the forward one."""
        rows = self.of.rows[self.of.rows["alpha"].isin([0.0, self.pos])]
        by_key = rows.assign(scored=rows["y"].notna()).groupby("row_key")
        by_row = by_key.agg(unit_id=("unit_id", "first"), scored=("scored", "sum"))
        return by_row.assign(scored=by_row["scored"] == 2)

    @cached_property
    def rows(self) -> Any:
        """Rows at the strengths of this line, answer orders folded into one decision."""
        wanted = {0.0, self.pos, *([] if self.neg is None else [self.neg])}
        rows = self.of.rows[self.of.rows["alpha"].isin(wanted)]
        rows = decided(rows) if self.of.protocol.ordered else rows
        # a whole answer has no answer mass beside it, so none is missing
        return rows.assign(pmass=1.0) if rows["pmass"].isna().all() else rows

    @cached_property
    def si(self) -> Informedness:
        """Surgical informedness with the sign the behavior intends, which was fixed before anything was measured."""
        return informedness(self.rows, sign=self.intent if self.neg is not None else 1)

    @cached_property
    def shift(self) -> Shift:
        """Moved, or only sharper?"""
        return decomposition(self.rows)

    @cached_property
    def sign(self) -> Sign | None:
        """The sign that the calibration units give; None where there are too few."""
        chosen = calibration_units(self.rows["unit_id"].unique())
        calibrates = self.rows["unit_id"].isin(chosen)
        if not chosen or self.neg is None:
            return None
        try:
            sign = choose_sign(self.rows[calibrates])
        except ValueError:  # none of them was scored in every arm
            return None
        return sign if math.isfinite(sign.moved.ci_lo) else None
