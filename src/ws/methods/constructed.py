"""Directions in weight space that nothing was trained for: an activation direction, written by one input of a matrix.

    dW = s u v^T  at every matrix that writes to the residual stream in the slice (o_proj, down_proj),  |dW| = 1e-3 |W|

    constructed:top         v: the input that the matrix makes most of (its first right singular vector)
    constructed:tail        v: the input that it makes least of (its last one)
    constructed:random:3    v: a random unit input, the third draw

u is the unit difference of both personas' mean states at the output of the matrix's block. v has no sign of its own: it is
turned so that the matrix's mean input lies along it, and alpha > 0 then writes toward pos. What such a change does beside a
trained one says how much of the latter is what it writes, and how much is when it writes it.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from ws.direction.direction import Direction
from ws.direction.forms import Form, LowRank
from ws.methods.activation.method import block_name
from ws.methods.activation.sspace import writers
from ws.methods.activation.states import INTO
from ws.methods.activation.vectors import Vector, mean_diff
from ws.methods.material import Material
from ws.methods.weights import Weights

SIZE = 1e-3
"""Of the matrix's own norm."""
INPUTS = ("top", "tail", "random")
LISTED = ("top", "tail", "random:0")
"""What is listed of them; further draws are not."""


def check(which: str, *draw: str) -> None:
    """Refuse a construction that does not exist."""
    count = 1 if which == "random" else 0
    if which not in INPUTS or len(draw) != count or not all(d.isascii() and d.isdigit() for d in draw):
        raise ValueError(
            f"a constructed direction is constructed:top, constructed:tail or constructed:random:NUMBER; got "
            f"constructed:{':'.join([which, *draw])}"
        )


def make(material: Material, which: str, *draw: str) -> Weights:
    """The direction that writes the personas' difference where one input of each matrix is seen."""
    check(which, *draw)
    base = material.base
    names = writers(base, material.layers)
    states = material.states(material.block_names)
    blocks = {name: block_name(base, base.linears[name].block) for name in names}
    outputs = {name: mean_diff(states.pos[block], states.neg[block]) for name, block in blocks.items()}
    direction = rank_one(material, outputs, which, int(draw[0]) if draw else 0)
    return Weights(":".join(["constructed", which, *draw]), direction)


def rank_one(material: Material, outputs: dict[str, Tensor], which: str, draw: int) -> Direction:
    """`s u v^T` for a unit u per matrix, as large as the convention says."""
    g = torch.Generator().manual_seed(draw)
    entering = material.states([INTO + name for name in outputs])
    forms: dict[str, tuple[Form, ...]] = {}
    for name, u in outputs.items():
        w = material.base.weight(name).detach().cpu().double()
        v = read_by(w, which, g)
        usual = torch.cat([entering.pos[INTO + name], entering.neg[INTO + name]]).double().mean(0)
        v = v if float(v @ usual) >= 0 else -v
        forms[name] = (LowRank((SIZE * w.norm() * u.double())[:, None].float(), v[None].float()),)
    return Direction(forms, material.made("train", pool="last", made_by="constructed", input=which, draw=draw))


def read_by(w: Float[Tensor, "o i"], which: str, g: torch.Generator) -> Vector:
    """The unit input that a matrix is to be changed at."""
    if which == "random":
        return torch.nn.functional.normalize(torch.randn(w.shape[1], generator=g, dtype=torch.float64), dim=0)
    right = torch.linalg.svd(w, full_matrices=False)[2]
    return right[0] if which == "top" else right[-1]
