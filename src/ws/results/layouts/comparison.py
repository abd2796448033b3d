"""A comparison: one line per method with its axis, its strengths and KL, what it stands beside, and what it costs."""

import math
from collections.abc import Mapping, Sequence

from ws.eval.foundations import NONE, mark
from ws.numbers import NO, flat, share, signed, some, with_interval
from ws.results.claims import Claim, Costs
from ws.results.controls import Random, randoms
from ws.results.sentences.comparison import readings
from ws.results.sheet import Sheet
from ws.results.trials import Trials
from ws.stats import OverSeeds
from ws.types import Json


def sheet(
    methods: Sequence[Trials], claim: Claim, costs: Costs, reference: Trials, lost: Mapping[str, str], *, title: str
) -> Sheet:
    """One line per method: the axis, its arms, strengths and KL; then what it stands beside, and what it costs."""
    chance = randoms(methods, claim)
    several = any(len(k.each) + len(k.repeats) > 1 for k in methods if not k.control)
    lines, records = [], []
    for k in ranked(methods, claim):
        cells, record = _line(k, claim, costs, reference, chance, several=several)
        lines.append(cells)
        records.append({"behavior_metric": claim.metric, "protocol": claim.protocol.id, **record})
    for name, why in lost.items():
        lines.append({"method": f"{name}: FAILED, {why}"})
        records.append({"behavior_metric": claim.metric, "protocol": claim.protocol.id, "method": name, "failed": why})
    columns = tuple(dict.fromkeys(c for line in lines for c in line if any(x.get(c, NO) != NO for x in lines)))
    return Sheet(
        title,
        EXPECTED,
        columns,
        tuple(tuple(line.get(c, NO) for c in columns) for line in lines),
        tuple(records),
        tuple(readings(methods, claim, reference, chance)),
        words=("cue", "method", "kl − / +", "outside random"),
        spare=len(columns) - sum(c in FIRST for c in columns),
    )


FIRST = ("cue", "method", "axis [95 % CI]", "outside random")
"""Columns that a narrow terminal shows whole before it shows any other."""
EXPECTED = (
    "expected: matched rows whose axis is clear of 0, outside the range of random directions, with small costs. Otherwise: an "
    "effect at another KL, or one that random directions have too, says little about the method. axis: half the difference "
    "between the arms, over the rows scored at both; intervals are over units. cue: 🟢 a large axis toward the pole that is "
    "wanted, its interval clear of 0; 🟡 a small or unsure one; 🔴 neither; ⚪ another strength, or nothing claimed."
)


def ranked(methods: Sequence[Trials], claim: Claim) -> list[Trials]:
    """Matched methods by their axis, largest first; then those of another strength; then random ones."""

    def rank(k: Trials) -> tuple:
        axis = k.axis(claim.name, claim.metric, claim.sign).found.mean
        return (
            k.control,
            not (k.matched or k.as_given),
            not math.isfinite(axis),
            -axis if math.isfinite(axis) else 0.0,
        )

    return sorted(methods, key=rank)


def cue_of(k: Trials, claim: Claim) -> str:
    """Green, yellow or red as for any axis; a strength that is not matched has none."""
    if not k.matched or not claim.intent:
        return NONE
    adjusted = [m for m in claim.beside if m.endswith("_adj")]
    axes = [k.axis(claim.name, m, claim.sign).found for m in (claim.metric, *adjusted)]
    return mark(axes, 1)


