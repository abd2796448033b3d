"""`cosine_gated`: the mean difference, more where the token already lies along it.   h + alpha v |cos(h, v)|

The gate is small (a random token has |cos| near 1 / sqrt(width)), so calibrated strengths are large.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ws.methods.activation.method import Edit
from ws.methods.activation.vectors import States, mean_diff


@dataclass(frozen=True, eq=False)
class Gated(Edit):
    """A vector added in proportion to how much of the token lies along it."""

    v: Float[Tensor, "d"]
    kind = "gated"

    def __call__(self, h: Tensor, alpha: float | Tensor) -> Tensor:
        gate = torch.nn.functional.cosine_similarity(h, self.v, dim=-1).abs()[..., None]
        return h + alpha * gate * self.v


def cosine_gated(pos: States, neg: States) -> Gated:
    return Gated(mean_diff(pos, neg))
