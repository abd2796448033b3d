"""The adapter that llama.cpp loads: added to a model's own GGUF file by llama.cpp's rule, it gives the steered model's file."""

import sys

import gguf
import pytest
import small
import torch
from gguf_files import ARCHITECTURES, write_gguf
from test_steer import lowrank

import ws
from ws.direction import Direction
from ws.errors import ExportRefused, ProofFailed
from ws.export import export
from ws.export.gguf import FILE
from ws.export.verify import insist, verify
from ws.models.load import load
from ws.steer import steer


def base_of(kind, tiny, folder):
    """A small model of one kind, from its folder."""
    small.model(kind, vocabulary=len(tiny.tokenizer)).save_pretrained(folder)
    tiny.tokenizer.save_pretrained(folder)
    return load(folder)


def tensors_of(file):
    return {t.name: torch.from_numpy(t.data.copy()) for t in gguf.GGUFReader(file).tensors}


def metadata(file):
    return {k: f.contents() for k, f in gguf.GGUFReader(file).fields.items()}


def added(model, adapter):
    """The tensors of a GGUF file with an adapter at scale 1, as llama.cpp adds them."""
    factors, alpha = tensors_of(adapter), metadata(adapter)["adapter.lora.alpha"]
    tensors = tensors_of(model)
    for name in [n.removesuffix(".lora_a") for n in factors if n.endswith(".lora_a")]:
        a, b = factors[f"{name}.lora_a"], factors[f"{name}.lora_b"]
        assert tensors[name].shape == (b.shape[0], a.shape[1])
        tensors[name] = tensors[name] + alpha / b.shape[1] * b @ a
    return tensors


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_the_file_of_a_model_plus_the_adapter_is_the_file_of_the_steered_model(kind, tiny, tmp_path):
    base = base_of(kind, tiny, tmp_path / "base")
    d = lowrank(base, size=0.05) + lowrank(base, 1, rank=3, size=0.05, only="0.self_attn.q_proj")
    _, proof = export(d, base, tmp_path / "e", to="gguf-lora", alphas=[-0.5])
    assert [v.verdict for v in proof] == ["ok"]
    before = write_gguf(kind, tmp_path / "base.gguf", tiny.tokenizer)
    with steer(before, Direction(d.forms, {}), -0.5, fold=True):
        write_gguf(kind, tmp_path / "steered.gguf", tiny.tokenizer, network=before)
    got, expected = added(tmp_path / "base.gguf", tmp_path / "e" / FILE), tensors_of(tmp_path / "steered.gguf")
    plain = tensors_of(tmp_path / "base.gguf")
    assert got.keys() == expected.keys()
    assert all((got[n] - expected[n]).abs().max() < 1e-6 for n in got)  # fp32, weights below 1
    assert sum(not torch.equal(plain[n], got[n]) for n in got) == len(base.linears)


def test_the_file_says_what_llama_cpp_asks_for_and_holds_float32_of_one_rank(tiny, tmp_path):
    base = base_of("llama", tiny, tmp_path / "base")
    d = lowrank(base, size=0.05) + lowrank(base, 1, rank=3, size=0.05, only="0.mlp.up_proj")
    export(d, base, tmp_path / "e", to="gguf-lora", alphas=[2.0])
    said = metadata(tmp_path / "e" / FILE)
    assert (said["general.type"], said["general.architecture"], said["adapter.type"]) == ("adapter", "llama", "lora")
    assert said["adapter.lora.alpha"] == 5
    assert {t.tensor_type.name for t in gguf.GGUFReader(tmp_path / "e" / FILE).tensors} == {"F32"}
    ranks = {t.shape[0] if n.endswith("lora_a") else t.shape[1] for n, t in tensors_of(tmp_path / "e" / FILE).items()}
    assert ranks == {5}


def test_a_direction_of_a_gguf_file_is_exported_for_it_and_for_peft_and_proven(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("WS_CACHE", str(tmp_path / "cache"))
    write_gguf("llama", tmp_path / "m.gguf", tiny.tokenizer, quantised="Q8_0")
    base = load(tmp_path / "m.gguf")
    for to in ("gguf-lora", "peft"):
        assert [v.verdict for v in ws.export(base, lowrank(base, size=0.05), tmp_path / to, to=to)] == ["ok"]


def test_a_file_with_the_other_sign_or_nothing_in_it_fails_its_proof(tiny, tmp_path, monkeypatch):
    base = base_of("llama", tiny, tmp_path / "base")
    d = lowrank(base, size=0.05)
    export(d, base, tmp_path / "e", to="gguf-lora", alphas=[1.0])
    for k, says in ((-1.0, "not what was asked"), (1e-3, "same as base")):
        other = Direction({n: tuple(f.scaled(k) for f in forms) for n, forms in d.forms.items()}, d.provenance)
        export(other, base, tmp_path / f"x{k}", to="gguf-lora", alphas=[1.0])
        (tmp_path / "e" / FILE).write_bytes((tmp_path / f"x{k}" / FILE).read_bytes())
        with pytest.raises(ProofFailed, match=says):
            insist(verify(tmp_path / "e"))
    (tmp_path / "e" / FILE).write_bytes(b"GGUF")
    with pytest.raises(ProofFailed, match="cannot be loaded by the library it is for"):
        verify(tmp_path / "e")


def test_an_adapter_without_the_order_of_llama_cpp_is_another_change(tiny, tmp_path, monkeypatch):
    base = base_of("llama", tiny, tmp_path / "base")
    export(lowrank(base, size=0.05), base, tmp_path / "e", to="gguf-lora", alphas=[1.0])
    monkeypatch.setattr(sys.modules["ws.export.gguf"], "INTERLEAVED", "")
    with pytest.raises(ProofFailed, match="not what was asked"):
        insist(verify(tmp_path / "e"))


@pytest.mark.parametrize("kind", ["gpt2", "neox", "phi3"])
def test_a_family_that_has_no_names_there_is_refused_with_the_ways_that_are_left(kind, tiny, tmp_path):
    base = base_of(kind, tiny, tmp_path / "base")
    with pytest.raises(ExportRefused, match=r"gguf-lora is written for llama, .* `to=peft` .* or `to=merged`"):
        export(lowrank(base, size=0.05), base, tmp_path / "e", to="gguf-lora", alphas=[1.0])
    assert not (tmp_path / "e").exists()


def test_several_strengths_for_llama_cpp_are_refused_since_it_scales_one(tiny, tmp_path):
    base = base_of("llama", tiny, tmp_path / "base")
    with pytest.raises(ExportRefused, match="one strength"):
        export(lowrank(base), base, tmp_path / "e", to="gguf-lora", alphas=[1.0, 2.0])
