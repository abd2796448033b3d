"""`ws doctor` counts large models of today from their config files alone; every number here is computed by hand from the shapes."""

import shutil
import tempfile
from pathlib import Path

import transformers as tf

from ws.data import DataSettings
from ws.doctor import memory_plan, opened
from ws.models import quantised
from ws.models.tiny import FOLDER
from ws.train import TrainSettings

FREE = {"cuda:0": 80 * 10**9}
BF16 = 2


def plan_of(config, *targets, dtype="auto"):
    with tempfile.TemporaryDirectory() as folder:
        for file in FOLDER.glob("*.json"):
            shutil.copyfile(file, Path(folder) / file.name)  # a tokenizer, which counts nothing
        config.dtype = "bfloat16"
        config.save_pretrained(folder)
        settings = TrainSettings(rank=8, layers="0-3", targets=targets)
        plan = memory_plan(opened(folder), DataSettings(max_new_tokens=128), settings, dtype=dtype, free=FREE)
    return plan, DataSettings(max_new_tokens=128).max_len + 64


def test_llama_70b_does_not_fit_one_device_and_its_numbers_are_those_of_its_shapes():
    config = tf.LlamaConfig(
        vocab_size=128256, hidden_size=8192, intermediate_size=28672, num_hidden_layers=80, num_attention_heads=64,
        num_key_value_heads=8, head_dim=128, max_position_embeddings=131072,
    )  # fmt: skip
    plan, tokens = plan_of(config)
    block = 2 * 8192 * 8192 + 2 * 8192 * 1024 + 3 * 8192 * 28672 + 2 * 8192  # q, o; k, v; the MLP; two norms
    assert plan.weights == BF16 * (80 * block + 2 * 128256 * 8192 + 8192) == 141_107_412_992
    assert plan.adapter_parameters == 4 * 8 * (2 * 16384 + 2 * 9216 + 3 * 36864)
    cache = tokens * 80 * 2 * 8 * 128 * BF16  # 328 kB a token
    assert plan.steps[0].per_row == cache + 3 * 4 * 128256
    assert not plan.fits and any("No device here holds" in a for a in plan.advice)


def test_gpt_oss_20b_keeps_windows_and_whole_rows_in_turns():
    config = tf.GptOssConfig(num_hidden_layers=24, num_local_experts=32)
    plan, tokens = plan_of(config)
    attention = 2880 * 4096 + 4096 + 2 * (2880 * 512 + 512) + 4096 * 2880 + 2880 + 64  # q; k, v; o; sinks
    expert = 2880 * 5760 + 5760 + 2880 * 2880 + 2880
    block = attention + 32 * expert + 2880 * 32 + 32 + 2 * 2880
    assert plan.weights == BF16 * (24 * block + 2 * 201088 * 2880 + 2880) == 41_829_514_368
    assert plan.adapter_parameters == 4 * 8 * (2 * (2880 + 4096) + 2 * (2880 + 512))
    per_token = 2 * 8 * 64 * BF16
    assert plan.steps[0].per_row == 12 * per_token * (tokens + 127) + 3 * 4 * 201088  # a window of 128 keeps 127
    assert plan.fits


