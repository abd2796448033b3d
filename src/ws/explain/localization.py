"""Which modules cause the effect? Left out, alone, and by the slope of the effect along each of them.

    lost     1 - R of all but the group: what is lost without it
    alone    R of the group alone, at the strength of the whole
    equal    the same with the group made as large as the whole direction
    slope    the group's share of the sum of slopes (half of those at 0 and at alpha), one backward pass for all modules
    z        its slope at 0, in root mean squares of what random directions have there that are as large in every module

The part that keeps most is chosen on one half of the units (every other one by name), and reported on the other half.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from ws.calibrate import divergences, prompt_sets
from ws.direction import Direction
from ws.direction.algebra import layer_of, restricted
from ws.direction.groups import kind_of
from ws.direction.variants import as_variant
from ws.errors import Unsupported
from ws.explain import places
from ws.explain.attribution import Slopes, questions_with_slopes, random_steps, row_metric, slopes
from ws.explain.measure import FULL, Measure
from ws.explain.protocol import (
    DRAWS,
    Analysis,
    Curves,
    Effect,
    Finding,
    Heat,
    Subject,
    Table,
    Variant,
    measured,
    together,
)
from ws.explain.show import short
from ws.methods.weights import Weights
from ws.numbers import percent, some
from ws.stats import Estimate, Sample, combined, estimate, quotient

ALL_MODULES = 64
"""With more modules, leaving each of them out takes too long; their slopes say where to look."""
KEEPS = 0.9
"""The share of the effect that an exported part keeps."""
STEPS = 23
"""Sizes of parts that are tried, where there are more modules than that."""
SHOWN = 24
"""Modules that a page lists."""
KL_PROMPTS, KL_TOKENS = 40, 30
STANDS_OUT = 8.0
"""Root mean squares of random slopes from which on a module's own is more than chance."""


@dataclass(frozen=True)
class Place:
    """One group of modules: what is lost without it, what it does alone, and its share of the slopes."""

    where: str
    lost: Estimate
    """The share of the effect that is missing where these modules are left out."""
    alone: Estimate
    """The share of the effect that these modules have alone, at the strength of the whole."""
    equal: Estimate
    """The same where they are made as large as the whole direction."""
    slope: Estimate | None
    """Their share of the sum of slopes over all modules, half of those at 0 and at alpha."""
    z: float | None
    """Their slope at 0, in root mean squares of random changes that are as large in every module."""
    size: float
    """Their norm, as a share of the whole's."""


@dataclass(frozen=True)
class Gradient:
    """One module: the slope of the metric along it, per unit of alpha, and what it does alone where that was measured."""

    module: str
    slope: Estimate
    """Its share of the sum of slopes over all modules, half of those at 0 and at alpha."""
    z: float
    """Its slope at 0, in root mean squares of random changes as large."""
    lost: Estimate | None
    """The share of the effect that is missing where it is left out."""
    alone: Estimate | None
    """The share of the effect that it has alone."""
    at_0: Estimate
    """The slope of the metric by its strength, where all strengths are 0."""
    at_alpha: Estimate
    """The same where all strengths are alpha."""
    at_minus_alpha: Estimate
    """The same where all strengths are -alpha."""


@dataclass(frozen=True)
class Chosen:
    """The smallest part that keeps so much of the effect: chosen on one half of the units, measured on the other."""

    modules: int
    """How many modules it has."""
    of: int
    """How many the whole direction has."""
    retained: Estimate
    """The share of the effect that it keeps, on the half of the units that nothing was chosen on."""
    kl: float
    """Mean KL(steered || base) per token that it writes to neutral prompts, at the same alpha."""
    kl_full: float
    """The same of the whole direction."""
    size: float
    """Its norm, as a share of the whole's."""
    names: str


