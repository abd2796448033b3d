"""GGUF files of small random models, written with the `gguf` package as llama.cpp's converter does."""

from pathlib import Path

import gguf
import numpy as np
import torch
from small import model

ARCHITECTURES = ("llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3")
PERMUTED = ("llama", "mistral")  # llama.cpp orders their rotary halves otherwise


def write_gguf(
    kind: str,
    path: Path,
    tokenizer,
    *,
    quantised: str = "F32",
    name: str = "",
    leave_out: str = "",
    arch: str = "",
    network=None,
):
    """Write a small model of one architecture, or the network that is named, with this tokenizer; the model itself."""
    vocabulary = len(tokenizer)
    network = network or model(kind, vocabulary=vocabulary)
    config = network.config
    arch = arch or ("llama" if kind == "mistral" else kind)
    writer = gguf.GGUFWriter(path, arch)
    writer.add_name(name or f"a small {kind}")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(vocabulary)
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_key_length(head)
    writer.add_value_length(head)
    rope = config.rope_parameters
    writer.add_rope_freq_base(float(rope.get("full_attention", rope).get("rope_theta", 10000.0)))
    if kind.startswith("gemma"):
        writer.add_sliding_window(config.sliding_window)
    if kind == "gemma2":
        writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
        writer.add_final_logit_softcapping(config.final_logit_softcapping)
    _add_tokenizer(writer, tokenizer)

    names = gguf.get_tensor_name_map(next(k for k, v in gguf.MODEL_ARCH_NAMES.items() if v == arch), 4)
    tied = bool(config.tie_word_embeddings)
    for full, tensor in network.state_dict().items():
        stem, _, kind_of = full.rpartition(".")
        short = names.get_name(stem)
        if short is None or (tied and short == "output") or full == leave_out:
            continue
        values = tensor.float().numpy()
        if kind in PERMUTED and ("attn_q" in short or "attn_k" in short):
            values = permuted(values, config.num_attention_heads if "attn_q" in short else config.num_key_value_heads)
        if kind.startswith("gemma") and "norm" in short:
            values = values + 1
        form = gguf.GGMLQuantizationType[quantised if values.ndim == 2 else "F32"]
        data = gguf.quants.quantize(values, form) if form.name != "F32" else values
        writer.add_tensor(f"{short}.{kind_of}", data, raw_dtype=form)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return network


def permuted(values: np.ndarray, heads: int) -> np.ndarray:
    """The rows of a query or key matrix in llama.cpp's order: pairs of a rotation beside each other."""
    return (
        values.reshape(heads, 2, values.shape[0] // heads // 2, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)
    )


def dequantised(network, quantised: str):
    """The same model with its matrices rounded as that quantisation rounds them, by the `gguf` package alone."""
    form = gguf.GGMLQuantizationType[quantised]
    with torch.no_grad():
        for name, p in network.named_parameters():
            if p.ndim == 2 and "norm" not in name:
                p.copy_(torch.from_numpy(gguf.quants.dequantize(gguf.quants.quantize(p.numpy(), form), form)))
    return network


def _add_tokenizer(writer, tokenizer) -> None:
    import json

    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    tokens = [t for t, _ in sorted(tokenizer.get_vocab().items(), key=lambda x: x[1])]
    added = {t["content"]: 3 if t["special"] else 4 for t in backend["added_tokens"]}  # control, user-defined
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types([added.get(t, 1) for t in tokens])
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in backend["model"]["merges"]])
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_bos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    writer.add_chat_template(tokenizer.chat_template)


def unpacked(file: Path, path: Path) -> Path:
    """A GGUF file with its matrices in float32: what its quantised numbers stand for."""
    reader = gguf.GGUFReader(file)
    fields = {name: f for name, f in reader.fields.items() if not name.startswith("GGUF.")}
    writer = gguf.GGUFWriter(path, fields.pop("general.architecture").contents())
    for name, f in fields.items():
        inner = f.types[-1] if f.types[0] == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(name, f.contents(), f.types[0], sub_type=inner)
    for t in reader.tensors:
        writer.add_tensor(t.name, gguf.quants.dequantize(t.data, t.tensor_type).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
