"""What variants of a direction do, beside the whole: on the same rows, at the same strength, with an interval over units.

    measure = Measure(base, direction, Evaluation("dilemmas"), alpha=1.0, folder=run / "explain")
    effects = measure([Variant("only:o_proj", scales={...}), Variant("complement:act32", direction=rest)])

Parts that only scale modules are rows of one batch (`Parts`), computed once as far as they are alike (`shared`). Everything goes through the stages of an evaluation: rows are
kept, found again, and joined by key.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ws.direction import Direction, random_like
from ws.errors import Unsupported
from ws.eval import Evaluation
from ws.eval.protocol import Metrics
from ws.eval.questions import RunPairs
from ws.explain.protocol import DRAWS, Effect, Variant
from ws.explain.shared import can_share, sharing
from ws.methods import Method
from ws.methods.weights import Weights, method_id
from ws.models import Base
from ws.prefix_cache import rows_alike
from ws.progress import progress
from ws.results.sentences import side_of
from ws.stats import Estimate, combined, estimate, quotient
from ws.steer import Alpha, checked_alpha, steer
from ws.study.evaluations import Subject, make_eval, rows_in
from ws.types import Json

if TYPE_CHECKING:
    import pandas as pd

TOGETHER = 8
"""Parts that share a batch at most: each is a row for every question, and with more of them few questions share a batch."""
FULL, ZERO = "full", "zero"


@dataclass(frozen=True, eq=False)
class Parts(Method):
    """Parts of one direction by number: strength k is the k-th of them, and 0 the untouched model."""

    direction: Direction
    table: Tensor
    """(parts, modules): the strength of every module, in the order of the direction's forms."""
    origin: Base | None = field(default=None, repr=False)
    kind = "parts"

    def check_strengths(self, alphas: Sequence[float]) -> None:
        """Refuse numbers that name no part."""
        if odd := [a for a in alphas if a not in range(len(self.table) + 1)]:
            raise ValueError(f"parts are numbered from 1 to {len(self.table)}; got {odd[0]:g}")

    @contextmanager
    def at(self, base: Base, alphas: Alpha) -> Iterator[nn.Module]:
        numbers = checked_alpha(alphas)
        if isinstance(numbers, float):
            raise ValueError("parts are chosen per row; give a list of their numbers")
        rows = torch.cat([torch.zeros_like(self.table[:1]), self.table])[numbers.long()]
        with ExitStack() as stack:
            stack.enter_context(steer(base, self._on(base.device), rows, origin=self.origin))
            if (k := rows_alike()) > 1 and can_share(base):
                stack.enter_context(sharing(base, rows, list(self.direction.forms), k))
            yield base.model

    def _on(self, device: torch.device) -> Direction:
        """The direction on a device, moved there once and not with every batch."""
        placed: dict[str, Direction] = self.__dict__.setdefault("_placed", {})
        return placed.setdefault(str(device), self.direction.to(device=device))

    def packed(self) -> tuple[Json, dict[str, Tensor]]:
        return {"direction": self.direction.content_hash}, {"table": self.table}

    @classmethod
    def unpacked(cls, name: str, settings: Json, tensors: dict[str, Tensor], provenance: Json) -> "Parts":
        raise Unsupported("parts are no file of their own; save the direction, or one of them")


