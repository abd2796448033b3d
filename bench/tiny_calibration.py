"""What calibrating does on the embedded model: every method to one budget, a line each.

    python bench/tiny_calibration.py [--behavior honesty] [--budget 1.0] [--methods repe,ws:lora] [--seeds 0,1,2] [--out out/bench]

`--methods families` are the directions of the eight low-rank families, `activation` every activation method. Prints Markdown. Every stage is cached below --out, so a second call prints the same table at once.
"""

import argparse
import time
from dataclasses import replace
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

FAMILIES = ("lora", "dora", "pissa", "delora", "oft", "boft", "ia3", "bias")
GROUPS = {
    "families": [f"ws:{family}" for family in FAMILIES],
    "activation": [n for n in methods.names() if n.startswith(("repe", "paper:", "sl:"))],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--behavior", default="honesty")
    parser.add_argument("--budget", type=float, default=1.0)
    parser.add_argument("--methods", type=lambda t: GROUPS.get(t) or t.split(","), default=methods.names())
    parser.add_argument("--seeds", type=lambda t: [int(seed) for seed in t.split(",")], default=[0])
    parser.add_argument("--out", type=Path, default=Path("out/bench"))
    options = parser.parse_args()

    base = ws.load("tiny")
    behavior = load_behavior(options.behavior, tiny=True)
    print("| method | seed | alpha -, + | p95 -, + | audit -, + | verdict -, + | tries -, + | processor |", flush=True)
    print("|---|---:|---|---|---|---|---|---:|", flush=True)
    tries: list[int] = []
    for seed in options.seeds:
        data, train = (replace(s, seed=seed) for s in (default_data(base), default_train(base, "lora")))
        stuff = material(Plan(base, behavior, data, train, out=options.out))
        for name in options.methods:
            try:
                method = methods.make(name, stuff)
            except (WsError, ValueError) as e:
                print(f"| {name} | {seed} | | | {e} | | | |", flush=True)
                continue
            start = time.process_time()
            strengths, _ = make_calibration(
                base, method, CalibrateSettings(budget=options.budget), options.out, behavior=behavior, plot=False
            )
            sides = (strengths.neg, strengths.pos)
            cells = (
                ", ".join(f"{s.alpha:+.4g}" for s in sides),
                ", ".join(f"{s.p95:.2f}" for s in sides),
                ", ".join(f"{s.audit:.2f} [{s.audit_lo:.2f}, {s.audit_hi:.2f}]" for s in sides),
                ", ".join(s.verdict for s in sides),
                ", ".join(str(s.evaluations) for s in sides),
            )
            if method.graded:
                tries += [s.evaluations for s in sides]
            print(f"| {name} | {seed} | {' | '.join(cells)} | {time.process_time() - start:.0f} s |", flush=True)
    if tries:
        print(f"\nmedian tries per sign {median(tries):g}, most {max(tries)}, over {len(tries)} signs", flush=True)


if __name__ == "__main__":
    main()
