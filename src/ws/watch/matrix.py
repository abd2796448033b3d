"""Every fine-tune against every direction, each cosine beside its nulls, its ceiling and the alarm."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from ws.errors import DirectionMismatch
from ws.models.checkpoint import Theta
from ws.numbers import finite
from ws.types import Json
from ws.watch.alarm import Against
from ws.watch.angles import Angles, angles
from ws.watch.changes import Change
from ws.watch.nulls import RANDOM, Watched

SCOPES = ("layer", "kind")


@dataclass(frozen=True)
class Angle:
    """One fine-tune against one direction."""

    name: str
    direction: str
    cos: float
    alphas: float
    """`<tau, w> / |w|^2`: how many alphas of the direction the fine-tune has moved."""
    norm: float
    start: str
    """shared, independent or none: whether both began at one start."""
    same_data: bool
    is_control: bool
    """Whether it was trained on the very pairs of a control, which is then none to it."""
    against: Against
    ceiling: float | None
    """The cosine of the same data trained twice, with a start that is shared or not as here."""
    parts: Mapping[str, Mapping[str, Json]] = field(default_factory=dict, repr=False)
    """Scope and group to cos, random_sd, alphas, norm, share and share_of_direction there."""

    @property
    def z(self) -> float | None:
        """Standard deviations above the permuted labels."""
        return self.against.z(self.cos)

    @property
    def alarm(self) -> bool | None:
        """What the rule says; None where a null is missing."""
        return self.against.alarm(self.cos)

    def as_json(self) -> Json:
        """For a program."""
        a = self.against
        return {
            **{k: getattr(self, k) for k in ("name", "direction", "cos", "z", "alarm", "alphas", "norm", "start")},
            "same_data": self.same_data,
            "is_control": self.is_control,
            "permuted": list(a.permuted),
            "random": list(a.random),
            "control": a.control,
            "ceiling": self.ceiling,
            **{scope: dict(groups) for scope, groups in self.parts.items()},
        }


def matrix(
    changes: Sequence[Change], directions: Sequence[Watched], base: Theta, *, draws: int = RANDOM, seed: int = 0
) -> list[Angle]:
    """All angles, a direction after the other."""
    twins = [twin for w in directions for twin in w.twin_changes]
    nulls = [null for w in directions for null in (*w.permuted, *w.controls)]
    own = [w.direction for w in directions]
    table = angles([*changes, *twins], [*own, *nulls], base, draws=draws, like=len(own), seed=seed)
    reader = _Reader(table, changes, directions)
    return [reader.angle(i, j) for j in range(len(directions)) for i in range(len(changes))]


class _Reader:
    """Reads angles off the tables: rows are changes, then twins; columns are directions, then their nulls."""

    def __init__(self, table: Angles, changes: Sequence[Change], directions: Sequence[Watched]):
        self.table, self.changes, self.directions = table, changes, directions
        self.cos, self.alphas = table.cos()["all"], table.projection()["all"]
        self.random, self.norms = table.random_cos(), table.norms()["all"]
        self.parts = {s: _Parts(table, s) for s in SCOPES}
        self.nulls = _places([len(w.permuted) + len(w.controls) for w in directions], len(directions))
        self.twins = _places([len(w.twin_changes) for w in directions], len(changes))

    def angle(self, i: int, j: int) -> Angle:
        change, w = self.changes[i], self.directions[j]
        start, n = self.table.mode(i, j), len(w.permuted)
        own = [c.pairs is not None and c.pairs == change.pairs for c in w.controls]
        there = [k for k, same in zip(self.nulls[j][n:], own) if not same]
        controls = [float(self.cos[i, k]) for k in there if self.table.mode(i, k) == start]
        drawn = self.random["all"][i, j] if self.random else ()
        return Angle(
            change.name,
            w.direction.name,
            float(self.cos[i, j]),
            float(self.alphas[i, j]),
            float(self.norms[i]),
            start,
            change.pairs is not None and change.pairs == w.direction.pairs,
            any(own),
            Against(tuple(self._permuted(i, j, start)), tuple(map(float, drawn)), max(controls, default=None)),
            self._ceiling(i, j, start),
            {scope: parts.of(i, j) for scope, parts in self.parts.items()},
        )

    def _permuted(self, i: int, j: int, start: str) -> list[float]:
        """Cosines with the permuted directions, which must share their start with the fine-tune as the direction does."""
        w, places = self.directions[j], self.nulls[j][: len(self.directions[j].permuted)]
        fit = [k for k in places if self.table.mode(i, k) == start]
        if places and not fit:
            raise DirectionMismatch(
                f"{self.changes[i].name} and {w.direction.name} have {_in_words(start)}, and the permuted directions have "
                "not: cosines are comparable only with nulls of the same initialisation mode. Train them as the direction "
                "was, e.g. with `make_nulls`."
            )
        return [float(self.cos[i, k]) for k in fit]

    def _ceiling(self, i: int, j: int, start: str) -> float | None:
        twins, kind = self.directions[j].twins, "shared" if start == "shared" else "independent"
        if kind not in twins:
            return None
        at = self.twins[j][2 * list(twins).index(kind) + int(self.changes[i].is_direction)]
        return float(self.cos[at, j])


def _places(sizes: Sequence[int], first: int) -> list[range]:
    """Where groups of these sizes lie, one behind the other."""
    ends = [first, *(first + sum(sizes[: k + 1]) for k in range(len(sizes)))]
    return [range(a, b) for a, b in pairwise(ends)]


class _Parts:
    """The numbers of a scope, group by group."""

    def __init__(self, table: Angles, scope: str):
        self.cos, self.alphas, self.norms = table.cos(scope), table.projection(scope), table.norms(scope)
        (self.share, self.column_share), self.random = table.shares(scope), table.random_cos(scope)

    def of(self, i: int, j: int) -> dict[str, Json]:
        groups = {}
        for g in sorted(self.cos, key=lambda g: (not g.isdigit(), int(g) if g.isdigit() else 0, g)):
            drawn = self.random[g][i, j] if g in self.random else None
            numbers = {
                "cos": float(self.cos[g][i, j]),
                "random_sd": float(drawn.std()) if drawn is not None and drawn.numel() > 1 else math.nan,
                "alphas": float(self.alphas[g][i, j]),
                "norm": float(self.norms[g][i]),
                "share": float(self.share[g][i]),
                "share_of_direction": float(self.column_share[g][j]),
            }
            groups[g] = {k: v if finite(v) else None for k, v in numbers.items()}
        return groups


def _in_words(start: str) -> str:
    return {"shared": "one start", "independent": "starts of their own"}.get(start, "no start that shows")
