"""A table as a value: cells for people, records for programs, and what it says. It does not know where numbers come from."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ws.results.tables import digits_for, signed
from ws.stats import Estimate, Interval

NO = "–"
WIDEST = 28  # characters of a cell; longer ones are folded
GAP = 2  # characters between columns


@dataclass(frozen=True)
class Sheet:
    """One table. Published columns stand first, in their order; ours to the right of them."""

    title: str
    expected: str
    """What a healthy table looks like, and what another means."""
    columns: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]
    records: tuple[Mapping[str, Any], ...]
    readings: tuple[str, ...] = ()
    words: tuple[str, ...] = ("method", "adapter", "Method", "metric", "behavior", "cue", "source")
    """Columns that hold words and are set flush left."""

    def rich(self, width: int):
        """For a terminal of so many characters: whole columns from the left, and a line that names those without room."""
        from rich.markup import escape
        from rich.table import Table

        # an interval, or a spread, stands below its number
        lines = [[x.replace(" [", "\n[").replace("±", "\n±") for x in line] for line in self.lines]
        cells = [max([0, *(min(len(p), WIDEST) for x in column for p in x.split("\n"))]) for column in zip(*lines)]
        cells = cells or [0] * len(self.columns)
        whole = [max(len(c), n) for c, n in zip(self.columns, cells)]
        folded = [max([n, *map(len, c.split())]) for c, n in zip(self.columns, cells)]  # headings on several lines
        needed = whole if sum(whole) + GAP * (len(whole) - 1) <= width else folded
        kept = max(1, sum(sum(needed[: k + 1]) + GAP * k <= width for k in range(len(needed))))
        lacking = ", ".join(self.columns[kept:])
        table = Table(
            title=escape(self.title), title_justify="left", title_style="bold", box=None, pad_edge=False,
            header_style="dim", caption_justify="left", caption_style="dim", padding=(0, GAP, 0, 0),
            caption=escape(f"no room at this width: {lacking}; widen the terminal, or --markdown") if lacking else None,
        )  # fmt: skip
        for c, n in list(zip(self.columns, needed))[:kept]:
            table.add_column(
                escape(c), justify="left" if c in self.words else "right", width=min(n, width), overflow="fold"
            )
        for line in lines:
            table.add_row(*map(escape, line[:kept]))
        return table

    def markdown(self) -> str:
        """For a README."""
        head = [f"**{self.title}**", "", "| " + " | ".join(self.columns) + " |"]
        head.append("|" + "|".join("---" if c in self.words else "---:" for c in self.columns) + "|")
        body = ["| " + " | ".join(x.replace("|", "\\|") for x in line) + " |" for line in self.lines]
        return "\n".join([*head, *body, "", *(f"- {r}" for r in (self.expected, *self.readings) if r), ""])


def with_interval(e: Estimate | Interval | None) -> str:
    """A number with its 95 % interval."""
    if e is None:
        return NO
    value, low, high = (e.mean, e.ci_lo, e.ci_hi) if isinstance(e, Estimate) else (e.value, e.low, e.high)
    if not math.isfinite(value):
        return NO
    n = digits_for(value, low, high)
    return signed(value, n) + (f" [{signed(low, n)}, {signed(high, n)}]" if math.isfinite(low) else "")


def flat(name: str, e: Estimate | Interval) -> dict[str, float]:
    """The same for a program."""
    value, low, high = (e.mean, e.ci_lo, e.ci_hi) if isinstance(e, Estimate) else (e.value, e.low, e.high)
    return {name: value, f"{name}_lo": low, f"{name}_hi": high}


def spread(values: Sequence[float]) -> str:
    """mean±sd over cells, which is how much they differ and no interval."""
    found = [v for v in values if math.isfinite(v)]
    if not found:
        return NO
    mean = sum(found) / len(found)
    sd = math.sqrt(sum((v - mean) ** 2 for v in found) / (len(found) - 1)) if len(found) > 1 else math.nan
    return signed(mean) + (f"±{sd:.2f}" if math.isfinite(sd) else "")


def p_value(p: float) -> str:
    """Three decimals; a p of many draws is never 0."""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def share(x: float | None) -> str:
    return NO if x is None or not math.isfinite(x) else f"{x:.3f}"
