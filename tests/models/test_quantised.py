"""Quantised bases steer and train by hook, exactly beside their own forward pass; what needs their weights is refused."""

import warnings

import pytest
import small
import torch
import transformers as tf
from test_train import PAIRS

from ws.diff import diff
from ws.direction import Direction
from ws.direction.forms import BiasShift, LowRank, RowScale
from ws.errors import DirectionMismatch, ExportRefused, Unsupported
from ws.export import export
from ws.models.load import load
from ws.models.modules import is_packed, sizes
from ws.steer import steer
from ws.train import train

pytest.importorskip("bitsandbytes")
KINDS = {
    "nf4": dict(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32),
    "int8": dict(load_in_8bit=True),
}


@pytest.fixture(scope="module")
def folders(tiny, tmp_path_factory):
    """A small model as it was made, and quantised by bitsandbytes in two ways."""
    place = tmp_path_factory.mktemp("quantised")
    torch.manual_seed(0)
    core = dict(
        hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=4
    )
    model = tf.LlamaForCausalLM(tf.LlamaConfig(vocab_size=len(tiny.tokenizer), max_position_embeddings=256, **core))
    model.save_pretrained(place / "whole")
    for kind, how in KINDS.items():
        config = tf.BitsAndBytesConfig(**how)
        packed = tf.AutoModelForCausalLM.from_pretrained(
            place / "whole", quantization_config=config, device_map="cpu", dtype=torch.float32
        )
        packed.save_pretrained(place / kind)
    for kind in ("whole", *KINDS):
        tiny.tokenizer.save_pretrained(place / kind)
    return place


def logits(base, rows=3):
    with torch.no_grad():
        return base.model(input_ids=small.ids(rows), use_cache=False).logits


def low_rank(base):
    g = torch.Generator().manual_seed(0)
    shapes = {n: sizes(x.module) for n, x in base.linears.items()}
    forms = {
        n: (LowRank(0.3 * torch.randn(o, 2, generator=g), torch.randn(2, i, generator=g) / i**0.5),)
        for n, (o, i) in shapes.items()
    }
    return Direction(forms, {"base": base.described()})


@pytest.mark.parametrize("kind", KINDS)
def test_a_direction_learnt_on_a_quantised_base_steers_it_and_no_other(kind, folders):
    base = load(folders / kind)
    assert all(is_packed(x.module) for x in base.linears.values())
    plain = logits(base)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*autograd kernel")  # a pass without gradients must not end learning
        pos, neg = train(base, PAIRS, adapter="lora", rank=2, lr=(1e-2,), layers="all", epochs=2)
    assert pos.provenance["step"] > 0
    d = diff(base, pos, neg)
    with steer(base, d, 0.0):
        assert torch.equal(logits(base), plain)
    with steer(base, d, 1.0):
        steered = logits(base)
    assert (steered - plain).abs().max() > 1e-4
    other = load(folders / ("int8" if kind == "nf4" else "nf4"))
    with pytest.raises(DirectionMismatch, match="this model is"), steer(other, d, 1.0):
        pass


@pytest.mark.parametrize("kind", KINDS)
def test_a_hook_adds_to_a_quantised_layer_what_its_factors_say(kind, folders):
    base = load(folders / kind)
    d = low_rank(base)
    name = next(n for n in d.forms if n.endswith("up_proj"))
    one = Direction({name: d.forms[name]}, d.provenance)
    layer, x = base.linears[name].module, torch.randn(2, 5, 64, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        plain = layer(x)
        with steer(base, one, [0.7, -0.2]):
            steered = layer(x)
    form = one.forms[name][0]
    wanted = plain + torch.tensor([0.7, -0.2])[:, None, None] * ((x @ form.a.mT) @ form.b.mT)
    torch.testing.assert_close(steered, wanted, atol=1e-6, rtol=1e-6)
    shift = Direction({name: (BiasShift(torch.ones(128)),)}, d.provenance)
    with torch.no_grad(), steer(base, shift, 0.5):
        torch.testing.assert_close(layer(x), plain + 0.5, atol=1e-6, rtol=1e-6)


def test_what_needs_the_weights_of_a_quantised_base_is_refused_in_one_sentence(folders, tmp_path):
    base = load(folders / "int8")
    d = low_rank(base)
    scale = Direction({n: (RowScale(torch.ones(sizes(base.linears[n].module)[0])),) for n in d.forms}, d.provenance)
    with pytest.raises(Unsupported, match="nothing can be folded into packed weights"), steer(base, d, 1.0, fold=True):
        pass
    with pytest.raises(Unsupported, match="scale or a rotation of the weights themselves"), steer(base, scale, 1.0):
        pass
    export(d, base, tmp_path / "peft", to="peft", alphas=[1.0])  # which stock peft puts on the quantised base
    with pytest.raises(ExportRefused, match="a merged export needs the weights themselves"):
        export(d, base, tmp_path / "m", to="merged", alphas=[1.0])
    for adapter in ("dora", "pissa", "oft", "ia3", "full"):
        with pytest.raises(Unsupported, match=r"is quantised; take lora or bias"):
            train(base, PAIRS, adapter=adapter)


@pytest.mark.parametrize("kind", KINDS)
def test_a_direction_of_the_model_it_was_made_from_steers_it_where_that_is_named(kind, folders):
    whole, base = load(folders / "whole"), load(folders / kind)
    d = low_rank(whole)
    with pytest.raises(DirectionMismatch, match="origin"), steer(base, d, 1.0):
        pass
    plain = logits(base)
    scale = Direction(
        {n: (RowScale(torch.full((sizes(x.module)[0],), 0.1)),) for n, x in whole.linears.items()}, d.provenance
    )
    for direction in (d, scale):  # a scale is then computed from the weights before quantisation
        with steer(base, direction, 0.3, origin=whole):
            assert (logits(base) - plain).abs().max() > 1e-3
