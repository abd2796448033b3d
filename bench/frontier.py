"""How often an arm without any effect looks effective, or beats one that only breaks the model: simulated experiments.

    python bench/frontier.py [--experiments 200] [--questions 300]

Prints Markdown. Questions are as easy, or lean as far, at every strength, up to noise of each strength's own; both arms share
their unsteered answers. Beside the score whose best point is chosen on other units stands the one that is chosen and read on
the same.
"""

import argparse
from collections.abc import Callable, Sequence
from statistics import NormalDist

import numpy as np

from ws.stats import Sample, combined, estimate, means
from ws.stats.frontier import DELTA, ROUNDING, Point, advantage, frontier_gain, side_by_side

Truth = dict[float, tuple[float, float]]
"""Strength to the capability and the effect it truly has."""
STRENGTHS = (0.0, *(s * a for a in (0.1, 0.25, 0.5, 1.0, 2.0, 4.0) for s in (-1, 1)))
FLAT: Truth = dict.fromkeys(STRENGTHS, (0.7, 0.5))
ONE: Truth = {0.0: (0.7, 0.5), 1.0: (0.7, 0.5)}
BROKEN: Truth = {0.0: (0.7, 0.5), 1.0: (0.4, 0.5), 2.0: (0.2, 0.5)}
WEAK: Truth = {0.0: (0.7, 0.5), 1.0: (0.7, 0.51), 2.0: (0.69, 0.52), 4.0: (0.66, 0.55), 8.0: (0.3, 0.6)}
STRONG: Truth = {0.0: (0.7, 0.5), 1.0: (0.7, 0.55), 2.0: (0.7, 0.65), 4.0: (0.69, 0.75), 8.0: (0.3, 0.9)}
PAIRS = {
    "12 flat points, one flat point": (FLAT, ONE),
    "12 flat points, a broken arm": (FLAT, BROKEN),
    "weak, flat": (WEAK, ONE),
    "strong, weak (20 points above)": (STRONG, WEAK),
}


def measured(truth: Truth, rng: np.random.Generator, levels: np.ndarray, alike: float) -> list[Point]:
    """A curve as questions of these levels show it."""
    keys = [str(i) for i in range(levels.shape[1])]
    points = []
    for strength, rates in truth.items():
        drawn = np.sqrt(alike) * levels + np.sqrt(1 - alike) * rng.normal(size=levels.shape)
        both = [(row < NormalDist().inv_cdf(rate)).astype(float).tolist() for row, rate in zip(drawn, rates)]
        points.append(Point(strength, *(means(values, units=keys, keys=keys) for values in both)))
    return points


def on_the_same(arms: Sequence[Sequence[Point]], number: Callable[[list[np.ndarray]], np.ndarray]) -> Sample:
    """The best effects of arms, chosen and read on the same units, and the unsteered effect, as one number."""
    samples = []
    for points in arms:
        zero = next(p for p in points if p.strength == 0)
        losses = [combined([(1.0, zero.capability), (-1.0, p.capability)]) for p in points]
        samples += [zero.effect, *(p.effect for p in points), *losses]

    def best(values: list[np.ndarray]) -> np.ndarray:
        found, at = [], 0
        for points in arms:
            n, own = len(points), values[at + 1 : at + 1 + 2 * len(points)]
            allowed = np.stack(own[n:]) <= DELTA + ROUNDING
            found += [values[at], np.where(allowed, np.stack(own[:n]), -np.inf).max(axis=0)]
            at += 1 + 2 * n
        return number(found)

    return side_by_side(samples, best)


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--experiments", type=int, default=200)
    asked.add_argument("--questions", type=int, default=300)
    options = asked.parse_args()
    print("| arms | alike | first looks effective | on the same | first beats second | on the same |")
    print("|---|---|---|---|---|---|")
    for name, (one, other) in PAIRS.items():
        for alike in (0.3, 0.9):
            rng, found = np.random.default_rng(0), np.zeros(4)
            for _ in range(options.experiments):
                levels = rng.normal(size=(2, options.questions))
                a, b = measured(one, rng, levels, alike), measured(other, rng, levels, alike)
                b = [a[[p.strength for p in a].index(0)], *(p for p in b if p.strength != 0)]
                numbers = (
                    frontier_gain(a),
                    on_the_same([a], lambda v: v[1] - v[0]),
                    advantage(a, b),
                    on_the_same([a, b], lambda v: v[1] - v[3]),
                )
                found += [estimate(n, resamples=500).ci_lo > ROUNDING for n in numbers]
            shares = " | ".join(f"{100 * x:.0f} %" for x in found / options.experiments)
            print(f"| {name} | {alike} | {shares} |", flush=True)


if __name__ == "__main__":
    main()
