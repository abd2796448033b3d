"""A picture as a value: lines of dots with intervals, drawn as a file by `figures` and inside a page by `page`."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from ws.types import Fields, Json


@dataclass(frozen=True)
class Dot:
    """One point with the intervals of both numbers."""

    x: float
    y: float
    x_ends: tuple[float, float]
    y_ends: tuple[float, float]
    note: str
    """What it is, for whoever points at it."""


@dataclass(frozen=True)
class Line:
    """The dots of one arm, in the order in which they are joined."""

    name: str
    dots: tuple[Dot, ...]
    random: bool = False


@dataclass(frozen=True)
class Panel:
    """One picture of several lines."""

    title: str
    x: str
    y: str
    lines: tuple[Line, ...]
    start: tuple[float, float] | None = None
    """Where every line begins: the model that nothing steers."""
    limit: float | None = None
    """The x below which too much is lost."""
    origin: str = "not steered"
    """What the place is where lines begin."""
    digits: int = 1

    def as_json(self) -> Json:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Fields) -> "Panel":
        """The inverse of `as_json`."""
        lines = tuple(
            Line(
                line["name"],
                tuple(Dot(**{**d, "x_ends": _ends(d["x_ends"]), "y_ends": _ends(d["y_ends"])}) for d in line["dots"]),
                line["random"],
            )
            for line in value["lines"]
        )
        start = value["start"]
        return cls(**{**value, "lines": lines, "start": None if start is None else tuple(start)})


def _ends(values: Sequence[float | None]) -> tuple[float, float]:
    """The ends of an interval; JSON has no NaN, so one that is unknown was written as null."""
    low, high = (math.nan if v is None else v for v in values)
    return low, high
