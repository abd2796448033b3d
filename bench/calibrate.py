"""Calibrating both signs of one direction against the published procedure, which takes one prompt and one alpha at a time.

    python bench/calibrate.py [--tokenizer FOLDER] [--prompts 16] [--tokens 20] [--timed 16] [--threads 2]

A random Qwen3 of 103 M parameters whose final norm is multiplied by 6, so that 1 nat can be reached; a random low rank
direction; 1 nat, 5 %. The reference is written from the description of the published code: per prompt, `generate` under
steering, then two forward passes over prompt and answer; per sign, a probe at 1, a guess by the square root, doubling or
halving to a bracket, regula falsi in logs that takes ln 2 off a stale end. `--timed N` (0: not at all) measures its time on N prompts per
alpha and counts the rest as as long (every prompt is a run of its own); then its statistic is ours, after the N prompts'
tokens have been compared one by one. Processor time is given too, since it does not count what other programs take.
"""

import argparse
import math
import time
from pathlib import Path

import torch
import transformers

import ws
from ws.behaviors import neutral_prompts
from ws.calibrate import CalibrateSettings, PromptSets, calibrate, divergences
from ws.direction import Direction
from ws.direction.forms import LowRank
from ws.methods import as_method
from ws.models.chat import Chat, encode, render
from ws.models.modules import fingerprint
from ws.models.tiny import FOLDER

BUDGET, TOLERANCE = 1.0, 0.05


def model_of(tokenizer: Path | None) -> ws.Base:
    tok = transformers.AutoTokenizer.from_pretrained(tokenizer or FOLDER)
    tok.padding_side = "left"
    config = transformers.Qwen3Config(
        vocab_size=151_936, hidden_size=512, intermediate_size=1536, num_hidden_layers=8, num_attention_heads=8,
        num_key_value_heads=4, head_dim=64, tie_word_embeddings=True, max_position_embeddings=4096,
        eos_token_id=tok.eos_token_id,
    )  # fmt: skip
    torch.manual_seed(0)
    network = transformers.Qwen3ForCausalLM(config).eval().requires_grad_(False)
    network.model.norm.weight.mul_(6)
    return ws.Base(network, tok, fingerprint(network), "random-qwen3-103m")


def direction_of(base: ws.Base, size: float, rank: int = 16) -> Direction:
    """A random low rank change of every matrix in blocks 2 to 5, each so large a share of the matrix."""
    g = torch.Generator().manual_seed(0)
    forms = {}
    for name, linear in base.linears.items():
        if 2 <= linear.block < 6:
            w = base.weight(name)
            b, a = (torch.randn(*s, generator=g) for s in ((w.shape[0], rank), (rank, w.shape[1])))
            forms[name] = (LowRank(b * (size * w.norm() / (b @ a).norm()), a),)
    return Direction(forms, {"base": base.described()})


class Published:
    """One prompt and one alpha at a time."""

    def __init__(self, base: ws.Base, direction: Direction, prompts: list[str], tokens: int):
        self.base, self.direction, self.tokens = base, direction, tokens
        self.ids = [encode(base.tokenizer, render(base.tokenizer, Chat(p), thinking="off")) for p in prompts]

    @torch.inference_mode()
    def one(self, ids: list[int], alpha: float) -> torch.Tensor:
        """KL at every token that is written to one prompt."""
        model = self.base.model
        with ws.steer(self.base, self.direction, alpha):
            text = model.generate(torch.tensor([ids]), max_new_tokens=self.tokens, do_sample=False, pad_token_id=0)
            steered = model(text).logits[0, len(ids) - 1 : -1].log_softmax(-1)
        plain = model(text).logits[0, len(ids) - 1 : -1].log_softmax(-1)
        return (steered.exp() * (steered - plain)).sum(-1)


