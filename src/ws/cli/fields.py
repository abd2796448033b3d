"""Fields of settings, which the library names in backticks, as flags of the command line."""

import re
from collections.abc import Collection

FIELD = re.compile(r"`([a-z][a-z0-9_]*)(?:=([^`]*))?`")


def with_flags(text: str, names: Collection[str]) -> str:
    """A message with the fields that it names in backticks, `n_topics` or `alphas=-1,1`, as flags of the command line.

    Library code knows fields and no command line; one that is no option of the verb stays as it is.
    """

    def spoken(field: re.Match[str]) -> str:
        name, value = field.groups()
        if name not in names:
            return field[0]
        return flag_of(name) + ("" if value is None else f"={value}" if value.startswith("-") else f" {value}")

    return FIELD.sub(spoken, text)


def flag_of(name: str) -> str:
    """The flag of a field: `n_topics` is --n-topics."""
    return "--" + name.replace("_", "-")
