"""The machine and the installation: libraries, devices, memory, disk, and the way to the hub."""

import importlib.metadata
import os
import platform
import time
from pathlib import Path

import torch

from ws.batches import free_memory
from ws.doctor.check import BROKEN, NOTE, OK, Finding, size
from ws.models.load import choose_device
from ws.version import __version__

HUB_SECONDS = 4.0
LITTLE_DISK = 5e9
OURS = "weight-steering"
NEEDED = (
    "torch",
    "transformers",
    "peft",
    "accelerate",
    "safetensors",
    "huggingface_hub",
    "gguf",
    "numpy",
    "scipy",
    "pandas",
)
OPTIONAL = {
    "lm_eval": "ws eval lm-eval",
    "trackio": "--report-to trackio",
    "wandb": "--report-to wandb",
    "mlflow": "--report-to mlflow",
    "tensorboard": "--report-to tensorboard",
}


def examine(out: Path, *, device: str = "auto") -> list[Finding]:
    """Everything about the machine that does not depend on a model."""
    return [_python(), *_libraries(), _optional(), *_devices(device), *_disk(out), _hub()]


def _python() -> Finding:
    return Finding(
        "ws", OK, f"{__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    )


def _libraries() -> list[Finding]:
    """Versions, and those below what this version of `ws` was made for."""
    least = _least()
    versions, bad = [], []
    for name in NEEDED:
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            bad.append(Finding(name, BROKEN, "not installed", f"Install it: pip install '{name}{least.get(name, '')}'"))
            continue
        versions.append(f"{name} {version}")
        if name in least and not _satisfies(version, least[name]):
            do = f"Update it: pip install -U '{name}{least[name]}'"
            bad.append(Finding(name, BROKEN, f"{version}, and ws needs {least[name]}", do))
    return [Finding("libraries", OK, ", ".join(versions)), *bad]


def _least() -> dict[str, str]:
    """The lower bounds our own package names; none where `ws` runs from a folder that was never installed."""
    from packaging.requirements import Requirement

    try:
        requirements = [Requirement(r) for r in importlib.metadata.requires(OURS) or ()]
    except importlib.metadata.PackageNotFoundError:
        return {}
    return {r.name: str(r.specifier) for r in requirements if r.marker is None}


def _satisfies(version: str, bound: str) -> bool:
    from packaging.specifiers import SpecifierSet

    return SpecifierSet(bound).contains(version, prereleases=True)


def _optional() -> Finding:
    there, missing = [], []
    for name, use in OPTIONAL.items():
        try:
            there.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(f"{name} ({use})")
    summary = "; ".join(
        ([f"there: {', '.join(there)}"] if there else []) + ([f"not there: {', '.join(missing)}"] if missing else [])
    )
    return Finding("optional", OK, summary)


def _devices(device: str) -> list[Finding]:
    """The devices that work would run on, and the free memory of each."""
    try:
        chosen = choose_device(device)
        if chosen.type == "cuda":
            torch.empty(1, device=chosen)
    except (ValueError, RuntimeError, AssertionError) as e:
        why = " ".join(str(e).split())[:120]
        return [
            Finding(
                "device", BROKEN, f"{device}: {why}", "Name a device that is there: --device cpu, cuda, cuda:1 or mps"
            )
        ]
    free = free_memory(torch.device("cpu"))
    threads = torch.get_num_threads()
    cores = f"{os.cpu_count()} CPU cores, torch uses {threads} thread{'s' if threads > 1 else ''}"
    checks = [Finding("cpu", OK, cores + (f", {size(free)} of memory free" if free else ""))]
    for i in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        unused, whole = torch.cuda.mem_get_info(i)
        checks.append(
            Finding(f"cuda:{i}", OK, f"{torch.cuda.get_device_name(i)}, {size(unused)} of {size(whole)} free")
        )
    return [*checks, Finding("device", OK, f"{chosen} (--device {device})")]


def free_by_device(device: str) -> dict[str, int]:
    """Free bytes of every device that a large model could be spread over, the chosen one first."""
    chosen = choose_device(device)
    if chosen.type != "cuda":
        return {str(chosen): free_memory(chosen) or 0}
    first = chosen.index or 0
    order = [first, *(i for i in range(torch.cuda.device_count()) if i != first)]
    return {f"cuda:{i}": torch.cuda.mem_get_info(i)[0] for i in order}


def _disk(out: Path) -> list[Finding]:
    """Room where results go and where models are kept."""
    import shutil

    from huggingface_hub import constants

    checks = []
    if not os.access(_nearest(out), os.W_OK):
        checks.append(Finding("output", BROKEN, f"{out} cannot be written", "Give another --out."))
    for name, place in (("output", out), ("hub cache", Path(constants.HF_HUB_CACHE))):
        unused = shutil.disk_usage(_nearest(place)).free
        if not any(c.name == name for c in checks):
            state, do = (
                (OK, "")
                if unused > LITTLE_DISK
                else (
                    NOTE,
                    f"Free some space, or name another place with {'--out' if name == 'output' else 'HF_HOME'}.",
                )
            )
            checks.append(Finding(name, state, f"{place.expanduser().resolve()}, {size(unused)} free", do))
    return checks


def _nearest(place: Path) -> Path:
    """The folder itself, or the first one above it that is there."""
    place = place.expanduser().resolve()
    return next(p for p in (place, *place.parents) if p.exists())


def _hub() -> Finding:
    """The hub: one short request tells whether models can be fetched."""
    from huggingface_hub import constants, get_session, get_token

    if constants.HF_HUB_OFFLINE:
        return Finding(
            "hub", NOTE, "offline, because HF_HUB_OFFLINE is set: models come from the cache or from folders"
        )
    start = time.monotonic()
    try:
        status = get_session().head(constants.ENDPOINT, timeout=HUB_SECONDS).status_code
    except Exception as e:  # the hub's client raises the kinds of whatever HTTP library it uses
        why = type(e).__name__
        return Finding(
            "hub", NOTE, f"not reached in {HUB_SECONDS:g} s ({why}): models come from the cache or from folders"
        )
    who = "with a token" if get_token() else "without a token, so gated models are closed"
    message = f"reached in {time.monotonic() - start:.1f} s, {who}"
    return Finding(
        "hub", OK if status < 500 else NOTE, message if status < 500 else f"it answers {status}; try again later"
    )
