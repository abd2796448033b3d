"""A merged export against mergekit's task_arithmetic, and against the floor: a copy of the folder and the bare products.

    python bench/merged.py --mergekit /path/to/a/venv/bin/python [--small] [--runs 5]

The other Python has `pip install mergekit==0.1.5`. Both sides start from the base folder (bf16) and two LoRA folders' worth of
change, work in float32 and store bf16; imports and verification are left out. Each run is a process of its own. Ours is
given the direction, made before; mergekit reads base+adapter pairs, which is how it is given one.
"""

import gc
import shutil
import sys
from pathlib import Path

import torch
from side import adapter_folder, arguments, base_folder, child, human, in_turn, measured, shapes, table, workplace


def ours(work: Path):
    """The direction and the base are there; the export is timed."""
    from ws.adapters.stock import load_stock
    from ws.diff import diff_adapters
    from ws.export.merged import to_merged
    from ws.models.checkpoint import open_checkpoint

    base = open_checkpoint(work / "base")
    direction = diff_adapters(base, *(load_stock(work / f"adapter{n}", base) for n in (0, 1)))

    def write() -> None:
        (work / "out").mkdir()
        to_merged(direction, base, work / "out", alpha=0.7)

    return write


def floor(work: Path):
    """Copy the folder; then multiply every pair of factors once, in float32."""
    from safetensors.torch import load_file

    sides = [load_file(work / f"adapter{n}" / "adapter_model.safetensors") for n in (0, 1)]
    pairs = []
    for key in (k for k in sides[0] if "lora_A" in k):
        other = key.replace("lora_A", "lora_B")
        pairs.append((torch.cat([s[other] for s in sides], dim=1), torch.cat([s[key] for s in sides])))
    del sides

    def run() -> None:
        shutil.copytree(work / "base", work / "out")
        for b, a in pairs:
            b @ a

    return run


def mergekit(work: Path):
    """`task_arithmetic` over two base+adapter pairs, weights 0.7 and -0.7."""
    from mergekit.config import MergeConfiguration
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions

    models = [
        {"model": f"{work}/base+{work}/adapter{n}", "parameters": {"weight": weight}}
        for n, weight in ((0, 0.7), (1, -0.7))
    ]
    recipe = {"merge_method": "task_arithmetic", "base_model": f"{work}/base", "models": models}
    recipe |= {"parameters": {"normalize": False, "lambda": 1.0}, "dtype": "float32", "out_dtype": "bfloat16"}
    options = MergeOptions(
        lora_merge_cache=str(work / "cache"), copy_tokenizer=False, write_model_card=False, quiet=True
    )
    return lambda: run_merge(MergeConfiguration.model_validate(recipe), str(work / "out"), options=options)


def main() -> None:
    """Run the sides in turn; the folder of each is removed after its run."""
    chosen = arguments(__doc__, work="", mergekit="")
    if chosen.child:
        run = {"ours": ours, "floor": floor, "mergekit": mergekit}[chosen.child](Path(chosen.work))
        gc.collect()
        measured(run)
        return
    sizes = shapes(chosen)
    with workplace() as work:
        base = base_folder(work, sizes)
        for seed in (0, 1):
            adapter_folder(work, base, sizes, chosen.rank, seed)
        gc.collect()
        peaks: dict[str, float] = {}

        def run(side: str) -> float:
            python = chosen.mergekit if side == "mergekit" else sys.executable
            told = child(side, "--work", work, "--threads", chosen.threads, python=python)
            peaks[side] = max(told["peak"], peaks.get(side, 0))
            for name in ("out", "cache"):
                shutil.rmtree(work / name, ignore_errors=True)
            return told["seconds"]

        sides = ["ours", "floor", *(["mergekit"] if chosen.mergekit else [])]
        took = in_turn({side: lambda side=side: run(side) for side in sides}, chosen.runs, warm=0)
    largest = 4 * sizes["vocab_size"] * sizes["hidden_size"]
    limit = 3 * largest + 600e6
    rows = []
    if chosen.mergekit:
        ratio = took["mergekit"] / took["ours"]
        rows.append(("time, mergekit", human(took["ours"], "s"), human(took["mergekit"], "s"), ratio, "5x", ratio >= 5))
    ratio = took["ours"] / took["floor"]
    rows.append(
        ("time, floor", human(took["ours"], "s"), human(took["floor"], "s"), ratio, "at most 2.5x", ratio <= 2.5)
    )
    other = human(peaks["mergekit"], "B") if chosen.mergekit else "-"
    ratio = peaks["ours"] / limit
    rows.append(("peak memory", human(peaks["ours"], "B"), other, ratio, f"at most {human(limit, 'B')}", ratio <= 1))
    table("A merged export, against mergekit and against copy and products", rows)
    print("\nThe ratio of the memory is ours over its limit: three times the largest tensor in float32 and 600 MB.")


if __name__ == "__main__":
    main()
