"""Who writes a judge's replies: a server of the OpenAI API, or a model that is loaded here. Both keep what they wrote.

A reply is found again by all that was asked, so that nothing is paid twice and a judge that was killed goes on.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

from ws.answer_store import AnswerStore, sha_of
from ws.endpoint import Endpoint, Flags, Question
from ws.generate import Answer, Request, Sampling, complete, context_of
from ws.models.chat import Chat, encode, render
from ws.models.load import Base
from ws.records import locked, slug, writable

log = logging.getLogger(__name__)

FLAGS = Flags("a judge", "URL#MODEL", "`judge_concurrency`", "WS_JUDGE_KEY")
LETTERS = 4  # a token, about, of a text that no tokenizer is here for
PROTOCOL = "judge-model/1"


@runtime_checkable
class Writer(Protocol):
    """Whoever writes replies, and keeps them."""

    @property
    def id(self) -> str:
        """Its name, without an address."""
        ...

    @property
    def greedy(self) -> bool:
        """Whether it says the same again, so that a second vote is none."""
        ...

    def count(self, text: str) -> int:
        """Tokens of a text, or a guess at them."""
        ...

    def missing(self, questions: Sequence[Question]) -> list[Question]:
        """The questions that have no reply yet."""
        ...

    def write(self, questions: Sequence[Question], label: str) -> list[Answer]:
        """A reply to every question, an empty one where none can be had; those that are kept are not written again."""
        ...


@dataclass(frozen=True, eq=False)
class Server:
    """A model behind an address."""

    endpoint: Endpoint
    sampling: Sampling
    seed: int
    folder: Path | None
    """Below it replies are kept, a folder a judge."""

    @property
    def id(self) -> str:
        return f"endpoint:{self.endpoint.described()['model']}"

    @property
    def greedy(self) -> bool:
        return False  # a server may answer otherwise even at temperature 0, which a second vote shows

    @property
    def _work(self) -> Path | None:
        return _own_folder(self.folder, self.id, [self.endpoint.served(), asdict(self.sampling), self.seed])

    def count(self, text: str) -> int:
        return 1 + len(text) // LETTERS

    def missing(self, questions: Sequence[Question]) -> list[Question]:
        return self.endpoint.unanswered(questions, self.sampling, seed=self.seed, work=self._work)

    def write(self, questions: Sequence[Question], label: str) -> list[Answer]:
        with _alone(self._work):
            answers, _ = self.endpoint.complete(
                questions, self.sampling, seed=self.seed, work=self._work, label=label, may_refuse=True
            )
        return [answer for [answer] in answers]


@dataclass(frozen=True, eq=False)
class Local:
    """A model that is loaded here."""

    base: Base
    sampling: Sampling
    seed: int
    folder: Path | None

    @property
    def id(self) -> str:
        return f"model:{self.base.id}"

    @property
    def greedy(self) -> bool:
        return self.sampling.temperature == 0

    @property
    def _identity(self) -> list[object]:
        return [PROTOCOL, self.base.fingerprint, str(self.base.dtype), asdict(self.sampling), self.seed]

    @property
    def _work(self) -> Path | None:
        return _own_folder(self.folder, self.id, self._identity)

    def _store(self) -> AnswerStore:
        return AnswerStore(self._work, sha_of(self._identity))

    def count(self, text: str) -> int:
        return len(self._ids(text))

    def missing(self, questions: Sequence[Question]) -> list[Question]:
        store = self._store()
        return [q for q in questions if _asks(q) not in store.answers]

    def write(self, questions: Sequence[Question], label: str) -> list[Answer]:
        with _alone(self._work):
            store = self._store()
            todo = [q for q in questions if _asks(q) not in store.answers]
            requests = {q.name: Request(self._ids(q.user), q.max_new, q.name) for q in todo}
            if too_long := [name for name, r in requests.items() if not self._has_room(r)]:
                log.warning("%d of %d cases are too long for %s, and get no verdict", len(too_long), len(todo), self.id)
            todo = [q for q in todo if q.name not in too_long]

            def keep(number: int, answer: Answer) -> None:
                q = todo[number]
                store.add(_asks(q), q.name, [replace(answer, n_read=len(requests[q.name].ids))])

            chosen = [requests[q.name] for q in todo]
            complete(self.base, chosen, self.sampling, seed=self.seed, keep=keep, label=label)
        return [store.answers.get(_asks(q), [Answer("", 0, False)])[0] for q in questions]

    def _ids(self, text: str) -> tuple[int, ...]:
        tokenizer = self.base.tokenizer
        return tuple(encode(tokenizer, render(tokenizer, Chat(text), thinking="off")))

    def _has_room(self, request: Request) -> bool:
        room = context_of(self.base.model)
        return room is None or len(request.ids) + request.max_new <= room


def _asks(question: Question) -> str:
    return sha_of(vars(question))


def _own_folder(folder: Path | None, name: str, identity: object) -> Path | None:
    return None if folder is None else folder / f"{slug(name)}-{sha_of(identity)[:8]}"


@contextmanager
def _alone(work: Path | None) -> Iterator[None]:
    """One process at a time asks a judge: two would pay for the same replies."""
    if work is None:
        yield
        return
    writable(work)
    if (lock := locked(work / ".lock", 0.5)) is None:
        log.info("waiting for another ws that asks %s", work)
        lock = locked(work / ".lock")
    try:
        yield
    finally:
        lock.release()
