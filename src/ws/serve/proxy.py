"""Our strengths in front of llama.cpp: names become scales of its adapters, and the rest of a request is passed on.

    {"model": "honesty@0.5"}    {"lora": [{"id": 0, "scale": 0.5}, {"id": 1, "scale": 0}], "cache_prompt": false, ...}

Every adapter is named with its scale, because one that is not named may keep another. Prompts are read anew, because llama.cpp
may go on from one that it read at other scales. What a request leaves out is what it is for `ws serve`: no field is left
to llama.cpp's own sampling.
"""

import asyncio
import contextlib
import http.client
import json
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import anyio
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ws.serve.gate import ERRORS, Gate, Stream, health, left
from ws.serve.llama_cpp import LlamaCpp
from ws.serve.refusal import Refusal
from ws.serve.requests import (
    CHAT_TOKENS,
    COMPLETION_TOKENS,
    OF_CHAT,
    OF_COMPLETION,
    OFF,
    SHARED,
    field_of,
    number_of,
    parsed,
    refuse_unknown,
)
from ws.serve.settings import Serving
from ws.serve.strengths import BASE, Dials, Strengths, spelled
from ws.types import Json

NOT_THERE = {"suffix", "best_of", "modalities"}
"""Fields that llama.cpp would pass over."""
OURS = {"steer_from", "kl"}
"""Fields of `ws serve` that need its own model."""
SAMPLING: Json = {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0}
"""What a request means that does not say; llama.cpp would take others."""
PIECE = 65536
DONE = b"data: [DONE]"
"""The last event of a stream that is whole."""
T = TypeVar("T")


@dataclass(eq=False)
class Proxy:
    """A server of the OpenAI API whose answers llama.cpp writes."""

    dials: Dials
    """In the order of llama.cpp's adapters."""
    settings: Serving
    llama: LlamaCpp
    questions: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def __post_init__(self):
        self.gate = Gate(self.settings)
        self.new_tokens = 0
        self._exchanges: set[_Exchange] = set()
        self._most = self.settings.rows + self.settings.queue
        self._threads = anyio.CapacityLimiter(self._most)
        before = self.gate.before
        self.app = Starlette(
            routes=[
                Route("/health", before(health, key=False)),
                Route("/v1/models", before(self._models)),
                Route("/v1/models/{name:path}", before(self._model)),
                Route("/v1/chat/completions", before(self._chat), methods=["POST"]),
                Route("/v1/completions", before(self._completion), methods=["POST"]),
            ],
            exception_handlers=ERRORS,
        )
        self.app.router.redirect_slashes = False  # a redirect would go to whatever host a request names

    def stop(self) -> None:
        """End answers that are under way."""
        for exchange in list(self._exchanges):
            exchange.end()

    async def _models(self, request: Request) -> Response:
        return JSONResponse(self.dials.listed(self.settings.limits, self.questions))

    async def _model(self, request: Request) -> Response:
        return JSONResponse(self.dials.entry(request.path_params["name"], self.settings.limits, self.questions))

    async def _chat(self, request: Request) -> Response:
        return await self._pass_on(request, OF_CHAT, CHAT_TOKENS)

    async def _completion(self, request: Request) -> Response:
        return await self._pass_on(request, OF_COMPLETION, COMPLETION_TOKENS)

    async def _pass_on(self, request: Request, own: set[str], usual: int) -> Response:
        body = parsed(await self.gate.body(request))
        off = {name: OFF[name] for name in NOT_THERE}
        refuse_unknown(body, (SHARED | own | OFF.keys()) - OURS - NOT_THERE, off)
        strengths = self.dials.strengths(field_of(body, "model", str, BASE), field_of(body, "steer", dict, {}))
        payload = self.translated(body, strengths, usual)
        if len(self._exchanges) >= self._most:
            raise Refusal(429, f"{self._most} answers are under way; come back later", headers={"Retry-After": "1"})
        exchange = _Exchange(self.llama, request.url.path, payload)
        self._exchanges.add(exchange)
        try:
            status = await self._unless_left(request, exchange, exchange.begin)
            if status == 200 and payload.get("stream") is True:
                return Stream(self._events(exchange, strengths), lambda: self._end(exchange))
            raw = await self._unless_left(request, exchange, exchange.whole)
        except BaseException:
            self._end(exchange)
            raise
        self._end(exchange)
        return JSONResponse(self._reply(status, raw, strengths))

    def translated(self, body: Json, strengths: Strengths, usual: int) -> Json:
        """The body that llama.cpp gets."""
        length = number_of(body, "max_tokens", int, usual, 1, self.settings.max_new_tokens)
        length = number_of(body, "max_completion_tokens", int, length, 1, self.settings.max_new_tokens)
        scales = dict(strengths)
        lora = [{"id": at, "scale": scales.get(name, 0.0)} for at, name in enumerate(self.dials.by_name)]
        asked = {k: v for k, v in body.items() if v is not None and k not in ("steer", "max_completion_tokens")}
        asked |= {"model": spelled(strengths), "max_tokens": length, "lora": lora, "cache_prompt": False}
        return {**SAMPLING, **asked}

    def _reply(self, status: int, raw: bytes, strengths: Strengths) -> Json:
        """What llama.cpp answered, with what it was asked for; its refusals are ours."""
        try:
            reply = json.loads(raw)
            if status != 200:
                words = " ".join(str(reply["error"]["message"]).split())[:240]
                raise Refusal(status if 400 <= status < 500 else 502, f"llama.cpp says: {words}")
            self.new_tokens += int(reply.get("usage", {}).get("completion_tokens", 0))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise Refusal(502, f"llama.cpp answered with {status} and no reply that can be read") from None
        return {**reply, **_written_at(strengths)}

    async def _events(self, exchange: "_Exchange", strengths: Strengths) -> AsyncIterator[bytes]:
        """A stream as it comes, every chunk with the strengths it was written at; llama.cpp would put a path there."""
        rest = event = b""
        with contextlib.suppress(OSError, http.client.HTTPException):  # llama.cpp is gone, or the client
            while piece := await _in_thread(exchange.piece, self._threads):
                *events, rest = (rest + piece).split(b"\n\n")
                for event in events:
                    text = event.removeprefix(b"data: ")
                    if text.startswith(b"{") and "choices" in (chunk := json.loads(text)):
                        self.new_tokens += sum(_says_something(choice) for choice in chunk["choices"])
                        event = b"data: " + json.dumps({**chunk, **_written_at(strengths)}).encode()
                    yield event + b"\n\n"
        if event != DONE:
            broken = Refusal(502, "llama.cpp broke off in the middle of this answer")
            yield b"data: " + json.dumps(broken.as_json()).encode() + b"\n\n"

    async def _unless_left(self, request: Request, exchange: "_Exchange", step: Callable[[], T]) -> T:
        """What a step brings, in a thread of its own; the exchange is broken off where the client leaves before."""
        gone = asyncio.ensure_future(left(request))
        done = asyncio.ensure_future(_in_thread(step, self._threads))
        try:
            await asyncio.wait((done, gone), return_when=asyncio.FIRST_COMPLETED)
            if not done.done():
                exchange.end()
                with contextlib.suppress(OSError, http.client.HTTPException):
                    await done
                raise ClientDisconnect
            return done.result()
        except (OSError, http.client.HTTPException):
            raise Refusal(502, "llama.cpp does not answer; start the server anew") from None
        finally:
            gone.cancel()

    def _end(self, exchange: "_Exchange") -> None:
        exchange.end()
        self._exchanges.discard(exchange)


