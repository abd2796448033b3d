"""Who does the tasks of a grid (this process, one after the other, or the workers of an engine), and how far they are."""

import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ws import engine
from ws.engine import Event, Outcome, Task
from ws.engine.work import function_of, sentence
from ws.settings import at_least, refuse_outside

Tell = Callable[[Event], None]
"""Hears whenever a task starts or ends."""
Runner = Callable[[Sequence[Task], Tell], Mapping[str, Outcome]]
"""Does tasks, each after what it needs; how each ended, by name."""


@dataclass(frozen=True)
class Running:
    """Who does the work."""

    engine: str = "local"
    """local (worker processes on this machine) or ray."""
    address: str | None = None
    """A Ray cluster that runs already, e.g. auto or HOST:6379; one is started for this command when not given."""
    workers: int | None = None
    """Workers; one per GPU, or as many as the cores allow, when not given."""
    retries: int = 2
    """How often a study whose worker died is given to another one."""

    def __post_init__(self):
        refuse_outside(self, workers=at_least(1), retries=at_least(0))

    def check(self, *, spread: bool = False) -> None:
        """Refuse what cannot be, before anything runs."""
        engine.check_engine(
            self.engine, workers=self.workers, address=self.address, retries=self.retries, spread=spread
        )


def serially(tasks: Sequence[Task], tell: Tell = lambda event: None) -> dict[str, Outcome]:
    """Do the tasks in their order, in this process, on the model that it has loaded."""
    outcomes: dict[str, Outcome] = {}
    for task in tasks:
        if lacking := [n for n in task.needs if not outcomes[n].done]:
            why = f"it needs {lacking[0]}, which failed: {outcomes[lacking[0]].error}"
            outcomes[task.name] = Outcome(task, "skipped", error=why)
        else:
            tell(Event("started", task))
            outcomes[task.name] = _done(task)
        end = outcomes[task.name]
        tell(Event(end.state, task, end.error, end))
    return outcomes


def _done(task: Task) -> Outcome:
    start = time.perf_counter()
    try:
        value = function_of(task.call)(task.given)
    except Exception as e:  # one cell that breaks, however, is a row that says so and no end of the others
        return Outcome(task, "failed", error=sentence(e), seconds=time.perf_counter() - start)
    return Outcome(task, "done", value=value, seconds=time.perf_counter() - start)


def on_workers(
    folder: Path,
    running: Running | None = None,
    *,
    threads: int = 1,
    device: str = "auto",
    spread: bool = False,
    keep: bool = True,
) -> Runner:
    """Do them by the workers of an engine; `folder` gets a log and a state file per task, kept where one failed at least."""
    running = running or Running()
    running.check(spread=spread)

    def run(tasks: Sequence[Task], tell: Tell = lambda event: None) -> Mapping[str, Outcome]:
        outcomes = engine.run(
            tasks,
            folder=folder,
            engine=running.engine,
            workers=running.workers,
            threads=threads,
            device=device,
            address=running.address,
            retries=running.retries,
            spread=spread,
            tell=tell,
        )
        if not keep and all(o.done for o in outcomes.values()):
            shutil.rmtree(folder)
        return outcomes

    return run


class Progress:
    """How many cells are done, which tasks run, and how long the rest may take: it hears events and keeps count."""

    def __init__(self, cells: Iterable[str]):
        self.cells = frozenset(cells)
        self.ended: dict[str, Event] = {}
        self.current: dict[str, float] = {}
        """Task to when it started, by the monotonic clock."""
        self.retried: dict[str, str] = {}
        self.most = 1
        """Tasks that ran at once, which is how many workers there are."""

    def tell(self, event: Event) -> None:
        """Hear that a task started, was given to another worker, or ended."""
        name = event.task.name
        if event.kind == "started":
            self.current[name] = time.monotonic()
            self.most = max(self.most, len(self.current))
        elif event.kind == "again":
            self.current.pop(name, None)
            self.retried[name] = event.text
        else:
            self.current.pop(name, None)
            self.ended[name] = event

    @property
    def done(self) -> list[str]:
        """The cells that are done."""
        return [n for n, e in self.ended.items() if n in self.cells and e.kind == "done"]

    @property
    def failed(self) -> list[str]:
        """The cells that cannot be done."""
        return [n for n, e in self.ended.items() if n in self.cells and e.kind != "done"]

    @property
    def seconds(self) -> float | None:
        """Seconds the rest may take, if it takes as long as the cells that were made; None before one was."""
        ends = [e.outcome for n, e in self.ended.items() if n in self.cells and e.kind == "done"]
        took = [o.seconds for o in ends if o is not None and o.value["made"]]
        remaining = len(self.cells) - len(self.done) - len(self.failed)
        return remaining * sum(took) / len(took) / self.most if took and remaining else None
