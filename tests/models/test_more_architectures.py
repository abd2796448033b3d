"""Architectures beside those of the table: hook, fold and rows agree, or one sentence says why they cannot."""

import architectures as shapes
import pytest
import torch
import transformers as tf
from architectures import ids, logits
from models.test_experts import direction_on as on_experts
from models.test_experts import stacks
from test_steer import lowrank

from ws.adapters import FAMILIES, Adapter, direction_of
from ws.direction.algebra import restricted
from ws.doctor.support import support
from ws.errors import Unsupported
from ws.models.base import Base
from ws.steer import steer
from ws.train import TrainSettings, spec_of

CORE, TEXT = shapes.CORE, shapes.TEXT
SECTIONS = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e4}
CONFIGS = {
    "mamba": lambda: tf.MambaConfig(vocab_size=96, hidden_size=32, num_hidden_layers=2, state_size=8),
    "jamba": lambda: tf.JambaConfig(
        **dict(vocab_size=96, intermediate_size=48, num_experts=4, attn_layer_period=2, attn_layer_offset=1, **CORE),
        **dict(expert_layer_period=2, expert_layer_offset=1, use_mamba_kernels=False, mamba_d_state=8),
    ),
    "llama4": lambda: tf.Llama4TextConfig(
        vocab_size=96, intermediate_size=16, intermediate_size_mlp=48, num_local_experts=4, head_dim=8, **CORE
    ),
    "qwen3-vl-moe": lambda: tf.Qwen3VLMoeConfig(
        text_config=dict(TEXT, vocab_size=96, num_experts=4, rope_parameters=SECTIONS, **shapes.EXPERTS),
        vision_config=dict(shapes.QWEN_EYES, deepstack_visual_indexes=[1], num_position_embeddings=16),
    ),
    "one expert": lambda: tf.Qwen3MoeConfig(
        vocab_size=96, num_experts=1, num_experts_per_tok=1, moe_intermediate_size=16, **TEXT
    ),
    "no experts": lambda: tf.GraniteMoeHybridConfig(
        **dict(vocab_size=96, intermediate_size=16, shared_intermediate_size=24, num_local_experts=0, **CORE),
        **dict(num_experts_per_tok=0, layer_types=["mamba", "attention"], mamba_n_heads=4, mamba_d_head=16),
        **dict(mamba_d_state=16, mamba_n_groups=1, mamba_chunk_size=16),
    ),
}


@pytest.fixture(scope="module", params=CONFIGS)
def base(request):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(shapes.CONFIGS, request.param, lambda n: CONFIGS[request.param]())
        return shapes.base(request.param)


def test_what_a_hook_does_a_fold_does_on_every_linear_layer_and_on_all_experts(base):
    directions = [lowrank(base, 0, size=0.1)]
    directions += [restricted(on_experts(base), keep="*experts*")] if stacks(base) else []
    for d in directions:
        plain = logits(base.model)
        with steer(base, d, 0.7):
            hooked = logits(base.model)
        with steer(base, d, 0.7, fold=True):
            folded = logits(base.model)
        assert torch.equal(logits(base.model), plain) and (hooked - plain).abs().max() > 0.1
        assert (hooked - folded).abs().max() <= 2e-5 * plain.abs().max()
        if base.id == "llama4" and d is not directions[0]:  # its experts read every token once for each of them
            with pytest.raises(Unsupported, match="give one alpha for all rows"), steer(base, d, [0.7, 0.0, -0.4]):
                logits(base.model)
            continue
        with steer(base, d, [0.7, 0.0, -0.4]):
            rows = logits(base.model)
        torch.testing.assert_close(rows[0], hooked[0], atol=5e-5, rtol=1e-4)
        torch.testing.assert_close(rows[1], plain[1], atol=5e-5, rtol=1e-4)


def test_an_adapter_says_what_its_direction_does_also_where_there_is_one_expert_alone(base):
    targets = ("experts",) if stacks(base) and base.id != "llama4" else ()
    spec = spec_of(base, TrainSettings(rank=2, layers="all", targets=targets))
    with FAMILIES["lora"].attached(base, spec, 0) as fresh:
        g = torch.Generator().manual_seed(0)
        for p in fresh.trainable.values():
            p.data = 0.1 * torch.randn(p.shape, generator=g)
        side = Adapter(spec, fresh.state(), base=base.described())
        worn = fresh.network(input_ids=ids(), use_cache=False).logits
    d = direction_of(FAMILIES["lora"], base, side)
    assert all(f.fits(*base.weight(n).shape) for n, fs in d.forms.items() for f in fs)
    plain = logits(base.model)
    with steer(base, d.to(dtype=torch.float32), 1.0):
        assert (logits(base.model) - worn).abs().max() <= 5e-5 * plain.abs().max()
    assert (plain - worn).abs().max() > 1e-2


def test_doctor_says_where_rows_cannot_have_strengths_of_their_own(base):
    assert ("over routed experts one for all" in support(base, rank=2)["steer"]) is (base.id == "llama4")


def test_experts_asked_of_a_mixture_that_has_none_are_refused_and_doctor_does_not_offer_them():
    base = Base(tf.AutoModelForCausalLM.from_config(CONFIGS["no experts"]()).eval(), None, "", "granite", weights="")
    assert "experts" not in support(base, rank=2)["sits on"]
    with pytest.raises(Unsupported, match="it has no experts"):
        spec_of(base, TrainSettings(rank=2, layers="all", targets=("experts",)))
