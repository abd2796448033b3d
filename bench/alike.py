"""What two folders of results have in common, number by number; `same.py` makes the folders.

Files are paired by their path, then by their path without hashes, then by the stage and the settings of the manifest they
belong to. Tensors are compared by their bytes, rows by every field, records and tables by every number and word. What says
when, where and under which key something was made does not count. A sentence may be worded anew as long as its numbers stay;
such places are counted apart.
"""

import csv
import difflib
import hashlib
import json
import math
import re
import struct
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

NOT_COMPARED = {".png", ".svg", ".lock", ".log", ".pdf"}
OF_THE_RUN = {"logs", "tasks", "src", "cache", "done.txt", "revision.txt"}
"""Folders and files that say how it went."""
TIMES_AND_KEYS = {
    *("seconds", "finished", "started", "born", "host", "pid", "command"),
    *("files", "bytes", "sha256", "key", "inputs", "versions", "fingerprint"),
}
"""Fields of a record that say when, where, and under which key."""
TABLES = {"report.json", "results.json", "replicate.json"}
HASH = re.compile(r"(?<![\w.])[0-9a-f]{8,}(?!\w|\.\d)")
DATE = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z?")
DURATION = re.compile(r"\d+(?:\.\d+)? ?(?:ms|s|min|h)\b")
NUMBER = re.compile(r"[+\-−]?\d+(?:\.\d+)?(?:e[+-]?\d+)?")
ABSENT = "(absent)"


@dataclass(frozen=True)
class Difference:
    """A place where two folders differ: the file and the field, and what stands there."""

    file: str
    field: str
    old: str
    new: str

    @property
    def place(self) -> str:
        """The same for every row of a list, so that a pattern can name them all."""
        return f"{self.file}:{re.sub(r'(?<![^.])[0-9]+(?![^.])', '*', self.field)}"


@dataclass
class Likeness:
    """What was compared, by kind, and where it differs."""

    files: Counter[str] = field(default_factory=Counter)
    values: Counter[str] = field(default_factory=Counter)
    differences: list[Difference] = field(default_factory=list)
    reworded: list[Difference] = field(default_factory=list)
    """Sentences whose words differ and whose numbers do not."""


@dataclass(frozen=True)
class Pair:
    """One file of each folder, to be read by the same reader; differences go to the result of both folders."""

    old: Path
    new: Path
    name: str
    roots: tuple[Path, Path]
    result: Likeness

    def differs(self, at: str, old: str, new: str) -> None:
        self.result.differences.append(Difference(self.name, at, old, new))


def compare(old: Path, new: Path, folders: Sequence[str] | None = None) -> Likeness:
    """Compare two folders, or what lies in some folders of each."""
    result = Likeness()
    pairs, alone = paired(old, new, folders)
    for one, other in pairs:
        kind = kind_of(one)
        result.files[kind] += 1
        pair = Pair(one, other, masked_path(one.relative_to(old)), (old, new), result)
        result.values[kind] += READERS.get(one.suffix, bytes_alike)(pair)
    result.differences += [Difference(name, "", *("file", ABSENT)[:: 1 if gone else -1]) for name, gone in alone]
    return result


def kind_of(file: Path) -> str:
    """What a file counts as in the summary."""
    if file.name.startswith(("printed.", "table.json")):
        return "printed"
    if file.name in TABLES or file.name.startswith("replicate_"):  # of another grid of strengths
        return "tables"
    if file.name == "calibration.json":
        return "strengths"
    kinds = {".safetensors": "tensors", ".parquet": "rows", ".jsonl": "rows", ".json": "records", ".csv": "tables"}
    return kinds.get(file.suffix, "tables" if file.suffix == ".md" else "other files")


# ---------------------------------------------------------------- which file belongs to which


