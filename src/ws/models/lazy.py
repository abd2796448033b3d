"""A base whose weights stay on disk until somebody asks for one: enough to line a direction up, not enough to run.

    base = ws.models.lazy.outline("Qwen/Qwen3-0.6B")
    base.fingerprint, base.linears, base.weight("model.layers.0.mlp.up_proj")

The network is built without storage, from the config; names, shapes and the fingerprint are those of `ws.load`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ws.models.load import Base, load, locate
from ws.models.modules import fingerprint_of, is_conv1d


@dataclass(frozen=True, eq=False)
class Outline(Base):
    """A base that reads each weight from its checkpoint. Its network has no storage and cannot run."""

    places: Mapping[str, Path] = field(default_factory=dict, repr=False)
    """Parameter name to the file that holds it."""

    @property
    def device(self) -> torch.device:
        """Where its weights come to when they are read."""
        return torch.device("cpu")

    def weight(self, name: str) -> Tensor:
        """The matrix (out, in) of one linear layer, read now."""
        stored = _read(self.places, f"{name}.weight")
        return stored.T if is_conv1d(self.linears[name].module) else stored

    def bias(self, name: str) -> Tensor | None:
        """The bias of one linear layer, read now, where it has one."""
        return _read(self.places, f"{name}.bias") if f"{name}.bias" in self.places else None


def outline(model: str | Path, *, revision: str | None = None) -> Base:
    """What `ws.load` gives, but for the network's storage and the tokenizer; nothing is downloaded for it.

    A checkpoint that is not in the cache, or names its tensors otherwise than the network does, is loaded whole.
    """
    source, name, revision = locate(model, revision)
    try:
        folder = _folder(source, revision)
        network = _without_storage(folder)
        places = _places(folder)
        wanted, stored = {n: tuple(p.shape) for n, p in network.named_parameters()}, _shapes(places)
        if any(stored.get(n) != shape for n, shape in wanted.items()):
            raise ValueError("tensors have other names or shapes")
        own = getattr(network.config, "dtype", None)  # what `load` would hold it in
        mark = fingerprint_of((n, _read(places, n).to(own)) for n in sorted(wanted))
    except (OSError, ValueError, KeyError, SafetensorError):
        return load(model, revision=revision, device="cpu")
    commit = None if Path(source).is_dir() else folder.name
    return Outline(network, None, mark, name, commit or revision, str(model), {n: places[n] for n in wanted})


def _folder(source: str, revision: str | None) -> Path:
    if Path(source).is_dir():
        return Path(source)
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(source, revision=revision, local_files_only=True))


def _without_storage(folder: Path):
    import transformers

    config = transformers.AutoConfig.from_pretrained(folder)
    if getattr(config, "quantization_config", None):
        raise ValueError("quantised")  # `load` says it properly
    with torch.device("meta"):
        network = transformers.AutoModelForCausalLM.from_config(config)
    return network.eval().requires_grad_(False)


def _places(folder: Path) -> dict[str, Path]:
    index, single = folder / "model.safetensors.index.json", folder / "model.safetensors"
    if index.is_file():
        return {n: folder / Path(file).name for n, file in json.loads(index.read_text())["weight_map"].items()}
    with safe_open(single, framework="pt") as f:
        return dict.fromkeys(f.keys(), single)


def _shapes(places: Mapping[str, Path]) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    for file in set(places.values()):
        with safe_open(file, framework="pt") as f:
            found |= {n: tuple(f.get_slice(n).get_shape()) for n in f.keys()}
    return found


def _read(places: Mapping[str, Path], name: str) -> Tensor:
    """One tensor; the file is mapped anew each time, so that the pages of the last one are let go."""
    with safe_open(places[name], framework="pt") as f:
        return f.get_tensor(name)
