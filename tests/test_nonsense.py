"""Everything is checked before anything is done: every verb, with every flag set to nonsense.

The flags and their types are those of the verbs themselves, so that a new one is tried too. In all these commands no model
is loaded, no process is started and nothing is written; each ends in exit code 2 and one sentence.
"""

import time
import typing
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
import typer
from typer.models import OptionInfo

import ws
from ws.cli import app_for, main
from ws.cli.commands import COMMANDS
from ws.cli.fields import flag_of
from ws.cli.options import Verb
from ws.data import refuse_topics
from ws.direction.forms import LowRank
from ws.settings import plain_type

WORDS = {
    "eval": ["perplexity", "--direction", "DIRECTION"],
    "generate": ["--prompt", "Hi", "--direction", "DIRECTION"],
    "finetune": ["--data", "DATA"],
    "calibrate": ["--direction", "DIRECTION"],
    "compare": ["--methods", "repe"],
    "paper": ["lr_sweep"],
    "show": ["RUN"],
    "inspect": ["DIRECTION"],
    "export": ["DIRECTION", "--alpha", "1"],
    "verify": ["EXPORT"],
}
"""What a verb needs besides the flag that is tried."""
INSTEAD = {
    ("eval", "run"): "--direction",
    ("eval", "method"): "--direction",
    ("calibrate", "method"): "--direction",
    ("export", "alphas"): "--alpha",
}
"""What a flag takes the place of."""
FREE = {
    ("generate", "prompt"),
    ("generate", "system"),
    ("chat", "system"),
    ("chat", "out"),
    ("finetune", "name"),
    ("sweep", "name"),
    ("sweep", "address"),
    *((verb, name) for verb in COMMANDS for name in ("generate_model", "targets")),
    *(("doctor", name) for name in ("model", "onto", "out", "device", "behavior", "pairs")),
    *(("inspect", name) for name in ("behavior", "pairs", "out")),
    *(("runs", name) for name in ("behavior", "adapter", "model")),
}
"""Texts that mean something to somebody: any question does, a server and a model know their own names, `ws doctor` says
what is wrong with them, and some verbs do not look at them."""
SECONDS = 5
"""Processor time of a refusal, at most."""
SIGNED = {"alpha", "alphas"}
WRONG = {int: ("x", "1.5", "nan", ""), float: ("x", "nan", "-inf", "")}
"""Not of the type; one is tried for each flag, in turn."""
OUTSIDE = {int: ("-7", str(2**40)), float: ("-7", "1e300")}


@pytest.fixture(scope="module")
def place(tiny, tmp_path_factory) -> Path:
    """A folder with a direction, and with files and folders that are not what is asked for."""
    folder = tmp_path_factory.mktemp("nonsense")
    g = torch.Generator().manual_seed(0)
    name = next(iter(tiny.linears))
    out, into = tiny.weight(name).shape
    forms = {name: (LowRank(torch.randn(out, 2, generator=g), torch.randn(2, into, generator=g)),)}
    ws.save_direction(ws.Direction(forms, {"base": tiny.described()}), folder / "direction.safetensors")
    (folder / "data.jsonl").write_text('{"prompt": "What is it?", "response": "It is bread."}\n')
    (folder / "file.txt").write_text("text")
    (folder / "folder").mkdir()
    (folder / "folder" / "file.txt").write_text("text")
    return folder


@cache
def command(verb: str) -> Any:
    """The command line of one verb, built once: typer takes longer for it than the verb for its refusal."""
    return typer.main.get_command(app_for([verb]))


@pytest.fixture(autouse=True)
def nothing_is_done(monkeypatch):
    """Loading a model, starting a worker or a process, and examining this machine are no part of a refusal."""

    def refuse(*_: object, **__: object):
        raise AssertionError("something was done before everything was checked")

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", refuse)
    monkeypatch.setattr("ws.cli.app_for", lambda words: command(words[0]))
    monkeypatch.setattr("ws.engine.run", refuse)
    monkeypatch.setattr("ws.cli.train.start_processes", refuse)
    monkeypatch.setattr("ws.cli.doctor.examine", refuse)


def flags_of(verb: Verb) -> dict[str, Any]:
    """The type of every flag of a verb but those that are on or off, which nothing can be wrong with."""
    hints = {name: hint for cls in verb.settings for name, hint in typing.get_type_hints(cls).items()}
    known = {f.name: hints[f.name] for cls in verb.settings for f in fields(cls)}
    known |= {name: hint for name, (hint, declared) in verb.own.items() if isinstance(declared, OptionInfo)}
    return {name: hint for name, hint in sorted(known.items()) if plain_type(hint)[0] is not bool}


