"""Work in batches that fit: lengths sorted, sizes halved when memory runs out, progress shown."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from ws.progress import progress

log = logging.getLogger(__name__)
T = TypeVar("T")
R = TypeVar("R")

CPU_TOKENS = 2048  # of one forward pass: from a few hundred tokens on a core is busy, and more only costs memory
DECODES = 8  # times as many where rows are decoded token by token
DEVICE_TOKENS = 65536
SHARE = 0.5  # of the free memory; the rest is for what other processes take meanwhile


def in_batches(
    items: Sequence[T],
    run: Callable[[Sequence[T]], Sequence[R]],
    *,
    size: int | Callable[[T], int],
    length: Callable[[T], int],
    label: str,
) -> tuple[list[R], int]:
    """`run` over all items in batches of like length; results in the items' order, and the batch size that fitted.

    `size` is a number of items, or a function that says how many like the longest of a batch fit (`Room`).
    """
    order = sorted(range(len(items)), key=lambda i: (-length(items[i]), i))  # longest first: memory runs out early
    results: dict[int, R] = {}
    halved, now = 1, 1
    with progress(len(items), label) as step:
        at = 0
        while at < len(order):
            whole = size(items[order[at]]) if callable(size) else size
            now = max(1, whole // halved)
            part = order[at : at + now]
            try:
                answers = run([items[i] for i in part])
            except (torch.OutOfMemoryError, RuntimeError) as e:
                if not is_out_of_memory(e) or len(part) == 1:
                    raise
                halved = -(-whole // (len(part) // 2))
                free_cached()
                log.warning("out of memory with %d rows; going on with half as many", len(part))
                continue
            assert len(answers) == len(part), "a batch must answer every item"
            results.update(zip(part, answers))
            at += len(part)
            step(len(part))
    return [results[i] for i in range(len(items))], now


class Room:
    """The number of rows that one batch may hold: a token budget that keeps the device busy, less where memory is short.

    On an accelerator the first batch is one item, the longest, and its peak memory is measured. On a CPU, where memory
    that runs out kills the process instead of raising, the bytes are counted from the model's shapes before anything
    is allocated. Nothing here depends on the clock, so that a run repeated on the same machine is the same bits.
    """

    def __init__(self, model: nn.Module, *, decodes: bool = False):
        first = next(model.parameters())
        self.device = first.device
        self.tokens = CPU_TOKENS if self.device.type == "cpu" else DEVICE_TOKENS
        if decodes and self.device.type == "cpu":
            self.tokens *= DECODES  # a decoding step reads every weight once, for one row or for many
        self.per_token, self.per_row = _bytes(model, first.element_size(), decodes)
        self._probe: tuple[int, int] | None = None
        self._measured = self.device.type != "cuda"

    def fits(self, tokens: int, rows: int = 1) -> int:
        """The number of items that fit, at `tokens` tokens in `rows` rows each; 1 while the first is being measured."""
        if self._probe is None and not self._measured:
            torch.cuda.reset_peak_memory_stats(self.device)
            self._probe = tokens, torch.cuda.memory_allocated(self.device)
            return 1
        if self._probe is not None and not self._measured:
            peak = torch.cuda.max_memory_allocated(self.device) - self._probe[1]
            self.per_token, self.per_row, self._measured = peak / self._probe[0], 0.0, True
        fit = self.tokens // max(1, tokens)
        free = free_memory(self.device)
        if free is not None:
            fit = min(fit, int(SHARE * free / max(1.0, tokens * self.per_token + rows * self.per_row)))
        return max(1, fit)


def free_memory(device: torch.device) -> int | None:
    """The free bytes of a device, or None where it does not say."""
    if device.type == "cuda":
        reserve = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + reserve
    try:
        meminfo = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        return int(meminfo["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None


def _bytes(model: nn.Module, width: int, decodes: bool) -> tuple[float, float]:
    """Bytes a forward pass takes per token and per row, a little too many: activations, caches, last logits."""
    config = getattr(model, "config", None)
    config = config.get_text_config() if config is not None else None

    def of(name: str, default: int) -> int:
        return int(getattr(config, name, None) or default)

    hidden, heads = of("hidden_size", 4096), of("num_attention_heads", 32)
    cache = of("num_hidden_layers", 32) * of("num_key_value_heads", heads) * of("head_dim", hidden // heads)
    per_token = width * (12 * hidden + 4 * of("intermediate_size", 4 * hidden) + (4 * cache if decodes else 0))
    return float(per_token), 3.0 * 4 * of("vocab_size", 256_000)


def is_out_of_memory(error: BaseException) -> bool:
    """True for an error that says that memory ran out, on any device."""
    text = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in text or "can't allocate memory" in text


def free_cached() -> None:
    """Give back what an accelerator holds for later."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
