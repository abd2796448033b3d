"""Strengths against metrics: what `ws replicate` and `ws eval` print, and the same for a README."""

from collections.abc import Sequence

from ws.numbers import alpha_of, bar, between, digits_for, finite, share, signed
from ws.results.sheet import Sheet
from ws.types import Fields

Row = Fields
"""One metric of one protocol at one strength, as an evaluation summarises it."""


def sheet(rows: Sequence[Row], title: str) -> Sheet:
    """A line per metric and strength, with a bar from the middle."""
    protocols = list(dict.fromkeys(str(r["protocol"]) for r in rows))
    several = len(protocols) > 1  # one alone stands in the title, and leaves room for numbers
    groups = by_metric(rows)
    lines = []
    for group in groups:
        span = max((abs(r["mean"]) for r in group if finite(r["mean"])), default=0.0)
        digits = digits_for(*(r[k] for r in group for k in ("mean", "ci_lo", "ci_hi")))
        for at, r in enumerate(group):
            head = (r["protocol"], r["metric"]) if several else (r["metric"],)
            lines.append(
                (
                    *(h if at == 0 else "" for h in head),
                    alpha_of(r["alpha"]),
                    signed(r["mean"], digits),
                    between(r["ci_lo"], r["ci_hi"], digits),
                    share(r["pmass"]),
                    str(r["n"]),
                    bar(r["mean"], span),
                )
            )
    listed = [r for group in groups for r in group]
    return Sheet(
        title if several else ", ".join([title, *protocols]),
        "",
        (*(["protocol"] if several else []), "metric", "alpha", "mean", "95% interval", "pmass", "n", ""),
        tuple(lines),
        tuple(listed),
        words=("protocol", "metric", ""),
        faint=tuple(at for at, r in enumerate(listed) if r["alpha"] == 0),
    )


def markdown(rows: Sequence[Row]) -> str:
    """The same for a README, every number with two decimals."""
    lines = ["| protocol | metric | alpha | mean | 95 % interval | pmass | n |", "|---|---|---:|---:|---|---:|---:|"]
    for r in rows:
        cells = (r["protocol"], r["metric"], alpha_of(r["alpha"]), signed(r["mean"]), between(r["ci_lo"], r["ci_hi"]))
        lines.append(f"| {' | '.join(cells)} | {share(r['pmass'])} | {r['n']} |")
    return "\n".join(lines) + "\n"


def by_metric(rows: Sequence[Row]) -> list[list[Row]]:
    """The rows of each metric of a protocol, from the lowest strength to the highest."""
    groups: dict[tuple, list[Row]] = {}
    for r in rows:
        groups.setdefault((r["eval"], r["protocol"], r["metric"]), []).append(r)
    return [sorted(group, key=lambda r: r["alpha"]) for group in groups.values()]
