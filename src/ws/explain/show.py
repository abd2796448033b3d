"""Rows of analyses as cells and bars: how numbers, estimates and flags are written."""

import math
from collections.abc import Sequence
from dataclasses import fields

from ws.direction.variants import Flags
from ws.explain.protocol import Bars, Effect, Row, Table
from ws.numbers import NO, finite, with_interval
from ws.results.sheet import Sheet
from ws.stats import Estimate, Interval
from ws.types import Json

WORDS = ("variant", "metric", "where", "space", "flags", "control", "module", "name", "tokens", "side", "behavior")


def sheet_of(table: Table) -> Sheet:
    """A table as a sheet: a column per field that says something in any row."""
    rows = list(table.rows)
    names = list(table.columns) or [f.name for f in fields(rows[0])] if rows else []
    cells = {name: [cell(getattr(r, name)) for r in rows] for name in names}
    shown = [n for n in names if any(cells[n])]
    words = tuple(n for n in shown if n in WORDS or all(isinstance(getattr(r, n), str) for r in rows))
    lines = tuple(tuple(cells[n][k] for n in shown) for k in range(len(rows)))[: table.most]
    left_out = f"{len(lines)} of {len(rows)} rows" if len(lines) < len(rows) else ""
    return Sheet(
        table.title, table.note or left_out, tuple(n.replace("_", " ") for n in shown), lines, tuple(map(record, rows)),
        words=tuple(n.replace("_", " ") for n in words),
    )  # fmt: skip


def cell(value: object) -> str:
    """One value as text."""
    if isinstance(value, (Estimate, Interval)):
        return with_interval(value)
    if isinstance(value, Flags):
        return flags_as_text(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return number(value)
    if isinstance(value, (tuple, list)):
        return " ".join(map(cell, value))
    return "" if value is None else str(value)


def number(x: float) -> str:
    """A number with three digits that count."""
    return f"{x:.3g}" if finite(x) else NO


def flags_as_text(flags: Flags) -> str:
    """The flags as words."""
    parts = [
        f"basis: {flags.basis_source.replace('_', ' ')}" if flags.basis_source else "",
        "circular" if flags.circular and not flags.tautology else "",
        "tautology" if flags.tautology else "",
        f"rank {flags.rank:.3g}" if flags.rank is not None else "",
        f"oracle rank {flags.oracle_rank}" if flags.oracle_rank is not None else "",
    ]
    return ", ".join(p for p in parts if p)


def record(row: Row) -> Json:
    """A row for a program: plain values, NaN as None when it is written."""
    return {f.name: _plain(getattr(row, f.name)) for f in fields(row)}


def _plain(value: object) -> object:
    if isinstance(value, Flags):
        return value.as_json()
    if isinstance(value, (Estimate, Interval)):
        return dict(vars(value))
    return list(value) if isinstance(value, tuple) else value


def bars_of(effects: Sequence[Effect], title: str) -> Bars:
    """What variants keep of the whole's effect; random draws are the range of chance."""
    own = [e for e in effects if not e.control]
    chance = [e.retained.mean for e in effects if e.control and math.isfinite(e.retained.mean)]
    return Bars(
        title,
        "share of the whole's effect",
        [e.variant for e in own],
        [e.retained.mean for e in own],
        [e.retained.ci_lo for e in own],
        [e.retained.ci_hi for e in own],
        band=(min(chance), max(chance)) if chance else None,
    )
