"""Tables for people, on a terminal and in Markdown: made from records, every number with its interval."""

from collections.abc import Mapping, Sequence
from typing import Any

from ws.numbers import alpha_of, bar, digits_for, finite, signed
from ws.numbers import some as some
from ws.results.layouts.alphas import markdown as markdown
from ws.results.sentences.alphas import readings

reading = readings


def alpha_table(rows: Sequence[Mapping[str, Any]], title: str):
    """The table of alpha against each metric, as a rich renderable."""
    from rich.table import Table

    protocols = {r["protocol"] for r in rows}
    several = len(protocols) > 1  # one alone stands in the title, and leaves room for numbers
    title = title if several else ", ".join([title, *protocols])
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="dim")
    for name, justify in (
        *([("protocol", "left")] if several else []),
        ("metric", "left"),
        ("alpha", "right"),
        ("mean", "right"),
        ("95% interval", "right"),
        ("pmass", "right"),
        ("n", "right"),
        ("", "left"),
    ):
        table.add_column(name, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    last = None
    for group in _groups(rows):
        span = max((abs(r["mean"]) for r in group if finite(r["mean"])), default=0.0)
        digits = digits_for(*(r[k] for r in group for k in ("mean", "ci_lo", "ci_hi")))
        for r in group:
            head = (r["protocol"], r["metric"]) if several else (r["metric"],)
            table.add_row(
                *("" if head == last else h for h in head),
                alpha_of(r["alpha"]),
                signed(r["mean"], digits),
                f"[{signed(r['ci_lo'], digits)}, {signed(r['ci_hi'], digits)}]".replace("[", r"\["),
                f"{r['pmass']:.3f}" if finite(r["pmass"]) else "–",
                str(r["n"]),
                bar(r["mean"], span),
                style="dim" if r["alpha"] == 0 else None,
            )
            last = head
        table.add_section()
    return table


def panel_table(lines: Sequence[Mapping[str, str]]):
    """A small table of ready cells: the first column to the left, numbers to the right."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim")
    columns = list(dict.fromkeys(c for line in lines for c in line))
    for at, name in enumerate(columns):
        table.add_column(name, justify="right" if at else "left")
    for line in lines:
        table.add_row(*(line.get(c, "").replace("[", r"\[") for c in columns))
    return table


def checks_table(checks: Sequence[Mapping[str, Any]]):
    """The quality checks of pairs."""
    from rich.table import Table

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


def calibration_table(calibrations: Sequence[Mapping[str, Any]]):
    """One line per method and sign: the strength, what it does on both prompt sets, and whether it may be compared."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("method")
    for name in ("alpha", "p95 KL", "95 % interval", "target", "audit", "mean", "tries"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict")
    for told in calibrations:
        for side in ("neg", "pos"):
            s = told[side]
            numbers = (s["p95"], s["ci_lo"], s["ci_hi"], s["audit"], s["mean"])
            p95, lo, hi, audit, mean = (f"{x:.3f}" if finite(x) else "–" for x in numbers)
            color = "green" if s["verdict"] == "matched" else "red"
            table.add_row(
                told["method"], f"{s['alpha']:+.4g}", p95, f"[{lo}, {hi}]", f"{s['target']:.3g}", audit, mean,
                str(s["evaluations"]), f"[{color}]{s['verdict']}[/]",
            )  # fmt: skip
    return table


def effects_table(effects: Sequence[Mapping[str, Any]]):
    """How far each metric moves from the lowest to the highest strength, one line per family over its seeds."""
    from rich.table import Table

    several = [k for k in ("model", "lr") if len({e[k] for e in effects}) > 1]
    moves = {str(e["metric"]) + str(e["behavior"]) + str(e["adapter"]): _ends(e) for e in effects}
    same = len(set(moves.values())) == 1
    table = Table(
        box=None, pad_edge=False, header_style="dim", title_style="dim", title_justify="left",
        title=f"change from alpha {next(iter(moves.values()))}" if same else None,
    )  # fmt: skip
    for name in ("behavior", "metric", *several, "adapter"):
        longest = max(len(str(e[name])) for e in effects)
        table.add_column(name, no_wrap=True, min_width=longest)
    for name in (*(() if same else ("alpha",)), "change", "spread", "as\nwanted"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("by seed", overflow="fold")
    last: tuple = ()
    order = sorted(effects, key=lambda e: (str(e["behavior"]), str(e["metric"]), str(e["model"])))
    for e in order:
        head = (str(e["behavior"]), str(e["metric"]))
        if last and head != last:
            table.add_section()
        over, each, n = e["over"]["found"], e["over"]["each"], len(e["seeds"])
        digits = digits_for(*each, over["mean"])
        table.add_row(
            *("" if head == last else h for h in head),
            *(str(e[k]) if k == "model" else "" if e[k] is None else f"{e[k]:g}" for k in several),
            str(e["adapter"]),
            *(() if same else (_ends(e),)),
            # the interval stands below its number
            f"{signed(over['mean'], digits)}\n"
            + (
                f"\\[{signed(over['ci_lo'], digits)}, {signed(over['ci_hi'], digits)}]"
                if finite(over["ci_lo"])
                else "–"
            ),
            f"{e['spread']:.{digits}f}" if finite(e["spread"]) else "–",
            f"{e['agree']}/{n}" if e["sign"] else f"({e['agree']}/{n})",
            " ".join(signed(x, digits) for x in each),
            style=None if not e["sign"] or e["agree"] == n else "yellow",
        )
        last = head
    return table


def _ends(e: Mapping[str, Any]) -> str:
    """The strengths an effect lies between."""
    ends = {tuple(a) for a in e["alphas"]}
    return "{} to {}".format(*map(alpha_of, next(iter(ends)))) if len(ends) == 1 else "calibrated"


def grid_table(cells: Sequence[Mapping[str, Any]], axes: Sequence[tuple[Any, ...]]):
    """What is done of a grid: a line per study less its seed, a column per seed. `axes`: model, behavior, adapter, lr, seed."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim")
    seeds = list(dict.fromkeys(a[4] for a in axes))
    shown = [i for i in range(4) if i in (1, 2) or len({a[i] for a in axes}) > 1]
    for i in shown:
        table.add_column(("model", "behavior", "adapter", "lr")[i], no_wrap=True)
    for seed in seeds:
        table.add_column(f"seed {seed}", no_wrap=True)
    colors = {"done": "green", "impossible": "red", "to do": "dim"}
    lines: dict[tuple, dict[Any, str]] = {}
    for cell, a in zip(cells, axes):
        lines.setdefault(a[:4], {})[a[4]] = cell["state"]
    for key, states in lines.items():
        told = [f"[{colors.get(states[s], 'yellow')}]{states[s]}[/]" for s in seeds]
        table.add_row(*("–" if key[i] is None else str(key[i]) for i in shown), *told)
    return table


def rounding_table(lost: Mapping[str, Any]):
    """What making a direction in bf16 loses against the exact one."""
    from rich.table import Table

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


def runs_table(runs: Sequence[Mapping[str, Any]]):
    """What lies in the output folder."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim")
    columns = ("behavior", "adapter", "run", "model", "seed", "stages")
    for name in columns:
        table.add_column(name, overflow="fold")
    for r in runs:
        table.add_row(*(", ".join(r[c]) if isinstance(r[c], list) else str(r[c]) for c in columns))
    return table


def heat_map(norms: Mapping[str, float]):
    """Norms of modules as a table of layers by kinds of matrix, with the share of each in the whole."""
    import re

    from rich.table import Table

    cells: dict[tuple[str, str], float] = {}
    for name, value in norms.items():
        found = re.search(r"\.(\d+)\.(.*)", name)
        layer, kind = (found[1], found[2]) if found else ("", name)
        cells[layer, kind] = value
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
            shades.append("" if v is None else f"{v:.3g} {' ░▒▓█'[min(4, round(4 * v / largest))]}")
        share = sum(v * v for k, v in cells.items() if k[0] == layer) / whole
        table.add_row(layer, *shades, f"{100 * share:.0f} %")
    shares = [sum(v * v for k, v in cells.items() if k[1] == kind) / whole for kind in kinds]
    table.add_row("share of |dW|²", *(f"{100 * s:.0f} %" for s in shares), "", style="dim")
    return table


def _groups(rows: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    found: dict[tuple, list] = {}
    for r in rows:
        found.setdefault((r["eval"], r["protocol"], r["metric"]), []).append(r)
    return [sorted(g, key=lambda r: r["alpha"]) for g in found.values()]
