"""Packed weights: a checkpoint that is rounded on its way into memory, or one that is stored so.

    base = ws.load("Qwen/Qwen3-0.6B", quantize="nf4")     # bitsandbytes: pip install bitsandbytes
    values_of(base.linears["model.layers.0.mlp.up_proj"].module)

| kind | a weight is                         | rounded by                    |
|------|-------------------------------------|-------------------------------|
| int8 | a step of 1/127 of its row's largest | bitsandbytes `load_in_8bit`  |
| nf4  | one of 16 quantiles, in blocks of 64 | bitsandbytes `load_in_4bit`  |

Embeddings, the head and tensors of experts stay whole.
"""

import logging
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ws.errors import Unsupported
from ws.models.gguf import names_gguf
from ws.models.modules import Layer, is_packed, linears_of, stacks_of, weight_of
from ws.types import Config

QUANTIZE = ("int8", "nf4")
BYTES = {"int8": 1.0, "nf4": 0.5 + 4 / 64, "fp8": 1.0 + 4 / 128**2, "mxfp4": 0.5 + 1 / 32}
"""Of a weight, with its part of the scale of a block: of 64 in nf4, of 128 times 128 in fp8, of 32 in mxfp4."""
LINEAR = ("int8", "nf4", "fp8")
"""Ways in which linear layers are packed."""
OF_EXPERTS = ("fp8", "mxfp4")
"""Ways in which the experts that lie in one tensor are packed; only kernels of a GPU multiply by such."""
INSTALL = "`quantize` needs the package bitsandbytes, which is not installed here: pip install bitsandbytes"
NO_LINEAR = ("gptq", "awq")
"""Methods whose layers are no linear layers of torch, so that nothing here could sit on them."""


def refuse_quantize(quantize: str | None, model: str | Path) -> None:
    """Refuse what cannot be rounded on its way in, before anything is read."""
    if quantize is None:
        return
    if quantize not in QUANTIZE:
        raise ValueError(f"`quantize` is {' or '.join(QUANTIZE)}; got {quantize!r}")
    if names_gguf(str(model)):
        raise Unsupported(
            f"{model} is a GGUF file, whose weights are rounded already; `quantize` the model it was made from, or leave it out."
        )
    if find_spec("bitsandbytes") is None:
        raise Unsupported(INSTALL)


def method_of(config: Config) -> str | None:
    """How the weights of a checkpoint are packed, by its config; None where they are whole."""
    packing = getattr(config, "quantization_config", None)
    if packing is None:
        return None
    own = packing if isinstance(packing, dict) else packing.to_dict()
    return str(getattr(own.get("quant_method"), "value", own.get("quant_method")))


def packed_as(config: Config, name: str) -> str | None:
    """The way in which the weights of a checkpoint are packed, as `BYTES` counts them; None where they are whole, and any other is refused."""
    method = method_of(config)
    own: Any = getattr(config, "quantization_config", None) or {}
    own = own if isinstance(own, dict) else own.to_dict()
    if method == "bitsandbytes":
        return "nf4" if own.get("load_in_4bit") or own.get("_load_in_4bit") else "int8"
    kind = "int8" if method == "torchao" and "int8weightonly" in str(own).lower().replace("_", "") else method
    if kind is not None and kind not in BYTES:
        raise Unsupported(
            f"{name} is quantised (by {method}), and how many bytes its weights take is not known here; name the model it was made from, "
            "with `quantize` if you like, or just load it."
        )
    return kind


def stays_packed(kind: str | None, device: str) -> bool:
    """Whether a checkpoint that is packed so stays so on a device; else transformers makes it whole in bf16 as it reads it."""
    if kind not in OF_EXPERTS:
        return kind is not None
    return device.startswith("cuda") and (kind == "fp8" or find_spec("kernels") is not None)


def refuse_packed_so(config: Config, name: str, quantize: str | None = None, *, device: str = "") -> None:
    """Refuse a checkpoint that is packed in a way that nothing here steers, or that is to be packed once more."""
    method = method_of(config)
    if method == "torchao" and device == "cpu" and "int4" in str(config.quantization_config).lower():
        raise Unsupported(
            f"{name} is quantised by torchao in int4, for which it has no kernel on a CPU; take a GPU, or the model it was made from, with "
            "`quantize` where it is too large."
        )
    if method in NO_LINEAR:
        raise Unsupported(
            f"{name} is quantised by {method}, whose layers are no linear layers that an adapter or a direction could sit on; load the "
            "model it was made from, with `quantize` where it is too large."
        )
    if method is not None and quantize is not None:
        raise Unsupported(
            f"{name} is quantised already (by {method}); leave out `quantize`, or name the model it was made from."
        )


def rounding(quantize: str, compute: torch.dtype | str) -> Any:
    """What transformers is given so that it rounds weights as it reads them."""
    from transformers import BitsAndBytesConfig

    if quantize == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=compute)


def as_it_learns(network: nn.Module) -> None:
    """Keep bitsandbytes from packing 4-bit weights anew in a pass without gradients on some CPUs.

    From then on it would compute in bf16, and pass no gradient through those layers (0.50, 2026-11). Its int8 layers say at
    every pass that they work in float16, which docs/models.md says once.
    """
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
    for layer in network.modules():
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            layer.support_avx512bf16_for_cpu = False  # type: ignore[assignment]


def weight_bytes(network: nn.Module, kind: str | None) -> int:
    """Bytes of the weights of a network that stands whole, if the layers that a kind of packing is for were packed so."""
    whole = sum(p.numel() * p.element_size() for p in network.parameters())
    layers = [*(linears_of(network) if kind in LINEAR else ()), *(stacks_of(network) if kind in OF_EXPERTS else ())]
    packed = [p for x in layers if isinstance(p := x.module.weight, Tensor)]
    return whole - int(sum(p.numel() * (p.element_size() - BYTES[kind]) for p in packed if kind is not None))


@torch.no_grad()
def values_of(layer: Layer) -> Tensor:
    """The matrix (out, in) that the weights of a layer stand for, in float32."""
    if not is_packed(layer):
        return weight_of(layer).detach().float()
    packed: Any = layer
    weight: Any = layer.weight
    if hasattr(weight, "quant_state"):
        from bitsandbytes.functional import dequantize_4bit

        return dequantize_4bit(weight.data, weight.quant_state).float()
    if hasattr(layer, "weight_scale_inv"):
        from transformers.integrations.finegrained_fp8 import _dequantize_fp8_weight

        return _dequantize_fp8_weight(weight.data, packed.weight_scale_inv, packed.block_size, torch.float32)
    if weight.dtype == torch.int8:  # the scales of the rows move from the weight to the layer's state in the first pass
        scales = weight.SCB if weight.SCB is not None else packed.state.SCB
        return weight.data.float() * scales.float()[:, None] / 127
    return weight.dequantize().float()
