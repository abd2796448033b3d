"""What is watched: changes of one base, by name, each read module by module where it is used.

A fine-tune is `theta_now - theta_base`; a direction is what `ws diff` made. Nothing the size of a model is held: of an
adapter the tensors of one module are read at a time, of a whole fine-tune the two matrices whose difference is taken.

    RUN                     both sides of a training, as RUN/pos and RUN/neg
    ADAPTER, BASE+ADAPTER   a peft adapter or a side of `ws train`, by folder or hub id
    FOLDER                  one that holds adapters, models or directions, each in a folder of its own
    MODEL                   a whole fine-tune, by folder or hub id
    FILE.safetensors        a direction, or plain changes of weights
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch.nn.functional import cosine_similarity

from ws.adapters import Adapter, changes_between, family, load_adapter
from ws.adapters.family import forms_of, peft_names, renamed
from ws.adapters.file import WEIGHTS
from ws.adapters.stock import own_name
from ws.diff.checkpoints import change_of_module, from_tensors, left_out, same_linears
from ws.diff.lookup import DIRECTION, adapter_at, base_of_adapter, is_adapter, is_hub_id, lookup
from ws.diff.trained import refuse_other_base, without_shared_start
from ws.direction import Direction
from ws.direction.file import format_of
from ws.direction.forms import Form, mapped
from ws.errors import BadFile, DirectionMismatch, Unsupported
from ws.models.checkpoint import Checkpoint, Theta, checkpoint_of, fetched, open_checkpoint
from ws.numbers import some
from ws.records import find_run, named_runs
from ws.types import Json

Forms = Mapping[str, tuple[Form, ...]]
UNRELATED = 0.1
"""Weights of two trainings from scratch have cosines near 0, those of a fine-tune and its base near 1."""
CACHED = "models--"
"""What the folder of a model is called in a hub cache, before OWNER--NAME."""


@dataclass(frozen=True, eq=False)
class Change:
    """One change of a base, under the name it is shown by."""

    name: str
    forms: Forms = field(repr=False)
    """Module to the forms whose sum is its change; read when asked for."""
    provenance: Json = field(default_factory=dict, repr=False)
    is_direction: bool = False
    notes: tuple[str, ...] = ()
    """What its numbers leave out, a sentence each."""

    @property
    def pairs(self) -> str | None:
        """The hash of the pairs that it was trained on, where it says so."""
        return (self.provenance.get("training") or self.provenance).get("pairs")

    def direction(self, base: Theta) -> Direction:
        """The whole change, in memory."""
        return Direction(dict(self.forms), {"base": base.described(), "made_by": "a fine-tune"})


# ---------------------------------------------------------------- reading one module at a time


@dataclass(frozen=True, eq=False)
class Read(Mapping[str, tuple[Form, ...]]):
    """Forms by module, made by a function each time one is asked for."""

    names: tuple[str, ...]
    read: Callable[[str], tuple[Form, ...]] = field(repr=False)

    def __getitem__(self, name: str) -> tuple[Form, ...]:
        if name not in self.names:
            raise KeyError(name)
        return self.read(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


def of_adapter(name: str, folder: Path, base: Theta) -> Change:
    """The change that an adapter makes; it is checked whole, and read again a module at a time."""
    whole = adapter_at(folder, base)
    refuse_other_base(whole, base, name)
    stored = AdapterFile(folder / WEIGHTS, _own_names(base, whole.spec.modules))
    empty = replace(whole, tensors={})

    def read(module: str) -> tuple[Form, ...]:
        return change_of(replace(empty, tensors=stored.of(module)), module, base)

    return Change(name, Read(whole.spec.modules, read), dict(whole.provenance), notes=_of_another_base(folder, base))


def of_sides(name: str, folder: Path, base: Theta) -> Change:
    """The direction between the two sides of a training, read a module at a time."""
    both = [load_adapter(folder / side) for side in ("pos", "neg")]
    for side in both:
        refuse_other_base(side, base, name)
    modules, own = both[0].spec.modules, family(both[0].spec.family)
    files = [AdapterFile(folder / side / WEIGHTS, _own_names(base, modules)) for side in ("pos", "neg")]
    pos, neg = without_shared_start(*both)
    sides = [(replace(side, tensors={}), file) for side, file in zip((pos, neg), files)]

    def read(module: str) -> tuple[Form, ...]:
        spec = replace(pos.spec, modules=(module,))
        left, right = ((own, replace(side, spec=spec, tensors=file.of(module))) for side, file in sides)
        return next(changes_between(base, left, right))[1]

    return Change(name, Read(modules, read), dict(pos.provenance), is_direction=True)


def change_of(adapter: Adapter, module: str, base: Theta) -> tuple[Form, ...]:
    """The change of one module, rounded to float32 as a direction holds it."""
    one = replace(adapter, spec=replace(adapter.spec, modules=(module,)))
    return tuple(mapped(f, lambda t: t.float()) for f in forms_of(family(one.spec.family), base, one, module))


@dataclass(frozen=True, eq=False)
class AdapterFile:
    """The tensors of an adapter's file, those of one module at a time."""

    path: Path
    names: Mapping[str, str] = field(default_factory=dict)
    """peft's name of a module to ours, where they differ."""

    @cached_property
    def _keys(self) -> dict[str, list[str]]:
        """Module to the keys of its tensors."""
        keys: dict[str, list[str]] = {}
        with safe_open(self.path, framework="pt") as f:
            for key in f.keys():
                own = self._named(key)
                for parts in (1, 2):  # a parameter's name has one part or two
                    keys.setdefault(own.rsplit(".", parts)[0], []).append(key)
        return keys

    def of(self, module: str) -> dict[str, Any]:
        """Copies, so that the file's pages need not stay in memory."""
        with safe_open(self.path, framework="pt") as f:
            return {self._named(key): f.get_tensor(key).clone() for key in self._keys.get(module, ())}

    def _named(self, key: str) -> str:
        return renamed(own_name(key), self.names)


