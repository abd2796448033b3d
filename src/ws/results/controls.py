"""Random directions: where an axis lies that has no direction, and so what one with a direction must be outside of."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ws.results.claims import Claim
from ws.results.trials import Trial, Trials
from ws.stats import OverSeeds


@dataclass(frozen=True)
class Random:
    """The controls of one kind: where an axis lies that has no direction."""

    name: str
    low: float
    high: float
    found: OverSeeds
    """Over the draws that have a number."""
    matched: OverSeeds | None
    """Over the matched draws alone, where there are at least three."""
    n_matched: int
    n_lost: int
    """Draws without a number: too few of their rows could be scored."""

    @property
    def holds_zero(self) -> bool | None:
        """Whether the interval over draws does; None where there is no interval."""
        e = self.found.found
        return e.ci_lo <= 0 <= e.ci_hi if math.isfinite(e.ci_lo) else None

    def inside(self, value: float) -> bool:
        """Whether a value lies where random directions lie too."""
        return self.low <= value <= self.high


def randoms(methods: Sequence[Trials], claim: Claim) -> dict[str, list[Random]]:
    """Where it acts to the random controls there: several draws of one form each."""
    by_place: dict[str, list[Random]] = {}
    for k in methods:
        if k.control and len(k.each) > 1 and (r := _random(k, claim)):
            by_place.setdefault(k.places, []).append(r)
    return by_place


def _random(method: Trials, claim: Claim) -> Random | None:
    """The draws of one form; None where none of them has a number."""

    def over(draws: list[Trial]) -> OverSeeds:
        return Trials(method.name, tuple(draws)).axis(claim.name, claim.metric, claim.sign)

    each = method.axis(claim.name, claim.metric, claim.sign).each
    known = [t for t, x in zip(method.each, each) if math.isfinite(x)]
    matched = [t for t in known if t.matched]
    if not known:
        return None
    axis, alike = over(known), over(matched) if len(matched) >= 3 else None
    return Random(method.name, min(axis.each), max(axis.each), axis, alike, len(matched), len(each) - len(known))
