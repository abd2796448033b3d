"""The slope of a metric by the strength of every module: one backward pass for all of them.

    theta + sum over modules m of alpha_m dW_m,      slope of m = d metric / d alpha_m  at alpha_m = a for all m

At a = 0 it says what a first small step in each module does; half the sum of the slopes at 0 and at 1 comes near to what each
module adds on the way (the trapezoid rule along the dial). Random directions that stand beside it are switched on at strength 0 in
the same pass, so that they cost no pass of their own.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ws.batches import Room, in_batches
from ws.direction import Direction
from ws.direction.direction import WeightOf
from ws.direction.forms import Form, LowRank, Stacked
from ws.errors import Unsupported
from ws.eval.questions import ItemQuestions
from ws.eval.scoring import ItemTokens, logprobs, prompts_of
from ws.explain.measure import Measure
from ws.prefix_cache import padded
from ws.stats import Means, Sample
from ws.steer import steer

if TYPE_CHECKING:
    import pandas as pd

BACKWARD = 4
"""Times the memory of a forward pass that one takes whose activations are kept."""


@dataclass(frozen=True, eq=False)
class Slopes:
    """The slopes of every row: how its y changes with the strength of each module."""

    at: float
    """The strength of all modules where they were taken."""
    rows: "pd.DataFrame"
    """The rows as an evaluation has them, without a score."""
    tables: Sequence[Tensor]
    """(rows, modules) of the direction, then of every direction beside it."""


def random_steps(direction: Direction, weight: WeightOf, draws: int, *, seed: int = 0) -> list[Direction]:
    """Random changes of rank one, as large as the direction in every module: cheap, and with longer tails than higher ranks."""
    sizes = direction.norms(weight)
    drawn = []
    for k in range(draws):
        g = torch.Generator().manual_seed(seed + k)
        forms: dict[str, tuple[Form, ...]] = {}
        for name, size in sizes.items():
            *experts, o, i = weight(name).shape  # of none, or of as many as lie in one tensor
            u, v = (torch.randn(*experts, n, generator=g, dtype=torch.float64) for n in (o, i))
            b, a = (size * u / u.norm())[..., None].float(), (v / v.norm(dim=-1, keepdim=True))[..., None, :].float()
            forms[name] = (Stacked(b, a) if experts else LowRank(b, a),)
        drawn.append(
            Direction(forms, {"base": direction.provenance.get("base"), "made_by": "random", "seed": seed + k})
        )
    return drawn


def questions_with_slopes(measure: Measure) -> "tuple[ItemQuestions, pd.DataFrame]":
    """What is asked, and its rows without their y; refused where answers are more than a word."""
    import pandas as pd

    questions = measure.evaluation.questions(measure.base, measure.pairs)
    protocol = questions.protocol
    if (
        not isinstance(questions, ItemQuestions)
        or protocol.n_think
        or protocol.n_write
        or not questions.items[0].words[0]
    ):
        raise Unsupported(
            f"{protocol.id} has no answer of one word after one forward pass, and slopes are taken there; use another protocol."
        )
    rows = pd.DataFrame.from_records(
        [{"unit_id": i.unit_id, "row_key": i.row_key, "label": i.label, "kind": i.kind} for i in questions.items]
    )
    fixed = {"eval": protocol.eval, "protocol": protocol.id, "metric": protocol.metric, "method": "slopes"}
    return questions, rows.assign(**fixed, seed=0, pmass=1.0, forced_close=False, text="", arm="pos")


def slopes(measure: Measure, at: float, beside: Sequence[Direction] = ()) -> Slopes:
    """The slopes of the direction at a strength, and at 0 of those beside it; one forward and one backward pass."""
    questions, rows = questions_with_slopes(measure)
    base, items, protocol = measure.base, questions.items, questions.protocol
    room = Room(base.model)

    def batch(part: Sequence[ItemTokens]) -> list[list[Tensor]]:
        return _of_batch(measure, part, at, beside, protocol.gate)

    per_item, _ = in_batches(
        prompts_of(base, items),
        batch,
        size=lambda p: room.fits(BACKWARD * len(p.ids)),
        length=lambda p: len(p.ids),
        label=f"{protocol.eval}, slopes at alpha {at:g}",
    )
    return Slopes(at, rows, [torch.stack(column) for column in zip(*per_item)])


def _of_batch(
    measure: Measure, part: Sequence[ItemTokens], at: float, beside: Sequence[Direction], gate: float
) -> list[list[Tensor]]:
    """For every item the slopes of each direction."""
    base, n = measure.base, len(part)
    starts = [(measure.direction, at), *((d, 0.0) for d in beside)]
    tables = [torch.full((n, len(d.forms)), a, requires_grad=True) for d, a in starts]
    with torch.enable_grad(), ExitStack() as dials:
        for (d, _), table in zip(starts, tables):
            dials.enter_context(steer(base, d, table, origin=measure.origin))
        y, mass = _scored(measure, part)
        found = torch.autograd.grad(y.sum(), tables)
    lost = (mass < gate)[:, None].cpu()
    clean = [g.detach().double().masked_fill(lost, torch.nan) for g in found]
    return [[g[k] for g in clean] for k in range(n)]


def _scored(measure: Measure, part: Sequence[ItemTokens]) -> tuple[Tensor, Tensor]:
    """(y, the probability on the answers) of every item, with what a backward pass needs."""
    ids, mask, positions = padded(measure.base, [p.ids for p in part])
    out = measure.base.model(
        input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False, logits_to_keep=1
    )
    logp = logprobs(out.logits[:, -1])
    ratios, masses = [], []
    for row, p in zip(logp, part):
        yes, no = (row[list(words)].logsumexp(-1) for words in (p.answers.yes, p.answers.no))
        ratios.append(p.item.label * (yes - no))
        masses.append((yes.exp() + no.exp()).detach())
    return torch.stack(ratios), torch.stack(masses)


@dataclass(frozen=True, eq=False)
class RowMetric:
    """A metric that is linear in the y of rows: of slopes it is its own slope."""

    template: Sample
    """The metric where every y is 0."""
    places: np.ndarray
    """(keys, k) the rows of the unit of every key."""
    factors: np.ndarray
    """(keys, k, means) what each of these rows adds to the totals of the key, per unit of y; 0 where a unit has fewer."""

    def sample(self, y: np.ndarray) -> Sample:
        """The metric of rows with these y."""
        features, own = self.template.features.copy(), y[self.places][..., None]
        features[:, 0::2] = np.where(self.factors == 0, 0.0, self.factors * own).sum(axis=1)
        return Sample(self.template.keys, self.template.units, features, self.template.statistic)

    def values(self, y: np.ndarray) -> np.ndarray:
        """The number of every column of y (rows, n); a key with a NaN does not count."""
        lost, clean = ~np.isfinite(y), np.nan_to_num(y)
        used = (self.factors != 0).any(axis=2)
        scored = 1.0 - (used[..., None] & lost[self.places]).any(axis=1)  # (keys, n)
        tops = np.einsum("akm,akn,an->nm", self.factors, clean[self.places], scored, optimize=True)
        assert isinstance(self.template.statistic, Means)
        return (tops / (scored.T @ self.template.features[:, 1::2])) @ np.array(self.template.statistic.factors)


def row_metric(measure: Measure, rows: "pd.DataFrame", metric: str) -> RowMetric:
    """A metric as a linear function of the y of these rows; refused where it is none.

    What each row adds is read off the metric itself, with a 1 at the j-th row of every unit and 0 elsewhere.
    """
    import pandas as pd

    nth = rows.groupby("unit_id").cumcount().to_numpy()
    probes = [np.zeros(len(rows)), *(1.0 * (nth == j) for j in range(nth.max() + 1))]
    probes.append(np.random.default_rng(0).standard_normal(len(rows)))
    arms = [
        rows.assign(alpha=float(k), arm="pos" if k else "ref", y=y, logratio=rows["label"] * y)
        for k, y in enumerate(probes)
    ]
    samples = measure.evaluation.chosen.metrics(measure.of_units(pd.concat(arms, ignore_index=True)))[metric]
    zero, *single, anything = (samples[float(k)] for k in range(len(probes)))
    of_unit = {(unit, n): at for at, (unit, n) in enumerate(zip(rows["unit_id"], nth))}
    places = np.array([[of_unit.get((unit, n), 0) for n in range(len(single))] for unit in zero.units])
    factors = np.stack([s.features[:, 0::2] - zero.features[:, 0::2] for s in single], axis=1)
    found = RowMetric(zero, places, factors)
    if not isinstance(zero.statistic, Means) or not _agree(found.sample(probes[-1]), anything, zero):
        raise Unsupported(f"{metric} is no mean of single rows, so slopes of rows say nothing about it.")
    return found


def _agree(linear: Sample, own: Sample, zero: Sample) -> bool:
    """Whether a metric of some rows is what its linear form says."""
    step = own.features - zero.features
    step[:, 1::2] += zero.features[:, 1::2]
    return list(linear.keys) == list(own.keys) and np.allclose(linear.features, step, atol=1e-9)
