"""Questions: when two are the same, and their hashes, by which a record says what was asked without saying it."""

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Mapping
from functools import lru_cache


def normal_form(text: str) -> str:
    """Text as two people would call it the same: NFKC, case, whitespace and end punctuation folded."""
    return re.sub(r"\s+", " ", unicodedata.normalize("NFKC", text).casefold()).strip().rstrip(".!?…,;: ")


MARK = 12  # letters of a question's hash


def mark_of(question: str) -> str:
    """A question by its hash, however it is punctuated."""
    return hashlib.sha256(normal_form(question).encode()).hexdigest()[:MARK]


def question_hashes(prompts: Iterable[str]) -> str:
    """Questions by their hashes: whether another one is among them can be seen, and what they are cannot."""
    return "".join(sorted(set(map(mark_of, prompts))))


@lru_cache(maxsize=1 << 15)  # every method of a table was asked the same
def marks_of_text(text: str) -> frozenset[str]:
    """The marks of a text and of each of its lines, less a label as in `Situation: ...`: a question may stand in a prompt."""
    lines = [line for line in text.splitlines() if line.strip()]
    return frozenset(mark_of(t) for t in {text, *lines, *(line.partition(": ")[2] or line for line in lines)})


def marks_in(provenance: object) -> frozenset[str] | None:
    """The marks of all questions that something was learnt from or chosen on, as its provenance has them; None if it is silent.

    A provenance may hold those of other things, as that of a sum does.
    """
    if isinstance(provenance, Mapping):
        own = provenance.get("questions")
        parts = [marks_in(v) for v in provenance.values()]
        if isinstance(own, str):
            parts.append(frozenset(own[i : i + MARK] for i in range(0, len(own), MARK)))
    else:
        parts = [marks_in(v) for v in provenance] if isinstance(provenance, (list, tuple)) else []
    known = [p for p in parts if p is not None]
    return frozenset[str]().union(*known) if known else None
