"""The runs below an output folder."""

from pathlib import Path

from ws.records import read
from ws.types import Json


def runs(out: Path) -> list[Json]:
    """Every run below an output folder: behavior, adapter, model, seed, and the stages that are done."""
    records = []
    for train_folder in sorted(out.glob("*/*/*/train")):
        manifest = read(train_folder)
        if manifest is None:
            continue
        run_folder = train_folder.parent
        evals = sorted({p.parent.parent.name for p in run_folder.glob("eval/*/[!.]*/manifest.json")})
        directions = sorted(p.parent.name for p in run_folder.glob("direction*/manifest.json"))
        records.append(
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
    return records