def paired(
    old: Path, new: Path, folders: Sequence[str] | None
) -> tuple[list[tuple[Path, Path]], list[tuple[str, bool]]]:
    """Pairs of files; and the names of those that stand alone, with whether it is the old side that has them."""
    left = [{p.relative_to(root) for p in results_of(root, folders)} for root in (old, new)]
    pairs: list[tuple[Path, Path]] = []
    keys: list[Callable[[Path, Path], object]] = [
        lambda root, p: p,
        lambda root, p: masked_path(p),
        lambda root, p: (masked_path(p), identity(root, p)),
        lambda root, p: (masked_path(p), identity(root, p), hashlib.sha256((root / p).read_bytes()).hexdigest()),
        lambda root, p: (p.parts[0], identity(root, p)),
    ]
    for key in keys:
        groups: list[dict[object, list[Path]]] = [defaultdict(list), defaultdict(list)]
        for group, root, paths in zip(groups, (old, new), left):
            for p in sorted(paths):
                group[key(root, p)].append(p)
        for k in groups[0].keys() & groups[1].keys():
            ours, theirs = groups[0][k], groups[1][k]
            if len(ours) == len(theirs) == 1:
                pairs.append((old / ours[0], new / theirs[0]))
                left = [left[0] - {ours[0]}, left[1] - {theirs[0]}]
    alone = [(masked_path(p), not side) for side, paths in enumerate(left) for p in paths]
    return sorted(pairs), sorted(alone)


def results_of(root: Path, folders: Sequence[str] | None) -> Iterator[Path]:
    """Every file that holds results."""
    for top in [root] if folders is None else [root / name for name in folders]:
        for p in top.rglob("*"):
            parts = p.relative_to(root).parts
            hidden = p.name.startswith(".") or p.suffix in NOT_COMPARED
            if p.is_file() and not hidden and not OF_THE_RUN & set(parts):
                yield p


def masked_path(path: Path) -> str:
    return re.sub(r"(?<![0-9a-z])[0-9a-f]{8,}(?![0-9a-z])", "#", path.as_posix())


def identity(root: Path, path: Path) -> tuple[str, str]:
    """What the nearest manifest says a file is: its stage, the settings it was made with, and the file's place beside it."""
    for folder in path.parents:
        manifest = root / folder / "manifest.json"
        if manifest.is_file():
            record = json.loads(manifest.read_text())
            named = {k: record.get(k) for k in ("stage", "method", "behavior", "settings")}
            return masked_path(path.relative_to(folder)), str(sorted(leaves(named, (root,))))
    return path.name, ""


# ---------------------------------------------------------------- one kind of file each: how many values there were


def tensors_alike(pair: Pair) -> int:
    """Every tensor by its bytes, and what the file says of itself."""
    (meta, ours), (their_meta, theirs) = read_tensors(pair.old), read_tensors(pair.new)
    for tensor in sorted(ours.keys() | theirs.keys()):
        a, b = ours.get(tensor), theirs.get(tensor)
        if a != b:
            pair.differs(tensor, *map(in_short, (a, b)))
    records_alike(meta, their_meta, pair)
    return len(ours)


def read_tensors(file: Path) -> tuple[Any, dict[str, tuple[str, tuple[int, ...], bytes]]]:
    """The metadata, and (dtype, shape, bytes) of every tensor: read here, so that no library rounds or converts."""
    content = file.read_bytes()
    (n,) = struct.unpack("<Q", content[:8])
    header, data = json.loads(content[8 : 8 + n]), content[8 + n :]
    meta = {k: as_json(v) for k, v in header.pop("__metadata__", {}).items()}
    return meta, {k: (v["dtype"], tuple(v["shape"]), data[slice(*v["data_offsets"])]) for k, v in header.items()}


def as_json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def in_short(tensor: tuple[str, tuple[int, ...], bytes] | None) -> str:
    if tensor is None:
        return ABSENT
    return f"{tensor[0]} {list(tensor[1])} {hashlib.sha256(tensor[2]).hexdigest()[:8]}"