def _line(
    k: Trials, claim: Claim, costs: Costs, reference: Trials, chance: Mapping[str, list[Random]], *, several: bool
) -> tuple[dict[str, str], Json]:
    axis = k.axis(claim.name, claim.metric, claim.sign)
    neg, pos = (k.moved(claim.name, claim.metric, arm) for arm in ("neg", "pos"))
    against = None if k is reference else k.against(reference, claim.name, claim.metric, claim.sign)
    kls = [[c.point(getattr(c, arm))["kl"] for c in k.each] for arm in ("neg", "pos")]
    audits = [[c.point(getattr(c, arm))["audit"] for c in k.each] for arm in ("neg", "pos")]
    alphas = [[getattr(c, arm) for c in k.each] for arm in ("neg", "pos")]
    known = math.isfinite(axis.found.mean)
    around = chance.get(k.places, []) if known else []
    outside = [r for r in around if not r.inside(axis.found.mean)]
    n = len(k.each)
    what = "draw" if k.control else "seed"
    cells = {
        "cue": cue_of(k, claim),
        "method": k.name
        + (f" ({some(n, 'draw')})" if k.control else "" if k.matched or k.as_given else " (unmatched)"),
        "axis [95 % CI]": with_interval(axis.found),
        "outside random": _outside(k, around, outside),
        "kl − / +": " / ".join(_over(x, ".2f") for x in kls) + ("" if k.matched or k.as_given else f" {k.verdict}"),
        "C − / +": " / ".join(_over(x, "+.3g") for x in alphas),
        "audit − / +": " / ".join(_over(x, ".2f") for x in audits) if any(any(x) for x in audits) else NO,
        "Δ −": with_interval(neg.found),
        "Δ +": with_interval(pos.found),
        f"axis − {reference.name}'s": "reference"
        if k is reference
        else with_interval(against.found)
        if against
        else NO,
    }
    record: Json = {
        "method": k.name,
        "kind": k.kind,
        "control": k.control,
        "verdict": k.verdict,
        "matched": k.matched,
        "n": n,
        "of": what,
        **flat("axis", axis.found),
        "each": list(axis.each),
        "sd": axis.sd,
        "same_sign": axis.same_sign,
        **flat("delta_neg", neg.found),
        **flat("delta_pos", pos.found),
        "alpha_neg": alphas[0],
        "alpha_pos": alphas[1],
        "kl_neg": kls[0],
        "kl_pos": kls[1],
        "audit_neg": audits[0],
        "audit_pos": audits[1],
        "verdict_each": [list(c.verdicts) for c in k.each],
        "reference": reference.name,
        "repeats": [c.seed for c in k.repeats] or None,
        "outside_random": len(outside) == len(around)
        if around and not k.control and (k.matched or k.as_given)
        else None,
        "random_low": min((r.low for r in around), default=None),
        "random_high": max((r.high for r in around), default=None),
        "n_units": axis.found.n,
        "n_valid": axis.found.n_valid,
        "n_total": axis.found.n_total,
        "failed": dict(k.failed) or None,
    }
    if against:
        record |= flat("against", against.found)
    parts = [_seeds(k, axis)] if several else []
    for more_cells, more in [*parts, _beside(k, claim), _costs(k, claim, costs)]:
        cells |= more_cells
        record |= more
    cells["units"] = str(axis.found.n)
    if k.failed:
        cells["method"] += f" ({len(k.failed)} failed)"
    return cells, record


def _seeds(k: Trials, axis: OverSeeds) -> tuple[dict[str, str], Json]:
    """What each seed says of the axis, beside their mean."""
    n = len(k.each)
    each = " ".join(map(signed, axis.each)) if n > 1 and not k.control else NO
    if not k.control and n == 1:
        each = "do not apply" if k.repeats else "one"
    many = n > 1
    return {
        "seeds": each,
        "sd": f"{axis.sd:.2f}" if many else NO,
        "same sign": f"{axis.same_sign}/{n}" if many else NO,
    }, {}


def _beside(k: Trials, claim: Claim) -> tuple[dict[str, str], Json]:
    """The axes of the metrics that are read beside the claimed one."""
    axes = {m: k.axis(claim.name, m, claim.sign).found for m in claim.beside}
    cells = {m.removeprefix(claim.metric + "_"): with_interval(e) for m, e in axes.items()}
    return cells, {name: value for m, e in axes.items() for name, value in flat(m, e).items()}


def _costs(k: Trials, claim: Claim, costs: Costs) -> tuple[dict[str, str], Json]:
    """What each arm costs: on neutral text, and in how often the question is answered at all."""
    cells: dict[str, str] = {}
    record: Json = {}
    for name, (where, metric) in costs.columns.items():
        ends = [k.moved(where, metric, arm).found for arm in ("neg", "pos")]
        cells[f"{name} − / +"] = " / ".join(signed(e.mean) for e in ends)
        record |= {**flat(f"{metric}_neg", ends[0]), **flat(f"{metric}_pos", ends[1])}
    for name, column in (("pmass", "pmass"), *((("forced", "forced_close"),) if claim.protocol.n_think else ())):
        shares = [k.share(claim.name, column, arm) for arm in ("neg", "pos")]
        cells[f"{name} − / +"] = " / ".join(map(share, shares))
        record |= {f"{name}_neg": shares[0], f"{name}_pos": shares[1]}
    return cells, record


def _over(values: Sequence[float], form: str) -> str:
    """One value, or the range of several."""
    known = [v for v in values if v is not None and math.isfinite(v)]
    if not known:
        return NO
    low, high = (format(x, form) for x in (min(known), max(known)))
    return low if low == high else f"{low}…{high}"


def _outside(k: Trials, around: Sequence[Random], outside: Sequence[Random]) -> str:
    if not around:
        return NO
    if k.control:
        own = next((r for r in around if r.name == k.name), None)
        return NO if own is None else f"{signed(own.low)}…{signed(own.high)}"
    answer = "yes" if len(outside) == len(around) else "no"
    if outside and answer == "no":
        answer = f"not {', '.join(r.name for r in around if r not in outside)}"
    return answer if k.matched or k.as_given else f"{answer} (unmatched)"
