"""The forward pass of experts that lie in one tensor, with other matrices in place of their own.

Such experts multiply by themselves, whatever kernel they are run by: nothing can be added between their two products. What can be
done from outside is to let them see other matrices while they compute. The parameters stay as they are; the others lie
beside them, and only for the length of a pass.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from ws.errors import DirectionMismatch, Unsupported

Passes = Callable[[Tensor], Iterable[tuple[Tensor | None, Mapping[str, Tensor]]]]
"""What experts read, one token per row -> some of the tokens (None: all), and the matrices that these see, by parameter."""


@dataclass(eq=False)
class Exchange:
    """One module of experts whose forward pass is exchanged, until the last user of it leaves."""

    experts: nn.Module
    passes: Passes
    own: Callable[..., Tensor]
    before: Mapping[str, object]
    """The forward pass that the module itself had, where it had one beside that of its class."""
    users: int = field(default=0)

    @classmethod
    def on(cls, experts: nn.Module, passes: Passes) -> "Exchange":
        """The exchange at these experts, with one more user."""
        exchange = _ON.get(experts)
        if exchange is None:
            own = {k: v for k, v in vars(experts).items() if k == "forward"}
            exchange = _ON[experts] = cls(experts, passes, experts.forward, own)
            vars(experts)["forward"] = exchange.forward
        exchange.users += 1
        return exchange

    def remove(self) -> None:
        """One user less; the last one leaves the module as it was."""
        self.users -= 1
        if not self.users:
            del vars(self.experts)["forward"], _ON[self.experts]
            vars(self.experts).update(self.before)

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """What the module's own forward pass says, once for all tokens that see the same matrices."""
        if self.experts not in _ON:
            raise DirectionMismatch("this layer is a copy made inside a steering block; copy the model outside of it")
        x: Tensor = args[0] if args else next(iter(kwargs.values()))
        places, outputs = [], []
        for tokens, matrices in self.passes(x):
            with _seen(self.experts, matrices):
                if tokens is None:
                    return self.own(*args, **kwargs)
                if len(args) + len(kwargs) == 1:  # Llama 4: every token once for each expert, one expert after another
                    raise Unsupported(ONE_FOR_ALL)
                mine = (
                    [_rows(t, tokens, len(x)) for t in args],
                    {k: _rows(t, tokens, len(x)) for k, t in kwargs.items()},
                )
                places.append(tokens)
                outputs.append(self.own(*mine[0], **mine[1]))
        return torch.cat(outputs)[torch.argsort(torch.cat(places))]


ONE_FOR_ALL = "these experts do not read one token per row, and cannot tell rows; give one alpha for all rows."
_ON: WeakKeyDictionary[nn.Module, Exchange] = WeakKeyDictionary()


def _rows(value: Any, tokens: Tensor, n: int) -> Any:
    """What belongs to some of n tokens."""
    if not isinstance(value, Tensor):
        return value
    if value.ndim == 0 or value.shape[0] != n:
        raise Unsupported(ONE_FOR_ALL)
    return value[tokens]


@contextmanager
def _seen(experts: nn.Module, matrices: Mapping[str, Tensor]) -> Iterator[None]:
    """A block in which the attributes of the module are these tensors: Python finds them before torch looks for a parameter."""
    vars(experts).update(matrices)
    try:
        yield
    finally:
        for name in matrices:
            del vars(experts)[name]
