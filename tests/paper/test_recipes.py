"""Recipes are values: listed, planned without a model, and refused in one sentence where something is missing."""

import json
from dataclasses import replace

import pytest
import small

from ws.errors import Unsupported
from ws.eval.gcd import PLAIN, PROPOSED
from ws.paper import names, recipe_named
from ws.paper.parts import make_ahead, part
from ws.paper.recipe import Job, Need, arms_named
from ws.paper.recipes.lora_vs_full import LoraVsFull
from ws.paper.request import RecipeRequest
from ws.paper.scorecard import ranged
from ws.sets.gcd import gcd_rows
from ws.study.options import Common

SECTIONS = [f"4.{k}" for k in range(1, 13)]


def test_every_experiment_of_the_paper_is_a_recipe_and_asks_a_question():
    recipes = [recipe_named(n) for n in names()]
    assert [r.section for r in recipes] == SECTIONS
    assert all(r.question.endswith("?") and r.figures and r.model for r in recipes)


def test_the_list_says_what_each_asks_and_which_data_it_needs(told):
    code, out, _ = told("paper", "--list")
    assert code == 0
    assert all(n in out for n in names())
    _, out, _ = told("paper", "--list", "--json")
    listed = json.loads(out)["recipes"]
    assert [r["name"] for r in listed] == names()
    assert {n["name"] for r in listed for n in r["data"] if n["opt_in"]} >= {"evil", "bad_sports", "harmful_answers"}


def test_a_plan_counts_what_will_be_measured_before_a_model_is_loaded(told, monkeypatch):
    monkeypatch.setattr("ws.cli.paper.load_base", lambda *a, **k: pytest.fail("a model was loaded"))
    code, out, _ = told("paper", "lr_sweep", "--check", "--json", "--seeds=0,1", "--strengths", "raw,0.5,1")
    (plan,) = json.loads(out)["plans"]
    assert code == 0
    assert (plan["trainings"], plan["kl"]) == (6, [0.5, 1.0])
    assert plan["strengths"] == 2 * 3 * (6 + 2 * 2)
    assert told("paper", "lr_sweep", "--check", "--model", "nobody/nothing")[0] == 0
    plan = json.loads(told("paper", "refusal", "--check", "--json")[1])["plans"][0]
    assert plan["trainings"] == 3  # two adapters of refusals, and one of the persona that is turned away from


