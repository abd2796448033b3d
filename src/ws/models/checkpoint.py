"""A model folder that is opened and not loaded: names, shapes and one tensor at a time.

    theta = ws.open_checkpoint("Qwen/Qwen3-0.6B")
    theta.weight("model.layers.0.mlp.down_proj")

The network is built without its weights, so that names and shapes are those of the loaded model; a tensor is mapped
from its file when it is asked for and let go again. Fingerprint and hash of the weights are the loaded model's.
"""

import json
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ws.direction.file import DTYPES
from ws.errors import BadFile, Unsupported
from ws.hub import reach
from ws.models.architecture import skeleton, stored_dtype
from ws.models.base import Base, described
from ws.models.hashes import INDEX, SINGLE, StoredWeights, weight_files
from ws.models.layout import Place, Source, sources
from ws.models.locate import HUB_ID, locate, why_not
from ws.models.modules import Linear, Stack, at_places, fingerprint, is_turned, linears_of, stacks_of, text_config
from ws.types import Config, Json

PRECISIONS = {name: dtype for dtype, name in DTYPES.items()}


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """An opened model folder; stands where a loaded base stands when only weights are needed."""

    folder: Path = field(repr=False)
    id: str
    revision: str | None
    source: str = field(repr=False)
    skeleton: nn.Module = field(repr=False)
    """The network on torch's meta device: every name and shape, no values."""
    places: dict[str, str] = field(repr=False)
    """Stored tensor to the shard that holds it."""

    @cached_property
    def linears(self) -> dict[str, Linear]:
        """Its linear layers inside the blocks, by full name; their modules hold no values."""
        return {x.name: x for x in linears_of(self.skeleton)}

    @cached_property
    def layers(self) -> dict[str, Linear]:
        """All that a direction may touch, by full name: linear layers, and the experts that lie in one tensor."""
        return {**self.linears, **{x.name: x for x in stacks_of(self.skeleton)}}

    @cached_property
    def fingerprint(self) -> str:
        """The same as that of the loaded model."""
        return fingerprint(self.skeleton, lambda name, p, places: self.values(name, places).to(p.dtype))

    @cached_property
    def weights_hash(self) -> str:
        """The same as that of the loaded model: of the bytes of its files."""
        return StoredWeights.of(weight_files(self.folder)).hash

    @property
    def names(self) -> list[str]:
        """Every parameter, a tied one once."""
        return [name for name, _ in self.skeleton.named_parameters()]

    @cached_property
    def _sources(self) -> Mapping[str, Source]:
        """The stored tensors of each tensor, by its name in the network."""
        return sources(self.skeleton, self.places)

    def _source(self, parameter: str) -> tuple[str, Source] | None:
        """The network's name of a parameter as it is stored, with its source: without a prefix, or as its tied twin, if need be."""
        prefix: str = getattr(self.skeleton, "base_model_prefix", "") + "."
        tries = [parameter, parameter.removeprefix(prefix), prefix + parameter]
        if getattr(text_config(self.skeleton), "tie_word_embeddings", False):
            tied = getattr(self.skeleton, "_tied_weights_keys", None)
            tries += [a if b == parameter else b for a, b in dict(tied or {}).items() if parameter in (a, b)]
        return next(((t, self._sources[t]) for t in tries if t in self._sources), None)

    def stored_as(self, parameter: str) -> str | None:
        """The checkpoint's name of a parameter that it holds as one tensor: its own name, an older one, or its tied twin's."""
        place = self._source(parameter)
        return None if place is None or place[1].converter is not None else place[1].names[0]

    def stored_in(self, parameter: str) -> Mapping[str, Place]:
        """The checkpoint's names of what a parameter is made of, and the place of each in it; none where that cannot be told."""
        place = self._source(parameter)
        return {} if place is None else place[1].places()

    @property
    def lacking(self) -> list[str]:
        """Parameters of its architecture that none of its files holds."""
        return [name for name in self.names if self._source(name) is None]

    def tensor(self, parameter: str) -> Tensor:
        """One parameter as the network has it, in the stored precision; files are closed again."""
        place = self._source(parameter)
        tensor = None if place is None else place[1].tensor(place[0], self.skeleton, self._read)
        if place is None or tensor is None:
            raise BadFile(f"the checkpoint {self.id} holds no {parameter}; it names its tensors otherwise.")
        expected, stored = self.skeleton.get_parameter(parameter), place[1].names[0]
        if tensor.shape != expected.shape:
            raise BadFile(
                f"{self.folder / self.places[stored]}: {stored} is {tuple(tensor.shape)}, and the model's config makes it {tuple(expected.shape)}."
            )
        return tensor

    def values(self, parameter: str, places: Tensor) -> Tensor:
        """Single values of one parameter, counted along its flattened form; of a tensor that is stored as it is nothing else is read."""
        stored = self.stored_as(parameter)
        if stored is not None and len(places) < self.skeleton.get_parameter(parameter).numel():
            path = self.folder / self.places[stored]
            start, header = self._headers(path)
            kind = PRECISIONS.get(header[stored]["dtype"])
            if kind is not None and header[stored]["shape"] == list(self.skeleton.get_parameter(parameter).shape):
                return _values(path, start + header[stored]["data_offsets"][0], kind, places)
        return at_places(self.tensor(parameter), places)

    def _headers(self, path: Path) -> tuple[int, Json]:
        """Where the tensors of a shard begin, and its table of them."""
        known: dict[Path, tuple[int, Json]] = self.__dict__.setdefault("_known_headers", {})
        if path not in known:
            with open(path, "rb") as f:
                (length,) = struct.unpack("<Q", f.read(8))
                known[path] = 8 + length, json.loads(f.read(length))
        return known[path]

    def _read(self, stored: str) -> Tensor:
        path = self.folder / self.places[stored]
        try:
            with safe_open(path, framework="pt") as f:
                return f.get_tensor(stored)
        except (SafetensorError, OSError) as e:
            raise BadFile(f"{path} cannot be read as safetensors ({str(e)[:100]}); it is truncated.") from None

    def weight(self, name: str) -> Tensor:
        """The matrix (out, in) of one linear layer, or (experts, out, in)."""
        layer = self.layers[name].module
        matrix = self.tensor(name if isinstance(layer, Stack) else f"{name}.weight")
        return matrix.mT if is_turned(layer) else matrix

    def bias(self, name: str) -> Tensor | None:
        """The bias of one linear layer, if it has one."""
        return None if self.layers[name].module.bias is None else self.tensor(f"{name}.bias")

    def described(self) -> Json:
        """The part of it that a direction or a record keeps."""
        return described(self)


