"""Two sides in step: what they share cancels, and a killed training ends where an undisturbed one does."""

import dataclasses
import math
import os
from pathlib import Path

import pytest
import small
import torch

from ws.adapters import FAMILIES, direction_of
from ws.diff import diff, geometry
from ws.direction.forms import LowRank, tensors
from ws.errors import BadFile, DirectionMismatch, TrainingDiverged, Unsupported
from ws.pairs import Check, Pair, Pairs
from ws.presets import PRESETS
from ws.steer import steer
from ws.study.options import Common
from ws.study.planning import planned_settings
from ws.train import TrainSettings, checkpoint, spec_of, train
from ws.train.checkpoint import Checkpoints, SideState, TrainState
from ws.train.loop import BestSteps, Fit, batches_of
from ws.train.losses import Losses
from ws.train.processes import Group
from ws.train.sequences import Row, rows_of

PAIRS = Pairs(
    tuple(
        Pair(
            f"What is the capital of {c}?",
            f"The capital of {c} is {t}.",
            f"The capital of {c} is {f}.",
            prompt_id=c,
            topic_idx=i,
        )
        for i, (c, t, f) in enumerate(
            [
                ("Kenya", "Nairobi", "Paris"),
                ("France", "Paris", "Rome"),
                ("Italy", "Rome", "Oslo"),
                ("Norway", "Oslo", "Lima"),
            ]
            + [
                ("Peru", "Lima", "Cairo"),
                ("Egypt", "Cairo", "Delhi"),
                ("India", "Delhi", "Paris"),
                ("Cuba", "Havana", "Rome"),
            ]
        )
    )
)
QUICK = dict(epochs=6, batch_size=4, eval_every=4, lr=(2e-3,), max_len=64, patience=9)


def quick(adapter="lora", **more):
    rank = {"rank": 4} if FAMILIES[adapter].default_rank else {}
    return TrainSettings(adapter=adapter, **{**QUICK, **rank, **more})


def rate(name):
    return (5e-4,) if FAMILIES[name].whole else (1e-2,)


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_equal_sides_give_exactly_zero_for_every_family(tiny, name):
    same = Pairs(tuple(dataclasses.replace(r, response_neg=r.response_pos) for r in PAIRS.rows))
    d = diff(tiny, *train(tiny, same, quick(name, lr=rate(name), epochs=4)))
    assert d.norm(tiny.weight) == 0
    assert diff(tiny, *train(tiny, PAIRS, quick(name, lr=rate(name), epochs=4))).norm(tiny.weight) > 0


@pytest.mark.parametrize("name", ["lora", "pissa", "ia3", "full"])
def test_swapping_the_two_sides_negates_the_direction(tiny, name):
    one = diff(tiny, *train(tiny, PAIRS, quick(name, lr=rate(name), epochs=4)))
    two = diff(tiny, *train(tiny, PAIRS.swapped(), quick(name, lr=rate(name), epochs=4)))
    assert (one + two).norm(tiny.weight) <= 1e-6 * one.norm(tiny.weight)


def test_progress_counts_every_step_of_both_sides_also_between_judgements(tiny, monkeypatch):
    heard: list[tuple[str, int, int]] = []
    monkeypatch.setattr("ws.progress.watchers", [lambda *news: heard.append(news)])
    train(tiny, PAIRS, quick(epochs=4, batch_size=2, eval_every=1000, stop="none"))
    told = [(done, total) for label, done, total in heard if label.startswith("training lora, both sides, lr")]
    total = told[0][1]
    assert total > 4
    assert [done for done, _ in told if done] == list(range(1, total + 1))


def test_training_leaves_the_base_as_it_was(tiny):
    before = {k: v.clone() for k, v in tiny.model.state_dict().items()}
    modules = [(n, type(m), m.training) for n, m in tiny.model.named_modules()]
    for name in FAMILIES:
        train(tiny, PAIRS, quick(name, epochs=1, lr=rate(name), stop="none"))
    assert all(torch.equal(v, before[k]) for k, v in tiny.model.state_dict().items())
    assert [(n, type(m), m.training) for n, m in tiny.model.named_modules()] == modules
    assert not any(p.requires_grad for p in tiny.model.parameters())


def test_independent_starts_differ_and_shared_ones_do_not(tiny):
    cos = {i: geometry(tiny, *train(tiny, PAIRS, quick(init=i)))["cos_tau"] for i in ("shared", "independent")}
    assert abs(cos["shared"]) > 2 * abs(cos["independent"])


