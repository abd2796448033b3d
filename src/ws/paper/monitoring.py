"""Recipes that watch fine-tunes: where does training on bad advice of one kind move, seen from directions of other kinds?

Angles are those of `ws watch`; here is which of them are set against each other, and what the paper claims of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import combinations, permutations, product
from pathlib import Path

import numpy as np

from ws.numbers import some
from ws.paper import scorecard
from ws.paper.claims import FAILS, HOLDS, OPEN, Claim, Verdict
from ws.paper.domains import Domain, Study
from ws.paper.heatmap import heatmaps
from ws.paper.panels import Dot, Line, Panel
from ws.paper.parts import make_ahead
from ws.paper.recipe import Job, Outcome, Part, Planned, Recipe
from ws.paper.request import RecipeRequest
from ws.records import Place, slug
from ws.results.csv import write_csv
from ws.results.sheet import Sheet
from ws.study.options import Common
from ws.types import Fields, Json
from ws.watch import angles, auroc, make_nulls, matrix, opened, watched
from ws.watch.changes import direction_named
from ws.watch.matrix import Angle
from ws.watch.nulls import PERMUTED, STARTS
from ws.watch.tables import angle_sheet

PROTOCOL = "paper-cos/2"
SMALL = 0.25
"""Below this we call a cosine small."""


@dataclass(frozen=True, eq=False)
class Cosines:
    """All cosines between directions and fine-tunes."""

    names: tuple[str, ...]
    """Domains, in one order."""
    controls: frozenset[str]
    w_tau: Mapping[tuple[str, str, str], float]
    """(domain of the direction, domain of the fine-tune, bad or good) to the cosine."""
    w_w: Mapping[tuple[str, str], float]
    tau_tau: Mapping[tuple[str, str, str, str], float]
    """(domain, bad or good, other domain, bad or good) to the cosine."""

    @property
    def watched(self) -> list[str]:
        """The domains with a bad side."""
        return [n for n in self.names if n not in self.controls]

    def bad_cells(self) -> list[float]:
        """Directions against bad fine-tunes of other domains."""
        return [self.w_tau[a, b, "bad"] for a, b in product(self.watched, self.watched) if a != b]

    def nearness(self, domain: str, side: str) -> float:
        """How near a fine-tune lies to the directions of other domains: its mean cosine with them."""
        return float(np.mean([self.w_tau[a, domain, side] for a in self.watched if a != domain]))

    def records(self) -> list[Json]:
        """Every cell as a line."""
        lines: list[Json] = [
            {"what": "w, tau", "row": a, "column": f"{b} {side}", "cos": c, "same data": a == b}
            for (a, b, side), c in self.w_tau.items()
        ]
        lines += [
            {"what": "w, w", "row": a, "column": b, "cos": c, "same data": a == b} for (a, b), c in self.w_w.items()
        ]
        lines += [
            {"what": "tau, tau", "row": f"{a} {s}", "column": f"{b} {t}", "cos": c, "same data": a == b}
            for (a, s, b, t), c in self.tau_tau.items()
        ]
        return lines


def cosines_of(studies: Sequence[Study]) -> Cosines:
    """The cosines of all directions and both fine-tunes of every study, exact from their factors."""
    base, out = studies[0].base, studies[0].plan.out
    names = [s.domain.name for s in studies]
    taus = [
        (n, side, change)
        for n, s in zip(names, studies)
        for side, change in zip(("bad", "good"), opened(str(s.run), base, out))
    ]
    directions = [direction_named(str(s.run), base, out) for s in studies]
    changes = [c for _, _, c in taus]
    table = angles([*changes, *directions], [*changes, *directions], base).cos()["all"]
    at = len(changes)
    return Cosines(
        tuple(names),
        frozenset(s.domain.name for s in studies if s.domain.control),
        {(n, m, side): float(table[at + i, j]) for i, n in enumerate(names) for j, (m, side, _) in enumerate(taus)},
        {(n, m): float(table[at + i, at + j]) for i, n in enumerate(names) for j, m in enumerate(names)},
        {(n, s, m, t): float(table[i, j]) for i, (n, s, _) in enumerate(taus) for j, (m, t, _) in enumerate(taus)},
    )


def panel(cos: Cosines) -> Panel:
    """Every direction against the two fine-tunes of each other domain: with the good one across, with the bad one upwards."""
    lines = []
    for a in cos.names:
        both = [(b, cos.w_tau[a, b, "good"], cos.w_tau[a, b, "bad"]) for b in cos.names if b != a]
        dots = tuple(Dot(good, bad, (good, good), (bad, bad), b) for b, good, bad in both)
        lines.append(Line(f"w {a}", dots, a in cos.controls))
    axes = ("cosine with the good fine-tune (of a control: the neg side)", "cosine with the bad one")
    return Panel("directions beside fine-tunes of other domains", *axes, tuple(lines), digits=2)


# ---------------------------------------------------------------- claims


def told_apart(cos: Cosines) -> Verdict:
    """Directions lie nearer to bad fine-tunes of other domains than to good ones and to controls.

    The unit is the fine-tune: its cosines with several directions share all the luck of its training.
    """
    if len(cos.watched) < 2:
        return Verdict(OPEN, why="two domains at least are needed")
    bad = [cos.nearness(n, "bad") for n in cos.watched]
    other = [cos.nearness(n, "good") for n in cos.watched]
    other += [cos.nearness(c, side) for c in cos.controls for side in ("bad", "good")]
    area = auroc(bad, other)
    why = f"AUROC of {len(bad)} bad fine-tunes against {len(other)} others, less .5; permuted labels: p = {permuted(cos):.2g}"
    return _around_half(area.value, area.low, area.high, len(bad) + len(other), why)


def permuted(cos: Cosines) -> float:
    """The share of ways to call the sides of the domains bad or good that set them as far apart as they are."""

    def apart(flips: Mapping[str, bool]) -> float:
        own = {True: "good", False: "bad"}
        cells = [
            cos.w_tau[a, b, own[flips[b]]] - cos.w_tau[a, b, own[not flips[b]]]
            for a, b in product(cos.watched, cos.watched)
            if a != b
        ]
        return float(np.mean(cells))

    ways = [dict(zip(cos.watched, flips)) for flips in product((False, True), repeat=len(cos.watched))]
    return float(np.mean([apart(f) >= apart(ways[0]) - 1e-12 for f in ways]))


def nearer_each_other(cos: Cosines) -> Verdict:
    """Directions of bad advice lie nearer to each other than to the control's."""
    own = [cos.w_w[a, b] for k, a in enumerate(cos.watched) for b in cos.watched[k + 1 :]]
    control = [cos.w_w[a, c] for a in cos.watched for c in cos.controls]
    if not own or not control:
        return Verdict(OPEN, why="two domains and a control are needed")
    area = auroc(own, control)
    why = f"AUROC of {len(own)} pairs of directions against {len(control)} with the control, less .5"
    return _around_half(area.value, area.low, area.high, len(own) + len(control), why)


