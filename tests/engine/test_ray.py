"""The same promises on a Ray cluster of this machine; skipped where Ray, an extra, is not installed."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from results import differing, results_of

from ws.engine import Task, run, states

pytest.importorskip("ray", reason="ray is an extra")
SMALL = [
    "--adapter", "bias", "--evals", "perplexity,pairs", "--n-topics", "24", "--n-samples", "1", "--n-personas", "1",
    "--epochs", "2", "--alphas=-1,1",
]  # fmt: skip


def task(name, call, given=None, needs=()):
    return Task(name, f"engine_toys:{call}", given or {}, needs)


def test_tasks_end_as_they_do_locally(tmp_path, capsys):
    tasks = [
        task("one", "double", {"x": 1}),
        task("two", "double", {"x": 2}, needs=("one",)),
        task("refused", "refuse"),
        task("in vain", "double", {"x": 3}, needs=("refused",)),
        task("warned", "warn"),
        task("dies once", "die", {"marks": str(tmp_path / "once"), "times": 1}),
        task("dies always", "die", {"marks": str(tmp_path / "always"), "times": 99}),
    ]
    events = []
    found = run(tasks, folder=tmp_path / "state", engine="ray", workers=1, retries=1, tell=events.append)
    assert {n: o.state for n, o in found.items()} == {
        "one": "done", "two": "done", "refused": "failed", "in vain": "skipped", "warned": "done", "dies once": "done",
        "dies always": "failed",
    }  # fmt: skip
    assert found["two"].value["twice"] == 4
    assert found["two"].value["threads"] == "1"
    assert found["refused"].error == "the number 3 is not allowed; take another"
    assert found["warned"].warnings == ("this was made again",)
    assert found["dies once"].value == {"tries": 2}
    assert found["dies always"].error == "its worker died, 2 times"
    assert {n: s.state for n, s in states(tmp_path / "state").items()} == {n: o.state for n, o in found.items()}
    assert capsys.readouterr().out == ""  # where results go, Ray's own pages do not


def test_a_sweep_on_ray_gives_the_same_files_although_a_worker_was_killed(tmp_path):
    ended = {}
    for engine in ("local", "ray"):
        command = [sys.executable, "-m", "ws", "sweep", *SMALL, "--out", str(tmp_path / engine), "--engine", engine]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if engine == "ray":
            deadline = time.monotonic() + 120
            while not list((tmp_path / engine).glob("honesty/*/*/.train.*.part")):
                assert time.monotonic() < deadline
                time.sleep(0.01)
            (state,) = (tmp_path / engine).glob("sweep/*/tasks/cell*.json")
            os.kill(json.loads(state.read_text())["pid"], signal.SIGKILL)
        _, logged = process.communicate(timeout=200)
        assert process.returncode == 0, logged
        ended[engine] = results_of(tmp_path / engine)
    assert differing(ended["local"], ended["ray"]) == []