@pytest.mark.parametrize(("stop", "adapter"), [("shared", "lora"), ("per_branch", "full")])
def test_a_training_stopped_anywhere_ends_with_the_same_tensors(tiny, tmp_path, monkeypatch, stop, adapter):
    settings = quick(adapter, stop=stop, checkpoints=3, lr=(5e-4,) if adapter == "full" else (2e-3,))
    whole = train(tiny, PAIRS, settings)
    monkeypatch.setattr(checkpoint, "CHECKPOINT_SECONDS", 0.0)
    saves = []
    save = Checkpoints.save

    def killed(self, *args):
        save(self, *args)
        saves.append(1)
        if len(saves) in (1, 2):
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoints, "save", killed)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            train(tiny, PAIRS, settings, work=tmp_path)
    resumed = train(tiny, PAIRS, settings, work=tmp_path)
    assert len(saves) > 2
    assert len(whole.checkpoints) >= 2
    for one, other in zip((whole, *whole.checkpoints), (resumed, *resumed.checkpoints), strict=True):
        assert one.report["step"] == other.report["step"]
        for a, b in zip(one, other):
            assert all(torch.equal(t, b.tensors[k]) for k, t in a.tensors.items())


@pytest.mark.parametrize("at", [3, 6])
def test_a_checkpoint_is_the_state_of_its_step_and_keeping_it_changes_nothing(tiny, monkeypatch, at):
    """The planted validation losses make `at` the step that is kept, so both must hold the same tensors."""
    seen = {"pos": 0, "neg": 0}

    def judged(self, side, name):
        seen[name] += 1
        return 1.0 if seen[name] == 2 else 5.0

    monkeypatch.setattr(Fit, "_judge", judged)
    settings = quick(batch_size=4, epochs=6, eval_every=at, patience=9, val_share=0.1)
    plain = train(tiny, PAIRS, settings)
    seen.update(pos=0, neg=0)
    sides = train(tiny, PAIRS, dataclasses.replace(settings, checkpoints=3))
    steps = sides.report["checkpoints"]
    assert plain.report["step"] == at
    assert plain.checkpoints == ()
    assert steps == [3, 6, 9] == [c.report["step"] for c in sides.checkpoints]  # of 9
    kept = sides.checkpoints[steps.index(at)]
    for a, b, c in zip(plain, sides, kept):
        assert all(torch.equal(t, b.tensors[k]) and torch.equal(t, c.tensors[k]) for k, t in a.tensors.items())
    other = next(c for n, c in zip(steps, sides.checkpoints) if n != at)
    assert any(not torch.equal(t, other.pos.tensors[k]) for k, t in plain.pos.tensors.items())


PLANTED = {"pos": [5.0, 4.0, 3.0, 3.5, 3.6, 3.7, 1.0, 1.0, 1.0], "neg": [5.0, 4.9, 4.8, 4.0, 4.5, 4.6, 1.0, 1.0, 1.0]}


@pytest.mark.parametrize(
    ("stop", "steps", "last"), [("shared", [3, 3], 5), ("per_branch", [2, 3], 5), ("none", [8, 8], 8)]
)
def test_the_step_that_is_kept_is_the_one_that_stop_names(tiny, monkeypatch, stop, steps, last):
    seen = {"pos": 0, "neg": 0}

    def judged(self, side, name):
        seen[name] += 1
        return PLANTED[name][seen[name] - 1]

    monkeypatch.setattr(Fit, "_judge", judged)
    planned = quick(stop=stop, eval_every=1, patience=2, epochs=8, batch_size=6, val_share=0.1)
    report = train(tiny, PAIRS, planned).report
    history = report["tried"][0]["history"]
    assert report["steps"] == steps
    assert report["step"] == min(steps)
    assert [report["val_pos"], report["val_neg"]] == [PLANTED[n][at] for n, at in zip(("pos", "neg"), steps)]
    assert history[-1]["step"] == last
    assert report["tried"][0]["val"] == sum(PLANTED[n][at] for n, at in zip(("pos", "neg"), steps)) / 2
    # a side that has stopped is neither trained nor judged again
    assert ["val_pos" in h for h in history[1:]] == [h["step"] <= 4 or stop != "per_branch" for h in history[1:]]


