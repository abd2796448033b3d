"""`quantize` where it cannot be: one sentence each, before anything is read or made. The rest is in test_quantised.py."""

import json
from importlib import import_module

import pytest

from ws.doctor import opened
from ws.errors import Unsupported
from ws.models import quantised
from ws.models.load import load
from ws.models.quantised import weight_bytes
from ws.models.tiny import FOLDER
from ws.study.options import Common


@pytest.fixture
def here(monkeypatch):
    """A machine with bitsandbytes, as far as anybody asks before it is needed."""
    monkeypatch.setattr(quantised, "find_spec", lambda name: object())


@pytest.fixture
def packed(tmp_path):
    """A folder whose config says that its weights are packed, by the method of a name."""

    def as_by(method):
        folder = tmp_path / method
        folder.mkdir()
        for file in FOLDER.iterdir():
            (folder / file.name).symlink_to(file)
        config = json.loads((FOLDER / "config.json").read_text())
        (folder / "config.json").unlink()
        own = {"quant_method": method, "bits": 4, "load_in_8bit": True}
        (folder / "config.json").write_text(json.dumps(config | {"quantization_config": own}))
        return folder

    return as_by


def test_without_the_library_the_install_command_is_said_before_anything_is_read(monkeypatch, tmp_path):
    monkeypatch.setattr(quantised, "find_spec", lambda name: None)
    monkeypatch.setattr(import_module("ws.models.load"), "locate", lambda *a: pytest.fail("looked for the model"))
    for ask in (lambda: load("tiny", quantize="nf4"), lambda: Common(quantize="int8")):
        with pytest.raises(Unsupported, match="which is not installed here: pip install bitsandbytes"):
            ask()
    assert Common().quantize is None


def test_roundings_that_there_are_not_are_refused_by_name():
    with pytest.raises(ValueError, match="`quantize` is int8 or nf4; got 'int3'"):
        load("tiny", quantize="int3")


@pytest.mark.parametrize("model", ["smollm2", "some/where.Q4_1.gguf"])
def test_a_gguf_file_is_not_rounded_twice(model, here):
    with pytest.raises(Unsupported, match="GGUF file, whose weights are rounded already; `quantize` the model it was"):
        load(model, quantize="nf4")


def test_a_packed_checkpoint_is_not_rounded_again(packed, here):
    with pytest.raises(Unsupported, match=r"quantised already \(by bitsandbytes\); leave out `quantize`"):
        load(packed("bitsandbytes"), quantize="nf4")


@pytest.mark.parametrize("method", ["gptq", "awq"])
def test_what_has_no_linear_layers_is_refused_by_its_config_alone_also_by_doctor(method, packed):
    folder = packed(method)
    for ask in (lambda: load(folder), lambda: opened(str(folder))):
        with pytest.raises(Unsupported, match=f"quantised by {method}, whose layers are no linear layers"):
            ask()


def test_the_plan_of_memory_counts_packed_linear_layers_and_the_rest_whole():
    """By hand: a block of `tiny` has seven matrices, and what is no matrix of a block stays as it is."""
    network = opened("tiny").base.model
    whole, linear = (
        weight_bytes(network, None),
        sum(x.module.weight.numel() for x in opened("tiny").base.linears.values()),
    )
    size = next(network.parameters()).element_size()
    assert whole - weight_bytes(network, "int8") == linear * (size - 1)
    assert whole - weight_bytes(network, "nf4") == int(linear * (size - 0.5625))
