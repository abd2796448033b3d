"""The words and options of every verb, written down, so that help and completion wait for no import of torch.

`python docs/make_cli.py` writes the file beside this one from the settings themselves, and a test says when it is old.
"""

import inspect
import json
import re
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from typer.models import ArgumentInfo, OptionInfo

from ws.cli.commands import COMMANDS
from ws.cli.fields import flag_of
from ws.cli.options import SHARED, Verb, parameters
from ws.extensions import extensions, tolerated
from ws.settings import plain_type
from ws.types import Json

FILE = Path(__file__).parent / "catalogue.json"
GROUPS = {"adapters": "ws.adapters", "behaviors": "ws.behaviors", "evaluations": "ws.evals", "methods": "ws.methods"}
"""What has names in help texts, and the entry points by which other distributions add some."""
ANYWHERE = "Anywhere"
"""The panel of the options that every verb has."""
VALUES: dict[type, str] = {bool: "", int: "N", float: "X", str: "TEXT"}


@dataclass(frozen=True)
class Word:
    """A word that stands without a flag."""

    name: str
    text: str


@dataclass(frozen=True)
class Flag:
    """An option."""

    name: str
    """As a field, `n_topics`."""
    value: str
    """What follows it; nothing where it is on or off."""
    text: str
    panel: str
    """The settings that it belongs to, in words."""

    @property
    def flag(self) -> str:
        """As it is typed, --n-topics."""
        return flag_of(self.name)


@dataclass(frozen=True)
class Entry:
    """What a verb takes."""

    words: Sequence[Word]
    flags: Sequence[Flag]

    def flag(self, name: str) -> Flag | None:
        """The option of a field."""
        return next((f for f in self.flags if f.name == name), None)


def entry(name: str) -> Entry:
    """What a verb takes: as it is written down, or, of one that is not, as it says itself."""
    if name in _file()["verbs"]:
        return _read(_file(), name)
    return _read(_content({name: COMMANDS[name].verb()}), name)


def names(kind: str) -> list[str]:
    """The adapters, behaviors, evaluations or methods there are, also from other distributions."""
    shipped = _file()["names"][kind]
    with tolerated():  # a name that is taken twice is no reason to show no help
        return [*shipped, *extensions(GROUPS[kind], frozenset(shipped))]


def with_names(text: str) -> str:
    """A help text with the names there are in the place of `{adapters}`, `{behaviors}` or `{evaluations}`."""
    return re.sub(r"\{(adapters|behaviors|evaluations)\}", lambda m: ", ".join(names(m[1])), text)


def written(verbs: Mapping[str, Verb], shipped: Mapping[str, Sequence[str]]) -> str:
    """The text of the file."""
    return json.dumps({"names": shipped, **_content(verbs)}, indent=1, ensure_ascii=False) + "\n"


def _content(verbs: Mapping[str, Verb]) -> Json:
    """Options by the settings that they belong to, and of each verb its settings and what stands in none."""
    classes = dict.fromkeys(cls for verb in verbs.values() for cls in verb.settings)
    return {
        "settings": {cls.__name__: _flags(cls) for cls in classes},
        "verbs": {
            name: {"settings": [cls.__name__ for cls in verb.settings], **_own(verb)} for name, verb in verbs.items()
        },
    }


def _flags(cls: type) -> list[Json]:
    hints = typing.get_type_hints(cls)
    return [_flag(name, hints[name], _declared(p)) for name, p in parameters([cls]).items()]


def _own(verb: Verb) -> Json:
    """The words of a verb, its options beside its settings, and those that it does not list."""
    words, flags = [], []
    for name, (hint, declared) in {**verb.own, **SHARED}.items():
        if not isinstance(declared, OptionInfo):
            words.append({"name": declared.metavar or name.upper(), "text": declared.help or ""})
        else:
            flags.append(_flag(name, hint, declared, ANYWHERE if name in SHARED else "Of its own"))
    return {"words": words, "own": flags, "unlisted": list(verb.unlisted)}


def _flag(name: str, hint: object, declared: OptionInfo | ArgumentInfo, panel: str = "") -> Json:
    kind, many = plain_type(hint)
    value = VALUES.get(kind, "TEXT")
    text = declared.help or ""
    return {
        "name": name,
        "value": f"{value},..." if many else value,
        "text": text,
        "panel": panel or declared.rich_help_panel,
    }


def _declared(parameter: inspect.Parameter) -> OptionInfo | ArgumentInfo:
    return typing.get_args(parameter.annotation)[1]


def _read(content: Json, name: str) -> Entry:
    """A verb's words and options; of two options with one name, its own or the one of the first settings."""
    verb = content["verbs"][name]
    flags: dict[str, Flag] = {}
    for settings in verb["settings"]:
        for flag in content["settings"][settings]:
            flags.setdefault(flag["name"], Flag(**flag))
    flags |= {flag["name"]: Flag(**flag) for flag in verb["own"]}
    return Entry(
        [Word(**word) for word in verb["words"]], [f for f in flags.values() if f.name not in verb["unlisted"]]
    )


@cache
def _file() -> Json:
    return json.loads(FILE.read_text(encoding="utf-8"))