@dataclass(frozen=True, eq=False)
class Attribution:
    """The slopes of one metric by module: at 0, at alpha, at -alpha, and of random directions at 0."""

    at_0: Mapping[str, Sample]
    at_alpha: Mapping[str, Sample]
    at_minus_alpha: Mapping[str, Sample]
    chance: Mapping[str, np.ndarray]
    """(draws,) per module."""

    def share(self, modules: Sequence[str]) -> Estimate:
        """Some modules' share of the sum over all, by the trapezoid rule from 0 to alpha."""
        return estimate(quotient(self._sum(modules), self._sum(list(self.at_0))))

    def _sum(self, modules: Sequence[str]) -> Sample:
        return combined([(0.5, ends[m]) for ends in (self.at_0, self.at_alpha) for m in modules])

    def z(self, modules: Sequence[str]) -> float:
        """The slope at 0 of some modules, in root mean squares of random ones."""
        usual = float(np.sqrt(np.mean(np.square(sum(self.chance[m] for m in modules)))))
        return sum(value(self.at_0[m]) for m in modules) / usual if usual > 0 else math.nan

    @cached_property
    def added(self) -> dict[str, float]:
        """What each module adds to the effect at alpha, per unit of alpha, by the trapezoid rule."""
        return {m: (value(self.at_0[m]) + value(self.at_alpha[m])) / 2 for m in self.at_0}

    @property
    def total(self) -> float:
        return sum(self.added.values())

    def order(self) -> list[str]:
        """Modules by what they add to the effect, the largest first."""
        toward = 1.0 if self.total >= 0 else -1.0
        return sorted(self.added, key=lambda m: -toward * self.added[m])


def value(sample: Sample) -> float:
    """The number of a sample, without its interval."""
    return sample.by_unit.value


def attribution(measure: Measure, metric: str, taken: Sequence[Slopes]) -> Attribution:
    """The slopes of one metric from three passes: at 0 with random directions beside, at alpha, at -alpha."""
    names = list(measure.direction.forms)
    linear = row_metric(measure, taken[0].rows, metric)
    zero, plus, minus = ({n: linear.sample(s.tables[0][:, k].numpy()) for k, n in enumerate(names)} for s in taken)
    drawn = np.stack([linear.values(t.numpy()) for t in taken[0].tables[1:]])  # (draws, modules)
    return Attribution(zero, plus, minus, {n: drawn[:, k] for k, n in enumerate(names)})


def passes(measure: Measure, seed: int = 0) -> list[Slopes]:
    """The three passes: at 0, with random directions as large in every module beside it, at alpha and at -alpha."""
    drawn = random_steps(measure.direction, measure.base.weight, DRAWS["energy"], seed=seed)
    return [slopes(measure, 0.0, drawn), slopes(measure, measure.alpha), slopes(measure, -measure.alpha)]


def run(subject: Subject) -> Finding:
    """The tables, the heat map, and the smallest part that keeps most of the effect."""
    measure, names = measured(subject), list(subject.direction.forms)
    taken, why_not = _passes_if_any(measure, subject.seed)
    groups: dict[str, frozenset[str]] = {**places.layers(names), **places.kinds(names)}
    if len(names) <= ALL_MODULES:
        groups |= {name: frozenset([name]) for name in names}
    effects = measure(_parts(measure, groups, names))
    findings = [Finding((), readings=(why_not,))] if why_not else []
    if heat := _experts(subject.direction):
        findings.append(Finding((), (heat,)))
    for metric in dict.fromkeys(e.metric for e in effects):
        own = {e.variant: e for e in effects if e.metric == metric}
        here = None if taken is None else attribution(measure, metric, taken)
        findings.append(_where(groups, names, metric, own, here))
        order = _order(replace(measure, units="even"), metric, taken, names)
        if order and not math.isnan(own[FULL].retained.mean):
            findings.append(_few(subject, measure, metric, order))
    return together(findings)


def _passes_if_any(measure: Measure, seed: int) -> tuple[list[Slopes] | None, str]:
    """(the passes, nothing), or (None, why there are none): answers of whole texts and metrics that are no means have no slopes."""
    try:
        _, rows = questions_with_slopes(measure)
        for metric in dict.fromkeys(e.metric for e in measure([])):
            row_metric(measure, rows, metric)
        return passes(measure, seed), ""
    except Unsupported as error:
        return None, f"Without slopes: {error}"


def _order(chosen_on: Measure, metric: str, taken: Sequence[Slopes] | None, names: Sequence[str]) -> list[str]:
    """Modules by what they add to the effect: by their slopes, or by what each does alone; nothing where neither is known."""
    if taken is not None:
        return attribution(chosen_on, metric, taken).order()
    if len(names) > ALL_MODULES:
        return []
    alone = chosen_on(places.only({n: frozenset([n]) for n in names}))
    kept = {e.variant.removeprefix("only:"): e.retained.mean for e in alone if e.metric == metric}
    return sorted(names, key=lambda n: -kept[n] if math.isfinite(kept[n]) else 0.0)


