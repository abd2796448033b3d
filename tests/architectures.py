"""Small random models in the shapes that people use today, from their real config classes: experts, towers, recurrent layers."""

from pathlib import Path

import torch
import transformers as tf

from ws.models.architecture import causal_class
from ws.models.base import Base
from ws.models.modules import fingerprint

CORE = dict(
    hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=512
)
TEXT = dict(CORE, intermediate_size=48, head_dim=8)
EXPERTS = dict(moe_intermediate_size=16, num_experts_per_tok=2)
LINEAR = dict(
    linear_key_head_dim=8,
    linear_value_head_dim=8,
    linear_num_key_heads=2,
    linear_num_value_heads=4,
    layer_types=["linear_attention", "full_attention"],
)
EYES = dict(hidden_size=16, intermediate_size=24, patch_size=14)
SIGLIP = dict(EYES, num_hidden_layers=3, num_attention_heads=2, image_size=28)
QWEN_EYES = dict(EYES, depth=3, num_heads=2, out_hidden_size=32)


def _qwen35_moe(n: int) -> dict:
    rest = {k: v for k, v in TEXT.items() if k != "intermediate_size"}
    return dict(rest, vocab_size=n, num_experts=4, shared_expert_intermediate_size=16, **EXPERTS, **LINEAR)


CONFIGS = {
    "qwen3-moe": lambda n: tf.Qwen3MoeConfig(vocab_size=n, num_experts=4, **TEXT, **EXPERTS),
    "qwen3.5-moe": lambda n: tf.Qwen3_5MoeConfig(text_config=_qwen35_moe(n), vision_config=QWEN_EYES),
    "gpt-oss": lambda n: tf.GptOssConfig(
        vocab_size=n,
        num_local_experts=4,
        num_experts_per_tok=2,
        rope_parameters={"rope_type": "default", "rope_theta": 1e4},
        **TEXT,
    ),
    "mixtral": lambda n: tf.MixtralConfig(
        vocab_size=n, num_local_experts=4, num_experts_per_tok=2, intermediate_size=16, **CORE
    ),
    "glm4-moe": lambda n: tf.Glm4MoeConfig(
        vocab_size=n, n_routed_experts=4, first_k_dense_replace=1, **TEXT, **EXPERTS
    ),
    "deepseek-v3": lambda n: tf.DeepseekV3Config(
        **{**CORE, "num_key_value_heads": 4},
        **dict(vocab_size=n, n_routed_experts=4, first_k_dense_replace=1, n_group=1, topk_group=1, **EXPERTS),
        **dict(
            intermediate_size=48, q_lora_rank=16, kv_lora_rank=16, qk_rope_head_dim=8, qk_nope_head_dim=8, v_head_dim=8
        ),
    ),
    "granite-hybrid": lambda n: tf.GraniteMoeHybridConfig(
        **dict(vocab_size=n, intermediate_size=16, shared_intermediate_size=24, num_local_experts=4, **CORE),
        **dict(num_experts_per_tok=2, layer_types=["mamba", "attention"], mamba_n_heads=4, mamba_d_head=16),
        **dict(mamba_d_state=16, mamba_n_groups=1, mamba_chunk_size=16),
    ),
    "nemotron-h": lambda n: tf.NemotronHConfig(
        **{k: v for k, v in TEXT.items() if k != "num_hidden_layers"},
        **dict(
            vocab_size=n, layers_block_type=["mamba", "attention", "mlp", "moe"], mamba_num_heads=4, mamba_head_dim=16
        ),
        **dict(ssm_state_size=16, n_groups=1, n_routed_experts=4, n_group=1, topk_group=1, chunk_size=16),
        **dict(moe_shared_expert_intermediate_size=16, **EXPERTS),
    ),
    "gemma3": lambda n: tf.Gemma3Config(
        text_config=dict(TEXT, vocab_size=n), vision_config=SIGLIP, mm_tokens_per_image=4, image_token_index=n - 1
    ),
    "qwen3.5": lambda n: tf.Qwen3_5Config(text_config=dict(TEXT, vocab_size=n, **LINEAR), vision_config=QWEN_EYES),
    "qwen2.5-vl": lambda n: tf.Qwen2_5_VLConfig(
        text_config=dict(
            **dict(CORE, vocab_size=n, intermediate_size=48, bos_token_id=None, eos_token_id=None),
            rope_parameters={"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e4},
        ),
        vision_config=dict(QWEN_EYES, fullatt_block_indexes=[1]),
    ),
    "mistral3": lambda n: tf.Mistral3Config(
        text_config=dict(TEXT, vocab_size=n, model_type="mistral"),
        vision_config=dict(SIGLIP, model_type="pixtral", head_dim=8),
    ),
}
"""Kind to its config, for a vocabulary of so many words."""
WHOLE = {"qwen3.5": "Qwen3_5ForConditionalGeneration", "qwen3.5-moe": "Qwen3_5MoeForConditionalGeneration"}
"""Checkpoints with more parts than the class that ws loads of them."""
WITH_EXPERTS = {k for k in CONFIGS if k.endswith(("moe", "-h", "hybrid", "v3", "oss", "mixtral"))}
WITH_TOWERS = {"gemma3", "qwen3.5", "qwen3.5-moe", "qwen2.5-vl", "mistral3"}
RECURRENT = {"qwen3.5", "qwen3.5-moe", "granite-hybrid", "nemotron-h"}


def network(kind: str, *, vocabulary: int = 96, dtype: torch.dtype = torch.float32, whole: bool = False, seed: int = 0):
    """A random network whose logits say something: as ws loads it, or as a checkpoint holds it."""
    torch.manual_seed(seed)
    config = CONFIGS[kind](vocabulary)
    made = (
        getattr(tf, WHOLE[kind])(config) if whole and kind in WHOLE else causal_class(config, kind).from_config(config)
    )
    for name, p in made.named_parameters():
        if p.ndim > 1:
            p.data.normal_(std=(3.0 if "embed" in name and kind != "gemma3" else 1.0) / p.shape[-1] ** 0.5)
    return made.to(dtype).eval().requires_grad_(False)


def base(kind: str, *, tokenizer=None, **more) -> Base:
    """A base around it, in memory."""
    made = network(kind, **more)
    return Base(made, tokenizer, fingerprint(made), kind)


def folder(kind: str, path: Path, tokenizer, **more) -> Path:
    """The checkpoint that stock transformers writes of it, in its own format, with a tokenizer."""
    network(kind, vocabulary=len(tokenizer), whole=True).save_pretrained(path, **more)
    tokenizer.save_pretrained(path)
    return path


def ids(rows=3, length=9):
    """The same tokens every time."""
    return torch.randint(5, 90, (rows, length), generator=torch.Generator().manual_seed(1))


def logits(model, tokens=None):
    """What a model says to them, or to others."""
    with torch.no_grad():
        return model(input_ids=ids() if tokens is None else tokens, use_cache=False).logits
