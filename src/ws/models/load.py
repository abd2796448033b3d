"""One place that loads a model and its tokenizer, from `tiny`, a hub id, or a folder.

    base = ws.load("tiny")
    base = ws.load("Qwen/Qwen3-0.6B@main")

Remote code is never run unless asked.
"""

import logging
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from ws.errors import BadFile, Unsupported
from ws.models.architecture import causal_class, stored_dtype
from ws.models.base import Base as Base
from ws.models.base import Quantised
from ws.models.checkpoint import open_checkpoint
from ws.models.hashes import stored_weights
from ws.models.locate import locate, reach_model, why_not
from ws.models.modules import fingerprint, stacks_of
from ws.models.prompts import tokenizer_of
from ws.models.quantised import as_it_learns, refuse_packed_so, refuse_quantize, rounding
from ws.models.stored import Known, StoredBase, files_of, keep, recall
from ws.progress import no_bars_in_files
from ws.settings import Range
from ws.signatures import plain_types
from ws.types import Config, Json, Tokenizer

log = logging.getLogger(__name__)

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "float64": torch.float64}
DEVICE = re.compile(r"auto|cpu|cuda(:\d{1,3})?|mps(:0)?")
MOST_THREADS = 4096
DEVICE_MAPS = ("auto", "balanced", "balanced_low_0", "sequential")
LACKS = "{} lacks {} tensors of its architecture, e.g. {}; its weights are not whole, so fetch them again."
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
    quantize: str | None = None,
    waiting: bool = False,
) -> Base:
    """Load a model and its tokenizer: `tiny`, a hub id, `id@revision`, or a folder.

    `dtype="auto"` is the checkpoint's own precision on an accelerator and float32 on the CPU. `tiny` runs on the CPU
    on one thread unless asked otherwise. `device_map="auto"` spreads the layers over all devices, as accelerate does;
    what does not fit there is refused and not moved to the CPU or the disk. `quantize` (int8 or nf4) rounds a whole
    checkpoint as it is read. `waiting` leaves the weights in main memory.
    """
    opening = _open(
        model,
        revision=revision,
        dtype=dtype,
        device=device,
        threads=threads,
        trust_remote_code=trust_remote_code,
        device_map=device_map,
        quantize=quantize,
        waiting=waiting,
    )
    return opening.whole()


def load_lazily(model: str | Path = "tiny", **options: Any) -> Base:
    """The same, but the weights of a model whose files are known wait on the disk until something asks for the network."""
    opening = _open(model, **options)
    if not opening.plain or opening.folder is None:
        return opening.whole()
    before = files_of(opening.folder)
    if (known := recall(opening.folder, opening.how)) is not None:
        return opening.stored(known)
    base = opening.whole()
    keep(opening.folder, opening.how, base, before)
    return base


def _open(
    model: str | Path,
    *,
    revision: str | None = None,
    dtype: str = "auto",
    device: str = "auto",
    threads: int | None = None,
    **options: Any,
) -> "_Opening":
    """A model that was located; what cannot be is refused before anything is imported or read."""
    refuse_place(device=device, dtype=dtype, device_map=options.get("device_map"), threads=threads)
    refuse_quantize(options.get("quantize"), model)
    chosen = choose_device("cpu" if str(model) == "tiny" and device == "auto" else device)
    no_bars_in_files()
    source, name, revision = locate(model, revision)
    online = Path(source).is_dir() or reach_model(name, revision)
    if threads or name == "tiny":
        torch.set_num_threads(threads or 1)
    return _Opening(str(model), source, name, revision, online, dtype, chosen, **options)


