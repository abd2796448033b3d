"""Experiment trackers: told every step's losses and every setting, once, and only when asked for."""

import sys
from dataclasses import asdict

import pytest
from test_train import PAIRS, quick

from ws.cli import main
from ws.errors import Unsupported
from ws.tracking import TRACKERS, UNTRACKED, Tracking, refuse_missing
from ws.train import train


class Fake:
    """A tracker of accelerate's kind that only remembers."""

    runs: list["Fake"] = []  # noqa: RUF012
    name = "wandb"
    requires_logging_directory = False
    main_process_only = True
    tracker = None

    def __init__(self, project, **more):
        self.project, self.rows, self.config, self.finished = project, [], {}, False
        Fake.runs.append(self)

    def start(self):
        pass

    def store_init_configuration(self, values):
        self.config = values

    def log(self, values, step=None, **more):
        self.rows.append({"step": step, **values})

    def finish(self):
        self.finished = True


@pytest.fixture
def fake(monkeypatch):
    import accelerate.accelerator
    import accelerate.tracking

    Fake.runs = []
    monkeypatch.setitem(TRACKERS, "wandb", "json")  # a library that is there
    monkeypatch.setitem(accelerate.tracking.LOGGER_TYPE_TO_CLASS, "wandb", Fake)
    monkeypatch.setattr(accelerate.accelerator, "filter_trackers", lambda names, folder=None: names)
    return Fake.runs


def test_a_run_per_learning_rate_holds_every_row_of_the_history_and_every_setting(tiny, fake):
    settings = quick(lr=(1e-3, 2e-3))
    sides = train(tiny, PAIRS, settings, tracking=Tracking(["wandb"], config={"model": "tiny"}))
    assert len(fake) == 2
    for run, tried in zip(fake, sides.report["tried"]):
        assert run.project == "ws"
        assert run.finished
        assert run.rows == tried["history"]
        assert run.config["lr"] == tried["lr"]
        assert run.config["model"] == "tiny"
        assert set(asdict(settings)) <= set(run.config)
    assert {"train_pos", "train_neg", "val_pos", "val_neg"} <= set(fake[0].rows[-1])


def test_tracking_changes_no_number_and_is_off_unless_asked_for(tiny, fake):
    told = train(tiny, PAIRS, quick(), tracking=Tracking(["wandb"]))
    assert len(fake) == 1
    silent = train(tiny, PAIRS, quick(), tracking=UNTRACKED)
    assert len(fake) == 1
    assert told.report["val_pos"] == silent.report["val_pos"]


def test_a_training_that_goes_on_tells_the_steps_done_before(tiny, fake, tmp_path, monkeypatch):
    module = sys.modules["ws.train"]
    monkeypatch.setattr(module, "CHECKPOINT_SECONDS", 0.0)
    save = module._Fit._save

    def killed(self, *args):
        save(self, *args)
        raise KeyboardInterrupt

    monkeypatch.setattr(module._Fit, "_save", killed)
    with pytest.raises(KeyboardInterrupt):
        train(tiny, PAIRS, quick(), work=tmp_path, tracking=Tracking(["wandb"]))
    monkeypatch.setattr(module._Fit, "_save", save)
    sides = train(tiny, PAIRS, quick(), work=tmp_path, tracking=Tracking(["wandb"]))
    assert fake[0].finished  # also where it was interrupted
    assert fake[1].rows == sides.report["tried"][0]["history"]


def test_a_tracker_that_is_unknown_or_not_installed_is_refused_before_any_work(capsys, monkeypatch, tmp_path):
    with pytest.raises(ValueError, match="trackio, wandb, mlflow, tensorboard"):
        refuse_missing(["comet"])
    monkeypatch.setitem(TRACKERS, "mlflow", "not_installed")
    with pytest.raises(Unsupported, match="needs mlflow"):
        refuse_missing(["mlflow"])
    assert main(["train", "--out", str(tmp_path), "--report-to", "mlflow"]) == 2
    assert "--report-to mlflow needs mlflow, which is not installed: pip install" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