@dataclass(frozen=True, eq=False)
class Measure:
    """Variants of one direction to their effects on one evaluation at one strength."""

    base: Base
    direction: Direction
    evaluation: Evaluation
    alpha: float
    folder: Path
    """Where rows are kept."""
    out: Path | None = None
    """Where the unsteered arm is shared with other studies."""
    intent: Mapping[str, int] = field(default_factory=dict)
    origin: Base | None = None
    pairs: RunPairs | None = None
    units: str = "all"
    """The units that effects are reported on: all, or one half of them, `even` or `odd`, where the other half was chosen on."""

    def __post_init__(self):
        object.__setattr__(self, "_rows", {})
        if self.alpha == 0:
            raise ValueError("at alpha 0 every variant is the untouched model; give another strength")

    def __call__(self, variants: Sequence[Variant]) -> list[Effect]:
        """The effects of the whole, of nothing and of every variant, in this order, for every metric that is looked at."""
        names = [FULL, ZERO, *(v.name for v in variants)]
        if len(set(names)) < len(names):
            raise ValueError(f"two variants are called {next(n for n in names if names.count(n) > 1)!r}")
        samples = self.samples([self.full, *variants])
        effects = []
        for metric in self._metrics(samples):
            numbers = samples[metric]
            whole = combined([(1.0, numbers[1.0]), (-1.0, numbers[0.0])])
            full = estimate(whole)
            clear = full.ci_lo > 0 or full.ci_hi < 0
            for v, at in [(self.full, 1), (Variant(ZERO, scales={}), 0), *((v, k) for k, v in enumerate(variants, 2))]:
                change = combined([(1.0, numbers[float(at)]), (-1.0, numbers[0.0])])
                retained = estimate(quotient(change, whole)) if clear else _unknown(full)
                delta = estimate(change)
                effects.append(Effect(v.name, metric, self.alpha, delta, retained, self.size(v), v.flags, v.control))
        return effects

    @property
    def full(self) -> Variant:
        """The whole direction as a variant."""
        return Variant(FULL, scales=dict.fromkeys(self.direction.forms, 1.0))

    def controls(self, draws: int = DRAWS["effect"], *, seed: int = 0) -> list[Variant]:
        """Random directions as large as the whole in every module."""
        drawn = [random_like(self.direction, seed + k, self.base.weight) for k in range(draws)]
        return [Variant(f"random:{k}", direction=d, control=FULL) for k, d in enumerate(drawn)]

    def samples(self, variants: Sequence[Variant]) -> Metrics:
        """Metric to number to the rows of that variant: 1 is the first variant, 0 the untouched model."""
        import pandas as pd

        by_name = self.rows(variants)
        arms = [part.assign(alpha=float(k), arm="pos") for k, part in enumerate((by_name[v.name] for v in variants), 1)]
        whole = pd.concat([by_name[""], *arms], ignore_index=True)
        return self.evaluation.chosen.metrics(self.of_units(whole))

    def rows(self, variants: Sequence[Variant]) -> "dict[str, pd.DataFrame]":
        """The rows of every variant by its name, and of the untouched model under no name."""
        known: dict[str, pd.DataFrame] = self._rows  # type: ignore[attr-defined]
        lacking = [v for v in variants if self._key(v) not in known]
        scaled: dict[int, list[Variant]] = {}
        for v in (v for v in lacking if v.scales is not None):
            scaled.setdefault(id(v.direction), []).append(v)
        with progress(len(lacking), f"parts of the direction, on {self.evaluation.name}") as done:
            for v in (v for v in lacking if v.scales is None):
                assert v.direction is not None
                self._keep(Weights(method_id(v.direction), v.direction, origin=self.origin), [v], [self.alpha])
                done(1)
            for group in scaled.values():
                group.sort(key=self._begins)
                for at in range(0, len(group), TOGETHER):
                    some = group[at : at + TOGETHER]
                    self._keep(self._parts(some), some, [float(k) for k in range(1, len(some) + 1)])
                    done(len(some))
        return {"": known[""], **{v.name: known[self._key(v)] for v in variants}}

    def _keep(self, method: Method, variants: Sequence[Variant], strengths: Sequence[float]) -> None:
        """Measure one method at its strengths, each of which is a variant."""
        subject = Subject(self.base, method, self.folder, method.name, pairs=self.pairs)
        _, record = make_eval(subject, self.evaluation, alphas=strengths, out=self.out)
        rows = rows_in(record)
        known: dict[str, pd.DataFrame] = self._rows  # type: ignore[attr-defined]
        known.setdefault("", rows[rows["alpha"] == 0])
        for v, k in zip(variants, strengths):
            known[self._key(v)] = rows[rows["alpha"] == k]

    def _key(self, v: Variant) -> str:
        own = "" if v.direction is None else v.direction.content_hash
        return f"{own} {sorted(v.scales.items()) if v.scales is not None else ''}"

    def _begins(self, v: Variant) -> list[float]:
        """What it keeps of every module, from the first block on: parts that are alike up to a block stand side by side."""
        names = sorted((v.direction or self.direction).forms, key=lambda n: self.base.layers[n].block)
        return [(v.scales or {}).get(n, 0.0) for n in names]

    def _parts(self, variants: Sequence[Variant]) -> Parts:
        direction = variants[0].direction or self.direction
        return Parts("parts", direction, self.alpha * table_of(variants, direction), origin=self.origin)

    def _metrics(self, samples: Metrics) -> list[str]:
        """Those the behavior claims to move; the first one where it claims none of them."""
        return [m for m in samples if side_of(m, self.intent)] or list(samples)[:1]

    def of_units(self, rows: "pd.DataFrame") -> "pd.DataFrame":
        """The rows of the units that are reported on."""
        if self.units == "all":
            return rows
        chosen = sorted(rows["unit_id"].unique())[("even", "odd").index(self.units) :: 2]
        return rows[rows["unit_id"].isin(chosen)]

    def size(self, v: Variant) -> float:
        """|variant| / |whole|."""
        norms = self._norms
        whole = math.sqrt(sum(n * n for n in norms.values()))
        if v.scales is None:
            assert v.direction is not None
            return v.direction.norm(self.base.weight) / whole
        own = norms if v.direction is None else v.direction.norms(self.base.weight)
        return math.sqrt(sum((k * own[name]) ** 2 for name, k in v.scales.items())) / whole

    @cached_property
    def _norms(self) -> dict[str, float]:
        return self.direction.norms(self.base.weight)


def table_of(variants: Sequence[Variant], direction: Direction) -> Tensor:
    """(variants, modules): what each keeps of every module."""
    return torch.tensor([[(v.scales or {}).get(name, 0.0) for name in direction.forms] for v in variants])


def _unknown(full: Estimate) -> Estimate:
    """No share can be said of an effect that may be none."""
    nothing = math.nan
    return Estimate(nothing, nothing, nothing, full.n, full.fewest, full.n_valid, full.n_total)


def spread(effects: Sequence[Effect], of: str = FULL) -> tuple[float, float]:
    """The lowest and the highest change among the random controls of a variant."""
    deltas = [e.delta.mean for e in effects if e.control == of]
    return (min(deltas), max(deltas)) if deltas else (math.nan, math.nan)
