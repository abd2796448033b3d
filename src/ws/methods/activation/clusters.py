"""k-means by angle, for methods that keep several directions instead of one.

`topk_clusters`: the differences d_i of both sides fall into k groups; every token takes the direction of the group it
already leans to most.   h + alpha * u_j,   j = argmax cos(h, u_j)
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ws.methods.activation.method import Edit
from ws.methods.activation.vectors import States

K, ROUNDS = 4, 20


@dataclass(frozen=True, eq=False)
class TopK(Edit):
    """The one of several unit directions that a token leans to most, added."""

    centroids: Float[Tensor, "k d"]
    kind = "topk"

    def __call__(self, h: Tensor, alpha: float | Tensor) -> Tensor:
        nearest = (h @ self.centroids.T).argmax(-1)  # the length of h is the same for all of them
        return h + alpha * self.centroids[nearest]


def topk_clusters(pos: States, neg: States) -> TopK:
    d = pos.double() - neg.double()
    unit = torch.nn.functional.normalize(d, dim=-1)
    groups = by_angle(unit, K)
    mean = d.mean(0)
    axes = []
    for j in groups.unique().tolist():
        u = torch.nn.functional.normalize(unit[groups == j].mean(0), dim=0)
        axes.append(u if float(u @ mean) >= 0 else -u)
    return TopK(torch.stack(axes).float())


def by_angle(x: Float[Tensor, "n d"], k: int, rounds: int = ROUNDS, seed: int = 0) -> Int[Tensor, "n"]:
    """The group of every row by cosine k-means; at most k groups, none of them empty."""
    rows = torch.nn.functional.normalize(x.double(), dim=-1)
    k = min(k, len(rows))
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))
    centers = rows[order[:k]]
    groups = torch.zeros(len(rows), dtype=torch.long)
    for _ in range(rounds):
        groups = (rows @ centers.T).argmax(-1)
        means = torch.stack([rows[groups == j].mean(0) if (groups == j).any() else centers[j] for j in range(k)])
        centers = torch.nn.functional.normalize(means, dim=-1)
    return groups
