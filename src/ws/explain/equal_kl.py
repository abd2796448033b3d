"""Variants turned up or down until each moves the model by as much KL as the whole direction does.

KL grows with the square of a small strength, so the first guess is the root of a ratio; what is measured there leads to the next.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

from ws.calibrate import divergences, prompt_sets
from ws.direction import Direction
from ws.explain.measure import TOGETHER, Measure, Parts, table_of
from ws.explain.protocol import Variant
from ws.methods.weights import Weights

PROMPTS, TOKENS = 24, 20
ROUNDS = 6
LARGEST = 64.0
"""The factor beyond which a variant counts as one that moves nothing."""
NEAR = 1.25
"""A KL within this factor of the whole's is equal to it."""


def matched(measure: Measure, variants: Sequence[Variant], *, rounds: int = ROUNDS) -> dict[str, tuple[float, float]]:
    """Variant to (its factor, the KL there over the whole's), as near as a few rounds come."""
    target = divergence(measure, [measure.full], [1.0])[0]
    factors = dict.fromkeys((v.name for v in variants), 1.0)
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in factors}
    for _ in range(rounds):
        open_ones = [v for v in variants if not any(is_equal(kl / target) for _, kl in seen[v.name])] if target else []
        for v, kl in zip(open_ones, divergence(measure, open_ones, [factors[v.name] for v in open_ones])):
            seen[v.name].append((factors[v.name], kl))
            factors[v.name] = _next(seen[v.name], target)
    best = {n: min(tries, key=lambda t: _far(t[1], target), default=(1.0, math.nan)) for n, tries in seen.items()}
    return {n: (k, kl / target if target > 0 else math.nan) for n, (k, kl) in best.items()}


def scaled(v: Variant, factor: float, name: str) -> Variant:
    """A variant by a factor."""
    if v.scales is not None:
        return replace(v, name=name, scales={m: factor * s for m, s in v.scales.items()})
    assert v.direction is not None
    return replace(v, name=name, direction=v.direction * factor)


def divergence(measure: Measure, variants: Sequence[Variant], factors: Sequence[float]) -> list[float]:
    """Mean KL(steered || base) per token on neutral prompts, of every variant by its factor."""
    found: dict[int, float] = {}
    parts = [k for k, v in enumerate(variants) if v.scales is not None and v.direction is None]
    for at in range(0, len(parts), TOGETHER):
        some = parts[at : at + TOGETHER]
        own = [scaled(variants[k], factors[k], variants[k].name) for k in some]
        table = measure.alpha * table_of(own, measure.direction)
        method = Parts("parts", measure.direction, table, measure.origin)
        found |= dict(zip(some, _kl(measure, method, [float(n) for n in range(1, len(some) + 1)])))
    for k, v in enumerate(variants):
        if k not in found:
            d = _direction(v)
            found[k] = _kl(measure, Weights("part", d, origin=measure.origin), [measure.alpha * factors[k]])[0]
    return [found[k] for k in range(len(variants))]


def _direction(v: Variant) -> Direction:
    assert v.direction is not None
    if v.scales is None:
        return v.direction
    forms = {n: tuple(f.scaled(v.scales[n]) for f in fs) for n, fs in v.direction.forms.items() if v.scales.get(n)}
    return Direction(forms, v.direction.provenance)


def _kl(measure: Measure, method: Weights | Parts, strengths: Sequence[float]) -> list[float]:
    prompts = prompt_sets(measure.base.tiny, PROMPTS).calib
    return [d.mean for d in divergences(measure.base, method, prompts, strengths, tokens=TOKENS)]


def _next(tries: Sequence[tuple[float, float]], target: float) -> float:
    """The factor to try next: between the nearest below and above the target, in logarithms; else by the square root."""
    below = [t for t in tries if 0 < t[1] < target]
    above = [t for t in tries if t[1] >= target or not math.isfinite(t[1])]
    if below and above:
        (a, low), (b, high) = max(below), min(above)
        part = math.log(target / low) / math.log(high / low) if math.isfinite(high) else 0.5
        return a * (b / a) ** min(max(part, 0.1), 0.9)
    k, kl = max(below, default=None) or min(above, default=None) or (tries[-1][0], 0.0)
    step = math.sqrt(target / kl) if kl > 0 and math.isfinite(kl) else (2.0 if kl <= 0 else 0.5)
    return min(max(k * step, 1 / LARGEST), LARGEST)


def _far(kl: float, target: float) -> float:
    return abs(math.log(kl / target)) if kl > 0 and target > 0 and math.isfinite(kl) else math.inf


def is_equal(ratio: float) -> bool:
    """Whether a KL, as a part of the whole's, counts as equal."""
    return 1 / NEAR <= ratio <= NEAR
