"""A mergekit recipe says what it should, and mergekit itself makes the model that the hook makes."""

import pytest
import small
import torch
import yaml
from test_steer import lowrank

from ws.errors import ExportRefused, ProofFailed
from ws.export import export
from ws.export.verify import insist, verify
from ws.models.load import load
from ws.steer import steer


def folder_of(kind, tiny, tmp_path):
    small.model(kind, vocabulary=len(tiny.tokenizer)).save_pretrained(tmp_path / kind, max_shard_size="200KB")
    tiny.tokenizer.save_pretrained(tmp_path / kind)
    return tmp_path / kind


def test_the_recipe_is_plain_task_arithmetic_and_is_proven_at_its_own_strength(tiny, tmp_path):
    base = load(folder_of("llama", tiny, tmp_path))
    d = lowrank(base, size=0.05)
    _, (verdict,) = export(d, base, tmp_path / "out", to="mergekit", alphas=[-0.7])
    assert verdict.verdict == "ok"
    told = yaml.safe_load((tmp_path / "out" / "mergekit.yml").read_text())
    assert told["merge_method"] == "task_arithmetic" and told["dtype"] == "float32"
    assert told["parameters"] == {"normalize": False, "lambda": 1.0}
    (model,) = told["models"]
    assert model == {
        "model": f"{(tmp_path / 'llama').resolve()}+{(tmp_path / 'out').resolve() / 'adapter'}",
        "parameters": {"weight": -0.7},
    }
    told["models"][0]["parameters"]["weight"] = 0.7
    (tmp_path / "out" / "mergekit.yml").write_text(yaml.safe_dump(told))
    with pytest.raises(ProofFailed, match="not what was asked"):
        insist(verify(tmp_path / "out"))


def test_a_recipe_holds_one_strength(tiny, tmp_path):
    base = load(folder_of("llama", tiny, tmp_path))
    with pytest.raises(ExportRefused, match="one strength"):
        export(lowrank(base), base, tmp_path / "out", to="mergekit", alphas=[1, 2])
    assert not (tmp_path / "out").exists()


@pytest.mark.peers
@pytest.mark.parametrize("kind", ["llama", "qwen3", "gemma3", "gpt2"])
def test_mergekit_makes_the_model_that_the_hook_makes(tiny, tmp_path, kind):
    merging = pytest.importorskip("mergekit.merge", reason="mergekit is the oracle: pip install -e '.[oracle]'")
    from mergekit.config import MergeConfiguration
    from mergekit.options import MergeOptions
    from transformers import AutoModelForCausalLM

    base = load(folder_of(kind, tiny, tmp_path))
    d = lowrank(base, size=0.05)
    export(d, base, tmp_path / "out", to="mergekit", alphas=[-0.7])
    told = MergeConfiguration.model_validate(yaml.safe_load((tmp_path / "out" / "mergekit.yml").read_text()))
    cache = str(tmp_path / "cache")
    merging.run_merge(told, str(tmp_path / "merged"), MergeOptions(lora_merge_cache=cache, transformers_cache=cache))
    x = torch.randint(5, 90, (2, 9), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        plain = base.model(input_ids=x).logits
        with steer(base, d, -0.7):
            hooked = base.model(input_ids=x).logits
        merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)(input_ids=x).logits
    assert (merged - hooked).abs().max() <= 1e-5 * plain.abs().max()
    assert (hooked - plain).abs().max() > 1e-3
