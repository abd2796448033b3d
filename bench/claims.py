"""Does the test of each claim decide a planted truth? Simulated recipes: python bench/claims.py [--draws 100] [--questions 400]

Every recipe is drawn in three worlds: one in which all that the paper says of it is true, one in which all of it is false,
and one in which nothing moves. Prints Markdown: how often each claim is said to hold. In the first it ought to be 95 of
100 or more, in the others 5 or fewer; a claim that nothing moves is true in the third.
"""

import argparse
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from statistics import NormalDist

import numpy as np

from ws.paper import recipe_named
from ws.paper.claims import HOLDS, Claim
from ws.paper.curves import Curves, Spot, wanted
from ws.paper.misaligned import BASE
from ws.paper.misaligned import CLAIMS as EM_CLAIMS
from ws.paper.monitoring import CLAIMS as COS_CLAIMS
from ws.paper.monitoring import Cosines
from ws.paper.monitoring_curve import CLAIMS as CURVE_CLAIMS
from ws.paper.monitoring_curve import Curve
from ws.paper.monitoring_curve import Curves as StepCurves
from ws.paper.recipe import Measure
from ws.paper.recipes import lora_vs_full, variations
from ws.paper.recipes.lr_sweep import LrSweep
from ws.paper.steering import Steering
from ws.stats import Sample, estimate, means, over_seeds

World = Mapping[str, tuple[float, float]]
"""Arm to the effect it has at no cost, and to what it loses of the capability at its strongest."""
WAY = (0.25, 0.5, 0.75, 1.0, 1.0, 1.0)
"""Six strengths a side, as recipes have: the share of the effect that is there at each."""
TOLL = (0.0, 0.0, 0.0, 0.0, 0.5, 1.0)
"""The share of the loss."""
ALIKE = 0.9
"""How much of a question's answer is its own, whatever the strength."""
UNMOVED = ("over_refusal", "gsm_refused")
"""Numbers that no arm moves where the paper is right, and all do where it is wrong."""

DECAYS = {("act_single", "mcqa-cot-1/2"): 0.3, ("weight", "mcqa-cot-2/2"): 0.3}
"""How much of the answers in form an arm loses at its strongest, by wording, where the paper is right."""
NO_DECAYS = {("act_single", "mcqa-cot-1/2"): 0.3, ("act_single", "mcqa-cot-2/2"): 0.3}

