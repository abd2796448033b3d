"""Every task ends in one way, no task's end stops another, and dead workers are replaced, but not for ever."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from ws.engine import Task, check_engine, run, task_states
from ws.engine.places import places_of
from ws.engine.ray import Ray
from ws.engine.state import State, Writer
from ws.errors import Unsupported

HERE = Path(__file__).parent


@pytest.fixture(autouse=True, scope="module")
def _quick_workers():
    """Workers here are those of users: fresh interpreters, which import what they need."""


def task(name, call, given=None, needs=()):
    return Task(name, f"engine_toys:{call}", given or {}, needs)


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    """One run with every kind of end, on two workers."""
    folder = tmp_path_factory.mktemp("engine")
    events = []
    tasks = [
        task("double/one", "double", {"x": 1}),
        task("double/two", "double", {"x": 2}, needs=("double/one",)),
        task("refused", "refuse"),
        task("broken", "break_down"),
        task("warned", "warn"),
        task("unspeakable", "unspeakable"),
        task("dies once", "die", {"marks": str(folder / "once"), "times": 1}),
        task("dies always", "die", {"marks": str(folder / "always"), "times": 99}),
        task("in vain", "double", {"x": 3}, needs=("dies always",)),
        task("in vain too", "double", {"x": 3}, needs=("in vain",)),
    ]
    outcomes = run(tasks, folder=folder, workers=2, retries=1, tell=events.append)
    return outcomes, events, folder


def test_every_task_ends_and_one_failure_stops_only_what_needs_it(everything):
    outcomes, _, _ = everything
    assert {name: o.state for name, o in outcomes.items()} == {
        "double/one": "done",
        "double/two": "done",
        "refused": "failed",
        "broken": "failed",
        "warned": "done",
        "unspeakable": "failed",
        "dies once": "done",
        "dies always": "failed",
        "in vain": "skipped",
        "in vain too": "skipped",
    }
    assert outcomes["double/two"].value["twice"] == 4


def test_an_error_is_one_sentence_and_the_rest_is_in_the_log(everything):
    outcomes, _, _ = everything
    assert outcomes["refused"].error == "the number 3 is not allowed; take another"
    assert outcomes["broken"].error == "RuntimeError: something broke"
    log = outcomes["broken"].log.read_text()
    assert "a line on stdout" in log
    assert "Traceback" in log
    for name in ("in vain", "in vain too"):
        assert outcomes[name].error.startswith("dies always failed: its worker was killed")


def test_a_dead_worker_is_replaced_and_its_task_given_to_another_but_not_for_ever(everything):
    outcomes, events, folder = everything
    assert outcomes["dies once"].value == {"tries": 2}
    assert (folder / "always").read_text() == "xx"
    assert "SIGKILL" in outcomes["dies always"].error
    assert [e.task.name for e in events if e.kind == "again"].count("dies always") == 1


def test_what_a_task_warns_of_reaches_the_caller(everything):
    outcomes, _, _ = everything
    assert outcomes["warned"].warnings == ("this was made again",)


def test_a_worker_lives_longer_than_its_task_and_has_the_threads_it_was_given(everything):
    outcomes, _, _ = everything
    assert outcomes["double/one"].value["threads"] == "1"
    pids = {outcomes[n].value["pid"] for n in ("double/one", "double/two")}
    assert os.getpid() not in pids


def test_the_state_of_every_task_lies_in_a_file(everything):
    outcomes, _, folder = everything
    assert {name: s.state for name, s in task_states(folder).items()} == {n: o.state for n, o in outcomes.items()}


def test_the_number_of_threads_does_not_depend_on_the_number_of_workers():
    assert [places_of(n, threads=3, device="cpu")[0] for n in (1, 4)] == places_of(2, threads=3, device="cpu")
    assert len(places_of(None, threads=10**6, device="cpu")) == 1


def test_each_gpu_gets_a_worker_of_its_own(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    assert [p["CUDA_VISIBLE_DEVICES"] for p in places_of(None, threads=1)] == ["4", "7"]
    assert [p["CUDA_VISIBLE_DEVICES"] for p in places_of(3, threads=1)] == ["4", "7", "4"]
    assert "CUDA_VISIBLE_DEVICES" not in places_of(1, threads=1, device="cpu")[0]


def test_a_model_that_is_spread_over_all_gpus_has_one_worker_that_sees_them(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    (place,) = places_of(None, threads=1, spread=True)
    assert "CUDA_VISIBLE_DEVICES" not in place
    check_engine("local", workers=1, spread=True)
    with pytest.raises(ValueError, match="every device to one worker; leave out `workers`"):
        check_engine("local", workers=2, spread=True)


def node(cpus, gpus=0, alive=True):
    return {"Alive": alive, "Resources": {"CPU": cpus, **({"GPU": gpus} if gpus else {})}}


def asks(nodes, threads=1, **how):
    return Ray([], address="there:6379", retries=0, **how)._share(nodes, threads)


def test_gpus_are_asked_for_as_the_cluster_has_them_and_not_as_this_machine():
    assert asks([node(8)]) == 0
    assert asks([node(8), node(8, 4)]) == 1
    assert asks([node(8, 2), node(8, 4)], spread=True) == 4
    assert asks([node(8, 4)], device="cpu") == 0
    assert asks([node(8), node(8, 4, alive=False)]) == 0


@pytest.mark.parametrize(
    ("nodes", "how", "said"),
    [
        ([node(8), node(4)], {"threads": 16}, "has the 16 CPUs and 0 GPUs .* 8 CPUs and 0 GPUs; 4 CPUs .*`threads`"),
        ([node(8)], {"device": "cuda"}, "1 CPUs and 1 GPUs"),
        ([node(16), node(4, 1)], {"threads": 8}, "8 CPUs and 1 GPUs"),
        ([node(16, alive=False)], {}, "no node"),
    ],
)
def test_what_no_node_of_a_cluster_has_is_refused_and_not_waited_for(nodes, how, said):
    with pytest.raises(Unsupported, match=said):
        asks(nodes, **how)


def test_a_process_that_cuda_has_left_broken_gets_no_other_task(tmp_path):
    tasks = [
        task("before", "double", {"x": 1}),
        task("short", "run_short"),
        task("after short", "double", {"x": 1}),
        task("spoiled", "spoil"),
        task("after", "double", {"x": 1}),
        task("after that", "double", {"x": 1}),
    ]
    events = []
    found = run(tasks, folder=tmp_path, workers=1, retries=0, tell=events.append)
    assert {n: o.state for n, o in found.items() if not o.done} == {"short": "failed", "spoiled": "failed"}
    assert found["spoiled"].error == "the step failed"
    pids = {n: o.value["pid"] for n, o in found.items() if o.done}
    assert pids["before"] == pids["after short"]  # memory that ran out is there again
    assert pids["after short"] != pids["after"] == pids["after that"]
    assert not [e for e in events if e.kind == "again"]


def test_names_of_any_length_and_script_have_files_of_their_own(tmp_path):
    names = [f"cell//{'deep/' * 80}model/s{i}" for i in range(2)] + ["学" * 300, "学" * 300 + "习"]
    tasks = [task(n, "double", {"x": 1}) for n in names]
    found = run(tasks, folder=tmp_path, workers=1)
    assert all(o.done for o in found.values())
    assert set(task_states(tmp_path)) == set(names)


def test_files_of_an_earlier_run_that_vanish_meanwhile_are_no_error(tmp_path, monkeypatch):
    run([task("x", "double", {"x": 1})], folder=tmp_path, workers=1)
    real = Path.unlink

    def late(path, *args, **how):
        os.remove(path)  # by a worker that has not ended yet
        real(path, *args, **how)

    monkeypatch.setattr(Path, "unlink", late)
    run([], folder=tmp_path, workers=1)
    assert list((tmp_path / "tasks").iterdir()) == []


@pytest.mark.parametrize(
    ("tasks", "said"),
    [
        ([task("a", "double"), task("a", "double")], "same name"),
        ([task("a", "double", needs=("b",))], "no task of this run"),
        ([task("a", "double", needs=("b",)), task("b", "double", needs=("a",))], "in a circle"),
    ],
)
def test_tasks_that_cannot_all_be_done_are_refused_before_any_is_started(tmp_path, tasks, said):
    with pytest.raises(ValueError, match=said):
        run(tasks, folder=tmp_path)
    assert not (tmp_path / "logs").exists()


def test_an_engine_that_is_not_there_is_refused_in_one_sentence(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="local, ray"):
        run([], folder=tmp_path, engine="slurm")
    with pytest.raises(ValueError, match="`retries` must be at least 0"):
        run([], folder=tmp_path, retries=-1)
    with pytest.raises(ValueError, match="`engine=ray`"):
        run([], folder=tmp_path, address="auto")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(Unsupported, match=r"pip install -e '.\[ray\]'"):
        run([], folder=tmp_path, engine="ray")


INTERRUPTED = """
import sys
from pathlib import Path
from ws.engine import Task, run
folder = Path(sys.argv[1])
try:
    run([Task("sleep", "engine_toys:sleep", {"marks": str(folder / "marks")})], folder=folder, workers=1)
