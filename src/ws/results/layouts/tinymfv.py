"""Moral wrongness of vignettes, in the columns of the published table."""

from collections.abc import Sequence
from functools import partial

from ws.numbers import with_interval
from ws.results.layouts.columns import (
    COUNTS,
    delta,
    first_of,
    labelled,
    main_number,
    mass,
    mean_of,
    pinned,
    pos,
    sheet,
    value,
)
from ws.results.line import Line
from ws.results.sheet import Sheet

BOTH = {"wrongness": ("wrongness, both", "wrongness", "wrongness_both")}
"""Heading, metric and key of the mean over both conditions, whose name the published tables use for others' doings alone."""


def tables(lines: Sequence[Line]) -> list[Sheet]:
    """`Method | wrongness`, then the gap between others and oneself."""
    metric = next((m for m in ("wrongness_other", "wrongness") if m in lines[0].metrics), first_of(lines[0]))
    others = [m for m in lines[0].metrics if m != metric]
    table = sheet(
        lines,
        "tiny-mfv",
        "expected: wrongness near the base's, where the behavior claims nothing about it. Otherwise: where wrongness and mass fall "
        "together, the model answers at random.",
        [
            labelled("Method"),
            value("wrongness", metric, metric, alpha=pos),  # the published name of wrongness_other
            delta("Δ vs base", metric, f"delta_{metric}", alpha=pos),
            *(value(*BOTH.get(m, (m, m, m)), alpha=pos) for m in others),
            mass("mass"),
            *COUNTS,
        ],
        published=2,
        by=lambda line: mean_of(line.at(metric, line.pos)),
        reading=partial(main_number, metric=metric, nat=False),
    )
    return [pinned(table, "base (0)", with_interval(lines[0].at(metric, 0.0)))]
