"""Random controls as methods; the same number is the same draw.

random:gauss:3          a Gaussian change of every matrix, as large as that of ws:lora; random:gauss:3:dora for another
random:spectrum:3       the same singular values with random singular vectors (low rank families)
random:gate:3           the same gates, shuffled and with random signs (scales, rotations, biases)
random:act:3            a random unit vector at every block that activation methods steer
"""

import torch

from ws.diff import diff
from ws.direction.random import FORMS, random_like
from ws.methods.activation.method import Activation, Add
from ws.methods.material import Material
from ws.methods.method import Method
from ws.methods.weights import Weights

FAMILY = "lora"


def make(material: Material, form: str = "spectrum", draw: str = "0", adapter: str = FAMILY) -> Method:
    """A random control of one form."""
    if not draw.isdigit():
        raise ValueError(f"a random control is random:FORM:NUMBER, e.g. random:{form}:0; got {draw!r}")
    name = f"random:{form}:{draw}" + ("" if adapter == FAMILY else f":{adapter}")
    if form == "act":
        return Activation(name, vectors(material, int(draw)), provenance=material.made(draw=int(draw)))
    if form not in FORMS:
        raise ValueError(f"a random control is one of act, {', '.join(FORMS)}; got {form!r}")
    like = diff(material.base, *material.sides_of(adapter))
    return Weights(name, random_like(like, int(draw), material.base.weight, form=form))


def vectors(material: Material, draw: int) -> dict[str, Add]:
    """A random unit vector per block."""
    width = material.base.model.get_input_embeddings().weight.shape[1]  # type: ignore[operator]
    g = torch.Generator().manual_seed(draw)
    drawn = {name: torch.randn(width, generator=g, dtype=torch.float64) for name in material.block_names}
    return {name: Add((v / v.norm()).float()) for name, v in drawn.items()}
