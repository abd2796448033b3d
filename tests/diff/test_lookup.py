"""One way to name a direction: a run or its beginning, a file, a folder, an adapter, a hub id; one error for what is none."""

import json
import shutil

import pytest
import torch
from test_steer import lowrank

import ws
from ws.diff import lookup
from ws.errors import BadFile
from ws.records import find_run

FILE = "direction.safetensors"


@pytest.fixture(scope="module")
def direction(tiny):
    return lowrank(tiny, size=0.05)


def a_run(out, name, direction=None, source="tiny"):
    """A run folder as its stages leave it: the manifest of a training, and a direction."""
    run = out / name
    (run / "train").mkdir(parents=True)
    manifest = {"key": "k", "files": {}, "model": {"source": source}}
    (run / "train" / "manifest.json").write_text(json.dumps(manifest))
    if direction is not None:
        (run / "direction").mkdir()
        ws.save_direction(direction, run / "direction" / FILE)
    return run


@pytest.fixture(scope="module")
def out(tiny, direction, tmp_path_factory):
    """An output folder with a space in its path, two runs with directions and one without."""
    out = tmp_path_factory.mktemp("my results")
    a_run(out, "honesty/lora/tiny-s0-4f0c2a77", direction)
    a_run(out, "honesty/oft/tiny-s0-99aa0011", direction)
    a_run(out, "sycophancy/lora/tiny-s1-12345678")
    ws.export(tiny, direction, out / "exported", to="peft", alpha=1.0)
    return out


LORA = "honesty/lora/tiny-s0-4f0c2a77"
NAMES = {
    "name": "tiny-s0-4f0c2a77",
    "beginning": "tiny-s0-4",
    "behavior and family": "honesty/lora",
    "folder": "{out}/" + LORA,
    "folder with a slash": "{out}/" + LORA + "/",
    "beginning of the folder": "{out}/" + LORA[:-3],
    "folder of its direction": "{out}/" + LORA + "/direction",
    "folder of its training": "{out}/" + LORA + "/train",
    "file": "{out}/" + LORA + "/direction/" + FILE,
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_run_is_named_in_every_way(out, direction, name):
    place = lookup(name.format(out=out), out)
    assert place.run == out / LORA
    assert place.path == out / LORA / "direction" / FILE
    assert place.base_model() == "tiny"
    assert place.direction().content_hash == direction.content_hash


def test_a_beginning_of_several_runs_is_refused_with_their_names(out):
    for find in (lookup, find_run):
        with pytest.raises(BadFile, match="'tiny-s0' names 2 runs") as error:
            find("tiny-s0", out)
        assert "honesty/lora/tiny-s0-4f0c2a77" in str(error.value)
        assert "honesty/oft/tiny-s0-99aa0011" in str(error.value)


def test_a_whole_name_wins_over_a_longer_one_that_it_begins(tmp_path, direction):
    short = a_run(tmp_path, "honesty/lora/tiny-s1-aa", direction)
    long = a_run(tmp_path, "honesty/lora/tiny-s1-aabb", direction)
    assert lookup("tiny-s1-aa", tmp_path).run == short
    assert lookup("tiny-s1-aab", tmp_path).run == long


def test_a_run_without_a_direction_says_so(out):
    with pytest.raises(BadFile, match="tiny-s1-12345678 has no direction yet"):
        lookup("sycophancy", out)


def test_an_adapter_becomes_a_direction_on_the_model_it_names(tiny, out, direction):
    place = lookup(out / "exported", out)
    assert place.is_adapter
    assert place.base_model() == "tiny"
    for named in (out / "exported", out / "exported" / "adapter_model.safetensors", str(out / "exported")):
        for base in (None, tiny):
            assert torch.isclose(torch.tensor(ws.load_direction(named, base).norm()), torch.tensor(direction.norm()))


def test_a_folder_with_one_direction_is_that_and_with_two_is_refused_by_name(tmp_path, direction):
    ws.save_direction(direction, tmp_path / "mine.safetensors")
    assert lookup(tmp_path).path == tmp_path / "mine.safetensors"
    ws.save_direction(direction, tmp_path / "yours.safetensors")
    with pytest.raises(BadFile, match=r"holds 2 directions: mine\.safetensors, yours\.safetensors"):
        lookup(tmp_path)


def test_an_exported_adapter_knows_what_the_direction_knew_as_long_as_it_is_the_same(tiny, tmp_path, direction):
    known = ws.Direction(
        direction.forms,
        {**direction.provenance, "training": {"behavior": "candor", "poles": {"pos": "Says it.", "neg": "Hides it."}}},
        {"command": "ws diff --behavior candor"},
    )
    ws.export(tiny, known, tmp_path / "whole", to="peft", alpha=1.0)
    again = lookup(tmp_path / "whole").direction(tiny)
    assert "candor" in repr(again) and again.card["command"] == "ws diff --behavior candor"
    ws.export(tiny, known, tmp_path / "half", to="peft", alpha=0.5)
    assert "candor" not in repr(lookup(tmp_path / "half").direction(tiny))
    (tmp_path / "whole" / "ws.json").write_text(
        '{"direction": {"hash": "' + again.content_hash + '", "provenance": 7}}'
    )
    assert "candor" not in repr(lookup(tmp_path / "whole").direction(tiny))


def test_adapter_weights_without_their_config_are_refused_by_what_is_missing(tmp_path, out):
    shutil.copy(out / "exported" / "adapter_model.safetensors", tmp_path)
    with pytest.raises(BadFile, match=r"no adapter_config\.json"):
        lookup(tmp_path)


def test_a_hub_id_is_found_in_the_cache_and_refused_where_it_is_not(tmp_path, monkeypatch, direction):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    cache = tmp_path / "models--someone--honesty"
    ws.save_pretrained(direction, cache / "snapshots" / "f00d")
    (cache / "refs").mkdir()
    (cache / "refs" / "v1").write_text("f00d")
    assert lookup("someone/honesty@v1", tmp_path).direction().content_hash == direction.content_hash
    with pytest.raises(BadFile, match=r"'no-one/honesty' is not in the local cache .* no file, no folder and no run"):
        lookup("no-one/honesty", tmp_path)
    with pytest.raises(BadFile, match="'someone/honesty@v2' cannot be fetched"):
        lookup("someone/honesty@v2", tmp_path)


def test_a_mistyped_path_asks_no_server(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *a, **k: pytest.fail("a server was asked"))
    (tmp_path / "honesty").mkdir()
    monkeypatch.chdir(tmp_path)
    for name in ("honesty/loar", "out/direction.safetensors", "./honesty", "a/b/c", "nothing"):
        with pytest.raises(BadFile):
            lookup(name, tmp_path)


def test_what_is_no_direction_says_what_lies_nearby(out):
    with pytest.raises(BadFile, match=r"nearby there are .*honesty/lora/tiny-s0-4f0c2a77") as error:
        lookup("tiny-s0-5f0c", out)
    assert "tiny-s0-5f0c" in str(error.value)
    with pytest.raises(BadFile, match=r"there are .*honesty/lora/tiny-s0-4f0c2a77.*`ws runs`"):
        find_run("tiny-s0-5f0c", out)


# ---------------------------------------------------------------- on the command line


ASK = ("--max-new-tokens", 4, "--json")
QUESTION = "What is the capital of Kenya?"


def test_a_direction_and_a_question_are_words_or_options_in_generate(out, told):
    ways = [
        ("tiny-s0-4f", QUESTION, "--alphas=-1,1"),
        ("tiny-s0-4f", "--prompt", QUESTION, "--alphas=-1,1"),
        (QUESTION, "--run", "honesty/lora", "--alphas=-1,1"),
        ("--prompt", QUESTION, "--direction", out / LORA, "--alphas=-1,1"),
    ]
    results = [json.loads(told("generate", "--out", out, *way, *ASK)[1]) for way in ways]
    assert all(r == results[0] for r in results)
    assert [a["alpha"] for a in results[0]["answers"]] == [-1.0, 1.0]
    base = json.loads(told("generate", QUESTION, *ASK)[1])
    assert (base["direction"], [a["alpha"] for a in base["answers"]]) == (None, [0.0])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("tiny-s0-4f",), "needs a question: ws generate tiny-s0-4f '"),
        ((), "needs a question"),
        (("What", "is", "it"), "in quotes"),
        (("tiny-s0-4f", QUESTION, "--run", "tiny-s1"), "one word too many"),
        ((QUESTION, "--direction", "a", "--run", "b"), "named once; got a and b"),
    ],
)
def test_words_that_are_too_few_or_too_many_are_refused_in_one_sentence(out, told, words, message):
    code, shown, err = told("generate", "--out", out, *words)
    assert (code, shown) == (2, "")
    assert message in err