def _where(
    groups: places.Group, names: Sequence[str], metric: str, own: Mapping[str, Effect], here: Attribution | None
) -> Finding:
    """Where one metric's effect sits."""
    rows = {name: _place(name, modules, own, here) for name, modules in groups.items()}
    several = [row for name, row in rows.items() if name not in names]
    modules = [row for name, row in rows.items() if name in names] if here is None else _gradients(here, own, names)
    if here is None:
        heat = _heat(
            {n: rows[n].alone.mean for n in names if n in rows}, names, f"{metric}: what each module keeps alone"
        )
    else:
        heat = _heat({n: x / here.total for n, x in here.added.items()}, names, f"{metric}: share of the slopes")
    tables = (
        Table(f"{metric}: layers and kinds of matrices", several),
        Table(f"{metric}: single modules", modules, most=SHOWN),
    )
    return Finding(tables, (heat,) if heat.values else (), tuple(_readings(own[FULL], here, names)))


def _few(subject: Subject, measure: Measure, metric: str, order: Sequence[str]) -> Finding:
    """The smallest part that keeps most of the effect: chosen on one half of the units, reported on the other."""
    chosen_on, reported_on = replace(measure, units="even"), replace(measure, units="odd")
    most = min(len(order), subject.top or len(order))
    sizes = sorted({round(most ** (k / STEPS)) for k in range(STEPS + 1)}) if most > STEPS else range(1, most + 1)
    parts = [Variant(f"first:{n}", scales=dict.fromkeys(sorted(order[:n]), 1.0)) for n in sizes]
    seen, held = ({e.variant: e for e in m(parts) if e.metric == metric} for m in (chosen_on, reported_on))
    if math.isnan(held[FULL].retained.mean) or math.isnan(seen[FULL].retained.mean):
        return Finding((), readings=(f"{metric}: half of the units are too few to choose modules on.",))
    lines = {"where they were chosen": seen, "on other questions": held}
    curve = Curves(
        f"{metric}: the modules that add most, and no others",
        "modules",
        "share of the effect",
        [float(n) for n in sizes],
        {name: [of[f"first:{n}"].retained.mean for n in sizes] for name, of in lines.items()},
    )
    n = next((n for n in sizes if seen[f"first:{n}"].retained.mean >= KEEPS), None)
    if n is None:
        more = "; without `top` more are tried" if most < len(order) else ""
        return Finding(
            (), (curve,), (f"{metric}: no {some(most, 'module')} keep {percent(KEEPS)} of the effect{more}.",)
        )
    modules = sorted(order[:n])
    part = as_variant(subject.direction, restricted(subject.direction, keep=modules).forms, f"top:{n}")
    kl, kl_full = (divergence(measure, d) for d in (part, subject.direction))
    e = held[f"first:{n}"]
    row = Chosen(n, len(order), e.retained, kl, kl_full, e.size, ", ".join(modules))
    table = Table(
        f"{metric}: the fewest modules that keep {percent(KEEPS)}, on questions they were not chosen on", [row]
    )
    reading = (
        f"{metric}: {n} of {some(len(order), 'module')} {'keeps' if n == 1 else 'keep'} {percent(e.retained.mean)} of the effect on questions they were not chosen "
        f"on, at {percent(kl / kl_full if kl_full > 0 else None)} of its KL."
    )
    return Finding((table,), (curve,), (reading,), {f"top-{n}-{metric}": part})


def divergence(measure: Measure, direction: Direction) -> float:
    """Mean KL(steered || base) per token on neutral prompts, at the strength of a measure."""
    base = measure.base
    prompts = prompt_sets(base.tiny, KL_PROMPTS).calib
    method = Weights("part", direction, origin=measure.origin)
    return divergences(base, method, prompts, [measure.alpha], tokens=KL_TOKENS)[0].mean