FULL = dict.fromkeys(("weight", "finetune"), (0.4, 0.3))
SYC: World = {**FULL, "act_single": (0.1, 0.3), "act_all": (0.0, 0.4), "random": (0.0, 0.0)} | dict.fromkeys(("bias_only", "tau+", "tau-"), (0.25, 0.3))  # fmt: skip
NO_SYC: World = {"weight": (0.0, 0.0), "finetune": (0.0, 0.0), "act_single": (0.3, 0.0), "act_all": (0.3, 0.0), "random": (0.3, 0.0)} | dict.fromkeys(("bias_only", "tau+", "tau-"), (0.45, 0.0))  # fmt: skip
TONE: World = dict.fromkeys(("weight", "finetune", "act_single", "act_all", "bias_only", "tau+", "tau-"), (0.3, 0.2)) | {"random": (0.0, 0.0)}  # fmt: skip
NO_TONE: World = {"weight": (0.3, 0.0), "random": (0.3, 0.0)} | dict.fromkeys(("finetune", "act_single", "act_all", "bias_only", "tau+", "tau-"), (0.0, 0.0))  # fmt: skip
WORLDS: Mapping[str, tuple[World, World]] = {
    "syc_qa": (SYC, NO_SYC),
    "syc_tone": (TONE, NO_TONE),
    "gcd": (
        {"weight": (0.4, 0.3), "bias_only": (0.2, 0.3), "act_single": (0.0, 0.4), "act_all": (0.0, 0.4), "tau+": (0.0, 0.4), "tau-": (0.0, 0.4)} | dict.fromkeys(("prompt", "joint", "random", "base"), (0.0, 0.0)),
        {"weight": (0.0, 0.0), "bias_only": (0.4, 0.0)} | dict.fromkeys(("act_single", "act_all", "tau+", "tau-", "prompt", "joint", "random", "base"), (0.25, 0.0)),
    ),
    "evil_mcqa": (
        {"weight": (0.25, 0.3), "finetune": (0.25, 0.3), "tau+": (0.25, 0.3), "bias_only": (0.45, 0.3), "act_single": (0.05, 0.3), "act_all": (0.0, 0.4), "tau-": (0.0, 0.0), "random": (0.0, 0.0)},
        {"weight": (0.2, 0.0), "finetune": (0.0, 0.0), "tau+": (0.45, 0.0), "bias_only": (0.0, 0.0), "act_single": (0.4, 0.0), "act_all": (0.3, 0.0), "tau-": (0.3, 0.0), "random": (0.3, 0.0)},
    ),
    "evil_indist": (TONE, NO_TONE),
    "refusal": (
        {"weight": (0.4, 0.3), "joint": (0.4, 0.0), "bias_only": (0.2, 0.3), "act_all": (0.2, 0.3), "act_single": (0.0, 0.3), "tau+": (0.0, 0.4), "prompt": (0.2, 0.3)} | dict.fromkeys(("weight evil", "act_single evil", "random", "base"), (0.0, 0.0)),
        {"weight": (0.0, 0.0), "joint": (0.0, 0.0), "bias_only": (0.4, 0.0), "act_all": (0.4, 0.0), "act_single": (0.2, 0.0), "tau+": (0.3, 0.0), "prompt": (0.0, 0.0)} | dict.fromkeys(("weight evil", "act_single evil", "random", "base"), (0.3, 0.0)),
    ),
    "lr_sweep": (
        {"lr 1e-05": (0.1, 0.2), "lr 5e-05": (0.4, 0.2), "lr 0.0002": (0.25, 0.2)},
        {"lr 1e-05": (0.4, 0.2), "lr 5e-05": (0.3, 0.2), "lr 0.0002": (0.0, 0.2)},
    ),
}  # fmt: skip
LOSSES = {"lr 1e-05": 0.8, "lr 5e-05": 0.9, "lr 0.0002": 0.6}
"""Validation losses in the world where the one that steers worst has the lowest."""
COUNTED: tuple[World, World] = (
    {"weight": (0.45, 0.2), "bias_only": (0.25, 0.2), "act_all": (0.05, 0.2), "act_single": (0.05, 0.2), "tau+": (0.1, 0.2), "tau-": (0.1, 0.2)},
    {"weight": (0.0, 0.0), "bias_only": (0.2, 0.0), "act_all": (0.1, 0.0), "act_single": (0.45, 0.0), "tau+": (0.1, 0.0), "tau-": (0.1, 0.0)},
)  # fmt: skip
"""Of the recipes that `variations` counts."""


def flat(world: World) -> World:
    """The same arms, none of which does anything."""
    return dict.fromkeys(world, (0.0, 0.0))


def shown(values: np.ndarray, scale: float = 1.0) -> Sample:
    keys = range(len(values))
    return means((scale * values).tolist(), units=keys, keys=keys)


def noisy(rng: np.random.Generator, levels: np.ndarray) -> np.ndarray:
    """A question's own level with the luck of one strength."""
    return math.sqrt(ALIKE) * levels + math.sqrt(1 - ALIKE) * rng.normal(size=levels.shape)


def steered(recipe: Steering, world: World, rng: np.random.Generator, n: int, right: bool, seeds: int = 1) -> Curves:
    """A steering recipe whose arms do what a world says, on n questions; `right` says whether UNMOVED stay."""
    levels = {m.name: rng.normal(size=n) for m in recipe.measures}
    decays = (DECAYS if right else NO_DECAYS) if any(gain for gain, _ in world.values()) else {}
    zero = {m.name: _number(m, noisy(rng, levels[m.name]), _level(recipe, m, 0.0, 0.0)) for m in recipe.measures}
    spots, training = [], {}
    for seed in range(seeds):
        for arm, (gain, cost) in world.items():
            places = [(0.0, zero)]
            for side in recipe.sides:
                for step, (way, toll) in enumerate(zip(WAY, TOLL), 1):
                    numbers = {}
                    for m in recipe.measures:
                        moved = (0.0 if right else 0.3) if m.metric in UNMOVED else gain * way
                        lost = toll * decays.get((arm, m.protocol), 0.0) if m in recipe.also else cost * toll
                        level = _level(recipe, m, wanted(m, side) * moved, lost)
                        numbers[m.name] = _number(m, noisy(rng, levels[m.name]), level)
                    places.append((float(side * step), numbers))
            spots += [Spot(arm, seed, a, arm, a, abs(a), "as given", "raw", numbers) for a, numbers in places]
            loss = (1.0 - 0.5 * gain if right else LOSSES.get(arm, 1.0)) + 0.01 * rng.normal()
            training[arm, seed] = {"val_pos": loss, "val_neg": loss, "step": 10}
    return Curves(tuple(spots), training)