def _written_at(strengths: Strengths) -> Json:
    return {"model": spelled(strengths), "ws": {"steer": dict(strengths), "steer_from": "prompt"}}


def _says_something(choice: Json) -> bool:
    return bool(choice.get("text") or choice.get("delta", {}).get("content"))


async def _in_thread(step: Callable[[], T], limiter: anyio.CapacityLimiter) -> T:
    """What a step brings that waits for llama.cpp; who stops waiting does not wait for its end."""
    return await anyio.to_thread.run_sync(step, limiter=limiter, abandon_on_cancel=True)


class _Exchange:
    """One request to llama.cpp and its reply, which may be broken off from another thread."""

    def __init__(self, llama: LlamaCpp, path: str, payload: Json):
        self._line = http.client.HTTPConnection("127.0.0.1", llama.port)
        self._path, self._payload = path, json.dumps(payload).encode()
        self._head = {"Content-Type": "application/json", "Authorization": f"Bearer {llama.key}"}
        self._reply: http.client.HTTPResponse | None = None
        self._place: socket.socket | None = None

    def begin(self) -> int:
        """Ask, and wait for the status."""
        self._line.connect()
        self._place = self._line.sock
        self._line.request("POST", self._path, self._payload, self._head)
        self._reply = self._line.getresponse()
        return self._reply.status

    def whole(self) -> bytes:
        """The rest of the reply."""
        assert self._reply is not None
        return self._reply.read()

    def piece(self) -> bytes:
        """What has come; nothing at the end."""
        assert self._reply is not None
        return self._reply.read1(PIECE)

    def end(self) -> None:
        """Break it off: llama.cpp stops writing for who has left."""
        if self._place is not None:
            with contextlib.suppress(OSError):
                self._place.shutdown(socket.SHUT_RDWR)
        self._line.close()
