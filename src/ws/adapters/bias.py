"""Bias only (Fierro & Roger 2025): a vector added to the output of every MLP, at every position.

`b' = b + v`, with v = 0 at the start, also where the layer has no bias of its own: a learnt, all-layer activation
offset. peft has no such adapter, so it is a hook with one parameter per layer.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from ws.adapters.family import Attached, Family, Spec, Tensors, sizes
from ws.direction.forms import BiasShift, Form
from ws.models.load import Base
from ws.models.modules import WRITES_MLP, Linear


def branch(t: Tensors, w, bias, spec: Spec) -> tuple[Form, ...]:
    return (BiasShift(t["bias"]),)


def targets(linears: Sequence[Linear]) -> list[Linear]:
    return [x for x in linears if x.is_called(WRITES_MLP)]


@contextmanager
def attach(base: Base, spec: Spec) -> Iterator[Attached]:
    with ExitStack() as undo:
        shifts = {}
        for name in spec.modules:
            layer = base.linears[name].module
            assert isinstance(layer, nn.Module)
            weight: Tensor = layer.weight  # type: ignore[assignment]
            dtype = torch.promote_types(weight.dtype if weight.is_floating_point() else torch.float32, torch.float32)
            v = nn.Parameter(torch.zeros(sizes(layer)[0], device=weight.device, dtype=dtype))
            undo.callback(layer.register_forward_hook(_adding(v)).remove)
            shifts[f"{name}.bias"] = v
        yield Attached(base.model, shifts)


def _adding(v: nn.Parameter):
    def hook(layer, args, y):
        return (y.to(v.dtype) + v).to(y.dtype)

    return hook


FAMILY = Family(
    "bias",
    lr=(1e-4, 1e-3, 1e-2),
    tiny_lr=1e-1,
    branch=branch,
    attach=attach,
    targets=targets,
    default_layers="all",
    on_packed=True,
)
