"""The page of a comparison: methods side by side, beside random directions, and what each costs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from ws.errors import BadFile
from ws.grid.compare import Comparison, read_report
from ws.methods import is_control
from ws.numbers import finite
from ws.records import read, refuse_damaged
from ws.report.frontier import Dot, against_cost, frontier
from ws.report.limits import BUILT_IN, LARGEST, box
from ws.report.meanings import meanings
from ws.results import chart
from ws.results.page import Html, commands, facts, folded, joined, note, page, points, section, table, tag
from ws.results.sentences import ONE_SEED, SMOKE, side_of
from ws.results.sheet import Sheet
from ws.types import Fields, Json

COST = "rise of the loss on neutral text at the worse end, nats per token"


@dataclass(frozen=True, eq=False)
class Report:
    """A comparison as its folder tells it: its tables are those that were made from rows, number for number."""

    folder: Path
    manifest: Json

    @classmethod
    def of(cls, folder: Path) -> "Report":
        """The comparison in a folder, which must be what was written there."""
        manifest = read(folder)
        if manifest is None:
            raise BadFile(f"the comparison in {folder} is not finished; the same command goes on with it.")
        refuse_damaged(folder, manifest)
        return cls(folder, manifest)

    @cached_property
    def comparison(self) -> Comparison:
        return read_report(self.folder, self.manifest["failed"], reused=True)

    @property
    def behavior(self) -> str:
        return self.folder.parent.name

    @property
    def model(self) -> str:
        return self.folder.parent.parent.name

    @property
    def intent(self) -> Mapping[str, int]:
        """The claims of the behavior, as they were when the comparison was made."""
        return self.manifest["inputs"]["intent"]

    @property
    def claims(self) -> list[Sheet]:
        """A table per metric; its records know whether a method is a random one."""
        return [t for t in self.comparison.tables if any("control" in r for r in t.records)]

    def cells(self, sheet: Sheet) -> list[Fields]:
        """The trials of a table: a method with one seed each, or one draw."""
        about = (_metric(sheet), sheet.records[0]["protocol"])
        return [c for c in self.comparison.cells if (c["metric"], c["protocol"]) == about]

    @property
    def others(self) -> list[Sheet]:
        """The tables in published layouts, and of the strengths."""
        return [t for t in self.comparison.tables if t not in self.claims]


def page_of(folder: Path) -> str:
    """The page of a comparison."""
    r = Report.of(folder)
    parts = [
        *(_claim(s, n) for n, s in enumerate(r.claims, 1)),
        _limits(r),
        _frontiers(r),
        _others(r),
        _failed(r),
        _origin(r),
    ]
    title = f"{r.behavior} on {r.model}: methods side by side"
    return page(title, _answer(r.claims), [p for p in parts if p is not None], about="weight steering · a comparison")


def _answer(claims: Sequence[Sheet]) -> str:
    """The one sentence that is read first, behind the one that makes it none."""
    if not claims:
        return "No method could be compared."
    said = claims[0].readings
    return " ".join([*(s for s in said if s == SMOKE), said[0]])


def _metric(sheet: Sheet) -> str:
    return str(sheet.records[0]["behavior_metric"])


def _methods(sheet: Sheet) -> list[tuple[int, Fields]]:
    """The lines of a table that are methods which were measured."""
    return [(n, r) for n, r in enumerate(sheet.records) if finite(r.get("axis"))]


def _claim(sheet: Sheet, n: int) -> Html:
    """One metric: a strip per method over the range of random directions, then the whole table with its reading."""
    given = any(m["verdict"] == "as given" for _, m in _methods(sheet))
    strength = "at the strength that was given: not to be ranked" if given else "of equal strength"
    keys = [
        (chart.key(0), f"{strength}, with its 95 % interval"),
        (chart.key(1, hollow=True), "of another strength: not to be ranked"),
        (chart.key(faint=True), "random directions"),
        (chart.key(0, hollow=True), "one seed"),
        (chart.key(shape="area"), "range of random directions that act in the same places"),
    ]
    return section(
        f"What they do to {_metric(sheet)}",
        _strips(sheet),
        chart.legend(keys),
        points(sheet.readings),
        table(replace(sheet, readings=()), meanings=meanings(sheet)),
        name=f"effect-{n}",
    )


def _strips(sheet: Sheet) -> Html:
    """A line per method, its number as the table has it and drawn over the range of random directions."""
    own = _methods(sheet)
    keys = ("axis", "axis_lo", "axis_hi", "random_low", "random_high")
    known = [0.0, *(r[k] for _, r in own for k in keys if finite(r.get(k)))]
    span = (min(known), max(known) if max(known) > min(known) else 1.0)
    name, number, drawn = "method", "axis [95 % CI]", "beside random directions"
    at = {c: sheet.columns.index(c) for c in (name, number)}
    lines = tuple((sheet.lines[n][at[name]], sheet.lines[n][at[number]], "") for n, _ in own)
    cells = {(k, drawn): _strip(r, lines[k][1], span) for k, (_, r) in enumerate(own)}
    short = Sheet("", "", (name, number, drawn), lines, (), words=(name, drawn))
    return table(short, cells=cells, meanings=meanings(short), name=f"every method, by {_metric(sheet)}")


def _strip(r: Fields, name: str, span: tuple[float, float]) -> Html:
    fair = r["matched"] or r["verdict"] == "as given"
    return chart.strip(
        name,
        span,
        value=r["axis"],
        ends=_pair(r, "axis_lo", "axis_hi"),
        around=_pair(r, "random_low", "random_high"),
        each=r["each"] if len(r["each"]) > 1 and not r["control"] else (),
        color=None if r["control"] else 0 if fair else 1,
        hollow=not fair and not r["control"],
    )


def _pair(r: Fields, low: str, high: str) -> tuple[float, float] | None:
    return (r[low], r[high]) if finite(r.get(low)) and finite(r.get(high)) else None


def _frontiers(r: Report) -> Html | None:
    """Per metric: effect against side effect, and effect against how far the model is moved."""
    parts = [f for s in r.claims for f in (_against_cost(r, s), _against_kl(r, s)) if f is not None]
    return section("Effect against side effect", *parts, name="frontier") if parts else None


def _against_cost(r: Report, sheet: Sheet) -> Html | None:
    """Methods over seeds by axis and cost, every random draw in grey."""
    metric = _metric(sheet)
    dots = []
    for _, m in _methods(sheet):
        if not m["control"] and (cost := _cost(m)) is not None:
            fair = m["matched"] or m["verdict"] == "as given"
            low, high = _pair(m, "axis_lo", "axis_hi") or (None, None)
            dots.append(Dot(m["method"], cost, m["axis"], low, high, 0 if fair else 1, hollow=not fair))
    if not dots:
        return None
    draws = [c for c in r.cells(sheet) if is_control(c["method"]) and finite(c["axis"])]
    dots += [Dot(c["method"], cost, c["axis"], random=True) for c in draws if (cost := _cost(c)) is not None]
    says = against_cost(metric, bool(side_of(metric, r.intent)))
    caption = f"{says} Bars: 95 % intervals; hollow: of another strength; grey: random directions."
    return frontier(f"{metric} against cost", COST, f"axis of {metric}", dots, caption)


def _cost(numbers: Fields) -> float | None:
    """The larger rise of the loss on neutral text at either strength, in nats per token."""
    rises = [numbers.get(f"nll_rise_{arm}") for arm in ("neg", "pos")]
    return max(x for x in rises if x is not None) if all(map(finite, rises)) else None


def _against_kl(r: Report, sheet: Sheet) -> Html | None:
    """Both arms of every seed by KL and change."""
    metric, dots = _metric(sheet), []
    methods = [m["method"] for _, m in _methods(sheet) if not m["control"]]
    for c in r.cells(sheet):
        for arm in ("neg", "pos"):
            if finite(c[f"kl_{arm}"]) and finite(c[f"delta_{arm}"]):
                name = f"{c['method']} s{c['seed']} at {c[f'alpha_{arm}']:+.3g}"
                random = is_control(c["method"])
                color = 0 if random or c["method"] not in methods else methods.index(c["method"])
                dots.append(
                    Dot(name, c[f"kl_{arm}"], c[f"delta_{arm}"], color=color, random=random, hollow=arm == "neg")
                )
    if not dots:
        return None
    caption = f"The change of {metric} at each strength, by how far that moves the model. Filled: alpha above 0; hollow: below; grey: random directions."
    keys = [(chart.key(n), m) for n, m in enumerate(methods)] if len(methods) <= chart.COLORS else []
    x = "p95 KL(steered || base), nats"
    return joined(
        frontier(f"{metric} against KL", x, f"change of {metric}", dots, caption, log=True, named=False),
        chart.legend(keys),
    )


def _others(r: Report) -> Html | None:
    """The tables in published layouts, and the searches for strengths."""
    if not r.others:
        return None
    return section(
        "Every other table",
        *(table(s, meanings=meanings(s)) for s in r.others),
        points(r.comparison.notes),
        name="tables",
    )


def _failed(r: Report) -> Html | None:
    if not r.comparison.failed:
        return None
    lines = [joined(tag("b", name), f": {why}") for name, why in r.comparison.failed.items()]
    return section("Failed", note("These are in no number above", points(lines), warning=True), name="failed")


def _limits(r: Report) -> Html:
    lines = [BUILT_IN] if r.model == "tiny" else []
    controls = [m for s in r.claims for _, m in _methods(s) if m["control"]]
    seeds = min((m["n"] for s in r.claims for _, m in _methods(s) if not m["control"]), default=0)
    if seeds < 2:
        lines.append(f"{ONE_SEED} That holds for the methods here that were measured once.")
    if sum(not m["control"] for s in r.claims[:1] for _, m in _methods(s)) > 1:
        lines.append(LARGEST)
    if not controls:
        lines.append("No random directions were measured: nothing here says how far chance goes.")
    lines.append("The same KL is one way to call two strengths equal. Another measure would set them apart.")
    lines.append("Costs are read on neutral questions. What a method does to other behaviors is in no number here.")
    return box(lines)


def _origin(r: Report) -> Html:
    """What was asked for, and how to type it again."""
    m = r.manifest
    made: list[tuple[object, object]] = [
        ("reference", m["settings"]["reference"]),
        ("cells", f"{m['n_cells']}: {', '.join(name for _, name in m['inputs']['cells'])}"),
        ("finished", m["finished"]),
        ("report", f"{m['settings']['protocol']}, key {m['key'][:12]}"),
    ]
    typed = [m["command"]] if m.get("command") else []
    return section(
        "How it was made",
        facts(made),
        commands([*typed, f"ws report {r.folder}"]),
        folded("Versions", facts(sorted(m["versions"].items()))),
        name="origin",
    )
