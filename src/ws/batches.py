"""Work in batches that fit: lengths sorted, sizes halved when memory runs out, progress shown after a second."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch

log = logging.getLogger(__name__)
T = TypeVar("T")
R = TypeVar("R")


def in_batches(
    items: Sequence[T], run: Callable[[Sequence[T]], Sequence[R]], *, size: int, length: Callable[[T], int], label: str
) -> tuple[list[R], int]:
    """`run` over all items in batches of like length; results in the items' order, and the batch size that fitted."""
    order = sorted(range(len(items)), key=lambda i: (-length(items[i]), i))  # longest first: memory runs out early
    results: dict[int, R] = {}
    with progress(len(items), label) as step:
        at = 0
        while at < len(order):
            part = order[at : at + size]
            try:
                found = run([items[i] for i in part])
            except (torch.OutOfMemoryError, RuntimeError) as e:
                if not is_out_of_memory(e) or size == 1:
                    raise
                size = max(1, size // 2)
                _free()
                log.warning("out of memory; the batch size is now %d", size)
                continue
            assert len(found) == len(part), "a batch must answer every item"
            results.update(zip(part, found))
            at += len(part)
            step(len(part))
    return [results[i] for i in range(len(items))], size


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on any device."""
    text = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in text or "can't allocate memory" in text


@contextmanager
def progress(total: int, label: str) -> Iterator[Callable[[int], Any]]:
    """A progress bar on stderr that appears after a second, and never in a file."""
    from tqdm import tqdm

    with tqdm(total=total, desc=label, delay=1, disable=None, leave=False, miniters=1, mininterval=0.2) as bar:
        yield bar.update


def _free() -> None:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
