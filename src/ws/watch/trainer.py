"""A callback of transformers' Trainer that says, every few steps, how far the training has drifted.

    meter = Meter(open_checkpoint("Qwen/Qwen3-0.6B"), [watched("out/honesty/lora/...", base, out)])
    Trainer(..., callbacks=[WatchCallback(meter, every=10, tracking=Tracking(["tensorboard"], Path("logs")))])

It measures after every N-th step, and ends with the same weights as a training without it.
"""

from contextlib import ExitStack
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ws.settings import at_least
from ws.train.tracking import UNTRACKED, Log, Tracking
from ws.watch.live import Meter


class WatchCallback(TrainerCallback):
    """Measures every `every` steps; rows are kept in `meter.history` and go to the trackers in `tracking`."""

    def __init__(self, meter: Meter, *, every: int = 10, tracking: Tracking = UNTRACKED):
        at_least(1).check("every", every)
        self.meter, self.every, self.tracking = meter, every, tracking
        self.open = ExitStack()
        self.report: Log = lambda row: None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.is_world_process_zero:
            self.report = self.open.enter_context(self.tracking.run({"lr": args.learning_rate, "watch": True}))

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if state.is_world_process_zero and state.global_step % self.every == 0:
            self.report(self.meter.measure(kwargs["model"], state.global_step))

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.open.close()
