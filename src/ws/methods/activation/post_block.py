"""Vectors that are trained by gradient: one per block, added to what it puts out (arXiv 2603.00425, the plain vector of it).

    post_block    block l of the slice puts out h + alpha v_l,  trained at alpha 1 on pos and at alpha -1 on neg

It learns from the same pairs, by the same loss and schedule, as the adapters do; only what is trained differs, and that no
persona is read. The v_l start at 0, which is the base itself. Their lengths are what training made of them.
"""

from dataclasses import asdict

import torch
from torch import nn

from ws.adapters import USUAL
from ws.methods.activation.method import Activation, Add
from ws.methods.material import Material
from ws.methods.method import Method
from ws.train.signed import PROTOCOL, choice, fit_signed

NAME = "post_block"
LR = (1e-2, 1e-1, 1.0)
"""Tried by default: a step of a vector means something else than one of a matrix, so those of adapters are not taken."""


def make(material: Material) -> Method:
    """The trained vectors of a study, trained once."""
    settings = material.settings_of(USUAL)
    how = {"protocol": PROTOCOL, "train": asdict(settings), "lr": list(LR), "layers": material.layers}
    return material.once(NAME, how, lambda: post_block(material))


def post_block(material: Material) -> Activation:
    """One vector per block of the slice, trained under both signs."""
    base, settings = material.base, material.settings_of(USUAL)
    width = base.model.get_input_embeddings().weight.shape[1]  # type: ignore[operator]
    vectors = {
        name: nn.Parameter(torch.zeros(width, device=next(base.model.get_submodule(name).parameters()).device))
        for name in material.block_names
    }
    worn = Activation(NAME, {name: Add(v) for name, v in vectors.items()})
    trained, report = fit_signed(
        base,
        material.training_pairs(),
        material.validation_pairs(),
        settings,
        vectors,
        lambda signs: worn.at(base, signs),
        grid=LR,
        extend=len(LR) > 1,
        label=NAME,
    )
    how = {"protocol": PROTOCOL, "settings": asdict(settings), **choice(report)}
    edits = {name: Add(v.cpu()) for name, v in trained.items()}
    return Activation(NAME, edits, provenance=material.made("train", "val", training=how))
