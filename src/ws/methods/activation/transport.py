"""Methods that move one side's distribution onto the other's.

`linear_act`: coordinate by coordinate, the line that best maps sorted neg values onto sorted pos values.
`chars`: a few groups per side, matched by entropic optimal transport; a token moves as the groups near it do.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ws.methods.activation.clusters import K, by_angle
from ws.methods.activation.method import Edit
from ws.methods.activation.vectors import States

SMOOTH, SINKHORN = 0.1, 50


@dataclass(frozen=True, eq=False)
class LinearMap(Edit):
    """`h + alpha ((omega - 1) h + beta)`."""

    omega: Float[Tensor, "d"]
    beta: Float[Tensor, "d"]
    kind = "linear"

    def __call__(self, h: Tensor, alpha: float | Tensor) -> Tensor:
        return h + alpha * ((self.omega - 1) * h + self.beta)


def linear_act(pos: States, neg: States) -> LinearMap:
    a, b = neg.double().sort(dim=0).values, pos.double().sort(dim=0).values
    centered = a - a.mean(0)
    spread = centered.square().sum(0)
    omega = torch.where(spread > 0, (centered * (b - b.mean(0))).sum(0) / spread.clamp(min=1e-300), 1.0)
    return LinearMap(omega.float(), (b.mean(0) - omega * a.mean(0)).float())


@dataclass(frozen=True, eq=False)
class Chars(Edit):
    """`h + alpha sum_i w_i(h) m_i`: m_i is where group i of neg goes, w_i how near h is to it."""

    centers: Float[Tensor, "k d"]
    moves: Float[Tensor, "k d"]
    logmass: Float[Tensor, "k"]
    width: Float[Tensor, ""]
    kind = "chars"

    def __call__(self, h: Tensor, alpha: float | Tensor) -> Tensor:
        # |h - a|^2 without |h|^2, which is the same for all groups; in the log domain, so that nothing is ever 0 / 0
        far = self.centers.square().sum(-1) - 2 * (h @ self.centers.T)
        near = (self.logmass - far / (2 * self.width)).softmax(-1)
        return h + alpha * (near @ self.moves)


def chars(pos: States, neg: States) -> Chars:
    """CHaRS. The published code takes exp(-cost / 0.1) of costs far above 0.1 and adds exactly 0."""
    a, mass_a = _groups(neg)
    b, mass_b = _groups(pos)
    cost = torch.cdist(a, b).square()
    logplan = sinkhorn(cost / cost.mean().clamp(min=1e-300), mass_a.log(), mass_b.log())
    logmass = logplan.logsumexp(1)
    moves = (logplan - logmass[:, None]).exp() @ b - a  # the mean of b_j - a_i over j
    width = (neg.double()[:, None] - a).square().sum(-1).amin(1).mean().clamp(min=1e-12)
    return Chars(a.float(), moves.float(), logmass.float(), width.float())


def sinkhorn(cost: Float[Tensor, "k m"], log_a: Float[Tensor, "k"], log_b: Float[Tensor, "m"]) -> Float[Tensor, "k m"]:
    """The log of the entropic transport plan between two sets of masses."""
    f, g = torch.zeros_like(log_a), torch.zeros_like(log_b)
    scaled = -cost / SMOOTH
    for _ in range(SINKHORN):
        f = log_a - (scaled + g).logsumexp(1)
        g = log_b - (scaled + f[:, None]).logsumexp(0)
    return scaled + f[:, None] + g


def _groups(x: States) -> tuple[Float[Tensor, "k d"], Float[Tensor, "k"]]:
    """Centers of the groups by angle, in the states' own units, and the share of rows in each."""
    groups = by_angle(x, K)
    labels = groups.unique().tolist()
    centers = torch.stack([x[groups == j].double().mean(0) for j in labels])
    return centers, torch.stack([(groups == j).double().mean() for j in labels])
