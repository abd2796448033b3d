"""What steering the residual stream costs: the body of a 103 M model at batch 8 and 64 tokens, bare and with hooks.

    python bench/activation_hooks.py [--rounds 15] [--threads 2]

Bare and steered passes alternate; the ratio is of medians. The head is left out, which makes the ratio larger.
"""

import argparse
import time
from statistics import median

import torch
from calibrate import model_of

from ws.methods.activation.method import Activation, Add, block_name
from ws.methods.activation.turning import Angular


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    base = model_of(None)
    body = base.model.model
    ids = torch.randint(1, 2000, (8, 64), generator=torch.Generator().manual_seed(0))
    unit = torch.nn.functional.normalize(torch.randn(2, 512, generator=torch.Generator().manual_seed(0)), dim=-1)
    slice_, every = range(2, 6), range(8)
    cases = {
        "one block": Activation("x", {block_name(base, 4): Add(unit[0])}),
        "blocks 2-5 (the default slice)": Activation("x", {block_name(base, at): Add(unit[0]) for at in slice_}),
        "all 8 blocks": Activation("x", {block_name(base, at): Add(unit[0]) for at in every}),
        "angular, blocks 2-5": Activation("x", {block_name(base, at): Angular(*unit) for at in slice_}),
    }
    alphas = [0.1 * k for k in range(1, 9)]

    def timed(method: Activation | None) -> float:
        if method is None:
            start = time.process_time()
            body(input_ids=ids, use_cache=False)
            return time.process_time() - start
        with method.at(base, alphas):
            start = time.process_time()
            body(input_ids=ids, use_cache=False)
            return time.process_time() - start

    print("| hooks | bare, ms | steered, ms | ratio |\n|---|---:|---:|---:|")
    for name, method in cases.items():
        pairs = [(timed(None), timed(method)) for _ in range(given.rounds + 2)][2:]
        bare, steered = (median(p[i] for p in pairs) for i in (0, 1))
        print(f"| {name} | {1000 * bare:.1f} | {1000 * steered:.1f} | {steered / bare:.3f} |", flush=True)


if __name__ == "__main__":
    main()
