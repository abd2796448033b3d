"""An export reloaded by its consumer moves the model as the direction does in memory; one that does not is a failure."""

import json
import os
import shutil
import sys

import forks
import pytest
import small
import torch
from safetensors.torch import load_file, save_file
from test_steer import lowrank

from ws.direction import Direction, save
from ws.direction.forms import BiasShift, LowRank, RowScale
from ws.errors import BadFile, DirectionMismatch, ExportRefused, ProofFailed
from ws.export import export
from ws.export.verify import insist, verify
from ws.models.load import load
from ws.steer import steer

KINDS = ["llama", "qwen3", "gemma3", "gpt2"]


@pytest.fixture(scope="module")
def folders(tiny, tmp_path_factory):
    """Small random models on disk, with the embedded tokenizer; llama in several shards."""
    found = {}
    for kind in KINDS:
        folder = tmp_path_factory.mktemp("bases") / kind
        model = small.model(kind, vocabulary=len(tiny.tokenizer))
        model.save_pretrained(folder, **({"max_shard_size": "200KB"} if kind == "llama" else {}))
        tiny.tokenizer.save_pretrained(folder)
        found[kind] = folder
    return found


def logits(model, ids):
    with torch.no_grad():
        return model(input_ids=ids, use_cache=False).logits


def ids():
    return torch.randint(5, 90, (2, 9), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", KINDS)
def test_hook_fold_merged_and_peft_exports_agree_on_every_architecture(folders, tmp_path, kind):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = load(folders[kind])
    d, x = lowrank(base, size=0.05), ids()
    plain = logits(base.model, x)
    with steer(base, d, -0.7):
        hooked = logits(base.model, x)
    with steer(base, d, -0.7, fold=True):
        folded = logits(base.model, x)
    _, proof = export(d, base, tmp_path / "merged", to="merged", alphas=[-0.7])
    merged = logits(AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32).eval(), x)
    export(d, base, tmp_path / "peft", to="peft", alphas=[-0.7])
    fresh = AutoModelForCausalLM.from_pretrained(folders[kind], dtype=torch.float32)
    adapted = logits(PeftModel.from_pretrained(fresh, str(tmp_path / "peft")).eval(), x)
    for other in (folded, merged, adapted):
        assert (other - hooked).abs().max() <= 1e-5 * plain.abs().max()
    assert (hooked - plain).abs().max() > 1e-3
    assert [v.verdict for v in proof] == ["ok"]


def test_several_strengths_share_one_weights_file_and_zero_is_the_base(folders, tmp_path):
    base = load(folders["llama"])
    _, verdicts = export(lowrank(base, size=0.05), base, tmp_path / "many", to="peft", alphas=[-1, 0, 0.37, 2])
    assert [v.verdict for v in verdicts] == ["ok"] * 4
    files = [tmp_path / "many" / f"alpha_{a}" / "adapter_model.safetensors" for a in ("-1", "+0", "+0.37", "+2")]
    assert len({os.stat(f).st_ino for f in files}) == 1
    assert json.loads((files[2].parent / "adapter_config.json").read_text())["lora_alpha"] == pytest.approx(0.37 * 2)


def test_mixed_ranks_become_one_rank(folders, tmp_path):
    base = load(folders["llama"])
    names = sorted(base.linears)
    a, b = lowrank(base, 0, rank=1, size=0.05, only=names[0]), lowrank(base, 1, rank=5, size=0.05, only=names[1])
    _, (verdict,) = export(a + b, base, tmp_path / "x", to="peft", alphas=[1])
    assert verdict.verdict == "ok"
    tensors = load_file(tmp_path / "x" / "adapter_model.safetensors")
    assert {t.shape[0] for k, t in tensors.items() if "lora_A" in k} == {5}


