"""Experts of a model that is spread over devices, which are all the CPU here; over processes, in test_processes.py."""

import copy

import architectures as shapes
import pytest
import torch
from accelerate import dispatch_model
from architectures import logits
from models.test_experts import direction_on
from test_train import PAIRS

from ws.diff import diff
from ws.errors import Unsupported
from ws.models.base import Base
from ws.models.load import load
from ws.models.modules import blocks_of
from ws.steer import steer
from ws.train import train


def dispatched(base, **places):
    """The same model with every part on a place of its own, moved there by accelerate's hooks."""
    model = copy.deepcopy(base.model)
    prefix, blocks = blocks_of(model)
    inside = {f"{prefix}.{i}": places.get(f"block{i}", "cpu") for i in range(len(blocks))}
    rest = dict.fromkeys(("model.embed_tokens", "model.norm", "model.rotary_emb", "lm_head"), "cpu")
    more = {"main_device": "cpu", "offload_dir": places["offload_dir"]} if "offload_dir" in places else {}
    return dispatch_model(model, {**rest, **inside}, force_hooks=True, **more)


@pytest.mark.parametrize("alpha", [0.7, [0.7, 0.0, -0.4]])
def test_experts_on_several_devices_are_steered_to_the_same_bits_and_left_as_they_were(alpha):
    base = shapes.base("qwen3-moe")
    d, plain = direction_on(base), logits(base.model)
    network = dispatched(base)
    with steer(base, d, alpha):
        wanted = logits(base.model)
    with steer(network, d, alpha):
        assert torch.equal(logits(network), wanted) and not torch.equal(wanted, plain)
    assert torch.equal(logits(network), plain)


def test_experts_learn_on_several_devices_what_they_learn_on_one(tiny, tmp_path):
    one = load(shapes.folder("qwen3-moe", tmp_path / "m", tiny.tokenizer))
    two = Base(dispatched(one), one.tokenizer, one.fingerprint, one.id, source=one.source, weights=one.weights)
    how = dict(adapter="lora", rank=2, lr=(1e-2,), layers="all", targets=("experts",), epochs=1)
    assert len({diff(b, *train(b, PAIRS, **how)).content_hash for b in (one, two)}) == 1


def test_experts_that_wait_on_a_disk_are_refused(tmp_path):
    base = shapes.base("qwen3-moe")
    half = dispatched(base, block1="disk", offload_dir=tmp_path)
    with pytest.raises(Unsupported, match="wait on the CPU or the disk"), steer(half, direction_on(base), 0.5):
        pass
