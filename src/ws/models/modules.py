"""The matrices of a decoder that a direction may touch, and the fingerprint of its weights.

Works on any model whose blocks are the one long ModuleList of its text part: Llama, Qwen2/3/3.5, Mistral, Gemma, Phi-3
(fused qkv), GPT-2 (Conv1D), GPT-NeoX, mixtures of experts, Mamba hybrids, vision-language models. It does not know families
by name, only the names of their linear layers.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import ClassVar

import torch
from torch import Tensor, nn

from ws.errors import Unsupported
from ws.types import Config

READS_KV = ("k_proj", "v_proj")
FUSED_ATTENTION = ("qkv_proj", "c_attn", "query_key_value", "in_proj_qkv", "in_proj_qkvz")
WRITES_MLP = ("down_proj", "mlp.c_proj", "dense_4h_to_h", "output_linear")
ROUTERS = ("gate", "router", "shared_expert_gate", "router.layer", "gate.wg")
"""Layers that weigh the experts; what each of them decides is where tokens go, and no small adapter belongs there unasked."""
ONE_EXPERT = re.compile(r"(^|\.)experts\.\d+\.")
EXPERTS = "experts"
"""The target that names the experts which lie in one tensor."""
UNCALLED = ("dt_proj",)
"""Layers of Mamba 1 whose block multiplies by their weight itself: they are never called, so neither an adapter nor a hook would do anything there."""
DEEPEST = 100_000  # blocks; no model has so many
SAMPLES = 1024


@dataclass(frozen=True)
class Stack:
    """The matrices of all experts of a block, which lie in one tensor of a module that multiplies by them itself.

    Equal where module and tensor are the same ones. It stands where a linear layer stands, and has no bias.
    """

    experts: nn.Module
    parameter: str
    bias: ClassVar[None] = None

    @property
    def weight(self) -> nn.Parameter:
        """The tensor as it is stored."""
        return self.experts._parameters[self.parameter]  # type: ignore[return-value]


Layer = nn.Module | Stack


@dataclass(frozen=True, eq=False)
class Linear:
    """One matrix of one block, or one of every expert."""

    name: str
    """Full path inside the model, e.g. `model.layers.3.mlp.down_proj`, `model.layers.3.mlp.experts.down_proj`."""
    block: int
    leaf: str
    """Path inside the block, e.g. `mlp.down_proj`."""
    module: Layer

    def is_called(self, names: Iterable[str]) -> bool:
        """True where the path inside the block ends in one of these names, at a dot; experts answer to no name but their own."""
        if isinstance(self.module, Stack):
            names = [n for n in names if EXPERTS in n.split(".")]
            return self._ends_in(names, self.leaf) or self._ends_in(names, self.leaf.rpartition(".")[0])
        return self._ends_in(names, self.leaf)

    @staticmethod
    def _ends_in(names: Iterable[str], path: str) -> bool:
        return any(path == n or path.endswith("." + n) for n in names)

    @property
    def usual(self) -> bool:
        """True for what an adapter sits on where nobody names targets: neither a router nor an expert that only some tokens see."""
        return not self.is_called(ROUTERS) and not self.of_one_expert

    @property
    def sees_rows(self) -> bool:
        """True where its input is a batch of rows; among experts, also shared ones, the tokens of all rows lie one after another."""
        return "expert" not in self.leaf

    @property
    def of_one_expert(self) -> bool:
        """True for a layer of a single expert, which reads the tokens that were sent there and not the rows of a batch."""
        return bool(ONE_EXPERT.search(self.leaf))


def is_conv1d(layer: Layer) -> bool:
    """GPT-2's linear layer, which stores its matrix as (in, out)."""
    return type(layer).__name__ == "Conv1D"


def is_turned(layer: Layer) -> bool:
    """True where a matrix is stored as (in, out)."""
    return bool(getattr(layer.experts, "is_transposed", False)) if isinstance(layer, Stack) else is_conv1d(layer)


