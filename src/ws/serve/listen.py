"""A server at an address, until Ctrl-C: the one place that knows uvicorn."""

import asyncio
import contextlib
import socket
from collections.abc import Callable

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.auto import AutoHTTPProtocol

GRACE = 10
"""Seconds that answers under way have after Ctrl-C; a second Ctrl-C ends them."""

FAREWELL = 3
"""Seconds in which those that are not finished by then are told so."""

BACKLOG = 2048
"""Connections that may wait to be taken."""

IDLE = 75
"""Seconds that a connection is kept for a next request: longer than clients and proxies keep theirs (5 to 60), so that
none writes into one that is just being closed."""

PATIENCE = 30
"""Seconds in which the head of a request must come."""


def bound(host: str, port: int) -> socket.socket:
    """A socket at this address; refused where another program listens, before a model is loaded.

    Who comes while it is loaded waits.
    """
    place = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        place.bind((host, port))
        place.listen(BACKLOG)
    except (OSError, OverflowError) as e:
        place.close()
        why = getattr(e, "strerror", None) or "no such address"
        raise ValueError(
            f"there can be no server at {host}, port {port}: {why.lower()}; `port=0` takes a free one"
        ) from None
    return place


def most_connections() -> int:
    """Connections that are held at once: half of the files that this process may open."""
    try:
        import resource
    except ImportError:  # not here, and then nobody counts
        return BACKLOG
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return BACKLOG if soft == resource.RLIM_INFINITY else min(BACKLOG, soft // 2)


def configured(app: Starlette) -> uvicorn.Config:
    """How uvicorn is to serve an app."""
    return uvicorn.Config(
        app,
        http=_Connection,
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=IDLE,
        timeout_graceful_shutdown=GRACE + FAREWELL,
    )


class _Connection(AutoHTTPProtocol):  # type: ignore[misc]
    """One connection, which is hung up on where the head of a request does not come; of its body the gate takes care."""

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if len(self.connections) > most_connections():
            self.transport.abort()
        else:
            self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._trust()
        super().connection_lost(exc)

    def _watch(self) -> None:
        """Begin to wait for a head, or stop where one has come."""
        if self.cycle is not None and not self.cycle.response_complete:
            self._trust()
        elif self._late is None:
            self._late = self.loop.call_later(PATIENCE, self.transport.close)

    def _trust(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None


def listen(app: Starlette, place: socket.socket, stop: Callable[[], None]) -> None:
    """Serve until Ctrl-C; what is being written then is finished, if it does not take long, and else told so by `stop`."""

    class Ending(uvicorn.Server):
        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            asyncio.get_running_loop().call_later(GRACE, stop)
            await super().shutdown(sockets)

    with contextlib.suppress(KeyboardInterrupt):  # uvicorn raises it again when it has ended
        Ending(configured(app)).run(sockets=[place])
