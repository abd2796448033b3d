"""The runs below an output folder, and the pairs they were trained on."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ws.errors import BadFile
from ws.eval.questions import RunPairs
from ws.records import read, verify
from ws.settings import coerced
from ws.study.stages import read_pairs
from ws.train import TrainSettings


def runs(out: Path) -> list[dict[str, Any]]:
    """Every run below an output folder: behavior, adapter, model, seed, and the stages that are done."""
    found = []
    for train_folder in sorted(out.glob("*/*/*/train")):
        manifest = read(train_folder)
        if manifest is None:
            continue
        run_folder = train_folder.parent
        evals = sorted({p.parent.parent.name for p in run_folder.glob("eval/*/[!.]*/manifest.json")})
        directions = sorted(p.parent.name for p in run_folder.glob("direction*/manifest.json"))
        found.append(
            {
                "behavior": run_folder.parent.parent.name,
                "adapter": run_folder.parent.name,
                "run": run_folder.name,
                "model": manifest["base"]["id"],
                "seed": manifest["settings"]["seed"],
                "stages": ["train", *directions, *(f"eval {e}" for e in evals)],
                "folder": str(run_folder.resolve()),
                "finished": manifest["finished"],
            }
        )
    return found


def pairs_of(manifest: Mapping[str, Any], out: Path) -> RunPairs:
    """The pairs a run was trained on, found by the key in its training's manifest, and its settings."""
    key = manifest["inputs"]["pairs"]
    for path in out.glob(f"data/*/*/{key[:12]}"):
        if (record := read(path)) and record["key"] == key:
            verify(path, record)
            settings = TrainSettings(**coerced(TrainSettings, manifest["settings"], source="the run's "))
            return RunPairs(read_pairs(path, record), settings)
    raise BadFile(f"the pairs of this run (key {key[:12]}) are not below {out}/data; give the `out` they were made in.")
