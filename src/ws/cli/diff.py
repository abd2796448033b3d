"""`ws diff`: the direction of a study, or the difference of any two models."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import typer

from ws.analysis.rounding import upstream_bf16
from ws.cli.named import words_of
from ws.cli.options import Declared, Options, verb
from ws.cli.result import VerbResult
from ws.cli.screen import Screen, safe_text, say_stage
from ws.cli.study import STUDY, rooted, say_pairs
from ws.cli.tables import rounding_table
from ws.cli.train import signed_cosine
from ws.diff import checked_mode, diff_named
from ws.direction import Direction, save
from ws.direction.file import format_of
from ws.records import refuse_unwritable
from ws.settings import at_least
from ws.study.options import Common
from ws.study.planning import plan_of
from ws.study.stages import make_direction, make_pairs, make_sides
from ws.train import TrainSettings

SIDE_FORMS = "a checkpoint (folder, hub id), BASE+ADAPTER, a run, a direction or a file of plain tensors"
MODE: Declared = (
    str | None,
    typer.Option("--mode", help="contrastive, tau+ (pos against base) or tau- (base against neg)."),
)
ROUNDING: Declared = (
    bool | None,
    typer.Option("--upstream-bf16", help="Also print what the published way, in bf16, would have lost."),
)
LEFT: Declared = (
    str | None,
    typer.Argument(help=f"Instead of a study: {SIDE_FORMS}. Then --out is the file to write, and --rank cuts."),
)
RIGHT: Declared = (
    str | None,
    typer.Argument(help="What to subtract, in the same forms; the base of LEFT if left out."),
)


@dataclass(frozen=True, eq=False)
class StudyDirection(VerbResult):
    """The direction of a study."""

    direction: Direction
    facts: Mapping[str, Any]
    rounding: Mapping[str, Any] | None
    name: Sequence[str]
    """The words that name it."""

    def as_json(self) -> Mapping[str, object]:
        rounding = {"upstream_bf16": self.rounding} if self.rounding else {}
        return {"direction": self.facts, "modules": len(self.direction.forms), **rounding}

    def show(self, screen: Screen) -> None:
        f = self.facts
        screen.show(
            f"{len(self.direction.forms)} modules, |dW| {f['norm']:.4g}, cos(tau+, tau-) {signed_cosine(f['cos_tau'])}, "
            f"{f['bytes'] / 1e6:.2f} MB\n{f['file']}"
        )
        if self.rounding:
            screen.show("")
            screen.show(rounding_table(self.rounding))
        screen.next(["chat", *self.name], ["eval", "dilemmas", *self.name], ["inspect", *self.name])


@dataclass(frozen=True, eq=False)
class ModelDifference(VerbResult):
    """The difference of two models."""

    direction: Direction
    facts: Mapping[str, Any]

    def as_json(self) -> Mapping[str, object]:
        return {"direction": self.facts, "modules": len(self.direction.forms)}

    def show(self, screen: Screen) -> None:
        f = self.facts
        screen.show(
            f"{len(self.direction.forms)} modules, |dW| {f['norm']:.4g}, {f['bytes'] / 1e6:.2f} MB, for {safe_text(f['base']['id'])}"
        )
        if f["kept_energy"] is not None:
            rank = self.direction.provenance["compressed"]["rank"]
            screen.show(f"rank {rank} keeps {100 * f['kept_energy']:.1f} % of the energy")
        if (left_out := f["left_out"]) and left_out["tensors"]:
            screen.show(f"note: {rest(left_out)}")
        screen.show(f["file"])
        screen.next(["inspect", f["file"]])


@verb(*STUDY, mode=MODE, upstream_bf16=ROUNDING, left=LEFT, right=RIGHT)
def diff(options: Options) -> VerbResult:
    """The direction of a study, or of LEFT and RIGHT."""
    if options.text("left"):
        return _of_models(options)
    mode = checked_mode(options.text("mode") or "contrastive")
    plan = replace(plan_of(rooted(options, options.of(Common)), options.values), mode=mode)
    pairs, record = make_pairs(plan)
    say_pairs(pairs, record)
    sides, record = make_sides(plan, pairs)
    say_stage("train", record)
    cos_tau = record.manifest["geometry"]["cos_tau"]
    direction, record = make_direction(plan, sides)
    say_stage("diff", record)
    file = record.folder / "direction.safetensors"
    facts = {
        "file": str(file.resolve()),
        "norm": record.manifest["norm"],
        "cos_tau": cos_tau,
        "bytes": file.stat().st_size,
    }
    rounding = upstream_bf16(plan.base, *sides) if options.flag("upstream_bf16") else None
    name = words_of(plan.run_folder, plan.out) if mode == "contrastive" else [facts["file"]]
    return StudyDirection(direction, facts, rounding, name)


def _of_models(options: Options) -> VerbResult:
    """`ws diff LEFT RIGHT --out FILE`: from adapters, runs, directions, plain tensors or whole checkpoints."""
    if odd := sorted(options.values.keys() - {"left", "right", "out", "model", "rank"}):
        raise ValueError(f"`{odd[0]}` belongs to a study; with LEFT there are --model, --rank and --out")
    file = options.text("out")
    if not file:
        raise ValueError("ws diff LEFT RIGHT needs a file to write: --out direction.safetensors")
    if Path(file).suffix != ".safetensors":
        raise ValueError(f"--out names the direction file to write, which ends in .safetensors; got {file}")
    out = Path(file).expanduser()
    if out.exists() and not format_of(out):
        raise ValueError(f"{out} exists and is no direction; nothing else is overwritten. Give another --out")
    refuse_unwritable(out.parent)
    if (rank := options.typed(TrainSettings).get("rank")) is not None:
        at_least(1).check("rank", rank)
    direction, base = diff_named(
        options.text("left") or "", options.text("right"), model=options.text("model"), rank=rank
    )
    out = save(direction, out)
    facts = {
        "file": str(out.resolve()),
        "norm": direction.norm(base.weight),
        "bytes": out.stat().st_size,
        "base": base.described(),
        "left_out": direction.provenance.get("left_out"),
        "kept_energy": direction.provenance.get("compressed", {}).get("kept"),
    }
    return ModelDifference(direction, facts)


def rest(left_out: Mapping[str, Any]) -> str:
    """What a difference of checkpoints does not hold, in one sentence."""
    share = left_out["energy_share"]
    part = f"they hold {100 * share:.1f} % of the squared difference" if share is not None else "some have other shapes"
    return (
        f"{left_out['tensors']} tensors outside the blocks' linear layers also differ and are left out ({part}), "
        f"e.g. {', '.join(left_out['names'][:2])}."
    )
