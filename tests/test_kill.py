"""A study that is killed in the middle of any stage finishes when its command is given again, with the same bytes."""

import json
import os
import random
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

from forks import Child, command

RESULTS = (".safetensors", ".parquet", ".jsonl")
SMALL = [
    "--n-topics",
    "30",
    "--n-personas",
    "1",
    "--epochs",
    "4",
    "--rank",
    "4",
    "--lr",
    "4e-3",
    "--alphas=-1,1",
    "--patience",
    "9",
    "--limit",
    "6",
]


def eager() -> None:
    """Keep a checkpoint after every step."""
    from ws.train import checkpoint

    checkpoint.CHECKPOINT_SECONDS = 0.0


def start(out: Path) -> Child:
    return command("eval", "dilemmas", "--out", out, "--json", *SMALL, before=eager)


def finish(out: Path) -> dict[str, bytes]:
    """Run the command to its end; every result file's bytes."""
    with start(out) as done:
        text, _ = done.communicate(timeout=240)
        assert done.returncode == 0
    assert json.loads(text)["rows"]
    return {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*")) if p.suffix in RESULTS}


SIGNS = {
    "data": "data/*/*/.*.part",
    "train": "honesty/*/*/.train.*.part/resume/*.safetensors",
    "diff": "honesty/*/*/train/manifest.json",
    "eval": "honesty/*/*/eval/*/.*.part",
}
"""What lies in the output folder while a stage works."""


def kill_at(sign: str, out: Path) -> None:
    """Run the command until a file of this form is there, and not a moment longer."""
    with start(out) as victim:
        deadline = time.monotonic() + 120
        while not list(out.glob(sign)):
            assert victim.poll() is None, "it finished before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.002)
        victim.kill()


def test_killed_in_the_middle_of_every_stage_in_turn_it_ends_with_the_same_bytes(tmp_path):
    undisturbed = finish(tmp_path / "whole")
    out = tmp_path / "killed"
    for sign in SIGNS.values():
        kill_at(sign, out)
    assert not list(out.glob("honesty/*/*/eval/*/*/manifest.json"))
    again = finish(out)
    assert again.keys() == undisturbed.keys()
    assert [name for name, content in undisturbed.items() if again[name] != content] == []
    assert not list(out.rglob("*.part"))


def test_an_interrupted_command_says_how_to_go_on(tmp_path):
    with command("data", "--out", tmp_path, "--n-topics", 160, "--n-samples", 9) as victim:
        deadline = time.monotonic() + 120
        while not list(tmp_path.glob("data/*/*/.*.part")):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        victim.send_signal(signal.SIGINT)
        _, err = victim.communicate(timeout=120)
        assert victim.returncode == 130
    assert "the same command goes on" in err
    assert "Traceback" not in err


def killed_after(answers: int, plan, log: Path) -> None:
    """Make pairs in a process of its own, which is killed when it has kept so many answers; requests that enter are logged."""
    from ws.answer_store import AnswerStore
    from ws.slots import Slots
    from ws.study.stages import make_pairs

    if (child := os.fork()) == 0:
        add, enter, count = AnswerStore.add, Slots.enter, 0

        def dying(self, *args):
            nonlocal count
            add(self, *args)
            count += 1
            if count == answers:
                os.kill(os.getpid(), signal.SIGKILL)

        def logged(self, prompts, alphas):
            with open(log, "a") as f:
                f.write(f"{len(prompts)}\n")
            enter(self, prompts, alphas)

        AnswerStore.add, Slots.enter = dying, logged
        try:
            make_pairs(plan)
        finally:
            os._exit(0)
    os.waitpid(child, 0)


def test_pairs_killed_again_and_again_are_the_same_file_and_no_answer_is_written_twice_but_those_in_flight(
    tiny, tmp_path, monkeypatch
):
    from ws.behaviors import load_behavior
    from ws.data import default_data
    from ws.slots import slots_fit
    from ws.study.plan import Plan
    from ws.study.stages import make_pairs
    from ws.train import default_train

    seats, kills = 16, random.Random(0).sample(range(3, 40), 3)
    monkeypatch.setattr(sys.modules["ws.generate"], "batch_of", lambda model: seats)
    settings = replace(default_data(tiny), n_topics=24, n_personas=2)
    behavior = load_behavior("honesty", tiny=True)
    plans = [Plan(tiny, behavior, settings, default_train(tiny, "lora"), out=tmp_path / name) for name in "ab"]
    log = tmp_path / "log"
    assert slots_fit(tiny.model, 64)  # tried here once, and not in every process
    for answers in kills:
        killed_after(answers, plans[0], log)
        assert not list(tmp_path.glob("a/data/*/*/*/pairs.jsonl"))
    killed_after(-1, plans[0], log)
    files = [make_pairs(plan)[1].folder / "pairs.jsonl" for plan in plans]
    assert files[0].read_bytes() == files[1].read_bytes()
    begun = sum(map(int, log.read_text().split()))
    assert 96 < begun <= 96 + len(kills) * seats
