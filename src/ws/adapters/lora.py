"""LoRA (Hu et al. 2021, arXiv 2106.09685): `W' = W + s B A`, with `s = lora_alpha / r`.

B starts at 0, so the start is the base itself. A pair is low rank, of rank 2r; of rank r if both sides share A.
On experts that lie in one tensor, peft keeps the factors of all of them in one A, experts one after another, and one B, experts
in turns.
"""

from ws.adapters.family import Family, Spec, Tensors
from ws.direction.forms import Form, LowRank, Stacked
from ws.models.load import Base
from ws.models.modules import is_turned


def branch(t: Tensors, w, bias, spec: Spec) -> tuple[Form, ...]:
    b, a = spec.scale * t["lora_B.weight"], t["lora_A.weight"]
    if a.shape[0] == spec.rank:
        return (LowRank(b, a),)
    return (Stacked(b.unflatten(1, (spec.rank, -1)).permute(2, 0, 1), a.unflatten(0, (-1, spec.rank))),)


def peft_config(spec: Spec, base: Base, **extra):
    from peft import LoraConfig

    return LoraConfig(
        r=spec.rank,
        lora_alpha=spec.lora_alpha,
        target_modules=[m for m in spec.modules if m in base.linears],
        target_parameters=[m for m in spec.modules if m not in base.linears] or None,
        lora_dropout=0.0,
        bias="none",
        task_type="CAUSAL_LM",
        fan_in_fan_out=any(is_turned(base.linears[m].module) for m in spec.modules if m in base.linears),
        **extra,
    )


FAMILY = Family(
    "lora",
    lr=(5e-5, 2e-4, 5e-4),
    tiny_lr=2e-3,
    branch=branch,
    peft_config=peft_config,
    default_rank=32,
    scaled=True,
    reader="lora_A.weight",
    on_packed=True,
    on_experts=True,
)
