"""The page of a sweep: what all of its studies say together, over seeds, and what each of them costs."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ws import behaviors
from ws.errors import BadFile
from ws.numbers import bounds, finite, some, with_interval
from ws.report.frontier import Dot, against_cost, frontier
from ws.report.limits import BUILT_IN, LARGEST, NO_UNIT, box
from ws.report.meanings import meanings
from ws.results import chart
from ws.results.effects import Effect, effects
from ws.results.layouts import overview
from ws.results.layouts import sweep as layout
from ws.results.measured import measured
from ws.results.overview import Entry, entries
from ws.results.page import Html, commands, facts, joined, note, page, paragraph, points, section, table, tag
from ws.results.sentences import in_nats, verdict
from ws.results.sentences.questions import not_held_out
from ws.results.sentences.sweep import readings
from ws.results.sheet import Sheet
from ws.types import Fields, Json

FEW_SEEDS = 3


@dataclass(frozen=True, eq=False)
class Sweep:
    """A sweep as its folder tells it; its numbers are made again from the rows of its studies."""

    folder: Path

    @cached_property
    def grid(self) -> Json:
        """What it was asked for."""
        return json.loads((self.folder / "sweep.json").read_text())

    @cached_property
    def results(self) -> Json:
        """How it ended."""
        file = self.folder / "results.json"
        if not file.is_file():
            raise BadFile(
                f"the sweep {self.folder.name} is not over; go on with: {self.grid.get('command') or 'ws sweep'}"
            )
        return json.loads(file.read_text())

    @property
    def out(self) -> Path:
        return self.folder.parents[1]

    @cached_property
    def done(self) -> list[Json]:
        """The studies that are done."""
        return [c for c in self.results["cells"] if c["state"] == "done"]

    @property
    def failed(self) -> list[Json]:
        """Those that are not."""
        return [c for c in self.results["cells"] if c["state"] != "done"]

    def evals(self, cell: Fields) -> list[Path]:
        """Where a study was measured, wherever the output folder lies by now."""
        return [self.out.joinpath(*Path(p).parts[-6:]) for p in cell["evals"]]

    @cached_property
    def effects(self) -> list[Effect]:
        """Every metric of every family, over seeds."""
        several = any(
            e["lr"] is not None for e in self.results["effects"]
        )  # a rate names a line only where it was varied
        axes = ("model", "behavior", "adapter", "seed", *(("lr",) if several else ()))
        own = [{"lr": None, **{k: c[k] for k in axes}} for c in self.done]
        return effects([{**a, "intent": _intent(c), "evals": self.evals(c)} for a, c in zip(own, self.done)])

    @property
    def headline(self) -> list[Effect]:
        """The effects that the studies are about."""
        names = {(c["behavior"], m) for c in self.done for m in c["headline"]}
        return [e for e in self.effects if (e.behavior, e.metric) in names]

    @cached_property
    def entries(self) -> list[Entry]:
        """Each study alone, with what it costs."""
        return entries(measured([f for c in self.done for f in self.evals(c)]))


def _intent(cell: Fields) -> Fields:
    name = cell["behavior"]
    return behaviors.load_behavior(name, tiny=cell["model"] == "tiny").intent if name in behaviors.names() else {}


def page_of(folder: Path) -> str:
    """The page of a sweep."""
    sweep = Sweep(folder)
    n = some(len(sweep.results["cells"]), "study", "studies")
    parts = [_effect(sweep), _limits(sweep), _frontier(sweep), _studies(sweep), _failed(sweep), _origin(sweep)]
    title = f"sweep of {n}: {_named(sweep, 'behavior')}, {_named(sweep, 'adapter')} on {_named(sweep, 'model')}"
    return page(title, _answer(sweep), [p for p in parts if p is not None], about="weight steering · a sweep")


def _named(sweep: Sweep, axis: str) -> str:
    return ", ".join(dict.fromkeys(_short(c[axis]) for c in sweep.results["cells"]))


def _readings(sweep: Sweep) -> list[str]:
    unmatched = [_label(c) for c in sweep.done if c["matched"] is False]
    return readings(sweep.headline, budget=sweep.grid.get("budget"), unmatched=unmatched) if sweep.headline else []


def _short(name: object) -> str:
    """A name; of a folder, that of the last part."""
    return Path(str(name)).name if str(name).startswith(("/", "~", ".")) else str(name)


def _label(c: Fields) -> str:
    return f"{c['behavior']}, {c['adapter']}, seed {c['seed']}, {_short(c['model'])}"


def _answer(sweep: Sweep) -> str:
    """The largest effect on the first metric that is claimed, over seeds."""
    claimed = [e for e in sweep.headline if e.sign and finite(e.over.found.mean)]
    if not claimed:
        return f"{len(sweep.done)} of {some(len(sweep.results['cells']), 'study', 'studies')} are done, and nothing they measured is claimed."
    alike = [e for e in claimed if e.metric == claimed[0].metric]  # of two metrics neither number is the larger one
    best = max(alike, key=lambda e: e.sign * e.over.found.mean)
    says = verdict(*bounds(best.over.found), best.sign, nat=in_nats(best.metric))
    n = len(best.seeds)
    seeds = f"{best.agree} of {n} seeds move as the behavior wants" if n > 1 else "one seed"
    number = f"{with_interval(best.over.found)} over {'seeds and units' if n > 1 else 'units'}"
    name = best.adapter if len({e.behavior for e in claimed}) == 1 else f"{best.behavior} {best.adapter}"
    return f"The largest effect on {best.metric} is that of {name}, {number}: {says.sentence}; {seeds}."


def _effect(sweep: Sweep) -> Html | None:
    if not sweep.headline:
        return None
    sheet = layout.sheet([e.as_json() for e in sweep.headline])
    lines = [*_readings(sweep), *not_held_out([e.of for e in sweep.entries])]
    return section("What it does", _strips(sweep), table(sheet, meanings=meanings(sheet)), points(lines), name="effect")


def _strips(sweep: Sweep) -> Html:
    """A line per family and metric: the number over seeds with its interval, and every seed."""
    parts: list[Html] = []
    for metric in dict.fromkeys(e.metric for e in sweep.headline):
        own = [e for e in sweep.headline if e.metric == metric]
        numbers = [v for e in own for v in (*e.over.each, e.over.found.mean)]
        ends = [v for e in own for v in (e.over.found.ci_lo, e.over.found.ci_hi) if finite(v)]
        reach = max((abs(v) for v in numbers if finite(v)), default=1.0)
        span = _span([*numbers, *(v for v in ends if abs(v) < 2 * reach)])
        lines = [(f"{e.behavior} {e.adapter}", with_interval(e.over.found), "") for e in own]
        sheet = Sheet(metric, "", ("family", "change", "over seeds"), tuple(lines), (), words=("family", "over seeds"))
        cells = {(n, "over seeds"): _strip(e, span) for n, e in enumerate(own)}
        parts.append(table(sheet, cells=cells))
    keys = [(chart.key(0), "over seeds and units, with its 95 % interval"), (chart.key(0, hollow=True), "one seed")]
    return joined(
        *parts,
        chart.legend(keys),
        paragraph("The line through a strip is 0; an interval that runs out of it goes on.", faint=True),
    )


def _strip(e: Effect, span: tuple[float, float]) -> Html:
    found = e.over.found
    ends = (found.ci_lo, found.ci_hi) if finite(found.ci_lo) else None
    return chart.strip(with_interval(found), span, value=found.mean, ends=ends, each=e.over.each)


def _span(numbers: Sequence[float]) -> tuple[float, float]:
    """From the least to the largest, with 0."""
    known = [v for v in numbers if finite(v)] + [0.0]
    return min(known), max(known) if max(known) > min(known) else min(known) + 1.0


def _frontier(sweep: Sweep) -> Html | None:
    """Each study by its effect and its cost."""
    parts = []
    families = list(dict.fromkeys(e.of.method for e in sweep.entries))
    several = len({e.of.behavior for e in sweep.entries}) > 1
    for metric in dict.fromkeys(e.metric for e in sweep.entries):
        own = [e for e in sweep.entries if e.metric == metric and e.cost is not None and finite(e.effect.mean)]
        dots = [
            Dot(
                f"{f'{e.of.behavior} ' if several else ''}{e.of.method.removeprefix('ws:')} s{e.of.seed}",
                e.cost or 0.0,
                e.effect.mean,
                *_ends(e),
                families.index(e.of.method),
            )
            for e in own
        ]
        caption = f"{against_cost(metric, any(e.side for e in own))} Bars: 95 % intervals over units."
        if dots:
            x, y = "rise of the loss on neutral text at the worse end, nats per token", f"change of {metric}"
            parts.append(frontier(metric, x, y, dots, caption))
    return section("Effect against side effect", *parts, name="frontier") if parts else None


def _ends(e: Entry) -> tuple[float | None, float | None]:
    return (e.effect.ci_lo, e.effect.ci_hi) if finite(e.effect.ci_lo) else (None, None)


def _studies(sweep: Sweep) -> Html | None:
    """Each study alone, as `ws table` prints it."""
    if not sweep.entries:
        return None
    made = overview.sheets(sweep.entries)
    return section("The studies", *(table(s, meanings=meanings(s)) for s in made), name="studies")


def _failed(sweep: Sweep) -> Html | None:
    if not sweep.failed:
        return None
    lines = [joined(tag("b", _label(c)), f": {c['error'] or c['state']}") for c in sweep.failed]
    return section("Not done", note("These studies are in no number above", points(lines), warning=True), name="failed")


def _limits(sweep: Sweep) -> Html:
    lines = []
    if any(c["model"] == "tiny" for c in sweep.done):
        lines.append(BUILT_IN)
    seeds = min((len(e.seeds) for e in sweep.headline), default=0)
    if seeds < FEW_SEEDS:
        lines.append(f"{some(seeds, 'seed')} of a family: what another training would give is hardly known.")
    if len({e.adapter for e in sweep.headline}) > 1:
        lines.append(LARGEST)
    if sweep.grid.get("budget") is None:
        lines.append(f"{NO_UNIT} A `budget` sets all families to the same KL.")
    lines.append("No random directions stand beside these studies: `ws compare` measures methods beside them.")
    if sweep.failed:
        lines.append(f"{some(len(sweep.failed), 'study is', 'studies are')} not done and in no number.")
    return box(lines)


def _origin(sweep: Sweep) -> Html:
    """What was asked for, and how to type it again."""
    g = sweep.grid
    made: list[tuple[object, object]] = [
        ("sweep", sweep.folder.name),
        (
            "alphas",
            ", ".join(f"{a:g}" for a in g["alphas"]) if g.get("budget") is None else f"those of {g['budget']:g} nat",
        ),
        ("evaluations", ", ".join(g.get("evals") or ()) or "those of the behavior's claims"),
        ("options", ", ".join(f"{k} {v}" for k, v in sorted((g.get("shared") or {}).items())) or "the defaults"),
        ("engine", g["engine"]),
        ("took", f"{sweep.results['seconds']:.0f} s the last time it was called"),
    ]
    return section(
        "How it was made",
        facts(made),
        commands([g.get("command") or "ws sweep", f"ws report {sweep.folder.name}"]),
        name="origin",
    )
