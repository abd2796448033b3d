"""Random controls as methods: the same number is the same draw. Each acts at the places of the methods it is compared with.

random:gauss:3              a Gaussian change of every matrix, as large as that of ws:lora; random:gauss:3:dora for another
random:spectrum:3           the same singular values with random singular vectors (low rank families)
random:gate:3               the same gates, shuffled and with random signs (scales, rotations, biases)
random:labels:3             the direction of a training on the same pairs with their sides swapped by a coin; random:labels:3:ia3
random:act:3                a random unit vector at every block that activation methods steer, on every token
random:paper:3              a random vector as long as that of paper:all at each of its blocks, on answers alone;
                            random:paper:3:single for that of paper:single
random:constructed:3        a random output in the place of constructed:top's; random:constructed:3:tail, :random for others
"""

import torch
from torch import Tensor

from ws.adapters import FAMILIES, USUAL
from ws.diff import diff
from ws.direction.direction import Direction
from ws.direction.random import FORMS, random_like
from ws.methods import constructed
from ws.methods.activation.method import Activation, Add
from ws.methods.activation.sspace import writers
from ws.methods.maker import Needs
from ws.methods.material import Material
from ws.methods.method import Method
from ws.methods.weights import Weights

LIKE_DIRECTIONS = (*FORMS, "labels")
LIKE_OTHERS: dict[str, tuple[str, ...]] = {
    "act": (),
    "paper": ("all", "all-code", "single", "single-last"),
    "constructed": constructed.INPUTS,
}
FORMS_OF_CONTROLS = ("act", *LIKE_DIRECTIONS, "paper", "constructed")
LISTED = ("gauss:0", "spectrum:0", "gate:0:ia3", "labels:0", "act:0", "paper:0", "paper:0:single", "constructed:0")
"""The controls that help and errors list; further draws, and those like other methods, exist too."""


def variants(form: str) -> tuple[str, ...]:
    """The forms of another method that a draw of this form can be like, the usual one first."""
    if form in LIKE_DIRECTIONS:
        return (USUAL, *(a for a in FAMILIES if a != USUAL))
    return LIKE_OTHERS[form]


def needs(form: str, draw: str = "0", *like: str) -> Needs:
    """The needs of a control: mostly those of the method that it is compared with."""
    which, of_family = like_of(form, *like), form in LIKE_DIRECTIONS
    return Needs(
        ":".join(["random", form, *like]),
        adapter=which if of_family else None,
        answers=of_family or form == "paper",
        personas=form == "constructed" or "single-last" in like,
        trains=form == "labels",
        seed="draw",
        places="weights" if of_family else {"act": "activations"}.get(form, f"{form}:{which}"),
        control=True,
    )


def check(form: str, draw: str = "0", *like: str) -> None:
    """Refuse a control that cannot be drawn, before anything is trained for it."""
    if form not in FORMS_OF_CONTROLS:
        raise ValueError(f"a random control is one of {', '.join(FORMS_OF_CONTROLS)}; got {form!r}")
    if not (draw.isascii() and draw.isdigit()) or like[1:]:
        raise ValueError(
            f"a random control is random:FORM:NUMBER, e.g. random:{form}:0; got {':'.join([draw, *like])!r}"
        )
    if like and like[0] not in variants(form):
        if form in LIKE_DIRECTIONS:
            raise ValueError(f"there is no adapter {like[0]!r}; there are {', '.join(FAMILIES)}")
        there = f"there are {', '.join(variants(form))}" if variants(form) else "it is the same for all methods"
        raise ValueError(f"random:{form} has no {like[0]!r}; {there}")
    if form == "gate" and like_of(form, *like) == USUAL:
        raise ValueError(f"{USUAL} has no gates to shuffle; name a family that has, e.g. random:gate:{draw}:ia3")


def like_of(form: str, *like: str) -> str:
    """The method a control is like: the one its name says, or the usual one."""
    return (like or variants(form) or ("",))[0]


def name_of(form: str, draw: str, *like: str) -> str:
    """The name of a draw, which leaves out the usual method it is like."""
    source = like_of(form, *like)
    return f"random:{form}:{draw}" + ("" if source in ("", like_of(form)) else f":{source}")


def in_weights(material: Material, form: str, draw: str, adapter: str) -> Weights:
    """A random change as large as a trained one."""
    like = diff(material.base, *material.sides_of(adapter))
    return Weights(name_of(form, draw, adapter), random_like(like, int(draw), material.base.weight, form=form))


def of_shuffled_labels(material: Material, draw: str, adapter: str) -> Weights:
    """The direction that the same training gives where a coin has swapped the sides of each pair."""
    direction = diff(material.base, *material.controls_of(adapter, int(draw)))
    provenance = {**direction.provenance, "made_by": "random", "labels": int(draw)}
    return Weights(name_of("labels", draw, adapter), Direction(direction.forms, provenance))


def on_every_token(material: Material, draw: str) -> Activation:
    """A unit vector at every block of the slice."""
    lengths = dict.fromkeys(material.block_names, 1.0)
    return Activation(
        f"random:act:{draw}", vectors(material, lengths, int(draw)), provenance=material.made(draw=int(draw))
    )


def like_vectors(material: Material, method: Method, draw: str, which: str) -> Activation:
    """Vectors as long as another method's, at its modules and on its tokens."""
    assert isinstance(method, Activation)
    lengths = {name: float(e.v.norm()) for name, e in method.edits.items() if isinstance(e, Add)}
    assert lengths.keys() == method.edits.keys(), f"{method.name} does more than add vectors"
    provenance = material.made(draw=int(draw), like=method.name, size_of=dict(method.provenance))
    return Activation(
        name_of("paper", draw, which), vectors(material, lengths, int(draw)), method.positions, provenance=provenance
    )


def outputs(material: Material, draw: str, which: str) -> Weights:
    """A rank one change of the same matrices at the same inputs, that writes something random."""
    names = writers(material.base, material.layers)
    edits = vectors(material, dict.fromkeys(names, 1.0), int(draw))
    direction = constructed.rank_one(material, {n: e.v for n, e in edits.items()}, which, int(draw))
    return Weights(name_of("constructed", draw, which), direction)


def vectors(material: Material, lengths: dict[str, float], draw: int) -> dict[str, Add]:
    """A random vector of these lengths per module, drawn in their order."""
    width = material.base.model.get_input_embeddings().weight.shape[1]  # type: ignore[operator]
    g = torch.Generator().manual_seed(draw)
    noise: dict[str, Tensor] = {name: torch.randn(width, generator=g, dtype=torch.float64) for name in lengths}
    return {name: Add((lengths[name] * v / v.norm()).float()) for name, v in noise.items()}
