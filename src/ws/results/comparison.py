"""A comparison's files: tables in Markdown, CSV and JSON, and plots, all made from the rows of its cells."""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ws.behaviors import Behavior
from ws.eval import providing
from ws.eval.foundations import AXES
from ws.eval.tinymfv import FOUNDATIONS
from ws.records import write_json, write_text
from ws.results.kin import Cell, Failures, Kin, kins
from ws.results.layouts import comparison as table
from ws.results.layouts import strengths
from ws.results.measured import Measured, measured
from ws.results.plots import bars, forest, frontier, histories
from ws.results.sheet import Sheet
from ws.results.summary import SHORT, sheets
from ws.stats import Estimate, estimate

BESIDE = ("_rel", "_adj")
COST_EVAL = "perplexity"
COST_COLUMNS = {"nll rise": "nll_rise", "choice right": "choice_right", "loops": "free_loops"}


def write(
    work: Path,
    out: Path,
    records: Sequence[Mapping[str, Any]],
    failed: Failures,
    *,
    model: str,
    behavior: Behavior,
    reference: str,
) -> dict[str, Any]:
    """Every file of the report, from what the cells left below `out`; what its manifest says of it."""
    cells = [Cell(r, rows_of(out, r)) for r in records]
    found, gone = kins(cells, failed)
    against = next((k for k in found if k.name == reference), found[0])
    notes = [] if against.name == reference else [f"{reference} failed, so methods are set against {against.name}."]
    costs = costs_of(cells[0])
    made, plots = [], []
    where = f"{behavior.name} · {model}"
    notes += not_computed(cells[0], behavior)
    budget = next((c.record["strength"]["budget"] for c in cells), None)
    at = "strengths as given" if budget is None else f"{budget:g} nat"
    for asked in asked_of(cells[0], behavior):
        title = f"{where} · {asked.metric} · {asked.protocol.id} · {at}"
        made.append(table.effects(found, asked, costs, against, gone, title=title))
        stem = f"{asked.name.replace('/', '-')}-{asked.metric}"
        plots += forest(
            forest_lines(found, asked),
            title,
            f"axis: half of (alpha > 0 less alpha < 0), {asked.metric}",
            work / f"axis-{stem}",
        )
        plots += frontier(curves(found, asked), title, f"change of {asked.metric}", budget, work / f"frontier-{stem}")
    first = [k.cells[0] for k in found]
    for name, m in first[0].evals.items():
        if m.protocol.eval == "foundations":
            axis = next((a for a in AXES if behavior.intent.get(f"axis_{a}")), None)
            plots += bars(
                foundation_panels(first, name, axis), f"{where} · {m.protocol.id} · {at}",
                "change of logit(wrong), nats", work / f"foundations-{name.replace('/', '-')}",
            )  # fmt: skip
    searches = []
    tried = [c.calibration(out) for c in first]
    if known := [t for t in tried if t is not None]:
        plots += histories(known, f"{where} · search for {at}, seed {cells[0].seed}", work / "calibration")
        searches.append(strengths.sheet(known, f"{where} · strengths · {at}"))
        write_searches(work / "kl_calibration", cells, out)
    # costs have columns of their own
    published, left = sheets([m for c in first for m in c.evals.values() if m.protocol.eval != COST_EVAL])
    several = len(cells) > len(first)
    if several:
        notes.append(
            f"The tables in published layouts hold seed {cells[0].seed}, and of random directions the first draw; cells.csv holds all."
        )
    notes += left
    whole = [*made, *published, *searches]
    kinds = [
        *("effects" for _ in made),
        *(s.title.split(" · ")[0] for s in published),
        *("strengths" for _ in searches),
    ]
    listed = [r for asked in asked_of(cells[0], behavior) for c in cells for r in [cell_record(c, asked, costs)]]
    write_json(
        work / "report.json",
        {"tables": [asdict(s) for s in whole], "cells": listed, "plots": [p.name for p in plots], "notes": notes},
    )
    write_text(work / "tables.md", markdown(where, whole, notes, plots))
    write_csv(
        work / "tables.csv",
        [{"table": kind, **r} for kind, s in zip(kinds, whole) for r in s.records],
    )
    write_csv(work / "cells.csv", listed)
    return {"n_cells": len(cells), "failed": {name: why for each in failed.values() for name, why in each.items()}}