def _level(recipe: Steering, m: Measure, moved: float, cost: float) -> float:
    return 0.85 - cost if m == recipe.x or m in recipe.also else min(0.98, max(0.02, 0.5 + moved))


def _number(m: Measure, values: np.ndarray, level: float) -> Sample:
    """A share of questions, the same in points of 100, or a number in nats that moves as far."""
    if m.unit in ("share", "points"):
        return shown((values < NormalDist().inv_cdf(level)).astype(float), 100.0 if m.unit == "points" else 1.0)
    return shown(-values + 4 * level)


# ---------------------------------------------------------------- recipes that watch, and that add

NAMES, SIDES = ("medical", "finance", "sports", "french"), ("bad", "good")
NOISE = 0.02


def cosines(rng: np.random.Generator, gap: float, taus: float, large: float = 0.0) -> Cosines:
    """Bad fine-tunes of other domains lie `gap` nearer to a direction than good ones; each has an offset of its own."""
    offset = {(b, s): NOISE * rng.normal() for b in NAMES for s in SIDES}

    def near(value: float) -> float:
        return float(value + 0.5 * NOISE * rng.normal())

    def own(a: str, b: str, side: str) -> float:
        return 0.0 if "french" in (a, b) else (gap if side == "bad" else -gap) / 2 + large

    return Cosines(
        NAMES,
        frozenset({"french"}),
        {(a, b, s): near(own(a, b, s) + offset[b, s]) for a, b, s in product(NAMES, NAMES, SIDES)},
        {(a, b): near(0.0 if "french" in (a, b) else gap) for a, b in product(NAMES, NAMES)},
        {
            (a, s, b, t): near(taus * (s == t == "bad") + offset[a, s] + offset[b, t])
            for a, s, b, t in product(NAMES, SIDES, NAMES, SIDES)
        },
    )


def steps(rng: np.random.Generator, cos: float, answers: float, late: bool, n: int) -> StepCurves:
    """A training of 50 steps in which cosines rise by `cos` and misaligned answers by `answers`, early or late."""
    marks = tuple(range(5, 55, 5))
    first, second = (15, 35) if late else (35, 15)
    levels = rng.normal(size=n)

    def share(rate: float) -> Sample:
        return shown((noisy(rng, levels) < NormalDist().inv_cdf(rate)).astype(float))

    def rises(by: float, at: int, step: int) -> float:
        return by * min(1.0, max(0.0, (step - at + 10) / 20))

    em = [share(0.1), *(share(0.1 + rises(answers, second, s)) for s in marks)]
    curves = []
    for name, by in (("sports", cos), ("french", 0.0)):
        offset = {d: NOISE * rng.normal() for d in NAMES}
        own = {d: tuple(rises(by, first, s) + offset[d] for s in marks) for d in NAMES}
        curves.append(Curve(name, marks, own, tuple(em), {0: 1.0}, NOISE))
    return StepCurves(*curves, "sports")


def answers(
    rng: np.random.Generator, base: float, tuned: float, coherent: float, n: int
) -> dict[str, dict[str, Sample]]:
    """Shares of misaligned and of coherent answers."""
    models = {BASE: base, **{f"bad {d}": tuned for d in NAMES[:3]}}
    return {m: {"em": shown((rng.random(n) < r) * 1.0), "em_coherence": shown((rng.random(n) < coherent) * 1.0)} for m, r in models.items()}  # fmt: skip


