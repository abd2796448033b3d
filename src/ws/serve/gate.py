"""Who may ask a server, how large a request may be, how errors look, and who has left: the part of HTTP that needs no model."""

import asyncio
import hmac
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from ws.serve.refusal import Refusal
from ws.serve.settings import LOCAL, Serving

Handler = Callable[[Request], Awaitable[Response]]
CLOSE = {"Connection": "close"}
PATIENCE = 30
"""Seconds in which a body must come."""


@dataclass(frozen=True)
class Gate:
    """Stands before every address of a server."""

    settings: Serving
    requests: Counter[str] = field(default_factory=Counter)
    """How many there were, by their status."""

    def before(self, handler: Handler, *, key: bool = True) -> Handler:
        """A handler that counts, and asks first whether this client may."""

        async def handle(request: Request) -> Response:
            try:
                self._check_origin(request)
                if key:
                    self._check_key(request)
                response = await handler(request)
            except Refusal as refusal:
                response = await refused(request, refusal)
            except ClientDisconnect:
                response = Response(status_code=499)
            self.requests[str(response.status_code)] += 1
            return response

        return handle

    def _check_key(self, request: Request) -> None:
        if self.settings.key is None:
            return
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        own = hmac.compare_digest(key.strip().encode("utf-8", "replace"), self.settings.key.encode())
        if not own or scheme.lower() != "bearer":
            raise Refusal(401, "this server needs its key, as a bearer token", headers={"WWW-Authenticate": "Bearer"})

    def _check_origin(self, request: Request) -> None:
        """Refuse other people's pages: a browser here would ask this server for them."""
        host = request.headers.get("host", "")
        if self.settings.key is None and _name_of(host) not in (*LOCAL, self.settings.host):
            raise Refusal(403, "without a key this server answers to the names of this machine alone")
        origin = request.headers.get("origin")
        if origin is not None and origin.partition("://")[2] != host:
            raise Refusal(403, "this server answers no pages of others")

    async def body(self, request: Request) -> bytes:
        """The body, up to the largest."""
        most = self.settings.max_body
        packed = request.headers.get("content-encoding", "identity")
        if packed != "identity":
            raise Refusal(415, f"a body is read as it is; send it unpacked, not as {packed[:20]}", headers=CLOSE)
        raw = bytearray()
        try:
            async with asyncio.timeout(PATIENCE):
                async for part in request.stream():
                    raw += part
                    if len(raw) > most:
                        raise Refusal(413, f"the request is larger than {most} bytes", headers=CLOSE)
        except TimeoutError:
            raise Refusal(408, f"the rest of the request did not come within {PATIENCE} s", headers=CLOSE) from None
        return bytes(raw)


def _name_of(host: str) -> str:
    """The name in a Host header, without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


async def health(request: Request) -> Response:
    """That the server is alive."""
    return JSONResponse({"status": "ok"})


# ---------------------------------------------------------------- what went wrong


async def refused(request: Request, refusal: Exception) -> Response:
    assert isinstance(refusal, Refusal)
    return JSONResponse(refusal.as_json(), refusal.status, refusal.headers)


async def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = {
        404: "there is nothing at this address; see /v1/models, /v1/chat/completions and /v1/completions",
        405: "this address takes another method",
    }.get(error.status_code, "this request cannot be answered")
    return await refused(request, Refusal(error.status_code, message, headers=error.headers))


async def _failed(request: Request, error: Exception) -> Response:
    return await refused(request, Refusal(500, "the server failed at this request; its log says why"))


ERRORS = {Refusal: refused, HTTPException: _no_route, Exception: _failed}
"""What each kind of error is answered with."""


# ---------------------------------------------------------------- clients that leave


class Stream(StreamingResponse):
    """A stream of events that says when it is over, also where the client left before it began."""

    def __init__(self, events: AsyncIterator[str | bytes], end: Callable[[], None]):
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(events, media_type="text/event-stream", headers=headers)
        self._end = end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._end()


async def left(request: Request) -> None:
    """Ends when the client leaves."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
