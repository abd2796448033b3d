"""A study that is killed in the middle of any stage finishes when its command is given again, with the same bytes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

RESULTS = (".safetensors", ".parquet", ".jsonl")
SMALL = [
    "--n-topics",
    "60",
    "--n-personas",
    "1",
    "--epochs",
    "6",
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
EAGER = """
import sys
from ws.train import checkpoint
checkpoint.CHECKPOINT_SECONDS = 0.0
from ws.cli import main
sys.exit(main(sys.argv[1:]))
"""


def start(out: Path) -> subprocess.Popen:
    command = [sys.executable, "-c", EAGER, "eval", "dilemmas", "--out", str(out), "--json", *SMALL]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def finish(out: Path) -> dict[str, bytes]:
    """Run the command to its end; every result file's bytes."""
    done = start(out)
    text, _ = done.communicate(timeout=240)
    assert done.returncode == 0
    assert json.loads(text)["rows"]
    return {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*")) if p.suffix in RESULTS}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return finish(tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize(
    ("stage", "sign"),
    [
        ("data", "data/*/*/.*.part"),
        ("train", "honesty/*/*/.train.*.part/resume/*.safetensors"),
        ("diff", "honesty/*/*/train/manifest.json"),
        ("eval", "honesty/*/*/eval/*/.*.part"),
    ],
)
def test_killed_in_the_middle_of_a_stage_it_ends_with_the_same_bytes(undisturbed, tmp_path, stage, sign):
    victim = start(tmp_path)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob(sign)):
        assert victim.poll() is None, "it finished before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    os.kill(victim.pid, signal.SIGKILL)
    victim.wait()
    if victim.stdout:
        victim.stdout.close()
    assert not list(tmp_path.glob("honesty/*/*/eval/*/*/manifest.json"))
    again = finish(tmp_path)
    assert again.keys() == undisturbed.keys()
    assert [name for name, content in undisturbed.items() if again[name] != content] == []
    assert not list(tmp_path.rglob("*.part"))


def hears_ctrl_c():
    """A child of a background job inherits an ignored SIGINT; a command that a person types does not."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_an_interrupted_command_says_how_to_go_on(tmp_path):
    command = [sys.executable, "-m", "ws", "data", "--out", str(tmp_path), "--n-topics", "160", "--n-samples", "9"]
    victim = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, preexec_fn=hears_ctrl_c
    )
    try:
        deadline = time.monotonic() + 120
        while not list(tmp_path.glob("data/*/*/.*.part")):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        victim.send_signal(signal.SIGINT)
        _, told = victim.communicate(timeout=120)
    finally:
        victim.kill()
    assert victim.returncode == 130
    assert "the same command goes on" in told
    assert "Traceback" not in told
