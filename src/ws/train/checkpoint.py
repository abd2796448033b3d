"""A training between two intervals: both sides, how far they are, and the files it can go on from.

One safetensors file for every learning rate: tensors as `side/part/parameter`, the rest as JSON in the header, with a
hash over both. It is written beside its place and then renamed, so that a kill leaves the whole file or the one before it.
"""

import hashlib
import json
import logging
import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ws.direction.file import unshared
from ws.errors import BadFile
from ws.records import writable
from ws.train.processes import ALONE, Group
from ws.train.sequences import SIDES
from ws.types import Json

log = logging.getLogger(__name__)

CHECKPOINT_SECONDS = float(os.environ.get("WS_CHECKPOINT_SECONDS", "20"))
STEP = "step "
"""Begins the name of a part that holds a side at a step the user asked to keep: `step 40`."""

Tensors = dict[str, Tensor]


@dataclass
class SideState:
    """One side in between its turns: parameter values, optimiser state, and its best step so far."""

    state: Tensors
    moments: dict[str, Tensors] = field(default_factory=dict)
    """Per parameter: AdamW's step, exp_avg and exp_avg_sq."""
    best: Tensors = field(default_factory=dict)
    step: int = 0
    """The step of `best`, and its validation loss."""
    val: float = math.inf
    stale: int = 0
    """Validations since then."""
    checkpoints: dict[int, Tensors] = field(default_factory=dict)
    """The states of the steps that stay beside the result, in main memory."""

    def keep(self, step: int, val: float) -> None:
        """Take the present state for the best one."""
        self.best, self.step, self.val, self.stale = dict(self.state), step, val, 0

    def parts(self) -> dict[str, Tensors]:
        """All tensors of the side, by part and parameter."""
        steps = {f"{STEP}{n}": tensors for n, tensors in self.checkpoints.items()}
        moments: dict[str, Tensors] = {}
        for parameter, by_name in self.moments.items():
            for name, t in by_name.items():
                moments.setdefault(name, {})[parameter] = t
        return {"now": self.state, "best": self.best, **steps, **moments}

    @staticmethod
    def of(parts: dict[str, Tensors], step: int, val: float, stale: int) -> "SideState":
        """The side whose `parts` these are; empties the mapping."""
        now, best = parts.pop("now"), parts.pop("best")
        steps = {int(name.removeprefix(STEP)): parts.pop(name) for name in [*parts] if name.startswith(STEP)}
        parameters = next(iter(parts.values()))
        moments = {p: {name: _placed(name, tensors[p]) for name, tensors in parts.items()} for p in parameters}
        checkpoints = {n: {k: t.cpu() for k, t in tensors.items()} for n, tensors in steps.items()}
        return SideState(now, moments, best, step, val, stale, checkpoints)


def _placed(name: str, moment: Tensor) -> Tensor:
    """A moment where AdamW has it: its count of steps on the CPU."""
    return moment.cpu() if name == "step" else moment


@dataclass
class TrainState:
    """All sides after the same number of steps, and the losses on the way there."""

    sides: list[SideState]
    step: int
    history: list[dict[str, float]]
    """Losses by step: `val_pos`, `val_neg`, `train_pos`, `train_neg`."""


@dataclass
class Checkpoints:
    """The files of one training that it can go on from; without a folder there are none."""

    folder: Path | None
    identity: str = ""
    """A hash of pairs, settings and base, which have to be the same ones for a training to go on."""
    group: Group = ALONE
    device: torch.device | str = "cpu"
    """Where the tensors go that are read back."""
    names: Sequence[str] = SIDES
    """What the sides are called."""

    def __post_init__(self):
        self._time = time.monotonic()

    def file(self, number: int) -> Path:
        """The file of one learning rate, by its place in the order of trying."""
        assert self.folder is not None
        return self.folder / "resume" / f"lr-{number}.safetensors"

    def save_sometimes(self, number: int, lr: float, state: TrainState) -> None:
        """Save if the last save was some time ago; only the main process writes."""
        if self.folder is not None and self.group.main and time.monotonic() - self._time > CHECKPOINT_SECONDS:
            self.save(number, lr, state)
            self._time = time.monotonic()

    def save(self, number: int, lr: float, state: TrainState) -> None:
        """Write the whole state as one file, atomically."""
        flat = {
            f"{name}/{part}/{parameter}": t
            for name, side in zip(self.names, state.sides)
            for part, tensors in side.parts().items()
            for parameter, t in tensors.items()
        }
        kept = [{"step": s.step, "val": s.val, "stale": s.stale} for s in state.sides]
        head = {"identity": self.identity, "lr": lr, "step": state.step, "kept": kept, "history": state.history}
        path, text = self.file(number), json.dumps(head)
        flat = unshared(flat)
        writable(path.parent)
        temporary = path.with_suffix(".tmp")
        try:
            save_file(flat, temporary, metadata={"state": text, "sha256": _digest(text, flat)})
            with open(temporary, "rb") as f:
                os.fsync(f.fileno())  # or a machine that goes down may keep the name and not what it names
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    def load(self, number: int) -> TrainState | None:
        """The saved state of one learning rate, the same in every process, or None."""
        self._time = time.monotonic()
        exists = self.folder is not None and self.file(number).is_file()
        if 0 < self.group.total(exists) < self.group.size:
            raise BadFile(f"only some processes see {self.file(number)}; give an `out` that all machines share.")
        if not exists:
            return None
        content = _read(self.file(number))
        damaged = self.group.total(content is None) > 0  # to one is to all, or they would not go in step
        if content is None or damaged:
            log.warning("%s is damaged; this learning rate is trained from its beginning", self.file(number))
            return None
        head, tensors = content
        if head["identity"] != self.identity:
            raise BadFile(
                f"{self.file(number)} is a checkpoint of other pairs, settings or another base; give another work folder."
            )
        parts: dict[str, dict[str, Tensors]] = {name: {} for name in self.names}
        for key, t in tensors.items():
            name, part, parameter = key.split("/", 2)
            parts[name].setdefault(part, {})[parameter] = t.to(self.device)
        sides = [SideState.of(parts[name], **numbers) for name, numbers in zip(self.names, head["kept"])]
        return TrainState(sides, head["step"], head["history"])


def _read(path: Path) -> tuple[Json, Tensors] | None:
    """Header and tensors of a file that `save` wrote; None for any other: half of it, or with other bytes in it."""
    try:
        with safe_open(path, framework="pt") as f:
            header = f.metadata() or {}
            tensors = {k: f.get_tensor(k) for k in f.keys()}
    except (SafetensorError, OSError):
        return None
    if header.get("sha256") != _digest(header.get("state", ""), tensors):
        return None
    return json.loads(header["state"]), tensors


def _digest(state: str, tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over all of a checkpoint."""
    h = hashlib.sha256(state.encode())
    for name in sorted(tensors):
        t = tensors[name]
        h.update(f"{name} {t.dtype} {tuple(t.shape)} ".encode())
        h.update(t.reshape(-1).view(torch.uint8).numpy().data)
    return h.hexdigest()
