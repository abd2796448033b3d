"""Answers from a server that speaks the OpenAI chat API, vLLM for one, instead of from a loaded model.

    server = Endpoint("http://localhost:8000/v1", model="Qwen/Qwen3-32B")
    pairs = ws.data(base, "honesty", endpoint=server)

Requests that differ only in their sample go out as one with `n`; each names its own seed, so that a server that honors
seeds answers the same again. Several are under way at once, and rows come back in the order they were asked in. What
has been answered is kept in the working folder: a second call asks only for the rest. Neither the address nor the key
is written anywhere.
"""

import hashlib
import http.client
import json
import logging
import os
import queue
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from email.message import Message
from pathlib import Path, PurePath
from typing import Any, TypeVar
from urllib.parse import urlsplit

from ws.answer_store import AnswerStore, sha_of
from ws.errors import EndpointFailed
from ws.generate import Answer, Sampling
from ws.progress import progress
from ws.types import Json

log = logging.getLogger(__name__)
R = TypeVar("R")

PROTOCOL = "chat/1"
KEY = "WS_GENERATE_KEY"
LOCAL = ("localhost", "127.0.0.1", "::1")
SAMPLES = 16  # asked for in one request; some servers refuse more
TRIES = 6
LONGEST_WAIT = 60.0  # seconds between two tries, whatever the server asks for
TRY_AGAIN = (408, 409, 425, 429, 500, 502, 503, 504)
BIGGEST = 64_000_000  # bytes of one reply
POLL = 0.2
DRAIN = 60.0  # seconds that requests under way are waited for after a failure: what they bring is paid for


@dataclass(frozen=True)
class Question:
    """One question for the server: its text, how many answers, how long, and the name that its seeds come from."""

    name: str
    user: str
    system: str | None
    max_new: int
    samples: int = 1


@dataclass(frozen=True)
class Flags:
    """What the options are called that name a server, for whoever reads a message."""

    address: str = "`generate_with`"
    model: str | None = "`generate_model`"
    """None where there is no such option, and the server's own words are all there is to say."""
    concurrency: str | None = "`generate_concurrency`"
    """None where nothing is kept of what was answered."""
    key: str = KEY


GENERATE = Flags()


