"""A direction as it is named on the command line: as a word, by --direction or by --run, which all take the same."""

from pathlib import Path

import typer

from ws.cli.options import Declared, Options
from ws.diff import lookup
from ws.diff.lookup import NamedDirection

WAYS = "a run by name or the beginning of one, a folder, a direction.safetensors, a peft adapter or a hub id"
PLACE: Declared = (str | None, typer.Argument(metavar="[DIRECTION]", help=f"What steers: {WAYS}."))
DIRECTION: Declared = (str | None, typer.Option("--direction", help=f"The same as an option: {WAYS}."))
RUN: Declared = (str | None, typer.Option("--run", help="The same as an option."))


def words_of(folder: Path, out: Path | str) -> list[str]:
    """The words that name what lies in a folder: a run by its name, anything else by its path."""
    if not (folder / "train").is_dir():
        return [str(folder)]
    return [folder.name, *(["--out", str(out)] if str(out) != "out" else [])]


def name_of(options: Options) -> str | None:
    """What was typed for a direction, which is named once."""
    names = options.only("place", "direction", "run")
    if len(names) > 1:
        raise ValueError(f"one direction is named once; got {' and '.join(map(str, names.values()))}")
    return next(iter(names.values()), None)


def places_of(options: Options, out: str) -> dict[str, NamedDirection]:
    """Where the directions lie that were typed, by what was typed; one that is named twice would be two dials of one thing."""
    places: dict[str, NamedDirection] = {}
    for text in [*options.texts("places"), *options.only("direction", "run").values()]:
        place = lookup(text, out)
        if (twin := next((t for t, p in places.items() if p.file.resolve() == place.file.resolve()), None)) is not None:
            both = f"{text} stands there twice" if text == twin else f"{twin} and {text} are the same direction"
            raise ValueError(f"{both}; name it once")
        places[text] = place
    return places
