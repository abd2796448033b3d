"""A table as a value: cells for people, records for programs, and what it says. It does not know where numbers come from."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ws.types import Fields

if TYPE_CHECKING:
    from rich.table import Table

WIDEST = 30  # characters of a cell; longer ones are folded
GAP = 2  # characters between columns

INSIDE = re.compile(r" (?=\[)|(?<=\d)(?=±)")
"""Where a cell is broken: before its interval, or its spread."""


def _sum(widths: Sequence[int]) -> int:
    return sum(widths) + GAP * (len(widths) - 1)


@dataclass(frozen=True)
class Sheet:
    """One table. Published columns stand first, in their order; ours to the right of them."""

    title: str
    expected: str
    """A sentence on what a healthy table looks like, and what another one means."""
    columns: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]
    records: tuple[Fields, ...]
    readings: tuple[str, ...] = ()
    words: tuple[str, ...] = ("method", "adapter", "Method", "metric", "behavior", "cue", "source")
    """Columns that hold words and are set flush left."""
    faint: tuple[int, ...] = ()
    """Lines that others are set against."""
    marked: tuple[int, ...] = ()
    """Lines to be looked at twice."""
    spare: int = 0
    """So many columns at the right go before a cell is broken."""

    @classmethod
    def from_json(cls, table: Fields) -> "Sheet":
        """A table as it was before it was JSON."""
        lines = tuple(tuple(line) for line in table["lines"])
        listed = {k: tuple(table[k]) for k in ("columns", "records", "readings", "words", "faint", "marked")}
        return cls(table["title"], table["expected"], lines=lines, spare=int(table.get("spare", 0)), **listed)

    def rich(self, width: int, hint: str = "") -> "Table":
        """For a terminal of so many characters: whole columns from the left, and a line that names those without room.

        `hint` says what else helps then.
        """
        from rich.markup import escape
        from rich.table import Table

        lines = [list(line) for line in self.lines]
        needed = self._widths(lines)
        if _sum(needed[: len(needed) - self.spare]) > width:  # an interval, or a spread, then stands below its number
            lines = [[INSIDE.sub("\n", x) for x in line] for line in lines]
            needed = self._widths(lines)
            if _sum(needed) > width:
                needed = self._widths(lines, folded=True)
        fitting = max(1, sum(_sum(needed[: k + 1]) <= width for k in range(len(needed))))
        lacking = ", ".join(self.columns[fitting:])
        essential = len(needed) - fitting > self.spare
        caption = (
            f"no room at this width: {lacking}; widen the terminal{hint}"
            if essential
            else f"not shown at this width: {lacking}"
        )
        table = Table(
            title=escape(self.title) or None,
            title_justify="left",
            title_style="bold",
            box=None,
            pad_edge=False,
            header_style="dim",
            caption_justify="left",
            caption_style="dim",
            padding=(0, GAP, 0, 0),
            caption=escape(caption) if lacking else None,
        )
        for c, n in list(zip(self.columns, needed))[:fitting]:
            table.add_column(
                escape(c), justify="left" if c in self.words else "right", width=min(n, width), overflow="fold"
            )
        for at, line in enumerate(lines):
            style = "dim" if at in self.faint else "yellow" if at in self.marked else None
            table.add_row(*map(escape, line[:fitting]), style=style)
        return table

    @property
    def width(self) -> int:
        """The characters that all of it takes, nothing broken."""
        return max(_sum(self._widths(self.lines)), len(self.title))

    def _widths(self, lines: Sequence[Sequence[str]], *, folded: bool = False) -> list[int]:
        """The characters that each column takes; `folded` sets headings on several lines."""
        cells = [max([0, *(min(len(p), WIDEST) for x in column for p in x.split("\n"))]) for column in zip(*lines)]
        heads = [max(map(len, c.split()), default=0) if folded else len(c) for c in self.columns]
        return [max(pair) for pair in zip(heads, cells or [0] * len(heads))]

    def markdown(self) -> str:
        """For a README."""
        head = [f"**{self.title}**", "", "| " + " | ".join(self.columns) + " |"]
        head.append("|" + "|".join("---" if c in self.words else "---:" for c in self.columns) + "|")
        body = ["| " + " | ".join(x.replace("|", "\\|") for x in line) + " |" for line in self.lines]
        return "\n".join([*head, *body, "", *(f"- {r}" for r in (self.expected, *self.readings) if r), ""])
