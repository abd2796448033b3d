"""What calibrating does on the embedded model: every method to one budget, a line each.

    python bench/tiny_calibration.py [--behavior honesty] [--budget 1.0] [--methods repe,ws:lora] [--out out/bench]

Prints Markdown. Every stage is cached below --out, so a second call prints the same table at once.
"""

import argparse
from pathlib import Path
from statistics import median

import ws
from ws import methods
from ws.behaviors import load_behavior
from ws.calibrate import CalibrateSettings
from ws.data import default_data
from ws.errors import WsError
from ws.study.plan import Plan
from ws.study.stages import make_calibration, material
from ws.train import default_train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--behavior", default="honesty")
    parser.add_argument("--budget", type=float, default=1.0)
    parser.add_argument("--methods", type=lambda t: t.split(","), default=methods.names())
    parser.add_argument("--out", type=Path, default=Path("out/bench"))
    given = parser.parse_args()

    base = ws.load("tiny")
    behavior = load_behavior(given.behavior, tiny=True)
    made = material(Plan(base, behavior, default_data(base), default_train(base, "lora"), out=given.out))
    print("| method | alpha - | alpha + | p95 -, + | audit -, + | verdict -, + | tries -, + | seconds |", flush=True)
    print("|---|---:|---:|---|---|---|---|---:|", flush=True)
    tries = []
    for name in given.methods:
        try:
            method = methods.make(name, made)
        except (WsError, ValueError) as e:
            print(f"| {name} | | | {e} | | | | |", flush=True)
            continue
        found, record = make_calibration(
            base, method, CalibrateSettings(budget=given.budget), given.out, behavior=behavior
        )
        sides = (found.neg, found.pos)
        cells = (
            ", ".join(f"{s.p95:.3f}" for s in sides),
            ", ".join(f"{s.audit:.3f}" for s in sides),
            ", ".join(s.verdict for s in sides),
            ", ".join(str(s.evaluations) for s in sides),
        )
        if method.graded:
            tries += [s.evaluations for s in sides]
        print(
            f"| {name} | {found.alpha_neg:.4g} | {found.alpha_pos:+.4g} | {' | '.join(cells)} | {record.manifest['seconds']:.0f} |",
            flush=True,
        )
    if tries:
        print(f"\nmedian tries per sign {median(tries):g}, most {max(tries)}, over {len(tries)} signs", flush=True)


if __name__ == "__main__":
    main()