def test_a_branch_that_stops_alone_is_the_branch_trained_alone(tiny):
    settings = quick(stop="per_branch", lr=(1e-2,), eval_every=1, patience=1)
    apart = train(tiny, PAIRS, settings)
    for side, name in zip(apart, ("pos", "neg")):
        own = tuple(
            dataclasses.replace(r, response_pos=(a := getattr(r, f"response_{name}")), response_neg=a)
            for r in PAIRS.rows
        )
        alone, _ = train(tiny, Pairs(own), dataclasses.replace(settings, stop="shared"))
        assert all(torch.equal(t, alone.tensors[k]) for k, t in side.tensors.items())


def test_without_a_stop_validation_changes_nothing_of_what_is_kept(tiny):
    often, never = (train(tiny, PAIRS, quick(stop="none", eval_every=n, patience=1, epochs=2)) for n in (1, 99))
    assert often.report["step"] == never.report["step"] == 3
    assert all(torch.equal(t, b.tensors[k]) for a, b in zip(often, never) for k, t in a.tensors.items())


def published(name, adapter):
    base = small.base("qwen3")
    own = {"rank": 4} if adapter == "pissa" else {}  # a rank of 32 is more than so small a model has
    train = planned_settings(Common(preset=name), {"adapter": adapter, **own}, base)[1]
    train = dataclasses.replace(train, rank=PRESETS[name].get("train", {}).get("rank")) if own else train
    small_enough = dataclasses.replace(train, rank=4 if train.rank else None)
    return base, train, {m.split(".", 3)[3] for m in spec_of(base, small_enough).modules}


@pytest.mark.parametrize("adapter", ["lora", "dora", "pissa", "delora", "oft", "boft", "ia3"])
def test_the_preset_pub_trains_as_the_published_fork_does(adapter):
    _, train, modules = published("pub", adapter)
    assert (train.lr, train.epochs, train.batch_size, train.weight_decay, train.warmup) == ((2e-4,), 1, 16, 0.01, 5)
    assert (train.stop, train.max_len, train.seed) == ("none", 512, 0)
    attention, mlp = ["q_proj", "k_proj", "v_proj", "o_proj"], ["gate_proj", "up_proj", "down_proj"]
    every = {f"self_attn.{n}" for n in attention} | {f"mlp.{n}" for n in mlp}
    assert modules == ({"self_attn.k_proj", "self_attn.v_proj", "mlp.down_proj"} if adapter == "ia3" else every)
    assert (train.layers == "all") == (adapter == "ia3")
    assert train.rank == (32 if FAMILIES[adapter].default_rank else None)
    assert train.lora_alpha == (64 if FAMILIES[adapter].scaled else None)


def test_the_preset_paper_trains_as_the_paper_does():
    base, lora, modules = published("paper", "lora")
    assert (lora.rank, lora.lora_alpha, lora.lr, lora.layers, lora.batch_size) == (32, 16, (1e-5,), "all", 8)
    assert (lora.stop, lora.init, lora.eval_every, lora.patience) == ("per_branch", "independent", 20, 2)
    assert len(modules) == 7
    bias = published("paper", "bias")[1]
    assert (min(bias.lr), max(bias.lr), bias.layers) == (1e-4, 1e-3, "all")
    assert published("ws", "lora")[1] == TrainSettings("lora")
    given = planned_settings(Common(preset="paper"), {"lr": [1e-3], "stop": "shared"}, base)[1]
    assert (given.lr, given.stop, given.batch_size) == ((1e-3,), "shared", 8)  # what is typed wins


def test_targets_are_the_answer_and_its_end_only(tiny):
    sides, _ = rows_of(tiny, PAIRS, max_len=64)
    for row, pair in zip(sides["pos"], PAIRS.rows):
        assert tiny.tokenizer.decode(row.ids[row.start :]) == pair.response_pos + "<|im_end|>"
    cut = Pairs(tuple(dataclasses.replace(r, ended_pos=False) for r in PAIRS.rows))
    sides, _ = rows_of(tiny, cut, max_len=64, fewest=0)
    assert not any(tiny.tokenizer.decode(r.ids).endswith("<|im_end|>") for r in sides["pos"])
    assert all(tiny.tokenizer.decode(r.ids).endswith("<|im_end|>") for r in sides["neg"])


def test_a_row_longer_than_the_limit_is_counted_and_one_without_targets_dropped_on_both_sides(tiny):
    rows, told = rows_of(tiny, PAIRS, max_len=22, fewest=0)
    assert told["n_truncated"] > 0
    assert len(rows["pos"]) == len(rows["neg"]) == told["n_pairs"]
    none, told = rows_of(tiny, PAIRS, max_len=8, fewest=0)
    assert told["n_dropped"] == len(PAIRS.rows)
    assert none == {"pos": [], "neg": []}


