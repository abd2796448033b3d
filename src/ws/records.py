"""The places of results, and how a finished stage is known to be finished.

    out/data/<model>/<behavior>/<key>/                     pairs
    out/<behavior>/<adapter>/<run>/train/                  both sides
    out/<behavior>/<adapter>/<run>/direction/              direction.safetensors
    out/<behavior>/<adapter>/<run>/eval/<name>/<key>/      rows.parquet
    out/base/<model>/<name>/<key>/                         scores.parquet: the unsteered arm, for every direction

A stage is keyed by the hash of its own settings and of its inputs' keys. It works in a folder beside its place and is
renamed there when all is written, the manifest last; a folder without a manifest does not exist for anybody. A killed
stage leaves its working folder, and the same command goes on from what lies in its `resume/`.

The manifest holds size and SHA-256 of every file, and a stage is only taken for done if they are right. A damaged one is
moved aside and made again, and that is said. No decision is made by the clock: it may be put back at any time.
"""

import errno
import hashlib
import importlib.metadata
import json
import logging
import math
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from ws.errors import BadFile, DiskFull
from ws.types import Json
from ws.version import __version__

log = logging.getLogger(__name__)

LIBRARIES = ("torch", "transformers", "peft", "accelerate", "safetensors", "numpy", "scipy")
MANIFEST = "manifest.json"
NEARBY = 5  # runs that an error names
P = TypeVar("P", bound="Place")


@dataclass(frozen=True)
class Record:
    """A finished stage: where it lies, and its manifest."""

    folder: Path
    manifest: Json
    reused: bool

    @property
    def key(self) -> str:
        """The hash that names this stage's settings and inputs."""
        return self.manifest["key"]


def canonical(value: object) -> str:
    """JSON that is the same text for the same value; NaN is null."""
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False)


def key_of(stage: str, settings: Mapping[str, object], inputs: Mapping[str, object]) -> str:
    """The key of a stage: a hash of its settings and inputs, and of nothing about where or when."""
    return hashlib.sha256(canonical({"stage": stage, "settings": settings, "inputs": inputs}).encode()).hexdigest()


@dataclass(frozen=True)
class Place:
    """The place of one stage: its folder, and the settings and inputs that determine it.

    Whoever makes it, finds it or only looks for it uses this value.
    """

    stage: str
    folder: Path
    settings: Mapping[str, object] = field(repr=False)
    inputs: Mapping[str, object] = field(repr=False)

    @classmethod
    def below(
        cls: type[P], folder: Path, stage: str, settings: Mapping[str, object], inputs: Mapping[str, object]
    ) -> P:
        """The place of a stage whose folder, below another, is called by its key."""
        return cls(stage, folder / key_of(stage, settings, inputs)[:12], settings, inputs)

    @cached_property
    def key(self) -> str:
        """The hash that names its settings and inputs."""
        return key_of(self.stage, self.settings, self.inputs)

    @property
    def manifest(self) -> Json | None:
        """Its manifest where it is done from these settings and inputs, else None."""
        manifest = read(self.folder)
        return manifest if manifest is not None and manifest["key"] == self.key else None

    def once(
        self, make: Callable[[Path], Mapping[str, object]], *, beside: Mapping[str, object] | None = None
    ) -> "Record":
        """Its record, made by `make(working_folder)` unless it is there already."""
        return once(self.folder, self.stage, self.settings, self.inputs, make, beside=beside)


def run_folders(out: Path) -> list[Path]:
    """The folders of all trained runs below an output folder."""
    return [train.parent for train in sorted(out.glob("*/*/*/train")) if (train / MANIFEST).is_file()]


def named_runs(text: str, out: Path | str) -> list[Path]:
    """The run folders that a text names: by path, by name, or by how the name begins, BEHAVIOR/ADAPTER/NAME too."""
    path, out = Path(text).expanduser(), Path(out)
    if (path / "train" / MANIFEST).is_file():
        return [path]
    beginning = text.removeprefix(f"{out}/").rstrip("/")
    names = {run: (run.name, run.relative_to(out).as_posix()) for run in run_folders(out)} if beginning else {}
    same = [run for run, both in names.items() if beginning in both]
    return same or [run for run, both in names.items() if any(name.startswith(beginning) for name in both)]


def find_run(text: str, out: Path | str) -> tuple[Path, Json]:
    """The run folder that a text names, by path, name or a beginning no other run has, and its training manifest."""
    runs = named_runs(text, out)
    if len(runs) > 1:
        listed = ", ".join(run.relative_to(out).as_posix() for run in runs[:NEARBY])
        more = f" and {len(runs) - NEARBY} more" if len(runs) > NEARBY else ""
        raise BadFile(f"{text!r} names {len(runs)} runs below {out}: {listed}{more}; give more of one.")
    for folder in runs:
        if (manifest := read(folder / "train")) is not None:
            refuse_damaged(folder / "train", manifest)
            return folder, manifest
    there = [run.relative_to(out).as_posix() for run in run_folders(Path(out))]
    likely = sorted(there, key=lambda name: -SequenceMatcher(None, text, name).ratio())[:NEARBY]
    hint = f"there are {', '.join(likely)}" if likely else "there is none yet"
    raise BadFile(f"{text!r} is no run folder and no run below {out}; {hint}; `ws runs` lists them.")


