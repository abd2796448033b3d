"""A base that is known by its files says of itself what the loaded one does, and is loaded where something is computed."""

import shutil

import pytest
import torch

from ws.errors import BadFile
from ws.models.load import load, load_lazily
from ws.models.stored import StoredBase
from ws.models.tiny import FOLDER
from ws.study.keys import base_key, beside

PARTS = ("fingerprint", "weights_hash", "config_hash", "tokenizer_hash", "has_template", "thinks", "n_parameters")
PLACE = ("id", "revision", "source", "device", "dtype", "tiny")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A model folder whose files count as settled."""
    monkeypatch.setattr("ws.models.hashes.SETTLED", -1.0)
    monkeypatch.setenv("WS_CACHE", str(tmp_path / "cache"))
    return shutil.copytree(FOLDER, tmp_path / "mine")


def loads(base):
    return "model" in vars(base), "tokenizer" in vars(base)


def test_a_model_that_was_loaded_before_is_known_without_its_weights(folder):
    whole = load_lazily(folder)
    base = load_lazily(folder)
    assert isinstance(base, StoredBase) and not isinstance(whole, StoredBase)
    assert [getattr(base, n) for n in (*PARTS, *PLACE)] == [getattr(whole, n) for n in (*PARTS, *PLACE)]
    assert base_key(base) == base_key(whole) and beside(base) == beside(whole) and repr(base) == repr(whole)
    assert loads(base) == (False, False)
    assert base.tokenizer.padding_side == "left" and loads(base) == (False, True)
    assert all(map(torch.equal, base.model.state_dict().values(), whole.model.state_dict().values()))
    assert loads(base) == (True, True) and [*base.linears] == [*whole.linears]
    assert [getattr(base, n) for n in (*PARTS, *PLACE)] == [getattr(whole, n) for n in (*PARTS, *PLACE)]


def test_in_another_precision_or_under_another_name_it_is_loaded_to_be_known(folder):
    load_lazily(folder)
    assert not isinstance(load_lazily(folder, dtype="bfloat16"), StoredBase)
    assert load_lazily(folder, dtype="bfloat16").dtype == torch.bfloat16
    other = shutil.copytree(folder, folder.parent / "other")
    assert not isinstance(load_lazily(other), StoredBase)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"])
def test_a_changed_file_is_read_again(folder, name):
    load_lazily(folder)
    file = folder / name
    file.write_bytes(file.read_bytes())  # the same bytes: what counts is that somebody wrote
    assert not isinstance(load_lazily(folder), StoredBase)


def test_files_that_change_before_they_are_loaded_are_refused(folder):
    load_lazily(folder)
    base = load_lazily(folder)
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes())
    with pytest.raises(BadFile, match="changed while it was in use"):
        _ = base.model


def test_weights_that_are_first_asked_for_in_inference_mode_can_be_trained(folder):
    load_lazily(folder)
    base = load_lazily(folder)
    with torch.inference_mode():
        weight = next(base.model.parameters())
    assert not weight.is_inference()
    (weight.requires_grad_(True) * 2).sum().backward()
    assert weight.grad is not None


def test_what_python_loads_is_loaded_at_once(folder):
    load_lazily(folder)
    assert not isinstance(load(folder), StoredBase)
