"""Every export proves itself: it is loaded again by the consumer's own loader, and moves the model as promised.

At export time the steered model in memory answers a few probes; what it promises is stored beside the export, together
with what the bare base says. `ws verify DIR` loads the folder again at any later time and compares. "Same as base" and
"not what was asked" are failures.
"""

import hashlib
import json
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from ws.behaviors import load_behavior
from ws.direction import Direction
from ws.errors import BadFile, ExportRefused, ProofFailed
from ws.export.gguf import FILE, read_adapter
from ws.export.target import read_ours
from ws.models.architecture import loaded_network
from ws.models.base import Base
from ws.models.chat import Chat, encode, render
from ws.models.locate import locate
from ws.progress import no_bars_in_files
from ws.records import versions, write_json
from ws.steer import steer
from ws.types import Json

PROOF = "proof.json"
PROBES = 4
SAMPLED = 512  # logits kept per probe
EXACT, HALF, MOST = 0.01, 0.25, 0.75
"""Largest error of the logit change, as a share of the change: in float32, where a model computes in half precision, ever."""
RESOLVED = 1e-5  # of the logits: a change below is lost in their own rounding


@dataclass(frozen=True)
class Deviation:
    """The distance of a reloaded export from its promise, relative to the size of the promised change."""

    folder: str
    """The part of the export that was loaded."""
    alpha: float
    error: float
    moved: float
    """Size of the measured change over the promised one."""
    limit: float
    verdict: str
    """ok, same as base, not what was asked, or changed since it was written"""


def promise(
    folder: Path,
    direction: Direction,
    base: Base,
    *,
    alphas: list[float],
    origin: Base | None = None,
    full: Direction | None = None,
    noise: float = 0.0,
) -> list[float]:
    """Store what the steered model says, for every strength of an export; what cutting the rank cost at each, in logits.

    `noise` is the size of what rounding did to the stored weights, as a share of the step.
    """
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
        expected = steered(direction, alpha)
        if not all(torch.isfinite(t).all() for t in (*expected, *bare)):
            raise ExportRefused(f"at alpha {alpha:g} the model's logits are not finite, so there is nothing to prove.")
        if alpha != 0 and _size(expected, bare) <= RESOLVED * float(torch.cat(bare).norm()):
            raise ExportRefused(
                f"at alpha {alpha:g} the logits change by less than their own precision, so nothing could be proven."
            )
        record: Json = {"alpha": alpha, "promised": [t.tolist() for t in expected]}
        if full is not None:  # what cutting the rank cost, in logits
            record["cut_error"] = _relative(expected, steered(full, alpha), bare)
        strengths.append(record)
    proof = {
        "prompts": prompts,
        "ids": rows,
        "at": at.tolist(),
        "base": [t.tolist() for t in bare],
        "strengths": strengths,
        "dtype": str(base.dtype).removeprefix("torch."),
        "noise": noise,
        "files": _hashes(folder),
        "versions": versions(),
    }
    write_json(folder / PROOF, proof)
    return [s.get("cut_error", 0.0) for s in strengths]


def write_deviations(folder: Path, verdicts: list[Deviation]) -> None:
    """Store how a fresh export verified: later it has to do as well."""
    proof = json.loads((folder / PROOF).read_text())
    for strength, v in zip(proof["strengths"], verdicts, strict=True):
        strength |= {"error": v.error, "moved": v.moved}
    write_json(folder / PROOF, proof)


