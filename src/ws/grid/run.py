"""Who does the cells: this process, one after the other, or several workers of an engine."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from ws import engine
from ws.engine import Event, Task
from ws.engine.work import function_of, sentence

Ended = Callable[[Task, str], None]
"""(task, why it failed or nothing) when a task has ended."""
Runner = Callable[[Sequence[Task], Ended], dict[str, str]]
"""Does tasks, in an order that their needs allow; name to why it failed, of those that did."""


def serially(tasks: Sequence[Task], ended: Ended = lambda task, why: None) -> dict[str, str]:
    """Do the tasks in their order, in this process, on the model that it has loaded."""
    failed: dict[str, str] = {}
    for task in tasks:
        if lacking := [n for n in task.needs if n in failed]:
            failed[task.name] = f"it needs {lacking[0]}, which failed: {failed[lacking[0]]}"
        else:
            try:
                function_of(task.call)(task.given)
            except Exception as e:  # one cell that breaks, however, is a row that says so and no end of the others
                failed[task.name] = sentence(e)
        ended(task, failed.get(task.name, ""))
    return failed


def on_workers(
    folder: Path,
    *,
    workers: int | None = None,
    threads: int = 1,
    device: str = "auto",
    kind: str = "local",
    address: str | None = None,
) -> Runner:
    """Do them by the workers of an engine; logs lie in `folder`, and are kept where a task failed."""
    engine.check_engine(kind, workers=workers, address=address)

    def run(tasks: Sequence[Task], ended: Ended) -> dict[str, str]:
        def tell(event: Event) -> None:
            if event.kind in ("done", "failed", "skipped"):
                ended(event.task, event.text)

        outcomes = engine.run(
            tasks, folder=folder, engine=kind, workers=workers, threads=threads, device=device, address=address, tell=tell
        )  # fmt: skip
        failed = {name: o.error for name, o in outcomes.items() if not o.done}
        if not failed:
            shutil.rmtree(folder)
        return failed

    return run
