"""Rows of one batch that are alike up to a block, computed once up to there: parts of a direction that begin to differ late.

    with sharing(base, numbers, table, k):      # every k rows read the same, row i is steered by table[numbers[i]]
        base.model(...)

Part n changes nothing below its first module, and two parts that change the same modules below a block bring the same states into
it. So each block is given one row for all parts that are the same so far, and rows part where their parts do. The cache holds all rows
when a pass is over.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ws.models import Base
from ws.models.modules import blocks_of, text_config
from ws.prefix_cache import holds
from ws.steer import rows_of
from ws.types import Cache


def can_share(base: Base) -> bool:
    """Whether blocks are given rows in the plain way: models of more than text hand them positions of other shapes."""
    return text_config(base.model) is base.model.config and holds(base)


@contextmanager
def sharing(base: Base, strengths: Tensor, modules: Sequence[str], k: int) -> Iterator[None]:
    """A block in which every k rows of a batch read the same, and are computed apart only from where their strengths (rows, modules) do."""
    blocks = blocks_of(base.model)[1]
    shared = _Shared(strengths, [base.layers[m].block for m in modules], len(blocks), k)
    with ExitStack() as hooks:
        hooks.callback(shared.rest)
        for at, block in enumerate(blocks):
            hooks.callback(block.register_forward_pre_hook(shared.into(at), with_kwargs=True).remove)
            hooks.callback(block.register_forward_hook(shared.out_of(at), with_kwargs=True).remove)
        yield


class _Shared:
    """Which rows each block is given, out of all."""

    def __init__(self, strengths: Tensor, blocks: Sequence[int], depth: int, k: int):
        self.all, self._steered = len(strengths), ExitStack()
        self.rows: list[Tensor] = []
        """By block: of all rows those that it is given."""
        self.places: list[Tensor] = []
        """By block: the place of each row among those."""
        item = torch.arange(self.all)[:, None] // k
        for at in range(depth):
            below = [i for i, block in enumerate(blocks) if block <= at]
            own = torch.cat([item.to(strengths.dtype), strengths[:, below]], dim=1)
            _, places = torch.unique(own, dim=0, return_inverse=True)
            first = torch.full((int(places.max()) + 1,), self.all).scatter_reduce(
                0, places, torch.arange(self.all), "amin"
            )
            order = first.argsort()
            self.rows.append(first[order])
            self.places.append(order.argsort()[places])

    def into(self, at: int) -> Callable[..., Any]:
        """The hook before a block: states, masks and the cache of its rows alone."""
        from_above = self.places[at - 1][self.rows[at]] if at else self.rows[at]

        def hook(block: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
            given = {name: self._of_rows(value, at) for name, value in kwargs.items() if name != "hidden_states"}
            x = args[0] if args else kwargs["hidden_states"]
            _select(kwargs.get("past_key_values"), at, self.rows[at], self.all)
            self._steered.enter_context(rows_of(self.rows[at].tolist(), self.all))
            x = x.index_select(0, from_above.to(x.device))
            others = tuple(self._of_rows(value, at) for value in args[1:])
            return ((x, *others), given) if args else ((), {"hidden_states": x, **given})

        return hook

    def out_of(self, at: int) -> Callable[..., Any]:
        """The hook after a block: its cache, and after the last one its states, are those of all rows again."""
        last = at == len(self.rows) - 1

        def hook(block: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], out: Any) -> Any:
            self._steered.close()
            _select(kwargs.get("past_key_values"), at, self.places[at], len(self.rows[at]))
            if not last:
                return out
            whole = (out if isinstance(out, Tensor) else out[0]).index_select(0, self.places[at])
            return whole if isinstance(out, Tensor) else (whole, *out[1:])

        return hook

    def rest(self) -> None:
        """Leave the rows of a block that was not left in order."""
        self._steered.close()

    def _of_rows(self, value: Any, at: int) -> Any:
        """A mask or positions, of the rows of a block; what has no rows as it is."""
        if isinstance(value, Tensor) and value.ndim > 1 and value.shape[0] == self.all:
            return value.index_select(0, self.rows[at].to(value.device))
        return tuple(self._of_rows(v, at) for v in value) if type(value) is tuple else value


def _select(cache: Cache | None, at: int, rows: Tensor, of: int) -> None:
    """Rows of one block's cache, where it holds any."""
    layers = getattr(cache, "layers", ())
    if at < len(layers) and layers[at].is_initialized and layers[at].keys.shape[0] == of:
        layers[at].batch_select_indices(rows.to(layers[at].keys.device))
