"""DeLoRA (Bini et al. 2025, arXiv 2503.18225): `W' = W + B diag(l / (r |a_i| |b_i|)) A diag(n)`.

a_i are the rows of A, b_i the columns of B, n the column norms of W; norms are clamped at 1e-4 as in peft. B starts at
0. The size of the change is set by l and not by training, so compare it with other families only at matched KL.
"""

from ws.adapters.family import Family, Spec, Tensors
from ws.direction.forms import Form, LowRank
from ws.models.load import Base

CLAMP = 1e-4


def branch(t: Tensors, w, bias, spec: Spec) -> tuple[Form, ...]:
    a, b = t["delora_A"], t["delora_B"]
    size = a.norm(dim=1).clamp(min=CLAMP) * b.norm(dim=0).clamp(min=CLAMP)  # (r,)
    return (LowRank(b * (t["delora_lambda"] / (spec.rank * size)), a * t["delora_w_norm"]),)


def peft_config(spec: Spec, base: Base):
    from peft import DeloraConfig

    return DeloraConfig(
        r=spec.rank, delora_lambda=spec.delora_lambda, target_modules=list(spec.modules), task_type="CAUSAL_LM"
    )


FAMILY = Family(
    "delora",
    lr=(2e-4, 1e-3, 5e-3),
    tiny_lr=5e-3,
    branch=branch,
    peft_config=peft_config,
    default_rank=32,
    default_lambda=15.0,
    reader="delora_A",
    conv1d=False,
)
