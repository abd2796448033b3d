"""`ws doctor`: what is broken is found, said with what to do, and makes the command fail; nothing is loaded for it."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import forks
import huggingface_hub
import pytest
import torch
import transformers as tf
from test_train import PAIRS

from ws.adapters import FAMILIES, family
from ws.cli import main
from ws.data import DataSettings
from ws.doctor import Finding, examine, examine_model, machine, memory_plan, opened, self_test
from ws.errors import BadFile, Unsupported
from ws.models.tiny import FOLDER
from ws.train import TrainSettings, spec_of
from ws.train.losses import Losses
from ws.train.sequences import rows_of

GB = 10**9


@pytest.fixture
def folder(tmp_path):
    """A model folder with `tiny`'s tokenizer and a config of any size, and no weights."""

    def make(**config) -> Path:
        shutil.copytree(FOLDER, tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors"))
        tf.Qwen3Config(vocab_size=4096, architectures=["Qwen3ForCausalLM"], **config).save_pretrained(
            tmp_path / "model"
        )
        return tmp_path / "model"

    return make


LARGE = dict(hidden_size=4096, intermediate_size=12288, num_hidden_layers=36, num_attention_heads=32, num_key_value_heads=8, head_dim=128, dtype="bfloat16", max_position_embeddings=4096)  # fmt: skip


def states(checks) -> dict[str, str]:
    return {c.name: c.state for c in checks}


def test_a_healthy_machine_has_nothing_broken_and_says_that_it_is_offline(tmp_path):
    found = {c.name: c for c in examine(tmp_path)}
    assert "broken" not in states(found.values()).values()
    assert f"torch {torch.__version__}" in found["libraries"].found
    assert "offline" in found["hub"].found
    assert "free" in found["cpu"].found and "free" in found["output"].found


def test_an_old_or_absent_library_is_broken_and_comes_with_the_command_that_mends_it(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "_least", lambda: {"peft": ">=99"})
    monkeypatch.setattr(machine, "NEEDED", ("peft", "no_such_library"))
    found = {c.name: c for c in examine(tmp_path)}
    assert (found["peft"].state, found["no_such_library"].state) == ("broken", "broken")
    assert "pip install -U 'peft>=99'" in found["peft"].do
    assert "pip install 'no_such_library'" in found["no_such_library"].do


def test_a_device_that_is_not_there_and_a_folder_that_cannot_be_written_are_broken(tmp_path, monkeypatch):
    monkeypatch.setattr(machine.os, "access", lambda *a: False)
    found = {c.name: c for c in examine(tmp_path, device="cuda:7")}
    assert (found["device"].state, found["output"].state) == ("broken", "broken")
    assert "--device cpu" in found["device"].do


@pytest.mark.parametrize("broken", [True, False])
def test_the_hub_is_asked_once_and_its_absence_is_said_and_not_an_error(monkeypatch, broken):
    asked = []

    class Session:
        def head(self, url, timeout):
            asked.append((url, timeout))
            if broken:
                raise ConnectionError("no route")
            return type("Reply", (), {"status_code": 200})()

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "get_session", Session)
    check = machine._hub()
    assert asked == [(huggingface_hub.constants.ENDPOINT, machine.HUB_SECONDS)]
    assert check.state == ("note" if broken else "ok")
    assert ("not reached" in check.found) is broken


def test_what_is_broken_always_comes_with_what_to_do():
    with pytest.raises(AssertionError):
        Finding("x", "broken", "it is broken")


def test_tiny_passes_every_check_of_a_model():
    found = {c.name: c for c in examine_model(opened("tiny"))}
    assert set(states(found.values()).values()) == {"ok"}
    assert "ends with <|im_end|>" in found["chat template"].found
    assert "ĠYes" in found["answers yes or no"].found


def test_no_weight_is_loaded_to_look_at_a_model():
    model = opened("tiny")
    assert all(p.device.type == "meta" for p in model.base.model.parameters())


def test_weights_that_are_missing_are_broken_in_a_folder(folder):
    found = {c.name: c for c in examine_model(opened(str(folder(**LARGE))))}
    assert found["weights"].state == "broken"
    assert "billion parameters, 36 blocks" in found["architecture"].found


def test_a_template_that_refuses_or_drops_system_messages_is_broken(folder):
    place = folder(**LARGE)
    model = opened(str(place))
    for template, told in [
        (
            "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}x",
            "refuses a system message",
        ),
        (
            "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}",
            "drops the system message",
        ),
    ]:
        model.base.tokenizer.chat_template = template
        found = {c.name: c for c in examine_model(model)}
        assert found["chat template"].state == "broken"
        assert told in found["chat template"].found


