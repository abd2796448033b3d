"""What the studies of a sweep say together: one number per behavior, family and metric, over seeds and items.

The number is how far a metric moves from the lowest to the highest strength, over the rows scored at both. It is read from the rows
that the studies wrote, never from what they printed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ws.errors import BadFile
from ws.eval import recorded
from ws.records import read, verify
from ws.stats import Estimate, OverSeeds, Sample, combined, estimate, over_seeds


@dataclass(frozen=True)
class Effect:
    """One metric of one family over all seeds."""

    model: str
    behavior: str | None
    adapter: str
    lr: float | None
    """Where the sweep has several; otherwise each study's own."""
    protocol: str
    metric: str
    sign: int
    """The side the behavior wants; 0 where it claims nothing."""
    seeds: tuple[int, ...]
    repeats: tuple[int, ...]
    """Seeds that gave a direction of another seed again; they are counted once."""
    alphas: tuple[tuple[float, float], ...]
    """The strengths it moves between, by seed."""
    each: tuple[Estimate, ...]
    """The same of every seed alone, with its interval over items."""
    over: OverSeeds

    @property
    def agree(self) -> int:
        """How many seeds moved as the behavior wants; where it claims nothing, as most did."""
        return sum(self.sign * x > 0 for x in self.over.each) if self.sign else self.over.same_sign

    def as_json(self) -> dict[str, Any]:
        """The effect as an object; NaN is None when it is written."""
        return {**asdict(self), "agree": self.agree, "spread": self.over.sd}


def effects(studies: Sequence[Mapping[str, Any]]) -> list[Effect]:
    """The effects of all studies that are done, in their order.

    A study has model, behavior, adapter, lr, seed, intent (metric to the side it wants) and evals (folders).
    """
    groups: dict[tuple, list[Mapping[str, Any]]] = {}
    for study in studies:
        groups.setdefault(tuple(study[k] for k in ("model", "behavior", "adapter", "lr")), []).append(study)
    made = []
    for (model, behavior, adapter, lr), group in groups.items():
        intent = group[0]["intent"]
        own, repeats = _apart([(s["seed"], _moved(s["evals"])) for s in group])
        for protocol, metric in dict.fromkeys(k for _, m in own for k in m):
            having = [(seed, m[protocol, metric]) for seed, m in own if (protocol, metric) in m]
            changes = [change for _, (_, change) in having]
            made.append(
                Effect(
                    model, behavior, adapter, lr, protocol, metric,
                    sign=intent.get(metric, 1 if metric == "logratio_pairs" else 0),
                    seeds=tuple(seed for seed, _ in having),
                    repeats=repeats,
                    alphas=tuple(ends for _, (ends, _) in having),
                    each=tuple(map(estimate, changes)),
                    over=over_seeds(changes),
                )
            )  # fmt: skip
    return made


Moved = tuple[tuple[float, float], Sample]
"""Two strengths, and the change between them."""

Moves = Mapping[tuple[str, str], Moved]
"""The same of every number of a study, by protocol and metric."""


def _apart(studies: Sequence[tuple[int, Moves]]) -> tuple[list[tuple[int, Moves]], tuple[int, ...]]:
    """(studies that differ in something, seeds of those that are one of them again).

    As several measurements they would agree, and mean nothing.
    """
    own: list[tuple[int, Moves]] = []
    repeats: list[int] = []
    for seed, moves in studies:
        if any(_same(moves, other) for _, other in own):
            repeats.append(seed)
        else:
            own.append((seed, moves))
    return own, tuple(repeats)


def _same(one: Moves, other: Moves) -> bool:
    """Whether every row of every number is the same."""
    return one.keys() == other.keys() and all(
        list(a.keys) == list(b.keys) and np.allclose(a.features, b.features, rtol=0, atol=1e-9, equal_nan=True)
        for (_, a), (_, b) in zip(one.values(), other.values())
    )


def _moved(folders: Sequence[str]) -> dict[tuple[str, str], Moved]:
    """How far every metric of one study moves, by protocol and metric."""
    import pandas as pd

    found: dict[tuple[str, str], Moved] = {}
    for folder in map(Path, folders):
        if (manifest := read(folder)) is None:
            raise BadFile(f"{folder} is gone since this sweep wrote it; give the same command again.")
        verify(folder, manifest)
        rows = pd.read_parquet(folder / "rows.parquet")
        rows = rows.sort_values(["unit_id", "row_key", "alpha"], ignore_index=True)
        protocol = recorded(str(rows["eval"].iloc[0]), str(rows["protocol"].iloc[0]))
        for metric, per_alpha in protocol.metrics(rows).items():
            low, high = min(per_alpha), max(per_alpha)
            if low < high:
                change = combined([(1.0, per_alpha[high]), (-1.0, per_alpha[low])])
                found[protocol.id, metric] = (low, high), change
    return found
