"""`ws data`: the pairs of a study, or a preview of them, and what checks say of them."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from shlex import join

import typer
from rich.table import Table

from ws.cli.options import Options, verb
from ws.cli.result import VerbResult
from ws.cli.screen import Screen, safe_text, say_stage
from ws.cli.study import STUDY, rooted
from ws.cli.tables import checks_table
from ws.cli.words import duration
from ws.data import PREVIEW_QUESTIONS, Preview
from ws.pairs import FEW_PAIRS, Pair, Pairs, by_question, caveats, counted, kept, others, outlook, share_of
from ws.records import Record
from ws.study.options import Common
from ws.study.plan import Plan
from ws.study.planning import plan_of
from ws.study.stages import make_pairs, preview_pairs

EXAMPLES = 2
LONGEST = 240  # letters of an answer that are shown


@dataclass(frozen=True, eq=False)
class MadePairs(VerbResult):
    """The pairs of a study."""

    pairs: Pairs
    record: Record
    then: Sequence[str]
    """The words of the command that comes next."""

    def as_json(self) -> Mapping[str, object]:
        return {
            "folder": str(self.record.folder.resolve()),
            "n": len(self.pairs.rows),
            "checks": self.record.manifest["checks"],
        }

    def show(self, screen: Screen) -> None:
        screen.show(checks_table(self.record.manifest["checks"]))
        about = self.pairs.provenance
        more = ""
        if about.get("n_questions_used") != about.get("n_questions"):
            used, there = about["n_questions_used"], about["n_questions"]
            more = f", {used} of {there} questions used; --n-topics says how many"
        screen.show(f"\n{counted(self.pairs)}{more}  {self.record.folder.resolve()}/pairs.jsonl\n")
        screen.points(caveats(self.pairs) or [outlook(self.pairs.checks)[1]])
        screen.show(answers_table([group[0] for group in by_question(self.pairs.rows)[:EXAMPLES]]))
        screen.next(self.then)


@dataclass(frozen=True, eq=False)
class PairsPreview(VerbResult):
    """A preview of the pairs of a study."""

    plan: Plan
    preview: Preview
    seconds: float
    words: tuple[str, ...]

    def as_json(self) -> Mapping[str, object]:
        grade, sentence = self._outlook
        return {
            "rows": [asdict(r) for r in self.preview.rows],
            "checks": [asdict(c) for c in self.preview.checks],
            "planned": self.preview.planned,
            "outlook": grade,
            "says": sentence,
        }

    def show(self, screen: Screen) -> None:
        groups = by_question(self.preview.rows)
        if (behavior := self.plan.behavior) is not None:
            screen.show(f"pos: {safe_text(behavior.pos_means)}\nneg: {safe_text(behavior.neg_means)}\n")
        # another persona for each question, so that all are seen
        screen.show(answers_table([g[i % len(g)] for i, g in enumerate(groups[:PREVIEW_QUESTIONS])]))
        screen.show("")
        screen.show(checks_table([asdict(c) for c in self.preview.checks]))
        screen.show("")
        screen.points(self._readings())
        then = "ws replicate" if self._outlook[0] == "ok" else "mend that, and again  ws data --preview"
        screen.show(f"\nNothing of this was kept.  next:  {then} {safe_text(join(self.words))}".rstrip())

    @property
    def _outlook(self) -> tuple[str, str]:
        return outlook(self.preview.checks, self.preview.rows)

    def _readings(self) -> list[str]:
        """How many pairs there will be, whether they can teach anything, and what could be better."""
        rows, planned = self.preview.rows, self.preview.planned
        usable, dropped = kept(rows)
        left = round(planned * len(usable) / len(rows))
        lines = [self._outlook[1], f"{share_of(len(usable), len(rows), dropped)} can be used."]
        if planned > len(rows):
            lines[-1] += (
                f" The whole study asks for {planned}, of which about {left} will be left; its answers take about "
                f"{duration(self.seconds * planned / len(rows))}."
            )
        if few := left < FEW_PAIRS:
            lines.append(
                f"Fewer than about {FEW_PAIRS} pairs teach little: ask more questions, give more personas, or make more `epochs`."
            )
        return lines + others(self.preview.checks, well=self._outlook[0] == "ok" and not few)


def answers_table(rows: list[Pair]) -> Table:
    """Questions with the answers of both sides beside each other."""
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 1, 0))
    for name in ("question", "pos", "neg"):
        table.add_column(name, overflow="fold", ratio=1)
    for r in rows:
        table.add_row(*(safe_text(_short(text)) for text in (r.prompt, r.response_pos, r.response_neg)))
    return table


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST].rstrip()} …"


@verb(
    *STUDY,
    preview=(
        bool | None,
        typer.Option(
            "--preview",
            help="Ask ten questions, show the answers of both sides and what they promise, and keep nothing.",
        ),
    ),
)
def data(options: Options) -> VerbResult:
    """The pairs of a study, made or read."""
    plan = plan_of(rooted(options, options.of(Common)), options.values)
    if options.flag("preview"):
        start = time.perf_counter()
        some = preview_pairs(plan)
        words = [w for w in options.words[1:] if w != "--preview"]
        return PairsPreview(plan, some, time.perf_counter() - start, tuple(words))
    pairs, record = make_pairs(plan)
    say_stage("data", record)
    return MadePairs(pairs, record, options.words_for("train"))
