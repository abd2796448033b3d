"""The studies of a sweep taken together: one number per behavior, family and metric, over seeds and items.

The number is how far a metric moves from the lowest to the highest strength, over the rows scored at both. It is read from the rows
that the studies wrote, never from what they printed.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ws.results.sentences import side_of
from ws.results.trials import Trial, Trials, apart, trial_of_study
from ws.stats import Estimate, OverSeeds, estimate
from ws.types import Fields, Json

FAMILY = ("model", "behavior", "adapter", "lr")
"""The settings that the seeds of one line share."""


@dataclass(frozen=True)
class Effect:
    """One metric of one family over all seeds."""

    model: str
    behavior: str | None
    adapter: str
    lr: float | None
    """Where the sweep has several; otherwise each study's own."""
    protocol: str
    metric: str
    sign: int
    """The side the behavior wants; 0 where it claims nothing."""
    seeds: tuple[int, ...]
    repeats: tuple[int, ...]
    """Seeds that gave a direction of another seed again; they are counted once."""
    alphas: tuple[tuple[float, float], ...]
    """The strengths it moves between, by seed."""
    each: tuple[Estimate, ...]
    """The same of every seed alone, with its interval over items."""
    over: OverSeeds

    @property
    def agree(self) -> int:
        """The number of seeds that moved as the behavior wants; where it claims nothing, as most did."""
        return sum(self.sign * x > 0 for x in self.over.each) if self.sign else self.over.same_sign

    def as_json(self) -> Json:
        """The effect as an object; NaN is None when it is written."""
        return {**asdict(self), "agree": self.agree, "spread": self.over.sd}


def effects(studies: Sequence[Fields]) -> list[Effect]:
    """The effects of all studies that are done, in their order.

    A study has model, behavior, adapter, lr, intent (metric to the side it wants) and evals (folders).
    """
    groups: dict[tuple, list[Fields]] = {}
    for study in studies:
        groups.setdefault(tuple(study[k] for k in FAMILY), []).append(study)
    return [e for family, group in groups.items() for e in _effects(family, group)]


def _effects(family: tuple, studies: Sequence[Fields]) -> list[Effect]:
    """The effects of one family: every metric that its seeds were measured by."""
    own, repeats = apart([trial_of_study([Path(f) for f in s["evals"]]) for s in studies])
    intent = studies[0]["intent"]
    effects = []
    for name, metric in dict.fromkeys((n, m) for t in own for n in t.evals for m in t.metrics(n)):
        having = Trials(str(family[2]), tuple(t for t in own if _moves(t, name, metric)))
        if not having.each:
            continue
        changes = [t.way(name, metric) for t in having.each]
        effects.append(
            Effect(
                **dict(zip(FAMILY, family)),
                protocol=having.each[0].evals[name].protocol.id,
                metric=metric,
                sign=side_of(metric, intent),
                seeds=tuple(t.seed for t in having.each),
                repeats=tuple(t.seed for t in repeats),
                alphas=tuple((t.neg, t.pos) for t in having.each),
                each=tuple(map(estimate, changes)),
                over=having.way(name, metric),
            )
        )
    return effects


def _moves(trial: Trial, name: str, metric: str) -> bool:
    """Whether a metric was measured at both ends; of the unsteered model alone these are one."""
    there = trial.metrics(name).get(metric, {}) if name in trial.evals else {}
    return trial.neg < trial.pos and {trial.neg, trial.pos} <= there.keys()
