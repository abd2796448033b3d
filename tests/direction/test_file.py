"""A direction file is what was saved, byte for byte the same each time, and nothing else is taken for one."""

import weakref

import pytest
import torch
from safetensors.torch import load_file, save_file

from ws.direction import Direction, load, save
from ws.direction.file import Streamed
from ws.direction.forms import BiasShift, BlockRotation, ColScale, Dense, LowRank, RowScale
from ws.errors import BadFile


def a_direction():
    g = torch.Generator().manual_seed(0)
    r = lambda *s: torch.randn(*s, generator=g)  # noqa: E731
    forms = {
        "model.layers.0.q": (RowScale(r(8)), LowRank(r(8, 2), r(2, 4)), BiasShift(r(8))),
        "model.layers.1.q": (
            BlockRotation(r(2, 2, 2), r(8)),
            BlockRotation(r(1, 4, 4)),
            ColScale(r(4)),
            Dense(r(8, 4)),
        ),
    }
    return Direction(forms, {"base": {"fingerprint": "f" * 64, "id": "toy"}, "adapter": "mixed"})


def test_a_saved_direction_comes_back_whole(tmp_path):
    before = a_direction()
    after = load(save(before, tmp_path / "direction.safetensors"))
    assert after.content_hash == before.content_hash
    assert dict(after.provenance) == dict(before.provenance)
    assert (before * 2).content_hash != before.content_hash


def test_a_direction_written_module_by_module_is_the_direction_saved_whole(tmp_path):
    d, path = a_direction(), tmp_path / "streamed.safetensors"
    with Streamed(path) as file:
        for name, forms in reversed(d.forms.items()):
            file.add(name, forms)
        back = file.finish(d.provenance)
    assert back.content_hash == load(path).content_hash == d.content_hash
    assert load_file(path).keys() == load_file(save(d, tmp_path / "whole.safetensors")).keys()
    one = Direction({"model.layers.0.q": (Dense(torch.tensor([[float("nan")]])),)})
    with pytest.raises(BadFile, match="not finite"), Streamed(path) as file:
        file.add("model.layers.0.q", one.forms["model.layers.0.q"])
    assert load(path).content_hash == d.content_hash  # what fails leaves what was there
    assert sorted(p.name for p in tmp_path.iterdir()) == ["streamed.safetensors", "whole.safetensors"]


def test_writing_module_by_module_holds_two_modules_and_not_all(tmp_path):
    made = []

    def changes():
        for at in range(6):
            alive = sum(r() is not None for r in made)
            assert alive <= 1, "besides the one that is made now"
            m = torch.full((4, 4), float(at))
            made.append(weakref.ref(m))
            yield f"model.layers.{at}.q", (Dense(m),)
            del m

    with Streamed(tmp_path / "d.safetensors") as file:
        for name, forms in changes():
            file.add(name, forms)
        d = file.finish({})
    assert [float(f.m[0, 0]) for (f,) in d.forms.values()] == [0, 1, 2, 3, 4, 5]


def test_saving_twice_gives_the_same_bytes(tmp_path):
    one, two = save(a_direction(), tmp_path / "a.safetensors"), save(a_direction(), tmp_path / "b.safetensors")
    assert one.read_bytes() == two.read_bytes()
    assert save(a_direction() * 2, tmp_path / "c.safetensors").read_bytes() != one.read_bytes()


def test_tensors_that_share_bytes_are_written_each_for_itself(tmp_path):
    whole = torch.arange(12.0).reshape(4, 3)
    shared = LowRank(whole[:, :2], whole[:2].contiguous())
    d = Direction({"m.0.a": (shared,), "m.0.b": (shared,)})
    back = load(save(d, tmp_path / "d.safetensors"))
    for name in d.forms:
        assert torch.equal(back.forms[name][0].b, shared.b) and torch.equal(back.forms[name][0].a, shared.a)


def test_files_that_are_no_direction_are_refused_in_one_sentence(tmp_path):
    path = save(a_direction(), tmp_path / "direction.safetensors")
    whole = path.read_bytes()
    cases = {
        "truncated.safetensors": whole[: len(whole) // 2],
        "empty.safetensors": b"",
        "text.safetensors": b"hello there, this is not a tensor file at all",
    }
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(BadFile, match=name):
            load(tmp_path / name)
    save_file({"weight": torch.ones(2)}, tmp_path / "foreign.safetensors", metadata={"format": "pt"})
    with pytest.raises(BadFile, match="not a ws-direction"):
        load(tmp_path / "foreign.safetensors")
    (tmp_path / "w.pt").write_bytes(whole)
    with pytest.raises(BadFile, match="pickle"):
        load(tmp_path / "w.pt")
    with pytest.raises(BadFile, match="no direction file"):
        load(tmp_path / "nowhere.safetensors")


def test_values_that_are_not_finite_are_neither_written_nor_read(tmp_path):
    bad = Direction({"q": (RowScale(torch.tensor([1.0, float("nan")])),)})
    with pytest.raises(BadFile, match="not finite"):
        save(bad, tmp_path / "bad.safetensors")
    assert not list(tmp_path.iterdir())


def test_a_direction_cannot_be_changed():
    d = a_direction()
    with pytest.raises(TypeError):
        d.forms["x"] = ()
    with pytest.raises(AttributeError):
        d.forms = {}


@pytest.mark.parametrize(
    "head",
    [
        {"format": "ws-direction/1"},
        {"format": "ws-direction/1", "forms": [], "provenance": {}},
        {"format": "ws-direction/1", "forms": {"q": [["row"]]}, "provenance": {}},
        {"format": "ws-direction/1", "forms": {"q": ["row"]}, "provenance": None},
        {"format": "ws-direction/1", "forms": {"q": ["row"]}, "provenance": {"base": "text"}},
        {"format": "ws-direction/1", "forms": {"q": ["lowrank"]}, "provenance": {}},
        {"format": "ws-direction/1", "forms": {"q": ["magic"]}, "provenance": {}},
    ],
)
def test_a_hostile_header_is_refused_in_one_sentence(tmp_path, head):
    import json

    save_file({"q/0.d": torch.ones(2)}, tmp_path / "x.safetensors", metadata={"ws": json.dumps(head)})
    with pytest.raises(BadFile, match=r"x\.safetensors"):
        load(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    "tensors",
    [
        {"q/0.b": torch.ones(2, 3), "q/0.a": torch.ones(4, 5)},
        {"q/0.b": torch.ones(2), "q/0.a": torch.ones(2)},
        {"q/0.b": torch.ones(2, 3, dtype=torch.int64), "q/0.a": torch.ones(3, 5, dtype=torch.int64)},
    ],
)
def test_factors_that_are_no_factors_are_refused(tmp_path, tensors):
    import json

    head = {"format": "ws-direction/1", "forms": {"q": ["lowrank"]}, "provenance": {}}
    save_file(tensors, tmp_path / "x.safetensors", metadata={"ws": json.dumps(head)})
    with pytest.raises(BadFile):
        load(tmp_path / "x.safetensors")