def _values(path: Path, start: int, kind: torch.dtype, places: Tensor) -> Tensor:
    """Values of one stored tensor: read and not mapped, for a map brings in what lies around each."""
    with open(path, "rb") as f:
        parts = [os.pread(f.fileno(), kind.itemsize, start + kind.itemsize * at) for at in places.tolist()]
    return torch.frombuffer(bytearray(b"".join(parts)), dtype=kind)


Theta = Base | Checkpoint
"""The weights of a base, loaded or only opened: all that adapters and differences ask for."""


def open_checkpoint(model: str | Path, *, revision: str | None = None) -> Checkpoint:
    """Open `tiny`, a hub id, `id@revision`, or a folder, without loading it. Pickled weights are never read."""
    import transformers

    source, name, revision = locate(model, revision)
    folder = fetched(source, revision=revision)
    commit = None if Path(source).is_dir() else folder.name
    places = tensor_places(folder)
    try:
        config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
        if getattr(config, "quantization_config", None):
            raise Unsupported(
                f"{name} is quantised, and differences of packed weights are not exact; name the model it was made from."
            )
        network = skeleton(config, name, _dtype(config, folder, places))
    except (OSError, ValueError) as e:
        raise BadFile(why_not(str(model), e)) from e
    return Checkpoint(folder, name, commit or revision, str(model), network, places)