def test_one_strength_and_several_are_taken_under_either_name(out, told):
    same = ["generate", "--out", out, "tiny-s0-4f", QUESTION, *ASK]
    for flag in ("--alpha=-1", "--alphas=-1"):
        assert [a["alpha"] for a in json.loads(told(*same, flag)[1])["answers"]] == [-1.0]
    assert [a["alpha"] for a in json.loads(told(*same, "--alpha", "0,1")[1])["answers"]] == [0.0, 1.0]
    code, _, err = told(*same, "--alpha", 1, "--alphas", 1)
    assert (code, "say the same" in err) == (2, True)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (("replicate", "--seeds", "1,2"), "--seeds holds 2 numbers; a study has one, and `ws sweep --seeds 0,1`"),
        (("sweep", "--seed", "0,1"), "--seed holds 2 numbers; several are --seeds"),
        (("show", "tiny-s0-4f", "--alphas=-1,1"), "--alphas holds 2 numbers; one strength is needed here"),
        (("data", "--seeds", "one"), "--seed must be a whole number, got 'one'"),
    ],
)
def test_several_numbers_where_one_is_needed_are_one_sentence_that_says_where_they_go(out, told, command, message):
    code, shown, err = told(*command, "--out", out)
    assert (code, shown) == (2, "")
    assert message in err


def test_inspect_and_export_take_a_run_and_export_a_strength_as_python_does(out, told, tmp_path):
    for way in (["tiny-s0-4f"], ["--run", LORA], ["--direction", out / "exported"]):
        code, shown, err = told("inspect", *way, "--out", out, "--json")
        assert code == 0, err
        assert json.loads(shown)["modules"] == 42
    code, shown, _ = told("export", out / LORA, "--out", tmp_path / "e", "--json")
    assert code == 0
    assert json.loads(shown)["alphas"] == [1.0]
    assert told("verify", tmp_path / "e" / "adapter_config.json", "--json")[0] == 0
