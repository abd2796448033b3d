"""The state of each task, in one small file per task that any process may read.

Two engines and a second terminal need to know the same thing, so it is said in one way only: the worker writes
`tasks/<task>.json` when it starts, when the task calls `note`, and when it ends. A file that says `running` proves
nothing about the worker; `State.alive` asks the machine.
"""

import json
import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ws.records import write_json


@dataclass(frozen=True)
class State:
    """The state of one task, read from its file."""

    task: str
    state: str
    """running, done, failed, skipped or stopped."""
    pid: int
    host: str
    started: float
    """Seconds since 1970 by the clock of `host`; shown to people and used for nothing else."""
    told: Mapping[str, Any] = field(default_factory=dict)
    """What the task last said of itself."""
    error: str = ""
    born: int | None = None
    """When that process was started, by the machine's own count: its number may be another's by now."""
    ended: float | None = None
    """When it ended, by the same clock as `started`; None while it runs."""

    @property
    def alive(self) -> bool | None:
        """True where the process that wrote it still runs; None where that cannot be seen from here."""
        if self.host != socket.gethostname():
            return None
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:  # it is there, and somebody else's
            return True
        return (stat := _stat(self.pid)) is None or (stat[0] != "Z" and self.born in (None, stat[1]))

    @property
    def seconds(self) -> float:
        """Seconds that it took, or since it started; never negative, whatever was done to the clock."""
        return max(0.0, (time.time() if self.ended is None else self.ended) - self.started)


def _stat(pid: int) -> tuple[str, int] | None:
    """(state, start in ticks since the machine was started) of a process, or None where the system does not say.

    Z is a process that has ended and whose parent has not asked for it yet.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return fields[0], int(fields[19])
    except (OSError, IndexError, ValueError):
        return None


def born() -> int | None:
    """The time at which this process was started, in ticks of the machine's clock; None where the system does not say."""
    stat = _stat(os.getpid())
    return None if stat is None else stat[1]


def task_states(folder: Path) -> dict[str, State]:
    """The state of every task that was ever started with this folder, by name; a damaged file is left out."""
    by_task = {}
    for path in sorted((folder / "tasks").glob("*.json")):
        try:
            state = State(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):  # it is only what a person is shown
            continue
        by_task[state.task] = state
    return by_task


class Writer:
    """Writes the state file of the task this process works on."""

    def __init__(self, path: Path, task: str):
        self.path = path
        self.state = State(task, "running", os.getpid(), socket.gethostname(), time.time(), born=born())
        self.write()

    def change(self, state: str = "running", news: Mapping[str, Any] | None = None, error: str = "") -> None:
        """Change the state and write it."""
        ended = None if state == "running" else time.time()
        self.state = replace(
            self.state, state=state, told={**self.state.told, **(news or {})}, error=error, ended=ended
        )
        self.write()

    def write(self) -> None:
        """Write the file; a full disk must not end a task that only reports its state."""
        with suppress(OSError):
            write_json(self.path, asdict(self.state))


current: Writer | None = None


def note(news: Mapping[str, Any]) -> None:
    """Say what the running task does now; outside of a task this does nothing."""
    if current is not None:
        current.change(news=news)
