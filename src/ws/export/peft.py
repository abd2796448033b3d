"""A folder that stock peft and stock vLLM load as a plain LoRA; with experts that lie in one tensor, peft alone.

The two sides' factors stand side by side at rank 2r: `b = s [B+ | -B-]`, `a = [A+ ; A-]`, so the adapter *is* the
direction. The strength is in the config: `lora_alpha = alpha * r`. Several strengths share one file of weights.

The config is written from scratch: `alpha_pattern` or `init_lora_weights` of a training config would change the result.
"""

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from torch import Tensor

from ws.adapters.family import peft_names
from ws.direction import Direction
from ws.direction.file import write_tensors
from ws.direction.forms import LowRank, Stacked
from ws.errors import ExportRefused
from ws.export.target import card, describe, factors_of_all, of_one_rank, place_of
from ws.export.usage import VLLM_RANKS, with_peft, with_vllm_adapter, without_vllm
from ws.models.load import Base
from ws.models.modules import is_conv1d
from ws.types import Json, Network

WEIGHTS = "adapter_model.safetensors"


NOT_OUT_OF_MAMBA = ("falcon_h1", "mamba", "mamba2", "falcon_mamba", "nemotron_h")
"""Types of models on which stock peft refuses an adapter on `out_proj`."""


def refuse_moved(names: Iterable[str], base: Base) -> None:
    """Refuse modules that stock peft refuses, or would put an adapter elsewhere for: on the routed experts, say."""
    from peft import LoraConfig
    from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers

    network: Network = base.model
    kind = str(network.config.model_type)
    if kind in NOT_OUT_OF_MAMBA and any(n.endswith(".out_proj") for n in names):
        raise ExportRefused(f"stock peft takes no adapter on `out_proj` of a {kind} model; use `to=merged`.")
    stock = LoraConfig(target_modules=list(names))
    try:
        convert_peft_config_for_transformers(stock, model=network, conversions=None)
        moved = sorted(set(names) - set(stock.target_modules or ()))
    except ValueError:  # it would move some, and lacks others for that
        moved = sorted(n for n in names if n.endswith("_proj"))
    if moved:
        last = moved[0].rsplit(".", 1)[-1]
        raise ExportRefused(
            f"stock peft takes `{last}` of a {kind} model for that of the routed experts, and would put the change there; use "
            "`to=merged`."
        )


def to_peft(direction: Direction, base: Base, work: Path, *, alphas: Sequence[float], share: float = 1.0) -> Json:
    """Fill the adapter folder; with several alphas, one folder each, all with the same weights file."""
    low_ranks = factors_of_all(direction, "peft")
    refuse_moved([m for m, f in low_ranks.items() if isinstance(f, LowRank)], base)
    experts = any(isinstance(f, Stacked) for f in low_ranks.values())
    r, low_ranks = of_one_rank(low_ranks)
    if r > max(VLLM_RANKS) and not experts:
        raise ExportRefused(f"rank {r} is more than vLLM takes ({max(VLLM_RANKS)}); cut it with `rank`.")

    record = {"to": "peft", "alphas": list(alphas), "rank": r, "kept_energy": share}
    for at, alpha in enumerate(alphas):
        folder = work if len(alphas) == 1 else work / strength_folder(alpha)
        folder.mkdir(exist_ok=True)
        if at == 0:
            first = folder / WEIGHTS
            write_tensors(tensors_of(low_ranks, peft_names(base, list(low_ranks))), first, {"format": "pt"})
        else:
            os.link(first, folder / WEIGHTS)
        strength = alpha * r
        (folder / "adapter_config.json").write_text(
            json.dumps(config_on(base, low_ranks, r, strength), indent=1, sort_keys=True) + "\n"
        )
        body = f"A weight-steering direction as a plain LoRA of rank {r}, at strength alpha = {alpha:g}. `lora_alpha = {strength:g}`."
        vllm = without_vllm() if experts else with_vllm_adapter(base, r)
        body += "".join(f"\n\n{way}" for way in (with_peft(base), vllm))
        if share < 1 - 1e-9:
            body += f"\n\nCut to rank {r}: it keeps {100 * share:.1f} % of the direction's energy."
        text = card("Weight-steering adapter", direction, base, body, library="peft", relation="adapter")
        (folder / "README.md").write_text(text)
        describe(folder, direction, base, **{**record, "alphas": [alpha]})
    if len(alphas) > 1:
        describe(work, direction, base, **record, folders=[strength_folder(a) for a in alphas])
    return record


def tensors_of(low_ranks: Mapping[str, LowRank | Stacked], names: Mapping[str, str] | None = None) -> dict[str, Tensor]:
    """The adapter's tensors by peft's names; `names` are those of modules that peft calls otherwise.

    Of experts, A holds the factors of one after another, and B those of all in turns.
    """
    tensors = {}
    for name, f in low_ranks.items():
        key, b, a = f"base_model.model.{(names or {}).get(name, name)}", f.b, f.a
        if isinstance(f, Stacked):
            b, a = b.permute(1, 2, 0).flatten(1), a.flatten(0, 1)
        tensors[f"{key}.lora_A.weight"] = a.contiguous().float()
        tensors[f"{key}.lora_B.weight"] = b.contiguous().float()
    return tensors


def config_on(base: Base, names: Iterable[str], rank: int, lora_alpha: float) -> Json:
    """The content of `adapter_config.json` for a loaded base."""
    place, revision = place_of(base)
    modules = [m for m in names if m in base.linears]
    turned = any(is_conv1d(base.linears[m].module) for m in modules)
    own = config(modules, rank, lora_alpha, place=place, revision=revision, fan_in_fan_out=turned)
    experts = sorted(set(names) - set(modules))
    return {**own, "target_parameters": experts} if experts else own


def config(
    names: Iterable[str],
    rank: int,
    lora_alpha: float,
    *,
    place: str,
    revision: str | None = None,
    fan_in_fan_out: bool = False,
) -> Json:
    """The content of `adapter_config.json`: every setting that matters, named in full."""
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": place,
        "revision": revision,
        "r": rank,
        "lora_alpha": lora_alpha,
        "target_modules": sorted(names),  # full paths: suffixes would select layers the direction does not touch
        "fan_in_fan_out": fan_in_fan_out,
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
