"""Directions carried to other tools: a peft adapter, a merged model, an adapter for llama.cpp, a mergekit recipe.

Every export ends by proving itself (`ws.export.verify`).
"""

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from ws.direction import Direction
from ws.direction.algebra import compressed
from ws.errors import ExportRefused
from ws.export.estimate import Difference, difference
from ws.export.gguf import to_gguf
from ws.export.merged import to_merged
from ws.export.mergekit import to_mergekit
from ws.export.peft import to_peft
from ws.export.target import refuse_taken, whole_folder
from ws.export.verify import Deviation, insist, probes, promise, verify, write_deviations
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
    """Write an export and prove it; what was written, and how it verified. What cannot be proven is not kept, and raises.

    `origin` is the base the direction was made on, where `base` is a fine-tune of it; for a direction that was made on a
    quantised `base` it is the whole model, and the export is of that, with an estimate of what differs.
    """
    check_request(out, to=to, alphas=alphas, rank=rank)
    estimate = None
    if origin is not None and _whole_of(base, origin, direction):
        refuse_mismatch(origin, direction, base)
        estimate = difference(base, origin, direction.forms, probes(origin))
        direction, base, origin = _on_whole(direction, origin, estimate), origin, None
    if to != "merged" and origin is not None and direction.reads_base and rank is None:
        raise ExportRefused("on a fine-tune, scales and rotations are exported with `to=merged`.")
    refuse_mismatch(base, direction, origin)
    if to != "peft" and any(is_packed(base.layers[name].module) for name in direction.forms):
        raise ExportRefused(
            f"{base.id} is quantised, and a {to} export needs the weights themselves; use `to=peft`, or name the model it was made from "
            "with `origin`, and it is exported on that."
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
    if estimate is not None:
        record["estimate"] = asdict(estimate)
    return record, verdicts


def _whole_of(base: Base, origin: Base, direction: Direction) -> bool:
    """Whether a direction was made on this quantised base, and `origin` names the whole one."""
    packed = [n for n in direction.forms if n in base.linears and is_packed(base.linears[n].module)]
    return bool(packed) and base.fits(direction.fingerprint) and origin.fingerprint != base.fingerprint


def _on_whole(direction: Direction, whole: Base, estimate: Difference) -> Direction:
    """The same change of the whole base, which says what it was learnt on and how far that lies away."""
    learnt = {**(direction.provenance.get("base") or {}), "difference": asdict(estimate)}
    return Direction(
        direction.forms, {**direction.provenance, "base": whole.described(), "learnt_on": learnt}, direction.card
    )
