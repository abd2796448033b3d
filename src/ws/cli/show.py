"""`ws show`: the items behind a number."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from shlex import quote
from typing import NoReturn

from ws.cli.named import PLACE, RUN, name_of
from ws.cli.options import Options, verb
from ws.cli.result import VerbResult
from ws.cli.screen import Screen, safe_text
from ws.cli.table import measured_at
from ws.numbers import on_one_line, shortened, signed, some
from ws.results.items import COSTS, Unit, choice, moved
from ws.results.line import Line
from ws.results.lines import best, forward
from ws.results.measured import Measured
from ws.settings import at_least, refuse_outside

UNITS = 10
ROWS, PROMPT, ANSWER, THOUGHT = 4, 400, 80, 240
"""Rows of a unit that are printed, and characters of a question, of an answer and of a thought."""


@dataclass(frozen=True)
class Shown:
    """Which items `ws show` prints."""

    out: str = "out"
    """Output folder, below which a run is found by its name."""
    eval: str | None = None
    """The evaluation, where the run has several: its name or its protocol id."""
    data: str | None = None
    """The questions, where the run was measured on several: a part of their file's name, or of what `items` names them by."""
    metric: str | None = None
    """The metric whose units are ranked; the evaluation's first when not given."""
    alpha: float | None = None
    """The strength beside 0; +1, or the largest there is, when not given."""
    worst: int | None = None
    """So many units that moved least, or most against what the behavior wants (default: 10)."""
    best: int | None = None
    """So many units that moved most as the behavior wants."""

    def __post_init__(self):
        refuse_outside(self, worst=at_least(1), best=at_least(1))


@dataclass(frozen=True, eq=False)
class ShownUnits(VerbResult):
    """Units of one evaluation at one strength, by how far they moved."""

    evaluation: Measured
    metric: str
    alpha: float
    claimed: bool
    """Whether the behavior says which way the metric should move."""
    units: Sequence[Unit]
    """All of them, what moved least first."""
    request: Shown
    alike: Sequence[Measured]
    """Evaluations by the same protocol, this one among them."""
    protocols: Sequence[str]
    """Every protocol that the run was measured by, this one first."""
    metrics: Sequence[str]

    @property
    def chosen(self) -> Sequence[Unit]:
        """The units that are printed."""
        if self.request.best:
            return self.units[::-1][: self.request.best]
        return self.units[: self.request.worst or UNITS]

    def as_json(self) -> Mapping[str, object]:
        m = self.evaluation
        return {
            "run": m.run,
            "method": m.method,
            "model": m.model,
            "protocol": m.protocol.id,
            "metric": self.metric,
            "alpha": self.alpha,
            "data": m.source,
            "items": m.items_hash,
            "smoke": m.smoke,
            "units": [vars(u) | {"change": u.change} for u in self.chosen],
        }

    def show(self, screen: Screen) -> None:
        m = self.evaluation
        smoke = "  SMOKE: not all units" if m.smoke else ""
        where = ", ".join([m.protocol.id, m.run, m.data])
        screen.show(
            f"[bold]{safe_text(self.metric)}, {safe_text(m.method)} on {safe_text(m.model)}: 0 → {self.alpha:+g}{smoke}[/]  "
            f"[dim]{safe_text(where)}[/]\nthe {len(self.chosen)} of {some(len(self.units), 'unit')} that {self._movement}"
        )
        if m.items is None:
            screen.show(
                "[dim]made by an older version that did not keep the questions; run the evaluation again to see them[/]"
            )
        for unit in self.chosen:
            _show_unit(unit, self.alpha, screen)
        screen.show("")
        self._show_others(screen)

    @property
    def _movement(self) -> str:
        """How the units that are printed moved."""
        best = bool(self.request.best)
        if self.metric in COSTS:
            return "rose least, or fell" if best else "rose most: larger is worse"
        way = "as the behavior wants" if self.claimed else "upwards" if self.alpha > 0 else "downwards"
        return f"moved {'most' if best else 'least'} {way}"

    def _show_others(self, screen: Screen) -> None:
        """What else could be shown, and by which flag."""
        for m in self.alike:
            if m is self.evaluation:
                continue
            strengths = ", ".join(f"{a:+g}" for a in m.alphas if a)
            source = f"{m.source}, " if m.source else ""
            smoke = ", SMOKE" if m.smoke else ""
            about = f"{source}items {m.items_hash}, at {strengths}{smoke}: ws show {quote(str(m.folder))}"
            screen.show(f"[dim]also measured: {safe_text(about)}[/]")
        if len(self.protocols) > 1 and not self.request.eval:
            screen.show(f"[dim]also measured here: {safe_text(', '.join(self.protocols[1:]))}; choose with --eval[/]")
        if len(self.metrics) > 1 and not self.request.metric:
            others = ", ".join(x for x in self.metrics if x != self.metric)
            screen.show(f"[dim]other metrics: {safe_text(others)}; choose with --metric[/]")


