"""What it is worth that a CPU's matrices lie one input after the other: python bench/turned.py [--model smollm2]

For matrices of three models' sizes, products of 1 to 512 rows: billions of sums a second laid out as transformers does and
as `ws` does, and between which numbers of rows the bits of a row change. With `--model`, tokens a second of that model, both ways.
"""

import time
from argparse import ArgumentParser

import torch

import ws
from ws.generate import Request, Sampling, Stream
from ws.models.turned import turn, turn_back, turned

SHAPES = ((1536, 576), (576, 1536), (4864, 896), (896, 4864), (5632, 2048))
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 512)
BETWEEN = (2, 3, 4, 7, 9, 12, 15, 16, 17, 31, 33, 64, 100, 128, 200, 256, 512)


def rate(x: torch.Tensor, matrix: torch.Tensor) -> float:
    """The best of seven, in processor time."""
    sums = 2 * len(x) * matrix.numel()
    seconds = []
    for _ in range(7):
        start, times = time.process_time(), max(2, int(3e8 / sums))
        for _ in range(times):
            torch.nn.functional.linear(x, matrix)
        seconds.append((time.process_time() - start) / times)
    return sums / min(seconds) / 1e9


def alike(matrix: torch.Tensor) -> list[str]:
    """The numbers of rows between which the first row keeps its bits, as ranges."""
    x, groups = torch.randn(max(BETWEEN), matrix.shape[1]), []
    for n in BETWEEN:
        first = torch.nn.functional.linear(x[:n].contiguous(), matrix)[0]
        known = next((g for g in groups if torch.equal(g[0], first)), None)
        known[1].append(n) if known else groups.append((first, [n]))
    return [f"{min(g)}-{max(g)}" for _, g in groups]


@torch.inference_mode()
def products() -> None:
    """Both layouts, in turn."""
    print(
        "| matrix | layout | "
        + " | ".join(f"{n} rows" for n in ROWS)
        + " | same bits |\n|---|---|"
        + "---:|" * len(ROWS)
        + "---|"
    )
    for out, into in SHAPES:
        plain = torch.randn(out, into)
        for name, matrix in (("one output after the other", plain), ("turned", turned(plain))):
            rates = [f"{rate(torch.randn(n, into), matrix):.0f}" for n in ROWS]
            print(f"| {out} x {into} | {name} | {' | '.join(rates)} | {', '.join(alike(matrix))} |", flush=True)


def answers(model: str) -> None:
    """Tokens a second of one row and of 32, both layouts in turn."""
    base = ws.load(model, threads=1)
    for name, lay in 3 * (
        ("one output after the other", lambda: turn_back(base.model)),
        ("turned", lambda: turn(base.model)),
    ):
        lay()
        for rows in (1, 32):
            stream, start, count = Stream(base.model, Sampling(0.7), stops=[], rows=rows), time.process_time(), 0
            for i in range(rows):
                stream.add(Request(tuple(range(50 + i, 70 + i)), 40, str(i)))
            while stream:
                count += len(stream.step())
            print(f"{name}, {rows} rows: {count / (time.process_time() - start):.1f} tokens/s", flush=True)


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    products()
    if chosen.model:
        answers(chosen.model)
