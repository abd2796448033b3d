"""The steps of a training, from the folder it left: `checkpoint-N` of transformers' Trainer, `step-N` of ours."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from ws.errors import BadFile
from ws.models.checkpoint import Theta
from ws.records import named_runs
from ws.watch.changes import Change, in_folder

STEP = re.compile(r"(?:checkpoint|step)-(\d+)")


@dataclass(frozen=True, eq=False)
class Training:
    """The steps of a training that lie in a folder, each with what had changed by then."""

    folder: Path
    steps: tuple[tuple[int, Change], ...]
    notes: tuple[str, ...]
    """Steps that are missing or cannot be read, a sentence each."""


def trainings(text: str, base: Theta, out: Path) -> list[Training]:
    """The trainings that a folder or run holds: one, or one for each side; none where it holds no steps."""
    path = Path(text).expanduser()
    if not path.exists() and len(runs := named_runs(text, out)) == 1:
        path = runs[0]
    folder = next((p for p in (path, path / "checkpoints", path / "train" / "checkpoints") if _steps_in(p)), None)
    if folder is None:
        return []
    by_side: dict[str, list[tuple[int, Change]]] = {}
    empty = []
    for step, place in _steps_in(folder):
        changes = list(in_folder(place, place.name, base))
        empty += [] if changes else [place.name]
        for change in changes:
            side = change.name.rpartition("/")[2] if "/" in change.name else ""
            by_side.setdefault(side, []).append((step, change))
    if not by_side:
        raise BadFile(f"{folder} holds {len(empty)} checkpoints, and none of them holds an adapter or a model.")
    notes = [f"{folder}/{name} holds no adapter and no model, and is left out." for name in empty]
    every = _interval(folder)
    found = []
    for side, steps in sorted(by_side.items(), reverse=True):  # pos before neg
        gap = gaps([step for step, _ in steps], every)
        own = [*notes, *([f"{folder}: {gap}"] if gap else [])]
        name = f"{path.name}/{side}" if side else path.name
        found.append(Training(folder, tuple((s, replace(c, name=name)) for s, c in steps), tuple(own)))
    return found


def _steps_in(folder: Path) -> list[tuple[int, Path]]:
    """The step folders in their order; an adapter or model of its own that lies beside them is none of them."""
    if not folder.is_dir():
        return []
    named = ((STEP.fullmatch(p.name), p) for p in folder.iterdir() if p.is_dir())
    return sorted((int(match[1]), p) for match, p in named if match)


def _interval(folder: Path) -> int | None:
    """How often the Trainer saved, as its last state says."""
    for _, place in reversed(_steps_in(folder)):
        try:
            every = json.loads((place / "trainer_state.json").read_text())["save_steps"]
            return int(every) if every and float(every).is_integer() else None
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None


def gaps(steps: Sequence[int], every: int | None = None) -> str:
    """What is missing between the first and the last of these steps, in words; empty where nothing is.

    Without `every` the smallest distance is taken for the usual one. The last step of a training may come early.
    """
    if len(steps) < 2:
        return ""
    every = every or min(b - a for a, b in pairwise(steps))
    lost = [step for a, b in pairwise(steps) for step in range(a + every, b, every)]
    if not lost:
        return ""
    listed = ", ".join(map(str, lost[:6])) + (f" and {len(lost) - 6} more" if len(lost) > 6 else "")
    are = "steps {} are" if len(lost) > 1 else "step {} is"
    return f"{are.format(listed)} missing between {steps[0]} and {steps[-1]}; the curve goes straight across the gap."
