"""The metrics of a comparison: those the behavior claims to move, and those that say what steering costs."""

from collections.abc import Mapping
from dataclasses import dataclass

from ws.behaviors import Behavior
from ws.eval import providing
from ws.eval.protocol import Protocol
from ws.results.trials import Trial

BESIDE = ("_rel", "_adj")
COST_EVAL = "perplexity"
COST_COLUMNS = {"nll rise": "nll_rise", "choice right": "choice_right", "loops": "free_loops"}


@dataclass(frozen=True)
class Claim:
    """The metric of a table, and which way it is meant to go."""

    name: str
    """The name of the evaluation in the comparison."""
    metric: str
    intent: int
    """+1, -1, or 0 where the behavior claims nothing."""
    protocol: Protocol
    beside: tuple[str, ...] = ()
    """Metrics that stand beside it: the axis net of other things."""

    @property
    def sign(self) -> float:
        """The side that counts as positive."""
        return float(self.intent or 1)


@dataclass(frozen=True)
class Costs:
    """Where side effects are read: (evaluation, metric), and how a heading calls them."""

    columns: Mapping[str, tuple[str, str]]


def claims_of(trial: Trial, behavior: Behavior) -> list[Claim]:
    """A table for every metric the behavior claims to change; the first metric where it claims none of an evaluation's."""
    claims = []
    own = {name: m for name, m in trial.evals.items() if m.protocol.eval != COST_EVAL}
    for name, m in (own or trial.evals).items():
        there = list(trial.metrics(name))
        claimed = [x for x in there if behavior.intent.get(x)]
        for metric in claimed or there[:1]:
            beside = tuple(metric + b for b in BESIDE if metric + b in there)
            claims.append(Claim(name, metric, behavior.intent.get(metric, 0), m.protocol, beside))
    return claims


def not_computed(trial: Trial, behavior: Behavior) -> list[str]:
    """A sentence per claim that cannot be computed from these rows, as where only a few units were scored."""
    lines = []
    claimed = [m for m, sign in behavior.intent.items() if sign]
    for name, m in trial.evals.items():
        own = [x for x in claimed if providing(x) == m.protocol.eval]
        if own and not any(x in trial.metrics(name) for x in own):
            there = next(iter(trial.metrics(name)))
            lines.append(
                f"{name}: {', '.join(own)} cannot be computed from these units, so {there} stands in its place."
            )
    return lines


def costs_of(trial: Trial) -> Costs:
    """The evaluation of a trial that holds each side effect."""
    return Costs(
        {
            title: (name, metric)
            for title, metric in COST_COLUMNS.items()
            for name in trial.evals
            if metric in trial.metrics(name)
        }
    )
