"""The names of a decoder's matrices, for every supported architecture, and the fingerprint of its weights."""

import pytest
import small
import torch

from ws.errors import Unsupported
from ws.models.load import Base
from ws.models.modules import (
    blocks_of,
    fingerprint,
    is_packed,
    layer_slice,
    linears_of,
    select,
    sizes,
    weight_of,
)

LEAVES = {
    "llama": {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"},
    "phi3": {"qkv_proj", "o_proj", "gate_up_proj", "down_proj"},
    "gpt2": {"c_attn", "c_proj", "c_fc"},
    "neox": {"query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"},
}


@pytest.mark.parametrize("kind", sorted(small.BUILD))
def test_every_block_matrix_of_every_architecture_is_found(kind):
    model = small.model(kind)
    prefix, blocks = blocks_of(model)
    found = linears_of(model)
    assert len(blocks) == 4
    assert {x.block for x in found} == {0, 1, 2, 3}
    assert all(x.name.startswith(prefix) and model.get_submodule(x.name) is x.module for x in found)
    assert {x.leaf.rsplit(".", 1)[-1] for x in found} >= LEAVES.get(kind, {"down_proj" if kind != "gpt2" else "c_fc"})
    assert not any("lm_head" in x.name or "embed" in x.name for x in found)


def test_qwen35_linear_attention_is_among_the_targets():
    leaves = {x.leaf.rsplit(".", 1)[-1] for x in linears_of(small.model("qwen3.5"))}
    assert {"in_proj_qkv", "in_proj_z", "out_proj", "q_proj", "o_proj", "down_proj"} <= leaves


def test_a_conv1d_weight_is_read_as_out_by_in():
    c_fc = next(x for x in linears_of(small.model("gpt2")) if x.leaf == "mlp.c_fc")
    assert weight_of(c_fc.module).shape == (128, 32)


def test_packed_weights_have_their_sizes_and_no_values():
    model = small.model("llama")
    layer = model.model.layers[1].mlp.up_proj
    layer.weight = torch.nn.Parameter(torch.zeros(64 * 16, 1, dtype=torch.uint8), requires_grad=False)
    assert layer in [x.module for x in linears_of(model)]
    assert is_packed(layer) and sizes(layer) == (64, 32)
    with pytest.raises(Unsupported, match="quantised"):
        weight_of(layer)


@pytest.mark.parametrize(
    ("text", "depth", "wanted"),
    [
        ("0.3-0.8", 28, range(8, 22)),
        ("0.3-0.8", 24, range(7, 19)),
        ("0.3-0.8", 36, range(11, 29)),
        ("0.25-0.75", 28, range(7, 21)),
        ("0.3-0.8", 6, range(2, 5)),
    ]
    + [
        ("all", 5, range(5)),
        ("8-21", 28, range(8, 22)),
        ("3,5", 6, [3, 5]),
        ("2", 6, [2]),
        ("0.5-1", 4, range(2, 4)),
        ("0.-0.5", 4, range(2)),
    ],
)
def test_layer_slices(text, depth, wanted):
    assert layer_slice(text, depth) == list(wanted)


@pytest.mark.parametrize("text", ["0.5-0.5", "5-3", "7", "1-9", "some", "", "-1"])
def test_a_layer_slice_that_selects_nothing_or_too_much_is_refused(text):
    with pytest.raises(ValueError, match="layer"):
        layer_slice(text, 6)


def test_a_target_that_matches_nothing_is_refused_with_a_near_miss():
    found = linears_of(small.model("llama"))
    with pytest.raises(ValueError, match=r"'q_porj' matches no linear layer.*Did you mean 'q_proj'"):
        select(found, layers="all", depth=4, targets=["q_proj", "q_porj"])
    assert {x.leaf for x in select(found, layers="1-2", depth=4, targets=["q_proj"])} == {"self_attn.q_proj"}


def test_the_fingerprint_does_not_depend_on_precision_but_on_every_weight():
    model = small.model("qwen2")
    mark = fingerprint(model)
    assert fingerprint(small.model("qwen2").to(torch.bfloat16)) == mark
    assert fingerprint(small.model("qwen2").to(torch.float64)) == mark
    assert fingerprint(small.model("qwen2", seed=1)) != mark
    with torch.no_grad():
        model.model.layers[2].mlp.up_proj.weight[0, 0] += 1
    assert fingerprint(model) != mark


def test_a_tied_head_is_one_weight_and_no_target():
    base = small.base("qwen3")
    assert isinstance(base, Base)
    assert base.model.lm_head.weight is base.model.model.embed_tokens.weight
    assert "lm_head" not in base.linears


def test_the_fingerprint_looks_all_over_a_matrix():
    model = small.model("llama")
    model.model.layers[0].mlp.down_proj = torch.nn.Linear(1024, 256, bias=False)
    mark = fingerprint(model)
    with torch.no_grad():
        model.model.layers[0].mlp.down_proj.weight[:, 1:] = 0  # all columns but the one that a fixed stride would hit
    assert fingerprint(model) != mark
