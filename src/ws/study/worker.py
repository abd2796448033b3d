"""What a worker process keeps from task to task: the last model, and silence about a server's address."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ws.engine.state import note
from ws.errors import EndpointFailed
from ws.study.options import load_base

if TYPE_CHECKING:
    from ws.models.load import Base


@contextmanager
def address_hidden(address: str | None) -> Iterator[None]:
    """A task's error goes into logs and state files, where the address of a server does not belong."""
    try:
        yield
    except EndpointFailed as e:
        host = urlsplit(address or "").hostname
        raise type(e)(str(e).replace(host, "***") if host else str(e)) from None


_kept: dict[tuple[Any, ...], "Base"] = {}


def kept_base(told: Any) -> "Base":
    """The model that a task names. A process keeps the last one: most of its tasks share it, and memory may hold no two."""
    import torch

    key = _model_of(told)
    if key not in _kept:
        _kept.clear()  # before the next one is loaded
        note({"doing": f"loading {told.model}"})
        _kept[key] = load_base(told)
    if told.threads:  # a task of another model may have changed it
        torch.set_num_threads(told.threads)
    return _kept[key]


def keep_base(base: "Base", told: Any) -> None:
    """Let tasks that are done in this process use a base that is loaded already."""
    _kept.clear()
    _kept[_model_of(told)] = base


def _model_of(told: Any) -> tuple[Any, ...]:
    return (told.model, told.dtype, told.device, told.threads)
