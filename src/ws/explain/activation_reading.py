"""`activation_reading`: what shift of each block's output does a change of weights amount to, to first order?

    shift_l(x) = d h_l(x) / d alpha  at alpha 0      by (h_l(+e) - h_l(-e)) / 2e, on prompts of the study, at the last token
    own_l(x)   the same with block l alone changed: what it adds, and not what it passes on

A change whose own shift is one vector on all prompts is an activation vector in another form (arXiv 2603.00425): `vectors_of` makes
that one.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cosine_similarity

from ws.direction import Direction, random_like
from ws.direction.algebra import restricted
from ws.explain.logit_lens import lens_of
from ws.explain.prompts import held_texts, material_of
from ws.explain.protocol import Analysis, Curves, Finding, Subject, Table
from ws.methods.activation.method import Activation, Add, block_name
from ws.methods.activation.paper import hidden_names, mean_differences
from ws.methods.activation.states import Text, states
from ws.models.base import Base
from ws.steer import steer

TEXTS, DRAWS = 32, 5
STEP, COARSE_STEP = 0.05, 0.5
"""The step of the difference, and that of a model in half precision, which cannot tell smaller ones."""


@dataclass(frozen=True)
class Shift:
    """The shift of one block's output on the prompts."""

    where: str
    size: float
    """The mean shift, as a share of the length of the states there."""
    constant: float
    """The share of the shift that is the same on all prompts; 1/n for shifts without anything in common."""
    linear: float
    """The share of the change at alpha 1 that the first order tells; below 0 it tells less than nothing."""
    persona: float
    """The cosine of the mean shift to the mean persona contrast there."""
    persona_at_random: float
    """The largest absolute cosine that random directions of the same size have."""
    paper: float
    """Its cosine to the paper's activation vector there: the mean difference of the answers."""
    own: float
    """The length of the shift that the block adds itself, as a share of that of the whole shift."""
    plus: str
    """The tokens that the mean shift raises most, put through the unembedding."""
    minus: str


def shifts(
    base: Base, direction: Direction, texts: Sequence[Text], names: Sequence[str]
) -> dict[str, Float[Tensor, "n d"]]:
    """The first-order shift of states by a direction, prompt by prompt."""
    e = STEP if base.dtype in (torch.float32, torch.float64) else COARSE_STEP
    ends = []
    for alpha in (e, -e):
        with steer(base, direction, alpha):
            ends.append(states(base, texts, names))
    return {n: (ends[0][n] - ends[1][n]) / (2 * e) for n in names}


def own_shifts(base: Base, direction: Direction, texts: Sequence[Text]) -> dict[str, Float[Tensor, "n d"]]:
    """The shift that each block adds to its output by itself, by the name of the block; blocks that are not changed have none."""
    own = {}
    for at in range(base.depth):
        name = block_name(base, at)
        if any(n.startswith(f"{name}.") for n in direction.forms):
            own[name] = shifts(base, restricted(direction, keep=[f"{name}.*"]), texts, [name])[name]
    return own


def vectors_of(base: Base, direction: Direction, texts: Sequence[Text], name: str = "reading") -> Activation:
    """The activation vectors that a direction amounts to: the mean shift that every block adds, added to its output."""
    own = own_shifts(base, direction, texts)
    edits = {block: Add(rows.mean(0)) for block, rows in own.items()}
    return Activation(name, edits, provenance={"base": base.described(), "of": direction.content_hash})


def run(subject: Subject) -> Finding:
    """The shift of every block."""
    base, direction = subject.base, subject.direction
    texts = held_texts(subject, most=TEXTS)
    names = hidden_names(base)[1:]
    shift = shifts(base, direction, texts, names)
    own = own_shifts(base, direction, texts)
    rows = _rows(subject, texts, names, shift, own)
    touched = [r for r in rows if r.size > 0]
    last = touched[-1]
    readings = [
        f"At the last block {last.constant:.0%} of the shift is the same on all {len(texts)} prompts, and the first order tells "
        f"{last.linear:.0%} of the change at alpha 1. Its cosine to the persona contrast is {last.persona:+.2f}, where random "
        f"directions reach {last.persona_at_random:.2f}.",
    ]
    tables = [Table("the shift of every block's output", rows)]
    lines = {name: [getattr(r, name) for r in rows] for name in ("constant", "linear", "persona", "paper")}
    picture = Curves("the shift, block by block", "layer", "share or cosine", list(range(base.depth)), lines)
    return Finding(tuple(tables), (picture,), tuple(readings))


def _rows(
    subject: Subject,
    texts: Sequence[Text],
    names: Sequence[str],
    shift: dict[str, Tensor],
    own: dict[str, Tensor],
) -> list[Shift]:
    base, direction = subject.base, subject.direction
    still = states(base, texts, names)
    with steer(base, direction, 1.0):
        moved = states(base, texts, names)
    hidden = hidden_names(base)
    personas = mean_differences(material_of(subject).states(hidden), hidden)[1:]
    paper = mean_differences(material_of(subject).states(hidden, "response_mean"), hidden)[1:]
    drawn = [shifts(base, random_like(direction, subject.seed + k, base.weight), texts, names) for k in range(DRAWS)]
    lens = lens_of(base)
    rows = []
    for at, name in enumerate(names):
        mean, size = shift[name].mean(0), float(still[name].norm(dim=1).mean())
        length = float(mean.norm())
        change = moved[name] - still[name]
        plus, minus = lens.words(mean) if length > 0 else ("", "")
        by_chance = [abs(_cosine(d[name].mean(0), personas[at])) for d in drawn]
        rows.append(
            Shift(
                f"layer {at}",
                length / size,
                _share(float(mean.square().sum()), float(shift[name].square().sum(1).mean())),
                1 - _share(float((change - shift[name]).square().sum()), float(change.square().sum())),
                _cosine(mean, personas[at]),
                max(by_chance),
                _cosine(mean, paper[at]),
                _share(float(own[name].mean(0).norm()), length) if name in own else 0.0,
                plus,
                minus,
            )
        )
    return rows


def _share(part: float, whole: float) -> float:
    return part / whole if whole > 0 else math.nan


def _cosine(a: Tensor, b: Tensor) -> float:
    return float(cosine_similarity(a, b, dim=0)) if float(a.norm()) > 0 and float(b.norm()) > 0 else math.nan


ACTIVATION_READING = Analysis(
    "activation_reading",
    "What shift of each block's output does the change amount to?",
    "A mean over some prompts, at one token: what the change does to single prompts, and to other tokens, is not in it. States of "
    "a model share large directions, so a cosine says something only beside that of random directions.",
    run,
    material=True,
)
