"""How often the audit of a calibration is wrong: strengths that are off and pass, strengths that are right and do not.

    python bench/audit.py [--draws 300] [--seed 0]

Token KLs are drawn as they were measured: log-normal, with a level of its own for every kind of prompt and every prompt. The
three spreads are such that ln p95 varies between sets of prompts as it does on `tiny` (ws:lora at 1 nat) and on
SmolLM2-135M-Instruct (a random direction at 0.6 nat). Two tables: the share that passes at a true ratio of p95 to the
budget, and a whole calibration, whose strength has the error of the prompts it was found on. Prints Markdown.
"""

import argparse
import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from ws.calibrate import AUDIT_LEVEL, Divergence
from ws.calibrate.kl import QUANTILE, divergence_of

RATIOS = (0.5, 0.75, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5)
TOLERANCE, WITHIN, POINT = 0.05, 1.25, 1.5


@dataclass(frozen=True)
class World:
    """How the logarithms of token KLs spread."""

    name: str
    kinds: int
    tokens: int
    of_kinds: float
    of_prompts: float
    of_tokens: float


WORLDS = (World("tiny", 6, 46, 0.5, 0.3, 2.2), World("SmolLM2", 12, 49, 0.1, 0.3, 0.7))
SIZES = {"tiny": ((240, 480), (60, 120)), "SmolLM2": ((50, 100), (24, 48))}


def drawn(rng: np.random.Generator, world: World, levels: np.ndarray, n: int) -> tuple[Divergence, list[str]]:
    """The divergence over n prompts, and the kind of each."""
    kinds = np.arange(n) % world.kinds
    logs = levels[kinds][:, None] + world.of_prompts * rng.standard_normal((n, 1))
    logs = logs + world.of_tokens * rng.standard_normal((n, world.tokens))
    return divergence_of(1.0, [tuple(row) for row in np.exp(logs).tolist()]), [str(k) for k in kinds]


def true_p95(world: World, levels: np.ndarray) -> float:
    """The quantile of all prompts there could be, every kind as often as in the sets."""
    inner = NormalDist(0, math.hypot(world.of_prompts, world.of_tokens))
    low, high = -20.0, 20.0
    while high - low > 1e-9:
        middle = (low + high) / 2
        below = float(np.mean([inner.cdf(middle - level) for level in levels])) < QUANTILE
        low, high = (middle, high) if below else (low, middle)
    return math.exp(low)


def simulate(rng: np.random.Generator, world: World, n_calib: int, n_audit: int, draws: int) -> None:
    levels = world.of_kinds * rng.standard_normal(world.kinds)
    true = true_p95(world, levels)
    audits, found = [], []
    for _ in range(draws):
        audit, kinds = drawn(rng, world, levels, n_audit)
        audits.append(np.array([audit.p95, *audit.interval(kinds, level=AUDIT_LEVEL)]) / true)
        calib, _ = drawn(rng, world, levels, n_calib)
        found.append(true / calib.p95 * rng.uniform(1 - TOLERANCE, 1 + TOLERANCE))  # its true ratio to the budget
    at, low, high = np.array(audits).T
    truth = np.array(found)

    def passes(ratio: float | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        shown = (ratio * low >= 1 / WITHIN) & (ratio * high <= WITHIN)
        return shown, (ratio * at >= 1 / POINT) & (ratio * at <= POINT)

    where = f"| {world.name}, {n_calib} + {n_audit} | {np.std(np.log(truth)):.3f}, {np.std(np.log(at)):.3f} |"
    for rule, name in enumerate((f"interval in {WITHIN}", f"point in {POINT}")):
        matched = passes(truth)[rule]
        off = np.abs(np.log(truth[matched])) > np.log(WITHIN)
        cells = [f"{passes(r)[rule].mean():.3f}" for r in RATIOS]
        print(f"{where} {name} | {' | '.join(cells)} | {matched.mean():.3f} | {off.mean():.3f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    ratios = " | ".join(f"{r:g}" for r in RATIOS)
    print(f"| prompts | sd ln p95, calib, audit | passes if | {ratios} | matched | of them beyond {WITHIN} |")
    print("|---|---|---|" + "---:|" * (len(RATIOS) + 2))
    for world in WORLDS:
        for n_calib, n_audit in SIZES[world.name]:
            simulate(np.random.default_rng(options.seed), world, n_calib, n_audit, options.draws)


if __name__ == "__main__":
    main()
