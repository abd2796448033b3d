"""A folder that stock peft and stock vLLM load as a plain LoRA, and that llama.cpp's converter accepts.

The two sides' factors stand side by side at rank 2r: `b = s [B+ | -B-]`, `a = [A+ ; A-]`, so the adapter *is* the
direction. For peft and vLLM the strength is in the config: `lora_alpha = alpha * r`. Several strengths share one file of
weights. For llama.cpp alpha is multiplied into `b` and `lora_alpha = r`, because its runtime reads a zero `lora_alpha`
as full strength; there the strength is the scale of a request.

The config is written from scratch: `alpha_pattern` or `init_lora_weights` of a training config would change the result.
"""

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ws.direction import Direction
from ws.direction.file import write_tensors
from ws.direction.forms import LowRank
from ws.errors import ExportRefused
from ws.export.target import card, describe, factors
from ws.export.usage import VLLM_RANKS, with_llama_cpp_adapter, with_peft, with_vllm_adapter
from ws.models.load import Base
from ws.models.modules import is_conv1d
from ws.types import Json

WEIGHTS = "adapter_model.safetensors"


def to_peft(
    direction: Direction, base: Base, work: Path, *, alphas: Sequence[float], share: float = 1.0, gguf: bool = False
) -> Json:
    """Fill the adapter folder; with several alphas, one folder each, all with the same weights file."""
    target = "gguf-lora" if gguf else "peft"
    if gguf and any(a == 0 for a in alphas):
        raise ExportRefused(
            "llama.cpp runs an adapter of strength 0 at full strength; leave alpha 0 out, it is the base."
        )
    if gguf and len(alphas) != 1:
        raise ExportRefused("gguf-lora holds one strength, and requests scale it; give one `alpha`.")
    low_ranks = factors(direction, target)
    check_modules(low_ranks, base, target)
    r = max(f.a.shape[0] for f in low_ranks.values())
    if r > max(VLLM_RANKS):
        raise ExportRefused(f"rank {r} is more than vLLM takes ({max(VLLM_RANKS)}); cut it with `rank`.")

    tensors = tensors_of(low_ranks, r, alphas[0] if gguf else 1.0)
    record = {"to": target, "alphas": list(alphas), "rank": r, "kept_energy": share}
    for at, alpha in enumerate(alphas):
        folder = work if len(alphas) == 1 else work / strength_folder(alpha)
        folder.mkdir(exist_ok=True)
        if at == 0:
            first = folder / WEIGHTS
            write_tensors(tensors, first, {"format": "pt"})
        else:
            os.link(first, folder / WEIGHTS)
        strength = r if gguf else alpha * r
        (folder / "adapter_config.json").write_text(
            json.dumps(config(low_ranks, base, r, strength), indent=1, sort_keys=True) + "\n"
        )
        body = f"A weight-steering direction as a plain LoRA of rank {r}, at strength alpha = {alpha:g}. `lora_alpha = {strength:g}`."
        ways = [with_llama_cpp_adapter(base)] if gguf else [with_peft(base), with_vllm_adapter(base, r)]
        body += "".join(f"\n\n{way}" for way in ways)
        if share < 1 - 1e-9:
            body += f"\n\nCut to rank {r}: it keeps {100 * share:.1f} % of the direction's energy."
        text = card("Weight-steering adapter", direction, base, body, library="peft", relation="adapter")
        (folder / "README.md").write_text(text)
        describe(folder, direction, base, **{**record, "alphas": [alpha]})
    if len(alphas) > 1:
        describe(work, direction, base, **record, folders=[strength_folder(a) for a in alphas])
    return record


def tensors_of(low_ranks: dict[str, LowRank], rank: int, scale: float = 1.0) -> dict[str, Tensor]:
    """The adapter's tensors, all of one rank: a rank_pattern is not read everywhere."""
    tensors = {}
    for name, f in low_ranks.items():
        pad = rank - f.a.shape[0]
        key = f"base_model.model.{name}"
        tensors[f"{key}.lora_A.weight"] = torch.nn.functional.pad(f.a, (0, 0, 0, pad)).contiguous().float()
        tensors[f"{key}.lora_B.weight"] = torch.nn.functional.pad(f.b * scale, (0, pad)).contiguous().float()
    return tensors


def config(low_ranks: dict[str, LowRank], base: Base, rank: int, lora_alpha: float) -> Json:
    """The content of `adapter_config.json`: every setting that matters, named in full."""
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": str(Path(base.source).resolve()) if Path(base.source).is_dir() else base.id,
        "revision": base.revision,
        "r": rank,
        "lora_alpha": lora_alpha,
        "target_modules": sorted(low_ranks),  # full paths: suffixes would select layers the direction does not touch
        "fan_in_fan_out": any(is_conv1d(base.linears[m].module) for m in low_ranks),
        "inference_mode": True,
        "lora_dropout": 0.0,
        "bias": "none",
        "init_lora_weights": True,
        "use_rslora": False,
        "use_dora": False,
        "rank_pattern": {},
        "alpha_pattern": {},
        "modules_to_save": None,
    }


def strength_folder(alpha: float) -> str:
    """The folder of one strength: `alpha_+0.5`."""
    assert math.isfinite(alpha)
    return f"alpha_{float(alpha):+}".removesuffix(".0")


def check_modules(low_ranks: dict[str, LowRank], base: Base, target: str) -> None:
    """Refuse modules that the model or the target does not have."""
    if missing := sorted(set(low_ranks) - set(base.linears)):
        raise ExportRefused(f"{len(missing)} modules of the direction are not in this model, e.g. {missing[:3]}.")
    if target == "gguf-lora" and (old := [m for m in low_ranks if is_conv1d(base.linears[m].module)]):
        raise ExportRefused(f"llama.cpp's converter does not take Conv1D layers such as {old[0]}; use `to=merged`.")
