"""`ws doctor`: look at everything a run will need, say what is wrong and what to do."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.table import Table

from ws.batches import free_memory
from ws.cli.options import Options, verb
from ws.cli.result import VerbResult
from ws.cli.screen import Screen, say
from ws.data import DataSettings
from ws.doctor import Finding, examine, examine_extensions, examine_model, memory_plan, opened, self_test
from ws.doctor.check import size
from ws.doctor.machine import free_by_device
from ws.doctor.memory import MemoryPlan
from ws.doctor.support import findings
from ws.errors import Failed, WsError
from ws.study.options import Common
from ws.study.planning import planned_settings, refuse_settings
from ws.train import TrainSettings

NO_MATTER = (
    *(
        "onto",
        "behavior",
        "pairs",
        "n_topics",
        "n_personas",
        "n_samples",
        "max_new_tokens",
        "min_new_tokens",
        "temperature",
        "top_p",
        "top_k",
    ),
    *("thinking", "shuffle_topics", "min_distinct", "seed", "lr", "epochs", "weight_decay", "warmup", "val_share"),
    *("test_share", "eval_every", "patience", "stop", "init", "allow_template_diff"),
)
"""Options of a study that take no memory; they are understood, so that the options of a study can be pasted."""
COLOR = {"ok": "green", "note": "yellow", "broken": "red"}


@dataclass(frozen=True, eq=False)
class Examination(VerbResult):
    """What works here, and what fits."""

    checks: Sequence[Finding]
    memory: MemoryPlan | None

    def as_json(self) -> Mapping[str, object]:
        memory = self.memory.as_json() if self.memory else None
        return {"healthy": not self._broken, "checks": [vars(c) for c in self.checks], "memory": memory}

    def show(self, screen: Screen) -> None:
        screen.show(_checks(self.checks, screen))
        if self.memory:
            _show_memory(self.memory, screen)
        if not self._broken:
            screen.show("\nEverything that ws needs works here.")

    @property
    def _broken(self) -> list[Finding]:
        return [c for c in self.checks if c.state == "broken"]

    @property
    def failure(self) -> WsError | None:
        if broken := self._broken:
            names = ", ".join(c.name for c in broken)
            return Failed(f"{len(broken)} of {len(self.checks)} checks failed: {names}.")
        return None


@verb(Common, DataSettings, TrainSettings, unlisted=NO_MATTER)
def doctor(options: Options) -> VerbResult:
    """Checks of this machine, of a model, and of a small study."""
    common = options.of(Common)
    refuse_settings(options.values)
    checks, memory = [*examine(Path(common.out), device=common.device), *examine_extensions()], None
    if options.has("model"):
        say(f"reading config and tokenizer of {common.model}")
        try:
            model = opened(common.model)
            usable = all(c.state != "broken" for c in checks if c.name == "device")
            free = free_by_device(common.device) if usable else {"cpu": 0}
            packed = common.quantize or model.packed_on(next(iter(free)))
            checks += [*examine_model(model), *findings(model.base, packed)]
            data, train = planned_settings(common, options.values, model.base)
            if usable:
                main = free_memory(torch.device("cpu"))
                memory = memory_plan(
                    model, data, train, dtype=common.dtype, quantize=common.quantize, free=free, main=main
                )
        except WsError as e:
            checks.append(Finding("model", "broken", str(e), "Name another --model; `tiny` always works."))
    say("running a small study on tiny")
    checks.append(self_test())
    return Examination(checks, memory)


def _checks(checks: Sequence[Finding], screen: Screen) -> Table:
    """The table of checks; what to do stands below what was found."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("check", "", "found"):
        table.add_column(name, overflow="fold")
    for c in checks:
        advice = f"\n→ {screen.text(c.do)}" if c.do else ""
        table.add_row(screen.text(c.name), f"[{COLOR[c.state]}]{c.state}[/]", screen.text(c.found) + advice)
    return table


def _show_memory(plan: MemoryPlan, screen: Screen) -> None:
    """A line for each kind of work, then what to type."""
    first, free = next(iter(plan.free.items()))
    devices = f", and there are {len(plan.free)} devices" if len(plan.free) > 1 else ""
    screen.show(
        f"\n[bold]memory of {screen.text(plan.model)}[/] in {plan.quantize or plan.dtype}: weights {size(plan.weights)}; "
        f"{first} has {size(free)} free{devices}"
    )
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("step")
    for name in ("rows at once", "weights", "adapters", "rows", "together"):
        table.add_column(name, justify="right")
    table.add_column("fits")
    for s in plan.steps:
        rows = s.fits(plan.room - plan.weights)
        verdict = "[green]yes[/]" if rows == s.rows else f"[yellow]{rows} rows at once[/]" if rows else "[red]no[/]"
        adapters = size(s.fixed) if s.fixed else "–"
        sizes = (size(plan.weights), adapters, size(s.per_row * s.rows), size(plan.weights + s.bytes()))
        table.add_row(s.name, str(s.rows), *sizes, verdict)
    screen.show(table)
    counted = "" if plan.traced_as in plan.steps[1].name else f", counted as {plan.traced_as}'s"
    screen.show(
        f"adapters: {plan.adapter_parameters / 1e6:.1f} million parameters a side, with both sides' AdamW and best step{counted}"
    )
    for line in plan.advice:
        screen.show(f"→ {screen.text(line)}")
