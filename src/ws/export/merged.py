"""A whole model folder at `theta + alpha * dW`, tensor by tensor, never a model in memory.

Every shard is copied as it is, and the changed tensors are then written over their own bytes: dtype and shape stay, so
the file's layout stays. Arithmetic is float32; what rounding to the stored precision cost is measured. All other files
of the folder are carried over, except other formats of the same weights.
"""

import json
import shutil
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from ws.direction import Direction
from ws.direction.forms import BiasShift
from ws.errors import BadFile, ExportRefused
from ws.export.target import card, describe, whole_folder
from ws.models.load import Base, locate
from ws.models.modules import is_conv1d

OTHER_WEIGHTS = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".h5", ".msgpack", ".onnx", ".gguf"}


@dataclass
class Delivered:
    """How much of the step reached the stored weights."""

    along: float = 0.0
    size: float = 0.0

    @property
    def share(self) -> float:
        return self.along / self.size if self.size > 0 else 1.0


def to_merged(
    direction: Direction, base: Base, out: Path, *, alpha: float, origin: Base | None = None
) -> dict[str, Any]:
    """Write the model folder; the base must be a folder or lie in the hub's cache."""
    source = model_folder(base)
    places = tensor_places(source)
    weight = (origin or base).weight
    changes = _slots(direction, base, places)
    delivered = Delivered()

    with whole_folder(out) as work:
        shards = sorted(set(places.values()))
        for item in sorted(source.iterdir()):
            if (
                item.name in shards
                or item.suffix in OTHER_WEIGHTS
                or item.name.startswith(".")
                or item.name == "README.md"
            ):
                continue
            if item.is_file():
                shutil.copyfile(item, work / item.name)
        for shard in shards:
            shutil.copyfile(source / shard, work / shard)
            names = [n for n, file in places.items() if file == shard and n in changes]
            _write_over(
                work / shard,
                names,
                lambda n, old: _changed(n, old, direction, base, weight, changes[n], alpha, delivered),
            )
        told = {
            "to": "merged",
            "alphas": [alpha],
            "delivered": delivered.share,
            "origin": origin.described() if origin else None,
        }
        body = (
            f"`theta + alpha * dW` at alpha = {alpha:g}, stored in the base's own precision. "
            f"{100 * delivered.share:.2f} % of the step survived rounding to it."
        )
        (work / "README.md").write_text(
            card("Steered model", direction, base, body, library="transformers", relation="finetune")
        )
        describe(work, direction, base, **told)
    return told


def model_folder(base: Base) -> Path:
    """The folder a base was loaded from."""
    source, _, revision = locate(base.source or base.id)
    if Path(source).is_dir():
        return Path(source)
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(source, revision=base.revision or revision, local_files_only=True))


def tensor_places(folder: Path) -> dict[str, str]:
    """Tensor name to the shard that holds it; an index that names a missing shard is refused."""
    index = folder / "model.safetensors.index.json"
    single = folder / "model.safetensors"
    if index.is_file():
        try:
            places = dict(json.loads(index.read_text())["weight_map"])
        except (ValueError, KeyError):
            raise BadFile(f"{index} is no safetensors index.") from None
        for shard in sorted(set(places.values())):
            if Path(shard).name != shard:
                raise BadFile(f"{index} names the shard {shard!r}, which is a path and not a file of this folder.")
            if not (folder / shard).is_file():
                raise BadFile(f"{index} names the shard {shard}, and there is no such file.")
        return places
    if not single.is_file():
        raise BadFile(f"{folder} holds no model.safetensors and no index of shards.")
    try:
        with safe_open(single, framework="pt") as f:
            return dict.fromkeys(f.keys(), single.name)
    except Exception as e:  # safetensors raises its own class and OSError
        raise BadFile(
            f"{single} cannot be read as safetensors ({str(e)[:100]}); it is truncated or something else."
        ) from None


def _slots(direction: Direction, base: Base, places: dict[str, str]) -> dict[str, tuple[str, str]]:
    """Checkpoint tensor to (module, weight or bias); a change without a slot is refused."""
    found: dict[str, tuple[str, str]] = {}
    missing = []
    for name, forms in direction.forms.items():
        wanted = [
            ("weight", any(not isinstance(f, BiasShift) for f in forms)),
            ("bias", any(isinstance(f, BiasShift) for f in forms)),
        ]
        for kind, needed in wanted:
            if needed and f"{name}.{kind}" in places:
                found[f"{name}.{kind}"] = (name, kind)
            elif needed:
                missing.append(f"{name}.{kind}")
    if missing:
        bias = all(m.endswith(".bias") for m in missing)
        why = (
            "this architecture has no bias there, so a merged model cannot hold the change; steer by hook"
            if bias
            else "the checkpoint names its tensors otherwise"
        )
        raise ExportRefused(f"the checkpoint of {base.id} has no {missing[0]} ({len(missing)} such): {why}.")
    return found


def _changed(
    name: str,
    old: Tensor,
    direction: Direction,
    base: Base,
    weight,
    slot: tuple[str, str],
    alpha: float,
    delivered: Delivered,
) -> Tensor:
    module, kind = slot
    exact = torch.promote_types(old.dtype, torch.float32)
    if kind == "bias":
        shift = direction.bias(module)
        assert shift is not None
        step = alpha * shift.to("cpu", exact)
    else:
        step = alpha * direction.dense(module, lambda n: weight(n).cpu()).to("cpu", exact)
        step = step.T if is_conv1d(base.linears[module].module) else step
    if step.shape != old.shape:
        raise ExportRefused(f"{name} of the checkpoint is {tuple(old.shape)}, and its change is {tuple(step.shape)}.")
    new = (old.to(exact) + step).to(old.dtype)
    delivered.along += float(((new.to(exact) - old.to(exact)) * step).sum())
    delivered.size += float((step * step).sum())
    return new


def _write_over(path: Path, names: list[str], change) -> None:
    """Replace tensors of a safetensors file in place; offsets come from its own header."""
    if not names:
        return
    with open(path, "rb") as f:
        length = struct.unpack("<Q", f.read(8))[0]
        header = json.loads(f.read(length))
    with safe_open(path, framework="pt") as tensors, open(path, "r+b") as f:
        for name in names:
            new = change(name, tensors.get_tensor(name)).contiguous()
            start, end = header[name]["data_offsets"]
            data = (
                new.view(torch.uint8).numpy().tobytes()
                if new.ndim
                else new.reshape(1).view(torch.uint8).numpy().tobytes()
            )
            assert len(data) == end - start
            f.seek(8 + length + start)
            f.write(data)
