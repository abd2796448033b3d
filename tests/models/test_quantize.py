"""`quantize` where it cannot be: one sentence each, before anything is read or made. The rest is in test_quantised.py."""

import copy
import json
from importlib import import_module

import pytest
import torch
from test_steer import lowrank

from ws.diff.named import diff_named
from ws.direction import Direction, save
from ws.direction.direction import cosine
from ws.doctor import opened
from ws.errors import DirectionMismatch, Unsupported
from ws.explain.protocol import Subject
from ws.explain.registry import ANALYSES
from ws.models import quantised
from ws.models.load import load
from ws.models.quantised import weight_bytes
from ws.models.tiny import FOLDER
from ws.study.options import Common
from ws.watch.changes import of_direction


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


def test_int4_of_torchao_has_no_kernel_on_a_cpu_and_that_is_said_before_anything_is_read(packed):
    folder = packed("torchao")
    config = json.loads((folder / "config.json").read_text())
    own = {"quant_method": "torchao", "quant_type": {"default": {"_type": "Int4WeightOnlyConfig", "_data": {}}}}
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": own}))
    with pytest.raises(Unsupported, match="in int4, for which it has no kernel on a CPU"):
        load(folder, device="cpu")
    with pytest.raises(Unsupported, match="how many bytes its weights take is not known"):
        opened(str(folder))


def test_a_difference_of_two_directions_of_one_rounding_is_exact_and_they_are_not_watched_on_whole_weights(
    tiny, tmp_path
):
    base = {**tiny.described(), "fingerprint": "0" * 64, "quantize": "nf4", "whole": tiny.fingerprint}
    files = []
    for seed in (0, 1):
        d = lowrank(tiny, seed)
        files.append(save(Direction(d.forms, {"base": base}), tmp_path / f"{seed}.safetensors"))
    got, theta = diff_named(*map(str, files), model="tiny")
    assert theta.fingerprint == tiny.fingerprint and got.fingerprint == "0" * 64
    wanted = lowrank(tiny, 0) - lowrank(tiny, 1)
    assert cosine(got, wanted) == pytest.approx(1) and got.norm() == pytest.approx(wanted.norm())
    stranger = save(Direction(lowrank(tiny, 2).forms, {"base": base | {"whole": "1" * 64}}), tmp_path / "2.safetensors")
    with pytest.raises(DirectionMismatch, match="made from base"):
        diff_named(str(stranger), model="tiny")
    with pytest.raises(Unsupported, match="rounded to nf4, and what is watched is compared on whole weights alone"):
        of_direction("it", got, theta)


def test_a_head_of_few_bits_is_no_matrix_to_read_words_from(tiny, monkeypatch, tmp_path):
    monkeypatch.setenv("WS_CACHE", str(tmp_path))  # what is remembered of the whole head is not that of this one
    packed_head = copy.deepcopy(tiny)
    head = torch.nn.Linear(*reversed(tiny.model.lm_head.weight.shape), bias=False)
    head.weight = torch.nn.Parameter(torch.ones(head.weight.shape, dtype=torch.int8), requires_grad=False)
    packed_head.model.lm_head = head
    for name in ("weak_readout", "logit_lens"):
        with pytest.raises(Unsupported, match="packed weights are no matrix to compute with"):
            ANALYSES[name].run(Subject(packed_head, lowrank(tiny, 0)))