@verb(Shown, place=PLACE, run=RUN)
def show(options: Options) -> VerbResult:
    """The units of an evaluation that moved least, or most."""
    request, run = options.of(Shown), name_of(options)
    if run is None:
        raise ValueError(
            "ws show needs a run, by its name or the beginning of it, or by its folder; `ws runs` lists them"
        )
    if request.worst and request.best:
        raise ValueError("give --worst or --best, not both")
    steered = _steered(measured_at([run], request.out), request, run)
    protocols = list(dict.fromkeys(m.protocol.id for m in sorted(steered, key=lambda m: m.smoke)))
    alike = [m for m in steered if m.protocol.id == protocols[0]]
    m = _closest(alike, request.alpha)
    c = choice(m, request.metric, request.alpha)
    return ShownUnits(
        m,
        c.metric,
        c.alpha,
        c.claimed,
        moved(m, alpha=c.alpha, metric=c.metric, sign=c.sign),
        request,
        alike,
        protocols,
        list(Line(m, m.method, 0.0, None).metrics),
    )


def _steered(evaluations: Sequence[Measured], request: Shown, run: str) -> list[Measured]:
    """The evaluations that the flags leave, at strengths other than 0."""
    if request.eval:
        by_name = [m for m in evaluations if request.eval in (m.protocol.eval, m.protocol.id)]
        evaluations = by_name or _refuse(request.eval, [m.protocol.id for m in evaluations])
    if request.data:
        by_data = [m for m in evaluations if request.data in m.source or m.items_hash.startswith(request.data)]
        evaluations = by_data or _refuse(
            f"evaluation on {request.data!r}", [f"{m.source or m.protocol.id} ({m.items_hash})" for m in evaluations]
        )
    if not evaluations:
        raise ValueError(f"{run} has no evaluations; `ws eval NAME --run {run}` makes one")
    steered = [m for m in evaluations if any(m.alphas)]
    return steered or _refuse("strength other than 0", [m.protocol.id for m in evaluations])


def _refuse(name: str, there: Sequence[str]) -> NoReturn:
    raise ValueError(f"no {name} here; there are {', '.join(dict.fromkeys(there)) or 'no evaluations'}")


def _closest(alike: Sequence[Measured], alpha: float | None) -> Measured:
    """The evaluation to show: a strength that was typed decides; otherwise all units before some, then +1."""
    having = [m for m in alike if alpha is None or alpha in m.alphas] or list(alike)
    full = [m for m in having if not m.smoke] or having
    return best(full, alpha if alpha is not None else forward({a for m in full for a in m.alphas}, None) or 0.0)


def _show_unit(unit: Unit, alpha: float, screen: Screen) -> None:
    """A unit: how far it moved, its questions, and what was thought."""
    screen.show(
        f"\n[bold]{signed(unit.before)} → {signed(unit.after)}[/]  change {signed(unit.change)}   [dim]unit {safe_text(unit.unit_id)}[/]"
    )
    last = None
    for r in unit.rows[:ROWS]:
        prompt = shortened(on_one_line(str(r.get("prompt", r["row_key"]))), PROMPT)
        if prompt != last:
            screen.show(f"  {safe_text(prompt)}")
        last = prompt
        answers = f"  {safe_text(shortened(r['wanted'], ANSWER))}" if r.get("wanted") else ""
        answers += f" [dim]over[/] {safe_text(shortened(r['unwanted'], ANSWER))}" if r.get("unwanted") else ""
        screen.show(f"    {signed(r['before'])} → {signed(r['after'])} {answers}")
        for name, text in (("0", r.get("text_before")), (f"{alpha:+g}", r.get("text_after"))):
            if text:
                screen.show(f"      [dim]at {name}:[/] {safe_text(shortened(text, THOUGHT))}")
    if len(unit.rows) > ROWS:
        screen.show(f"    [dim]and {len(unit.rows) - ROWS} more rows of this unit; --json has them all[/]")
