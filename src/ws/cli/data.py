"""`ws data`: the pairs of a study, and what checks say of them."""

from collections.abc import Mapping
from dataclasses import dataclass

from ws.cli.options import Options, verb
from ws.cli.result import VerbResult
from ws.cli.screen import Screen, safe_text, say_stage
from ws.cli.study import STUDY
from ws.cli.tables import checks_table
from ws.pairs import Pairs
from ws.records import Record
from ws.study.options import Common
from ws.study.planning import plan_of
from ws.study.stages import make_pairs

EXAMPLES = 2


@dataclass(frozen=True, eq=False)
class MadePairs(VerbResult):
    """The pairs of a study."""

    pairs: Pairs
    record: Record

    def as_json(self) -> Mapping[str, object]:
        return {
            "folder": str(self.record.folder.resolve()),
            "n": len(self.pairs.rows),
            "checks": self.record.manifest["checks"],
        }

    def show(self, screen: Screen) -> None:
        screen.show(checks_table(self.record.manifest["checks"]))
        about = self.pairs.provenance
        notes = [f"{n} {reason} dropped" for reason, n in about["dropped"].items()]
        if about.get("n_questions_used") != about.get("n_questions"):
            notes.append(
                f"{about['n_questions_used']} of {about['n_questions']} questions used; --n-topics says how many"
            )
        more = f" ({', '.join(notes)})" if notes else ""
        screen.show(f"\n{len(self.pairs.rows)} pairs{more}  {self.record.folder.resolve()}/pairs.jsonl")
        for r in list({r.prompt_id: r for r in self.pairs.rows}.values())[:EXAMPLES]:
            screen.show(
                f"\n  [bold]{safe_text(r.prompt)}[/]\n  pos: {safe_text(r.response_pos)}\n  neg: {safe_text(r.response_neg)}"
            )


@verb(*STUDY)
def data(options: Options) -> VerbResult:
    """The pairs of a study, made or read."""
    pairs, record = make_pairs(plan_of(options.of(Common), options.values))
    say_stage("data", record)
    return MadePairs(pairs, record)
