"""How a sweep is spoken of: its size, its tasks, times, and the command that goes on with it."""

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from ws.grid.axes import Grid
from ws.grid.look import Look
from ws.numbers import some
from ws.progress import duration

SERVER = "--generate-with"
AXIS_WORDS = {
    "behavior": ("behavior", "behaviors"),
    "adapter": ("family", "families"),
    "seed": ("seed", "seeds"),
    "model": ("model", "models"),
    "lr": ("learning rate", "learning rates"),
}


def axes(grid: Grid) -> str:
    """What a grid is made of, in a few words."""
    parts = []
    for name, (one, many) in AXIS_WORDS.items():
        values = {getattr(c, name) for c in grid.cells}
        if len(values) > 1 or name in ("behavior", "adapter"):
            parts.append(some(len(values), one, many))
    return " x ".join(parts)


STAGES = {
    "data": "pairs",
    "train": "trainings",
    "direction": "directions",
    "calibrate": "calibrations",
    "eval": "evaluations",
    "cell": "cells",
}


def counts(look: Look) -> dict[str, dict[str, int]]:
    """How many stages of each kind there are, and how many are done."""
    each = {kind: look.counted(kind) for kind in STAGES}
    needed = {"data", "train", "direction", "eval"}
    return {kind: {"all": n, "done": done} for kind, (n, done) in each.items() if n or kind in needed}


def stage_lines(look: Look) -> list[str]:
    """The same, a line for each."""
    return [f"  {STAGES[kind]:<12} {c['all']:>4}, {c['done']} done" for kind, c in counts(look).items() if c["all"]]


def task_name(task: str) -> str:
    """A task's name for people."""
    kind, _, rest = task.partition("/")
    return f"{ {'base': 'unsteered ', 'pairs': 'pairs ', 'sides': 'training '}.get(kind, '') }{rest}"


def doing(message: Mapping[str, Any]) -> str:
    """What a task says of itself."""
    far = f" {message['done']}/{message['of']}" if message.get("of") else ""
    return f"{message.get('doing', 'starting')}{far}"


def time_left(look: Look, workers: int = 1) -> str:
    """How long the rest of a grid may take so many workers, as far as anybody can know."""
    if look.unknown:
        lacking = ", ".join(f"{n} {STAGES.get(kind, kind)}" for kind, n in look.unknown.items())
        known = f"at least {duration(look.known / workers)}, and besides " if look.known else ""
        return f"left: {known}{lacking}, of which none was made here yet to tell how long one takes"
    if not look.seconds:
        return "nothing is left to do but the tables"
    return f"left: about {duration(look.seconds / workers)}, by the times of stages like these"


def command_without_address(words: Sequence[str]) -> str:
    """What a person would type to go on, as it may be written: the address of a server is theirs to fill in."""
    words = [re.sub(f"^{SERVER}=.*", f"{SERVER}=URL", w, flags=re.DOTALL) for w in ("ws", *words)]
    return shlex.join("URL" if before == SERVER else w for before, w in zip(["", *words], words))