def parquet_alike(pair: Pair) -> int:
    """Every field of every row, in the order of the file."""
    import pyarrow.parquet as pq

    a, b = pq.read_table(pair.old), pq.read_table(pair.new)
    if a.num_rows != b.num_rows:
        pair.differs("rows", str(a.num_rows), str(b.num_rows))
    kinds = [{f.name: str(f.type) for f in t.schema} for t in (a, b)]
    for column in sorted(kinds[0].keys() | kinds[1].keys()):
        one, other = (k.get(column, ABSENT) for k in kinds)
        if one != other:
            pair.differs(column, one, other)
        if ABSENT not in (one, other):
            for i, (x, y) in enumerate(zip(a[column].to_pylist(), b[column].to_pylist())):
                if not equal(x, y):
                    pair.differs(f"{i}.{column}", repr(x), repr(y))
    return a.num_rows


def lines_alike(pair: Pair) -> int:
    """JSON lines, every word."""
    a, b = ([json.loads(line) for line in p.read_text().splitlines()] for p in (pair.old, pair.new))
    records_alike(a, b, pair, every_word=True)
    return len(a)


def json_alike(pair: Pair) -> int:
    a, b = (json.loads(p.read_text()) for p in (pair.old, pair.new))
    if pair.old.name == "table.json":  # `ws table` shows evaluations in the order in which they were done
        a, b = (record | {"tables": sorted(record["tables"], key=words)} for record in (a, b))
    return records_alike(a, b, pair)


def words(table: Any) -> list[str]:
    """What a table calls itself and its rows, whatever its numbers are."""
    return [v for _, v in leaves(table, ()) if isinstance(v, str) and not prose(v)]


def csv_alike(pair: Pair) -> int:
    """A table, cell by cell, as it is written."""
    a, b = (list(csv.DictReader(p.read_text().splitlines())) for p in (pair.old, pair.new))
    return records_alike(a, b, pair, every_word=True)


def text_alike(pair: Pair) -> int:
    a, b = (masked(p.read_text(), pair.roots) for p in (pair.old, pair.new))
    sentences_alike(a, b, "", pair)
    return len(NUMBER.findall(a))


def bytes_alike(pair: Pair) -> int:
    a, b = (hashlib.sha256(p.read_bytes()).hexdigest()[:8] for p in (pair.old, pair.new))
    if a != b:
        pair.differs("", a, b)
    return 1


READERS: Mapping[str, Callable[[Pair], int]] = {
    ".safetensors": tensors_alike,
    ".parquet": parquet_alike,
    ".jsonl": lines_alike,
    ".json": json_alike,
    ".csv": csv_alike,
    ".md": text_alike,
    ".txt": text_alike,
}


# ---------------------------------------------------------------- values


def records_alike(a: Any, b: Any, pair: Pair, *, every_word: bool = False) -> int:
    """Every leaf of two records; how many there are."""
    ours, theirs = (dict(leaves(value, pair.roots, join=not every_word)) for value in (a, b))
    for at in sorted(ours.keys() | theirs.keys()):
        x, y = ours.get(at, ABSENT), theirs.get(at, ABSENT)
        if equal(x, y):
            continue
        if not every_word and all(isinstance(v, str) and v is not ABSENT for v in (x, y)) and (prose(x) or prose(y)):
            sentences_alike(x, y, at, pair)
        else:
            pair.differs(at, *(v if v is ABSENT else repr(v) for v in (x, y)))
    return len(ours)


def leaves(value: Any, roots: Sequence[Path], at: str = "", *, join: bool = True) -> Iterator[tuple[str, Any]]:
    """Numbers and words with where they stand. With `join` a list of sentences is one text: they may be split anew."""
    under = f"{at}." if at else ""
    if isinstance(value, dict):
        for k in sorted(set(value) - TIMES_AND_KEYS):
            yield from leaves(value[k], roots, under + masked(k, roots), join=join)
    elif isinstance(value, list) and join and any(isinstance(v, str) and prose(v) for v in value):
        yield at, masked("\n".join(map(str, value)), roots)
    elif isinstance(value, list):
        yield f"{under}length", len(value)
        for i, v in enumerate(value):
            yield from leaves(v, roots, f"{under}{i}", join=join)
    else:
        yield at, masked(value, roots) if isinstance(value, str) else value


