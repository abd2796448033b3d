"""The engine of one machine: long-lived worker processes, each started afresh by its own interpreter.

Workers are no forks (a fork of a process that has used torch's threads or CUDA hangs), and talk in JSON over pipes.
They stand in sessions of their own, so that Ctrl-C reaches this process alone, which then interrupts them once.
"""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from ws.engine.graph import Graph, Outcome, Task
from ws.engine.work import Report, order_of, outcome

PATIENCE = 10.0
"""Seconds an interrupted worker has to come to its end before it is killed."""


Messages = queue.Queue[tuple["Worker", Report | None]]
"""Answers of all workers, each with its worker; None where a worker has ended."""


class Worker:
    """One worker process, and the task it has."""

    def __init__(self, place: Mapping[str, str], folder: Path, messages: Messages):
        path = os.pathsep.join(os.path.abspath(p) for p in sys.path)  # it imports what this process can import
        self.place = place
        with open(folder / "logs" / "workers.log", "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "ws.engine.worker", str(folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                encoding="utf-8",
                env={**os.environ, **place, "PYTHONPATH": path},
                start_new_session=True,
            )
        self.task: Task | None = None
        self.spoiled = False
        """Whether it is about to end by itself."""
        self._reader = threading.Thread(target=self._read, args=(messages,), daemon=True)
        self._reader.start()

    def give(self, task: Task) -> None:
        """Hand it a task. If it has died meanwhile, its reader says so."""
        self.task = task
        assert self.process.stdin is not None
        with suppress(OSError):
            self.process.stdin.write(json.dumps(order_of(task)) + "\n")
            self.process.stdin.flush()

    def interrupt(self) -> None:
        """Interrupt it, as Ctrl-C would."""
        with suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGINT)

    def close(self, patience: float = PATIENCE) -> None:
        """Close its input and wait for its end; kill it after `patience` seconds."""
        assert self.process.stdin is not None and self.process.stdout is not None
        with suppress(OSError):
            self.process.stdin.close()
        try:
            self.process.wait(patience)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._reader.join(1.0)
        with suppress(OSError):
            self.process.stdout.close()

    def _read(self, messages: Messages) -> None:
        for line in self.process.stdout or ():
            with suppress(ValueError):  # half an answer: it was killed while it wrote
                messages.put((self, json.loads(line)))
        messages.put((self, None))  # the pipe is closed: it is gone


class Local:
    """Worker processes on this machine."""

    def __init__(self, places: Sequence[Mapping[str, str]], *, retries: int):
        self.places, self.retries = list(places), retries

    def run(self, graph: Graph, folder: Path) -> None:
        """Do all tasks of the graph."""
        messages: Messages = queue.Queue()
        workers: list[Worker] = []
        free, deaths = list(reversed(self.places)), Counter[str]()
        with _stopping(workers):
            while not graph.over:
                for task in graph.ready():
                    idle = next((w for w in workers if w.task is None and not w.spoiled), None)
                    if idle is None and free:
                        idle = Worker(free.pop(), folder, messages)
                        workers.append(idle)
                    if idle is None:
                        break
                    graph.start(task)
                    idle.give(task)
                worker, answer = messages.get()
                now, worker.task = worker.task, None
                if answer is None:
                    workers.remove(worker)
                    worker.close()
                    free.append(worker.place)
                    if now is not None:
                        deaths[now.name] += 1
                        self._mourn(graph, now, how(worker.process.returncode), deaths[now.name], folder)
                elif now is not None:
                    worker.spoiled = answer["last"]
                    graph.end(outcome(now, answer, folder))

    def _mourn(self, graph: Graph, task: Task, why: str, times: int, folder: Path) -> None:
        """Give the task of a dead worker to another one, so many times as `retries` says; then it has failed."""
        log = folder / "logs" / f"{task.file}.log"
        if times <= self.retries:
            graph.again(task, f"its worker {why}")
            return
        error = f"its worker {why}, {times} times" if times > 1 else f"its worker {why}"
        graph.end(Outcome(task, "failed", error=error, log=log if log.exists() else folder / "logs" / "workers.log"))


def how(code: int) -> str:
    """The end of a worker in words, from its exit code."""
    if code == -signal.SIGKILL:
        return "was killed (SIGKILL; most often because memory ran out)"
    if code < 0:
        return f"died of {signal.Signals(-code).name}"
    return f"ended by itself (exit code {code})"


@contextmanager
def _stopping(workers: list[Worker]) -> Iterator[None]:
    """No worker outlives this block; a second Ctrl-C does not wait for them."""
    try:
        yield
    except BaseException:
        for w in workers:
            w.interrupt()
        deadline = time.monotonic() + PATIENCE
        try:
            for w in workers:
                with suppress(subprocess.TimeoutExpired):
                    w.process.wait(max(0.0, deadline - time.monotonic()))
        finally:
            for w in workers:
                w.close(patience=0.0)
        raise
    for w in workers:
        w.close()
