"""Surgical informedness: what was fixed, what was broken, and what that would be by chance."""

import math
from collections.abc import Sequence

from ws.numbers import p_value, some, with_interval
from ws.results.layouts.columns import (
    STRENGTH,
    Column,
    best_arm,
    both_arms,
    calibrated_sign,
    classes,
    labelled,
    mark_rate,
    null_of_arms,
    p_of_arms,
    sheet,
    si_column,
)
from ws.results.line import Line
from ws.results.sentences import few_units
from ws.results.sheet import Sheet


def _reading(line: Line) -> str:
    """The score of a line, and whether it can be told from chance."""
    score = line.si.si.get(1) or line.si.one_arm[1]
    if not math.isfinite(score.found.value):
        rows = f"{some(line.si.fix.of, 'item')} wrong and {line.si.broke.of} right at alpha 0"
        return f"{line.label}: no informedness; {rows}."
    chance = f"p {p_value(score.arms.p)} against arms swapped at random" if score.arms else "one arm"
    text = f"{line.label}: SI_k1 {with_interval(score.found)}, {chance}"
    wrong, right = line.si.class_units
    if line.si.too_small:
        return f"{text}; a class is too small to say ({some(wrong, 'unit')} wrong, {right} right at alpha 0)."
    return f"{text}. {few_units(min(wrong, right), 'in the smaller class')}" if line.si.few_units else f"{text}."


def surgical_sheet(lines: Sequence[Line]) -> Sheet:
    """Surgical informedness: `SI_k2 | SI_k1 | SI_best | fix | broke`, then the null and everything it hangs on."""

    return sheet(
        lines,
        "surgical informedness",
        "expected: SI_k1 above 0, and p below 0.05. Otherwise: an SI_k2 near its null is what random changes give, however far below "
        "0 it lies.",
        [
            labelled("method"),
            si_column("SI_k2", "SI_k2", 2),
            si_column("SI_k1", "SI_k1", 1),
            both_arms("SI_best (post hoc)", best_arm),
            mark_rate("fix_rate", "fix"),
            mark_rate("broke_rate", "broke"),
            both_arms("SI_k2 null", null_of_arms),
            si_column("SI_k1 [95 % CI]", "SI_k1", 1, interval=True),
            both_arms("p", p_of_arms),
            si_column("one arm, k=1", "SI_one_arm_1", 1, interval=True, one=True),
            mark_rate("flip", "flip"),
            mark_rate("counter", "counter"),
            Column("wrong/right", classes),
            Column("sign (cal)", calibrated_sign),
            *STRENGTH,
        ],
        published=6,
        by=lambda line: (line.si.si.get(1) or line.si.one_arm[1]).found.value,
        reading=_reading,
    )
