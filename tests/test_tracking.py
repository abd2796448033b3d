"""Experiment trackers: told every step's losses and every setting, once, and only when asked for."""

from dataclasses import asdict

import pytest
from test_train import PAIRS, quick

from ws.cli import main
from ws.errors import Failed, Unsupported
from ws.train import checkpoint, train
from ws.train.tracking import TRACKERS, UNTRACKED, Tracking, refuse_missing


class Fake:
    """A tracker of accelerate's kind that only remembers."""

    runs: list["Fake"] = []  # noqa: RUF012
    name = "wandb"
    requires_logging_directory = False
    main_process_only = True
    tracker = None

    def __init__(self, project, **more):
        self.project, self.rows, self.config, self.finished = project, [], {}, False
        self.named = more
        Fake.runs.append(self)

    def start(self):
        print("what trackers print")

    def store_init_configuration(self, values):
        self.config = values

    def log(self, values, step=None, **more):
        self.rows.append({"step": step, **values})

    def finish(self):
        self.finished = True


class Broken(Fake):
    """One that fails at one of its methods, the second time for `log`."""

    at = "start"

    def start(self):
        if self.at == "start":
            raise ConnectionError("nobody\nis logged in")

    def log(self, values, step=None, **more):
        super().log(values, step)
        if self.at == "log" and len(self.rows) == 2:
            raise ConnectionError("the server is gone")

    def finish(self):
        if self.at == "finish":
            raise ConnectionError("the server is gone")
        super().finish()


@pytest.fixture
def fake(monkeypatch):
    import accelerate.tracking

    Fake.runs = []
    for name, kind in (("wandb", Fake), ("mlflow", Broken)):
        monkeypatch.setitem(TRACKERS, name, "json")  # a library that is there
        monkeypatch.setitem(accelerate.tracking.LOGGER_TYPE_TO_CLASS, name, kind)
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


def test_several_trackers_are_told_the_same_each_once_and_print_nothing_among_the_results(
    tiny, fake, monkeypatch, capsys
):
    monkeypatch.setattr(Broken, "at", "never")
    sides = train(tiny, PAIRS, quick(), tracking=Tracking(["wandb", "mlflow", "wandb"], config={"run": "r"}))
    assert [type(run) for run in fake] == [Fake, Broken]
    assert [run.named for run in fake] == [{"name": "r-lr0.002"}, {"run_name": "r-lr0.002"}]
    assert all(run.rows == sides.report["tried"][0]["history"] and run.finished for run in fake)
    assert capsys.readouterr().out == ""


def test_a_tracker_that_cannot_start_stops_the_training_in_one_sentence_and_the_others_are_ended(tiny, fake):
    with pytest.raises(Failed, match=r"mlflow cannot start a run \(ConnectionError: nobody is logged in\)"):
        train(tiny, PAIRS, quick(), tracking=Tracking(["wandb", "mlflow"]))
    assert fake[0].finished
    assert fake[0].rows == []


@pytest.mark.parametrize(("at", "rows"), [("log", 2), ("finish", 99)])
def test_a_tracker_that_fails_later_costs_no_training_and_is_said_once(tiny, fake, monkeypatch, caplog, at, rows):
    monkeypatch.setattr(Broken, "at", at)
    sides = train(tiny, PAIRS, quick(), tracking=Tracking(["mlflow", "wandb"]))
    history = sides.report["tried"][0]["history"]
    assert len(history) > 2
    assert fake[0].rows == history[:rows]
    assert fake[1].rows == history
    assert fake[1].finished
    assert caplog.text.count("mlflow failed (ConnectionError: the server is gone)") == 1


def test_tensorboard_needs_a_folder_and_a_training_that_goes_on_gets_one_of_its_own(fake, monkeypatch, tmp_path):
    import accelerate.tracking

    class Board(Fake):
        def __init__(self, project, folder):
            super().__init__(project)
            self.folder = folder

    monkeypatch.setitem(TRACKERS, "tensorboard", "json")
    monkeypatch.setitem(accelerate.tracking.LOGGER_TYPE_TO_CLASS, "tensorboard", Board)
    with pytest.raises(ValueError, match="give Tracking a folder"):
        Tracking(["tensorboard"])
    for _ in range(2):
        with Tracking(["tensorboard"], tmp_path).run({"lr": 1e-3}) as row:
            row({"step": 0, "val_pos": 1.0})
    assert [run.folder.name for run in fake] == ["lr0.001", "lr0.001-2"]
    (tmp_path / "file").write_text("no folder")
    with (
        pytest.raises(Failed, match="tensorboard cannot start a run"),
        Tracking(["tensorboard"], tmp_path / "file").run({"lr": 1e-3}),
    ):
        pass


def test_tracking_changes_no_number_and_is_off_unless_asked_for(tiny, fake):
    told = train(tiny, PAIRS, quick(), tracking=Tracking(["wandb"]))
    assert len(fake) == 1
    silent = train(tiny, PAIRS, quick(), tracking=UNTRACKED)
    assert len(fake) == 1
    assert told.report["val_pos"] == silent.report["val_pos"]


def test_a_training_that_goes_on_tells_the_steps_done_before(tiny, fake, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "CHECKPOINT_SECONDS", 0.0)
    save = checkpoint.Checkpoints.save

    def killed(self, *args):
        save(self, *args)
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint.Checkpoints, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        train(tiny, PAIRS, quick(), work=tmp_path, tracking=Tracking(["wandb"]))
    monkeypatch.setattr(checkpoint.Checkpoints, "save", save)
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
    (tmp_path / "left_by_a_run").mkdir()  # trackers leave folders of their own name, which Python takes for packages
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(TRACKERS, "mlflow", "left_by_a_run")
    with pytest.raises(Unsupported, match="needs mlflow"):
        refuse_missing(["mlflow"])
    assert [p.name for p in tmp_path.iterdir()] == ["left_by_a_run"]
