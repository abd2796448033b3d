"""Methods that turn a token's state instead of adding to it. Both are bounded: |alpha| = 1 is all the way.

`angular`: inside the plane of v and of the direction in which the differences vary most, turn toward v (or -v).
`spherical`: turn the whole state toward v (or -v) along the great circle; its length stays.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ws.methods.activation.ablation import bounded_share
from ws.methods.activation.method import Edit
from ws.methods.activation.vectors import States, mean_diff, right_singular, unit

PARALLEL = 1e-6


@dataclass(frozen=True, eq=False)
class Angular(Edit):
    """`h - P h + |P h| (cos t b1 + sin t b2)`, the angle t of P h moved toward 0 or pi by a share |alpha|."""

    b1: Float[Tensor, "d"]
    b2: Float[Tensor, "d"]
    kind = "angular"
    bound = 1.0

    def __call__(self, h: Tensor, alpha: float | Tensor) -> Tensor:
        x, y = (h @ self.b1)[..., None], (h @ self.b2)[..., None]
        angle, size = torch.atan2(y, x), torch.hypot(x, y)
        target = torch.where(torch.as_tensor(alpha, device=h.device) >= 0, 0.0, math.pi)
        gap = torch.remainder(target - angle + math.pi, 2 * math.pi) - math.pi
        turned = angle + bounded_share(alpha) * gap
        return h + (size * turned.cos() - x) * self.b1 + (size * turned.sin() - y) * self.b2


@dataclass(frozen=True, eq=False)
class Spherical(Edit):
    """`|h| slerp(h / |h|, +-v, |alpha|)`; a state that is zero or parallel to v stays."""

    v: Float[Tensor, "d"]
    kind = "spherical"
    bound = 1.0

    def __call__(self, h: Tensor, alpha: float | Tensor) -> Tensor:
        size = h.norm(dim=-1, keepdim=True)
        sign = alpha.sign() if isinstance(alpha, Tensor) else math.copysign(1.0, alpha)
        now, goal = h / size.clamp(min=1e-12), sign * self.v
        dot = (now * goal).sum(-1, keepdim=True)
        still = (size < 1e-12) | (dot.abs() > 1 - PARALLEL)
        angle = dot.clamp(-1 + PARALLEL, 1 - PARALLEL).acos()
        s = bounded_share(alpha)
        turned = (((1 - s) * angle).sin() * now + (s * angle).sin() * goal) / angle.sin()
        return torch.where(still, h, size * turned)


def angular(pos: States, neg: States) -> Angular:
    b1 = mean_diff(pos, neg).double()
    d = torch.nn.functional.normalize(pos.double() - neg.double(), dim=-1)
    b2 = right_singular(d - d.mean(0), 1)[0]
    return Angular(b1.float(), unit(b2 - (b2 @ b1) * b1).float())


def spherical(pos: States, neg: States) -> Spherical:
    return Spherical(mean_diff(pos, neg))
