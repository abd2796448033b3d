"""A base whose weights stay on disk is the base that `load` gives, for all that lines a direction up."""

import pytest
import small
import torch
from adapters.test_stock import MODULES, stock

from ws.adapters import FAMILIES, difference_of, direction_of
from ws.adapters.stock import load_stock
from ws.diff import diff_adapters
from ws.direction.forms import tensors
from ws.models.lazy import Outline, outline
from ws.models.load import load


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3", "gemma3", "gpt2"])
def test_an_outline_has_the_fingerprint_names_and_weights_of_the_loaded_base(tiny, tmp_path, kind):
    model = small.model(kind, vocabulary=len(tiny.tokenizer))
    shards = {"max_shard_size": "200KB"} if kind == "llama" else {}
    model.to(torch.bfloat16).save_pretrained(tmp_path, **shards)
    tiny.tokenizer.save_pretrained(tmp_path)
    whole, lazy = load(tmp_path), outline(tmp_path)
    assert isinstance(lazy, Outline)
    assert lazy.described() == whole.described()
    assert lazy.linears.keys() == whole.linears.keys()
    for name in whole.linears:
        assert torch.equal(lazy.weight(name).float(), whole.weight(name))
        bias = whole.bias(name)
        assert (lazy.bias(name) is None) == (bias is None)
        assert bias is None or torch.equal(lazy.bias(name).float(), bias)


def test_tiny_has_an_outline_too(tiny):
    assert outline("tiny").fingerprint == tiny.fingerprint


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["lora", "dora", "pissa", "ia3"])
def test_the_direction_of_two_adapters_is_the_same_on_an_outline(tiny, tmp_path, kind):
    small.model("llama").save_pretrained(tmp_path / "base")
    tiny.tokenizer.save_pretrained(tmp_path / "base")
    stock(kind, tmp_path / "a")
    stock(kind, tmp_path / "b", seed=1)
    made = []
    for base in (load(tmp_path / "base"), outline(tmp_path / "base")):
        made.append(diff_adapters(base, load_stock(tmp_path / "a", base), load_stock(tmp_path / "b", base)))
    assert made[0].content_hash == made[1].content_hash
    assert sorted(made[0].forms) == sorted(MODULES)


@pytest.mark.filterwarnings("ignore")
def test_a_difference_module_by_module_has_the_same_numbers(tmp_path):
    base = small.base("llama")
    stock("dora", tmp_path / "a")
    stock("oft", tmp_path / "b", seed=1)
    sides = [(FAMILIES[a.spec.family], a) for a in (load_stock(tmp_path / n, base) for n in "ab")]
    wanted = (direction_of(sides[0][0], base, sides[0][1]) - direction_of(sides[1][0], base, sides[1][1])).to(
        dtype=torch.float32
    )
    found = difference_of(base, *sides)
    assert found.forms.keys() == wanted.forms.keys()
    for name, forms in found.forms.items():
        for one, other in zip(forms, wanted.forms[name], strict=True):
            assert type(one) is type(other)
            assert all(torch.equal(t, tensors(other)[k]) for k, t in tensors(one).items())


def test_a_checkpoint_with_other_names_is_loaded_whole(tiny, tmp_path):
    from safetensors.torch import load_file, save_file

    small.model("llama", vocabulary=len(tiny.tokenizer)).save_pretrained(tmp_path)
    tiny.tokenizer.save_pretrained(tmp_path)
    wanted = outline(tmp_path).fingerprint
    file = tmp_path / "model.safetensors"
    save_file({k.removeprefix("model."): t for k, t in load_file(file).items()}, file, metadata={"format": "pt"})
    base = outline(tmp_path)
    assert not isinstance(base, Outline)
    assert base.fingerprint == load(tmp_path).fingerprint
    assert base.fingerprint == wanted
