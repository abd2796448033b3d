"""Everything that was measured, a line per run or method: what it does to what its behavior claims, and what it costs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ws.numbers import finite
from ws.results.line import Line
from ws.results.lines import best, closest, forward
from ws.results.measured import Measured
from ws.results.sentences import Verdict, in_nats, side_of, verdict
from ws.stats import Estimate, change

COST = ("perplexity", "nll_rise")


@dataclass(frozen=True, eq=False)
class Entry:
    """A run or a method, and the one change that says most of it."""

    line: Line
    """Its measurement, at the strengths of the change."""
    behavior: str | None
    metric: str
    side: int
    """The side of the metric that the behavior wants; 0 where it claims nothing."""
    effect: Estimate
    """From the lower strength to the upper one; above 0 is the way the behavior wants."""
    cost: float | None
    """The larger rise of the loss on neutral text at either strength, in nats per token; None where it was not measured."""
    finished: str

    @property
    def of(self) -> Measured:
        return self.line.of

    @property
    def verdict(self) -> Verdict:
        """The one rule for a change."""
        e, nat = self.effect, in_nats(self.metric)
        return verdict(e.mean, e.ci_lo, e.ci_hi, int(bool(self.side)), units=e.n, nat=nat, random=self.line.control)


def entries(evaluations: Sequence[Measured]) -> list[Entry]:
    """A line per direction and budget, the newest first; what scored only some units counts where there is nothing else."""
    groups: dict[tuple, list[Measured]] = {}
    for m in evaluations:
        if any(m.alphas):  # the bare model is the reference of every line
            groups.setdefault(_identity(m), []).append(m)
    made = [e for group in groups.values() if (e := _entry(group)) is not None]
    return sorted(made, key=lambda e: (e.finished, e.of.run), reverse=True)


def _identity(m: Measured) -> tuple:
    """One direction on one model at one budget, whether it was measured as a run or as a file."""
    direction = m.manifest["inputs"].get("direction")
    return (m.weights, direction or m.study, m.method, m.budget)


def _entry(group: Sequence[Measured]) -> Entry | None:
    """The line of one direction; None where nothing of it has a number at two strengths."""
    behavior = next((m.behavior for m in group if m.behavior), None)
    owner = next((m for m in group if m.behavior), group[0])
    claims = [metric for metric, side in Line(owner, owner.method, 0.0, None).intents.items() if side]
    full = [m for m in group if not m.smoke]
    telling = [m for m in full if m.protocol.eval != COST[0]] or [m for m in group if m.protocol.eval != COST[0]]
    for line in _candidates(telling or list(group), claims):
        of_claim = next((c for c in [*claims, "logratio_pairs"] if c in line.metrics), None)
        metric = of_claim or next(iter(line.metrics))
        if (effect := _change(line, metric)) is not None:
            side = side_of(metric, line.intents or dict.fromkeys(claims, 0))
            finished = max(m.manifest["finished"] for m in group)
            return Entry(
                line, behavior, metric, side, _flipped(effect, side or 1), _cost(full or group, line), finished
            )
    return None


def _candidates(group: Sequence[Measured], claims: Sequence[str]) -> list[Line]:
    """Measurements at their two strengths: those of the claims in their order, then held-out pairs, then others, costs last."""
    evals = list(dict.fromkeys(m.protocol.eval for m in group))

    def rank(name: str) -> tuple:
        of_claims = {c for m in group if m.protocol.eval == name for c in m.protocol.claims}
        return (min((claims.index(c) for c in of_claims if c in claims), default=len(claims)), name == COST[0])

    return [_line([m for m in group if m.protocol.eval == name]) for name in sorted(evals, key=rank)]


def _line(each: Sequence[Measured]) -> Line:
    """The measurement of one evaluation that counts, at its lower and its upper strength."""
    if (sought := closest(each).sought) is not None:
        return Line(closest(each), each[0].method, sought[1], sought[0])
    pos = forward({a for m in each for a in m.alphas}, None)
    if pos is None:  # only below 0
        m = each[-1]
        return Line(m, m.method, 0.0, min(m.alphas))
    m = best(each, pos)
    low = -pos if -pos in m.alphas else min(m.alphas)
    return Line(m, m.method, pos, low if low < 0 else 0.0)


def _change(line: Line, metric: str) -> Estimate | None:
    """The change between the strengths of a line, over the rows scored at both."""
    at = line.metrics.get(metric, {})
    return change(at[line.neg], at[line.pos]) if line.neg is not None and {line.neg, line.pos} <= at.keys() else None


def _flipped(e: Estimate, side: int) -> Estimate:
    """The change toward a side."""
    return e if side > 0 else replace(e, mean=-e.mean, ci_lo=-e.ci_hi, ci_hi=-e.ci_lo)


def _cost(group: Sequence[Measured], of: Line) -> float | None:
    """The larger rise of the loss on neutral text at the same strengths."""
    for m in reversed([m for m in group if m.protocol.eval == COST[0]]):
        at = Line(m, m.method, of.pos, of.neg).metrics.get(COST[1], {})
        rises = [at[a].by_unit.value for a in (of.neg, of.pos) if a and a in at]
        if rises and all(map(finite, rises)):
            return max(rises)
    return None
