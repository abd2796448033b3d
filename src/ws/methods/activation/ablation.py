"""`directional_ablation`: take the part along v away and put the middle of one side there.

    h - min(|alpha|, 1) <h, v> v + alpha mu v,    mu = half of what separates the two sides along v

Written so that alpha 0 is the identity; the published form ablates at 0 too, and so no strength meets a budget.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ws.methods.activation.method import Edit
from ws.methods.activation.vectors import States, mean_diff


@dataclass(frozen=True, eq=False)
class Ablation(Edit):
    """Ablation along a vector, and a shift along it."""

    v: Float[Tensor, "d"]
    mu: Float[Tensor, ""]
    kind = "ablation"

    def __call__(self, h: Tensor, alpha: float | Tensor) -> Tensor:
        along = (h @ self.v)[..., None]
        return h + (alpha * self.mu - bounded_share(alpha) * along) * self.v


def bounded_share(alpha: float | Tensor) -> float | Tensor:
    """min(|alpha|, 1): how much of a bounded change is made."""
    return alpha.abs().clamp(max=1) if isinstance(alpha, torch.Tensor) else min(abs(alpha), 1.0)


def directional_ablation(pos: States, neg: States) -> Ablation:
    v = mean_diff(pos, neg)
    return Ablation(v, 0.5 * (pos.mean(0) - neg.mean(0)) @ v)
