"""Where results lie, and how a stage that is done is known to be done.

    out/data/<model>/<behavior>/<key>/                     pairs
    out/<behavior>/<adapter>/<run>/train/                  both sides
    out/<behavior>/<adapter>/<run>/direction/              direction.safetensors
    out/<behavior>/<adapter>/<run>/eval/<name>/<key>/      rows.parquet
    out/base/<model>/<name>/<key>/                         scores.parquet: the unsteered arm, for every direction

A stage is keyed by the hash of its own settings and of its inputs' keys. It works in a folder beside its place and is
renamed there when all is written, the manifest last; a folder without a manifest does not exist for anybody. A killed
stage leaves its working folder, and the same command goes on from what lies there.
"""

import hashlib
import importlib.metadata
import json
import logging
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import Any

from ws.errors import BadFile
from ws.version import __version__

log = logging.getLogger(__name__)

LIBRARIES = ("torch", "transformers", "peft", "accelerate", "safetensors", "numpy", "scipy")
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Record:
    """A finished stage: where it lies, and its manifest."""

    folder: Path
    manifest: Mapping[str, Any]
    reused: bool

    @property
    def key(self) -> str:
        """The hash that names this stage's settings and inputs."""
        return self.manifest["key"]


def canonical(value: Any) -> str:
    """JSON that is the same text for the same value; NaN is null."""
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False)


def key_of(stage: str, settings: Mapping[str, Any], inputs: Mapping[str, Any]) -> str:
    """The key of a stage: its settings and what it was given, nothing about where or when."""
    return hashlib.sha256(canonical({"stage": stage, "settings": settings, "inputs": inputs}).encode()).hexdigest()


def find_run(run: str, out: Path | str) -> tuple[Path, dict[str, Any]]:
    """A run folder by path or by its name, and its training manifest."""
    for folder in [Path(run), *sorted(Path(out).glob(f"*/*/{escape(run)}"))]:
        if (folder / "train").is_dir() and (manifest := read(folder / "train")) is not None:
            return folder, manifest
    raise BadFile(f"{run!r} is no run folder and no run below {out}; `ws runs` lists them.")


def once(
    folder: Path,
    stage: str,
    settings: Mapping[str, Any],
    inputs: Mapping[str, Any],
    make: Callable[[Path], Mapping[str, Any]],
    *,
    beside: Mapping[str, Any] | None = None,
) -> Record:
    """The stage at `folder`, made by `make(working_folder)` unless it is there already.

    `make` writes files into the working folder and returns what the manifest should say of them. `beside` is recorded
    and in no key (device, batch size).
    """
    key = key_of(stage, settings, inputs)
    _writable(folder.parent)
    with _alone(folder):
        if (found := read(folder)) is not None:
            if found["key"] != key:
                raise BadFile(f"{folder} was made from another configuration; give another --out or move it away.")
            return Record(folder, found, reused=True)
        if folder.exists():
            raise BadFile(f"{folder} exists and holds no finished {stage} stage; move it away or give another --out.")
        work = folder.parent / f".{folder.name}.{key[:8]}.part"
        work.mkdir(exist_ok=True)
        start = time.time()
        try:
            said = make(work)
        except BaseException:
            if not any(work.iterdir()):  # nothing to go on from
                work.rmdir()
            raise
        manifest = {
            "stage": stage,
            "key": key,
            "settings": settings,
            "inputs": inputs,
            "versions": versions(),
            "seconds": round(time.time() - start, 3),
            "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            **(beside or {}),
            **said,
        }
        shutil.rmtree(work / "resume", ignore_errors=True)
        write_json(work / MANIFEST, manifest)
        os.replace(work, folder)
        return Record(folder, json.loads(canonical(manifest)), reused=False)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process at a time makes a stage; a second one says that it waits."""
    from filelock import FileLock, Timeout

    lock = FileLock(folder.parent / f".{folder.name}.lock")
    try:
        lock.acquire(timeout=0.5)
    except Timeout:
        log.info("waiting for another ws that makes %s", folder)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def read(folder: Path) -> dict[str, Any] | None:
    """The manifest of a finished stage, or None."""
    path = folder / MANIFEST
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text())
        assert isinstance(found, dict) and "key" in found
    except (ValueError, AssertionError):
        raise BadFile(f"{path} is not a manifest of ws; move the folder away and run the command again.") from None
    return found


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, readable, with NaN as null."""
    write_text(path, json.dumps(_plain(value), indent=1, sort_keys=True, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a file so that it is there whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with open(temporary, "w", encoding="utf-8") as f:
        f.write(text)
        f.flush()
        os.fsync(f.fileno())
    os.replace(temporary, path)


def versions() -> dict[str, str]:
    """Our version and those of the libraries a number can depend on."""
    found = {name: importlib.metadata.version(name) for name in LIBRARIES}
    found["weight-steering"] = __version__
    return found


def slug(text: str) -> str:
    """A name that is safe as one folder."""
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in text).strip(".-") or "unnamed"


def _writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe.{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as e:
        raise BadFile(f"the output folder {folder} cannot be written ({e.strerror}); give another --out.") from None


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value
