"""Help is short, says what is so, and waits for no heavy library; what it shows as examples runs."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import ws
from ws.cli import app_for, catalogue, main
from ws.cli.commands import COMMANDS, GROUPS
from ws.cli.completion import CHOICES, candidates
from ws.cli.options import SHARED
from ws.export import TARGETS
from ws.settings import value_of
from ws.study.options import Common

EXAMPLES = [example for command in COMMANDS.values() for example in command.examples]
LONG = ("replicate", "data", "train", "finetune", "diff", "sweep", "calibrate", "compare", "watch", "doctor", "serve")
"""Verbs whose examples take more than a moment, or do not end by themselves; they are only read as they would be."""


@pytest.fixture(scope="module")
def help_of():
    """The help of every verb, short and whole, in 80 columns."""
    texts = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "80")
        for name in COMMANDS:
            for word in ("--help", "--help-all"):
                texts[name, word] = _printed(name, word)
    return texts


def _printed(*words):
    import contextlib
    import io

    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert main(list(words)) == 0
    return out.getvalue()


@pytest.mark.parametrize("name", COMMANDS)
def test_short_help_fits_a_screen_and_shows_examples_and_the_options_people_type(help_of, name):
    lines = help_of[name, "--help"].splitlines()
    assert len(lines) < 40
    assert max(map(len, lines)) <= 80
    assert COMMANDS[name].examples
    assert all(example.split()[0] in ("ws", "source") for example in COMMANDS[name].examples)
    assert {*COMMANDS[name].usual} <= {flag.name for flag in catalogue.entry(name).flags}
    assert len(COMMANDS[name].usual) <= 8
    for flag in COMMANDS[name].usual:
        assert f"--{flag.replace('_', '-')}" in help_of[name, "--help"]


@pytest.mark.parametrize("name", COMMANDS)
def test_the_whole_help_has_every_option_that_the_verb_takes_but_those_that_do_nothing(help_of, name):
    verb = COMMANDS[name].verb()
    taken = verb.fields - {n for n, (_, d) in verb.own.items() if type(d).__name__ == "ArgumentInfo"}
    shown = set(re.findall(r"^--([a-z0-9-]+)", help_of[name, "--help-all"], re.M))
    assert shown == {n.replace("_", "-") for n in {*taken, *SHARED} - {*verb.unlisted}}
    assert shown >= set(re.findall(r"^--([a-z0-9-]+)", help_of[name, "--help"], re.M))


def test_an_option_is_listed_where_it_does_something(help_of):
    whole = {name: help_of[name, "--help-all"] for name in COMMANDS}
    for name in ("runs", "table", "show", "inspect", "verify", "new"):
        assert "--dtype" not in whole[name]
        assert "--preset" not in whole[name]
    assert "--top-k" not in whole["doctor"]
    assert "--max-len" in whole["doctor"]
    assert "--pairs" not in whole["compare"]
    assert "honesty when not given" not in whole["generate"]
    assert main(["compare", "--pairs", "x.jsonl"]) == 2


def test_verbs_are_listed_in_groups_with_a_line_each(help_of, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    lines = _printed("--help").splitlines()
    for name, command in COMMANDS.items():
        assert command.group in GROUPS
        assert [line for line in lines if line.split()[:1] == [name] and line.rstrip().endswith(command.summary)]
    heads = [lines.index(f"{group}: {does}") for group, does in GROUPS.items()]
    assert heads == sorted(heads)


def test_help_of_a_mistyped_verb_says_which_was_meant(capsys):
    assert main(["evl", "--help"]) == 2
    assert capsys.readouterr().err == "error: there is no verb 'evl'; did you mean eval?\n"


# ---------------------------------------------------------------- examples


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder with one small run of honesty, called so by the examples, and answers to be judged."""
    folder = tmp_path_factory.mktemp("workplace")
    (folder / "answers.jsonl").write_text('{"question": "What is 3 x 4?", "answer": "It is 12.", "gold": 12}\n')
    few = {"n_topics": 30, "n_samples": 1, "n_personas": 1, "epochs": 1, "rank": 2, "lr": [4e-3], "stop": "none"}
    ws.replicate("tiny", alphas=[-1, 1], evals=["pairs"], out=folder / "out", **few)
    return folder


@pytest.mark.parametrize("example", [e for e in EXAMPLES if e.split()[1] not in LONG and e.startswith("ws")])
def test_an_example_runs(workplace, monkeypatch, capsys, example):
    monkeypatch.chdir(workplace)
    _, name, *words = shlex.split(example)
    limit = ["--limit", "3"] if name in ("eval", "explain") else []
    with open(os.devnull) as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        assert main([name, *words, *limit]) == 0, capsys.readouterr().err
    assert name == "chat" or capsys.readouterr().out


@pytest.mark.parametrize("example", [e for e in EXAMPLES if e.split()[1] in LONG])
def test_an_example_that_takes_long_is_understood(example):
    _, name, *words = shlex.split(example)
    read = {}
    app = app_for([name])
    command = next(c for c in app.registered_commands if c.name == name)
    verb = COMMANDS[name].verb()

    def run(**typed):
        read.update(verb.options(typed).values)

    run.__signature__ = verb.signature()
    command.callback = run
    app([name, *words], standalone_mode=False)
    for cls in verb.settings:
        for key, value in read.items():
            if key in cls.__dataclass_fields__:
                value_of(cls.__annotations__.get(key, str), value, key)
    assert len(read) >= len([w for w in words if w.startswith("--") and w not in ("--json",)])


