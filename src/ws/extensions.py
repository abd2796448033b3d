"""Units that other distributions add, by entry points of four groups: `ws.adapters`, `ws.evals`, `ws.methods`, `ws.behaviors`.

    [project.entry-points."ws.adapters"]
    scale = "my_package.scale:FAMILY"

A name is listed without importing what stands behind it; that happens when it is asked for. docs/extending.md has one
complete example of each.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

from ws.errors import WsError

NOUNS = {
    "ws.adapters": "adapter",
    "ws.evals": "evaluation",
    "ws.methods": "method",
    "ws.behaviors": "behavior",
}

MEND = "mend that distribution, or uninstall it"

T = TypeVar("T")


@dataclass(frozen=True)
class Extension:
    """One name that a distribution adds."""

    noun: str
    entry: EntryPoint

    def __str__(self) -> str:
        return f"the {self.noun} {self.entry.name!r} of the distribution {_distribution(self.entry)!r}"

    def load(self, kind: type[T]) -> T:
        """The object behind the name, which must be of this kind."""
        try:
            unit = self.entry.load()
        except Exception as e:  # it is code of others, which may fail in any way
            raise self.unusable(f"cannot be imported ({_in_one_line(e)})") from e
        if not isinstance(unit, kind):
            raise self.unusable(f"is of type {type(unit).__name__} and not {kind.__name__}")
        return unit

    def folder(self) -> Path:
        """The folder of the package or module that it names."""
        try:
            spec = find_spec(self.entry.module)  # imports the parent of a dotted name, and nothing else
        except Exception as e:
            raise self.unusable(f"cannot be imported ({_in_one_line(e)})") from e
        if spec is None:
            raise self.unusable(f"names {self.entry.module}, which cannot be found")
        folders = list(spec.submodule_search_locations or ())
        return Path(folders[0]) if folders else Path(spec.origin or "").parent

    def unusable(self, why: str) -> WsError:
        """The error that says why it cannot be used, and what to do."""
        return WsError(f"{self} {why}; {MEND}.")


@cache
def listed(group: str, shipped: frozenset[str] = frozenset()) -> tuple[Mapping[str, Extension], tuple[str, ...]]:
    """(what other distributions add to a group, by name; sentences about those whose name is taken already)."""
    added: dict[str, Extension] = {}
    faults = []
    for entry in sorted(entry_points(group=group), key=lambda e: (e.name, _distribution(e))):
        extension = Extension(NOUNS[group], entry)
        if entry.name in shipped:
            faults.append(str(extension.unusable("has the name of one that ships with ws")))
        elif (other := added.get(entry.name)) is not None:
            faults.append(str(extension.unusable(f"has the same name as {other}")))
        else:
            added[entry.name] = extension
    return added, tuple(faults)


def extensions(group: str, shipped: frozenset[str] = frozenset()) -> Mapping[str, Extension]:
    """What other distributions add to a group, by name; a name that is taken already is refused, or left out if tolerated."""
    added, faults = listed(group, shipped)
    if faults and not _tolerances:
        raise WsError(faults[0])
    return added


_tolerances: list[None] = []


@contextmanager
def tolerated() -> Iterator[None]:
    """Inside the block a name that is taken twice is what ships with ws: for whoever only lists, or says what is wrong."""
    _tolerances.append(None)
    try:
        yield
    finally:
        _tolerances.pop()


class Registry(Mapping[str, T]):
    """Units by name: those that ship, then those that are added, which are imported when they are asked for."""

    def __init__(self, group: str, kind: type[T], shipped: Mapping[str, T]):
        self.group, self.kind, self.shipped = group, kind, shipped

    @property
    def added(self) -> Mapping[str, Extension]:
        """What other distributions add."""
        return extensions(self.group, frozenset(self.shipped))

    def __getitem__(self, name: str) -> T:
        added = self.added  # first, so that a name that is taken twice is always refused
        return self.shipped[name] if name in self.shipped else added[name].load(self.kind)

    def __contains__(self, name: object) -> bool:
        return name in self.shipped or name in self.added

    def __iter__(self) -> Iterator[str]:
        yield from self.shipped
        yield from self.added

    def __len__(self) -> int:
        return len(self.shipped) + len(self.added)


def _distribution(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else "unknown"


def _in_one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