def taus_do_not_tell(cos: Cosines) -> Verdict:
    """Cosines among fine-tunes do not say whether both are bad."""
    both = [cos.tau_tau[a, "bad", b, "bad"] for a, b in combinations(cos.watched, 2)]  # each pair once
    mixed = [cos.tau_tau[a, "bad", b, "good"] for a, b in permutations(cos.watched, 2)]
    if not both:
        return Verdict(OPEN, why="two domains at least are needed")
    area = auroc(both, mixed)
    why = f"AUROC of {len(both)} pairs of bad fine-tunes against {len(mixed)} of bad and good, less .5"
    says = FAILS if area.low > 0.5 or area.high < 0.5 else HOLDS
    return Verdict(says, area.value - 0.5, area.low - 0.5, area.high - 0.5, len(both) + len(mixed), why, "AUROC")


def small(cos: Cosines) -> Verdict:
    """All of them are small."""
    largest = max(map(abs, cos.bad_cells()), default=float("nan"))
    says = OPEN if largest != largest else HOLDS if largest < SMALL else FAILS
    return Verdict(
        says,
        largest,
        n=len(cos.bad_cells()),
        why=f"the largest between directions and other domains; small is below {SMALL:g}",
        unit="cos",
    )


def _around_half(value: float, low: float, high: float, n: int, why: str) -> Verdict:
    says = HOLDS if low > 0.5 else FAILS if high < 0.5 else OPEN
    return Verdict(says, value - 0.5, low - 0.5, high - 0.5, n, why, "AUROC")


CLAIMS: tuple[Claim[Cosines], ...] = (
    Claim(
        "a direction of bad advice lies nearer to bad fine-tunes of other domains than to good ones and controls",
        told_apart,
    ),
    Claim("directions of bad advice lie nearer to each other than to the control direction", nearer_each_other),
    Claim("cosines among fine-tunes do not separate bad from good", taus_do_not_tell),
    Claim("absolute values are small", small),
)


# ---------------------------------------------------------------- beside what means nothing


def beside_nulls(studies: Sequence[Study], control: str) -> list[Angle]:
    """Every bad and good fine-tune against the directions of other domains, as `ws watch` reads them."""
    base, out = studies[0].base, studies[0].plan.out
    advice = [s for s in studies if not s.domain.control]
    taus = [
        (s.domain.name, replace(change, name=f"{s.domain.name} {side}"))
        for s in advice
        for side, change in zip(("bad", "good"), opened(str(s.run), base, out))
    ]
    table = []
    for study in advice:
        own = watched(str(study.run), base, out, control=control)
        own = replace(own, direction=replace(own.direction, name=f"w {study.domain.name}"))
        table += matrix([change for name, change in taus if name != study.domain.name], [own], base)
    return table


