"""Random controls as methods; the same number is the same draw.

random:gauss:3          a Gaussian change of every matrix, as large as that of ws:lora; random:gauss:3:dora for another
random:spectrum:3       the same singular values with random singular vectors (low rank families)
random:gate:3           the same gates, shuffled and with random signs (scales, rotations, biases)
random:act:3            a random unit vector at every block that activation methods steer
"""

import torch

from ws.adapters import FAMILIES
from ws.diff import diff
from ws.direction.random import FORMS, random_like
from ws.methods.activation.method import Activation, Add
from ws.methods.material import Material
from ws.methods.method import Method
from ws.methods.weights import Weights

FAMILY = "lora"


def check(form: str, draw: str = "0", adapter: str = FAMILY, *more: str) -> None:
    """Refuse a control that cannot be drawn, before anything is trained for it."""
    if form not in ("act", *FORMS):
        raise ValueError(f"a random control is one of act, {', '.join(FORMS)}; got {form!r}")
    if not (draw.isascii() and draw.isdigit()) or more:
        raise ValueError(
            f"a random control is random:FORM:NUMBER, e.g. random:{form}:0; got {':'.join([draw, *more])!r}"
        )
    if form != "act" and adapter not in FAMILIES:
        raise ValueError(f"there is no adapter {adapter!r}; there are {', '.join(FAMILIES)}")
    if form == "gate" and adapter == FAMILY:
        raise ValueError(f"{FAMILY} has no gates to shuffle; name a family that has, e.g. random:gate:{draw}:ia3")


def make(material: Material, form: str = "spectrum", draw: str = "0", adapter: str = FAMILY) -> Method:
    """A random control of one form."""
    check(form, draw, adapter)
    name = f"random:{form}:{draw}" + ("" if adapter == FAMILY else f":{adapter}")
    if form == "act":
        return Activation(name, vectors(material, int(draw)), provenance=material.made(draw=int(draw)))
    like = diff(material.base, *material.sides_of(adapter))
    return Weights(name, random_like(like, int(draw), material.base.weight, form=form))


def vectors(material: Material, draw: int) -> dict[str, Add]:
    """A random unit vector per block."""
    width = material.base.model.get_input_embeddings().weight.shape[1]  # type: ignore[operator]
    g = torch.Generator().manual_seed(draw)
    drawn = {name: torch.randn(width, generator=g, dtype=torch.float64) for name in material.block_names}
    return {name: Add((v / v.norm()).float()) for name, v in drawn.items()}
