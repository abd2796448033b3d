"""How far long work is: a bar on a terminal, a line now and then in a log file, nothing where silence was asked for.

    with progress(len(rows), "scoring") as step:
        for row in rows:
            score(row)
            step(1)

In a file nothing moves, so there a line is written when the work goes on for some seconds, at each further tenth, once a
minute where a tenth takes longer, and at the end. What is over at once is worth no line.
"""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PATIENCE = 5.0
"""Seconds before the first line, and at least between two."""
MINUTE = 60.0
HEARTBEAT = 1.0
"""Seconds between two looks at the clock, so that a step that takes long is no silence."""

NO_BARS = ("HF_HUB_DISABLE_PROGRESS_BARS", "HF_DATASETS_DISABLE_PROGRESS_BARS", "TQDM_DISABLE")
"""What the Hugging Face libraries, `datasets` and tqdm read when they are imported."""

Step = Callable[[int], None]

watchers: list[Callable[[str, int, int], object]] = []
"""Told of every step of all work: its label, how much is done, of how much. A worker has no terminal."""
_silences: list[None] = []


@contextmanager
def silence(asked: bool = True) -> Iterator[None]:
    """Inside the block no progress is shown, on a terminal or in a file; nothing changes where it is not asked for."""
    silences = [None] if asked else []
    _silences.extend(silences)
    try:
        yield
    finally:
        del _silences[len(_silences) - len(silences) :]


def silent() -> bool:
    """Whether silence was asked for."""
    return bool(_silences)


@contextmanager
def progress(total: int, label: str, *, shown: bool = True) -> Iterator[Step]:
    """Shows how far the work in the block is; it calls what it is handed with the number of rows that are done."""
    done = 0
    display = (
        _nothing() if silent() or not shown else _bar(total, label) if sys.stderr.isatty() else _lines(total, label)
    )
    with display as show:

        def step(n: int) -> None:
            nonlocal done
            done += n
            show(n)
            for watch in watchers:
                watch(label, done, total)

        yield step


@contextmanager
def _nothing() -> Iterator[Step]:
    yield lambda n: None


@contextmanager
def _bar(total: int, label: str) -> Iterator[Step]:
    """A bar that appears after a second and goes away with the work."""
    from tqdm import tqdm

    with tqdm(
        total=total, desc=label, unit=" rows", delay=1, disable=False, leave=False, miniters=1, mininterval=0.2
    ) as bar:
        yield bar.update


@contextmanager
def _lines(total: int, label: str) -> Iterator[Step]:
    """Lines, also while one step takes minutes."""
    lines, over = Lines(total, label), threading.Event()

    def beat() -> None:
        while not over.wait(HEARTBEAT):
            lines.look()

    heart = threading.Thread(target=beat, daemon=True)
    heart.start()
    try:
        yield lines.step
        lines.end()
    finally:
        over.set()
        heart.join()


class Lines:
    """The lines of one piece of work in a log file, by a clock."""

    def __init__(
        self,
        total: int,
        label: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        write: Callable[[str], object] = lambda line: print(line, file=sys.stderr, flush=True),
    ):
        self.total, self.label, self.clock, self.write = total, label, clock, write
        self.done = self.tenths = 0
        self.start = clock()
        self.last: float | None = None
        """When the last line was written, if one was."""
        self._lock = threading.Lock()

    def step(self, n: int) -> None:
        """So many more rows are done."""
        with self._lock:
            self.done += n
        self.look()

    def look(self) -> None:
        """Write a line if it is time for one."""
        with self._lock:
            now, tenths = self.clock(), 10 * self.done // max(1, self.total)
            since = now - (self.start if self.last is None else self.last)
            if since < PATIENCE or (self.last is not None and tenths == self.tenths and since < MINUTE):
                return
            self.last, self.tenths = now, tenths
            if self.done < self.total:  # all of it is said at the end
                self.write(self._line(now - self.start))

    def end(self) -> None:
        """The last line, where there was a first."""
        if self.last is not None:
            seconds = self.clock() - self.start
            self.write(f"{self.label}: {self.done} done in {duration(seconds)}{self._rate(seconds)}")

    def _line(self, seconds: float) -> str:
        left = ""
        if self.done:
            left = f", about {duration(seconds / self.done * (self.total - self.done))} left"
        share = 100 * self.done // max(1, self.total)
        return f"{self.label}: {self.done} of {self.total} ({share} %) after {duration(seconds)}{self._rate(seconds)}{left}"

    def _rate(self, seconds: float) -> str:
        return f", {self.done / seconds:.2g}/s" if self.done and seconds > 0 else ""


def no_bars_in_files() -> None:
    """Keep the bars of other libraries out of log files; on a terminal they stay."""
    if sys.stderr.isatty() and not silent():
        return
    os.environ.update(dict.fromkeys(NO_BARS, "1"))  # for what is not imported yet, and for processes that are started
    if (hub := sys.modules.get("huggingface_hub")) is not None:
        hub.utils.disable_progress_bars()
    if (transformers := sys.modules.get("transformers")) is not None:
        transformers.utils.logging.disable_progress_bar()


def duration(seconds: float) -> str:
    """A time as people say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