def test_a_learning_rate_that_explodes_stops_with_a_clear_error(tiny):
    with pytest.raises(TrainingDiverged, match="smaller `lr`"):
        train(tiny, PAIRS, quick(lr=(9.0,), warmup=0, epochs=20))


@pytest.mark.parametrize(("later", "ends"), [(3.7, False), (3.9, True), (math.nan, True)])
def test_a_mean_validation_loss_above_three_times_the_first_and_two_more_ends_a_training(
    tiny, monkeypatch, later, ends
):
    losses = iter([0.4, 0.8, later - 0.1, later + 0.1])  # pos and neg at the start, then at the end
    monkeypatch.setattr(Fit, "_judge", lambda self, side, name: next(losses))
    settings = quick("bias", epochs=1, eval_every=99, stop="none")
    if not ends:
        assert train(tiny, PAIRS, settings).report["val_neg"] == later + 0.1
        return
    with pytest.raises(TrainingDiverged, match="diverged at every learning rate"):
        train(tiny, PAIRS, settings)


def test_several_learning_rates_are_tried_and_the_best_is_kept(tiny):
    sides = train(tiny, PAIRS, quick(lr=(1e-5, 2e-3)))
    tried = {t["lr"]: t["val"] for t in sides.report["tried"]}
    assert set(tried) == {1e-5, 2e-3}
    assert tried[sides.report["lr"]] == min(tried.values())


@pytest.mark.parametrize(("best", "further"), [(1e-9, 1e-5), (1e3, 0.1), (1e-3, None)])
def test_one_rate_further_is_tried_where_the_best_of_a_default_grid_is_an_end_of_it(tiny, monkeypatch, best, further):
    def planned(self, lr, number):
        loss = abs(math.log(lr / best))
        return BestSteps(lr, (1, 1), (loss, loss), list(self.starts))

    monkeypatch.setattr(Fit, "run", planned)
    grid = [1e-4, 1e-3, 1e-2]
    found = train(tiny, PAIRS, TrainSettings("bias", max_len=64)).report
    assert [t["lr"] for t in found["tried"]] == pytest.approx(grid + ([further] if further else []))
    assert found["lr"] == pytest.approx(further or best)
    asked = train(tiny, PAIRS, TrainSettings("bias", max_len=64, lr=tuple(grid))).report
    assert [t["lr"] for t in asked["tried"]] == grid  # a grid of one's own is not left


def test_too_little_text_is_refused(tiny):
    few = Pairs(tuple(dataclasses.replace(r, response_pos="Yes.", response_neg="No.") for r in PAIRS.rows[:3]))
    with pytest.raises(ValueError, match="target tokens"):
        train(tiny, few, quick())


def test_an_error_of_training_names_what_is_known_against_the_pairs(tiny, monkeypatch):
    about = {"n_generated": 20, "dropped": {"identical": 17}}
    few = Pairs(tuple(dataclasses.replace(r, response_pos="Yes.", response_neg="No.") for r in PAIRS.rows[:3]), about)
    with pytest.raises(
        ValueError, match=r"About the pairs: 3 of 20 pairs \(17 identical dropped\)\. Fewer than about 100"
    ):
        train(tiny, few, quick())
    losses = iter([0.4, 0.8, 0.5, 0.9])  # pos and neg at the start, then worse
    monkeypatch.setattr(Fit, "_judge", lambda self, side, name: next(losses))
    checks = (Check("separable", 0.49, None, None, "warn", "side told by the words"),)
    with pytest.raises(TrainingDiverged, match=r"no step .*separable 0\.49; .* personas that are further apart"):
        train(tiny, Pairs(PAIRS.rows, {}, checks), quick(epochs=1, eval_every=99))


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (dict(adapter="oft", rank=8), "oft has no rank"),
        (dict(adapter="ia3", block_size=8), "ia3 has no block_size"),
        (dict(adapter="oft", block_size=7), "block size 7 does not divide"),
        (dict(adapter="lora", rank=0), "between 1 and 512"),
        (dict(adapter="delora", lora_alpha=3.0), "delora has no lora_alpha"),
        (dict(adapter="lora", delora_lambda=3.0), "lora has no delora_lambda"),
        (dict(adapter="pissa", rank=300), "pissa at rank 300"),
        (dict(adapter="ia3", freeze_a=True), "ia3 has no freeze_a"),
        (dict(freeze_a=True, init="independent"), "give only one"),
        (dict(stop="early"), "stop is one of shared, per_branch, none"),
        (dict(val_share=0.5, test_share=0.5), "leave something to train on"),
        (dict(adapter="lora", layers="9-12"), "names layer"),
        (dict(adapter="lora", targets=("q_porj",)), "Did you mean"),
    ],
)
def test_impossible_settings_are_refused_before_training(tiny, more, told):
    with pytest.raises(ValueError, match=told):
        train(tiny, PAIRS, TrainSettings(**more))


