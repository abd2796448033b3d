"""The tables of a recipe: how far each arm gets, and what its claims came to; as files, and read again from there."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from ws.numbers import NO, digits_for, finite, nats, some
from ws.paper.claims import FAILS, HOLDS, OPEN
from ws.paper.curves import Curves, Reach, Side
from ws.paper.panels import Panel
from ws.paper.recipe import Measure, Outcome
from ws.records import write_json, write_text
from ws.results.sheet import Sheet
from ws.stats.frontier import DELTA
from ws.types import Fields, Json

FILE = "recipe.json"
CUE = {HOLDS: "🟢", FAILS: "🔴", OPEN: "⚪"}
EXPECTED = (
    f"gain: what the best strength adds that costs at most {100 * DELTA:.0f} points of the capability, in the sense that is "
    "wanted; an arm whose interval holds 0 is ineffective."
)


def number(value: float | None, unit: str, decimals: int = 2) -> str:
    """A number with its sign, shares in points of 100."""
    if value is None or not finite(value):
        return NO
    shown, n = (100 * value, 1) if unit == "share" else (value, decimals)
    return f"{round(shown, n) + 0.0:+.{n}f}"  # no -0.0


def ranged(value: float, low: float, high: float, unit: str) -> str:
    """The same with its interval, where it has one."""
    n = digits_for(value, low, high)
    ends = f" [{number(low, unit, n)}, {number(high, unit, n)}]" if finite(low) else ""
    return number(value, unit, n) + ends


def level(value: float, unit: str) -> str:
    """A number that is no difference."""
    if not finite(value):
        return NO
    return f"{100 * value:.1f} %" if unit == "share" else f"{value:+.2f}"


def frontier_sheet(curves: Curves, x: Measure, y: Measure, sides: Sequence[Side], title: str) -> Sheet:
    """A line per arm and side: how far it gets before it costs too much, and where."""
    lines, records = [], []
    for side in sides:
        for arm in curves.arms:
            if not curves.points(arm, curves.seeds(arm)[0], x, y, side)[1:]:
                continue
            r = curves.numbers(arm, x, y, side)
            at = next((s for s in curves.of(arm, curves.seeds(arm)[0], side) if s.strength == r.strength), None)
            lines.append(_line(r, x, y, None if at is None else at.kl))
            records.append(_record(r, x, y, None if at is None else at.kl))
    unit = "points" if y.unit == "share" else y.unit
    columns = (
        "arm",
        "side",
        y.metric,
        f"gain [95 % CI], {unit}",
        "at alpha",
        "KL",
        f"{x.metric} lost",
        "points",
        "n",
        "",
    )
    readings = _readings(
        [
            curves.numbers(a, x, y, s)
            for s in sides
            for a in curves.arms
            if curves.points(a, curves.seeds(a)[0], x, y, s)[1:]
        ],
        y,
    )
    return Sheet(title, EXPECTED, columns, tuple(lines), tuple(records), readings, words=("arm", "side", ""), spare=1)


def _line(r: Reach, x: Measure, y: Measure, kl: float | None) -> tuple[str, ...]:
    found = r.gain.found
    return (
        r.arm,
        "+" if r.side > 0 else "-",
        level(r.score, y.unit),
        ranged(found.mean, found.ci_lo, found.ci_hi, y.unit),
        f"{r.strength:+.3g}" if r.strength else "0",
        nats(kl),
        f"{r.loss * (100 if x.unit == 'share' else 1):.1f}",
        str(r.n_points),
        str(found.n),
        "ineffective" if r.ineffective else "",
    )


def _record(r: Reach, x: Measure, y: Measure, kl: float | None) -> Json:
    found = r.gain.found
    return {
        "arm": r.arm, "side": r.side, "metric": y.metric, "score": r.score, "unsteered": r.unsteered, "gain": found.mean,
        "gain_lo": found.ci_lo, "gain_hi": found.ci_hi, "n": found.n, "strength": r.strength, "kl": kl,
        "capability": x.metric, "lost": r.loss, "points": r.n_points, "ineffective": r.ineffective,
    }  # fmt: skip


def kl_sheet(
    curves: Curves, x: Measure, ys: Sequence[Measure], sides: Sequence[Side], kl: float, title: str
) -> Sheet | None:
    """Every effect at one KL, and how far the first arm is ahead of each other there; None where no arm gets there."""
    lines, records = [], []
    first = curves.arms[0]
    for y in ys:
        for side in sides:
            for arm in curves.arms:
                e = curves.at_kl(arm, kl, x, y, side)
                ahead = None if arm == first else curves.ahead_at_kl(first, arm, kl, x, y, side)
                if e is None:
                    continue
                less = NO if ahead is None else ranged(ahead.mean, ahead.ci_lo, ahead.ci_hi, y.unit)
                lines.append((arm, "+" if side > 0 else "-", y.metric, level(e.mean, y.unit), less))
                about = {"arm": arm, "side": side, "metric": y.name, "kl": kl, "effect": e.mean}
                ends = {} if ahead is None else {"ahead": ahead.mean, "lo": ahead.ci_lo, "hi": ahead.ci_hi}
                records.append({**about, **ends})
    columns = ("arm", "side", "metric", "effect", f"{first} is ahead [95 % CI]")
    expected = "between the measured strengths around it, in the sense that is wanted; an arm that does not get there has no line."
    words = ("arm", "side", "metric")
    return Sheet(title, expected, columns, tuple(lines), tuple(records), words=words) if lines else None


def _readings(reaches: Sequence[Reach], y: Measure) -> tuple[str, ...]:
    """The arm that gets furthest on each side."""
    lines = []
    for side in dict.fromkeys(r.side for r in reaches):
        best = max((r for r in reaches if r.side == side), key=lambda r: r.gain.found.mean)
        where = "above" if side > 0 else "below"
        found = best.gain.found
        if best.ineffective:
            lines.append(f"alpha {where} 0: no arm moves {y.metric} before it costs {100 * DELTA:.0f} points.")
        else:
            lines.append(
                f"alpha {where} 0: {best.arm} gets furthest, {ranged(found.mean, found.ci_lo, found.ci_hi, y.unit)}; it is the largest of {len([r for r in reaches if r.side == side])}, so it is a little too large."
            )
    return tuple(lines)


def claims_sheet(verdicts: Sequence[Fields], title: str) -> Sheet:
    """A line per claim: what the test says, by which number."""
    lines = tuple(
        (
            CUE[v["says"]] + " " + v["says"],
            v["claim"],
            ranged(v["value"], v["low"], v["high"], v["unit"]),
            _units(v),
            v["by"],
            v["why"],
        )
        for v in verdicts
    )
    counts = ", ".join(f"{sum(v['says'] == says for v in verdicts)} {says}" for says in (HOLDS, FAILS, OPEN))
    columns = ("verdict", "claim", "number [95 % CI]", "n", "whose", "what the number is")
    explained = "needs: about so many units would decide an undecided claim whose number stays as it is."
    return Sheet(
        title, explained if any(v.get("needs") for v in verdicts) else "", columns, lines, tuple(verdicts),
        (f"{some(len(verdicts), 'claim')}: {counts}.",),
        words=("verdict", "claim", "whose", "what the number is"),
    )  # fmt: skip


def _units(v: Fields) -> str:
    """How many units a verdict rests on, and about how many it would take."""
    had = str(v["n"]) if v["n"] else NO
    return f"{had}, needs {v['needs']}" if v.get("needs") else had


def write(
    work: Path,
    sheets: Sequence[Sheet],
    verdicts: Sequence[Fields],
    panels: Sequence[Panel],
    pictures: Sequence[Path],
    notes: Sequence[str],
) -> Json:
    """The tables as files; what the manifest says of them."""
    names = [p.name for p in pictures]
    write_json(
        work / FILE,
        {
            "tables": [asdict(s) for s in sheets],
            "claims": list(verdicts),
            "panels": [p.as_json() for p in panels],
            "pictures": names,
            "notes": list(notes),
        },
    )
    drawn = [f"![{Path(p).stem}]({p})" for p in names if p.endswith(".png")]
    parts = [*(s.markdown() for s in sheets), *(f"- {n}" for n in notes), "", *drawn]
    write_text(work / "scorecard.md", "\n".join(parts) + "\n")
    return {"claims": {says: sum(v["says"] == says for v in verdicts) for says in (HOLDS, FAILS, OPEN)}}


def read(recipe: str, folder: Path, failed: Mapping[str, str], *, reused: bool) -> Outcome:
    """What a recipe left in a folder."""
    report = json.loads((folder / FILE).read_text())
    sheets = tuple(Sheet.from_json(t) for t in report["tables"])
    pictures = tuple(folder / p for p in report["pictures"])
    panels = tuple(map(Panel.from_json, report["panels"]))
    verdicts, notes = tuple(report["claims"]), tuple(report["notes"])
    return Outcome(recipe, folder, sheets, verdicts, panels, pictures, notes, failed, reused)
