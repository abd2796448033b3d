"""The steps of a training: read from its folder, or measured while it runs; the two agree, and nothing is disturbed."""

import json
import re

import pytest
import small
import torch
from test_angles import MODULES, change, folder_of, low
from test_tracking import Fake

from ws.errors import BadFile
from ws.models import open_checkpoint
from ws.results.plots import COLORS
from ws.train.tracking import TRACKERS, Tracking
from ws.watch import Watched, matrix
from ws.watch.checkpoints import gaps, trainings
from ws.watch.live import Meter
from ws.watch.pictures import LETTERS, curves
from ws.watch.trainer import WatchCallback

QUIET = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def theta(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    small.model("llama").save_pretrained(folder)
    return open_checkpoint(folder)


@pytest.fixture(scope="module")
def directions(theta):
    forms = [low(theta, seed, rank=4) for seed in range(5)]
    return Watched(
        change("w", forms[0]),
        tuple(change(f"permuted {k}", f) for k, f in enumerate(forms[1:4])),
        (change("c", forms[4]),),
    )


def trained(theta, folder, *callbacks, adapter=True, steps=6):
    """A few steps of transformers' Trainer on random tokens; the parameters it ends with."""
    import peft
    import transformers as tf

    torch.manual_seed(0)
    model = tf.AutoModelForCausalLM.from_pretrained(theta.folder)
    if adapter:
        model = peft.get_peft_model(model, peft.LoraConfig(r=4, lora_alpha=8, target_modules=list(MODULES)))
    rows = [{"input_ids": ids, "labels": ids} for ids in small.ids(24, 8)]
    arguments = tf.TrainingArguments(
        str(folder),
        max_steps=steps,
        per_device_train_batch_size=4,
        learning_rate=1e-2,
        save_steps=2,
        logging_steps=100,
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
        seed=3,
    )
    tf.Trainer(model, arguments, train_dataset=rows, callbacks=list(callbacks)).train()
    return {k: p.detach().clone() for k, p in model.named_parameters()}


def tracked(rows):
    return [{k: float(v) for k, v in row.items()} for row in rows]


@QUIET
@pytest.mark.parametrize("adapter", [True, False], ids=["adapter", "whole"])
def test_the_live_curve_is_that_of_the_checkpoints_and_the_training_is_the_same_with_and_without(
    theta, directions, tmp_path, monkeypatch, adapter
):
    import accelerate.tracking

    monkeypatch.setattr(Fake, "runs", [])
    monkeypatch.setitem(TRACKERS, "wandb", "json")  # a library that is there
    monkeypatch.setitem(accelerate.tracking.LOGGER_TYPE_TO_CLASS, "wandb", Fake)
    meter = Meter(theta, [directions])
    watching = WatchCallback(meter, every=2, tracking=Tracking(["wandb"]))
    with_it = trained(theta, tmp_path / "a", watching, adapter=adapter)
    without = trained(theta, tmp_path / "b", adapter=adapter)
    assert all(torch.equal(p, without[k]) for k, p in with_it.items())
    assert [row["step"] for row in meter.history] == [2, 4, 6]
    (training,) = trainings(str(tmp_path / "a"), theta, tmp_path / "out")
    assert [step for step, _ in training.steps] == [2, 4, 6]
    assert training.notes == ()
    stored = matrix([c for _, c in training.steps], [directions], theta, draws=0)
    for row, angle in zip(meter.history, stored):
        assert 0 < row["norm"] == pytest.approx(angle.norm, rel=1e-6)
        for key, value in (("cos", angle.cos), ("alphas", angle.alphas), ("z", angle.z)):
            assert row[f"w {key}"] == pytest.approx(value, rel=1e-4, abs=1e-7)
    assert meter.history[0]["w cos"] != meter.history[2]["w cos"]
    assert tracked(Fake.runs[0].rows) == meter.history


def test_a_loop_of_ones_own_measures_the_same_way(theta, directions):
    model = small.model("llama")
    meter = Meter(theta, [directions])
    assert meter.measure(model, 0)["norm"] == 0
    with torch.no_grad():
        for name, (f,) in directions.direction.forms.items():
            model.get_submodule(name).weight += 0.5 * f.b @ f.a
    row = meter.measure(model, 1)
    assert row["w alphas"] == pytest.approx(0.5, rel=1e-4)
    assert row["w cos"] == pytest.approx(1, rel=1e-5)


def test_an_alarm_is_said_once_when_it_is_first_raised(theta, directions, caplog):
    meter = Meter(theta, [directions])
    own = low(theta, 9, rank=4)
    for step, part in enumerate((0.0, 0.5, 1.0), start=1):
        meter.row({n: (*own[n], *(f.scaled(part) for f in directions.direction.forms[n])) for n in own}, step)
    assert [r.getMessage().split(":")[0] for r in caplog.records] == ["step 2 drifts toward w"]


def test_a_gap_in_a_folder_of_checkpoints_is_said_and_none_is_not(theta, tmp_path):
    for step in (10, 20, 50, 55):
        folder_of(small.base("llama"), tmp_path / "run" / f"checkpoint-{step}", low(theta, step))
    (tmp_path / "run" / "checkpoint-60").mkdir()
    (tmp_path / "run" / "runs").mkdir()
    (tmp_path / "run" / "checkpoint-55" / "trainer_state.json").write_text(json.dumps({"save_steps": 10}))
    (training,) = trainings(str(tmp_path / "run"), theta, tmp_path / "out")
    assert [s for s, _ in training.steps] == [10, 20, 50, 55]
    assert "checkpoint-60 holds no adapter and no model" in training.notes[0]
    assert "steps 30, 40 are missing between 10 and 55" in training.notes[1]
    assert gaps([10, 20, 30]) == "" == gaps([5]) == gaps([10, 20, 25], 10)
    assert trainings(str(tmp_path), theta, tmp_path / "out") == []


def test_both_sides_of_our_own_training_are_two_curves(theta, tmp_path):
    for step in (2, 4):
        for side in ("pos", "neg"):
            folder_of(
                small.base("llama"),
                tmp_path / "run" / "train" / "checkpoints" / f"step-{step}" / side,
                low(theta, step),
            )
    pos, neg = trainings(str(tmp_path / "run"), theta, tmp_path / "out")
    assert [c.name for _, c in pos.steps] == ["run/pos"] * 2
    assert [c.name for _, c in neg.steps] == ["run/neg"] * 2


def test_a_folder_whose_steps_hold_nothing_is_refused(theta, tmp_path):
    (tmp_path / "run" / "checkpoint-10").mkdir(parents=True)
    with pytest.raises(BadFile, match="none of them holds"):
        trainings(str(tmp_path / "run"), theta, tmp_path / "out")


def test_every_training_has_its_curve_and_a_long_heading_is_broken(theta, directions, tmp_path):
    (angle,) = matrix([change("ft", low(theta, 9))], [directions], theta)
    several = [(f"training-{k}", [0, 10], [angle, angle]) for k in range(len(COLORS) + 2)]
    title = "drift over the steps of " + ", ".join(name for name, _, _ in several)
    svg = curves(several, title, tmp_path / "curves")[1].read_text()
    assert all(f"<!-- {name}: cos -->" in svg for name, _, _ in several)
    words = re.findall(r"<!-- (.*?) -->", svg, re.DOTALL)
    assert max(len(line) for text in words for line in text.splitlines()) <= 5.4 * LETTERS < len(title)
