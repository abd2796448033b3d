"""Where evaluation data comes from: a file you give, the embedded model's own world, or the hub."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ws.errors import BadFile

READERS = (".jsonl", ".json", ".csv", ".parquet")


def records(file: str | Path, needed: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of a table on disk, which must have the columns needed."""
    import pandas as pd

    path = Path(file)
    if not path.is_file():
        raise BadFile(f"there is no data file at {path}.")
    try:
        if path.suffix == ".jsonl":
            rows = [json.loads(line) for line in path.read_text(encoding="utf-8-sig").split("\n") if line.strip()]
        elif path.suffix == ".json":
            rows = json.loads(path.read_text(encoding="utf-8"))
        elif path.suffix in (".csv", ".parquet"):
            table = pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
            rows = table.to_dict("records")
        else:
            raise BadFile(f"{path} is none of {', '.join(READERS)}.")
    except (ValueError, OSError) as e:
        raise BadFile(f"{path} cannot be read: {str(e)[:120]}") from None
    if not rows:
        raise BadFile(f"{path} has no rows.")
    if missing := [c for c in needed if c not in rows[0]]:
        raise BadFile(f"{path} lacks the columns {missing}; it has {sorted(map(str, rows[0]))}.")
    return rows


def from_hub(dataset: str, config: str, split: str, needed: Sequence[str]) -> list[dict[str, Any]]:
    """A split of a hub dataset, read from the parquet copy the hub keeps of every dataset."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    try:
        path = hf_hub_download(
            dataset, f"{config}/{split}/0000.parquet", repo_type="dataset", revision="refs/convert/parquet"
        )
    except (LocalEntryNotFoundError, HfHubHTTPError, OfflineModeIsEnabled, OSError) as e:
        raise BadFile(
            f"the dataset {dataset} ({config}, {split}) is not in the local cache and cannot be fetched "
            f"({type(e).__name__}); give a local copy with --data FILE."
        ) from None
    return records(path, needed)
