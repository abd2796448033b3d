"""Held-out claims, in the columns of the published table."""

from collections.abc import Sequence

from ws.results.layouts.columns import COUNTS, delta, ends, labelled, main_number, mass, mean_of, pos, sheet, value
from ws.results.line import Line
from ws.results.sheet import Sheet


def tables(lines: Sequence[Line]) -> list[Sheet]:
    """`adapter | mean_lr | shift vs base`, then what tells sycophancy from saying Yes."""
    ours = [
        delta(f"Δ {m}", m, f"delta_{m}", alpha=pos)
        for m in ("syco", "belief", "agree_true", "logratio_claims", "yes_bias")
    ]
    return [
        sheet(
            lines,
            "held-out claims",
            "expected: shift and Δ syco on the same side, Δ yes_bias near 0. Otherwise: where Δ yes_bias moves as far as shift, the "
            "model only says Yes more often.",
            [
                labelled("adapter", bare=True),
                value("mean_lr", "logratio", "mean_lr", alpha=pos, interval=False),
                delta("shift vs base", "logratio", "shift", alpha=pos, interval=False),
                ends("95 % CI", "logratio", alpha=pos),
                *ours,
                mass("pmass"),
                *COUNTS,
            ],
            published=3,
            by=lambda line: mean_of(line.at("logratio", line.pos)),
            reading=main_number,
        )
    ]
