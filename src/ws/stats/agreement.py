"""How far two raters, or one rater twice, say the same: the share of equal ratings, and Krippendorff's alpha.

    alpha = 1 - D_o / D_e        D_o: disagreement within units, D_e: disagreement of ratings put together at random

1 is perfect, 0 is chance, below 0 is worse than chance. Ratings may be missing. `nominal` counts two ratings as equal or
not; `interval` by the square of their difference.

Krippendorff, Computing Krippendorff's Alpha-Reliability, 2011. Its examples stand in tests/test_agreement.py.
"""

import math
from collections.abc import Hashable, Sequence

import numpy as np

from ws.stats.estimates import Estimate, Sample, estimate, means

Ratings = Sequence[Sequence[float | None]]
"""A list of ratings for every unit, one a rater; None where a rater gave none."""
LEVELS = ("nominal", "interval")


def krippendorff(ratings: Ratings, level: str) -> float:
    """Krippendorff's alpha; NaN where all ratings are equal, so that there is nothing to agree on."""
    return _sample(ratings, level).by_unit.value


def krippendorff_estimate(ratings: Ratings, level: str) -> Estimate:
    """The same with its interval over units."""
    return estimate(_sample(ratings, level))


def equal_share(one: Sequence[float | None], other: Sequence[float | None], names: Sequence[Hashable]) -> Estimate:
    """The share of the units rated by both at which they say the same."""
    values = [math.nan if a is None or b is None else float(a == b) for a, b in zip(one, other, strict=True)]
    return estimate(means(values, units=names, keys=names))


def _sample(ratings: Ratings, level: str) -> Sample:
    """Alpha as a function of totals over units: within-unit disagreement, the number of ratings, and their moments or counts."""
    if level not in LEVELS:
        raise ValueError(f"the level is {' or '.join(LEVELS)}, got {level!r}")
    by_unit = [np.array([r for r in unit if r is not None and not math.isnan(r)]) for unit in ratings]
    several = [r for r in by_unit if len(r) > 1]  # a single rating agrees with nobody
    if level == "interval":
        moments = [[r.sum(), np.square(r).sum()] for r in several]
        within = [2 * (len(r) * np.square(r).sum() - r.sum() ** 2) / (len(r) - 1) for r in several]
    else:
        kinds = np.unique(np.concatenate(several)) if several else np.zeros(0)
        moments = [[float((r == k).sum()) for k in kinds] for r in several]
        within = [(len(r) ** 2 - sum(c * c for c in m)) / (len(r) - 1) for r, m in zip(several, moments)]

    def statistic(t: np.ndarray) -> np.ndarray:
        observed, n, rest = t[..., 0], t[..., 1], t[..., 2:]
        if level == "interval":
            pairs = 2 * (n * rest[..., 1] - rest[..., 0] ** 2)
        else:
            pairs = n**2 - np.square(rest).sum(-1)
        expected = np.where(pairs > 1e-9 * n**2, pairs, np.nan) / (n - 1)
        return 1 - observed / expected

    rows = [[d, len(r), *m] for d, r, m in zip(within, several, moments)]
    features = np.array(rows, float) if rows else np.zeros((0, 4))
    keys = list(range(len(several)))
    return Sample(keys, keys, features, statistic)
