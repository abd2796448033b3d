"""Settings are frozen dataclasses with a docstring under each field; everything else is made from them.

The command line reads its options and help from here, and a YAML file's values take their types from here: YAML reads
`1e-4` as text, so a value becomes a number only through the field it is for.
"""

import ast
import inspect
import math
import reprlib
import textwrap
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from numbers import Real
from typing import Any

from ws.types import Json

MOST = 2**31 - 1
"""More is a slip of the finger: of rows, tokens, steps, seeds and threads nobody has so many."""


@dataclass(frozen=True)
class Range:
    """The numbers that a setting may be."""

    least: float
    most: float = MOST
    least_is_out: bool = False

    def refusal(self, value: object) -> str | None:
        """What a value must be, where it is not that."""
        if isinstance(value, bool) or not isinstance(value, Real) or math.isnan(value):
            return "be a number"
        low = value <= self.least if self.least_is_out else value < self.least
        if not low and float(value) <= self.most:
            return None
        if self.most < MOST:
            return f"lie between {self.least:g}{' (not 0 itself)' if self.least_is_out else ''} and {self.most:g}"
        return (
            f"be {'more than' if self.least_is_out else 'at least'} {self.least:g}"
            if low
            else f"be at most {self.most}"
        )

    def check(self, name: str, value: object) -> None:
        """Refuse a value of this name that lies outside."""
        if why := self.refusal(value):
            raise ValueError(f"`{name}` must {why}, got {value!r}")


def at_least(least: float) -> Range:
    """From this number on."""
    return Range(least)


def above(least: float, most: float = MOST) -> Range:
    """More than this number, and up to another."""
    return Range(least, most, least_is_out=True)


def refuse_outside(settings: object, **ranges: Range) -> None:
    """Refuse a field that is no number, or none of its range; None is what was not given. Several are each looked at."""
    for name, allowed in ranges.items():
        value = getattr(settings, name)
        for number in value if isinstance(value, tuple) else () if value is None else (value,):
            allowed.check(name, number)


@cache
def field_docs(cls: type) -> dict[str, str]:
    """The string under each field, by field name."""
    docs = {name: text for parent in cls.__bases__ if parent is not object for name, text in field_docs(parent).items()}
    tree = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    assert isinstance(tree, ast.ClassDef)
    for item, after in zip(tree.body, tree.body[1:]):
        match item, after:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                docs[name] = " ".join(text.split())
    return docs


def coerced(cls: type, values: Mapping[str, object], *, source: str = "") -> Json:
    """Values as the fields of `cls` want them; one that cannot be is an error naming field and source."""
    hints = typing.get_type_hints(cls)
    return {
        f.name: value_of(hints[f.name], values[f.name], f"{source}`{f.name}`") for f in fields(cls) if f.name in values
    }


def value_of(hint: Any, value: object, where: str) -> Any:
    """One value, typed: numbers from text, lists from comma-separated text."""
    kind, many = plain_type(hint)
    if value is None:
        if type(None) in typing.get_args(hint):
            return None
        raise ValueError(f"{where} is empty; leave the key out, or give a value")
    if many:
        parts = value.split(",") if isinstance(value, str) else value if isinstance(value, (list, tuple)) else [value]
        parts = [p.strip() if isinstance(p, str) else p for p in parts]
        if "" in parts and any(p != "" for p in parts):
            raise ValueError(f"{where} has nothing between two commas in {value!r}; leave out one of them")
        try:
            return tuple(_one(kind, p, where) for p in parts if p != "")
        except ValueError as e:
            raise ValueError(f"{e}; several are separated by commas") from None
    return _one(kind, value, where)


def plain_type(hint: Any) -> tuple[type, bool]:
    """(the type of a value, whether the field holds several of them)."""
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        hint = next(a for a in typing.get_args(hint) if a is not type(None))
    if typing.get_origin(hint) is tuple:
        return typing.get_args(hint)[0], True
    return hint, False


def brief(value: object) -> str:
    """A value as an error shows it, however long it is."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = short.maxlong = 120
    short.maxlevel = 3
    shown = short.repr(value)
    return shown if len(shown) <= 300 else f"{shown[:300]}..."


def _plain_number(value: object) -> object:
    """Text as Python reads numbers: with the minus of typesetters, which pages have, and without 1_0 for 10."""
    if not isinstance(value, str):
        return value
    if "_" in value:
        raise ValueError(value)
    return value.replace("\N{MINUS SIGN}", "-")


def _one(kind: type, value: object, where: str) -> Any:
    if kind is bool:
        if isinstance(value, bool):
            return value
        raise ValueError(f"{where} must be true or false, got {brief(value)}")
    if kind is str:
        if isinstance(value, bool):
            raise ValueError(f"{where} must be text, got {brief(value)}: quote it")
        return ",".join(map(str, value)) if isinstance(value, list) else str(value)
    try:
        number = kind(_plain_number(value))
    except (TypeError, ValueError):
        raise ValueError(
            f"{where} must be {'a whole number' if kind is int else 'a number'}, got {brief(value)}"
        ) from None
    if isinstance(value, bool) or (isinstance(value, float) and kind is int and value != number):
        raise ValueError(f"{where} must be a whole number, got {value!r}")
    if isinstance(number, float) and not math.isfinite(number):
        raise ValueError(f"{where} must be a finite number, got {brief(value)}")
    return number
