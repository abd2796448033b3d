"""Surgical informedness: does steering fix what is wrong without breaking what is right?

    fix  = P(y > 0 forward | y < 0 at 0)      broke   = P(y < 0 forward | y > 0 at 0)
    flip = P(y < 0 reverse | y > 0 at 0)      counter = P(y > 0 reverse | y < 0 at 0)
    SI_k = 100 pm ((fix - k broke) + (flip - k counter)) / 2,      pm = (smaller mean answer mass of the arms)^2

100 is a perfect mover in both directions, 0 is one that does nothing. **Below 0 is not yet harm**: changing a share p of the
rows at random gives 100 pm (1 - k) p, so -100 p with k = 2 and 0 with k = 1. Every score therefore carries its nulls
(`ws.stats.nulls`) beside its interval. Intervals resample units; the rates of a method move together in them.

    informedness(rows)                              items of any evaluation whose y > 0 is the wanted side
    weighted_informedness(arms, weight)             rows that count more or less, as vignettes by how much they are about a foundation
    difference(rows_a, rows_b)                      two methods on the same units, paired

Fold answer orders first (`ws.stats.arms.folded`): an item is asked twice, and decided once.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ws.stats import FEW_UNITS, RESAMPLES, Draws, Interval, Statistic, draw, interval
from ws.stats import marks as m
from ws.stats.arms import Arms, join_arms
from ws.stats.nulls import Null, dealt_labels, null, swapped_arms
from ws.stats.sign import Sign
from ws.types import Json

if TYPE_CHECKING:
    import pandas as pd

FEW_IN_CLASS = 10  # with fewer units in a class one unit moves SI by 5 points or more


@dataclass(frozen=True)
class Rate:
    """A share of a class with its interval: `count` of `of` rows."""

    share: Interval
    count: int
    of: int


@dataclass(frozen=True)
class ScoreWithNulls:
    """A score with its interval and its nulls; `arms` is None where there is one arm."""

    found: Interval
    arms: Null | None
    labels: Null

    @property
    def net(self) -> float:
        """The score less what changes without orientation give; (1 + k) / 2 times the score at k = 1."""
        return math.nan if self.arms is None else self.found.value - self.arms.mean


@dataclass(frozen=True)
class Informedness:
    """Surgical informedness of one method, by k, with everything it is made of."""

    method: str
    protocol: str
    fwd: float
    """The strength of the forward arm, the one meant to raise y."""
    rev: float | None
    sign: int
    si: Mapping[float, ScoreWithNulls]
    """Both arms; empty where there is one. Not comparable with `one_arm`."""
    one_arm: Mapping[float, ScoreWithNulls]
    post_hoc: Mapping[str, ScoreWithNulls]
    """`best` and `best_intended`: chosen after the fact, for comparison with published tables only."""
    fix: Rate
    broke: Rate
    flip: Rate
    counter: Rate
    pmass: tuple[float, float]
    """Mean answer mass of the forward and the reverse arm, over all rows."""
    n_units: int
    n_total: int
    n_valid: int
    n_tied: int
    """Rows with y = 0 at strength 0: neither right nor wrong."""
    class_units: tuple[int, int]
    """Units with a wrong and with a right row at strength 0."""
    separation: Interval | None = None
    """Foundations only: the weighted mean logit of the forward arm less that of the reverse arm."""

    @property
    def few_units(self) -> bool:
        """An interval over so few units undercovers, and the smaller class is what counts: docs/design/009."""
        return min(self.n_units, *self.class_units) < FEW_UNITS

    @property
    def too_small(self) -> bool:
        """A class so small that the score hangs on a handful of units."""
        return min(self.class_units) < FEW_IN_CLASS

    def record(self) -> Json:
        """One flat line for a table: the score, its null and p first."""
        line: Json = {"method": self.method, "protocol": self.protocol, "fwd": self.fwd, "rev": self.rev}
        named = {f"SI_{k:g}": s for k, s in self.si.items()} | {f"SI_one_arm_{k:g}": s for k, s in self.one_arm.items()}
        for name, s in (named | {f"SI_{k}": s for k, s in self.post_hoc.items()}).items():
            line |= _flat(name, s.found) | {f"{name}_labels_null": s.labels.mean, f"{name}_labels_p": s.labels.p}
            if s.arms is not None:
                line |= {f"{name}_null": s.arms.mean, f"{name}_p": s.arms.p, f"{name}_net": s.net}
        for name in ("fix", "broke", "flip", "counter"):
            r: Rate = getattr(self, name)
            line |= _flat(name, r.share) | {f"n_{name}": r.count}
        if self.separation is not None:
            line |= _flat("separation", self.separation)
        return line | {
            "pmass_fwd": self.pmass[0],
            "pmass_rev": self.pmass[1],
            "sign": self.sign,
            "n_wrong": self.fix.of,
            "n_right": self.broke.of,
            "n_units": self.n_units,
            "n_valid": self.n_valid,
            "n_total": self.n_total,
            "n_tied": self.n_tied,
            "few_units": self.few_units,
            "too_small": self.too_small,
            "unstable": any(s.found.unstable for s in named.values()),
        }


def informedness(
    rows: "pd.DataFrame",
    *,
    sign: int | Sign = 1,
    pos: float | None = None,
    neg: float | None = None,
    ks: Sequence[float] = (1, 2),
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Informedness:
    """The row form: y > 0 is the wanted side of a row. `sign = -1` says that the neg arm is meant to raise y."""
    arms = join_arms(rows, sign=sign_as_number(sign, rows), pos=pos, neg=neg)
    return _scored(arms, m.marks_of(arms), sign_as_number(sign, rows), ks, seed, resamples)


def weighted_informedness(
    arms: Arms,
    weight: np.ndarray,
    *,
    sign: int = 1,
    ks: Sequence[float] = (1, 2),
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Informedness:
    """The weighted form: every row of joined arms counts as much as its weight, and how far the arms lie apart is added."""
    scored = _scored(arms, m.marks_of(arms, weight), sign, ks, seed, resamples)
    return scored if arms.rev is None else replace(scored, separation=_separation(arms, weight, seed, resamples))


def sign_as_number(sign: int | Sign, rows: "pd.DataFrame") -> int:
    """+1 or -1; a sign that units have chosen refuses these units."""
    if isinstance(sign, int):
        return sign
    sign.refuse_overlap(rows["unit_id"].unique())
    return sign.sign


def difference(
    rows: "pd.DataFrame",
    other: "pd.DataFrame",
    *,
    k: float = 1,
    sign: int | Sign = 1,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Interval:
    """SI_k of `rows` less SI_k of `other`, the same units drawn for both."""
    first, second = (m.marks_of(join_arms(r, sign=sign_as_number(sign, r))) for r in (rows, other))
    if lone := sorted(set(first.units) ^ set(second.units)):
        raise ValueError(
            f"{len(lone)} units were scored for one method only, e.g. {lone[:3]}; compare on the same units"
        )
    if first.one_arm or second.one_arm:
        raise ValueError("a difference needs both arms of both methods; one-arm scores are not comparable")
    both, half, score = np.hstack([first.by_unit(), second.by_unit()]), len(m.MARKS), m.si(k)
    return interval(draw([both], resamples=resamples, seed=seed), lambda t: score(t[..., :half]) - score(t[..., half:]))


def _scored(arms: Arms, marks: m.Marks, sign: int, ks: Sequence[float], seed: int, resamples: int) -> Informedness:
    """Every number of one method from one set of draws."""
    draws = draw([marks.by_unit()], resamples=resamples, seed=seed)
    dealt = dealt_labels(marks, seed=seed)
    swapped = None if marks.one_arm else swapped_arms(marks, seed=seed)

    def score(statistic: Statistic, mean: Statistic | None = None, *, two: bool = True) -> ScoreWithNulls:
        found = interval(draws, statistic)
        known = None if mean is None else _value(draws, mean)
        side = null(swapped, statistic, found.value, known) if two and swapped is not None else None
        return ScoreWithNulls(found, side, null(dealt, statistic, found.value))

    def share(statistic: Statistic, hits: int, of: int, *, present: bool = True) -> Rate:
        nothing = Interval(math.nan, math.nan, math.nan)
        return Rate(interval(draws, statistic) if present else nothing, marks.count(hits), marks.count(of))

    two = not marks.one_arm
    post_hoc = {"best": m.si_best, "best_intended": m.si_best_intended} if two else {}
    return Informedness(
        method=arms.method,
        protocol=arms.protocol,
        fwd=arms.fwd,
        rev=arms.rev,
        sign=sign,
        si={k: score(m.si(k), m.si_null(k)) for k in ks} if two else {},
        one_arm={k: score(m.si_one_arm(k), two=False) for k in ks},
        post_hoc={name: score(statistic) for name, statistic in post_hoc.items()},
        fix=share(m.fix, m.FIX, m.REJ),
        broke=share(m.broke, m.BROKE, m.CHO),
        flip=share(m.flip, m.FLIP, m.CHO, present=two),
        counter=share(m.counter, m.COUNTER, m.REJ, present=two),
        pmass=(_value(draws, m.mass_fwd), _value(draws, m.mass_rev)),
        n_units=len(marks.units),
        n_total=len(arms.table),
        n_valid=int(arms.valid.sum()),
        n_tied=int((arms.valid & (arms.table["ref"] == 0)).sum()),
        class_units=(marks.count_units(m.REJ), marks.count_units(m.CHO)),
    )


def _value(draws: Draws, statistic: Statistic) -> float:
    """A statistic of the sample, without an interval."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(statistic(draws.whole)[0])


def _separation(arms: Arms, weight: np.ndarray, seed: int, resamples: int) -> Interval:
    """The weighted mean of y, forward less reverse: both logits already carry the intent."""
    w = np.where(arms.valid, weight, 0.0)
    apart = np.where(arms.valid, arms.table["fwd"] - arms.table["rev"], 0.0)
    _, unit = np.unique(arms.table["unit_id"].to_numpy(str), return_inverse=True)
    features = np.stack([np.bincount(unit, w * apart), np.bincount(unit, w)], axis=1)
    return interval(draw([features], resamples=resamples, seed=seed), lambda t: t[..., 0] / t[..., 1])


def _flat(name: str, found: Interval) -> dict[str, float]:
    return {name: found.value, f"{name}_lo": found.low, f"{name}_hi": found.high}
