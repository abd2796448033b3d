"""The band behind an effect: what random directions of the same norm do, without which its size says little.

Every draw has the norm of the direction in each of its modules, and where that is low rank its singular values. It is measured at
both ends of the dial, on the first units of each evaluation: what is looked for is how far chance goes, and that takes few.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ws.direction import Direction
from ws.direction.random import random_like
from ws.eval import Evaluation
from ws.eval.protocol import Metrics
from ws.eval.questions import Questions, RunPairs
from ws.methods import as_method
from ws.records import Place, Record, refuse_damaged, write_json
from ws.stats import combined
from ws.study.evaluations import Subject, unsteered_of
from ws.study.keys import base_key, beside
from ws.types import Json

PROTOCOL = "random/1"
FILE = "changes.json"
UNITS = 12


def make_band(
    subject: Subject, evaluations: Sequence[Evaluation], alphas: Sequence[float], draws: int, out: Path
) -> tuple[list[Json], Record]:
    """Of every metric, the changes from 0 to each end of the dial by so many random directions, made once.

    A record has eval, protocol, metric, n (units), alphas (the ends) and each (per draw, a change per end).
    """
    base, direction = subject.base, subject.by
    assert isinstance(direction, Direction)
    ends = sorted({min(alphas), max(alphas)} - {0.0})
    pairs = None if subject.pairs is None else _one_of_each(subject.pairs)
    asked = [e.of_first(UNITS).questions(base, pairs) for e in evaluations]
    settings = {"protocol": PROTOCOL, "alphas": ends, "draws": draws, "evals": [q.protocol.id for q in asked]}
    inputs = {**base_key(base), "direction": direction.content_hash, "questions": [dict(q.inputs) for q in asked]}
    place = Place.below(subject.folder / "random", "random", {**settings, "units": UNITS}, inputs)

    def make(work: Path) -> Json:
        controls = [random_like(direction, draw, base.weight) for draw in range(draws)]
        records = [r for q in asked for r in _changes(q, controls, ends, out, subject.seed)]
        write_json(work / FILE, records)
        return {"norm": direction.norm(base.weight)}

    record = place.once(make, beside=beside(base, direction))
    refuse_damaged(record.folder, record.manifest)
    return json.loads((record.folder / FILE).read_text()), record


def _one_of_each(of: RunPairs) -> RunPairs:
    """The first pair of every question: the split goes by questions, and stays."""
    first = {pair.topic_idx: pair for pair in reversed(of.pairs.rows)}
    return replace(of, pairs=replace(of.pairs, rows=tuple(first[k] for k in sorted(first))))


def _changes(
    questions: Questions, controls: Sequence[Direction], ends: list[float], out: Path, seed: int
) -> list[Json]:
    """The records of one evaluation, a change per draw and end."""
    protocol = questions.protocol
    unsteered = unsteered_of(questions, out, seed)
    by_metric: dict[str, Json] = {}
    for draw, control in enumerate(controls):
        method = f"random:{draw}"
        rows = questions.run(as_method(control), alphas=ends, method=method, seed=seed, unsteered=unsteered).rows
        for metric, changes in _moved(protocol.metrics(rows), ends).items():
            n = int(rows["unit_id"].nunique())
            by_metric.setdefault(metric, {"metric": metric, "n": n, "each": []})["each"].append(changes)
    return [{"eval": protocol.eval, "protocol": protocol.id, "alphas": ends, **r} for r in by_metric.values()]


def _moved(metrics: Metrics, ends: Sequence[float]) -> dict[str, list[float]]:
    """Of every metric that was measured at 0 and at both ends, its changes."""
    return {
        metric: [combined([(1.0, at[a]), (-1.0, at[0.0])]).by_unit.value for a in ends]
        for metric, at in metrics.items()
        if {0.0, *ends} <= at.keys()
    }
