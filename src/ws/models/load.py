"""One place that loads a model and its tokenizer, from `tiny`, a hub id, or a folder.

    base = ws.load("tiny")
    base = ws.load("Qwen/Qwen3-0.6B@main")

Remote code is never run unless asked. A base has two names: the hash of all bytes of its weights, by which results are
kept, and the fingerprint, a sample by which a direction recognises it. Both are taken in the checkpoint's own precision,
before any cast, so that they do not depend on the precision you work in.
"""

import logging
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from ws.errors import BadFile, Unsupported
from ws.models.gguf import converted, names_gguf
from ws.models.hashes import StoredWeights, network_hash, stored_weights
from ws.models.modules import Linear, blocks_of, fingerprint, linears_of, weight_of
from ws.signatures import plain_types
from ws.types import Json, Tokenizer

log = logging.getLogger(__name__)

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "float64": torch.float64}
DEVICE_MAPS = ("auto", "balanced", "balanced_low_0", "sequential")
TOO_LARGE = (
    "{} does not fit the devices here; layers that wait on the CPU or the disk have no weights to train or to steer by. "
    "Use more or larger devices, or a smaller `dtype`; `ws doctor --model` says what is missing."
)

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


@dataclass(frozen=True, eq=False)
class Base:
    """A loaded model that nothing has changed, bound to the two names of its weights."""

    model: nn.Module = field(repr=False)
    tokenizer: Tokenizer = field(repr=False)
    fingerprint: str
    """A sample of its weights, the same in every precision; it cannot see an edit of a few values."""
    id: str
    """How it is called: `tiny`, a hub id, or the folder's name. Never a path."""
    revision: str | None = None
    source: str = field(default="", repr=False)
    """What `load` was given, so that a later command can load it again."""
    works_on: torch.device | None = field(default=None, repr=False)
    """Where it will work, while it still waits in main memory to be spread over several devices."""
    weights: StoredWeights | str | None = field(default=None, repr=False)
    """The files its weights were read from, or their hash; without either, the network is hashed here and now."""

    def __post_init__(self):
        object.__setattr__(self, "_linears", {x.name: x for x in linears_of(self.model)})
        if self.weights is None:  # now and not when it is asked for: a fold may have changed them by then
            object.__setattr__(self, "weights", network_hash(self.model))

    @property
    def weights_hash(self) -> str:
        """SHA-256 over all bytes of its weights: what results are kept by."""
        return self.weights.hash if isinstance(self.weights, StoredWeights) else str(self.weights)

    @property
    def device(self) -> torch.device:
        """Where its first parameter lies."""
        return next(self.model.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The precision its weights are held in."""
        return next(self.model.parameters()).dtype

    @property
    def depth(self) -> int:
        """How many decoder blocks it has."""
        return len(blocks_of(self.model)[1])

    @property
    def linears(self) -> dict[str, Linear]:
        """Its linear layers inside the blocks, by full name."""
        return self._linears  # type: ignore[attr-defined]

    @property
    def tiny(self) -> bool:
        """Whether this is the embedded model, which knows only the words of its own world."""
        return self.id == "tiny"

    def weight(self, name: str) -> Tensor:
        """The matrix (out, in) of one linear layer."""
        return weight_of(self.linears[name].module).detach()

    def bias(self, name: str) -> Tensor | None:
        """The bias of one linear layer, if it has one."""
        bias = self.linears[name].module.bias
        return bias.detach() if isinstance(bias, Tensor) else None

    def described(self) -> Json:
        """What a direction or a record keeps of it."""
        return described(self)


def described(theta: object) -> Json:
    """What a direction or a record keeps of a base, loaded or only opened."""
    return {n: getattr(theta, n) for n in ("id", "revision", "fingerprint", "weights_hash")}


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
    import transformers

    source, name, revision = locate(model, revision)
    chosen = choose_device("cpu" if name == "tiny" and device == "auto" else device)
    if threads or name == "tiny":
        torch.set_num_threads(threads or 1)
    if dtype != "auto" and dtype not in DTYPES:
        raise ValueError(f"dtype is auto, {', '.join(DTYPES)}; got {dtype!r}")

    if device_map is not None and (device_map not in DEVICE_MAPS or device != "auto"):
        raise ValueError(
            f"device_map is {', '.join(DEVICE_MAPS)}, and then no `device` is named; got {device_map!r} on device {device}"
        )
    weights = stored_weights(Path(source)) if Path(source).is_dir() else None  # before the first byte is read
    options: Json = {"revision": revision, "trust_remote_code": trust_remote_code}
    if name == "tiny" or not sys.stderr.isatty():
        transformers.utils.logging.disable_progress_bar()
    try:
        config = transformers.AutoConfig.from_pretrained(source, **options)
        if getattr(config, "quantization_config", None):
            raise Unsupported(
                f"{name} is quantised; a direction on packed weights is not exact. Load the model it was made from."
            )
        # a model that is spread over devices is placed by its final size, and not cast afterwards
        placed = {} if device_map is None else {"device_map": device_map}
        precision = "auto" if device_map is None or dtype == "auto" else DTYPES[dtype]
        network = transformers.AutoModelForCausalLM.from_pretrained(
            source, dtype=precision, use_safetensors=True, **options, **placed
        )
        tokenizer = transformers.AutoTokenizer.from_pretrained(source, **options)
    except (OSError, ValueError, SafetensorError) as e:
        if "offload" in str(e):
            raise Unsupported(TOO_LARGE.format(name)) from e
        raise BadFile(why_not(str(model), e)) from e
    _refuse_offloaded(network, name)
    network.eval().requires_grad_(False)

    mark = fingerprint(network) if precision != torch.float16 else _stored_fingerprint(model, revision)
    if dtype != "auto":
        if network.dtype != DTYPES[dtype]:
            network.to(DTYPES[dtype])
    elif chosen.type == "cpu":
        network.to(torch.float32)
    if device_map is None and not waiting:
        network.to(chosen)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "left"
    if (snapshot := _snapshot(source, revision)) is not None:
        revision, weights = snapshot.name, stored_weights(snapshot)
    waits = chosen if waiting else None
    return Base(network, tokenizer, mark, name, revision, str(model), waits, weights)


def _refuse_offloaded(network: nn.Module, name: str) -> None:
    """Layers that wait on the CPU or the disk hold no values between passes."""
    if any(p.device.type == "meta" for p in network.parameters()):
        raise Unsupported(TOO_LARGE.format(name))


def _stored_fingerprint(model: str | Path, revision: str | None) -> str:
    """That of the checkpoint: float16 has rounded otherwise than bfloat16 would, float32 and bfloat16 have not."""
    from ws.models.checkpoint import open_checkpoint

    return open_checkpoint(model, revision=revision).fingerprint


def locate(model: str | Path, revision: str | None = None) -> tuple[str, str, str | None]:
    """(what to load from, its short name, revision) of a `--model` value."""
    from ws.models.tiny import FOLDER

    text = str(model)
    if text == "tiny":
        return str(FOLDER), "tiny", None
    folder = Path(text).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise BadFile(f"the folder {text} holds no config.json; `model` takes 'tiny', a hub id, or a model folder.")
        return str(folder), folder.resolve().name, revision
    if names_gguf(text):
        from_gguf = converted(text, revision)
        return str(from_gguf), from_gguf.name.rpartition("-")[0], None
    if text.startswith((".", "/", "~")) or folder.exists():
        raise BadFile(
            f"there is no model folder at {text}; `model` takes 'tiny', a hub id like 'Qwen/Qwen3-0.6B', or a folder."
        )
    name, _, at = text.partition("@")
    if not HUB_ID.fullmatch(name):
        raise BadFile(
            f"{text!r} is no model: `model` takes 'tiny', a hub id like 'Qwen/Qwen3-0.6B[@revision]', or a folder."
        )
    return name, name, at or revision


def choose_device(device: str) -> torch.device:
    """The device asked for, or the best there is; an NVIDIA GPU that torch cannot use is said loudly."""
    if device != "auto":
        try:
            return torch.device(device)
        except RuntimeError:
            raise ValueError(f"device is auto, cpu, cuda, cuda:1 or mps; got {device!r}") from None
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


def _snapshot(source: str, revision: str | None) -> Path | None:
    """The folder in the hub's cache that a hub id was loaded from, called by its commit; None for a folder."""
    from huggingface_hub import try_to_load_from_cache

    if Path(source).is_dir():
        return None
    path = try_to_load_from_cache(source, "config.json", revision=revision)
    return Path(path).parent if isinstance(path, str) else None


def why_not(model: str, error: Exception) -> str:
    """Why a model cannot be loaded or opened, in one sentence."""
    text = " ".join(str(error).split())
    if "trust_remote_code" in text:
        return (
            f"the model {model!r} comes with code of its own, which ws does not run; take one that transformers knows, or "
            "read that code and load the model in Python (ws.load, trust_remote_code)."
        )
    if isinstance(error, OSError) and re.search(r"offline|connect|resolve|network|couldn't|cached", text, re.I):
        return (
            f"the model {model!r} is not in the local cache and the hub cannot be reached (or has no such model). "
            "Check the name and the network, or give a folder; `model=tiny` needs neither."
        )
    return f"the model {model!r} cannot be loaded: {text[:300]}"