def checkpoint_of(base: Theta) -> Checkpoint:
    """The checkpoint a base came from."""
    if isinstance(base, Checkpoint):
        return base
    if base.root is not None:
        raise Unsupported(
            f"{base.id} is in memory only, and no checkpoint holds its weights; do this on {base.root.id}."
        )
    source, _, revision = locate(base.source or base.id)
    folder = fetched(source, revision=base.revision or revision)
    return Checkpoint(folder, base.id, base.revision, base.source, base.model, tensor_places(folder))


def tensor_places(folder: Path) -> dict[str, str]:
    """Tensor name to the shard that holds it; an index that names a missing shard is refused."""
    index, single = folder / INDEX, folder / SINGLE
    if single.is_file():  # first, as transformers reads them
        return dict.fromkeys(_keys(single), single.name)
    if not index.is_file():
        pickled = " Its weights are pickled, and no pickle is ever read." if list(folder.glob("*.bin")) else ""
        raise BadFile(f"{folder} holds no {SINGLE} and no index of shards.{pickled}")
    try:
        places = dict(json.loads(index.read_text())["weight_map"])
        assert all(isinstance(shard, str) for shard in places.values())
    except (ValueError, KeyError, TypeError, AssertionError):
        raise BadFile(f"{index} is no safetensors index.") from None
    for shard in sorted(set(places.values())):
        if Path(shard).name != shard:
            raise BadFile(f"{index} names the shard {shard!r}, which is a path and not a file of this folder.")
        if not (folder / shard).is_file():
            raise BadFile(f"{index} names the shard {shard}, and there is no such file.")
        if lost := sorted({n for n, s in places.items() if s == shard} - set(_keys(folder / shard))):
            raise BadFile(f"{index} places {lost[0]} in {shard}, which does not hold it.")
    return places


def _keys(path: Path) -> list[str]:
    try:
        with safe_open(path, framework="pt") as f:
            return list(f.keys())
    except (SafetensorError, OSError) as e:
        raise BadFile(
            f"{path} cannot be read as safetensors ({str(e)[:100]}); it is truncated or something else."
        ) from None


def fetched(source: str, what: str = "model", revision: str | None = None) -> Path:
    """A folder as it is, or the snapshot of a hub id, fetched into the hub's cache if it is not there; never a pickle."""
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    name, _, at = source.partition("@")
    if not HUB_ID.fullmatch(name):
        raise BadFile(f"there is no {what} folder at {source}.")
    online = reach(name, at or revision, what=what, instead="give a folder")
    from huggingface_hub import snapshot_download

    patterns = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]
    try:
        return Path(
            snapshot_download(name, revision=at or revision, allow_patterns=patterns, local_files_only=not online)
        )
    except Exception as e:  # the hub client raises many kinds, from its own and from its HTTP library
        raise BadFile(
            f"the {what} {source!r} is not in the local cache and the hub cannot be reached, or has no such {what} "
            f"({type(e).__name__}). Check the name and the network, or give a folder."
        ) from None


def _dtype(config: Config, folder: Path, places: dict[str, str]) -> torch.dtype:
    """The precision transformers loads a checkpoint in when it is not told: the config's, else that of the tensors."""
    if (dtype := stored_dtype(config)) is not None:
        return dtype
    for name, shard in places.items():
        with safe_open(folder / shard, framework="pt") as f:
            dtype = f.get_tensor(name).dtype
        if dtype.is_floating_point:
            return dtype
    raise BadFile(f"{folder} holds no tensor of floating-point numbers.")


def same(left: Checkpoint, right: Checkpoint) -> bool:
    """True where two checkpoints hold the same values, every one of them: a fingerprint looks at some, rounded."""
    if left.folder.resolve() == right.folder.resolve():
        return True
    if left.names != right.names or left.fingerprint != right.fingerprint:
        return False
    return all(torch.equal(left.tensor(n), right.tensor(n)) for n in left.names)