def alarmed(table: Sequence[Angle]) -> Verdict:
    """The alarm of `ws watch` is raised by every bad fine-tune and by no good one."""
    bad, good = ([a.alarm for a in table if a.name.endswith(side)] for side in (" bad", " good"))
    if not bad or not good or None in (*bad, *good):
        return Verdict(OPEN, why="a null is missing")
    rates = sum(map(bool, bad)) / len(bad), sum(map(bool, good)) / len(good)
    says = HOLDS if rates == (1, 0) else FAILS if rates[0] <= rates[1] else OPEN
    why = f"{sum(map(bool, bad))} of {len(bad)} bad cells less {sum(map(bool, good))} of {len(good)} good ones; no interval: one training"
    return Verdict(says, rates[0] - rates[1], n=len(table), why=why)


ALARMS: Claim[Sequence[Angle]] = Claim(
    "the alarm of `ws watch` is raised by bad fine-tunes of other domains and not by good ones", alarmed, "ours"
)


# ---------------------------------------------------------------- the recipe


@dataclass(frozen=True)
class Watching(Recipe):
    """A recipe about fine-tunes on domains."""

    domains: tuple[Domain, ...] = ()
    options: Fields = field(default_factory=dict)
    """How the adapters are made."""
    twin: Fields = field(default_factory=dict)

    def on(self, model: str) -> "Watching":
        return replace(self, **self.twin, twin={}) if model == "tiny" and self.twin else self

    @property
    def reads(self) -> Sequence[str]:
        return [*super().reads, *(name for d in self.domains for name in (d.bad, d.good))]

    def plan(self, request: RecipeRequest, common: Common) -> Planned:
        if request.strengths or request.arms:
            raise ValueError(f"{self.name} has no arms and no strengths; leave out --arms and --strengths")
        seeds = len(request.seeds)
        lines = (
            f"domains    {', '.join(d.name + (' (control)' if d.control else '') for d in self.domains)}",
            f"trains     {some(len(self.domains) * seeds, 'pair of fine-tunes', 'pairs of fine-tunes')}, of both data sets of a domain",
        )
        numbers: Json = {"domains": [d.name for d in self.domains], "trainings": len(self.domains) * seeds}
        return Planned(lines, numbers, self.missing(request, common.model))

    def studies(self, job: Job, seed: int) -> list[Study]:
        """Every domain, trained."""
        if seed == job.request.seeds[0]:
            make_ahead(self, job)
        made = []
        for domain in self.domains:
            made.append(domain.study(job, self.options, seed))
            job.say(f"trained  {domain.name} s{seed}")
        return made

    def parts(self, job: Job) -> list[Part]:
        """Both fine-tunes of every domain with every seed."""
        return [
            Part(f"{d.name}/{seed}", partial(d.study, job, self.options, seed))
            for seed in job.request.seeds
            for d in self.domains
        ]

    def place(self, job: Job, protocol: str, studies: Sequence[Study], more: Fields | None = None) -> Place:
        """Where the outcome lies."""
        below = job.out / "paper" / slug(job.base.id) / self.name
        keys = [s.plan.direction_place.key for s in studies]
        return Place.below(below, "paper", {"protocol": protocol}, {"studies": keys, **(more or {})})


