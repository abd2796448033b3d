"""Commands made from settings dataclasses, so that no option is declared twice."""

import inspect
import re
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.models import OptionInfo

from ws.cli.out import show_json
from ws.errors import BadFile
from ws.settings import field_docs, plain_type, value_of


def _options(classes: Sequence[type], own: dict[str, Any]) -> list[inspect.Parameter]:
    """One keyword parameter per field; every default is None, so that what was typed is known."""
    parameters: dict[str, inspect.Parameter] = {}
    for cls in classes:
        hints = typing.get_type_hints(cls)
        docs = helps(cls)
        for f in fields(cls):
            if f.name in parameters:
                continue
            kind, many = plain_type(hints[f.name])
            shown = ",".join(f"{x:g}" for x in f.default) if many and f.default else f.default  # type: ignore[union-attr]
            tail = "" if shown in (None, (), "") or kind is bool else f" (default: {shown})"
            option = typer.Option(
                _flag(f.name),
                help=docs.get(f.name, "") + tail,
                show_default=False,
                rich_help_panel=(cls.__doc__ or "").split(".")[0],
            )
            typed = bool if kind is bool else str if many else kind
            parameters[f.name] = inspect.Parameter(
                f.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[typed | None, option]
            )
    for name, (kind, declared) in own.items():
        option = copy(declared)
        option.help = with_names(declared.help or "")
        optional = type(None) in typing.get_args(kind)
        default = None if optional else inspect.Parameter.empty
        parameters[name] = inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option]
        )
    return list(parameters.values())


def helps(cls: type) -> dict[str, str]:
    """The help of every option that is made from a settings class."""
    return {name: with_names(text) for name, text in field_docs(cls).items()}


def with_names(text: str) -> str:
    """A help text with the names there are in the place of `{adapters}`, `{behaviors}` or `{evaluations}`."""
    return re.sub(r"\{(adapters|behaviors|evaluations)\}", lambda m: ", ".join(_names(m[1])), text)


def _names(kind: str) -> list[str]:
    """What there is of a kind, also from other distributions; imported here so that `ws --help` stays fast."""
    if kind == "adapters":
        from ws.adapters import FAMILIES

        return list(FAMILIES)
    return import_module({"behaviors": "ws.behaviors", "evaluations": "ws.eval"}[kind]).names()


SHARED: dict[str, Any] = {
    "json": (
        bool | None,
        typer.Option("--json", help="Print one JSON object on stdout; everything else goes to stderr."),
    ),
    "config": (str | None, typer.Option("--config", help="A YAML file whose keys are the option names; flags win.")),
    "debug": (bool | None, typer.Option("--debug", help="Show the traceback of an error.")),
}


@dataclass(frozen=True)
class Command:
    """A verb of the command line."""

    run: Callable[[dict[str, Any]], Any]
    """From the options that were typed to the object that `--json` prints."""
    settings: Callable[[], Sequence[type]] = lambda: ()
    """The settings its options are made from; a call, because most of them import torch."""
    own: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    """Options and arguments that stand in no settings: name to (type, typer's declaration)."""


def option_names(command: Command) -> set[str]:
    """The fields that a verb has options for."""
    options = {f.name for cls in command.settings() for f in fields(cls)} | SHARED.keys()
    return options | {name for name, (_, declared) in command.own.items() if isinstance(declared, OptionInfo)}


FIELD = re.compile(r"`([a-z][a-z0-9_]*)(?:=([^`]*))?`")


def with_flags(text: str, names: Collection[str]) -> str:
    """A message with the fields that it names in backticks, `n_topics` or `alphas=-1,1`, as flags of the command line.

    Library code knows fields and no command line; one that is no option of the verb stays as it is.
    """

    def spoken(field: re.Match[str]) -> str:
        name, value = field.groups()
        if name not in names:
            return field[0]
        return _flag(name) + ("" if value is None else f"={value}" if value.startswith("-") else f" {value}")

    return FIELD.sub(spoken, text)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def add_command(app: typer.Typer, name: str, command: Command, *, options: bool = True) -> None:
    """Register a verb: options from its settings, a config file under them, JSON on request. Without `options` only its name."""
    if not options:
        app.command(name, help=command.run.__doc__)(lambda: None)
        return
    classes, own = command.settings(), dict(command.own)

    def body(**typed: Any) -> None:
        given = {k: v for k, v in typed.items() if v is not None}
        known = {f.name for cls in classes for f in fields(cls)} | set(own)
        found = _config(given.pop("config", None), known)
        for k, (kind, _) in own.items():  # a file holds "false" as text where somebody quoted it
            if k in found and plain_type(kind)[0] in (bool, int, float, str):
                found[k] = value_of(kind, found[k], f"`{k}`")
        given = {**found, **given}
        given.pop("debug", None)
        found = command.run(given)
        if given.get("json"):
            show_json(found)

    body.__name__ = name
    body.__doc__ = command.run.__doc__
    body.__signature__ = inspect.Signature(_options(classes, {**own, **SHARED}))  # type: ignore[attr-defined]
    app.command(name)(body)


def _config(path: str | None, known: set[str]) -> dict[str, Any]:
    if path is None:
        return {}
    import yaml

    try:
        found = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError:
        raise BadFile(f"there is no config file at {path}.") from None
    except yaml.YAMLError as e:
        raise BadFile(f"{path} is not YAML: {' '.join(str(e).split())[:160]}") from None
    if not isinstance(found, dict):
        raise BadFile(f"{path} must be a mapping of option names to values.")
    found = {str(k).replace("-", "_"): v for k, v in found.items()}
    if unknown := sorted(found.keys() - known):
        near = [f"{k} (did you mean {n[0]}?)" if (n := get_close_matches(k, known, 1)) else k for k in unknown]
        raise BadFile(f"{path} has unknown keys: {', '.join(near)}. This command knows {', '.join(sorted(known))}.")
    return found
