"""Adapters trained elsewhere are read as data: exactly where they can be, and refused by name where not."""

import json

import pytest
import small
import torch
from safetensors.torch import load_file, save_file

from ws.adapters import FAMILIES, changes_between, direction_of
from ws.adapters.stock import load_stock
from ws.cli import main
from ws.diff import diff_adapters
from ws.direction import Direction
from ws.direction.forms import tensors as tensors_of
from ws.errors import BadFile, DirectionMismatch, Unsupported, WsError

MODULES = ["model.layers.1.self_attn.q_proj", "model.layers.2.mlp.down_proj"]


def configs():
    import peft

    lora = dict(r=4, lora_alpha=6, target_modules=MODULES)
    return {
        "lora": peft.LoraConfig(**lora),
        "rslora": peft.LoraConfig(**lora, use_rslora=True),
        "dora": peft.LoraConfig(**lora, use_dora=True),
        "pissa": peft.LoraConfig(**lora, init_lora_weights="pissa"),
        "delora": peft.DeloraConfig(r=4, delora_lambda=3, target_modules=MODULES),
        "oft": peft.OFTConfig(r=0, oft_block_size=8, target_modules=MODULES),
        "boft": peft.BOFTConfig(boft_block_size=8, target_modules=MODULES),
        "ia3": peft.IA3Config(target_modules=MODULES, feedforward_modules=MODULES[1:]),
    }


def stock(kind, folder, seed=0):
    """A folder as peft writes it, with tensors moved at random, and the merged model it stands for."""
    import peft.tuners.boft.layer as layer
    from peft import get_peft_model

    layer.get_fbd_cuda = lambda: None
    model = get_peft_model(small.model("llama"), configs()[kind])
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            if p.requires_grad:
                p.add_(0.05 * torch.randn(p.shape, generator=g))
    model.save_pretrained(folder)
    return model.merge_and_unload().state_dict()


@pytest.mark.parametrize("kind", ["lora", "rslora", "dora", "pissa", "delora", "oft", "boft", "ia3"])
@pytest.mark.filterwarnings("ignore")
def test_a_stock_folder_is_the_change_peft_merges(tmp_path, kind):
    base = small.base("llama")
    merged = stock(kind, tmp_path / "a")
    adapter = load_stock(tmp_path / "a", base)
    d = direction_of(FAMILIES[adapter.spec.family], base, adapter)
    assert sorted(d.forms) == sorted(MODULES)
    for name in MODULES:
        wanted = merged[f"{name}.weight"] - base.weight(name)
        assert wanted.abs().max() > 1e-3
        torch.testing.assert_close(d.dense(name, base.weight).float(), wanted, atol=2e-6, rtol=1e-3)  # fp32 merge


@pytest.mark.filterwarnings("ignore")
def test_adapters_of_different_families_are_subtracted(tmp_path):
    base = small.base("llama")
    one, two = stock("dora", tmp_path / "a"), stock("oft", tmp_path / "b", seed=1)
    d = diff_adapters(base, load_stock(tmp_path / "a", base), load_stock(tmp_path / "b", base))
    for name in MODULES:
        wanted = one[f"{name}.weight"] - two[f"{name}.weight"]
        torch.testing.assert_close(d.dense(name, base.weight), wanted, atol=3e-6, rtol=1e-3)


@pytest.fixture
def folder(tmp_path):
    stock("lora", tmp_path / "a")
    return tmp_path / "a"


def change(folder, **values):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"peft_type": "VERA"}, "'VERA' is not supported"),
        ({"init_lora_weights": "pissa_niter_4"}, "cannot be found again"),
        ({"alpha_pattern": {"q_proj": 3}}, "alpha_pattern"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"bias": "all"}, "trains biases"),
        ({"r": 100_000}, "no rank"),
        ({"r": "4"}, "no rank"),
        ({"alora_invocation_tokens": [1, 2]}, "alora_invocation_tokens"),
        ({"target_parameters": ["x"]}, "target_parameters"),
        ({"from_tomorrow": 1}, "from_tomorrow"),
    ],
)
def test_a_config_that_would_change_the_result_is_refused_by_name(folder, values, told):
    change(folder, **values)
    with pytest.raises(WsError, match=told):
        load_stock(folder, small.base("llama"))


@pytest.mark.filterwarnings("ignore")
def test_tensors_that_do_not_fit_are_refused(folder):
    weights = folder / "adapter_model.safetensors"
    good, base = load_file(weights), small.base("llama")
    key = next(iter(good))
    for tensors, error, told in (
        ({**good, key: good[key] * float("nan")}, BadFile, "not finite"),
        ({**good, key: torch.ones(4, 5)}, DirectionMismatch, "does not fit"),
        (
            {**good, "base_model.model.model.embed_tokens.lora_embedding_A": torch.ones(2)},
            Unsupported,
            "belongs to no adapter",
        ),
        ({k.replace("layers.1", "layers.9"): t for k, t in good.items()}, DirectionMismatch, "not linear layers"),
        ({k.replace("model.layers.1", "../../x"): t for k, t in good.items()}, DirectionMismatch, "not linear layers"),
    ):
        save_file(tensors, weights)
        with pytest.raises(error, match=told):
            load_stock(folder, base)
    weights.unlink()
    torch.save({}, folder / "adapter_model.bin")
    with pytest.raises(BadFile, match="no pickle is ever loaded"):
        load_stock(folder, base)
    with pytest.raises(BadFile, match=r"no adapter_config\.json"):
        load_stock(folder.parent, base)


@pytest.mark.filterwarnings("ignore")
def test_the_command_makes_a_direction_of_two_stock_adapters(tmp_path, tiny, capsys):
    base = tmp_path / "base"
    small.model("llama", vocabulary=len(tiny.tokenizer)).save_pretrained(base)
    tiny.tokenizer.save_pretrained(base)
    stock("lora", tmp_path / "a")
    stock("lora", tmp_path / "b", seed=1)
    out = tmp_path / "d.safetensors"
    assert main(["diff", f"{base}+{tmp_path / 'a'}", f"{base}+{tmp_path / 'b'}", "--out", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["modules"] == 2
    assert main(["inspect", str(out)]) == 0
    assert "two adapters" in capsys.readouterr().out
    assert main(["diff", str(base), str(base), "--out", str(out)]) == 2


@pytest.mark.filterwarnings("ignore")
def test_a_difference_module_by_module_has_the_same_numbers(tmp_path):
    base = small.base("llama")
    stock("dora", tmp_path / "a")
    stock("oft", tmp_path / "b", seed=1)
    sides = [(FAMILIES[a.spec.family], a) for a in (load_stock(tmp_path / n, base) for n in "ab")]
    wanted = (direction_of(sides[0][0], base, sides[0][1]) - direction_of(sides[1][0], base, sides[1][1])).to(
        dtype=torch.float32
    )
    found = Direction(dict(changes_between(base, *sides)))
    assert found.forms.keys() == wanted.forms.keys()
    for name, forms in found.forms.items():
        for one, other in zip(forms, wanted.forms[name], strict=True):
            assert type(one) is type(other)
            assert all(torch.equal(t, tensors_of(other)[k]) for k, t in tensors_of(one).items())
