"""Stages: made once, found by key, never taken for another, never half there."""

import copy
import dataclasses
import json

import pytest
import torch

from ws.data import DataSettings
from ws.errors import BadFile
from ws.records import canonical, key_of, once, read, slug, write_json
from ws.study.keys import base_key
from ws.train import TrainSettings


def other(value):
    """A value of the same type that is different."""
    return {
        bool: lambda v: not v,
        int: lambda v: v + 1,
        float: lambda v: v + 0.5,
        str: lambda v: v + "x",
        tuple: lambda v: (*v, 1.0),
    }.get(type(value), lambda v: 3)(value)


@pytest.mark.parametrize("cls", [DataSettings, TrainSettings])
def test_two_configs_that_differ_in_one_field_never_share_a_key(cls):
    whole = dataclasses.asdict(cls())
    keys = {key_of("stage", whole, {})}
    for name, value in whole.items():
        keys.add(key_of("stage", {**whole, name: other(value)}, {}))
    assert len(keys) == len(whole) + 1
    assert key_of("stage", dataclasses.asdict(cls()), {}) in keys
    assert key_of("stage", whole, {"pairs": "a"}) != key_of("stage", whole, {"pairs": "b"})
    assert key_of("data", whole, {}) != key_of("train", whole, {})


def test_the_key_of_a_base_changes_with_all_that_can_change_a_number_and_with_nothing_else(tiny):
    def key(**changes):
        return canonical(base_key(dataclasses.replace(tiny, **changes)))

    words, template, network, rounded = (copy.deepcopy(x) for x in (tiny.tokenizer, tiny.tokenizer, *[tiny.model] * 2))
    words.add_tokens(["zyxw"])
    template.chat_template += " "
    network.config.rms_norm_eps *= 2
    found = [key(), key(tokenizer=words), key(tokenizer=template), key(model=network), key(model=rounded.bfloat16())]
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    found.append(key())
    torch.set_num_threads(threads)
    assert len(set(found)) == 6
    tiny.tokenizer(["Snow.", "What color is snow?"], padding=True)
    assert found[0] == key() == key(id="elsewhere", tokenizer=copy.deepcopy(tiny.tokenizer))


def test_a_stage_is_made_once_and_then_found(tmp_path):
    calls = []

    def make(work):
        calls.append(work)
        (work / "result.txt").write_text("done")
        return {"answer": float("nan")}

    first = once(tmp_path / "a", "toy", {"x": 1}, {}, make)
    second = once(tmp_path / "a", "toy", {"x": 1}, {}, make)
    assert (len(calls), first.reused, second.reused) == (1, False, True)
    assert (tmp_path / "a" / "result.txt").read_text() == "done"
    assert second.manifest["answer"] is None
    with pytest.raises(BadFile, match="another configuration"):
        once(tmp_path / "a", "toy", {"x": 2}, {}, make)


def test_a_stage_that_fails_is_not_there_and_goes_on_from_its_working_folder(tmp_path):
    def broken(work):
        (work / "resume").mkdir()
        (work / "resume" / "half").write_text("half")
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        once(tmp_path / "a", "toy", {}, {}, broken)
    assert read(tmp_path / "a") is None
    assert not (tmp_path / "a").exists()

    def make(work):
        assert (work / "resume" / "half").read_text() == "half"
        return {}

    once(tmp_path / "a", "toy", {}, {}, make)
    assert not (tmp_path / "a" / "resume").exists()


def test_a_folder_without_a_manifest_is_never_taken_for_a_result(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(BadFile, match="holds no finished"):
        once(tmp_path / "a", "toy", {}, {}, lambda work: {})


def test_a_manifest_that_is_not_ours_is_refused(tmp_path):
    (tmp_path / "a").mkdir()
    for text in ("{", "[]", "{}"):
        (tmp_path / "a" / "manifest.json").write_text(text)
        with pytest.raises(BadFile, match="not a manifest"):
            read(tmp_path / "a")


def test_an_output_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadFile, match="cannot be written"):
        once(tmp_path / "file" / "a", "toy", {}, {}, lambda work: {})


def test_json_is_valid_and_canonical(tmp_path):
    assert canonical({"b": 1, "a": (float("nan"), float("inf"))}) == '{"a":[null,null],"b":1}'
    write_json(tmp_path / "x.json", {"v": float("nan")})
    assert json.loads((tmp_path / "x.json").read_text()) == {"v": None}
    assert not list(tmp_path.glob(".*"))


def test_names_of_folders_are_safe():
    assert slug("Qwen/Qwen3-0.6B") == "Qwen-Qwen3-0.6B"
    assert slug("../../etc") == "etc"
    assert slug("..") == "unnamed"
