"""The runs below an output folder, and what sets runs of one name apart."""

from collections.abc import Sequence
from pathlib import Path

from ws.direction.file import head_of
from ws.records import read
from ws.types import Json


def runs(out: Path) -> list[Json]:
    """Every run below an output folder, newest first: behavior, adapter, model, seed, the stages that are done, and the
    options by which it differs from others of the same behavior, adapter, model and seed."""
    records = []
    options = []
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
        options.append(_options(manifest, out))
    for record, differs in zip(records, _apart(records, options)):
        record["differs"] = differs
    return sorted(records, key=lambda r: str(r["finished"]), reverse=True)


def behavior_of(run: Path) -> str:
    """The behavior of a run: as its direction says, wherever the folder was moved; before there is one, as the folder is called."""
    for file in sorted(run.glob("direction*/direction.safetensors")):
        training = ((head_of(file) or {}).get("provenance") or {}).get("training") or {}
        if isinstance(name := training.get("behavior"), str):
            return name
    return run.resolve().parent.parent.name


def _options(manifest: Json, out: Path) -> Json:
    """All that decides a training: its settings, those of its pairs, and what else stands in their keys."""
    inputs = dict(manifest["inputs"])
    key = str(inputs.pop("pairs", ""))
    pairs: Json = {"pairs": key[:8]}  # all that is known of pairs that are gone
    for folder in out.glob(f"data/*/*/{key[:12]}") if key else ():
        if (record := read(folder)) is not None:
            own = {k: v for k, v in record["inputs"].items() if k not in inputs or k == "protocol"}
            pairs = {**record["settings"], **{f"pairs {k}": _short(v) for k, v in own.items()}}
    return {**pairs, **{k: _short(v) for k, v in inputs.items()}, **manifest["settings"]}


def _short(value: object) -> object:
    """The first letters of a hash; anything else as it is."""
    is_hash = isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef")
    return value[:8] if isinstance(value, str) and is_hash else value


def _apart(records: Sequence[Json], options: Sequence[Json]) -> list[Json]:
    """For each run, the options that not all runs of its name share."""
    names = [tuple(r[k] for k in ("behavior", "adapter", "model", "seed")) for r in records]
    apart: list[Json] = []
    for name, own in zip(names, options):
        others = [o for n, o in zip(names, options) if n == name]
        apart.append({k: v for k, v in own.items() if any(o.get(k) != v for o in others)})
    return apart
