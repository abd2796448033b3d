"""Numbers in words. Each thing is worded here once, and every command uses the same words.

(this file)  the verdict on a change, and the warnings that any table may carry
alphas       a table of strengths against metrics: `ws replicate`, `ws eval`
comparison   methods side by side: `ws compare`
sweep        families over seeds: `ws sweep`
calibration  one search for a strength: `ws calibrate`
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ws.numbers import alpha_of, finite, percent, some
from ws.stats import FEW_UNITS
from ws.stats.shift import Shift

SLIGHT = 0.1
"""Nats; a change can be beyond doubt and still too small to matter."""
SLIGHT_ELSE = 1e-3
"""The same where a metric is no number of nats, but a share or a rating."""
LOW_MASS = 0.9
ONE_SEED = "One seed: intervals are over units alone, and say nothing about another training or another sample."
SMOKE = "SMOKE: not all units were scored; nothing here is a result."
MOSTLY_CUT = 0.5

IN_NATS = (
    "logratio",
    "axis_",
    "d_",
    "common",
    "syco",
    "belief",
    "agree_",
    "yes_bias",
    "order_bias",
    "neutral_nll",
    "nll_",
)
"""Beginnings of the names of metrics that are numbers of nats; others are shares, ratings or counts."""

Word = Literal["unscored", "random", "unknown", "unclear", "unclaimed", "intended", "reversed"]


def in_nats(metric: str) -> bool:
    """Whether a metric is a number of nats; the slope beside an axis is none."""
    return metric.startswith(IN_NATS) and not metric.endswith("_b")


def side_of(metric: str, intent: Mapping[str, int]) -> int:
    """The side of a metric that a behavior wants, 0 where it claims nothing; any behavior wants its own pos answers likelier."""
    return intent.get(metric, 1 if metric == "logratio_pairs" else 0)


@dataclass(frozen=True)
class Verdict:
    """The verdict on a change: a word for programs and a sentence for people."""

    word: Word
    sentence: str
    slight: bool = False
    """Whether a clear change is too small to matter."""

    @property
    def clear(self) -> bool:
        """Whether the interval is clear of 0, on whichever side."""
        return self.word in ("intended", "reversed", "unclaimed")


def verdict(
    value: float,
    low: float,
    high: float,
    wanted: int,
    *,
    units: int = 0,
    nat: bool = True,
    random: bool = False,
    steady: bool = True,
    shift: Shift | None = None,
) -> Verdict:
    """The one rule for a change with its 95 % interval; `wanted` is the side that the behavior claims, 0 where it claims none.

    A change counts where its interval is clear of 0. A clear change that is smaller than `SLIGHT` is called so; and where a
    shift was fitted, so is one that only makes the model surer of what it said before.
    """
    if not finite(value):
        return Verdict("unscored", "nothing could be scored")
    if random:
        return Verdict("random", "a random direction, of which nothing is expected")
    if not finite(low):
        return Verdict("unknown", f"no interval: {some(units, 'unit')} cannot give one")
    if low <= 0 <= high:
        return Verdict("unclear", "no clear effect: the interval of the change holds 0")
    slight = abs(value) < (SLIGHT if nat else SLIGHT_ELSE)
    by = f", but {less_than(nat=nat)}" if slight else ""
    if not wanted:
        return Verdict("unclaimed", f"a clear change{by}; the behavior claims nothing about it", slight)
    if wanted * value < 0:
        return Verdict("reversed", f"REVERSED: it moves the other way{by}", slight)
    if shift is not None and shift.only_sharper and not slight:
        return Verdict(
            "intended", "moves as intended, but an undecided item stays where it is: the model only gets surer"
        )
    between = "" if steady else " from end to end, but not steadily between"
    return Verdict("intended", f"moves as intended{between}{by}", slight)


COUNTED: Mapping[Word, str] = {
    "intended": "as intended",
    "reversed": "REVERSED",
    "unclaimed": "clear of 0",
    "unclear": "without a clear effect",
    "unknown": "without an interval",
    "unscored": "without a number",
}


def tally(words: Sequence[Word]) -> str:
    """Verdicts by how many there are of each: 3 as intended, 1 REVERSED."""
    return ", ".join(f"{words.count(word)} {text}" for word, text in COUNTED.items() if word in words)


def less_than(*, nat: bool) -> str:
    """The words for a slight change."""
    return f"by less than {SLIGHT:g} nat" if nat else f"by less than {SLIGHT_ELSE:g}"


def few_units(n: int, where: str = "", *, of: int | None = None) -> str:
    """The warning of an interval over few units, which is narrower than it should be; `of` is how many there are when those
    of unequal size are not counted as fewer."""
    unequal = (
        f" (of {of} in all: the smallest group counts, and unequal units count as fewer)"
        if of is not None and of != n
        else ""
    )
    return f"Only {some(n, 'unit')}{where and f' {where}'}{unequal}: with fewer than {FEW_UNITS}, an interval is too narrow."


def low_mass(masses: Mapping[str, float]) -> list[str]:
    """The warning of an answer mass that has fallen, by what it belongs to."""
    if not (low := {name: m for name, m in masses.items() if m < LOW_MASS}):
        return []
    listed = ", ".join(f"{name} {m:.2f}" for name, m in low.items())
    return [
        f"Less than {LOW_MASS:g} of the probability is on the answers, so the model often says something else: {listed}."
    ]


def cut_off(shares: Mapping[str, float], what: str) -> list[str]:
    """The warning of thoughts, or answers, that the budget of tokens ended."""
    if not (cut := {name: x for name, x in shares.items() if x > MOSTLY_CUT}):
        return []
    listed = ", ".join(f"{name} {percent(x)}" for name, x in cut.items())
    return [f"Most {what} were cut off by their budget of tokens, which then decides the result: {listed}."]


def left_out_rows(rows: Mapping[str, tuple[int, int]]) -> list[str]:
    """(rows without a score, all rows), by what they belong to."""
    if not (lost := {name: n for name, n in rows.items() if n[0]}):
        return []
    listed = ", ".join(f"{name} {n} of {of}" for name, (n, of) in lost.items())
    return [f"Rows without a score at these strengths, left out of every number: {listed}."]


def legend(meanings: Mapping[str, str], metrics: Sequence[str]) -> list[str]:
    """The meaning of a larger number, for each metric that is shown."""
    return [f"{m}: larger means it {meanings[m]}." for m in metrics if m in meanings]


def ends_of(low: float, high: float) -> str:
    """The two strengths that a change lies between."""
    return f"from alpha {alpha_of(low)} to {alpha_of(high)}"
