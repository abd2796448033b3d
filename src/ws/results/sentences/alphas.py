"""Sentences below a table of strengths against metrics: one per metric that the behavior makes a claim about."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ws.numbers import alpha_of, between, digits_for, finite, signed, some
from ws.results.layouts.alphas import by_metric
from ws.results.sentences import ends_of, few_units, in_nats, low_mass, side_of, verdict
from ws.types import Fields


@dataclass(frozen=True)
class Claimed:
    """The change of one metric that the behavior makes a claim about, in words."""

    metric: str
    number: str
    """With its interval, above 0 where it goes the way the behavior wants, and where from and to."""
    verdict: str


def claimed(rows: Sequence[Fields], intent: Mapping[str, int]) -> list[Claimed]:
    """Every metric with a claim, by its change between the ends of the dial."""
    changes = []
    for group in by_metric(rows):
        first, last = group[0], group[-1]
        metric = first["metric"]
        wanted = side_of(metric, intent)
        if not wanted or first["alpha"] >= last["alpha"] or not finite(last["ends"]):
            continue
        means = [wanted * r["mean"] for r in group]
        low, high = sorted((wanted * x for x in (last["ends_lo"], last["ends_hi"])), key=lambda x: (not finite(x), x))
        change, nat = wanted * last["ends"], in_nats(metric)
        steady = all(a < b for a, b in zip(means, means[1:]))
        says = verdict(change, low, high, 1, units=last["n"], nat=nat, steady=steady)
        number = signed(change) + (" nat" if nat else "") + (f" {between(low, high)}" if finite(low) else "")
        changes.append(Claimed(metric, f"{number} {ends_of(first['alpha'], last['alpha'])}", says.sentence))
    return changes


def readings(rows: Sequence[Fields], intent: Mapping[str, int], legend: Mapping[str, str] | None = None) -> list[str]:
    """A verdict per metric with a claim, from the change between the ends of the dial; then what is to be distrusted."""
    lines = []
    for c in claimed(rows, intent):
        lines.append(f"{c.metric}: {c.number}; {c.verdict}.")
        if legend and c.metric in legend:
            lines[-1] += f" Larger means it {legend[c.metric]}."
    return [*lines, *_few(rows), *low_mass({r["metric"]: r["pmass"] for r in _lowest_mass(rows)})]


def answer(rows: Sequence[Fields], intent: Mapping[str, int], legend: Mapping[str, str]) -> str | None:
    """The first metric with a claim as the one sentence to be read first: what it means, how far it moves, and the verdict."""
    first = next(iter(claimed(rows, intent)), None)
    if first is None:
        return None
    if first.metric not in legend:
        return f"{first.metric}: {first.number}; {first.verdict}."
    return f"“It {legend[first.metric]}”: {first.number}; {first.verdict} ({first.metric})."


def chance(rows: Sequence[Fields], random: Sequence[Fields]) -> list[str]:
    """How far random directions of the same norm move the same metrics over the same span of the dial, in one sentence."""
    shown = {(r["eval"], r["protocol"], r["metric"]) for r in rows}
    beside = [r for r in random if (r["eval"], r["protocol"], r["metric"]) in shown]
    if not beside:
        return []
    moves = []
    for r in beside:
        spans = [changes[-1] - (changes[0] if len(changes) > 1 else 0.0) for changes in r["each"]]
        unit = " nat" if in_nats(r["metric"]) else ""
        moves.append(f"{r['metric']} by {signed(min(spans))} to {signed(max(spans))}{unit}")
    counts = sorted({r["n"] for r in beside})
    units = some(counts[-1], "unit") if len(counts) == 1 else f"{counts[0]} to {counts[-1]} units"
    draws = some(len(beside[0]["each"]), "random direction")
    return [f"Chance: over the same span {draws} of the same norm move {', '.join(moves)}, on {units}."]


def _few(rows: Sequence[Fields]) -> list[str]:
    """One sentence about the metric with the fewest units, where any has too few for its interval."""
    if not (few := [r for r in rows if r.get("few_units") and finite(r["ci_lo"])]):
        return []
    least = min(few, key=lambda r: r.get("fewest", r["n"]))
    n = least.get("fewest", least["n"])
    return [few_units(n, f"of {least['metric']}", of=least["n"])]


def _lowest_mass(rows: Sequence[Fields]) -> list[Fields]:
    """The row with the lowest answer mass, if any has one."""
    known = [r for r in rows if finite(r["pmass"])]
    return [min(known, key=lambda r: r["pmass"])] if known else []


def side_effect(rows: Sequence[Fields]) -> str | None:
    """The sentence on what steering costs on neutral questions, at either end of the dial."""
    rises = sorted((r for r in rows if r["metric"] == "nll_rise" and r["alpha"]), key=lambda r: r["alpha"])
    ends = [rises[0], rises[-1]] if len(rises) > 1 else rises
    if not ends:
        return None
    n = digits_for(*(r[k] for r in ends for k in ("mean", "ci_lo", "ci_hi")))
    costs = ", ".join(
        f"{signed(r['mean'], n)} {between(r['ci_lo'], r['ci_hi'], n)} at alpha {alpha_of(r['alpha'])}" for r in ends
    )
    return f"Side effect, nats per token of answers to neutral questions: {costs}; near 0 is good."
