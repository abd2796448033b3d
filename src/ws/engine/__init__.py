"""Tasks that need each other, done by several workers, of which any may die.

    tasks = [Task("pairs", "my.module:pairs", {"seed": 0}), Task("fit", "my.module:fit", {"seed": 0}, needs=("pairs",))]
    outcomes = run(tasks, folder=Path("out/state"))

A task is the name of a function and JSON for it; the function's answer is JSON again. Whatever is large goes through
files. The engine does not know what a task computes. It promises that each task ends in exactly one way (done, failed,
skipped because a need failed), that one task's end never stops another, and that whoever looks into `folder` can see
what is being worked on.

    local    worker processes of this machine: `local.py`
    ray      a Ray cluster, started here or named by its address: `ray.py`
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from ws.engine.graph import Event as Event
from ws.engine.graph import Graph
from ws.engine.graph import Outcome as Outcome
from ws.engine.graph import Task as Task
from ws.engine.local import Local
from ws.engine.places import places_of
from ws.engine.places import workers_of as workers_of
from ws.engine.ray import Ray, installed
from ws.engine.state import State as State
from ws.engine.state import Writer
from ws.engine.state import born as born
from ws.engine.state import note as note
from ws.engine.state import task_states as task_states

ENGINES = ("local", "ray")
RETRIES = 2
"""How often a task whose worker died is given to another one."""


def run(
    tasks: Sequence[Task],
    *,
    folder: Path,
    engine: str = "local",
    workers: int | None = None,
    threads: int = 1,
    device: str = "auto",
    address: str | None = None,
    retries: int = RETRIES,
    spread: bool = False,
    tell: Callable[[Event], None] = lambda event: None,
) -> dict[str, Outcome]:
    """Do all tasks, each after what it needs; how each ended, by name.

    `workers` is by default one per GPU, or as many as the cores allow at `threads` each; with `spread`, one that has every
    device. `folder` gets a log and a state file per task. KeyboardInterrupt interrupts the workers, waits for them, and is
    raised again.
    """
    check_engine(engine, workers=workers, address=address, retries=retries, spread=spread)

    def heard(event: Event) -> None:
        if event.kind in ("failed", "skipped"):  # a worker that died could not write so itself
            Writer(folder / "tasks" / f"{event.task.file}.json", event.task.name).change(event.kind, error=event.text)
        tell(event)

    graph = Graph(tasks, heard)
    for part in ("logs", "tasks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
        for old in (folder / part).iterdir():  # of an earlier run
            old.unlink(missing_ok=True)  # a worker of that run, which has not ended yet, moves its own
    places = places_of(workers, threads=threads, device=device, spread=spread)
    if engine == "ray":
        Ray(places, address=address, retries=retries, workers=workers, device=device, spread=spread).run(graph, folder)
    else:
        Local(places, retries=retries).run(graph, folder)
    return graph.outcomes


def check_engine(
    engine: str,
    *,
    workers: int | None = None,
    address: str | None = None,
    retries: int = RETRIES,
    spread: bool = False,
) -> None:
    """Refuse an engine that is not there, and what none can do, before anything is prepared for it."""
    if engine not in ENGINES:
        raise ValueError(f"the engine is one of {', '.join(ENGINES)}; got {engine!r}")
    if address is not None and engine != "ray":
        raise ValueError("`address` names a Ray cluster; give `engine=ray` with it")
    if workers is not None and workers < 1:
        raise ValueError(f"there must be at least 1 worker, got {workers}")
    if retries < 0:
        raise ValueError(f"`retries` must be at least 0, got {retries}")
    if spread and workers is not None and workers > 1:
        raise ValueError("`device_map` gives every device to one worker; leave out `workers`")
    if engine == "ray":
        installed()