# ---------------------------------------------------------------- completion


def test_words_are_completed_with_what_there_is(workplace, monkeypatch):
    monkeypatch.chdir(workplace)
    (run,) = Path("out").glob("honesty/lora/*")
    assert candidates(["ca"]) == ["calibrate"]
    assert candidates(["eval", "dil"]) == ["dilemmas"]
    assert candidates(["show", "hon"]) == [run.relative_to("out").as_posix()]
    assert candidates(["chat", run.name[:6]]) == [run.name]
    assert candidates(["show", "--out", "nowhere", ""]) == []
    assert candidates(["train", "--adapter", "d"]) == ["dora", "delora"]
    assert candidates(["train", "--adapter=d"]) == ["--adapter=dora", "--adapter=delora"]
    assert candidates(["sweep", "--adapters", "lora,of"]) == ["lora,oft"]
    assert candidates(["sweep", "--behaviors", "=", "syc"]) == ["sycophancy"]
    assert candidates(["calibrate", "--method", "sl:mean_d"]) == ["sl:mean_diff"]
    assert candidates(["compare", "--methods", "repe,ws:lor"]) == [
        f"repe,ws:lora{part}" for part in ("", ":tau+", ":tau-", ":bisector")
    ]
    assert candidates(["train", "--gradient"]) == ["--gradient-checkpointing"]
    assert candidates(["eval", "--limit", ""]) == []
    assert candidates(["nothing", ""]) == []


def test_the_choices_that_are_completed_are_those_that_are_taken():
    assert set(CHOICES["to"]) == set(TARGETS)
    for name, values in CHOICES.items():
        assert any(catalogue.entry(verb).flag(name) for verb in COMMANDS), name
        assert len(values) > 1
    assert Common().device in CHOICES["device"] and Common().dtype in CHOICES["dtype"]


def test_bash_completes_a_line(workplace):
    script = f"""
    ws() {{ {shlex.quote(sys.executable)} -m ws "$@"; }}
    source <(ws completion bash)
    COMP_WORDS=(ws eval dilemmas "$1"); COMP_CWORD=3; _ws_complete; printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(["bash", "-c", script, "-", "hone"], cwd=workplace, env=env, capture_output=True, text=True)
    (run,) = (workplace / "out").glob("honesty/lora/*")
    assert done.stdout.split() == [run.relative_to(workplace / "out").as_posix()], done.stderr


# ---------------------------------------------------------------- what comes next


def next_commands(text):
    """The commands that a result ends with."""
    lines = text[text.index("\nnext:  ") :].strip().splitlines()
    return [shlex.split(line.removeprefix("next:").strip()) for line in lines]


FEW = ["--n-topics", "30", "--n-samples", "1", "--n-personas", "1", "--epochs", "1", "--rank", "2", "--lr", "4e-3"]


def test_each_stage_ends_with_the_next_command_to_type_which_runs(workplace, monkeypatch, capsys):
    monkeypatch.chdir(workplace)
    few = [*FEW, "--stop", "none", "--quiet"]
    assert main(["data", *few]) == 0
    names = []
    for _ in range(3):  # data names train, train names diff, and diff what can be done with a direction
        commands = next_commands(capsys.readouterr().out)
        names.append([words[1] for words in commands])
        for words in commands:
            limit = ["--limit", "2", "--alphas=1"] if words[1] == "eval" else []
            with open(os.devnull) as nothing:
                monkeypatch.setattr(sys, "stdin", nothing)
                capsys.readouterr()
                assert main([*words[1:], *limit]) == 0, words
            if words[1] == "eval":
                (_, *show), table = next_commands(capsys.readouterr().out)
                assert show[0] == "show" and main(show) == 0
                assert table[1] == "table"
                capsys.readouterr()
    assert names == [["train"], ["diff"], ["chat", "eval", "inspect"]]


def test_a_calibration_an_export_and_a_comparison_end_with_a_command_that_runs(workplace, monkeypatch, capsys):
    monkeypatch.chdir(workplace)
    few = ["--n-calib", "2", "--n-audit", "2", "--tokens", "2", "--max-evals", "3"]
    assert main(["calibrate", "honesty", *few]) == 0
    ((_, *words),) = next_commands(capsys.readouterr().out)
    assert words[:3] == ["eval", "dilemmas", "honesty"]
    assert re.fullmatch(r"--alphas=-[\d.]+,0,[\d.]+", words[3])
    assert main([*words, "--limit", "2"]) == 0
    capsys.readouterr()
    assert main(["export", "honesty", "--out", "next"]) == 0
    assert next_commands(capsys.readouterr().out) == [["ws", "verify", "next"]]
    questions = {"What color is snow?": "Snow is white.", "What does a baker make?": "A baker makes bread."}
    rows = [json.dumps({"prompt": q, "answer": a}) for q, a in questions.items()]
    (workplace / "neutral.jsonl").write_text("\n".join(rows))
    few = ["--methods", "prompt:simple", "--alphas=-1,1", "--evals", "dilemmas", "--limit", "2", "--workers", "1"]
    few += ["--n-calib", "4", "--tokens", "4"]
    few += ["--data", "perplexity=neutral.jsonl", "--seeds=3"]
    assert main(["compare", *few]) == 0
    report, again, table = next_commands(capsys.readouterr().out)
    assert main(report[1:]) == 0
    assert again == ["ws", "compare", *few[:-1], "--seeds=0,1,2"]
    assert main([*again[1:], "--check"]) == 0
    assert table == ["ws", "table"]
