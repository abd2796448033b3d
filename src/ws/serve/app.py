"""The HTTP side: routes, who may ask, streams, clients that leave. It runs on the event loop and never calls the model."""

import asyncio
import contextlib
import hmac
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import anyio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from ws.models.base import Base
from ws.serve.batch import Ask, Batch, Written
from ws.serve.metrics import metrics_text
from ws.serve.openapi import described
from ws.serve.reading import Pieces
from ws.serve.refusal import Refusal
from ws.serve.replies import Reply
from ws.serve.requests import Reader, Wanted, parsed
from ws.serve.settings import LOCAL, Serving
from ws.serve.strengths import BASE, Dials
from ws.serve.worker import Worker
from ws.types import Json

PAGE = Path(__file__).parent / "page"
"""Static files of the playground, each served by its name."""
Handler = Callable[[Request], Awaitable[Response]]


@dataclass(eq=False)
class Server:
    """One model, its dials, and the clients that ask."""

    base: Base
    dials: Dials
    settings: Serving
    questions: dict[str, Sequence[str]] = field(default_factory=dict)
    """Of every direction some questions of its behavior."""

    def __post_init__(self):
        s = self.settings
        s.refuse_open()
        self.pieces = Pieces(s.cache_mb * 1_000_000)
        self.reader = Reader(self.base, self.dials, s)
        self.worker = Worker(
            lambda: Batch(self.base, self.dials, rows=s.rows, pieces=self.pieces), most=s.rows + s.queue
        )
        self.app = Starlette(
            routes=self._routes(),
            lifespan=self._lifespan,
            exception_handlers={Refusal: _refused, HTTPException: _no_route, Exception: _failed},
        )
        self._reading = anyio.CapacityLimiter(1)  # one prompt at a time is rendered and cut into tokens

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        self.worker.start()
        try:
            yield
        finally:
            await anyio.to_thread.run_sync(self.worker.stop)

    # ------------------------------------------------------------ routes

    def _routes(self) -> list[Route]:
        files = sorted(p for p in PAGE.glob("*") if p.is_file())
        pages = {"/" if p.name == "index.html" else f"/{p.name}": p for p in files}
        return [
            *(Route(place, self._for(_file(path), key=False)) for place, path in pages.items()),
            Route("/openapi.json", self._for(self._description, key=False)),
            Route("/health", self._for(self._health, key=False)),
            Route("/metrics", self._for(self._metrics)),
            Route("/v1/models", self._for(self._models)),
            Route("/v1/chat/completions", self._for(self._chat), methods=["POST"]),
            Route("/v1/completions", self._for(self._completion), methods=["POST"]),
        ]

    def _for(self, handler: Handler, *, key: bool = True) -> Handler:
        """A handler that counts, and asks first whether this client may."""

        async def handle(request: Request) -> Response:
            try:
                self._check_origin(request)
                if key:
                    self._check_key(request)
                response = await handler(request)
            except Refusal as refusal:
                response = await _refused(request, refusal)
            except ClientDisconnect:
                response = Response(status_code=499)
            self.worker.counts.requests[str(response.status_code)] += 1
            return response

        return handle

    def _check_key(self, request: Request) -> None:
        if self.settings.key is None:
            return
        given = request.headers.get("authorization", "").removeprefix("Bearer ").strip()
        if not hmac.compare_digest(given.encode("utf-8", "replace"), self.settings.key.encode()):
            raise Refusal(401, "this server needs its key, as a bearer token", headers={"WWW-Authenticate": "Bearer"})

    def _check_origin(self, request: Request) -> None:
        """Refuse other people's pages: a browser here would ask this server for them."""
        host = request.headers.get("host", "")
        if self.settings.key is None and _name_of(host) not in (*LOCAL, self.settings.host):
            raise Refusal(403, "without a key this server answers to the names of this machine alone")
        origin = request.headers.get("origin")
        if origin is not None and origin.partition("://")[2] != host:
            raise Refusal(403, "this server answers no pages of others")

    # ------------------------------------------------------------ what there is

    async def _health(self, request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def _description(self, request: Request) -> Response:
        return JSONResponse(described(self.settings))

    async def _metrics(self, request: Request) -> Response:
        return PlainTextResponse(metrics_text(self.worker, self.pieces), media_type="text/plain; version=0.0.4")

    async def _models(self, request: Request) -> Response:
        s = self.settings
        limits = {"rows": s.rows, "max_new_tokens": s.max_new_tokens, "max_body": s.max_body}
        entry: Json = {"object": "model", "created": 0, "owned_by": "ws", "root": self.base.id}
        listing = [{"id": BASE, **entry, "kind": "base", "limits": limits}]
        for name, dial in self.dials.by_name.items():
            questions = list(self.questions.get(name, ()))
            listing.append({"id": name, **entry, "kind": "direction", **dial.described, "questions": questions})
        return JSONResponse({"object": "list", "data": listing})

    # ------------------------------------------------------------ answers

    async def _chat(self, request: Request) -> Response:
        return await self._answer(request, self.reader.chat, chat=True)

    async def _completion(self, request: Request) -> Response:
        return await self._answer(request, self.reader.completion, chat=False)

    async def _answer(self, request: Request, read: Callable[[Json, str], Wanted], *, chat: bool) -> Response:
        body = parsed(await self._body(request))
        client = request.client.host if request.client else ""
        wanted = await anyio.to_thread.run_sync(read, body, client, limiter=self._reading)
        inbox = self._submit(wanted.ask)
        reply = Reply(wanted, self.base.tokenizer, chat=chat)
        if wanted.stream:
            return _Stream(self._events(inbox, reply), lambda: self.worker.cancel(wanted.ask))
        return await self._whole(request, inbox, reply)

    async def _body(self, request: Request) -> bytes:
        """The body, up to the largest."""
        most = self.settings.max_body
        raw = bytearray()
        async for part in request.stream():
            raw += part
            if len(raw) > most:
                raise Refusal(413, f"the request is larger than {most} bytes", headers={"Connection": "close"})
        return bytes(raw)

    def _submit(self, ask: Ask) -> "asyncio.Queue[Sequence[Written] | Refusal]":
        """Give a request to the worker; what it writes comes into the queue."""
        loop, inbox = asyncio.get_running_loop(), asyncio.Queue[Sequence[Written] | Refusal]()

        def receive(written: Sequence[Written] | Refusal) -> None:
            with contextlib.suppress(RuntimeError):  # the loop may be closed, and then nobody waits
                loop.call_soon_threadsafe(inbox.put_nowait, written)

        self.worker.submit(ask, receive)
        return inbox

    async def _events(self, inbox: "asyncio.Queue[Sequence[Written] | Refusal]", reply: Reply) -> AsyncIterator[str]:
        """A stream of events."""
        try:
            for chunk in reply.first():
                yield _event(chunk)
            while not reply.done:
                written = await inbox.get()
                if isinstance(written, Refusal):
                    raise written
                if chunks := reply.add(written):
                    yield "".join(map(_event, chunks))
            yield "".join(map(_event, reply.last())) + "data: [DONE]\n\n"
        except Refusal as refusal:  # the status is sent already
            yield _event(refusal.as_json())

    async def _whole(
        self, request: Request, inbox: "asyncio.Queue[Sequence[Written] | Refusal]", reply: Reply
    ) -> Response:
        """The reply in one piece, or none where the client leaves before."""
        gone = asyncio.ensure_future(_left(request))
        try:
            while not reply.done:
                coming = asyncio.ensure_future(inbox.get())
                await asyncio.wait((coming, gone), return_when=asyncio.FIRST_COMPLETED)
                if not coming.done():
                    coming.cancel()
                    raise ClientDisconnect
                written = coming.result()
                if isinstance(written, Refusal):
                    raise written
                reply.add(written)
        finally:
            gone.cancel()
            self.worker.cancel(reply.wanted.ask)
        return JSONResponse(reply.whole())


class _Stream(StreamingResponse):
    """A stream of events that says when it is over, also where the client left before it began."""

    def __init__(self, events: AsyncIterator[str], end: Callable[[], None]):
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(events, media_type="text/event-stream", headers=headers)
        self._end = end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._end()


async def _left(request: Request) -> None:
    """Ends when the client leaves."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _event(content: Json) -> str:
    return f"data: {json.dumps(content, separators=(',', ':'))}\n\n"


def _file(path: Path) -> Handler:
    async def handle(request: Request) -> Response:
        return FileResponse(path)

    return handle


def _name_of(host: str) -> str:
    """The name in a Host header, without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


# ---------------------------------------------------------------- what went wrong


async def _refused(request: Request, refusal: Exception) -> Response:
    assert isinstance(refusal, Refusal)
    return JSONResponse(refusal.as_json(), refusal.status, refusal.headers)


async def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = {
        404: "there is nothing at this address; see /v1/models, /v1/chat/completions and /v1/completions",
        405: "this address takes another method",
    }.get(error.status_code, "this request cannot be answered")
    return await _refused(request, Refusal(error.status_code, message, headers=error.headers))


async def _failed(request: Request, error: Exception) -> Response:
    return await _refused(request, Refusal(500, "the server failed at this request; its log says why"))
