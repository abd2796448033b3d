"""Daily dilemmas, in the columns of the published table."""

from collections.abc import Sequence
from functools import partial

from ws.results.layouts.columns import (
    COUNTS,
    MOVED,
    delta,
    ends,
    first_of,
    labelled,
    main_number,
    mass,
    mean_of,
    neg,
    pos,
    sheet,
    strength,
    unfitted,
    value,
    zero,
)
from ws.results.line import Line
from ws.results.sheet import Sheet


def tables(lines: Sequence[Line]) -> list[Sheet]:
    """`adapter | delta -1 | alpha 0 | delta +1 | pmass`, then intervals and what kind of shift it is."""
    metric = first_of(lines[0])
    effect = sheet(
        lines,
        "daily dilemmas",
        "expected: delta at + above 0, a above 0, and pmass near the base's. Otherwise: with a near 0 and b above 1 the model "
        f"only gets surer of what it said before.{unfitted(lines)}",
        [
            labelled("adapter", bare=True),
            delta(f"delta α={strength(lines, neg)}", metric, "delta_neg", alpha=neg, interval=False),
            value("α=0", metric, "base", alpha=zero, interval=False),
            delta(f"delta α={strength(lines, pos)}", metric, "delta_pos", alpha=pos, interval=False),
            mass(f"pmass @ {strength(lines, pos)}"),
            ends("95 % CI −", metric, alpha=neg),
            ends("95 % CI +", metric, alpha=pos),
            *MOVED,
            *COUNTS,
        ],
        published=5,
        by=lambda line: mean_of(line.delta(metric, line.pos)),
        reading=partial(main_number, split=True),
    )
    return [effect]
