"""Marks that say what became of each item when steered; their totals over units make every surgical informedness.

    rej, cho      wrong or right at strength 0 (y < 0, y > 0; y = 0 is neither)
    fix, broke    changed sides under the forward arm, from rej and from cho
    counter, flip changed sides under the reverse arm, from rej and from cho

Shapes: n units, m rows of a unit, f marks, B draws.
"""

from dataclasses import dataclass

import numpy as np

from ws.stats import Statistic
from ws.stats.arms import Arms

MARKS = ("rej", "fix", "counter", "cho", "broke", "flip", "mass_fwd", "n_fwd", "mass_rev", "n_rev")
REJ, FIX, COUNTER, CHO, BROKE, FLIP, MASS_FWD, N_FWD, MASS_REV, N_REV = range(len(MARKS))
ARMS_SWAPPED = [REJ, COUNTER, FIX, CHO, FLIP, BROKE, MASS_FWD, N_FWD, MASS_REV, N_REV]


@dataclass(frozen=True, eq=False)
class Marks:
    """Weighted marks of rows, with the unit each row belongs to."""

    rows: np.ndarray
    """(rows, f)"""
    unit: np.ndarray
    """(rows,) index into `units`"""
    units: list[str]
    weight: np.ndarray
    one_arm: bool

    def by_unit(self) -> np.ndarray:
        """Totals of each unit (n, f). A unit that could not be scored stays, with zeros: it was sampled."""
        return np.stack([np.bincount(self.unit, column, len(self.units)) for column in self.rows.T], axis=1)

    def count(self, mark: int) -> int:
        """The number of rows that carry a mark."""
        return int((self.rows[:, mark] > 0).sum())

    def count_units(self, mark: int) -> int:
        """The number of units that carry a mark."""
        return len(np.unique(self.unit[self.rows[:, mark] > 0]))


def marks_of(arms: Arms, weight: np.ndarray | None = None) -> Marks:
    """The marks of joined arms. Rows that were not scored in every arm carry none, but their answer mass counts."""
    t = arms.table
    w = np.ones(len(t)) if weight is None else np.asarray(weight, float)
    ref, fwd, rev = (np.where(arms.valid, t[c], 0.0) for c in ("ref", "fwd", "rev"))
    ref, fwd, rev = (np.nan_to_num(np.sign(v)) for v in (ref, fwd, rev))  # a missing arm changes nothing
    rej, cho, turned, returned = ref < 0, ref > 0, fwd * ref < 0, rev * ref < 0
    masses = []
    for column in ("mass_fwd", "mass_rev"):
        known = np.isfinite(t[column].to_numpy(float)) & (w > 0)
        masses += [np.where(known, t[column], 0.0), known]
    classes = [m * w for m in (rej, rej & turned, rej & returned, cho, cho & turned, cho & returned)]
    units, unit = np.unique(t["unit_id"].to_numpy(str), return_inverse=True)
    return Marks(np.stack([*classes, *masses], axis=1).astype(float), unit, units.tolist(), w, arms.rev is None)


def rate(hits: int, of: int) -> Statistic:
    """The share of a class that carries a mark."""
    return lambda t: t[..., hits] / t[..., of]


fix, broke, flip, counter = rate(FIX, REJ), rate(BROKE, CHO), rate(FLIP, CHO), rate(COUNTER, REJ)


def mass_fwd(t: np.ndarray) -> np.ndarray:
    """Mean answer mass of the forward arm."""
    return t[..., MASS_FWD] / t[..., N_FWD]


def mass_rev(t: np.ndarray) -> np.ndarray:
    """Mean answer mass of the reverse arm."""
    return t[..., MASS_REV] / t[..., N_REV]


def penalty(t: np.ndarray) -> np.ndarray:
    """pm: the smaller answer mass of the two arms, squared."""
    return np.minimum(mass_fwd(t), mass_rev(t)) ** 2


def si(k: float) -> Statistic:
    """Both arms: the mean of fix - k broke and flip - k counter."""
    return lambda t: 50 * penalty(t) * (fix(t) - k * broke(t) + flip(t) - k * counter(t))


def si_one_arm(k: float) -> Statistic:
    """The forward arm alone; not comparable with two arms."""
    return lambda t: 100 * mass_fwd(t) ** 2 * (fix(t) - k * broke(t))


def si_best(t: np.ndarray) -> np.ndarray:
    """The better arm, taken as forward. Chosen after the fact: its null is above that of one arm."""
    return 100 * penalty(t) * np.maximum(fix(t) - 2 * broke(t), counter(t) - 2 * flip(t))


def si_best_intended(t: np.ndarray) -> np.ndarray:
    """The better of the two halves, each in its intended sense; chosen after the fact as well."""
    return 100 * penalty(t) * np.maximum(fix(t) - 2 * broke(t), flip(t) - 2 * counter(t))


def si_null(k: float) -> Statistic:
    """The average of `si(k)` when the arms have no orientation: the same changes, each arm as likely as the other."""
    return lambda t: 25 * penalty(t) * (1 - k) * (fix(t) + broke(t) + flip(t) + counter(t))
