"""The options of a verb, made from its settings so that none is declared twice, and what was typed, read back as these."""

import inspect
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from typer.models import ArgumentInfo, OptionInfo

from ws.cli.fields import flag_of, with_flags
from ws.cli.result import VerbResult
from ws.errors import BadFile
from ws.settings import coerced, field_docs, plain_type, value_of
from ws.sources import read_yaml
from ws.types import Json

S = TypeVar("S")

MAY_BE_EMPTY = ("system",)
"""Texts whose absence is another wish than the default."""
STUDY_WORDS = ("adapter", "seed")
"""Options of a study that some verbs take without the rest of its settings."""

Declared = tuple[object, OptionInfo | ArgumentInfo]
"""An option or a word that stands in no settings: its type, and typer's declaration of it."""

SHARED: dict[str, Declared] = {
    "json": (
        bool | None,
        typer.Option("--json", help="Print one JSON object on stdout; everything else goes to stderr."),
    ),
    "config": (str | None, typer.Option("--config", help="A YAML file whose keys are the option names; flags win.")),
    "quiet": (
        bool | None,
        typer.Option("--quiet", help="Say nothing while working: no progress and no notes; results and errors only."),
    ),
    "debug": (bool | None, typer.Option("--debug", help="Show the traceback of an error.")),
}

SEVERAL = {"alpha": "alphas", "seed": "seeds"}
"""One number, and several: a verb that has only one of the two understands the other."""
ELSEWHERE = {
    "alpha": "one strength is needed here",
    "seed": "a study has one, and `ws sweep --seeds 0,1` runs a study for each",
}
"""What to do with several numbers where a verb takes one."""


@dataclass(frozen=True)
class Options:
    """What was typed for a verb, or stands in its config file, as fields of its settings."""

    values: Mapping[str, Any]
    """Only what was typed or configured, as it came; `of` and `typed` give it types."""
    json: bool = False
    quiet: bool = False
    words: tuple[str, ...] = ()
    """Every word after `ws`, for a command that says how it is continued."""
    flags: frozenset[str] = frozenset()
    """The fields that the verb has flags for."""

    def with_flags(self, message: str) -> str:
        """A message of the library, its fields as flags of the verb."""
        return with_flags(message, self.flags)

    def of(self, settings: type[S]) -> S:
        """The settings of this class, with its defaults where nothing was typed."""
        return settings(**self.typed(settings))

    def typed(self, settings: type) -> Json:
        """The fields of this class that were typed."""
        return coerced(settings, self.values)

    def has(self, *names: str) -> bool:
        """Whether any of these was typed."""
        return any(name in self.values for name in names)

    def text(self, name: str) -> str | None:
        """A word or an option that holds text."""
        return self.values.get(name)

    def texts(self, name: str) -> list[str]:
        """Several words."""
        return list(self.values.get(name) or ())

    def flag(self, name: str) -> bool:
        """Whether an option that is on or off is on."""
        return bool(self.values.get(name))

    def words_for(self, verb: str, *, without: Collection[str] = ()) -> list[str]:
        """The same words for another verb, less how it prints and less these options."""
        left_out, words, skip = {"json", "quiet", "debug", *without}, [verb], False
        for word in self.words[1:]:
            flag, equals, _ = word.partition("=")
            name = flag.removeprefix("--").replace("-", "_")
            if skip:
                skip = False
            elif word.startswith("--") and name in left_out:
                skip = not equals and self.values.get(name, True) is not True
            else:
                words.append(word)
        return words

    def only(self, *names: str) -> Json:
        """Those of these that were typed, as they came."""
        return {name: self.values[name] for name in names if name in self.values}