def equal(a: Any, b: Any) -> bool:
    """The same type and the same bits; NaN is NaN."""
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return struct.pack("<d", a) == struct.pack("<d", b) or (math.isnan(a) and math.isnan(b))
    return a == b


def masked(text: str, roots: Sequence[Path]) -> str:
    """A text without hashes, dates, durations, and the folders it speaks of."""
    for name in sorted({str(p) for root in roots for p in (root, root.resolve())}, key=len, reverse=True):
        text = text.replace(name, "")  # the longest first: one folder's name may begin another's
    for pattern in (DATE, HASH, DURATION):
        text = pattern.sub("#", text)
    return text


def prose(text: str) -> bool:
    """Whether a text is a sentence, and no name, number or verdict."""
    return len(text.split()) > 4


def sentences_alike(a: str, b: str, at: str, pair: Pair) -> None:
    """Texts line by line: a difference where a number differs, worded anew where only words do."""
    ours, theirs = ([" ".join(line.split()) for line in text.splitlines()] for text in (a, b))
    gone, come = [], []
    for tag, i, j, k, m in difflib.SequenceMatcher(None, ours, theirs, autojunk=False).get_opcodes():
        if tag != "equal":
            gone += ours[i:j]
            come += theirs[k:m]
    old, new = (Counter(NUMBER.findall("\n".join(lines))) for lines in (gone, come))
    if old == new:
        if gone or come:
            pair.result.reworded.append(Difference(pair.name, at, " / ".join(gone), " / ".join(come)))
        return
    for_example = ((gone, old - new), (come, new - old))
    pair.differs(at, *(next((x for x in y if Counter(NUMBER.findall(x)) & z), ABSENT) for y, z in for_example))


# ---------------------------------------------------------------- the report


def intended(lines: Iterable[str]) -> list[tuple[str, str]]:
    """Patterns of places and the reason of each, from lines `PATTERN | REASON`."""
    found = []
    for line in map(str.strip, lines):
        pattern, bar, reason = line.partition(" | ")
        if line and not line.startswith("# "):
            if not (bar and reason.strip()):
                raise SystemExit(f"an intended difference is PATTERN | REASON, and this is not: {line}")
            found.append((pattern.strip(), reason.strip()))
    return found


def report(result: Likeness, patterns: Sequence[tuple[str, str]], most: int = 60) -> tuple[str, bool]:
    """What was compared and what differs, as text; and whether all is the same."""
    reasons: dict[str, list[Difference]] = defaultdict(list)
    wrong: dict[str, list[Difference]] = defaultdict(list)
    for d in result.differences:
        reason = next((r for p, r in patterns if fnmatchcase(d.place, p)), None)
        (wrong[d.place] if reason is None else reasons[reason]).append(d)
    lines = ["| compared | files | values |", "|---|---:|---:|"]
    lines += [f"| {kind} | {result.files[kind]:,} | {result.values[kind]:,} |" for kind in sorted(result.files)]
    lines += ["", f"{sum(map(len, wrong.values()))} differences in {len(wrong)} places"]
    for place, differences in list(wrong.items())[:most]:
        first = differences[0]
        times = f" ({len(differences)} times)" if len(differences) > 1 else ""
        lines += [f"  {place}{times}", f"    old {first.old[:160]}", f"    new {first.new[:160]}"]
    if len(wrong) > most:
        lines += [f"  ... and {len(wrong) - most} more places"]
    lines += [f"intended, {len(found)}: {reason}" for reason, found in reasons.items()]
    unused = [p for p, r in patterns if r not in reasons]
    lines += [f"intended, but nothing there differs: {p}" for p in unused]
    if result.reworded:
        lines += [
            f"{len(result.reworded)} texts are worded anew, their numbers the same, e.g. {result.reworded[0].place}"
        ]
    empty = [k for k in ("tensors", "rows", "tables", "printed") if not result.values[k]]
    lines += [f"no {kind} were compared, so nothing is shown" for kind in empty]
    return "\n".join(lines), not wrong and not empty
