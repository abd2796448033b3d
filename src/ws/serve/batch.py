"""Answers written side by side, each at strengths of its own; they come and go between steps.

    batch = Batch(base, dials, rows=16, pieces=Pieces(64_000_000))
    batch.add(ask)
    while batch:
        for written in batch.step():
            ...

A step reads some pieces of prompts and then one more token of every answer. Whoever shares a step with an answer changes
nothing in it: prompts are read alone, slots keep rows apart, and a row at strength 0 gets exact zeros added.
It knows no HTTP and no threads: one thread calls it.
"""

from collections import Counter, deque
from contextlib import ExitStack
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ws.generate import Request, Sampling, draws_of, pick
from ws.models.base import Base
from ws.models.chat import stop_tokens
from ws.serve.reading import PIECE, Pieces, Reading
from ws.serve.strengths import Dials, Strengths
from ws.serve.text import Text
from ws.slots import Slots
from ws.steer import steer

READ = 2 * PIECE
"""Tokens of prompts that are read between two steps; answers wait no longer than this for prompts."""
LOWEST = -9999.0
"""What the OpenAI API says for the logarithm of 0."""


@dataclass(frozen=True, eq=False)
class Ask:
    """What one request asks of the model."""

    ids: tuple[int, ...]
    strengths: Strengths
    sampling: Sampling
    max_new: int
    seed: int
    name: str
    """What random numbers are drawn by, besides the seed."""
    n: int = 1
    """Answers."""
    stops: tuple[str, ...] = ()
    logprobs: int | None = None
    """How many of the likeliest tokens are named beside each; None for no log-probabilities."""
    answer_only: bool = False
    """The prompt is read unsteered, and so only what is written is steered."""
    kl: bool = False
    """Whether the KL of each token's distribution to the base's is measured, by a second row that follows unsteered."""
    ignore_eos: bool = False
    trimmed: bool = True
    """Whether the answer is a text of its own, without white space at its ends, and does not go on from the prompt's."""
    echo: bool = False
    """Whether the log-probabilities of the prompt's own tokens are wanted too."""
    client: str = ""
    """Who asks; rows are shared between clients."""

    @property
    def rows(self) -> int:
        """Rows that one of its answers needs."""
        return 2 if self.kl and self.strengths else 1


@dataclass(frozen=True)
class Chance:
    """A token and the logarithm of its probability."""

    token: int
    logprob: float


@dataclass(frozen=True, eq=False)
class Written:
    """One more token of one answer."""

    ask: Ask
    choice: int
    token: int | None
    """None where the model is broken at this strength and there is none."""
    text: str
    """What it lets be shown."""
    chance: Chance | None
    top: tuple[Chance, ...]
    kl: float | None
    finish: str | None
    """stop, length or broken, where it is the last."""
    cached: int
    """Tokens of its prompt that were known."""
    prompt: tuple[tuple[Chance, tuple[Chance, ...]], ...] = ()
    """The prompt's own tokens but for the first, with the likeliest at each place, beside the first token that is written."""


@dataclass(eq=False)
class _Row:
    """One answer, from waiting to its end."""

    ask: Ask
    choice: int
    draws: list[float]
    text: Text
    last: int
    count: int = 0
    readings: list[Reading] = field(default_factory=list)


@dataclass(eq=False)
class _Seat:
    """A row of the batch: an answer's own, or the one that follows it unsteered."""

    row: _Row
    number: int
    follows: bool = False


