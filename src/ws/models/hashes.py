"""Hashes that tell the weights of two models apart, byte by byte. Every key of a stage is made from them.

A base has two names. Its `weights_hash` is the SHA-256 of all bytes of its weights: one changed value is another hash,
and so is another precision. Its `fingerprint` (modules.py) is a sample that survives a change of precision: by it a
direction recognises its base, and it cannot see an edit of a few values.

A file is read once. Its hash is remembered in the cache folder (`WS_CACHE`, else `~/.cache/ws`) by path, size, inode and
times. The time of the last change of the inode is among them, because no program can set that one back.
"""

import hashlib
import json
import logging
import os
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn

from ws.errors import BadFile
from ws.records import canonical
from ws.types import Fields, Network, Tokenizer

log = logging.getLogger(__name__)

INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
SETTLED = 2.0
"""Seconds after which a second change of a file surely shows in its times."""
AT_ONCE = 1 << 26  # bytes that are brought to main memory at a time
Stamp = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class StoredWeights:
    """The files that a model's weights were read from, as they were then."""

    stamps: dict[Path, Stamp]

    @classmethod
    def of(cls, files: Iterable[Path]) -> "StoredWeights":
        """These files as they are now."""
        return cls({path: stamp(path) for path in sorted(set(files))})

    @property
    def changed(self) -> list[Path]:
        """The files that are not as they were."""
        return [p for p, before in self.stamps.items() if not p.is_file() or stamp(p) != before]

    @cached_property
    def hash(self) -> str:
        """SHA-256 over the names and bytes of all files, which must not have changed since they were read."""
        with ThreadPoolExecutor(min(8, len(self.stamps))) as pool:
            hashes = list(pool.map(file_hash, self.stamps))
        if changed := self.changed:
            raise BadFile(f"{changed[0]} changed after the model was loaded from it; run the command again.")
        return hashlib.sha256(json.dumps([[p.name, h] for p, h in zip(self.stamps, hashes)]).encode()).hexdigest()


def weight_files(folder: Path) -> list[Path]:
    """The files that transformers reads a folder's weights from: the single one, or an index and its shards."""
    if (folder / SINGLE).is_file():  # first, as transformers reads them
        return [folder / SINGLE]
    shards = set(json.loads((folder / INDEX).read_text())["weight_map"].values())
    return [folder / INDEX, *(folder / shard for shard in shards)]


def stored_weights(folder: Path) -> StoredWeights | None:
    """The weights of a model folder as they are now, not read yet; None where the network is read from elsewhere too."""
    if (folder / "adapter_config.json").is_file():  # transformers then loads another base and puts an adapter on it
        return None
    try:
        return StoredWeights.of(weight_files(folder))
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return None


def stamp(path: Path) -> Stamp:
    """Size, inode and times of a file: what a change of its bytes changes too."""
    s = path.stat()
    return (s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino, s.st_dev)


def settled(at: Stamp) -> bool:
    """Whether a change from now on will show: two in one tick of the clock leave the same times."""
    return time.time() - max(at[1:3]) / 1e9 > SETTLED


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, remembered between commands."""
    path = path.resolve()
    before = stamp(path)
    memory = cache_folder() / "hashes" / f"{hashlib.sha256(os.fsencode(path)).hexdigest()[:32]}.json"
    if (remembered := _remembered(memory, path, before)) is not None:
        return remembered
    with open(path, "rb") as f:
        digest = hashlib.file_digest(f, "sha256").hexdigest()
    if stamp(path) == before and settled(before):
        remember(memory, {"path": str(path), "stamp": before, "sha256": digest})
    return digest


def network_hash(model: nn.Module) -> str:
    """SHA-256 over names, kinds, shapes and bytes of all parameters and buffers of a network in memory."""
    h = hashlib.sha256()
    for name, t in sorted(model.state_dict().items()):
        h.update(f"{name} {t.dtype} {tuple(t.shape)} ".encode())
        for part in _parts(t.detach()):
            h.update(part.numpy().data)
    return h.hexdigest()


def tokenizer_hash(tokenizer: Tokenizer) -> str:
    """A hash of vocabulary, merges, special tokens and chat template; how it happens to be padding is not part of it."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        words = _without_padding(backend.to_str())
    else:
        words = hashlib.sha256(canonical({"vocabulary": tokenizer.get_vocab()}).encode()).hexdigest()
    marks = {k: str(v) for k, v in sorted(tokenizer.special_tokens_map.items())}
    return hashlib.sha256(canonical([words, marks, str(getattr(tokenizer, "chat_template", ""))]).encode()).hexdigest()


@lru_cache(maxsize=4)  # every key of every stage asks, and a vocabulary is long
def _without_padding(backend: str) -> str:
    """A hash of a tokenizer's own JSON, less how it happens to be padding."""
    parts = {k: v for k, v in json.loads(backend).items() if k not in ("padding", "truncation")}
    return hashlib.sha256(canonical(parts).encode()).hexdigest()


def config_hash(model: Network) -> str:
    """A hash of what the model's config says of its computation, and of the tokens that end generation."""
    skip = {"_name_or_path", "transformers_version", "dtype", "torch_dtype", "architectures"}
    config = {k: str(v) for k, v in sorted(model.config.to_dict().items()) if k not in skip}
    ends = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    return hashlib.sha256(canonical([config, str(ends)]).encode()).hexdigest()


def cache_folder() -> Path:
    """The folder where ws remembers what costs time to find out; nothing there decides a result."""
    return Path(os.environ.get("WS_CACHE") or Path("~/.cache/ws")).expanduser()


def _parts(t: Tensor) -> Iterable[Tensor]:
    """The bytes of a tensor in main memory, a part at a time."""
    flat = t.contiguous().reshape(-1).view(torch.uint8)
    for at in range(0, flat.numel(), AT_ONCE):
        yield flat[at : at + AT_ONCE].cpu()


def _remembered(memory: Path, path: Path, now: Stamp) -> str | None:
    """The hash that was found for a file with these times, or None."""
    try:
        entry = json.loads(memory.read_text())
        return entry["sha256"] if entry["path"] == str(path) and tuple(entry["stamp"]) == now else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def remember(memory: Path, entry: Fields) -> None:
    """Write an entry of the cache folder whole; of two processes that do so at once, either may win, and both are right."""
    temporary = memory.with_name(f".{memory.name}.{os.getpid()}.{time.monotonic_ns()}.tmp")
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(entry))
        os.replace(temporary, memory)
    except OSError as e:
        with suppress(OSError):
            temporary.unlink()
        log.info("what %s is, is not remembered (%s): it is read again next time", entry["path"], e.strerror)
