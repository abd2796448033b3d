"""Sentences on what a comparison shows, and what it does not."""

import math
from collections.abc import Iterator, Mapping, Sequence

from ws.numbers import bounds, percent, signed, some, with_interval
from ws.results.claims import Claim
from ws.results.controls import Random
from ws.results.sentences import (
    ONE_SEED,
    SMOKE,
    few_units,
    in_nats,
    left_out_rows,
    legend,
    less_than,
    low_mass,
    tally,
    verdict,
)
from ws.results.sentences.questions import not_held_out
from ws.results.trials import Trials
from ws.stats import FEW_UNITS, Estimate

ENOUGH_DRAWS = 20


def readings(
    methods: Sequence[Trials], claim: Claim, reference: Trials, chance: Mapping[str, list[Random]]
) -> list[str]:
    """First what the table shows, then everything a reader must know before believing it."""
    axes = {k.name: k.axis(claim.name, claim.metric, claim.sign).found for k in methods}
    return [
        *_shown(methods, claim, axes),
        *_seeds(methods),
        *_unmatched(methods, reference),
        *_random(methods, axes, chance),
        *low_mass({k.name: min(k.share(claim.name, "pmass", arm) for arm in ("neg", "pos")) for k in methods}),
        *left_out_rows({k.name: k.unscored(claim.name) for k in methods}),
        *_missing(axes, reference),
        *_few(axes),
        *not_held_out([t.evals[claim.name] for k in methods for t in k.each]),
        *_smoke(methods, claim),
        *(f"{name} failed: {why}; {k.name} is shown without it." for k in methods for name, why in k.failed.items()),
        *legend(claim.protocol.legend, [claim.metric]),
    ]


def _shown(methods: Sequence[Trials], claim: Claim, axes: Mapping[str, Estimate]) -> list[str]:
    """The matched methods counted by verdict, and the largest of them."""
    comparable = [k.name for k in methods if k.matched and not k.control]
    if not comparable and any(k.as_given for k in methods):
        return ["Strengths are as given, so methods may differ in how hard they push: do not rank them."]
    if not comparable:
        return ["No method is matched at both signs: this table compares nothing at equal strength."]
    nat, wanted = in_nats(claim.metric), int(bool(claim.intent))
    says = {name: verdict(*bounds(axes[name]), wanted, nat=nat) for name in comparable}
    claims = "" if claim.intent else " (the behavior claims nothing about it)"
    lines = [
        f"{claim.metric}{claims}, {some(len(comparable), 'matched method')}: {tally([v.word for v in says.values()])}."
    ]
    known = [name for name in comparable if says[name].clear]
    if known:
        best = max(known, key=lambda name: axes[name].mean)
        lines[0] = f"{lines[0][:-1]}. The largest axis is {best}'s, {with_interval(axes[best])}."
    if wrong := [name for name in comparable if says[name].word == "reversed"]:
        lines.append(f"REVERSED, with an interval clear of 0: {', '.join(wrong)}.")
    if slight := [name for name in known if says[name].slight]:
        lines.append(f"Clear of 0 but slight, {less_than(nat=nat)}: {', '.join(slight)}.")
    return lines


def _seeds(methods: Sequence[Trials]) -> list[str]:
    """The number of seeds, and the methods for which they change nothing."""
    trained = [k for k in methods if not k.control]
    again = [f"{k.name} ({len(k.repeats) + len(k.each)} seeds, {len(k.each)} measured)" for k in trained if k.repeats]
    lines = [f"Some seeds gave the numbers of another seed again, and count once: {', '.join(again)}."] if again else []
    most = max((len(k.each) for k in trained), default=1)
    if most == 1:
        return [*lines, ONE_SEED]
    lines.append(
        f"{most} seeds: intervals are over seeds and units. The column seeds lists the axis of each, same sign how many agree."
    )
    if alone := [k.name for k in trained if len(k.each) == 1 and not k.repeats]:
        lines.append(f"No seed changes these, so they were measured once: {', '.join(alone)}.")
    if shares := [k.overlap for k in trained if k.overlap is not None]:
        lines.append(f"Of the questions one seed learns from, at most {percent(max(shares))} are another's too.")
    return lines


def _unmatched(methods: Sequence[Trials], reference: Trials) -> list[str]:
    trained = [k for k in methods if not k.control]
    off = [k for k in trained if not (k.matched or k.as_given)]
    if not off:
        return []
    listed = ", ".join(f"{k.name} {k.verdict}" for k in off)
    lines = [
        f"Not of equal strength, so not to be ranked ({len(off)} of {len(trained)}): {listed}. Their KL here, and on other "
        "prompts (audit), stands beside them."
    ]
    if reference in off:
        first = f"The reference {reference.name} is unmatched itself, so no difference from it is at equal strength."
        return [first, *lines]
    return lines


def _random(
    methods: Sequence[Trials], axes: Mapping[str, Estimate], chance: Mapping[str, list[Random]]
) -> Iterator[str]:
    """The range of random directions, and the methods that do not stand out from it."""
    if not chance:
        lack = "One draw gives no range" if any(k.control for k in methods) else "No random directions were measured"
        yield f"{lack}: a claim about a direction needs some. Add random:act,random:spectrum to `methods`."
        return
    as_given = any(k.as_given for k in methods)
    for where, each in chance.items():
        for r in each:
            yield _range(r, as_given=as_given)
        beside = [k.name for k in methods if k.places == where and not k.control]
        if inside := [name for name in beside if any(r.inside(axes[name].mean) for r in each)]:
            yield f"Within the range of random directions: {', '.join(inside)}."
    if bare := [k.name for k in methods if not k.control and k.places not in (*chance, "prompts")]:
        yield f"No random direction acts in the same places as these, so nothing is known of chance there: {', '.join(bare)}."
    few = min(len(r.found.each) for each in chance.values() for r in each)
    if few < ENOUGH_DRAWS:
        yield f"{few} draws give a rough range; raise `draws` to {ENOUGH_DRAWS} for a better one."


def _range(r: Random, *, as_given: bool) -> str:
    """The draws of one kind: their interval, whether it contains 0 as it should, and their range."""
    holds = {True: "holds 0", False: "does NOT hold 0", None: "needs more draws"}[r.holds_zero]
    alone = f", of those {with_interval(r.matched.found)}" if r.matched else ""
    known = "" if as_given else f" ({r.n_matched} matched{alone})"
    known += f" and {r.n_lost} more without a number" if r.n_lost else ""
    return (
        f"{r.name}, {some(len(r.found.each), 'draw')}{known}: the axis is {with_interval(r.found.found)} over draws, which "
        f"{holds}; range {signed(r.low)} to {signed(r.high)}."
    )


def _missing(axes: Mapping[str, Estimate], reference: Trials) -> list[str]:
    missing = [name for name, e in axes.items() if not math.isfinite(e.mean)]
    if not missing:
        return []
    against = f" Nothing can be set against {reference.name}." if reference.name in missing else ""
    return [
        f"No number for {', '.join(missing)}: at their strength too few rows could be scored, or none of a group of units."
        f"{against}"
    ]


def _few(axes: Mapping[str, Estimate]) -> list[str]:
    units, of = min(((e.fewest, e.n) for e in axes.values() if math.isfinite(e.mean)), default=(FEW_UNITS, FEW_UNITS))
    return [few_units(units, of=of)] if units < FEW_UNITS else []


def _smoke(methods: Sequence[Trials], claim: Claim) -> list[str]:
    smoke = any(t.evals[claim.name].smoke for k in methods for t in k.each)
    return [SMOKE] if smoke else []
