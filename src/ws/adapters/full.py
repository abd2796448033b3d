"""Full fine-tuning: every entry of the chosen matrices is trained, `W' = W + D` with D of any rank.

What is trained is a copy of W in float32, and each pass takes it in the base's own precision: so steps that bf16 would
round away add up, and the start is the base itself. Nothing smaller than D is exact; a direction is as large as the
matrices, is written to disk as it is computed, and read from there. peft has no such adapter, so the layers are
exchanged for trainable ones.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from ws.adapters.family import Attached, Family, Spec, Tensors
from ws.direction.forms import Dense, Form
from ws.models.load import Base
from ws.models.modules import weight_of


def branch(t: Tensors, w, bias, spec: Spec) -> tuple[Form, ...]:
    return (Dense(t["weight"] - w),)


class Trainable(nn.Module):
    """A linear layer with weights of its own."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        weight = weight_of(layer).detach()
        dtype = torch.promote_types(weight.dtype, torch.float32)
        self.weight = nn.Parameter(weight.to(dtype, copy=True, memory_format=torch.contiguous_format))
        self.bias = layer.bias

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight.to(x.dtype), self.bias)  # type: ignore[arg-type]


@contextmanager
def attach(base: Base, spec: Spec) -> Iterator[Attached]:
    with ExitStack() as undo:
        trained = {}
        for name in spec.modules:
            parent, _, last = name.rpartition(".")
            block, layer = base.model.get_submodule(parent), base.linears[name].module
            assert isinstance(layer, nn.Module)
            own = Trainable(layer)
            undo.callback(setattr, block, last, layer)
            setattr(block, last, own)
            trained[f"{name}.weight"] = own.weight
        yield Attached(base.model, trained)


FAMILY = Family("full", lr=(2e-6, 1e-5, 5e-5), tiny_lr=2e-3, branch=branch, attach=attach, reads_base=True, whole=True)