@dataclass(frozen=True, eq=False)
class _Opening:
    """A model that is being loaded: where its files are, and how it was asked for."""

    model: str
    """What `load` was given."""
    source: str
    name: str
    revision: str | None
    online: bool
    dtype: str
    device: torch.device
    trust_remote_code: bool = False
    device_map: str | None = None
    quantize: str | None = None
    waiting: bool = False

    def whole(self) -> Base:
        """The base with its network in memory."""
        weights = stored_weights(Path(self.source)) if self.local else None  # before the first byte is read
        network, mark = self.network()
        tokenizer = self.tokenizer()
        revision = self.revision
        if (snapshot := _snapshot(self.source, self.revision)) is not None:
            revision, weights = snapshot.name, stored_weights(snapshot)
        waits = self.device if self.waiting else None
        quantised = None
        if self.quantize is not None:  # what was rounded just now has no files: its bytes are hashed as they are
            whole = _stored_fingerprint(self.model, self.revision)
            quantised, weights = Quantised(self.quantize, whole), None
        return Base(network, tokenizer, mark, self.name, revision, self.model, waits, weights, quantised=quantised)

    def stored(self, known: Known) -> Base:
        """The base as its files are known, nothing of it loaded yet."""
        assert self.folder is not None
        return StoredBase.of(
            known,
            self.device,
            network=self.network,
            tokenizer=self.tokenizer,
            id=self.name,
            revision=self.revision if self.local else self.folder.name,
            source=self.model,
            works_on=None,
            weights=stored_weights(self.folder),
            root=None,
        )

    @property
    def local(self) -> bool:
        """Whether it lies in a folder of the user's."""
        return Path(self.source).is_dir()

    @cached_property
    def folder(self) -> Path | None:
        """The folder its files lie in; of a hub id, the one of the newest commit in the cache."""
        if not self.local and self.online:
            _ = self.config  # which fetches what is newer
        return Path(self.source) if self.local else _snapshot(self.source, self.revision)

    @property
    def plain(self) -> bool:
        """Whether it is loaded as it is on one device, by code of transformers alone: what then is known of it stays so."""
        return not (self.trust_remote_code or self.device_map or self.quantize or self.waiting)

    @property
    def how(self) -> Json:
        """What of the way it is loaded decides what is known of it."""
        return {"dtype": self.dtype, "device": self.device.type, "name": self.name}

    @property
    def options(self) -> Json:
        """What transformers is told whenever it reads a file of the model."""
        return {
            "revision": self.revision,
            "trust_remote_code": self.trust_remote_code,
            "local_files_only": not self.online,
        }

    @cached_property
    def config(self) -> Config:
        """Its config."""
        import transformers

        with self._reported():
            return transformers.AutoConfig.from_pretrained(self.source, **self.options)

    def network(self) -> tuple[nn.Module, str]:
        """Its network as it was asked for, and the fingerprint of its weights as they are stored."""
        import transformers

        if self.name == "tiny":
            transformers.utils.logging.disable_progress_bar()
        config = self.config
        refuse_packed_so(config, self.name, self.quantize, device=self.device.type)
        packed = self.quantize is not None or getattr(config, "quantization_config", None) is not None
        # a model that is spread over devices is placed by its final size, and not cast afterwards
        placed: Json = {"device_map": self.device_map or {"": self.device}} if self.device_map or packed else {}
        precision = "auto" if not placed or self.dtype == "auto" else DTYPES[self.dtype]
        if self.quantize is not None:
            if self.dtype == "auto":
                precision = torch.float32 if self.device.type == "cpu" else stored_dtype(config) or torch.bfloat16
            placed["quantization_config"] = rounding(self.quantize, precision)
        with self._reported():
            network, report = causal_class(config, self.name).from_pretrained(
                self.source,
                dtype=precision,
                use_safetensors=True,
                output_loading_info=True,
                **self.options,
                **placed,
            )
        if missing := sorted(report["missing_keys"]):  # transformers would leave random numbers there
            raise BadFile(LACKS.format(self.name, len(missing), missing[0]))
        _refuse_offloaded(network, self.name)
        network.eval().requires_grad_(False)
        mark = (
            fingerprint(network)
            if packed or precision != torch.float16
            else _stored_fingerprint(self.model, self.revision)
        )
        if packed:  # as it is stored: packed weights are not cast, and lie where they were loaded
            as_it_learns(network)
        elif self.dtype != "auto":
            if network.dtype != DTYPES[self.dtype]:
                network.to(DTYPES[self.dtype])
        elif self.device.type == "cpu":
            network.to(torch.float32)
        if network.dtype == torch.float64 and stacks_of(network):
            network.set_experts_implementation("eager")  # the only kernel of transformers 5.23 for float64 (2026-11)
        if self.device_map is None and not self.waiting and not packed:
            network.to(self.device)
        return network, mark

    def tokenizer(self) -> Tokenizer:
        """Its tokenizer, padding on the left; a folder without one is refused."""
        with self._reported():
            tokenizer = tokenizer_of(self.source, self.config, self.options)
        if not tokenizer("word", add_special_tokens=False)["input_ids"]:  # transformers makes an empty one
            raise BadFile(
                f"{self.model} holds no tokenizer; copy tokenizer.json and tokenizer_config.json of the model into it."
            )
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        tokenizer.padding_side = "left"
        return tokenizer

    @contextmanager
    def _reported(self) -> Iterator[None]:
        """Whatever transformers raises about files, in one sentence."""
        try:
            yield
        except ImportError as e:  # of the library that a quantised checkpoint needs
            why = " ".join(str(e).split())[:200]
            raise Unsupported(
                f"{self.name} cannot be loaded here ({why}); install that, or load the model it was made from."
            ) from e
        except RuntimeError as e:  # transformers 5.23 has no other kind for tensors that do not fit (2026-11)
            if not re.search("ignore_mismatched_sizes|automatic conversion", str(e)):
                raise
            raise BadFile(
                f"{self.name} holds tensors that do not fit its architecture, or not all of them; its weights are not those of its config."
            ) from e
        except (OSError, ValueError, SafetensorError) as e:
            if "offload" in str(e):
                raise Unsupported(TOO_LARGE.format(self.name)) from e
            raise BadFile(why_not(self.model, e)) from e


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
