"""The shared parts of the published tables: columns, the order of lines, and the sentences below."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ws.numbers import NO, alpha_of, bounds, digits_for, flat, p_value, share, signed, with_interval
from ws.results import sentences
from ws.results.line import Line
from ws.results.lines import table_strengths
from ws.results.measured import Measured
from ws.results.sentences.questions import not_held_out, pairs_left_out
from ws.results.sheet import Sheet
from ws.stats import FEW_UNITS, Estimate, effective_units
from ws.types import Fields

Cell = tuple[str, Fields]
"""The text of a cell, and the numbers behind it for programs."""


@dataclass(frozen=True)
class Column:
    """A column: its heading, and what a line says there."""

    name: str
    cell: Callable[[Line], Cell]


def sheet(
    lines: Sequence[Line],
    title: str,
    expected: str,
    columns: Sequence[Column],
    *,
    published: int = 1,
    by: Callable[[Line], float | None],
    reading: Callable[[Line], str | None] | None = None,
) -> Sheet:
    """Lines sorted by a number, largest first, and each of them read out; last those of another KL than the table's, and
    those without a number.

    The first `published` columns are those of the published table.
    """

    def rank(line: Line) -> tuple[bool, bool, float]:
        value = by(line)
        known = value is not None and math.isfinite(value)
        return (line.matched is False, not known, -value if known and value is not None else 0.0)

    ranked = sorted(lines, key=rank)
    first = lines[0].of
    cells_of = [[c.cell(line) for c in columns] for line in ranked]
    # a published column stays where it is empty too, so that tables can be laid side by side
    columns_at = [i for i, _ in enumerate(columns) if i < published or any(row[i][0] != NO for row in cells_of)]
    records = []
    for line, row in zip(ranked, cells_of):
        m = line.of
        about = {
            "eval": m.protocol.eval,
            "protocol": m.protocol.id,
            "model": m.model,
            "data": m.source,
            "items": m.items_hash,
            "behavior": m.behavior,
            "method": m.method,
            "seed": m.seed,
            "run": m.run,
            "alpha_pos": line.pos,
            "alpha_neg": line.neg,
            "smoke": m.smoke,
        }
        records.append(about | {k: v for _, record in row for k, v in record.items()})
    readings = [t for line in ranked[:READ] if reading and (t := reading(line))]
    if readings and len(ranked) > READ:
        readings.append(f"Only the first {READ} of {len(ranked)} rows are read out.")
    return Sheet(
        titled(title, first, table_strengths(lines)),
        expected,
        tuple(columns[i].name for i in columns_at),
        tuple(tuple(row[i][0] for i in columns_at) for row in cells_of),
        tuple(records),
        tuple(readings + warnings(ranked)),
    )


READ = 12  # rows of a table that are read out


def titled(title: str, m: Measured, *more: str) -> str:
    smoke = ("SMOKE: not all units",) if m.smoke else ()
    return " · ".join([title, m.protocol.id, m.model, *more, m.data, *smoke])


def warnings(lines: Sequence[Line]) -> list[str]:
    """Sentences a reader must know before believing a table."""
    those = [line.of for line in lines]
    messages = [*not_held_out(those), *pairs_left_out(those)]
    rows = [line.paired.loc[line.paired["scored"], "unit_id"].value_counts() for line in lines]
    units, of = min((effective_units(n.to_numpy()), len(n)) for n in rows)
    messages += [sentences.few_units(units, of=of)] if units < FEW_UNITS else []
    what = "answers" if those[0].protocol.n_write else "thoughts"
    messages += sentences.cut_off({x.label: x.share("forced_close", x.pos) or 0.0 for x in lines}, what)
    masses = {f"{x.label} at {alpha_of(x.pos)}": x.share("pmass", x.pos) for x in lines}
    return messages + sentences.low_mass({name: m for name, m in masses.items() if m is not None})


def labelled(name: str, *, bare: bool = False) -> Column:
    """The method; published tables of adapters leave `ws:` away."""
    return Column(name, lambda line: (line.label.removeprefix("ws:") if bare else line.label, {}))


def value(name: str, metric: str, key: str, *, alpha: Callable[[Line], float | None], interval: bool = True) -> Column:
    """A metric at one strength."""

    def cell(line: Line) -> Cell:
        strength = alpha(line)
        e = None if strength is None else line.at(metric, strength)
        return estimated(e, key, interval)

    return Column(name, cell)


def delta(name: str, metric: str, key: str, *, alpha: Callable[[Line], float | None], interval: bool = True) -> Column:
    """The change of a metric against strength 0."""
    return Column(name, lambda line: estimated(line.delta(metric, alpha(line)), key, interval))


def ends(name: str, metric: str, *, alpha: Callable[[Line], float | None]) -> Column:
    """The interval of a change alone, beside a published column that had none."""

    def cell(line: Line) -> Cell:
        e = line.delta(metric, alpha(line))
        known = e is not None and math.isfinite(e.ci_lo)
        return (f"[{signed(e.ci_lo)}, {signed(e.ci_hi)}]" if known and e is not None else NO, {})

    return Column(name, cell)


def estimated(e: Estimate | None, key: str, interval: bool) -> Cell:
    if e is None or not math.isfinite(e.mean):
        return NO, {}
    return (with_interval(e) if interval else signed(e.mean, digits_for(e.mean))), flat(key, e)


def pos(line: Line) -> float | None:
    return line.pos


def neg(line: Line) -> float | None:
    return line.neg


def zero(line: Line) -> float | None:
    return 0.0


def mean_of(e: Estimate | None) -> float | None:
    return None if e is None else e.mean


def mass(name: str) -> Column:
    def cell(line: Line) -> Cell:
        part = line.share("pmass", line.pos)
        return share(part), {"pmass_pos": part, "pmass_neg": line.share("pmass", line.neg)}

    return Column(name, cell)


def forced(line: Line) -> Cell:
    if not line.of.protocol.n_think:
        return NO, {}
    part = line.share("forced_close", line.pos)
    return share(part), {"forced_share": part}


def counted(line: Line) -> Cell:
    """Units, and how many rows are in no change because one of the strengths has no score of them."""
    scored, total, units = int(line.paired["scored"].sum()), len(line.paired), line.paired["unit_id"].nunique()
    n = f"{units}" if scored == total else f"{units} ({total - scored} of {total} rows unscored)"
    return n, {"n_units": units, "n_valid": scored, "n_total": total}


def _strengths_of(line: Line) -> Cell:
    """C: both strengths, where they were sought for their KL; lines of a grid of alphas have them in the title."""
    if line.of.budget is None:
        return NO, {}
    return " / ".join(f"{a:+.3g}" for a in (line.neg, line.pos) if a is not None), {}


def kl_of(line: Line) -> Cell:
    """The KL of the forward strength, and of the reverse one; a strength that is not the budget's says so."""
    points = [p for a in (line.neg, line.pos) if a is not None and (p := line.of.point(a))]
    if not points:
        return "n/a", {}
    text = " / ".join(NO if p["kl"] is None else f"{p['kl']:.2f}" for p in points)
    off = sorted({p["verdict"] for p in points} - {"matched"})
    forward = line.of.point(line.pos) or points[-1]
    record = {
        "kl_pos": forward["kl"],
        "kl_neg": points[0]["kl"],
        "matched": line.matched,
        "verdicts": [p["verdict"] for p in points],
    }
    return text + (f" {', '.join(off)}" if off else ""), record


