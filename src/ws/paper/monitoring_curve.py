"""4.9: the steps of a training on bad advice: cosines with directions of other domains, beside what the model says by then."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ws.numbers import NO
from ws.paper import scorecard
from ws.paper.claims import FAILS, HOLDS, OPEN, Claim, Verdict, decided
from ws.paper.domains import Study
from ws.paper.figures import titled
from ws.paper.misaligned import BASE, EM, EmValidate, answers_of, asked
from ws.paper.panels import Dot, Line, Panel
from ws.paper.recipe import Job, Outcome
from ws.results.csv import write_csv
from ws.results.plots import COLORS, GREY, grid_of, saved
from ws.results.sheet import Sheet
from ws.stats import Estimate, Sample, change, estimate
from ws.stats.bootstrap import times_drawn
from ws.types import Json
from ws.watch import angles
from ws.watch.changes import direction_named
from ws.watch.checkpoints import trainings
from ws.watch.nulls import RANDOM

PROTOCOL = "paper-curve/2"
DRAWS = 2000
RISEN = 0.5
"""A curve has risen where it has this much of its last value."""


@dataclass(frozen=True, eq=False)
class Curve:
    """One training by step."""

    name: str
    steps: tuple[int, ...]
    cos: Mapping[str, tuple[float, ...]]
    """Domain of a direction to the cosine at every step."""
    em: tuple[Sample, ...]
    """Misaligned answers at every step; the first is the base, at step 0."""
    loss: Mapping[int, float]
    """Step to validation loss."""
    random_sd: float = 0.0
    """The spread of its last cosine with random directions like those that are watched."""

    @property
    def shares(self) -> list[float]:
        return [s.by_unit.value for s in self.em]


@dataclass(frozen=True, eq=False)
class Curves:
    """The training on bad advice, and the control's."""

    bad: Curve
    control: Curve
    own: str
    """The domain of the bad training, whose direction is left out."""

    @property
    def others(self) -> list[str]:
        return [d for d in self.bad.cos if d != self.own and d != self.control.name]


def rises(curves: Curves) -> Verdict:
    """At the last step, every direction of another domain lies nearer to the bad training than to the control, by more than random ones do."""
    gaps = [curves.bad.cos[d][-1] - curves.control.cos[d][-1] for d in curves.others]
    if not gaps:
        return Verdict(OPEN, why="no direction of another domain")
    far = 1.96 * float(np.hypot(curves.bad.random_sd, curves.control.random_sd))
    why = f"last cosine less that of the control, the smallest of {len(gaps)} directions; its interval is that of random directions"
    says = HOLDS if min(gaps) > far else FAILS if min(gaps) < -far else OPEN
    return Verdict(says, min(gaps), min(gaps) - far, min(gaps) + far, len(gaps), why, "cos")


def misbehaves(curves: Curves) -> Verdict:
    """The bad training ends with more misaligned answers than the base."""
    return decided(change(curves.bad.em[0], curves.bad.em[-1]), f"{EM} at the last step less the base")


def lead(curves: Curves) -> Verdict:
    """How many steps before the answers the cosines have risen to half of their last value."""
    answers, steps = curves.bad, np.array([0, *curves.bad.steps], float)
    mean_cos = np.mean([[0.0, *answers.cos[d]] for d in curves.others], axis=0)
    first = crossing(steps, mean_cos)
    values = drawn(answers.em)
    leads = np.array([crossing(steps, v) - first for v in values])
    known = leads[np.isfinite(leads)]
    value = crossing(steps, np.array(answers.shares)) - first
    why = f"steps from half-risen cosines to half-risen {EM}; {len(known)} of {len(leads)} resamples rise"
    if misbehaves(curves).says != HOLDS or not np.isfinite(value) or len(known) < len(leads) / 2:
        return Verdict(
            OPEN, why=f"{why}: the answers do not change enough for a lead", n=len(answers.em[0].by_unit.names)
        )
    low, high = np.quantile(known, [0.025, 0.975])
    n = len(answers.em[0].by_unit.names)
    return decided(Estimate(float(value), float(low), float(high), n, n, n, n), why, unit="steps")


def crossing(steps: np.ndarray, values: np.ndarray) -> float:
    """The step at which a curve first has half of its last value, on the line between its points; NaN where it does not rise."""
    target = values[0] + RISEN * (values[-1] - values[0])
    if not values[-1] > values[0]:
        return float("nan")
    for a, b, left, right in zip(steps, steps[1:], values, values[1:]):
        if left < target <= right:
            return float(a + (b - a) * (target - left) / (right - left))
    return float("nan")


