"""One place that loads a model and its tokenizer, from `tiny`, a hub id, or a folder.

    base = ws.load("tiny")
    base = ws.load("Qwen/Qwen3-0.6B@main")

Remote code is never run unless asked.
"""

import logging
import re
import subprocess
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import nn

from ws.errors import BadFile, Unsupported
from ws.models.architecture import causal_class
from ws.models.base import Base as Base
from ws.models.checkpoint import open_checkpoint
from ws.models.hashes import stored_weights
from ws.models.locate import locate, reach_model, why_not
from ws.models.modules import fingerprint
from ws.models.prompts import tokenizer_of
from ws.progress import no_bars_in_files
from ws.settings import Range
from ws.signatures import plain_types
from ws.types import Json

log = logging.getLogger(__name__)

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "float64": torch.float64}
DEVICE = re.compile(r"auto|cpu|cuda(:\d{1,3})?|mps(:0)?")
MOST_THREADS = 4096
DEVICE_MAPS = ("auto", "balanced", "balanced_low_0", "sequential")
TOO_LARGE = (
    "{} does not fit the devices here; layers that wait on the CPU or the disk have no weights to train or to steer by. "
    "Use more or larger devices, or a smaller `dtype`; `ws doctor --model` says what is missing."
)


@plain_types
def load(
    model: str | Path = "tiny",
    *,
    revision: str | None = None,
    dtype: str = "auto",
    device: str = "auto",
    threads: int | None = None,
    trust_remote_code: bool = False,
    device_map: str | None = None,
    waiting: bool = False,
) -> Base:
    """Load a model and its tokenizer: `tiny`, a hub id, `id@revision`, or a folder.

    `dtype="auto"` is the checkpoint's own precision on an accelerator and float32 on the CPU. `tiny` runs on the CPU
    on one thread unless asked otherwise. `device_map="auto"` spreads the layers over all devices, as accelerate does;
    what does not fit there is refused and not moved to the CPU or the disk. `waiting` leaves the weights in main memory.
    """
    # 1. what cannot be is refused before anything is imported or read
    refuse_place(device=device, dtype=dtype, device_map=device_map, threads=threads)
    chosen = choose_device("cpu" if str(model) == "tiny" and device == "auto" else device)
    no_bars_in_files()
    source, name, revision = locate(model, revision)
    online = Path(source).is_dir() or reach_model(name, revision)
    # 2. the weights as they are stored
    import transformers

    if threads or name == "tiny":
        torch.set_num_threads(threads or 1)
    weights = stored_weights(Path(source)) if Path(source).is_dir() else None  # before the first byte is read
    options: Json = {"revision": revision, "trust_remote_code": trust_remote_code, "local_files_only": not online}
    if name == "tiny":
        transformers.utils.logging.disable_progress_bar()
    try:
        config = transformers.AutoConfig.from_pretrained(source, **options)
        packed = getattr(config, "quantization_config", None) is not None
        # a model that is spread over devices is placed by its final size, and not cast afterwards
        placed = {} if device_map is None and not packed else {"device_map": device_map or {"": chosen}}
        precision = "auto" if not placed or dtype == "auto" else DTYPES[dtype]
        network = causal_class(config, name).from_pretrained(
            source, dtype=precision, use_safetensors=True, **options, **placed
        )
        tokenizer = tokenizer_of(source, config, options)
    except (OSError, ValueError, ImportError, SafetensorError) as e:
        if isinstance(e, ImportError):  # of the library that a quantised checkpoint needs
            why = " ".join(str(e).split())[:200]
            raise Unsupported(
                f"{name} cannot be loaded here ({why}); install that, or load the model it was made from."
            ) from e
        if "offload" in str(e):
            raise Unsupported(TOO_LARGE.format(name)) from e
        raise BadFile(why_not(str(model), e)) from e
    _refuse_offloaded(network, name)
    if not tokenizer("word", add_special_tokens=False)[
        "input_ids"
    ]:  # where there is no file, transformers makes an empty one
        raise BadFile(
            f"{model} holds no tokenizer; copy tokenizer.json and tokenizer_config.json of the model into it."
        )
    # 3. as it was asked for
    network.eval().requires_grad_(False)

    mark = fingerprint(network) if packed or precision != torch.float16 else _stored_fingerprint(model, revision)
    if packed:  # as it is stored: packed weights are not cast, and lie where they were loaded
        _as_it_learns(network)
    elif dtype != "auto":
        if network.dtype != DTYPES[dtype]:
            network.to(DTYPES[dtype])
    elif chosen.type == "cpu":
        network.to(torch.float32)
    if device_map is None and not waiting and not packed:
        network.to(chosen)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "left"
    if (snapshot := _snapshot(source, revision)) is not None:
        revision, weights = snapshot.name, stored_weights(snapshot)
    waits = chosen if waiting else None
    return Base(network, tokenizer, mark, name, revision, str(model), waits, weights)


