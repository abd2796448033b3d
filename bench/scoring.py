"""How fast answers are scored, against the harness most people use, against the bare model, and against one at a time.

    python bench/scoring.py [harness] [alphas] [thinking] [--questions FILE.csv] [--tokenizer FOLDER] [--rounds 5]

The model is a randomly initialised Qwen3 of 103 M parameters. All that is compared runs in turn within every round, on
the same rows: each round takes another part of the prompts. Ratios are medians over rounds, of processor seconds of one
thread, which other work on the machine disturbs less than the clock on the wall. Without --questions the
prompts are generated text of the length of daily dilemmas; without --tokenizer the embedded one is used. `harness`
needs `pip install "lm-eval[hf]==0.4.13"`.
"""

import argparse
import csv
import random
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
import transformers

import ws
from ws.direction import Direction
from ws.direction.forms import LowRank
from ws.eval import scoring
from ws.eval.scoring import Item, prompts_of, score
from ws.eval.thinking import score_thinking, thinker
from ws.models.answers import Answers
from ws.models.chat import Chat, stop_tokens
from ws.models.modules import fingerprint, weight_of
from ws.models.tiny import FOLDER

YES_NO = (("yes",), ("no",))
N = 438


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=[], help="harness, alphas, thinking; all if none is named")
    parser.add_argument("--questions", type=Path, help="a csv with a column dilemma_situation")
    parser.add_argument("--tokenizer", type=Path, help="a folder with a tokenizer, e.g. of Qwen3")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=N)
    told = parser.parse_args()
    torch.set_num_threads(1)
    parts = told.parts or ["harness", "alphas", "thinking"]

    base = model_of(told.tokenizer)
    items = [item(i, text) for i, text in enumerate(situations(told.questions, told.rows))]
    lengths = sorted(len(p.ids) for p in prompts_of(base, items))
    size = sum(p.numel() for p in base.model.parameters()) / 1e6
    print(
        f"{size:.0f} M parameters, {len(items)} prompts of {lengths[0]} to {lengths[-1]} tokens, median {median(lengths):g}"
    )
    print(f"torch {torch.__version__}, {torch.get_num_threads()} thread\n")
    for name in parts:
        {"harness": harness, "alphas": alphas, "thinking": thinking}[name](base, items, told.rounds)


# ---------------------------------------------------------------- what is compared


def harness(base: ws.Base, items: Sequence[Item], rounds: int) -> None:
    """Yes/no scoring: ours, the same batches through the bare body and head, and lm-evaluation-harness."""
    yes, no = (base.tokenizer(f"{w}", add_special_tokens=False).input_ids for w in (" Yes", " No"))
    if len(yes) != 1 or len(no) != 1:
        sys.exit("' Yes' and ' No' are no single tokens of this tokenizer; give --tokenizer")
    # the harness scores one token per answer, so here each class is cut to that token
    for each in items:
        scoring._proven[(id(base.tokenizer), "", each.anchor, each.words)] = (
            base.tokenizer,
            Answers((yes[0],), (no[0],), ("yes", "no"), " "),
        )
    ways = {"ws": lambda part: ours(base, part), "body + last head": lambda part: floor(base, part)}
    try:
        lm = hflm(base)
        ways["lm-eval HF, batch 8"] = lambda part: theirs(lm, base, part)
    except ImportError:
        print("lm-eval is not installed: pip install 'lm-eval[hf]==0.4.13'")
    seconds, values = in_turn(ways, [items[r::rounds] for r in range(rounds)])
    show("yes/no scoring", seconds, "ws", len(items))
    for name in ways:
        worst = max(abs(a - b) for x, y in zip(values["ws"], values[name]) for a, b in zip(x, y))
        print(f"  largest difference of log-ratios, ws and {name}: {worst:.1e}")
    scoring._proven.clear()


