"""All angles of 20 fine-tunes and 20 directions that lie on disk as adapters, against dense products of each module.

    python bench/watch_gram.py [--small] [--rank 32] [--layers 4] [--runs 3]

Shapes of Qwen3-0.6B with random factors; four of its 28 blocks, which are all alike. The other side is the public factored
script's way in its own terms: every adapter is loaded, each module's matrices are multiplied out in float32 and flattened, and
their products are taken at once. Both start from the files, and the numbers are compared. Memory is that of a child.
"""

from pathlib import Path

import torch
from safetensors.torch import load_file
from side import (
    adapter_folder,
    arguments,
    base_folder,
    child,
    human,
    in_turn,
    measured,
    seconds,
    shapes,
    table,
    workplace,
)

from ws.models import open_checkpoint
from ws.watch import angles, opened

N = 40


def ours(work: Path) -> torch.Tensor:
    """By `ws.watch`, a module at a time from the files."""
    base = open_checkpoint(work / "base")
    changes = [c for k in range(N) for c in opened(str(work / f"adapter{k}"), base, work / "out")]
    return angles(changes[: N // 2], changes[N // 2 :], base).cos()["all"]


def dense(work: Path) -> torch.Tensor:
    """By the matrices of each module."""
    adapters = [load_file(work / f"adapter{k}" / "adapter_model.safetensors") for k in range(N)]
    modules = sorted(key.removesuffix(".lora_A.weight") for key in adapters[0] if key.endswith(".lora_A.weight"))
    total, squares = torch.zeros(N // 2, N // 2, dtype=torch.float64), torch.zeros(N, dtype=torch.float64)
    for m in modules:
        flat = torch.stack([(2 * a[f"{m}.lora_B.weight"] @ a[f"{m}.lora_A.weight"]).flatten() for a in adapters])
        total += (flat[: N // 2] @ flat[N // 2 :].mT).double()
        squares += flat.square().sum(1).double()
    return total / (squares[: N // 2, None] * squares[N // 2 :]).sqrt()


def main() -> None:
    chosen = arguments(__doc__, layers=4, work="")
    sizes = shapes(chosen)
    sizes["num_hidden_layers"] = min(chosen.layers, sizes["num_hidden_layers"])
    if chosen.child:
        import peft  # noqa: F401  # what is imported on the way is no memory of the work
        import transformers

        transformers.Qwen3ForCausalLM  # noqa: B018
        measured(lambda: {"ours": ours, "theirs": dense}[chosen.child](Path(chosen.work)))
        return
    with workplace() as work:
        base_folder(work, sizes)
        for k in range(N):
            adapter_folder(work, work / "base", sizes, chosen.rank, k)
        took = in_turn(
            {"ours": lambda: seconds(lambda: ours(work)), "theirs": lambda: seconds(lambda: dense(work))}, chosen.runs
        )
        found, wanted = ours(work), dense(work)
        error = float((found - wanted).abs().max())
        options = ["--work", work, "--threads", chosen.threads, "--layers", chosen.layers]
        options += ["--small"] if chosen.small else []
        peaks = {side: child(side, *options)["peak"] for side in took}
    time, memory = took["theirs"] / took["ours"], peaks["theirs"] / max(1.0, peaks["ours"])
    table(
        f"Angles of {N // 2} fine-tunes and {N // 2} directions of rank {chosen.rank} on disk, {sizes['num_hidden_layers']} blocks",
        [
            ("time", human(took["ours"], "s"), human(took["theirs"], "s"), time, "3x", time >= 3),
            ("peak memory", human(peaks["ours"], "B"), human(peaks["theirs"], "B"), memory, "10x", memory >= 10),
            ("largest difference", f"{error:.1e}", "float32", error, "at most 1e-5", error <= 1e-5),
        ],
    )


if __name__ == "__main__":
    main()
