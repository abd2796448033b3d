"""A whole model folder at `theta + alpha * dW`, tensor by tensor, never a model in memory.

Every shard is written once, front to back: its header and the untouched tensors are copied as bytes, a changed tensor is
computed and written in its place, some rows at a time. dtype and shape stay, so the file's layout stays. Arithmetic is
float32; what rounding to the stored precision cost is measured. All other files of the folder are carried over, except
other formats of the same weights.
"""

import json
import math
import shutil
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial, reduce
from pathlib import Path
from typing import BinaryIO

import torch
from safetensors import safe_open
from torch import Tensor

from ws.direction import Direction
from ws.direction.forms import BiasShift, Factors
from ws.errors import ExportRefused
from ws.export.target import card, describe
from ws.export.usage import with_llama_cpp, with_transformers, with_vllm
from ws.models.checkpoint import INDEX, SINGLE, Checkpoint, Theta, checkpoint_of
from ws.models.layout import Place
from ws.models.modules import Stack, is_turned
from ws.types import Json

VALUES_AT_ONCE = 1 << 18  # what fits a processor's cache
BYTES_AT_ONCE = 1 << 22
WHOLE = ("F64", "F32", "F16", "BF16")
"""What a checkpoint calls the precisions that a sum is rounded to."""
OTHER_WEIGHTS = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".h5", ".msgpack", ".onnx", ".gguf"}


@dataclass
class Delivered:
    """The share of the step that reached the stored weights."""

    along: float = 0.0
    size: float = 0.0
    arrived: float = 0.0

    @property
    def share(self) -> float:
        return self.along / self.size if self.size > 0 else 1.0

    @property
    def noise(self) -> float:
        """The size of what rounding changed, as a share of the step."""
        return math.sqrt(max(0.0, self.arrived - 2 * self.along + self.size) / self.size) if self.size > 0 else 0.0


def to_merged(direction: Direction, base: Theta, work: Path, *, alpha: float, origin: Theta | None = None) -> Json:
    """Fill the model folder; the base must be a folder or lie in the hub's cache."""
    theta = checkpoint_of(base)
    source, places = theta.folder, theta.places
    weight = checkpoint_of(origin or base).weight  # as stored, whatever precision the base works in
    changes = _slots(direction, theta)
    delivered = Delivered()

    shards = sorted(set(places.values()))
    for item in sorted(source.iterdir()):
        if item.is_file() and _carried(item.name, index=shards != [SINGLE]):
            shutil.copyfile(item, work / item.name)
    for shard in shards:
        steps = {
            n: partial(_step, direction, base, weight, changes[n], alpha)
            for n, file in places.items()
            if file == shard and n in changes
        }
        _write_shard(source / shard, work / shard, steps, delivered)
    record = {
        "to": "merged",
        "alphas": [alpha],
        "delivered": delivered.share,
        "noise": delivered.noise,
        "origin": origin.described() if origin else None,
    }
    body = (
        f"`theta + alpha * dW` at alpha = {alpha:g}, stored in the base's own precision. "
        f"{100 * delivered.share:.2f} % of the step survived rounding to it."
    )
    body += "".join(f"\n\n{way}" for way in (with_transformers(), with_vllm(), with_llama_cpp()))
    (work / "README.md").write_text(
        card("Steered model", direction, base, body, library="transformers", relation="finetune")
    )
    describe(work, direction, base, **record)
    return record


def _carried(name: str, *, index: bool) -> bool:
    """True for a file of the base's folder that belongs to the steered model too: anything but unsteered weights."""
    if name.startswith(".") or name == "README.md" or Path(name).suffix in OTHER_WEIGHTS:
        return False
    return not name.endswith((".safetensors", ".index.json")) or (index and name == INDEX)


@dataclass(frozen=True)
class _Slot:
    """The change of one stored tensor: of which module, of its weight or bias, and which place of that."""

    module: str
    kind: str
    place: Place


def _slots(direction: Direction, theta: Checkpoint) -> dict[str, _Slot]:
    """What changes each stored tensor; a change that the checkpoint has no tensor for is refused."""
    slots: dict[str, _Slot] = {}
    missing = []
    for name, forms in direction.forms.items():
        weight = name if isinstance(theta.layers[name].module, Stack) else f"{name}.weight"
        kinds = [
            ("weight", weight, any(not isinstance(f, BiasShift) for f in forms)),
            ("bias", f"{name}.bias", any(isinstance(f, BiasShift) for f in forms)),
        ]
        for kind, parameter, needed in kinds:
            stored = theta.stored_in(parameter) if needed else {}
            slots |= {tensor: _Slot(name, kind, place) for tensor, place in stored.items()}
            if needed and not stored:
                missing.append(parameter)
    if missing:
        bias = all(m.endswith(".bias") for m in missing)
        why = (
            "this architecture has no bias there, so a merged model cannot hold the change; steer by hook"
            if bias
            else "the checkpoint names or stores its tensors otherwise"
        )
        raise ExportRefused(f"the checkpoint of {theta.id} has no {missing[0]} ({len(missing)} such): {why}.")
    return slots


