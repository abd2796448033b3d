"""Models that are spread over devices, and checkpoints in shards: the same numbers, or one sentence.

Every layer's forward is replaced by accelerate's, which moves what comes in to the layer's device, as it is with
`device_map` on several devices. Here all of these are the CPU.
"""

import copy

import pytest
import torch
from accelerate import cpu_offload, dispatch_model
from test_train import PAIRS, quick

from ws.diff import diff
from ws.direction import Direction
from ws.direction.forms import LowRank
from ws.errors import Unsupported
from ws.generate import generate
from ws.models.load import Base, _refuse_offloaded, load
from ws.models.modules import blocks_of, sizes
from ws.models.tiny import FOLDER
from ws.steer import steer
from ws.train import train

QUESTIONS = ["What is the capital of Kenya?", "What is the capital of Peru?"]


@pytest.fixture
def dispatched(tiny):
    """`tiny` with every block on a place of its own."""
    model = copy.deepcopy(tiny.model)
    prefix, blocks = blocks_of(model)
    inside = {f"{prefix}.{i}": "cpu" for i in range(len(blocks))}
    model = dispatch_model(model, {"model.embed_tokens": "cpu", "model.norm": "cpu", "model.rotary_emb": "cpu", "lm_head": "cpu", **inside}, force_hooks=True)  # fmt: skip
    assert hasattr(model, "_hf_hook")
    assert all(hasattr(b, "_hf_hook") for b in blocks_of(model)[1])
    return Base(model, tiny.tokenizer, tiny.fingerprint, "tiny", source="tiny", weights=tiny.weights)


@pytest.mark.parametrize("adapter", ["lora", "dora", "pissa", "bias"])
def test_a_spread_model_is_trained_and_steered_to_the_same_bits(tiny, dispatched, adapter):
    one, two = (diff(base, *train(base, PAIRS, quick(adapter, epochs=2, lr=(5e-3,)))) for base in (tiny, dispatched))
    assert one.content_hash == two.content_hash
    for alpha in (-2.0, [-2.0, 2.0]):
        for fold in {False, isinstance(alpha, float)}:
            with steer(tiny, one, alpha, fold=fold), steer(dispatched, one, alpha, fold=fold):
                assert generate(tiny, QUESTIONS) == generate(dispatched, QUESTIONS)
                ids = torch.tensor([tiny.tokenizer(QUESTIONS[0])["input_ids"]] * 2)
                assert torch.equal(tiny.model(ids).logits, dispatched.model(ids).logits)
    assert not torch.equal(tiny.model(ids).logits, _steered(tiny, one, ids))


def _steered(base, direction, ids, alpha=2.0):
    with steer(base, direction, alpha):
        return base.model(ids).logits


def test_a_device_map_loads_the_same_model_with_the_same_fingerprint(tiny, tmp_path):
    tiny.model.save_pretrained(tmp_path, max_shard_size="1MB")
    tiny.tokenizer.save_pretrained(tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) > 3
    for dtype in ("auto", "bfloat16", "float16"):
        found = load(tmp_path, device_map="auto", dtype=dtype)
        assert found.fingerprint == tiny.fingerprint
        assert found.dtype == (torch.float32 if dtype == "auto" else getattr(torch, dtype))
    assert load(tmp_path).fingerprint == tiny.fingerprint
    assert generate(load(tmp_path, device_map="balanced"), QUESTIONS) == generate(tiny, QUESTIONS)


def test_a_model_whose_layers_wait_elsewhere_is_refused(tiny):
    _refuse_offloaded(tiny.model, "tiny")
    waiting = cpu_offload(copy.deepcopy(tiny.model), execution_device=torch.device("cpu"))
    with pytest.raises(Unsupported, match="does not fit the devices here"):
        _refuse_offloaded(waiting, "tiny")


def test_a_network_of_one_s_own_is_steered_spread_and_refused_where_its_layers_wait_elsewhere(
    tiny, dispatched, tmp_path
):
    d = Direction(
        {
            n: (LowRank(torch.ones(sizes(x.module)[0], 1), torch.ones(1, sizes(x.module)[1]) / 100),)
            for n, x in tiny.linears.items()
        },
        {"base": tiny.described()},
    )
    ids = torch.tensor([[1, 2, 3, 4]])
    with steer(dispatched.model, d, 0.5):
        assert torch.equal(dispatched.model(ids).logits, _steered(tiny, d, ids, 0.5))
    waiting = {"model.embed_tokens": "cpu", "model.norm": "cpu", "model.rotary_emb": "cpu", "lm_head": "cpu"}
    waiting |= {f"{blocks_of(tiny.model)[0]}.{i}": "disk" if i == 1 else "cpu" for i in range(tiny.depth)}
    half = dispatch_model(copy.deepcopy(tiny.model), waiting, offload_dir=tmp_path, main_device="cpu")
    assert torch.allclose(half(ids).logits, tiny.model(ids).logits, atol=1e-4)  # from the disk it comes row by row
    with pytest.raises(Unsupported, match="wait on the CPU or the disk"), steer(half, d, 0.5):
        pass


@pytest.mark.parametrize(("given", "told"), [(dict(device_map="all"), "`device_map` is auto"), (dict(device_map="auto", device="cpu"), "no `device`")])  # fmt: skip
def test_a_device_map_that_is_none_is_refused(given, told):
    with pytest.raises(ValueError, match=told):
        load(FOLDER, **given)
