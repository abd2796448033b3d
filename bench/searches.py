"""How many strengths a calibration tries, on curves whose errors are those of prompts: no model, a few seconds.

    python bench/searches.py [--worlds 400]

A curve grows as c squared far below the target, by `slope` near it, and bends over at 4 or 12 times the target, as curves of
models do. A handful of prompts is 30 % off (and neighbours 20 % apart by chance), a quarter of them 12 % (5 %), all of them 2.5 %.
"""

import argparse
import math
import random
import sys
from collections.abc import Callable

import ws.calibrate  # noqa: F401  the package; `ws.calibrate` is a verb
from ws.calibrate.search import around, bracket, first_guess, searching, solve

LADDER, ROUGH_ROUNDS = (getattr(sys.modules["ws.calibrate"], name) for name in ("LADDER", "ROUGH_ROUNDS"))
ALIKE = {"few": 0.3, "quarter": 0.12, "all": 0.0}
APART = {"few": 0.2, "quarter": 0.05, "all": 0.025}


def world(slope: float, top: float, noise: random.Random) -> Callable[[float, str], float]:
    """What is measured at a strength, on so many prompts."""
    at = math.exp(noise.uniform(math.log(0.3), math.log(60)))
    bias = {prompts: noise.gauss(0, size) for prompts, size in ALIKE.items()}

    def measured(c: float, prompts: str) -> float:
        x = math.log(c / at)
        y = slope * x if x > -1 else 2 * (x + 1) - slope
        y = math.log(top) - math.log1p((top - 1) * math.exp(-y)) if y > -20 else y
        return math.exp(y + bias[prompts] + noise.gauss(0, APART[prompts]))

    return measured


def tries(measured: Callable[[float, str], float]) -> tuple[int, int]:
    """(rounds on a quarter of the prompts, strengths on all) until a strength is found."""
    ladder, near, rounds = [(c, measured(c, "few")) for c in LADDER], [], 0
    while rounds < ROUGH_ROUNDS and None in bracket(near, 1.0):
        guess = first_guess(near or ladder, 1.0)[0]
        near += [(c, measured(c, "quarter")) for c in around(guess, None) if c not in dict(near)]
        rounds += 1
    probe, slope = first_guess(near, 1.0)
    ends = solve(lambda cs: [measured(c, "all") for c in cs], {1.0: searching(1.0, probe=probe, slope=slope)})
    return rounds, len(ends[1.0].trials)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, default=400)
    options = parser.parse_args()
    print("| slope | top | rounds on a quarter | strengths on all | most |\n|---|---|---|---|---|")
    for slope in (1.8, 2.5, 4.0, 7.5, 12.0):
        for top in (4.0, 12.0):
            found = [tries(world(slope, top, random.Random(seed))) for seed in range(options.worlds)]
            rounds, full = zip(*found)
            mean = [sum(each) / len(found) for each in (rounds, full)]
            print(f"| {slope:g} | {top:g} | {mean[0]:.2f} | {mean[1]:.2f} | {max(full)} |")


if __name__ == "__main__":
    main()
