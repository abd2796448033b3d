"""Methods that move a real model as much as one study's direction does, and what they do to its free answers.

    python bench/real_methods.py --model smollm2 --behavior pirate --metric sea_words [--draws 10] [--questions 12] [--out out]
        [--set "n_topics=72 n_personas=2 n_samples=1 max_new_tokens=64 test_share=0.25 lr=2e-4 epochs=2 batch_size=8"]

`ws compare` does this in full, with every cost, and takes hours of one core on a model of 135M parameters. This is its
small sister: the KL (95th percentile over tokens) of the direction at alpha -1 and +1 is the target of both signs. A
method is brought there by `ws.calibrate`, on few prompts; random directions, which differ little, take the strength of the
first of them, and the KL that stands beside each is its own, on other prompts. Prompts are there or not. Then each writes
the same answers, greedily, and the behavior's rule counts them: half of (pos less neg), with an interval over questions.
The study must be there (`ws replicate` with the same settings and --out). Prints Markdown; the answers
lie in OUT/real_methods.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ws import methods
from ws.calibrate import CalibrateSettings, calibrate, divergences, sets_of
from ws.eval import score_protocol
from ws.eval.answers import PROTOCOL
from ws.eval.questions import items_of
from ws.methods.method import Method
from ws.stats import change
from ws.study.options import Common
from ws.study.planning import plan_of
from ws.study.stages import material

REFERENCE = "ws:lora"
METHODS = ("prompt:engineered", "prompt:simple", "sl:mean_diff", "ws:lora:tau+")
RANDOM = "random:spectrum"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--behavior", default="pirate")
    parser.add_argument("--metric", default="sea_words")
    parser.add_argument("--methods", type=lambda t: t.split(","), default=METHODS)
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--questions", type=int, default=12)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument(
        "--kl", type=lambda t: tuple(map(int, t.split(","))), default=(6, 12, 24), help="prompts, others, tokens"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", default="out")
    parser.add_argument("--set", type=lambda t: dict(pair.split("=") for pair in t.split()), default={})
    options = parser.parse_args()

    common = Common(model=options.model, behavior=options.behavior, out=options.out, threads=options.threads)
    plan = plan_of(common, options.set)
    base, made = plan.base, replace(material(plan), items=32)
    protocol = replace(PROTOCOL, n_write=options.tokens)
    every = items_of(protocol, base)
    items = every[:: len(every) // options.questions][: options.questions]
    n_calib, n_audit, tokens = options.kl
    settings = CalibrateSettings(n_calib=n_calib, n_audit=n_audit, tokens=tokens, tolerance=0.1)
    sets = sets_of(base, settings, plan.behavior)

    folder = Path(options.out) / "real_methods"
    folder.mkdir(parents=True, exist_ok=True)

    def kl_of(method: Method, alphas: Sequence[float]) -> list[float]:
        found = divergences(base, method, sets.audit, alphas, tokens=settings.tokens)
        return [d.p95 for d in found]

    def line(method: Method, alphas: Sequence[float], start: float) -> None:
        """One row: strengths, their KL on other prompts, and what the rule counts."""
        kl = kl_of(method, alphas)
        rows = score_protocol(base, protocol, alphas=alphas, by=method, items=items).rows
        rows.to_parquet(folder / f"{method.name.replace(':', '_')}.parquet", index=False)
        found = protocol.metrics(rows)
        per_alpha, repeats = found[options.metric], found["answer_repeats"]
        neg, zero, pos = sorted(per_alpha)
        axis = change(per_alpha[neg], per_alpha[pos])
        ends = [change(per_alpha[zero], per_alpha[a]).mean for a in (neg, pos)]
        loops = [change(repeats[zero], repeats[a]).mean for a in (neg, pos)]
        print(
            f"| `{method.name}` | {neg:+.3g}, {pos:+.3g} | {kl[0]:.2f}, {kl[1]:.2f} | "
            f"{axis.mean / 2:+.2f} [{axis.ci_lo / 2:+.2f}, {axis.ci_hi / 2:+.2f}] | {ends[0]:+.2f}, {ends[1]:+.2f} | "
            f"{loops[0]:+.2f}, {loops[1]:+.2f} | {time.process_time() - start:.0f} s |",
            flush=True,
        )

    print(
        f"| method | alpha -, + | KL -, + | {options.metric}, half of + less - | change -, + | repeats -, + | processor |"
    )
    print("|---|---|---|---|---|---|---|", flush=True)
    start = time.process_time()
    reference = methods.make(REFERENCE, made)
    goals = kl_of(reference, [-1.0, 1.0])
    line(reference, [-1.0, 1.0], start)
    strength: list[float] | None = None
    for name in [*(f"{RANDOM}:{draw}" for draw in range(options.draws)), *options.methods]:
        start = time.process_time()
        method = methods.make(name, made)
        alphas = strength if name.startswith(RANDOM) else None
        if not method.graded:
            alphas = [-1.0, 1.0]
        if alphas is None:
            sought = calibrate(base, method, targets=(goals[1], goals[0]), prompts=sets, settings=settings)
            alphas = [getattr(sought, side).alpha for side in ("neg", "pos")]
        if name.startswith(RANDOM):
            strength = alphas
        line(method, alphas, start)


if __name__ == "__main__":
    main()
