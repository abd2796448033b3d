"""`ws train`: the two adapters of a study, in one process or several."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import typer

from ws.cli.launch import Across, joined, start_processes, to_start
from ws.cli.options import Options, verb
from ws.cli.result import VerbResult
from ws.cli.screen import Screen, say_stage
from ws.cli.study import STUDY, rooted, say_pairs
from ws.records import Record
from ws.study.options import Common
from ws.study.plan import Plan
from ws.study.planning import insist_on_pairs, plan_of, refuse_place_to_work, refuse_settings
from ws.study.stages import make_pairs, make_sides
from ws.train import Sides
from ws.train.tracking import refuse_missing


@dataclass(frozen=True, eq=False)
class Training(VerbResult):
    """Both sides of a study."""

    plan: Plan
    sides: Sides
    record: Record
    then: Sequence[str]
    """The words of the command that comes next."""

    def as_json(self) -> Mapping[str, object]:
        geometry = self.record.manifest["geometry"]
        return {"folder": str(self.record.folder.resolve()), "report": dict(self.sides.report), "geometry": geometry}

    def show(self, screen: Screen) -> None:
        g, report = self.record.manifest["geometry"], self.sides.report
        pos, neg = report["steps"]
        steps = f"step {pos}" if pos == neg else f"steps {pos} and {neg}"
        word = "last" if self.plan.train.stop == "none" else "best"
        screen.show(
            f"{self.plan.train.adapter}: lr {report['lr']:g}, {word} at {steps}, validation loss pos {report['val_pos']:.3f}, "
            f"neg {report['val_neg']:.3f}; |tau+| {g['norm_pos']:.3g}, |tau-| {g['norm_neg']:.3g}, |dW| {g['norm']:.3g}, "
            f"cos(tau+, tau-) {signed_cosine(g['cos_tau'])}\n{self.record.folder.resolve()}"
        )
        for note in report["notes"]:
            screen.show(f"note: {screen.text(note)}")
        screen.next(self.then)


@verb(*STUDY, Across)
def train(options: Options) -> VerbResult:
    """Two adapters, one on each side of the pairs."""
    common, across = rooted(options, options.of(Common)), options.of(Across)
    refuse_missing(across.report_to)
    if n := to_start(across, common):
        refuse_settings(options.values)
        refuse_place_to_work(common)
        start_processes(n, options.words)
    group = joined(across, common)
    with group.together():
        device = group.device if group.size > 1 else None
        plan = plan_of(common, options.values, device=device, waiting=group.shard)
        if group.shard:
            insist_on_pairs(plan)
        with group.main_first():
            pairs, record = make_pairs(plan)
        if group.main:
            say_pairs(pairs, record)
        sides, record = make_sides(
            plan, pairs, group=group, rows_at_once=across.rows_at_once, report_to=across.report_to
        )
    if not group.main:
        raise typer.Exit()  # one speaks for all
    say_stage("train", record)
    return Training(plan, sides, record, options.words_for("diff", without={f.name for f in fields(Across)}))


def signed_cosine(x: float | None) -> str:
    """A signed_cosine, or a dash where a side did not move."""
    return "–" if x is None else f"{x:+.2f}"
