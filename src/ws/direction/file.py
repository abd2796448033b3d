"""Directions as files: one safetensors file, factors and provenance together.

The metadata has a single key. With two or more, safetensors writes them in random order and the same direction would
give different bytes. No pickle is read or written.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ws.direction.card import is_card
from ws.direction.direction import Direction
from ws.direction.forms import KINDS, Factors, Form, all_finite, tensors
from ws.errors import BadFile
from ws.signatures import plain_types
from ws.types import Json

FORMAT = "ws-direction/1"
DIMENSIONS = {"lowrank": {2}, "stacked": {3}, "row": {1}, "col": {1}, "block": {1, 3}, "bias": {1}, "dense": {2}}
DTYPES = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
PICKLES = {".pt", ".pth", ".bin", ".pkl", ".pickle", ".ckpt"}


def save_direction(direction: Direction, path: Path | str) -> Path:
    """Write a direction as one file, atomically; returns the path."""
    flat, layout = flattened(direction)
    return write_headed(path, flat, _head(layout, direction.provenance, direction.card))


def _head(layout: Mapping[str, list[str]], provenance: Mapping[str, Any], card: Mapping[str, Any]) -> Json:
    """The header of a direction file: the table of its forms, what made it, and its card where it has one."""
    own = {"card": dict(card)} if card else {}
    return {"format": FORMAT, "forms": dict(layout), "provenance": dict(provenance), **own}


def flattened(direction: Direction) -> tuple[dict[str, torch.Tensor], dict[str, list[str]]]:
    """A direction as named tensors, and the table of forms that puts them together again."""
    flat = {
        f"{name}/{at}.{key}": t
        for name, forms in direction.forms.items()
        for at, form in enumerate(forms)
        for key, t in tensors(form).items()
    }
    return flat, {name: [form.kind for form in forms] for name, forms in direction.forms.items()}


def write_headed(path: Path | str, flat: dict[str, torch.Tensor], head: Json) -> Path:
    """Write tensors and their header as one file, atomically; returns the path."""
    path = Path(path)
    for name, t in flat.items():
        if not all_finite(t):
            raise BadFile(f"{name.split('/')[0]} holds values that are not finite; a file like that is not written.")
    with replacing(path) as temporary:
        write_tensors(flat, temporary, {"ws": as_header(head)})
    return path


class Streamed:
    """A direction file written one module at a time, for directions that memory does not hold.

        with Streamed(path) as file:
            for name, forms in changes:
                file.add(name, forms)
            direction = file.finish(provenance)

    What comes back is read from the file where it is used: its tensors are maps of the file and no copies of it.
    """

    def __init__(self, path: Path | str):
        self.path = Path(path)
        self.body = self.path.with_name(f".{self.path.name}.{os.getpid()}.body")
        self.forms: dict[str, list[str]] = {}
        self.places: dict[str, Json] = {}

    def __enter__(self) -> "Streamed":
        self.out = open(self.body, "wb")
        return self

    def __exit__(self, *error: object) -> None:
        self.out.close()
        self.body.unlink(missing_ok=True)

    def add(self, name: str, forms: tuple[Form, ...]) -> None:
        """Write one module's change."""
        flat, layout = flattened(Direction({name: forms}))
        for key, t in flat.items():
            if not all_finite(t):
                raise BadFile(f"{name} holds values that are not finite; a file like that is not written.")
            start = self.out.tell()
            self.out.write(t.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
            place = {"dtype": DTYPES[t.dtype], "shape": list(t.shape), "data_offsets": [start, self.out.tell()]}
            self.places[key] = place
        self.forms |= layout

    def finish(self, provenance: Mapping[str, Any], card: Mapping[str, Any] | None = None) -> Direction:
        """Put the header before what was written, under the final name."""
        head = _head(dict(sorted(self.forms.items())), provenance, card or {})
        header = json.dumps({"__metadata__": {"ws": as_header(head)}, **self.places}, separators=(",", ":")).encode()
        header += b" " * (-len(header) % 8)  # tensors begin at a multiple of eight bytes
        self.out.close()
        with open(self.body, "rb") as body, replacing(self.path) as temporary, open(temporary, "wb") as whole:
            whole.write(len(header).to_bytes(8, "little") + header)
            shutil.copyfileobj(body, whole, 1 << 20)
        return load_direction(self.path)


def as_header(head: Json) -> str:
    """The one value of a file's metadata."""
    return json.dumps(head, sort_keys=True, separators=(",", ":"))


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file beside `path` that takes its place if the block ends well, and goes if it does not."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    except (OSError, SafetensorError) as e:
        why = getattr(e, "strerror", None) or str(e)[:100]
        raise BadFile(f"the direction cannot be written to {path} ({why}).") from None
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def unshared(flat: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors on the CPU with no bytes but their own, as safetensors wants them; copied only where they share some."""
    copies: dict[str, torch.Tensor] = {}
    addresses = set[int]()
    for name, t in flat.items():
        t = t.detach().cpu().contiguous()
        copies[name] = t.clone() if t.untyped_storage().nbytes() != t.nbytes or t.data_ptr() in addresses else t
        addresses.add(t.data_ptr())
    return copies


def write_tensors(flat: Mapping[str, torch.Tensor], path: Path, metadata: dict[str, str]) -> None:
    """A safetensors file that others may read as they may read its neighbours; the library makes it private."""
    save_file(unshared(flat), path, metadata=metadata)
    mask = os.umask(0)
    os.umask(mask)
    path.chmod(0o666 & ~mask)


def head_of(path: Path | str) -> Json | None:
    """What ws wrote into the header of a file, whose tensors are not read; None for a file of another kind."""
    try:
        with safe_open(path, framework="pt") as f:
            head = json.loads((f.metadata() or {}).get("ws", "null"))
    except (SafetensorError, OSError, ValueError, RecursionError):
        return None
    return head if isinstance(head, dict) else None


def format_of(path: Path | str) -> str | None:
    """The format that a file of ours says it has, whole or not; None for a file of another kind."""
    head = head_of(path)
    return None if head is None else str(head.get("format"))


@plain_types
def load_direction(path: Path | str) -> Direction:
    """A direction from its file or folder; a file that holds none is refused with its path."""
    path = Path(path).expanduser()
    if path.is_dir() and (path / "direction.safetensors").is_file():
        path = path / "direction.safetensors"
    head, flat = read_tensors(path)
    if head.get("format") != FORMAT:
        raise BadFile(f"{path} is safetensors but not a {FORMAT} file; `ws diff` makes those.")
    provenance, card = head.get("provenance"), head.get("card", {})
    if not isinstance(provenance, dict) or not _is_provenance(provenance) or not is_card(card):
        raise BadFile(f"{path}: its header is not one that ws writes.")
    return Direction(read_forms(path, head.get("forms"), flat), provenance, card)


def write_with_card(source: Path, card: Mapping[str, Any], target: Path) -> None:
    """A direction file again, with another card in its header and the same bytes of tensors."""
    with open(source, "rb") as old:
        try:
            length = int.from_bytes(old.read(8), "little")
            header = json.loads(old.read(min(length, source.stat().st_size)))
            head = json.loads(header["__metadata__"]["ws"])
        except (ValueError, KeyError, TypeError):
            raise BadFile(f"{source} is no direction file of ws, so nothing can be written on its card.") from None
        header["__metadata__"]["ws"] = as_header({**head, "card": dict(card)})
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)  # tensors begin at a multiple of eight bytes
        with replacing(target) as temporary, open(temporary, "wb") as new:
            new.write(len(text).to_bytes(8, "little") + text)
            shutil.copyfileobj(old, new, 1 << 20)


def read_tensors(path: Path) -> tuple[Json, dict[str, torch.Tensor]]:
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


def read_forms(path: Path, table: Any, flat: dict[str, torch.Tensor]) -> dict[str, tuple[Form, ...]]:
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


def _is_provenance(provenance: Json) -> bool:
    """True where the parts of a provenance that are read again have the types they should have."""
    parts = [provenance.get(k) or {} for k in ("base", "training", "left_out", "compressed")]
    if not all(isinstance(p, dict) for p in parts):
        return False
    base, _, left_out, _ = parts
    texts = all(isinstance(base.get(k), (str, type(None))) for k in ("id", "revision", "fingerprint", "weights_hash"))
    return texts and (not left_out or {"tensors", "names", "energy_share"} <= left_out.keys())


def _form(path: Path, name: str, at: int, kind: str, flat: dict[str, torch.Tensor]) -> Form:
    """Build one form from its tensors, which are taken out of `flat`."""
    if kind not in KINDS:
        raise BadFile(f"{path}: {name} has a form {kind!r}; this version knows {sorted(KINDS)}.")
    prefix = f"{name}/{at}."
    parts = {key.removeprefix(prefix): flat.pop(key) for key in sorted(flat) if key.startswith(prefix)}
    try:
        form = KINDS[kind](**parts)
    except TypeError:
        raise BadFile(
            f"{path}: the {kind} form of {name} has tensors {sorted(parts)}, which are not those of that form."
        ) from None
    if not all(t.is_floating_point() and t.ndim in DIMENSIONS[kind] for t in parts.values()):
        raise BadFile(f"{path}: the {kind} form of {name} has tensors of another kind or shape than its form has.")
    if isinstance(form, Factors) and not form.sound:
        shapes = f"{tuple(form.b.shape)} and {tuple(form.a.shape)}"
        raise BadFile(f"{path}: the factors of {name} are {shapes}, which cannot be multiplied.")
    if not all(t.numel() for t in parts.values()):
        raise BadFile(f"{path}: the {kind} form of {name} holds an empty tensor.")
    if not all(map(all_finite, parts.values())):
        raise BadFile(f"{path}: {name} holds values that are not finite.")
    return form