@dataclass(frozen=True, eq=False)
class _Step:
    """The change of one stored tensor: a product that is multiplied out some rows or experts at a time, or the whole of it."""

    left: Tensor
    right: Tensor | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.left.shape) if self.right is None else (*self.left.shape[:-1], self.right.shape[-1])

    def rows(self, at: slice) -> Tensor:
        if self.right is None:
            return self.left[at]
        return self.left[at] @ (self.right if self.right.ndim == 2 else self.right[at])


def _step(direction: Direction, base: Theta, weight, slot: _Slot, alpha: float, exact: torch.dtype) -> _Step:
    """`alpha * dW` of one slot, the way round the checkpoint stores it."""
    module = slot.module
    if slot.kind == "bias":
        shift = direction.bias(module)
        assert shift is not None
        return _Step(alpha * shift.to("cpu", exact))
    turned = is_turned(base.layers[module].module)
    low = [f for f in direction.forms[module] if isinstance(f, Factors)]
    if len(low) == len(direction.forms[module]):
        factors = reduce(Factors.plus, low)
        b, a = factors.b, factors.a
        if slot.place.expert is not None:
            b, a = b[slot.place.expert].chunk(slot.place.of)[slot.place.part], a[slot.place.expert]
        b, a = alpha * b.to("cpu", exact), a.to("cpu", exact)
        return _Step(a.mT, b.mT) if turned else _Step(b, a)
    whole = alpha * direction.dense(module, lambda n: weight(n).cpu()).to("cpu", exact)
    return _Step(whole.T if turned else whole)


def _write_shard(
    source: Path, target: Path, changes: Mapping[str, Callable[[torch.dtype], _Step]], delivered: Delivered
) -> None:
    """A shard with some tensors changed, written front to back; offsets come from its own header."""
    with open(source, "rb") as old, open(target, "wb") as new:
        length = struct.unpack("<Q", old.read(8))[0]
        header = json.loads(old.read(length))
        if few := [n for n in changes if header[n]["dtype"] not in WHOLE]:
            raise ExportRefused(
                f"the checkpoint stores {few[0]} in few bits ({header[few[0]]['dtype']}), into which nothing is merged; merge into a copy of it "
                "that is whole."
            )
        places = sorted((8 + length + header[name]["data_offsets"][0], name) for name in changes)
        old.seek(0)
        for start, name in places:
            _copy(old, new, start - old.tell())
            with safe_open(source, framework="pt") as tensors:  # mapped anew, so that pages read are let go
                stored = tensors.get_tensor(name)
                step = changes[name](torch.promote_types(stored.dtype, torch.float32))
                if step.shape != stored.shape:
                    raise ExportRefused(
                        f"{name} of the checkpoint is {tuple(stored.shape)}, and its change is {step.shape}."
                    )
                _add(stored, step, new, delivered)
            old.seek(new.tell())
        _copy(old, new, None)


def _add(stored: Tensor, step: _Step, file: BinaryIO, delivered: Delivered) -> None:
    """Write `stored + step`, and count how much of the step is left after rounding."""
    at_once = max(1, VALUES_AT_ONCE // max(1, stored[0].numel()))
    for start in range(0, len(stored), at_once):
        rows = slice(start, start + at_once)
        part = step.rows(rows)
        exact = stored[rows].to(part.dtype)
        rounded = (exact + part).to(stored.dtype)
        file.write(rounded.contiguous().view(torch.uint8).numpy())  # type: ignore[call-overload]
        arrived = rounded.to(part.dtype).sub_(exact).flatten()
        flat = part.flatten()
        delivered.along += float(arrived @ flat)
        delivered.size += float(flat @ flat)
        delivered.arrived += float(arrived @ arrived)


def _copy(old: BinaryIO, new: BinaryIO, length: int | None) -> None:
    """The next `length` bytes, or all that is left."""
    space = memoryview(bytearray(BYTES_AT_ONCE))
    while length is None or length > 0:
        got = old.readinto(space[: BYTES_AT_ONCE if length is None else min(length, BYTES_AT_ONCE)])  # type: ignore[attr-defined]
        if not got:
            break
        new.write(space[:got])
        length = None if length is None else length - got
