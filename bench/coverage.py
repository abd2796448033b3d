"""How often an interval excludes a change that is not there, and holds one that is: simulated experiments.

    python bench/coverage.py [--experiments 4000] [--resamples 1000]

Prints Markdown. Every experiment is a table of rows at two strengths: units of their own level, rows of their own, noise at
each strength. Rows are then gated (NaN) at either strength, left away, and mixed. Where a design gates by what a row says,
low rows are lost at one strength only: unpaired, that looks like a change.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ws.stats import Sample, combined, estimate, means

Rng = np.random.Generator


@dataclass(frozen=True)
class Design:
    """What an experiment is like."""

    name: str
    units: int
    rows: tuple[int, int] = (2, 2)
    """Fewest and most rows of a unit."""
    large: tuple[int, int] = (0, 0)
    """So many units have so many rows instead."""
    gated: float = 0.1
    """Share of rows without a score at each strength."""
    by_level: bool = False
    """Whether the gate takes low rows, at the second strength alone."""
    missing: float = 0.05
    noise: Callable[[Rng, int], np.ndarray] = lambda rng, n: rng.normal(size=n)
    together: float = 0.5
    """The noise of a change that the rows of a unit share, against 1 of their own."""
    groups: int = 1
    """2: an axis, the mean of some units less that of the others."""


def skewed(rng: Rng, n: int) -> np.ndarray:
    return rng.exponential(size=n) - 1


def rare(rng: Rng, n: int) -> np.ndarray:
    """One row in ten changes, by a lot, either way."""
    return np.where(rng.random(n) < 0.1, 3 * rng.choice([-1.0, 1.0], n), 0.0)


DESIGNS = (
    Design("two rows a unit", 150),
    Design("two rows a unit", 60),
    Design("two rows a unit", 30),
    Design("one to six rows a unit", 150, rows=(1, 6)),
    Design("one to six rows a unit", 60, rows=(1, 6)),
    Design("one to six rows a unit", 30, rows=(1, 6)),
    Design("half of the rows gated", 60, gated=0.5),
    Design("low rows gated at one strength", 60, by_level=True, gated=0.4),
    Design("rows of a unit move together", 60, rows=(1, 6), together=2.0),
    Design("rows of a unit move together", 30, rows=(1, 6), together=2.0),
    Design("skewed changes", 60, noise=skewed),
    Design("skewed changes", 30, noise=skewed),
    Design("rare changes", 60, noise=rare),
    Design("an axis of two halves", 60, groups=2),
    Design("an axis of two halves", 130, groups=2, rows=(1, 4)),
    Design("one unit of twenty rows, the others of two", 60, large=(1, 20)),
    Design("three units of sixty rows, the others of two", 60, large=(3, 60)),
)


def experiment(rng: Rng, d: Design, effect: float) -> tuple[Sample, Sample]:
    """The numbers of both strengths, of rows that were mixed, gated and partly left away."""
    sizes = rng.integers(d.rows[0], d.rows[1] + 1, d.units)
    sizes[: d.large[0]] = d.large[1]
    unit = np.repeat(np.arange(d.units), sizes)
    n = len(unit)
    low = rng.normal(0, 2, d.units)[unit] + rng.normal(0, 1, n)
    shared = d.noise(rng, d.units)[unit]
    moved = d.noise(rng, n) + d.together * shared
    group = unit % d.groups
    high = low + moved + effect * (group == 0)
    gates = [rng.random(n) < d.gated for _ in range(2)]
    if d.by_level:
        gates = [np.zeros(n, bool), (low < 0) & (rng.random(n) < 2 * d.gated)]
    return tuple(  # type: ignore[return-value]
        read(np.where(gate, np.nan, y), unit, group, d, rng, rng.random(n) >= d.missing)
        for y, gate in zip((low, high), gates)
    )


def read(y: np.ndarray, unit: np.ndarray, group: np.ndarray, d: Design, rng: Rng, there: np.ndarray) -> Sample:
    order = rng.permutation(np.flatnonzero(there))
    return means(
        y[order].tolist(),
        units=[f"u{u:04d}" for u in unit[order]],
        keys=order.tolist(),
        weights=(group[order, None] == np.arange(d.groups)).astype(float),
        factors=[1.0, -1.0][: d.groups],
    )


def counted(d: Design) -> int:
    """As how many units of one size they count."""
    return estimate(combined([(1.0, x) for x in experiment(np.random.default_rng(1), d, 0.0)]), resamples=1).fewest


def share(d: Design, effect: float, experiments: int, resamples: int) -> float:
    """How often the interval of a change holds the effect."""
    rng, hits = np.random.default_rng(1), 0
    for i in range(experiments):
        low, high = experiment(rng, d, effect)
        e = estimate(combined([(1.0, high), (-1.0, low)]), seed=i, resamples=resamples)
        hits += e.ci_lo <= effect <= e.ci_hi
    return hits / experiments


def main(experiments: int, resamples: int) -> None:
    start = time.perf_counter()
    print(f"{experiments} experiments a line, {resamples} resamples\n")
    print(
        "| design | units | count as | without a change, excludes 0 | planted change covered |\n|---|---|---|---|---|"
    )
    for d in DESIGNS:
        found = [share(d, effect, experiments, resamples) for effect in (0.0, 0.4)]
        print(
            f"| {d.name} | {d.units} | {counted(d)} | {100 * (1 - found[0]):.1f} % | {100 * found[1]:.1f} % |",
            flush=True,
        )
    print(f"\n{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiments", type=int, default=4000)
    parser.add_argument("--resamples", type=int, default=1000)
    options = parser.parse_args()
    main(options.experiments, options.resamples)