def _kl(line: Line) -> Cell:
    return (NO, {}) if line.of.budget is None and line.of.point(line.pos) is None else kl_of(line)


STRENGTH = (Column("C − / +", _strengths_of), Column("kl − / +", _kl))


def _fitted(which: str) -> Callable[[Line], Cell]:
    """A part of the shift, where the rows at 0 span enough to fit it."""

    def cell(line: Line) -> Cell:
        if not line.shift.fits:
            return NO, {}
        e = getattr(line.shift, which)
        return with_interval(e), flat(which, e)

    return cell


MOVED = (Column("a: shift", _fitted("a")), Column("b: sharpening", _fitted("b")))


def unfitted(lines: Sequence[Line]) -> str:
    """The sentence that explains a dash among the shifts, where there is one."""
    if all(line.shift.fits for line in lines):
        return ""
    return f" {NO} for a and b: the rows at alpha 0 span too little to tell the two apart."


COUNTS = (Column("forced", forced), Column("units", counted), *STRENGTH)


def si_column(name: str, key: str, k: int, *, interval: bool = False, one: bool = False) -> Column:
    """Surgical informedness, both arms or, in a column of its own, one."""

    def cell(line: Line) -> Cell:
        if one == (line.neg is not None):
            return NO, {}
        score = (line.si.one_arm if one else line.si.si)[k].found
        if not math.isfinite(score.value):
            return NO, {}
        few = " (few)" if line.si.too_small else ""
        return (with_interval(score) if interval else signed(score.value)) + few, flat(key, score)

    return Column(name, cell)


