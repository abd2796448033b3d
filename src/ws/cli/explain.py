"""`ws explain`: where in the weights the behavior of a direction sits, as one page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ws.behaviors import Behavior, load_behavior, names
from ws.cli.named import DIRECTION, PLACE, RUN, WAYS, name_of
from ws.cli.options import Options, verb
from ws.cli.result import VerbResult
from ws.cli.screen import Screen, safe_text, say
from ws.cli.subject import BehaviorSubject, EvalRequest, Evaluated
from ws.diff import lookup
from ws.eval import Evaluation
from ws.explain.page import shown
from ws.explain.show import legend, sheet_of
from ws.explain.story import Asked, Explanation, as_json
from ws.explain.story import explain as explain_subject
from ws.study.options import Common
from ws.study.planning import refuse_unreadable
from ws.study.runs import behavior_of

ON_SCREEN = 12
"""Lines of a table that a terminal shows."""


@dataclass(frozen=True, eq=False)
class Explained(VerbResult):
    """What was found, and the page of it."""

    subject: BehaviorSubject
    alpha: float
    explanation: Explanation
    more: Sequence[str]
    """The command that asks all there is; nothing where all was asked."""

    def as_json(self) -> Mapping[str, object]:
        files = self.explanation.files
        return {
            "model": self.subject.base.id,
            "direction": self.subject.method,
            "alpha": self.alpha,
            "analyses": [as_json(a) for a in self.explanation.answered],
            "page": str(files.page.resolve()),
            "markdown": str(files.markdown.resolve()),
            "numbers": str(files.numbers.resolve()),
            "parts": {name: str(path.resolve()) for name, path in files.parts.items()},
        }

    def show(self, screen: Screen) -> None:
        files = self.explanation.files
        known: dict[str, str] = {}
        for a in (shown(a, ON_SCREEN) for a in self.explanation.answered):
            screen.show(f"\n[bold]{safe_text(a.title)}[/]: {safe_text(a.analysis.question)}")
            if a.finding is None:
                screen.points([f"not answered: {a.why_not}"])
                continue
            screen.points(a.finding.readings)
            for t in a.finding.tables:
                if t.rows:
                    screen.show("")
                    screen.sheet(sheet_of(t))
            if words := legend(a.finding.tables, known):
                screen.show(f"[dim]Columns: {safe_text(words)}.[/]")
            screen.show(f"[dim]Not shown: {safe_text(a.analysis.silent)}[/]")
        screen.show(
            safe_text(
                f"\npage   {files.page.resolve()}\ntext   {files.markdown.resolve()}\nrows   {files.numbers.resolve()}"
            )
        )
        for path in files.parts.values():
            screen.show(safe_text(f"part   {path.resolve()}"))
        parts = [["generate", str(p), "What is the capital of Kenya?"] for p in list(files.parts.values())[:1]]
        if commands := [*([self.more] if self.more else []), *parts]:
            screen.next(*commands)


@verb(Asked, Common, place=PLACE, direction=DIRECTION, run=RUN)
def explain(options: Options) -> VerbResult:
    """Where in the weights the behavior of a direction sits."""
    common, asked, name = options.of(Common), options.of(Asked), name_of(options)
    if not name:
        raise ValueError(f"ws explain needs a direction: {WAYS}")
    refuse_unreadable(common)
    place = lookup(name, common.out)
    tiny = (common.model if options.has("model") else place.base_model()) == "tiny"
    of_run = behavior_of(place.run) if place.run is not None else None
    behavior = _behavior(common.behavior or of_run, tiny=tiny)
    chosen = list(asked.evaluations(behavior, of_run=place.run is not None).values())
    needing = (
        [e for e in chosen if e.chosen.of_run] or chosen or [Evaluation("dilemmas")]
    )  # the pairs of the run, if any does
    subject = EvalRequest(needing[0], common, Evaluated(), name, [asked.alpha], options).subject()
    explanation = explain_subject(subject, asked, behavior, Path(common.out), say=say)
    more = [] if "all" in asked.what else [*options.words_for("explain", without={"what", "top"}), "--what", "all"]
    return Explained(subject, asked.alpha, explanation, more)


def _behavior(name: str | None, *, tiny: bool) -> Behavior | None:
    """The behavior of a run, where it has one that can be found by its name."""
    return load_behavior(name, tiny=tiny) if name and (name in names() or Path(name).is_file()) else None
