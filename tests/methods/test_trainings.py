"""Methods that are trainings of their own: controls with shuffled labels, and checkpoints on the way."""

import json

import pytest
import torch
from test_train import PAIRS, quick

from ws import methods
from ws.data import DataSettings
from ws.diff import diff
from ws.errors import Unsupported
from ws.pairs import Pair, Pairs, save_pairs
from ws.study.plan import Plan
from ws.study.runs import runs
from ws.study.stages import make_pairs, make_sides, material
from ws.train import train

ONE = dict(epochs=2, eval_every=4, stop="none")


def rows(n):
    return Pairs(tuple(Pair(f"q{i}", f"yes {i}", f"no {i}", n_tok_pos=i, n_tok_neg=-i, topic_idx=i) for i in range(n)))


def test_shuffled_labels_swap_whole_pairs_by_a_coin_of_the_draw_and_nothing_else():
    pairs = rows(400)
    swapped = pairs.swapped()
    draws = [pairs.shuffled(n) for n in range(3)]
    for shuffled in draws:
        turned = [r == s for r, s in zip(shuffled.rows, swapped.rows)]
        assert all(r in (a, b) for r, a, b in zip(shuffled.rows, pairs.rows, swapped.rows))
        assert 160 < sum(turned) < 240  # a fair coin: 4 sd
    assert draws[0].content_hash == pairs.shuffled(0).content_hash
    assert len({p.content_hash for p in (*draws, pairs, swapped)}) == 5
    assert swapped.swapped().content_hash == pairs.content_hash


def test_a_control_is_the_direction_of_its_own_shuffled_pairs_and_no_run(tiny, tmp_path):
    save_pairs(PAIRS, tmp_path / "pairs.jsonl")
    plan = Plan(tiny, None, DataSettings(), quick(**ONE), out=tmp_path / "out", pairs_file=tmp_path / "pairs.jsonl")
    study = material(plan, {"ia3": quick("ia3", **ONE)})
    made = {name: methods.make(name, study) for name in ("random:labels:0", "random:labels:1", "random:labels:1:ia3")}
    assert {m.name for m in made.values()} == set(made)
    assert len({m.content_hash for m in made.values()}) == 3
    alone = diff(tiny, *train(tiny, make_pairs(plan)[0].shuffled(1), quick("ia3", **ONE)))
    found = made["random:labels:1:ia3"].direction
    assert (alone - found).norm(tiny.weight) == 0 < found.norm(tiny.weight)
    assert found.provenance["labels"] == 1
    assert runs(tmp_path / "out") == []
    assert len(list((tmp_path / "out").glob("pairs/controls/*/*/train/manifest.json"))) == 3
    assert methods.make("random:labels:1", study).content_hash == made["random:labels:1"].content_hash


def test_what_a_control_needs_is_known_by_name():
    needs = methods.needs("random:labels:3:ia3")
    assert (needs.kin, needs.adapter, needs.answers, needs.seed, needs.trains) == (
        "random:labels:ia3", "ia3", True, "draw", True,
    )  # fmt: skip
    assert not methods.needs("random:spectrum:3").trains
    assert methods.selection(["random:labels"], draws=2) == ["random:labels:0", "random:labels:1"]
    for name, told in (("random:labels:x", "random:FORM:NUMBER"), ("random:labels:0:lorra", "no adapter")):
        with pytest.raises(ValueError, match=told):
            methods.check(name)


def test_checkpoints_lie_beside_the_result_and_are_arms(tiny, tmp_path):
    save_pairs(PAIRS, tmp_path / "pairs.jsonl")
    settings = quick(epochs=4, eval_every=4, stop="none", checkpoints=3)
    plan = Plan(tiny, None, DataSettings(), settings, out=tmp_path / "out", pairs_file=tmp_path / "pairs.jsonl")
    study = material(plan)
    arm = methods.make("ft:lora:2", study)
    sides, record = make_sides(plan, make_pairs(plan)[0])
    assert record.reused
    steps = record.manifest["report"]["checkpoints"]
    assert len(steps) == 3 and steps[-1] == record.manifest["report"]["step"]
    assert sorted(p.name for p in (record.folder / "checkpoints").iterdir()) == sorted(f"step-{n}" for n in steps)
    ours = json.loads((record.folder / f"checkpoints/step-{steps[1]}/pos/ws.json").read_text())
    assert ours["provenance"]["step"] == steps[1]
    for mode, part in (("tau+", arm.direction), ("tau-", arm.below)):
        assert part.content_hash == diff(tiny, *sides.checkpoints[1], mode=mode).content_hash
        assert part.content_hash != diff(tiny, *sides, mode=mode).content_hash
    assert (arm.name, arm.bound) == ("ft:lora:2", 1.0)
    last, end = (methods.make(name, study).direction for name in ("ft:lora:3", "ft:lora"))
    assert all(torch.equal(form.b, end.forms[name][0].b) for name, (form,) in last.forms.items())
    with pytest.raises(Unsupported, match="`checkpoints=4` or more"):
        methods.make("ft:lora:4", study)
    for name in ("ft:lora:0", "ft:lora:x", "ft:lora:1:2"):
        with pytest.raises(ValueError, match="N-th checkpoint"):
            methods.check(name)
    assert methods.needs("ft:lora:2").checkpoint == 2
