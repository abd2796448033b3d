"""Processor time of intervals: 10,000 resamples of 2,000 rows, ours and scipy's, one after the other in one process.

    python bench/bootstrap.py [--rows 2000] [--resamples 10000] [--times 5]

Prints Markdown. scipy gets the unit means with one row a unit, which is its fastest case; so do we.
"""

import argparse
import platform
import time
from collections.abc import Callable
from statistics import median

import numpy as np
import pandas as pd
import scipy
from scipy.stats import bootstrap

from ws.stats import change, estimate, means
from ws.stats.informedness import informedness


def seconds(what: Callable[[], object], times: int) -> list[float]:
    taken = []
    for _ in range(times):
        start = time.process_time()
        what()
        taken.append(time.process_time() - start)
    return taken


def items(n: int) -> pd.DataFrame:
    """n rows at three strengths, two rows a unit."""
    rng = np.random.default_rng(0)
    level, parts = rng.normal(0.5, 1, n), []
    for alpha, arm in ((-1.0, "neg"), (0.0, "ref"), (1.0, "pos")):
        y = level + 0.3 * alpha + (alpha != 0) * rng.normal(0, 0.5, n)
        part = pd.DataFrame({"row_key": [f"{i // 2}/{i % 2}" for i in range(n)], "y": y})
        part["unit_id"] = part["row_key"].str.split("/").str[0]
        parts.append(part.assign(alpha=alpha, arm=arm, method="m", protocol="p", metric="y", pmass=1.0, label=1))
    return pd.concat(parts)


def main(rows: int, resamples: int, times: int) -> None:
    y = np.random.default_rng(0).normal(0.3, 1, rows)
    keys, two = [f"{i}" for i in range(rows)], [f"{i // 2}" for i in range(rows)]
    table = items(rows)
    settings = {"n_resamples": resamples, "vectorized": True, "rng": 0}
    ways: dict[str, Callable[[], object]] = {
        "`estimate`, a unit per row, BCa": lambda: estimate(
            means(y.tolist(), units=keys, keys=keys), resamples=resamples
        ),
        "`estimate`, two rows a unit, BCa": lambda: estimate(
            means(y.tolist(), units=two, keys=keys), resamples=resamples
        ),
        "`change`, two rows a unit, 2,000 resamples": lambda: change(
            *(means((y + k).tolist(), units=two, keys=keys) for k in (0.0, 0.1))
        ),
        "`informedness`, 10 intervals and two nulls": lambda: informedness(table, resamples=resamples),
        "`scipy.stats.bootstrap`, BCa": lambda: bootstrap((y,), np.mean, method="BCa", **settings),
        "`scipy.stats.bootstrap`, BCa, batches of 100": lambda: bootstrap(
            (y,), np.mean, method="BCa", batch=100, **settings
        ),
        "`scipy.stats.bootstrap`, percentile": lambda: bootstrap((y,), np.mean, method="percentile", **settings),
    }
    print(
        f"{resamples} resamples, {rows} rows, {times} times; numpy {np.__version__}, scipy {scipy.__version__}, ",
        end="",
    )
    print(f"Python {platform.python_version()}\n\n| what | median s | least to most |\n|---|---|---|")
    for name, what in ways.items():
        taken = seconds(what, times)
        print(f"| {name} | {median(taken):.3f} | {min(taken):.3f} to {max(taken):.3f} |", flush=True)
    ours, theirs = (
        ways["`estimate`, a unit per row, BCa"](),
        bootstrap((y,), np.mean, method="BCa", batch=100, **settings),
    )
    ends = theirs.confidence_interval
    print(f"\nIntervals: ours {ours.ci_lo:.4f} to {ours.ci_hi:.4f}, scipy's {ends.low:.4f} to {ends.high:.4f}.")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--resamples", type=int, default=10_000)
    parser.add_argument("--times", type=int, default=5)
    given = parser.parse_args()
    main(given.rows, given.resamples, given.times)
