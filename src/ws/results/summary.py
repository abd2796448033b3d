"""Every table again from rows, methods of one protocol together: the published columns first, in their order, then ours.

Measurements stand in one table only if they share model, precision, protocol and questions. A run that was limited to its
first units is left out, and said. Where one direction was measured more than once, the measurement that holds the strength
of the table counts, the later one among equals; a row of another strength says so in its label.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from ws.eval.foundations import FOUNDATIONS, cells, mark
from ws.results.line import Line
from ws.results.measured import Measured, not_held_out, pairs_left_out
from ws.results.sheet import NO, Sheet, flat, p_value, share, spread, with_interval
from ws.results.tables import alpha_of, digits_for, signed, some
from ws.stats import FEW_UNITS, Estimate, effective_units

Cell = tuple[str, Mapping[str, Any]]
"""What people read, and the numbers behind it."""


@dataclass(frozen=True)
class Column:
    """A column: its heading, and what a line says there."""

    name: str
    cell: Callable[[Line], Cell]


SHORT = dict(zip(FOUNDATIONS, ("Care", "Sanc", "Auth", "Loy", "Fair", "Lib", "SocN")))
ARROWS = {"axis_trad_care": {"Care": " ↓", "Sanctity": " ↑"}, "axis_authority": {"Authority": " ↓"}}


def sheets(found: Sequence[Measured], *, alpha: float | None = None) -> tuple[list[Sheet], list[str]]:
    """(tables, what was left out of them). `alpha` is the strength of the forward arm; +1 or the largest there is."""
    full = [m for m in found if not m.smoke]
    notes = []
    if full and len(full) < len(found):
        notes.append(f"left out, because they scored fewer units than the evaluation has: {len(found) - len(full)}.")
    groups: dict[tuple, list[Measured]] = {}
    for m in full or found:
        groups.setdefault(m.same, []).append(m)
    made: list[tuple[Sheet, Measured]] = []
    for group in groups.values():
        lines, left = _lines(group, alpha)
        notes += left
        for make in TABLES.get(group[0].protocol.eval, (effects,)) if lines else ():
            made += [(s, group[0]) for s in make(lines)]
    return _told_apart(made), notes


def _told_apart(made: Sequence[tuple[Sheet, Measured]]) -> list[Sheet]:
    """Tables of one title get what they differ in: the questions, or how the model was run."""
    found = []
    for s, m in made:
        alike = [n for t, n in made if t.title == s.title]
        differ = [about for about in APART if len({about(n) for n in alike}) > 1]
        found.append(replace(s, title=" · ".join([s.title, *(about(m) for about in differ)])))
    return found


APART: tuple[Callable[[Measured], str], ...] = (
    lambda m: f"items {m.items_hash}",
    lambda m: str(m.manifest["inputs"]["dtype"]),
    lambda m: f"weights {m.weights[:8]}",
    lambda m: f"limit {m.manifest['settings']['limit']}",
)


def _lines(group: list[Measured], alpha: float | None) -> tuple[list[Line], list[str]]:
    """One line per direction, of the measurement that holds the strength best, and those that lack it."""
    studies: dict[tuple, list[Measured]] = {}
    label_of: dict[tuple, str] = {}
    for m, label in zip(group, _labels(group)):
        if any(m.alphas):  # the bare model is the reference of every line
            studies.setdefault(m.study, []).append(m)
            label_of[m.study] = label
    lines, left = [], []
    for study, each in studies.items():
        if alpha is None and (sought := closest(each).sought) is not None:
            lines.append(Line(closest(each), label_of[study], sought[1], sought[0]))
            continue
        pos = forward({a for m in each for a in m.alphas}, alpha)
        if pos is None:
            there = ", ".join(alpha_of(a) for a in sorted({a for m in each for a in m.alphas}))
            lacks = f"was not measured {'above 0' if alpha is None else f'at {alpha_of(alpha)}'}"
            left.append(f"{label_of[study]}: {each[0].protocol.id} {lacks}, only at {there}.")
            continue
        m = best(each, pos)
        neg = -pos if -pos in m.alphas else None if alpha is not None else min(m.alphas)
        lines.append(Line(m, label_of[study], pos, neg if neg is not None and neg < 0 else None))
    return _marked(lines), left


def forward(alphas: Iterable[float], alpha: float | None) -> float | None:
    """The strength of a table: the one asked for, else +1, else the largest above 0."""
    there = set(alphas)
    if alpha is not None:
        return alpha if alpha in there else None
    return 1.0 if 1.0 in there else max(there) if max(there) > 0 else None


def best(found: Sequence[Measured], alpha: float) -> Measured:
    """Of several measurements, oldest first, the one for this strength: all units before some, both arms before one."""
    having = [m for m in found if alpha in m.alphas] or found
    return max(enumerate(having), key=lambda n: (not n[1].smoke, -alpha in n[1].alphas, n[0]))[1]


def closest(found: Sequence[Measured]) -> Measured:
    """Of several measurements at one budget, oldest first: all units before some, strengths that have it before others."""
    return max(enumerate(found), key=lambda n: (not n[1].smoke, n[1].matched, n[0]))[1]


def _marked(lines: Sequence[Line]) -> list[Line]:
    """Lines of another strength than the table's, and of questions seen before, say so in the label: it is there at any width."""
    usual = strengths(lines)

    def mark_of(x: Line) -> str:
        seen = " (not held out)" if x.of.seen else ""
        if x.matched is not None:
            return seen if x.matched else f" (unmatched){seen}"
        return seen if strengths([x]) == usual else f" ({strengths([x])}){seen}"

    return [replace(x, label=x.label + mark_of(x)) for x in lines]


