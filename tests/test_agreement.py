"""Agreement of raters: Krippendorff's own examples, another computation of alpha, and intervals that cover it."""

import math
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ws.stats.agreement import equal_share, krippendorff, krippendorff_estimate

N = None
PUBLISHED = [  # four observers, twelve units: Krippendorff 2011, section C
    [1, 2, 3, 3, 2, 1, 4, 1, 2, N, N, N],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, N, 3],
    [N, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, N],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, N],
]


def by_coincidences(ratings, distance):
    """Alpha by the table of coincidences, as the paper computes it."""
    kinds = sorted({r for unit in ratings for r in unit if r is not None})
    table = dict.fromkeys(((c, k) for c in kinds for k in kinds), 0.0)
    for unit in ratings:
        there = [r for r in unit if r is not None]
        for c, k in permutations(there, 2):
            table[c, k] += 1 / (len(there) - 1)
    of = {c: sum(table[c, k] for k in kinds) for c in kinds}
    n = sum(of.values())
    observed = sum(v * distance(*pair) for pair, v in table.items())
    expected = sum(of[c] * of[k] * distance(c, k) for c in kinds for k in kinds) / (n - 1) if n > 1 else 0
    return 1 - observed / expected if expected else math.nan


DISTANCES = {"nominal": lambda c, k: float(c != k), "interval": lambda c, k: float(c - k) ** 2}


def test_the_published_example_has_its_published_alphas():
    units = list(zip(*PUBLISHED))
    assert krippendorff(units, "nominal") == pytest.approx(0.743, abs=5e-4)
    assert krippendorff(units, "interval") == pytest.approx(0.849, abs=5e-4)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.lists(st.one_of(st.none(), st.integers(0, 4)), min_size=2, max_size=4), min_size=2, max_size=12))
def test_alpha_is_that_of_the_table_of_coincidences(units):
    for level, distance in DISTANCES.items():
        ours, theirs = krippendorff(units, level), by_coincidences(units, distance)
        assert ours == pytest.approx(theirs, nan_ok=True, abs=1e-9)


def test_perfect_agreement_is_one_chance_is_nought_and_one_kind_alone_says_nothing():
    rng = np.random.default_rng(0)
    same = [[float(x)] * 2 for x in rng.integers(0, 2, 200)]
    chance = [[float(a), float(b)] for a, b in rng.integers(0, 2, (4000, 2))]
    for level in DISTANCES:
        assert krippendorff(same, level) == 1
        assert abs(krippendorff(chance, level)) < 0.05
        assert math.isnan(krippendorff([[1.0, 1.0]] * 5, level))
        assert math.isnan(krippendorff([[1.0, None]] * 5, level))
    with pytest.raises(ValueError, match="nominal or interval"):
        krippendorff(same, "ordinal")


def test_the_interval_of_alpha_covers_what_many_units_have():
    rng, covered = np.random.default_rng(1), 0

    def draw(n):
        truth = rng.integers(0, 2, n)
        votes = [np.where(rng.random(n) < 0.9, truth, 1 - truth) for _ in range(2)]
        return [[float(a), float(b)] for a, b in zip(*votes)]

    whole = krippendorff(draw(100_000), "nominal")
    for _ in range(20):
        found = krippendorff_estimate(draw(80), "nominal")
        covered += found.ci_lo <= whole <= found.ci_hi
    assert 16 <= covered <= 20


def test_the_share_of_equal_ratings_leaves_out_what_one_has_not_rated():
    found = equal_share([1, 0, 1, None, 0], [1, 0, 0, 1, None], "abcde")
    assert found.mean == pytest.approx(2 / 3)
    assert (found.n_valid, found.n_total) == (3, 5)
