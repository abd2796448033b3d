"""OFT (Qiu et al. 2023, arXiv 2306.07280): `W' = W R^T`, R block-diagonal on the *input* side.

The input row is turned, x -> x R. peft's default builds R from a skew Q by a truncated series,
`R = I + 2Q + 2Q^2 + 2Q^3 + Q^4`; its exact option gives the opposite rotation, so R is made with the series it was
trained with. The series is not quite a rotation once Q is large.
"""

import torch

from ws.adapters.family import Family, Spec, Tensors
from ws.direction.forms import BlockRotation, Form
from ws.models.load import Base

TERMS = 5


def branch(t: Tensors, w, bias, spec: Spec) -> tuple[Form, ...]:
    q = skew(t["oft_R.weight"], spec.block_size or 0)
    square = q @ q
    less_identity = 2 * q + 2 * square + 2 * square @ q + square @ square  # R - I, with nothing cancelled
    return (BlockRotation(less_identity.mT.contiguous()),)


def skew(upper: torch.Tensor, size: int) -> torch.Tensor:
    """(k, s(s-1)/2) entries above the diagonal -> (k, s, s) skew matrices."""
    rows, cols = torch.triu_indices(size, size, 1)
    q = upper.new_zeros(upper.shape[0], size, size)
    q[:, rows, cols] = upper
    return q - q.mT


def peft_config(spec: Spec, base: Base):
    from peft import OFTConfig

    return OFTConfig(
        r=0,
        oft_block_size=spec.block_size,
        use_cayley_neumann=True,
        num_cayley_neumann_terms=TERMS,
        target_modules=list(spec.modules),
        task_type="CAUSAL_LM",
    )


FAMILY = Family(
    "oft", lr=(2e-4, 1e-3, 4e-3), tiny_lr=2e-3, branch=branch, peft_config=peft_config, default_block=8, conv1d=False
)
