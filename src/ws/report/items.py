"""The questions behind a number: those that moved least and most, with what was thought there."""

from ws.numbers import alpha_of, on_one_line, shortened, signed, some
from ws.report.answers import cards
from ws.report.effect import COST
from ws.report.study import Study
from ws.results.items import COSTS, Unit, choice, moved
from ws.results.measured import Measured
from ws.results.page import Html, joined, paragraph, section, tag
from ws.types import Json

UNITS, ROWS = 4, 1
"""Units of each kind, and rows of one."""
PROMPT, ANSWER, THOUGHT = 600, 200, 400
"""Most characters of a question, of an answer and of a thought."""


def part(study: Study) -> Html | None:
    """For each evaluation, its units that moved least, and most."""
    parts = [p for m in study.dialed if m.protocol.eval != COST and (p := _evaluation(m)) is not None]
    return section("What moved least and most", *parts, name="items") if parts else None


def _evaluation(m: Measured) -> Html | None:
    """The units of one evaluation; nothing where it keeps no questions or has no number for a unit."""
    c = choice(m)
    if m.items is None:
        return None
    try:
        units = moved(m, alpha=c.alpha, metric=c.metric, sign=c.sign)
    except ValueError:  # a number over all units at once
        return None
    way = "as the behavior wants" if c.claimed else "upwards" if c.sign > 0 else "downwards"
    if c.metric in COSTS:
        way = "toward less damage"
    n = min(UNITS, len(units) // 2) or 1
    columns = [
        tag("div", tag("h4", head), *(_unit(u, c.alpha) for u in chosen))
        for head, chosen in (("moved least, or against it", units[:n]), ("moved most", units[::-1][:n]))
    ]
    return joined(
        tag("h3", f"{c.metric}, alpha 0 to {alpha_of(c.alpha)}"),
        paragraph(f"{some(len(units), 'unit')} of {m.protocol.id}, by how far each moved {way}.", faint=True),
        tag("div", columns, class_="columns"),
    )


def _unit(unit: Unit, alpha: float) -> Html:
    """One unit: how far it moved, what was asked, and what was thought."""
    number = f"{signed(unit.before)} → {signed(unit.after)}"
    head = tag("p", tag("b", number), f" · change {signed(unit.change)} · unit {unit.unit_id}")
    rows = [_row(r, alpha) for r in unit.rows[:ROWS]]
    more = len(unit.rows) - ROWS
    return tag(
        "div", head, rows, paragraph(f"and {some(more, 'more row')}", faint=True) if more > 0 else None, class_="unit"
    )


def _row(r: Json, alpha: float) -> Html:
    """One row of a unit: what was asked, which answer is wanted over which, and its own number."""
    prompt = tag("p", shortened(on_one_line(str(r.get("prompt", r["row_key"]))), PROMPT), dir="auto")
    answers = " over ".join(f"“{shortened(r[k], ANSWER)}”" for k in ("wanted", "unwanted") if r.get(k))
    moved = tag(
        "p",
        f"{signed(r['before'])} → {signed(r['after'])}{': ' if answers else ''}{answers}",
        class_="faint",
        dir="auto",
    )
    texts = [(a, r.get(k)) for a, k in ((0.0, "text_before"), (alpha, "text_after"))]
    thoughts = [(a, tag("p", shortened(text, THOUGHT), dir="auto")) for a, text in texts if text]
    return joined(prompt, moved, cards(thoughts) if thoughts else None)
