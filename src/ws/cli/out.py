"""Printing: results on stdout, progress on stderr."""

import os
import re
import sys
from pathlib import Path
from shlex import quote
from typing import Any

typed: list[str] = []  # the words after `ws`, so that a command can say how it is continued
FEW_STEPS = 10  # optimiser steps below which a direction says more about the start than about the answers


def say(line: str) -> None:
    """One line of progress, on stderr."""
    print(line, file=sys.stderr, flush=True)


def said(stage: str, record: Any) -> None:
    say(
        f"{stage:<18} {'reused' if record.reused else format(record.manifest['seconds'], '.1f') + ' s':>8}  {record.folder}"
    )


def show(what: Any, *, file_width: int = 120) -> None:
    """To stdout: tables at the terminal's width, or wide enough to be whole in a file."""
    _console(file_width, soft_wrap=isinstance(what, str)).print(what)


def show_sheet(sheet: Any, file_width: int) -> None:
    """A table of results, as much of it as there is room for."""
    console = _console(file_width)
    console.print(sheet.rich(console.width))


def _console(file_width: int, *, soft_wrap: bool = False) -> Any:
    from rich.console import Console

    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else file_width
    return Console(width=width, soft_wrap=soft_wrap, highlight=False)


CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # but newline and tab


def plain(text: str) -> str:
    """Text of others: no markup, and nothing a terminal would obey."""
    from rich.markup import escape

    return escape(CONTROL.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n")))


def number(x: float | None) -> str:
    return "–" if x is None else f"{x:+.2f}"


def show_story(story: Any) -> None:
    from ws.results.tables import alpha_table, reading

    plan = story.plan
    bad = [c for c in story.checks if c["verdict"] != "ok"]
    show("")
    show(alpha_table(story.headline, f"{plan.name}: {plan.train.adapter} on {plan.base.id}, seed {plan.seed}"))
    from ws.eval import protocol
    from ws.results.measured import measured, not_held_out, pairs_left_out

    legend = {m: t for r in story.headline for m, t in protocol(r["eval"], r["protocol"]).legend.items()}
    for line in reading(story.headline, plan.behavior.intent if plan.behavior else {}, legend):
        show(f"• {plain(line)}")
    those = measured(story.evals)
    for line in [*not_held_out(those), *pairs_left_out(those)]:
        show(f"• {plain(line)}")
    if cost := side_effect(story.rows):
        show(f"• {plain(cost)}")
    more = len({r["metric"] for r in story.rows}) - len({r["metric"] for r in story.headline})
    if more:
        show(f"• {more} more metrics of these protocols, about which {plan.name} claims nothing, are in table.md.")
    if story.training["step"] < FEW_STEPS:
        t = story.training
        show(f"• training: the best step was {t['step']}, on {t['n_train']} pairs; that is little to learn from.")
    for c in bad:
        show(
            f"• pairs, {c['verdict']}: {c['name']} = {c['value']:.2f}, {plain(c['means'])}; `ws data` shows all checks."
        )
    file = Path(story.direction["file"])
    here = Path.cwd().resolve()
    near = file.relative_to(here) if file.is_relative_to(here) else file
    show(f"\nplot   {story.plot.resolve()}\nrun    {story.folder.resolve()}\npairs  {story.data_folder.resolve()}")
    asked = [p.text for p in plan.behavior.prompts if p.split == "train"] if plan.behavior else []
    question = (
        "What is the capital of Kenya?"
        if plan.name.startswith("honesty") and plan.base.tiny
        else (asked or ["Hello?"])[-1]
    )
    model = "" if plan.base.tiny else f" --model {plan.base.source}"
    out = "" if str(plan.out) == "out" else f" --out {quote(str(plan.out))}"
    show(f"\nnext:  ws generate{model} --direction {quote(str(near))} --alphas=-1,0,1 --prompt {quote(question)}")
    show(f"       ws show{out} {quote(story.folder.name)} --worst 10\n       ws table{out}\n       ws runs{out}")


def side_effect(rows: Any) -> str | None:
    """What steering costs on neutral questions, at either end of the dial."""
    from ws.results.tables import alpha_of, digits_for, signed

    rises = sorted((r for r in rows if r["metric"] == "nll_rise" and r["alpha"]), key=lambda r: r["alpha"])
    ends = [rises[0], rises[-1]] if len(rises) > 1 else rises
    if not ends:
        return None
    n = digits_for(*(r[k] for r in ends for k in ("mean", "ci_lo", "ci_hi")))
    told = ", ".join(
        f"{signed(r['mean'], n)} [{signed(r['ci_lo'], n)}, {signed(r['ci_hi'], n)}] at alpha {alpha_of(r['alpha'])}"
        for r in ends
    )
    return f"side effect, nats per token of answers to neutral questions: {told}; near 0 is good."


def left_out_said(left_out: Any) -> str:
    """What a difference of checkpoints does not hold, in one sentence."""
    share = left_out["energy_share"]
    told = f"they hold {100 * share:.1f} % of the squared difference" if share is not None else "some have other shapes"
    return (
        f"{left_out['tensors']} tensors outside the blocks' linear layers also differ and are left out ({told}), "
        f"e.g. {', '.join(left_out['names'][:2])}."
    )


def show_json(found: Any) -> None:
    """The record of a command on stdout; NaN is null."""
    import json

    from ws.records import canonical

    print(json.dumps(json.loads(canonical(found)), indent=1, ensure_ascii=False))
