"""`svd:R`: the mean difference, as far as the matrices that write to the residual stream write most.

    h + alpha P v,    P the projection on the first R left singular vectors of [W_o, W_down] of the block

v is the unit mean difference; P v keeps the length it has left, so that a block that hardly writes along v is hardly
steered. At full rank P v is v.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from ws.methods.activation.vectors import Vector

RANKS = (1, 4, 8, 16, 32)


def check(rank: str, *more: str) -> None:
    """Refuse what is not a rank."""
    if more or not (rank.isascii() and rank.isdigit() and int(rank) > 0):
        raise ValueError(f"svd takes one rank of 1 or more, e.g. svd:8; got {':'.join([rank, *more])!r}")


def projected(v: Vector, writers: list[Float[Tensor, "d _"]], rank: int) -> Vector:
    """`v` inside the span of the first `rank` left singular vectors of all writers side by side."""
    # those of [A, B] are the eigenvectors of A A^T + B B^T, which is only as large as the stream is wide
    gram = sum(w.detach().cpu().double() @ w.detach().cpu().double().mT for w in writers)
    first = torch.linalg.eigh(gram)[1][:, -rank:]  # eigenvalues ascend
    return (first @ (first.mT @ v.double())).float()