def write_searches(folder: Path, cells: Sequence[Cell], out: Path) -> None:
    """How every strength was found, in the published fork's three files."""
    folder.mkdir()
    told = [(c.seed, t) for c in cells if (t := c.calibration(out)) is not None]
    write_csv(folder / "summary.csv", [strengths.summary(t, seed=s) for s, t in told])
    write_csv(folder / "audit.csv", [r for s, t in told for r in strengths.audits(t, seed=s)])
    write_csv(folder / "root_history.csv", [r for s, t in told for r in strengths.histories(t, seed=s)])


def rows_of(out: Path, record: Mapping[str, Any]) -> dict[str, Measured]:
    """The rows of a cell, by evaluation and protocol."""
    return {e["protocol"]: m for e in record["evals"] for m in measured([out / e["folder"]])}


def asked_of(cell: Cell, behavior: Behavior) -> list[table.Asked]:
    """A table for every metric the behavior claims to change; the first metric where it claims none of an evaluation's."""
    found = []
    own = {name: m for name, m in cell.evals.items() if m.protocol.eval != COST_EVAL}
    for name, m in (own or cell.evals).items():
        there = list(cell.metrics(name))
        claimed = [x for x in there if behavior.intent.get(x)]
        for metric in claimed or there[:1]:
            beside = tuple(metric + b for b in BESIDE if metric + b in there)
            found.append(table.Asked(name, metric, behavior.intent.get(metric, 0), m.protocol, beside))
    return found


def not_computed(cell: Cell, behavior: Behavior) -> list[str]:
    """What the behavior claims and these rows do not tell, as where only a few units were scored."""
    told = []
    claimed = [m for m, sign in behavior.intent.items() if sign]
    for name, m in cell.evals.items():
        own = [x for x in claimed if providing(x) == m.protocol.eval]
        if own and not any(x in cell.metrics(name) for x in own):
            there = next(iter(cell.metrics(name)))
            told.append(
                f"{name}: {', '.join(own)} cannot be computed from these units, so {there} stands in its place."
            )
    return told


def costs_of(cell: Cell) -> table.Costs:
    """Which evaluation of a cell holds each side effect."""
    return table.Costs(
        {
            title: (name, metric)
            for title, metric in COST_COLUMNS.items()
            for name in cell.evals
            if metric in cell.metrics(name)
        }
    )


def cell_record(c: Cell, asked: table.Asked, costs: table.Costs) -> dict[str, Any]:
    """One cell for a program: strengths, KL, and its numbers with intervals over units."""

    def told(name: str, e: Estimate) -> dict[str, float]:
        return {name: e.mean, f"{name}_lo": e.ci_lo, f"{name}_hi": e.ci_hi}

    neg, pos = c.point(c.neg), c.point(c.pos)
    record = {
        "method": c.method, "kind": c.record["kind"], "seed": c.seed, "metric": asked.metric,
        "protocol": asked.protocol.id, "matched": c.matched, "alpha_neg": c.neg, "alpha_pos": c.pos,
        **{f"{k}_neg": neg[k] for k in ("kl", "kl_lo", "kl_hi", "audit", "verdict")},
        **{f"{k}_pos": pos[k] for k in ("kl", "kl_lo", "kl_hi", "audit", "verdict")},
    }  # fmt: skip
    record |= told("axis", estimate(c.axis(asked.name, asked.metric, asked.sign)))
    for arm, alpha in (("neg", c.neg), ("pos", c.pos)):
        record |= told(f"delta_{arm}", estimate(c.moved(asked.name, asked.metric, alpha)))
        record |= {
            f"pmass_{arm}": c.share(asked.name, "pmass", alpha),
            f"forced_{arm}": c.share(asked.name, "forced_close", alpha),
        }
        for where, metric in costs.columns.values():
            record[f"{metric}_{arm}"] = estimate(c.moved(where, metric, alpha), resamples=2).mean
    return record


