"""The items behind a number: which units moved most, and what was asked there, unsteered and steered side by side."""

import math
from dataclasses import dataclass

from ws.errors import BadFile
from ws.results.line import Line
from ws.results.measured import Measured
from ws.stats import Means, paired
from ws.types import Json

COSTS = frozenset({"neutral_nll", "nll_rise", "free_repeats", "free_loops", "free_unended", "answer_repeats"})
"""Metrics of damage: larger is worse at either end of the dial."""


@dataclass(frozen=True)
class Unit:
    """One sampled unit: its value of a metric at strength 0 and at another, and its rows."""

    unit_id: str
    before: float
    after: float
    rows: tuple[Json, ...]
    """row_key, prompt, wanted, unwanted, y at 0 (`before`) and at the strength (`after`), and thoughts where there are."""

    @property
    def change(self) -> float:
        return self.after - self.before


@dataclass(frozen=True)
class Choice:
    """Which units of an evaluation are looked at, and in which order."""

    metric: str
    alpha: float
    """The strength beside 0."""
    claimed: bool
    """Whether the behavior says which way the metric should move."""
    sign: int
    """The side on which units moved as they should."""


def choice(m: Measured, metric: str | None = None, alpha: float | None = None) -> Choice:
    """What to look at where not everything is named: the metric that is claimed, or the first; +1, or the largest strength."""
    line = Line(m, m.method, 0.0, None)
    claims = [x for x in line.metrics if line.intents.get(x)]
    metric = metric or (claims or list(line.metrics))[0]
    if alpha is None:
        alpha = 1.0 if 1.0 in m.alphas else max((a for a in m.alphas if a), key=abs)
    sign = -1 if metric in COSTS else (line.intents.get(metric, 0) or 1) * (1 if alpha > 0 else -1)
    return Choice(metric, alpha, bool(line.intents.get(metric)), sign)


def moved(m: Measured, *, alpha: float, metric: str, sign: int = 1) -> list[Unit]:
    """Units by what steering did to them, `sign` times the change; the least wanted first. Unscored units are left out."""
    if alpha not in m.alphas or not alpha:
        there = ", ".join(f"{a:+g}" for a in m.alphas if a)
        raise ValueError(f"{m.protocol.id} was not measured at alpha {alpha:g}; there are {there or 'none but 0'}")
    metrics = Line(m, m.method, alpha, None).metrics
    if metric not in metrics:
        raise ValueError(f"{m.protocol.id} has no metric {metric!r}; there are {', '.join(metrics)}")
    # of the rows scored at both, so that no unit moves because its rows changed
    low, high = paired([metrics[metric][a] for a in (0.0, alpha)])
    if not isinstance(low.statistic, Means):
        raise ValueError(f"{metric} is not a mean over units, so no unit has a value of it; name another metric")
    before, after = low.by_unit.each(), high.by_unit.each()
    rows = _rows(m, alpha, metric)
    units = [Unit(u, before[u], after[u], tuple(rows[u])) for u in after if u in before and u in rows]
    if not units:
        raise BadFile(f"no unit of {m.protocol.id} was scored both at 0 and at {alpha:g}.")
    return sorted(units, key=lambda u: (sign * u.change, u.unit_id))


def _rows(m: Measured, alpha: float, metric: str) -> dict[str, list[Json]]:
    """The rows of every unit, joined by key, those that moved most first."""
    rows = m.rows[m.rows["metric"] == metric] if metric in set(m.rows["metric"]) else m.rows
    keyed = [rows[rows["alpha"] == a].set_index("row_key") for a in (0.0, alpha)]
    after = keyed[1][["y", "text"]].rename(columns={"y": "y_after", "text": "text_after"})
    both = keyed[0].join(after, how="inner")
    if m.items is not None:
        both = both.join(m.items, how="left")
    by_unit: dict[str, list[Json]] = {}
    for key, r in both.iterrows():
        row = {"row_key": str(key), "before": float(r["y"]), "after": float(r["y_after"])}
        row |= {c: str(r[c]) for c in ("prompt", "wanted", "unwanted", "kind") if c in both and r[c]}
        if r["text"] or r["text_after"]:
            row |= {"text_before": str(r["text"]), "text_after": str(r["text_after"])}
        by_unit.setdefault(str(r["unit_id"]), []).append(row)
    for each in by_unit.values():
        each.sort(
            key=lambda t: (
                -abs(t["after"] - t["before"]) if math.isfinite(t["after"] - t["before"]) else 0.0,
                t["row_key"],
            )
        )
    return by_unit