@dataclass(frozen=True)
class Endpoint:
    """A server of the OpenAI chat API, and how many requests it may get at once."""

    url: str = field(repr=False)
    """Where it answers, up to and with /v1."""
    model: str | None = None
    """What the server calls the model; the only one it serves when not given."""
    concurrency: int = 8
    """Requests under way at once."""
    timeout: float = 600.0
    """Seconds until an answer is given up and asked for again."""
    key: str | None = field(default=None, repr=False)
    """Sent as a bearer token and never written."""
    wait: float = 1.0
    """Seconds before the second try, doubled for every further one."""
    flags: Flags = field(default=GENERATE, repr=False)
    """How its options are called in messages."""

    def __post_init__(self):
        if not _is_address(self.url):
            raise ValueError(
                f"{self.flags.address} takes an address such as http://localhost:8000/v1, got {_bare(self.url)!r}"
            )
        parts = urlsplit(self.url)
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError(
                f"the address of a server holds no name, password, query or #; a key goes into {self.flags.key}"
            )
        if self.key and not re.fullmatch(r"[!-~]+", self.key):  # http.client would refuse it too, and print it
            raise ValueError(
                f"the key holds a space, a line break or a letter that no key has; look at {self.flags.key}"
            )
        if self.key and parts.scheme == "http" and parts.hostname not in LOCAL:
            raise ValueError(
                "a key is not sent over plain http to another machine; use https, or a tunnel to localhost"
            )
        if self.concurrency < 1 or not self.timeout > 0:
            raise ValueError(f"{self.flags.concurrency} must be at least 1, and the timeout positive")

    @staticmethod
    def from_environment(
        url: str, *, model: str | None = None, concurrency: int = 8, flags: Flags = GENERATE
    ) -> "Endpoint":
        """A server whose key, if it wants one, stands in WS_GENERATE_KEY; files end in a newline, keys do not."""
        return Endpoint(url.strip(), model, concurrency, key=os.environ.get(flags.key, "").strip() or None, flags=flags)

    def described(self) -> Json:
        """The part of it that a record keeps: that a server answered, and its model; not its address."""
        return {"protocol": PROTOCOL, "model": _public(self.served())}

    # ------------------------------------------------------------ what the server says of itself

    def served(self) -> str:
        """The model's name on the server."""
        if self.model:
            return self.model
        names = [m["id"] for m in self.models()]
        if len(names) == 1:
            return names[0]
        listed = ", ".join(_harmless(n) for n in names[:8]) or "none"
        raise ValueError(f"the server has {len(names)} models ({listed}); name one with {self.flags.model}")

    def models(self) -> list[Json]:
        """The models that the server lists."""
        try:
            listing = self._reply("models", None)["data"]
            if not all(isinstance(m["id"], str) for m in listing):
                raise TypeError
        except (KeyError, TypeError, _Passing):
            raise EndpointFailed(
                f"the server lists no models at {_bare(self.url)}/models; is this the address that ends in /v1?"
            ) from None
        return listing

    def _reach(self) -> None:
        """Refuse at once where nothing answers, instead of trying again and again."""
        try:
            self._reply("models", None)
        except _NoServer:
            raise
        except (EndpointFailed, _Passing):
            pass  # it answers; not every server lists its models

    # ------------------------------------------------------------ asking

    def complete(
        self,
        questions: Sequence[Question],
        sampling: Sampling,
        *,
        seed: int,
        work: Path | None = None,
        extra: Mapping[str, object] | None = None,
        label: str = "answers",
        may_refuse: bool = False,
    ) -> tuple[list[list[Answer]], Json]:
        """The answers to every question, in order, and what the server said of itself.

        `extra` goes into every request as it is. With `work`, answers are kept there as they come. A question that the
        server refuses ends all; where it `may_refuse`, it has an empty answer instead, which is not kept.
        """
        body, store = self._stored(sampling, seed, work, extra)
        missing = [a for a in questions if _asks(a) not in store.answers]
        if missing:
            self._reach()
        if len(missing) < len(questions):
            log.info("%d of %d questions were answered before", len(questions) - len(missing), len(questions))
        with progress(sum(a.samples for a in missing), label) as tick:
            for one, answers, names in self._all(missing, body, seed, may_refuse):
                if answers is None:
                    store.answers[_asks(one)], store.names[_asks(one)] = [Answer("", 0, False)] * one.samples, []
                else:
                    store.add(_asks(one), one.name, answers, names)
                tick(one.samples)
        reported = sorted({name for a in questions for name in store.names[_asks(a)]})
        return [store.answers[_asks(a)] for a in questions], {**self.described(), "reported": reported}

    def unanswered(
        self, questions: Sequence[Question], sampling: Sampling, *, seed: int, work: Path | None
    ) -> list[Question]:
        """The questions that `complete` would ask the server, the others being answered."""
        _, store = self._stored(sampling, seed, work, None)
        return [one for one in questions if _asks(one) not in store.answers]

    def _stored(
        self, sampling: Sampling, seed: int, work: Path | None, extra: Mapping[str, object] | None
    ) -> tuple[Mapping[str, object], AnswerStore]:
        """What every request holds, and what was answered to such requests."""
        body = {**_sampled(sampling), **(extra or {}), "model": self.served()}
        return body, AnswerStore(work, sha_of([PROTOCOL, body, seed]))

    def _all(self, questions: Sequence[Question], body: Mapping[str, object], seed: int, may_refuse: bool):
        """(question, answers, what the server reported), as they come; None for the answers to what it refuses.

        The first failure ends all, once the requests under way have brought what they bring. The threads are daemons: one that waits for a slow server does not keep an interrupted command alive.
        """
        todo: queue.SimpleQueue = queue.SimpleQueue()
        done: queue.SimpleQueue = queue.SimpleQueue()
        stop = threading.Event()
        for one in questions:
            todo.put(one)

        def work() -> None:
            while not stop.is_set():
                try:
                    one = todo.get_nowait()
                except queue.Empty:
                    return
                try:
                    done.put((one, *self._one(one, body, seed, stop)))
                except _Refused as e:
                    if not may_refuse:
                        done.put(e)
                        return
                    log.warning("%s", e)
                    done.put((one, None, []))
                except BaseException as e:  # handed to the thread that waits
                    done.put(e)
                    return

        threads = [threading.Thread(target=work, daemon=True) for _ in range(min(self.concurrency, len(questions)))]
        for thread in threads:
            thread.start()
        try:
            for _ in questions:
                while True:  # a wait without an end would not hear Ctrl-C on every system
                    try:
                        result = done.get(timeout=POLL)
                        break
                    except queue.Empty:
                        continue
                if isinstance(result, BaseException):
                    stop.set()
                    yield from _under_way(threads, done)
                    raise result
                yield result
        finally:
            stop.set()

    def _one(
        self, one: Question, body: Mapping[str, object], seed: int, stop: threading.Event
    ) -> tuple[list[Answer], list[str]]:
        """All samples of one question; a server that gives fewer than asked for is asked again, with another seed."""
        messages = [{"role": "system", "content": one.system}] if one.system is not None else []
        messages.append({"role": "user", "content": one.user})
        answers: list[Answer] = []
        reported: set[str] = set()
        while len(answers) < one.samples:
            n = min(SAMPLES, one.samples - len(answers))
            own = int.from_bytes(hashlib.sha256(f"{seed}/{one.name}/{len(answers)}".encode()).digest()[:4], "big") >> 1
            payload = {**body, "messages": messages, "max_tokens": one.max_new, "n": n, "seed": own}
            batch, names = self._tried(lambda: _answers(self._reply("chat/completions", payload)), stop)  # noqa: B023
            answers += batch[:n]
            reported |= names
        return answers, sorted(reported)

    def ask(self, path: str, payload: Mapping[str, object] | None = None) -> Any:
        """One reply as parsed JSON: to a body that is posted, or of what lies at a path; tried again while that can help."""
        return self._tried(lambda: self._reply(path, payload), threading.Event())

    @property
    def _again(self) -> str:
        """What to do where a server fails again and again."""
        if self.flags.concurrency is None:
            return ""
        fewer = f"with {_of_one(self.flags.concurrency)} if it is too much for the server"
        return f" What was answered is kept: the same command goes on from there, {fewer}."

    def _tried(self, once: Callable[[], R], stop: threading.Event) -> R:
        """What one request brings, tried again while that can help."""
        wait = self.wait
        for tries_left in reversed(range(TRIES)):
            try:
                return once()
            except _Passing as e:
                if not tries_left:
                    raise EndpointFailed(f"the server failed {TRIES} times in a row ({e}).{self._again}") from None
                pause = min(max(wait, e.after), LONGEST_WAIT)
                log.warning("%s; trying again in %.0f s", e, pause)
                if stop.wait(pause):
                    raise EndpointFailed("stopped") from None
                wait = min(2 * wait, LONGEST_WAIT)
        raise AssertionError

    def _reply(self, path: str, payload: Mapping[str, object] | None) -> Any:
        """One exchange, as parsed JSON; `_Passing` where another try may help."""
        head = {"Content-Type": "application/json", "Accept": "application/json"}
        if self.key:
            head["Authorization"] = f"Bearer {self.key}"
        data = None if payload is None else json.dumps(payload).encode()
        request = urllib.request.Request(f"{self.url.rstrip('/')}/{path}", data, head)
        until = time.monotonic() + self.timeout
        try:
            with self._opener().open(request, timeout=self.timeout) as reply:
                raw = _read(reply, BIGGEST + 1, until)
        except urllib.error.HTTPError as e:
            with e:
                self._refused(e, until)
        except TimeoutError:
            raise _Passing(f"no answer in {self.timeout:g} s") from None
        except OSError as e:  # no route, refused, reset: all of urllib's, and the socket's own
            reason = getattr(e, "reason", e)
            if isinstance(reason, TimeoutError):
                raise _Passing(f"no answer in {self.timeout:g} s") from None
            why = getattr(reason, "strerror", None) or type(reason).__name__
            if payload is None:
                raise _NoServer(
                    f"there is no server at {_bare(self.url)} ({why}); start it, or give another address"
                ) from None
            raise _Passing(f"the connection failed ({why})") from None
        except http.client.HTTPException as e:  # no OSError: a reply that was cut off, or that is no HTTP
            raise _Passing(f"the reply was cut off or is not HTTP ({type(e).__name__})") from None
        if len(raw) > BIGGEST:
            raise EndpointFailed(f"the server's reply is longer than {BIGGEST // 1_000_000} MB")
        try:
            content = json.loads(raw)
        except ValueError:
            if re.match(rb"\s*(data|event|id|retry)?:", raw):
                raise EndpointFailed(
                    "the server streams its replies, which nobody asked for; switch that off"
                ) from None
            raise _Passing(f"the reply is not JSON ({self._said(raw[:4096]) or 'empty'})") from None
        except RecursionError:
            raise _Passing("the reply is JSON of no sensible depth") from None
        if isinstance(content, dict) and content.get("error"):  # some say 200 and mean something else
            raise _Passing(f"the server says: {self._said(raw[:4096])}")
        return content

    def _opener(self) -> urllib.request.OpenerDirector:
        handlers: list[urllib.request.BaseHandler] = [_NoRedirect()]
        if urlsplit(self.url).hostname in LOCAL:
            handlers.append(urllib.request.ProxyHandler({}))  # a proxy would look for this machine's server on itself
        return urllib.request.build_opener(*handlers)

    def _said(self, raw: bytes) -> str:
        """The server's own words, short and harmless, without the key that some repeat."""
        words = _message(raw)
        return words.replace(self.key, "***") if self.key else words

    def _refused(self, e: urllib.error.HTTPError, until: float) -> None:
        """Raise what an HTTP error means: another try, or one sentence with the server's own words."""
        try:
            words = self._said(_read(e, 4096, until))
        except (OSError, http.client.HTTPException):  # the code says enough
            words = ""
        if e.code in TRY_AGAIN:
            after = e.headers.get("Retry-After") or "" if e.headers else ""
            raise _Passing(
                f"the server says {e.code}{f': {words}' if words else ''}", float(after) if after.isdecimal() else 0.0
            )
        if 300 <= e.code < 400:
            where = _harmless(_bare(e.headers.get("Location") or "nowhere"))
            raise EndpointFailed(f"the server redirects to {where}; give that address")
        hint = {
            401: f" Its key goes into the environment variable {self.flags.key}.",
            403: f" Its key goes into the environment variable {self.flags.key}.",
            404: f" Check the address (it ends in /v1) and {self.flags.model}." if self.flags.model else "",
        }.get(e.code, "")
        if e.code == 400 and re.search(r"top_k|min_p|chat_template_kwargs", words):
            hint = " This server knows no top_k: leave it out with `top_k=0`."
        kind = _Refused if e.code in (400, 422) else EndpointFailed
        raise kind(f"the server refuses the request with {e.code}: {_ended(words or 'no reason given')}{hint}")


