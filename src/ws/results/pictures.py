"""The numbers that the plots of a comparison are drawn from."""

from collections.abc import Sequence

from ws.eval.foundations import AXES
from ws.eval.tinymfv import FOUNDATIONS
from ws.numbers import finite
from ws.results.claims import Claim
from ws.results.controls import randoms
from ws.results.layouts.comparison import ranked
from ws.results.layouts.foundations import SHORT
from ws.results.trials import Trial, Trials
from ws.stats import Estimate, estimate
from ws.types import Fields, Json


def _ends(e: Estimate) -> tuple[float | None, float | None, float | None]:
    """(value, low, high), None where there is no number."""
    value, low, high = (x if finite(x) else None for x in (e.mean, e.ci_lo, e.ci_hi))
    return value, low, high


def forest_lines(methods: Sequence[Trials], claim: Claim) -> list[Json]:
    """Methods in the order of the table, with the range of random draws of their kind."""
    chance = randoms(methods, claim)
    lines = []
    for k in ranked(methods, claim):
        value, low, high = _ends(k.axis(claim.name, claim.metric, claim.sign).found)
        alone = k.control and len(k.each) == 1
        around = [] if alone else [r for r in chance.get(k.places, []) if not k.control or r.name == k.name]
        band = (min(r.low for r in around), max(r.high for r in around)) if around else None
        name = k.name + (f" ({len(k.each)})" if len(k.each) > 1 else "")
        lines.append(
            {
                "name": name,
                "value": value,
                "low": low,
                "high": high,
                "matched": k.matched,
                "control": k.control,
                "band": band,
            }
        )
    return lines


def curves(methods: Sequence[Trials], claim: Claim) -> list[Json]:
    """Every strength of the first seed, and of all random draws, as a point."""
    return [
        {
            "name": k.name if k.matched or k.control else f"{k.name} (unmatched)",
            "control": k.control,
            "points": [_point(t, claim, p) for p in t.record["strength"]["points"]],
        }
        for k in ranked(methods, claim)
        for t in (k.each if k.control else k.each[:1])
    ]


def _point(trial: Trial, claim: Claim, point: Fields) -> Json:
    """One strength: its KL, and the change there."""
    value, low, high = _ends(estimate(trial.moved(claim.name, claim.metric, point["alpha"])))
    return {"alpha": point["alpha"], "kl": point["kl"], "value": value, "low": low, "high": high}


def foundation_panels(trials: Sequence[Trial], name: str, axis: str | None) -> list[Json]:
    """The change of every foundation at both arms."""
    panels = []
    for t in trials:
        lines = []
        for f in FOUNDATIONS:
            metric = f"d_{f.replace(' ', '')}"
            if metric in t.metrics(name):
                arms = {arm: _ends(estimate(t.moved(name, metric, a))) for arm, a in (("neg", t.neg), ("pos", t.pos))}
                lines.append({"name": SHORT[f], "target": bool(axis and f in AXES[axis]), **arms})
        panels.append({"name": t.method + ("" if t.matched else "\nunmatched"), "lines": lines})
    return panels