def test_the_merged_folder_is_the_base_but_for_the_changed_bytes(folders, tmp_path):
    base = load(folders["llama"])
    only = "layers.1.mlp.up_proj"
    export(lowrank(base, size=0.1, only=only), base, tmp_path / "m", to="merged", alphas=[1])
    before, after = {}, {}
    for shard in folders["llama"].glob("*.safetensors"):
        before |= load_file(shard)
        after |= load_file(tmp_path / "m" / shard.name)
    assert len(list(folders["llama"].glob("*.safetensors"))) > 2
    assert [k for k in before if not torch.equal(before[k], after[k])] == [f"model.{only}.weight"]
    for name in ("config.json", "tokenizer.json", "model.safetensors.index.json"):
        assert (tmp_path / "m" / name).read_bytes() == (folders["llama"] / name).read_bytes()


def test_rounding_to_bf16_is_measured_and_said(tiny, tmp_path):
    model = small.model("llama", vocabulary=len(tiny.tokenizer)).to(torch.bfloat16)
    model.save_pretrained(tmp_path / "base")
    tiny.tokenizer.save_pretrained(tmp_path / "base")
    base = load(tmp_path / "base")
    told, _ = export(lowrank(base, size=0.3), base, tmp_path / "large", to="merged", alphas=[1])
    assert told["delivered"] > 0.98
    assert (
        load_file(tmp_path / "large" / "model.safetensors")["model.layers.0.mlp.up_proj.weight"].dtype == torch.bfloat16
    )
    with pytest.raises(ProofFailed):
        export(lowrank(base, size=1e-3), base, tmp_path / "lost", to="merged", alphas=[0.01])
    with pytest.raises(ExportRefused, match="less than their own precision"):
        export(lowrank(base, size=1e-7), base, tmp_path / "lost", to="peft", alphas=[0.01])
    assert not [f for f in tmp_path.iterdir() if "lost" in f.name]  # what cannot be proven is not kept


def test_other_families_need_a_rank_or_a_merged_export(folders, tmp_path):
    base = load(folders["llama"])
    name = "model.layers.1.mlp.up_proj"
    d = Direction({name: (RowScale(torch.linspace(-0.5, 0.5, 64)),)}, {"base": base.described()})
    with pytest.raises(ExportRefused, match="`rank`"):
        export(d, base, tmp_path / "a", to="peft", alphas=[1])
    told, _ = export(d, base, tmp_path / "b", to="peft", alphas=[1], rank=4)
    assert 0 < told["kept_energy"] < 1
    assert json.loads((tmp_path / "b" / "proof.json").read_text())["strengths"][0]["cut_error"] > 0
    export(d, base, tmp_path / "c", to="merged", alphas=[1])
    assert not (tmp_path / "a").exists()


def test_a_bias_without_a_slot_is_refused(folders, tmp_path):
    base = load(folders["llama"])
    d = Direction({"model.layers.1.mlp.down_proj": (BiasShift(torch.ones(32)),)}, {"base": base.described()})
    for to in ("merged", "peft"):
        with pytest.raises(ExportRefused, match="bias"):
            export(d, base, tmp_path / to, to=to, alphas=[1])
    gpt2 = load(folders["gpt2"])
    d = Direction({"transformer.h.1.mlp.c_proj": (BiasShift(torch.linspace(-1, 1, 32)),)}, {"base": gpt2.described()})
    assert export(d, gpt2, tmp_path / "gpt2", to="merged", alphas=[1])[1][0].verdict == "ok"


def test_an_export_that_does_not_move_the_model_fails_its_proof(folders, tmp_path):
    base = load(folders["llama"])
    export(lowrank(base, size=0.05), base, tmp_path / "x", to="peft", alphas=[1])
    weights = tmp_path / "x" / "adapter_model.safetensors"
    tensors = load_file(weights)
    save_file({k: torch.zeros_like(t) for k, t in tensors.items()}, weights, metadata={"format": "pt"})
    with pytest.raises(ProofFailed, match="same as base"):
        insist(verify(tmp_path / "x"))
    save_file({k: -t if "lora_B" in k else t for k, t in tensors.items()}, weights, metadata={"format": "pt"})
    with pytest.raises(ProofFailed, match="not what was asked"):
        insist(verify(tmp_path / "x"))


