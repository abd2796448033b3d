"""How often the interval of a share that a judge has counted covers the truth: python bench/judged.py

Each simulation draws a population, a judge with its true rates, 50 or so labelled cases, and takes both intervals: the
corrected one of `ws.stats.misjudged`, and the one that believes the judge.
"""

import sys
from dataclasses import dataclass

import numpy as np

from ws.stats import estimate, means
from ws.stats.misjudged import Rates, corrected_share


@dataclass(frozen=True)
class World:
    """What is simulated."""

    units: int
    share: float
    sensitivity: float
    specificity: float
    labelled: int = 50
    positive: float = 0.5
    """The share of true ones among the labelled cases."""


WORLDS = {
    "usual": World(400, 0.3, 0.9, 0.85),
    "labels as they come": World(400, 0.3, 0.9, 0.85, positive=0.3),
    "no error seen": World(500, 0.5, 0.97, 0.97),
    "rare": World(300, 0.05, 0.95, 0.9),
    "weak judge": World(400, 0.5, 0.7, 0.7),
    "few units": World(100, 0.4, 0.9, 0.9),
    "many labels": World(400, 0.9, 0.95, 0.9, labelled=200),
}


def coverage(name: str, *, simulations: int = 1000, resamples: int = 1000, seed: int = 0) -> tuple[float, float]:
    """The share of simulations in which the corrected and the raw interval cover the truth."""
    w, rng, covered = WORLDS[name], np.random.default_rng(seed), np.zeros(2)

    def judged(truth: np.ndarray) -> np.ndarray:
        right = rng.random(len(truth)) < np.where(truth, w.sensitivity, w.specificity)
        return np.where(right, truth, ~truth)

    for _ in range(simulations):
        verdicts = judged(rng.random(w.units) < w.share).astype(float).tolist()
        labels = rng.random(w.labelled) < w.positive
        rates = Rates.of(judged(labels).tolist(), labels.tolist())
        ours = corrected_share(verdicts, range(w.units), rates, resamples=resamples)
        raw = estimate(means(verdicts, units=range(w.units), keys=range(w.units)), resamples=resamples)
        covered += [ours.low <= w.share <= ours.high, raw.ci_lo <= w.share <= raw.ci_hi]
    return float(covered[0] / simulations), float(covered[1] / simulations)


if __name__ == "__main__":
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    print(f"{'world':<20} {'corrected':>10} {'raw':>8}   ({n} simulations)")
    for world in WORLDS:
        print(f"{world:<20} {'{:.3f}   {:.3f}'.format(*coverage(world, simulations=n)):>19}")
