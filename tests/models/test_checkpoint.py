"""A checkpoint opened and not loaded is the loaded model, tensor for tensor."""

import json

import pytest
import small
import torch
from safetensors.torch import load_file, save_file

from ws.errors import BadFile, Unsupported
from ws.models.checkpoint import Checkpoint, fetched, open_checkpoint
from ws.models.modules import SAMPLES, fingerprint, linears_of, weight_of


@pytest.mark.parametrize("kind", small.BUILD)
def test_names_values_and_fingerprint_are_those_of_the_loaded_model(tmp_path, kind):
    model = small.model(kind)
    model.save_pretrained(tmp_path, max_shard_size="50KB")
    theta = open_checkpoint(tmp_path)
    assert theta.fingerprint == fingerprint(model)
    assert len(set(theta.places.values())) > 1
    own = {x.name: x.module for x in linears_of(model)}
    assert theta.linears.keys() == own.keys()
    for name, layer in own.items():
        assert torch.equal(theta.weight(name), weight_of(layer))
        assert (theta.bias(name) is None) == (layer.bias is None)
    assert all(p.device.type == "meta" for p in theta.skeleton.parameters())


def test_one_changed_value_among_the_sampled_ones_changes_the_fingerprint(tmp_path):
    model = small.model("llama")
    model.save_pretrained(tmp_path)
    mark = open_checkpoint(tmp_path).fingerprint
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["model.norm.weight"][3] += 1
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert open_checkpoint(tmp_path).fingerprint != mark


def test_a_base_is_recognised_without_reading_any_large_tensor_whole(tmp_path, monkeypatch):
    model = small.model("llama")
    model.save_pretrained(tmp_path)
    read, whole = Checkpoint._read, []
    monkeypatch.setattr(Checkpoint, "_read", lambda self, name: whole.append(name) or read(self, name))
    theta = open_checkpoint(tmp_path)
    assert theta.fingerprint == fingerprint(model)
    assert whole and all(model.get_parameter(name).numel() <= SAMPLES for name in whole)


def test_a_checkpoint_without_the_networks_prefix_is_read(tmp_path):
    """The GPT-2 checkpoint on the hub names its tensors `h.0...`, the network `transformer.h.0...`."""
    model = small.model("gpt2")
    model.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    bare = {k.removeprefix("transformer."): t for k, t in tensors.items()}
    assert bare.keys() != tensors.keys()
    save_file(bare, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert open_checkpoint(tmp_path).fingerprint == fingerprint(model)


def test_a_half_precision_checkpoint_has_the_fingerprint_of_the_model_it_loads_as(tmp_path):
    import transformers

    small.model("qwen3").to(torch.bfloat16).save_pretrained(tmp_path)
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype="auto")
    theta = open_checkpoint(tmp_path)
    assert model.dtype == torch.bfloat16 == theta.weight("model.layers.0.mlp.up_proj").dtype
    assert theta.fingerprint == fingerprint(model)


def test_damaged_foreign_and_pickled_folders_are_refused_in_one_sentence(tmp_path):
    def folder(name):
        small.model("llama").save_pretrained(tmp_path / name, max_shard_size="50KB")
        return tmp_path / name

    short = folder("short")
    shard = sorted(short.glob("*.safetensors"))[0]
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(BadFile, match="truncated"):
        open_checkpoint(short)

    lost = folder("lost")
    sorted(lost.glob("*.safetensors"))[1].unlink()
    with pytest.raises(BadFile, match="there is no such file"):
        open_checkpoint(lost)

    out = folder("out")
    index = json.loads((out / "model.safetensors.index.json").read_text())
    index["weight_map"] = {k: "../" + v for k, v in index["weight_map"].items()}
    (out / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(BadFile, match="is a path"):
        open_checkpoint(out)

    pickled = folder("pickled")
    for f in [*pickled.glob("*.safetensors"), pickled / "model.safetensors.index.json"]:
        f.unlink()
    torch.save({}, pickled / "pytorch_model.bin")
    with pytest.raises(BadFile, match="no pickle is ever read"):
        open_checkpoint(pickled)

    packed = folder("packed")
    config = json.loads((packed / "config.json").read_text())
    (packed / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": "gptq"}}))
    with pytest.raises(Unsupported, match="quantised"):
        open_checkpoint(packed)

    with pytest.raises(BadFile, match="no adapter folder at"):
        fetched("../somewhere", "adapter")
    wrong = folder("wrong")
    config = json.loads((wrong / "config.json").read_text())
    (wrong / "config.json").write_text(json.dumps({**config, "intermediate_size": 32}))
    with pytest.raises(BadFile, match="config makes it"):
        _ = open_checkpoint(wrong).fingerprint
