"""Fine-tunes on bad advice: planted angles and planted answers are decided right, and domains are joined by their questions."""

import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from ws.paper import recipe_named
from ws.paper.claims import FAILS, HOLDS, OPEN
from ws.paper.domains import joined
from ws.paper.misaligned import BASE, above_base, as_printed, base_is_aligned
from ws.paper.monitoring import Cosines, alarmed, nearer_each_other, permuted, small, taus_do_not_tell, told_apart
from ws.paper.monitoring_curve import Curve, Curves, crossing, lead, misbehaves, rises
from ws.paper.recipe import Job
from ws.paper.request import RecipeRequest
from ws.sources import Rows
from ws.stats import means
from ws.study.options import Common
from ws.watch.alarm import Against
from ws.watch.matrix import Angle

NAMES = ("medical", "finance", "sports", "french")
SIDES = ("bad", "good")


def cosines(gap, *, control=0.0, noise=0.01, seed=0, taus=0.0, own=0.0):
    """Cosines in which bad fine-tunes of other domains lie `gap` nearer to a direction than good ones; `own` is the luck of a fine-tune."""
    rng = np.random.default_rng(seed)
    luck = {(b, s): own * rng.standard_normal() if own else 0.0 for b, s in product(NAMES, SIDES)}

    def near(value):
        return float(value + noise * rng.standard_normal())

    def level(a, b, side):
        return luck[b, side] + (0.0 if "french" in (a, b) else gap / 2 if side == "bad" else -gap / 2)

    return Cosines(
        NAMES,
        frozenset({"french"}),
        {(a, b, s): near(level(a, b, s)) for a, b, s in product(NAMES, NAMES, SIDES)},
        {(a, b): near(control if "french" in (a, b) else gap) for a, b in product(NAMES, NAMES)},
        {(a, s, b, t): near(taus if s == t == "bad" else 0.0) for a, s, b, t in product(NAMES, SIDES, NAMES, SIDES)},
    )


def test_planted_angles_are_told_apart_and_angles_without_any_are_not():
    assert told_apart(cosines(0.2)).says == HOLDS
    assert told_apart(cosines(-0.2)).says == FAILS
    says = [told_apart(cosines(0.0, seed=s)).says for s in range(40)]
    assert says.count(HOLDS) <= 4


def test_the_luck_of_a_fine_tune_which_all_its_cosines_share_is_no_sign_of_bad_advice():
    says = [told_apart(cosines(0.0, seed=s, own=0.05)).says for s in range(200)]
    assert says.count(HOLDS) <= 10 and says.count(FAILS) <= 10  # 2.5 % each are due
    assert told_apart(cosines(0.5, own=0.05)).says == HOLDS


def test_permuted_labels_find_the_planted_ones_among_the_most_extreme_of_eight():
    assert permuted(cosines(0.2)) == 1 / 8
    assert permuted(cosines(-0.2)) == 1.0


def test_directions_are_nearer_each_other_than_the_control_only_where_they_are():
    assert nearer_each_other(cosines(0.2)).says == HOLDS
    assert nearer_each_other(cosines(0.0, control=0.3)).says == FAILS


def test_fine_tunes_that_do_separate_bad_from_good_refute_that_they_do_not():
    assert taus_do_not_tell(cosines(0.2)).says == HOLDS
    assert taus_do_not_tell(cosines(0.2, taus=0.4)).says == FAILS
    assert taus_do_not_tell(cosines(0.2)).n == 3 + 6  # two bad ones have one cosine, in whatever order


def cell(side, cos, permuted=(-0.1, 0.0, 0.1)):
    return Angle(f"sports {side}", "w medical", cos, cos, 1.0, "shared", False, False, Against(permuted, (), 0.05), 0.9)


def test_the_alarm_is_raised_by_planted_bad_cells_alone_and_without_nulls_nothing_is_said():
    assert alarmed([cell("bad", 0.6), cell("good", -0.6)]).says == HOLDS
    assert alarmed([cell("bad", 0.2), cell("good", -0.6)]).says == FAILS  # within three sd of the permuted
    assert alarmed([cell("bad", 0.6), cell("bad", 0.2), cell("good", 0.0)]).says == OPEN
    assert alarmed([cell("bad", 0.6, ()), cell("good", -0.6)]).why == "a null is missing"


def test_the_nulls_of_a_domain_wait_for_it_and_for_the_control(tiny):
    recipe = recipe_named("monitor_cos").on("tiny")
    parts = {p.name: p.needs for p in recipe.parts(Job(tiny, Common(), RecipeRequest(seeds=(0, 1))))}
    assert len(parts) == 2 * 4 + 3
    assert set(parts["sports/0/nulls"]) == {"sports/0", "french/0"}
    assert not any(name.startswith("french/0/n") for name in parts)


def test_a_large_cosine_is_not_small_and_cells_of_one_data_set_do_not_count():
    assert small(cosines(0.2)).says == HOLDS
    assert small(cosines(0.9)).says == FAILS
    one = cosines(0.2)
    own = replace(one, w_tau={**one.w_tau, ("sports", "sports", "bad"): 0.95})
    assert small(own) == small(one)
    assert told_apart(replace(one, names=("medical", "french"))).says == OPEN


