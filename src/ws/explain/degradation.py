"""`degradation`: what the direction costs along the dial, beside what it does."""

from dataclasses import dataclass, replace

from ws.eval import Evaluation
from ws.explain.measure import FULL
from ws.explain.protocol import Analysis, Curves, Finding, Subject, Table, measured
from ws.stats import Estimate, change
from ws.study.evaluations import Subject as Steered
from ws.study.evaluations import make_eval, rows_in

GRID = (-2.0, -1.0, -0.5, 0.5, 1.0, 2.0)
"""Strengths, as multiples of the one that effects are measured at."""
COST = "neutral_nll"


@dataclass(frozen=True)
class OnTheDial:
    """One strength: the effect, and how much worse the model becomes at plain answers."""

    alpha: float
    metric: str
    effect: Estimate
    """The change of the metric from strength 0."""
    nll: Estimate
    """The change of the nats per token of answers to neutral questions; above 0 is worse."""


def run(subject: Subject) -> Finding:
    """Effect and cost at every strength of a grid."""
    measure = measured(subject)
    alphas = sorted(measure.alpha * k for k in GRID)
    costs = _costs(subject, alphas)
    rows = []
    for alpha in alphas:
        full = next(e for e in replace(measure, alpha=alpha)([]) if e.variant == FULL)
        rows.append(OnTheDial(alpha, full.metric, full.delta, costs[alpha]))
    lines = {f"effect ({rows[0].metric})": [r.effect.mean for r in rows], f"cost ({COST})": [r.nll.mean for r in rows]}
    picture = Curves("the effect and its cost along the dial", "alpha", "change from alpha 0", alphas, lines)
    at = next(r for r in rows if r.alpha == measure.alpha)
    reading = (
        f"At alpha {at.alpha:+g} it moves {at.metric} by {at.effect.mean:+.2f} and costs {at.nll.mean:+.3f} nats per token of answers to "
        "neutral questions."
    )
    return Finding((Table("along the dial", rows),), (picture,), (reading,))


def _costs(subject: Subject, alphas: list[float]) -> dict[float, Estimate]:
    """The change of the cost at every strength."""
    measure = measured(subject)
    evaluation = Evaluation("perplexity", limit=measure.evaluation.limit)
    steered = Steered(subject.base, subject.direction, measure.folder, "direction", origin=measure.origin)
    _, record = make_eval(steered, evaluation, alphas=alphas, out=measure.out)
    samples = evaluation.chosen.metrics(rows_in(record))[COST]
    return {alpha: change(samples[0.0], samples[alpha]) for alpha in alphas}


DEGRADATION = Analysis(
    "degradation",
    "What does the effect cost, along the dial?",
    "Neutral questions are one kind of cost. A model that is no worse at them may be worse elsewhere.",
    run,
    measures=True,
)
