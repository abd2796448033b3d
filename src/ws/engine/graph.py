"""The tasks of a run: which may start, and how each has ended. Nothing here knows a process."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from ws.records import slug

LONGEST = 120
"""Bytes of a task's name in the name of its files; file systems allow 255, and models are named by their paths."""


@dataclass(frozen=True)
class Task:
    """One piece of work: a function by name, and the JSON it is called with."""

    name: str
    call: str
    """`package.module:function`; it takes one mapping and answers with JSON."""
    given: Mapping[str, Any] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    """Names of the tasks that must be done before."""

    @property
    def file(self) -> str:
        """The stem of its log and its state file; names that differ in a mark alone (tau+, tau-) differ here too."""
        readable = slug(self.name.replace("/", "--")).encode()[:LONGEST].decode(errors="ignore")
        return f"{readable}-{hashlib.sha256(self.name.encode()).hexdigest()[:12]}"


@dataclass(frozen=True)
class Outcome:
    """The end of a task: done with a value, failed with a sentence, or skipped."""

    task: Task
    state: str
    """done, failed, or skipped because a need was not done."""
    value: Any = None
    error: str = ""
    """One sentence, where it is not done."""
    log: Path | None = None
    seconds: float = 0.0
    warnings: tuple[str, ...] = ()
    """What the task said that a person should read although it is done."""

    @property
    def done(self) -> bool:
        """True where there is a result."""
        return self.state == "done"


@dataclass(frozen=True)
class Event:
    """Something that just happened: a task was started, given to another worker (again), or ended."""

    kind: str
    """started, again, done, failed or skipped."""
    task: Task
    text: str = ""
    outcome: Outcome | None = None


class Graph:
    """The tasks of one run: what waits, what runs, what has ended."""

    def __init__(self, tasks: Sequence[Task], tell: Callable[[Event], None] = lambda event: None):
        self.tasks = {t.name: t for t in tasks}
        if len({t.file for t in tasks}) < len(tasks):
            raise ValueError("two tasks have the same name")
        for t in tasks:
            if missing := sorted(set(t.needs) - self.tasks.keys()):
                raise ValueError(f"the task {t.name!r} needs {missing[0]!r}, which is no task of this run")
        try:
            TopologicalSorter({t.name: t.needs for t in tasks}).prepare()
        except CycleError as e:
            raise ValueError(f"these tasks need each other in a circle: {' -> '.join(e.args[1])}") from None
        self.tell = tell
        self.outcomes: dict[str, Outcome] = {}
        self.running: set[str] = set()

    @property
    def over(self) -> bool:
        """True when every task has ended."""
        return len(self.outcomes) == len(self.tasks)

    def ready(self) -> list[Task]:
        """The tasks that could start now, in the order they were given."""
        return [
            t
            for t in self.tasks.values()
            if t.name not in self.outcomes
            and t.name not in self.running
            and all(n in self.outcomes and self.outcomes[n].done for n in t.needs)
        ]

    def start(self, task: Task) -> None:
        """Note that a worker has the task."""
        self.running.add(task.name)
        self.tell(Event("started", task))

    def again(self, task: Task, why: str) -> None:
        """Note that the task's worker is gone, so that it waits for another one."""
        self.running.discard(task.name)
        self.tell(Event("again", task, why))

    def end(self, outcome: Outcome) -> None:
        """Note the end of a task; tasks that need it and can no longer be done are skipped."""
        assert outcome.task.name not in self.outcomes, "a task ends once"
        self.running.discard(outcome.task.name)
        self.outcomes[outcome.task.name] = outcome
        self.tell(Event(outcome.state, outcome.task, outcome.error, outcome))
        if outcome.done:
            return
        for t in self.tasks.values():
            if outcome.task.name in t.needs and t.name not in self.outcomes:
                why = outcome.error if outcome.state == "skipped" else f"{outcome.task.name} failed: {outcome.error}"
                self.end(Outcome(t, "skipped", error=why))
