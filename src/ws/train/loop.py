"""The loop: sides in turns at one learning rate, and the learning rates one after another. A study has two, a task one."""

import logging
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import NotRequired, TypedDict

import torch

from ws.errors import TrainingDiverged
from ws.progress import Step, progress
from ws.train.checkpoint import Checkpoints, SideState, Tensors, TrainState
from ws.train.losses import Losses
from ws.train.sequences import Row
from ws.train.settings import TrainSettings
from ws.train.tracking import UNTRACKED, Tracking

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Examples:
    """Every side as training sequences, and the numbers of those that are learnt from and of those that are chosen on."""

    rows: dict[str, list[Row]]
    """A number that `train` holds twice is seen twice in a pass."""
    train: list[int]
    val: list[int]


@dataclass
class BestSteps:
    """A training at one learning rate: of each side, its best step with loss and tensors."""

    lr: float
    steps: tuple[int, ...]
    val: tuple[float, ...]
    states: list[Tensors]
    history: list[dict[str, float]] = field(default_factory=list)
    checkpoints: list[tuple[int, list[Tensors]]] = field(default_factory=list)
    """Steps that all sides reached and that stay beside the result, with the states of each."""

    @property
    def mean(self) -> float:
        """The validation loss of all sides."""
        return _mean(self.val)


class Attempt(TypedDict):
    """One learning rate in the report of a training; step and loss are None where it diverged."""

    lr: float
    step: int | None
    val: float | None
    history: NotRequired[list[dict[str, float]]]
    diverged: NotRequired[str]


@dataclass
class Fit:
    """Sides that take turns on one network; `run` trains them at one learning rate."""

    settings: TrainSettings
    examples: Examples
    starts: Sequence[Tensors]
    losses: Losses
    checkpoints: Checkpoints
    tracking: Tracking = UNTRACKED
    keep_every: int = 0
    """Steps between those that stay beside the result, instead of so many evenly spaced ones."""

    def __post_init__(self):
        self.names = tuple(self.examples.rows)
        self.batches = batches_of(self.examples.train, self.settings)
        n = self.settings.checkpoints
        self.marks = {max(1, round(k * len(self.batches) / n)) for k in range(1, n + 1)}
        """Steps whose sides stay beside the result."""
        if self.keep_every:
            self.marks |= set(range(self.keep_every, len(self.batches) + 1, self.keep_every))

    def run(self, lr: float, number: int) -> BestSteps:
        """Train both sides at one learning rate, from their start or from where a stopped training left them."""
        state, steps = self._state(number), len(self.batches)
        initial = _mean([state.history[0][f"val_{name}"] for name in self.names])
        sides = len(self.names)
        label = f"training {self.settings.adapter}, {'both sides, ' if sides == 2 else ''}lr {lr:g}"
        with (
            self.tracking.run({**asdict(self.settings), "lr": lr}) as report,
            progress(sides * steps, label, shown=self.losses.group.main) as tick,
        ):
            for row in state.history:
                report(row)
            tick(sides * state.step)
            while state.step < steps and any(side.stale < self.settings.patience for side in state.sides):
                val = self._round(state, lr, tick)
                report(state.history[-1])
                refuse_diverged(initial, _mean(val), state.step, lr)
                self._choose(state, val)
                self.checkpoints.save_sometimes(number, lr, state)
        ended = state.sides
        reached = sorted(set.intersection(*(set(side.checkpoints) for side in ended)))
        checkpoints = [(step, [side.checkpoints[step] for side in ended]) for step in reached]
        best, losses = tuple(side.step for side in ended), tuple(side.val for side in ended)
        return BestSteps(lr, best, losses, [side.best for side in ended], state.history, checkpoints)

    def _state(self, number: int) -> TrainState:
        """The state that a stopped training left, or every side at its start, judged."""
        state = self.checkpoints.load(number)
        if state is not None:
            log.info("going on at step %d of %d", state.step, len(self.batches))
            return state
        sides = [SideState(start) for start in self.starts]  # values are replaced and never written into
        for side, name in zip(sides, self.names):
            side.keep(0, self._judge(side, name))
        return TrainState(sides, 0, [{"step": 0, **{f"val_{n}": side.val for n, side in zip(self.names, sides)}}])

    def _round(self, state: TrainState, lr: float, tick: Step) -> list[float]:
        """One interval of every side that has not stopped, judged and added to the history; the losses of all."""
        until = min(state.step + self.settings.eval_every, len(self.batches))
        going = [(side, name) for side, name in zip(state.sides, self.names) if side.stale < self.settings.patience]
        row: dict[str, float] = {"step": until}
        for side, name in going:
            row[f"train_{name}"] = self._interval(side, name, lr, state.step, until, tick)
        for side, name in going:
            row[f"val_{name}"] = self._judge(side, name)
        state.step = until
        state.history.append(row)
        return [
            row.get(f"val_{name}", side.val) for side, name in zip(state.sides, self.names)
        ]  # one that stopped is as it was

    def _choose(self, state: TrainState, val: Sequence[float]) -> None:
        """Keep this step of both sides, of one, or of none, as `stop` says."""
        sides = state.sides
        if self.settings.stop == "shared":
            better = [sum(val) < sum(side.val for side in sides)] * len(sides)
        elif self.settings.stop == "per_branch":
            better = [v < s.val for s, v in zip(sides, val)]
        else:
            better = [True] * len(sides)
        for side, v, keep in zip(sides, val, better):
            if keep:
                side.keep(state.step, v)
            else:
                side.stale += 1

    def _interval(self, side: SideState, name: str, lr: float, start: int, until: int, tick: Step) -> float:
        """Train one side from step `start` to step `until`; its mean training loss."""
        attached = self.losses.attached
        attached.load(side.state)
        optimizer = self._optimizer(side, lr)
        total = 0.0
        for step in range(start, until):
            for group in optimizer.param_groups:
                group["lr"] = lr * schedule(step, len(self.batches), self.settings.warmup)
            total += self.losses.step([self.examples.rows[name][i] for i in self.batches[step]], optimizer)
            if not math.isfinite(total):
                raise TrainingDiverged(
                    f"the loss of the {name} side is not a number at step {step + 1} with lr {lr:g}; use a smaller `lr`."
                )
            if step + 1 in self.marks:
                side.checkpoints[step + 1] = {k: t.cpu() for k, t in attached.state().items()}
            tick(1)
        side.state = attached.state()
        side.moments = {key: optimizer.state[p] for key, p in attached.trainable.items()}
        return total / max(1, until - start)

    def _optimizer(self, side: SideState, lr: float) -> torch.optim.Optimizer:
        """AdamW with the moments that this side left, which it takes over and goes on writing into."""
        parameters = dict(self.losses.attached.trainable)
        optimizer = torch.optim.AdamW(parameters.values(), lr=lr, weight_decay=self.settings.weight_decay)
        for key, p in parameters.items():
            if key in side.moments:
                optimizer.state[p] = side.moments[key]
        return optimizer

    def _judge(self, side: SideState, name: str) -> float:
        """Validation loss per target token of one side."""
        self.losses.attached.load(side.state)
        return self.losses.mean([self.examples.rows[name][i] for i in self.examples.val])


