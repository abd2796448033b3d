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
    """A metric that is a mean of rows, as a linear function of their y."""

    template: Sample
    """The metric where every y is 1."""
    places: np.ndarray
    """The row of every key of the template."""

    def sample(self, y: np.ndarray) -> Sample:
        """The metric of rows with these y."""
        features = self.template.features.copy()
        features[:, 0::2] *= y[self.places, None]
        return Sample(self.template.keys, self.template.units, features, self.template.statistic)

    def values(self, y: np.ndarray) -> np.ndarray:
        """The number of every column of y (rows, k); rows with a NaN do not count."""
        own = y[self.places]
        scored = np.isfinite(own)[..., None]
        tops, counts = (self.template.features[:, None, c::2] for c in (0, 1))
        totals = [np.where(scored, x, 0.0).sum(axis=0) for x in (tops * np.nan_to_num(own)[..., None], counts)]
        assert isinstance(self.template.statistic, Means)
        return (totals[0] / totals[1]) @ np.array(self.template.statistic.factors)


def row_metric(measure: Measure, rows: "pd.DataFrame", metric: str) -> RowMetric:
    """A metric as a linear function of the y of these rows; refused where it is none."""
    import pandas as pd

    one = rows.assign(alpha=1.0, arm="pos", y=1.0, logratio=rows["label"].astype(float))
    both = measure.of_units(pd.concat([rows.assign(alpha=0.0, arm="ref", y=0.0, logratio=0.0), one], ignore_index=True))
    template = measure.evaluation.chosen.metrics(both)[metric][1.0]
    at = {key: k for k, key in enumerate(rows["row_key"])}
    if not isinstance(template.statistic, Means) or not set(template.keys) <= at.keys():
        raise Unsupported(f"{metric} is no mean of single rows, so slopes of rows say nothing about it.")
    return RowMetric(template, np.array([at[k] for k in template.keys]))
