"""A sweep on the screen: a table that changes on a terminal, a line per event anywhere else. All of it on stderr."""

import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ws.cli.screen import safe_text, say
from ws.cli.words import doing, task_name
from ws.engine import Event, task_states
from ws.grid.cells import Cell
from ws.grid.run import Progress
from ws.progress import duration, progress, silent


class Watch(Progress):
    """Hears what happens to the tasks of a grid and shows it."""

    def __init__(self, cells: Sequence[Cell], with_flags: Callable[[str], str], folder: Path | None = None):
        super().__init__(c.name for c in cells)
        self.with_flags, self.folder = with_flags, folder
        """The folder is where tasks say what they do, if they do."""
        self.start = time.monotonic()
        self.live: Live | None = None
        self.around = ExitStack()
        self.lock = threading.Lock()

    def __enter__(self) -> "Watch":
        if sys.stderr.isatty() and not silent():
            self.live = Live(
                get_renderable=self.table, console=Console(stderr=True), refresh_per_second=2, transient=True
            )
            self.live.start()
        self.beat = self.around.enter_context(progress(len(self.cells), "cells", shown=self.live is None))
        return self

    def __exit__(self, *_: object) -> None:
        self.around.close()
        if self.live is not None:
            self.live.stop()

    # ------------------------------------------------------------ hearing

    def tell(self, event: Event) -> None:
        """Called by the engine whenever a task starts or ends."""
        name = event.task.name
        with self.lock:
            before = len(self.done)
            super().tell(event)
        self.beat(len(self.done) - before)
        if self.live is None:
            if line := self.line(event):
                say(line)
        elif event.kind in ("failed", "again"):
            self.live.console.print(
                f"[red]{event.kind}[/] {safe_text(task_name(name))}: {safe_text(self.with_flags(event.text))}",
                highlight=False,
            )

    def line(self, event: Event) -> str:
        """One event as a line of a log; a task that starts, or is skipped, is not news."""
        name = event.task.name
        head = f"[{len(self.done)}/{len(self.cells)}]" if name in self.cells else ""
        if event.kind == "again":
            return f"{'':>8} again    {task_name(name)}: {self.with_flags(event.text)}"
        if event.kind == "failed":
            log = f"\n{'':>18}log: {event.outcome.log}" if event.outcome is not None and event.outcome.log else ""
            return f"{head:>8} failed   {task_name(name)}: {self.with_flags(event.text)}{log}"
        if event.kind != "done":
            return ""
        assert event.outcome is not None
        took = f"{event.outcome.seconds:.1f} s" if event.outcome.value["made"] else "reused"
        left = f"   about {duration(self.seconds)} left" if self.seconds and name in self.cells else ""
        return f"{head:>8} done     {task_name(name)}  {took}{left}"

    def say(self, line: str) -> None:
        """A line of its own, above the table where there is one."""
        if self.live is None:
            say(line)
        else:
            self.live.console.print(safe_text(line), highlight=False)

    def stopped(self) -> str:
        """What an interruption left."""
        return f"{len(self.done)} of {len(self.cells)} studies are done; a study that was begun goes on where it was."

    # ------------------------------------------------------------ showing

    def table(self) -> Group:
        """The screen now."""
        with self.lock:
            ended, current = dict(self.ended), dict(self.current)
            notes = {} if self.folder is None else task_states(self.folder)
        n, done, failed = len(self.cells), len(self.done), len(self.failed)
        hours = (time.monotonic() - self.start) / 3600
        rate = f"{done / hours:.0f}/h" if done and hours > 0 else "–"
        left = f"about {duration(self.seconds)} left" if self.seconds else "time left: –"
        head = Table.grid(padding=(0, 2))
        head.add_row(
            ProgressBar(n, done + failed, width=24),
            f"{done}/{n} done",
            *([Text(f"{failed} failed", "red")] if failed else []),
            f"{len(current)} running",
            rate,
            left,
            duration(3600 * hours),
        )
        table = Table(box=None, pad_edge=False, header_style="dim")
        for name in ("study", "state", "", "time"):
            table.add_column(name, no_wrap=True, justify="right" if name == "time" else "left")
        for name, since in current.items():
            at = notes.get(name)
            state = "starting" if at is None else "stopping" if at.state == "stopped" else doing(at.told)
            again = " (again)" if name in self.retried else ""
            table.add_row(
                safe_text(task_name(name)),
                Text(f"running{again}", "cyan"),
                safe_text(state),
                duration(time.monotonic() - since),
            )
        room = max(4, self.live.console.height - 8 - len(current)) if self.live is not None else 20
        news = [(k, e) for k, e in ended.items() if e.kind == "failed" or k in self.cells]
        news.sort(key=lambda n: n[1].kind != "failed")
        failures = [x for x in news if x[1].kind == "failed"][:room]
        others = [x for x in news if x[1].kind != "failed"]
        for name, event in [*failures, *others[::-1][: max(0, room - len(failures))]]:
            style = {"done": "green", "failed": "red", "skipped": "yellow"}[event.kind]
            took = duration(event.outcome.seconds) if event.outcome and event.outcome.seconds else ""
            ready = event.kind == "done" and event.outcome is not None and not event.outcome.value["made"]
            table.add_row(
                safe_text(task_name(name)),
                Text("reused" if ready else event.kind, style),
                safe_text(self.with_flags(event.text)[:60]),
                took,
            )
        waiting = n - done - failed - sum(k in self.cells for k in current)
        return Group(head, table, *([Text(f"{waiting} more wait", "dim")] if waiting else []))
