"""The hash of a model's weights sees every byte, costs one reading, and is never taken from a file that changed since."""

import json
import multiprocessing
import os
import shutil
import time

import pytest
import small
import torch
from safetensors.torch import load_file, save_file

import ws
from ws.errors import BadFile
from ws.models import hashes
from ws.models.checkpoint import checkpoint_of, open_checkpoint
from ws.models.hashes import file_hash, network_hash, stored_weights
from ws.models.load import Base, load
from ws.models.tiny import FOLDER


@pytest.fixture
def folder(tmp_path):
    return shutil.copytree(FOLDER, tmp_path / "model")


@pytest.fixture
def reads(monkeypatch, tmp_path):
    """The files that are read whole, in their order; a file counts as settled at once."""
    seen, digest = [], hashes.hashlib.file_digest
    monkeypatch.setattr(hashes.hashlib, "file_digest", lambda f, how: seen.append(f.name) or digest(f, how))
    monkeypatch.setattr(hashes, "SETTLED", -60)
    monkeypatch.setenv("WS_CACHE", str(tmp_path / "cache"))
    return seen


def edit(path, at=-3):
    """Change one byte where it stands: same size, same inode."""
    with open(path, "r+b") as f:
        f.seek(at, os.SEEK_END)
        byte = f.read(1)
        f.seek(at, os.SEEK_END)
        f.write(bytes([byte[0] ^ 1]))


def test_one_edited_byte_of_a_folder_is_another_hash_and_mostly_no_other_fingerprint(folder, tiny):
    before = load(folder)
    assert before.weights_hash == open_checkpoint(folder).weights_hash == checkpoint_of(before).weights_hash
    assert before.weights_hash == tiny.weights_hash
    edit(folder / "model.safetensors")
    after = load(folder)
    assert after.weights_hash != before.weights_hash
    assert after.fingerprint == before.fingerprint
    assert open_checkpoint(folder).weights_hash == after.weights_hash


def test_a_file_is_read_once_and_again_when_it_changed_even_if_its_time_was_set_back(folder, reads):
    path = folder / "model.safetensors"
    first = load(folder).weights_hash
    assert [load(folder).weights_hash for _ in range(2)] == [first, first]
    assert len(reads) == 1
    before = path.stat()
    time.sleep(0.02)
    edit(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert load(folder).weights_hash != first
    assert len(reads) == 2


def test_a_file_that_was_just_written_is_read_again_because_its_times_may_stand_still(folder, reads, monkeypatch):
    path = folder / "model.safetensors"
    monkeypatch.setattr(hashes, "SETTLED", 3600)
    assert file_hash(path) == file_hash(path)
    assert len(reads) == 2
    monkeypatch.setattr(hashes, "SETTLED", -60)
    assert file_hash(path) == file_hash(path)
    assert len(reads) == 3


def test_what_is_remembered_is_only_taken_whole(folder, reads, tmp_path):
    right = file_hash(folder / "model.safetensors")
    (memory,) = (tmp_path / "cache" / "hashes").glob("*.json")
    entry = json.loads(memory.read_text())
    for damage in ("", "{", "[]", "{}", json.dumps({**entry, "path": "/other", "sha256": "0"})):
        memory.write_text(damage)
        assert file_hash(folder / "model.safetensors") == right
    assert json.loads(memory.read_text()) == entry
    assert len(reads) == 6


def test_a_cache_that_cannot_be_written_costs_time_and_no_result(folder, reads, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    right = file_hash(folder / "model.safetensors")
    monkeypatch.setenv("WS_CACHE", str(tmp_path / "file"))
    assert file_hash(folder / "model.safetensors") == file_hash(folder / "model.safetensors") == right
    assert len(reads) == 3


def test_two_processes_at_once_find_the_same_hash_and_leave_a_whole_memory(folder, reads, tmp_path):
    path = folder / "model.safetensors"
    both = [multiprocessing.get_context("fork").Process(target=hashes.file_hash, args=(path,)) for _ in range(2)]
    for p in both:
        p.start()
    for p in both:
        p.join()
    assert [p.exitcode for p in both] == [0, 0]
    (memory,) = (tmp_path / "cache" / "hashes").iterdir()
    assert file_hash(path) == json.loads(memory.read_text())["sha256"]
    assert reads == []  # not here


def test_weights_that_change_between_loading_and_hashing_are_refused(folder):
    base = load(folder)
    time.sleep(0.02)
    edit(folder / "model.safetensors")
    with pytest.raises(BadFile, match="changed after the model was loaded"):
        _ = base.weights_hash


def test_every_shard_and_the_index_count(tmp_path):
    small.model("llama").save_pretrained(tmp_path, max_shard_size="50KB")
    shards = sorted(tmp_path.glob("*.safetensors"))
    assert len(shards) > 2
    marks = {stored_weights(tmp_path).hash}
    for path in [*shards, tmp_path / "model.safetensors.index.json"]:
        edit(path) if path in shards else path.write_text(path.read_text() + "\n")
        marks.add(stored_weights(tmp_path).hash)
    assert len(marks) == len(shards) + 2


def test_a_network_in_memory_is_hashed_by_all_its_tensors_before_anything_is_folded():
    base = small.base("gpt2")
    mark = base.weights_hash
    assert small.base("gpt2").weights_hash == mark == network_hash(small.model("gpt2"))
    assert small.base("gpt2", seed=1).weights_hash != mark
    assert small.base("gpt2", dtype=torch.bfloat16).weights_hash != mark
    state = base.model.state_dict()
    for name in list(state):
        with torch.no_grad():
            kept = state[name].clone()
            state[name].view(-1)[-1] += 1
            assert Base(base.model, None, "", "x").weights_hash != mark, name
            state[name].copy_(kept)
    assert Base(base.model, None, "", "x").weights_hash == mark


def test_a_fold_does_not_change_what_a_base_is_called(tiny, folder):
    from ws.direction import Direction
    from ws.direction.forms import Dense

    name = next(iter(tiny.linears))
    change = Direction({name: (Dense(torch.ones_like(tiny.weight(name))),)})
    built = Base(tiny.model, tiny.tokenizer, tiny.fingerprint, "tiny")
    for base in (built, load(folder)):
        plain = network_hash(base.model)
        with ws.steer(base, change, 1.0, fold=True):
            assert network_hash(base.model) != plain
            inside = base.weights_hash
        assert inside == base.weights_hash
    assert built.weights_hash == network_hash(tiny.model)


def test_a_folder_that_puts_an_adapter_on_another_base_is_hashed_in_memory(folder, tmp_path):
    """transformers reads such a folder's weights from the base that its adapter names."""
    import transformers
    from peft import LoraConfig, get_peft_model

    network = transformers.AutoModelForCausalLM.from_pretrained(FOLDER)
    get_peft_model(network, LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)).save_pretrained(folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": str(FOLDER)}))
    assert stored_weights(folder) is None
    before = load(folder).weights_hash
    assert load(folder).weights_hash == before
    tensors = load_file(folder / "adapter_model.safetensors")
    next(iter(tensors.values())).view(-1)[0] += 1
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    assert load(folder).weights_hash != before