def added(rng: np.random.Generator, ranks: tuple[float, ...], full: float, n: int) -> dict[str, dict[str, Sample]]:
    """Shares of answers that keep both skills, on the same questions."""
    levels = rng.normal(size=n)
    rates = {f"rank {4 * 2**k}": r for k, r in enumerate(ranks)} | {lora_vs_full.FULL: full, lora_vs_full.SCALED: full}
    return {m: {lora_vs_full.BOTH: shown((noisy(rng, levels) < NormalDist().inv_cdf(r)) * 1.0)} for m, r in rates.items()}  # fmt: skip


# ---------------------------------------------------------------- counting


@dataclass(frozen=True)
class Drawn:
    """A recipe in its three worlds: what the paper says, the opposite, and nothing at all."""

    claims: tuple[Claim, ...]
    worlds: tuple[Callable[[np.random.Generator], object], ...]


def drawn(name: str, n: int) -> Drawn:
    """A recipe as it is simulated."""
    if name in WORLDS:
        recipe = recipe_named(name)
        assert isinstance(recipe, Steering)
        seeds = 3 if isinstance(recipe, LrSweep) else 1
        right, wrong = WORLDS[name]
        kinds = ((right, True), (wrong, False), (flat(right), True))
        return Drawn(recipe.claims, tuple(lambda rng, w=w, k=k: steered(recipe, w, rng, n, k, seeds) for w, k in kinds))
    if name == "variations":
        over = tuple(variations.OVER.values())
        worlds = (*COUNTED, flat(COUNTED[0]))
        own = [{r.name: {a: w[a] for a in w if a in {x.name for x in r.arms}} for r in over} for w in worlds]
        return Drawn(variations.CLAIMS, tuple(lambda rng, w=w: {r.name: (r, steered(r, w[r.name], rng, n, True)) for r in over} for w in own))  # fmt: skip
    return {
        "monitor_cos": Drawn(COS_CLAIMS, (lambda g: cosines(g, 0.3, 0.0), lambda g: cosines(g, -0.3, 0.4, 0.5), lambda g: cosines(g, 0.0, 0.0))),
        "monitor_curve": Drawn(CURVE_CLAIMS, (lambda g: steps(g, 0.3, 0.4, True, n), lambda g: steps(g, -0.3, -0.08, False, n), lambda g: steps(g, 0.0, 0.0, True, n))),
        "em_validate": Drawn(EM_CLAIMS, (lambda g: answers(g, 0.01, 0.2, 0.84, n), lambda g: answers(g, 0.3, 0.05, 0.5, n), lambda g: answers(g, 0.05, 0.05, 0.95, n))),
        "lora_vs_full": Drawn(lora_vs_full.CLAIMS, (lambda g: added(g, (0.5, 0.5), 0.25, n), lambda g: added(g, (0.5, 0.25), 0.6, n), lambda g: added(g, (0.5, 0.5), 0.5, n))),
    }[name]  # fmt: skip


SIMULATED = (*WORLDS, "variations", "monitor_cos", "monitor_curve", "em_validate", "lora_vs_full")


def held(name: str, draws: int, n: int, seed: int = 0) -> list[tuple[str, list[int]]]:
    """Each claim, and in how many draws of each world it is said to hold."""
    case = drawn(name, n)
    counts = np.zeros((len(case.claims), len(case.worlds)), int)
    for at, world in enumerate(case.worlds):
        rng = np.random.default_rng(seed)
        for _ in range(draws):
            evidence = world(rng)
            counts[:, at] += [c.judged(evidence)["says"] == HOLDS for c in case.claims]
    return [(c.sentence, row.tolist()) for c, row in zip(case.claims, counts)]


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--draws", type=int, default=100)
    asked.add_argument("--questions", type=int, default=400)
    asked.add_argument("--recipes", default=",".join(SIMULATED))
    asked.add_argument("--resamples", type=int, default=500)
    options = asked.parse_args()
    for number in (estimate, over_seeds):  # tests of claims take their default
        number.__kwdefaults__["resamples"] = options.resamples
    print(
        "| recipe | claim | holds where it is true | where it is false | where nothing moves |\n|---|---|---:|---:|---:|"
    )
    for name in options.recipes.split(","):
        for sentence, row in held(name, options.draws, options.questions):
            print(f"| `{name}` | {sentence} | {' | '.join(map(str, row))} |", flush=True)


if __name__ == "__main__":
    main()
