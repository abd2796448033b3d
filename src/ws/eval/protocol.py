"""What an evaluation is: items to score, and metrics made from the scored rows.

Rows are the truth. Every table is computed again from them, joined by key and never by order. A metric is a list of
groups per strength (see `ws.stats`), so its interval resamples what was sampled.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ws.eval.scoring import Dial, Item, score
from ws.models.load import Base
from ws.stats import FEW_UNITS, Estimate, Group, change, estimate

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "eval", "protocol", "metric", "unit_id", "row_key", "method", "alpha", "arm", "seed", "y", "logratio", "pmass",
    "label", "forced_close", "text", "kind",
)  # fmt: skip
YES_NO = (("yes",), ("no",))

Metrics = Mapping[str, Mapping[float, Sequence[Group]]]
"""Metric to strength to the groups whose weighted means are the number."""


@dataclass(frozen=True)
class Protocol:
    """One pinned way of asking and counting; its id stands in every row."""

    eval: str
    id: str
    metric: str
    """What `y` of a row is called."""
    items: Callable[[Base, "str | None"], list[Item]]
    """(base, data file or None) -> the items."""
    metrics: Callable[["pd.DataFrame"], Metrics]
    legend: Mapping[str, str]
    """What a larger number of each metric means."""
    gate: float = 0.0
    """Rows whose pmass is below become NaN, and are counted."""


@dataclass(frozen=True, eq=False)
class Result:
    """Scored rows with the protocol they follow."""

    protocol: Protocol
    rows: "pd.DataFrame"
    note: Mapping[str, Any]

    def table(self) -> list[dict[str, Any]]:
        """One record per metric and alpha: mean, interval, pmass, counts."""
        return summarize(self.protocol, self.rows)


def run(
    base: Base,
    protocol: Protocol,
    *,
    alphas: Sequence[float] = (0.0,),
    dial: Dial | None = None,
    method: str = "base",
    seed: int = 0,
    data: str | None = None,
    limit: int | None = None,
) -> Result:
    """Score a protocol at every alpha."""
    import pandas as pd

    from ws.eval.scoring import proven

    items = protocol.items(base, data)
    if limit is not None:
        units = list(dict.fromkeys(i.unit_id for i in items))[:limit]
        items = [i for i in items if i.unit_id in set(units)]
    alphas = sorted({0.0, *map(float, alphas)})  # 0 is the reference of every other strength
    scored = score(base, items, alphas=alphas, dial=dial, label=protocol.eval)
    records = []
    for item, per_alpha in zip(items, scored):
        for alpha, s in zip(alphas, per_alpha):
            valid = s.pmass >= protocol.gate
            records.append(
                {
                    "eval": protocol.eval,
                    "protocol": protocol.id,
                    "metric": protocol.metric,
                    "unit_id": item.unit_id,
                    "row_key": item.row_key,
                    "method": method,
                    "alpha": alpha,
                    "arm": "ref" if alpha == 0 else "pos" if alpha > 0 else "neg",
                    "seed": seed,
                    "y": item.label * s.logratio if valid else float("nan"),
                    "logratio": s.logratio,
                    "pmass": s.pmass,
                    "label": item.label,
                    "forced_close": False,
                    "text": "",
                    "kind": item.kind,
                }
            )
    note = {
        "answers": proven(base, items[0]).described(base.tokenizer),
        "anchor": items[0].anchor,
        "n_items": len(items),
    }
    return Result(protocol, pd.DataFrame.from_records(records, columns=list(COLUMNS)), note)


def summarize(protocol: Protocol, rows: "pd.DataFrame") -> list[dict[str, Any]]:
    """The table of a set of rows: one record per metric and alpha."""
    if len(ids := sorted(rows["protocol"].unique())) != 1:
        raise ValueError(f"rows of different protocols are not averaged: {ids}")
    method = ", ".join(sorted(rows["method"].unique()))
    pmass = rows.groupby("alpha")["pmass"].mean()
    table = []
    for metric, per_alpha in protocol.metrics(rows).items():
        low, high = min(per_alpha), max(per_alpha)
        ends = change(per_alpha[low], per_alpha[high]) if low < high else None
        for alpha, groups in sorted(per_alpha.items()):
            e = estimate(groups)
            table.append(
                {
                    "eval": protocol.eval,
                    "protocol": protocol.id,
                    "metric": metric,
                    "method": method,
                    "alpha": alpha,
                    **_numbers(e),
                    "pmass": float(pmass.loc[alpha]),
                    "few_units": e.fewest < FEW_UNITS,
                    # from the lowest to the highest alpha, paired by unit; the same in every row of a metric
                    "ends": None if ends is None else ends.mean,
                    "ends_lo": None if ends is None else ends.ci_lo,
                    "ends_hi": None if ends is None else ends.ci_hi,
                }
            )
    return table


def plain(name: str) -> Callable[["pd.DataFrame"], Metrics]:
    """Metrics of a protocol whose only number is the mean of `y`."""

    def metrics(rows: "pd.DataFrame") -> Metrics:
        return {name: by_alpha(rows)}

    return metrics


def by_alpha(rows: "pd.DataFrame", column: str = "y") -> dict[float, list[Group]]:
    """One group per strength, of one column of rows."""
    return {float(a): [Group(part[column].tolist(), part["unit_id"].tolist())] for a, part in rows.groupby("alpha")}


def _numbers(e: Estimate) -> dict[str, Any]:
    return {"mean": e.mean, "ci_lo": e.ci_lo, "ci_hi": e.ci_hi, "n": e.n, "n_valid": e.n_valid, "n_total": e.n_total}
