"""Directions as files: one safetensors file, factors and provenance together.

The metadata has a single key. With two or more, safetensors writes them in random order and the same direction would
give different bytes. No pickle is read or written.
"""

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ws.direction.direction import Direction
from ws.direction.forms import KINDS, Form, LowRank, tensors
from ws.errors import BadFile

FORMAT = "ws-direction/1"
DIMENSIONS = {"lowrank": {2}, "row": {1}, "col": {1}, "block": {1, 3}, "bias": {1}, "dense": {2}}
PICKLES = {".pt", ".pth", ".bin", ".pkl", ".pickle", ".ckpt"}


def save(direction: Direction, path: Path | str) -> Path:
    """Write a direction as one file, atomically; returns the path."""
    flat, layout = flattened(direction)
    return write_tensors(path, flat, {"format": FORMAT, "forms": layout, "provenance": dict(direction.provenance)})


def flattened(direction: Direction) -> tuple[dict[str, torch.Tensor], dict[str, list[str]]]:
    """A direction as named tensors, and the table of forms that puts them together again."""
    flat = {
        f"{name}/{at}.{key}": t
        for name, forms in direction.forms.items()
        for at, form in enumerate(forms)
        for key, t in tensors(form).items()
    }
    return flat, {name: [form.kind for form in forms] for name, forms in direction.forms.items()}


def write_tensors(path: Path | str, flat: dict[str, torch.Tensor], head: dict[str, Any]) -> Path:
    """Write tensors and their header as one file, atomically; returns the path."""
    path = Path(path)
    for name, t in flat.items():
        if not torch.isfinite(t).all():
            raise BadFile(f"{name.split('/')[0]} holds values that are not finite; a file like that is not written.")
    kept = {name: t.detach().cpu().contiguous().clone() for name, t in flat.items()}
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        save_file(kept, temporary, metadata={"ws": json.dumps(head, sort_keys=True, separators=(",", ":"))})
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def load(path: Path | str) -> Direction:
    """Read a direction; a file that is not one is refused by name."""
    path = Path(path)
    head, flat = read_tensors(path)
    if head.get("format") != FORMAT:
        raise BadFile(f"{path} is safetensors but not a {FORMAT} file; `ws diff` makes those.")
    provenance = head.get("provenance")
    if not isinstance(provenance, dict) or not isinstance(provenance.get("base") or {}, dict):
        raise BadFile(f"{path}: its header is not one that ws writes.")
    return Direction(forms_of(path, head.get("forms"), flat), provenance)


def read_tensors(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """The header ws wrote into a safetensors file ({} where another tool wrote it), and its tensors."""
    if path.suffix in PICKLES:
        raise BadFile(f"{path} is a pickle by its name, and no pickle is ever loaded. Give a direction.safetensors.")
    if not path.is_file():
        raise BadFile(
            f"there is no direction file at {path}. `ws diff` writes direction.safetensors; `ws runs` lists them."
        )
    try:
        with safe_open(path, framework="pt") as f:
            head = json.loads((f.metadata() or {}).get("ws", "null"))
            flat = {key: f.get_tensor(key) for key in f.keys()}
    except (SafetensorError, OSError, ValueError, RecursionError) as e:
        raise BadFile(f"{path} cannot be read as safetensors ({e}); it is truncated or not a direction.") from None
    return head if isinstance(head, dict) else {}, flat


def forms_of(path: Path, table: Any, flat: dict[str, torch.Tensor]) -> dict[str, tuple[Form, ...]]:
    """The forms a table names, built from `flat`, which must hold their tensors and no others."""
    sound = isinstance(table, dict) and all(
        isinstance(v, list) and all(isinstance(k, str) for k in v) for v in table.values()
    )
    if not sound:
        raise BadFile(f"{path}: its header is not one that ws writes.")
    flat = dict(flat)
    forms = {
        name: tuple(_form(path, name, at, kind, flat) for at, kind in enumerate(kinds)) for name, kinds in table.items()
    }
    if flat:
        raise BadFile(f"{path} holds {len(flat)} tensors that its table does not name, e.g. {sorted(flat)[0]!r}.")
    return forms


def _form(path: Path, name: str, at: int, kind: str, flat: dict[str, torch.Tensor]) -> Form:
    """Build one form from its tensors, which are taken out of `flat`."""
    if kind not in KINDS:
        raise BadFile(f"{path}: {name} has a form {kind!r}; this version knows {sorted(KINDS)}.")
    prefix = f"{name}/{at}."
    parts = {key.removeprefix(prefix): flat.pop(key) for key in sorted(flat) if key.startswith(prefix)}
    try:
        form = KINDS[kind](**parts)
    except TypeError:
        raise BadFile(f"{path}: the {kind} form of {name} has tensors {sorted(parts)}, which is not its set.") from None
    if not all(t.is_floating_point() and t.ndim in DIMENSIONS[kind] for t in parts.values()):
        raise BadFile(f"{path}: the {kind} form of {name} has tensors of another kind or shape than its form has.")
    if isinstance(form, LowRank) and form.b.shape[1] != form.a.shape[0]:
        raise BadFile(f"{path}: the factors of {name} have ranks {form.b.shape[1]} and {form.a.shape[0]}.")
    if not all(torch.isfinite(t).all() for t in parts.values()):
        raise BadFile(f"{path}: {name} holds values that are not finite.")
    return form
