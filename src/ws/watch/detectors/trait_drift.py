"""`trait_drift`: how far a fine-tune moves the model's activations along a persona vector (after arXiv 2606.07631).

    v = mean(states as pos) - mean(states as neg),   score = mean over blocks of <mean shift on the questions, v> / |v|^2

A score of 1 is the whole way from the neg persona to the pos one. The nulls are what trainings on the direction's own pairs, sides
swapped by a coin, move along v; `--make-nulls` makes them. Without them they are directions in which the persona texts differ
among themselves: the differences of both sides with their mean taken out, added up with the signs of a coin. (With the mean left
in, a swapped vector is still parallel to v.) These grow with the shift itself, so that z says how pure a drift is and not how large:
the 60 fine-tunes of docs/watch.md stay below 2.4, whatever their dose. The control is the vector of an unrelated behavior's
personas. Nulls and control have the length of v.
"""

import torch
from torch import Tensor

from ws.errors import WsError
from ws.methods.activation.states import Contrast
from ws.watch.alarm import Against
from ws.watch.detectors.case import Case
from ws.watch.detectors.detector import Reading, most_moved, unable

UNIT = "share of the way from the neg to the pos persona"
DRAWS = 20


def read(case: Case) -> Reading:
    """The drift along the behavior's persona vector."""
    probe = case.probe
    try:
        personas, control = probe.personas, probe.control_personas
    except WsError as e:
        return unable("trait_drift", case, UNIT, str(e))
    n, blocks = len(probe.questions), probe.blocks
    shifts = {b: case.shifts[b][:n] for b in blocks}
    vectors = _vectors(personas, blocks)
    lengths = {b: float(v.norm()) for b, v in vectors.items()}
    along = sum(shifts[b] @ _unit(vectors[b]) / lengths[b] for b in blocks) / len(blocks)
    assert isinstance(along, Tensor)

    def drift(means: dict[str, Tensor], others: dict[str, Tensor]) -> float:
        return sum(float(means[b] @ _unit(others[b])) / lengths[b] for b in blocks) / len(blocks)

    means = {b: shifts[b].mean(0) for b in blocks}
    trained = tuple(drift(by_chance, vectors) for by_chance in probe.by_chance)
    nulls = trained or tuple(drift(means, _vectors(personas, blocks, draw)) for draw in range(DRAWS))
    against = Against(nulls, control=drift(means, _vectors(control, blocks)))
    of = "trainings with swapped labels" if trained else "ways in which persona texts differ, which grow with the drift"
    words = (f"on its questions {int((along > 0).sum())} of {n} moved toward pos", f"its nulls are {of}")
    evidence = most_moved(case, along.tolist())
    return Reading(
        "trait_drift", case.change.name, probe.behavior.name, float(along.mean()), against, UNIT, evidence, words
    )


def _vectors(personas: Contrast, blocks: list[str], draw: int | None = None) -> dict[str, Tensor]:
    """Block to the mean difference of both personas; with a draw, what is left of it without the mean, by coins."""
    vectors = {}
    for name in blocks:
        rows = personas.difference(name).double()
        if draw is not None:
            g = torch.Generator().manual_seed(draw)
            rows = (rows - rows.mean(0)) * (2 * torch.randint(0, 2, (len(rows), 1), generator=g) - 1)
        vectors[name] = rows.mean(0)
    return vectors


def _unit(v: Tensor) -> Tensor:
    return v / v.norm().clamp(min=1e-12)