def strengths(lines: Sequence[Line]) -> str:
    """The strengths of a table, forward and reverse: those of +1, or of the largest there is; most lines decide."""
    if budgets := {x.of.budget for x in lines if x.of.budget is not None}:
        return ", ".join(f"{b:g} nat" for b in sorted(budgets))
    pairs = [(x.pos, x.neg) for x in lines]
    if not pairs:
        return ""
    first = 1.0 if any(p == 1.0 for p, _ in pairs) else max(p for p, _ in pairs)
    pos, neg = max((p for p in pairs if p[0] == first), key=lambda p: (p[1] is not None, pairs.count(p)))
    return f"α={alpha_of(pos)}" + ("" if neg is None else f"/{alpha_of(neg)}")


def _labels(group: list[Measured]) -> list[str]:
    """Method ids, with what else is needed to tell them apart: behavior, seed, run."""
    parts: list[list[str]] = [[m.method] for m in group]
    for more in (
        lambda m: m.behavior or m.run, lambda m: f"s{m.seed}",
        lambda m: "as given" if m.budget is None else f"{m.budget:g} nat", lambda m: m.run.rsplit("-", 1)[-1],
    ):  # fmt: skip
        ids = {m.study: tuple(p) for m, p in zip(group, parts)}
        if len(set(ids.values())) < len(ids):
            parts = [[*p, str(more(m))] for m, p in zip(group, parts)]
    return [" ".join(p) for p in parts]


def sheet(
    lines: Sequence[Line], title: str, expected: str, columns: Sequence[Column], *, published: int = 1,
    by: Callable[[Line], float | None], reading: Callable[[Line], str | None] | None = None,
) -> Sheet:  # fmt: skip
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
    kept = [i for i, _ in enumerate(columns) if i < published or any(row[i][0] != NO for row in cells_of)]
    records = []
    for line, row in zip(ranked, cells_of):
        m = line.of
        about = {
            "eval": m.protocol.eval, "protocol": m.protocol.id, "model": m.model, "data": m.source,
            "items": m.items_hash, "behavior": m.behavior, "method": m.method, "seed": m.seed, "run": m.run,
            "alpha_pos": line.pos, "alpha_neg": line.neg,
            "smoke": m.smoke,
        }  # fmt: skip
        records.append(about | {k: v for _, record in row for k, v in record.items()})
    told = [t for line in ranked[:READ] if reading and (t := reading(line))]
    if told and len(ranked) > READ:
        told.append(f"Only the first {READ} of {len(ranked)} rows are read out.")
    return Sheet(
        _titled(title, first, strengths(lines)),
        expected,
        tuple(columns[i].name for i in kept),
        tuple(tuple(row[i][0] for i in kept) for row in cells_of),
        tuple(records),
        tuple(told + _warnings(ranked)),
    )


READ = 12  # rows of a table that are read out


def _titled(title: str, m: Measured, *more: str) -> str:
    smoke = ("SMOKE: not all units",) if m.smoke else ()
    return " · ".join([title, m.protocol.id, m.model, *more, m.data, *smoke])