class Batch:
    """All answers that are waited for."""

    def __init__(self, base: Base, dials: Dials, *, rows: int, pieces: Pieces):
        self.base, self.dials, self.rows, self.pieces = base, dials, rows, pieces
        self._numbers = _Numbers(dials, rows + 1)
        self.slots = Slots(base.model, alphas=self._numbers.size)
        self._stops = frozenset(stop_tokens(base.tokenizer, base.model))
        self._waiting: list[_Row] = []
        self._reading: deque[_Row] = deque()
        self._seats: list[_Seat] = []  # seat i is slot i
        self._on: set[str] = set()
        self._steering = ExitStack()

    def __bool__(self) -> bool:
        return bool(self._waiting or self._reading or self._seats)

    def add(self, ask: Ask) -> None:
        """Let the answers of a request wait for free rows."""
        for choice in range(ask.n):
            name = ask.name if choice == 0 else f"{ask.name}#{choice}"
            hot = ask.sampling.temperature > 0
            draws = draws_of([Request(ask.ids, ask.max_new, name)], ask.max_new, ask.seed)[0].tolist() if hot else []
            after = None if ask.trimmed else ask.ids[-1]  # a chat's answer begins anew
            text = Text(self.base.tokenizer, ask.stops, trimmed=ask.trimmed, after=after)
            self._waiting.append(_Row(ask, choice, draws, text, ask.ids[-1]))

    def cancel(self, ask: Ask) -> None:
        """Forget a request whose client has left."""
        self._waiting = [row for row in self._waiting if row.ask is not ask]
        for row in [row for row in self._reading if row.ask is ask]:
            self._reading.remove(row)
            self._numbers.free(ask.strengths)
        for row in {seat.row: None for seat in self._seats if seat.row.ask is ask}:
            self._leave(row)
        self._settle()

    def close(self) -> None:
        """Take all steering off the model."""
        self._steering.close()

    # ------------------------------------------------------------ a step

    def step(self) -> list[Written]:
        """One more token of every answer that is being written, after some reading."""
        self._admit()
        self._read()
        if not self._seats:
            return []
        logits = self.slots.go([seat.row.last for seat in self._seats])
        places = {seat.row: i for i, seat in enumerate(self._seats) if not seat.follows}
        followers = {seat.row: i for i, seat in enumerate(self._seats) if seat.follows}
        sound = torch.isfinite(logits).all(dim=-1).tolist()
        chosen = self._chosen(logits, places)
        written = {}
        for row, i in places.items():
            base = logits[followers[row]] if row in followers else None
            written[row] = self._wrote(row, chosen[row], logits[i], base) if sound[i] else _broken(row)
        for row, token in written.items():
            if token.finish is not None:
                self._leave(row)
        self._settle()
        return list(written.values())

    def _chosen(self, logits: Tensor, places: dict[_Row, int]) -> dict[_Row, int]:
        """The next token of every row, those that sample alike at once."""
        alike: dict[Sampling, list[_Row]] = {}
        for row in places:
            alike.setdefault(row.ask.sampling, []).append(row)
        chosen: dict[_Row, int] = {}
        for sampling, rows in alike.items():
            draws = None
            if sampling.temperature > 0:
                draws = torch.tensor([row.draws[row.count] for row in rows], device=logits.device)
            at = torch.tensor([places[row] for row in rows], device=logits.device)
            chosen.update(zip(rows, pick(logits[at], sampling, draws).tolist()))
        return chosen

    def _wrote(self, row: _Row, token: int, logits: Tensor, base: Tensor | None) -> Written:
        ask = row.ask
        row.last, row.count = token, row.count + 1
        ends = token in self._stops and not ask.ignore_eos
        text = "" if ends else row.text.add(token)
        finish = "stop" if ends or row.text.stopped else "length" if row.count >= ask.max_new else None
        if finish is not None:
            text += row.text.end()
        chance: Chance | None = None
        top: tuple[Chance, ...] = ()
        kl = None
        if ask.logprobs is not None or ask.kl:
            own = logits.float().log_softmax(-1)
            if ask.logprobs is not None:
                chance, top = _chances(own, token, ask.logprobs)
            if ask.kl:
                other = own if base is None else base.float().log_softmax(-1)
                kl = max(0.0, float((own.exp() * (own - other)).sum()))  # roundings may leave it below
        prompt: tuple[tuple[Chance, tuple[Chance, ...]], ...] = ()
        if (heard := row.readings[0].logprobs) and row.count == 1:
            prompt = tuple(_chances(p, t, ask.logprobs or 0) for p, t in zip(heard, ask.ids[1:]))
        return Written(ask, row.choice, token, text, chance, top, kl, finish, row.readings[0].known, prompt)

    # ------------------------------------------------------------ coming and going

    def _admit(self) -> None:
        """Let rows that wait begin to read, those first whose client has the fewest."""
        while self._waiting:
            here = [*self._reading, *{seat.row: None for seat in self._seats}]
            clients, asks = Counter(row.ask.client for row in here), Counter(row.ask for row in here)
            # the first of equals
            row = min(self._waiting, key=lambda r: (clients[r.ask.client], asks[r.ask]))
            if sum(r.ask.rows for r in here) + row.ask.rows > self.rows:
                return
            self._waiting.remove(row)
            self._begin(row)
            self._reading.append(row)
        self._settle()

    def _begin(self, row: _Row) -> None:
        """Let a row's prompt be read: under its strengths or unsteered, and unsteered once more for the row that follows."""
        ask, number = row.ask, self._numbers.take(row.ask.strengths)
        under = [((), 0) if ask.answer_only else (ask.strengths, number), *[((), 0)] * (ask.rows - 1)]
        model, of = self.base.model, self._numbers.size
        pieces = Pieces(0) if ask.echo else self.pieces  # what is known already is not read, and so not heard
        row.readings = [Reading(model, pieces, ask.ids, strengths, n, of) for strengths, n in under]
        if ask.echo:
            row.readings[0].logprobs = []

    def _read(self) -> None:
        """Read pieces of prompts, a piece of each in turn; those that are whole take their seats."""
        tokens = 0
        while self._reading and tokens < READ:
            row = self._reading.popleft()
            todo = next((r for r in row.readings if r), None)
            if todo is not None:
                tokens += todo.go()
            if any(row.readings):
                self._reading.append(row)
            else:
                self._seat(row)
        self._settle()

    def _seat(self, row: _Row) -> None:
        numbers = [self._numbers[row.ask.strengths], 0]
        for reading, number, follows in zip(row.readings, numbers, (False, True)):
            self.slots.seat(len(row.ask.ids), number, reading.layers)
            self._seats.append(_Seat(row, number, follows))

    def _leave(self, row: _Row) -> None:
        for i in reversed([i for i, seat in enumerate(self._seats) if seat.row is row]):
            self.slots.leave(i)
            self._seats[i] = self._seats[-1]
            self._seats.pop()
        self._numbers.free(row.ask.strengths)

    def _settle(self) -> None:
        """Switch on what is needed now, and nothing else; without rows, give their memory back."""
        rows = [*self._reading, *(seat.row for seat in self._seats)]
        if not rows:
            self.slots.empty()
        needed = {name for row in rows for name, _ in row.ask.strengths}
        if needed == self._on:
            return
        self._steering.close()
        for name in sorted(needed):
            direction = self.dials.by_name[name].direction
            self._steering.enter_context(steer(self.base, direction, self._numbers.alphas[name]))
        self._on = needed


