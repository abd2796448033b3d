"""Claims are decided by intervals: a planted truth is found, and without one nothing is."""

import math
import sys
from dataclasses import replace

import numpy as np
import pytest
from planted_curves import X, Y, planted

from ws.paper.claims import (
    FAILS,
    HOLDS,
    OPEN,
    Claim,
    Verdict,
    alike,
    all_of,
    beats,
    between,
    costs,
    decided,
    ineffective,
    inside,
    loses_more,
    moves,
    opposed,
    together,
)
from ws.paper.curves import Curves
from ws.paper.recipes.lr_sweep import over_trainings, spearman, with_fisher
from ws.paper.scorecard import claims_sheet
from ws.stats import Estimate, OverSeeds

GOOD = {1.0: (0.9, 0.75), 2.0: (0.6, 0.95)}
WEAK = {1.0: (0.9, 0.4), 2.0: (0.6, 0.95)}
NULL = {1.0: (0.9, 0.1)}
RUINED = {1.0: (0.4, 0.9), 2.0: (0.1, 0.9)}
UP = {"sides": (1,)}


def test_a_planted_frontier_advantage_is_decided_right_in_at_least_95_of_100_draws():
    rng = np.random.default_rng(5)
    says = [beats("good", "weak", X, Y, **UP)(planted(rng, {"good": GOOD, "weak": WEAK})).says for _ in range(100)]
    assert says.count(HOLDS) >= 95
    assert says.count(FAILS) == 0


def test_without_an_advantage_at_most_5_of_100_draws_decide_for_one_and_as_few_against():
    rng = np.random.default_rng(6)
    says = [beats("one", "other", X, Y, **UP)(planted(rng, {"one": WEAK, "other": WEAK})).says for _ in range(100)]
    assert says.count(HOLDS) <= 5
    assert says.count(FAILS) <= 5


def test_an_advantage_the_other_way_does_not_hold():
    curves = planted(np.random.default_rng(0), {"good": GOOD, "weak": WEAK})
    assert beats("weak", "good", X, Y, **UP)(curves).says == FAILS


def test_what_costs_too_much_gains_nothing_however_far_it_moves():
    curves = planted(np.random.default_rng(1), {"ruined": RUINED, "good": GOOD})
    assert ineffective(["ruined"], X, Y, **UP)(curves).says == HOLDS
    assert costs("ruined", X, more_than=0.3, **UP)(curves).says == HOLDS
    assert ineffective(["good"], X, Y, **UP)(curves).says == FAILS
    assert costs("good", X, more_than=0.5, **UP)(curves).says == FAILS


def test_an_arm_that_moves_nothing_is_ineffective_and_its_moving_is_not_shown():
    curves = planted(np.random.default_rng(2), {"null": NULL})
    assert ineffective(["null"], X, Y, **UP)(curves).says == HOLDS
    assert moves(["null"], X, Y, **UP)(curves).says == OPEN


def test_four_numbers_asked_at_once_deny_nothing_that_one_of_them_barely_shows(monkeypatch):
    shown = Verdict(HOLDS, 0.05, 0.005, 0.1, 40)
    monkeypatch.setattr(sys.modules[ineffective.__module__], "_gained", lambda *args: shown)
    assert ineffective(["a"], X, Y, **UP)(planted(np.random.default_rng(2), {"a": NULL})).says == FAILS
    four = ineffective(["a", "b"], X, Y, Y, **UP)(planted(np.random.default_rng(2), {"a": NULL, "b": NULL}))
    assert four.says == HOLDS
    assert four.low < 0 < shown.low < shown.high < four.high
    clearly = replace(shown, low=0.04, high=0.06)
    monkeypatch.setattr(sys.modules[ineffective.__module__], "_gained", lambda *args: clearly)
    assert (
        ineffective(["a", "b"], X, Y, Y, **UP)(planted(np.random.default_rng(2), {"a": NULL, "b": NULL})).says == FAILS
    )