def _parts(measure: Measure, groups: places.Group, names: Sequence[str]) -> list[Variant]:
    """Every group left out, alone, and alone but as large as the whole."""
    alone = places.only(groups)
    sizes = {name: measure.size(v) for name, v in zip(groups, alone)}
    equal = places.only(groups, {name: 1 / size if size > 0 else 0.0 for name, size in sizes.items()})
    equal = [replace(v, name=v.name.replace("only:", "equal:", 1)) for v in equal]
    return [*places.without(groups, names), *alone, *equal]


def _place(name: str, modules: frozenset[str], own: Mapping[str, Effect], here: Attribution | None) -> Place:
    some = sorted(modules)
    alone = own[f"only:{name}"]
    return Place(
        name,
        lost=_rest(own[f"without:{name}"].retained),
        alone=alone.retained,
        equal=own[f"equal:{name}"].retained,
        slope=None if here is None else here.share(some),
        z=None if here is None else here.z(some),
        size=alone.size,
    )


def _rest(e: Estimate) -> Estimate:
    """What is missing to 1."""
    return replace(e, mean=1 - e.mean, ci_lo=1 - e.ci_hi, ci_hi=1 - e.ci_lo)


def _gradients(here: Attribution, own: Mapping[str, Effect], names: Sequence[str]) -> list[Gradient]:
    """A row per module, the largest share first; with many modules none of them was left out."""
    rows = []
    for name in names:
        some = f"without:{name}" in own
        rows.append(
            Gradient(
                name,
                slope=here.share([name]),
                z=here.z([name]),
                lost=_rest(own[f"without:{name}"].retained) if some else None,
                alone=own[f"only:{name}"].retained if some else None,
                at_0=estimate(here.at_0[name]),
                at_alpha=estimate(here.at_alpha[name]),
                at_minus_alpha=estimate(here.at_minus_alpha[name]),
            )
        )
    return sorted(rows, key=lambda r: -abs(r.slope.mean))


def _heat(shares: Mapping[str, float], names: Sequence[str], title: str) -> Heat:
    """The share of every layer and kind; nothing where those of modules are not known."""
    layers, kinds = places.layers(names), places.kinds(names)
    cells = [[sorted(of_layer & of_kind) for of_kind in kinds.values()] for of_layer in layers.values()]
    values = [[sum(shares[m] for m in c) if c else math.nan for c in row] for row in cells] if shares else []
    return Heat(title, "share", [n.removeprefix("layer") for n in layers], list(kinds), values)


def _experts(direction: Direction) -> Heat | None:
    """The norm of every expert, a row per tensor that holds them; nothing where there are none."""
    norms = direction.expert_norms()
    most = max(map(len, norms.values()), default=0)
    if not most:
        return None
    rows = [f"{layer_of(n)} {kind_of(n)}" for n in norms]
    values = [[*own, *[math.nan] * (most - len(own))] for own in norms.values()]
    return Heat("norm of every expert", "norm", rows, [str(e) for e in range(most)], values)


def seats(here: Attribution, names: Sequence[str]) -> list[str]:
    """The modules that hold half of the slopes together, the fewest, if each is beyond what random directions have; else none."""
    held, some = 0.0, []
    for m in here.order():
        if held >= 0.5:
            break
        some.append(m)
        held += here.added[m] / here.total
    return some if held >= 0.5 and all(abs(here.z([m])) >= STANDS_OUT for m in some) else []


def _readings(full: Effect, here: Attribution | None, names: Sequence[str]) -> list[str]:
    metric = full.metric
    if math.isnan(full.retained.mean):
        return [f"{metric}: the interval of the whole's effect holds 0, so there is nothing to localize."]
    if here is None:
        return []
    where = seats(here, names)
    lines = [
        f"{metric}: half of the slopes lie in {len(where)} of {len(names)} modules: {', '.join(map(short, where))}."
        if where
        else f"{metric}: no few modules stand out from random directions that are as large."
    ]
    ratio = here.total * full.alpha / full.delta.mean
    lines.append(
        f"{metric}: all slopes together account for {100 * ratio:.0f} % of the effect at alpha {full.alpha:g}; far from 100 % "
        "modules work together, or against each other, and shares are a first guess."
    )
    return lines


LOCALIZATION = Analysis(
    "localization",
    "Which modules cause the effect, and how few of them keep it?",
    "Leaving a module out and keeping it alone differ where modules work together; neither is its share of a sum. A slope is what a "
    "small step does, and says less the further the dial is turned.",
    run,
    measures=True,
)
