"""Random directions as large as a given one: the control without which an effect says little.

Every module gets a random change with the norm of the given change. Three forms:

- `spectrum`: the same singular values and Haar-random singular vectors, where the change is low rank; of experts, for each of them
- `gauss`: a dense Gaussian matrix; of experts, for each of them
- `gate`: the same scales, rotations and shifts, shuffled and with random signs

`like` takes `spectrum` where it can and `gauss` elsewhere. A bias gets a random vector of the same length, but for `gate`.
"""

import torch
from torch import Tensor

from ws.direction.direction import Direction, WeightOf
from ws.direction.forms import BiasShift, Dense, Factors, Form, LowRank, Stacked, mapped
from ws.errors import Unsupported

FORMS = ("gauss", "spectrum", "gate")


def random_like(direction: Direction, seed: int, weight: WeightOf, *, form: str = "like") -> Direction:
    """A random direction with the norm of `direction` in every module."""
    if form not in ("like", *FORMS):
        raise ValueError(f"form is like, {', '.join(FORMS)}; got {form!r}")
    g = torch.Generator().manual_seed(seed)
    if form == "gate":
        mixed = Direction({n: tuple(_shuffled(f, g) for f in fs) for n, fs in direction.forms.items()})
        # rows of a weight differ in length, so a shuffled gate has another size
        before, after = direction.norms(weight), mixed.norms(weight)
        factors = {n: before[n] / after[n] if after[n] > 0 else 1.0 for n in before}
        scaled = {n: tuple(f.scaled(factors[n]) for f in fs) for n, fs in mixed.forms.items()}
        return _with_provenance(direction, scaled, seed, form)
    forms: dict[str, tuple[Form, ...]] = {}
    for name, parts in direction.forms.items():
        changes: list[Form] = []
        matrix = tuple(f for f in parts if not isinstance(f, BiasShift))
        low = len(matrix) == 1 and isinstance(matrix[0], Factors)
        if form == "spectrum" and matrix and not low:
            raise Unsupported(f"{name} is not low rank, so its spectrum is the whole matrix's; use gauss or gate.")
        if low and form != "gauss":
            assert isinstance(matrix[0], Factors)
            changes.append(_spectrum(matrix[0], g))
        elif matrix:
            shape = weight(name).shape
            noise = torch.randn(*shape, generator=g, dtype=torch.float64)
            size = Direction({name: matrix}).norm(weight)
            changes.append(_whole((noise * (size / float(noise.norm()))).float()))
        shift = direction.bias(name)
        if shift is not None:
            noise = torch.randn(shift.shape, generator=g, dtype=torch.float64)
            changes.append(BiasShift((noise * (float(shift.double().norm()) / float(noise.norm()))).float()))
        forms[name] = tuple(changes)
    return _with_provenance(direction, forms, seed, form)


def _with_provenance(direction: Direction, forms: dict[str, tuple[Form, ...]], seed: int, form: str) -> Direction:
    base = direction.provenance.get("base")
    variant = {} if form == "like" else {"form": form}
    # its size is that of the other, and so what that was made from
    provenance = {"base": base, "made_by": "random", "seed": seed, "like": direction.content_hash, **variant}
    return Direction(forms, {**provenance, "size_of": dict(direction.provenance)})


def _whole(m: Tensor) -> Form:
    """A matrix as it is; of every expert, as a product with the identity, for experts are held as products."""
    if m.ndim == 2:
        return Dense(m)
    experts, o, i = m.shape
    one = torch.eye(min(o, i)).expand(experts, -1, -1)
    return Stacked(one, m) if o < i else Stacked(m, one)


def _shuffled(form: Form, g: torch.Generator) -> Form:
    """The entries of a gate in another order and with random signs; its size as a vector stays."""
    if isinstance(form, (Factors, Dense)):
        raise Unsupported(f"a {form.kind} form is no gate; use gauss or spectrum.")

    def change(t: Tensor) -> Tensor:
        order = torch.randperm(t.numel(), generator=g)
        signs = torch.randint(0, 2, (t.numel(),), generator=g).to(t.dtype) * 2 - 1
        return (t.detach().cpu().flatten()[order] * signs).view(t.shape).to(t.device)

    return mapped(form, change)


def _spectrum(form: Factors, g: torch.Generator) -> Form:
    """The same singular values with random singular vectors: QR of both factors, SVD of the small core."""
    if isinstance(form, Stacked):
        each = [_spectrum(expert, g) for expert in form.experts]
        return Stacked(*(torch.stack([getattr(f, side) for f in each]) for side in "ba"))
    b, a = form.b.double().cpu(), form.a.double().cpu()
    core = torch.linalg.qr(b)[1] @ torch.linalg.qr(a.mT)[1].mT
    values = torch.linalg.svdvals(core)

    def haar(n: int) -> Tensor:
        q, r = torch.linalg.qr(torch.randn(n, len(values), generator=g, dtype=torch.float64))
        return q * r.diagonal().sign()  # without the signs QR is not Haar

    return LowRank((haar(b.shape[0]) * values).float(), haar(a.shape[1]).mT.contiguous().float())