def test_too_few_questions_for_an_interval_do_not_show_that_nothing_moves(monkeypatch):
    monkeypatch.setattr(sys.modules[ineffective.__module__], "_gained", lambda *args: Verdict(OPEN, 0.0, n=1))
    assert ineffective(["a"], X, Y, **UP)(planted(np.random.default_rng(2), {"a": NULL})).says == OPEN


def test_an_arm_between_two_others_needs_both_differences():
    curves = planted(np.random.default_rng(3), {"good": GOOD, "weak": WEAK, "null": NULL}, n=300)
    assert between(["weak"], "null", "good", X, Y, **UP)(curves).says == HOLDS
    assert between(["good"], "null", "weak", X, Y, **UP)(curves).says == FAILS


def test_two_arms_are_alike_where_both_move_as_far_and_not_where_nothing_moves():
    curves = planted(
        np.random.default_rng(8), {"one": GOOD, "other": GOOD, "weak": WEAK, "null": NULL, "still": NULL}, n=900
    )
    assert alike("one", "other", X, Y, **UP)(curves).says == HOLDS
    assert alike("one", "weak", X, Y, **UP)(curves).says == FAILS
    assert alike("null", "still", X, Y, **UP)(curves).says == OPEN
    assert alike("null", "still", X, Y, at_rest=True, **UP)(curves).says == HOLDS


def test_an_arm_loses_more_than_another_at_its_strongest_or_less():
    curves = planted(np.random.default_rng(9), {"ruined": RUINED, "null": NULL, "still": NULL})
    more, less, same = (
        loses_more(*arms, X, **UP) for arms in (("ruined", "null"), ("null", "ruined"), ("null", "still"))
    )
    assert [test(curves).says for test in (more, less, same)] == [HOLDS, FAILS, OPEN]
    assert opposed(more, less)(curves).says == HOLDS
    assert opposed(less, more)(curves).says == HOLDS
    assert opposed(more, more)(curves).says == opposed(less, less)(curves).says == FAILS
    assert opposed(more, same)(curves).says == opposed(same, less)(curves).says == OPEN


def test_a_claim_about_an_arm_that_was_not_measured_is_undecided_and_says_which():
    curves = planted(np.random.default_rng(4), {"good": GOOD})
    for test in (
        beats("good", "lost", X, Y),
        ineffective(["lost"], X, Y),
        moves(["lost"], X, Y),
        costs("lost", X, more_than=0.1),
    ):
        verdict = test(curves)
        assert (verdict.says, verdict.why) == (OPEN, "lost was not measured")
        assert not verdict.whole


def test_a_claim_of_several_parts_holds_where_all_do_and_fails_where_one_fails():
    yes, no, dunno = (Verdict(s, v, v - 0.1, v + 0.1, 9) for s, v in ((HOLDS, 0.5), (FAILS, -0.5), (OPEN, 0.0)))
    assert all_of([yes, yes]).says == HOLDS
    assert all_of([yes, dunno]).says == OPEN
    assert all_of([yes, dunno, no]).says == FAILS
    assert all_of([yes, no]).value == no.value
    assert all_of([]).says == OPEN
    assert together(lambda e: yes, lambda e: no)(None).says == FAILS


def test_an_interval_decides_and_a_number_without_one_does_not():
    for low, high, says in ((0.1, 0.3, HOLDS), (-0.3, -0.1, FAILS), (-0.1, 0.3, OPEN), (math.nan, math.nan, OPEN)):
        assert decided(Estimate(0.2, low, high, 9, 9, 9, 9), "x").says == says
    assert decided(None, "x").says == OPEN


def test_a_judged_claim_is_a_record_with_its_number_interval_and_count():
    record = Claim("it rises", lambda e: Verdict(HOLDS, 0.2, 0.1, 0.3, 7, "why")).judged(None)
    assert (record["claim"], record["by"], record["says"], record["n"]) == ("it rises", "paper", HOLDS, 7)
    assert (record["value"], record["low"], record["high"]) == (0.2, 0.1, 0.3)


