"""Answers as they come, whoever writes them: one line of JSON each, with its checksum, so that a killed study goes on from them."""

import hashlib
import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path

from ws.errors import BadFile
from ws.generate import Answer
from ws.records import writable, write_text

log = logging.getLogger(__name__)

SUM = 16  # letters of a line's checksum


def sha_of(value: object) -> str:
    """SHA-256 of a value as JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


class AnswerStore:
    """The answers to what was asked, in memory and, with a working folder, in its `resume/answers.jsonl`.

    An answer is looked up by the hash of all that was asked, and not by a name: behaviors share the names of their
    questions. A line that was cut off by a kill, or is not what was written, does not count.
    """

    def __init__(self, work: Path | None, identity: str):
        self.file = None if work is None else work / "resume" / "answers.jsonl"
        self.answers: dict[str, list[Answer]] = {}
        self.names: dict[str, list[str]] = {}
        """What the writer said of itself with each."""
        if self.file is None:
            return
        writable(self.file.parent)
        raw = self.file.read_bytes() if self.file.is_file() else b""
        first, *lines = raw.split(b"\n")
        if not lines:  # nothing is there, or less than the first line, which a full disk leaves behind
            write_text(self.file, f"{identity}\n")
            return
        if first.decode(errors="replace") != identity:
            raise BadFile(f"{self.file} holds answers of another model or other settings; move it away and run again.")
        half = lines.pop()  # what follows the last newline
        damaged = sum(not self._take(line) for line in lines)
        if damaged:
            log.warning("%d of %d answers in %s are damaged and asked for again", damaged, len(lines), self.file)
        if half:  # cut off where it begins, which needs no room on the disk and touches nothing before it
            os.truncate(self.file, len(raw) - len(half))

    def add(self, asks: str, name: str, answers: Sequence[Answer], names: Sequence[str] = ()) -> None:
        """Keep the answers to what was asked."""
        self.answers[asks], self.names[asks] = list(answers), list(names)
        if self.file is not None:
            row = {"name": name, "asks": asks, "answers": [vars(a) for a in answers], "told": list(names)}
            row["sum"] = sha_of(row)[:SUM]
            with open(self.file, "a", encoding="utf-8") as f:
                f.write(json.dumps(row) + "\n")

    def _take(self, line: bytes) -> bool:
        """Take a line that `add` wrote; False for any other."""
        try:
            row = json.loads(line)
            if row.pop("sum") != sha_of(row)[:SUM]:
                return False
            answers = [Answer(**a) for a in row["answers"]]
            asks, names = row["asks"], row["told"]
        except (ValueError, KeyError, TypeError, AttributeError):
            return False
        self.answers[asks], self.names[asks] = answers, names
        return True
