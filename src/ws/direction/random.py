"""Random directions as large as a given one: the control without which an effect says little.

Every module gets a random change with the norm of the given change. Where that change is low rank, so is the random one,
with the same singular values and Haar-random singular vectors; elsewhere it is a dense Gaussian. A bias gets a random
vector of the same length.
"""

import torch
from torch import Tensor

from ws.direction.direction import Direction, Weights
from ws.direction.forms import BiasShift, Dense, Form, LowRank


def random_like(direction: Direction, seed: int, weight: Weights) -> Direction:
    """A random direction with the norm of `direction` in every module."""
    g = torch.Generator().manual_seed(seed)
    forms: dict[str, tuple[Form, ...]] = {}
    for name, parts in direction.forms.items():
        made: list[Form] = []
        matrix = tuple(f for f in parts if not isinstance(f, BiasShift))
        if len(matrix) == 1 and isinstance(matrix[0], LowRank):
            made.append(_spectrum(matrix[0], g))
        elif matrix:
            shape = weight(name).shape
            noise = torch.randn(*shape, generator=g, dtype=torch.float64)
            size = Direction({name: matrix}).norm(weight)
            made.append(Dense((noise * (size / float(noise.norm()))).float()))
        shift = direction.bias(name)
        if shift is not None:
            noise = torch.randn(shift.shape, generator=g, dtype=torch.float64)
            made.append(BiasShift((noise * (float(shift.double().norm()) / float(noise.norm()))).float()))
        forms[name] = tuple(made)
    base = direction.provenance.get("base")
    return Direction(forms, {"base": base, "made_by": "random", "seed": seed, "like": direction.content_hash})


def _spectrum(form: LowRank, g: torch.Generator) -> LowRank:
    """The same singular values with random singular vectors: QR of both factors, SVD of the small core."""
    b, a = form.b.double().cpu(), form.a.double().cpu()
    core = torch.linalg.qr(b)[1] @ torch.linalg.qr(a.mT)[1].mT
    values = torch.linalg.svdvals(core)

    def haar(n: int) -> Tensor:
        q, r = torch.linalg.qr(torch.randn(n, len(values), generator=g, dtype=torch.float64))
        return q * r.diagonal().sign()  # without the signs QR is not Haar

    return LowRank((haar(b.shape[0]) * values).float(), haar(a.shape[1]).mT.contiguous().float())