def refuse_diverged(initial: float, val: float, step: int, lr: float) -> None:
    """Refuse a validation loss that is far above where it began."""
    if not math.isfinite(val) or val > 3 * initial + 2:
        raise TrainingDiverged(
            f"the validation loss went from {initial:.2f} to {val:.2f} at step {step} with lr {lr:g}; use a smaller `lr`."
        )


def batches_of(numbers: Sequence[int], settings: TrainSettings) -> list[list[int]]:
    """The rows of every step: each pass has all of them in a new order, and a last one may be cut short."""
    order = random.Random(f"order/{settings.seed}")
    flat: list[int] = []
    for _ in range(math.ceil(settings.epochs)):
        flat += order.sample(numbers, len(numbers))
    flat = flat[: max(1, round(settings.epochs * len(numbers)))]
    return [flat[i : i + settings.batch_size] for i in range(0, len(flat), settings.batch_size)]


def schedule(step: int, steps: int, warmup: int) -> float:
    """Linear warm-up, then linear decay to 0 over the rest."""
    if step < warmup:
        return (step + 1) / (warmup + 1) if steps > warmup else 1.0
    return max(0.0, (steps - step) / max(1, steps - warmup))


def _mean(val: Sequence[float]) -> float:
    """The mean of the sides."""
    return sum(val) / len(val)


# ---------------------------------------------------------------- learning rates


def best_rate(
    run: Callable[[float, int], BestSteps], grid: Sequence[float], *, extend: bool
) -> tuple[BestSteps, list[Attempt], list[str]]:
    """The outcome with the lowest validation loss over a grid, all attempts, and notes; `run(lr, number)` is one attempt.

    With `extend`, one rate further is tried where the best is an end of the grid.
    """
    notes: list[str] = []
    attempts: list[Attempt] = []
    best: BestSteps | None = None  # one at a time: a side may be as large as the model

    def attempt(lr: float) -> None:
        nonlocal best
        try:
            outcome = run(lr, len(attempts))
        except TrainingDiverged as e:
            attempts.append({"lr": lr, "step": None, "val": None, "diverged": str(e)})
            notes.append(str(e))
            return
        attempts.append({"lr": lr, "step": min(outcome.steps), "val": outcome.mean, "history": outcome.history})
        if best is None or (outcome.mean, outcome.lr) < (best.mean, best.lr):
            best = outcome

    ordered = sorted(grid)
    for lr in ordered:
        attempt(lr)
    if best is not None and extend and best.lr in (ordered[0], ordered[-1]):
        further = ordered[0] ** 2 / ordered[1] if best.lr == ordered[0] else ordered[-1] ** 2 / ordered[-2]
        notes.append(f"the best learning rate {best.lr:g} was an end of the grid, so {further:.2g} was tried too")
        attempt(further)
    if best is None:
        raise TrainingDiverged(
            f"training diverged at every learning rate tried ({', '.join(f'{x:g}' for x in grid)}); use a smaller `lr`."
        )
    if not any(best.steps):
        raise TrainingDiverged(
            "no step of training lowered the validation loss, so there is nothing to subtract; use another `lr` or more pairs."
        )
    return best, attempts, notes
