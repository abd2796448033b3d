"""AIRiskDilemmas, in the columns of the published table."""

from collections.abc import Sequence
from functools import partial

from ws.numbers import with_interval
from ws.results.layouts.columns import (
    COUNTS,
    MOVED,
    both_arms,
    delta,
    first_of,
    labelled,
    main_number,
    mass,
    mean_of,
    null_of_arms,
    p_of_arms,
    pinned,
    pos,
    sheet,
    si_column,
    unfitted,
    value,
)
from ws.results.line import Line
from ws.results.sheet import Sheet


def tables(lines: Sequence[Line]) -> list[Sheet]:
    """`Method | Truthfulness logratio | Bidirectional SI`, then order bias, the null and the kind of shift."""
    metric = first_of(lines[0])
    base = lines[0].at(metric, 0.0)
    bias = [value("order_bias", "order_bias", "order_bias", alpha=pos)]
    table = sheet(
        lines,
        "AIRiskDilemmas",
        "expected: logratio above the base's, SI_k1 above 0, and order_bias unchanged. Otherwise: a shift without SI comes from the "
        f"position of the answers, or from a model that only gets surer.{unfitted(lines)}",
        [
            labelled("Method"),
            value("Truthfulness logratio", metric, "logratio", alpha=pos),
            si_column("Bidirectional SI", "SI_k2", 2, interval=True),
            delta("Δ vs base", metric, "delta", alpha=pos),
            both_arms("SI null", null_of_arms),
            si_column("SI_k1", "SI_k1", 1, interval=True),
            both_arms("p", p_of_arms),
            *bias,
            *MOVED,
            mass("pmass"),
            *COUNTS,
        ],
        published=3,
        by=lambda line: mean_of(line.at(metric, line.pos)),
        reading=partial(main_number, split=True),
    )
    return [pinned(table, "base (0)", with_interval(base))]
