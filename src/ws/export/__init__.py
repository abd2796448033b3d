"""Directions carried to other tools: a peft adapter, a merged model, an adapter for llama.cpp, a mergekit recipe.

Every export ends by proving itself (`ws.export.verify`).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ws.direction import Direction
from ws.direction.algebra import compressed
from ws.errors import ExportRefused
from ws.export.merged import to_merged
from ws.export.mergekit import to_mergekit
from ws.export.peft import to_peft
from ws.export.verify import Verdict, insist, promise, verify
from ws.models.load import Base

TARGETS = ("peft", "merged", "gguf-lora", "mergekit")


def export(
    direction: Direction,
    base: Base,
    out: Path,
    *,
    to: str,
    alphas: Sequence[float],
    rank: int | None = None,
    origin: Base | None = None,
) -> tuple[dict[str, Any], list[Verdict]]:
    """Write an export and prove it; what was written, and how it verified. A failed proof removes nothing and raises."""
    if to not in TARGETS:
        raise ValueError(f"--to is one of {', '.join(TARGETS)}; got {to!r}")
    if not alphas:
        raise ValueError("an export needs a strength: --alpha 1")
    if to == "merged":
        if len(alphas) != 1:
            raise ExportRefused("a merged model holds one strength; give one --alpha.")
        if rank is not None:
            raise ExportRefused("a merged model holds the whole direction; leave out --rank.")
        told = to_merged(direction, base, out, alpha=alphas[0], origin=origin)
    elif origin is not None and direction.reads_base and rank is None:
        raise ExportRefused("on a fine-tune, scales and rotations are exported with --to merged.")
    elif to == "mergekit":
        if len(alphas) != 1:
            raise ExportRefused("a mergekit recipe holds one strength; give one --alpha.")
        told = to_mergekit(direction, base, out, alpha=alphas[0], rank=rank)
    else:
        told = to_peft(direction, origin or base, out, alphas=alphas, rank=rank, gguf=to == "gguf-lora")
    used = compressed(direction, rank=rank, weight=(origin or base).weight)[0] if rank is not None else direction
    promise(out, used, base, alphas=list(alphas), origin=origin, full=direction if rank is not None else None)
    verdicts = verify(out)
    insist(verdicts)
    return told, verdicts