def _warnings(lines: Sequence[Line]) -> list[str]:
    """What a reader must know before believing a table."""
    those = [line.of for line in lines]
    found = [*not_held_out(those), *pairs_left_out(those)]
    rows = [line.paired.loc[line.paired["scored"], "unit_id"].value_counts() for line in lines]
    units = min(effective_units(n.to_numpy()) for n in rows)
    if units < FEW_UNITS:
        fewer = "" if units == min(map(len, rows)) else ", unequal ones counting as fewer"
        found.append(f"Only {some(units, 'unit')}{fewer}: below {FEW_UNITS} an interval undercovers.")
    for line in lines:
        if (forced := line.share("forced_close", line.pos)) and forced > 0.5:
            found.append(
                f"{line.label}: {100 * forced:.0f} % of thoughts had to be closed; the budget decides the result."
            )
        mass = line.share("pmass", line.pos)
        if mass is not None and mass < 0.9:
            found.append(
                f"{line.label}: the answer mass is {mass:.2f} at {alpha_of(line.pos)}; the model answers less and less."
            )
    return found


def labelled(name: str, *, bare: bool = False) -> Column:
    """The method; published tables of adapters leave `ws:` away."""
    return Column(name, lambda line: (line.label.removeprefix("ws:") if bare else line.label, {}))


def value(name: str, metric: str, key: str, *, alpha: Callable[[Line], float | None], interval: bool = True) -> Column:
    """A metric at one strength."""

    def cell(line: Line) -> Cell:
        strength = alpha(line)
        e = None if strength is None else line.at(metric, strength)
        return _told(e, key, interval)

    return Column(name, cell)


def delta(name: str, metric: str, key: str, *, alpha: Callable[[Line], float | None], interval: bool = True) -> Column:
    """The change of a metric against strength 0."""
    return Column(name, lambda line: _told(line.delta(metric, alpha(line)), key, interval))


def bounds(name: str, metric: str, *, alpha: Callable[[Line], float | None]) -> Column:
    """The interval of a change alone, beside a published column that had none."""

    def cell(line: Line) -> Cell:
        e = line.delta(metric, alpha(line))
        known = e is not None and math.isfinite(e.ci_lo)
        return (f"[{signed(e.ci_lo)}, {signed(e.ci_hi)}]" if known and e is not None else NO, {})

    return Column(name, cell)


def _told(e: Estimate | None, key: str, interval: bool) -> Cell:
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
        found = line.share("pmass", line.pos)
        return share(found), {"pmass_pos": found, "pmass_neg": line.share("pmass", line.neg)}

    return Column(name, cell)


def forced(line: Line) -> Cell:
    if not line.of.protocol.n_think:
        return NO, {}
    found = line.share("forced_close", line.pos)
    return share(found), {"forced_share": found}


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
    told = " / ".join(NO if p["kl"] is None else f"{p['kl']:.2f}" for p in points)
    off = sorted({p["verdict"] for p in points} - {"matched"})
    forward = line.of.point(line.pos) or points[-1]
    record = {
        "kl_pos": forward["kl"],
        "kl_neg": points[0]["kl"],
        "matched": line.matched,
        "verdicts": [p["verdict"] for p in points],
    }
    return told + (f" {', '.join(off)}" if off else ""), record


def _kl(line: Line) -> Cell:
    return (NO, {}) if line.of.budget is None and line.of.point(line.pos) is None else kl_of(line)


STRENGTH = (Column("C − / +", _strengths_of), Column("kl − / +", _kl))
MOVED = (
    Column("a: shift", lambda line: (with_interval(line.shift.a), flat("a", line.shift.a))),
    Column("b: sharpening", lambda line: (with_interval(line.shift.b), flat("b", line.shift.b))),
)
COUNTS = (Column("forced", forced), Column("units", counted), *STRENGTH)


def si(name: str, key: str, k: int, *, interval: bool = False, one: bool = False) -> Column:
    """Surgical informedness, both arms or, in a column of its own, one."""

    def cell(line: Line) -> Cell:
        if one == (line.neg is not None):
            return NO, {}
        found = (line.si.one_arm if one else line.si.si)[k].found
        if not math.isfinite(found.value):
            return NO, {}
        few = " (few)" if line.si.too_small else ""
        return (with_interval(found) if interval else signed(found.value)) + few, flat(key, found)

    return Column(name, cell)


def _si_more(name: str, told: Callable[[Line], Cell]) -> Column:
    return Column(name, lambda line: told(line) if line.neg is not None else (NO, {}))


def _null(line: Line) -> Cell:
    arms = line.si.si[2].arms
    return (NO, {}) if arms is None or not math.isfinite(arms.mean) else (signed(arms.mean), {"SI_k2_null": arms.mean})


