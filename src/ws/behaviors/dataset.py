"""Answers that somebody else wrote, as the pairs of a behavior.

    dataset: {pos: pos.jsonl, neg: neg.jsonl, prompt: question, response: answer}                 a file for each side
    dataset: {file: both.parquet, prompt: question, response_pos: good, response_neg: bad}        one file

A file lies beside the pack (JSON lines, a JSON list, parquet or csv), or on the hub: `org/name#config/split`, or
`org/name@REVISION#config/split`, where the revision is a commit of the parquet copy the hub keeps. Row i of both sides asks
the same question; with `key`, rows with the same key do. `messages.0.content` is a column inside a column.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ws.behaviors.pack import DataSet, Prompts
from ws.errors import BadFile
from ws.pairs import KINDS, Pairs, file_mark, normal_form, pair_of, with_topics
from ws.sources import Rows, cell, from_hub, records
from ws.types import Json

HUB = re.compile(r"([\w.-]+/[\w.-]+)(?:@([\w./-]+))?#([\w.-]+)/([\w.-]+)")
NAMED = 3  # rows named in an error


def read_data_set(pack: Path, spec: DataSet, behavior: str) -> Pairs:
    """All pairs of a data set, with the files they were read from."""
    if spec.file is not None:
        table = table_of(pack, spec.file)
        rows, tables = _one_table(table, spec), [table]
    else:
        tables = [table_of(pack, name) for name in (spec.pos, spec.neg) if name is not None]
        rows = _two_tables(tables[0], tables[1], spec)
    source = str(pack)
    pairs = [(pair_of(source, f"row {i}", r, behavior), r) for i, r in enumerate(rows, 1)]
    files = [mark for table in tables for mark in file_marks(table)]
    columns = spec.model_dump(exclude_none=True, include={"prompt", "response", "response_pos", "response_neg", "key"})
    return Pairs(tuple(with_topics(pairs)), {"source": "dataset", "files": files, "columns": columns})


def table_of(pack: Path, name: str) -> Rows:
    """The rows of a file beside the pack, or of a split on the hub."""
    if (hub := HUB.fullmatch(name)) is not None:
        dataset, revision, config, split = hub.groups()
        return from_hub(dataset, config, split, (), revision=revision)
    return records(file_beside(pack, name, "dataset"), ())


def hub_questions(prompts: Prompts) -> list[str]:
    """The questions in a column of a hub data set, each once."""
    dataset, _, revision = (prompts.id or "").partition("@")
    table = from_hub(dataset, prompts.config, prompts.split or "", (), revision=revision or None)
    texts: dict[str, str] = {}
    for i, r in enumerate(table, 1):
        text = _text(table, i, r, prompts.column or "").strip()
        texts.setdefault(normal_form(text), text)
    return list(texts.values())


def file_beside(pack: Path, name: str, key: str) -> Path:
    """A file that a pack names, which lies in the pack's own folder or below."""
    path = (pack.parent / name).resolve()
    if not path.is_relative_to(pack.parent.resolve()) or not path.is_file():
        hub = "" if "/" not in name else " A data set of the hub is written org/name#config/split."
        raise BadFile(f"{pack}: {key} names {name!r}, and there is no such file beside the pack.{hub}")
    return path


def file_marks(table: Rows) -> list[Json]:
    """Name, SHA-256 and, on the hub, the revision of every file a table was read from."""
    return [{**file_mark(path), **table.hub} for path in table.files]


def _one_table(table: Rows, spec: DataSet) -> list[Json]:
    columns = {"prompt": spec.prompt, "response_pos": spec.response_pos, "response_neg": spec.response_neg}
    own = [k for k in KINDS if k not in (*columns, "behavior")]  # what `ws data` writes beside the texts
    return [
        {k: r[k] for k in own if k in r} | {k: _text(table, i, r, c or k) for k, c in columns.items()}
        for i, r in enumerate(table, 1)
    ]


def _two_tables(pos: Rows, neg: Rows, spec: DataSet) -> list[Json]:
    if len(pos) != len(neg):
        raise BadFile(
            f"{pos.source} has {len(pos)} rows and {neg.source} has {len(neg)}; every pair is one row on each side."
        )
    order = range(len(pos)) if spec.key is None else _matching(pos, neg, spec.key)
    rows, apart = [], []
    for i, (j, r) in enumerate(zip(order, pos), 1):
        prompt, other = _text(pos, i, r, spec.prompt), _text(neg, j + 1, neg[j], spec.prompt)
        if prompt != other:
            apart.append(i)
        responses = [_text(t, n, t[n - 1], spec.response or "response") for t, n in ((pos, i), (neg, j + 1))]
        rows.append({"prompt": prompt, "response_pos": responses[0], "response_neg": responses[1]})
    if apart:
        numbers = ", ".join(map(str, apart[:NAMED]))
        raise BadFile(
            f"{len(apart)} of {len(pos)} rows ask one question in {pos.source} and another in {neg.source} (rows {numbers}); "
            "sort both files alike, or name a column by which rows are matched: `key`."
        )
    return rows


def _matching(pos: Rows, neg: Rows, key: str) -> list[int]:
    """For each pos row, the position of the neg row with the same key."""
    places = []
    for table in (pos, neg):
        index: dict[str, int] = {}
        for i, r in enumerate(table):
            if (mark := str(cell(table, i + 1, r, key))) in index:
                raise BadFile(f"{table.source}: rows {index[mark] + 1} and {i + 1} have the same {key}, {mark[:40]!r}.")
            index[mark] = i
        places.append(index)
    if lone := sorted(places[0].keys() ^ places[1].keys()):
        raise BadFile(f"{len(lone)} values of {key} stand on one side only, e.g. {', '.join(lone[:NAMED])}.")
    return [places[1][mark] for mark in places[0]]


def _text(table: Rows, number: int, row: Mapping[str, Any], column: str) -> str:
    value = cell(table, number, row, column)
    if not isinstance(value, str) or not value.strip():
        raise BadFile(
            f"{table.source}, row {number}: {column} must be a text that is not empty, got {repr(value)[:40]}."
        )
    return value
