"""All inner products of 20 directions: ours in factors, against forming each matrix and multiplying.

    python bench/gram.py [--small] [--runs 5]

Both sides go module by module; the dense one stacks the 20 float32 matrices of a module. Four of the 28 blocks, which
are all alike. Both are compared with float64. Memory is what a call takes beyond the directions, in a child.
"""

import torch
from side import arguments, child, human, in_turn, measured, random_direction, seconds, shapes, table

from ws.direction import Direction
from ws.direction.algebra import gram

N = 20
RATIO = {64: 1.0, 16: 3.0}


def dense(directions: list[Direction], dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """The Gram matrix by way of the matrices."""
    found = torch.zeros(len(directions), len(directions), dtype=torch.float64)
    for name in directions[0].forms:
        (low,) = zip(*(d.forms[name] for d in directions))
        flat = torch.stack([(f.b.to(dtype) @ f.a.to(dtype)).flatten() for f in low])
        found += (flat @ flat.mT).double()
    return found


def main() -> None:
    """Both ranks of the target, both sides in turn."""
    chosen = arguments(__doc__, layers=4, combined=0)
    sizes, rows = shapes(chosen), []
    sizes["num_hidden_layers"] = min(chosen.layers, sizes["num_hidden_layers"])

    def make(rank: int) -> list[Direction]:
        return [random_direction(sizes, rank, seed) for seed in range(N)]

    if chosen.child:
        made = make(chosen.combined)
        measured({"ours": lambda: gram(made), "theirs": lambda: dense(made)}[chosen.child])
        return
    for rank, target in RATIO.items():
        directions = make(rank)
        took = in_turn(
            {
                "ours": lambda directions=directions: seconds(lambda: gram(directions)),
                "theirs": lambda directions=directions: seconds(lambda: dense(directions)),
            },
            chosen.runs,
        )
        few = [Direction({n: d.forms[n] for n in list(d.forms)[:7]}) for d in directions]
        wanted = dense(few, torch.float64)
        error = float((gram(few)["all"] - wanted).abs().max() / wanted.diagonal().max())
        del directions, few
        options = ["--combined", rank, "--layers", chosen.layers, "--threads", chosen.threads]
        options += ["--small"] if chosen.small else []
        peaks = {side: child(side, *options)["peak"] for side in took}
        ratio = took["theirs"] / took["ours"]
        name = f"rank {rank}"
        rows.append(
            (
                f"{name}, time",
                human(took["ours"], "s"),
                human(took["theirs"], "s"),
                ratio,
                f"{target}x",
                ratio >= target,
            )
        )
        ratio = peaks["theirs"] / max(1.0, peaks["ours"])
        rows.append(
            (f"{name}, peak memory", human(peaks["ours"], "B"), human(peaks["theirs"], "B"), ratio, "10x", ratio >= 10)
        )
        rows.append((f"{name}, largest error", f"{error:.1e}", "float64", error, "at most 1e-5", error <= 1e-5))
    table("Inner products of 20 directions, against dense", rows)


if __name__ == "__main__":
    main()
