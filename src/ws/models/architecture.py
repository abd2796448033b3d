"""The network that a config describes: the class of transformers that continues a text, and a network without weights.

A vision-language checkpoint is opened by a class that continues a text too: that of its text part alone where transformers has
one, else that of all its parts. Encoders and encoder-decoders are refused, because nothing here could steer their answers.
"""

from typing import Any

import torch
from torch import nn

from ws.errors import Unsupported
from ws.models.quantised import rounding
from ws.types import Config


def causal_class(config: Config, name: str) -> Any:
    """The auto class of transformers that loads a model which continues a text; any other model is refused."""
    import transformers
    from transformers.models.auto import modeling_auto as auto

    kind = config.model_type
    if getattr(config, "is_encoder_decoder", False):
        raise Unsupported(
            f"{name} is an encoder-decoder and no model that answers by continuing a text ({kind}), which is all that ws steers; name another."
        )
    if kind in auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(config, "is_decoder", False):
        raise Unsupported(
            f"{name} is an encoder and no model that answers by continuing a text ({kind}), which is all that ws steers; name another."
        )
    if kind in auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return transformers.AutoModelForCausalLM
    if kind in auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
        return transformers.AutoModelForImageTextToText
    raise Unsupported(
        f"{name} is no model that answers by continuing a text ({kind}), which is all that ws steers; name another."
    )


def skeleton(config: Config, name: str, dtype: torch.dtype) -> nn.Module:
    """The network of a config on torch's meta device: every name and shape, no values."""
    of = causal_class(config, name)
    try:
        with torch.device("meta"):
            network: nn.Module = of.from_config(config, dtype=dtype, trust_remote_code=False)
    except (AttributeError, KeyError) as e:  # each architecture refuses a config that is not for it in its own way
        why = " ".join(str(e).split())[:160]
        raise Unsupported(
            f"{name} has a config that describes no model that answers by continuing a text ({config.model_type}: {why}); name another model."
        ) from e
    return network


def loaded_network(
    source: str, *, dtype: torch.dtype | str, revision: str | None = None, quantize: str | None = None
) -> Any:
    """The network of a folder or hub id, as the library it is for loads it."""
    import transformers

    config = transformers.AutoConfig.from_pretrained(source, revision=revision, trust_remote_code=False)
    options = {"revision": revision, "dtype": dtype, "use_safetensors": True, "trust_remote_code": False}
    if quantize is not None:
        options["quantization_config"] = rounding(quantize, dtype)
    return causal_class(config, source).from_pretrained(source, **options)


def stored_dtype(config: Config) -> torch.dtype | None:
    """The precision that a config says the weights are stored in, where it says so."""
    text = config.get_text_config()
    dtype = config.dtype if config.dtype is not None else text.dtype
    return getattr(torch, dtype) if isinstance(dtype, str) else dtype
