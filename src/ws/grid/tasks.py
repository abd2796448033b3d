"""A grid as tasks that need each other, and where a sweep keeps what it says of itself."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ws.behaviors import SHIPPED, load_behavior
from ws.engine import Task
from ws.eval import protocol, providing
from ws.grid.axes import Cell, Grid
from ws.presets import preset

FOLDER = "sweep"


def folder_of(grid: Grid) -> Path:
    """Where the state and the tables of a sweep lie; its studies lie where single verbs put them."""
    return Path(grid.common.out) / FOLDER / grid.name


def tasks_of(grid: Grid) -> list[Task]:
    """Everything that has to be done, shared work first; each study needs its pairs and the unsteered arms."""
    found: dict[str, Task] = {}
    protocols = preset(grid.common.preset, "protocol")
    for cell in grid.cells:
        common = _anywhere(grid.common_of(cell))
        options = grid.options(cell)
        pairs = f"pairs/{cell.model}/{cell.behavior}/s{cell.seed}"
        found.setdefault(pairs, Task(pairs, "ws.grid.study:pairs", {"common": common, "options": options}))
        needs = [pairs]
        for name in evals_of(grid, cell):
            if not protocol(name, protocols.get(name)).of_run:
                base = f"base/{cell.model}/{name}"
                given = {"common": common, "eval": name, "protocol": protocols.get(name)}
                found.setdefault(base, Task(base, "ws.grid.study:reference", given))
                needs.append(base)
        given = {
            "common": common,
            "options": options,
            "alphas": list(grid.alphas),
            "budget": grid.budget,
            "evals": evals_of(grid, cell),
            "protocols": protocols,
        }
        found[cell.name] = Task(cell.name, "ws.grid.study:study", given, tuple(needs))
    order = {"pairs": 0, "base": 0, "cell": 1}
    return sorted(found.values(), key=lambda t: order[t.name.partition("/")[0]])


def _anywhere(common: Mapping[str, Any]) -> dict[str, Any]:
    """What every verb understands, with its paths from wherever a worker stands; names stay names."""
    found = {**common, "out": str(Path(common["out"]).resolve())}
    if common["model"] != "tiny" and (folder := Path(common["model"]).expanduser()).is_dir():
        found["model"] = os.path.abspath(folder)
    for k in ("behavior", "pairs"):
        if common[k] is not None and common[k] not in SHIPPED and Path(common[k]).is_file():
            found[k] = os.path.abspath(common[k])
    return found


def evals_of(grid: Grid, cell: Cell) -> list[str]:
    """The evaluations of a cell: those that were named, or what `ws replicate` would run."""
    if grid.evals:
        return list(grid.evals)
    intent = intent_of(cell)
    named = [e for m, sign in intent.items() if sign and (e := providing(m))]
    return [*dict.fromkeys([*named, "pairs", "perplexity"])]


def intent_of(cell: Cell) -> Mapping[str, int]:
    """The metrics a cell's behavior makes a claim about, with the side it wants."""
    return load_behavior(cell.behavior, tiny=cell.model == "tiny").intent if cell.behavior else {}


def told_of(folder: Path) -> dict[str, Any] | None:
    """What a sweep said of itself when it was started."""
    try:
        return json.loads((folder / "sweep.json").read_text())
    except (OSError, ValueError):
        return None
