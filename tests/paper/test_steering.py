"""A recipe that steers runs from nothing to its scorecard, and again from what is there."""

import csv
import json
from pathlib import Path

import pandas as pd
import pytest
from chat_server import Server
from html_page import refuse_what_a_page_may_not_have

from ws.cli import main

pytestmark = pytest.mark.timeout(600)
ASKED = ("paper", "lr_sweep", "--arms", "lr 0.002", "--strengths", "raw", "--limit", "3", "--behavior", "honesty")
SMALL = ("--n-topics", "12", "--epochs", "1", "--workers", "1", "--report", "--json")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(where it was run, how its command is given again)."""
    out = tmp_path_factory.mktemp("paper")
    arguments = [*ASKED, *SMALL, "--out", str(out)]
    assert main(arguments) == 0
    return out, arguments


@pytest.fixture
def again(run, capsys):
    """What the same command says when everything is there."""
    out, arguments = run
    assert main(arguments) == 0
    printed, said = capsys.readouterr()
    return out, json.loads(printed), said


def test_a_recipe_that_is_done_is_found_again_and_nothing_is_made(again):
    _, _, said = again
    assert "1 cell, 1 of them done already" in said
    assert "frontiers, claims and figures" not in said


def test_it_leaves_pictures_numbers_and_a_scorecard(again):
    _, result, _ = again
    (recipe,) = result["recipes"]
    assert [p.rpartition(".")[2] for p in recipe["pictures"]] == ["png", "svg"]
    with open(recipe["pictures"][0].replace(".png", ".csv")) as f:
        rows = list(csv.DictReader(f))
    assert [float(r["alpha"]) for r in rows] == [0, -2, -1, -0.5, 0.5, 1, 2]
    assert all(float(r["logratio_lo"]) <= float(r["logratio"]) <= float(r["logratio_hi"]) for r in rows)
    assert {r["kl"] == "0.0" for r in rows if r["alpha"] != "0.0"} == {False}
    assert "SMOKE" in recipe["tables"][0]["title"]


def test_a_reduced_run_has_only_the_sizes_the_answers_and_the_judge_that_were_asked_for(told, tiny, tmp_path):
    reduced = ("--arms", "act_single", "--strengths", "raw:1", "--answer-tokens", "4", "--limit", "2")
    asked = ("paper", "syc_qa", *reduced, "--n-topics", "12", "--workers", "1", "--out", str(tmp_path), "--json")
    server = Server()
    verdict = {"message": {"role": "assistant", "content": "GRADE: CORRECT"}, "finish_reason": "stop"}
    server.answer = lambda sent, at: {"index": at, **verdict}
    with server.running() as endpoint:
        code, out, _ = told(*asked, "--judge", f"{endpoint.url}#m")
    (recipe,) = json.loads(out)["recipes"]
    assert code == 0 and not recipe["failed"]
    with open(recipe["pictures"][0].replace(".png", ".csv")) as f:
        assert [float(r["alpha"]) for r in csv.DictReader(f)] == [0, -1, 1]
    answers = pd.concat(map(pd.read_parquet, tmp_path.glob("**/eval/syc-qa/*/rows.parquet")))
    assert set(answers["protocol"]) == {"syc-qa/2~w4@m"}
    assert server.requests and set(answers["y"]) == {1.0}
    assert all(len(tiny.tokenizer(text)["input_ids"]) <= 4 for text in answers["text"])


def test_the_claims_that_need_other_arms_are_undecided_and_say_so(again):
    _, result, _ = again
    claims = result["recipes"][0]["claims"]
    assert [c["says"] for c in claims] == ["undecided"] * 3
    assert claims[1]["why"] == "lr 0.0005 was not measured"


def test_the_page_of_a_recipe_asks_for_nothing_and_says_what_tiny_does_not_show(again):
    out, result, _ = again
    (page,) = result["pages"]
    read = refuse_what_a_page_may_not_have(Path(page).read_text(encoding="utf-8"))
    assert "Does the learning rate" in read.text
    assert "nothing about the paper's models" in read.text
    assert str(out) not in read.text