class _Passing(Exception):
    """A failure that may be over at the next try; `after` is how long the server asks to wait."""

    def __init__(self, what: str, after: float = 0.0):
        super().__init__(what)
        self.after = after


class _Refused(EndpointFailed):
    """The server does not take this request; it may take others."""


class _NoServer(EndpointFailed):
    """Nothing answers at the address."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the key to another place."""

    def http_error_302(self, req: urllib.request.Request, fp: object, code: int, msg: str, headers: Message) -> None:
        return None

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


def _under_way(threads: Sequence[threading.Thread], done: queue.SimpleQueue) -> Iterator[Any]:
    """What the requests that are under way still bring."""
    until = time.monotonic() + DRAIN
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    while not done.empty():
        if not isinstance(result := done.get(), BaseException):
            yield result


def _of_one(flag: str) -> str:
    """An option of a message, set to 1."""
    return f"{flag[:-1]}=1`" if flag.endswith("`") else f"{flag} 1"


def _asks(one: Question) -> str:
    """A hash of all that a question asks for."""
    return sha_of(vars(one))


def _read(reply: "http.client.HTTPResponse | urllib.error.HTTPError", most: int, until: float) -> bytes:
    """A reply's body; a socket's own limit would let a server that sends a byte now and then go on for ever."""
    raw = bytearray()
    while len(raw) < most:
        part = reply.read1(min(65536, most - len(raw)))
        if not part:
            if reply.length:  # read1 says nothing of what was promised and did not come
                raise http.client.IncompleteRead(bytes(raw), reply.length)
            break
        raw += part
        if time.monotonic() > until:
            raise TimeoutError
    return bytes(raw)


