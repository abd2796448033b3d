"""BOFT (Liu et al. 2023, arXiv 2311.06243) with butterfly factor 1: `W' = diag(s) W M^T`, M block-diagonal.

M is the exact Cayley form of the skew part of each block, s scales outputs and starts at 1; the bias is not scaled.
Written as `diag(s - 1) W + diag(s) W (M^T - I)`, so that small changes are stored as small numbers.
"""

import torch

from ws.adapters.family import Family, Spec, Tensors
from ws.direction.forms import BlockRotation, Form, RowScale
from ws.models.load import Base


def branch(t: Tensors, w, bias, spec: Spec) -> tuple[Form, ...]:
    k, s = t["boft_R"][0], t["boft_s"].flatten()
    q = 0.5 * (k - k.mT)
    eye = torch.eye(q.shape[-1], dtype=q.dtype)
    # (I+Q)^-1 (I-Q) - I = -2 (I+Q)^-1 Q: nothing of size 1 is cancelled
    less_identity = -2 * torch.linalg.solve(eye + q, q)
    return RowScale(s - 1), BlockRotation(less_identity.mT.contiguous(), s)


def peft_config(spec: Spec, base: Base):
    import peft.tuners.boft.layer as layer
    from peft import BOFTConfig

    # peft 0.21.2 compiles a CUDA extension at every layer and warns when it cannot (2026-11); factor 1 needs none
    layer.get_fbd_cuda = lambda: None
    return BOFTConfig(
        boft_block_size=spec.block_size,
        boft_n_butterfly_factor=1,
        target_modules=list(spec.modules),
        task_type="CAUSAL_LM",
    )


FAMILY = Family(
    "boft", lr=(2e-4, 1e-3, 4e-3), tiny_lr=2e-3, branch=branch, peft_config=peft_config, default_block=8, conv1d=False
)
