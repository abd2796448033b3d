"""Processes of their own, quickly: each is forked from one server that has imported everything already.

    with command("data", "--out", out) as victim:
        ...
        victim.kill()

A `Child` is used as a `subprocess.Popen` is. The server has one thread and has run nothing, so that a fork of it is as a
fresh start.
"""

import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from subprocess import PIPE, TimeoutExpired
from types import SimpleNamespace
from typing import TextIO

HERE = Path(__file__).parent
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["warm"])


def _begin(
    target: Callable[..., object], args: tuple, environment: Mapping[str, str], folder: str, logs: tuple[str, str]
) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # as for a command that a person types
    for log, number in zip(logs, (1, 2)):
        fd = os.open(log, os.O_WRONLY | os.O_CREAT)
        os.dup2(fd, number)
        os.close(fd)
    sys.exit(target(*args))  # type: ignore[arg-type]  # a code, or None


class Child:
    """A function that runs in a process beside the test; what it returns is the exit code."""

    def __init__(self, target: Callable[..., object], *args: object, env: Mapping[str, object] | None = None):
        self._folder = tempfile.TemporaryDirectory()
        self._logs = tuple(str(Path(self._folder.name) / name) for name in ("out", "err"))
        path = os.pathsep.join(map(str, dict.fromkeys([str(HERE), *sys.path])))
        environment = {**os.environ, "PYTHONPATH": path, **{k: str(v) for k, v in (env or {}).items()}}
        os.environ["PYTHONPATH"], own = path, os.environ.get("PYTHONPATH")  # the first child starts the server
        try:
            given = (target, args, environment, os.getcwd(), self._logs)
            self._process = SERVER.Process(target=_begin, args=given, daemon=True)
            self._process.start()
        finally:
            if own is None:
                del os.environ["PYTHONPATH"]
            else:
                os.environ["PYTHONPATH"] = own
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self.wait()

    @property
    def returncode(self) -> int | None:
        """The exit code; minus the signal that ended it; None while it runs."""
        return self._process.exitcode

    poll = lambda self: self.returncode  # noqa: E731

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, once there is one."""
        self._process.join(timeout)
        if self.returncode is None:
            raise TimeoutExpired("ws", timeout or 0.0)
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """What it has written to stdout and to stderr, once it has ended."""
        self.wait(timeout)
        return self.out, self.err

    @property
    def out(self) -> str:
        """What stands on its stdout so far."""
        return Path(self._logs[0]).read_text() if os.path.exists(self._logs[0]) else ""

    @property
    def err(self) -> str:
        """What stands on its stderr so far."""
        return Path(self._logs[1]).read_text() if os.path.exists(self._logs[1]) else ""

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it runs."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it, if it runs."""
        self.send_signal(signal.SIGKILL)


def _typed(words: tuple[str, ...], before: Callable[[], None] | None) -> int:
    from ws.cli import main
    from ws.engine import local

    local.subprocess = SUBPROCESS  # type: ignore[assignment]  # its workers are forks too
    multiprocessing.process.current_process()._config["daemon"] = False  # type: ignore[attr-defined]  # which may have none
    if before is not None:
        before()
    sys.argv = ["ws", *words]
    return main(list(words))


def command(*words: object, env: Mapping[str, object] | None = None, before: Callable[[], None] | None = None) -> Child:
    """A `ws` command that runs beside the test; `before` is called in its process first."""
    return Child(_typed, tuple(map(str, words)), before, env=env)


def _executed(code: str, arguments: tuple[str, ...]) -> None:
    sys.argv = ["-c", *arguments]
    exec(code, {"__name__": "__main__"})


def script(code: str, *arguments: object) -> Child:
    """A program that runs beside the test, as `python -c` would run it."""
    return Child(_executed, code, tuple(map(str, arguments)))


def ran(*words: object, env: Mapping[str, object] | None = None, timeout: float = 240) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of a command that has come to its end."""
    with command(*words, env=env) as child:
        out, err = child.communicate(timeout)
        return child.wait(), out, err


def _serve(ends: tuple[Connection, Connection], log: str, folder: str) -> int:
    from ws.engine.worker import main

    os.setsid()
    error = os.open(log, os.O_WRONLY | os.O_APPEND)
    for number, fd in enumerate((*(e.fileno() for e in ends), error)):
        os.dup2(fd, number)
        os.close(fd)
    sys.stdin = os.fdopen(0, encoding="utf-8")
    return main(folder)


class Worker(Child):
    """A worker of an engine, started as `Popen` is told to start one."""

    def __init__(self, command: Sequence[str], *, stderr: TextIO, env: Mapping[str, object], **_: object):
        (orders, own_end), (answers, its_end) = os.pipe(), os.pipe()
        ends = (Connection(orders, writable=False), Connection(its_end, readable=False))
        super().__init__(_serve, ends, stderr.name, command[-1], env=env)
        for end in ends:
            end.close()
        self.stdin = os.fdopen(own_end, "w", encoding="utf-8")
        self.stdout = os.fdopen(answers, encoding="utf-8")


SUBPROCESS = SimpleNamespace(Popen=Worker, PIPE=PIPE, TimeoutExpired=TimeoutExpired)
"""What an engine needs of the module `subprocess`, with workers that are forks."""