def search(stat, sign: float) -> tuple[float, float, int]:
    """(alpha, statistic, evaluations) of the published search."""
    tried: list[tuple[float, float]] = []

    def f(c: float) -> float:
        tried.append((c, stat(sign * c)))
        return math.log(max(tried[-1][1], 1e-12) / BUDGET)

    def done() -> bool:
        return abs(tried[-1][1] - BUDGET) <= TOLERANCE

    f0 = f(1.0)
    c = min(max(math.exp(-f0 / 2), 1 / 8), 8.0)
    while not done():
        f(c)
        below, above = [t for t in tried if t[1] < BUDGET], [t for t in tried if t[1] >= BUDGET]
        if below and above:
            break
        c = 2 * max(tried)[0] if not above else min(tried)[0] / 2
    lo, hi = (
        max((t for t in tried if t[1] < BUDGET), default=None),
        min((t for t in tried if t[1] >= BUDGET), default=None),
    )
    if not done():
        assert lo is not None and hi is not None
        x, y = [math.log(lo[0]), math.log(hi[0])], [math.log(lo[1] / BUDGET), math.log(hi[1] / BUDGET)]
        stale = -1
        while not done() and len(tried) < 25:
            at = x[0] - y[0] * (x[1] - x[0]) / (y[1] - y[0])
            new = f(math.exp(at))
            side = 0 if new < 0 else 1
            x[side], y[side] = at, new
            if stale == 1 - side:
                y[1 - side] -= math.log(2)  # the published correction, wrong for a lower end
                if y[1] <= y[0]:
                    y[1 - side] += math.log(2)
            stale = 1 - side
    best = min(tried, key=lambda t: abs(t[1] - BUDGET))
    return sign * best[0], best[1], len(tried)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", type=Path)
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=20)
    parser.add_argument("--timed", type=int, default=16)
    parser.add_argument("--size", type=float, default=0.1, help="norm of the direction over that of the weights")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    transformers.utils.logging.set_verbosity_error()

    base = model_of(given.tokenizer)
    direction = direction_of(base, given.size)
    pool = [p.text for p in neutral_prompts(given.tokenizer is None) if p.split == "calib"]
    prompts = pool[:: len(pool) // given.prompts][: given.prompts]
    other = next(p for p in pool if p not in prompts)
    sets = PromptSets(tuple(prompts), (other,))  # the published procedure has no audit; ours is kept to one prompt
    settings = CalibrateSettings(budget=BUDGET, tolerance=TOLERANCE, tokens=given.tokens, thoughts="off")

    wall, start = time.perf_counter(), time.process_time()
    found = calibrate(base, direction, settings=settings, prompts=sets)
    ours, ours_wall = time.process_time() - start, time.perf_counter() - wall
    for side in (found.neg, found.pos):
        print(
            f"ours       alpha {side.alpha:+.4f}  p95 {side.p95:.3f}  {side.status}, {side.evaluations} evaluations: "
            + ", ".join(f"{a:.3g} -> {kl:.3g}" for a, kl in side.history),
            flush=True,
        )
    print(f"ours       {ours:.1f} s of processor, {ours_wall:.1f} s by the clock, for both signs", flush=True)

    if not given.timed:
        return
    published = Published(base, direction, prompts, given.tokens)
    seconds, wall, worst = 0.0, 0.0, 0.0

    def stat(alpha: float) -> float:
        nonlocal seconds, wall, worst
        begin, start = time.perf_counter(), time.process_time()
        slow = [published.one(ids, alpha) for ids in published.ids[: given.timed]]
        seconds += (time.process_time() - start) * given.prompts / given.timed
        wall += (time.perf_counter() - begin) * given.prompts / given.timed
        if given.timed == given.prompts:
            return float(torch.cat(slow).quantile(0.95))
        (fast,) = divergences(base, as_method(direction), prompts, [alpha], tokens=given.tokens, thinking="off")
        same = [torch.tensor(f) - s for f, s in zip(fast.tokens, slow) if len(f) == len(s)]
        worst = max(worst, *(float(d.abs().max()) for d in same))
        return fast.p95

    for sign, side in ((-1.0, found.neg), (1.0, found.pos)):
        alpha, p95, n = search(stat, sign)
        print(
            f"published  alpha {alpha:+.4f}  p95 {p95:.3f}  {n} evaluations; alphas differ by {100 * abs(side.alpha / alpha - 1):.1f} %",
            flush=True,
        )
    told = (
        "measured"
        if given.timed == given.prompts
        else f"from {given.timed} of {given.prompts} prompts per alpha; tokens differ by at most {worst:.1g} nat"
    )
    print(f"published  {seconds:.1f} s of processor, {wall:.1f} s by the clock, for both signs ({told})")
    print(f"ratio      {seconds / ours:.1f}x of processor time, {wall / ours_wall:.1f}x by the clock")


if __name__ == "__main__":
    main()
