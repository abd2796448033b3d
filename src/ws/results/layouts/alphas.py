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
    lines, listed, faint = list[tuple[str, ...]](), list[Row](), list[int]()
    for group in groups:
        values = [r["mean"] for r in group if finite(r["mean"])]
        span = max((abs(x) for x in values), default=0.0) if len({*values}) > 1 else 0.0  # a bar shows a difference
        digits = _digits(group)
        shown, strengths = (
            (group, []) if len(group) < 2 or not _same(group) else (group[:1], [r["alpha"] for r in group])
        )
        for at, r in enumerate(shown):
            head = (r["protocol"], r["metric"]) if several else (r["metric"],)
            if r["alpha"] == 0 and not strengths:
                faint.append(len(lines))
            lines.append(
                (
                    *(h if at == 0 else "" for h in head),
                    f"{alpha_of(strengths[0])}…{alpha_of(strengths[-1])}" if strengths else alpha_of(r["alpha"]),
                    signed(r["mean"], digits),
                    between(r["ci_lo"], r["ci_hi"], digits),
                    share(r["pmass"]),
                    str(r["n"]),
                    bar(r["mean"], span) if finite(r["ci_lo"]) else "",
                )
            )
        listed += group
    return Sheet(
        title if several else ", ".join([title, *protocols]),
        "",
        (*(["protocol"] if several else []), "metric", "alpha", "mean", "95% interval", "pmass", "n", ""),
        tuple(lines),
        tuple(listed),
        words=("protocol", "metric", ""),
        faint=tuple(faint),
    )


def markdown(rows: Sequence[Row]) -> str:
    """The same for a README, with the same decimals."""
    lines = ["| protocol | metric | alpha | mean | 95 % interval | pmass | n |", "|---|---|---:|---:|---|---:|---:|"]
    digits = {id(r): _digits(group) for group in by_metric(rows) for r in group}
    for r in rows:
        n = digits[id(r)]
        number = signed(r["mean"], n), between(r["ci_lo"], r["ci_hi"], n)
        cells = (r["protocol"], r["metric"], alpha_of(r["alpha"]), *number)
        lines.append(f"| {' | '.join(cells)} | {share(r['pmass'])} | {r['n']} |")
    return "\n".join(lines) + "\n"


def _digits(group: Sequence[Row]) -> int:
    """Decimals for the numbers of one metric."""
    return digits_for(*(r[k] for r in group for k in ("mean", "ci_lo", "ci_hi")))


def _same(group: Sequence[Row]) -> bool:
    """Whether a metric is 0 at every strength, so that one line says it all."""
    return all(r[k] == 0 for r in group for k in ("mean", "ci_lo", "ci_hi"))


def by_metric(rows: Sequence[Row]) -> list[list[Row]]:
    """The rows of each metric of a protocol, from the lowest strength to the highest."""
    groups: dict[tuple, list[Row]] = {}
    for r in rows:
        groups.setdefault((r["eval"], r["protocol"], r["metric"]), []).append(r)
    return [sorted(group, key=lambda r: r["alpha"]) for group in groups.values()]
