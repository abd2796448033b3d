"""`ws doctor`: look at everything a run will need, say what is wrong and what to do."""

from pathlib import Path
from typing import Any

from ws.cli.flags import Common, planned_settings
from ws.cli.out import plain, say, show, show_json
from ws.errors import Failed, WsError
from ws.settings import coerced

STATE = {"ok": "green", "note": "yellow", "broken": "red"}


def doctor(given: dict[str, Any]) -> Any:
    """Check this machine, and with --model a model: versions, devices, template, answers, memory; with a small study as a self-test."""
    import torch

    from ws.batches import free_memory
    from ws.doctor import Check, examine, examine_model, memory_plan, opened, self_test
    from ws.doctor.machine import free_by_device

    common = Common(**coerced(Common, given))
    checks, plan = examine(Path(common.out), device=common.device), None
    if "model" in given:
        say(f"reading config and tokenizer of {common.model}")
        try:
            model = opened(common.model)
            checks += examine_model(model)
            data, train = planned_settings(common, given, model.base)
            if all(c.state != "broken" for c in checks if c.name == "device"):
                main = free_memory(torch.device("cpu"))
                plan = memory_plan(
                    model, data, train, dtype=common.dtype, free=free_by_device(common.device), main=main
                )
        except WsError as e:
            checks.append(Check("model", "broken", str(e), "Name another --model; `tiny` always works."))
    say("running a small study on tiny")
    checks.append(self_test())
    bad = [c for c in checks if c.state == "broken"]
    told = {"healthy": not bad, "checks": [vars(c) for c in checks], "memory": plan.as_json() if plan else None}
    if not given.get("json"):
        show(checks_of(checks))
        if plan:
            show_plan(plan)
    elif bad:  # the record is printed before the failure is said
        show_json(told)
    if bad:
        raise Failed(f"{len(bad)} of {len(checks)} checks failed: {', '.join(c.name for c in bad)}.")
    if not given.get("json"):
        show("\nEverything that ws needs works here.")
    return told


def checks_of(checks: Any) -> Any:
    """The table of checks; what to do stands below what was found."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("check", "", "found"):
        table.add_column(name, overflow="fold")
    for c in checks:
        found = plain(c.found) + (f"\n→ {plain(c.do)}" if c.do else "")
        table.add_row(plain(c.name), f"[{STATE[c.state]}]{c.state}[/]", found)
    return table


def show_plan(plan: Any) -> None:
    """The memory plan: a line per kind of work, then what to type."""
    from rich.table import Table

    from ws.doctor.check import size

    first, free = next(iter(plan.free.items()))
    show(
        f"\n[bold]memory of {plain(plan.model)}[/] in {plan.dtype}: weights {size(plan.weights)}; {first} has {size(free)} free"
        + (f", and there are {len(plan.free)} devices" if len(plan.free) > 1 else "")
    )
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name, justify in (("step", "left"), ("rows at once", "right"), ("weights", "right"), ("adapters", "right"), ("rows", "right"), ("together", "right"), ("fits", "left")):  # fmt: skip
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for s in plan.steps:
        rows = s.fits(plan.room - plan.weights)
        verdict = "[green]yes[/]" if rows == s.rows else f"[yellow]{rows} rows at once[/]" if rows else "[red]no[/]"
        table.add_row(
            s.name, str(s.rows), size(plan.weights), size(s.fixed) if s.fixed else "–", size(s.per_row * s.rows),
            size(plan.weights + s.bytes()), verdict,
        )  # fmt: skip
    show(table)
    traced = "" if plan.traced_as in plan.steps[1].name else f", counted as {plan.traced_as}'s"
    show(
        f"adapters: {plan.adapter_parameters / 1e6:.1f} million parameters a side, with both sides' AdamW and best step{traced}"
    )
    for line in plan.advice:
        show(f"→ {plain(line)}")