except KeyboardInterrupt:
    sys.exit(130)
"""


def sleeping(folder):
    """A run whose only worker sleeps, and the worker's process id."""

    def hears_ctrl_c():
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    env = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(HERE)])}
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, str(folder)], env=env, preexec_fn=hears_ctrl_c, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    while not (folder / "marks").is_file() or not (text := (folder / "marks").read_text()):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process, int(text)


def gone(pid, within):
    deadline = time.monotonic() + within
    while State("", "running", pid, os.uname().nodename, 0.0).alive:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_ctrl_c_interrupts_the_workers_and_waits_for_them(tmp_path):
    process, worker = sleeping(tmp_path)
    (state,) = task_states(tmp_path).values()
    assert (state.state, state.alive, dict(state.told)) == ("running", True, {"doing": "sleeping"})
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    assert (tmp_path / "marks").read_text() == "interrupted"
    assert gone(worker, 0)
    assert task_states(tmp_path)["sleep"].state == "stopped"


def test_workers_end_with_the_process_that_started_them(tmp_path):
    process, worker = sleeping(tmp_path)
    process.kill()
    process.wait()
    assert gone(worker, 10)
    (state,) = task_states(tmp_path).values()
    assert (state.state, state.alive) == ("running", False)  # what a second terminal then says


def test_a_clock_that_was_put_back_makes_no_negative_times(tmp_path, monkeypatch):
    Writer(tmp_path / "x.json", "x")
    state = State(**json.loads((tmp_path / "x.json").read_text()))
    monkeypatch.setattr("time.time", lambda: state.started - 3600)
    assert state.seconds == 0.0


def test_a_task_that_has_ended_took_as_long_as_it_took(tmp_path, monkeypatch):
    writer = Writer(tmp_path / "x.json", "x")
    start = writer.state.started
    monkeypatch.setattr("time.time", lambda: start + 60)
    assert writer.state.seconds == 60
    writer.change("done")
    monkeypatch.setattr("time.time", lambda: start + 3600)
    assert State(**json.loads((tmp_path / "x.json").read_text())).seconds == 60


def test_another_process_of_the_same_number_is_not_taken_for_the_one_that_wrote(tmp_path):
    Writer(tmp_path / "x.json", "x")
    state = State(**json.loads((tmp_path / "x.json").read_text()))
    assert state.alive
    if state.born is not None:  # a system that says when a process was started
        assert not replace(state, born=state.born - 1).alive
    assert replace(state, born=None).alive