@pytest.mark.parametrize("name", [f for f in FAMILIES if f != "boft"])
def test_the_planned_adapters_are_those_that_training_attaches(tiny, name):
    plan = memory_plan(opened("tiny"), DataSettings(), TrainSettings(adapter=name), dtype="auto", free={"cpu": GB})
    with family(name).attached(tiny, spec_of(tiny, TrainSettings(adapter=name)), 0) as attached:
        assert plan.adapter_parameters == sum(p.numel() for p in attached.trainable.values())
    assert plan.weights == sum(p.numel() * p.element_size() for p in tiny.model.parameters())
    assert plan.traced_as == name


def test_only_what_cannot_be_traced_is_counted_as_lora_and_another_failure_is_none_of_that(monkeypatch):
    plan = memory_plan(opened("tiny"), DataSettings(), TrainSettings(adapter="boft"), dtype="auto", free={"cpu": GB})
    assert plan.traced_as == "lora"

    def broken(*args):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr("ws.doctor.memory._traced", broken)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        memory_plan(opened("tiny"), DataSettings(), TrainSettings(), dtype="auto", free={"cpu": GB})


def test_the_planned_activations_are_what_a_real_step_keeps(tiny):
    """Counted on the meta device against tensors that a real forward pass keeps for its backward pass."""
    settings = TrainSettings(rank=8, max_len=64, batch_size=8)
    plan = memory_plan(opened("tiny"), DataSettings(), settings, dtype="auto", free={"cpu": GB})
    rows, _ = rows_of(tiny, PAIRS, max_len=64)
    kept: dict[int, torch.Tensor] = {}
    with family("lora").attached(tiny, spec_of(tiny, settings), 0) as attached:
        own = {p.untyped_storage().data_ptr() for p in attached.network.parameters()}

        def keep(t):
            if t.untyped_storage().data_ptr() not in own:
                kept[t.untyped_storage().data_ptr()] = t
            return t

        some = rows["pos"]
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
            Losses(attached, tiny.device)._loss(some)
    real = sum(t.untyped_storage().nbytes() for t in kept.values())
    width = max(len(r.ids) for r in some)
    planned = plan.steps[1].per_row / 64 * width * len(some)
    assert 0.8 * real < planned < 2.5 * real  # on top come logits that live for one operation, for every position


