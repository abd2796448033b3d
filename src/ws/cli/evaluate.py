"""`ws eval`: one evaluation over a grid of strengths."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from ws.behaviors import load_behavior, names
from ws.cli.named import DIRECTION, PLACE, RUN, name_of, words_of
from ws.cli.options import Declared, Options, verb
from ws.cli.result import VerbResult
from ws.cli.screen import Screen, safe_text, say, say_stage
from ws.cli.study import MAKING, Dialed, rooted
from ws.cli.subject import BehaviorSubject, EvalRequest, Evaluated
from ws.direction import Direction
from ws.eval import Evaluation, Panel, Protocol, evaluation, shown
from ws.eval.foundations import AXES, checked_axis
from ws.judge import refuse_nobody
from ws.models.locate import refuse_nowhere
from ws.presets import preset
from ws.records import Record
from ws.results.layouts import alphas, panels
from ws.results.measured import measured
from ws.results.sentences.alphas import readings
from ws.results.sentences.questions import not_held_out
from ws.study.card import effects, note
from ws.study.evaluations import make_eval, rows_in
from ws.study.options import Common
from ws.study.planning import refuse_unreadable

EVAL_NAME: Declared = (
    str,
    typer.Argument(help="{evaluations}; lm-eval is any task of lm-evaluation-harness, file asks your own questions."),
)


@dataclass(frozen=True, eq=False)
class Measurement(VerbResult):
    """An evaluation's table, and what is to be known beside it."""

    name: str
    subject: BehaviorSubject
    protocol: Protocol
    rows: Sequence[Mapping[str, Any]]
    record: Record
    behavior: str | None
    intent: Mapping[str, int]
    out: str

    def as_json(self) -> Mapping[str, object]:
        return {
            "model": self.subject.base.id,
            "eval": self.name,
            "folder": str(self.record.folder.resolve()),
            "rows": self.rows,
            "protocol": self.record.manifest["settings"]["protocol"],
            "note": self._note,
            "panels": {p.title: list(p.records) for p in self._panels},
        }

    def show(self, screen: Screen) -> None:
        _show_note(self._note, screen)
        rows = shown(self.rows, self.intent)
        screen.sheet(alphas.sheet(rows, self._title))
        screen.points([*not_held_out(measured([self.record.folder])), *readings(rows, self.intent)])
        screen.show("")
        for p in self._panels:
            screen.sheet(panels.sheet(p))
        metrics = {r["metric"] for r in rows}
        for metric, means in self.protocol.legend.items():
            if metric in metrics:
                screen.show(f"[dim]{metric}: {safe_text(means)}[/]")
        screen.show(f"rows: {self.record.folder.resolve()}/rows.parquet")
        place = words_of(self.subject.folder, self.out)
        if any(r["alpha"] for r in self.rows):
            screen.next(["show", *place, "--eval", self.name, "--worst", "5"], ["table", *place])

    @property
    def _note(self) -> Mapping[str, Any]:
        return self.record.manifest["note"]

    @property
    def _panels(self) -> Sequence[Panel]:
        return self.protocol.panels(rows_in(self.record), self.intent)

    @property
    def _title(self) -> str:
        smoke = f", SMOKE: only {units(self._note['n_units'])}" if self._note.get("smoke") else ""
        behavior = f"{self.behavior}: " if self.behavior else ""
        return f"{behavior}{self.subject.method} on {self.subject.base.id}{smoke}"


@verb(Common, Evaluated, Dialed, *MAKING, name=EVAL_NAME, place=PLACE, direction=DIRECTION, run=RUN)
def evaluate(options: Options) -> VerbResult:
    """A direction, any method or the model alone, measured."""
    name = options.text("name") or ""
    common, evaluated, alphas = rooted(options, options.of(Common)), options.of(Evaluated), options.of(Dialed).alphas
    named = name_of(options)
    if named and evaluated.method:
        raise ValueError(f"give {named} or --method {evaluated.method}, not both")
    if evaluated.axis:  # before any work
        _refuse_axis(name, evaluated.axis)
    chosen = _evaluation(name, common, evaluated)
    refuse_unreadable(common)
    if evaluated.origin:
        refuse_nowhere(evaluated.origin)
    if evaluated.judge:
        refuse_nobody(evaluated.judge)
    subject = EvalRequest(chosen, common, evaluated, named, alphas, options).subject()
    strengths = subject.strengths(alphas, typed=options.has("alphas"))
    table, record = make_eval(subject, chosen, alphas=strengths, out=Path(common.out))
    say_stage(f"eval {name}", record)
    # a pack is found by the path that was typed, a run's behavior by its name, if it has one
    pack = common.behavior or (subject.behavior if subject.behavior in names() else None)
    behavior = load_behavior(pack, tiny=subject.base.tiny) if pack else None
    intent = behavior.intent if behavior else {}
    if evaluated.axis:
        intent = _with_axis(evaluated.axis, behavior.name if behavior else None, intent)
    if isinstance(subject.by, Direction) and not record.manifest["note"].get("smoke"):
        note(subject.folder, subject.by, subject.base, effects=effects(table, intent))
    return Measurement(
        name, subject, chosen.chosen, table, record, behavior.name if behavior else None, intent, common.out
    )


