"""What somebody else wrote: tables on disk or of the hub, and YAML."""

import ast
import csv
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from ws.errors import BadFile
from ws.hub import reach
from ws.types import Json

Label = TypeVar("Label")
READERS = (".jsonl", ".json", ".csv", ".parquet")


class Rows(list[Json]):
    """Rows of a table, with where they were read from."""

    def __init__(
        self,
        rows: Iterable[Json],
        source: str,
        files: Sequence[Path] = (),
        hub: Mapping[str, str] | None = None,
    ):
        super().__init__(rows)
        self.source = source
        self.files = tuple(files)
        self.hub = dict(hub or {})
        """Data set, configuration, split and revision, where it comes from the hub."""


def read_yaml(path: Path) -> Any:
    """The content of a YAML file; a key that stands twice is refused, because a reader cannot see which of the two is meant."""
    import yaml

    class Distinct(yaml.SafeLoader):
        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
            lines: dict[str, int] = {}
            for key in (k for k, _ in node.value if isinstance(k, yaml.ScalarNode)):
                name, at = f"{key.tag} {key.value}", key.start_mark.line + 1
                if name in lines:
                    raise BadFile(
                        f"{path}: the key {key.value!r} stands twice, in lines {lines[name]} and {at}; keep one."
                    )
                lines[name] = at
            return super().construct_mapping(node, deep)

    loader = Distinct(path.read_text(encoding="utf-8"))
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def records(file: str | Path, needed: Sequence[str]) -> Rows:
    """The rows of a table on disk, which must have the columns needed."""
    import pandas as pd

    path = Path(file)
    if not path.is_file():
        raise BadFile(f"there is no data file at {path}.")
    try:
        if path.suffix == ".jsonl":
            rows = [json.loads(line) for line in path.read_text(encoding="utf-8-sig").split("\n") if line.strip()]
        elif path.suffix == ".json":
            rows = json.loads(path.read_text(encoding="utf-8-sig"))
        elif path.suffix == ".parquet":
            rows = pd.read_parquet(path).to_dict("records")
        elif path.suffix == ".csv":
            _as_wide_as_its_header(path)
            # "None" and "NA" are answers; only an empty cell is none
            table = pd.read_csv(path, index_col=False, keep_default_na=False, na_values=[""], encoding="utf-8-sig")
            rows = table.to_dict("records")
        else:
            raise BadFile(f"{path} is none of {', '.join(READERS)}.")
    except (ValueError, OSError) as e:
        raise BadFile(f"{path} cannot be read: {str(e)[:120]}") from None
    if not isinstance(rows, list) or not all(isinstance(r, dict) for r in rows):
        raise BadFile(f"{path} is no table: it has to be a list of rows, each with the same named columns.")
    if not rows:
        raise BadFile(f"{path} has no rows.")
    if missing := [c for c in needed if c not in rows[0]]:
        raise BadFile(f"{path} lacks the columns {missing}; it has {sorted(map(str, rows[0]))}.")
    return Rows(rows, path.name, [path])


def _as_wide_as_its_header(path: Path) -> None:
    """Refuse a row with more cells than there are columns: pandas would shift all of them."""
    with open(path, encoding="utf-8-sig", newline="") as f:
        lines = csv.reader(f)
        header = next(lines, [])
        for n, line in enumerate(lines, 2):
            if any(line[len(header) :]):
                raise BadFile(f"{path}: row {n} has {len(line)} cells, and the header names {len(header)} columns.")


def label_of(row: Json, column: str, allowed: Sequence[Label], *, name: str, source: str) -> Label:
    """The label in a column of a row; a value that is not allowed is refused."""
    value = row[column]
    for label in allowed:
        if value == label or (isinstance(value, str) and value.strip() == str(label)):
            return label
    raise BadFile(f"{source}: {column} of row {name} is {value!r}; it is one of {', '.join(map(str, allowed))}.")


def is_text(value: object) -> bool:
    """True for a cell that holds text; empty cells of a table are NaN."""
    return isinstance(value, str) and bool(value.strip())


def list_of(value: Any) -> list[Any]:
    """A cell that holds a list; in CSV files it is written out as text."""
    if isinstance(value, str):
        try:
            value = ast.literal_eval(re.sub(r"(?<=[\[,\s])nan(?=[\],\s])", "None", value))
        except (ValueError, SyntaxError):
            return [value]
    if value is None or isinstance(value, float):
        return []
    return list(value) if isinstance(value, (list, tuple)) or hasattr(value, "tolist") else [value]


def cell(table: Rows, number: int, row: Mapping[str, Any], column: str) -> Any:
    """A cell; `a.0.b` reaches into a column of lists and records."""
    if column in row:
        return row[column]
    value: Any = row
    for part in column.split("."):
        try:
            if isinstance(value, str):
                raise TypeError(part)
            value = value[part] if isinstance(value, Mapping) else list(value)[int(part)]
        except (KeyError, IndexError, ValueError, TypeError):
            columns = ", ".join(sorted(map(str, row)))
            raise BadFile(f"{table.source}, row {number} has no {column!r}; it has the columns {columns}.") from None
    return value


def from_hub(dataset: str, config: str, split: str, needed: Sequence[str], *, revision: str | None = None) -> Rows:
    """A split of a hub dataset, read from the parquet copy the hub keeps of every dataset; `revision` is a commit of it."""
    online = reach(dataset, kind="dataset", instead="give a local copy with `data=FILE`")
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    try:
        paths = _shards(dataset, f"{config}/{split}", revision or "refs/convert/parquet", online=online)
    except (LocalEntryNotFoundError, HfHubHTTPError, OfflineModeIsEnabled, OSError) as e:
        raise BadFile(
            f"the dataset {dataset} ({config}, {split}) is not in the local cache and cannot be fetched "
            f"({type(e).__name__}); give a local copy with `data=FILE`."
        ) from None
    commit = paths[0].parts[-4]  # .../snapshots/REVISION/config/split/0000.parquet
    rows = [row for path in paths for row in records(path, needed)]
    hub = {"dataset": dataset, "config": config, "split": split, "revision": commit}
    return Rows(rows, f"{dataset} {config} {split} @ {commit[:12]}", paths, hub)


def _shards(dataset: str, folder: str, revision: str, *, online: bool) -> list[Path]:
    """All parts of a split, until the hub or the cache says that there is no further one."""
    from huggingface_hub import _CACHED_NO_EXIST, hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import LocalEntryNotFoundError, RemoteEntryNotFoundError

    paths: list[Path] = []
    while True:
        name = f"{folder}/{len(paths):04d}.parquet"
        there = try_to_load_from_cache(dataset, name, repo_type="dataset", revision=revision)
        if paths and there is _CACHED_NO_EXIST:
            return paths
        try:
            fetched = hf_hub_download(
                dataset, name, repo_type="dataset", revision=revision, local_files_only=not online
            )
            paths.append(Path(fetched))
        except RemoteEntryNotFoundError:
            if not paths:
                raise
            return paths
        except LocalEntryNotFoundError:
            if not paths:
                raise
            raise BadFile(
                f"the hub cannot be reached, so it is not known whether {dataset} has more than {len(paths)} parts of {folder}; load it once "
                "with a network, or give a local copy."
            ) from None
        revision = paths[0].parts[-4]  # all parts of one commit
