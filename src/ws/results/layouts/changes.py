"""Any protocol that has no published table: every metric at 0 and its change at either side."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from ws.results import sentences
from ws.results.layouts.columns import (
    Column,
    counted,
    delta,
    labelled,
    main_number,
    mass,
    mean_of,
    neg,
    pos,
    sheet,
    strength,
    value,
    warnings,
    zero,
)
from ws.results.line import Line
from ws.results.sheet import Sheet


def tables(lines: Sequence[Line]) -> list[Sheet]:
    """Any protocol: every metric at strength 0 and its change at either side, methods below each other."""
    of = lines[0].of.protocol
    parts = {metric: _effect(lines, metric) for metric in lines[0].metrics}
    first = next(iter(parts.values()))
    warned = warnings(lines)
    meanings = sentences.legend(of.legend, list(parts))
    whole = replace(
        first,
        columns=("metric", *first.columns),
        lines=tuple((m if i == 0 else "", *line) for m, s in parts.items() for i, line in enumerate(s.lines)),
        records=tuple({**r, "metric": m} for m, s in parts.items() for r in s.records),
        readings=tuple(
            dict.fromkeys([*meanings, *(r for s in parts.values() for r in s.readings if r not in warned), *warned])
        ),
    )
    return [whole]


def _effect(lines: Sequence[Line], metric: str) -> Sheet:
    return sheet(
        lines,
        lines[0].of.protocol.eval,
        "",
        [
            labelled("method"),
            value("α=0", metric, "base", alpha=zero, interval=False),
            delta(f"Δ α={strength(lines, neg)}", metric, "delta_neg", alpha=neg),
            delta(f"Δ α={strength(lines, pos)}", metric, "delta_pos", alpha=pos),
            mass("pmass"),
            Column("units", counted),
        ],
        published=4,
        by=lambda line: mean_of(line.delta(metric, line.pos)),
        reading=partial(main_number, metric=metric, nat=sentences.in_nats(metric), named=True),
    )
