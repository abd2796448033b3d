"""Directions carried to other tools: a peft adapter, a merged model, an adapter for llama.cpp, a mergekit recipe.

Every export ends by proving itself (`ws.export.verify`).
"""

import math
from collections.abc import Sequence
from pathlib import Path

from ws.direction import Direction
from ws.direction.algebra import compressed
from ws.errors import ExportRefused
from ws.export.gguf import to_gguf
from ws.export.merged import to_merged
from ws.export.mergekit import to_mergekit
from ws.export.peft import to_peft
from ws.export.target import refuse_taken, whole_folder
from ws.export.verify import Deviation, insist, promise, verify, write_deviations
from ws.models.load import Base
from ws.models.modules import is_packed
from ws.settings import at_least
from ws.steer import checked_strengths, refuse_mismatch
from ws.types import Json

TARGETS = ("peft", "merged", "gguf-lora", "mergekit")


def check_request(out: Path, *, to: str, alphas: Sequence[float], rank: int | None) -> None:
    """Refuse an export that cannot be, before a model is loaded."""
    if to not in TARGETS:
        raise ValueError(
            f"`to` is one of {', '.join(TARGETS)}; got {to!r}. vLLM and SGLang read peft, llama.cpp reads gguf-lora."
        )
    if not alphas:
        raise ValueError("an export needs a strength: `alpha=1`")
    if to in ("merged", "mergekit") and len(alphas) != 1:
        raise ExportRefused(f"a {to} export holds one strength; give one `alpha`.")
    if to == "merged" and rank is not None:
        raise ExportRefused("a merged model holds the whole direction; leave out `rank`.")
    if len(set(alphas)) != len(alphas) or not all(map(math.isfinite, alphas)):
        raise ValueError(f"strengths are finite and different from each other; got {', '.join(map(str, alphas))}")
    if rank is not None:
        at_least(1).check("rank", rank)
    checked_strengths(alphas)
    if not any(alphas):
        raise ValueError("at `alpha` 0 a direction does nothing, so there is nothing to export; give another strength")
    refuse_taken(out)


def export(
    direction: Direction,
    base: Base,
    out: Path,
    *,
    to: str,
    alphas: Sequence[float],
    rank: int | None = None,
    origin: Base | None = None,
) -> tuple[Json, list[Deviation]]:
    """Write an export and prove it; what was written, and how it verified. What cannot be proven is not kept, and raises."""
    check_request(out, to=to, alphas=alphas, rank=rank)
    if to != "merged" and origin is not None and direction.reads_base and rank is None:
        raise ExportRefused("on a fine-tune, scales and rotations are exported with `to=merged`.")
    refuse_mismatch(base, direction, origin)
    if to != "peft" and any(is_packed(base.layers[name].module) for name in direction.forms):
        raise ExportRefused(
            f"{base.id} is quantised, and a {to} export needs the weights themselves; use `to=peft`, or export on the model it was made from."
        )
    used, share = direction, 1.0
    if rank is not None:
        used, share = compressed(direction, rank=rank, weight=(origin or base).weight)
    with whole_folder(out) as work:
        if to == "merged":
            record = to_merged(used, base, work, alpha=alphas[0], origin=origin)
        elif to == "mergekit":
            record = to_mergekit(used, base, work, final=out, alpha=alphas[0], share=share)
        elif to == "gguf-lora":
            record = to_gguf(used, base, work, alphas=alphas, share=share)
        else:
            record = to_peft(used, base, work, alphas=alphas, share=share)
        full = direction if rank is not None else None
        cut = promise(work, used, base, alphas=list(alphas), origin=origin, full=full, noise=record.get("noise", 0.0))
        if full is not None:
            record["cut_error"] = max(cut)
        verdicts = verify(work)
        insist(verdicts)
        write_deviations(work, verdicts)
    return record, verdicts
