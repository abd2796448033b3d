"""Several directions combined entry by entry, as TIES and DARE do, for directions that cancel each other in a plain sum.

    both, kept = blended([honesty, candor], [1.0, 0.5], how="ties", density=0.2, weight=base.weight)

These rules look at single entries of the change of a weight, so each matrix is built (one module at a time), and the
result is dense unless `rank` cuts it. They are peft's own functions on true changes of weights. Applied to the factors
of adapters, as `add_weighted_adapter` does, they mix nothing that means anything. For exact sums use `a + 0.5 * b`.
"""

import hashlib
import math
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from ws.direction.algebra import compressed
from ws.direction.direction import Direction, WeightOf, same_base
from ws.direction.forms import BiasShift, Dense, Form, LowRank, Stacked
from ws.errors import Unsupported

HOW = ("ties", "dare", "dare-ties")


def blended(
    directions: Sequence[Direction],
    factors: Sequence[float],
    *,
    how: str,
    density: float = 0.2,
    weight: WeightOf | None = None,
    rank: int | None = None,
    seed: int = 0,
) -> tuple[Direction, float]:
    """The combination and the share of its energy that is kept (1 without `rank`).

    `ties` (Yadav et al. 2023) keeps each direction's largest entries up to `density`, lets the signs vote by total
    size, and averages those that agree. `dare` (Yu et al. 2023) drops entries at random, scales the rest by 1/density
    and adds. `dare-ties` drops at random and then votes. Factors are multiplied in before the vote, so that a negative
    factor votes for the other sign. Biases follow the same rule.
    """
    if how not in HOW:
        raise ValueError(f"how is one of {', '.join(HOW)}; got {how!r}. A plain sum is a + b")
    if not directions or len(directions) != len(factors) or not all(map(math.isfinite, factors)):
        raise ValueError(f"give one finite factor per direction; got {len(directions)} and {list(factors)}")
    if not 0 < density <= 1:
        raise ValueError(f"density must lie above 0 and at most at 1, got {density}")
    same_base(*directions)
    forms: dict[str, tuple[Form, ...]] = {}
    part = total = 0.0
    for name in sorted(set().union(*(d.forms for d in directions))):
        parts = [(d, k) for d, k in zip(directions, factors) if name in d.forms]
        changes = [k * _matrix(d, name, weight) for d, k in parts if _has_matrix(d, name)]
        shifts = [k * v.float() for d, k in parts if (v := d.bias(name)) is not None]
        own_forms: list[Form] = []
        if changes:
            own_forms.append(Dense(_rule(changes, how, density, f"{seed} {name}.weight")))
        if shifts:
            own_forms.append(BiasShift(_rule(shifts, how, density, f"{seed} {name}.bias")))
        own = Direction({name: tuple(own_forms)})
        size = sum(float(t.double().square().sum()) for f in own_forms for t in vars(f).values())
        if rank is not None and changes:
            own, share = compressed(own, rank=rank)
            part += share * size if size else 0.0
        else:
            part += size
        total += size
        forms[name] = own.forms[name]
    share = part / total if total > 0 else math.nan
    provenance = {
        "base": directions[0].provenance.get("base"),
        "made_by": f"{how}, density {density:g}",
        "factors": list(factors),
        "seed": seed,
        "compressed": {"rank": rank, "energy": None, "kept": share},
        "parts": [dict(d.provenance) for d in directions],
    }
    return Direction(forms, provenance), share


def _has_matrix(direction: Direction, name: str) -> bool:
    return any(not isinstance(f, BiasShift) for f in direction.forms[name])


def _matrix(direction: Direction, name: str, weight: WeightOf | None) -> Tensor:
    if any(isinstance(f, Stacked) for f in direction.forms[name]):
        raise Unsupported(
            f"{name} is a matrix of every expert, which is not built to be blended entry by entry; use a + b."
        )
    if weight is None:
        low = next((f for f in direction.forms[name] if isinstance(f, (LowRank, Dense))), None)
        if direction.reads_base or low is None:
            raise ValueError(f"{name} is changed relative to its own weight: pass weight=base.weight")
        shape = low.m.shape if isinstance(low, Dense) else (low.b.shape[0], low.a.shape[1])
        return direction.dense(name, lambda _: torch.zeros(*shape)).float().cpu()
    return direction.dense(name, lambda n: weight(n).float().cpu()).float()


def _rule(parts: list[Tensor], how: str, density: float, seed: str) -> Tensor:
    """One rule on one tensor of every direction that changes it."""
    from peft.utils.merge_utils import dare_linear, dare_ties, ties

    rule = {"ties": ties, "dare": dare_linear, "dare-ties": dare_ties}[how]
    places = [p.cpu().contiguous() for p in parts]
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft warns that density 1 drops nothing
        torch.manual_seed(int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8], "big") % 2**63)
        return rule(places, torch.ones(len(places)), density).contiguous()
