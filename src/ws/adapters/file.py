"""Trained sides on disk: a folder that peft can load, with our provenance in a file of its own."""

import json
from dataclasses import asdict
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file

from ws.adapters.families import family
from ws.adapters.family import Adapter, Spec, peft_names, renamed
from ws.direction.file import write_tensors
from ws.direction.forms import all_finite
from ws.errors import BadFile
from ws.models.load import Base

WEIGHTS, CONFIG, OURS, START = "adapter_model.safetensors", "adapter_config.json", "ws.json", "start.safetensors"


def save_adapter(adapter: Adapter, folder: Path, base: Base) -> None:
    """Write one side: `adapter_model.safetensors`, `adapter_config.json`, `ws.json`, and PiSSA's start."""
    folder.mkdir(parents=True, exist_ok=True)
    names = {m: peft for m, peft in peft_names(base, adapter.spec.modules).items() if peft != m}
    flat = {f"base_model.model.{renamed(k, names)}": t for k, t in adapter.tensors.items()}
    write_tensors(flat, folder / WEIGHTS, {"format": "pt"})
    if adapter.frozen:
        write_tensors(adapter.frozen, folder / START, {"format": "pt"})
    of = family(adapter.spec.family)
    if of.peft_config is not None:
        config = of.peft_config(adapter.spec, base).to_dict()
        config.update(base_model_name_or_path=base.id, revision=base.revision, inference_mode=True)
        if of.start is not None:
            config["init_lora_weights"] = adapter.spec.family  # peft then takes the start off the base when it loads
        content = {k: sorted(v) if isinstance(v, set) else v for k, v in config.items()}
        (folder / CONFIG).write_text(json.dumps(content, indent=1, sort_keys=True, default=str) + "\n")
    ours = {"spec": asdict(adapter.spec), "base": dict(adapter.base), "provenance": dict(adapter.provenance)}
    ours |= {"peft_names": names} if names else {}
    (folder / OURS).write_text(json.dumps(ours, indent=1, sort_keys=True) + "\n")


def load_adapter(folder: Path | str) -> Adapter:
    """Read a side that `ws train` wrote."""
    folder = Path(folder)
    try:
        ours = json.loads((folder / OURS).read_text())
        spec = {**ours["spec"], "modules": tuple(ours["spec"]["modules"])}
        own = {peft: m for m, peft in ours.get("peft_names", {}).items()}
        tensors = {renamed(k.removeprefix("base_model.model."), own): t for k, t in load_file(folder / WEIGHTS).items()}
        frozen = load_file(folder / START) if (folder / START).is_file() else {}
        adapter = Adapter(Spec(**spec), tensors, frozen, ours["base"], ours["provenance"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as e:
        raise BadFile(f"{folder} is not an adapter folder of `ws train` ({str(e)[:120]}).") from None
    if bad := next((k for k, t in tensors.items() if not all_finite(t)), None):
        raise BadFile(f"{folder}: {bad} holds values that are not finite.")
    return adapter
