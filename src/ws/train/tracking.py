"""Losses and settings handed to an experiment tracker, through accelerate's own trackers; off unless asked for.

A run of the tracker is one training at one learning rate, both sides in it: `val_pos`, `val_neg`, `train_pos`,
`train_neg`, by step. A training that was killed and goes on is a new run that begins with the steps done before.

A tracker that cannot start stops the training before its first step. One that fails later is left out from there on,
with a warning: hours of training do not hang on somebody's server.
"""

import importlib.util
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ws.errors import Failed, Unsupported
from ws.types import Tracker

log = logging.getLogger(__name__)

TRACKERS = {"trackio": "trackio", "wandb": "wandb", "mlflow": "mlflow", "tensorboard": "tensorboard"}
NAMED = {"trackio": "name", "wandb": "name", "mlflow": "run_name"}
"""The option by which each takes the name of a run."""
PROJECT = "ws"

Log = Callable[[Mapping[str, float]], None]
"""One row of a training's history, with its `step`."""


@dataclass(frozen=True)
class Tracking:
    """The trackers of a training, the settings that every run of theirs shows, and the folder for those that write files."""

    to: Sequence[str] = ()
    folder: Path | None = None
    config: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        refuse_missing(self.to)
        if "tensorboard" in self.to and self.folder is None:
            raise ValueError("tensorboard writes files; give Tracking a folder for them")

    @contextmanager
    def run(self, settings: Mapping[str, Any]) -> Iterator[Log]:
        """One run of every tracker; the block gets a function that logs one row."""
        if not self.to:
            yield lambda row: None
            return
        from accelerate import PartialState

        # not by an Accelerator: its end_training also ends the group of processes, which has more to train (1.15), and
        # a second one for the CPU is refused beside a group of accelerators
        PartialState(cpu=True)  # trackers ask it which process this is; where there is a group, that is made already
        parameters = {
            k: v if isinstance(v, (bool, int, float, str)) else str(v) for k, v in {**self.config, **settings}.items()
        }
        with ExitStack() as ends:
            running = {}
            for name in dict.fromkeys(self.to):
                running[name] = self._started(name, settings["lr"], parameters)
                ends.callback(_tell, running, name, _finish)

            def row(of: Mapping[str, float]) -> None:
                values = {k: v for k, v in of.items() if k != "step"}
                for name in [*running]:
                    _tell(running, name, lambda tracker: tracker.log(values, step=int(of["step"])))

            yield row

    def _started(self, name: str, lr: float, parameters: Mapping[str, object]) -> Tracker:
        """A new run of one tracker."""
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS

        options = {NAMED[name]: f"{self.config.get('run', PROJECT)}-lr{lr:g}"} if name in NAMED else {}
        try:
            where = [self._new_folder(lr)] if name == "tensorboard" else []
            with redirect_stdout(sys.stderr):  # what they print must not mix with results
                tracker = LOGGER_TYPE_TO_CLASS[name](PROJECT, *where, **options)
                tracker.start()
                tracker.store_init_configuration(dict(parameters))
        except Exception as e:  # each has errors of its own
            raise Failed(f"{name} cannot start a run ({_short(e)}); mend that, or leave it out of `report_to`.") from e
        return tracker

    def _new_folder(self, lr: float) -> Path:
        """A folder for one run; two runs in one would be drawn as one line that goes back and forth."""
        assert self.folder is not None
        n, folder = 1, self.folder / f"lr{lr:g}"
        while folder.exists():
            n += 1
            folder = self.folder / f"lr{lr:g}-{n}"
        folder.mkdir(parents=True)
        return folder


def _tell(running: dict[str, Tracker], name: str, what: Callable[[Tracker], object]) -> None:
    """Tell one tracker something, if it still runs; one that fails is told no more."""
    try:
        if name in running:
            with redirect_stdout(sys.stderr):
                what(running[name])
    except Exception as e:  # each has errors of its own
        log.warning("%s failed (%s) and is told no more of this training", name, _short(e))
        del running[name]


def _finish(tracker: Tracker) -> None:
    tracker.finish()
    if tracker.name == "trackio":  # accelerate 1.15 leaves it to finish once more when Python ends, on stdout
        import trackio

        trackio.finish()


def _short(e: Exception) -> str:
    """An error of another library in one short line."""
    return " ".join(f"{type(e).__name__}: {e}".split())[:240]


def refuse_missing(to: Sequence[str]) -> None:
    """Refuse a tracker that is not known or not installed, before any work."""
    if unknown := [t for t in to if t not in TRACKERS]:
        raise ValueError(f"`report_to` is {', '.join(TRACKERS)}; got {unknown[0]!r}")
    for name in to:
        spec = importlib.util.find_spec(TRACKERS[name])
        if spec is None or spec.origin is None:  # a folder that wandb left where it once ran is not wandb
            raise Unsupported(f"`report_to={name}` needs {name}, which is not installed: pip install {TRACKERS[name]}")


UNTRACKED = Tracking()
