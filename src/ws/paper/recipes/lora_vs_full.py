"""4.11: two fine-tunes added to one model, learnt by LoRA of several ranks or by all weights. Which keeps both skills?"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import ClassVar

from ws.direction import Direction
from ws.eval import Evaluation
from ws.numbers import NO
from ws.paper import scorecard
from ws.paper.claims import OPEN, Claim, Verdict, all_of, decided, inside
from ws.paper.figures import titled
from ws.paper.misaligned import from_to
from ws.paper.panels import Panel
from ws.paper.parts import make_ahead
from ws.paper.recipe import Job, Measure, Need, Outcome, Part, Planned, Recipe, named
from ws.paper.recipes.tasks import COUNT
from ws.paper.request import RecipeRequest
from ws.paper.tuned import TaskData, tuned, with_all
from ws.records import Place, slug
from ws.results.csv import write_csv
from ws.results.plots import COLORS, GREY, grid_of, saved
from ws.results.sheet import Sheet
from ws.stats import Sample, change, estimate
from ws.study.evaluations import Subject, make_eval, rows_in
from ws.study.options import Common
from ws.types import Fields, Json

PROTOCOL = "paper-added/2"
EVALUATION = "gsm8k"
MATHS, FRENCH = TaskData("maths", ("gsm8k_chat",)), TaskData("french", ("alpaca_french",))
METRICS = {"gsm_acc": "right", "gsm_french": "in French", "gsm_both": "both"}
BOTH, FULL, SCALED, BASE = "gsm_both", "full", "full, at the size of LoRA", "not fine-tuned"
Answers = Mapping[str, Mapping[str, Sample]]
"""How the tasks were learnt to metric to its number."""


def _ranks(names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith("rank")]


def ranks_are_alike(metrics: Answers) -> Verdict:
    """No rank keeps both skills in more than 10 points more of the answers than another."""
    names = _ranks(metrics)
    if all(metrics[n][BOTH].by_unit.value == 0 for n in names):
        return Verdict(OPEN, why="no rank keeps both skills in a single answer, so there is nothing to compare")
    pairs = [(a, b) for k, a in enumerate(names) for b in names[k + 1 :]]
    return all_of([inside(change(metrics[a][BOTH], metrics[b][BOTH]), 0.1, f"{b} less {a}, {BOTH}") for a, b in pairs])


def full_is_worse(than: str) -> Callable[[Answers], Verdict]:
    """Every rank keeps both skills in more answers than learning all weights."""

    def test(metrics: Answers) -> Verdict:
        if than not in metrics:
            return Verdict(OPEN, why=f"{than} was not measured")
        return all_of(
            [
                decided(change(metrics[than][BOTH], metrics[r][BOTH]), f"{r} less {than}, {BOTH}")
                for r in _ranks(metrics)
            ]
        )

    return test


CLAIMS: tuple[Claim[Answers], ...] = (
    Claim("LoRA of every rank keeps both skills alike", ranks_are_alike),
    Claim("learning all weights keeps them worse than LoRA", full_is_worse(FULL)),
    Claim("... also where both changes have the size of LoRA's", full_is_worse(SCALED), "ours"),
)


@dataclass(frozen=True)
class LoraVsFull(Recipe):
    """Sums of two task fine-tunes."""

    learns_tasks: ClassVar[bool] = True
    repeats: ClassVar[bool] = False
    ranks: tuple[int, ...] = (4, 16, 32, 64)
    lora: Fields = field(default_factory=dict)
    full: Fields = field(default_factory=dict)
    french: Fields = field(default_factory=dict)
    """What is other for French, by lora and full."""
    twin: Fields = field(default_factory=dict)

    def on(self, model: str) -> "LoraVsFull":
        return replace(self, **self.twin, twin={}) if model == "tiny" and self.twin else self

    @property
    def asks(self) -> Sequence[str]:
        return (EVALUATION,)

    @property
    def reads(self) -> Sequence[str]:
        return [*super().reads, *MATHS.sets, *FRENCH.sets]

    def plan(self, request: RecipeRequest, common: Common) -> Planned:
        if request.strengths:
            raise ValueError(f"{self.name} has no strengths; leave out --strengths")
        ways = list(self.ways(request))
        lines = (
            f"learns     {MATHS.name} ({', '.join(MATHS.sets)}) and {FRENCH.name} ({', '.join(FRENCH.sets)}), by {', '.join(ways)}",
            f"trains     {2 * len(ways)} fine-tunes",
            f"measures   gsm8k, of {len(ways) + 2} models",
        )
        return Planned(lines, {"ways": ways, "trainings": 2 * len(ways)}, self.missing(request, common.model))

    def ways(self, request: RecipeRequest) -> dict[str, Fields]:
        """How the tasks are learnt, by name; those that are asked for."""
        by_rank = {f"rank {r}": {**self.lora, "adapter": "lora", "rank": r, "lora_alpha": 2.0 * r} for r in self.ranks}
        every = {**by_rank, FULL: {**self.full, "adapter": "full"}}
        return {name: every[name] for name in named(every, request.arms)}

    def parts(self, job: Job) -> list[Part]:
        """Every task, learnt in every way."""
        ways = self.ways(job.request)
        return [Part(f"{t.name}/{way}", partial(self._tuned, job, t, way)) for way in ways for t in (MATHS, FRENCH)]

    def _tuned(self, job: Job, task: TaskData, way: str) -> Direction:
        """A task, learnt in one way."""
        more = self.french.get(FULL if way == FULL else "lora", {}) if task is FRENCH else {}
        return tuned(job, task, {**self.ways(job.request)[way], **more}, seed=job.request.seeds[0])

    def run(self, job: Job) -> Outcome:
        make_ahead(self, job)
        taus: dict[str, tuple[Direction, Direction]] = {}
        for name in self.ways(job.request):
            taus[name] = (self._tuned(job, MATHS, name), self._tuned(job, FRENCH, name))
            job.say(f"trained  {name}")
        norms = {name: tuple(t.norm(job.base.weight) for t in both) for name, both in taus.items()}
        sums = {name: ((both[0], 1.0), (both[1], 1.0)) for name, both in taus.items()}
        if FULL in taus and (ranks := _ranks(taus)):
            ratios = [a / b for a, b in zip(norms[ranks[-1]], norms[FULL])]
            sums[SCALED] = tuple(zip(taus[FULL], ratios))  # type: ignore[assignment]
        evaluation = Measure(EVALUATION, BOTH, "both", 0).evaluated(job.request)
        metrics = {BASE: self._answers(job, BASE, (), evaluation)}
        for name, parts in sums.items():
            metrics[name] = self._answers(job, name, parts, evaluation)
        keys = [t.content_hash for both in taus.values() for t in both]
        place = Place.below(
            job.out / "paper" / slug(job.base.id) / self.name, "paper", {"protocol": PROTOCOL},
            {"taus": keys, "asked": [evaluation.chosen.id, evaluation.limit, evaluation.data]},
        )  # fmt: skip
        record = place.once(lambda work: self._write(work, job, metrics, norms), beside={"command": job.command})
        return scorecard.read(self.name, record.folder, {}, reused=record.reused)

    def _answers(
        self, job: Job, name: str, parts: tuple[tuple[Direction, float], ...], evaluation: Evaluation
    ) -> Mapping[str, Sample]:
        named = [(task.name, t, alpha) for task, (t, alpha) in zip((MATHS, FRENCH), parts)]
        model = with_all(job.base, named)
        folder = job.out / "paper" / slug(job.base.id) / self.name / slug(name)
        _, record = make_eval(Subject(model, None, folder, "base"), evaluation, alphas=(0.0,))
        per_metric = evaluation.chosen.metrics(rows_in(record))
        return {m: per_metric[m][0.0] for m in METRICS}

    def _write(self, work: Path, job: Job, metrics: Answers, norms: Mapping[str, tuple[float, ...]]) -> Json:
        where = f"{self.name} · {job.base.id}{job.request.reduced}"
        verdicts = [c.judged(metrics) for c in CLAIMS]
        records = _records(metrics, norms)
        write_csv(work / f"{self.name}.csv", records)
        sheets = [_sheet(metrics, norms, records, where), scorecard.claims_sheet(verdicts, f"{where} · scorecard")]
        files = _picture(metrics, where, work / self.name)
        notes = [
            "Full fine-tunes here are of the linear layers; the paper's also move embeddings and norms.",
            "One training of each: an interval holds the questions, and not the luck of a training.",
        ]
        return scorecard.write(work, sheets, verdicts, [_panel(metrics)], files, notes)


def _records(metrics: Answers, norms: Mapping[str, tuple[float, ...]]) -> list[Json]:
    lines: list[Json] = []
    for name, own in metrics.items():
        line: Json = {"learnt by": name, "norm maths": None, "norm french": None}
        if name in norms:
            line |= {"norm maths": norms[name][0], "norm french": norms[name][1]}
        for m, sample in own.items():
            e = estimate(sample)
            line |= {m: e.mean, f"{m}_lo": e.ci_lo, f"{m}_hi": e.ci_hi, "n": e.n}
        lines.append(line)
    return lines


def _sheet(metrics: Answers, norms: Mapping[str, tuple[float, ...]], records: list[Json], where: str) -> Sheet:
    lines = []
    for name, own in metrics.items():
        size = " + ".join(f"{x:.3g}" for x in norms[name]) if name in norms else NO
        cells = [estimate(own[m]) for m in METRICS]
        lines.append(
            (
                name,
                size,
                *(f"{100 * e.mean:.0f} % [{100 * e.ci_lo:.0f}, {100 * e.ci_hi:.0f}]" for e in cells),
                str(cells[0].n),
            )
        )
    columns = ("learnt by", "|tau| of both", *METRICS.values(), "n")
    return Sheet(
        f"{where} · maths and French, added",
        "",
        columns,
        tuple(lines),
        tuple(records),
        words=("learnt by",),
        faint=(0,),
    )


def _panel(metrics: Answers) -> Panel:
    """Every way to learn as a way from the base: right answers across, French ones upwards."""
    places = {name: tuple(estimate(own[m]) for m in ("gsm_acc", "gsm_french")) for name, own in metrics.items()}
    start = places[BASE]
    lines = tuple(from_to(name, start, place) for name, place in places.items() if name != BASE)
    where = (100 * start[0].mean, 100 * start[1].mean)
    return Panel(
        "from the base to each sum", "right answers (%)", "answers in French (%)", lines, start=where, origin=BASE
    )


def _picture(metrics: Answers, title: str, path: Path) -> list[Path]:
    """Three shares, a line for each way to learn."""
    figure, axes = grid_of(1, len(METRICS), width=3.9, height=0.9 + 0.4 * len(metrics), sharey=True)
    for axis, (metric, label) in zip(axes[0], METRICS.items()):
        for at, (name, own) in enumerate(reversed(list(metrics.items()))):
            e = estimate(own[metric])
            color = GREY if name == BASE else COLORS[1] if name.startswith("full") else COLORS[0]
            axis.plot([100 * e.ci_lo, 100 * e.ci_hi], [at, at], color=color, linewidth=2, solid_capstyle="round")
            axis.plot(100 * e.mean, at, marker="o", markersize=7, color=color, markeredgecolor="white")
        axis.set_yticks(range(len(metrics)), list(reversed(list(metrics))), fontsize=9)
        axis.set_ylim(-0.6, len(metrics) - 0.4)
        axis.set_xlim(-3, 103)
        axis.grid(axis="x", color="0.92", linewidth=0.8)
        axis.set_axisbelow(True)
        axis.set_xlabel(f"answers {label} (%)", fontsize=9)
    titled(figure, f"{title}: English maths, after both fine-tunes")
    return saved(figure, path)


RECIPE = LoraVsFull(
    name="lora_vs_full",
    section="4.11",
    figures="Fig 10",
    question="Do fine-tunes add up better as LoRA than as full fine-tunes?",
    model="not stated in the paper",
    needs=(
        Need(
            "alpaca_french",
            "Alpaca with answers in French",
            "a file, as --data alpaca_french=FILE",
            file="alpaca_french",
        ),
    ),
    lora={"lr": [2e-4], "batch_size": 8, "layers": "all"},
    full={"lr": [1e-5], "batch_size": 8, "layers": "all"},
    twin={
        "ranks": (4, 16),
        "lora": {**COUNT, "lr": [2e-3], "epochs": 3},
        "full": {**COUNT, "lr": [5e-4], "epochs": 5},
        "french": {"lora": {"lr": [5e-3], "epochs": 5}, "full": {"lr": [1e-3], "epochs": 5}},
    },
)
