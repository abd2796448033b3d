"""What directions do to the embedded model: behaviors, families, starts, random controls, and the whole suite.

    python bench/tiny_effects.py behaviors|cross|families|init|random|suite [--out out/bench] [--seeds 0,1,2]

Prints Markdown. Every stage is cached below --out, so a second call prints the same tables at once.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from scipy.stats import t

import ws
from ws.adapters import FAMILIES
from ws.behaviors import load_behavior
from ws.data import default_data
from ws.direction import random_like
from ws.eval import EVALS, Evaluation, score_protocol
from ws.study.evaluations import Subject, make_eval
from ws.study.plan import Plan
from ws.study.stages import make_direction, make_pairs, make_sides
from ws.train import default_train

ALPHAS = (-1.0, -0.5, 0.0, 0.5, 1.0)
OWN = {
    "honesty": [("dilemmas", "logratio_honesty"), ("sycophancy", "logratio_claims")],
    "sycophancy": [("sycophancy", "logratio"), ("sycophancy", "yes_bias"), ("sycophancy", "belief")],
    "trad_care": [("foundations", "axis_trad_care"), ("foundations", "common")],
    "authority": [("foundations", "axis_authority"), ("foundations", "axis_authority_rel")],
}


def study(base: ws.Base, behavior: str, adapter: str, seed: int, out: Path, **changes: Any) -> tuple[Plan, Any, Any]:
    """One study up to its direction: (plan, direction, geometry of its sides)."""
    plan = Plan(
        base,
        load_behavior(behavior, tiny=True),
        replace(default_data(base), seed=seed),
        replace(default_train(base, adapter), seed=seed, **changes),
        out=out,
    )
    pairs, _ = make_pairs(plan)
    sides, record = make_sides(plan, pairs)
    direction, _ = make_direction(plan, sides)
    return plan, direction, record.manifest["geometry"]


def measured(plan: Plan, direction: ws.Direction, metrics: list[tuple[str, str]]) -> Iterator[tuple[str, list[dict]]]:
    """Each metric with its rows over alpha."""
    tables: dict[str, list[dict]] = {}
    for name, metric in metrics:
        if name not in tables:
            subject = Subject(plan.base, direction, plan.run_folder, f"ws:{plan.train.adapter}", plan.seed)
            tables[name], _ = make_eval(subject, Evaluation(name), alphas=ALPHAS, out=plan.out)
        yield metric, [r for r in tables[name] if r["metric"] == metric]


def line(*cells: object) -> None:
    print("| " + " | ".join(str(c) for c in cells) + " |", flush=True)


def head(*cells: str) -> None:
    line(*cells)
    line(*["---"] * len(cells))


def row(rows: list[dict]) -> list[str]:
    """Means over alpha, the ends with their intervals, the distance of the ends, and the lowest answer mass."""
    cells = [
        f"{r['mean']:+.2f}" + (f" [{r['ci_lo']:+.2f}, {r['ci_hi']:+.2f}]" if abs(r["alpha"]) == 1 else "") for r in rows
    ]
    means = [r["mean"] for r in rows]
    rising = all(a < b for a, b in zip(means, means[1:]))
    apart = rows[0]["ci_hi"] < rows[-1]["ci_lo"]
    return [
        *cells,
        f"{means[-1] - means[0]:+.2f}",
        f"{'yes' if rising else 'no'}/{'yes' if apart else 'no'}",
        f"{min(r['pmass'] for r in rows):.3f}",
    ]


COLUMNS = ("-1", "-0.5", "0", "+0.5", "+1", "ends", "monotone/apart", "least pmass")


def behaviors(base: ws.Base, seeds: list[int], out: Path) -> None:
    head("behavior", "metric", "seed", *COLUMNS)
    for behavior, metrics in OWN.items():
        for seed in seeds:
            plan, direction, _ = study(base, behavior, "lora", seed, out)
            for metric, rows in measured(plan, direction, metrics):
                line(behavior, metric, seed, *row(rows))


AXES = {
    "honesty": (("dilemmas", "logratio_honesty"), ("sycophancy", "logratio_claims")),
    "sycophancy": (("sycophancy", "logratio"),),
    "trad_care": (("foundations", "axis_trad_care"),),
    "authority": (("foundations", "axis_authority"),),
}


def cross(base: ws.Base, seeds: list[int], out: Path) -> None:
    """Change from -1 to +1 on every behavior's axis, and in brackets as a share of what its own direction does there."""
    head("direction", "seed", *(m for own in AXES.values() for _, m in own))
    for seed in seeds:
        ends: dict[str, dict[str, float]] = {}
        for behavior in AXES:
            plan, direction, _ = study(base, behavior, "lora", seed, out)
            found = measured(plan, direction, [m for own in AXES.values() for m in own])
            ends[behavior] = {m: rows[-1]["mean"] - rows[0]["mean"] for m, rows in found}
        for behavior, row_ in ends.items():
            cells = [
                f"**{row_[m]:+.2f}**" if owner == behavior else f"{row_[m]:+.2f} ({abs(row_[m] / ends[owner][m]):.2f})"
                for owner, own in AXES.items()
                for _, m in own
            ]
            line(behavior, seed, *cells)


