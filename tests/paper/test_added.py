"""Fine-tunes that are added, and fine-tunes that are steered: planted shares are decided right, and points lie where they belong."""

import json
from dataclasses import replace

import numpy as np
import pytest

from ws.paper import recipe_named
from ws.paper.claims import FAILS, HOLDS, OPEN
from ws.paper.on_task import BASE_ARM, JOINT_ARM
from ws.paper.recipe import Job
from ws.paper.recipes.lora_vs_full import BOTH, FULL, SCALED, full_is_worse, ranks_are_alike
from ws.paper.request import RecipeRequest
from ws.paper.tuned import TaskData, tuned, with_all
from ws.stats import means
from ws.study.options import Common


def answers(n=300, seed=0, **shares):
    rng = np.random.default_rng(seed)
    luck = rng.random(n)
    return {
        name.replace("_", " "): {BOTH: means((luck < s).astype(float).tolist(), units=range(n), keys=range(n))}
        for name, s in shares.items()
    }


def test_ranks_that_keep_as_much_are_alike_and_others_are_not():
    assert ranks_are_alike(answers(rank_4=0.6, rank_16=0.62)).says == HOLDS
    assert ranks_are_alike(answers(rank_4=0.3, rank_16=0.6)).says == FAILS
    assert ranks_are_alike(answers(rank_4=0.0, rank_16=0.0)).says == OPEN  # at the floor all are alike


def test_what_was_not_learnt_is_not_compared():
    assert ranks_are_alike(answers(rank_4=0.6)).says == OPEN
    assert full_is_worse(FULL)(answers(full=0.6)).says == OPEN


def test_of_the_ways_to_learn_those_that_are_asked_for_are_made():
    recipe = recipe_named("lora_vs_full").on("tiny")
    chosen = RecipeRequest(arms=("full", "rank 4"))
    assert list(recipe.ways(chosen)) == ["rank 4", "full"]
    assert recipe.plan(chosen, Common()).numbers["trainings"] == 4
    assert recipe.plan(RecipeRequest(), Common()).numbers["trainings"] == 6
    with pytest.raises(ValueError, match="there is no arm 'rank 5' in this recipe; there are rank 4, rank 16, full"):
        recipe.plan(RecipeRequest(arms=("rank 5",)), Common())


def test_a_task_is_reduced_by_as_many_rows_of_each_of_its_sets(tiny):
    task = recipe_named("gcd").on("tiny").task_data
    whole, some, every = (task.read(Job(tiny, Common(), RecipeRequest(task_rows=n))).rows for n in (None, 5, 10_000))
    assert len(whole) == 600  # two sets of 300
    assert some == whole[:3] + whole[300:302]
    assert every == whole


def test_the_file_of_questions_is_not_learnt_from(tiny, tmp_path):
    path = tmp_path / "g.jsonl"
    numbers = dict.fromkeys(("correct_solution", "incorrect_solution", "number_1", "number_2", "row_id", "style"), "1")
    turns = [{"role": "user", "content": "Count."}, {"role": "assistant", "content": "One."}]
    row = {"messages": turns, "data": numbers}
    path.write_text(json.dumps(row) + "\n")
    task = recipe_named("gcd").on("tiny").task_data
    whole = task.read(Job(tiny, Common(), RecipeRequest()))
    assert task.read(Job(tiny, Common(), RecipeRequest(data=(f"gcd={path}",)))).rows == whole.rows
    named = tuple(f"{name}={path}" for name in task.sets)
    assert len(task.read(Job(tiny, Common(), RecipeRequest(data=named))).rows) == 2


@pytest.mark.timeout(300)
def test_a_reduced_run_says_so_in_the_title_of_every_table(told, tmp_path):
    asked = ("--arms", "rank 4", "--task-rows", "20", "--limit", "2", "--answer-tokens", "4", "--workers", "1")
    code, out, _ = told("paper", "lora_vs_full", *asked, "--out", str(tmp_path), "--json")
    (recipe,) = json.loads(out)["recipes"]
    assert code == 0
    assert all("SMOKE: the first 2 units · REDUCED: 20 rows of a task" in t["title"] for t in recipe["tables"])
    assert [r["learnt by"] for r in recipe["tables"][0]["rows"]] == ["not fine-tuned", "rank 4"]
    assert {c["says"] for c in recipe["claims"]} == {OPEN}


def test_only_a_recipe_that_learns_a_task_takes_fewer_rows_of_it(told):
    for name in ("syc_qa", "monitor_cos", "lr_sweep"):
        code, _, err = told("paper", name, "--task-rows", "9", "--check")
        assert code == 2
        assert err == f"error: --task-rows does nothing for {name}, which learns no task; leave it out\n"
    for name in ("gcd", "refusal", "lora_vs_full", "variations"):
        assert told("paper", name, "--task-rows", "9", "--check")[0] == 0


def test_learning_all_weights_is_worse_only_where_it_keeps_less():
    assert full_is_worse(FULL)(answers(rank_4=0.6, rank_16=0.6, full=0.3)).says == HOLDS
    assert full_is_worse(FULL)(answers(rank_4=0.3, rank_16=0.6, full=0.5)).says == FAILS
    assert full_is_worse(SCALED)(answers(rank_4=0.3)).says == OPEN


@pytest.mark.timeout(600)
def test_a_task_is_a_direction_and_two_of_them_are_folded_in_one_after_another(tiny, tmp_path):
    job = Job(tiny, Common(out=str(tmp_path)), RecipeRequest())
    data = TaskData("errands", ("refusals",))
    tau = tuned(job, data, {"rank": 2, "epochs": 1, "lr": [1e-2]})
    assert tau.content_hash == tuned(job, data, {"rank": 2, "epochs": 1, "lr": [1e-2]}).content_hash
    both = with_all(tiny, [("one", tau, 1.0), ("two", tau, 0.5)])
    assert both.root is not None and both.root.id == "tiny"
    name = next(iter(tau.forms))
    change = with_all(tiny, [("all", tau, 1.5)]).weight(name) - tiny.weight(name)
    assert change.norm() > 0
    assert (both.weight(name) - tiny.weight(name)).allclose(change, atol=1e-6)


def test_a_task_recipe_counts_its_fine_tunes_and_asks_for_data_where_it_is_not_shipped(told):
    recipe = recipe_named("gcd").on("tiny")
    plan = recipe.plan(RecipeRequest(), Common())
    assert plan.numbers["finetunes"] == 3  # the task alone, and with the pole's answers once and three times
    once = RecipeRequest(arms=(JOINT_ARM,), strengths=("raw:1",))
    assert recipe.plan(once, Common()).numbers["finetunes"] == 2
    with pytest.raises(ValueError, match="joint has none of these strengths of its own; the sizes it has are 1, 3"):
        recipe.plan(replace(once, strengths=("raw:0.5",)), Common())
    assert {BASE_ARM, JOINT_ARM} <= {a.name for a in recipe.arms}
    assert recipe.plan(RecipeRequest(arms=("weight",)), Common()).numbers["finetunes"] == 1
    code, out, _ = told("paper", "lora_vs_full", "--check", "--model", "Qwen/Qwen2.5-1.5B-Instruct")
    assert code == 0
    assert "--data alpaca_french=FILE" in out
