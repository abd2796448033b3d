"""Starting `ws train` as several processes, and ending them together.

`ws train --processes N` starts its own command N times, with the environment that torchrun would give. The first
process speaks for all; what the others say is shown only when one of them is the first to fail.
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import torch
import typer

from ws.cli.exits import INTERRUPTED, LOST_CODE, STARTED_HERE
from ws.errors import ProcessLost
from ws.models.load import choose_device
from ws.settings import at_least, refuse_outside
from ws.study.options import Common
from ws.train.processes import Group, join, several

POLL_SECONDS = 0.05
GRACE = 5.0  # seconds for the others to end by themselves


@dataclass(frozen=True)
class Across:
    """Training on several devices, and who is told of it."""

    processes: int = 1
    """Processes that train as one, a device each; torchrun and accelerate launch do the same."""
    shard: bool = False
    """Spread the base's weights over the processes (FSDP2), for a model that one device cannot hold."""
    rows_at_once: int | None = None
    """Rows in memory at once, in each process; changes no result."""
    report_to: tuple[str, ...] = ()
    """Experiment trackers that are told the losses: trackio, wandb, mlflow, tensorboard."""

    def __post_init__(self):
        refuse_outside(self, processes=at_least(1), rows_at_once=at_least(1))


def to_start(across: Across, common: Common) -> int:
    """How many processes to start; 0 where this is one of several already, or meant to be alone."""
    if several():
        started = int(os.environ["WORLD_SIZE"])
        if across.processes not in (1, started):
            raise ValueError(f"this was started as {started} processes; leave out --processes {across.processes}")
        return 0
    if common.device_map and (across.processes > 1 or across.shard):
        raise ValueError(
            "--device-map spreads one process over devices, --processes gives each its own; give one of them"
        )
    if common.device != "auto":
        choose_device(common.device)  # before several processes are started to be refused
    there = torch.cuda.device_count()
    if across.processes > max(1, there) and not _on_cpu(common):
        raise ValueError(
            f"there are {there} devices for --processes {across.processes}; give at most so many, or --device cpu"
        )
    return across.processes if across.processes > 1 else 0


def joined(across: Across, common: Common) -> Group:
    """The group of this process, which may be itself alone."""
    if several() and common.device not in ("auto", "cpu", "cuda"):
        raise ValueError(f"every process takes a device of its own; leave out --device {common.device}")
    if STARTED_HERE in os.environ:
        threading.Thread(target=_end_with_parent, daemon=True).start()
    return join(cpu=_on_cpu(common), shard=across.shard)


def _on_cpu(common: Common) -> bool:
    tiny = common.model == "tiny" and common.device == "auto"
    return tiny or common.device == "cpu" or not torch.cuda.is_available()


def _end_with_parent() -> None:
    """The parent holds the other end of our stdin; when it is killed, nothing must go on without it."""
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(1)


def start_processes(n: int, words: Sequence[str]) -> NoReturn:
    """Run this command as `n` processes; the first failure ends all, and is said in one line."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    shared = {"WORLD_SIZE": n, "LOCAL_WORLD_SIZE": n, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, STARTED_HERE: n}
    shared["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS") or max(1, (os.cpu_count() or 1) // n)
    with tempfile.TemporaryDirectory(prefix="ws-") as folder:
        logs = [Path(folder) / str(rank) for rank in range(n)]
        processes: list[subprocess.Popen] = []
        try:
            for rank, log in enumerate(logs):
                own = {**os.environ, **{k: str(v) for k, v in {**shared, "RANK": rank, "LOCAL_RANK": rank}.items()}}
                with open(log, "wb") as file:
                    # a session of its own: Ctrl-C reaches this process, which hands it on once
                    child = subprocess.Popen(
                        [sys.executable, "-m", "ws", *words],
                        env=own,
                        stdin=subprocess.PIPE,
                        stdout=None if rank == 0 else subprocess.DEVNULL,
                        stderr=None if rank == 0 else file,
                        start_new_session=True,
                    )
                processes.append(child)
            code = _watch(processes, logs)
        finally:
            _end(processes)
    raise typer.Exit(code)


def _watch(processes: list[subprocess.Popen], logs: list[Path]) -> int:
    """Wait for all; the exit code of the first one, where it has said itself why it failed, and else an error that says it."""
    while True:
        try:
            time.sleep(POLL_SECONDS)
            codes = [p.poll() for p in processes]
            if not any(codes):
                if None not in codes:
                    return 0
                continue
            _wait(processes, 1.0)  # how the others end tells which was the first
            ends = [p.poll() or 0 for p in processes]
            if ends[0] > 0 and ends[0] != LOST_CODE:
                return ends[0]  # it has said why
            # rank 0 keeps no log, and one that only lost the others is not what went wrong, if there is another
            rank = min((r for r, code in enumerate(ends) if code), key=lambda r: (ends[r] == LOST_CODE, r == 0, r))
            raise ProcessLost(_why(rank, len(processes), ends[rank], logs[rank]))
        except KeyboardInterrupt:
            for p in processes:
                p.send_signal(signal.SIGINT)
            _wait(processes[:1], GRACE)
            return processes[0].poll() or INTERRUPTED


def _why(rank: int, n: int, code: int, log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines() if log.is_file() else []
    message = lines[-1].removeprefix("error: ") if lines else ""
    if code == LOST_CODE and message:  # all of them lost each other
        return message
    ended = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
    return f"process {rank} of {n} {ended}{f': {message}' if message else ''}; what was done is kept, and the same command goes on."


def _wait(processes: list[subprocess.Popen], seconds: float) -> None:
    until = time.monotonic() + seconds
    while any(p.poll() is None for p in processes) and time.monotonic() < until:
        time.sleep(POLL_SECONDS)


def _end(processes: list[subprocess.Popen]) -> None:
    """End all of them, so that no process outlives the command."""
    for p in processes:
        if p.poll() is None:
            p.terminate()
    _wait(processes, GRACE)
    for p in processes:
        if p.poll() is None:
            p.kill()
        p.wait()
        if p.stdin:
            p.stdin.close()