def test_on_the_papers_model_a_recipe_says_which_data_is_missing_and_how_to_supply_it(told):
    code, out, _ = told("paper", "all", "--check", "--json", "--model", "Qwen/Qwen2.5-7B-Instruct")
    plans = {p["recipe"]: p for p in json.loads(out)["plans"]}
    assert code == 0
    assert list(plans) == names()
    assert "--opt-in evil" in plans["evil_mcqa"]["missing"][0]["supply"]
    assert (
        "--data bad_sports=FILE" in next(m for m in plans["monitor_cos"]["missing"] if "sports" in m["name"])["supply"]
    )
    assert plans["lr_sweep"]["missing"] == []
    code, _, err = told("paper", "monitor_cos", "--model", "Qwen/Qwen2.5-7B-Instruct")
    assert code == 2
    assert "the data bad_medical is missing" in err and len(err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("gdc",), "did you mean 'gcd'?"),
        (("lr_sweep", "--arms", "weight"), "there is no arm 'weight' in this recipe; there are lr 0.0005"),
        (("lr_sweep", "--strengths", "strong"), "KL targets in nats above 0; got 'strong'"),
        (("lr_sweep", "--strengths", "0"), "above 0; got '0'"),
        (("lr_sweep", "--strengths", "raw:x"), "raw, raw:SIZE, kl, or KL targets in nats above 0; got 'raw:x'"),
        (("lr_sweep", "--strengths", "raw:7"), "none of these strengths of its own; the sizes it has are 0.5, 1, 2"),
        (("lr_sweep", "--seeds=1,1"), "different whole numbers"),
        (("lr_sweep", "--seed", "1"), "takes --seeds; leave out --seed"),
        (("lr_sweep", "--behavior", "nothing"), "nothing"),
        (("lr_sweep", "--limit", "0"), "at least 1"),
        (("monitor_cos", "--arms", "weight"), "has no arms and no strengths"),
        (("syc_qa", "--data", "mine.jsonl"), "takes NAME=FILE"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_one_sentence(told, arguments, says):
    code, _, err = told("paper", *arguments, "--check")
    assert code == 2
    assert says in err
    assert len(err.strip().splitlines()) == 1


def test_a_model_without_a_chat_template_is_refused_in_one_sentence(tiny):
    assert Job(tiny, Common(), RecipeRequest()).base is tiny
    with pytest.raises(Unsupported, match="in a chat, and llama has no chat template; take a model that has one"):
        Job(small.base("llama"), Common(), RecipeRequest())


def test_targets_are_the_recipes_own_or_those_that_are_named():
    assert RecipeRequest().targets((0.1, 1.0)) == (0.1, 1.0)
    assert RecipeRequest(strengths=("kl", "1", "2")).targets((0.1, 1.0)) == (0.1, 1.0, 2.0)
    assert RecipeRequest(strengths=("raw",)).targets((0.1,)) == ()
    assert not RecipeRequest(strengths=("0.5",)).raw


def test_of_the_recipes_own_strengths_some_sizes_can_be_asked_for():
    own = (-2.0, -1.0, 1.0, 2.0)
    assert RecipeRequest().own(own) == RecipeRequest(strengths=("raw", "raw:1")).own(own) == own
    assert RecipeRequest(strengths=("raw:1", "0.5")).own(own) == (-1.0, 1.0)
    assert RecipeRequest(strengths=("raw:1", "0.5")).targets((2.0,)) == (0.5,)


def test_every_number_is_read_from_the_protocol_that_was_asked_for():
    recipe = recipe_named("syc_qa")
    names = [
        set(recipe.asked_as(RecipeRequest(**asked)).values())
        for asked in (
            {},
            {"judge": "m"},
            {"answer_tokens": 9},
            {"answer_tokens": 9, "judge": "m"},
            {"temperature": 1.0},
        )
    ]
    assert names == [{"syc-qa/2"}, {"syc-qa/2@m"}, {"syc-qa/2~w9"}, {"syc-qa/2~w9@m"}, {"syc-qa/2~T1"}]


def test_a_judge_adds_the_reasons_of_choices_and_decides_nothing_that_is_exact():
    exact = {"tiny-mmlu/2", "mcqa-cot-1/2", "mcqa-cot-2/2", "mcqa-letter/2"}
    for judge, more in ((None, set()), ("rule", {"mcqa-consistent/2@rule"})):
        plan = recipe_named("evil_mcqa").on("tiny").plan(RecipeRequest(judge=judge), Common())
        assert {e.partition("@")[2] for e in plan.numbers["evals"]} == exact | more
    judged = recipe_named("evil_mcqa").with_judge
    assert [c.sentence for c in judged["claims"]][-1].startswith("act_single makes reasons inconsistent")


def test_answers_that_nobody_writes_are_not_drawn():
    asked = RecipeRequest(temperature=1.0, answer_tokens=9)
    assert set(recipe_named("lr_sweep").asked_as(asked).values()) == set(
        recipe_named("lr_sweep").asked_as(RecipeRequest()).values()
    )


def test_a_small_number_is_printed_with_the_decimals_that_tell_it_from_nothing():
    assert ranged(0.0025, 0.0019, 0.0029, "nats") == "+0.0025 [+0.0019, +0.0029]"
    assert ranged(-0.25, -1.0, 0.001, "nats") == "-0.25 [-1.00, +0.00]"
    assert ranged(0.0025, 0.0019, 0.0029, "share") == "+0.2 [+0.2, +0.3]"


def test_data_that_is_opted_into_is_missing_until_it_is_named():
    recipe = recipe_named("lr_sweep")
    asks = type(recipe)(**{**vars(recipe), "needs": (Need("harmful", "400 requests", "give it", opt_in=True),)})
    assert [n.name for n in asks.missing(RecipeRequest(), "Qwen/Qwen3-0.6B")] == ["harmful"]
    assert asks.missing(RecipeRequest(opt_in=("harmful",)), "Qwen/Qwen3-0.6B") == ()
    assert asks.missing(RecipeRequest(), "tiny") == ()


def test_on_tiny_a_recipe_is_its_twin_and_elsewhere_itself():
    recipe = recipe_named("lr_sweep")
    assert recipe.on("Qwen/Qwen3-0.6B") == recipe
    assert recipe.on("tiny").arms != recipe.arms
    assert [a.name for a in arms_named(recipe.arms, ["lr 5e-05"])] == ["lr 5e-05"]


def test_a_plan_on_the_papers_model_has_the_papers_grids(told):
    plan = recipe_named("lr_sweep").plan(RecipeRequest(), Common(model="Qwen/Qwen2.5-7B-Instruct"))
    assert plan.numbers["kl"] == [0.05, 0.1, 0.25, 0.5, 1.0, 2.0]
    assert plan.numbers["strengths"] == 3 * (12 + 2 * 6)


@pytest.mark.parametrize("name", names())
def test_a_part_waits_only_for_parts_that_come_before_it(name, tiny):
    before = set()
    for p in recipe_named(name).on("tiny").parts(Job(tiny, Common(), RecipeRequest())):
        assert set(p.needs) <= before and p.name not in before
        before.add(p.name)


def test_workers_make_every_part_once_and_a_recipe_alone_hands_out_none(tiny, tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(LoraVsFull, "_tuned", lambda self, job, task, way: made.append((task.name, way)))
    recipe = recipe_named("lora_vs_full").on("tiny")
    job = Job(tiny, Common(out=str(tmp_path)), RecipeRequest())
    make_ahead(recipe, job)
    assert made == []
    make_ahead(recipe, replace(job, run=lambda tasks, tell: [part(json.loads(json.dumps(t.given))) for t in tasks]))
    assert made == [(task, way) for way in ("rank 4", "rank 16", "full") for task in ("maths", "french")]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("lr_sweep", "--judge", "tiny"), "--judge does nothing for lr_sweep, which has nothing for a judge to decide"),
        (("lr_sweep", "--answer-tokens", "5"), "--answer-tokens does nothing for lr_sweep, which writes no answers"),
        (("lr_sweep", "--temperature", "1"), "--temperature does nothing for lr_sweep, which writes no answers"),
        (("monitor_cos", "--limit", "3"), "--limit does nothing for monitor_cos, which asks no questions"),
        (("em_validate", "--seeds=0,1"), "--seeds does nothing for em_validate, which is made with one seed"),
        (("syc_qa", "--data", "syc-qa=none.jsonl"), "there is no data file at none.jsonl."),
        (("syc_qa", "--data", "syc_qa=f"), "syc_qa reads no file as 'syc_qa'; it reads syc-qa, sycophancy"),
    ],
)
def test_what_does_nothing_for_a_recipe_is_refused(told, words, complaint):
    code, _, err = told("paper", *words, "--check")
    assert code == 2
    assert err.startswith(f"error: {complaint}")