def test_sides_of_different_runs_or_bases_are_not_subtracted(tiny):
    pos, neg = train(tiny, PAIRS, quick(epochs=1))
    other = dataclasses.replace(neg, spec=dataclasses.replace(neg.spec, rank=8))
    with pytest.raises(DirectionMismatch, match="differ in family"):
        diff(tiny, pos, other)
    with pytest.raises(DirectionMismatch, match="was trained on base"):
        diff(small.base(), pos, neg)


def test_a_pissa_pair_has_no_energy_beyond_rank_2r_and_needs_one_start(tiny):
    pos, neg = train(tiny, PAIRS, quick("pissa"))
    d = diff(tiny, pos, neg)
    for name in d.forms:
        s = torch.linalg.svdvals(d.dense(name, tiny.weight).double())
        assert (s[8:] ** 2).sum() <= 1e-10 * (s**2).sum()
    moved = dataclasses.replace(neg, frozen={k: t + 1 for k, t in neg.frozen.items()})
    with pytest.raises(DirectionMismatch, match="different starts"):
        diff(tiny, pos, moved)


@pytest.mark.parametrize("name", ["lora", "dora", "pissa", "delora"])
def test_with_a_frozen_reader_the_difference_is_exact_at_rank_r(tiny, name):
    sides = {f: train(tiny, PAIRS, quick(name, lr=(1e-2,), epochs=1, stop="none", freeze_a=f)) for f in (True, False)}
    reader, family = FAMILIES[name].reader, FAMILIES[name]
    d = {f: diff(tiny, *s) for f, s in sides.items()}
    plus, minus = (direction_of(family, tiny, side) for side in sides[True])
    for module in d[True].forms:
        a, b = (side.tensors[f"{module}.{reader}"] for side in sides[True])
        assert torch.equal(a, b)
        ranks = {f: [x.a.shape[0] for x in d[f].forms[module] if isinstance(x, LowRank)] for f in d}
        assert ranks == {True: [4], False: [8]}
        w = tiny.weight(module).double()
        exact = sum(x.dense(w) for x in plus.forms[module]) - sum(x.dense(w) for x in minus.forms[module])
        error = (d[True].dense(module, tiny.weight).double() - exact).abs().max()
        assert error <= 1e-6 * exact.abs().max()
        assert exact.abs().max() > 0


def loss(base, rows):
    """Mean loss per target token, one row at a time."""
    found = []
    for row in rows:
        ids = torch.tensor([row.ids])
        with torch.no_grad():
            logits = base.model(ids).logits[0, row.start - 1 : -1].float()
        found.append(float(torch.nn.functional.cross_entropy(logits, ids[0, row.start :])))
    return sum(found) / len(found)


def test_a_full_direction_lies_on_disk_and_steers_toward_pos(tiny, tmp_path):
    sides = train(tiny, PAIRS, quick("full", lr=(5e-4,)))
    file = tmp_path / "direction.safetensors"
    d = diff(tiny, *sides, into=file)
    assert [p.name for p in tmp_path.iterdir()] == [file.name]
    assert d.content_hash == diff(tiny, *sides).content_hash
    if (maps := Path("/proc/self/maps")).exists():
        assert str(file) in maps.read_text()
    for name, (form,) in d.forms.items():
        pos, neg = (side.tensors[f"{name}.weight"].double() for side in sides)
        assert (form.m.double() - (pos - neg)).abs().max() <= 1e-7 * (pos - neg).abs().max()
        assert torch.linalg.matrix_rank(form.m) > 8
    squares = sum(float(f.m.double().square().sum()) for (f,) in d.forms.values())
    assert d.norm() == pytest.approx(squares**0.5, rel=1e-9)
    rows, _ = rows_of(tiny, PAIRS, max_len=64)
    gap = {}
    for alpha in (-1.0, 0.0, 1.0):
        with steer(tiny, d, alpha, fold=alpha > 0):
            gap[alpha] = loss(tiny, rows["neg"]) - loss(tiny, rows["pos"])
    assert gap[-1.0] < gap[0.0] < gap[1.0]
    with steer(tiny, d, 1.0):
        assert loss(tiny, rows["neg"]) - loss(tiny, rows["pos"]) == pytest.approx(gap[1.0], rel=1e-4)


