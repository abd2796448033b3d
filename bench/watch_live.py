"""What measuring drift costs while a model trains: one measurement against one step, in the shapes of SmolLM2-135M.

    python bench/watch_live.py [--rank 16] [--rows 8] [--tokens 256] [--every 10] [--rounds 3]

Random weights, a LoRA on all linear layers, a direction of twice its rank with five permuted ones and a control. Steps and
measurements take turns; processor time, medians. A step is rows x tokens; larger ones make the share smaller.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch

from ws.direction.forms import Form, LowRank
from ws.models import open_checkpoint
from ws.models.checkpoint import Checkpoint
from ws.watch import Change, Watched
from ws.watch.live import Meter

SHAPES = dict(hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9)
SHAPES |= dict(num_key_value_heads=3, vocab_size=49152, tie_word_embeddings=True)


def random_change(base: Checkpoint, name: str, rank: int, seed: int) -> Change:
    g = torch.Generator().manual_seed(seed)
    forms: dict[str, tuple[Form, ...]] = {}
    for module, x in base.linears.items():
        o, i = x.module.weight.shape
        forms[module] = (LowRank(torch.randn(o, rank, generator=g), torch.randn(rank, i, generator=g)),)
    return Change(name, forms)


def main() -> None:
    import peft
    import transformers

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("rank", 16), ("rows", 8), ("tokens", 256), ("every", 10), ("rounds", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    with TemporaryDirectory() as work:
        network = transformers.LlamaForCausalLM(transformers.LlamaConfig(**SHAPES))
        network.save_pretrained(work)
        base = open_checkpoint(Path(work))
        seven = [random_change(base, f"d{k}", 2 * chosen.rank, k) for k in range(7)]
        meter = Meter(base, [Watched(seven[0], tuple(seven[1:6]), (seven[6],))])
        settings = peft.LoraConfig(r=chosen.rank, lora_alpha=2 * chosen.rank, target_modules="all-linear")
        model = peft.get_peft_model(network, settings)
        ids = torch.randint(1, 40_000, (chosen.rows, chosen.tokens))
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)

        def step() -> None:
            model(input_ids=ids, labels=ids).loss.backward()
            optimizer.step()
            optimizer.zero_grad()

        def seconds(what: Callable[[], object]) -> float:
            start = time.process_time()
            what()
            return time.process_time() - start

        both = [(seconds(step), seconds(lambda: meter.measure(model, 0))) for _ in range(chosen.rounds + 1)][1:]
    one_step, one_measure = (median(pair[k] for pair in both) for k in (0, 1))
    print("| step, s | measurement, s | every so many steps | share of the training |\n|---:|---:|---:|---:|")
    share = one_measure / (chosen.every * one_step)
    print(f"| {one_step:.2f} | {one_measure:.2f} | {chosen.every} | {100 * share:.2f} % |")


if __name__ == "__main__":
    main()