def _own_names(base: Theta, modules: Sequence[str]) -> dict[str, str]:
    return {peft: module for module, peft in peft_names(base, modules).items() if peft != module}


def _of_another_base(folder: Path, base: Theta) -> tuple[str, ...]:
    try:
        named = base_of_adapter(folder)
    except BadFile:
        return ()
    same_name = named.rstrip("/").rpartition("/")[2] == base.id.rstrip("/").rpartition("/")[2]
    if same_name or Path(named) == checkpoint_of(base).folder:
        return ()
    return (f"an adapter names its base {named}, and was read on {base.id}; their shapes agree.",)


def of_checkpoint(name: str, theta: Checkpoint, base: Theta) -> Change:
    """The change that a whole fine-tune makes to the linear layers, streamed tensor by tensor."""
    before = checkpoint_of(base)
    same_linears(theta, before)
    _refuse_no_fine_tune(name, theta, before)
    changed = Read(tuple(theta.linears), lambda module: change_of_module(theta, before, module))
    notes, rest = [], left_out(theta, before)
    if n := rest["tensors"]:
        also = "also differ and are left out" if n > 1 else "also differs and is left out"
        names = ", ".join(rest["names"][:2])
        notes.append(f"{name}: {some(n, 'tensor')} outside the blocks' linear layers {also}, e.g. {names}.")
    own, theirs = (str(_stored(t)).removeprefix("torch.") for t in (theta, before))
    if own != theirs:
        notes.append(f"{name} is stored in {own} and {base.id} in {theirs}: what that rounds is part of |tau|.")
    return Change(name, changed, {"source": "a checkpoint", **theta.described()}, notes=tuple(notes))


def _stored(theta: Checkpoint) -> torch.dtype:
    return next(iter(theta.linears.values())).module.weight.dtype  # type: ignore[return-value]


