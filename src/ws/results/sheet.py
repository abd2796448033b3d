"""A table as a value: cells for people, records for programs, and what it says. It does not know where numbers come from."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ws.types import Fields

if TYPE_CHECKING:
    from rich.table import Table

WIDEST = 28  # characters of a cell; longer ones are folded
GAP = 2  # characters between columns


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

    def rich(self, width: int, hint: str = "") -> "Table":
        """For a terminal of so many characters: whole columns from the left, and a line that names those without room.

        `hint` says what else helps then.
        """
        from rich.markup import escape
        from rich.table import Table

        # an interval, or a spread, stands below its number
        lines = [[x.replace(" [", "\n[").replace("±", "\n±") for x in line] for line in self.lines]
        cells = [max([0, *(min(len(p), WIDEST) for x in column for p in x.split("\n"))]) for column in zip(*lines)]
        cells = cells or [0] * len(self.columns)
        whole = [max(len(c), n) for c, n in zip(self.columns, cells)]
        folded = [max([n, *map(len, c.split())]) for c, n in zip(self.columns, cells)]  # headings on several lines
        needed = whole if sum(whole) + GAP * (len(whole) - 1) <= width else folded
        fitting = max(1, sum(sum(needed[: k + 1]) + GAP * k <= width for k in range(len(needed))))
        lacking = ", ".join(self.columns[fitting:])
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
            caption=escape(f"no room at this width: {lacking}; widen the terminal{hint}") if lacking else None,
        )
        for c, n in list(zip(self.columns, needed))[:fitting]:
            table.add_column(
                escape(c), justify="left" if c in self.words else "right", width=min(n, width), overflow="fold"
            )
        for at, line in enumerate(lines):
            style = "dim" if at in self.faint else "yellow" if at in self.marked else None
            table.add_row(*map(escape, line[:fitting]), style=style)
        return table

    def markdown(self) -> str:
        """For a README."""
        head = [f"**{self.title}**", "", "| " + " | ".join(self.columns) + " |"]
        head.append("|" + "|".join("---" if c in self.words else "---:" for c in self.columns) + "|")
        body = ["| " + " | ".join(x.replace("|", "\\|") for x in line) + " |" for line in self.lines]
        return "\n".join([*head, *body, "", *(f"- {r}" for r in (self.expected, *self.readings) if r), ""])
