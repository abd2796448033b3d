"""Quantised bases steer and train by hook, exactly beside their own forward pass; what needs their weights is refused."""

import json
import warnings
from pathlib import Path

import architectures as shapes
import pytest
import small
import torch
import transformers as tf
from test_train import PAIRS

from ws.diff import diff
from ws.direction import Direction
from ws.direction import load as direction_file
from ws.direction.forms import BiasShift, LowRank, RowScale
from ws.errors import DirectionMismatch, ExportRefused, Unsupported
from ws.export import export
from ws.models.checkpoint import open_checkpoint
from ws.models.load import load
from ws.models.modules import is_packed, sizes
from ws.models.quantised import values_of
from ws.steer import steer
from ws.study.keys import base_key
from ws.train import train

pytestmark = pytest.mark.peers
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


# ---------------------------------------------------------------- rounded on the way in


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_checkpoint_rounded_on_its_way_in_is_the_packed_one_and_says_what_it_was(kind, folders):
    """The oracle is what transformers itself has packed and saved."""
    whole, stored, base = load(folders / "whole"), load(folders / kind), load(folders / "whole", quantize=kind)
    assert torch.equal(logits(base), logits(stored)) and not torch.equal(logits(base), logits(whole))
    assert base.fingerprint == stored.fingerprint != whole.fingerprint
    record = base.described()
    assert (record["quantize"], record["whole"]) == (kind, whole.fingerprint)
    assert "quantize" not in whole.described()
    again = load(folders / "whole", quantize=kind)
    assert base_key(again) == base_key(base)  # a rerun finds its stages
    other = load(folders / "whole", quantize="int8" if kind == "nf4" else "nf4")
    for part in ("fingerprint", "weights", "config", "dtype"):
        assert len({base_key(b)[part] for b in (whole, base, other)}) == 3, part


@pytest.mark.parametrize("kind", KINDS)
def test_packed_weights_stand_for_the_matrix_that_the_layer_multiplies_with(kind, folders):
    base, whole = load(folders / kind), load(folders / "whole")
    for name, linear in base.linears.items():
        values, w = values_of(linear.module), whole.weight(name)
        unit = torch.eye(w.shape[1])
        with torch.no_grad():
            product = linear.module(unit).T
        assert (values - product).norm() < 0.01 * w.norm()  # int8 rounds what it reads as well
        assert 1e-3 < (values - w).norm() / w.norm() < (0.15 if kind == "nf4" else 0.02)
    assert torch.equal(values_of(whole.linears[name].module), w)


@pytest.mark.parametrize("kind", KINDS)
def test_a_direction_of_a_quantised_base_is_merged_where_the_whole_one_is_named_and_says_what_differs(
    kind, folders, tmp_path
):
    whole, base = load(folders / "whole"), load(folders / "whole", quantize=kind)
    d = low_rank(base)
    with pytest.raises(ExportRefused, match="name the model it was made from with `origin`"):
        export(d, base, tmp_path / "no", to="merged", alphas=[0.5])
    record, verdicts = export(d, base, tmp_path / "merged", to="merged", alphas=[0.5], origin=whole)
    assert [v.verdict for v in verdicts] == ["ok"]
    merged = open_checkpoint(tmp_path / "merged")
    for name, (form,) in d.forms.items():
        torch.testing.assert_close(
            merged.weight(name), whole.weight(name) + 0.5 * form.b @ form.a, atol=1e-5, rtol=1e-5
        )
    estimate = record["estimate"]
    off = [(values_of(base.linears[n].module) - whole.weight(n)).norm() for n in d.forms]
    size = [whole.weight(n).norm() for n in d.forms]
    assert estimate["weights"] == pytest.approx(float(torch.stack(off).norm() / torch.stack(size).norm()), rel=1e-4)
    assert 0 < estimate["weights"] <= estimate["worst"] and estimate["kl"] > 0 and estimate["tokens"] > 10
    with steer(whole, d, 0.5, fold=True, origin=base):  # the same by folding, in Python
        folded = logits(whole)
    torch.testing.assert_close(folded, logits(load(tmp_path / "merged")), atol=1e-4, rtol=1e-4)
    peft, _ = export(d, base, tmp_path / "peft", to="peft", alphas=[1.0])  # proven on the base rounded so
    assert "estimate" not in peft
    card = (tmp_path / "peft" / "README.md").read_text()
    assert ("load_in_8bit=True" if kind == "int8" else 'bnb_4bit_quant_type="nf4"') in card


def test_another_whole_model_than_the_one_that_was_quantised_is_refused(folders, tmp_path):
    stranger = small.base("llama", vocabulary=len(load(folders / "whole").tokenizer))
    whole, base, packed = (load(folders / "whole"), load(folders / "whole", quantize="int8"), load(folders / "int8"))
    with pytest.raises(DirectionMismatch):
        export(low_rank(base), base, tmp_path / "a", to="merged", alphas=[1.0], origin=stranger)
    with torch.no_grad():
        for x in whole.linears.values():
            x.module.weight.neg_()
    with pytest.raises(ExportRefused, match=r"weights differ by 200 %; name the model it was made from"):
        export(low_rank(packed), packed, tmp_path / "b", to="merged", alphas=[1.0], origin=whole)
    edited = load(folders / "whole", dtype="float32")
    with torch.no_grad():
        next(iter(edited.linears.values())).module.weight.add_(1e-2)
    edited = type(edited)(edited.model, edited.tokenizer, "0" * 64, "edited", weights="edited")
    with pytest.raises(ExportRefused, match="edited is 00000000…, and whole was quantised from"):
        export(low_rank(base), base, tmp_path / "c", to="merged", alphas=[1.0], origin=edited)