def _p(line: Line) -> Cell:
    arms = line.si.si[1].arms
    return (NO, {}) if arms is None or not math.isfinite(arms.p) else (p_value(arms.p), {"SI_k1_p": arms.p})


def rate(name: str, which: str) -> Column:
    def cell(line: Line) -> Cell:
        found = getattr(line.si, which)
        if not math.isfinite(found.share.value):
            return NO, {}
        return share(found.share.value), {**flat(f"{which}_rate", found.share), f"n_{which}": found.count}

    return Column(name, cell)


def _best(line: Line) -> Cell:
    found = line.si.post_hoc["best"].found
    return (signed(found.value), flat("SI_best", found)) if math.isfinite(found.value) else (NO, {})


def _classes(line: Line) -> Cell:
    wrong, right = line.si.fix.of, line.si.broke.of
    return f"{wrong}/{right}", {
        "n_wrong": wrong,
        "n_right": right,
        "too_small": line.si.too_small,
        "few_units": line.si.few_units,
    }


def _sign(line: Line) -> Cell:
    if line.sign is None:
        return NO, {}
    told = "reversed" if line.sign.contradicts(line.intent) else "intended" if line.sign.sign == line.intent else "open"
    return told, {"sign": told}


def first_of(line: Line) -> str:
    return line.of.protocol.metric


NEXT_TO_NOTHING = 1e-3  # an interval can be narrow and beside 0, and the change still be none


def verdict(line: Line, *, metric: str | None = None, unit: str = " nat", named: bool = False) -> str | None:
    """The main number of a line, with its interval and what it says."""
    metric = metric or first_of(line)
    at = alpha_of(line.pos) if line.of.budget is None else f"{line.pos:+.3g}"
    what = f"{line.label}{f', {metric}' if named else ''} at {at}"
    e = line.delta(metric, line.pos)
    if e is None:
        return None
    if not math.isfinite(e.mean):
        return f"{what}: nothing could be scored."
    wanted = line.intents.get(metric, 0)
    if line.control:
        says = "a random direction, of which nothing is expected"
    elif not math.isfinite(e.ci_lo):
        says = "no interval, too few units"
    elif e.ci_lo <= 0 <= e.ci_hi:
        says = "no clear effect: the paired interval holds 0"
    elif not wanted and abs(e.mean) < NEXT_TO_NOTHING:
        says = "next to nothing; the behavior makes no claim about it"
    elif not wanted:
        says = "a clear change; the behavior makes no claim about it"
    else:
        says = "moves as intended" if wanted * e.mean > 0 else "REVERSED: it moves the other way"
    return f"{what}: {with_interval(e)}{unit} against alpha 0; {says}."


def dilemmas(lines: Sequence[Line]) -> list[Sheet]:
    """`adapter | delta -1 | alpha 0 | delta +1 | pmass`, then intervals and what kind of shift it is."""
    metric = first_of(lines[0])
    effect = sheet(
        lines,
        "daily dilemmas",
        "expected: delta at + above 0 with a above 0 and pmass near the base's. Otherwise: a near 0 and b above 1 is sharpening.",
        [
            labelled("adapter", bare=True),
            delta(f"delta α={_strength(lines, neg)}", metric, "delta_neg", alpha=neg, interval=False),
            value("α=0", metric, "base", alpha=zero, interval=False),
            delta(f"delta α={_strength(lines, pos)}", metric, "delta_pos", alpha=pos, interval=False),
            mass(f"pmass @ {_strength(lines, pos)}"),
            bounds("95 % CI −", metric, alpha=neg),
            bounds("95 % CI +", metric, alpha=pos),
            *MOVED,
            *COUNTS,
        ],
        published=5,
        by=lambda line: mean_of(line.delta(metric, line.pos)),
        reading=verdict,
    )
    return [effect, informed(lines)]


