"""The engine of a cluster: the same tasks, given out by Ray.

Ray starts the workers, reuses them, and notices a worker or a node that is lost; its task is then given out again. Every node
must see the output folder at the same path, because results are files. Ray itself is an extra; only this file knows it.
"""

import importlib.util
import os
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from ws.engine.graph import Graph, Outcome, Task
from ws.engine.places import ANY_GPU, GPUS, THREADS, gpus_of
from ws.engine.state import task_states
from ws.engine.work import Order, Report, order_of, outcome, sentence, work
from ws.errors import Unsupported
from ws.types import Json
from ws.version import how_to_add

TICK = 0.25
"""Seconds between looks at what Ray has done."""


def installed() -> None:
    """Refuse, in one sentence, where Ray is missing."""
    if importlib.util.find_spec("ray") is None:
        raise Unsupported(f"`engine=ray` needs Ray, which is an extra: {how_to_add('ray')}.")


class Ray:
    """A Ray cluster: started for this run, or the one at `address`."""

    def __init__(
        self,
        places: Sequence[Mapping[str, str]],
        *,
        address: str | None,
        retries: int,
        workers: int | None = None,
        device: str = "auto",
        spread: bool = False,
    ):
        self.places, self.address, self.retries = list(places), address, retries
        self.workers, self.device, self.spread = workers, device, spread

    def run(self, graph: Graph, folder: Path) -> None:
        """Do all tasks of the graph."""
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # nothing about a study leaves this machine
        # 2026-11: Ray 2.60 warns that it will one day leave this variable alone where a task asks for no GPU; so do we
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        import ray

        threads = int(self.places[0][THREADS[0]])
        gpus = gpus_of(self.device) if self.spread else sorted({p[GPUS] for p in self.places if GPUS in p})
        environment = {name: str(threads) for name in THREADS}
        environment["PYTHONPATH"] = os.pathsep.join(os.path.abspath(p) for p in sys.path)
        options: Json = {"address": self.address or "local"}
        if not self.address:
            options |= {
                "num_cpus": threads * len(self.places),
                "num_gpus": len(gpus),
                "include_dashboard": False,
            }
        try:
            ray.init(**options, log_to_driver=False, logging_level="ERROR", runtime_env={"env_vars": environment})
        except ConnectionError as e:
            raise Unsupported(f"there is no Ray cluster at {self.address}: {sentence(e)}") from None
        with open(folder / "logs" / "ray.log", "a", encoding="utf-8") as log, redirect_stdout(log):
            try:  # Ray prints a page on stdout whenever a worker dies, where our results go
                share = self._share(ray.nodes(), threads) if self.address else len(gpus) / len(self.places)
                # tries are counted here, because Ray by itself begins a task that memory runs out for without end; and one
                # GPU task per process, as is Ray's default: what breaks a CUDA context breaks it for good
                remote = ray.remote(num_cpus=threads, num_gpus=share, max_retries=0, max_calls=1 if share else 0)(_work)
                self._give_out(ray, remote, graph, folder)
            finally:
                ray.shutdown()

    def _share(self, nodes: Sequence[Json], threads: int) -> float:
        """The GPUs that a task asks a running cluster for. What no node has is refused: Ray would wait for it for ever."""
        there = [n["Resources"] for n in nodes if n["Alive"]]
        most = max((r.get("GPU", 0.0) for r in there), default=0.0)
        share = 0.0
        if self.device in ANY_GPU and (most or self.device == "cuda"):
            share = max(1.0, most) if self.spread else 1.0
        if not any(r.get("CPU", 0.0) >= threads and r.get("GPU", 0.0) >= share for r in there):
            listed = "; ".join(f"{r.get('CPU', 0):g} CPUs and {r.get('GPU', 0):g} GPUs" for r in there)
            raise Unsupported(
                f"no node of the Ray cluster has the {threads} CPUs and {share:g} GPUs that a task needs; its nodes have "
                f"{listed}. Give fewer `threads`, another `device`, or another `address`."
            )
        return share

    def _give_out(self, ray: ModuleType, remote: Any, graph: Graph, folder: Path) -> None:
        running: dict[object, Task] = {}
        marks: set[tuple[object, ...]] = set()
        deaths = Counter[str]()
        most = (self.workers if self.address else None) or len(graph.tasks)
        try:
            while not graph.over:
                for task in graph.ready()[: max(0, most - len(running))]:
                    graph.running.add(task.name)  # Ray has it; it starts when a worker says so
                    running[remote.remote(order_of(task), str(folder.resolve()))] = task
                ended, _ = ray.wait(list(running), num_returns=len(running), timeout=TICK)
                self._tell_started(graph, folder, marks)
                for reference in ended:
                    task = running.pop(reference)
                    if (outcome := self._outcome(ray, reference, task, folder)) is not None:
                        graph.end(outcome)
                    else:
                        deaths[task.name] += 1
                        self._mourn(graph, task, deaths[task.name], folder)
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

    def _tell_started(self, graph: Graph, folder: Path, marks: set[tuple[object, ...]]) -> None:
        """A task that has a new state file was begun by a worker."""
        for name, state in task_states(folder).items():
            mark = (name, state.host, state.pid, state.started)
            if name in graph.running and mark not in marks:
                marks.add(mark)
                graph.start(graph.tasks[name])

    def _outcome(self, ray: ModuleType, reference: object, task: Task, folder: Path) -> Outcome | None:
        """The end of a task; None where its worker, its node or its answer was lost on the way."""
        lost = ray.exceptions
        try:
            return outcome(task, ray.get(reference), folder)
        except (lost.WorkerCrashedError, lost.OutOfMemoryError, lost.NodeDiedError, lost.ObjectLostError):
            return None
        except ray.exceptions.RayError as e:
            log = folder / "logs" / f"{task.file}.log"
            return Outcome(task, "failed", error=f"Ray could not do it: {sentence(e)}", log=log)

    def _mourn(self, graph: Graph, task: Task, times: int, folder: Path) -> None:
        """Give the task of a dead worker to another one, so many times as `retries` says; then it has failed."""
        if times <= self.retries:
            graph.again(task, "its worker or its node was lost")
            return
        error = f"its worker died, {times} times" if times > 1 else "its worker died"
        graph.end(Outcome(task, "failed", error=error, log=folder / "logs" / f"{task.file}.log"))


def _work(task: Order, folder: str) -> Report:
    """The work of a Ray worker, which imports this function by its name."""
    import logging

    logging.getLogger("ws").setLevel(logging.INFO)
    return work(task, folder)
