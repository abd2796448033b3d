"""Did the behavior move, or only its sharpness? `y(alpha) = a + b y(0)`, least squares over rows.

`a` is the shift of an undecided row, `b` the sharpening. A mean that moves with a near 0 and b above 1 is more confidence and
not more of the behavior. b is below 1 also where y(0) is noisy: rows far out come back of themselves. What b lacks is then taken for
a shift: a model that nothing has changed, right by 2 nats everywhere, seems to move by most of these 2 nats where answers vary more by
chance than from item to item. So the two numbers say something only where y(0) spans enough (`Shift.fits`).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ws.stats import RESAMPLES, Estimate, Interval, draw, interval
from ws.stats.arms import join_arms

if TYPE_CHECKING:
    import pandas as pd


SIDE = 0.25
"""The share of rows that must lie on either side of 0, so that an undecided row is among them and not beyond them."""
SCATTER = 0.5
"""The largest variance around the line, as a part of the variance of y(0)."""


@dataclass(frozen=True)
class Shift:
    """Intercept and slope of the forward arm on strength 0, each with its interval."""

    a: Estimate
    b: Estimate
    side: float
    """The share of rows on the rarer side of 0 at strength 0."""
    scatter: float
    """The variance around the line, as a part of the variance of y(0)."""

    @property
    def fits(self) -> bool:
        """Whether y(0) spans enough for the two to mean what they are called; what chance alone can feign is then below
        an eighth of the spread of y(0) (`test_a_shift_that_is_printed_is_none_that_chance_has_feigned`)."""
        return self.side >= SIDE and self.scatter <= SCATTER

    @property
    def only_sharper(self) -> bool:
        """Whether rows only moved away from 0: an undecided one stays, and the slope is above 1."""
        return self.fits and self.a.ci_lo <= 0 <= self.a.ci_hi and self.b.ci_lo > 1


def decomposition(
    rows: "pd.DataFrame",
    *,
    sign: int = 1,
    pos: float | None = None,
    neg: float | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Shift:
    """The shift of the pos arm of one method; with `sign = -1`, of its neg arm."""
    arms = join_arms(rows, sign=sign, pos=pos, neg=neg)
    t = arms.table[np.isfinite(arms.table[["ref", "fwd"]].to_numpy(float)).all(axis=1)]
    units, unit = np.unique(t["unit_id"].to_numpy(str), return_inverse=True)
    few = len(units) < 2
    x, y = t["ref"].to_numpy(float), t["fwd"].to_numpy(float)
    middle = x.mean() if len(x) else 0.0
    x = x - middle  # sums of squares far from 0 lose digits
    sums = np.stack([np.bincount(unit, v, len(units)) for v in (np.ones_like(x), x, y, x * x, x * y)], axis=1)

    def slope(s: np.ndarray) -> np.ndarray:
        n, sx, sy, sxx, sxy = np.moveaxis(s, -1, 0)
        spread = n * sxx - sx**2
        return np.where(spread > 1e-12 * n * sxx, (n * sxy - sx * sy) / spread, np.nan)

    def intercept(s: np.ndarray) -> np.ndarray:
        b = slope(s)
        return (s[..., 2] - b * s[..., 1]) / s[..., 0] - b * middle

    nothing = Interval(np.nan, np.nan, np.nan)
    draws = None if few else draw([sums], resamples=resamples, seed=seed)
    a, b = (nothing if draws is None else interval(draws, f) for f in (intercept, slope))
    counts = (len(units), len(units), len(t), len(arms.table))
    shift, slope_of = (Estimate(i.value, i.low, i.high, *counts, i.dropped) for i in (a, b))
    side = min(float((t["ref"] < 0).mean()), float((t["ref"] > 0).mean())) if len(t) else 0.0
    with np.errstate(divide="ignore", invalid="ignore"):
        scatter = float(np.mean((y - a.value - b.value * (x + middle)) ** 2) / np.var(x)) if len(t) else np.nan
    return Shift(shift, slope_of, side, scatter)