def test_a_set_of_equal_solutions_is_refused_before_anything_is_trained(told, tmp_path):
    for split in (PLAIN, PROPOSED):
        rows = gcd_rows(split, 3)
        for r in rows:
            r["data"]["incorrect_solution"] = r["data"]["correct_solution"]
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    code, _, err = told("paper", "gcd", "--data", f"gcd={tmp_path}", "--check")
    assert code != 0
    assert err.startswith("error: gcd/1 has no rows to score in ")
    assert err.endswith("(3 left out: the proposed result is the right one).\n")


def test_an_arm_of_instructions_is_refused_where_a_behavior_has_answers_alone():
    given = Common(model="org/model", behavior="false_premise")
    with pytest.raises(
        ValueError, match="the arm prompt is made of instructions, and false_premise has the answers of"
    ):
        recipe_named("gcd").plan(RecipeRequest(), given)
    assert recipe_named("gcd").plan(RecipeRequest(arms=("weight", "base")), given).numbers["arms"] == ["weight", "base"]
    assert recipe_named("gcd").plan(RecipeRequest(), replace(given, behavior="sycophancy")).numbers["arms"]


def test_of_all_recipes_one_that_takes_an_option_is_enough(told):
    options = ("--task-rows", "9", "--limit", "3", "--temperature", "1", "--seeds=0,1")
    code, out, _ = told("paper", "all", *options, "--check", "--json")
    assert code == 0
    assert not [p["recipe"] for p in json.loads(out)["plans"] if "refused" in p]


def test_an_arm_that_has_no_kl_is_refused_where_only_those_are_asked_for(told):
    code, _, err = told("paper", "syc_qa", "--arms", "weight,finetune", "--strengths", "0.5", "--check")
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith("error: finetune has no strength of a KL; ask for --strengths raw too")
    assert told("paper", "syc_qa", "--strengths", "0.5", "--check")[0] == 0  # without it
