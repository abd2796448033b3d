"""The tables of a comparison: one line per method, and sentences that say what they show and what they do not."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ws.eval.foundations import NONE, mark
from ws.eval.protocol import Protocol
from ws.results.kin import Cell, Kin
from ws.results.measured import not_held_out
from ws.results.sheet import NO, Sheet, flat, share, with_interval
from ws.results.tables import signed
from ws.stats import FEW_UNITS, OverSeeds

LOW_MASS = 0.9


@dataclass(frozen=True)
class Asked:
    """The metric of a table, and which way it is meant to go."""

    name: str
    """How the comparison calls the evaluation."""
    metric: str
    intent: int
    """+1, -1, or 0 where the behavior claims nothing."""
    protocol: Protocol
    beside: tuple[str, ...] = ()
    """Metrics that stand beside it: the axis net of other things."""

    @property
    def sign(self) -> float:
        """The side that counts as positive."""
        return float(self.intent or 1)


@dataclass(frozen=True)
class Costs:
    """Where side effects are read: (evaluation, metric), and how a heading calls them."""

    columns: Mapping[str, tuple[str, str]]


@dataclass(frozen=True)
class Random:
    """The controls of one kind: where an axis lies that has no direction."""

    name: str
    low: float
    high: float
    found: OverSeeds
    """Over the draws that have a number."""
    matched: OverSeeds | None
    """Over the matched draws alone, where there are at least three."""
    n_matched: int
    n_lost: int
    """Draws without a number: too few of their rows could be scored."""

    @property
    def holds_zero(self) -> bool | None:
        """Whether the interval over draws does; None where there is no interval."""
        e = self.found.found
        return e.ci_lo <= 0 <= e.ci_hi if math.isfinite(e.ci_lo) else None

    def inside(self, value: float) -> bool:
        return self.low <= value <= self.high


def randoms(kins: Sequence[Kin], asked: Asked) -> dict[str, list[Random]]:
    """Where it acts to the random controls there: several draws of one form each."""
    found: dict[str, list[Random]] = {}
    for k in kins:
        if k.control and len(k.cells) > 1:
            each = k.axis(asked.name, asked.metric, asked.sign).each
            known = [c for c, x in zip(k.cells, each) if math.isfinite(x)]
            alike = [c for c in known if c.matched]

            def over(cells: list[Cell], name: str = k.name) -> OverSeeds:
                return Kin(name, tuple(cells)).axis(asked.name, asked.metric, asked.sign)

            if known:
                axis, some = over(known), over(alike) if len(alike) >= 3 else None
                lost = len(each) - len(known)
                r = Random(k.name, min(axis.each), max(axis.each), axis, some, len(alike), lost)
                found.setdefault(k.places, []).append(r)
    return found


def effects(
    kins: Sequence[Kin], asked: Asked, costs: Costs, reference: Kin, lost: Mapping[str, str], *, title: str
) -> Sheet:
    """One line per method: the axis, its arms, strengths and KL; then what it stands beside, and what it costs."""
    chance = randoms(kins, asked)
    several = any(len(k.cells) + len(k.repeats) > 1 for k in kins if not k.control)
    lines, records = [], []
    for k in ranked(kins, asked):
        cells, record = _line(k, asked, costs, reference, chance, several=several)
        lines.append(cells)
        records.append({"behavior_metric": asked.metric, "protocol": asked.protocol.id, **record})
    for name, why in lost.items():
        lines.append({"method": f"{name}: FAILED, {why}"})
        records.append({"behavior_metric": asked.metric, "protocol": asked.protocol.id, "method": name, "failed": why})
    columns = tuple(dict.fromkeys(c for line in lines for c in line if any(x.get(c, NO) != NO for x in lines)))
    return Sheet(
        title,
        EXPECTED,
        columns,
        tuple(tuple(line.get(c, NO) for c in columns) for line in lines),
        tuple(records),
        tuple(readings(kins, asked, costs, reference, chance)),
        words=("cue", "method", "kl − / +", "outside random"),
    )


EXPECTED = (
    "expected: matched rows whose axis is clear of 0, outside the range of random directions, with small costs. Otherwise: an "
    "effect at another KL, or one that random directions have too, says little about the method. axis: half the difference "
    "between the arms, over the rows scored at both; intervals are over units."
)


def ranked(kins: Sequence[Kin], asked: Asked) -> list[Kin]:
    """Matched methods by their axis, largest first; then those of another strength; then random ones."""

    def rank(k: Kin) -> tuple:
        axis = k.axis(asked.name, asked.metric, asked.sign).found.mean
        return (k.control, not (k.matched or k.given), not math.isfinite(axis), -axis if math.isfinite(axis) else 0.0)

    return sorted(kins, key=rank)


def cue_of(k: Kin, asked: Asked) -> str:
    """Green, yellow or red as for any axis; a strength that is not matched has none."""
    if not k.matched or not asked.intent:
        return NONE
    adjusted = [m for m in asked.beside if m.endswith("_adj")]
    found = [k.axis(asked.name, m, asked.sign).found for m in (asked.metric, *adjusted)]
    return mark(found, 1)


def _line(
    k: Kin, asked: Asked, costs: Costs, reference: Kin, chance: Mapping[str, list[Random]], *, several: bool
) -> tuple[dict[str, str], dict[str, Any]]:
    axis = k.axis(asked.name, asked.metric, asked.sign)
    neg, pos = (k.moved(asked.name, asked.metric, arm) for arm in ("neg", "pos"))
    against = None if k is reference else k.against(reference, asked.name, asked.metric, asked.sign)
    kls = [[c.point(getattr(c, arm))["kl"] for c in k.cells] for arm in ("neg", "pos")]
    audits = [[c.point(getattr(c, arm))["audit"] for c in k.cells] for arm in ("neg", "pos")]
    alphas = [[getattr(c, arm) for c in k.cells] for arm in ("neg", "pos")]
    known = math.isfinite(axis.found.mean)
    around = chance.get(k.places, []) if known else []
    outside = [r for r in around if not r.inside(axis.found.mean)]
    n = len(k.cells)
    what = "draw" if k.control else "seed"
    cells = {
        "cue": cue_of(k, asked),
        "axis": signed(axis.found.mean),
        "method": k.name + (f" ({n} draws)" if k.control else ""),
        "C − / +": " / ".join(_over(x, "+.3g") for x in alphas),
        "kl − / +": " / ".join(_over(x, ".2f") for x in kls) + ("" if k.matched or k.given else f" {k.verdict}"),
        "audit − / +": " / ".join(_over(x, ".2f") for x in audits) if any(any(x) for x in audits) else NO,
        "axis [95 % CI]": with_interval(axis.found),
        "Δ −": with_interval(neg.found),
        "Δ +": with_interval(pos.found),
        f"axis − {reference.name}'s": "reference"
        if k is reference
        else with_interval(against.found)
        if against
        else NO,
        "outside random": _outside(k, around, outside),
    }
    record: dict[str, Any] = {
        "method": k.name, "kind": k.kind, "control": k.control, "verdict": k.verdict, "matched": k.matched, "n": n,
        "of": what, **flat("axis", axis.found), "each": list(axis.each), "sd": axis.sd, "same_sign": axis.same_sign,
        **flat("delta_neg", neg.found), **flat("delta_pos", pos.found),
        "alpha_neg": alphas[0], "alpha_pos": alphas[1], "kl_neg": kls[0], "kl_pos": kls[1],
        "audit_neg": audits[0], "audit_pos": audits[1],
        "verdict_each": [list(c.verdicts) for c in k.cells], "reference": reference.name,
        "repeats": [c.seed for c in k.repeats] or None,
        "outside_random": len(outside) == len(around) if around and not k.control and (k.matched or k.given) else None,
        "random_low": min((r.low for r in around), default=None), "random_high": max((r.high for r in around), default=None),
        "n_units": axis.found.n, "n_valid": axis.found.n_valid, "n_total": axis.found.n_total,
        "failed": dict(k.failed) or None,
    }  # fmt: skip
    if against:
        record |= flat("against", against.found)
    if several:
        seeds = n > 1 and not k.control
        told = "do not apply" if k.repeats else "one"
        cells["seeds"] = " ".join(signed(x) for x in axis.each) if seeds else NO if k.control else told
        cells["sd"] = f"{axis.sd:.2f}" if n > 1 else NO
        cells["same sign"] = f"{axis.same_sign}/{n}" if n > 1 else NO
    for m in asked.beside:
        e = k.axis(asked.name, m, asked.sign).found
        cells[m.removeprefix(asked.metric + "_")] = with_interval(e)
        record |= flat(m, e)
    for name, (where, metric) in costs.columns.items():
        found = [k.moved(where, metric, arm).found for arm in ("neg", "pos")]
        cells[f"{name} − / +"] = " / ".join(signed(e.mean) for e in found)
        record |= {**flat(f"{metric}_neg", found[0]), **flat(f"{metric}_pos", found[1])}
    for name, column in (("pmass", "pmass"), *((("forced", "forced_close"),) if asked.protocol.n_think else ())):
        shares = [k.share(asked.name, column, arm) for arm in ("neg", "pos")]
        cells[f"{name} − / +"] = " / ".join(map(share, shares))
        record |= {f"{name}_neg": shares[0], f"{name}_pos": shares[1]}
    cells["units"] = str(axis.found.n)
    if k.failed:
        cells["method"] += f" ({len(k.failed)} failed)"
    return cells, record


def _over(values: Sequence[float], form: str) -> str:
    """One value, or the range of several."""
    found = [v for v in values if v is not None and math.isfinite(v)]
    if not found:
        return NO
    low, high = (format(x, form) for x in (min(found), max(found)))
    return low if low == high else f"{low}…{high}"


def _outside(k: Kin, around: Sequence[Random], outside: Sequence[Random]) -> str:
    if not around:
        return NO
    if k.control:
        own = next((r for r in around if r.name == k.name), None)
        return NO if own is None else f"{signed(own.low)}…{signed(own.high)}"
    told = "yes" if len(outside) == len(around) else "no"
    if outside and told == "no":
        told = f"not {', '.join(r.name for r in around if r not in outside)}"
    return told if k.matched or k.given else f"{told} (unmatched)"


# ---------------------------------------------------------------- what it says


def readings(
    kins: Sequence[Kin], asked: Asked, costs: Costs, reference: Kin, chance: Mapping[str, list[Random]]
) -> list[str]:
    """What the table shows, and what it does not."""
    found = [*_shown(kins, asked), *_seeds(kins), *_unmatched(kins, reference)]
    found += _random(kins, asked, chance)
    found += _masses(kins, asked)
    if lost := {k.name: n for k in kins if (n := k.unscored(asked.name))[0]}:
        listed = ", ".join(f"{name} {n} of {of}" for name, (n, of) in lost.items())
        found.append(f"Rows without a score at these strengths, left out of every number: {listed}.")
    axes = {k.name: k.axis(asked.name, asked.metric, asked.sign).found for k in kins}
    missing = [name for name, e in axes.items() if not math.isfinite(e.mean)]
    if missing:
        found.append(
            f"No number for {', '.join(missing)}: at their strength too few rows could be scored (answer mass, or a group of "
            "units without any)."
            + (f" Nothing can be set against {reference.name}." if reference.name in missing else "")
        )
    units = min((e.fewest for e in axes.values() if math.isfinite(e.mean)), default=FEW_UNITS)
    if units < FEW_UNITS:
        found.append(
            f"Only {units} units in the smallest group, unequal ones counting as fewer: below {FEW_UNITS} an interval undercovers."
        )
    found += not_held_out([c.evals[asked.name] for k in kins for c in k.cells])
    if any(e.evals[asked.name].smoke for k in kins for e in k.cells):
        found.append("SMOKE: not all units were scored; nothing here is a result.")
    for k in kins:
        for name, why in k.failed.items():
            found.append(f"{name} failed: {why}; {k.name} is shown without it.")
    if meaning := asked.protocol.legend.get(asked.metric):
        found.append(f"{asked.metric}: larger means it {meaning}.")
    return found


def _shown(kins: Sequence[Kin], asked: Asked) -> list[str]:
    comparable = [k for k in kins if k.matched and not k.control]
    if not comparable:
        given = any(k.given for k in kins)
        return [
            "Strengths are as given, so methods may differ in how hard they push: no ranking of methods."
            if given
            else "No method is matched at both signs: this table compares nothing at equal strength."
        ]
    axes = {k.name: k.axis(asked.name, asked.metric, asked.sign).found for k in comparable}
    clear = [name for name, e in axes.items() if e.ci_lo > 0]
    wrong = [name for name, e in axes.items() if e.ci_hi < 0]
    told = f"Of {len(comparable)} matched methods {len(clear)} move {asked.metric} "
    told += "as intended, clear of 0" if asked.intent else "up, clear of 0 (the behavior claims nothing about it)"
    best = max(axes, key=lambda name: axes[name].mean if math.isfinite(axes[name].mean) else -math.inf)
    told += f"; the largest axis is {best}'s, {with_interval(axes[best])}." if clear else "."
    against = "REVERSED" if asked.intent else "Down"
    return [told, *([f"{against}, clear of 0: {', '.join(wrong)}."] if wrong else [])]


def _seeds(kins: Sequence[Kin]) -> list[str]:
    trained = [k for k in kins if not k.control]
    again = {k.name: f"{len(k.repeats) + len(k.cells)} seeds, {len(k.cells)} measured" for k in trained if k.repeats}
    told = [
        f"Seeds do not apply to {', '.join(f'{name} ({n})' for name, n in again.items())}: some seeds changed nothing, and "
        "what they give again is counted once."
    ]
    told = told if again else []
    most = max((len(k.cells) for k in trained), default=1)
    if most == 1:
        return [
            *told,
            "One seed: intervals are over units alone and say nothing about another training or another sample.",
        ]
    alone = [k.name for k in trained if len(k.cells) == 1 and not k.repeats]
    told.append(
        f"{most} seeds: intervals hold seeds and units; `seeds` lists the axis of each, `same sign` how many agree."
    )
    if alone:
        told.append(f"One cell, the same for all seeds: {', '.join(alone)}.")
    if shares := [k.overlap for k in trained if k.overlap is not None]:
        told.append(f"Of the questions one seed learns from, at most {100 * max(shares):.0f} % are another's too.")
    return told


def _unmatched(kins: Sequence[Kin], reference: Kin) -> list[str]:
    trained = [k for k in kins if not k.control]
    off = [k for k in trained if not (k.matched or k.given)]
    if not off:
        return []
    told = []
    if reference in off:
        told.append(
            f"The reference {reference.name} is unmatched itself, so no difference from it is at equal strength."
        )
    return [
        *told,
        f"Not of equal strength, shown with the KL they have here and on other prompts (audit), and not to be ranked ({len(off)} of "
        f"{len(trained)}): {', '.join(f'{k.name} {k.verdict}' for k in off)}.",
    ]


def _random(kins: Sequence[Kin], asked: Asked, chance: Mapping[str, list[Random]]) -> list[str]:
    told = []
    if not chance:
        return [
            "No random directions beside them: a claim about a direction needs some (--methods random:act,random:spectrum)."
        ]
    for where, each in chance.items():
        for r in each:
            holds = {True: "holds 0", False: "does NOT hold 0", None: "needs more draws"}[r.holds_zero]
            alone = f", of those {with_interval(r.matched.found)}" if r.matched else ""
            known = "" if any(k.given for k in kins) else f" ({r.n_matched} matched{alone})"
            known += f" and {r.n_lost} more without a number" if r.n_lost else ""
            told.append(
                f"{r.name}, {len(r.found.each)} draws{known}: the axis is {with_interval(r.found.found)} over draws, which "
                f"{holds}; range {signed(r.low)} to {signed(r.high)}."
            )
        inside = [
            k.name for k in kins
            if k.places == where and not k.control
            and any(r.inside(k.axis(asked.name, asked.metric, asked.sign).found.mean) for r in each)
        ]  # fmt: skip
        if inside:
            told.append(f"Not outside the range of random directions: {', '.join(inside)}.")
    bare = [k.name for k in kins if not k.control and k.places not in (*chance, "prompts")]
    if bare:
        told.append(f"No random directions act where these do, so they stand beside none: {', '.join(bare)}.")
    few = min(len(r.found.each) for each in chance.values() for r in each)
    if few < 20:
        told.append(f"{few} draws give a rough range; --draws 20 gives a better one.")
    return told


def _masses(kins: Sequence[Kin], asked: Asked) -> list[str]:
    low = {
        k.name: m for k in kins if (m := min(k.share(asked.name, "pmass", arm) for arm in ("neg", "pos"))) < LOW_MASS
    }
    if not low:
        return []
    listed = ", ".join(f"{name} {m:.2f}" for name, m in low.items())
    return [f"The answer mass falls below {LOW_MASS:g}, so the model answers less and less: {listed}."]
