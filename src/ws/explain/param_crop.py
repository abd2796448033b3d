"""`param_crop`: which part of the parametrisation carries the effect?

top, middle, bottom    shares of the direction's own singular values, by index; energy: the fewest that hold so much
base_block:S           the part between the top share S of W's own singular vectors on both sides, P U^T w V P
rest of ...            what each leaves; kept + rest = the whole
"""

import math

import torch

from ws.direction import Direction
from ws.direction.variants import Flags, complement, cropped, flags_of, projected
from ws.explain.bases.spectra import spectrum_of
from ws.explain.measure import FULL
from ws.explain.protocol import Analysis, Effect, Finding, Subject, Table, Variant, measured
from ws.explain.show import bars_of
from ws.numbers import percent

CROPS = ("top:.25", "middle:.5", "bottom:.25", "energy:.5", "energy:.9")
BLOCKS = (0.1, 0.5)
TOO_FAR = 1e-6
"""Of the whole's norm, by which a part and its rest may miss the whole."""


def run(subject: Subject) -> Finding:
    """The effects of crops and blocks, and of what each leaves."""
    base, whole = subject.base, subject.direction
    measure = measured(subject)
    crops = {part: cropped(whole, part, base.weight) for part in CROPS}
    blocks = {f"base_block:{share:g}": base_block(subject, share) for share in BLOCKS}
    parts, missed = [], 0.0
    for name, kept in {**crops, **blocks}.items():
        if not kept.forms:
            continue  # a quarter of a rank of one is none
        rest = complement(whole, kept, name=f"rest of {name}")
        missed = max(missed, (whole - kept - rest).norm(base.weight) / whole.norm(base.weight))
        flags = flags_of(kept.provenance["variant"])
        parts += [Variant(name, kept, flags=flags), Variant(f"rest of {name}", rest, flags=flags)]
    if missed > TOO_FAR:
        raise AssertionError(f"a part and its rest miss the whole by {missed:.1e}")
    effects = measure([*parts, *measure.controls(seed=subject.seed)])
    rank = next(iter(crops.values())).provenance["variant"]["rank"]
    return Finding(
        (Table("effects of crops and of what they leave", effects),),
        tuple(
            bars_of([e for e in effects if e.metric == m], f"{m}: what each part keeps of the effect")
            for m in dict.fromkeys(e.metric for e in effects)
        ),
        (
            f"The direction has rank {rank:.0f}: a crop that keeps as many is the direction itself, and one that keeps nearly all of "
            "its energy says little (tautology).",
            *_readings(effects),
        ),
    )


def base_block(subject: Subject, share: float) -> Direction:
    """The part between the top singular vectors of W on both sides, from the decompositions that are kept per model."""
    write, read = {}, {}
    for name in subject.direction.forms:
        of_experts = subject.base.weight(name).ndim == 3
        experts = range(len(subject.base.weight(name))) if of_experts else [None]
        own = [spectrum_of(subject.base, name, e) for e in experts]
        k = max(1, math.floor(share * min(len(s.s) for s in own)))
        sides = [s.u[:, :k] for s in own], [s.v[:, :k] for s in own]
        write[name], read[name] = (torch.stack(side) if of_experts else side[0] for side in sides)
    label = f"base_block:{share:g}"
    weight = subject.base.weight
    return projected(subject.direction, write=write, read=read, weight=weight, name=label, flags=Flags("base"))


def _readings(effects: list[Effect]) -> list[str]:
    first = effects[0].metric
    own = {e.variant: e for e in effects if e.metric == first}
    if math.isnan(own[FULL].retained.mean):
        return ["No share can be given: the effect of the whole direction on these rows may be none."]
    block = own[f"base_block:{BLOCKS[0]:g}"]
    rest = own[f"rest of base_block:{BLOCKS[0]:g}"]
    return [
        f"{first}: between the top {percent(BLOCKS[0])} of W's singular vectors on both sides lies {100 * block.size**2:.1f} % of the squared norm "
        f"and {percent(block.retained.mean)} of the effect; the rest keeps {percent(rest.retained.mean)}."
    ]


PARAM_CROP = Analysis(
    "param_crop",
    "Which part of the parametrisation carries the effect?",
    "A crop by the direction's own singular values is made from the direction (tautology): it shows how few of its dimensions are "
    "needed, not where they lie. A block between W's top singular vectors is a small part of all entries, so compare its share of "
    "the effect with its share of the norm.",
    run,
    measures=True,
)
