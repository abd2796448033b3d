"""(IA)^3 (Liu et al. 2022, arXiv 2205.05638): keys and values scaled at their output, the MLP at its last input.

Output gate: `W' = diag(l) W` and the bias becomes `l * b`. Input gate: `W' = W diag(l)`. Gates start at 1.
"""

from collections.abc import Sequence

from ws.adapters.family import Family, Spec, Tensors
from ws.direction.forms import BiasShift, ColScale, Form, RowScale
from ws.models.load import Base
from ws.models.modules import FUSED_ATTENTION, READS_KV, WRITES_MLP, Linear


def branch(t: Tensors, w, bias, spec: Spec) -> tuple[Form, ...]:
    gate = t["ia3_l"]
    less_one = gate.flatten() - 1
    if gate.shape[0] == 1 and gate.shape[1] == w.shape[1]:
        return (ColScale(less_one),)
    return (RowScale(less_one),) + (() if bias is None else (BiasShift(less_one * bias),))


def targets(linears: Sequence[Linear]) -> list[Linear]:
    return [x for x in linears if x.is_called((*READS_KV, *FUSED_ATTENTION, *WRITES_MLP))]


def peft_config(spec: Spec, base: Base):
    from peft import IA3Config

    inputs = [m for m in spec.modules if base.linears[m].is_called(WRITES_MLP)]
    return IA3Config(target_modules=list(spec.modules), feedforward_modules=inputs, task_type="CAUSAL_LM")


FAMILY = Family(
    "ia3", lr=(1e-3, 5e-3, 2e-2), tiny_lr=1e-1, branch=branch, peft_config=peft_config, targets=targets, reads_base=True
)
