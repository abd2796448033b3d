"""What the benchmarks share: the shapes of Qwen3-0.6B with random weights, timing side by side, and memory of a child.

Ratios count here, not seconds: the two sides of a ratio run in turn, in one call, on one machine. A peak is what a child
process reached beyond what it held after its imports.
"""

import argparse
import gc
import json
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import torch
from safetensors.torch import save_file

QWEN = dict(hidden_size=1024, intermediate_size=3072, num_hidden_layers=28, num_attention_heads=16)
QWEN |= dict(num_key_value_heads=8, head_dim=128, vocab_size=151936, tie_word_embeddings=True)
SMALL = dict(hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2)
SMALL |= dict(num_key_value_heads=1, head_dim=32, vocab_size=2048, tie_word_embeddings=True)


def arguments(about: str | None, **more: Any) -> argparse.Namespace:
    """The options every benchmark has."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, help="a folder or file with another Qwen3 config.json")
    parser.add_argument("--rank", type=int, default=32, help="rank of each adapter, on all linear layers")
    parser.add_argument("--runs", type=int, default=5, help="counted runs of each side, after one that is not")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--small", action="store_true", help="a model of a few thousand weights: seconds, no verdict")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    for name, default in more.items():
        parser.add_argument(f"--{name}", default=default, type=type(default))
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    return chosen


# ---------------------------------------------------------------- the model and its adapters


def shapes(chosen: argparse.Namespace) -> dict[str, Any]:
    """The sizes of the model."""
    if chosen.config is None:
        return dict(SMALL if chosen.small else QWEN)
    file = chosen.config / "config.json" if chosen.config.is_dir() else chosen.config
    given = json.loads(file.read_text())
    return {k: given[k] for k in QWEN if k in given}


def network(sizes: Mapping[str, Any], dtype: torch.dtype) -> Any:
    """A random model of these sizes; every matrix is filled from one short list of random numbers, which is quick."""
    import transformers

    with torch.device("meta"):
        model = transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**sizes))
    rotary = type(model.model.rotary_emb)(model.config)  # its frequencies are computed, not weights
    model = model.to(dtype).to_empty(device="cpu").eval().requires_grad_(False)
    model.model.rotary_emb = rotary
    model.tie_weights()
    numbers = torch.randn(1_000_003, generator=torch.Generator().manual_seed(0)).to(dtype) / 50
    for p in model.parameters():
        p.copy_(
            torch.ones_like(p) if p.ndim == 1 else numbers.repeat(-(-p.numel() // len(numbers)))[: p.numel()].view_as(p)
        )
    return model


def base_folder(work: Path, sizes: Mapping[str, Any], dtype: torch.dtype = torch.bfloat16) -> Path:
    """The model as a folder, with the tokenizer of `tiny`: nothing here reads text."""
    from ws.models.tiny import FOLDER

    folder = work / "base"
    network(sizes, dtype).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(FOLDER / name, folder / name)
    return folder


def linear_shapes(sizes: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """(out, in) of every linear layer, by its name."""
    wide, inner = sizes["hidden_size"], sizes["intermediate_size"]
    q, kv = (sizes[n] * sizes["head_dim"] for n in ("num_attention_heads", "num_key_value_heads"))
    block = {"self_attn.q_proj": (q, wide), "self_attn.k_proj": (kv, wide), "self_attn.v_proj": (kv, wide)}
    block |= {"self_attn.o_proj": (wide, q), "mlp.gate_proj": (inner, wide), "mlp.up_proj": (inner, wide)}
    block |= {"mlp.down_proj": (wide, inner)}
    return {f"model.layers.{n}.{k}": s for n in range(sizes["num_hidden_layers"]) for k, s in block.items()}


def adapter_folder(work: Path, base: Path, sizes: Mapping[str, Any], rank: int, seed: int) -> Path:
    """A stock peft LoRA on all linear layers, with random factors."""
    folder = work / f"adapter{seed}"
    folder.mkdir()
    g = torch.Generator().manual_seed(seed + 1)
    tensors = {}
    for name, (o, i) in linear_shapes(sizes).items():
        tensors[f"base_model.model.{name}.lora_A.weight"] = torch.randn(rank, i, generator=g) / i**0.5
        tensors[f"base_model.model.{name}.lora_B.weight"] = torch.randn(o, rank, generator=g) / 50
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = dict(peft_type="LORA", task_type="CAUSAL_LM", r=rank, lora_alpha=2 * rank, lora_dropout=0.0, bias="none")
    config |= dict(target_modules=sorted({n.rsplit(".", 1)[1] for n in linear_shapes(sizes)}), inference_mode=True)
    config |= dict(base_model_name_or_path=str(base))
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def random_direction(sizes: Mapping[str, Any], rank: int, seed: int, base: Mapping[str, Any] | None = None) -> Any:
    """A low-rank direction on all linear layers."""
    from ws.direction import Direction
    from ws.direction.forms import LowRank

    g = torch.Generator().manual_seed(seed)
    forms = {}
    for name, (o, i) in linear_shapes(sizes).items():
        b, a = torch.randn(o, rank, generator=g) / 50, torch.randn(rank, i, generator=g) / i**0.5
        forms[name] = (LowRank(b, a),)
    return Direction(forms, {"base": base})


# ---------------------------------------------------------------- measuring


@contextmanager
def workplace() -> Iterator[Path]:
    """A temporary folder for models of some GB; `TMPDIR` says where."""
    with tempfile.TemporaryDirectory(prefix="ws-bench-") as name:
        yield Path(name)


def seconds(call: Callable[[], object]) -> float:
    """How long one call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def in_turn(calls: Mapping[str, Callable[[], float]], runs: int, warm: int = 1) -> dict[str, float]:
    """The median of what each call returns; they take turns, and the first turns are not counted."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(warm + runs):
        for name, call in calls.items():
            gc.collect()
            value = call()
            if turn >= warm:
                found[name].append(value)
    return {name: median(values) for name, values in found.items()}


def measured(call: Callable[[], object]) -> None:
    """In a child: run it, and print its seconds and the memory it took beyond what there was, in bytes."""
    gc.collect()
    before = _memory("VmRSS")
    _forget_peak()
    took = seconds(call)
    print(json.dumps({"seconds": took, "peak": max(0, _memory("VmHWM") - before)}), flush=True)


def child(name: str, *options: object, python: str = sys.executable) -> dict[str, float]:
    """Run one side of this benchmark in a process of its own, and read what it `measured`."""
    command = [python, sys.argv[0], "--child", name, *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def _memory(what: str, process: str = "self") -> int:
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith(what):
            return int(line.split()[1]) * 1024
    raise SystemExit("peak memory is read from /proc/self/status, which only Linux has")


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts again at what is held now


# ---------------------------------------------------------------- telling


def table(title: str, rows: list[tuple[str, str, str, float, str, bool]]) -> None:
    """Rows of (what, ours, other, ratio, target, reached) as Markdown, under what machine it was."""
    print(f"\n{title}\n\n{machine()}\n")
    print("| what | ours | other | ratio | target | reached |\n|---|---|---|---|---|---|")
    for what, ours, other, ratio, target, reached in rows:
        print(f"| {what} | {ours} | {other} | {ratio:.3g} | {target} | {'yes' if reached else 'no'} |")


def machine() -> str:
    """Cores, processor and torch of this machine, without its name."""
    import os

    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(x.split(":")[1].strip() for x in lines if x.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.processor()
    return f"{os.cpu_count()} cores ({model}), {torch.get_num_threads()} thread(s), torch {torch.__version__}"


def human(value: float, unit: str) -> str:
    """A number with its unit, short."""
    if unit == "s":
        return f"{value * 1000:.2f} ms" if value < 0.1 else f"{value:.2f} s"
    return f"{value / 1e9:.2f} GB" if value >= 1e8 else f"{value / 1e6:.1f} MB"