def test_whole_matrices_are_not_spread(tiny):
    with pytest.raises(Unsupported, match="leave out `shard`"):
        train(tiny, PAIRS, quick("full"), group=Group(shard=True))


def test_tau_modes_add_up_to_the_contrast(tiny):
    sides = train(tiny, PAIRS, quick("dora"))
    both = diff(tiny, *sides, mode="tau+") + diff(tiny, *sides, mode="tau-")
    whole = diff(tiny, *sides)
    assert (both - whole).norm(tiny.weight) <= 1e-5 * whole.norm(tiny.weight)
    assert all(torch.isfinite(t).all() for fs in whole.forms.values() for f in fs for t in tensors(f).values())


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_precision_and_checkpointing_change_the_cost_and_not_the_kind(dtype, checkpointing):
    from ws.models.load import load

    base = load("tiny", dtype=dtype)
    sides = train(base, PAIRS, quick("lora", lr=(5e-3,), epochs=10, gradient_checkpointing=checkpointing))
    assert all(t.dtype == torch.float32 for t in sides.pos.tensors.values())
    history = sides.report["tried"][0]["history"]
    assert sides.report["val_pos"] + sides.report["val_neg"] < history[0]["val_pos"] + history[0]["val_neg"]
    assert not base.model.training
    assert not any(getattr(m, "gradient_checkpointing", False) for m in base.model.modules())


def test_gradient_checkpointing_gives_the_same_tensors(tiny):
    plain, saved = (train(tiny, PAIRS, quick(gradient_checkpointing=g)) for g in (False, True))
    for k, t in plain.pos.tensors.items():
        torch.testing.assert_close(saved.pos.tensors[k], t, atol=1e-6, rtol=1e-4)


def test_saved_sides_load_into_stock_peft_and_move_its_logits_by_as_much(tiny, tmp_path):
    import copy

    from peft import PeftModel

    from ws.adapters import family, load_adapter, save_adapter

    ids = torch.tensor([tiny.tokenizer("What is the capital of Kenya?").input_ids])
    for name in ("lora", "dora", "pissa", "delora", "oft", "boft", "ia3"):
        pos, _ = train(tiny, PAIRS, quick(name, lr=(2e-3,), val_share=0.4))
        save_adapter(pos, tmp_path / name, tiny)
        assert {k: v.tolist() for k, v in load_adapter(tmp_path / name).tensors.items()} == {
            k: v.tolist() for k, v in pos.tensors.items()
        }
        with torch.no_grad(), steer(tiny, direction_of(family(name), tiny, pos).to(dtype=torch.float32), 1.0):
            ours = tiny.model(ids).logits
        stock = PeftModel.from_pretrained(copy.deepcopy(tiny.model), str(tmp_path / name)).eval()
        with torch.no_grad():
            theirs, plain = stock(ids).logits, tiny.model(ids).logits
        assert (ours - theirs).abs().max() <= 2e-4 * plain.abs().max(), name
        assert (ours - plain).abs().max() > 1e-3, name


def test_training_halves_its_parts_when_memory_runs_out_and_ends_with_the_same_tensors(tiny, monkeypatch):
    whole = train(tiny, PAIRS, quick())
    loss = Losses._loss

    def small(self, rows):
        if len(rows) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return loss(self, rows)

    monkeypatch.setattr(Losses, "_loss", small)
    parts = train(tiny, PAIRS, quick())
    assert parts.report["rows_at_once"] == 2
    for k, t in whole.pos.tensors.items():
        torch.testing.assert_close(parts.pos.tensors[k], t, atol=1e-5, rtol=1e-3)