def is_packed(layer: Layer) -> bool:
    """True where the weights are stored in fewer bits than they stand for."""
    weight, usual = layer.weight, 3 if isinstance(layer, Stack) else 2
    if not isinstance(weight, Tensor):
        return False
    one_byte = weight.element_size() == 1  # fp8 looks like ordinary numbers, but for its scales
    return by_torchao(weight) or one_byte or not weight.is_floating_point() or weight.ndim != usual


def by_torchao(t: Tensor) -> bool:
    """True for a tensor that torchao keeps in fewer bits, which looks like a matrix of ordinary numbers."""
    return type(t).__module__.partition(".")[0] == "torchao"


def sizes(layer: Layer) -> tuple[int, ...]:
    """(out, in) of a linear layer, (experts, out, in) of experts."""
    if isinstance(layer, nn.Linear):
        return layer.out_features, layer.in_features  # a packed weight has another shape
    *experts, rows, columns = layer.weight.shape  # type: ignore[misc]
    return (*experts, columns, rows) if is_turned(layer) else (*experts, rows, columns)


def weight_of(layer: Layer) -> Tensor:
    """The matrix of a linear layer as (out, in), or (experts, out, in), however it is stored; packed ones are refused."""
    if is_packed(layer):
        raise Unsupported(
            "this base is quantised, and its packed weights are no matrix to compute with or to write into: low-rank directions and "
            "biases steer it by hook; for anything else take the model it was made from."
        )
    weight: Tensor = layer.weight  # type: ignore[assignment]
    return weight.mT if is_turned(layer) else weight


def blocks_of(model: nn.Module) -> tuple[str, nn.ModuleList]:
    """The decoder blocks: the longest ModuleList, and the one of the text part where there are several."""
    lists = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.ModuleList) and len(m) > 0]
    lists = [(n, m) for n, m in lists if not re.search(r"visual|vision|audio", n)]
    if not lists:
        raise Unsupported(f"{type(model).__name__} has no list of decoder blocks; only decoder models can be steered.")
    config = text_config(model)
    depth = getattr(config, "num_hidden_layers", None)
    same = [(n, m) for n, m in lists if len(m) == depth] or lists
    return max(same, key=lambda item: (len(item[1]), -item[0].count(".")))


def linears_of(model: nn.Module) -> list[Linear]:
    """Every linear layer inside the blocks, in order."""
    prefix, blocks = blocks_of(model)
    linears = []
    for at, block in enumerate(blocks):
        for leaf, module in block.named_modules():
            name = f"{prefix}.{at}.{leaf}"
            router = type(module).__name__.endswith("Router")  # Llama 4's is a linear layer that gives two things
            if router or leaf.rpartition(".")[2] in UNCALLED:
                continue
            if isinstance(module, nn.Linear) or is_conv1d(module):
                linears.append(Linear(name, at, leaf, module))
    return linears


def layer_numbers(layers: str) -> Callable[[int], list[int]]:
    """The block numbers that a layer setting names, as a function of the depth; one that can name none is refused."""
    text = str(layers).strip()
    if text == "all":
        return lambda depth: list(range(depth))
    if m := re.fullmatch(r"(\d*\.\d+|\d+\.)-(\d*\.?\d+)", text):
        low, high = float(m[1]), float(m[2])
        # floor(x + .5), because Python's round() takes halves to even
        return lambda depth: list(range(int(low * depth + 0.5), int(high * depth + 0.5)))
    if (m := re.fullmatch(r"(\d+)-(\d+)", text)) and int(m[1]) <= int(m[2]) < DEEPEST:
        numbers = list(range(int(m[1]), int(m[2]) + 1))
        return lambda depth: numbers
    if re.fullmatch(r"\d+(,\d+)*", text):
        listed = [int(x) for x in text.split(",")]
        return lambda depth: listed
    raise ValueError(
        f"`layers` is 'all', a range of fractions '0.3-0.8', of numbers '8-21', or a list '3,5'; got {layers!r}"
    )


def layer_slice(layers: str, depth: int) -> list[int]:
    """The block numbers a layer setting names: `all`, `0.3-0.8` (fractions), `8-21` (both ends in), or `3,5,7`."""
    chosen = layer_numbers(layers)(depth)
    if not chosen:
        raise ValueError(f"layers {layers!r} selects none of the {depth} layers of this model")
    if max(chosen) >= depth:
        raise ValueError(f"layers {layers!r} names layer {max(chosen)}, but this model has layers 0 to {depth - 1}")
    return chosen


