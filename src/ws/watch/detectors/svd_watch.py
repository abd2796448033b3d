"""`svd_watch`: what a fine-tune writes most, watched in the activations (in the manner of arXiv 2508.00161).

The left singular vectors of the largest singular values of the change of each matrix that writes to the residual stream
are directions that training has made. The published monitor flags a prompt whose activations lie along one of them further
than on ordinary prompts. Here the question is about a behavior: are its questions flagged?

    c(p, u) = cos(state at p, u), after less before,   s(p) = max over u of |c(p, u) - mean| / sd over ordinary prompts
    score = mean of s over the behavior's questions

Half of the ordinary prompts give mean and sd, the other half is the control; random unit vectors in the place of the
singular ones are the nulls. It has no sign: it sees that something happens on these questions, not which way.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from ws.direction.algebra import compressed, matrices
from ws.direction.direction import Direction
from ws.direction.forms import LowRank
from ws.methods.activation.sspace import WRITES
from ws.watch.alarm import Against
from ws.watch.detectors.case import Case, unit_columns
from ws.watch.detectors.detector import Reading, most_moved, unable

UNIT = "sd of ordinary prompts"
VECTORS = 4
"""Singular vectors of each matrix."""
DRAWS = 20


def read(case: Case) -> Reading:
    """How far the behavior's questions move along what the fine-tune writes."""
    probe = case.probe
    vectors = _singular(case.tau, case)
    if not vectors:
        return unable("svd_watch", case, UNIT, "the fine-tune changes no matrix that writes to the residual stream")
    scores, control = _scores(case, vectors)
    nulls = tuple(_scores(case, _random(vectors, draw))[0].mean().item() for draw in range(DRAWS))
    against = Against(nulls, control=float(control.mean()))
    beyond = int((scores > control.max()).sum())
    words = (f"{beyond} of its {len(scores)} questions lie beyond every one of {len(control)} ordinary prompts",)
    evidence = most_moved(case, scores.tolist())
    return Reading(
        "svd_watch", case.change.name, probe.behavior.name, float(scores.mean()), against, UNIT, evidence, words
    )


def _singular(tau: Direction, case: Case) -> dict[str, Float[Tensor, "d k"]]:
    """Block to the vectors that the matrices in it came to write most."""
    columns: dict[str, list[Tensor]] = {}
    for name, forms in tau.forms.items():
        block = next((b for b in case.probe.blocks if name.startswith(b + ".")), None)
        if block is not None and any(name.endswith("." + w) for w in WRITES):
            cut, _ = compressed(Direction({name: forms}), rank=VECTORS, weight=case.probe.base.weight)
            own = (f for matrix in matrices(cut.forms[name]) for f in matrix if isinstance(f, LowRank))
            columns.setdefault(block, []).extend(unit_columns(f.b) for f in own if float(f.b.norm()) > 0)
    return {block: torch.cat(parts, dim=1) for block, parts in columns.items() if parts}


def _random(like: dict[str, Tensor], draw: int) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(draw)
    return {b: unit_columns(torch.randn(u.shape, generator=g, dtype=torch.float64)) for b, u in like.items()}


def _scores(case: Case, vectors: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """The scores of the behavior's questions, and of the half of the ordinary ones that no scale was taken from."""
    n = len(case.probe.questions)
    columns = []
    for block, u in vectors.items():
        before, after = (
            torch.nn.functional.normalize(s[block].double(), dim=1) @ u for s in (case.probe.before, case.after)
        )
        columns.append(after - before)
    moved = torch.cat(columns, dim=1)  # (questions and ordinary prompts, vectors)
    scale, apart = moved[n::2], moved[n + 1 :: 2]
    mean, sd = scale.mean(0), scale.std(0).clamp(min=1e-12)
    questions, control = (((part - mean) / sd).abs().max(1).values for part in (moved[:n], apart))
    return questions, control
