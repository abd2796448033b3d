"""A comparison's files: tables in Markdown, CSV and JSON, and plots, all made from the records and rows of its trials."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from ws.behaviors import Behavior
from ws.eval.foundations import AXES
from ws.numbers import flat
from ws.records import write_json, write_text
from ws.results import pictures
from ws.results.claims import COST_EVAL, Claim, Costs, claims_of, costs_of, not_computed
from ws.results.csv import write_csv
from ws.results.layouts import comparison as layout
from ws.results.layouts import strengths
from ws.results.plots import bars, forest, frontier, search_panels
from ws.results.published import sheets
from ws.results.sheet import Sheet
from ws.results.trials import Failures, Trial, Trials, by_method, trial_of_cell
from ws.stats import estimate
from ws.types import Fields, Json


def write(
    work: Path,
    out: Path,
    records: Sequence[Fields],
    failed: Failures,
    *,
    model: str,
    behavior: Behavior,
    reference: str,
) -> Json:
    """Every file of the report, from what the cells left below `out`; what its manifest says of it."""
    trials = [trial_of_cell(r, out) for r in records]
    methods, lost = by_method(trials, failed)
    against = next((k for k in methods if k.name == reference), methods[0])
    claims, costs = claims_of(trials[0], behavior), costs_of(trials[0])
    where = f"{behavior.name} · {model}"
    budget = next((t.record["strength"]["budget"] for t in trials), None)
    at = "strengths as given" if budget is None else f"{budget:g} nat"
    titles = [f"{where} · {c.metric} · {c.protocol.id} · {at}" for c in claims]
    first = [k.each[0] for k in methods]
    searches = [s for t in first if (s := t.calibration(out)) is not None]
    # 1. the tables; costs have columns of their own in the first ones
    effects = [layout.sheet(methods, c, costs, against, lost, title=title) for c, title in zip(claims, titles)]
    published, left_out = sheets([m for t in first for m in t.evals.values() if m.protocol.eval != COST_EVAL])
    searched = [strengths.sheet(searches, f"{where} · strengths · {at}")] if searches else []
    tables = [*effects, *published, *searched]
    # 2. the plots
    plots = [p for c, title in zip(claims, titles) for p in _plots(methods, c, title, budget, behavior.poles, work)]
    plots += _foundations(first, behavior, f"{where} · {{}} · {at}", work)
    if searches:
        plots += search_panels(searches, f"{where} · search for {at}, seed {trials[0].seed}", work / "calibration")
        write_searches(work / "kl_calibration", trials, out)
    # 3. what none of them shows
    notes = [] if against.name == reference else [f"{reference} failed, so methods are set against {against.name}."]
    notes += not_computed(trials[0], behavior)
    if len(trials) > len(first):
        notes.append(
            f"The tables in published layouts hold seed {trials[0].seed}, and of random directions the first draw; cells.csv holds all."
        )
    notes += left_out
    kinds = ["effects"] * len(effects) + [s.title.split(" · ")[0] for s in published] + ["strengths"] * len(searched)
    listed = [trial_record(t, c, costs) for c in claims for t in trials]
    write_json(
        work / "report.json",
        {"tables": [asdict(s) for s in tables], "cells": listed, "plots": [p.name for p in plots], "notes": notes},
    )
    write_text(work / "tables.md", page(where, tables, notes, plots))
    write_csv(work / "tables.csv", [{"table": kind, **r} for kind, s in zip(kinds, tables) for r in s.records])
    write_csv(work / "cells.csv", listed)
    return {"n_cells": len(trials), "failed": {name: why for each in failed.values() for name, why in each.items()}}


def _plots(
    methods: Sequence[Trials], claim: Claim, title: str, budget: float | None, poles: tuple[str, str], work: Path
) -> Iterator[Path]:
    """Both pictures of a claim: every axis, and effect against KL."""
    stem = f"{claim.name.replace('/', '-')}-{claim.metric}"
    pos, up = poles[0], poles[0] if claim.intent > 0 else poles[1]
    axis = f"axis: half of (alpha > 0 less alpha < 0), {claim.metric}{f'; {pos} →' if claim.intent else ''}"
    yield from forest(pictures.forest_lines(methods, claim), title, axis, work / f"axis-{stem}")
    change = f"change of {claim.metric}{f'; {up} →' if claim.intent else ''}"
    yield from frontier(pictures.curves(methods, claim), title, change, budget, work / f"frontier-{stem}")


def _foundations(trials: Sequence[Trial], behavior: Behavior, title: str, work: Path) -> Iterator[Path]:
    """The change of every moral foundation, where they were measured."""
    axis = next((a for a in AXES if behavior.intent.get(f"axis_{a}")), None)
    for name, m in trials[0].evals.items():
        if m.protocol.eval == "foundations":
            panels = pictures.foundation_panels(trials, name, axis)
            file = work / f"foundations-{name.replace('/', '-')}"
            yield from bars(panels, title.format(m.protocol.id), "change of logit(wrong), nats", file)


def write_searches(folder: Path, trials: Sequence[Trial], out: Path) -> None:
    """Every search for a strength, in the published fork's three files."""
    folder.mkdir()
    searches = [(t.seed, s) for t in trials if (s := t.calibration(out)) is not None]
    write_csv(folder / "summary.csv", [strengths.summary(s, seed=seed) for seed, s in searches])
    write_csv(folder / "audit.csv", [r for seed, s in searches for r in strengths.audits(s, seed=seed)])
    write_csv(folder / "root_history.csv", [r for seed, s in searches for r in strengths.histories(s, seed=seed)])


def trial_record(t: Trial, claim: Claim, costs: Costs) -> Json:
    """One trial for a program: strengths, KL, and its numbers with intervals over units."""
    points = {"neg": t.point(t.neg), "pos": t.point(t.pos)}
    record = {
        "method": t.method,
        "kind": t.record["kind"],
        "seed": t.seed,
        "metric": claim.metric,
        "protocol": claim.protocol.id,
        "matched": t.matched,
        "alpha_neg": t.neg,
        "alpha_pos": t.pos,
        **{f"{k}_{arm}": p[k] for arm, p in points.items() for k in ("kl", "kl_lo", "kl_hi", "audit", "verdict")},
    }
    record |= flat("axis", estimate(t.axis(claim.name, claim.metric, claim.sign)))
    for arm, alpha in (("neg", t.neg), ("pos", t.pos)):
        record |= flat(f"delta_{arm}", estimate(t.moved(claim.name, claim.metric, alpha)))
        record |= {
            f"pmass_{arm}": t.share(claim.name, "pmass", alpha),
            f"forced_{arm}": t.share(claim.name, "forced_close", alpha),
        }
        for where, metric in costs.columns.values():
            record[f"{metric}_{arm}"] = estimate(t.moved(where, metric, alpha), resamples=2).mean
    return record


def page(where: str, tables: Sequence[Sheet], notes: Sequence[str], plots: Sequence[Path]) -> str:
    """All tables and pictures as one page."""
    parts = [f"# {where}", ""]
    parts += [s.markdown() for s in tables]
    parts += [f"- {n}" for n in notes] + [""]
    parts += [f"![{p.stem}]({p.name})" for p in plots if p.suffix == ".png"]
    return "\n".join(parts) + "\n"