def alphas(base: ws.Base, items: Sequence[Item], rounds: int) -> None:
    """Five alphas over the same rows, with and without a known alpha 0, against one non-zero alpha."""
    direction = lowrank(base)
    dial = lambda a: ws.steer(base, direction, a)  # noqa: E731
    five = [-1.0, -0.5, 0.0, 0.5, 1.0]
    known: dict[str, Any] = {}

    def reference(part: Sequence[Item]) -> Any:
        key = part[0].row_key
        known[key] = [s for (s,) in score(base, part, alphas=[0.0])]
        return known[key]

    ways = {
        "alpha 0": reference,
        "one alpha": lambda part: score(base, part, alphas=[1.0], dial=dial),
        "five alphas": lambda part: score(base, part, alphas=five, dial=dial),
        "five, alpha 0 known": lambda part: score(base, part, alphas=five, dial=dial, reference=known[part[0].row_key]),
    }
    few = items[:: max(1, len(items) // 110)]
    seconds, _ = in_turn(ways, [few[r::rounds] for r in range(rounds)])
    show("several alphas", seconds, "one alpha", len(few))


def thinking(base: ws.Base, items: Sequence[Item], rounds: int) -> None:
    """64 prompts, 64 tokens of thought, one forced answer: ours against `generate` for one prompt at a time.

    Every round is a whole batch of 64 for ours and four of its prompts for the other, whose time is proportional.
    """
    sixty_four = items[:: max(1, len(items) // 64)][:64]
    times: dict[str, list[float]] = {"ws": [], "one at a time": []}
    worst = 0.0
    stops = list(stop_tokens(base.tokenizer, base.model))
    score_thinking(base, sixty_four[:2], n_think=4, alphas=[0.0])  # warm up
    generated(base, sixty_four[0], stops)
    for r in range(rounds):
        t = time.process_time()
        found = score_thinking(base, sixty_four, n_think=64, alphas=[0.0])
        times["ws"].append(time.process_time() - t)
        some = range(r, 64, 16)
        t = time.process_time()
        alone = [generated(base, sixty_four[i], stops) for i in some]
        times["one at a time"].append((time.process_time() - t) * 64 / len(alone))
        worst = max(worst, *(abs(found[i][0].logratio - a) for i, a in zip(some, alone)))
    show("thinking", times, "ws", 64, each=64)
    print(f"  largest difference of log-ratios: {worst:.1e}; forced {sum(f[0].forced_close for f in found)} of 64")


# ---------------------------------------------------------------- the ways


def ours(base: ws.Base, items: Sequence[Item]) -> list[float]:
    return [s.logratio for (s,) in score(base, items, alphas=[0.0])]


@torch.inference_mode()
def floor(base: ws.Base, items: Sequence[Item]) -> list[float]:
    """The least that must be computed: tokenised rows sorted by length, body, head of the last position."""
    prompts = prompts_of(base, items)
    start = time.process_time()
    order = sorted(range(len(prompts)), key=lambda i: (-len(prompts[i].ids), i))
    found, at = {}, 0
    while at < len(order):
        width = len(prompts[order[at]].ids)
        part = order[at : at + max(1, 2048 // width)]  # the same batches
        ids = torch.tensor([[0] * (width - len(prompts[i].ids)) + list(prompts[i].ids) for i in part])
        mask = torch.tensor([[0] * (width - len(prompts[i].ids)) + [1] * len(prompts[i].ids) for i in part])
        body = base.model.model(
            input_ids=ids, attention_mask=mask, position_ids=(mask.cumsum(-1) - 1).clamp(min=0), use_cache=False
        )
        logits = base.model.lm_head(body.last_hidden_state[:, -1])
        answers = prompts[part[0]].answers
        found.update(zip(part, (logits[:, answers.yes[0]] - logits[:, answers.no[0]]).tolist()))
        at += len(part)
    return Timed([found[i] for i in range(len(prompts))], time.process_time() - start)


class Timed(list):
    """Values with their own time, where making the inputs is not part of what is measured."""

    def __init__(self, values: list[float], seconds: float):
        super().__init__(values)
        self.seconds = seconds


def hflm(base: ws.Base) -> Any:
    from lm_eval.models.huggingface import HFLM

    return HFLM(pretrained=base.model, tokenizer=base.tokenizer, batch_size=8, device="cpu", backend="causal")


def theirs(lm: Any, base: ws.Base, items: Sequence[Item]) -> list[float]:
    from lm_eval.api.instance import Instance

    texts = [scoring.slot_text(base, i) for i in items]
    asked = [
        Instance(request_type="loglikelihood", doc={}, arguments=(t, answer), idx=k)
        for t in texts
        for k, answer in enumerate((" Yes", " No"))
    ]
    found = [ll for ll, _ in lm.loglikelihood(asked, disable_tqdm=True)]
    return [a - b for a, b in zip(found[::2], found[1::2])]


@torch.inference_mode()
def generated(base: ws.Base, item: Item, stops: list[int]) -> float:
    """One prompt by transformers' own `generate`, then one forward pass over the whole text."""
    t = thinker(base, item)
    out = base.model.generate(
        torch.tensor([t.ids]), max_new_tokens=64, do_sample=False, eos_token_id=[*stops, t.close], pad_token_id=0
    )
    new = out[0, len(t.ids) :].tolist()
    if new[-1] == t.close:
        ids = [*t.ids, *new, *t.tail]
    else:
        ids = [*t.ids, *(n for n in new if n not in stops), *t.forced]
    logp = base.model(torch.tensor([ids]), logits_to_keep=1).logits[0, -1].log_softmax(-1)
    return float(logp[list(t.answers.yes)].logsumexp(0) - logp[list(t.answers.no)].logsumexp(0))


# ---------------------------------------------------------------- inputs and outputs


def model_of(tokenizer: Path | None) -> ws.Base:
    """A random Qwen3 of 103 M parameters with a real tokenizer, or the embedded one."""
    tok = transformers.AutoTokenizer.from_pretrained(tokenizer or FOLDER)
    tok.padding_side = "left"
    config = transformers.Qwen3Config(
        vocab_size=151_936, hidden_size=512, intermediate_size=1536, num_hidden_layers=8, num_attention_heads=8,
        num_key_value_heads=4, head_dim=64, tie_word_embeddings=True, max_position_embeddings=4096,
        eos_token_id=tok.eos_token_id,
    )  # fmt: skip
    torch.manual_seed(0)
    network = transformers.Qwen3ForCausalLM(config).eval().requires_grad_(False)
    return ws.Base(network, tok, fingerprint(network), "random-qwen3-103m")


def situations(file: Path | None, n: int) -> list[str]:
    if file is not None:
        with open(file, newline="", encoding="utf-8") as f:
            return [row["dilemma_situation"] for row in csv.DictReader(f)][:n]
    rng = random.Random(0)
    words = [
        "you",
        "are",
        "a",
        "teacher",
        "at",
        "work",
        "and",
        "one",
        "of",
        "your",
        "friends",
        "asks",
        "what",
        "the",
        "report",
        "should",
        "say",
        "about",
        "the",
        "money",
    ]
    return [" ".join(rng.choices(words, k=rng.randint(40, 75))) + "?" for _ in range(n)]


def item(i: int, situation: str) -> Item:
    text = (
        f"Should you take this action?\n\nSituation: {situation}\nAction: Tell them what happened.\n\nAnswer Yes or No."
    )
    return Item(str(i), str(i), Chat(text), "My choice:", YES_NO)


def lowrank(base: ws.Base, rank: int = 32) -> Direction:
    """A direction over every linear layer, of the rank that a pair of default LoRA adapters has."""
    g = torch.Generator().manual_seed(0)
    forms = {}
    for name, linear in base.linears.items():
        out, into = weight_of(linear.module).shape
        b, a = torch.randn(out, rank, generator=g) * 0.01, torch.randn(rank, into, generator=g) * 0.01
        forms[name] = (LowRank(b, a),)
    return Direction(forms, {"base": base.described()})


def in_turn(
    ways: dict[str, Callable[[Sequence[Item]], Any]], parts: Sequence[Sequence[Item]]
) -> tuple[dict[str, list[float]], dict[str, list[Any]]]:
    """Seconds and values of every way on every part, one way after the other within each part."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    values: dict[str, list[Any]] = {name: [] for name in ways}
    for run in ways.values():  # warm up
        run(parts[0][:2])
    for part in parts:
        for name, run in ways.items():
            start = time.process_time()
            found = run(part)
            seconds[name].append(found.seconds if isinstance(found, Timed) else time.process_time() - start)
            values[name].append(found)
    return seconds, values


def show(title: str, seconds: dict[str, list[float]], to: str, rows: int, *, each: int | None = None) -> None:
    """A table of rows per second and of the median ratio of times, round by round."""
    rounds = len(seconds[to])
    each = each or rows // rounds
    print(
        f"\n| {title}, {rounds} rounds of {each} rows | seconds a round | rows/s | time against {to}, median (range) |"
    )
    print("|---|---|---|---|")
    for name, s in seconds.items():
        ratios = [a / b for a, b in zip(s, seconds[to])]
        print(
            f"| {name} | {median(s):.2f} | {each / median(s):.1f} | {median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) |"
        )
    sys.stdout.flush()


if __name__ == "__main__":
    main()
