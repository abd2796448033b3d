"""The HTTP side: routes, streams, clients that leave. It runs on the event loop and never calls the model."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import anyio
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from ws.models.base import Base
from ws.serve.batch import Ask, Batch, Written
from ws.serve.gate import ERRORS, Gate, Handler, Stream, health, left
from ws.serve.metrics import metrics_text
from ws.serve.openapi import described
from ws.serve.reading import Pieces
from ws.serve.refusal import Refusal
from ws.serve.replies import Reply
from ws.serve.requests import Reader, Wanted, parsed
from ws.serve.settings import Serving
from ws.serve.strengths import Dials
from ws.serve.worker import Worker
from ws.slots import slots_fit
from ws.types import Json

PAGE = Path(__file__).parent / "page"
"""Static files of the playground, each served by its name."""


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
        slots_fit(self.base.model, 1)  # tried now: once there is a worker, its thread alone calls the model
        self.pieces = Pieces(s.cache_mb * 1_000_000)
        self.reader = Reader(self.base, self.dials, s)
        self.worker = Worker(
            lambda: Batch(self.base, self.dials, rows=s.rows, pieces=self.pieces), most=s.rows + s.queue
        )
        self.gate = Gate(s, self.worker.counts.requests)
        self.app = Starlette(
            routes=self._routes(),
            lifespan=self._lifespan,
            exception_handlers=ERRORS,
        )
        self.app.router.redirect_slashes = False  # a redirect would go to whatever host a request names
        self._reading = anyio.CapacityLimiter(1)  # one prompt at a time is rendered and cut into tokens

    @property
    def new_tokens(self) -> int:
        """Tokens that were written since it began."""
        return self.worker.counts.new_tokens

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        self.worker.start()
        try:
            yield
        finally:
            await anyio.to_thread.run_sync(self.worker.stop)

    def stop(self) -> None:
        """End answers that are under way: their clients are told so."""
        self.worker.stop(0)

    # ------------------------------------------------------------ routes

    def _routes(self) -> list[Route]:
        files = sorted(p for p in PAGE.glob("*") if p.is_file())
        pages = {"/" if p.name == "index.html" else f"/{p.name}": p for p in files}
        return [
            *(Route(place, self.gate.before(_file(path), key=False)) for place, path in pages.items()),
            Route("/openapi.json", self.gate.before(self._description, key=False)),
            Route("/health", self.gate.before(health, key=False)),
            Route("/metrics", self.gate.before(self._metrics)),
            Route("/v1/models", self.gate.before(self._models)),
            Route("/v1/models/{name:path}", self.gate.before(self._model)),
            Route("/v1/chat/completions", self.gate.before(self._chat), methods=["POST"]),
            Route("/v1/completions", self.gate.before(self._completion), methods=["POST"]),
        ]

    # ------------------------------------------------------------ what there is

    async def _description(self, request: Request) -> Response:
        return JSONResponse(described(self.settings))

    async def _metrics(self, request: Request) -> Response:
        return PlainTextResponse(metrics_text(self.worker, self.pieces), media_type="text/plain; version=0.0.4")

    async def _models(self, request: Request) -> Response:
        return JSONResponse(self.dials.listed(self.settings.limits, self.questions))

    async def _model(self, request: Request) -> Response:
        return JSONResponse(self.dials.entry(request.path_params["name"], self.settings.limits, self.questions))

    # ------------------------------------------------------------ answers

    async def _chat(self, request: Request) -> Response:
        return await self._answer(request, self.reader.chat, chat=True)

    async def _completion(self, request: Request) -> Response:
        return await self._answer(request, self.reader.completion, chat=False)

    async def _answer(self, request: Request, read: Callable[[Json, str], Wanted], *, chat: bool) -> Response:
        body = parsed(await self.gate.body(request))
        client = request.client.host if request.client else ""
        wanted = await anyio.to_thread.run_sync(read, body, client, limiter=self._reading)
        inbox = self._submit(wanted.ask)
        reply = Reply(wanted, self.base.tokenizer, chat=chat)
        if wanted.stream:
            return Stream(self._events(inbox, reply), lambda: self.worker.cancel(wanted.ask))
        return await self._whole(request, inbox, reply)

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
        gone = asyncio.ensure_future(left(request))
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


def _event(content: Json) -> str:
    return f"data: {json.dumps(content, separators=(',', ':'))}\n\n"


def _file(path: Path) -> Handler:
    async def handle(request: Request) -> Response:
        return FileResponse(path)

    return handle
