"""A strength is found in few evaluations, or the search says in one word why not."""

import math
import random
from collections.abc import Callable

import pytest

from ws.calibrate.search import around, bracket, first_guess, illinois, searching, solve


def run(curve: Callable[[float], float], target: float = 1.0, **how):
    return solve(lambda cs: [curve(abs(c)) for c in cs], {1.0: searching(target, **how)})[1.0]


def power(slope: float, at: float, target: float = 1.0) -> Callable[[float], float]:
    return lambda c: target * (c / at) ** slope


@pytest.mark.parametrize("slope", [1.0, 2.0, 4.0, 6.4, 12.0, 20.0])
@pytest.mark.parametrize("at", [0.02, 0.3, 1.0, 7.0, 280.0])
def test_a_power_law_is_solved_from_one_probe(slope, at):
    found = run(power(slope, at))
    assert found.status == "ok" and abs(found.stat - 1) <= 0.05 and len(found.trials) <= 10


def saturating(slope: float, at: float, top: float = 13.0) -> Callable[[float], float]:
    """Like what a model does: a power law that bends over at the top, equal to 1 at `at`."""
    return lambda c: top / (1 + (top - 1) * (at / c) ** slope)


def test_few_evaluations_are_needed_once_a_ladder_says_where_to_begin():
    tries = []
    for slope in (2.0, 6.0, 12.0, 18.0):
        for at in (0.4, 0.9, 3.0, 40.0, 300.0):
            curve = saturating(slope, at)
            probe, guessed = first_guess([(4.0**k, curve(4.0**k)) for k in range(-2, 6)], 1.0)
            found = run(curve, probe=probe, slope=guessed)
            assert found.status == "ok"
            tries.append(len(found.trials))
    assert sorted(tries)[len(tries) // 2] <= 4 and max(tries) <= 8


def test_without_a_crossing_the_first_guess_goes_beyond_the_ladder_by_the_square_root_and_at_most_eightfold():
    assert first_guess([], 1.0) == (1.0, 2.0)
    assert first_guess([(1.0, 0.01), (2.0, 0.25)], 1.0) == (4.0, 2.0)
    assert first_guess([(1.0, 1e-9), (2.0, 1e-6)], 1.0) == (16.0, 2.0)
    assert first_guess([(1.0, 4.0), (2.0, math.nan), (3.0, 9.0)], 1.0) == (0.5, 2.0)
    assert first_guess([(1.0, 1e9)], 1.0) == (0.125, 2.0)
    assert first_guess([(1.0, 0.0), (2.0, 0.0)], 1.0) == (16.0, 2.0)


def test_between_two_rungs_the_first_guess_follows_their_slope_or_a_steeper_one_below_a_flat_top():
    ladder = [(4.0**k, power(3.0, 3.0)(4.0**k)) for k in range(-2, 3)]
    assert first_guess(ladder, 1.0) == pytest.approx((3.0, 3.0))
    flat_top = [(1.0, 0.5), (4.0, 4.1)]
    assert first_guess(flat_top, 1.0) == pytest.approx((2 ** (1 / 5), 5.0))


def test_three_points_around_the_target_say_the_slope_there_and_two_that_are_too_near_or_too_far_do_not():
    beside = [(c, power(3.0, 1.05)(c)) for c in (1.0, 1.4, 2.0)]
    assert first_guess(beside, 1.0) == pytest.approx((1.05, 3.0))
    for step in (1.05, 4.0):
        assert first_guess([(1.0, 0.9), (step, 1.3)], 1.0) == pytest.approx((math.exp(-math.log(0.9) / 5), 5.0))


def test_of_two_strengths_that_nearly_coincide_no_slope_is_read_but_the_next_step_is_as_far_as_twice_the_usual():
    """Neighbours differ by chance: 4 % apart here, and hardly in what they do, which would say that the curve is flat."""
    search = searching(1.0, probe=1.45, slope=5.0)
    assert next(search) == 1.45
    second = search.send(0.863)
    assert second == pytest.approx(1.45 * 0.863 ** (-1 / 5))
    assert search.send(0.872) == pytest.approx(second * 0.872 ** (-1 / 2.5))
    apart = searching(1.0, probe=1.0, slope=2.0)  # far enough apart, the same says that it bends over
    next(apart)
    assert apart.send(0.7) == pytest.approx(0.7 ** (-1 / 2)) and apart.send(0.705) > 1.9


def test_the_neighbours_of_a_guess_lie_within_the_bound():
    assert around(1.0, None) == pytest.approx([1 / 1.4, 1.0, 1.4])
    assert around(1.0, 1.2) == pytest.approx([1 / 1.4, 1.0, 1.2]) and around(1.0, 1.0) == pytest.approx([1 / 1.4, 1.0])


@pytest.mark.parametrize("slope", [1.8, 4.0, 12.0])
def test_with_the_errors_that_prompts_have_two_strengths_on_all_of_them_are_usually_enough(slope):
    """A quarter of the prompts is off by 12 %, alike at every strength, and by 5 % at each; all of them by 2.5 %."""
    tries = []
    for seed in range(60):
        noise = random.Random(seed)
        at, off = math.exp(noise.uniform(-1, 4)), noise.gauss(0, 0.12)
        curve = saturating(slope, at)
        few = [
            (c, curve(c) * math.exp(off + noise.gauss(0, 0.05))) for c in around(at * noise.uniform(0.8, 1.25), None)
        ]
        probe, guessed = first_guess(few, 1.0)
        tries.append(len(run(lambda c: curve(c) * math.exp(noise.gauss(0, 0.025)), probe=probe, slope=guessed).trials))  # noqa: B023
    assert sum(tries) / len(tries) <= 2.6 and max(tries) <= 7


def test_of_an_unknown_curve_the_second_strength_is_guessed_by_the_square_root():
    assert run(power(2.0, 5.0)).trials[1][0] == pytest.approx(5.0)
    assert run(power(2.0, 1e-4)).trials[1][0] == pytest.approx(1 / 8)
    assert run(power(2.0, 1e3)).trials[1][0] == pytest.approx(8)


@pytest.mark.parametrize(("kept", "weight"), [(0, 1.0), (1, 1.0), (2, 0.5), (3, 0.25)])
def test_the_end_of_a_bracket_that_is_kept_twice_weighs_half_and_half_of_that_each_further_time(kept, weight):
    lo, hi = (1.0, math.exp(-2)), (math.e, math.exp(5))  # ln: (0, -2) and (1, 5)
    assert math.log(illinois(lo, hi, 1.0, kept)) == pytest.approx(2 / (5 * weight + 2))
    assert math.log(illinois(lo, hi, 1.0, -kept)) == pytest.approx(2 * weight / (5 + 2 * weight))


def test_a_bracket_is_the_smallest_strength_above_the_target_and_the_largest_below_that_one():
    assert bracket([(3.0, 0.4), (2.0, 3.0), (1.0, 0.5), (0.5, 0.2)], 1.0) == ((1.0, 0.5), (2.0, 3.0))
    assert bracket([(3.0, 0.4), (2.0, 3.0)], 1.0) == (None, (2.0, 3.0))
    assert bracket([(3.0, 0.4)], 1.0) == ((3.0, 0.4), None)


@pytest.mark.parametrize(("target", "how"), [(0.0, {}), (-0.5, {}), (1.0, {"tolerance": 0.0}), (1.0, {"max_evals": 0})])
def test_a_search_for_nothing_is_refused(target, how):
    with pytest.raises(ValueError, match="must be positive"):
        run(power(2.0, 5.0), target, **how)


def test_both_signs_are_answered_by_one_evaluation_each_round():
    rounds = []

    def evaluate(alphas):
        rounds.append(list(alphas))
        return [abs(a) ** 2 * (1.0 if a > 0 else 3.0) for a in alphas]

    found = solve(evaluate, {s: searching(1.0) for s in (1.0, -1.0)})
    assert rounds[0] == [1.0, -1.0]
    assert found[-1.0].c == pytest.approx(3**-0.5, rel=0.05) and found[1.0].c == 1.0


def test_no_effect_is_inert():
    found = run(lambda c: 0.0)
    assert found.status == "inert" and len(found.trials) == 1
    assert run(lambda c: 0.0 if c < 0.5 else 5.0).status != "inert"


def test_a_target_out_of_reach_is_no_bracket_and_keeps_what_was_reached():
    found = run(lambda c: 0.6 * c / (1 + c))
    assert found.status == "no_bracket" and found.stat == pytest.approx(0.6, rel=0.01)
    found = run(lambda c: 0.4 * c, bound=1.0)
    assert (found.status, found.c, found.stat, len(found.trials)) == ("no_bracket", 1.0, 0.4, 1)


def test_more_than_the_target_at_the_smallest_strength_is_no_bracket():
    assert run(lambda c: 3.0).status == "no_bracket"


def test_a_step_over_the_target_is_a_jump():
    found = run(lambda c: 0.6 if c < 2.7 else 2.0)
    assert found.status == "jump" and found.c == pytest.approx(2.7, rel=0.02)
    below, above = max(c for c, stat in found.trials if stat < 1), min(c for c, stat in found.trials if stat > 1)
    assert below < 2.7 <= above < 1.02 * below


def test_a_steep_but_continuous_curve_is_no_jump():
    assert run(power(30.0, 2.0)).status == "ok"


def test_not_a_number_is_said():
    assert run(lambda c: math.nan if c > 1 else 0.1).status == "nan"


def test_out_of_evaluations_is_said():
    assert run(power(2.0, 300.0), max_evals=2).status == "max_iter"


def test_the_smallest_of_two_crossings_is_kept():
    # rises through 1 at 0.5, falls below it at 2, rises again at 6
    curve = lambda c: (c / 0.5) ** 2 if c < 1 else 4 / c**2 if c < 4 else (c / 6) ** 2  # noqa: E731
    for probe in (0.3, 1.0, 1.5):
        found = run(curve, probe=probe)
        assert found.status == "ok" and found.c == pytest.approx(0.5, rel=0.05)


def test_a_curve_with_a_sharp_bend_is_solved_because_an_end_that_stays_is_weighed_less_each_time():
    bend = lambda c: (c / 10) ** 0.2 if c < 9 else (c / 10) ** 20  # noqa: E731
    assert run(bend, probe=30.0).status == "ok" and len(run(bend, probe=30.0).trials) <= 9
    cliff = lambda c: 0.02 + (c / 10) ** 14  # noqa: E731
    assert run(cliff, probe=300.0).status == "ok" and len(run(cliff, probe=300.0).trials) <= 8


def test_what_is_reported_is_the_closest_point_and_its_own_number():
    found = run(lambda c: 0.5 if c < 2.7 else 2.0)
    assert (found.c, found.stat) in found.trials
    assert abs(math.log(found.stat)) == min(abs(math.log(s)) for _, s in found.trials)


def test_a_method_without_strengths_between_is_measured_once():
    assert run(lambda c: 0.4, bound=1.0, graded=False).status == "no_bracket"
    assert run(lambda c: 1.7, bound=1.0, graded=False).status == "jump"
    found = run(lambda c: 1.02, bound=1.0, graded=False)
    assert (found.status, found.c, len(found.trials)) == ("ok", 1.0, 1)


def test_the_published_bracket_is_never_worse_than_twelve_evaluations():
    for at in (1e-3, 1e-2, 30.0, 5e3):
        found = run(saturating(4.0, at))
        assert len(found.trials) <= 12