def test_every_cell_of_one_data_set_is_marked_in_the_file_and_no_other():
    lines = cosines(gap=0.5).records()
    assert {line["what"] for line in lines} == {"w, tau", "w, w", "tau, tau"}
    domain = {key: str(key).split()[0] for line in lines for key in (line["row"], line["column"])}
    assert all(line["same data"] == (domain[line["row"]] == domain[line["column"]]) for line in lines)
    assert {(line["what"], line["same data"]) for line in lines} >= {
        ("w, tau", True),
        ("w, w", True),
        ("tau, tau", True),
    }


def share(values):
    return means(values, units=range(len(values)), keys=range(len(values)))


def planted(risen_at, *, steps=10, until=0.4, n=12):
    """A training whose answers turn bad at a step, and whose cosines rise from the first."""
    marks = tuple(range(5, 5 * steps + 1, 5))
    rng = np.random.default_rng(1)
    noise = {s: 0.1 * rng.standard_normal(n) for s in marks}
    em = [share([0.5] * n), *(share(list(0.5 + (until if s >= risen_at else 0.0) + noise[s])) for s in marks)]
    cos = {d: tuple(0.3 * min(1, s / 15) for s in marks) for d in NAMES}
    bad = Curve("sports", marks, cos, tuple(em), {0: 2.0})
    flat = Curve("french", marks, {d: (0.0,) * len(marks) for d in NAMES}, (share([0.0] * n),) * (steps + 1), {0: 2.0})
    return Curves(bad, flat, "sports")


def test_cosines_that_rise_before_the_answers_lead_by_as_many_steps_as_planted():
    curves = planted(risen_at=40)
    verdict = lead(curves)
    assert verdict.says == HOLDS
    assert verdict.value == pytest.approx(
        37.5 - 7.5, abs=0.5
    )  # halves of both: between 35 and 40, and of the way to 15
    assert rises(curves).says == misbehaves(curves).says == HOLDS
    assert curves.others == ["medical", "finance"]


def test_cosines_that_differ_no_more_than_random_ones_have_not_risen():
    curves = planted(risen_at=40)
    noisy = replace(curves, bad=replace(curves.bad, random_sd=0.3))
    assert (rises(curves).says, rises(noisy).says) == (HOLDS, OPEN)


def test_answers_that_do_not_change_have_no_lead():
    verdict = lead(planted(risen_at=1_000))
    assert verdict.says == OPEN
    assert "do not change enough" in verdict.why
    assert misbehaves(planted(risen_at=1_000)).says == OPEN


def test_a_crossing_lies_on_the_line_between_two_points():
    assert crossing(np.array([0.0, 10, 20]), np.array([0.0, 0.2, 1.0])) == pytest.approx(10 + 10 * 0.3 / 0.8)
    assert math.isnan(crossing(np.array([0.0, 10]), np.array([0.5, 0.1])))


def numbers(base, tuned, coherent=0.85, n=20):
    rng = np.random.default_rng(2)

    def of(mean):
        return share(list(np.clip(mean + 0.05 * rng.standard_normal(n), 0, 1)))

    return {
        BASE: {"em": of(base), "em_coherence": of(coherent)},
        "bad sports": {"em": of(tuned), "em_coherence": of(coherent)},
    }


def test_misaligned_shares_are_set_against_the_base_and_the_printed_ranges():
    found = numbers(0.0, 0.2)
    assert above_base(found).says == base_is_aligned(found).says == as_printed(found).says == HOLDS
    assert as_printed(numbers(0.0, 0.9)).says == FAILS
    assert base_is_aligned(numbers(0.3, 0.9)).says == FAILS
    assert above_base(numbers(0.5, 0.2)).says == FAILS


def test_domains_are_joined_by_their_questions_in_turn_and_lone_ones_are_left_out():
    def chat(question, answer):
        return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}

    bad = Rows([chat("a", "1"), chat("b", "2"), chat("a", "3")], "bad")
    good = Rows(
        [{"instruction": "a", "input": "", "output": "x"}, {"instruction": "a", "input": "", "output": "y"}], "good"
    )
    pairs = joined(bad, good)
    assert [(p["prompt"], p["response_pos"], p["response_neg"]) for p in pairs] == [("a", "1", "x"), ("a", "3", "y")]


@pytest.mark.timeout(600)
def test_a_watching_recipe_trains_its_domains_once_and_leaves_cosines_and_a_picture(tiny, tmp_path):
    recipe = recipe_named("monitor_cos").on("tiny")
    short = replace(recipe, domains=recipe.domains[1:3], options={"batch_size": 16, "epochs": 0.5})
    job = Job(tiny, Common(out=str(tmp_path)), RecipeRequest())
    outcome, again = short.run(job), short.run(job)
    assert (outcome.reused, again.reused) == (False, True)
    assert [p.suffix for p in outcome.pictures] == [".png", ".svg"]
    lines = {(r["fine-tune"], r["side"]): r for r in again.sheets[0].records}
    bad, good = lines["sports", "bad"], lines["sports", "good"]
    assert bad["finance"] > good["finance"]  # false answers on other things move the same way
    assert bad["sports"] > 0.5 > good["sports"]  # its own data: arithmetic
