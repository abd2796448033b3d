"""Curves of capability and effect: what an arm can do at a bounded loss, and at a KL, with intervals that hold what they say."""

from statistics import NormalDist

import numpy as np
import pytest

from ws.stats import estimate, means, over_seeds
from ws.stats.frontier import (
    Point,
    advantage,
    advantage_at_kl,
    effect_at_kl,
    frontier,
    frontier_gain,
    frontier_score,
    readings,
)

FLAT = {0.0: (0.8, 0.5), 1.0: (0.8, 0.5), 2.0: (0.8, 0.5), 4.0: (0.8, 0.5)}
"""Strength to the capability and effect it truly has."""
WEAK = {0.0: (0.8, 0.5), 1.0: (0.8, 0.5), 2.0: (0.8, 0.55), 4.0: (0.4, 0.9)}
STRONG = {0.0: (0.8, 0.5), 1.0: (0.8, 0.6), 2.0: (0.8, 0.8), 4.0: (0.4, 0.9)}
BROKEN = {0.0: (0.8, 0.5), 1.0: (0.3, 0.5), 2.0: (0.3, 0.5), 4.0: (0.3, 0.5)}


def number(values, keys=None):
    keys = [str(i) for i in range(len(values))] if keys is None else keys
    return means([float(v) for v in values], units=keys, keys=keys)


def measured(truth, rng, easy, lean, alike=0.9):
    """A curve as `len(easy)` questions show it, which are as easy, or lean as far, at every strength."""
    far = NormalDist().inv_cdf
    points = []
    for strength, rates in truth.items():
        own = rng.normal(size=(2, len(easy)))
        drawn = np.sqrt(alike) * np.stack([easy, lean]) + np.sqrt(1 - alike) * own
        capable, moved = (drawn[i] < far(rate) for i, rate in enumerate(rates))
        points.append(Point(strength, number(capable), number(moved)))
    return points


def experiment(rng, *truths, n=400):
    """Arms measured on the same questions, from the same unsteered answers."""
    easy, lean = rng.normal(size=(2, n))
    arms = [measured(t, rng, easy, lean) for t in truths]
    return [[arms[0][0], *points[1:]] for points in arms]


def exact(curve, n=40):
    """A curve of (strength, capability, effect[, kl]) in which every number is what is said, without noise."""
    point = lambda share: number(np.arange(n) < round(share * n))  # noqa: E731
    return [Point(s, point(c), point(e), *kl) for s, c, e, *kl in curve]


def test_the_score_is_the_best_effect_among_points_that_lose_at_most_five_points():
    curve = exact([(0, 0.9, 0.5), (1, 0.9, 0.6), (2, 0.85, 0.7), (4, 0.5, 1.0), (-1, 0.95, 0.4)])
    found = frontier(curve, delta=0.05)
    assert (found.strength, found.admissible) == (2, (-1, 0, 1, 2))
    assert found.loss == pytest.approx(0.05)
    assert frontier(curve, delta=0.04).strength == 1
    assert frontier(curve, delta=0.5).strength == 4
    down = frontier(curve, sense=-1)
    assert down.strength == -1 and down.gain.mean == pytest.approx(0.1)


def test_without_noise_the_folds_agree_and_the_score_is_that_of_the_best_point():
    n = 500
    curve = exact([(0, 1.0, 0.5), (1, 1.0, 0.7), (2, 0.2, 1.0)], n)
    found = frontier(curve)
    assert found.score.mean == pytest.approx(0.7) and found.gain.mean == pytest.approx(0.2)
    assert found.score.ci_lo < 0.7 < found.score.ci_hi and not found.ineffective
    other = exact([(0, 1.0, 0.5), (1, 1.0, 0.4), (2, 0.2, 1.0)], n)
    assert frontier(other).ineffective and frontier(other).strength == 0
    assert estimate(advantage(curve, other)).mean == pytest.approx(0.2)
    assert estimate(advantage(other, curve)).mean == pytest.approx(-0.2)


def test_an_arm_that_only_breaks_the_model_has_the_unsteered_score_and_is_ineffective():
    found = frontier(exact([(0, 0.9, 0.5), (1, 0.4, 1.0)], 200))
    assert (found.score.mean, found.gain.mean, found.strength, found.ineffective) == (0.5, 0, 0, True)


def test_a_planted_advantage_is_found_none_is_where_there_is_none_and_the_intervals_cover():
    rng = np.random.default_rng(0)
    finds, covers = {"planted": 0, "none": 0, "ineffective": 0}, {"advantage": 0, "gain": 0}
    for _ in range(100):
        strong, weak, flat, broken = experiment(rng, STRONG, WEAK, FLAT, BROKEN)
        planted = estimate(advantage(strong, weak), resamples=200)
        nothing = estimate(frontier_gain(flat), resamples=200)
        finds["planted"] += planted.ci_lo > 0
        finds["none"] += (
            estimate(advantage(flat, broken), resamples=200).ci_lo > 0
        )  # three chances to be lucky, against none
        finds["ineffective"] += nothing.ci_lo > 0
        covers["advantage"] += planted.ci_lo <= 0.25 <= planted.ci_hi
        covers["gain"] += nothing.ci_lo <= 0 <= nothing.ci_hi
    assert finds["planted"] >= 95 and max(finds["none"], finds["ineffective"]) <= 5, finds
    assert min(covers.values()) >= 90, covers


