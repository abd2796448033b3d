"""A base that is known by its files, so that its network is loaded only where something is computed.

What the keys of stages ask of a base is the same for the same files. It is written down in the cache folder (`WS_CACHE`, else
`~/.cache/ws`) when a model is loaded, by the path, size, inode and times of every file of its folder, as the hashes of files are.
A command whose stages are all done then reads no weights, and imports none of what only running a network needs.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ws.errors import BadFile
from ws.models.base import Base
from ws.models.hashes import StoredWeights, cache_folder, remember, settled, stamp
from ws.types import Json, Tokenizer

PROTOCOL = "known/1"
READERS = ("torch", "transformers", "tokenizers")
"""Libraries of which another version may read something else from the same files."""


@dataclass(frozen=True)
class Known:
    """What stages ask of a base, as it was when it was last loaded."""

    fingerprint: str
    config: str
    tokenizer: str
    has_template: bool
    thinks: bool
    dtype: str
    n_parameters: int

    @classmethod
    def of(cls, base: Base) -> "Known":
        """What is known of a loaded base."""
        dtype = str(base.dtype).removeprefix("torch.")
        return cls(
            fingerprint=base.fingerprint,
            config=base.config_hash,
            tokenizer=base.tokenizer_hash,
            has_template=base.has_template,
            thinks=base.thinks,
            dtype=dtype,
            n_parameters=base.n_parameters,
        )


class StoredBase(Base):
    """A base whose network and tokenizer are loaded when something asks for them."""

    _known: Known
    _on: torch.device
    _network: Callable[[], tuple[nn.Module, str]]
    _words: Callable[[], Tokenizer]

    @classmethod
    def of(
        cls,
        known: Known,
        on: torch.device,
        *,
        network: Callable[[], tuple[nn.Module, str]],
        tokenizer: Callable[[], Tokenizer],
        **names: Any,
    ) -> "StoredBase":
        """A base that will work on a device; `network` gives it with its fingerprint, and `names` are its other fields."""
        base = object.__new__(cls)
        parts = {"_known": known, "_on": on, "_network": network, "_words": tokenizer}
        base.__dict__.update(parts, fingerprint=known.fingerprint, **names)
        return base

    def __getattr__(self, name: str) -> Any:
        """Load what is asked for and is not there yet."""
        if name == "tokenizer":
            self.__dict__[name] = self._words()
        elif name in ("model", "_linears", "_layers"):
            self._load()
        else:
            raise AttributeError(f"a base has no {name!r}", name=name, obj=self)
        return self.__dict__[name]

    def _load(self) -> None:
        with torch.inference_mode(False):  # whoever asks first may be in that mode, and a training may be next
            network, mark = self._network()
        if mark != self.fingerprint or (isinstance(self.weights, StoredWeights) and self.weights.changed):
            raise BadFile(f"the files of {self.id} changed while it was in use; run the command again.")
        self.__dict__["model"] = network
        self.__post_init__()

    @property
    def loaded(self) -> bool:
        return "model" in self.__dict__

    @property
    def config_hash(self) -> str:
        return super().config_hash if self.loaded else self._known.config

    @property
    def tokenizer_hash(self) -> str:
        return super().tokenizer_hash if "tokenizer" in self.__dict__ else self._known.tokenizer

    @property
    def has_template(self) -> bool:
        return super().has_template if "tokenizer" in self.__dict__ else self._known.has_template

    @property
    def thinks(self) -> bool:
        return super().thinks if "tokenizer" in self.__dict__ else self._known.thinks

    @property
    def n_parameters(self) -> int:
        return super().n_parameters if self.loaded else self._known.n_parameters

    @property
    def device(self) -> torch.device:
        return super().device if self.loaded else self._on

    @property
    def dtype(self) -> torch.dtype:
        return super().dtype if self.loaded else getattr(torch, self._known.dtype)


def recall(folder: Path, how: Json) -> Known | None:
    """What is known of the model in a folder, loaded in such a way; None where it was not loaded since its files changed."""
    memory = _memory(folder, how)
    try:
        entry = json.loads(memory.read_text())
        same = entry["path"] == str(folder.resolve()) and entry["files"] == files_of(folder)
        return Known(**entry["known"]) if same else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def keep(folder: Path, how: Json, base: Base, before: Json) -> None:
    """Remember what is known of a base that was loaded from a folder, whose files were `before` like this."""
    if files_of(folder) == before and all(settled(tuple(at)) for at in before.values()):
        entry = {"path": str(folder.resolve()), "files": before, "known": asdict(Known.of(base))}
        remember(_memory(folder, how), entry)


def files_of(folder: Path) -> Json:
    """Size, inode and times of every file of a model folder, by name."""
    return {path.name: list(stamp(path)) for path in sorted(folder.iterdir()) if path.is_file()}


def _memory(folder: Path, how: Json) -> Path:
    """The file where this is remembered; other libraries have another one."""
    readers = {name: version(name) for name in READERS}
    name = json.dumps([PROTOCOL, str(folder.resolve()), how, readers], sort_keys=True)
    return cache_folder() / "known" / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.json"