def test_gpt_oss_20b_as_it_is_published_takes_what_its_files_take_where_its_kernels_are_and_else_bf16(monkeypatch):
    config = tf.GptOssConfig(num_hidden_layers=24, num_local_experts=32)
    config.quantization_config = {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn"]}
    experts = 24 * 32 * (2880 * 5760 + 2880 * 2880)
    for kernels, weights in ((None, 41_829_514_368), (object(), 41_829_514_368 - experts * 2 + experts * 17 // 32)):
        monkeypatch.setattr(quantised, "find_spec", lambda name, found=kernels: found)
        plan, _ = plan_of(config)
        assert plan.weights == weights and plan.quantize == (None if kernels is None else "mxfp4")
    assert weights == 13_761_264_768  # the files of openai/gpt-oss-20b hold 13.76 GB
    assert plan.adapter_parameters == 4 * 8 * (2 * (2880 + 4096) + 2 * (2880 + 512))


def test_qwen35_moe_keeps_ten_blocks_of_keys_and_thirty_states():
    linear = dict(
        linear_num_key_heads=16, linear_num_value_heads=32, linear_key_head_dim=128, linear_value_head_dim=128
    )
    text = tf.Qwen3_5MoeTextConfig(
        vocab_size=248320, hidden_size=2048, num_hidden_layers=40, num_attention_heads=16, num_key_value_heads=2, head_dim=256,
        moe_intermediate_size=512, shared_expert_intermediate_size=512, num_experts=256, num_experts_per_tok=8,
        linear_conv_kernel_dim=4, **linear,
    )  # fmt: skip
    plan, tokens = plan_of(text)
    moe = 256 * 3 * 2048 * 512 + 256 * 2048 + 3 * 2048 * 512 + 2048  # experts, router, shared expert, its gate
    full = 2048 * 16 * 256 * 2 + 2 * 2048 * 512 + 4096 * 2048 + 2 * 256  # q with its gate; k, v; o; two norms
    delta = (
        2048 * (8192 + 4096 + 2 * 32) + 8192 * 4 + 2 * 32 + 128 + 4096 * 2048
    )  # qkv, z, a, b; conv; dt, A; norm; out
    norms = 2 * 2048
    assert plan.weights == BF16 * (10 * (full + moe + norms) + 30 * (delta + moe + norms) + 2 * 248320 * 2048 + 2048)
    assert 34e9 < plan.weights / BF16 < 36e9
    shared = 3 * (2048 + 512)
    on_full, on_delta = (2048 + 8192) + 2 * (2048 + 512) + 6144, (2048 + 8192) + (2048 + 4096) + 2 * (2048 + 32) + 6144
    assert plan.adapter_parameters == 8 * (on_full + 3 * on_delta + 4 * shared)
    keys = tokens * 10 * 2 * 2 * 256 * BF16
    states = plan.steps[0].per_row - keys - 3 * 4 * 248320
    assert states == 30 * (8192 * 4 * BF16 + 32 * 128 * 128 * 4)  # kernels of four; states in float32


def test_adapters_on_experts_are_counted_with_the_matrices_that_they_steer():
    plan, _ = plan_of(tf.GptOssConfig(num_hidden_layers=4, num_local_experts=32), "experts")
    assert plan.adapter_parameters == 4 * 8 * 32 * ((2880 + 5760) + (2880 + 2880)) and plan.traced_as == "lora"
    up, down = 32 * 2880 * 5760 * BF16, 32 * 2880 * 2880 * BF16
    kept = 4 * down + 3 * up  # of every block W + dW stays for the way back, but where nothing below is trained
    training = plan.steps[1].fixed - 13 * 4 * plan.adapter_parameters  # sides, moments, gradients
    assert kept < training < 1.05 * kept


def test_a_mixture_is_counted_in_float32_too_where_weights_and_memory_are_twice_as_large():
    config = tf.Qwen3MoeConfig(
        vocab_size=1000, hidden_size=256, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2, head_dim=64,
        moe_intermediate_size=128, num_experts=8,
    )  # fmt: skip
    half, whole = plan_of(config)[0], plan_of(config, dtype="float32")[0]
    assert whole.weights == 2 * half.weights and whole.adapter_parameters == half.adapter_parameters
    assert half.steps[1].per_row < whole.steps[1].per_row < 2 * half.steps[1].per_row
    on_experts = plan_of(config, "experts", dtype="float32")[0]
    assert on_experts.adapter_parameters == 4 * 8 * 8 * ((256 + 256) + (128 + 256))
    assert on_experts.steps[1].fixed > 4 * 4 * 8 * (256 * 128 + 128 * 256)
