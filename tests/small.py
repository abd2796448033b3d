"""Small random models of many architectures, and bases around them, built from configs: nothing is downloaded."""

import torch
import transformers as tf
import yaml

from ws.behaviors import HERE, SHIPPED
from ws.models.load import Base
from ws.models.modules import fingerprint

COMMON = dict(vocab_size=96, hidden_size=32, num_hidden_layers=4, num_attention_heads=4)


def _gated(cls, config, **more):
    return cls(config(**COMMON, intermediate_size=64, num_key_value_heads=2, max_position_embeddings=64, **more))


BUILD = {
    "llama": lambda: _gated(tf.LlamaForCausalLM, tf.LlamaConfig),
    "qwen2": lambda: _gated(tf.Qwen2ForCausalLM, tf.Qwen2Config),
    "qwen3": lambda: _gated(tf.Qwen3ForCausalLM, tf.Qwen3Config, head_dim=8, tie_word_embeddings=True),
    "mistral": lambda: _gated(tf.MistralForCausalLM, tf.MistralConfig),
    "gemma2": lambda: _gated(tf.Gemma2ForCausalLM, tf.Gemma2Config, head_dim=8),
    "gemma3": lambda: _gated(tf.Gemma3ForCausalLM, tf.Gemma3TextConfig, head_dim=8),
    "phi3": lambda: _gated(tf.Phi3ForCausalLM, tf.Phi3Config, pad_token_id=0),
    "gpt2": lambda: tf.GPT2LMHeadModel(tf.GPT2Config(vocab_size=96, n_embd=32, n_layer=4, n_head=4, n_positions=64)),
    "neox": lambda: tf.GPTNeoXForCausalLM(tf.GPTNeoXConfig(**COMMON, intermediate_size=64, max_position_embeddings=64)),
    "qwen3.5": lambda: tf.Qwen3_5ForCausalLM(
        tf.Qwen3_5TextConfig(
            **COMMON,
            intermediate_size=64,
            num_key_value_heads=2,
            head_dim=8,
            linear_key_head_dim=8,
            linear_value_head_dim=8,
            linear_num_key_heads=2,
            linear_num_value_heads=4,
        )
    ),
}


def model(kind: str, *, dtype: torch.dtype = torch.float32, seed: int = 0, vocabulary: int = 96):
    """A small random model whose weights are large enough that its logits say something."""
    torch.manual_seed(seed)
    network = BUILD[kind]()
    if vocabulary != 96:
        network.resize_token_embeddings(vocabulary, mean_resizing=False)
    network = network.to(dtype).eval().requires_grad_(False)
    for name, p in network.named_parameters():
        if p.ndim == 1 and name.endswith("bias"):
            p.data.normal_(std=0.1)
    return network


def base(
    kind: str = "llama", *, dtype: torch.dtype = torch.float32, seed: int = 0, tokenizer=None, vocabulary: int = 96
) -> Base:
    network = model(kind, dtype=dtype, seed=seed, vocabulary=vocabulary)
    return Base(network, tokenizer, fingerprint(network), kind)


def ids(batch: int = 3, length: int = 7, *, seed: int = 0) -> torch.Tensor:
    return torch.randint(1, 96, (batch, length), generator=torch.Generator().manual_seed(seed))


def behaviors(tiny):
    """The shipped behaviors that a real model, or the embedded one, can be asked; some have no words of its world."""
    packs = {name: yaml.safe_load((HERE / f"{name}.yaml").read_text(encoding="utf-8")) for name in SHIPPED}
    return [name for name, pack in packs.items() if not tiny or "tiny" in pack or "dataset" in pack]


BEHAVIORS = [(name, tiny) for tiny in (False, True) for name in behaviors(tiny)]
