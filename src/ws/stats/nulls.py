"""Surgical informedness when there is nothing to find, drawn from the rows themselves.

    arms    the direction has no orientation: each unit's two arms are swapped with probability 1/2
    labels  changes do not care what was right: a unit is dealt the classes (right or wrong at 0) of another
            unit with as many rows; who changed stays

Both keep the rows of a unit together and the answer mass as it is.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ws.stats import Statistic
from ws.stats.marks import ARMS_SWAPPED, BROKE, CHO, COUNTER, FIX, FLIP, MASS_FWD, REJ, Marks

DRAWS = 2000
AT_ONCE = 2**20


@dataclass(frozen=True)
class Null:
    """Where a score lies under a null: mean, the middle 95 % of draws, and p of a score as far from the mean."""

    mean: float
    low: float
    high: float
    p: float


def swapped_arms(marks: Marks, *, draws: int = DRAWS, seed: int = 0) -> np.ndarray:
    """Totals (B, f) with the arms of each unit swapped or not."""
    rng, totals = np.random.default_rng(seed), marks.by_unit()
    difference = totals[:, ARMS_SWAPPED] - totals
    swap = rng.integers(0, 2, (draws, len(totals)), dtype=np.int8)
    return totals.sum(axis=0) + np.concatenate([s @ difference for s in _parts(swap)])


def dealt_labels(marks: Marks, *, draws: int = DRAWS, seed: int = 0) -> np.ndarray:
    """Totals (B, f) with the classes of units dealt to other units of as many rows."""
    rng = np.random.default_rng(seed)
    totals = np.tile(marks.rows.sum(axis=0), (draws, 1))
    totals[:, :MASS_FWD] = 0
    in_class = np.flatnonzero(marks.rows[:, [REJ, CHO]].any(axis=1))
    in_class = in_class[np.argsort(marks.unit[in_class], kind="stable")]
    sizes = np.bincount(marks.unit[in_class])[marks.unit[in_class]]
    for m in np.unique(sizes):
        rows = in_class[sizes == m].reshape(-1, m)  # (n, m), in the order of their keys
        mine = marks.rows[rows]
        wrong = (mine[..., REJ] > 0).astype(np.int8)
        weight = marks.weight[rows]
        changed = [mine[..., a] + mine[..., b] for a, b in ((FIX, BROKE), (COUNTER, FLIP))]
        columns = np.stack([weight, *changed], axis=-1).reshape(-1, 3)
        order = rng.permuted(np.tile(np.arange(len(rows)), (draws, 1)), axis=1)
        rejected = np.concatenate([wrong[o].reshape(len(o), -1) @ columns for o in _parts(order, int(m))])
        totals[:, [REJ, FIX, COUNTER]] += rejected
        totals[:, [CHO, BROKE, FLIP]] += columns.sum(axis=0) - rejected
    return totals


def null(totals: np.ndarray, statistic: Statistic, value: float, mean: float | None = None) -> Null:
    """A score against its draws. `mean` where it is known in closed form."""
    with np.errstate(divide="ignore", invalid="ignore"):
        scores = np.asarray(statistic(totals), float)
    scores = scores[np.isfinite(scores)]
    if not np.isfinite(value) or len(scores) == 0:
        return Null(np.nan, np.nan, np.nan, np.nan)
    middle = float(scores.mean()) if mean is None else mean
    as_far = (np.abs(scores - middle) >= abs(value - middle) - 1e-9).sum()
    low, high = np.quantile(scores, [0.025, 0.975])
    return Null(middle, float(low), float(high), float((1 + as_far) / (1 + len(scores))))


def _parts(draws: np.ndarray, rows: int = 1) -> Iterator[np.ndarray]:
    """A few draws at a time, so that what is made of them stays small."""
    step = max(1, AT_ONCE // (draws.shape[1] * rows))
    for start in range(0, len(draws), step):
        yield draws[start : start + step]
