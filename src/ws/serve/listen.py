"""A server at an address, until Ctrl-C: the one place that knows uvicorn."""

import asyncio
import contextlib
import socket
from collections.abc import Callable

from starlette.applications import Starlette

GRACE = 10
"""Seconds that answers under way have after Ctrl-C; a second Ctrl-C ends them."""

FAREWELL = 3
"""Seconds in which those that are not finished by then are told so."""

BACKLOG = 2048
"""Connections that may wait to be taken."""


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


def listen(app: Starlette, place: socket.socket, stop: Callable[[], None]) -> None:
    """Serve until Ctrl-C; what is being written then is finished, if it does not take long, and else told so by `stop`."""
    import uvicorn

    class Ending(uvicorn.Server):
        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            asyncio.get_running_loop().call_later(GRACE, stop)
            await super().shutdown(sockets)

    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE + FAREWELL,
    )
    with contextlib.suppress(KeyboardInterrupt):  # uvicorn raises it again when it has ended
        Ending(config).run(sockets=[place])