def cases(called: str, verb: Verb, place: Path) -> Iterator[tuple[str, str]]:
    """Every flag of a verb with nonsense of several kinds for its type: (field, value)."""
    for turn, (name, hint) in enumerate(flags_of(verb).items()):
        kind, many = plain_type(hint)
        if kind is str:
            texts = ("no such thing", str(place / "folder"), "", str(place / "file.txt" / "below"))
            if (called, name) in FREE:
                texts = ()
            elif name == "out":
                texts = ("", str(place / "file.txt"), str(place / "file.txt" / "below"))
            elif many:
                texts = ("no such thing",)
        else:
            outside = OUTSIDE[kind][name in SIGNED :]
            texts = (WRONG[kind][turn // 2 % (3 if many else 4)], outside[turn % len(outside)])
        # every second one, so that each kind is tried on many flags, and the whole in seconds
        yield from ((name, text) for text in (texts[turn % 2 :: 2] if len(texts) > 2 else texts))


def words(verb: str, name: str, value: str, place: Path) -> list[str]:
    """The command that sets a flag to a value, with what else the verb needs."""
    needed = list(WORDS.get(verb, ()))
    for flag in {flag_of(name), INSTEAD.get((verb, name))} & set(needed):
        at = needed.index(flag)
        del needed[at : at + 2]
    stand = {
        "DATA": str(place / "data.jsonl"),
        "DIRECTION": str(place / "direction.safetensors"),
        "EXPORT": str(place),
        "RUN": "a-run",
    }
    needed = [stand.get(w, w) for w in needed]
    out = [] if name == "out" or "out" not in COMMANDS[verb].verb().fields else ["--out", str(place / "new")]
    return [verb, *needed, *out, f"{flag_of(name)}={value}"]


def listing(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


def _no_model(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a model was opened or loaded")

    for module, name in (("ws.study.planning", "load_lazily"), ("ws.diff.named", "open_checkpoint")):
        monkeypatch.setattr(import_module(module), name, refuse)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("replicate", "--layers", "99"), "names layer 99, but this model has layers 0 to 5"),
        (("data", "--n-topics", "100000"), "--n-topics is 100000, and honesty has "),
        (
            ("diff", "tiny", "no/such/folder.safetensors", "--out", "d.safetensors"),
            "there is no file no/such/folder.safetensors",
        ),
        (("diff", "tiny", "./nowhere", "--out", "d.safetensors"), "no model folder at ./nowhere"),
        (("diff", "tiny+./nowhere", "tiny", "--model", "./here", "--out", "d.safetensors"), "./here"),
    ],
)
def test_what_a_model_and_a_behavior_cannot_have_is_refused_before_one_is_loaded(
    told, monkeypatch, tmp_path, words, says
):
    monkeypatch.chdir(tmp_path)
    _no_model(monkeypatch)
    code, out, err = told(*words)
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert says in err


def test_as_many_questions_as_there_are_may_be_asked_and_no_more(tiny):
    behavior = ws.load_behavior("honesty", tiny=True)
    most = len(behavior.train)
    refuse_topics(behavior, most)
    with pytest.raises(ValueError, match=f"`n_topics` is {most + 1}, and honesty has {most} questions"):
        ws.data(tiny, "honesty", n_topics=most + 1)


@pytest.mark.parametrize("verb", COMMANDS)
def test_a_flag_set_to_nonsense_is_one_sentence_before_anything_is_done(verb, place, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    before, wrong, n = listing(place), [], 0
    for name, value in cases(verb, COMMANDS[verb].verb(), place):
        typed, n = words(verb, name, value, place), n + 1
        start = time.process_time()
        try:
            code: object = main(typed)
        except Exception as e:
            code = f"{type(e).__name__}: {e}"
        seconds = time.process_time() - start
        out, err = capfd.readouterr()
        said = err.splitlines()
        if code != 2 or out or len(said) != 1 or not said[0].startswith("error: "):
            wrong.append(f"{' '.join(typed)!r}: {code}, {out[:200]!r}, {err[-300:]!r}")
        if seconds > SECONDS:
            wrong.append(f"{' '.join(typed)!r} took {seconds:.1f} s")
        if listing(place) != before or listing(tmp_path):
            wrong.append(f"{' '.join(typed)!r} wrote {set(listing(place)) - set(before) or listing(tmp_path)}")
            break
    assert n or not flags_of(COMMANDS[verb].verb()), "no flag was tried"
    assert not wrong, "\n".join([f"{len(wrong)} of {n}:", *wrong])