@dataclass(frozen=True)
class Verb:
    """A verb: the function, and what its options are made from."""

    run: Callable[[Options], VerbResult]
    settings: tuple[type, ...] = ()
    own: Mapping[str, Declared] = field(default_factory=dict)
    """Options and words that stand in no settings."""
    unlisted: tuple[str, ...] = ()
    """Options that are understood, or refused in words of their own, and do nothing here; help leaves them out."""

    @property
    def fields(self) -> set[str]:
        """Everything that a config file may name."""
        return {f.name for cls in self.settings for f in fields(cls)} | set(self.own)

    @property
    def flags(self) -> frozenset[str]:
        """The fields that there are flags for, which words are not."""
        words = {name for name, (_, declared) in self.own.items() if not isinstance(declared, OptionInfo)}
        return frozenset((self.fields - words) | SHARED.keys() | self._synonyms.keys())

    def signature(self) -> inspect.Signature:
        """What typer reads: one keyword per option; every default is None, so that what was typed is known."""
        own = {**self.own, **SHARED}
        single = {name: _parameter(name, hint, declared) for name, (hint, declared) in own.items()}
        both = {**parameters(self.settings), **single}
        for name in {*SEVERAL, *SEVERAL.values()} & both.keys():  # as text, which may hold several numbers
            declared = typing.get_args(both[name].annotation)[1]
            both[name] = _parameter(name, str | None, declared)
        hidden = {n: _parameter(n, str | None, typer.Option(flag_of(n), hidden=True)) for n in self._synonyms}
        return inspect.Signature(list({**both, **hidden}.values()))

    @property
    def _synonyms(self) -> dict[str, str]:
        """The options that the verb does not have, to those that it has in their place: `alpha` to `alphas`, or back."""
        both = [*SEVERAL.items(), *((several, one) for one, several in SEVERAL.items())]
        return {other: own for other, own in both if own in self.fields and other not in self.fields}

    def options(self, typed: Mapping[str, Any], words: Sequence[str] = ()) -> Options:
        """What was typed, over what the config file says."""
        values = {k: v for k, v in typed.items() if v is not None}
        shared = {k: values.pop(k, None) for k in SHARED}
        config = _config(shared["config"], self.fields | self._synonyms.keys())
        values = self._without_synonyms({**config, **values})
        for name, (hint, declared) in self.own.items():  # a file holds "false" as text where somebody quoted it
            if name in values and isinstance(declared, OptionInfo):
                values[name] = value_of(hint, values[name], f"`{name}`")
        options = Options(
            values,
            json=bool(shared["json"]),
            quiet=bool(shared["quiet"]),
            words=tuple(words),
            flags=self.flags,
        )
        self._check(options)
        return options

    def _check(self, options: Options) -> None:
        """Refuse what no command can be asked, also in flags that this one happens not to look at."""
        for name, value in options.values.items():
            if isinstance(value, str) and not value.strip() and name not in MAY_BE_EMPTY:
                raise ValueError(f"`{name}` is empty; give a value, or leave it out")
        for settings in self.settings:
            options.of(settings)
        if alone := options.only(*(name for name in STUDY_WORDS if name in self.own)):
            study = import_module("ws.train").TrainSettings
            study(**coerced(study, alone))

    def _without_synonyms(self, values: Json) -> Json:
        """The values under the names that the verb has; several numbers are refused where it takes one."""
        typed = dict(zip(values, values))
        for other, own in self._synonyms.items():
            if other in values and own in values:
                raise ValueError(f"`{own}` and `{other}` say the same here; give one of them")
            if other in values:
                values[own], typed[own] = values.pop(other), other
        for one, several in SEVERAL.items():
            numbers = values.get(one)
            numbers = numbers.split(",") if isinstance(numbers, str) else numbers
            if isinstance(numbers, list) and not self._takes_several(one):
                if len(numbers) > 1:
                    way = f"several are `{several}`" if several in self.fields else ELSEWHERE[one]
                    raise ValueError(f"`{typed[one]}` holds {len(numbers)} numbers; {way}")
                values[one] = numbers[0]
        return values

    def _takes_several(self, name: str) -> bool:
        """Whether a field of the settings holds several values."""
        own = [cls for cls in self.settings if name in {f.name for f in fields(cls)}]
        return any(plain_type(typing.get_type_hints(cls)[name])[1] for cls in own)


def verb(
    *settings: type, unlisted: Sequence[str] = (), **own: Declared
) -> Callable[[Callable[[Options], VerbResult]], Verb]:
    """Makes a verb of a function; `own` are its options and words that stand in no settings."""
    return lambda run: Verb(run, settings, own, tuple(unlisted))


def parameters(settings: Sequence[type]) -> dict[str, inspect.Parameter]:
    """A parameter for every field, with the field's docstring as its help."""
    by_name: dict[str, inspect.Parameter] = {}
    for cls in settings:
        hints, docs = typing.get_type_hints(cls), field_docs(cls)
        for f in fields(cls):
            if f.name in by_name:
                continue
            kind, many = plain_type(hints[f.name])
            default = ",".join(f"{x:g}" for x in f.default) if many and f.default else f.default  # type: ignore[union-attr]
            tail = "" if default in (None, (), "") or kind is bool else f" (default: {default})"
            flag = flag_of(f.name)
            option = typer.Option(
                f"{flag}/--no-{flag[2:]}" if kind is bool and f.default is None else flag,
                help=docs.get(f.name, "") + tail,
                show_default=False,
                rich_help_panel=(cls.__doc__ or "").split(".")[0],
            )
            by_name[f.name] = _parameter(f.name, (bool if kind is bool else str if many else kind) | None, option)
    return by_name


def _parameter(name: str, hint: object, declared: OptionInfo | ArgumentInfo) -> inspect.Parameter:
    default = None if type(None) in typing.get_args(hint) else inspect.Parameter.empty
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[hint, declared]
    )


def _config(path: str | None, known: set[str]) -> Json:
    if path is None:
        return {}
    import yaml  # only where there is a file to read

    try:
        content = read_yaml(Path(path))
    except OSError:
        raise BadFile(f"there is no config file at {path}.") from None
    except UnicodeDecodeError:
        raise BadFile(f"{path} is not UTF-8 text.") from None
    except yaml.YAMLError as e:
        raise BadFile(f"{path} is not YAML: {' '.join(str(e).split())[:160]}") from None
    if not isinstance(content, dict):
        raise BadFile(f"{path} must be a mapping of option names to values.")
    values = {str(k).replace("-", "_"): v for k, v in content.items()}
    if len(values) < len(content):
        twice = next(k for k in values if sum(str(c).replace("-", "_") == k for c in content) > 1)
        raise BadFile(f"{path}: the key {twice!r} stands twice, with - and with _; keep one.")
    if unknown := sorted(values.keys() - known):
        near = [f"{k} (did you mean {n[0]}?)" if (n := get_close_matches(k, known, 1)) else k for k in unknown]
        raise BadFile(f"{path} has unknown keys: {', '.join(near)}. This command knows {', '.join(sorted(known))}.")
    return values
