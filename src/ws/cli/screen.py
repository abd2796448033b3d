"""Printing: results on stdout, progress on stderr."""

import os
import re
import shlex
import sys
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ws.cli.fields import with_flags
from ws.progress import silent

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from ws.records import Record
    from ws.results.sheet import Sheet

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # but newline and tab


def say(line: str) -> None:
    """One line of progress, on stderr; nothing with --quiet."""
    if not silent():
        complain(line)


def complain(line: str) -> None:
    """What went wrong, on stderr."""
    print(line, file=sys.stderr, flush=True)


def say_stage(stage: str, record: "Record") -> None:
    """A stage that is done: whether it was reused or how long it took, and where it lies."""
    seconds = "reused" if record.reused else f"{record.manifest['seconds']:.1f} s"
    say(f"{stage:<18} {seconds:>8}  {record.folder}")


def safe_text(text: str) -> str:
    """Text of others: no markup, and nothing a terminal would obey."""
    from rich.markup import escape  # with 0.1 s, which `ws --version` need not spend

    return escape(CONTROL.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n")))


@dataclass(frozen=True)
class Screen:
    """Standard output, for people."""

    flags: Collection[str]
    """The fields that the verb has flags for."""

    def with_flags(self, message: str) -> str:
        """A message of the library, its fields as flags of the verb."""
        return with_flags(message, self.flags)

    def show(self, what: "RenderableType", *, file_width: int = 120) -> None:
        """Print text with markup, or a table: at the terminal's width, or wide enough to be whole in a file."""
        _console(file_width, soft_wrap=isinstance(what, str)).print(what)

    def sheet(self, sheet: "Sheet") -> None:
        """Print a table of results, and what it says below it: on a terminal as much as there is room for, in a file whole."""
        console = _console(sheet.width)
        table = sheet.rich(console.width, hint=", or --markdown" if "markdown" in self.flags else "")
        if table.title:  # which would be broken at the width of a narrow table
            self.show(f"[bold]{table.title}[/]")
        table.title = None
        console.print(table)
        self.points(line for line in (sheet.expected, *sheet.readings) if line)
        self.show("")

    def points(self, lines: Iterable[str]) -> None:
        """Print sentences, one beside each dot."""
        for line in lines:
            self.show(f"• {self.text(line)}")

    def next(self, *commands: Sequence[str]) -> None:
        """Print what may be typed next, each command as its words after `ws`."""
        lines = [safe_text(shlex.join(["ws", *words])) for words in commands]
        self.show("\nnext:  " + "\n       ".join(lines))

    def text(self, message: str) -> str:
        """A message of the library, as it is printed here."""
        return safe_text(self.with_flags(message))


def _console(file_width: int, *, soft_wrap: bool = False) -> "Console":
    from rich.console import Console

    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else file_width
    return Console(width=width, soft_wrap=soft_wrap, highlight=False)
