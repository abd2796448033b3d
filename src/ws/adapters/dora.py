"""DoRA (Liu et al. 2024, arXiv 2402.09353): `W' = diag(c) (W + s B A)`, with `c_i = m_i / ||(W + s B A)_i||`.

m starts at the row norms of W, so c = 1 and the start is the base. The change is `diag(c - 1) W + s diag(c) B A`: a row
scale plus a low rank, exact although numerically full rank. The bias is not scaled.
"""

from ws.adapters import lora
from ws.adapters.family import Family, Spec, Tensors
from ws.direction.forms import Form, LowRank, RowScale


def branch(t: Tensors, w, bias, spec: Spec) -> tuple[Form, ...]:
    b, a = spec.scale * t["lora_B.weight"], t["lora_A.weight"]
    c = t["lora_magnitude_vector"] / (w + b @ a).norm(dim=1)
    return RowScale(c - 1), LowRank(c[:, None] * b, a)


def peft_config(spec: Spec, base):
    return lora.peft_config(spec, base, use_dora=True)


FAMILY = Family(
    "dora",
    lr=(5e-5, 2e-4, 5e-4),
    tiny_lr=2e-3,
    branch=branch,
    peft_config=peft_config,
    default_rank=32,
    scaled=True,
    reads_base=True,
    reader="lora_A.weight",
)
