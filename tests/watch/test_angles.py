"""Angles are those of the matrices, whatever a change is stored as; what cannot be watched is one sentence."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import small
import torch
from safetensors.torch import load_file, save_file

from ws.adapters import Adapter, Spec, save_adapter
from ws.direction import Direction, save
from ws.direction.forms import BiasShift, BlockRotation, ColScale, Dense, LowRank, RowScale
from ws.errors import BadFile, DirectionMismatch, Unsupported, WsError
from ws.models import open_checkpoint
from ws.watch import Change, Watched, angles, auroc, fpr_at, matrix, opened
from ws.watch.alarm import Against, by_chance
from ws.watch.changes import without_folder
from ws.watch.tables import angle_sheet, parts_sheets, readings

MODULES = tuple(f"model.layers.{n}.{leaf}" for n in (1, 2) for leaf in ("self_attn.q_proj", "mlp.down_proj"))


@pytest.fixture(scope="module")
def base():
    return small.base("llama")


def low(base, seed, rank=2, modules=MODULES, start=None, size=0.1):
    """A low-rank change; with `start`, its readers are nearly those of that seed."""
    g, a = torch.Generator().manual_seed(seed), torch.Generator().manual_seed(seed if start is None else 1000 + start)
    forms = {}
    for name in modules:
        o, i = base.weight(name).shape
        reader = torch.randn(rank, i, generator=a) + (0 if start is None else 0.1 * torch.randn(rank, i, generator=g))
        forms[name] = (LowRank(size * torch.randn(o, rank, generator=g), reader),)
    return forms


def every_form(base, seed):
    """One form of every kind, and a sum of two."""
    g = torch.Generator().manual_seed(seed)
    q, down = MODULES[:2]
    (o, i), (p, j) = base.weight(q).shape, base.weight(down).shape
    return {
        q: (
            RowScale(torch.randn(o, generator=g)),
            LowRank(torch.randn(o, 2, generator=g), torch.randn(2, i, generator=g)),
        ),
        down: (BlockRotation(torch.randn(j // 8, 8, 8, generator=g)), BiasShift(torch.randn(p, generator=g))),
        MODULES[2]: (ColScale(torch.randn(i, generator=g)),),
        MODULES[3]: (Dense(torch.randn(p, j, generator=g)),),
    }


def flat(base, forms, scope=lambda name: True):
    """The whole change as one vector in float64, biases included."""
    parts = []
    for name in MODULES:
        if scope(name):
            own = Direction({name: forms.get(name, ())})
            w = base.weight(name).double()
            dense = sum(
                (f.dense(w.to(t.dtype)).double() for f in forms.get(name, ()) for t in [next(iter(vars(f).values()))]),
                torch.zeros_like(w),
            )
            bias = own.bias(name) if own.forms else None
            parts += [dense.flatten(), torch.zeros(w.shape[0]).double() if bias is None else bias.double()]
    return torch.cat(parts)


def change(name, forms, **more):
    return Change(name, forms, **more)


def test_angles_from_factors_are_those_of_the_matrices_in_every_form_and_scope(base):
    rows = [low(base, 0), every_form(base, 1), low(base, 6, modules=MODULES[:3])]
    columns = [low(base, 2, rank=5, modules=MODULES[1:]), every_form(base, 3)]
    table = angles([change("r", f) for f in rows], [change("c", f) for f in columns], base)
    for scope, group, inside in (
        ("global", "all", lambda name: True),
        ("layer", "1", lambda name: ".1." in name),
        ("kind", "mlp.down_proj", lambda name: "down" in name),
    ):
        r, c = (torch.stack([flat(base, f, inside) for f in side]) for side in (rows, columns))
        products, sizes = r @ c.mT, (r.norm(dim=1), c.norm(dim=1))
        cos = products / (sizes[0][:, None] * sizes[1])
        torch.testing.assert_close(table.norms(scope)[group], sizes[0], rtol=1e-5, atol=0)
        torch.testing.assert_close(table.cos(scope)[group], cos, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(table.projection(scope)[group], products / sizes[1].square(), rtol=1e-5, atol=1e-6)
    for shares in table.shares("layer"):
        whole = torch.stack(list(shares.values())).sum(0)
        torch.testing.assert_close(whole, torch.ones(len(whole)).double())


def test_random_directions_have_no_angle_and_the_norms_of_the_one_they_are_like(base):
    tau = low(base, 0, rank=4)
    table = angles([change("tau", tau)], [change("w", tau)], base, draws=40)
    drawn = table.random_cos()["all"]
    assert drawn.shape == (1, 1, 40)
    assert float(table.cos()["all"][0, 0]) == pytest.approx(1)
    assert abs(float(drawn[0, 0].mean())) < 4 * float(drawn[0, 0].std()) / 40**0.5
    assert 0 < float(drawn[0, 0].abs().max()) < 0.3


def test_a_start_that_two_changes_share_is_seen_and_one_they_do_not_share_is_not(base):
    made = [change("a", low(base, 1, rank=4, start=0)), change("b", low(base, 2, rank=4, start=0))]
    other = [change("c", low(base, 3, rank=4, start=1)), change("d", every_form(base, 1))]
    table = angles(made, [*made, *other], base)
    assert table.mode(0, 1) == "shared"
    assert table.mode(0, 2) == "independent"


# ---------------------------------------------------------------- the alarm


def nulls(base, n, start, first=100):
    return tuple(change(f"permuted {k}", low(base, first + k, rank=4, start=start)) for k in range(n))


def planted(base, seed, along, part, start=0):
    """A change of which `part` of a direction is a part, and the rest is its own."""
    own = low(base, seed, rank=4, start=start)
    return {n: (*own[n], *(f.scaled(part) for f in along[n])) for n in own}


def test_drift_toward_a_direction_raises_an_alarm_and_benign_training_does_not(base):
    w = low(base, 50, rank=4, start=0, size=0.2)
    against = Watched(change("w", w), nulls(base, 5, 0), (change("control", low(base, 60, rank=4, start=0)),))
    drifting = [change(f"t{k}", planted(base, k, w, 0.4)) for k in range(6)]
    benign = [change(f"b{k}", planted(base, 20 + k, w, 0.0)) for k in range(6)]
    found = matrix([*drifting, *benign], [against], base, draws=20)
    assert [a.alarm for a in found] == [True] * 6 + [False] * 6
    assert all(len(a.against.random) == 20 and len(a.against.permuted) == 5 for a in found)
    assert auroc([a.cos for a in found[:6]], [a.cos for a in found[6:]]).value == 1


def test_without_nulls_there_is_no_alarm_and_what_is_missing_is_named(base):
    bare = Watched(change("w", low(base, 50)))
    (angle,) = matrix([change("t", low(base, 50))], [bare], base, draws=20)
    assert angle.alarm is None
    assert angle.z is None
    assert angle.cos == pytest.approx(1)
    assert bare.missing() == ["permuted labels (0 of at least 3)", "control behavior", "ceiling"]


def test_nulls_of_another_initialisation_mode_are_refused_and_of_the_same_are_not(base):
    w = change("w", low(base, 50, rank=4, start=0))
    tau = change("tau", low(base, 51, rank=4, start=0))
    with pytest.raises(DirectionMismatch, match="same initialisation mode"):
        matrix([tau], [Watched(w, nulls(base, 3, start=7))], base)
    assert matrix([tau], [Watched(w, nulls(base, 3, start=0))], base)[0].start == "shared"


def test_a_control_of_another_start_is_not_taken_for_one(base):
    w, tau = (change(n, low(base, s, rank=4, start=0)) for n, s in (("w", 50), ("tau", 51)))
    there = Watched(w, nulls(base, 3, 0), (change("control", low(base, 60, rank=4, start=9)),))
    assert matrix([tau], [there], base)[0].against.control is None


def test_a_fine_tune_on_the_pairs_of_the_control_is_held_against_another_or_none(base):
    w = change("w", low(base, 50, rank=4, start=0))
    about = {"training": {"pairs": "c"}}
    controls = (
        change("c", low(base, 60, rank=4, start=0), provenance=about),
        change("d", low(base, 61, rank=4, start=0)),
    )
    control, other = (change(n, controls[0].forms, provenance=p) for n, p in (("c/pos", {"pairs": "c"}), ("x", {})))
    (alone, outside) = matrix([control, other], [Watched(w, nulls(base, 3, 0), controls[:1])], base)
    assert (alone.against.control, alone.alarm, alone.is_control) == (None, None, True)
    assert (outside.against.control, outside.is_control) == (pytest.approx(1), False)
    (both,) = matrix([control], [Watched(w, nulls(base, 3, 0), controls)], base)
    assert both.against.control < 0.5
    sheet = angle_sheet([alone, outside], "t")
    assert [line[0] for line in sheet.lines] == ["c/pos †", "x"]
    assert any("none to hold it against" in r for r in sheet.readings)
    assert not any("none to hold it against" in r for r in readings([outside]))


def test_more_than_the_ceiling_and_drift_to_the_other_pole_get_a_word(base):
    forms = low(base, 50, rank=4, start=0)
    w, back = change("w", forms), {n: tuple(f.scaled(-1.0) for f in own) for n, own in forms.items()}
    twin = change("same data", planted(base, 70, forms, 0.5))
    there = Watched(w, nulls(base, 3, 0), (), {"shared": (twin, twin)})
    near, far, benign = matrix(
        [change("near", forms), change("far", back), change("b", low(base, 5, rank=4, start=0))], [there], base
    )
    assert near.cos > near.ceiling
    assert far.z < -3 < benign.z
    for angle, word in ((near, "`of ceiling` above 100 %"), (far, "toward the other pole")):
        assert any(word in r for r in readings([angle]))
        assert not any(word in r for r in readings([benign]))


def test_the_rule_is_more_than_three_deviations_and_above_the_control():
    permuted = (-0.01, 0.0, 0.01)
    assert Against(permuted, control=0.02).alarm(0.031)
    assert not Against(permuted, control=0.02).alarm(0.029)
    assert not Against(permuted, control=0.04).alarm(0.031)
    assert Against(permuted).alarm(0.5) is None
    assert Against(permuted[:2], control=0.0).alarm(0.5) is None
    assert 0.05 < by_chance(3) < 0.07 > by_chance(5) > by_chance(50) > 0.001


def test_the_area_counts_pairs_and_its_interval_covers_what_it_should():
    pos, neg = [3.0, 2.0, 1.0], [2.0, 0.0]
    assert auroc(pos, neg).value == pytest.approx((2 + 1.5 + 1) / 6)
    whole = auroc(range(20, 40), range(20))
    assert whole.value == 1 == whole.high
    assert 0.8 < whole.low < 0.95  # all told apart, and still not certain
    rng, true = np.random.default_rng(0), 0.7602  # two normals one deviation apart
    hits = [
        found.low <= true <= found.high
        for _ in range(300)
        for found in [auroc(rng.normal(1, 1, 20).tolist(), rng.normal(0, 1, 40).tolist())]
    ]
    assert 0.91 < np.mean(hits) <= 0.99
    assert math.isnan(auroc([], neg).value)


def test_the_false_positive_rate_is_that_at_the_threshold_that_most_reach():
    pos, neg = list(range(10, 30)), [9.0, 10.5, 11.5, 3.0]
    assert fpr_at(pos, neg).value == 0.25  # 19 of 20 reach 11
    assert fpr_at([1.0] * 20, [1.0, 0.0]).value == 0.5  # at the threshold is enough
    none = fpr_at(range(20, 40), range(20))
    assert none.value == 0
    assert 0.1 < none.high < 0.25


# ---------------------------------------------------------------- files


def folder_of(base, path, forms):
    """A side of `ws train` whose change is these low ranks."""
    tensors = {}
    for name, (f,) in forms.items():
        tensors |= {f"{name}.lora_B.weight": f.b.contiguous(), f"{name}.lora_A.weight": f.a.contiguous()}
    spec = Spec("lora", tuple(sorted(forms)), rank=f.a.shape[0], lora_alpha=float(f.a.shape[0]))
    save_adapter(Adapter(spec, tensors, {}, base.described(), {"pairs": "p"}), path, base)
    return path


def test_adapters_checkpoints_and_directions_are_read_from_their_files_and_agree(base, tmp_path):
    torch.manual_seed(3)
    before = small.model("llama")
    before.save_pretrained(tmp_path / "base")
    theta = open_checkpoint(tmp_path / "base")
    forms = low(base, 4)
    with torch.no_grad():
        for name, (f,) in forms.items():
            before.get_submodule(name).weight += f.b @ f.a
    before.save_pretrained(tmp_path / "many" / "whole")
    folder_of(base, tmp_path / "many" / "adapter", forms)
    (tmp_path / "many" / "file").mkdir()
    save(Direction(forms, {"base": theta.described()}), tmp_path / "many" / "file" / "direction.safetensors")
    made = opened(str(tmp_path / "many"), theta, tmp_path / "out")
    assert [c.name for c in made] == ["many/adapter", "many/file", "many/whole"]
    assert [c.name for c in without_folder(made)] == ["adapter", "file", "whole"]
    sides = [replace(c, name=f"run/{side}") for c, side in zip(made, ("pos", "neg"))]
    assert [c.name for c in without_folder(sides)] == ["run/pos", "run/neg"]
    table = angles(made, made, theta)
    torch.testing.assert_close(table.cos()["all"], torch.ones(3, 3).double(), rtol=1e-5, atol=0)
    size = Direction(forms).norm()
    torch.testing.assert_close(table.norms()["all"], torch.full((3,), size).double(), rtol=1e-5, atol=0)


def test_fine_tunes_of_a_folder_come_by_their_numbers(base, tmp_path):
    names = ["ft-2", "ft-10", "other"]
    for name in names:
        folder_of(base, tmp_path / "many" / name, low(base, 4))
    assert [c.name for c in without_folder(opened(str(tmp_path / "many"), base, tmp_path / "out"))] == names


def test_what_cannot_be_watched_is_refused_in_one_sentence(base, tmp_path):
    folder_of(base, tmp_path / "a", low(base, 4))
    (tmp_path / "a" / "ws.json").unlink()

    def refused(error, words):
        with pytest.raises(error, match=words) as e:
            opened(str(tmp_path / "a"), base, tmp_path / "out")
        assert isinstance(e.value, WsError)
        assert "\n" not in str(e.value)

    config = tmp_path / "a" / "adapter_config.json"
    content = json.loads(config.read_text())
    config.write_text(json.dumps({**content, "modules_to_save": ["lm_head"]}))
    refused(Unsupported, "modules_to_save")
    config.write_text(json.dumps(content))
    tensors = load_file(tmp_path / "a" / "adapter_model.safetensors")
    broken = {k: t.clone() for k, t in tensors.items()}
    next(iter(broken.values()))[0, 0] = float("nan")
    save_file(broken, tmp_path / "a" / "adapter_model.safetensors")
    refused(BadFile, "not finite")
    (nothing := tmp_path / "nothing").mkdir()
    with pytest.raises(BadFile, match="no adapter"):
        opened(str(nothing), base, tmp_path / "out")


def test_another_base_is_refused(base, tmp_path):
    other = small.base("llama", seed=5)
    folder_of(other, tmp_path / "a", low(base, 4))
    save(Direction(low(base, 4), {"base": other.described()}), tmp_path / "d.safetensors")
    for name in ("a", "d.safetensors"):
        with pytest.raises(DirectionMismatch, match="base"):
            opened(str(tmp_path / name), base, tmp_path / "out")


def test_a_whole_fine_tune_with_a_nan_is_refused_when_it_is_read(base, tmp_path):
    small.model("llama").save_pretrained(tmp_path / "base")
    changed = small.model("llama")
    with torch.no_grad():
        changed.get_submodule(MODULES[0]).weight[0, 0] = float("nan")
    changed.save_pretrained(tmp_path / "ft")
    theta = open_checkpoint(tmp_path / "base")
    with pytest.raises(BadFile, match="not finite"):
        angles(opened(str(tmp_path / "ft"), theta, tmp_path / "out"), [], theta)


@pytest.fixture(scope="module")
def theta(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    small.model("llama").save_pretrained(folder)
    return open_checkpoint(folder)


def whole(folder, *, size=0.01, dtype=torch.float32, vocabulary=96, seed=0):
    """A whole fine-tune of `theta` at a folder: every matrix of its blocks a little off."""
    network = small.model("llama", dtype=dtype, vocabulary=vocabulary, seed=seed)
    with torch.no_grad():
        for name in MODULES:
            network.get_submodule(name).weight += size
    network.save_pretrained(folder)
    return folder


def test_a_fine_tune_in_a_hub_cache_is_found_and_called_by_its_id(theta, tmp_path):
    cached = tmp_path / "hub" / "models--some--ft"
    whole(cached / "snapshots" / "abc")
    (cached / "blobs").mkdir()
    for path in (cached, cached / "snapshots" / "abc", tmp_path / "hub"):
        (found,) = opened(str(path), theta, tmp_path / "out")
        assert found.name.endswith("some/ft")
        assert len(found.forms) == len(theta.linears)
    whole(cached / "snapshots" / "def")
    with pytest.raises(BadFile, match="holds 2 snapshots"):
        opened(str(cached), theta, tmp_path / "out")
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("def\n")
    (found,) = opened(str(cached), theta, tmp_path / "out")
    assert found.name == "some/ft"


def test_a_whole_model_from_another_start_is_no_fine_tune_and_is_refused(theta, tmp_path):
    with pytest.raises(DirectionMismatch, match="is no fine-tune of base"):
        opened(str(whole(tmp_path / "other", seed=5)), theta, tmp_path / "out")
    assert opened(str(whole(tmp_path / "own", size=0.1)), theta, tmp_path / "out")


def test_a_whole_fine_tune_says_what_is_left_out_and_what_its_file_rounds(theta, tmp_path):
    notes = {}
    for name, more in {"plain": {}, "half": dict(dtype=torch.bfloat16), "grown": dict(vocabulary=104)}.items():
        (found,) = opened(str(whole(tmp_path / name, **more)), theta, tmp_path / "out")
        notes[name] = found.notes
    assert notes["plain"] == ()
    assert notes["half"][-1].endswith("in float32: what that rounds is part of |tau|.")
    assert notes["half"][-1].startswith("half is stored in bfloat16")
    (one,) = notes["grown"]
    assert one.startswith("grown: 2 tensors outside the blocks' linear layers also differ and are left out, e.g. ")


def test_a_fine_tune_that_changed_nothing_has_no_angle_and_says_so(base):
    angle = matrix([change("still", {}), change("moved", low(base, 3))], [Watched(change("w", low(base, 1)))], base)
    sheet = angle_sheet(angle, "t")
    assert [line[1] for line in sheet.lines] == ["–", sheet.lines[1][1]] and sheet.lines[1][1] != "–"
    assert not any("nan" in cell for line in sheet.lines for cell in line)
    assert "still: every matrix that is compared is the base's, so there is no angle." in sheet.readings
    assert not any("moved: every" in r for r in sheet.readings)


def test_parts_lie_across_where_they_are_few_and_down_where_they_are_more_than_the_fine_tunes(base):
    """So that thirty layers of one fine-tune have room on a terminal."""
    w = Watched(change("w", low(base, 1)))
    few = parts_sheets(matrix([change("a", low(base, 2))], [w], base), "layer")[0]
    many = parts_sheets(matrix([change(f"f{k}", low(base, k)) for k in range(3)], [w], base), "layer")[0]
    assert few.columns == ("layer", "a", "random, sd", "share of |w|²")
    assert [line[0] for line in few.lines] == ["1", "2"]
    assert many.columns == ("fine-tune", "1", "2")
    assert [line[0] for line in many.lines] == ["f0", "f1", "f2", "random, sd", "share of |w|²"]
    assert few.lines[0][1] == f"{few.records[0]['cos']:+.3f}"
    kinds = parts_sheets(matrix([change(f"f{k}", low(base, k)) for k in range(3)], [w], base), "kind")[0]
    assert kinds.columns == ("fine-tune", "down_proj", "q_proj")
    sides = parts_sheets(matrix([change("long/pos", low(base, 2))], [w], base), "layer")[0]
    assert sides.columns[1] == "pos"  # its whole name stands in the table above


def test_a_fine_tune_on_the_pairs_of_the_direction_is_marked(base):
    w = change("w", low(base, 1), provenance={"training": {"pairs": "p"}})
    own, other = (change(n, low(base, 2), provenance={"pairs": p}) for n, p in (("own", "p"), ("other", "q")))
    assert [a.same_data for a in matrix([own, other, replace(own, provenance={})], [Watched(w)], base)] == [
        True,
        False,
        False,
    ]