def _refuse_no_fine_tune(name: str, theta: Checkpoint, before: Checkpoint) -> None:
    """Refuse a model of the same shapes that was trained from another start: its weights have no angle to the base's."""
    modules = list(before.linears)
    cosines = []
    for m in {modules[0], modules[len(modules) // 2], modules[-1]}:
        own, theirs = (t.weight(m).flatten().double() for t in (theta, before))
        cosines.append(float(cosine_similarity(own, theirs, dim=0)))
    if max(map(abs, cosines)) < UNRELATED:
        raise DirectionMismatch(
            f"{name} is no fine-tune of {before.id}: their weights have cosines of at most {max(cosines):.2f}; name its own base "
            "with `model` (or `base`)."
        )


def of_direction(name: str, direction: Direction, base: Theta) -> Change:
    """A direction, which must be one of this base."""
    record = direction.provenance.get("base") or {}
    if record.get("quantize"):
        raise Unsupported(
            f"{name} was made on {record.get('id')} rounded to {record['quantize']}, and what is watched is compared on whole weights alone; "
            "make a direction of the whole model, and watch with that."
        )
    if direction.fingerprint not in (None, base.fingerprint):
        raise DirectionMismatch(
            f"{name} was made on base {direction.fingerprint[:8]}…, and {base.id} is {base.fingerprint[:8]}…; name its base "
            "with `base` (or `model`), or watch with directions of this one."
        )
    if odd := sorted(direction.forms.keys() - base.layers.keys()):
        raise DirectionMismatch(f"{name} changes {odd[0]}, which {base.id} does not have.")
    return Change(name, direction.forms, dict(direction.provenance), is_direction=True)


# ---------------------------------------------------------------- by name


def opened(text: str, base: Theta, out: Path) -> list[Change]:
    """The changes that a text names; a folder may hold several."""
    path = Path(text).expanduser()
    if not path.exists() and "+" in text:
        head, _, adapter = text.rpartition("+")
        _same_model(head, base, text)
        return [of_adapter(text, fetched(adapter, "adapter"), base)]
    if not path.exists() and named_runs(text, out):
        path = find_run(text, out)[0]
    if path.is_file():
        return [_of_file(text, path, base)]
    if path.is_dir():
        path = unpacked(path)
        if found := list(in_folder(path, _short(path), base)):
            return found
        inside = [unpacked(p) for p in sorted(path.iterdir(), key=_by_number) if p.is_dir()]
        if found := [change for p in inside for change in in_folder(p, f"{_short(path)}/{_last(p)}", base)]:
            return found
        raise BadFile(f"{text} holds no adapter, no model and no direction, and neither do the folders in it.")
    if is_hub_id(text, out):
        return [_of_hub(text, base)]
    raise BadFile(
        f"{text!r} is no run below {out}, no folder, no file and no hub id of an adapter or a model that could be watched."
    )


def _by_number(path: Path) -> list[tuple[int, str]]:
    """The order of names in which 2 comes before 10."""
    return [(int(part) if part.isdecimal() else -1, part) for part in re.split(r"(\d+)", path.name)]


def in_folder(path: Path, name: str, base: Theta) -> Iterator[Change]:
    """What one folder is: a run's two sides, an adapter, a direction, a model."""
    sides = path / "train" if (path / "train").is_dir() else path
    if is_adapter(sides / "pos") and is_adapter(sides / "neg"):
        yield from (of_adapter(f"{name}/{side}", sides / side, base) for side in ("pos", "neg"))
    elif is_adapter(path):
        yield of_adapter(name, path, base)
    elif (path / DIRECTION).is_file():
        yield _of_file(name, path / DIRECTION, base)
    elif (path / "config.json").is_file():
        yield of_checkpoint(name, open_checkpoint(path), base)


def _of_file(name: str, path: Path, base: Theta) -> Change:
    if path.suffix != ".safetensors":
        raise BadFile(f"{path} is no .safetensors file; nothing else is read.")
    if is_adapter(path.parent) and path.name == WEIGHTS:
        return of_adapter(name, path.parent, base)
    if format_of(path):
        return of_direction(name, lookup(path).direction(base), base)
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as e:
        raise BadFile(f"{path} cannot be read as safetensors ({str(e)[:80]}).") from None
    return replace(of_direction(name, from_tensors(base, tensors), base), is_direction=False)


def _of_hub(text: str, base: Theta) -> Change:
    folder = fetched(text, "fine-tune")
    if is_adapter(folder):
        return of_adapter(text, folder, base)
    return of_checkpoint(text, open_checkpoint(text), base)


def unpacked(path: Path) -> Path:
    """A folder as a hub cache keeps it, by the snapshot that it holds; any other folder as it is."""
    snapshots, main = path / "snapshots", path / "refs" / "main"
    if not path.name.startswith(CACHED) or not snapshots.is_dir():
        return path
    there = sorted(p for p in snapshots.iterdir() if p.is_dir())
    if main.is_file():
        there = [p for p in there if p.name == main.read_text().strip()] or there
    if len(there) == 1:
        return there[0]
    raise BadFile(f"{path} holds {len(there)} snapshots, and it is not said which is meant; name the folder of one.")


def without_folder(changes: list[Change]) -> list[Change]:
    """The same changes, less the name of the folder that all of them lie in; the sides of a training keep theirs."""
    parts = [c.name.rpartition("/") for c in changes]
    alone = len({folder for folder, _, _ in parts}) == 1 and not {last for _, _, last in parts} & {"pos", "neg"}
    return [replace(c, name=last) for c, (_, _, last) in zip(changes, parts)] if alone else changes


def direction_named(text: str, base: Theta, out: Path) -> Change:
    """A direction by its run, file, folder or hub id, called as the behavior it is of where it says so."""
    place = lookup(text, out)
    made = of_direction(text, place.direction(base), base)
    if place.run is None:
        return replace(made, name=_short(place.path.with_suffix("")))
    return replace(made, name=f"{place.run.parents[1].name} ({place.run.name})")


def _same_model(head: str, base: Theta, text: str) -> None:
    """Refuse BASE+ADAPTER where the base is not the one that everything is watched on."""
    theta = open_checkpoint(head)
    if theta.fingerprint != base.fingerprint:
        raise DirectionMismatch(f"{text} stands on another base than {base.id}; a change is compared on one base only.")


def _last(path: Path) -> str:
    """The last part of a path, or the hub id that a snapshot is of."""
    cached = path.parent.parent.name
    if path.parent.name == "snapshots" and cached.startswith(CACHED):
        return cached.removeprefix(CACHED).replace("--", "/", 1)
    return path.name


def _short(path: Path) -> str:
    """The last part of a path; of a side of a training also which training it is of."""
    path = path.resolve()
    if path.name not in ("pos", "neg"):
        return _last(path)
    run = path.parent.parent if path.parent.name == "train" else path.parent
    return f"{run.name}/{path.name}"
