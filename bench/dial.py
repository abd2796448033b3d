"""What it takes to set alpha: by hook, by folding, by peft's scaling, and by loading a merged model again.

    python bench/dial.py [--small] [--runs 5]

By hook the old strength is taken off and a new one put on: a `with ws.steer(...)` block is left and the next one entered.
So is a fold. peft scales the change of two loaded adapters by setting `scaling` on every layer. Reloading is
`from_pretrained` of a merged folder in the cache of the operating system. Float32.
"""

import gc

import torch
from side import (
    adapter_folder,
    arguments,
    base_folder,
    human,
    in_turn,
    network,
    random_direction,
    seconds,
    shapes,
    table,
    workplace,
)

import ws
from ws.models.load import Base, load

LIMIT = 0.005


def main() -> None:
    """Time all four in turn."""
    import transformers
    from peft import PeftModel
    from peft.tuners.lora import LoraLayer

    chosen = arguments(__doc__)
    sizes = shapes(chosen)
    with workplace() as work:
        folder = base_folder(work, sizes)
        base = load(folder)
        assert isinstance(base, Base)
        direction = random_direction(sizes, 2 * chosen.rank, 0, base.described())
        adapter = adapter_folder(work, folder, sizes, chosen.rank, 0)
        worn = PeftModel.from_pretrained(network(sizes, torch.float32), str(adapter))
        layers = [m for m in worn.modules() if isinstance(m, LoraLayer)]
        gc.collect()

        def switch(fold: bool) -> float:
            """Leave a block and enter the next one."""
            old = ws.steer(base, direction, 0.5, fold=fold)
            old.__enter__()
            new = ws.steer(base, direction, -0.5, fold=fold)

            def turn() -> None:
                old.__exit__(None, None, None)
                new.__enter__()

            took = seconds(turn)
            new.__exit__(None, None, None)
            return took

        def scale() -> None:
            for layer in layers:
                layer.set_scale("default", -0.5)

        def reload() -> None:
            transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)

        calls = {
            "hook": lambda: switch(False),
            "fold": lambda: switch(True),
            "peft's scaling": lambda: seconds(scale),
            "reload": lambda: seconds(reload),
        }
        found = in_turn(calls, chosen.runs, warm=2)
    hook, rows = found.pop("hook"), []
    for what, took in found.items():
        reached = hook <= LIMIT
        rows.append((f"hook, {what}", human(hook, "s"), human(took, "s"), took / hook, "hook at most 5 ms", reached))
    table("Setting alpha", rows)


if __name__ == "__main__":
    main()
