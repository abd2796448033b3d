"""The one thread that owns the model. Requests go in, tokens come out; nobody else calls the model, and nobody waits for it.

What a client gets comes by its `Receiver`, which is told in this thread and has to hand it on without waiting.
"""

import logging
import math
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from ws.serve.batch import Ask, Batch, Written
from ws.serve.refusal import Refusal

log = logging.getLogger(__name__)

LONGEST_WAIT = 60
"""Seconds that a client is asked to wait at most."""

Receiver = Callable[[Sequence[Written] | Refusal], None]
"""Is told what was written of one request, or that no more will be."""


@dataclass
class Counts:
    """What a server has done since it began."""

    requests: Counter[str] = field(default_factory=Counter)
    """By outcome: the status, `left` for clients that left, `failed` for requests that a failure ended."""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    new_tokens: int = 0
    steps: int = 0
    first_tokens: int = 0
    first_seconds: float = 0.0
    """Seconds from a request's coming to its first token, over all requests that came so far."""


@dataclass(eq=False)
class _Job:
    ask: Ask
    receiver: Receiver
    since: float
    left: int
    """Answers that have not ended."""
    begun: bool = False


class Worker:
    """Runs a batch in a thread of its own, until it is stopped."""

    def __init__(self, batch: Callable[[], Batch], *, most: int, threads: int | None = None):
        self.counts = Counts()
        self._make, self._most = batch, most
        self._threads = threads or torch.get_num_threads()
        self._inbox: deque[tuple[str, _Job]] = deque()
        self._jobs: dict[Ask, _Job] = {}
        self._changed = threading.Condition()
        self._stopping = False
        self._usual = 1.0  # seconds that a request took of late
        self._thread = threading.Thread(target=self._run, name="ws-serve", daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    @property
    def answers(self) -> int:
        """Answers that are written or wait."""
        return sum(job.left for job in list(self._jobs.values()))

    def submit(self, ask: Ask, receiver: Receiver) -> None:
        """Let a request be answered; refused where too many wait."""
        with self._changed:
            if self._stopping:
                raise Refusal(503, "the server is stopping")
            here = self.answers
            if here + ask.n > self._most:
                raise Refusal(
                    429,
                    f"{here} answers are being written or wait here, and {self._most} are the most; try again later",
                    code="busy",
                    headers={"Retry-After": str(min(LONGEST_WAIT, math.ceil(self._usual)))},
                )
            job = _Job(ask, receiver, time.monotonic(), ask.n)
            self._jobs[ask] = job
            self._inbox.append(("add", job))
            self._changed.notify()

    def cancel(self, ask: Ask) -> None:
        """Forget a request whose client has left; one that has ended is no mistake."""
        with self._changed:
            if (job := self._jobs.pop(ask, None)) is not None:
                self._inbox.append(("cancel", job))
                self._changed.notify()

    def stop(self, seconds: float = 5.0) -> None:
        """End: what is still being written is told so."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(seconds)

    # ------------------------------------------------------------ in the thread

    def _run(self) -> None:
        torch.set_num_threads(self._threads)  # a thread has its own number
        batch: Batch | None = None
        while True:
            with self._changed:
                while not (self._inbox or batch or self._stopping):
                    self._changed.wait()
                inbox, stopping = list(self._inbox), self._stopping
                self._inbox.clear()
            if stopping:
                self._end_all(Refusal(503, "the server is stopping"))
                if batch is not None:
                    batch.close()
                return
            try:
                if batch is None:  # one without work is false too
                    batch = self._make()
                for what, job in inbox:
                    batch.add(job.ask) if what == "add" else batch.cancel(job.ask)
                self._deliver(batch.step())
            except Exception:
                log.exception("a step failed; the requests of that moment are ended, and the server goes on")
                self._end_all(Refusal(500, "the server failed at this request; its log says why"))
                if batch is not None:
                    batch.close()
                batch = None

    def _deliver(self, written: Sequence[Written]) -> None:
        """Hand every request what was written of it."""
        now, counts = time.monotonic(), self.counts
        counts.steps += bool(written)
        by_ask: dict[Ask, list[Written]] = {}
        for each in written:
            by_ask.setdefault(each.ask, []).append(each)
        for ask, tokens in by_ask.items():
            with self._changed:
                job = self._jobs.get(ask)
                if job is None:
                    continue
                if not job.begun:
                    job.begun = True
                    counts.first_tokens += 1
                    counts.first_seconds += now - job.since
                    counts.prompt_tokens += len(ask.ids)
                    counts.cached_tokens += tokens[0].cached
                counts.new_tokens += sum(t.token is not None for t in tokens)
                job.left -= sum(t.finish is not None for t in tokens)
                if job.left == 0:
                    self._usual += 0.2 * (now - job.since - self._usual)
                    del self._jobs[ask]
            job.receiver(tokens)

    def _end_all(self, why: Refusal) -> None:
        with self._changed:
            jobs, self._jobs = list(self._jobs.values()), {}
            self._inbox.clear()
        for job in jobs:
            self.counts.requests["failed"] += 1
            job.receiver(why)