def once(
    folder: Path,
    stage: str,
    settings: Mapping[str, object],
    inputs: Mapping[str, object],
    make: Callable[[Path], Mapping[str, object]],
    *,
    beside: Mapping[str, object] | None = None,
) -> Record:
    """The stage at `folder`, made by `make(working_folder)` unless it is there already.

    `make` writes files into the working folder and returns what the manifest should say of them. `beside` is recorded
    and in no key (device, batch size).
    """
    key = key_of(stage, settings, inputs)
    writable(folder.parent)
    with _alone(folder):
        old = read(folder)
        if old is not None:
            if old["key"] != key:
                raise BadFile(f"{folder} was made from another configuration; give another `out` or move it away.")
            if not (damage := damage_of(folder, old)):
                return Record(folder, old, reused=True)
            aside = _set_aside(folder)
            log.warning("%s in %s; it is made again, and what there is of it was moved to %s", damage, folder, aside)
        elif folder.exists():
            raise BadFile(f"{folder} exists and holds no finished {stage} stage; move it away or give another `out`.")
        work = folder.parent / f".{folder.name}.{key[:8]}.part"
        start = time.perf_counter()
        try:
            with _said_when_full(work):
                _ready(work)
                fields = make(work)
                shutil.rmtree(work / "resume", ignore_errors=True)
                manifest: Json = {
                    "stage": stage,
                    "key": key,
                    "settings": settings,
                    "inputs": inputs,
                    "versions": versions(),
                    "seconds": round(time.perf_counter() - start, 3),
                    "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                    "files": checksums(work),
                    **(beside or {}),
                    **fields,
                }
                write_json(work / MANIFEST, manifest)
        except BaseException:
            if work.is_dir() and not any(work.iterdir()):  # nothing to go on from
                work.rmdir()
            raise
        os.replace(work, folder)
        same = old is not None and old.get("content") == manifest.get(
            "content", ""
        )  # but for what was noted on its card
        if old is not None and not same and (changed := _differing(old["files"], manifest["files"])):
            log.warning(
                "%s is not what it was before (%s differ): what was made from it should be made again", folder, changed
            )
        return Record(folder, json.loads(canonical(manifest)), reused=False)


def amend(folder: Path, name: str, write: Callable[[Path], object]) -> None:
    """One file of a finished stage, written anew by `write(path)`: what it says may grow, and what it holds stays.

    The manifest first allows both versions, so that the stage is whole whenever this is stopped.
    """
    with _alone(folder):
        manifest = read(folder)
        if manifest is None or damage_of(folder, manifest):
            return  # whoever needs the stage makes it again
        new = folder / f".{name}.{os.getpid()}.new"
        try:
            write(new)
            both = {**_version(new), "before": _version(folder / name)}
            files = {**manifest["files"], name: both}
            write_json(folder / MANIFEST, {**manifest, "files": files})
            os.replace(new, folder / name)
        finally:
            new.unlink(missing_ok=True)


def _ready(work: Path) -> None:
    """The working folder, with what a killed process kept in `resume/` and nothing it left half written."""
    work.mkdir(exist_ok=True)
    for path in work.iterdir():
        if path.is_dir() and path.name != "resume":
            shutil.rmtree(path)
        elif not path.is_dir():
            path.unlink()


# ---------------------------------------------------------------- what lies there is what was written

_checked: set[str] = set()
"""Stages whose files this process has compared with their manifest; reading them once is enough."""


def checksums(folder: Path) -> dict[str, Json]:
    """Size and SHA-256 of every file below a folder but its manifest, each brought to the disk first."""
    files = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        if name != MANIFEST:
            files[name] = _version(path)
    return files


def _version(path: Path) -> Json:
    """Size and SHA-256 of a file, brought to the disk first."""
    with open(path, "rb") as f:
        os.fsync(f.fileno())
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(f, "sha256").hexdigest()}


def damage_of(folder: Path, manifest: Mapping[str, Any]) -> str | None:
    """The damage to the files of a finished stage, in a few words, or None; files are read once per process."""
    if not isinstance(files := manifest.get("files"), Mapping):
        raise BadFile(f"{folder} was written by a ws that kept no checksums; move it away and run the command again.")
    mark = canonical([str(folder.resolve()), files])
    if mark in _checked:
        return None
    for name, expected in sorted(files.items()):
        damage = _damage_of_file(folder / name, expected)
        before = expected.get("before")  # where `amend` was stopped, the file is what it was
        if damage and (before is None or _damage_of_file(folder / name, before)):
            return f"{name} {damage}"
    _checked.add(mark)
    return None


