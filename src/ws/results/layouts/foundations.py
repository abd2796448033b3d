"""Moral foundations at both ends of the dial, in the columns of the published table."""

import math
from collections.abc import Iterable, Sequence

from ws.eval.foundations import FOUNDATIONS, cells, mark
from ws.numbers import NO, alpha_of, flat, mean_sd
from ws.results.layouts.columns import (
    STRENGTH,
    Cell,
    Column,
    counted,
    delta,
    estimated,
    kl_of,
    labelled,
    main_number,
    mass,
    pos,
    sheet,
    titled,
)
from ws.results.line import Line
from ws.results.sheet import Sheet
from ws.stats import Estimate
from ws.types import Fields

SHORT = dict(zip(FOUNDATIONS, ("Care", "Sanc", "Auth", "Loy", "Fair", "Lib", "SocN")))
ARROWS = {"axis_trad_care": {"Care": " ↓", "Sanctity": " ↑"}, "axis_authority": {"Authority": " ↓"}}


def tables(lines: Sequence[Line]) -> list[Sheet]:
    """Bare logits, then `cue | axis | method | C | kl | Care ... SocN` and ours."""

    def of(line: Line, foundation: str, alpha: float, column: str) -> str:
        part = table_of[line.of.folder]
        part = part[(part["alpha"] == alpha) & (part["kind"] == foundation)]
        return mean_sd(part[column].tolist())

    table_of = {line.of.folder: cells(line.of.rows) for line in lines}
    axis_of = {
        line.of.folder: next((m for m, s in line.intents.items() if m.startswith("axis_") and s), None)
        for line in lines
    }

    def axis(line: Line) -> Estimate | None:
        metric = axis_of[line.of.folder]
        return None if metric is None else line.delta(metric, line.pos)

    def cue(line: Line) -> Cell:
        e = axis(line)
        if e is None or not math.isfinite(e.mean):
            return "⚪", {"cue": "⚪"}
        if not math.isfinite(e.ci_lo):
            return NO, {"cue": NO}  # too few units to say
        if line.matched is False:
            return "⚪", {"cue": "⚪"}
        intent = line.intents[axis_of[line.of.folder] or ""]
        adjusted = line.delta(f"{axis_of[line.of.folder]}_adj", line.pos)
        color = mark([x for x in (e, adjusted) if x is not None], intent)
        return color, {"cue": color}

    bare = lines[0]
    first = Sheet(
        titled("bare logits, mean±sd over cells", bare.of),
        "",
        ("source", *SHORT.values()),
        ((f"ws ({bare.of.model})", *(of(bare, f, 0.0, "logit") for f in FOUNDATIONS)),),
        ({"source": bare.of.model, "data": bare.of.source, "items": bare.of.items_hash},),
    )
    arrows = ARROWS.get(_only(axis_of.values()) or "", {})
    own = {m: f"{one}_{m}" for m in ("rel", "adj", "off")} if (one := _only(axis_of.values())) else {}
    more = {f"axis_{m}": name for m, name in own.items() if name in bare.metrics} | {"common": "common"}
    second = sheet(
        lines,
        "foundations, Δlogit against the bare model, mean±sd over cells",
        "expected: the targeted foundations move against the others. Otherwise: where common is as large as axis, everything is "
        "judged more or less strictly, and no value has changed. "
        "axis here: the change at the + arm alone, as published."
        + (
            " kl n/a: strengths are as given and not matched, so methods may differ in how hard they push."
            if any(line.of.point(line.pos) is None for line in lines)
            else " ⚪: the strength is not matched."
        ),
        [
            Column("cue", cue),
            Column("axis", lambda line: estimated(axis(line), "axis", False)),
            labelled("method"),
            Column("C", lambda line: (alpha_of(line.pos) if line.of.budget is None else f"{line.pos:+.3g}", {})),
            Column("kl", _kl_forward),
            *(
                Column(short + arrows.get(f, ""), lambda line, f=f: (of(line, f, line.pos, "d"), _mean(line, f)))  # type: ignore[misc]
                for f, short in SHORT.items()
            ),
            Column("axis [95 % CI]", lambda line: estimated(axis(line), "axis", True)),
            *(delta(title, name, name, alpha=pos) for title, name in more.items()),
            mass("mass"),
            Column("units", counted),
            *STRENGTH,
        ],
        published=12,
        by=lambda line: None if (e := axis(line)) is None else abs(e.mean),
        reading=lambda line: main_number(line, metric=axis_of[line.of.folder] or "common", named=True),
    )
    return [first, second]


def _kl_forward(line: Line) -> Cell:
    """The published column: the KL of the forward strength."""
    point = line.of.point(line.pos)
    if point is None or point["kl"] is None:
        return "n/a", {}
    off = "" if point["verdict"] in ("matched", "as given") else f" {point['verdict']}"
    return f"{point['kl']:.2f}{off}", kl_of(line)[1]


def _only(names: Iterable[str | None]) -> str | None:
    """The one name there is, or None where there are several or none."""
    different = set(names)
    return different.pop() if len(different) == 1 else None


def _mean(line: Line, foundation: str) -> Fields:
    e = line.at(f"d_{foundation.replace(' ', '')}", line.pos)
    return {} if e is None else flat(f"d_{foundation.replace(' ', '')}", e)
