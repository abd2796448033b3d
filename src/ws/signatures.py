"""Arguments of another type are refused in one sentence, where a traceback from far inside would say nothing."""

import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from numbers import Integral, Real
from pathlib import Path
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

WORDS: dict[object, str] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    Path: "a path",
    Callable: "a function",
    Mapping: "a mapping",
}


def plain_types(function: Callable[P, R]) -> Callable[P, R]:
    """The function, which refuses an argument that its annotation does not allow.

    Only what can be seen at a glance is looked at: classes, and the items of sequences. A whole number is a number.
    """
    signature = inspect.signature(function)
    hints: dict[str, object] = {}

    @wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        if not hints:
            hints.update(typing.get_type_hints(function))
        for name, value in signature.bind_partial(*args, **kwargs).arguments.items():
            several = signature.parameters[name].kind in (
                inspect.Parameter.VAR_KEYWORD,
                inspect.Parameter.VAR_POSITIONAL,
            )
            if not several and name in hints and not fits(value, hints[name]):
                raise TypeError(f"`{name}` of ws.{function.__name__} is {in_words(hints[name])}; got {_shown(value)}.")
        return function(*args, **kwargs)

    return checked


def fits(value: object, hint: object) -> bool:
    """Whether a value is of a type, as far as that can be seen at a glance."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, part) for part in parts)
    if origin is Sequence or origin is tuple:  # an array is one too
        if isinstance(value, (str, bytes, Mapping, type)) or getattr(value, "ndim", 1) == 0:  # one number in an array
            return False
        if not (hasattr(value, "__len__") and hasattr(value, "__getitem__")):
            return False
        return all(fits(item, parts[0]) for item in value)  # type: ignore[attr-defined]
    if hint in (int, float):
        return isinstance(value, Integral if hint is int else Real) and not isinstance(value, bool)
    kind = origin or hint
    return not isinstance(kind, type) or isinstance(value, kind)


def in_words(hint: object) -> str:
    """A type as people say it."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        words = list(dict.fromkeys(in_words(part) for part in parts if part is not type(None)))
        return ", ".join(words[:-1]) + (" or " if words[:-1] else "") + words[-1]
    if origin is Sequence or origin is tuple:
        return f"several in a list ({in_words(parts[0])})"
    kind = origin or hint
    name = str(getattr(kind, "__name__", kind))
    return WORDS.get(kind) or f"{'an' if name[0] in 'AEIOU' else 'a'} {name}"


def _shown(value: object) -> str:
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"