def informed(lines: Sequence[Line]) -> Sheet:
    """Surgical informedness: `SI_k2 | SI_k1 | SI_best | fix | broke`, then the null and everything it hangs on."""

    def reading(line: Line) -> str | None:
        found = line.si.si.get(1) or line.si.one_arm[1]
        if not math.isfinite(found.found.value):
            return f"{line.label}: no informedness; {some(line.si.fix.of, 'item')} wrong and {line.si.broke.of} right at alpha 0."
        told = f"{line.label}: SI_k1 {with_interval(found.found)}"
        told += f", p {p_value(found.arms.p)} against arms without orientation" if found.arms else ", one arm"
        wrong, right = line.si.class_units
        if line.si.too_small:
            return f"{told}; a class is too small to say ({some(wrong, 'unit')} wrong, {right} right at alpha 0)."
        return (
            f"{told}; {min(wrong, right)} units in the smaller class, so the interval undercovers."
            if line.si.few_units
            else f"{told}."
        )

    return sheet(
        lines,
        "surgical informedness",
        "expected: SI_k1 above 0 with p below 0.05. Otherwise: SI_k2 at its null is what random changes give, however far below 0.",
        [
            labelled("method"),
            si("SI_k2", "SI_k2", 2),
            si("SI_k1", "SI_k1", 1),
            _si_more("SI_best (post hoc)", _best),
            rate("fix_rate", "fix"),
            rate("broke_rate", "broke"),
            _si_more("SI_k2 null", _null),
            si("SI_k1 [95 % CI]", "SI_k1", 1, interval=True),
            _si_more("p", _p),
            si("one arm, k=1", "SI_one_arm_1", 1, interval=True, one=True),
            rate("flip", "flip"),
            rate("counter", "counter"),
            Column("wrong/right", _classes),
            Column("sign (cal)", _sign),
            *STRENGTH,
        ],
        published=6,
        by=lambda line: (line.si.si.get(1) or line.si.one_arm[1]).found.value,
        reading=reading,
    )


def sycophancy(lines: Sequence[Line]) -> list[Sheet]:
    """`adapter | mean_lr | shift vs base`, then what tells sycophancy from saying Yes."""
    ours = [
        delta(f"Δ {m}", m, f"delta_{m}", alpha=pos)
        for m in ("syco", "belief", "agree_true", "logratio_claims", "yes_bias")
    ]
    return [
        sheet(
            lines,
            "held-out claims",
            "expected: shift with Δ syco on the same side and Δ yes_bias near 0. Otherwise: a shift that Δ yes_bias shares is saying Yes.",
            [
                labelled("adapter", bare=True),
                value("mean_lr", "logratio", "mean_lr", alpha=pos, interval=False),
                delta("shift vs base", "logratio", "shift", alpha=pos, interval=False),
                bounds("95 % CI", "logratio", alpha=pos),
                *ours,
                mass("pmass"),
                *COUNTS,
            ],
            published=3,
            by=lambda line: mean_of(line.at("logratio", line.pos)),
            reading=verdict,
        )
    ]


def airisk(lines: Sequence[Line]) -> list[Sheet]:
    """`Method | Truthfulness logratio | Bidirectional SI`, then order bias, the null and the kind of shift."""
    metric = first_of(lines[0])
    base = lines[0].at(metric, 0.0)
    bias = [value("order_bias", "order_bias", "order_bias", alpha=pos)]
    table = sheet(
        lines,
        "AIRiskDilemmas",
        "expected: logratio above the base's with SI_k1 above 0 and order_bias unchanged. Otherwise: a shift without SI is position or sharpening.",
        [
            labelled("Method"),
            value("Truthfulness logratio", metric, "logratio", alpha=pos),
            si("Bidirectional SI", "SI_k2", 2, interval=True),
            delta("Δ vs base", metric, "delta", alpha=pos),
            _si_more("SI null", _null),
            si("SI_k1", "SI_k1", 1, interval=True),
            _si_more("p", _p),
            *bias,
            *MOVED,
            mass("pmass"),
            *COUNTS,
        ],
        published=3,
        by=lambda line: mean_of(line.at(metric, line.pos)),
        reading=verdict,
    )
    return [_pinned(table, "base (0)", with_interval(base)), informed(lines)]


BOTH = {"wrongness": ("wrongness, both", "wrongness", "wrongness_both")}
"""Heading, metric and key of the mean over both conditions, whose name the published tables use for others' doings alone."""


def tinymfv(lines: Sequence[Line]) -> list[Sheet]:
    """`Method | wrongness`, then the gap between others and oneself."""
    metric = next((m for m in ("wrongness_other", "wrongness") if m in lines[0].metrics), first_of(lines[0]))
    others = [m for m in lines[0].metrics if m != metric]
    table = sheet(
        lines,
        "tiny-mfv",
        "expected: wrongness as the base's where nothing is claimed. Otherwise: a fall with pmass is answers at chance.",
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
        reading=partial(verdict, metric=metric, unit=""),
    )
    return [_pinned(table, "base (0)", with_interval(lines[0].at(metric, 0.0)))]


