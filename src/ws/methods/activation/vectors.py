"""One vector per module from the states of both sides: all methods whose edit is `h + alpha v`.

Shapes: n = texts, d = width. `pos`, `neg` (n, d); row i of both is the same question, and d_i is their difference.

| method       | v                                                                    |
|--------------|----------------------------------------------------------------------|
| mean_diff    | mean pos less mean neg                                               |
| mean_centred | mean pos less the mean of all: half of the same, so the same v       |
| pca, repe    | first right singular vector of the d_i, not centred                  |
| pca_centred  | the same with the d_i centred, which takes the mean contrast away    |
| sspace_act   | the mean of d_i inside the span of its first 8 right singular vectors |

All have unit length and point toward pos. `pca_centred` is there to reproduce published numbers and for nothing else.
"""

import torch
from jaxtyping import Float
from torch import Tensor

States = Float[Tensor, "n d"]
Vector = Float[Tensor, "d"]

SUBSPACE = 8


def unit(v: Tensor) -> Tensor:
    """`v` at length 1; a zero vector is refused, since it points nowhere."""
    size = v.norm()
    if not size > 0:
        raise ValueError("both sides left the same states, so there is no vector between them; look at the personas.")
    return v / size


def mean_diff(pos: States, neg: States) -> Vector:
    return unit(pos.double().mean(0) - neg.double().mean(0)).float()


def mean_centred(pos: States, neg: States) -> Vector:
    both = torch.cat([pos, neg]).double()
    return unit(pos.double().mean(0) - both.mean(0)).float()


def pca(pos: States, neg: States) -> Vector:
    d = pos.double() - neg.double()
    return toward_pos(right_singular(d, 1)[0], d).float()


def pca_centred(pos: States, neg: States) -> Vector:
    d = pos.double() - neg.double()
    return toward_pos(right_singular(d - d.mean(0), 1)[0], d).float()


def sspace_act(pos: States, neg: States) -> Vector:
    d = pos.double() - neg.double()
    v = right_singular(d, SUBSPACE)
    return unit(v.T @ (v @ d.mean(0))).float()


def right_singular(d: Float[Tensor, "n d"], k: int) -> Float[Tensor, "k d"]:
    """The first k right singular vectors."""
    return torch.linalg.svd(d, full_matrices=False)[2][:k]


def toward_pos(v: Vector, d: States) -> Vector:
    """`v`, or its negative: the one on which the differences lie in the mean."""
    return v if float((d @ v).mean()) >= 0 else -v