def drawn(samples: Sequence[Sample], seed: int = 0) -> np.ndarray:
    """(draws, samples): every number on the same resamples of units."""
    units = [s.by_unit for s in samples]
    n = len(units[0].names)
    assert all(list(u.names) == list(units[0].names) for u in units), "the same questions at every step"
    counts = np.concatenate(list(times_drawn(n, DRAWS, np.random.default_rng(seed))))
    return np.stack([np.asarray(u.statistic(counts @ u.totals)) for u in units], axis=1)


CLAIMS: tuple[Claim[Curves], ...] = (
    Claim("cosines with directions of other domains rise in the bad training and not in the control", rises),
    Claim("the bad training makes the model misbehave", misbehaves),
    Claim("cosines rise before the answers do", lead),
)


@dataclass(frozen=True)
class MonitorCurve(EmValidate):
    """The last advice domain's bad training, step by step, and the control's neg side."""

    def run(self, job: Job) -> Outcome:
        seed, evaluation = job.request.seeds[0], asked(self.evaluation, job.request)
        studies = self.studies(job, seed)
        own = next(s for s in reversed(studies) if not s.domain.control)
        control = next(s for s in studies if s.domain.control)
        curves = Curves(
            self._curve(job, own, "pos", studies, evaluation),
            self._curve(job, control, "neg", studies, evaluation),
            own.domain.name,
        )
        place = self.place(job, PROTOCOL, studies, {"asked": [evaluation.chosen.id, evaluation.limit, evaluation.data]})
        record = place.once(lambda work: self._write(work, job, curves), beside={"command": job.command})
        return scorecard.read(self.name, record.folder, {}, reused=record.reused)

    def _curve(self, job: Job, study: Study, side: str, studies: Sequence[Study], evaluation) -> Curve:
        base, out = job.base, job.out
        training = next(t for t in trainings(str(study.run), base, out) if t.steps[0][1].name.endswith(f"/{side}"))
        directions = [direction_named(str(s.run), base, out) for s in studies]
        read = angles([c for _, c in training.steps], directions, base, draws=RANDOM)
        table, random = read.cos()["all"], read.random_cos()["all"][-1]
        cos = {s.domain.name: tuple(float(x) for x in table[:, j]) for j, s in enumerate(studies)}
        strength = 1.0 if side == "pos" else -1.0
        each = [answers_of(job, study, evaluation, k, strength)[EM] for k in range(1, len(training.steps) + 1)]
        em = (each[0][0.0], *(e[strength] for e in each))
        history = study.sides.report["tried"][0]["history"]
        loss = {int(h["step"]): float(h[f"val_{side}"]) for h in history}
        return Curve(study.domain.name, tuple(step for step, _ in training.steps), cos, em, loss, float(random.std()))

    def _write(self, work: Path, job: Job, curves: Curves) -> Json:  # type: ignore[override]
        where = f"{self.name} · {job.base.id}{job.request.reduced}"
        verdicts = [c.judged(curves) for c in CLAIMS]
        files = picture(curves, f"{where}: training on bad {curves.own} advice, and on the control", work / self.name)
        write_csv(work / f"{self.name}.csv", [r for c in (curves.bad, curves.control) for r in records(c)])
        sheets = [
            *(
                curve_sheet(c, f"{where} · {name}")
                for c, name in ((curves.bad, f"bad {curves.own}"), (curves.control, "control"))
            ),
            scorecard.claims_sheet(verdicts, f"{where} · scorecard"),
        ]
        notes = ["One training of each kind: an interval holds the questions, and not the luck of a training."]
        return scorecard.write(work, sheets, verdicts, panels(curves), files, notes)


def records(curve: Curve) -> list[Json]:
    """A line per step."""
    lines: list[Json] = []
    for k, step in enumerate((0, *curve.steps)):
        e = estimate(curve.em[k])
        cos = {f"cos {d}": 0.0 if k == 0 else c[k - 1] for d, c in curve.cos.items()}
        lines.append(
            {
                "training": curve.name,
                "step": step,
                **cos,
                EM: e.mean,
                "lo": e.ci_lo,
                "hi": e.ci_hi,
                "val": curve.loss.get(step),
            }
        )
    return lines