@dataclass(frozen=True)
class MonitorCos(Watching):
    """4.8: cosines of directions and fine-tunes across domains, with shared and with independent starts, beside their nulls."""

    permuted: int = PERMUTED
    """Trainings with swapped labels of each domain, which its cosines are read against."""

    def plan(self, request: RecipeRequest, common: Common) -> Planned:
        plan = super().plan(request, common)
        n = sum(not d.control for d in self.domains) * (self.permuted + len(STARTS))
        line = f"nulls      {n} more pairs: of every domain with bad advice {self.permuted} with swapped labels and {len(STARTS)} of the same data"
        return Planned((*plan.lines, line), {**plan.numbers, "nulls": n}, plan.missing)

    def parts(self, job: Job) -> list[Part]:
        """The domains, and then the nulls of the first seed."""
        domains, seed = super().parts(job), job.request.seeds[0]
        control = [f"{d.name}/{seed}" for d in self.domains if d.control]
        nulls = [
            Part(f"{d.name}/{seed}/nulls", partial(self._make_nulls, job, d), (f"{d.name}/{seed}", *control))
            for d in self._against_nulls
        ]
        return [*domains, *nulls]

    def _make_nulls(self, job: Job, domain: Domain) -> None:
        run = domain.study(job, self.options, job.request.seeds[0]).run
        make_nulls(run, job.base, permuted=self.permuted, control=self._control)

    @property
    def _against_nulls(self) -> list[Domain]:
        """The domains of advice, where there is a control."""
        return [d for d in self.domains if self._control and not d.control]

    @property
    def _control(self) -> str | None:
        """The domain that is no advice; without one nothing is said of alarms, and no nulls are made."""
        return next((d.name for d in self.domains if d.control), None)

    def run(self, job: Job) -> Outcome:
        seeds = job.request.seeds
        studies = {seed: self.studies(job, seed) for seed in seeds}
        for domain in self._against_nulls:
            self._make_nulls(job, domain)
            job.say(f"nulls    {domain.name}")
        every = [s for own in studies.values() for s in own]
        place = self.place(job, PROTOCOL, every, {"permuted": self.permuted})
        record = place.once(lambda work: self._write(work, job, studies), beside={"command": job.command})
        return scorecard.read(self.name, record.folder, {}, reused=record.reused)

    def _write(self, work: Path, job: Job, studies: Mapping[int, Sequence[Study]]) -> Json:
        seeds = list(studies)
        where = f"{self.name} · {job.base.id}"
        cos = cosines_of(studies[seeds[0]])
        table = beside_nulls(studies[seeds[0]], self._control) if self._control else []
        verdicts = [*(c.judged(cos) for c in CLAIMS), ALARMS.judged(table)]
        sheets = [cos_sheet(cos, f"{where} · cos(w, tau), shared start, seed {seeds[0]}")]
        sheets += [angle_sheet(table, f"{where} · beside nulls, seed {seeds[0]}")] if table else []
        files = heatmaps(cos, f"{where}, seed {seeds[0]}", work / self.name)
        write_csv(work / f"{self.name}.csv", cos.records())
        for seed in seeds[1:]:
            again = cosines_of(studies[seed])
            sheets.append(cos_sheet(again, f"{where} · cos(w, tau), shared start, seed {seed}"))
        notes = [
            "Cells of one data set are arithmetic and count in no claim.",
            "All fine-tunes of a seed begin at one start, which by itself makes LoRA cosines larger.",
        ]
        if len(seeds) > 1:
            sheets.append(independent_sheet(studies[seeds[0]], studies[seeds[1]], where))
        else:
            notes.append("With a second seed (--seeds=0,1) the same is shown for starts of their own.")
        sheets.append(scorecard.claims_sheet(verdicts, f"{where} · scorecard"))
        return scorecard.write(work, sheets, verdicts, [panel(cos)], files, notes)


def cos_sheet(cos: Cosines, title: str) -> Sheet:
    """A line per fine-tune, a column per direction; those of one data set in brackets."""
    lines, records = [], []
    for name in cos.names:
        for side in ("bad", "good"):
            cells = [cos.w_tau[w, name, side] for w in cos.names]
            shown = [f"({c:+.3f})" if w == name else f"{c:+.3f}" for w, c in zip(cos.names, cells)]
            label = {"bad": "pos side", "good": "neg side"}[side] if name in cos.controls else side
            lines.append((f"{name}, {label}", *shown))
            records.append({"fine-tune": name, "side": side, **dict(zip(cos.names, cells))})
    expected = (
        "bad rows are meant to stand above good ones in every column of another domain; in brackets: one data set."
    )
    return Sheet(
        title,
        expected,
        ("fine-tune", *(f"w {n}" for n in cos.names)),
        tuple(lines),
        tuple(records),
        words=("fine-tune",),
    )


def independent_sheet(one: Sequence[Study], other: Sequence[Study], where: str) -> Sheet:
    """Directions of one seed against fine-tunes of another, which began elsewhere."""
    base, out = one[0].base, one[0].plan.out
    directions = [direction_named(str(s.run), base, out) for s in one]
    taus = [(s.domain, side, c) for s in other for side, c in zip(("bad", "good"), opened(str(s.run), base, out))]
    table = angles([c for _, _, c in taus], directions, base).cos()["all"]
    lines = tuple(
        (f"{d.name}, {side}", *(f"{float(table[i, j]):+.3f}" for j in range(len(one))))
        for i, (d, side, _) in enumerate(taus)
    )
    records = tuple(
        {"fine-tune": d.name, "side": side, **{s.domain.name: float(table[i, j]) for j, s in enumerate(one)}}
        for i, (d, side, _) in enumerate(taus)
    )
    names = [s.domain.name for s in one]
    seeds = f"{one[0].plan.seed} and {other[0].plan.seed}"
    return Sheet(
        f"{where} · cos(w, tau), independent starts, seeds {seeds}", "starts of their own make every cosine small.",
        ("fine-tune", *(f"w {n}" for n in names)), lines, records, words=("fine-tune",),
    )  # fmt: skip
