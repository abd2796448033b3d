"""What was typed and cannot be read, in one sentence that says what can. Needs no torch."""

import re
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from ws.cli.catalogue import entry
from ws.cli.commands import COMMANDS

MOST_VERBS = 4
"""Verbs that are named as those that have an option."""


def no_such_verb(name: str) -> str:
    """That there is no such verb, and which one may be meant."""
    if name == "version":
        return "there is no verb 'version'; `ws --version` prints it"
    near = get_close_matches(name, COMMANDS, 1)
    return f"there is no verb {name!r}; {f'did you mean {near[0]}?' if near else '`ws --help` lists them'}"


def misread(error: Any, name: str | None) -> str:
    """What typer could not read, where `name` is the verb."""
    if name is None:
        return "a verb comes first: `ws --help` lists them"
    if name not in COMMANDS:
        return no_such_verb(name)
    kind, shown = type(error).__name__, f"`ws {name} --help` shows what it takes"
    if kind == "NoSuchOption":
        return f"ws {name} has no {error.option_name}{_hint(error.option_name, name)}"
    if kind == "MissingParameter":
        return f"ws {name} needs {', '.join(w.name.upper() for w in entry(name).words[:1])}; {shown}"
    if kind == "BadOptionUsage":
        return f"{error.option_name} {'needs a value' if 'requires' in error.message else 'takes no value'}; {shown}"
    if extra := re.search(r"extra argument\(s\) \((.*)\)$", error.message, re.S):
        return f"ws {name} has no use for {extra[1]!r}; {shown}"
    return f"{error.format_message().rstrip('.')}; {shown}"


def _hint(option: str, name: str) -> str:
    """What may be meant by an option that a verb does not have."""
    field, flags = option.lstrip("-").replace("-", "_"), [f.name for f in entry(name).flags]
    if re.match(r"-\.?\d", option) and "alphas" in flags:
        return "; a strength below 0 follows its option: --alphas=-1,0,1"
    others = [f"ws {verb}" for verb in COMMANDS if entry(verb).flag(field)]
    if others:
        return f"; {_listed(others)} {'has' if len(others) == 1 else 'have'} it"
    near = get_close_matches(field, flags, 1)
    return f"; did you mean --{near[0].replace('_', '-')}?" if near else f"; `ws {name} --help-all` lists what it has"


def _listed(verbs: Sequence[str]) -> str:
    """The first of these verbs, and how many more there are."""
    more = len(verbs) - MOST_VERBS
    return ", ".join(verbs[:MOST_VERBS]) + (f" and {more} more" if more > 0 else "")
