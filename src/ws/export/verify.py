"""Every export proves itself: it is loaded again by the consumer's own loader, and moves the model as promised.

At export time the steered model in memory answers a few probes; what it promises is stored beside the export, together
with what the bare base says. `ws verify DIR` loads the folder again at any later time and compares. "Same as base" and
"not what was asked" are failures.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ws.behaviors import load_behavior
from ws.direction import Direction
from ws.errors import BadFile, ProofFailed
from ws.export.target import read_ours
from ws.models.chat import Chat, encode, render
from ws.models.load import Base, locate
from ws.records import versions, write_json
from ws.steer import steer

PROOF = "proof.json"
PROBES = 4
SAMPLED = 512  # logits kept per probe
EXACT, ROUNDED = 0.01, 0.75
"""Largest error of the logit change, as a share of the change: in float32, and where weights were rounded."""


@dataclass(frozen=True)
class Verdict:
    """How far a reloaded export is from what was promised, relative to the size of the promised change."""

    folder: str
    """The part of the export that was loaded."""
    alpha: float
    error: float
    moved: float
    """Size of the measured change over the promised one."""
    limit: float
    verdict: str
    """ok, same as base, or not what was asked"""


def promise(
    folder: Path,
    direction: Direction,
    base: Base,
    *,
    alphas: list[float],
    origin: Base | None = None,
    full: Direction | None = None,
) -> None:
    """Store what the steered model says, for every strength of an export."""
    prompts = probes(base)
    rows = [encode(base.tokenizer, render(base.tokenizer, Chat(p))) for p in prompts]
    vocabulary = int(logits_of(base.model, rows[0]).shape[-1])
    at = torch.arange(min(SAMPLED, vocabulary)) * vocabulary // min(SAMPLED, vocabulary)
    bare = [logits_of(base.model, r)[at] for r in rows]

    def steered(d: Direction, alpha: float) -> list[Tensor]:
        with steer(base, d, alpha, origin=origin):
            return [logits_of(base.model, r)[at] for r in rows]

    strengths = []
    for alpha in alphas:
        wanted = steered(direction, alpha)
        told: dict[str, Any] = {"alpha": alpha, "promised": [t.tolist() for t in wanted]}
        if full is not None:  # what cutting the rank cost, in logits
            told["cut_error"] = _relative(wanted, steered(full, alpha), bare)
        strengths.append(told)
    proof = {
        "prompts": prompts,
        "ids": rows,
        "at": at.tolist(),
        "base": [t.tolist() for t in bare],
        "strengths": strengths,
        "dtype": str(base.dtype).removeprefix("torch."),
        "versions": versions(),
    }
    write_json(folder / PROOF, proof)


def verify(folder: Path) -> list[Verdict]:
    """Load an export with its consumer's own loader and compare it with its promise."""
    ours = read_ours(folder)
    try:
        proof = json.loads((folder / PROOF).read_text())
    except (OSError, ValueError):
        raise BadFile(f"{folder} holds no readable {PROOF}; export it again.") from None
    verdicts = []
    for strength in proof["strengths"]:
        alpha = strength["alpha"]
        place = folder
        if len(proof["strengths"]) > 1:
            place = folder / ours["folders"][[s["alpha"] for s in proof["strengths"]].index(alpha)]
        network, rounded = _loaded(place, ours["to"], getattr(torch, proof["dtype"]))
        at = torch.tensor(proof["at"])
        got = [logits_of(network, r)[at] for r in proof["ids"]]
        bare, wanted = ([torch.tensor(t) for t in rows] for rows in (proof["base"], strength["promised"]))
        error = _relative(got, wanted, bare)
        moved = _size(got, bare) / max(_size(wanted, bare), 1e-12)
        limit = ROUNDED if rounded else EXACT
        if alpha == 0:
            verdict = (
                "ok"
                if _size(got, bare) <= 1e-3 * _size(bare, [torch.zeros_like(t) for t in bare])
                else "not what was asked"
            )
        else:
            verdict = "same as base" if moved < 0.1 else "ok" if error <= limit else "not what was asked"
        verdicts.append(Verdict(str(place.relative_to(folder)), alpha, error, moved, limit, verdict))
    return verdicts


def insist(verdicts: list[Verdict]) -> None:
    """Raise if an export is not what it should be."""
    if bad := [v for v in verdicts if v.verdict != "ok"]:
        told = "; ".join(
            f"alpha {v.alpha:g}: {v.verdict} (error {v.error:.3f} of the change, moved {v.moved:.2f} of it)"
            for v in bad
        )
        raise ProofFailed(f"the export does not keep its promise. {told}.")


def probes(base: Base) -> list[str]:
    """A few questions of the base's own world."""
    found = load_behavior("honesty", tiny=base.tiny).prompts
    step = max(1, len(found) // PROBES)
    return [p.text for p in found[::step][:PROBES]]


@torch.inference_mode()
def logits_of(network: nn.Module, ids: list[int]) -> Tensor:
    """The logits after the last token, in float32 on the CPU."""
    device = next(network.parameters()).device
    out = network(input_ids=torch.tensor([ids], device=device), use_cache=False, logits_to_keep=1)
    return out.logits[0, -1].float().cpu()


def _loaded(folder: Path, to: str, dtype: torch.dtype) -> tuple[nn.Module, bool]:
    """(the network as its consumer loads it, whether its weights were rounded below float32)."""
    import transformers

    if to == "merged":
        network = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype="auto", use_safetensors=True)
        stored = next(network.parameters()).dtype
        return network.to(dtype).eval(), min(torch.finfo(stored).bits, torch.finfo(dtype).bits) < 32
    if to == "mergekit":  # mergekit itself merges the adapter through peft and multiplies the difference by its weight
        return _by_recipe(folder, dtype)
    return _by_peft(folder, dtype)


def _by_recipe(folder: Path, dtype: torch.dtype) -> tuple[nn.Module, bool]:
    import yaml
    from peft.tuners.lora import LoraLayer

    told = yaml.safe_load((folder / "mergekit.yml").read_text())
    adapter = folder / Path(told["models"][0]["model"].rsplit("+", 1)[1]).name  # the folder may have moved since
    if told["merge_method"] != "task_arithmetic" or told["parameters"]["normalize"] is not False:
        raise BadFile(f"{folder}/mergekit.yml is not the recipe that was written.")
    network, rounded = _by_peft(adapter, dtype)
    for layer in network.modules():
        if isinstance(layer, LoraLayer):
            layer.scaling = {k: v * told["models"][0]["parameters"]["weight"] for k, v in layer.scaling.items()}
    return network, rounded


def _by_peft(folder: Path, dtype: torch.dtype) -> tuple[nn.Module, bool]:
    import transformers
    from peft import PeftModel

    config = json.loads((folder / "adapter_config.json").read_text())

    source, _, revision = locate(config["base_model_name_or_path"], config.get("revision"))
    network = transformers.AutoModelForCausalLM.from_pretrained(
        source, revision=revision, dtype=dtype, use_safetensors=True
    )
    return PeftModel.from_pretrained(network, str(folder)).eval(), torch.finfo(dtype).bits < 32


def _size(a: list[Tensor], b: list[Tensor]) -> float:
    """The length of the change of logits, each probe's mean taken off: softmax does not see it."""
    return float(torch.cat([(x - y) - (x - y).mean() for x, y in zip(a, b)]).norm())


def _relative(got: list[Tensor], wanted: list[Tensor], bare: list[Tensor]) -> float:
    return _size(got, wanted) / max(_size(wanted, bare), 1e-12)
