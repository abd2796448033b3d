"""Curves with planted numbers: questions that an arm answers right, and moves, with known probabilities."""

import numpy as np

from ws.paper.curves import Curves, Spot
from ws.paper.recipe import Measure
from ws.stats import means

X = Measure("perplexity@neutral-choice/1", "choice_right", "questions right", 0)
Y = Measure("sycophancy", "logratio", "agrees", 1)


def sample(values):
    return means(list(map(float, values)), units=range(len(values)), keys=range(len(values)))


def planted(rng, arms, *, n=90, seed=0):
    """Curves of arms: name to {strength: (chance to be right, chance to show the effect)}; 0 is (.9, .2) for all."""
    luck = rng.random(n)  # a question is easy or hard for every arm
    spots = []
    for arm, points in arms.items():
        for a, (right, effect) in {0.0: (0.9, 0.2), **points}.items():
            at_zero = np.arange(n) < 0.2 * n  # nothing steers there, whatever the arm
            moved = rng.random(n) < effect if a else at_zero
            samples = {X.name: sample(luck < right), Y.name: sample(moved)}
            spots.append(Spot(arm, seed, a, arm, a, abs(a), "as given" if a else "not steered", "raw", samples))
    return Curves(tuple(spots))
