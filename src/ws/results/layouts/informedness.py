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
    null,
    p,
    rate,
    sheet,
    si,
)
from ws.results.line import Line
from ws.results.sheet import Sheet


def table(lines: Sequence[Line]) -> Sheet:
    """Surgical informedness: `SI_k2 | SI_k1 | SI_best | fix | broke`, then the null and everything it hangs on."""

    def reading(line: Line) -> str | None:
        found = line.si.si.get(1) or line.si.one_arm[1]
        if not math.isfinite(found.found.value):
            return f"{line.label}: no informedness; {some(line.si.fix.of, 'item')} wrong and {line.si.broke.of} right at alpha 0."
        told = f"{line.label}: SI_k1 {with_interval(found.found)}"
        told += f", p {p_value(found.arms.p)} against arms without orientation" if found.arms else ", one arm"
        wrong, right = line.si.class_units
        if line.si.too_small:
            return f"{told}; a class is too small to say ({some(wrong, 'unit')} wrong, {right} right at alpha 0)."
        return (
            f"{told}; {min(wrong, right)} units in the smaller class, so the interval undercovers."
            if line.si.few_units
            else f"{told}."
        )

    return sheet(
        lines,
        "surgical informedness",
        "expected: SI_k1 above 0 with p below 0.05. Otherwise: SI_k2 at its null is what random changes give, however far below 0.",
        [
            labelled("method"),
            si("SI_k2", "SI_k2", 2),
            si("SI_k1", "SI_k1", 1),
            both_arms("SI_best (post hoc)", best_arm),
            rate("fix_rate", "fix"),
            rate("broke_rate", "broke"),
            both_arms("SI_k2 null", null),
            si("SI_k1 [95 % CI]", "SI_k1", 1, interval=True),
            both_arms("p", p),
            si("one arm, k=1", "SI_one_arm_1", 1, interval=True, one=True),
            rate("flip", "flip"),
            rate("counter", "counter"),
            Column("wrong/right", classes),
            Column("sign (cal)", calibrated_sign),
            *STRENGTH,
        ],
        published=6,
        by=lambda line: (line.si.si.get(1) or line.si.one_arm[1]).found.value,
        reading=reading,
    )