def _sampled(sampling: Sampling) -> Json:
    """Sampling settings as the API calls them; those that are off are left out, because not every server knows them."""
    options: Json = {"temperature": sampling.temperature, "top_p": sampling.top_p}
    if sampling.top_k:
        options["top_k"] = sampling.top_k
    if sampling.min_p:
        options["min_p"] = sampling.min_p
    return options


def _answers(reply: Any) -> tuple[list[Answer], set[str]]:
    """The choices of a reply, and what it says of the model; tokens as the server counts them."""
    try:
        choices = sorted(reply["choices"], key=lambda c: c.get("index") or 0)
        answers = []
        for c in choices:
            text, reason = c["message"].get("content") or "", c["finish_reason"]
            if not isinstance(text, str) or reason not in ("stop", "length", "content_filter"):
                raise TypeError
            # half of a pair of surrogates is no text that could be written, and comes where an emoji was cut
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
            # a filtered answer is nobody's: it counts as empty, and the checks of pairs count empty ones
            answers.append(Answer("" if reason == "content_filter" else text.rstrip(), 0, reason == "stop"))
        if not answers:
            raise TypeError
        if len(answers) == 1:  # of several, the server gives one sum
            written, read = _usage(reply.get("usage"))
            answers = [replace(answers[0], n_tokens=written, n_read=read)]
    except (KeyError, TypeError, AttributeError):
        raise _Passing("the reply is not that of a chat completion") from None
    names = {f"{k} {_public(reply[k])}" for k in ("model", "system_fingerprint") if isinstance(reply.get(k), str)}
    return answers, names


