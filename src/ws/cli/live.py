"""A sweep on the screen: a table that changes on a terminal, a line per event anywhere else. All of it on stderr."""

import sys
import threading
import time
from collections.abc import Callable

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ws.cli.screen import plain, say
from ws.cli.words import axes, doing, duration, task_name
from ws.engine import Event, states
from ws.grid.sweep import Cell, Grid, Running, folder_of
from ws.numbers import some

SHOWN_WAITING = 3


class Watch:
    """Hears what happens to the tasks of a sweep and shows it."""

    def __init__(self, grid: Grid, running: Running, with_flags: Callable[[str], str]):
        self.grid, self.running, self.with_flags = grid, running, with_flags
        self.cells: dict[str, Cell] = {c.name: c for c in grid.cells}
        self.ended: dict[str, Event] = {}
        self.current: dict[str, float] = {}
        self.retried: dict[str, str] = {}
        self.most = 1
        """Tasks that ran at once, which is how many workers there are."""
        self.start = time.monotonic()
        self.live: Live | None = None
        self.lock = threading.Lock()

    def announce(self) -> None:
        """What is going to happen, before it does."""
        n = some(len(self.cells), "study", "studies")
        say(f"sweep {self.grid.name}: {n}, {axes(self.grid)}; engine {self.running.engine}; {folder_of(self.grid)}")

    def __enter__(self) -> "Watch":
        if sys.stderr.isatty():
            self.live = Live(
                get_renderable=self.table, console=Console(stderr=True), refresh_per_second=2, transient=True
            )
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live is not None:
            self.live.stop()

    # ------------------------------------------------------------ hearing

    def tell(self, event: Event) -> None:
        """Called by the engine whenever a task starts or ends."""
        name = event.task.name
        with self.lock:
            if event.kind == "started":
                self.current[name] = time.monotonic()
                self.most = max(self.most, len(self.current))
            elif event.kind == "again":
                self.current.pop(name, None)
                self.retried[name] = event.text
            else:
                self.current.pop(name, None)
                self.ended[name] = event
        if self.live is None:
            if line := self.line(event):
                say(line)
        elif event.kind in ("failed", "again"):
            self.live.console.print(
                f"[red]{event.kind}[/] {plain(task_name(name))}: {plain(self.with_flags(event.text))}", highlight=False
            )

    def line(self, event: Event) -> str:
        """One event as a line of a log; a task that starts, or is skipped, is not news."""
        name = event.task.name
        head = f"[{len(self.done)}/{len(self.cells)}]" if name in self.cells else ""
        if event.kind == "again":
            return f"{'':>8} again    {task_name(name)}: {self.with_flags(event.text)}"
        if event.kind == "failed":
            assert event.outcome is not None
            return (
                f"{head:>8} failed   {task_name(name)}: {self.with_flags(event.text)}\n{'':>18}log: {event.outcome.log}"
            )
        if event.kind != "done":
            return ""
        assert event.outcome is not None
        value = event.outcome.value
        ready = not value["made"] if name in self.cells else value["reused"]
        took = "reused" if ready else f"{event.outcome.seconds:.1f} s"
        left = f"   about {duration(self.left)} left" if self.left and name in self.cells else ""
        return f"{head:>8} done     {task_name(name)}  {took}{left}"

    # ------------------------------------------------------------ counting

    @property
    def done(self) -> list[str]:
        """The cells that are done."""
        return [n for n, e in self.ended.items() if n in self.cells and e.kind == "done"]

    @property
    def failed(self) -> list[str]:
        """The cells that cannot be done."""
        return [n for n, e in self.ended.items() if n in self.cells and e.kind != "done"]

    @property
    def took(self) -> list[float]:
        """The seconds of the studies that had something to do."""
        found = [e.outcome for n, e in self.ended.items() if n in self.cells and e.kind == "done"]
        return [o.seconds for o in found if o is not None and o.value["made"]]

    @property
    def left(self) -> float | None:
        """Seconds the rest will take, if it takes as long as what was done; None before anything was."""
        remaining = len(self.cells) - len(self.done) - len(self.failed)
        if not self.took or not remaining:
            return None
        return remaining * sum(self.took) / len(self.took) / self.most

    def stopped(self) -> str:
        """What an interruption left."""
        return f"{len(self.done)} of {len(self.cells)} studies are done; a study that was begun goes on where it was."

    # ------------------------------------------------------------ showing

    def table(self) -> Group:
        """The screen now."""
        with self.lock:
            ended, current = dict(self.ended), dict(self.current)
            told = states(folder_of(self.grid))
        n, done, failed = len(self.cells), len(self.done), len(self.failed)
        hours = (time.monotonic() - self.start) / 3600
        rate = f"{done / hours:.0f} studies/h" if done and hours > 0 else "–"
        left = f"about {duration(self.left)} left" if self.left else "time left: –"
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
            at = told.get(name)
            state = "starting" if at is None else "stopping" if at.state == "stopped" else doing(at.told)
            again = " (again)" if name in self.retried else ""
            table.add_row(
                plain(task_name(name)),
                Text(f"running{again}", "cyan"),
                plain(state),
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
                plain(task_name(name)),
                Text("reused" if ready else event.kind, style),
                plain(self.with_flags(event.text)[:60]),
                took,
            )
        waiting = n - done - failed - sum(k in self.cells for k in current)
        return Group(head, table, *([Text(f"{waiting} more wait", "dim")] if waiting else []))
