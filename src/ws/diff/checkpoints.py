"""Directions from whole checkpoints, tensor by tensor: never a model in memory, let alone two.

    tau = diff_checkpoints(open_checkpoint("my-finetune"), open_checkpoint("Qwen/Qwen3-0.6B"))     # a task vector

A direction changes linear layers inside the blocks and their biases. What else differs between two checkpoints
(embeddings, norms, the head) is left out, counted, and written into the direction.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from ws.adapters.family import sizes
from ws.direction import Direction
from ws.direction.algebra import compressed
from ws.direction.forms import BiasShift, Dense, Form
from ws.errors import BadFile, DirectionMismatch
from ws.models.checkpoint import Checkpoint, Theta
from ws.models.modules import is_conv1d
from ws.types import Json


def diff_checkpoints(
    left: Checkpoint, right: Checkpoint, base: Theta | None = None, *, rank: int | None = None
) -> Direction:
    """`theta_left - theta_right`, for use on `base` (default: `right`, which makes it a task vector).

    Exact in float32, and as large as the changed matrices; with `rank`, each matrix is cut to it as it comes.
    """
    base = base or right
    same_linears(left, right)
    same_linears(left, base)
    forms: dict[str, tuple[Form, ...]] = {}
    energies: list[tuple[float, float]] = []
    energy = 0.0
    for name in left.linears:
        own = list(change_of_module(left, right, name))
        energy += sum(float(t.double().square().sum()) for f in own for t in vars(f).values())
        if own and rank is not None:
            cut, share = compressed(Direction({name: tuple(own)}), rank=rank)
            size = sum(float(t.double().square().sum()) for f in own for t in vars(f).values())
            energies.append((share * size, size))
            own = list(cut.forms[name])
        if own:
            forms[name] = tuple(own)
    if not forms:
        raise DirectionMismatch(f"{left.id} and {right.id} have the same linear layers; there is no difference.")
    provenance: Json = {
        "base": base.described(),
        "mode": "contrastive",
        "made_by": "two checkpoints",
        "parts": [left.described(), right.described()],
        "left_out": left_out(left, right, energy),
    }
    if rank is not None:
        provenance["compressed"] = {
            "rank": rank,
            "energy": None,
            "kept": sum(k for k, _ in energies) / sum(s for _, s in energies),
        }
    return Direction(forms, provenance)


def from_tensors(base: Theta, tensors: Mapping[str, Tensor], *, made_by: str = "plain tensors") -> Direction:
    """A direction from plain changes, named and laid out as the checkpoint names them: `<module>.weight`, `<module>.bias`."""
    forms: dict[str, list[Form]] = {}
    stored = {base.stored_as(n): n for n in base.names} if isinstance(base, Checkpoint) else {}
    for key, t in sorted(tensors.items()):
        name, _, kind = stored.get(key, key).rpartition(".")
        if name not in base.linears or kind not in ("weight", "bias"):
            raise DirectionMismatch(
                f"the tensor {key!r} is no weight or bias of a linear layer of {base.id}, e.g. {next(iter(base.linears))}.weight."
            )
        module = base.linears[name].module
        shape = (sizes(module)[0],) if kind == "bias" else tuple(module.weight.shape)  # type: ignore[arg-type]
        if t.shape != shape:
            raise DirectionMismatch(f"{key} is {tuple(t.shape)}, and that of {base.id} is {shape}.")
        if not t.is_floating_point():
            raise BadFile(f"{key} holds {str(t.dtype).removeprefix('torch.')} and not floating-point numbers.")
        t = t.float()
        if not torch.isfinite(t).all():
            raise BadFile(f"{key} holds values that are not finite in float32.")
        form: Form = BiasShift(t) if kind == "bias" else Dense((t.T if is_conv1d(module) else t).contiguous())
        forms.setdefault(name, []).append(form)
    if not forms:
        raise DirectionMismatch("there are no tensors to make a direction from.")
    return Direction({n: tuple(f) for n, f in forms.items()}, {"base": base.described(), "made_by": made_by})


def change_of_module(left: Checkpoint, right: Checkpoint, name: str) -> tuple[Form, ...]:
    """`left - right` of one linear layer and its bias in float32; empty where they are the same."""
    own: list[Form] = []
    change = _change(left.weight(name), right.weight(name), f"{name}.weight")
    if change is not None:
        own.append(Dense(change.float()))
    b, c = left.bias(name), right.bias(name)
    if (b is None) != (c is None):
        raise DirectionMismatch(f"only one of the two has a bias at {name}; a difference needs one architecture.")
    shift = None if b is None or c is None else _change(b, c, f"{name}.bias")
    if shift is not None:
        own.append(BiasShift(shift.float()))
    return tuple(own)


def same_linears(left: Theta, right: Theta) -> None:
    """Refuse two models whose linear layers are not the same ones."""
    if odd := sorted(left.linears.keys() ^ right.linears.keys()):
        raise DirectionMismatch(
            f"{left.id} and {right.id} have different linear layers, e.g. {odd[0]}; a difference needs one architecture."
        )
    for name, x in left.linears.items():
        a, b = sizes(x.module), sizes(right.linears[name].module)
        if a != b:
            raise DirectionMismatch(f"{name} is {a} in {left.id} and {b} in {right.id}.")


def _change(left: Tensor, right: Tensor, name: str) -> Tensor | None:
    """left - right in float64, or None where they are the same."""
    if torch.equal(left, right):
        return None
    change = left.double() - right.double()
    if not torch.isfinite(change).all():
        raise BadFile(f"{name} holds values that are not finite.")
    return change if change.count_nonzero() else None


def left_out(left: Checkpoint, right: Checkpoint, energy: float = math.nan) -> Json:
    """The differing tensors that a direction does not hold, and their share of the whole squared difference.

    The share is None where it cannot be computed.
    """
    inside = {f"{n}.{kind}" for n in left.linears for kind in ("weight", "bias")}
    shapes = {n: p.shape for n, p in right.skeleton.named_parameters()}
    names, size = [], 0.0
    for name, p in left.skeleton.named_parameters():
        if name in inside:
            continue
        if shapes.get(name) != p.shape:  # a resized vocabulary, say: no difference can be taken
            names.append(name)
            size = math.nan
        elif (change := _change(left.tensor(name), right.tensor(name), name)) is not None:
            names.append(name)
            size += float(change.square().sum())
    share = 0.0 if not names else None if math.isnan(size + energy) else size / (size + energy)
    return {"tensors": len(names), "names": names[:8], "energy_share": share}