@pytest.mark.parametrize("share", [0.3, 1.6])
def test_a_tampered_export_in_bf16_is_not_what_was_asked_either(tiny, tmp_path, share):
    small.model("llama", vocabulary=len(tiny.tokenizer)).to(torch.bfloat16).save_pretrained(tmp_path / "base")
    tiny.tokenizer.save_pretrained(tmp_path / "base")
    base = load(tmp_path / "base")
    d = lowrank(base, size=0.3)
    _, (fresh,) = export(d, base, tmp_path / "x", to="merged", alphas=[0.5])
    assert fresh.verdict == "ok" and fresh.error < 0.1
    weights = tmp_path / "x" / "model.safetensors"
    before, tensors = load_file(tmp_path / "base" / "model.safetensors"), load_file(weights)
    moved = {k: (before[k].float() + share * (t.float() - before[k].float())).to(t.dtype) for k, t in tensors.items()}
    save_file(moved, weights, metadata={"format": "pt"})
    with pytest.raises(ProofFailed, match="not what was asked"):
        insist(verify(tmp_path / "x"))


def test_a_file_that_changed_without_effect_on_the_probes_is_named(folders, tmp_path):
    base = load(folders["llama"])
    export(lowrank(base, size=0.05), base, tmp_path / "x", to="merged", alphas=[1])
    insist(verify(tmp_path / "x"))
    (tmp_path / "x" / "README.md").write_text("my own words")
    insist(verify(tmp_path / "x"))
    with open(tmp_path / "x" / "tokenizer.json", "a") as f:
        f.write(" ")
    with pytest.raises(ProofFailed, match=r"changed since it was written \(tokenizer.json\)"):
        insist(verify(tmp_path / "x"))


@pytest.mark.parametrize("damage", ["{}", "[]", '{"strengths": []}', "{"])
def test_a_damaged_proof_proves_nothing(folders, tmp_path, damage):
    base = load(folders["llama"])
    export(lowrank(base, size=0.05), base, tmp_path / "x", to="peft", alphas=[1])
    (tmp_path / "x" / "proof.json").write_text(damage)
    with pytest.raises(BadFile, match=r"no sound proof\.json"):
        verify(tmp_path / "x")


def test_an_export_its_library_cannot_load_fails_in_one_sentence(folders, tmp_path):
    base = load(folders["llama"])
    for to, name in (("merged", "config.json"), ("peft", "adapter_model.safetensors")):
        export(lowrank(base, size=0.05), base, tmp_path / to, to=to, alphas=[1])
        (tmp_path / to / name).write_bytes(b"\x10")
        with pytest.raises(ProofFailed, match="cannot be loaded by the library it is for"):
            verify(tmp_path / to)


def test_no_unsteered_copy_of_the_weights_is_carried_over(folders, tmp_path):

    shutil.copytree(folders["llama"], tmp_path / "base")
    for extra in ("consolidated.safetensors", "consolidated.safetensors.index.json", "pytorch_model.bin", "notes.txt"):
        shutil.copy(next((tmp_path / "base").glob("model-*.safetensors")), tmp_path / "base" / extra)
    base = load(tmp_path / "base")
    export(lowrank(base, size=0.05), base, tmp_path / "x", to="merged", alphas=[1])
    names = {f.name for f in (tmp_path / "x").iterdir()}
    assert "notes.txt" in names and "model.safetensors.index.json" in names
    assert not [n for n in names if "consolidated" in n or n.endswith(".bin")]


