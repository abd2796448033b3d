"""`sspace_w`: steer inside what a matrix can write, by the modes of its own singular value decomposition.

    W = U S V^T,   x_S = U^T (y - b) / sqrt(S),   y + U (sqrt(S) * alpha |cos(x_S, d)| d)

d is the unit difference of both sides' mean x_S, at every matrix that writes to the residual stream. Stored are the
vector U (sqrt(S) d) that is added and the map to x_S; the decomposition itself is not needed again.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ws.direction.groups import WRITES as WRITES
from ws.errors import Unsupported
from ws.methods.activation.method import Edit
from ws.methods.activation.vectors import States, unit
from ws.models.load import Base
from ws.models.modules import layer_slice

NOISE = 1e-6  # of the largest singular value; modes below are rounding


@dataclass(frozen=True, eq=False)
class SingularSpace(Edit):
    """A vector added in proportion to how much of the output lies along it, both seen in singular coordinates."""

    added: Float[Tensor, "o"]
    along: Float[Tensor, "k"]
    inside: Float[Tensor, "k o"]
    bias: Float[Tensor, "o"]
    kind = "sspace"

    def __call__(self, h: Tensor, alpha: float | Tensor) -> Tensor:
        x = (h - self.bias) @ self.inside.T
        gate = torch.nn.functional.cosine_similarity(x, self.along, dim=-1).abs()[..., None]
        return h + alpha * gate * self.added


def writers(base: Base, layers: str) -> list[str]:
    """The matrices that write to the residual stream, in a layer slice."""
    chosen = set(layer_slice(layers, base.depth))
    names = [x.name for x in base.linears.values() if x.block in chosen and x.is_called(WRITES) and x.sees_rows]
    if not names:
        raise Unsupported("sspace_w finds no matrix that writes to the residual stream in these layers.")
    return names


def sspace_w(pos: States, neg: States, weight: Float[Tensor, "o i"], bias: Float[Tensor, "o"] | None) -> SingularSpace:
    u, s, _ = torch.linalg.svd(weight.cpu().double(), full_matrices=False)
    above = s > NOISE * s[0]
    u, root = u[:, above], s[above].sqrt()
    inside = u.T / root[:, None]
    d = unit(inside @ (pos.double().mean(0) - neg.double().mean(0)))
    zero = torch.zeros(weight.shape[0]) if bias is None else bias.float().cpu()
    return SingularSpace((u @ (root * d)).float(), d.float(), inside.float(), zero)
