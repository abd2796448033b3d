"""Rows of analyses as cells and bars: how numbers, estimates and flags are written."""

import math
import re
from collections.abc import Sequence
from dataclasses import fields

from ws.direction.variants import Flags
from ws.explain.protocol import Bars, Effect, Row, Table
from ws.numbers import NO, finite, with_interval
from ws.results.sheet import Sheet
from ws.settings import field_docs
from ws.stats import Estimate, Interval
from ws.types import Json

WORDS = ("variant", "metric", "where", "space", "flags", "control", "module", "name", "tokens", "side", "behavior")


def sheet_of(table: Table) -> Sheet:
    """A table as a sheet: a column per field that says something; random draws of one variant are one line with their range."""
    rows = list(table.rows)
    names = list(table.columns) or [f.name for f in fields(rows[0])]
    kept, title = _without_constants(names, rows, table.title)
    lines = [{n: cell(getattr(r, n)) for n in kept} for r in rows if not getattr(r, "control", "")]
    few = lines[: table.most]
    left_out = (
        f"{len(few)} of {len(lines)} lines are shown here; the .json beside the page has all."
        if len(few) < len(lines)
        else ""
    )
    few += _ranges([r for r in rows if getattr(r, "control", "")])
    shown = [n for n in kept if n != "control" and any(line.get(n) for line in few)]
    words = [n for n in shown if n in WORDS or all(isinstance(getattr(r, n), str) for r in rows)]
    return Sheet(
        title,
        " ".join(filter(None, (table.note, left_out))),
        tuple(map(heading, shown)),
        tuple(tuple(line.get(n, "") for n in shown) for line in few),
        tuple(map(record, rows)),
        words=tuple(map(heading, words)),
    )


def _without_constants(names: Sequence[str], rows: Sequence[Row], title: str) -> tuple[list[str], str]:
    """The columns that differ, and a title that holds the metric, the strength and the flags that all rows share."""
    constant = [n for n in ("metric", "alpha", "flags") if n in names and len({getattr(r, n) for r in rows}) == 1]
    same = [n for n in constant if n != "flags" or len(rows) > 1]
    parts = [f"alpha {getattr(rows[0], n):+g}" if n == "alpha" else cell(getattr(rows[0], n)) for n in same]
    return [n for n in names if n not in same], ", ".join(filter(None, [title, *parts]))


def _ranges(draws: Sequence[Effect]) -> list[dict[str, str]]:
    """A line for the random draws of each variant: from the lowest to the highest."""
    lines = []
    for of in dict.fromkeys((d.control, d.metric) for d in draws):
        own = [d for d in draws if (d.control, d.metric) == of]
        numbers = {n: [getattr(d, n).mean for d in own] for n in ("delta", "retained")}
        ends = {n: f"{number(min(v))} to {number(max(v))}" for n, v in numbers.items() if all(map(math.isfinite, v))}
        size = f"{sum(d.size for d in own) / len(own):.3g}"
        lines.append({"variant": f"random for {of[0]} ({len(own)})", "metric": of[1], **ends, "size": size})
    return lines


def heading(name: str) -> str:
    """A field as the heading of a column."""
    return name.replace("_", " ")


def meanings(table: Table) -> dict[str, str]:
    """What the columns of a table mean, as their class says."""
    kind: type = type(table.rows[0])
    return {heading(n): " ".join(text.split()) for n, text in field_docs(kind).items()}


def legend(tables: Sequence[Table], known: dict[str, str]) -> str:
    """What the columns of these tables mean, in a phrase each, but for those that `known` has; they are added to it."""
    words: dict[str, str] = {}
    for t in (t for t in tables if t.rows):
        means = meanings(t)
        for column in (c for c in sheet_of(t).columns if c in means):
            phrase = re.split(r"[.;:] |\.$", means[column])[0]
            words[column] = phrase[0].lower() + phrase[1:] if phrase[1:2].islower() else phrase
    fresh = {column: phrase for column, phrase in words.items() if known.get(column) != phrase}
    known |= fresh
    return "; ".join(f"{column} = {phrase}" for column, phrase in fresh.items())


def short(name: str) -> str:
    """Names of modules in a text without what all of them begin with: model.layers.2.mlp.down_proj is 2.mlp.down_proj."""
    return re.sub(r"\b[A-Za-z_][\w.]*?\.(\d+)\.(?=[A-Za-z])", r"\1.", name)


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
    return "" if value is None else short(str(value))


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
