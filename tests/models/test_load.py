"""Models are loaded from the embedded folder, a folder, or the hub's cache, in the precision asked for."""

import json
import os
import shutil
import subprocess
import sys

import architectures as shapes
import pytest
import torch
from models.test_experts import direction_on
from safetensors.torch import load_file, save_file

import ws
from ws.behaviors import load_behavior
from ws.doctor import examine_model, opened
from ws.errors import BadFile, Unsupported
from ws.export.verify import _loaded
from ws.models.checkpoint import open_checkpoint
from ws.models.load import choose_device, load
from ws.models.locate import locate
from ws.models.tiny import FOLDER
from ws.steer import steer


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "my-model"
    shutil.copytree(FOLDER, folder)
    return folder


def test_the_fingerprint_is_the_same_at_every_precision(tiny, copy):
    for dtype in ("float32", "bfloat16", "float16", "float64"):
        base = load(copy, dtype=dtype)
        assert base.fingerprint == tiny.fingerprint
        assert str(base.dtype) == f"torch.{dtype}"


def test_a_folder_is_called_by_its_name_and_never_by_its_path(copy):
    base = load(copy)
    assert (base.id, base.tiny) == ("my-model", False)
    assert str(copy.parent) not in str(base.described())


def test_tiny_runs_on_one_thread_unless_asked(tiny):
    before = torch.get_num_threads()
    load("tiny", threads=2)
    assert torch.get_num_threads() == 2
    load("tiny")
    assert torch.get_num_threads() == 1
    torch.set_num_threads(before)


def test_a_loaded_base_is_frozen_and_in_eval_mode(tiny):
    assert not tiny.model.training
    assert not any(p.requires_grad for p in tiny.model.parameters())
    with pytest.raises(AttributeError):
        tiny.id = "other"


def test_a_model_in_the_hub_cache_loads_by_id_and_revision(tiny, tmp_path):
    commit = "a" * 40
    root = tmp_path / "hub" / "models--someone--small"
    shutil.copytree(FOLDER, root / "snapshots" / commit)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text(commit)
    code = (
        "import ws; a, b = ws.load('someone/small'), ws.load('someone/small@" + commit + "');"
        "print(a.id, a.revision, a.fingerprint == b.fingerprint, a.fingerprint, a.weights_hash);"
        "print([p.parent.name for p in a.weights.stamps])"
    )
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    environment.pop("HF_HUB_CACHE", None)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    names = ["someone/small", commit, "True", tiny.fingerprint, tiny.weights_hash]
    assert done.stdout.split() == [*names, f"['{commit}']"], done.stderr


def test_what_is_no_model_says_so(tmp_path):
    for name, told in (
        ("someone/none", "cannot be reached"),
        ("a b", "is no model"),
        (str(tmp_path), "no config.json"),
        ("../no-such-model", "no model folder"),
    ):
        with pytest.raises(BadFile, match=told):
            load(name)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(BadFile, match="cannot be loaded"):
        load(tmp_path)


def test_weights_that_are_only_a_pickle_are_not_loaded(copy, tmp_path):
    folder = tmp_path / "pickled"
    shutil.copytree(copy, folder)
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(BadFile, match=r"cannot be loaded|local cache"):
        load(folder)


def test_a_folder_without_a_tokenizer_is_refused_and_says_what_to_copy(copy, tmp_path):
    folder = tmp_path / "half"
    shutil.copytree(copy, folder, ignore=shutil.ignore_patterns("token*", "chat_template*"))
    with pytest.raises(BadFile, match=r"half holds no tokenizer; copy tokenizer\.json and tokenizer_config\.json"):
        load(folder)


def test_a_quantised_checkpoint_that_nothing_here_reads_is_refused(copy, tmp_path):
    import json

    folder = tmp_path / "packed"
    shutil.copytree(copy, folder)
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "hqq", "nbits": 4}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(Unsupported, match=r"cannot be loaded here.*load the model it was made from"):
        load(folder)


def test_revisions_are_read_from_the_id():
    assert locate("someone/small@v1") == ("someone/small", "someone/small", "v1")
    assert locate("someone/small", "v2") == ("someone/small", "someone/small", "v2")


def test_a_gpu_that_torch_cannot_use_is_said_loudly(monkeypatch, caplog):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(
        subprocess, "run", lambda *a, **k: subprocess.CompletedProcess(a, 0, "GPU 0: NVIDIA H100\n", "")
    )
    assert choose_device("auto").type == "cpu"
    assert "NVIDIA GPU (GPU 0: NVIDIA H100) that torch" in caplog.text


