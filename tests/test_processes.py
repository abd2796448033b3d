"""Several processes train as one: the same losses and tensors, weights spread where asked, and one end for all."""

import json
import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

import forks
import pytest
import several
import torch
from forks import Child, ran
from safetensors.torch import load_file
from test_train import PAIRS

import ws
from ws.cli import launch, main
from ws.errors import ProcessLost
from ws.pairs import save_pairs
from ws.train.processes import ALONE, Group, join

CLOSE = dict(rtol=2e-3, atol=2e-5)  # float32, sums in another order, some steps of AdamW after it


def start_several(out: Path, how: str, n: int = 2) -> list[Child]:
    """`n` processes with the environment that torchrun gives."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    shared = {"WORLD_SIZE": n, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": 1}
    own = [{**shared, "RANK": rank, "LOCAL_RANK": rank} for rank in range(n)]
    return [Child(several.run, out, how == "shard", env=e) for e in own]


@pytest.fixture(scope="module", params=["whole", "shard"])
def told(request, tmp_path_factory):
    """(how, what each of two processes saw, the folder with their tensors)."""
    out = tmp_path_factory.mktemp(request.param)
    running = start_several(out, request.param)
    for p in running:
        _, err = p.communicate(timeout=240)
        assert p.returncode == 0, err
    return request.param, [json.loads((out / f"{r}.json").read_text()) for r in range(2)], out


@pytest.fixture(scope="module")
def alone(tiny):
    """The same trainings in one process."""
    return {name: ws.train(tiny, PAIRS, settings) for name, settings in several.SETTINGS.items()}


@pytest.mark.parametrize("name", several.FAMILIES)
def test_two_processes_go_the_way_of_one(told, alone, name):
    how, seen, out = told
    if how == "whole" and name not in several.FAMILIES[:2]:
        return  # nothing of a family matters where weights stay whole
    mine = alone[name].report["tried"][0]["history"]
    for process in seen:
        theirs = process["histories"][name]
        assert [h["step"] for h in theirs] == [h["step"] for h in mine]
        for a, b in zip(mine, theirs):
            assert b == pytest.approx(a, rel=1e-4, abs=1e-6)
    tensors = [load_file(out / f"{name}-{r}.safetensors") for r in range(2)]
    for side, adapter in zip(("pos", "neg"), alone[name]):
        for k, t in adapter.tensors.items():
            torch.testing.assert_close(tensors[0][f"{side}/{k}"], t, **CLOSE)
    assert all(torch.equal(t, tensors[1][k]) for k, t in tensors[0].items())


def test_sharded_weights_are_dtensors_and_each_process_holds_its_part(told):
    how, seen, _ = told
    for process in seen:
        assert process["size"] == 2
        assert process["dtensors"] == (process["parameters"] if how == "shard" else 0)
        assert process["held"] == pytest.approx(0.5 if how == "shard" else 1.0, abs=0.02)


def test_several_processes_that_are_stopped_go_on_to_the_same_tensors(told):
    how, seen, _ = told
    for process in seen if how == "shard" else ():
        assert process["saved"] == 1
        assert process["judged"] > 4
        assert process["same"]
        assert "give an `out` that all machines share" in process["apart"]


def test_a_model_spread_over_processes_is_steered_by_hook_as_the_whole_one_is(told):
    how, seen, _ = told
    for process in seen if how == "shard" else ():
        assert process["split"] < 1e-4 < 1e-2 < process["moved"]  # taken apart it is laid out another way


def test_experts_spread_over_processes_are_steered_by_hook_as_the_whole_ones_are(told):
    how, seen, _ = told
    for process in seen if how == "shard" else ():
        assert process["experts"]["split"] < 1e-5 < 1e-2 < process["experts"]["moved"]


def test_nothing_is_folded_into_parts_of_weights_and_layers_cut_over_processes_are_not_steered(told):
    how, seen, _ = told
    for process in seen if how == "shard" else ():
        assert "spread over processes (FSDP), and nothing is written into parts" in process["refused"]["fold"]
        assert "cut over processes (`tp_plan`)" in process["refused"]["cut"]


def test_one_of_several_processes_tells_the_trackers_and_every_learning_rate_is_a_run(told):
    how, seen, _ = told
    if how == "whole":
        assert len(seen[0]["tried"]) == 2
        assert seen[0]["told"] == seen[0]["tried"] == seen[1]["tried"]
        assert seen[1]["told"] == []


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("rows", [0, 1, 4, 7])
def test_every_row_is_taken_once_and_sharded_processes_pass_equally_often(size, rows):
    batch = list(range(rows))
    by_two = lambda own: [own[i : i + 2] for i in range(0, len(own), 2)]  # noqa: E731
    for shard in (False, True):
        lots = [list(Group(rank, size, shard).passes(batch, by_two)) for rank in range(size)]
        assert sorted(r for lot in lots for some, weight in lot if weight for r in some) == batch
        if shard:
            assert len({len(lot) for lot in lots}) == 1


def test_one_process_is_a_group_that_does_nothing():
    p = torch.nn.Parameter(torch.ones(2))
    p.grad = torch.ones(2)
    ALONE.add_gradients([p])
    assert torch.equal(p.grad, torch.ones(2))
    assert (ALONE.total(0.1), ALONE.as_main("x"), ALONE.share([1, 2])) == (0.1, "x", [1, 2])
    assert join(cpu=True) is ALONE
    with pytest.raises(ValueError, match="nothing to shard with"):
        join(cpu=True, shard=True)


@pytest.fixture
def command(tmp_path):
    """A training of two processes on a few pairs."""
    save_pairs(PAIRS, tmp_path / "pairs.jsonl")
    told = [
        "--pairs",
        str(tmp_path / "pairs.jsonl"),
        "--out",
        str(tmp_path / "out"),
        "--rank",
        "4",
        "--patience",
        "999",
    ]
    return ["train", *told, "--lr", "1e-4", "--json", "--processes", "2"]


def test_the_command_starts_them_and_their_number_is_recorded_and_in_no_key(command):
    code, out, err = ran(*command, "--epochs", "4")
    assert code == 0, err
    folder = Path(json.loads(out)["folder"])  # one of them speaks
    assert [line.split()[0] for line in err.splitlines() if line[0] != " "] == ["data", "train"]
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (manifest["processes"], manifest["sharded"]) == (2, False)
    assert "processes" not in {*manifest["settings"], *manifest["inputs"]}
    assert sorted(p.name for p in folder.iterdir()) == ["manifest.json", "neg", "pos"]


def test_a_lost_process_ends_all_with_one_sentence(command, tmp_path):
    with forks.command(*command, "--epochs", "4000") as victim:
        deadline = time.monotonic() + 120
        while not list(tmp_path.glob("out/pairs/*/*/.train.*.part")):
            assert victim.poll() is None, victim.err
            assert time.monotonic() < deadline
            time.sleep(0.05)
        children = Path(f"/proc/{victim.pid}/task/{victim.pid}/children").read_text().split()
        os.kill(int(children[1]), signal.SIGKILL)
        out, err = victim.communicate(timeout=60)
        assert victim.returncode == 1
    sentence = "process 1 of 2 was ended by signal 9; what was done is kept, and the same command goes on."
    assert json.loads(out) == {"error": sentence}
    assert [line for line in err.splitlines() if line[0] != " "][1:] == [f"error: {sentence}"]
    assert not any(Path(f"/proc/{c}/stat").exists() for c in children)


def test_processes_that_cannot_reach_each_other_say_why_in_one_sentence(command):
    code, _, err = ran(*command, env={"GLOO_SOCKET_IFNAME": "nowhere0"}, timeout=100)
    assert code == 1
    (line,) = err.splitlines()
    assert line.startswith("error: the processes of this training cannot reach each other (")
    assert "nowhere0" in line


class Ended(subprocess.Popen):
    """A process that has ended with this code."""

    def __init__(self, code):
        self.code = code

    def poll(self):
        return self.code

    def __del__(self):
        pass


LOST_NOTE = "another process of this training ended or cannot be reached (NCCL error)"


@pytest.mark.parametrize(
    ("codes", "told"),
    [
        ((75, -9, 75), "process 1 of 3 was ended by signal 9; what was done is kept"),
        ((75, 75, -9), "process 2 of 3 was ended by signal 9; what was done is kept"),
        ((-9, 75, 75), "process 0 of 3 was ended by signal 9; what was done is kept"),
        ((75, 1, 75), "process 1 of 3 ended with code 1: the disk is gone; what was done is kept"),
        ((75, 75, 75), LOST_NOTE),
        ((0, 0, 1), "process 2 of 3 ended with code 1: the disk is gone; what was done is kept"),
        ((1, 75, 75), None),  # it has said why
    ],
)
def test_of_several_that_failed_the_first_cause_is_said(codes, told, tmp_path):
    said = {75: f"error: {LOST_NOTE}", 1: "error: the disk is gone"}
    logs = [tmp_path / str(rank) for rank in range(3)]
    for log, code in zip(logs[1:], codes[1:]):
        log.write_text(said.get(code, ""))
    ended = [Ended(code) for code in codes]
    if told is None:
        assert launch._watch(ended, logs) == 1
    else:
        with pytest.raises(ProcessLost, match=f"^{re.escape(told)}"):
            launch._watch(ended, logs)


def test_only_an_error_of_a_connection_means_that_another_process_is_gone():
    group = Group(0, 2)
    for text in ("[/a/b.cc:5] Connection closed by peer [::1]:5", "NCCL error: remote", "failed to recv, Connection was likely closed"):  # fmt: skip
        with pytest.raises(ProcessLost, match=r"cannot be reached \(\w"), group.together():
            raise RuntimeError(text)
    with pytest.raises(RuntimeError, match="restore"), group.together():
        raise RuntimeError("cannot restore the storage of this tensor")


@pytest.mark.parametrize(
    ("arguments", "environment", "told"),
    [
        (["train", "--shard"], {}, "nothing to shard with"),
        (["train", "--processes", "0"], {}, "at least 1"),
        (["train", "--processes", "2", "--device-map", "auto"], {}, "give one of them"),
        (["train", "--processes", "3"], {"WORLD_SIZE": "2"}, "started as 2 processes"),
        (["data"], {"WORLD_SIZE": "2"}, "only `ws train` runs as several processes"),
        (["runs"], {"WORLD_SIZE": "two"}, "WORLD_SIZE"),
    ],
)
def test_what_cannot_be_started_is_refused(capsys, monkeypatch, arguments, environment, told):
    for k, v in environment.items():
        monkeypatch.setenv(k, v)
    assert main(arguments) == 2
    assert told in capsys.readouterr().err