def both_arms(name: str, cell: Callable[[Line], Cell]) -> Column:
    return Column(name, lambda line: cell(line) if line.neg is not None else (NO, {}))


def null_of_arms(line: Line) -> Cell:
    arms = line.si.si[2].arms
    return (NO, {}) if arms is None or not math.isfinite(arms.mean) else (signed(arms.mean), {"SI_k2_null": arms.mean})


def p_of_arms(line: Line) -> Cell:
    arms = line.si.si[1].arms
    return (NO, {}) if arms is None or not math.isfinite(arms.p) else (p_value(arms.p), {"SI_k1_p": arms.p})


def mark_rate(name: str, which: str) -> Column:
    def cell(line: Line) -> Cell:
        part = getattr(line.si, which)
        if not math.isfinite(part.share.value):
            return NO, {}
        return share(part.share.value), {**flat(f"{which}_rate", part.share), f"n_{which}": part.count}

    return Column(name, cell)


def best_arm(line: Line) -> Cell:
    score = line.si.post_hoc["best"].found
    return (signed(score.value), flat("SI_best", score)) if math.isfinite(score.value) else (NO, {})


def classes(line: Line) -> Cell:
    wrong, right = line.si.fix.of, line.si.broke.of
    return f"{wrong}/{right}", {
        "n_wrong": wrong,
        "n_right": right,
        "too_small": line.si.too_small,
        "few_units": line.si.few_units,
    }


def calibrated_sign(line: Line) -> Cell:
    if line.sign is None:
        return NO, {}
    word = "reversed" if line.sign.contradicts(line.intent) else "intended" if line.sign.sign == line.intent else "open"
    return word, {"sign": word}


def first_of(line: Line) -> str:
    return line.of.protocol.metric


def main_number(
    line: Line, *, metric: str | None = None, nat: bool = True, named: bool = False, split: bool = False
) -> str | None:
    """The main number of a line, with its interval and what it says; `split` says where the model only got surer."""
    metric = metric or first_of(line)
    if (e := line.delta(metric, line.pos)) is None:
        return None
    at = alpha_of(line.pos) if line.of.budget is None else f"{line.pos:+.3g}"
    says = sentences.verdict(
        *bounds(e),
        sentences.side_of(metric, line.intents),
        units=e.n,
        nat=nat,
        random=line.control,
        shift=line.shift if split else None,
    )
    number = f"{with_interval(e)}{' nat' if nat else ''} against alpha 0; " if says.word != "unscored" else ""
    return f"{line.label}{f', {metric}' if named else ''} at {at}: {number}{says.sentence}."


def strength(lines: Sequence[Line], which: Callable[[Line], float | None]) -> str:
    """The strength in a heading, where all lines share it."""
    values = {which(line) for line in lines} - {None}
    return alpha_of(values.pop() or 0.0) if len(values) == 1 else "+" if which is pos else "−"


def pinned(table: Sheet, label: str, cell: str) -> Sheet:
    """The bare model as the first line."""
    return replace(table, lines=((label, cell, *[NO] * (len(table.columns) - 2)), *table.lines))