# ---------------------------------------------------------------- what plots are given


def forest_lines(found: Sequence[Kin], asked: table.Asked) -> list[dict[str, Any]]:
    """Methods in the order of the table, with the range of random draws of their kind."""
    chance = table.randoms(found, asked)
    lines = []
    for k in table.ranked(found, asked):
        e = k.axis(asked.name, asked.metric, asked.sign).found
        around = (
            []
            if k.control and len(k.cells) == 1
            else [r for r in chance.get(k.places, []) if not k.control or r.name == k.name]
        )
        band = (min(r.low for r in around), max(r.high for r in around)) if around else None
        name = k.name + (f" ({len(k.cells)})" if len(k.cells) > 1 else "")
        lines.append(
            {
                "name": name, "value": _finite(e.mean), "low": _finite(e.ci_lo), "high": _finite(e.ci_hi),
                "matched": k.matched, "control": k.control, "band": band,
            }
        )  # fmt: skip
    return lines


def curves(found: Sequence[Kin], asked: table.Asked) -> list[dict[str, Any]]:
    """Every strength of the first seed, and of all random draws, as a point."""
    told = []
    for k in table.ranked(found, asked):
        for c in k.cells if k.control else k.cells[:1]:
            points = []
            for p in c.record["strength"]["points"]:
                e = estimate(c.moved(asked.name, asked.metric, p["alpha"]))
                value = {"value": _finite(e.mean), "low": _finite(e.ci_lo), "high": _finite(e.ci_hi)}
                points.append({"alpha": p["alpha"], "kl": p["kl"], **value})
            told.append(
                {
                    "name": k.name if k.matched or k.control else f"{k.name} (unmatched)",
                    "control": k.control,
                    "points": points,
                }
            )
    return told


def foundation_panels(cells: Sequence[Cell], name: str, axis: str | None) -> list[dict[str, Any]]:
    """The change of every foundation at both arms."""
    panels = []
    for c in cells:
        lines = []
        for f in FOUNDATIONS:
            metric = f"d_{f.replace(' ', '')}"
            if metric not in c.metrics(name):
                continue
            arms = {}
            for arm, alpha in (("neg", c.neg), ("pos", c.pos)):
                e = estimate(c.moved(name, metric, alpha))
                arms[arm] = (_finite(e.mean), _finite(e.ci_lo), _finite(e.ci_hi))
            lines.append({"name": SHORT[f], "target": bool(axis and f in AXES[axis]), **arms})
        panels.append({"name": c.method + ("" if c.matched else "\nunmatched"), "lines": lines})
    return panels


def _finite(x: float | None) -> float | None:
    return x if x is not None and math.isfinite(x) else None


# ---------------------------------------------------------------- files


def markdown(where: str, made: Sequence[Sheet], notes: Sequence[str], plots: Sequence[Path]) -> str:
    """All tables and pictures as one page."""
    parts = [f"# {where}", ""]
    parts += [s.markdown() for s in made]
    parts += [f"- {n}" for n in notes] + [""]
    parts += [f"![{p.stem}]({p.name})" for p in plots if p.suffix == ".png"]
    return "\n".join(parts) + "\n"


def write_csv(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """Every record on a line of its own, the union of their columns in order of appearance; what is missing is empty."""
    import io

    columns = list(dict.fromkeys(c for r in records for c in r))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: _cell(v) for k, v in r.items()} for r in records)
    write_text(path, text.getvalue())


def _cell(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return " ".join(str(_cell(v)) for v in value)
    return "" if value is None or (isinstance(value, float) and math.isnan(value)) else value