def test_strengths_that_cannot_be_told_apart_or_proven_are_refused_before_anything_is_written(
    folders, tmp_path, monkeypatch
):
    base = load(folders["llama"])
    d = lowrank(base, size=0.05)
    for alphas, says in (
        ([1, 1.0], "different from each other"),
        ([float("nan")], "finite"),
        ([0.0], "nothing to export"),
    ):
        with pytest.raises(ValueError, match=says):
            export(d, base, tmp_path / "x", to="peft", alphas=alphas)
    with pytest.raises(ValueError, match="far beyond every strength"):
        export(d, base, tmp_path / "x", to="peft", alphas=[1e30])
    monkeypatch.setattr(sys.modules["ws.steer"], "FARTHEST", float("inf"))
    with pytest.raises(ExportRefused, match="not finite"):
        export(d, base, tmp_path / "x", to="peft", alphas=[1e30])
    assert not list(tmp_path.iterdir())
    export(d, base, tmp_path / "x", to="peft", alphas=[0.12345678, 0.12345679])
    assert len(list((tmp_path / "x").glob("alpha_*"))) == 2


def test_a_direction_of_another_base_is_refused_before_any_weight_is_written(folders, tmp_path, monkeypatch):
    base = load(folders["llama"])
    other = small.base("llama", seed=9)
    monkeypatch.setattr(sys.modules["ws.export"], "to_merged", None)
    with pytest.raises(DirectionMismatch, match="made from base"):
        export(lowrank(other), base, tmp_path / "x", to="merged", alphas=[1])


