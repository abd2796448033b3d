"""A direction as the file that llama.cpp loads beside a GGUF model: its factors under the names of that model's tensors.

    blk.3.attn_q.weight.lora_a    (rank, in)
    blk.3.attn_q.weight.lora_b    (out, rank)

llama.cpp adds `scale * lora_alpha / rank * lora_b @ lora_a` to a matrix, and a request names `scale`. So alpha is multiplied into
`lora_b`, every tensor has one rank, and `lora_alpha` is that rank: a zero would be read as full strength. The numbers are
float32, because llama.cpp ends at float64. In a model of the Llama family the two halves of every query and key are
interleaved there, and so are the rows of their `lora_b`.

The file is proven by reading it back, under llama.cpp's rules, onto a base that is loaded anew.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from ws.direction import Direction
from ws.direction.forms import LowRank
from ws.errors import BadFile, ExportRefused
from ws.export.target import card, describe, factors, of_one_rank, place_of
from ws.export.usage import with_llama_cpp_adapter
from ws.models.base import Base
from ws.models.modules import linears_of
from ws.types import Config, Json

FILE = "adapter.gguf"
ARCHITECTURES = {
    "llama": "llama",
    "mistral": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "gemma2": "gemma2",
    "gemma3_text": "gemma3",
}
"""What transformers calls a model to what llama.cpp calls it; each is tested against a whole model in a GGUF file."""
INTERLEAVED = "llama"
"""The architecture whose queries and keys llama.cpp keeps in another order."""


def to_gguf(direction: Direction, base: Base, work: Path, *, alphas: Sequence[float], share: float = 1.0) -> Json:
    """Fill the folder: the adapter, its card, and what it is."""
    if len(alphas) != 1:
        raise ExportRefused("gguf-lora holds one strength, and requests scale it; give one `alpha`.")
    (alpha,) = alphas
    low_ranks = factors(direction, "gguf-lora")
    names = tensor_names(base.model.config, low_ranks)
    rank, low_ranks = of_one_rank(low_ranks)
    _write(work / FILE, base, {names[m]: f.scaled(alpha) for m, f in low_ranks.items()}, rank)
    place, revision = place_of(base)
    record = {"to": "gguf-lora", "alphas": [alpha], "rank": rank, "kept_energy": share}
    body = (
        f"A weight-steering direction as an adapter for llama.cpp, of rank {rank}; a scale of 1 is alpha = {alpha:g}."
    )
    body += f"\n\n{with_llama_cpp_adapter()}"
    if share < 1 - 1e-9:
        body += f"\n\nCut to rank {rank}: it keeps {100 * share:.1f} % of the direction's energy."
    text = card("Weight-steering adapter for llama.cpp", direction, base, body, library="gguf", relation="adapter")
    (work / "README.md").write_text(text)
    describe(work, direction, base, **record, place=place, revision=revision)
    return record


def tensor_names(config: Config, modules: Sequence[str] | Mapping[str, object]) -> dict[str, str]:
    """What llama.cpp calls the matrix of each module; a model or a module that it has no name for is refused."""
    import gguf

    kind = str(getattr(config, "model_type", ""))
    if kind not in ARCHITECTURES:
        raise ExportRefused(
            f"gguf-lora is written for {', '.join(ARCHITECTURES)}, and this model is {kind or 'of no known kind'}; export "
            "`to=peft` and try llama.cpp's own convert_lora_to_gguf.py, or `to=merged`."
        )
    arch = next(k for k, v in gguf.MODEL_ARCH_NAMES.items() if v == ARCHITECTURES[kind])
    known = gguf.get_tensor_name_map(arch, config.num_hidden_layers)
    names = {m: known.get_name(m) for m in modules}
    if nameless := sorted(m for m, name in names.items() if name is None):
        raise ExportRefused(f"llama.cpp has no name for {nameless[0]} ({len(nameless)} such); use `to=merged`.")
    return {m: f"{name}.weight" for m, name in names.items()}


def _write(file: Path, base: Base, low_ranks: Mapping[str, LowRank], rank: int) -> None:
    import gguf

    config: Config = base.model.config
    writer = gguf.GGUFWriter(file, ARCHITECTURES[config.model_type])
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, float(rank))
    writer.add_base_model_count(1)
    writer.add_base_model_name(0, base.id)
    for name, f in low_ranks.items():
        b = f.b if (heads := _heads(config, name)) is None else _turned(f.b, (heads, 2, -1))
        writer.add_tensor(f"{name}.lora_a", f.a.float().cpu().contiguous().numpy())
        writer.add_tensor(f"{name}.lora_b", b.float().cpu().contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def read_adapter(file: Path, network: nn.Module) -> dict[str, LowRank]:
    """The change of each module of a network at a scale of 1, as llama.cpp takes it from the file."""
    import gguf

    config: Config = network.config
    try:
        reader = gguf.GGUFReader(file)
        stored = {t.name: torch.from_numpy(t.data.copy()) for t in reader.tensors}
        arch, kind = (str(reader.fields[k].contents()) for k in ("general.architecture", gguf.Keys.Adapter.TYPE))
        lora_alpha = float(reader.fields[gguf.Keys.Adapter.LORA_ALPHA].contents())
    except Exception as e:  # numpy and struct raise whatever comes of a file that is damaged
        raise BadFile(f"{file} cannot be read as an adapter in GGUF ({type(e).__name__})") from None
    names = tensor_names(config, [x.name for x in linears_of(network)])
    modules = {name: module for module, name in names.items()}
    pairs = {name.removesuffix(".lora_a"): None for name in stored if name.endswith(".lora_a")}
    strangers = {n.rpartition(".")[0] for n in stored} - modules.keys()
    if (arch, kind) != (ARCHITECTURES[config.model_type], "lora") or strangers or 2 * len(pairs) != len(stored):
        raise BadFile(f"{file} is no adapter of this model")
    low_ranks = {}
    for name in pairs:
        a, b, heads = stored[f"{name}.lora_a"], stored[f"{name}.lora_b"], _heads(config, name)
        b = b if heads is None else _turned(b, (heads, -1, 2))
        low_ranks[modules[name]] = LowRank(b * (lora_alpha / b.shape[1] if lora_alpha else 1.0), a)
    return low_ranks


def _heads(config: Config, name: str) -> int | None:
    """How many heads share the rows of a matrix, where llama.cpp keeps them in another order."""
    if ARCHITECTURES[config.model_type] != INTERLEAVED:
        return None
    if name.endswith("attn_q.weight"):
        return config.num_attention_heads
    return config.num_key_value_heads if name.endswith("attn_k.weight") else None


def _turned(rows: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Rows in heads of two halves, interleaved; or, with the last two of the shape the other way, back again."""
    return rows.unflatten(0, shape).transpose(1, 2).flatten(0, 2)
