"""How a sweep is spoken of: its size, its tasks, and times."""

from collections.abc import Mapping
from typing import Any

from ws.grid.axes import Grid
from ws.numbers import some

AXES = {
    "behavior": ("behavior", "behaviors"),
    "adapter": ("family", "families"),
    "seed": ("seed", "seeds"),
    "model": ("model", "models"),
    "lr": ("learning rate", "learning rates"),
}


def axes(grid: Grid) -> str:
    """What a grid is made of, in a few words."""
    parts = []
    for name, (one, many) in AXES.items():
        values = {getattr(c, name) for c in grid.cells}
        if len(values) > 1 or name in ("behavior", "adapter"):
            parts.append(some(len(values), one, many))
    return " x ".join(parts)


def task_name(task: str) -> str:
    """A task's name for people."""
    kind, _, rest = task.partition("/")
    return f"{ {'base': 'unsteered ', 'pairs': 'pairs '}.get(kind, '') }{rest}"


def doing(message: Mapping[str, Any]) -> str:
    """What a task says of itself."""
    far = f" {message['done']}/{message['of']}" if message.get("of") else ""
    return f"{message.get('doing', 'starting')}{far}"


def duration(seconds: float) -> str:
    """A time as people say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
