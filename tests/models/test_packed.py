"""Checkpoints that are published in few bits, by no library that has to be installed: mxfp4 as gpt-oss, fp8 as DeepSeek-V3."""

import json

import architectures as shapes
import pytest
import torch
import transformers as tf
from architectures import logits
from models.test_experts import direction_on
from safetensors.torch import load_file, save_file
from test_steer import lowrank
from test_train import PAIRS

from ws.data import DataSettings
from ws.diff import diff
from ws.direction.algebra import restricted
from ws.doctor import memory_plan, opened
from ws.doctor.support import support
from ws.errors import ExportRefused, Unsupported
from ws.export import export
from ws.models.checkpoint import open_checkpoint
from ws.models.load import load
from ws.models.modules import is_packed
from ws.models.quantised import values_of
from ws.steer import steer
from ws.train import TrainSettings, train

FP4 = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])
FP4 = torch.cat([FP4, -FP4])
"""What four bits stand for."""


def packed_config(folder, **own):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"dtype": "bfloat16", "quantization_config": own}))


@pytest.fixture(scope="module")
def mxfp4(tiny, tmp_path_factory):
    """(a small gpt-oss as it is published, the matrices that its experts stand for)."""
    folder = tmp_path_factory.mktemp("packed") / "gpt-oss"
    config = shapes.CONFIGS["gpt-oss"](len(tiny.tokenizer))
    config.intermediate_size = 64  # blocks of 32 divide it
    torch.manual_seed(0)
    tf.GptOssForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    tensors, g, whole = load_file(folder / "model.safetensors"), torch.Generator().manual_seed(0), {}
    for name in [n for n in tensors if n.endswith(("gate_up_proj", "down_proj"))]:
        e, i, o = tensors.pop(name).shape
        blocks = torch.randint(0, 256, (e, o, i // 32, 16), generator=g, dtype=torch.uint8)
        scales = torch.randint(122, 125, (e, o, i // 32), generator=g, dtype=torch.uint8)
        tensors |= {f"{name}_blocks": blocks, f"{name}_scales": scales}
        values = torch.stack([FP4[(blocks & 15).long()], FP4[(blocks >> 4).long()]], -1).flatten(-2)
        whole[name] = (values * 2.0 ** (scales.float() - 127)[..., None]).flatten(-2)  # (experts, out, in)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    packed_config(folder, quant_method="mxfp4", modules_to_not_convert=["model.layers.*.self_attn", "lm_head"])
    tiny.tokenizer.save_pretrained(folder)
    return folder, whole


@pytest.fixture(scope="module")
def fp8(tiny, tmp_path_factory):
    """(a small Qwen3 whose linear layers are fp8 in blocks, the matrices that they stand for)."""
    folder = tmp_path_factory.mktemp("packed") / "qwen3"
    torch.manual_seed(0)
    core = dict(hidden_size=64, intermediate_size=160, num_hidden_layers=2, num_attention_heads=4, head_dim=16)
    config = tf.Qwen3Config(vocab_size=len(tiny.tokenizer), num_key_value_heads=2, **core)
    tf.Qwen3ForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    tensors, whole = load_file(folder / "model.safetensors"), {}
    for name in [n for n in tensors if n.endswith("proj.weight")]:
        w = tensors[name].float()
        rows, columns = (-(-n // 128) for n in w.shape)
        scale = torch.full((rows, columns), float(w.abs().max()) / 448)
        tensors[name], tensors[f"{name}_scale_inv"] = (w / scale[0, 0]).to(torch.float8_e4m3fn), scale
        whole[name.removesuffix(".weight")] = tensors[name].float() * scale[0, 0]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    packed_config(
        folder,
        quant_method="fp8",
        activation_scheme="dynamic",
        weight_block_size=[128, 128],
        modules_to_not_convert=["lm_head"],
    )
    tiny.tokenizer.save_pretrained(folder)
    return folder, whole


def test_gpt_oss_as_it_is_published_is_whole_on_a_cpu_and_learns_and_steers_also_on_its_experts(mxfp4):
    folder, whole = mxfp4
    base = load(folder)
    for name, matrix in whole.items():
        torch.testing.assert_close(base.weight(name).float(), matrix, atol=0, rtol=2**-8)  # of bf16
    assert load(folder).fingerprint == base.fingerprint
    plain, d = logits(base.model), direction_on(base, size=0.5)
    with steer(base, d, 0.0):
        assert torch.equal(logits(base.model), plain)
    with steer(base, d, 1.0):
        hooked = logits(base.model)
    with steer(base, d, 1.0, fold=True):
        folded = logits(base.model)
    assert (hooked - plain).abs().max() > 0.1
    assert (hooked - folded).abs().max() < 0.1 * (hooked - plain).abs().max()
    pos, neg = train(base, PAIRS, adapter="lora", rank=2, lr=(1e-2,), layers="all", targets=("experts",), epochs=1)
    assert {f.kind for fs in diff(base, pos, neg).forms.values() for f in fs} == {"stacked"}


def test_a_merged_export_keeps_packed_experts_byte_for_byte_and_refuses_to_write_into_them(mxfp4, tmp_path):
    folder, _ = mxfp4
    base = load(folder)
    d = direction_on(base, size=0.5)
    attention = restricted(d, drop="*.experts.*")
    with steer(base, attention, 1.0):
        hooked = logits(base.model)
    export(attention, base, tmp_path / "merged", to="merged", alphas=[1.0])
    assert (logits(load(tmp_path / "merged").model) - hooked).abs().max() < 0.05 * hooked.abs().max()
    old, new = (load_file(f / "model.safetensors") for f in (folder, tmp_path / "merged"))
    assert {n for n in old if not torch.equal(old[n], new[n])} == {f"{n}.weight" for n in attention.forms}
    with pytest.raises(ExportRefused, match="the checkpoint"):
        export(d, base, tmp_path / "no", to="merged", alphas=[1.0])


def test_an_fp8_checkpoint_is_whole_on_a_cpu_and_nothing_is_merged_into_its_few_bits(fp8, tmp_path):
    folder, whole = fp8
    base = load(folder)
    for name, matrix in whole.items():
        torch.testing.assert_close(base.weight(name).float(), matrix, atol=0, rtol=2**-8)
    plain, d = logits(base.model), lowrank(base, 0, size=0.5)
    with steer(base, d, 1.0):
        assert (logits(base.model) - plain).abs().max() > 0.1
    assert torch.equal(logits(base.model), plain)
    with pytest.raises(ExportRefused, match=r"in few bits \(F8_E4M3\), into which nothing is merged"):
        export(d, base, tmp_path / "no", to="merged", alphas=[1.0])
    assert not (tmp_path / "no").exists()
    with pytest.raises(Unsupported, match="is quantised"):
        open_checkpoint(folder)


def test_fp8_layers_that_stay_packed_are_told_from_whole_ones_and_stand_for_their_values():
    from transformers.integrations.finegrained_fp8 import FP8Linear

    layer = FP8Linear(160, 64, block_size=(128, 128))
    w = torch.randn(64, 160, generator=torch.Generator().manual_seed(0))
    layer.weight.data = w.to(torch.float8_e4m3fn)
    layer.weight_scale_inv.data = torch.tensor([[2.0, 0.5]])
    assert is_packed(layer) and not is_packed(torch.nn.Linear(160, 64))
    torch.testing.assert_close(values_of(layer)[:, :128], 2 * w[:, :128], atol=0.02, rtol=0.1)
    torch.testing.assert_close(values_of(layer)[:, 128:], w[:, 128:] / 2, atol=0.02, rtol=0.1)


def test_doctor_counts_what_is_published_in_few_bits_by_hand_and_says_what_can_sit_on_it(mxfp4, fp8):
    settings = TrainSettings(rank=2, layers="all")
    model = opened(str(mxfp4[0]))
    network = model.base.model
    experts = 2 * 4 * (128 * 32 + 32 * 64)
    every = sum(p.numel() for p in network.parameters())
    plans = {
        device: memory_plan(model, DataSettings(), settings, dtype="auto", free={device: 10**9}) for device in ("cpu",)
    }
    assert plans["cpu"].weights == 2 * every  # bf16, and not float32, which packed weights are not cast to
    assert support(model.base, packed="mxfp4")["sits on"].endswith("nothing on the routed experts, which stay packed")
    model = opened(str(fp8[0]))
    linear = sum(p.numel() for x in model.base.linears.values() for p in [x.module.weight])
    on_gpu = memory_plan(model, DataSettings(), settings, dtype="auto", free={"cuda:0": 10**9})
    whole = sum(p.numel() for p in model.base.model.parameters())
    assert on_gpu.weights == 2 * whole - int(linear * (2 - 1 - 4 / 128**2))
    row = support(model.base, packed="fp8")
    assert row["train"].startswith("lora, bias; no dora: it is computed from the base's own weights")
    assert (
        experts
        and "nothing is folded" in row["steer"]
        and row["export"].startswith("peft; the others of the whole model")
    )
    with pytest.raises(Unsupported, match="these are packed"):
        memory_plan(model, DataSettings(), TrainSettings(adapter="dora"), dtype="auto", free={"cuda:0": 10**9})
