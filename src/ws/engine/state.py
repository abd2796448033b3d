"""What a task is doing, as one small file per task that any process may read.

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
    """What is known of one task from its file."""

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

    @property
    def alive(self) -> bool | None:
        """Whether the process that wrote it is there; None where that cannot be seen from here."""
        if self.host != socket.gethostname():
            return None
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:  # it is there, and somebody else's
            return True
        return not _is_dead(self.pid)

    @property
    def seconds(self) -> float:
        """How long ago it started; never negative, whatever was done to the clock."""
        return max(0.0, time.time() - self.started)


def _is_dead(pid: int) -> bool:
    """Whether this process has ended and only its parent has not asked for it yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (OSError, IndexError):
        return False


def states(folder: Path) -> dict[str, State]:
    """The state of every task that was ever started with this folder, by name; a damaged file is left out."""
    found = {}
    for path in sorted((folder / "tasks").glob("*.json")):
        try:
            state = State(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):  # it is only what a person is shown
            continue
        found[state.task] = state
    return found


class Writer:
    """Writes the state file of the task this process works on."""

    def __init__(self, path: Path, task: str):
        self.path = path
        self.state = State(task, "running", os.getpid(), socket.gethostname(), time.time())
        self.write()

    def change(self, state: str = "running", told: Mapping[str, Any] | None = None, error: str = "") -> None:
        """Say something new."""
        self.state = replace(self.state, state=state, told={**self.state.told, **(told or {})}, error=error)
        self.write()

    def write(self) -> None:
        """The file as it should be; a disk that is full must not end the task that only wanted to say so."""
        with suppress(OSError):
            write_json(self.path, asdict(self.state))


current: Writer | None = None


def note(told: Mapping[str, Any]) -> None:
    """Say what the running task does now; outside of a task this does nothing."""
    if current is not None:
        current.change(told=told)
