"""Help: short, unless all of it is asked for. It reads the catalogue and imports no verb."""

from collections.abc import Sequence
from itertools import groupby

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ws.cli.catalogue import ANYWHERE, Entry, Flag, entry, with_names
from ws.cli.commands import COMMANDS, GROUPS

SHORT, WHOLE = ("-h", "--help"), "--help-all"
ASKED = (*SHORT, WHOLE)


def asks_for_help(words: Sequence[str]) -> bool:
    """Whether help is among the words; what stands behind `--` is somebody else's."""
    own = words[: words.index("--")] if "--" in words else words
    return any(word in ASKED for word in own)


def show_verbs() -> None:
    """Every verb with its summary, in groups."""
    console = _console()
    console.print("Usage: [bold]ws VERB [OPTIONS][/]\n".replace("[OPTIONS]", "\\[OPTIONS]"))
    console.print("Turn a behavior into a direction in weight space, and the dial by it.\n")
    console.print("Start with: [bold]ws replicate[/], then [bold]ws chat honesty[/]")
    for group, does in GROUPS.items():
        table = _rows()
        for name, command in COMMANDS.items():
            if command.group == group:
                table.add_row(Text(name, style="bold"), command.summary)
        console.print(f"\n{group}: {does}")
        console.print(table)
    console.print("\n[bold]ws VERB --help[/] shows examples, [bold]ws --version[/] the version.")


def show_verb(name: str, *, everything: bool) -> None:
    """What a verb does, two examples, and the options people type; or all of them."""
    console, command, known = _console(), COMMANDS[name], entry(name)
    console.print(Text(f"Usage: ws {name} {command.words}".rstrip() + " [OPTIONS]", style="bold"))
    console.print(Text(f"\n{command.summary}"))
    if command.examples:
        console.print("\nExamples")
        for example in command.examples:
            console.print(Text(f"  {example}"), soft_wrap=True)
    if known.words:
        table = _rows()
        for word in known.words:
            table.add_row(Text(word.name, style="bold"), Text(with_names(word.text)))
        console.print("")
        console.print(table)
    flags = known.flags if everything else _usual(known, command.usual)
    for panel, several in groupby(flags, lambda f: f.panel if everything else "Options"):
        table = _rows()
        for flag in several:
            table.add_row(Text(f"{flag.flag} {flag.value}".rstrip(), style="bold"), Text(with_names(flag.text)))
        console.print(f"\n{panel}")
        console.print(table)
    if len(flags) < len(known.flags):
        console.print(f"\nAll {len(known.flags)} options: [bold]ws {name} {WHOLE}[/]")


def _usual(known: Entry, names: Sequence[str]) -> list[Flag]:
    """The options people type; where a verb names none, all of its own."""
    usual = [flag for name in names if (flag := known.flag(name)) is not None]
    return usual or [flag for flag in known.flags if flag.panel != ANYWHERE]


def _rows() -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(min_width=11)
    table.add_column()
    table.pad_edge = False
    return table


def _console() -> Console:
    return Console(highlight=False)