def _broken(row: _Row) -> Written:
    return Written(row.ask, row.choice, None, "", None, (), None, "broken", row.readings[0].known)


class _Numbers:
    """The strengths that are in use, each by a number; 0 is the base, and stays."""

    def __init__(self, dials: Dials, size: int):
        self.size = size
        self.alphas = {name: torch.zeros(size, dtype=torch.float64) for name in dials.by_name}
        """Of every direction its alpha under each number; `steer` looks at them anew in every pass."""
        self._numbers: dict[Strengths, int] = {(): 0}
        self._uses: Counter[Strengths] = Counter({(): 1})

    def __getitem__(self, strengths: Strengths) -> int:
        return self._numbers[strengths]

    def take(self, strengths: Strengths) -> int:
        """The number of these strengths, from now on in use once more."""
        if strengths not in self._numbers:
            number = min(set(range(self.size)) - set(self._numbers.values()))
            self._numbers[strengths] = number
            for name, alphas in self.alphas.items():
                alphas[number] = dict(strengths).get(name, 0.0)
        self._uses[strengths] += 1
        return self._numbers[strengths]

    def free(self, strengths: Strengths) -> None:
        """One use less."""
        self._uses[strengths] -= 1
        if self._uses[strengths] == 0:
            del self._uses[strengths]
            number = self._numbers.pop(strengths)
            for alphas in self.alphas.values():
                alphas[number] = 0.0


def _chances(logprobs: Tensor, token: int, top: int) -> tuple[Chance, tuple[Chance, ...]]:
    """A token's log-probability, and the likeliest ones."""
    values, ids = logprobs.topk(min(top, len(logprobs))) if top else (logprobs[:0], logprobs[:0].long())
    best = tuple(Chance(i, max(p, LOWEST)) for i, p in zip(ids.tolist(), values.tolist()))
    return Chance(token, max(float(logprobs[token]), LOWEST)), best
