"""Numbers from scored rows: the metrics a protocol makes of them, and the table of all.

Rows are the truth. Every table is computed again from them, joined by key and never by order. A metric is a number of
rows per strength (a `Sample`, see `ws.stats`): a mean over rows, or over what is put `together` of them, whose interval
resamples units. Rows that one strength lacks count as not scored there.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ws.eval.protocol import Metrics, Protocol
from ws.numbers import alpha_of, between, digits_for, signed
from ws.stats import FEW_UNITS, Estimate, Means, Sample, change, estimate, means
from ws.types import Json

if TYPE_CHECKING:
    import pandas as pd


def as_text(table: Sequence[Mapping[str, Any]]) -> str:
    """The records of a table as lines: a metric each, with its mean and interval at every strength."""
    lines: dict[str, list[str]] = {}
    for r in table:
        numbers = (r["mean"], r["ci_lo"], r["ci_hi"])
        n = digits_for(*numbers)
        number = f"{signed(r['mean'], n)} {between(r['ci_lo'], r['ci_hi'], n)} at {alpha_of(r['alpha'])}"
        lines.setdefault(f"{r['eval']} {r['metric']}", []).append(number)
    return "\n".join(f"{name}: {', '.join(parts)}" for name, parts in lines.items())


def summarize(protocol: Protocol, rows: "pd.DataFrame") -> list[Json]:
    """The table of a set of rows: one record per metric and alpha."""
    if len(ids := sorted(rows["protocol"].unique())) != 1:
        raise ValueError(f"rows of different protocols are not averaged: {ids}")
    method = ", ".join(sorted(rows["method"].unique()))
    pmass = rows.groupby("alpha")["pmass"].mean()
    table = []
    for metric, per_alpha in protocol.metrics(rows).items():
        low, high = min(per_alpha), max(per_alpha)
        ends = change(per_alpha[low], per_alpha[high]) if low < high else None
        zero = per_alpha.get(0.0)
        for alpha, sample in sorted(per_alpha.items()):
            e = estimate(sample)
            shift = change(zero, sample) if zero is not None and alpha else None
            table.append(
                {
                    "eval": protocol.eval,
                    "protocol": protocol.id,
                    "metric": metric,
                    "method": method,
                    "alpha": alpha,
                    **_numbers(e),
                    "sd": _spread(sample),
                    # against alpha 0, over the rows scored at both
                    "delta": None if shift is None else shift.mean,
                    "delta_lo": None if shift is None else shift.ci_lo,
                    "delta_hi": None if shift is None else shift.ci_hi,
                    "n_paired": None if shift is None else shift.n_valid,
                    "pmass": float(pmass.loc[alpha]),
                    "fewest": e.fewest,
                    "few_units": e.fewest < FEW_UNITS,
                    # from the lowest to the highest alpha, over the rows scored at both; the same in every row of a metric
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


def by_alpha(
    rows: "pd.DataFrame", column: str = "y", *, key: str = "row_key", weight: str | None = None
) -> dict[float, Sample]:
    """The mean of one column at every strength, every row of one weight or of its own."""
    return {
        float(a): means(
            part[column].tolist(),
            units=part["unit_id"].tolist(),
            keys=part[key].tolist(),
            weights=None if weight is None else part[[weight]].to_numpy(float),
        )
        for a, part in rows.groupby("alpha")
    }


def together(rows: "pd.DataFrame", by: Sequence[str], column: str = "y") -> "pd.Series":
    """The mean of the rows that share `by`, at every strength; NaN unless all that belong there were scored.

    Which belong there is known from all strengths. A mean of some of them would not cancel what their balance cancels.
    """
    refuse_repeats(rows)
    groups = rows.groupby(["alpha", *by])[column].agg(["mean", "count"])
    size = rows.groupby(list(by))["row_key"].nunique()
    whole = groups["count"].to_numpy() == size.reindex(groups.index.droplevel("alpha")).to_numpy()
    return groups["mean"].where(whole).rename(column)


def refuse_repeats(rows: "pd.DataFrame") -> None:
    """Refuse rows of which one stands twice at a strength, as where two methods are read as one."""
    twice = rows.loc[rows.duplicated(["alpha", "row_key"]), "row_key"].unique().tolist()
    if twice:
        raise ValueError(
            f"{len(twice)} row keys occur twice at one strength, e.g. {twice[:3]}; give one method and one seed at a time"
        )


def _spread(sample: Sample) -> float | None:
    """The standard deviation over rows of a number that is their mean."""
    if sample.statistic != Means():
        return None
    rows = sample.features[sample.scored]
    return float((rows[:, 0] / rows[:, 1]).std(ddof=1)) if len(rows) > 1 else None


def _numbers(e: Estimate) -> Json:
    return {"mean": e.mean, "ci_lo": e.ci_lo, "ci_hi": e.ci_hi, "n": e.n, "n_valid": e.n_valid, "n_total": e.n_total}