def _evaluation(name: str, common: Common, evaluated: Evaluated) -> Evaluation:
    """The questions and how they are counted; everything that can be refused is refused before any work."""
    protocol_id = evaluated.protocol or preset(common.preset, "protocol").get(name)
    chosen = evaluation(
        name,
        protocol_id,
        n_think=evaluated.n_think,
        data=evaluated.data,
        limit=evaluated.limit,
        tasks=evaluated.tasks,
        include_path=evaluated.include_path,
        judge=evaluated.judge,
    )
    if common.preset != "ws" and protocol_id is None:
        say(f"preset {common.preset} has no protocol of its own for {name}; {chosen.protocol} is used")
    return chosen


def _refuse_axis(name: str, axis: str) -> None:
    """Refuse an axis that this evaluation does not have."""
    if name != "foundations":
        raise ValueError(f"--axis belongs to foundations; {name} has none")
    if axis not in AXES:
        raise ValueError(f"--axis is one of {', '.join(AXES)}; got {axis!r}")


def _with_axis(axis: str, behavior: str | None, intent: Mapping[str, int]) -> dict[str, int]:
    """The claims of a behavior with another axis in place of its own."""
    checked_axis(axis, behavior, intent)
    return {m: s for m, s in intent.items() if m not in {f"axis_{a}" for a in AXES}} | {f"axis_{axis}": 1}


def units(n: int | None) -> str:
    """So many units."""
    return f"{n} unit{'' if n == 1 else 's'}"


def _show_note(note: Mapping[str, Any], screen: Screen) -> None:
    """What was asked, what was left out, and what could not be scored."""
    if "answers" in note:
        yes, no = note["answers"]["yes"], note["answers"]["no"]
        screen.show(
            f"[dim]answer tokens: {safe_text(str(yes))} against {safe_text(str(no))}, after {safe_text(repr(note['anchor']))}[/]"
        )
    if note.get("source"):
        labels = ", ".join(f"{n} labeled {label}" for label, n in note.get("labels", {}).items())
        of = f" of {note['n_pairs']}" if "n_pairs" in note else ""
        counts = f"{units(note['n_units'])}, {note['n_items']}{of} prompts"
        screen.show(f"[dim]asked: {counts}, from {safe_text(note['source'])}{f' ({labels})' if labels else ''}[/]")
    for why, rows in note.get("left_out", {}).items():
        screen.show(f"• left out {rows['n']}: {safe_text(why)} (e.g. {safe_text(', '.join(rows['rows'][:3]))})")
    if unknown := note.get("values_without_class"):
        screen.show(f"• {len(unknown)} values have no class, e.g. {safe_text(', '.join(unknown[:3]))}")
    if missing := note.get("unscored", {}).get("n", 0):
        rows = note["unscored"]["rows"]
        screen.show(
            f"• {missing} of {note['unscored']['of']} rows have no score, e.g. {safe_text(', '.join(rows[:3]))}"
        )
    if forced := note.get("forced_share"):
        decides = "; above half, the budget of thought decides the result" if max(forced.values()) > 0.5 else ""
        screen.show(f"• thoughts that had to be closed: {_shares(forced)}{decides}")
    if low := {alpha: share for alpha, share in note.get("low_pmass_share", {}).items() if share}:
        screen.show(f"• rows where another token is 100 times likelier than the answers: {_shares(low)}")


def _shares(by_alpha: Mapping[str, float]) -> str:
    return ", ".join(f"{100 * share:.0f} % at alpha {alpha}" for alpha, share in by_alpha.items())
