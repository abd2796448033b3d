"""`activation_reading`: what shift of each block's output does a change of weights amount to, to first order?

    shift_l(x) = d h_l(x) / d alpha  at alpha 0      by (h_l(+e) - h_l(-e)) / 2e, on prompts of the study, at the last token
    own_l(x)   the same with block l alone changed: what it adds, and not what it passes on

A change whose own shift is one vector on all prompts is an activation vector in another form (arXiv 2603.00425): `vectors_of` makes
that one. Where effects are measured it is turned to the KL of the change and evaluated on the same rows.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cosine_similarity

from ws.calibrate import CalibrateSettings, calibrate, divergences, prompt_sets
from ws.direction import Direction, random_like
from ws.direction.algebra import restricted
from ws.explain.kept import share_of
from ws.explain.logit_lens import lens_of
from ws.explain.measure import FULL, Measure
from ws.explain.prompts import held_texts, material_of
from ws.explain.protocol import Analysis, Curves, Finding, Subject, Table
from ws.methods import as_method
from ws.methods.activation.method import Activation, Add, block_name
from ws.methods.activation.paper import hidden_names, mean_differences
from ws.methods.activation.states import Text, states
from ws.models.base import Base
from ws.numbers import percent
from ws.stats import Estimate, combined, estimate
from ws.steer import steer
from ws.study.evaluations import Subject as Study
from ws.study.evaluations import make_eval, rows_in

TEXTS, DRAWS = 32, 5
AT_EQUAL_KL = CalibrateSettings(tolerance=0.1)
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


@dataclass(frozen=True)
class Reproduced:
    """What adding the mean shifts does instead, at the KL of the change, on the same rows."""

    metric: str
    alpha: float
    kl: float
    """The 95th percentile over tokens of KL(steered || base) of the change."""
    strength: float
    """That of the vectors at which they have the same."""
    matched: str
    by_weights: Estimate
    """The change of the metric by the direction."""
    by_vectors: Estimate
    share: Estimate
    """by_vectors / by_weights; NaN where the direction may do nothing."""


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


def vectors_from(base: Base, own: Mapping[str, Float[Tensor, "n d"]]) -> Activation:
    """The activation vectors that a direction amounts to: the mean shift that every block adds, added to its output."""
    edits = {block: Add(rows.mean(0)) for block, rows in own.items()}
    return Activation("reading", edits, provenance={"base": base.described()})


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
        f"At the last block {percent(last.constant)} of the shift is the same on all {len(texts)} prompts, and the first order tells "
        f"{percent(last.linear)} of the change at alpha 1. Its cosine to the persona contrast is {last.persona:+.2f}, where random "
        f"directions reach {last.persona_at_random:.2f}.",
    ]
    tables = [Table("the shift of every block's output", rows)]
    if subject.measure is not None:
        again = reproduced(subject, subject.measure, vectors_from(base, own))
        tables.append(Table("adding the shifts instead, at equal KL", again))
        readings += [
            f"{r.metric}: adding the mean shifts at the same KL ({r.strength:+.2f} times them, {r.matched}) does {percent(r.share.mean)} "
            "of what the change does."
            for r in again
        ]
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
        plus, minus = lens.words(mean[:, None])[0] if length > 0 else ("", "")
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


# ---------------------------------------------------------------- adding the shift instead


def reproduced(subject: Subject, measure: Measure, vectors: Activation) -> list[Reproduced]:
    """The effect of the vectors at the KL of the direction, metric by metric."""
    import pandas as pd

    base, by = subject.base, as_method(measure.direction)
    prompts = prompt_sets(base.tiny, AT_EQUAL_KL.n_calib, AT_EQUAL_KL.n_audit)
    (whole,) = divergences(base, by, prompts.calib, [measure.alpha], tokens=AT_EQUAL_KL.tokens)
    found = calibrate(base, vectors, settings=AT_EQUAL_KL, targets=(whole.p95, whole.p95), prompts=prompts)
    side = found.pos if measure.alpha > 0 else found.neg
    study = Study(base, vectors, measure.folder, vectors.name, pairs=measure.pairs)
    rows = rows_in(make_eval(study, measure.evaluation, alphas=[side.alpha], out=measure.out)[1])
    known = measure.rows([measure.full])
    arms = [known[""], known[FULL].assign(alpha=1.0, arm="pos"), rows[rows["alpha"] != 0].assign(alpha=2.0, arm="pos")]
    samples = measure.evaluation.chosen.metrics(pd.concat(arms, ignore_index=True))
    results = []
    for metric in dict.fromkeys(e.metric for e in measure([])):
        numbers = samples[metric]
        weights, adding = (combined([(1.0, numbers[k]), (-1.0, numbers[0.0])]) for k in (1.0, 2.0))
        effects = (estimate(weights), estimate(adding), share_of(adding, weights))
        results.append(Reproduced(metric, measure.alpha, whole.p95, side.alpha, side.verdict, *effects))
    return results


ACTIVATION_READING = Analysis(
    "activation_reading",
    "What shift of each block's output does the change amount to?",
    "A mean over some prompts, at one token: what the change does to single prompts, and to other tokens, is not in it. States of "
    "a model share large directions, so a cosine says something only beside that of random directions.",
    run,
    material=True,
)