def families(base: ws.Base, seeds: list[int], out: Path, adapters: Sequence[str] = tuple(FAMILIES)) -> None:
    head("adapter", "metric", "seed", *COLUMNS, "norm of dW", "cos(tau+, tau-)")
    for adapter in adapters:
        for seed in seeds:
            plan, direction, g = study(base, "honesty", adapter, seed, out)
            for metric, rows in measured(plan, direction, OWN["honesty"]):
                line(adapter, metric, seed, *row(rows), f"{g['norm']:.2f}", f"{g['cos_tau']:+.3f}")


def init(base: ws.Base, seeds: list[int], out: Path) -> None:
    head("init", "seed", "cos(tau+, tau-)", "norm of dW", "norm of dW / norm of tau+", "dilemmas, ends", "claims, ends")
    for mode in ("shared", "independent"):
        for seed in seeds:
            plan, direction, g = study(base, "honesty", "lora", seed, out, init=mode)
            ends = [
                f"{rows[-1]['mean'] - rows[0]['mean']:+.2f}" for _, rows in measured(plan, direction, OWN["honesty"])
            ]
            line(mode, seed, f"{g['cos_tau']:+.3f}", f"{g['norm']:.2f}", f"{g['norm'] / g['norm_pos']:.2f}", *ends)


def random(base: ws.Base, seeds: list[int], out: Path, draws: int = 20) -> None:
    """Half the change from -1 to +1 on each behavior's own axis: the trained direction among random ones of its norms."""
    head(
        "behavior",
        "metric",
        "seed",
        "trained",
        "random, mean over draws",
        "range of draws",
        "mean includes 0",
        "outside",
    )
    for behavior, ((name, metric), *_) in OWN.items():
        for seed in seeds:
            plan, direction, _ = study(base, behavior, "lora", seed, out)
            _, rows = next(measured(plan, direction, [(name, metric)]))
            trained = (rows[-1]["mean"] - rows[0]["mean"]) / 2
            halves = []
            for k in range(draws):
                control = random_like(direction, 1000 * seed + k, base.weight)
                table = score_protocol(
                    base, EVALS[name], alphas=[-1, 1], dial=lambda a, d=control: ws.steer(base, d, a)
                ).table()
                ends = {r["alpha"]: r["mean"] for r in table if r["metric"] == metric}
                halves.append((ends[1.0] - ends[-1.0]) / 2)
            low, high = t.interval(0.95, draws - 1, mean(halves), stdev(halves) / draws**0.5)
            line(
                behavior,
                metric,
                seed,
                f"{trained:+.3f}",
                f"{mean(halves):+.4f} [{low:+.4f}, {high:+.4f}]",
                f"{min(halves):+.3f} to {max(halves):+.3f}",
                "yes" if low <= 0 <= high else "no",
                "yes" if not min(halves) <= trained <= max(halves) else "no",
            )


SUITE = {
    "dilemmas": (None, "logratio_honesty"),
    "dilemmas, thought": ("dd-cot/1", "logratio_honesty"),
    "airisk": (None, "logratio_value"),
    "sycophancy": (None, "logratio"),
    "foundations": (None, "axis_trad_care"),
    "foundations ": (None, "axis_authority"),
    "tinymfv": (None, "wrongness_other"),
    "perplexity": (None, "neutral_nll"),
}


def suite(base: ws.Base, seeds: list[int], out: Path, adapters: Sequence[str] = ("lora", "delora")) -> None:
    """Every evaluation of every behavior with two families: the change from -1 to +1 with its paired interval."""
    start = time.monotonic()
    head("direction", "seed", *(f"{n.strip()}: {m}" for n, (_, m) in SUITE.items()))
    for behavior in OWN:
        for adapter in adapters:
            for seed in seeds:
                plan, direction, _ = study(base, behavior, adapter, seed, out)
                cells, tables = [], {}
                for name, (protocol, metric) in SUITE.items():
                    key = (name.split(",")[0].strip(), protocol)
                    if key not in tables:
                        subject = Subject(base, direction, plan.run_folder, f"ws:{adapter}", seed)
                        tables[key], _ = make_eval(subject, Evaluation(*key), alphas=(-1.0, 0.0, 1.0), out=out)
                    (r, *_) = [r for r in tables[key] if r["metric"] == metric]
                    cells.append(f"{r['ends']:+.2f} [{r['ends_lo']:+.2f}, {r['ends_hi']:+.2f}]")
                line(f"{behavior}, {adapter}", seed, *cells)
    print(f"\n{time.monotonic() - start:.0f} s in all, training included")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["behaviors", "cross", "families", "init", "random", "suite"])
    parser.add_argument("--out", type=Path, default=Path("out/bench"))
    parser.add_argument("--seeds", type=lambda text: [int(s) for s in text.split(",")], default=[0, 1, 2])
    parser.add_argument(
        "--adapters", type=lambda text: text.split(","), default=list(FAMILIES), help="for the part `families`"
    )
    given = parser.parse_args()
    if given.part == "families":
        families(ws.load("tiny"), given.seeds, given.out, given.adapters)
    else:
        {"behaviors": behaviors, "cross": cross, "init": init, "random": random, "suite": suite}[given.part](
            ws.load("tiny"), given.seeds, given.out
        )
