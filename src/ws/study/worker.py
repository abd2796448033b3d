"""What a worker process keeps from task to task: the last model, and silence about a server's address."""

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import torch

from ws.engine.state import note
from ws.errors import EndpointFailed
from ws.models.load import Base
from ws.study.planning import Model, load_base


@contextmanager
def address_hidden(address: str | None) -> Iterator[None]:
    """A task's error goes into logs and state files, where the address of a server does not belong."""
    try:
        yield
    except EndpointFailed as e:
        host = urlsplit(address or "").hostname
        raise type(e)(str(e).replace(host, "***") if host else str(e)) from None


_last: dict[tuple[object, ...], Base] = {}


def kept_base(options: Model) -> Base:
    """The model that a task names. A process keeps the last one: most of its tasks share it, and memory may hold no two."""
    key = _key(options)
    if key not in _last:
        _last.clear()  # before the next one is loaded
        note({"doing": f"loading {options.model}"})
        _last[key] = load_base(options)
    if options.threads:  # a task of another model may have changed it
        torch.set_num_threads(options.threads)
    return _last[key]


def keep_base(base: Base, options: Model) -> None:
    """Let tasks that are done in this process use a base that is loaded already."""
    _last.clear()
    _last[_key(options)] = base


def _key(options: Model) -> tuple[object, ...]:
    more = (getattr(options, "quantize", None), getattr(options, "onto", ()))
    return (options.model, options.dtype, options.device, options.threads, *more)