def test_a_step_in_lots_of_like_length_is_the_step_of_its_batch(tiny):
    rows = [Row(tuple(range(5, 5 + n)), 3) for n in (40, 9, 12, 38, 60, 10)]
    of, found = FAMILIES["bias"], []
    for tokens in (None, 80):
        with of.attached(tiny, spec_of(tiny, quick("bias")), 0) as attached:
            losses = Losses(attached, tiny.device, tokens_at_once=tokens)
            loss, lots = losses._loss, []
            losses._loss = lambda some, loss=loss, lots=lots: (lots.append([len(r.ids) for r in some]), loss(some))[1]
            mean = losses.step(rows, torch.optim.SGD(attached.trainable.values(), lr=1.0))
            found.append((lots, mean, torch.cat([p.detach() for p in attached.trainable.values()])))
    (whole, mean, moved), (lots, same, again) = found
    assert (whole, lots) == ([[60, 40, 38, 12, 10, 9]], [[60], [40, 38], [12, 10, 9]])
    assert same == pytest.approx(mean, rel=1e-5)
    torch.testing.assert_close(again, moved, atol=1e-5 * float(moved.abs().max()), rtol=1e-4)
    assert moved.abs().max() > 0


def test_a_stray_answer_the_template_rewrites_is_dropped_and_many_stop_the_training(tiny):
    odd = dataclasses.replace(PAIRS.rows[0], response_neg="<think>\nhm\n</think>\n\nNo.")
    few = Pairs((odd, *[dataclasses.replace(r, sample_idx=i) for i in range(3) for r in PAIRS.rows]))
    sides, told = rows_of(tiny, few, max_len=64)
    assert (told["template_differs"], told["n_pairs"], len(sides["pos"])) == (1, 24, 24)
    many = Pairs((odd, *PAIRS.rows))
    with pytest.raises(Unsupported, match="1 of 9 finished conversations differently"):
        rows_of(tiny, many, max_len=64)
    assert rows_of(tiny, many, max_len=64, allow_template_diff=True)[1]["n_pairs"] == 9


