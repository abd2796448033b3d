"""One method over its seeds or draws: numbers over units and seeds. It knows records and rows, and no grid.

    Trial     one method with one seed, measured at two strengths by one or more evaluations
    Trials    the same method with other seeds; of something random, other draws of it

A method's arms are its two strengths. The axis is half the difference between them, so that what both do alike (plain
damage, a liking for Yes) cancels. Differences are paired by row.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ws.errors import BadFile
from ws.eval.protocol import Metrics
from ws.results.measured import Measured, measured
from ws.stats import OverSeeds, Sample, combined, over_seeds
from ws.types import Fields, Json

if TYPE_CHECKING:
    import pandas as pd

Failures = Mapping[str, Mapping[str, str]]
"""Method to trial to why it could not be made."""

ALIKE = 1e-4  # nats between two readings of one method whose sums ran in another order


@dataclass(frozen=True, eq=False)
class Trial:
    """One method with one seed, as it was measured."""

    record: Fields
    """asked (the method by name), kin (the same without its draw), control, places, kind, seed, strength; and what else is known."""
    evals: Mapping[str, Measured]
    """Evaluation to its rows."""

    @property
    def method(self) -> str:
        """The method by the name it was asked for."""
        return str(self.record["asked"])

    @property
    def seed(self) -> int:
        return int(self.record["seed"])

    @property
    def control(self) -> bool:
        """Whether it is a draw of something random."""
        return bool(self.record["control"])

    @property
    def neg(self) -> float:
        """The lower of its two strengths."""
        return float(self.record["strength"]["neg"])

    @property
    def pos(self) -> float:
        """The upper one."""
        return float(self.record["strength"]["pos"])

    def point(self, alpha: float) -> Fields:
        """One strength: its KL and whether that is the budget."""
        return next(p for p in self.record["strength"]["points"] if p["alpha"] == alpha)

    @property
    def verdicts(self) -> tuple[str, str]:
        """Of neg and pos: matched, unmatched (why), or as given."""
        return self.point(self.neg)["verdict"], self.point(self.pos)["verdict"]

    @property
    def matched(self) -> bool:
        """Whether both strengths have the budget, and other prompts agree."""
        return self.verdicts == ("matched", "matched")

    def calibration(self, out: Path) -> Json | None:
        """The search for its strengths, or None where they were given."""
        where = self.record["calibration"]
        return None if where is None else json.loads((out / where / "calibration.json").read_text())

    @cached_property
    def _metrics(self) -> dict[str, Metrics]:
        return {}

    def metrics(self, name: str) -> Metrics:
        """Every metric of one evaluation."""
        if name not in self._metrics:
            self._metrics[name] = self.evals[name].protocol.metrics(self.evals[name].rows)
        return self._metrics[name]

    def moved(self, name: str, metric: str, alpha: float) -> Sample:
        """The change of a metric from strength 0 to another."""
        per_alpha = self.metrics(name)[metric]
        return combined([(1.0, per_alpha[alpha]), (-1.0, per_alpha[0.0])])

    def way(self, name: str, metric: str) -> Sample:
        """The change of a metric from the lower strength to the upper one."""
        per_alpha = self.metrics(name)[metric]
        return combined([(1.0, per_alpha[self.pos]), (-1.0, per_alpha[self.neg])])

    def axis(self, name: str, metric: str, sign: float = 1.0) -> Sample:
        """Half the difference between the arms."""
        per_alpha = self.metrics(name)[metric]
        return combined([(sign / 2, per_alpha[self.pos]), (-sign / 2, per_alpha[self.neg])])

    def same(self, other: "Trial") -> bool:
        """Whether the other is this measurement again: one content, or the same scores of the same rows at both arms.

        A content holds the seed it was made with, so what that seed has not changed is known by its rows. Draws are another
        matter: several that do nothing are several.
        """
        hashes = [(t.record.get("content"), t.record.get("numbers")) for t in (self, other)]
        if any(a is not None and a == b for a, b in zip(*hashes)):
            return True
        if not self.evals or self.control:
            return False
        one, two = self._scores, other._scores
        return one.index.equals(two.index) and np.allclose(one, two, rtol=0, atol=ALIKE, equal_nan=True)

    @cached_property
    def _scores(self) -> "pd.Series":
        import pandas as pd

        arms = {"neg": self.neg, "pos": self.pos}
        parts = {
            (name, arm): m.rows[m.rows["alpha"] == alpha].set_index("row_key")["y"].sort_index()
            for name, m in self.evals.items()
            for arm, alpha in arms.items()
        }
        return pd.concat(parts)

    def share(self, name: str, column: str, alpha: float) -> float:
        """The mean of a column of rows at one strength: pmass, forced_close."""
        rows = self.evals[name].rows
        return float(rows.loc[rows["alpha"] == alpha, column].astype(float).mean())


def trial_of_cell(record: Fields, out: Path) -> Trial:
    """The trial that a cell of a comparison left below `out`."""
    evals = {m.protocol.id: m for e in record["evals"] for m in measured([out / e["folder"]])}
    return Trial(record, evals)  # by the id of their rows, in which a judge has a part


def trial_of_study(folders: Sequence[Path]) -> Trial:
    """The trial that the evaluations of one study left, from its lowest strength to its highest."""
    each = []
    for folder in folders:
        if not (those := measured([folder]) if folder.is_dir() else []):
            raise BadFile(f"{folder} is gone since this sweep wrote it; give the same command again.")
        each += those
    alphas = sorted({a for m in each for a in m.alphas})
    first = each[0]
    record = {
        "asked": first.method,
        "kin": first.method,
        "control": False,
        "seed": first.seed,
        "strength": {"neg": alphas[0], "pos": alphas[-1], "budget": first.budget, "points": []},
    }
    return Trial(record, {f"{m.protocol.eval} {m.protocol.id}": m for m in each})


@dataclass(frozen=True, eq=False)
class Trials:
    """One method over its seeds; a random one over its draws."""

    name: str
    each: tuple[Trial, ...]
    failed: Mapping[str, str] = field(default_factory=dict)
    """Trials that could not be made, and why."""
    repeats: tuple[Trial, ...] = ()
    """Trials of other seeds that are one of these measurements again; they count once."""
    _known: dict[tuple, OverSeeds] = field(default_factory=dict, repr=False)

    @property
    def control(self) -> bool:
        """Whether its seeds are draws of something random."""
        return self.each[0].control

    @property
    def kind(self) -> str:
        """Its kind: weights, activation or prompt."""
        return str(self.each[0].record["kind"])

    @property
    def places(self) -> str:
        """Where it acts; controls of the same places are what it stands beside."""
        return str(self.each[0].record["places"])

    @property
    def matched(self) -> bool:
        """Whether every trial has the budget at both strengths."""
        return all(t.matched for t in self.each)

    @property
    def overlap(self) -> float | None:
        """The share of one seed's questions that another one has too, the largest of any two seeds; None without questions."""
        each = [set(t.record.get("questions", ())) for t in self.each]
        shares = [len(a & b) / min(len(a), len(b)) for a, b in combinations(each, 2) if a and b]
        return max(shares, default=None)

    @property
    def as_given(self) -> bool:
        """Whether strengths were given and not sought."""
        return all(t.record["strength"]["budget"] is None for t in self.each)

    @property
    def verdict(self) -> str:
        """matched, as given, or unmatched with the words for why, and in how many trials."""
        if self.matched or self.as_given:
            return "matched" if self.matched else "as given"
        if self.control:
            return f"({sum(t.matched for t in self.each)} of {len(self.each)} matched)"
        words = sorted({v.partition("(")[2].rstrip(")") for t in self.each for v in t.verdicts if v != "matched"})
        off = sum(not t.matched for t in self.each)
        of = "" if len(self.each) == 1 else f", {off} of {len(self.each)}"
        return f"unmatched ({', '.join(words)}{of})"

    def moved(self, name: str, metric: str, arm: str) -> OverSeeds:
        """The change of a metric at one arm, over seeds."""
        return self._once(
            ("moved", name, metric, arm), lambda: [t.moved(name, metric, getattr(t, arm)) for t in self.each]
        )

    def way(self, name: str, metric: str) -> OverSeeds:
        """The change of a metric from the lower strength to the upper one, over the seeds that have it."""
        return self._once(("way", name, metric), lambda: [t.way(name, metric) for t in self.each])

    def axis(self, name: str, metric: str, sign: float) -> OverSeeds:
        """Half the difference between the arms, over seeds."""
        return self._once(("axis", name, metric, sign), lambda: [t.axis(name, metric, sign) for t in self.each])

    def against(self, other: "Trials", name: str, metric: str, sign: float) -> OverSeeds | None:
        """Its axis less another's, paired by row, and by seed where both have seeds; no number where nothing pairs them."""

        def pairs() -> list[Sample]:
            return [
                combined([(1.0, t.axis(name, metric, sign)), (-1.0, o.axis(name, metric, sign))])
                for t, o in self.paired(other)
            ]

        return self._once(("against", other.name, name, metric, sign), pairs) if self.paired(other) else None

    def paired(self, other: "Trials") -> list[tuple[Trial, Trial]]:
        """Trials to set against each other.

        A method with one trial is set against every trial of the other. Two methods with seeds are paired by seed. Draws
        have no seed, so several draws are paired with nothing that has several trials.
        """
        if len(other.each) == 1:
            return [(t, other.each[0]) for t in self.each]
        if len(self.each) == 1:
            return [(self.each[0], o) for o in other.each]
        if self.control or other.control:
            return []
        by_seed = {t.seed: t for t in other.each}
        return [(t, by_seed[t.seed]) for t in self.each if t.seed in by_seed]

    def share(self, name: str, column: str, arm: str) -> float:
        """The mean over trials of a column at one arm."""
        shares = [t.share(name, column, getattr(t, arm)) for t in self.each]
        return sum(shares) / len(shares)

    def unscored(self, name: str) -> tuple[int, int]:
        """(rows without a score, all rows) at both arms, over all trials."""
        parts = [t.evals[name].rows for t in self.each]
        arms = [r.loc[r["alpha"].isin([t.neg, t.pos]), "y"] for t, r in zip(self.each, parts)]
        return sum(int(y.isna().sum()) for y in arms), sum(len(y) for y in arms)

    def _once(self, key: tuple, samples: Callable[[], Sequence[Sample]]) -> OverSeeds:
        if key not in self._known:
            self._known[key] = over_seeds(samples())
        return self._known[key]


def apart(trials: Sequence[Trial]) -> tuple[tuple[Trial, ...], tuple[Trial, ...]]:
    """(trials that differ in something, those that are one of them again).

    Seeds that share all their random choices are one measurement: as several they would agree, and mean nothing.
    """
    own: list[Trial] = []
    repeats: list[Trial] = []
    for t in trials:
        (repeats if any(t.same(o) for o in own) else own).append(t)
    return tuple(own), tuple(repeats)


def by_method(trials: Sequence[Trial], failed: Failures) -> tuple[list[Trials], dict[str, str]]:
    """(methods in the order they were asked for, those of which no trial could be made and why)."""
    groups: dict[str, list[Trial]] = {}
    for t in trials:
        groups.setdefault(str(t.record["kin"]), []).append(t)
    methods = [
        Trials(name, own, failed.get(name, {}), repeats) for name, g in groups.items() for own, repeats in [apart(g)]
    ]
    return methods, {name: next(iter(whys.values())) for name, whys in failed.items() if name not in groups}