def select(linears: Sequence[Linear], *, layers: str, depth: int, targets: Sequence[str] = ()) -> list[Linear]:
    """The linear layers in a layer slice, all of them or those called `targets`; a name that matches nothing is an error."""
    chosen = set(layer_slice(layers, depth))
    inside = [x for x in linears if x.block in chosen]
    for target in targets:
        if not any(x.is_called([target]) for x in inside):
            names = sorted({x.leaf for x in inside})
            near = get_close_matches(target, [n.rsplit(".", 1)[-1] for n in names], n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ValueError(
                f"target {target!r} matches no linear layer in layers {layers!r}; there are {names}.{hint}"
            )
    return [x for x in inside if x.is_called(targets)] if targets else inside


def refuse_experts(model: nn.Module, targets: Sequence[str]) -> None:
    """Refuse targets that name a router which is no linear layer, or experts where there are none."""
    linears = [x for x in linears_of(model) if x.is_called(targets)]
    for target in targets:
        if any(x.is_called([target]) for x in linears):
            continue
        if target in ROUTERS and any(n.endswith("." + target) for n, _ in blocks_of(model)[1].named_modules()):
            raise Unsupported(
                f"`{target}` is a router of the experts, and no linear layer of this architecture: nothing is trained on it. "
                "Name attention, shared experts, dense layers or `experts` in `targets`."
            )
        if target == EXPERTS and not stacks_of(model):
            raise Unsupported(
                "`targets=experts` is not for this model: it has no experts. Name linear layers, or leave `targets` out."
            )


def stacks_of(model: nn.Module) -> list[Linear]:
    """The matrices of experts that lie in one tensor each, in order."""
    prefix, blocks = blocks_of(model)
    stacks = []
    for at, block in enumerate(blocks):
        for path, module in block.named_modules():
            for n, p in module.named_parameters(recurse=False):
                if p.ndim == 3 and path.rpartition(".")[2] == EXPERTS and "scale" not in n:  # of packed ones
                    stacks.append(Linear(f"{prefix}.{at}.{path}.{n}", at, f"{path}.{n}", Stack(module, n)))
    return stacks


def at_places(t: Tensor, places: Tensor) -> Tensor:
    """The values of a tensor at these places of it, counted along its flattened form."""
    flat = (t.detach().dequantize() if by_torchao(t) else t.detach()).reshape(-1)
    return flat[places.to(t.device)]


def fingerprint(
    model: nn.Module,
    values: Callable[[str, Tensor, Tensor], Tensor | None] = lambda name, p, places: at_places(p, places),
) -> str:
    """A hash of names, shapes and 1,024 values of every parameter, rounded to bf16: the same at fp32 and bf16.

    It says which base a model is, and not that nothing was edited: one changed row of a large matrix is missed 99 times
    in 100. What must notice every byte, such as the key of a stage, takes `weights_hash` (hashes.py).
    The places are drawn at random from the name and shape: evenly spaced ones fall into one column of most matrices.
    `values` looks them up, by name, parameter and places, where they are not those it holds; None where it is not the model's own.
    """
    h = hashlib.sha256()
    for name, p in sorted(model.named_parameters(), key=lambda item: item[0]):
        shape = tuple(p.shape)
        seed = int.from_bytes(hashlib.sha256(f"{name} {shape}".encode()).digest()[:7], "big")
        if p.numel() > SAMPLES:
            places = torch.randint(p.numel(), (SAMPLES,), generator=torch.Generator().manual_seed(seed))
        else:
            places = torch.arange(p.numel())
        if (sample := values(name, p, places)) is not None:
            rounded = sample.to(torch.bfloat16).cpu().contiguous()
            h.update(f"{name} {shape} ".encode() + rounded.view(torch.uint8).numpy().tobytes())
    return h.hexdigest()


def text_config(model: nn.Module) -> Config | None:
    """The config of the text part of a model, where it has one."""
    config = getattr(model, "config", None)
    return config.get_text_config() if config is not None and hasattr(config, "get_text_config") else config