def _as_it_learns(network: nn.Module) -> None:
    """Keep bitsandbytes from packing 4-bit weights anew in a pass without gradients on some CPUs.

    From then on it would compute in bf16, and pass no gradient through those layers (0.50, 2026-11).
    """
    for layer in network.modules():
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            layer.support_avx512bf16_for_cpu = False  # type: ignore[assignment]


def _refuse_offloaded(network: nn.Module, name: str) -> None:
    """Refuse a network with layers that wait on the CPU or the disk: they hold no values between passes."""
    if any(p.device.type == "meta" for p in network.parameters()):
        raise Unsupported(TOO_LARGE.format(name))


def _stored_fingerprint(model: str | Path, revision: str | None) -> str:
    """The fingerprint of the stored checkpoint: loading as float16 has rounded the values, which changes it."""
    return open_checkpoint(model, revision=revision).fingerprint


def choose_device(device: str) -> torch.device:
    """The device asked for, or the best there is; an NVIDIA GPU that torch cannot use gets a warning."""
    if device != "auto":
        return _device_that_is_here(device)
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    try:
        listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=5).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        listing = ""
    if listing.startswith("GPU"):
        log.warning(
            "this machine has an NVIDIA GPU (%s) that torch %s cannot use; working on the CPU. "
            "Install a CUDA build of torch to use it.",
            listing.splitlines()[0],
            torch.__version__,
        )
    return torch.device("cpu")


def _device_that_is_here(device: str) -> torch.device:
    """The device of a name; one that this machine has not is refused, before anything is moved to it."""
    kind, _, number = device.partition(":")
    if kind == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if int(number or 0) >= count:
            there = f"there are {count} of them, from cuda:0 on" if count else f"torch {torch.__version__} sees none"
            raise ValueError(f"there is no device {device} here: {there}; give `device=cpu`, or leave it out")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise ValueError(f"there is no device {device} here: it is a Mac's; give `device=cpu`, or leave it out")
    return torch.device(device)


def refuse_place(
    *, device: str = "auto", dtype: str = "auto", device_map: str | None = None, threads: int | None = None
) -> None:
    """Refuse names that no machine knows; whether the device is on this one is seen when it is chosen."""
    if not DEVICE.fullmatch(device):
        raise ValueError(f"`device` is auto, cpu, cuda, cuda:1 or mps; got {device!r}")
    if dtype != "auto" and dtype not in DTYPES:
        raise ValueError(f"`dtype` is auto, {', '.join(DTYPES)}; got {dtype!r}")
    if device_map is not None and (device_map not in DEVICE_MAPS or device != "auto"):
        raise ValueError(
            f"`device_map` is {', '.join(DEVICE_MAPS)}, and then no `device` is named; got {device_map!r} on device {device}"
        )
    if threads is not None:
        Range(1, MOST_THREADS).check("threads", threads)


def _snapshot(source: str, revision: str | None) -> Path | None:
    """The folder in the hub's cache that a hub id was loaded from, called by its commit; None for a folder."""
    from huggingface_hub import try_to_load_from_cache

    if Path(source).is_dir():
        return None
    path = try_to_load_from_cache(source, "config.json", revision=revision)
    return Path(path).parent if isinstance(path, str) else None
