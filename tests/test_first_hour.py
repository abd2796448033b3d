"""What stood in a newcomer's way, each with what is said now."""

import json
import os
import shutil
import signal
import sys
import time
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from test_steer import lowrank

import ws
from ws.cli import main
from ws.direction import save
from ws.results.measured import evaluations_below
from ws.settings import value_of
from ws.version import how_to_add

ROOT = Path(__file__).parents[1]


FEW = [
    "--n-topics",
    30,
    "--n-samples",
    1,
    "--n-personas",
    1,
    "--epochs",
    1,
    "--rank",
    2,
    "--lr",
    4e-3,
    "--stop",
    "none",
]
"""The settings of `run`."""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A small run of honesty, measured on six held-out questions."""
    few = {"n_topics": 30, "n_samples": 1, "n_personas": 1, "epochs": 1, "rank": 2, "lr": [4e-3], "stop": "none"}
    folder = tmp_path_factory.mktemp("first")
    return ws.replicate("tiny", alphas=[-1, 1], evals=["pairs"], out=folder / "out", **few).folder


def test_a_run_that_was_moved_still_says_what_it_is_of(run, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(run, "moved/mine")
    code, out, _ = told("report", "moved/mine")
    assert code == 0 and "honesty: lora on tiny" in Path("moved/mine/report.html").read_text()
    assert "honesty" in told("table", "moved")[1]
    code, out, _ = told("explain", "moved/mine", "--what", "svd_align", "--evals", "none")
    assert code == 0, out
    monkeypatch.chdir("moved/mine")
    assert told("report", ".")[0] == 0


def test_a_study_of_a_few_units_says_so_and_leaves_nothing_that_passes_for_a_result(run, told, tmp_path):
    out = shutil.copytree(run.parents[2], tmp_path / "out")
    run = out / run.relative_to(run.parents[2])
    how = [*FEW, "--out", out, "--alphas=-1,1", "--samples", 0, "--draws", 0, "--no-subspace"]
    files = set(run.glob("*.*"))
    code, said, _ = told("replicate", *how, "--evals", "perplexity,pairs", "--limit", 2)
    assert code == 0 and "SMOKE: not all units" in said
    made = {p.name for p in set(run.glob("*.*")) - files}
    assert made == {"effect_-1_0_+1_limit2.png", "table_-1_0_+1_limit2.md", "replicate_-1_0_+1_limit2.json"}
    assert (run / "table_-1_0_+1_limit2.md").read_text().startswith("SMOKE")
    found = json.loads((run / "replicate_-1_0_+1_limit2.json").read_text())
    whole = json.loads((run / "replicate_-1_0_+1.json").read_text())
    (few, own), (every,) = ({r["eval"]: r["n"] for r in story["rows"]}.values() for story in (found, whole))
    assert found["smoke"] and few == 2 and own == every > 2  # a run's own questions are few anyway
    assert not whole["smoke"] and "SMOKE" not in (run / "table_-1_0_+1.md").read_text()
    card = ws.load_direction(run / "direction" / "direction.safetensors").card
    assert {e["metric"] for e in card["effects"]} == {"logratio_pairs"}  # of the whole run, and none of the few
    assert told("replicate", *how, "--limit", 0)[0] == 2


def test_a_study_that_lacks_its_questions_says_so_before_anything_is_made_and_takes_them_from_a_file(told, tmp_path):
    out, mine = tmp_path / "out", tmp_path / "mine.jsonl"
    how = [*FEW, "--out", out, "--alphas=-1,1", "--samples", 0, "--draws", 0, "--no-subspace"]
    asked = [*how, "--evals", "perplexity", "--data", f"perplexity={mine}"]
    code, _, err = told("replicate", *asked)
    assert code == 2 and "mine.jsonl" in err
    assert not out.exists()
    mine.write_text('{"prompt": "What color is snow?", "answer": "Snow is white."}\n')
    assert told("replicate", *asked)[0] == 0
    (run,) = out.glob("honesty/lora/*")
    (found,) = run.glob("replicate*.json")
    assert {r["n"] for r in json.loads(found.read_text())["rows"]} == {1}
    for data, sentence in {"airisk=x.csv": "not among the evaluations perplexity", "x": "NAME=FILE"}.items():
        code, _, err = told("replicate", *how, "--evals", "perplexity", "--data", data)
        assert code == 2 and sentence in err


def test_a_study_whose_questions_this_model_cannot_be_asked_makes_nothing(told, tmp_path, monkeypatch):
    monkeypatch.setattr("ws.eval.questions.thinks", lambda tokenizer: False)
    code, _, err = told("replicate", *FEW, "--out", tmp_path / "out", "--evals", "pairs,dilemmas@dd-cot/1")
    assert code == 2 and "use dd-cot/plain1" in err
    assert not (tmp_path / "out").exists()


def test_a_run_of_the_same_name_is_told_before_hours_go_into_another_one(run, told, tmp_path):
    out = shutil.copytree(run.parents[2], tmp_path / "out")
    asked = ["eval", "perplexity", *FEW, "--out", out, "--limit", 1, "--alphas=-1,1"]
    code, _, err = told(*asked)
    assert code == 0 and "other options" not in err
    code, _, err = told(*asked, "--rank", 3)
    assert code == 0 and f"{run.name} was made with other options" in err
    assert told(*asked, "--rank", 3)[2].count("other options") == 0  # it is there now


def test_a_folder_that_goes_while_a_table_looks_for_rows_is_passed_over(run, monkeypatch):
    scan, below = os.scandir, next(run.glob("eval/pairs/[!.]*"))

    def vanishing(place):
        if Path(place).name == "train":
            raise FileNotFoundError(2, "No such file or directory", str(place))
        return scan(place)

    monkeypatch.setattr(os, "scandir", vanishing)
    assert evaluations_below(run)[0] == [below]


def test_a_terminal_of_no_columns_is_shown_a_table_too(run, told, monkeypatch):
    whole = told("table", run)[1]
    monkeypatch.setenv("COLUMNS", "0")
    assert told("table", run)[1] == whole != ""


def test_the_base_among_the_answers_of_a_card_has_no_sign(told, tiny, tmp_path):
    direction = lowrank(tiny, size=0.05)
    answers = [{"question": "Hi?", "answers": [{"alpha": a, "text": "Yes."} for a in (-1.0, 0.0)]}]
    save(replace(direction, card={"answers": answers}), tmp_path / "direction.safetensors")
    _, out, _ = told("inspect", tmp_path)
    assert "      -1   Yes." in out and "       0   Yes." in out


class Falling:
    """Something whose end is interrupted."""

    def __init__(self, error):
        self.error = error

    def __del__(self):
        raise self.error


def test_ctrl_c_that_falls_into_a_destructor_still_ends_a_command_and_other_errors_there_do_not(told, monkeypatch):
    others = []
    monkeypatch.setattr(sys, "unraisablehook", lambda lost: others.append(lost.exc_type))

    def interrupted(error):
        Falling(error)
        time.sleep(0.5)
        return []

    before = signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a shell that runs tests beside itself ignores it
    try:
        for error, code in ((KeyboardInterrupt(), 130), (ValueError(), 0)):
            monkeypatch.setattr("ws.cli.runs.runs_below", lambda out: interrupted(error))  # noqa: B023
            assert told("runs")[0] == code
    finally:
        signal.signal(signal.SIGINT, before)
    assert others == [ValueError]


@pytest.mark.parametrize(
    "words",
    [["runs", "--seed", "x"], ["show", "nothing"], ["runs", "--nonsense"], ["generate", "a", "b", *["c"] * 999]],
)
def test_an_error_is_an_object_for_a_program_and_one_short_sentence_for_people(told, tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    code, out, err = told(*words, "--json")
    assert code == 2 and err == f"error: {json.loads(out)['error']}\n" and len(err) < 500
    assert told(*words)[1:] == ("", err)


def test_a_chat_whose_input_is_closed_ends_and_a_folder_that_is_gone_is_said(told, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    assert told("chat") == (0, "", "")
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert told("runs") == (2, "", "error: the folder that you are in is gone; cd into another one\n")
    assert told("--help")[0] == 0


def test_help_is_a_word_too(capsys):
    texts = []
    for words in (["help"], ["--help"], ["help", "runs"], ["runs", "--help"]):
        assert main(words) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1] != texts[2] == texts[3]
    assert main(["help", "evl"]) == 2
    assert capsys.readouterr().err == "error: there is no verb 'evl'; did you mean eval?\n"


def test_a_number_copied_from_a_page_is_understood_and_a_slip_is_not():
    assert value_of(tuple[float, ...], "\N{MINUS SIGN}1,0,1", "--alphas") == (-1.0, 0.0, 1.0)
    assert value_of(int, "100000", "--limit") == 100_000
    for kind, text in ((float, "1_0"), (int, "1_0")):
        with pytest.raises(ValueError, match="number, got '1_0'"):
            value_of(kind, text, "--alphas")


def test_what_is_shown_of_a_value_that_is_wrong_is_short(told, tmp_path):
    rows = "".join(f"{name}: &{name} [{', '.join(['*' + of] * 9)}]\n" for of, name in zip("abcdef", "bcdefg"))
    (tmp_path / "long.yaml").write_text(f"a: &a [x, x]\n{rows}name: *g\n")
    (tmp_path / "empty.yaml").write_text("")
    code, _, err = told("data", "--preview", "--behavior", tmp_path / "long.yaml")
    assert (code, err.count("\n")) == (2, 1) and len(err) < 1500
    assert "it is empty." in told("data", "--preview", "--behavior", tmp_path / "empty.yaml")[2]
    assert len(told("runs", "--seed", "7" * 3000 + "x")[2]) < 400


def test_an_extra_that_is_missing_is_named_as_everybody_with_a_clone_can_add_it(told, monkeypatch):
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    code, _, err = told("eval", "lm-eval", "--tasks", "arc_easy")
    assert (code, err.count("\n")) == (2, 1)
    assert how_to_add("lmeval") in err and "pip install -e '.[lmeval]'" in err
    assert {"lmeval", "ray"} <= extras.keys()
    texts = [*ROOT.glob("src/**/*.py"), ROOT / "README.md", *ROOT.glob("docs/*.md")]
    assert not [t for t in texts if t.name != "log.md" and "'weight-steering[" in t.read_text()]
