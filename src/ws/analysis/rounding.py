"""The loss of the published way to make a direction: merge each side in bf16, subtract, store in bf16.

`W+- = bf16(W + bf16(tau+-))`, `dW_b = bf16(W+ - W-)`. Only an analysis: nothing is ever steered by the rounded direction.
The exact one is this package's own, from the same two adapters.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ws.adapters import Adapter, direction_of, family
from ws.diff import diff
from ws.models.load import Base
from ws.types import Json

ALPHAS = (0.05, 0.1, 0.25, 0.5, 1.0)


def upstream_bf16(base: Base, pos: Adapter, neg: Adapter, *, alphas: Sequence[float] = ALPHAS) -> Json:
    """Cosine to the exact direction, norm ratio, share of entries changed, energy beyond the true rank, and what arrives.

    `arrives[alpha]` is the share of the exact step `alpha dW` that is left after adding it to bf16 weights.
    """
    exact = diff(base, pos, neg)
    of = family(pos.spec.family)
    plus, minus = direction_of(of, base, pos), direction_of(of, base, neg)
    dots = torch.zeros(3, dtype=torch.float64)  # exact.exact, exact.rounded, rounded.rounded
    changed = entries = 0
    beyond = energy = 0.0
    arrived = dict.fromkeys(alphas, 0.0)
    whole = dict.fromkeys(alphas, 0.0)
    for name in exact.forms:
        w = base.weight(name).cpu().float()
        own = {name: w}
        true = exact.dense(name, own.__getitem__).cpu().double()
        sides = [_merged(w, d.dense(name, own.__getitem__)) for d in (plus, minus)]
        rounded = (sides[0].float() - sides[1].float()).bfloat16().double()
        dots += torch.stack([(true * true).sum(), (true * rounded).sum(), (rounded * rounded).sum()])
        changed += int((sides[0] != w.bfloat16()).sum())
        entries += w.numel()
        rank = 2 * (pos.spec.rank or min(w.shape))
        s = torch.linalg.svdvals(rounded).square()
        beyond, energy = beyond + float(s[rank:].sum()), energy + float(s.sum())
        start = w.bfloat16()
        for alpha in alphas:
            step = (start.float() + alpha * true.float()).bfloat16().double() - start.double()
            arrived[alpha] += float((step * true).sum())
            whole[alpha] += alpha * float((true * true).sum())
    ee, er, rr = dots.tolist()
    return {
        "cosine": er / (ee * rr) ** 0.5 if ee * rr > 0 else float("nan"),
        "norm_ratio": (rr / ee) ** 0.5 if ee > 0 else float("nan"),
        "entries_changed": changed / max(1, entries),
        "energy_beyond_rank": beyond / energy if energy > 0 else float("nan"),
        "arrives": {a: arrived[a] / whole[a] if whole[a] > 0 else float("nan") for a in alphas},
    }


def _merged(w: Tensor, change: Tensor) -> Tensor:
    return (w.bfloat16().float() + change.bfloat16().float()).bfloat16()
