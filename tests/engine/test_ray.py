"""The same promises on a Ray cluster of this machine; skipped where Ray, an extra, is not installed."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from results import differing, results_of

from ws.engine import Task, run, task_states
from ws.errors import Unsupported

pytest.importorskip("ray", reason="ray is an extra")
SMALL = [
    "--adapter", "ia3", "--evals", "perplexity,pairs", "--n-topics", "48", "--n-samples", "1", "--n-personas", "1",
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
    assert {n: s.state for n, s in task_states(tmp_path / "state").items()} == {n: o.state for n, o in found.items()}
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
    assert sum(n.startswith("sweep/") for n in ended["ray"]) == 3


@pytest.fixture
def cluster():
    """Starts a cluster that this process is not connected to."""
    from ray.cluster_utils import Cluster

    made = []

    def start(**head):
        made.append(Cluster(initialize_head=True, head_node_args={"include_dashboard": False, **head}))
        return made[-1].address

    yield start
    for one in made:
        one.shutdown()


NO_MEMORY = {"memory_usage_threshold": 0.001, "memory_monitor_refresh_ms": 100}


def test_a_task_that_memory_runs_out_for_is_begun_a_few_times_and_not_for_ever(tmp_path, monkeypatch):
    for name, value in NO_MEMORY.items():
        monkeypatch.setenv(f"RAY_{name}", str(value))
    events = []
    hog = task("hog", "hog", {"marks": str(tmp_path / "marks")})
    found = run([hog], folder=tmp_path / "state", engine="ray", workers=1, retries=1, tell=events.append)
    assert [e.kind for e in events].count("again") == 1
    assert (found["hog"].state, found["hog"].error) == ("failed", "its worker died, 2 times")


def test_on_a_cluster_that_runs_already_it_is_not_begun_for_ever_either(tmp_path, cluster):
    at = cluster(num_cpus=1, _system_config=NO_MEMORY)
    hog = task("hog", "hog", {"marks": str(tmp_path / "marks")})
    found = run([hog], folder=tmp_path / "state", engine="ray", address=at, retries=1)
    assert (found["hog"].state, found["hog"].error) == ("failed", "its worker died, 2 times")


def test_a_running_cluster_gives_its_own_gpus_and_a_process_for_each_task(tmp_path, cluster, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")  # numbers are all that is needed of them
    at = cluster(num_cpus=2, num_gpus=2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    tasks = [task(n, "visible") for n in ("one", "two")]
    found = run(tasks, folder=tmp_path / "each", engine="ray", address=at, workers=1)
    assert all(o.value["gpus"] in ("0", "1") for o in found.values())
    assert len({o.value["pid"] for o in found.values()}) == 2
    whole = run(tasks, folder=tmp_path / "all", engine="ray", address=at, spread=True)
    assert {frozenset(o.value["gpus"].split(",")) for o in whole.values()} == {frozenset("01")}
    with pytest.raises(Unsupported, match="no node of the Ray cluster has the 3 CPUs and 1 GPUs"):
        run(tasks, folder=tmp_path / "none", engine="ray", address=at, threads=3)