def _usage(usage: Any) -> tuple[int, int]:
    """Tokens that one answer and its prompt took; 0 where the server does not say it."""
    counts = [usage.get(name) if isinstance(usage, dict) else None for name in ("completion_tokens", "prompt_tokens")]
    written, read = (n if type(n) is int and n >= 0 else 0 for n in counts)
    return written, read


def _message(raw: bytes) -> str:
    """The server's own words, short and harmless."""
    text = raw.decode("utf-8", "replace")
    try:
        content = json.loads(text)
        inner = content.get("error", content)
        text = str(inner.get("message", inner)) if isinstance(inner, dict) else str(inner)
    except (ValueError, AttributeError):
        text = re.sub(r"(?s)<(style|script)\b.*?(</\1>|$)|<[^>]*>", " ", text)
    return _harmless(text).rstrip(".")


def _ended(words: str) -> str:
    """Words as a sentence."""
    return words if words.endswith(("?", "!")) else f"{words}."


def _harmless(text: str) -> str:
    """One short line without control characters, which a terminal would act on."""
    return " ".join(re.sub(r"[\x00-\x1f\x7f-\x9f]", " ", text).split())[:240]


def _public(model: str) -> str:
    """A model's name without the path that servers take for a name."""
    return PurePath(model).name if model.startswith(("/", "~", ".")) else model


def _is_address(url: str) -> bool:
    """True for an address that urllib can ask; urllib itself finds out late, and with errors of many kinds."""
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").encode("idna")
        numbered = parts.port != 0
    except ValueError:  # brackets, a port that is no number, a label that is empty or too long
        return False
    plain = re.fullmatch(r"[!-~]*", parts.path) and not re.search(r"[\s\x00-\x1f\x7f]", url)
    return parts.scheme in ("http", "https") and bool(host) and numbered and bool(plain)


def _bare(url: str) -> str:
    """An address without name, password and query; one with an @ is not shown, because a wrong one may hide a password."""
    return "an address with an @" if "@" in url else re.split("[?#]", url)[0]
