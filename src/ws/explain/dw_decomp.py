"""`dw_decomp`: is it what the direction changes, or where it changes much?

    dir_only     every module's own change, all of them equally large
    mag_only     Gaussian noise as large as the direction in every module
    random_norm  Gaussian noise that is equally large everywhere

At the same alpha, and again where each moves the model by as much KL as the whole. Published (DeLoRA, one draw each): SI -34.3 for the
whole, -41.0 for dir_only, -34.8 for mag_only and -13.4 for random_norm.
"""

import math
from dataclasses import dataclass

from ws.direction.variants import dir_only, mag_only, random_norm
from ws.explain.equal_kl import is_equal, matched, scaled
from ws.explain.measure import FULL, Measure
from ws.explain.protocol import DRAWS, Analysis, Bars, Effect, Finding, Subject, Table, Variant, measured
from ws.stats import Estimate, Interval
from ws.stats.arms import decided
from ws.stats.informedness import Informedness, informedness
from ws.stats.shift import Shift, decomposition
from ws.types import Json

RESAMPLES = 500
SAME = "same alpha"
ABLATION = "dw_decomp_ablation"
"""The folder in which the published fork keeps this table."""


@dataclass(frozen=True)
class Decomposed:
    """One variant: its effect, what it fixes and breaks, and the kind of its shift."""

    variant: str
    strength: str
    """At the alpha of the whole, or where its KL is the whole's."""
    factor: float
    """Its strength, as a multiple of the whole's."""
    kl: float
    """Its KL over the whole's; only near 1 is it equal."""
    delta: Estimate
    """The change of the metric."""
    si: Interval | None
    """Surgical informedness of the one arm at k = 1, 0 by chance."""
    fix: Interval | None
    """The share of wrong rows that it puts right."""
    broke: Interval | None
    """The share of right rows that it breaks."""
    rows: str
    """How many rows that is: fixed/broken."""
    a: Estimate | None
    """The shift of an undecided row."""
    b: Estimate | None
    """Above 1 it only sharpens, below 1 it flattens."""


def run(subject: Subject) -> Finding:
    """Every variant at the alpha of the whole, and at its KL."""
    measure = measured(subject)
    own, draws = variants(subject), DRAWS["effect"]
    shares = matched(measure, own)
    equal = [scaled(v, shares[v.name][0], f"{v.name} at equal KL") for v in own]
    found = measure([*own, *equal])
    effects = {e.variant: e for e in found if e.metric == found[0].metric}
    rows = [_row(measure, measure.full, effects[FULL], FULL, SAME, 1.0, 1.0)]
    rows += [_row(measure, v, effects[v.name], v.name, SAME, 1.0, math.nan) for v in own]
    rows += [_row(measure, e, effects[e.name], v.name, "equal KL", *shares[v.name]) for v, e in zip(own, equal)]
    return Finding(
        (Table(f"{effects[FULL].metric}, alpha {measure.alpha:+g}", rows),),
        (_picture(rows, effects[FULL].metric),),
        tuple(_readings(rows, draws)),
    )


def variants(subject: Subject) -> list[Variant]:
    """dir_only, and as many draws of both kinds of noise as a control takes."""
    d, weight = subject.direction, subject.base.weight
    seeds = range(subject.seed, subject.seed + DRAWS["effect"])
    return [
        Variant("dir_only", dir_only(d, weight)),
        *(Variant(f"mag_only:{s}", mag_only(d, s, weight)) for s in seeds),
        *(Variant(f"random_norm:{s}", random_norm(d, s, weight)) for s in seeds),
    ]


def published(finding: Finding) -> list[Json]:
    """The variants at the strength of the whole, in the columns of the published table."""
    return [
        {
            "variant": r.variant,
            "SI": None if r.si is None else r.si.value,
            "fix/broke @ +1": r.rows,
            "mean_lr delta @ +1": r.delta.mean,
        }
        for r in finding.tables[0].rows
        if r.strength == SAME
    ]


def _row(
    measure: Measure, v: Variant, effect: Effect, name: str, strength: str, factor: float, kl: float
) -> Decomposed:
    score, shift = _marks(measure, v)
    return Decomposed(
        name,
        strength,
        factor,
        kl,
        effect.delta,
        None if score is None else score.one_arm[1].found,
        None if score is None else score.fix.share,
        None if score is None else score.broke.share,
        "" if score is None else f"{score.fix.count}/{score.broke.count}",
        shift.a if shift is not None and shift.fits else None,
        shift.b if shift is not None and shift.fits else None,
    )


def _marks(measure: Measure, v: Variant) -> tuple[Informedness | None, Shift | None]:
    """(informedness of the one arm, its shift), where the evaluation decides rows at all."""
    import pandas as pd

    rows = measure.rows([v])
    both = pd.concat([rows[""].assign(arm="ref"), rows[v.name].assign(alpha=1.0, arm="pos", method="variant")])
    both = measure.of_units(both.reset_index(drop=True))
    if both["unit_id"].nunique() < 2:
        return None, None
    items = decided(both) if measure.evaluation.chosen.ordered else both
    score = informedness(items, ks=(1,), resamples=RESAMPLES)
    return score, decomposition(items, resamples=RESAMPLES)


def _picture(rows: list[Decomposed], metric: str) -> Bars:
    names = [f"{r.variant}, {r.strength}" for r in rows]
    deltas = [r.delta for r in rows]
    ends = [e.ci_lo for e in deltas], [e.ci_hi for e in deltas]
    return Bars(f"{metric}: direction and size taken apart", "change", names, [e.mean for e in deltas], *ends)


def _readings(rows: list[Decomposed], draws: int) -> list[str]:
    full = rows[0].delta.mean
    flat = next(r for r in rows if r.variant == "dir_only")
    lines = [f"All modules made equally large, the direction still moves {flat.delta.mean:+.3g} of {full:+.3g}."]
    for kind, words in (("mag_only", "as large where the direction is"), ("random_norm", "equally large everywhere")):
        drawn = [r.delta.mean for r in rows if r.variant.startswith(kind) and r.strength == SAME]
        lines.append(f"Noise {words} moves {min(drawn):+.3g} to {max(drawn):+.3g} in {draws} draws.")
    unmatched = [r.variant for r in rows if r.strength == "equal KL" and not is_equal(r.kl)]
    if unmatched:
        lines.append(f"Not of equal KL after all, so not to be compared there: {', '.join(unmatched)}.")
    return lines


DW_DECOMP = Analysis(
    "dw_decomp",
    "Is it what the direction changes, or where it changes much?",
    "Noise of the right size that raises a mean may only sharpen: look at a and b. Equal sizes are one choice among many, and a "
    "direction that needs its own sizes is no less a direction.",
    run,
    measures=True,
)
