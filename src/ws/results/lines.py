"""The lines of a table: which evaluations, at which strengths, under which names."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from ws.numbers import alpha_of
from ws.results.line import Line
from ws.results.measured import Measured


def lines_of(group: list[Measured], alpha: float | None) -> tuple[list[Line], list[str]]:
    """One line per direction, of the measurement that holds the strength best, and those that lack it."""
    studies: dict[tuple, list[Measured]] = {}
    label_of: dict[tuple, str] = {}
    for m, label in zip(group, _labels(group)):
        if any(m.alphas):  # the bare model is the reference of every line
            studies.setdefault(m.study, []).append(m)
            label_of[m.study] = label
    lines, lacking = [], []
    for study, each in studies.items():
        if alpha is None and (sought := closest(each).sought) is not None:
            lines.append(Line(closest(each), label_of[study], sought[1], sought[0]))
            continue
        pos = forward({a for m in each for a in m.alphas}, alpha)
        if pos is None:
            there = ", ".join(alpha_of(a) for a in sorted({a for m in each for a in m.alphas}))
            lacks = f"was not measured {'above 0' if alpha is None else f'at {alpha_of(alpha)}'}"
            lacking.append(f"{label_of[study]}: {each[0].protocol.id} {lacks}, only at {there}.")
            continue
        m = best(each, pos)
        neg = -pos if -pos in m.alphas else None if alpha is not None else min(m.alphas)
        lines.append(Line(m, label_of[study], pos, neg if neg is not None and neg < 0 else None))
    return _marked(lines), lacking


def forward(alphas: Iterable[float], alpha: float | None) -> float | None:
    """The strength of a table: the one asked for, else +1, else the largest above 0."""
    there = set(alphas)
    if alpha is not None:
        return alpha if alpha in there else None
    return 1.0 if 1.0 in there else max(there) if max(there) > 0 else None


def best(evaluations: Sequence[Measured], alpha: float) -> Measured:
    """Of several measurements, oldest first, the one for this strength: all units before some, both arms before one."""
    having = [m for m in evaluations if alpha in m.alphas] or evaluations
    return max(enumerate(having), key=lambda n: (not n[1].smoke, -alpha in n[1].alphas, n[0]))[1]


def closest(evaluations: Sequence[Measured]) -> Measured:
    """Of several measurements at one budget, oldest first: all units before some, strengths that have it before others."""
    return max(enumerate(evaluations), key=lambda n: (not n[1].smoke, n[1].matched, n[0]))[1]


def _marked(lines: Sequence[Line]) -> list[Line]:
    """Lines of another strength than the table's, and of questions used before, say so in the label: it is there at any width."""
    usual = table_strengths(lines)

    def mark_of(x: Line) -> str:
        used = " (not held out)" if x.of.seen else ""
        if x.matched is not None:
            return used if x.matched else f" (unmatched){used}"
        return used if table_strengths([x]) == usual else f" ({table_strengths([x])}){used}"

    return [replace(x, label=x.label + mark_of(x)) for x in lines]


def table_strengths(lines: Sequence[Line]) -> str:
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
        lambda m: m.behavior or m.run,
        lambda m: f"s{m.seed}",
        lambda m: "as given" if m.budget is None else f"{m.budget:g} nat",
        lambda m: m.run.rsplit("-", 1)[-1],
    ):
        ids = {m.study: tuple(p) for m, p in zip(group, parts)}
        if len(set(ids.values())) < len(ids):
            parts = [[*p, str(more(m))] for m, p in zip(group, parts)]
    return [" ".join(p) for p in parts]