PEAK = """
import random, sys
import torch, transformers
from ws.adapters import family
from ws.models.load import Base
from ws.train import TrainSettings, spec_of
from ws.train.losses import Losses
from ws.train.sequences import Row

torch.set_num_threads(1)

def held(what):
    return next(int(x.split()[1]) * 1024 for x in open("/proc/self/status") if x.startswith(what))

def step(vocabulary):
    config = transformers.AutoConfig.from_pretrained(sys.argv[1], vocab_size=vocabulary)
    settings = TrainSettings(max_len=64)
    base = Base(transformers.Qwen3ForCausalLM(config).float().eval().requires_grad_(False), None, "", "random")
    draw = random.Random(0)
    rows = [Row(tuple(draw.randrange(vocabulary) for _ in range(64)), 1) for _ in range(8)]
    with family("lora").attached(base, spec_of(base, settings), 0) as attached:
        losses = Losses(attached, base.device)
        losses.fit(rows)
        losses.step(rows, torch.optim.AdamW(attached.trainable.values()))
    return losses.tokens_at_once

step(1000)  # what libraries load and keep with the first step is none of the step's own
before = held("VmRSS")
tokens = step(150_000)
print(held("VmHWM") - before, tokens)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_a_step_with_a_large_vocabulary_takes_the_memory_that_is_planned(folder):
    """Measured in a process of its own; all logits of this batch with their gradients would be 1.2 GB."""
    place = folder(hidden_size=128, intermediate_size=512, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2, head_dim=32, tie_word_embeddings=True)  # fmt: skip
    config = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps({**config, "vocab_size": 150_000}))
    settings = TrainSettings(max_len=64, batch_size=8)
    plan = memory_plan(opened(str(place)), DataSettings(), settings, dtype="float32", free={"cpu": 64 * GB})
    with forks.script(PEAK, place) as child:
        out, err = child.communicate(timeout=240)
    assert child.returncode == 0, err
    measured, tokens = map(int, out.split())
    planned = plan.weights + plan.steps[1].bytes()
    assert plan.steps[1].rows == min(8, tokens // 64)
    assert 0.6 * planned < measured < 1.3 * planned < 0.6 * GB


def test_a_model_that_does_not_fit_comes_with_flags_that_exist(folder, capsys):
    wide = {**LARGE, "num_hidden_layers": 9, "intermediate_size": 59392}  # as many parameters, in fewer blocks
    model = opened(str(folder(**wide)))
    plan = memory_plan(
        model, DataSettings(), TrainSettings(), dtype="auto", free={"cuda:0": 12 * GB, "cuda:1": 12 * GB}
    )
    assert not plan.fits
    advice = " ".join(plan.advice)
    assert "--device-map auto" in advice and "--processes 2 --shard" in advice and "--generate-with" in advice
    assert "2 processes read 2 copies of the checkpoint into main memory, 27.9 GB together" in advice
    devices = {"cuda:0": 12 * GB, "cuda:1": 12 * GB}
    for main_memory, told in ((40 * GB, "and 40.0 GB are free"), (20 * GB, "but the 2 processes read 2 copies")):
        plan = memory_plan(model, DataSettings(), TrainSettings(), dtype="auto", free=devices, main=main_memory)
        assert told in " ".join(plan.advice)
        assert ("ws train --processes 2 --shard" in " ".join(plan.advice)) is (main_memory == 40 * GB)
    one = memory_plan(model, DataSettings(), TrainSettings(), dtype="float32", free={"cuda:0": 30 * GB})
    assert "--dtype bfloat16" in " ".join(one.advice)
    assert memory_plan(model, DataSettings(), TrainSettings(), dtype="auto", free={"cuda:0": 400 * GB}).advice == ()
    main(["train", "--help-all"])
    main(["data", "--help-all"])
    known = capsys.readouterr().out
    for flag in {w for w in (advice + " " + " ".join(one.advice)).split() if w.startswith("--")}:
        assert flag in known


def test_gradient_checkpointing_and_shorter_rows_take_less():
    def step(**more):
        settings = TrainSettings(**more)
        return memory_plan(opened("tiny"), DataSettings(), settings, dtype="auto", free={"cpu": GB}).steps[-1].bytes(1)

    assert step(gradient_checkpointing=True) < memory_plan(
        opened("tiny"), DataSettings(), TrainSettings(), dtype="auto", free={"cpu": GB}
    ).steps[1].bytes(1)
    assert step(max_len=128) < step(max_len=512)


def test_what_ws_cannot_work_with_is_refused(folder):
    with pytest.raises(BadFile, match="no model folder"):
        opened("/no/such/model")
    place = folder(**LARGE)
    config = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(
        json.dumps({**config, "quantization_config": {"quant_method": "gptq", "bits": 4}})
    )
    with pytest.raises(Unsupported, match="quantised"):
        opened(str(place))


@pytest.mark.parametrize("config", [tf.T5Config(d_model=64, num_layers=1), tf.ViTConfig(hidden_size=64)])
def test_a_model_of_another_kind_is_one_line_of_the_report_and_not_its_end(
    config, folder, capsys, tmp_path, monkeypatch
):
    monkeypatch.setattr("ws.cli.doctor.self_test", lambda: Finding("self-test", "ok", "skipped here"))
    place = folder(**LARGE)
    config.save_pretrained(place)
    with pytest.raises(Unsupported, match=f"answers by continuing a text.*{config.model_type}"):
        opened(str(place))
    assert main(["doctor", "--out", str(tmp_path / "out"), "--model", str(place), "--json"]) == 1
    told = {c["name"]: c for c in json.loads(capsys.readouterr().out)["checks"]}
    assert told["model"]["state"] == "broken" and len(told["model"]["found"]) < 400
    assert {"libraries", "device", "self-test"} <= told.keys()


def test_the_self_test_passes_and_leaves_no_trace(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    check = self_test()
    assert check.state == "ok", check.found
    assert not list(tmp_path.iterdir())


def test_a_fault_in_the_middle_makes_the_self_test_fail(monkeypatch):
    monkeypatch.setattr("ws.doctor.selftest._dial", lambda *a: (False, 0.0))
    check = self_test()
    assert check.state == "broken"
    assert "alpha 0 is not the base" in check.found


def test_the_command_prints_all_of_it_and_fails_when_something_is_broken(capsys, monkeypatch, folder, tmp_path):
    fine = Finding("self-test", "ok", "skipped here")
    monkeypatch.setattr("ws.cli.doctor.self_test", lambda: fine)
    out = ["--out", str(tmp_path / "out")]
    assert main(["doctor", *out, "--model", "tiny", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["healthy"]
    assert told["memory"]["steps"][0]["fits_rows"] > 0
    place = folder(**LARGE)
    assert main(["doctor", *out, "--model", str(place), "--json"]) == 1
    told = capsys.readouterr()
    assert [c["name"] for c in json.loads(told.out)["checks"] if c["state"] == "broken"] == ["weights"]
    assert "1 of" in told.err
    monkeypatch.setattr("ws.cli.doctor.self_test", lambda: replace(fine, state="broken", do="Do something."))
    assert main(["doctor", *out]) == 1
    told = capsys.readouterr()
    assert "Do something." in told.out
    assert "checks failed: self-test" in told.err
    assert not (tmp_path / "out").exists()
