"""Vectors made by other tools, as methods.

    gguf:FILE          a control vector of repeng or llama.cpp: direction.N is added to the output of block N
    vectors:FILE       safetensors with one tensor per layer (steering-vectors: 5, layer_activations.5, model.layers.5),
                       or one table (persona vectors): L + 1 rows are hidden indices, row l + 1 the output of block l;
                       L rows are blocks

Names no base, so only shapes are checked.
"""

import re
from pathlib import Path

import torch
from torch import Tensor

from ws.direction.file import read_tensors
from ws.errors import BadFile
from ws.methods.activation.method import Activation, Add, block_name
from ws.models.load import Base


def from_gguf(base: Base, path: Path | str) -> Activation:
    """A control vector of repeng or llama.cpp."""
    import gguf

    path = _there(path)
    try:
        reader = gguf.GGUFReader(path)
    except (ValueError, OSError, IndexError) as e:
        raise BadFile(f"{path} cannot be read as GGUF ({str(e)[:100]}).") from None
    tensors = {t.name: torch.tensor(t.data.tolist(), dtype=torch.float32).flatten() for t in reader.tensors}
    layers = {int(m[1]): v for name, v in tensors.items() if (m := re.fullmatch(r"direction\.(\d+)", name))}
    if not layers:
        raise BadFile(f"{path} holds no tensors called direction.N; it is no control vector.")
    return of_blocks(base, layers, f"gguf:{path.stem}")


def from_safetensors(base: Base, path: Path | str) -> Activation:
    """Vectors as plain safetensors: one tensor per layer, or one table of all."""
    path = _there(path)
    _, flat = read_tensors(path)
    tables = {name: t for name, t in flat.items() if t.ndim == 2 and t.shape[0] > 1}
    if len(tables) == 1 and len(flat) == 1:
        (table,) = tables.values()
        if table.shape[0] not in (base.depth, base.depth + 1):
            raise BadFile(
                f"{path} is a table of {table.shape[0]} rows; this model has {base.depth} blocks, so {base.depth} or "
                f"{base.depth + 1} are expected."
            )
        rows = table[1:] if table.shape[0] == base.depth + 1 else table
        return of_blocks(
            base, {at: row for at, row in enumerate(rows) if float(row.norm()) > 0}, f"vectors:{path.stem}"
        )
    layers = {}
    for name, t in flat.items():
        numbers = re.findall(r"\d+", name)
        if len(numbers) != 1 or t.numel() != max(t.shape, default=0):
            raise BadFile(f"{path}: {name!r} is not one vector with one layer number in its name.")
        layers[int(numbers[0])] = t.flatten()
    return of_blocks(base, layers, f"vectors:{path.stem}")


def of_blocks(base: Base, layers: dict[int, Tensor], name: str) -> Activation:
    """Vectors by block number, added to what those blocks put out."""
    width = base.model.get_input_embeddings().weight.shape[1]  # type: ignore[operator]
    if wrong := [at for at, v in layers.items() if not 0 <= at < base.depth or v.shape != (width,)]:
        raise BadFile(
            f"{name}: layers {wrong[:5]} do not fit this model of {base.depth} blocks and width {width} "
            f"(vector {tuple(layers[wrong[0]].shape)})."
        )
    edits = {block_name(base, at): Add(v.float()) for at, v in sorted(layers.items())}
    return Activation(name, edits, provenance={"made_by": name.partition(":")[0]})


def _there(path: Path | str) -> Path:
    path = Path(path)
    if not path.is_file():
        raise BadFile(f"there is no file {path}.")
    return path