def test_a_direction_of_one_rounding_names_the_flag_that_loads_its_base_on_any_other(folders):
    d = low_rank(load(folders / "whole", quantize="nf4"))
    for other in (load(folders / "whole", quantize="int8"), load(folders / "whole")):
        with pytest.raises(DirectionMismatch, match="Load that base: `quantize=nf4`"), steer(other, d, 1.0):
            pass
    with pytest.raises(Unsupported, match=r"quantised already \(by bitsandbytes\); leave out `quantize`"):
        load(folders / "int8", quantize="nf4")


def test_the_verbs_round_and_find_a_run_s_own_rounding_again(folders, tmp_path, capsys):
    from ws.cli import main

    shared = ["--out", str(tmp_path), "--json"]
    pairs = tmp_path / "pairs.jsonl"
    rows = [{"prompt": p.prompt, "response_pos": p.response_pos, "response_neg": p.response_neg} for p in PAIRS.rows]
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    study = ["--model", str(folders / "whole"), "--pairs", str(pairs), "--lr", "1e-2", "--epochs", "2", *shared]
    assert main(["diff", *study, "--quantize", "int8"]) == 0
    file = json.loads(capsys.readouterr().out)["direction"]["file"]
    assert direction_file(file).provenance["base"]["quantize"] == "int8"
    run = Path(file).parent.parent.name
    assert main(["generate", run, "--prompt", "Who?", "--alphas=0,1", *shared]) == 0  # on the base rounded so
    capsys.readouterr()
    merged = ["export", file, "--to", "merged", "--out", str(tmp_path / "m"), "--json"]
    assert main(merged) != 0
    assert "with --origin" in "".join(capsys.readouterr())
    assert main([*merged, "--origin", str(folders / "whole")]) == 0
    assert json.loads(capsys.readouterr().out)["estimate"]["weights"] > 0


def test_a_checkpoint_of_torchao_learns_and_steers_by_hook_and_nothing_is_folded_into_it(folders, tmp_path):
    torchao = pytest.importorskip("torchao.quantization")
    config = tf.TorchAoConfig(quant_type=torchao.Int8WeightOnlyConfig())
    packed = tf.AutoModelForCausalLM.from_pretrained(
        folders / "whole", quantization_config=config, device_map="cpu", dtype=torch.float32
    )
    packed.save_pretrained(tmp_path / "packed")
    load(folders / "whole").tokenizer.save_pretrained(tmp_path / "packed")
    base, whole = load(tmp_path / "packed"), load(folders / "whole")
    assert all(is_packed(x.module) for x in base.linears.values())
    name = next(iter(base.linears))
    assert 1e-3 < (values_of(base.linears[name].module) - whole.weight(name)).norm() / whole.weight(name).norm() < 0.02
    pos, neg = train(base, PAIRS, adapter="lora", rank=2, lr=(1e-2,), layers="all", epochs=2)
    d, plain = diff(base, pos, neg), logits(base)
    with steer(base, d, 0.0):
        assert torch.equal(logits(base), plain)
    with steer(base, d, 1.0):
        assert (logits(base) - plain).abs().max() > 1e-4
    with pytest.raises(Unsupported, match="nothing can be folded into packed weights"), steer(base, d, 1.0, fold=True):
        pass


@pytest.mark.parametrize("kind", KINDS)
def test_the_experts_of_a_quantised_mixture_stay_whole_learn_by_hook_and_are_merged_into_the_whole_one(
    kind, tiny, tmp_path
):
    folder = shapes.folder("qwen3-moe", tmp_path / "m", tiny.tokenizer)
    whole, base = load(folder), load(folder, quantize=kind)
    assert all(is_packed(x.module) == (n in base.linears) for n, x in base.layers.items())
    on = dict(adapter="lora", rank=2, lr=(1e-2,), layers="all", targets=("experts", "o_proj"), epochs=1)
    d, plain = diff(base, *train(base, PAIRS, **on)), logits(base)
    assert {f.kind for fs in d.forms.values() for f in fs} == {"stacked", "lowrank"}
    with steer(base, d, [2.0, 0.0, -2.0]):
        rows = logits(base)
    with steer(base, d, 2.0):
        alone = logits(base)
    assert (alone - plain).abs().max() > 1e-3
    torch.testing.assert_close(rows[0], alone[0], atol=5e-5, rtol=1e-4)
    torch.testing.assert_close(rows[1], plain[1], atol=5e-5, rtol=1e-4)
    record, verdicts = export(d, base, tmp_path / "merged", to="merged", alphas=[2.0], origin=whole)
    assert [v.verdict for v in verdicts] == ["ok"] and 0 < record["estimate"]["weights"] < 0.3