def test_damaged_bases_are_refused_and_nothing_is_written(folders, tmp_path):

    base = load(folders["llama"])
    d = lowrank(base, size=0.05)
    broken = tmp_path / "broken"
    shutil.copytree(folders["llama"], broken)
    moved = type(base)(base.model, base.tokenizer, base.fingerprint, "broken", None, str(broken))
    index = json.loads((broken / "model.safetensors.index.json").read_text())
    first = sorted(set(index["weight_map"].values()))[0]
    (broken / first).unlink()
    with pytest.raises(BadFile, match="no such file"):
        export(d, moved, tmp_path / "out", to="merged", alphas=[1])
    index["weight_map"] = {k: "../" + v for k, v in index["weight_map"].items()}
    (broken / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(BadFile, match="is a path"):
        export(d, moved, tmp_path / "out", to="merged", alphas=[1])
    (broken / "model.safetensors.index.json").unlink()
    with pytest.raises(BadFile, match=r"no model\.safetensors"):
        export(d, moved, tmp_path / "out", to="merged", alphas=[1])
    (broken / "model.safetensors").write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{")
    with pytest.raises(BadFile, match="truncated"):
        export(d, moved, tmp_path / "out", to="merged", alphas=[1])
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob("*incomplete*"))


def test_a_stopped_export_leaves_nothing_that_is_taken_for_a_model(folders, tmp_path, monkeypatch):
    base = load(folders["llama"])

    def stop(*_, **__):
        raise KeyboardInterrupt

    for to, module, part in (
        ("merged", ".merged", "_write_shard"),
        ("peft", ".peft", "write_tensors"),
        ("mergekit", "", "promise"),
    ):
        with monkeypatch.context() as m:
            m.setattr(sys.modules[f"ws.export{module}"], part, stop)
            with pytest.raises(KeyboardInterrupt):
                export(lowrank(base), base, tmp_path / "out", to=to, alphas=[1])
        assert not list(tmp_path.iterdir())
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(BadFile, match="never overwrites"):
        export(lowrank(base), base, tmp_path / "full", to="peft", alphas=[1])


def test_a_killed_export_leaves_a_folder_marked_incomplete_and_the_next_one_works(folders, tmp_path):
    base = load(folders["llama"])
    file = save(lowrank(base, size=0.05), tmp_path / "direction.safetensors")
    killed = (
        "import importlib, os, sys; from ws.cli import main\n"
        "importlib.import_module('ws.export').promise = lambda *a, **k: os.kill(os.getpid(), 9)\n"
        "main(sys.argv[1:])"
    )
    args = ["export", str(file), "--to", "merged", "--alpha", "1", "--model", str(folders["llama"])]
    args += ["--out", str(tmp_path / "out")]
    with forks.script(killed, *args) as child:
        assert child.wait(timeout=120) == -9
    (left,) = (f for f in tmp_path.iterdir() if f != file)
    assert left.name.startswith(".out.") and left.name.endswith(".incomplete")
    from ws.cli import main

    assert main(["verify", str(left)]) == 2
    assert main(args) == 0
    assert {f.name for f in tmp_path.iterdir()} == {"direction.safetensors", "out", left.name}


def test_a_low_rank_direction_of_the_origin_is_an_adapter_of_the_fine_tune(folders, tiny, tmp_path):
    origin, tuned = load(folders["llama"]), small.model("llama", seed=5, vocabulary=len(tiny.tokenizer))
    tuned.save_pretrained(tmp_path / "tuned")
    tiny.tokenizer.save_pretrained(tmp_path / "tuned")
    base = load(tmp_path / "tuned")
    _, (verdict,) = export(lowrank(origin), base, tmp_path / "x", to="peft", alphas=[1], origin=origin)
    assert verdict.verdict == "ok"
    assert json.loads((tmp_path / "x" / "adapter_config.json").read_text())["base_model_name_or_path"] == base.source


def test_a_fine_tune_plus_a_direction_of_its_origin_is_exported_merged(folders, tiny, tmp_path):
    origin = load(folders["llama"])
    tuned = small.model("llama", vocabulary=len(tiny.tokenizer))
    with torch.no_grad():
        for p in tuned.parameters():
            p.add_(0.02 * torch.randn(p.shape, generator=torch.Generator().manual_seed(3)))
    tuned.save_pretrained(tmp_path / "tuned")
    tiny.tokenizer.save_pretrained(tmp_path / "tuned")
    base = load(tmp_path / "tuned")
    name = "model.layers.1.mlp.up_proj"
    d = Direction(
        {name: (RowScale(torch.linspace(-1, 1, 64)), LowRank(torch.ones(64, 1), torch.ones(1, 32) / 32))},
        {"base": origin.described()},
    )
    _, (verdict,) = export(d, base, tmp_path / "x", to="merged", alphas=[0.5], origin=origin)
    assert verdict.verdict == "ok"
    got = load_file(tmp_path / "x" / "model.safetensors")[f"{name}.weight"]
    wanted = base.weight(name) + 0.5 * d.dense(name, origin.weight)
    torch.testing.assert_close(got, wanted)


def test_the_commands_inspect_export_and_verify(folders, tmp_path, capsys):
    from ws.cli import main

    base = load(folders["llama"])
    file = save(lowrank(base, size=0.05), tmp_path / "direction.safetensors")
    assert main(["inspect", str(file)]) == 0
    told = capsys.readouterr().out
    assert "lowrank" in told
    assert "up_proj" in told
    args = ["export", str(file), "--to", "peft", "--model", str(folders["llama"]), "--out", str(tmp_path / "e")]
    assert main([*args, "--alpha", "-1.5"]) == 0
    assert main(["verify", str(tmp_path / "e"), "--json"]) == 0
    assert '"verdict": "ok"' in capsys.readouterr().out
    assert main(["verify", str(tmp_path)]) == 2
    assert main([*args, "--alpha", "1"]) == 2
    assert "never overwrites" in capsys.readouterr().err
    assert main([*args[:-1], str(tmp_path / "f")]) == 0  # at +1, as in Python
    assert json.loads((tmp_path / "f" / "ws.json").read_text())["alphas"] == [1.0]
    capsys.readouterr()
    assert main(["export", "--to", "peft"]) == 2
    missing = capsys.readouterr().err
    assert "a direction" in missing
    assert "--out" in missing
    (tmp_path / "e" / "adapter_config.json").write_text(
        (tmp_path / "e" / "adapter_config.json").read_text().replace("-3.0", "3.0")
    )
    assert main(["verify", str(tmp_path / "e")]) == 1
    assert "not what was asked" in capsys.readouterr().err
