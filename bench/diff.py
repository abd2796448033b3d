"""dW from two saved LoRA adapters: ours in factors, against peft's merge and subtraction.

    python bench/diff.py [--small] [--runs 5]

Neither side has the base loaded. Ours reads both adapter folders, lines them up with the base's checkpoint on disk, makes
the direction and saves it. The other loads base and adapter in float32 and merges, twice, subtracts, and saves the
difference of the touched matrices in float32. Each run is a process of its own; imports are left out.
"""

import gc
from pathlib import Path

import torch
from side import adapter_folder, arguments, base_folder, child, human, in_turn, measured, shapes, table, workplace


def ours(work: Path) -> None:
    """Two adapter folders to one direction file."""
    from ws.diff import diff_named
    from ws.direction import save

    direction, _ = diff_named(*(f"{work / 'base'}+{work / f'adapter{n}'}" for n in (0, 1)))
    save(direction, work / "ours.safetensors")


def theirs(work: Path) -> None:
    """Merge, merge, subtract."""
    from peft import PeftModel
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM

    def merged(adapter: int) -> dict[str, torch.Tensor]:
        model = AutoModelForCausalLM.from_pretrained(work / "base", dtype=torch.float32)
        whole = PeftModel.from_pretrained(model, str(work / f"adapter{adapter}")).merge_and_unload()
        return {n: t for n, t in whole.state_dict().items() if "_proj" in n}

    left = merged(0)
    right = merged(1)
    save_file({n: t - right[n] for n, t in left.items()}, work / "theirs.safetensors")


def imports() -> None:
    """What both sides import, and the first use of what is built lazily."""
    import peft
    import transformers

    import ws  # noqa: F401
    from ws.diff import diff_named  # noqa: F401

    assert peft.PeftModel
    assert transformers.AutoModelForCausalLM
    assert transformers.Qwen3ForCausalLM


def main() -> None:
    """Run both sides in turn, in children, and compare time, memory and file."""
    chosen = arguments(__doc__, work="")
    if chosen.child:
        imports()
        gc.collect()
        measured(lambda: {"ours": ours, "theirs": theirs}[chosen.child](Path(chosen.work)))
        return
    sizes = shapes(chosen)
    with workplace() as work:
        base = base_folder(work, sizes)
        for seed in (0, 1):
            adapter_folder(work, base, sizes, chosen.rank, seed)
        gc.collect()
        peaks: dict[str, float] = {}

        def run(side: str) -> float:
            told = child(side, "--work", work, "--threads", chosen.threads)
            peaks[side] = max(told["peak"], peaks.get(side, 0))
            return told["seconds"]

        took = in_turn({side: lambda side=side: run(side) for side in ("ours", "theirs")}, chosen.runs, warm=0)
        files = {side: (work / f"{side}.safetensors").stat().st_size for side in took}
    rows = []
    for what, found, unit, target in (
        ("time", took, "s", 15),
        ("peak memory", peaks, "B", 4),
        ("file", files, "B", 10),
    ):
        ratio = found["theirs"] / found["ours"]
        rows.append(
            (what, human(found["ours"], unit), human(found["theirs"], unit), ratio, f"{target}x", ratio >= target)
        )
    table("dW from two adapters, against merge and subtract", rows)


if __name__ == "__main__":
    main()