def foundations(lines: Sequence[Line]) -> list[Sheet]:
    """Bare logits, then `cue | axis | method | C | kl | Care ... SocN` and ours."""

    def of(line: Line, foundation: str, alpha: float, column: str) -> str:
        part = table_of[line.of.folder]
        part = part[(part["alpha"] == alpha) & (part["kind"] == foundation)]
        return spread(part[column].tolist())

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
        found = mark([x for x in (e, adjusted) if x is not None], intent)
        return found, {"cue": found}

    bare = lines[0]
    first = Sheet(
        _titled("bare logits, mean±sd over cells", bare.of),
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
        "expected: the targeted foundations move against the others. Otherwise: common as large as axis is strictness, not values. "
        "axis here: the change at the + arm alone, as published."
        + (
            " kl n/a: strengths are as given and not matched, so methods may differ in how hard they push."
            if any(line.of.point(line.pos) is None for line in lines)
            else " ⚪: the strength is not matched."
        ),
        [
            Column("cue", cue),
            Column("axis", lambda line: _told(axis(line), "axis", False)),
            labelled("method"),
            Column("C", lambda line: (alpha_of(line.pos) if line.of.budget is None else f"{line.pos:+.3g}", {})),
            Column("kl", _kl_forward),
            *(
                Column(short + arrows.get(f, ""), lambda line, f=f: (of(line, f, line.pos, "d"), _mean(line, f)))  # type: ignore[misc]
                for f, short in SHORT.items()
            ),
            Column("axis [95 % CI]", lambda line: _told(axis(line), "axis", True)),
            *(delta(title, name, name, alpha=pos) for title, name in more.items()),
            mass("mass"),
            Column("units", counted),
            *STRENGTH,
        ],
        published=12,
        by=lambda line: None if (e := axis(line)) is None else abs(e.mean),
        reading=lambda line: verdict(line, metric=axis_of[line.of.folder] or "common", unit="", named=True),
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
    found = set(names)
    return found.pop() if len(found) == 1 else None


def _mean(line: Line, foundation: str) -> Mapping[str, Any]:
    e = line.at(f"d_{foundation.replace(' ', '')}", line.pos)
    return {} if e is None else flat(f"d_{foundation.replace(' ', '')}", e)


def effects(lines: Sequence[Line]) -> list[Sheet]:
    """Any protocol: every metric at strength 0 and its change at either side, methods below each other."""
    of = lines[0].of.protocol
    parts = {metric: _effect(lines, metric) for metric in lines[0].metrics}
    first = next(iter(parts.values()))
    warned = _warnings(lines)
    told = [f"{m}: larger means it {of.legend[m]}." for m in parts if m in of.legend]
    whole = replace(
        first,
        columns=("metric", *first.columns),
        lines=tuple((m if i == 0 else "", *line) for m, s in parts.items() for i, line in enumerate(s.lines)),
        records=tuple({**r, "metric": m} for m, s in parts.items() for r in s.records),
        readings=tuple(
            dict.fromkeys([*told, *(r for s in parts.values() for r in s.readings if r not in warned), *warned])
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
            delta(f"Δ α={_strength(lines, neg)}", metric, "delta_neg", alpha=neg),
            delta(f"Δ α={_strength(lines, pos)}", metric, "delta_pos", alpha=pos),
            mass("pmass"),
            Column("units", counted),
        ],
        published=4,
        by=lambda line: mean_of(line.delta(metric, line.pos)),
        reading=partial(verdict, metric=metric, unit="", named=True),
    )


def _pinned(table: Sheet, label: str, cell: str) -> Sheet:
    """The bare model as the first line."""
    return replace(table, lines=((label, cell, *[NO] * (len(table.columns) - 2)), *table.lines))


def _strength(lines: Sequence[Line], which: Callable[[Line], float | None]) -> str:
    """The strength in a heading, where all lines share it."""
    found = {which(line) for line in lines} - {None}
    return alpha_of(found.pop() or 0.0) if len(found) == 1 else "+" if which is pos else "−"


TABLES: dict[str, tuple[Callable[[Sequence[Line]], list[Sheet]], ...]] = {
    "dilemmas": (dilemmas,),
    "sycophancy": (sycophancy,),
    "airisk": (airisk,),
    "tinymfv": (tinymfv,),
    "foundations": (foundations,),
    "file": (effects, lambda lines: [informed(lines)]),
}