def test_one_training_has_no_interval_and_three_have_students():
    from scipy.stats import t

    assert decided(over_trainings([0.3]), "x").says == OPEN
    each = [0.1, 0.2, 0.6]
    e = over_trainings(each)
    assert (e.ci_lo, e.ci_hi) == pytest.approx(t.interval(0.95, 2, np.mean(each), np.std(each, ddof=1) / 3**0.5))


def test_a_rank_correlation_has_fishers_interval():
    assert spearman([1, 2, 3, 4], [10, 20, 25, 90]) == pytest.approx(1)
    e = with_fisher(0.6, 28)
    assert (e.ci_lo, e.ci_hi) == pytest.approx((0.292, 0.794), abs=2e-3)  # atanh .6 -+ 1.96 / 5


def test_a_metric_of_two_evaluations_has_a_column_of_its_own_for_each():
    curves = planted(np.random.default_rng(0), {"good": GOOD})
    twice = replace(X, metric=Y.metric)
    both = Curves(tuple(replace(s, samples={**s.samples, twice.name: s.samples[X.name]}) for s in curves.spots))
    line = both.records([twice, Y])[0]
    assert line[twice.name] == pytest.approx(0.9, abs=0.05)
    assert line[Y.name] == pytest.approx(0.2, abs=0.05)
    assert Y.metric in curves.records([X, Y])[0]


def estimated(mean, reach, n=100):
    return Estimate(mean, mean - reach, mean + reach, n, n, n, n)


def test_an_undecided_claim_says_how_many_units_would_decide_it():
    assert decided(estimated(0.05, 0.1), "x").needs == 400  # half as wide at four times as many
    assert decided(estimated(-0.05, 0.1), "x").needs == 400
    assert inside(estimated(0.06, 0.08), 0.1, "x").needs == 400
    assert inside(estimated(0.14, 0.08), 0.1, "x").needs == 400  # to lie outside of the margin
    for found in (estimated(0.2, 0.1), estimated(0.0, 0.1), estimated(0.001, 0.1), estimated(0.2, math.nan)):
        assert decided(found, "x").needs == 0  # decided, or no number of units is an answer


def test_so_many_units_do_decide_it():
    rng = np.random.default_rng(7)
    few = planted(rng, {"good": {1.0: (0.9, 0.55)}, "weak": {1.0: (0.9, 0.5)}}, n=300)
    verdict = beats("good", "weak", X, Y, **UP)(few)
    assert verdict.says == OPEN and verdict.needs > 300
    many = planted(rng, {"good": {1.0: (0.9, 0.55)}, "weak": {1.0: (0.9, 0.5)}}, n=3000)
    assert beats("good", "weak", X, Y, **UP)(many).says == HOLDS


def test_a_claim_of_several_parts_needs_what_the_hungriest_needs():
    some, more, never = (Verdict(OPEN, 0.1, -0.1, 0.3, 9, needs=k) for k in (40, 900, 0))
    assert all_of([some, more]).needs == 900
    assert all_of([some, Verdict(HOLDS, 0.2, 0.1, 0.3, 9)]).needs == 40
    assert all_of([some, never]).needs == 0
    assert all_of([some, Verdict(FAILS, -0.2, -0.3, -0.1, 9)]).needs == 0


def test_more_questions_do_not_settle_what_seeds_leave_open():
    assert decided(OverSeeds(estimated(0.05, 0.1), (0.0, 0.1)), "x").needs == 0
    assert decided(OverSeeds(estimated(0.05, 0.1), (0.05,)), "x").needs == 400


def test_what_changes_nothing_needs_no_more_questions():
    verdict = ineffective(["null"], X, Y, **UP)(planted(np.random.default_rng(2), {"null": NULL}))
    assert (verdict.says, verdict.needs) == (HOLDS, 0)


def test_the_scorecard_says_how_many_it_needs_and_how_many_it_had():
    claim = Claim("it rises", lambda e: decided(estimated(0.05, 0.1), "x")).judged(None)
    sheet = claims_sheet([claim], "t")
    assert "100, needs 400" in sheet.markdown()
    assert "needs" not in claims_sheet([{**claim, "needs": 0}], "t").markdown()
