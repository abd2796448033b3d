"""One fair table on a real chat model in a quarter to half an hour of one core: `ws compare` from Python, reduced.

    python bench/real_table.py pirate [--rows wide] [--seeds 0,1,2] [--draws 10] [--out out] [--data dilemmas=FILE,tinymfv=FILE]

What is reduced stands here as numbers, and was written before any result was seen: few units of every evaluation; strengths found
on 6 prompts of 16 tokens within a fifth, and checked on 6 others; no curve below the budget; random directions, which differ little,
take the strengths of the first of them, with the KL that each has. Where a table has other adapter families, all learn in one
pass at one learning rate each, the middle of the family's own grid; elsewhere the LoRA run is that of docs/smollm2.md. The shell's
`ws compare` takes one `--lr` for all families and one `--limit` for all evaluations, which is why this is Python. Cells lie in OUT
and are found again, so a killed table goes on.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ws
from ws import methods
from ws.behaviors import load_behavior
from ws.calibrate import CalibrateSettings
from ws.engine import Event
from ws.eval import Evaluation, evaluation
from ws.eval.pairs import score_pairs
from ws.eval.questions import RunPairs, plain_dial
from ws.grid.cells import Cell, cell_plan, make_method
from ws.grid.compare import cell_places, cells_of, compare
from ws.methods.activation import post_block
from ws.stats import change
from ws.study.stages import make_pairs
from ws.types import Fields

PLAIN = {"airisk": "airisk-truth/plain1"}
"""For a model that has no thought tokens."""


def asked(name: str, *, limit: int, data: str | None = None) -> Evaluation:
    """An evaluation by its usual protocol, of few units."""
    usual = evaluation(name, PLAIN.get(name), limit=limit, data=data)
    return replace(usual, protocol=usual.chosen.id)


OWN = {"n_topics": 72, "n_personas": 2, "n_samples": 1, "max_new_tokens": 64, "test_share": 0.25}
PAIRS: dict[str, Fields] = {
    "false_premise": {},
    "brevity": OWN | {"max_new_tokens": 96},
    "honesty": OWN | {"n_personas": 1, "n_samples": 2},  # the pack has one pair of personas
}
ONE_PASS, TWO_PASSES = {"epochs": 1.0, "batch_size": 8}, {"epochs": 2.0, "batch_size": 8}
TRAINING: dict[str, Fields] = {"pirate": ONE_PASS, "honesty": ONE_PASS, "false_premise": {"epochs": 2.0}}
RATES = {"lora": 2e-4, "delora": 1e-3, "ia3": 5e-3, "bias": 1e-3}
VECTORS = 1e-1
STRENGTHS = CalibrateSettings(n_calib=6, n_audit=6, tokens=16, tolerance=0.2, max_evals=6, within=2.0, audit="point")
COSTS = (asked("perplexity", limit=8),)
ANSWERS, CLAIMS = asked("answers", limit=8), asked("sycophancy", limit=6)
EVALS = {"false_premise": (CLAIMS,), "honesty": (CLAIMS,)}
MAIN = ("ws:lora", "sl:mean_diff", "prompt:simple", "prompt:engineered")
UNTRAINED = ("ws:lora:tau+", "repe", "paper:single", "paper:all")
TRAINED = ("post_block", "signed:lora", "ws:delora", "ws:ia3", "ws:bias")
ROWS = {
    "one": MAIN[:1],
    "two": MAIN[:2],
    "main": MAIN,
    "controlled": MAIN + UNTRAINED,
    "wide": MAIN + UNTRAINED + TRAINED,
}
RANDOM = "random:spectrum"
LIMITS = {"dilemmas": 4, "airisk": 8, "tinymfv": 14}
"""Units of real rows."""


def held_out(cell: Cell, n: int) -> str:
    """How far a cell's method moves held-out pairs at its strengths: half of (pos less neg), with an interval over questions."""
    (place,), (plan, parts) = cell_places([cell]), cell_plan(cell)
    record = place.read()
    if record is None:
        return f"{cell.short}  was not measured"
    neg, pos = (record["strength"][side] for side in ("neg", "pos"))
    method, test = make_method(cell, plan, parts), RunPairs(make_pairs(plan)[0], plan.train).test
    few = test.of(sorted({pair.topic_idx for pair in test.rows})[:n])
    scored = score_pairs(
        plan.base, few, alphas=(neg, pos), dial=plain_dial(plan.base, method, "pairs"), method=method.name
    )
    found = scored.protocol.metrics(scored.rows)["logratio_pairs"]
    axis, down, up = change(found[neg], found[pos]), change(found[0.0], found[neg]), change(found[0.0], found[pos])
    return (
        f"{cell.short}  held-out pairs {axis.mean / 2:+.2f} [{axis.ci_lo / 2:+.2f}, {axis.ci_hi / 2:+.2f}], "
        f"change {down.mean:+.2f}, {up.mean:+.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("behavior")
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--rows", choices=tuple(ROWS), default="wide")
    parser.add_argument("--seeds", type=lambda t: tuple(map(int, t.split(","))), default=(0,))
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--data", type=lambda t: dict(pair.split("=") for pair in t.split(",")), default={})
    parser.add_argument(
        "--pairs", type=int, default=0, help="held-out questions, asked of all methods but prompts after all"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("out"))
    options = parser.parse_args()

    post_block.LR = (VECTORS,)  # one rate, as every family here has
    base, behavior = ws.load(options.model, threads=options.threads), load_behavior(options.behavior)
    chosen = list(ROWS[options.rows])
    lacking = methods.without_texts(chosen, behavior)
    chosen = [name for name in chosen if name not in lacking]
    real = [asked(name, data=file, limit=LIMITS[name]) for name, file in options.data.items()]
    evals = (*EVALS.get(options.behavior, (ANSWERS,)), *real, *COSTS)
    start = time.process_time()

    def cells(name: str, **strengths: Any) -> list[Cell]:
        """One method's cells."""
        how = {**PAIRS.get(behavior.name, OWN), **TRAINING.get(behavior.name, TWO_PASSES)}
        how["lr"] = (RATES.get(name.removeprefix("ws:"), RATES["lora"]),)
        listed = cells_of(
            base, behavior, [name], evals=evals, seeds=options.seeds, options=how, out=options.out, **strengths
        )
        return [replace(cell, fractions=()) for cell in listed]

    def tell(event: Event) -> None:
        if event.kind != "started":
            print(f"{time.process_time() - start:6.0f} s  {event.kind}  {event.task.name}  {event.text}", flush=True)

    def table(listed: Sequence[Cell]) -> None:
        comparison = compare(listed, base, behavior, reference=MAIN[0], tell=tell, say=print)
        print((comparison.folder / "tables.md").read_text())
        print(f"{time.process_time() - start:.0f} s of processor time; {comparison.folder}")
        for name, why in comparison.failed.items():
            print(f"failed: {name}: {why}", flush=True)

    # 1. what needs no other family, and the first random direction, whose strengths the others take
    early = [c for name in chosen if name not in TRAINED for c in cells(name, settings=STRENGTHS)]
    if options.draws:
        first = cells(f"{RANDOM}:0", settings=STRENGTHS)
        table([*early, *first])
        strength = cell_places(first)[0].read()
        assert strength is not None, "the first random direction could not be measured"
        alphas = tuple(strength["strength"][side] for side in ("neg", "pos"))
        kl = {"n_calib": STRENGTHS.n_calib, "tokens": STRENGTHS.tokens}
        others = [f"{RANDOM}:{n}" for n in range(1, options.draws)]
        early += first + [c for name in others for c in cells(name, alphas=alphas, kl=kl)]
    table(early)
    # 2. the others, each with a training of its own
    if late := [c for name in chosen if name in TRAINED for c in cells(name, settings=STRENGTHS)]:
        table([*early, *late])
    # 3. held-out pairs, which `ws compare` cannot have, since they belong to one study
    for cell in [*early, *late] if options.pairs else []:
        if not cell.method.startswith("prompt:"):
            print(f"{time.process_time() - start:6.0f} s  {held_out(cell, options.pairs)}", flush=True)


if __name__ == "__main__":
    main()