def _damage_of_file(path: Path, expected: Mapping[str, Any]) -> str | None:
    if not path.is_file():
        return "is missing"
    if path.stat().st_size != expected["bytes"]:
        return f"has {path.stat().st_size} bytes instead of {expected['bytes']}"
    with open(path, "rb") as f:
        if hashlib.file_digest(f, "sha256").hexdigest() != expected["sha256"]:
            return "has other bytes than were written"
    return None


def refuse_damaged(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Refuse a finished stage whose files are not what was written, where it cannot be made again here."""
    if damage := damage_of(folder, manifest):
        raise BadFile(f"{damage} in {folder}; run the command that made it again, which repairs it.")


def _set_aside(folder: Path) -> Path:
    """Move a damaged stage to a name that nobody looks for; returns it."""
    n = 1
    while (aside := folder.parent / f".{folder.name}.damaged-{n}").exists():
        n += 1
    os.replace(folder, aside)
    os.replace(aside / MANIFEST, aside / f"damaged-{MANIFEST}")  # a folder with a manifest is a result
    return aside


def _differing(before: Mapping[str, object], after: Mapping[str, object]) -> str:
    return ", ".join(n for n in sorted(before.keys() | after.keys()) if before.get(n) != after.get(n))


@contextmanager
def _said_when_full(work: Path) -> Iterator[None]:
    """A full disk as one sentence, whoever ran into it: Python, Arrow and safetensors each have an error of their own."""
    try:
        yield
    except Exception as e:
        if not is_disk_full(e):
            raise
        raise DiskFull(
            f"there is no room left on the disk, or under its quota, to write {work}. What is done is kept; free some "
            "space and give the same command again."
        ) from e


def is_disk_full(error: BaseException) -> bool:
    """True for an error that says that there is no room, on any disk or under any quota."""
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return True
    numbers = [f"os error {n}" for n in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)]
    return any(sign in str(error) for sign in ("No space left on device", "Disk quota exceeded", *numbers))


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process at a time makes a stage; a second one says that it waits."""
    file = folder.parent / f".{folder.name}.lock"
    if (lock := locked(file, 0.5)) is None:
        log.info("waiting for another ws that makes %s", folder)
        lock = locked(file)
    try:
        yield
    finally:
        lock.release()


def locked(file: Path, seconds: float = -1) -> Any:
    """The operating system's lock of a file, held; None where another process has had it for so long.

    A holder that dies leaves none, so a file system without such locks is refused and no other kind is tried.
    """
    from filelock import FileLock, SoftFileLock, Timeout

    lock: Any = FileLock(file)
    try:
        lock.acquire(timeout=seconds)
        if isinstance(lock, SoftFileLock):  # filelock turns itself into one where it finds no other
            lock.release()
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    except Timeout:
        return None
    except OSError as e:
        if e.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
        raise BadFile(
            f"the file system of {file.parent} has no locks ({e.strerror}), without which two commands could write one "
            "result; give another `out`."
        ) from None
    return lock


def read(folder: Path) -> Json | None:
    """The manifest of a finished stage, or None."""
    path = folder / MANIFEST
    if not path.is_file():
        return None
    try:
        manifest = json.loads(path.read_text())
        assert isinstance(manifest, dict) and "key" in manifest
    except (ValueError, AssertionError):
        raise BadFile(f"{path} is not a manifest of ws; move the folder away and run the command again.") from None
    return manifest


def write_json(path: Path, value: object) -> None:
    """Write JSON atomically, readable, with NaN as null."""
    write_text(path, json.dumps(_plain(value), indent=1, sort_keys=True, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a file so that it is there whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "w", encoding="utf-8") as f:
            f.write(text)
            f.flush()
            os.fsync(f.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def versions() -> dict[str, str]:
    """Our version and those of the libraries a number can depend on."""
    numbers = {name: importlib.metadata.version(name) for name in LIBRARIES}
    numbers["weight-steering"] = __version__
    return numbers


def slug(text: str) -> str:
    """A name that is safe as one folder."""
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in text).strip(".-") or "unnamed"


def writable(folder: Path, field: str = "out") -> None:
    """Make a folder and refuse one that cannot be written; `field` is what was typed for it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):  # without a name where that is possible: a kill leaves nothing
            pass
    except OSError as e:
        if is_disk_full(e):
            raise
        what = "output folder" if field == "out" else "folder"
        raise BadFile(f"the {what} {folder} cannot be written ({e.strerror}); give another `{field}`.") from None


def refuse_no_folder(out: Path) -> None:
    """Refuse an output folder that is something else, or lies in something else."""
    if not next(p for p in (out, *out.absolute().parents) if p.exists()).is_dir():
        raise BadFile(f"{out} is no folder; `out` names the one with the runs.")


def refuse_unwritable(folder: Path, field: str = "out") -> None:
    """Refuse an output folder that cannot be written, by trying; nothing of the trial is left."""
    folder = folder.expanduser().absolute()
    made = [p for p in (folder, *folder.parents) if not p.exists()]  # the deepest first
    try:
        writable(folder, field)
    finally:
        for p in made:
            with suppress(OSError):  # not there, or somebody has put something into it meanwhile
                p.rmdir()


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value
