"""The engine of a cluster: the same tasks, given out by Ray.

Ray starts the workers, reuses them, notices a worker or a node that is lost and gives its task to another. Every node
must see the output folder at the same path, because results are files. Ray itself is an extra; only this file knows it.
"""

import importlib.util
import os
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import Any

from ws.engine.graph import Graph, Outcome, Task
from ws.engine.places import GPUS, THREADS
from ws.engine.state import states
from ws.engine.work import outcome, sentence, told
from ws.errors import Unsupported

TICK = 0.25
"""Seconds between looks at what Ray has done."""


def installed() -> None:
    """Refuse, in one sentence, where Ray is missing."""
    if importlib.util.find_spec("ray") is None:
        raise Unsupported("--engine ray needs Ray, which is an extra: pip install 'weight-steering[ray]'.")


class Ray:
    """A Ray cluster: started for this run, or the one at `address`."""

    def __init__(self, places: Sequence[Mapping[str, str]], *, address: str | None, retries: int):
        self.places, self.address, self.retries = list(places), address, retries

    def run(self, graph: Graph, folder: Path) -> None:
        """Do all tasks of the graph."""
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # nothing about a study leaves this machine
        # 2026-11: Ray 2.60 warns that it will one day leave this variable alone where a task asks for no GPU; so do we
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        import ray

        threads, gpus = int(self.places[0][THREADS[0]]), any(GPUS in p for p in self.places)
        environment = {name: str(threads) for name in THREADS}
        environment["PYTHONPATH"] = os.pathsep.join(os.path.abspath(p) for p in sys.path)
        options: dict[str, Any] = {"address": self.address} if self.address else {
            "address": "local",
            "num_cpus": threads * len(self.places),
            "num_gpus": len({p[GPUS] for p in self.places}) if gpus else 0,
            "include_dashboard": False,
        }  # fmt: skip
        try:
            ray.init(**options, log_to_driver=False, logging_level="ERROR", runtime_env={"env_vars": environment})
        except ConnectionError as e:
            raise Unsupported(f"there is no Ray cluster at {self.address}: {sentence(e)}") from None
        share = len({p[GPUS] for p in self.places}) / len(self.places) if gpus else 0
        remote = ray.remote(_work).options(num_cpus=threads, num_gpus=share, max_retries=self.retries)
        with open(folder / "logs" / "ray.log", "a", encoding="utf-8") as log, redirect_stdout(log):
            try:  # Ray prints a page on stdout whenever a worker dies, where our results go
                self._give_out(ray, remote, graph, folder)
            finally:
                ray.shutdown()

    def _give_out(self, ray: Any, remote: Any, graph: Graph, folder: Path) -> None:
        running: dict[Any, Task] = {}
        seen: set[str] = set()
        try:
            while not graph.over:
                for task in graph.ready():
                    graph.running.add(task.name)  # Ray has it; it starts when a worker says so
                    running[remote.remote(told(task), str(folder.resolve()))] = task
                ended, _ = ray.wait(list(running), num_returns=len(running), timeout=TICK)
                self._tell_started(graph, folder, seen)
                for reference in ended:
                    task = running.pop(reference)
                    graph.end(self._outcome(ray, reference, task, folder))
        except BaseException:
            for reference in running:
                with suppress(Exception):
                    ray.cancel(reference, force=False)  # as Ctrl-C would
            deadline = time.monotonic() + 10
            while running and time.monotonic() < deadline:
                ended, _ = ray.wait(list(running), num_returns=len(running), timeout=TICK)
                for reference in ended:
                    running.pop(reference)
            raise

    def _tell_started(self, graph: Graph, folder: Path, seen: set[str]) -> None:
        """A task that has a new state file was begun, or begun again by another worker."""
        for name, state in states(folder).items():
            mark = f"{name}/{state.host}/{state.pid}/{state.started}"
            if name in graph.running and mark not in seen:
                first = not any(m.startswith(f"{name}/") for m in seen)
                seen.add(mark)
                if first:
                    graph.start(graph.tasks[name])
                else:
                    graph.again(graph.tasks[name], "its worker or its node was lost")
                    graph.start(graph.tasks[name])

    def _outcome(self, ray: Any, reference: Any, task: Task, folder: Path) -> Outcome:
        log = folder / "logs" / f"{task.file}.log"
        try:
            return outcome(task, ray.get(reference), folder)
        except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError, ray.exceptions.NodeDiedError):
            error = f"its worker died, {self.retries + 1} times" if self.retries else "its worker died"
        except ray.exceptions.RayError as e:
            error = f"Ray could not do it: {sentence(e)}"
        return Outcome(task, "failed", error=error, log=log)


def _work(task: Mapping[str, Any], folder: str) -> dict[str, Any]:
    """What a Ray worker does; it is imported there by name."""
    import logging

    from ws.engine.work import work

    logging.getLogger("ws").setLevel(logging.INFO)
    return work(task, folder)
