"""What steering costs a forward pass: hooked and folded, against the bare model.

    python bench/forward.py [--small] [--runs 5]

64 tokens a row, no cache, a direction of combined rank 2r on every linear layer. Four of the 28 blocks, which are all
alike, and the head at the last position only: the whole head would hide a part of what the hooks cost.
"""

import torch
from side import arguments, human, in_turn, network, random_direction, seconds, shapes, table

import ws
from ws.models.load import Base

BATCHES = (1, 8, 32)
TARGETS = {("float32", 8, "hooked"): 1.15, ("bfloat16", 8, "hooked"): 1.4}
TARGETS |= {(d, 8, "folded"): 1.02 for d in ("float32", "bfloat16")}


def main() -> None:
    """Time every dtype and batch; the three sides of a ratio take turns."""
    chosen = arguments(__doc__, batches=",".join(map(str, BATCHES)), dtypes="float32,bfloat16", layers=4)
    sizes, rows = shapes(chosen), []
    sizes["num_hidden_layers"] = min(chosen.layers, sizes["num_hidden_layers"])
    for dtype in chosen.dtypes.split(","):
        base = Base(network(sizes, getattr(torch, dtype)), None, "", "bench")
        direction = random_direction(sizes, 2 * chosen.rank, 0)
        for batch in map(int, chosen.batches.split(",")):
            ids = torch.randint(0, sizes["vocab_size"], (batch, 64), generator=torch.Generator().manual_seed(0))

            def forward(base: Base = base, ids: torch.Tensor = ids) -> None:
                with torch.no_grad():
                    base.model(input_ids=ids, use_cache=False, logits_to_keep=1)

            def steered(fold: bool, base: Base = base, forward=forward, direction=direction) -> float:
                with ws.steer(base, direction, 0.5, fold=fold):
                    forward()  # what was just written is not in the caches
                    return seconds(forward)

            found = in_turn(
                {
                    "bare": lambda forward=forward: seconds(forward),
                    "hooked": lambda steered=steered: steered(False),
                    "folded": lambda steered=steered: steered(True),
                },
                chosen.runs,
                warm=0,  # each steered side warms up by itself, after what it wrote
            )
            for how in ("hooked", "folded"):
                target = TARGETS.get((dtype, batch, how))
                ratio = found[how] / found["bare"]
                said = f"at most {target}x" if target else "-"
                what = f"{dtype}, batch {batch} x 64, {how}"
                rows.append(
                    (what, human(found[how], "s"), human(found["bare"], "s"), ratio, said, ratio <= (target or 9))
                )
    table("A steered forward pass, against the bare model", rows)


if __name__ == "__main__":
    main()
