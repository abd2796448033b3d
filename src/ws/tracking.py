"""Losses and settings handed to an experiment tracker, through accelerate's own trackers; off unless asked for.

A run of the tracker is one training at one learning rate, both sides in it: `val_pos`, `val_neg`, `train_pos`,
`train_neg`, by step. A training that was killed and goes on is a new run that begins with the steps done before.
"""

import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ws.errors import Unsupported

TRACKERS = {"trackio": "trackio", "wandb": "wandb", "mlflow": "mlflow", "tensorboard": "tensorboard"}
NAMED = {"trackio": "name", "wandb": "name", "mlflow": "run_name"}
"""What each calls the name of a run."""
PROJECT = "ws"

Log = Callable[[Mapping[str, float]], None]
"""One row of a training's history, with its `step`."""


@dataclass(frozen=True)
class Tracking:
    """Which trackers are told, what every run says of itself, and where files go of those that write some."""

    to: Sequence[str] = ()
    folder: Path | None = None
    config: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        refuse_missing(self.to)

    @contextmanager
    def run(self, settings: Mapping[str, Any]) -> Iterator[Log]:
        """A run of every tracker; the function it gives logs one row."""
        if not self.to:
            yield lambda row: None
            return
        from accelerate import Accelerator

        name = f"{self.config.get('run', PROJECT)}-lr{settings['lr']:g}"
        folder = None if self.folder is None else self.folder / f"lr{settings['lr']:g}"
        if folder is not None and "tensorboard" in self.to:
            folder.mkdir(parents=True, exist_ok=True)
        accelerator = Accelerator(cpu=True, log_with=list(self.to), project_dir=folder)
        told = {
            k: v if isinstance(v, (bool, int, float, str)) else str(v) for k, v in {**self.config, **settings}.items()
        }
        named = {tracker: {key: name} for tracker, key in NAMED.items() if tracker in self.to}
        with redirect_stdout(sys.stderr):  # what they print must not mix with results
            accelerator.init_trackers(PROJECT, config=told, init_kwargs=named)
        try:
            yield lambda row: accelerator.log({k: v for k, v in row.items() if k != "step"}, step=int(row["step"]))
        finally:
            with redirect_stdout(sys.stderr):
                accelerator.end_training()
                if "trackio" in self.to:  # accelerate 1.15 leaves it to finish once more when Python ends, on stdout
                    import trackio

                    trackio.finish()


def refuse_missing(to: Sequence[str]) -> None:
    """Refuse a tracker that is not known or not installed, before any work."""
    if unknown := [t for t in to if t not in TRACKERS]:
        raise ValueError(f"--report-to is {', '.join(TRACKERS)}; got {unknown[0]!r}")
    for name in to:
        if importlib.util.find_spec(TRACKERS[name]) is None:
            raise Unsupported(f"--report-to {name} needs {name}, which is not installed: pip install {TRACKERS[name]}")


UNTRACKED = Tracking()
