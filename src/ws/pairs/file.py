"""The file: pairs as JSON lines or parquet, whoever wrote them."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from ws.errors import BadFile
from ws.pairs.pair import KINDS, Pair, Pairs
from ws.pairs.questions import normal_form
from ws.types import Json

MAX_BYTES = 1 << 30


def save_pairs(pairs: Pairs, path: Path) -> None:
    """Write pairs as JSON lines, one row a line."""
    path.write_text("".join(json.dumps(asdict(r)) + "\n" for r in pairs.rows), encoding="utf-8")


def load_pairs(path: Path | str, behavior: str = "") -> Pairs:
    """Read pairs from JSON lines or parquet: columns prompt, response_pos, response_neg, and any of ours."""
    path = Path(path)
    mark = file_mark(path)
    if path.stat().st_size > MAX_BYTES:
        raise BadFile(f"{path} is larger than {MAX_BYTES >> 20} MiB, more than any training needs.")
    records = list(_records(path))
    if not records:
        raise BadFile(
            f"{path} is empty. It needs at least three questions, each a row with prompt, response_pos and response_neg."
        )
    rows = with_topics([(pair_of(path, where, r, behavior), r) for where, r in records])
    if all(normal_form(r.response_pos) == normal_form(r.response_neg) for r in rows):
        raise BadFile(f"{path}: both sides are identical in every row, so there is nothing to learn between them.")
    return Pairs(tuple(rows), {"source": "file", "files": [mark]})


def file_mark(path: Path) -> Json:
    """The name of a pairs file and the SHA-256 of its bytes."""
    if not path.is_file():
        raise BadFile(
            f"there is no pairs file at {path}. It is JSON lines or parquet with prompt, response_pos, response_neg."
        )
    with open(path, "rb") as f:
        return {"file": path.name, "sha256": hashlib.file_digest(f, "sha256").hexdigest()}


def _records(path: Path) -> Iterable[tuple[str, Json]]:
    """Every row with where it stands; what is no object is refused by `pair_of`."""
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        try:
            table = pq.read_table(path).to_pylist()
        except Exception as e:  # pyarrow has no common error class
            raise BadFile(f"{path} cannot be read as parquet: {str(e)[:120]}") from None
        yield from ((f"row {i}", r) for i, r in enumerate(table))
        return
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # not splitlines: a text may hold U+2028
    except UnicodeDecodeError:
        raise BadFile(f"{path} is not UTF-8 text; pairs are JSON lines or a .parquet file.") from None
    for i, line in enumerate(lines, 1):
        if line.strip():
            try:
                yield f"line {i}", json.loads(line)
            except (ValueError, RecursionError) as e:
                reason = getattr(e, "msg", type(e).__name__)
                raise BadFile(f"{path}, line {i} is not JSON ({reason}); every line is one object.") from None


def pair_of(path: Path | str, where: str, r: object, behavior: str) -> Pair:
    """A row as a pair: texts that are not empty, and optional columns of their own kind."""
    if not isinstance(r, dict):
        raise BadFile(
            f"{path}, {where} is {type(r).__name__}, expected an object with prompt, response_pos, response_neg."
        )
    for key in ("prompt", "response_pos", "response_neg"):
        if not isinstance(r.get(key), str) or not r[key].strip():
            cell = "nothing" if key not in r else repr(r[key])[:40]
            raise BadFile(f"{path}, {where}: {key} must be a text that is not empty, got {cell}.")
    known: Json = {}
    for key, kind in KINDS.items():
        value = r.get(key)
        if value is None or value != value:  # missing, null, or a table's NaN
            continue
        if kind is int and isinstance(value, float) and value.is_integer():
            value = int(value)  # a nullable column of a table
        if kind is str and key == "prompt_id" and isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if type(value) is not kind or (isinstance(value, int) and not 0 <= value < 2**31):
            words = {bool: "true or false", int: "a whole number from 0", str: "text"}[kind]
            raise BadFile(f"{path}, {where}: {key} must be {words}, got {repr(value)[:40]}.")
        known[key] = value
    known.setdefault("behavior", behavior)
    return Pair(**known)


def with_topics(rows: Sequence[tuple[Pair, Mapping[str, object]]]) -> list[Pair]:
    """The file's own topics where every row has one and no question has two; else one topic a question.

    A question under two topics would land in training and in validation.
    """
    own: dict[str, set[int]] = defaultdict(set)
    for pair, raw in rows:
        own[normal_form(pair.prompt)].add(pair.topic_idx if raw.get("topic_idx") is not None else -1)
    if any(len(topics) > 1 or -1 in topics for topics in own.values()):
        number = {prompt: i for i, prompt in enumerate(own)}
        pairs = [replace(pair, topic_idx=number[normal_form(pair.prompt)]) for pair, _ in rows]
    else:
        pairs = [pair for pair, _ in rows]
    return [pair if pair.prompt_id else replace(pair, prompt_id=f"prompt-{pair.topic_idx:04d}") for pair in pairs]