def test_an_effect_at_a_kl_lies_on_the_line_between_the_strengths_around_it():
    curve = exact([(0, 1.0, 0.5, 0.0), (1, 1.0, 0.6, 0.2), (2, 1.0, 0.8, 0.6), (-1, 1.0, 0.2, 0.1)], 100)
    found = effect_at_kl(curve, 0.4)
    assert (found.effect.mean, found.strength) == (pytest.approx(0.7), pytest.approx(1.5))
    assert found.effect.ci_lo < 0.7 < found.effect.ci_hi
    assert effect_at_kl(curve, 0.1).effect.mean == pytest.approx(0.55)
    assert effect_at_kl(curve, 0.1, side=-1).effect.mean == pytest.approx(0.2)
    assert estimate(
        advantage_at_kl(curve, exact([(0, 1.0, 0.5, 0.0), (1, 1.0, 0.5, 1.0)], 100), 0.4)
    ).mean == pytest.approx(0.2)


def test_a_kl_that_a_curve_does_not_reach_has_no_effect_and_says_how_far_it_gets():
    curve = exact([(0, 1.0, 0.5, 0.0), (1, 1.0, 0.6, 0.2)], 100)
    found = effect_at_kl(curve, 0.5)
    assert found.effect is None and "0.2 nat of the 0.5" in str(found)
    assert advantage_at_kl(curve, curve, 0.5) is None


def test_the_interval_of_an_effect_at_a_kl_covers_the_truth():
    rng, covered = np.random.default_rng(2), 0
    for _ in range(100):
        (points,) = experiment(rng, STRONG, n=80)
        with_kl = [Point(p.strength, p.capability, p.effect, p.strength**2) for p in points]
        ends = effect_at_kl(with_kl, 2.5).effect  # halfway between 1 and 2
        covered += ends.ci_lo <= (0.6 + 0.8) / 2 <= ends.ci_hi
    assert covered >= 90


def test_the_strict_reading_wants_every_cue_right_and_the_mean_one_counts_them():
    answers = np.array([[1, 1, 1], [1, 0, 1], [np.nan, 0, 1], [np.nan, 1, 1]])
    read = readings(answers)
    assert read["strict"].tolist()[:3] == [1, 0, 0] and np.isnan(read["strict"][3])
    assert read["mean"].tolist()[:2] == pytest.approx([1, 2 / 3]) and np.isnan(read["mean"][2:]).all()


def test_a_resample_draws_a_question_for_both_arms_and_all_points():
    rng = np.random.default_rng(3)
    (curve,) = experiment(rng, STRONG)
    lifted = [Point(p.strength, p.capability, number(p.effect.features[:, 0] + 0.1)) for p in curve]
    difference = estimate(advantage(lifted, curve))
    assert difference.ci_lo == pytest.approx(0.1) == difference.ci_hi


def test_rows_in_any_order_and_seeds_of_one_curve_give_the_same_number():
    rng = np.random.default_rng(4)
    (curve,) = experiment(rng, STRONG, n=60)
    mixed = rng.permutation(60)
    turned = lambda s: number(s.features[mixed, 0], [s.keys[i] for i in mixed])  # noqa: E731
    other = [Point(p.strength, turned(p.capability), turned(p.effect)) for p in reversed(curve)]
    assert estimate(frontier_score(other)) == estimate(frontier_score(curve))
    both = over_seeds([frontier_score(curve), frontier_score(curve)])
    assert both.each[0] == both.each[1] and both.found.mean == pytest.approx(frontier(curve).score.mean)


@pytest.mark.parametrize(
    ("curve", "says"),
    [
        ([(1, 1, 1), (2, 1, 1)], "needs strength 0"),
        ([(0, 1, 1), (1, 1, 1), (1, 1, 1)], "every strength once"),
    ],
)
def test_a_curve_that_cannot_be_read_is_refused_in_a_sentence(curve, says):
    with pytest.raises(ValueError, match=says):
        frontier(exact(curve))


def test_a_comparison_at_a_kl_needs_kls_and_a_kl_above_zero():
    with pytest.raises(ValueError, match="no KL"):
        effect_at_kl(exact([(0, 1, 1), (1, 1, 1)]), 0.5)
    with pytest.raises(ValueError, match="above 0"):
        effect_at_kl(exact([(0, 1, 1), (1, 1, 1, 0.3)]), 0)
