"""Tables that are no results: checks, searches, plans, runs, rounding and norms."""

import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from ws.cli.screen import safe_text
from ws.numbers import NO, alpha_of, nats, shortened, with_interval
from ws.results.overview import Entry

LONGEST = 240  # characters of an answer beside others


def checks_table(checks: Sequence[Mapping[str, Any]]) -> Table:
    """The quality checks of pairs."""
    colors = {"ok": "green", "warn": "yellow", "fail": "red"}
    table = Table(title="pairs", title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="dim")
    for name, justify in (
        ("check", "left"),
        ("value", "right"),
        ("pos", "right"),
        ("neg", "right"),
        ("verdict", "left"),
        ("is", "left"),
    ):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for c in checks:
        sides = [f"{c[s]:.2f}" if c[s] is not None else "" for s in ("pos", "neg")]
        table.add_row(c["name"], f"{c['value']:.2f}", *sides, f"[{colors[c['verdict']]}]{c['verdict']}[/]", c["means"])
    return table


def samples_table(sample: Mapping[str, Any], *, header: bool) -> Table:
    """The answers to one question along the dial, side by side; tables of one width stand in line."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), expand=True, show_header=header, header_style="dim")
    for answer in sample["answers"]:
        name = f"alpha {alpha_of(answer['alpha'])}" if answer["alpha"] else "alpha 0 (base)"
        table.add_column(name, ratio=1, overflow="fold")
    table.add_row(*map(_answer, sample["answers"]))
    return table


def _answer(answer: Mapping[str, Any]) -> str:
    """An answer as it is printed, below its thought."""
    thought, text = (safe_text(shortened(answer[part], LONGEST)) for part in ("thought", "text"))
    return "\n".join([*([f"[dim italic]thinks: {thought}[/]"] if thought else []), text or "[dim](no answer yet)[/]"])


def calibration_table(calibrations: Sequence[Mapping[str, Any]]) -> Table:
    """One line per method and sign: the strength, what it does on both prompt sets, and whether it may be compared."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("method")
    for name in ("alpha", "target", "p95 KL", "audit", "90 % interval", "mean", "tries"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict")
    for calibration in calibrations:
        for side in ("neg", "pos"):
            s = calibration[side]
            numbers = (s["p95"], s["audit"], s["audit_lo"], s["audit_hi"], s["mean"])
            p95, audit, lo, hi, mean = (nats(x) for x in numbers)
            color = "green" if s["verdict"] == "matched" else "red"
            table.add_row(
                calibration["method"],
                f"{s['alpha']:+.4g}",
                f"{s['target']:.3g}",
                p95,
                audit,
                f"[{lo}, {hi}]",
                mean,
                str(s["evaluations"]),
                f"[{color}]{s['verdict']}[/]",
            )
    return table


def grid_table(cells: Sequence[Mapping[str, Any]], axes: Sequence[tuple[Any, ...]]) -> Table:
    """What is done of a grid: a line per study less its seed, a column per seed. `axes`: model, behavior, adapter, lr, seed."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    seeds = list(dict.fromkeys(a[4] for a in axes))
    columns = [i for i in range(4) if i in (1, 2) or len({a[i] for a in axes}) > 1]
    for i in columns:
        table.add_column(("model", "behavior", "adapter", "lr")[i], no_wrap=True)
    for seed in seeds:
        table.add_column(f"seed {seed}", no_wrap=True)
    colors = {"done": "green", "impossible": "red", "to do": "dim"}
    lines: dict[tuple, dict[Any, str]] = {}
    for cell, a in zip(cells, axes):
        lines.setdefault(a[:4], {})[a[4]] = cell["state"]
    for key, states in lines.items():
        marks = [f"[{colors.get(states[s], 'yellow')}]{states[s]}[/]" for s in seeds]
        table.add_row(*("–" if key[i] is None else str(key[i]) for i in columns), *marks)
    return table


def rounding_table(lost: Mapping[str, Any]) -> Table:
    """What making a direction in bf16 loses against the exact one."""
    title = "made as published: each side merged in bf16, subtracted, stored in bf16"
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="dim")
    table.add_column("against the exact direction")
    table.add_column("value", justify="right")
    table.add_column("exact", justify="right")
    table.add_row("cosine", f"{lost['cosine']:.3f}", "1")
    table.add_row("norm ratio", f"{lost['norm_ratio']:.3f}", "1")
    table.add_row("weights that a side's merge changes at all", f"{100 * lost['entries_changed']:.0f} %", "")
    table.add_row("energy beyond the true rank: rounding noise", f"{100 * lost['energy_beyond_rank']:.1f} %", "0 %")
    for alpha, share in lost["arrives"].items():
        table.add_row(
            f"share of the step that arrives in bf16 weights at alpha {alpha:g}", f"{100 * share:.0f} %", "100 %"
        )
    return table


def runs_table(runs: Sequence[Mapping[str, Any]], effects: Mapping[str, Entry]) -> Table:
    """What lies in the output folder: below each run, what sets it apart from others of its name."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    several = len({r["model"] for r in runs}) > 1
    words = ("date", "behavior", "adapter", *(["model"] if several else []), "run")
    for name in words:
        table.add_column(name, overflow="fold")
    table.add_column("effect", justify="right", no_wrap=True)
    for r in runs:
        date = f"{r['finished'][5:10]} {r['finished'][11:16]}"
        effect = effects.get(r["folder"])
        cells = {**r, "date": date, "run": "\n".join([r["run"], *(f"[dim]{x}[/]" for x in _differing(r["differs"]))])}
        table.add_row(*(cells[c] for c in words), with_interval(effect.effect) if effect else NO)
    return table


def _differing(options: Mapping[str, Any]) -> list[str]:
    """Options in a few lines of some words each."""
    parts = [f"{name} {_plain(value)}" for name, value in options.items()]
    return [safe_text(line) for line in textwrap.wrap(", ".join(parts), 22)]


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return ",".join(map(_plain, value)) if isinstance(value, list) else "none" if value is None else str(value)


SHADES = " ░▒▓█"


def shade(value: float, largest: float) -> str:
    """A number as one character, the darkest for the largest."""
    return SHADES[min(4, round(4 * value / largest))]


def expert_map(norms: Mapping[str, Sequence[float]]) -> Table:
    """The norms of the experts of each tensor, a character per expert, and the largest one."""
    table = Table(title="norm per expert", title_justify="left", title_style="bold", box=None, header_style="dim")
    for column in ("layer", "matrix", "experts, from 0 on", "largest"):
        table.add_column(column, justify="right" if column == "layer" else "left")
    whole = max((max(own) for own in norms.values()), default=0.0) or 1.0
    for name, own in norms.items():
        layer, kind = layer_and_kind(name)
        at = max(range(len(own)), key=own.__getitem__)
        strip = "".join(shade(v, whole) for v in own)
        table.add_row(layer, kind.rsplit(".", 1)[-1], f"|{strip}|", f"{own[at]:.3g}, of expert {at}")
    return table


def layer_and_kind(name: str) -> tuple[str, str]:
    """The number of the layer a module is in, and its path inside; no number where it names none."""
    numbered = re.search(r"\.(\d+)\.(.*)", name)
    return (numbered[1], numbered[2]) if numbered else ("", name)


def heat_map(norms: Mapping[str, float]) -> Table:
    """Norms of modules as a table of layers by kinds of matrix, with the share of each in the whole."""
    cells: dict[tuple[str, str], float] = {}
    for name, value in norms.items():
        cells[layer_and_kind(name)] = value
    layers = sorted({k[0] for k in cells}, key=lambda n: int(n or -1))
    kinds = list(dict.fromkeys(k[1] for k in cells))
    largest, whole = max(cells.values(), default=0.0) or 1.0, sum(v * v for v in cells.values()) or 1.0
    table = Table(
        title="norm per layer and matrix", title_justify="left", title_style="bold", box=None, header_style="dim"
    )
    table.add_column("layer", justify="right")
    for kind in kinds:
        table.add_column(kind.rsplit(".", 1)[-1], justify="right", no_wrap=True)
    table.add_column("share of |dW|²", justify="right")
    for layer in layers:
        shades = []
        for kind in kinds:
            v = cells.get((layer, kind))
            shades.append("" if v is None else f"{v:.3g} {shade(v, largest)}")
        share = sum(v * v for k, v in cells.items() if k[0] == layer) / whole
        table.add_row(layer, *shades, f"{100 * share:.0f} %")
    shares = [sum(v * v for k, v in cells.items() if k[1] == kind) / whole for kind in kinds]
    table.add_row("share of |dW|²", *(f"{100 * s:.0f} %" for s in shares), "", style="dim")
    return table