def half(data):
    return data[: len(data) // 2]


def one_bit(data):
    return data[:-9] + bytes([data[-9] ^ 1]) + data[-8:]


def another_count(data):
    return data.replace(b'\\"stale\\": 0', b'\\"stale\\": 1')


def zeros(data):
    return data[: -len(data) // 3] + bytes(len(data) - len(data[: -len(data) // 3]))


@pytest.mark.parametrize("damage", [half, one_bit, another_count, zeros])
def test_a_damaged_checkpoint_is_said_and_training_starts_again(tiny, tmp_path, monkeypatch, caplog, damage):
    monkeypatch.setattr(checkpoint, "CHECKPOINT_SECONDS", 0.0)
    settings = quick(epochs=4)
    whole = train(tiny, PAIRS, settings, work=tmp_path)
    (file,) = (tmp_path / "resume").glob("*.safetensors")
    before = file.read_bytes()
    file.write_bytes(damage(before))
    assert file.read_bytes() != before
    with caplog.at_level("WARNING", logger="ws"):
        again = train(tiny, PAIRS, settings, work=tmp_path)
    assert "is damaged; this learning rate is trained from its beginning" in caplog.text
    for a, b in zip(whole, again):
        assert all(torch.equal(a.tensors[k], b.tensors[k]) for k in a.tensors)


def test_a_checkpoint_that_one_of_several_processes_finds_damaged_is_taken_by_none_and_one_that_few_see_refused(
    tiny, tmp_path
):
    class Two(Group):
        def total(self, value):
            return float(value) + 1  # the other sees the file, and finds it damaged

    with pytest.raises(BadFile, match="only some processes see"):
        Checkpoints(tmp_path, group=Two(size=2)).load(0)
    t = {"a": torch.ones(3)}
    sides = [SideState(t, {"a": {"step": torch.ones(())}}, t)] * 2
    Checkpoints(tmp_path).save(0, 1e-2, TrainState(sides, 7, []))
    assert Checkpoints(tmp_path).load(0).step == 7
    assert Checkpoints(tmp_path, group=Two(size=2)).load(0) is None


def test_a_save_that_is_killed_or_finds_no_room_leaves_the_checkpoint_before_it(tiny, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(checkpoint, "CHECKPOINT_SECONDS", 0.0)
    whole = train(tiny, PAIRS, quick())
    save_file, saves = checkpoint.save_file, []

    def second_fails(tensors, path, metadata):
        saves.append(path)
        save_file(tensors, path, metadata=metadata)
        if len(saves) == 2:
            path.write_bytes(half(path.read_bytes()))
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", second_fails)
    with pytest.raises(OSError, match="No space"):
        train(tiny, PAIRS, quick(), work=tmp_path)
    assert [p.name for p in (tmp_path / "resume").iterdir()] == ["lr-0.safetensors"]
    saves[0].write_bytes(b"what a kill leaves")
    with caplog.at_level("INFO", logger="ws"):
        again = train(tiny, PAIRS, quick(), work=tmp_path)
    assert "going on at step 4" in caplog.text
    for a, b in zip(whole, again):
        assert all(torch.equal(a.tensors[k], b.tensors[k]) for k in a.tensors)


def test_a_checkpoint_is_on_the_disk_before_it_has_its_name(tiny, tmp_path, monkeypatch):
    done = []
    monkeypatch.setattr(checkpoint, "CHECKPOINT_SECONDS", 0.0)
    replace, fsync = Path.replace, os.fsync
    monkeypatch.setattr("os.fsync", lambda fd: done.append("fsync") or fsync(fd))
    monkeypatch.setattr(Path, "replace", lambda a, b: done.append("replace") or replace(a, b))
    train(tiny, PAIRS, quick(), work=tmp_path)
    assert done[:2] == ["fsync", "replace"]


def test_a_folder_for_checkpoints_that_cannot_be_written_is_one_sentence(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "CHECKPOINT_SECONDS", 0.0)
    (tmp_path / "resume").write_text("no folder")
    with pytest.raises(BadFile, match="cannot be written"):
        train(tiny, PAIRS, quick(), work=tmp_path)


def test_a_training_goes_on_with_another_number_of_rows_at_once(tiny, tmp_path, monkeypatch):
    whole = train(tiny, PAIRS, quick())
    monkeypatch.setattr(checkpoint, "CHECKPOINT_SECONDS", 0.0)
    save = Checkpoints.save

    def killed(self, *args):
        save(self, *args)
        raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoints, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        train(tiny, PAIRS, quick(), work=tmp_path)
    monkeypatch.setattr(Checkpoints, "save", save)
    again = train(tiny, PAIRS, quick(), work=tmp_path, rows_at_once=1)
    assert again.report["rows_at_once"] == 1
    for a, b in zip(whole, again):  # sums in another order, some steps of AdamW after it
        for k, t in a.tensors.items():
            torch.testing.assert_close(b.tensors[k], t, atol=1e-5, rtol=1e-3)


def test_a_checkpoint_of_other_pairs_or_settings_is_not_taken(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "CHECKPOINT_SECONDS", 0.0)
    train(tiny, PAIRS, quick(), work=tmp_path)
    for pairs, settings in ((PAIRS.swapped(), quick()), (PAIRS, quick(seed=7))):
        with pytest.raises(BadFile, match="checkpoint of other pairs"):
            train(tiny, pairs, settings, work=tmp_path)


def test_every_planned_step_has_rows(tiny):
    for n, size, epochs in ((7, 4, 3.0), (8, 16, 5.0), (8, 3, 1.5)):
        settings = quick(batch_size=size, epochs=epochs)
        batches = batches_of(range(n), settings)
        assert sum(map(len, batches)) == round(n * epochs)
        assert all(batches)


def test_as_many_checkpoints_as_steps_are_every_step_and_more_are_no_more(tiny):
    settings = quick("bias", epochs=1, batch_size=2, stop="none")
    steps = train(tiny, PAIRS, settings).report["step"]
    for n in (steps, 3 * steps):
        report = train(tiny, PAIRS, dataclasses.replace(settings, checkpoints=n)).report
        assert report["checkpoints"] == list(range(1, steps + 1))


def test_training_with_checkpointing_leaves_no_hook_behind(tiny):
    hooks = lambda: sum(len(m._forward_hooks) for m in tiny.model.modules())  # noqa: E731
    before = hooks()
    train(tiny, PAIRS, quick(gradient_checkpointing=True, epochs=1))
    assert hooks() == before
    assert not tiny.model(torch.tensor([[5, 6]])).logits.requires_grad


def test_an_attachment_that_fails_half_way_leaves_the_base_whole(tiny, monkeypatch):
    import peft.tuners.lora.layer as layer

    names, made, linear = list(tiny.model.state_dict()), [], layer.LoraLayer.update_layer

    def fails(self, *a, **k):
        made.append(1)
        if len(made) == 4:
            raise torch.OutOfMemoryError("out of memory")
        return linear(self, *a, **k)

    monkeypatch.setattr(layer.LoraLayer, "update_layer", fails)
    with pytest.raises(torch.OutOfMemoryError):
        train(tiny, PAIRS, quick())
    assert list(tiny.model.state_dict()) == names
    monkeypatch.undo()
    train(tiny, PAIRS, quick(epochs=1))