def verify(folder: Path) -> list[Deviation]:
    """Load an export with its consumer's own loader and compare it with its promise."""
    folder = Path(folder).expanduser()
    ours = read_ours(folder)
    no_bars_in_files()
    if not (folder / PROOF).is_file() and (folder.parent / PROOF).is_file():
        raise BadFile(f"{folder} is one strength of an export; verify {folder.parent}.")
    try:
        proof = json.loads((folder / PROOF).read_text())
        if not proof["strengths"] or [s["alpha"] for s in proof["strengths"]] != ours["alphas"]:
            raise ValueError
        verdicts = [_verdict(folder, ours, proof, s) for s in proof["strengths"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError):
        raise BadFile(f"{folder} holds no sound {PROOF}; export it again.") from None
    if proof["files"] != (now := _hashes(folder)):
        odd = sorted(n for n in proof["files"] if proof["files"][n] != now.get(n))
        changed = f"changed since it was written ({odd[0]})" if odd else ""
        verdicts = [replace(v, verdict=changed) if changed and v.verdict == "ok" else v for v in verdicts]
    return verdicts


def _verdict(folder: Path, ours: Json, proof: Json, strength: Json) -> Deviation:
    alpha: float = strength["alpha"]
    several = len(proof["strengths"]) > 1
    place = folder / ours["folders"][ours["alphas"].index(alpha)] if several else folder
    try:
        network, stored = _loaded(place, ours["to"], getattr(torch, proof["dtype"]), ours["base"].get("quantize"))
    except (BadFile, OSError, ValueError, KeyError, RuntimeError, SafetensorError) as e:
        why = " ".join(str(e).split())[:200]
        raise ProofFailed(f"{place} cannot be loaded by the library it is for: {why}") from None
    at = torch.tensor(proof["at"])
    got = [logits_of(network, r)[at] for r in proof["ids"]]
    bare, expected = ([torch.tensor(t) for t in rows] for rows in (proof["base"], strength["promised"]))
    error, ratio = _relative(got, expected, bare), _size(got, bare) / max(_size(expected, bare), 1e-12)
    limit = min(MOST, EXACT + 2 * proof["noise"] + (0 if stored == 32 else HALF))
    if "error" in strength:  # it did this well when it was new
        limit = min(limit, EXACT + 2 * strength["error"])
    if alpha == 0:
        ok = _size(got, bare) <= 1e-3 * _size(bare, [torch.zeros_like(t) for t in bare])
        verdict = "ok" if ok else "not what was asked"
    else:
        verdict = "same as base" if ratio < 0.1 else "ok" if error <= limit else "not what was asked"
    return Deviation(str(place.relative_to(folder)), alpha, error, ratio, limit, verdict)


def _hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of an export, but for the card, which is for people to edit."""
    hashes = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name not in (PROOF, "README.md") and ".git" not in path.parts:
            with open(path, "rb") as f:
                hashes[str(path.relative_to(folder))] = hashlib.file_digest(f, "sha256").hexdigest()
    return hashes


def insist(verdicts: list[Deviation]) -> None:
    """Raise if an export is not what it should be."""
    if bad := [v for v in verdicts if v.verdict != "ok"]:
        failures = "; ".join(
            f"alpha {v.alpha:g}: {v.verdict} (error {v.error:.3f} of the change, moved {v.moved:.2f} of it)"
            for v in bad
        )
        raise ProofFailed(f"the export does not keep its promise. {failures}.")


def probes(base: Base) -> list[str]:
    """A few questions of the base's own world."""
    prompts = load_behavior("honesty", tiny=base.tiny).prompts
    step = max(1, len(prompts) // PROBES)
    return [p.text for p in prompts[::step][:PROBES]]


@torch.inference_mode()
def logits_of(network: nn.Module, ids: list[int]) -> Tensor:
    """The logits after the last token, in float32 on the CPU."""
    device = next(network.parameters()).device
    out = network(input_ids=torch.tensor([ids], device=device), use_cache=False, logits_to_keep=1)
    return out.logits[0, -1].float().cpu()


def _loaded(folder: Path, to: str, dtype: torch.dtype, quantize: str | None = None) -> tuple[nn.Module, int]:
    """(the network as its consumer loads it, the bits of the precision it is stored or computes in)."""
    if to == "merged":
        network = loaded_network(str(folder), dtype="auto")
        stored = next(network.parameters()).dtype
        return network.to(dtype).eval(), min(32, torch.finfo(stored).bits, torch.finfo(dtype).bits)
    if to == "mergekit":  # mergekit itself merges the adapter through peft and multiplies the difference by its weight
        return _by_recipe(folder, dtype)
    if to == "gguf-lora":
        return _by_gguf(folder, dtype)
    return _by_peft(folder, dtype, quantize)


def _by_recipe(folder: Path, dtype: torch.dtype) -> tuple[nn.Module, int]:
    import yaml
    from peft.tuners.lora import LoraLayer

    recipe = yaml.safe_load((folder / "mergekit.yml").read_text())
    adapter = folder / Path(recipe["models"][0]["model"].rsplit("+", 1)[1]).name  # the folder may have moved since
    if recipe["merge_method"] != "task_arithmetic" or recipe["parameters"]["normalize"] is not False:
        raise BadFile(f"{folder}/mergekit.yml is not the recipe that was written.")
    network, bits = _by_peft(adapter, dtype)
    for layer in network.modules():
        if isinstance(layer, LoraLayer):
            layer.scaling = {k: v * recipe["models"][0]["parameters"]["weight"] for k, v in layer.scaling.items()}
    return network, bits


def _by_gguf(folder: Path, dtype: torch.dtype) -> tuple[nn.Module, int]:
    """The base with what llama.cpp would add to each matrix, from the file and by its rules; llama.cpp itself is elsewhere."""
    ours = read_ours(folder)
    network = _base(ours["place"], ours["revision"], dtype)
    low_ranks = read_adapter(folder / FILE, network)
    for name, form in low_ranks.items():
        network.get_submodule(name).register_forward_hook(
            lambda _, args, y, form=form: (y.float() + form(args[0].float(), y, None)).to(y.dtype)
        )
    return network.eval(), min(32, torch.finfo(dtype).bits)


def _base(place: str, revision: str | None, dtype: torch.dtype, quantize: str | None = None) -> nn.Module:
    """A base in stock transformers, as it stands in an export."""
    source, _, at = locate(place, revision)
    return loaded_network(source, dtype=dtype, revision=at, quantize=quantize)


def _by_peft(folder: Path, dtype: torch.dtype, quantize: str | None = None) -> tuple[nn.Module, int]:
    from peft import PeftModel

    config = json.loads((folder / "adapter_config.json").read_text())
    network = _base(config["base_model_name_or_path"], config.get("revision"), dtype, quantize)
    with warnings.catch_warnings():
        # 2026-11: peft 0.21.2 reads what transformers 5.23 has renamed; nothing a user of ours can do about it
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
        return PeftModel.from_pretrained(network, str(folder)).eval(), min(32, torch.finfo(dtype).bits)


def _size(a: list[Tensor], b: list[Tensor]) -> float:
    """The length of the change of logits, each probe's mean taken off: softmax does not see it."""
    return float(torch.cat([(x - y) - (x - y).mean() for x, y in zip(a, b)]).norm())


def _relative(got: list[Tensor], expected: list[Tensor], bare: list[Tensor]) -> float:
    return _size(got, expected) / max(_size(expected, bare), 1e-12)