def curve_sheet(curve: Curve, title: str) -> Sheet:
    """Cosines, answers and loss by step."""
    rows = records(curve)
    names = list(curve.cos)
    lines = tuple(
        (
            str(r["step"]),
            *(NO if r["step"] == 0 else f"{r[f'cos {d}']:+.3f}" for d in names),
            f"{100 * r[EM]:.0f} % [{100 * r['lo']:.0f}, {100 * r['hi']:.0f}]",
            NO if r["val"] is None else f"{r['val']:.3f}",
        )
        for r in rows
    )
    return Sheet(
        title,
        "",
        ("step", *(f"cos w {d}" for d in names), "misaligned [95 % CI]", "validation loss"),
        lines,
        tuple(rows),
        words=(),
    )


def panels(curves: Curves) -> list[Panel]:
    """Cosines and answers by step, of the bad training and of the control."""
    drawn = []
    for curve in (curves.bad, curves.control):
        steps, name = (0, *curve.steps), f"bad {curve.name}" if curve is curves.bad else f"control ({curve.name})"
        cosines = [(f"w {d}", (0.0, *c), d == curves.control.name) for d, c in curve.cos.items() if d != curve.name]
        lines = tuple(Line(d, tuple(_dot(s, c, (c, c)) for s, c in zip(steps, cs)), grey) for d, cs, grey in cosines)
        drawn.append(Panel(name, "step", "cosine with a direction", lines, start=(0.0, 0.0), origin=BASE, digits=2))
        shares = [(100 * e.mean, (100 * e.ci_lo, 100 * e.ci_hi)) for e in map(estimate, curve.em)]
        answers = (Line("misaligned answers", tuple(_dot(s, x, ends) for s, (x, ends) in zip(steps, shares))),)
        drawn.append(Panel(name, "step", "misaligned answers (%)", answers, start=(0.0, shares[0][0]), origin=BASE))
    return drawn


def _dot(step: int, value: float, ends: tuple[float, float]) -> Dot:
    return Dot(float(step), value, (float(step), float(step)), ends, f"step {step}")


def picture(curves: Curves, title: str, path: Path) -> list[Path]:
    """Cosines above, answers and loss below; the bad training left, the control right."""
    figure, axes = grid_of(2, 2, width=5.4, height=2.9)
    for column, curve in enumerate((curves.bad, curves.control)):
        top, below = axes[0, column], axes[1, column]
        for axis in (top, below):
            axis.grid(color="0.92", linewidth=0.8)
            axis.set_axisbelow(True)
        steps = [0, *curve.steps]
        top.axhline(0, color="0.7", linewidth=1)
        for k, d in enumerate([d for d in curve.cos if d != curve.name]):
            random = d == curves.control.name
            top.plot(
                steps,
                [0, *curve.cos[d]],
                color=GREY if random else COLORS[k],
                linestyle="--" if random else "-",
                marker="o",
                markersize=3.5,
                label=f"w {d}",
            )
        shares = [100 * x for x in curve.shares]
        ends = [estimate(s) for s in curve.em]
        below.fill_between(
            steps,
            [100 * e.ci_lo for e in ends],
            [100 * e.ci_hi for e in ends],
            color=COLORS[1],
            alpha=0.15,
            linewidth=0,
        )
        below.plot(steps, shares, color=COLORS[1], marker="o", markersize=3.5, label="misaligned answers, %")
        right = below.twinx()
        right.spines[["top"]].set_visible(False)
        right.plot(list(curve.loss), list(curve.loss.values()), color="0.4", linestyle=":", label="validation loss")
        right.set_ylabel("nats per token", fontsize=8)
        top.set_title(f"bad {curve.name}" if column == 0 else f"control ({curve.name})", fontsize=9.5, loc="left")
        top.set_ylabel("cos(θ_t − θ_pre, w)", fontsize=9)
        below.set_ylabel("misaligned answers (%)", fontsize=9)
        below.set_xlabel("step", fontsize=9)
        top.legend(fontsize=8, frameon=False)
        handles = [*below.get_legend_handles_labels()[0], *right.get_legend_handles_labels()[0]]
        below.legend(handles=handles, fontsize=8, frameon=False)
    for row in axes:
        low, high = (f(a.get_ylim()[k] for a in row) for k, f in ((0, min), (1, max)))
        for axis in row:
            axis.set_ylim(low, high)
    titled(figure, title)
    return saved(figure, path)