@pytest.mark.real_data
def test_a_real_model_without_a_chat_template_is_steered_by_given_pairs_and_exported(real_data, tmp_path):
    base = ws.load(real_data / "stories260k")
    names = ["Lily", "Tom", "Anna", "Ben", "Max", "Sue", "Mia", "Tim", "Sam", "Amy", "Joe", "Zoe"]
    places = ["in the park", "at home", "by the sea", "at school"]
    from ws.pairs import Pair, Pairs

    rows = []
    for i, (n, p) in enumerate((n, p) for n in names for p in places):
        start = f"One day, {n} was {p}. {n} was"
        rows.append(Pair(start, " happy. It was a good day.", " sad. It was a bad day.", f"{n}{p}", topic_idx=i))
    pos, neg = ws.train(base, Pairs(tuple(rows)), adapter="lora", rank=4, lr=(2e-3,), epochs=4.0, batch_size=8)
    direction = ws.diff(base, pos, neg)
    from ws.eval.scoring import sequence_logprobs
    from ws.models.chat import encode

    prompts = [f"Once upon a time, there was a boy named {n}. He was" for n in ("Jack", "Bob", "Leo")]
    scored = {}
    for word in (" happy.", " sad."):
        heads = [encode(base.tokenizer, base.tokenizer.bos_token + p) for p in prompts]
        rows_ids = [(h + encode(base.tokenizer, word), len(h)) for h in heads]
        scored[word] = sequence_logprobs(
            base, rows_ids, alphas=[-1, -0.5, 0, 0.5, 1], dial=lambda a: ws.steer(base, direction, a)
        )
    effect = [sum(h[k] - s[k] for h, s in zip(scored[" happy."], scored[" sad."])) / 3 for k in range(5)]
    assert effect == sorted(effect)
    assert effect[-1] - effect[0] > 1

    from ws.export import export

    for to in ("merged", "peft", "gguf-lora", "mergekit"):
        _, (proof,) = export(direction, base, tmp_path / to, to=to, alphas=[0.5])
        assert proof.verdict == "ok", to
        assert proof.error < 1e-4 and abs(proof.moved - 1) < 1e-4
    sizes = {to: sum(f.stat().st_size for f in (tmp_path / to).glob("*.safetensors")) for to in ("merged", "peft")}
    assert sizes["peft"] < sizes["merged"]


def test_a_behavior_is_chosen_for_the_world_of_the_model(tiny):
    assert load_behavior("honesty", tiny=True).train != load_behavior("honesty").train


@pytest.fixture
def with_code(tmp_path, monkeypatch):
    """(a model folder whose config names a Python file of its own, the file that it would write); yes is said to any prompt."""
    folder, mark = tmp_path / "model", tmp_path / "was-run"
    shutil.copytree(FOLDER, folder)
    (folder / "evil.py").write_text(
        f"from pathlib import Path\nPath({str(mark)!r}).write_text('')\nfrom transformers import PretrainedConfig\n"
        "class Evil(PretrainedConfig):\n    model_type = 'evil'\n"
    )
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Evil", "AutoModelForCausalLM": "evil.Evil"}}
    (folder / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr("builtins.input", lambda *a: "y")
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    return folder, mark


@pytest.mark.parametrize("way", [load, open_checkpoint, lambda folder: opened(str(folder))])
def test_code_that_comes_with_a_model_is_not_run_and_nobody_is_asked_to(with_code, way):
    folder, mark = with_code
    with pytest.raises(BadFile, match="comes with code of its own, which ws does not run"):
        way(folder)
    assert not mark.exists()


@pytest.mark.parametrize("to", ["merged", "peft"])
def test_code_that_comes_with_the_base_of_an_export_is_not_run_either(with_code, to):
    folder, mark = with_code
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(folder)}))
    with pytest.raises(ValueError, match="custom code"):
        _loaded(folder, to, torch.float32)
    assert not mark.exists()


def test_a_truncated_weights_file_is_one_sentence(tmp_path):
    shutil.copytree(FOLDER, tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(BadFile, match="cannot be loaded"):
        load(tmp_path / "model")


@pytest.mark.parametrize(
    "lost", ["model.norm.weight", "model.layers.2.mlp.up_proj.weight", "model.embed_tokens.weight"]
)
def test_a_checkpoint_that_lacks_a_tensor_is_refused_and_gets_no_random_numbers(lost, tmp_path):
    shutil.copytree(FOLDER, tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    tensors = load_file(weights)
    del tensors[lost]
    save_file(tensors, weights, {"format": "pt"})
    with pytest.raises(BadFile, match=r"tensors of its architecture, e\.g\. "):
        load(tmp_path / "model")
    (found,) = [c for c in examine_model(opened(str(tmp_path / "model"))) if c.name == "weights"]
    assert found.state == "broken" and f"lacks 1 tensors of its architecture, e.g. {lost}" in found.found


def test_a_mixture_is_loaded_and_steered_in_float64_too(tiny, tmp_path):
    folder = shapes.folder("qwen3-moe", tmp_path / "m", tiny.tokenizer)
    single, double = load(folder), load(folder, dtype="float64")
    d = direction_on(single)
    with steer(single, d, [0.7, 0.0, -0.4]), steer(double, d, [0.7, 0.0, -0.4]):
        got, wanted = (shapes.logits(b.model) for b in (single, double))
    assert wanted.dtype == torch.float64
    torch.testing.assert_close(got.double(), wanted, atol=1e-4, rtol=1e-4)


def test_a_mixture_that_lacks_an_expert_is_refused_in_one_sentence(tiny, tmp_path):
    folder = shapes.folder("qwen3-moe", tmp_path / "m", tiny.tokenizer)
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.experts.2.down_proj.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(BadFile, match="tensors that do not fit its architecture, or not all of them"):
        load(folder)
