"""The way a method works, as a fifth of the units says.

Nothing is chosen by it: every table reports the intended sign, on all units, and says beside it what this fifth says. If a
number is ever reported with a sign (or a layer, or a strength) that units have chosen, those units must be held back from
it: the better of two signs on pure noise scores +3 on average. `informedness` takes a `Sign` for that, and refuses its units.
Units are split by a hash of their id: the same fifth for every method, model and seed.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ws.stats import Estimate, estimate, means
from ws.stats.arms import join_arms

if TYPE_CHECKING:
    import pandas as pd

SHARE = 0.2


@dataclass(frozen=True)
class Sign:
    """The sign of a method, what it was read from, and the units that may not be reported with it."""

    sign: int
    """+1 if the pos side raises y on the calibration units, else -1."""
    moved: Estimate
    """y at the pos strength less y at the neg one (at 0 where there is one arm), over calibration units."""
    calibration: frozenset[str]

    def contradicts(self, intent: int) -> bool:
        """The calibration units say the other sign, and not by a hair: their interval excludes 0."""
        return self.sign != intent and not self.moved.ci_lo <= 0 <= self.moved.ci_hi

    def refuse_overlap(self, units: Iterable[str]) -> None:
        """Units that chose the sign are not reported."""
        if shared := sorted(self.calibration & set(units)):
            raise ValueError(
                f"{len(shared)} units chose the sign and are reported too, e.g. {shared[:3]}; report the other units only"
            )


def calibration_units(units: Iterable[str], share: float = SHARE) -> frozenset[str]:
    """About `share` of the units; which ones depends on nothing but their ids."""
    return frozenset(u for u in units if int(hashlib.sha256(u.encode()).hexdigest()[:12], 16) < share * 16**12)


def choose_sign(rows: "pd.DataFrame", *, pos: float | None = None, neg: float | None = None, seed: int = 0) -> Sign:
    """The sign of the change of y over these rows, all of them calibration rows."""
    arms = join_arms(rows, pos=pos, neg=neg)
    change = arms.table["fwd"] - (arms.table["ref"] if arms.rev is None else arms.table["rev"])
    units = arms.table["unit_id"].tolist()
    moved = estimate(means(change.tolist(), units=units, keys=arms.table["row_key"].tolist()), seed=seed)
    if moved.n == 0:
        raise ValueError(f"none of {len(units)} calibration rows could be scored in every arm; the sign is unknown")
    return Sign(1 if moved.mean >= 0 else -1, moved, frozenset(units))
