"""PiSSA (Meng et al. 2024, arXiv 2404.02948): LoRA that starts at the top of W's own SVD.

`A0 = sqrt(S/s) V^T`, `B0 = U sqrt(S/s)`, and `W' = W + s (B A - B0 A0)`. The published form moves the base to
`W - s B0 A0`; here the base stays whole and the start is subtracted beside the adapter, which leaves `base` the base. In
float32 training then starts as the base, up to rounding; in bf16 the two large terms each round, and the start differs
from the base (by 0.08 in a logit, measured). The direction is exact either way: it is made from the factors. Two sides
with the same start give a low rank of 2r, because B0 A0 cancels.
"""

import torch

from ws.adapters import lora
from ws.adapters.family import Family, Spec, Tensors
from ws.direction.forms import Form, LowRank
from ws.models.checkpoint import Theta


def branch(t: Tensors, w, bias, spec: Spec) -> tuple[Form, ...]:
    trained = LowRank(spec.scale * t["lora_B.weight"], t["lora_A.weight"])
    if "start.lora_B.weight" not in t:  # measured against the other side, whose start is the same
        return (trained,)
    return (trained.plus(LowRank(-spec.scale * t["start.lora_B.weight"], t["start.lora_A.weight"])),)


def start(base: Theta, spec: Spec) -> Tensors:
    """A0 and B0 of every module: deterministic, so both sides have the same."""
    tensors: Tensors = {}
    for name in spec.modules:
        w = base.weight(name)
        u, s, vh = torch.linalg.svd(w.to(torch.promote_types(w.dtype, torch.float32)), full_matrices=False)
        root = (s[: spec.rank] / spec.scale).sqrt()
        tensors[f"{name}.lora_A.weight"] = (root[:, None] * vh[: spec.rank]).contiguous()
        tensors[f"{name}.lora_B.weight"] = (u[:, : spec.rank] * root).contiguous()
    return tensors


FAMILY = Family(
    "pissa",
    lr=(5e-5, 2e-4, 5e-4),
    tiny_lr=1e-3,
    branch=branch,
    peft_config=lora.peft_config,
    default_rank=32,
    scaled=True,
    reader="lora_A.weight",
    start=start,
)
