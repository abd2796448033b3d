"""Aligned answers of two personas to the same questions: the value, its file, and the checks it must pass.

Row i of both sides shares prompt, persona index and sample index. Nothing here knows a model: token counts come with the
rows. The checks print numbers; a check that fails says that no direction can be learnt from these pairs.
"""

import hashlib
import json
import random
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ws.errors import BadFile, PairsUnfit

MAX_BYTES = 1 << 30


@dataclass(frozen=True)
class Pair:
    """One question, answered twice."""

    prompt: str
    response_pos: str
    response_neg: str
    prompt_id: str = ""
    sys_prompt_pos: str = ""
    sys_prompt_neg: str = ""
    topic_idx: int = 0
    persona_idx: int = 0
    sample_idx: int = 0
    behavior: str = ""
    ended_pos: bool = True
    ended_neg: bool = True
    n_tok_pos: int = 0
    n_tok_neg: int = 0

    @property
    def name(self) -> str:
        """What names a row in notes and results."""
        return f"{self.prompt_id}/{self.persona_idx}/{self.sample_idx}"


KINDS: dict[str, type] = {name: kind for name, kind in Pair.__annotations__.items() if isinstance(kind, type)}


@dataclass(frozen=True)
class Check:
    """One number about the pairs, and whether it is healthy."""

    name: str
    value: float
    pos: float | None
    neg: float | None
    verdict: str
    """ok, warn or fail"""
    means: str


@dataclass(frozen=True, eq=False)
class Pairs:
    """All pairs of one behavior, with what made them."""

    rows: tuple[Pair, ...]
    provenance: Mapping[str, Any] = field(default_factory=dict)
    checks: tuple[Check, ...] = ()

    def __repr__(self) -> str:
        return f"Pairs({len(self.rows)} rows, {len({r.topic_idx for r in self.rows})} questions)"

    @property
    def topics(self) -> set[int]:
        """The questions by number: all that were asked, also those of which no answer was of use."""
        return {*self.provenance.get("topics", ()), *(r.topic_idx for r in self.rows)}

    def of(self, topics: Collection[int]) -> "Pairs":
        """The pairs of some questions."""
        return Pairs(tuple(r for r in self.rows if r.topic_idx in topics), self.provenance)

    @property
    def content_hash(self) -> str:
        """SHA-256 of every field of every row, in order."""
        h = hashlib.sha256()
        for r in self.rows:
            h.update(json.dumps(asdict(r), sort_keys=True).encode())
        return h.hexdigest()

    def swapped(self) -> "Pairs":
        """The same pairs with the two sides exchanged: their direction is the negative one."""
        return Pairs(tuple(map(_swapped, self.rows)), {**self.provenance, "swapped": True})

    def shuffled(self, draw: int) -> "Pairs":
        """The same pairs with the sides of each exchanged or not, by a coin: what is learnt from them is a control."""
        coin = random.Random(f"labels/{draw}")
        rows = tuple(_swapped(r) if coin.random() < 0.5 else r for r in self.rows)
        return Pairs(rows, {**self.provenance, "shuffled": draw})


def _swapped(pair: Pair) -> Pair:
    """One pair with its sides exchanged."""
    names = ("response", "sys_prompt", "ended", "n_tok")
    other = {"pos": "neg", "neg": "pos"}
    return replace(pair, **{f"{n}_{s}": getattr(pair, f"{n}_{o}") for n in names for s, o in other.items()})


# ---------------------------------------------------------------- files


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
    if all(folded(r.response_pos) == folded(r.response_neg) for r in rows):
        raise BadFile(f"{path}: both sides are identical in every row, so there is nothing to learn between them.")
    return Pairs(tuple(rows), {"source": "file", "files": [mark]})


def file_mark(path: Path) -> dict[str, Any]:
    """The name of a pairs file and the SHA-256 of its bytes."""
    if not path.is_file():
        raise BadFile(
            f"there is no pairs file at {path}. It is JSON lines or parquet with prompt, response_pos, response_neg."
        )
    with open(path, "rb") as f:
        return {"file": path.name, "sha256": hashlib.file_digest(f, "sha256").hexdigest()}


def _records(path: Path) -> Iterable[tuple[str, Any]]:
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
                told = getattr(e, "msg", type(e).__name__)
                raise BadFile(f"{path}, line {i} is not JSON ({told}); every line is one object.") from None


def pair_of(path: Path | str, where: str, r: Any, behavior: str) -> Pair:
    """A row as a pair: texts that are not empty, and optional columns of their own kind."""
    if not isinstance(r, dict):
        raise BadFile(
            f"{path}, {where} is {type(r).__name__}, expected an object with prompt, response_pos, response_neg."
        )
    for key in ("prompt", "response_pos", "response_neg"):
        if not isinstance(r.get(key), str) or not r[key].strip():
            came = "nothing" if key not in r else repr(r[key])[:40]
            raise BadFile(f"{path}, {where}: {key} must be a text that is not empty, got {came}.")
    known: dict[str, Any] = {}
    for key, kind in KINDS.items():
        value: Any = r.get(key)
        if value is None or value != value:  # missing, null, or a table's NaN
            continue
        if kind is int and isinstance(value, float) and value.is_integer():
            value = int(value)  # a nullable column of a table
        if kind is str and key == "prompt_id" and isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if type(value) is not kind or (isinstance(value, int) and not 0 <= value < 2**31):
            wanted = {bool: "true or false", int: "a whole number from 0", str: "text"}[kind]
            raise BadFile(f"{path}, {where}: {key} must be {wanted}, got {repr(value)[:40]}.")
        known[key] = value
    known.setdefault("behavior", behavior)
    return Pair(**known)


def with_topics(rows: Sequence[tuple[Pair, Mapping[str, Any]]]) -> list[Pair]:
    """The file's own topics where every row has one and no question has two; else one topic a question.

    A question under two topics would land in training and in validation.
    """
    given: dict[str, set[int]] = defaultdict(set)
    for pair, raw in rows:
        given[folded(pair.prompt)].add(pair.topic_idx if raw.get("topic_idx") is not None else -1)
    if any(len(topics) > 1 or -1 in topics for topics in given.values()):
        number = {prompt: i for i, prompt in enumerate(given)}
        found = [replace(pair, topic_idx=number[folded(pair.prompt)]) for pair, _ in rows]
    else:
        found = [pair for pair, _ in rows]
    return [pair if pair.prompt_id else replace(pair, prompt_id=f"prompt-{pair.topic_idx:04d}") for pair in found]


# ---------------------------------------------------------------- checks


def folded(text: str) -> str:
    """Text as two people would call it the same: NFKC, case, whitespace and end punctuation folded."""
    return re.sub(r"\s+", " ", unicodedata.normalize("NFKC", text).casefold()).strip().rstrip(".!?…,;: ")


MARK = 12  # letters of a question's hash


def mark_of(question: str) -> str:
    """A question by its hash, however it is punctuated."""
    return hashlib.sha256(folded(question).encode()).hexdigest()[:MARK]


def marks_of(prompts: Iterable[str]) -> str:
    """Questions by their hashes: whether another one is among them can be seen, and what they are cannot."""
    return "".join(sorted(set(map(mark_of, prompts))))


@lru_cache(maxsize=1 << 15)  # every method of a table was asked the same
def marks_of_text(text: str) -> frozenset[str]:
    """The marks of a text and of each of its lines, less a label as in `Situation: ...`: a question may stand in a prompt."""
    lines = [line for line in text.splitlines() if line.strip()]
    return frozenset(mark_of(t) for t in {text, *lines, *(line.partition(": ")[2] or line for line in lines)})


def marks_in(provenance: Any) -> frozenset[str] | None:
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


def kept(rows: Sequence[Pair]) -> tuple[tuple[Pair, ...], dict[str, int]]:
    """Rows a direction can be learnt from, and how many were dropped for what."""
    reasons = unfit(rows)
    return tuple(r for i, r in enumerate(rows) if i not in reasons), dict(Counter(reasons.values()))


def unfit(rows: Sequence[Pair]) -> dict[int, str]:
    """Positions of the rows that teach nothing, with the reason: empty, identical or duplicate.

    A row is a duplicate if either side gives an answer again that stands in an earlier row which stays, to the same
    prompt from the same persona. Answers of dropped rows do not count: nothing is trained on them.
    """
    reasons: dict[int, str] = {}
    seen: set[tuple[str, str, int, str]] = set()
    for i, r in enumerate(rows):
        sides = [(s, r.prompt, r.persona_idx, t) for s, t in (("pos", r.response_pos), ("neg", r.response_neg))]
        if not r.response_pos.strip() or not r.response_neg.strip():
            reasons[i] = "empty"
        elif folded(r.response_pos) == folded(r.response_neg):
            reasons[i] = "identical"
        elif any(s in seen for s in sides):
            reasons[i] = "duplicate"
        else:
            seen.update(sides)
    return reasons


def check(rows: Sequence[Pair], *, min_distinct: float = 0.2) -> tuple[Check, ...]:
    """Every quality check that applies to these pairs, before anything is dropped.

    Pairs without system prompts have no persona that an answer could quote.
    """
    n = len(rows)
    _, dropped = kept(rows)
    pos, neg = [r.response_pos for r in rows], [r.response_neg for r in rows]
    groups: dict[tuple[str, int], list[str]] = defaultdict(list)
    for r in rows:
        groups["pos", r.persona_idx].append(r.response_pos)
        groups["neg", r.persona_idx].append(r.response_neg)
    spread = {side: min(len(set(v)) / len(v) for (s, _), v in groups.items() if s == side) for side in ("pos", "neg")}
    single = any(len(set(v)) == 1 and len(v) > 1 for v in groups.values())
    ended = {"pos": _mean(r.ended_pos for r in rows), "neg": _mean(r.ended_neg for r in rows)}
    tokens_pos, tokens_neg = [r.n_tok_pos for r in rows], [r.n_tok_neg for r in rows]
    length_auc = auc(tokens_pos, tokens_neg)
    text_auc = separability(rows)
    personas = any(r.sys_prompt_pos or r.sys_prompt_neg for r in rows)
    leaks = {"pos": _leaks(rows, "pos"), "neg": _leaks(rows, "neg")}
    loops = {"pos": _mean(map(looping, pos)), "neg": _mean(map(looping, neg))}
    script = _mean(_script(a) != _script(b) for a, b in zip(pos, neg))

    def one(
        name,
        value,
        means,
        *,
        warn: Callable[[float], bool],
        fail: Callable[[float], bool] = lambda v: False,
        p=None,
        q=None,
    ):
        verdict = "fail" if fail(value) else "warn" if warn(value) else "ok"
        return Check(name, float(value), p, q, verdict, means)

    def above(limit: float) -> Callable[[float], bool]:
        return lambda v: v > limit

    def below(limit: float) -> Callable[[float], bool]:
        return lambda v: v < limit

    worst_spread = min(spread.values())
    found = (
        one("empty", dropped.get("empty", 0) / n, "pairs with an empty side (dropped)", warn=above(0), fail=above(0.2)),
        one(
            "identical",
            dropped.get("identical", 0) / n,
            "pairs with equal sides (dropped)",
            warn=above(0.05),
            fail=above(0.5),
        ),
        one(
            "duplicate",
            dropped.get("duplicate", 0) / n,
            "pairs of which a side was seen before (dropped)",
            warn=above(0.1),
            fail=above(0.6),
        ),
        one(
            "distinct",
            worst_spread,
            "distinct answers per row, worst persona",
            warn=below(0.5),
            fail=lambda v: v < min_distinct or single,
            p=spread["pos"],
            q=spread["neg"],
        ),
        one(
            "loops",
            max(loops.values()),
            "answers that repeat themselves",
            warn=above(0.05),
            fail=above(0.3),
            p=loops["pos"],
            q=loops["neg"],
        ),
        one(
            "ended",
            min(ended.values()),
            "answers that came to their own end",
            warn=below(0.8),
            fail=below(0.3),
            p=ended["pos"],
            q=ended["neg"],
        ),
        one(
            "length",
            length_auc,
            "side told by length alone (AUC, .5 is balanced)",
            warn=lambda v: not 0.35 <= v <= 0.65,
        ),
        one(
            "leaks",
            max(leaks.values()),
            "answers that quote their persona",
            warn=above(0.1),
            p=leaks["pos"],
            q=leaks["neg"],
        ),
        one(
            "separable",
            text_auc,
            "side told by the words (AUC by topic; .5: the personas do not show)",
            warn=lambda v: v < 0.65 or v <= max(length_auc, 1 - length_auc),
        ),
        one("script", script, "pairs whose sides use different scripts", warn=above(0.05)),
    )
    return found if personas else tuple(c for c in found if c.name != "leaks")


def insist(checks: Sequence[Check]) -> None:
    """Raise if a check failed."""
    if bad := [c for c in checks if c.verdict == "fail"]:
        told = "; ".join(f"{c.name} = {c.value:.2f} ({c.means})" for c in bad)
        raise PairsUnfit(
            f"these pairs cannot carry a direction: {told}. Look at the answers, the personas and the prompts."
        )


def auc(pos: Sequence[float], neg: Sequence[float]) -> float:
    """P(a pos value is larger than a neg value), ties half: 0.5 says the number tells nothing."""
    from scipy.stats import rankdata

    if not pos or not neg:
        return 0.5
    ranks = rankdata(np.concatenate([np.asarray(pos, float), np.asarray(neg, float)]))
    return float((ranks[: len(pos)].sum() - len(pos) * (len(pos) + 1) / 2) / (len(pos) * len(neg)))


def separability(rows: Sequence[Pair], folds: int = 5) -> float:
    """AUC of a naive Bayes on words and word pairs that has never seen the topic it judges."""
    topics = sorted({r.topic_idx for r in rows})
    if len(topics) < 2:
        return 0.5
    fold = {t: i % min(folds, len(topics)) for i, t in enumerate(topics)}
    bags = [(fold[r.topic_idx], _ngrams(r.response_pos), _ngrams(r.response_neg)) for r in rows]
    scores: tuple[list[float], list[float]] = ([], [])
    for f in set(fold.values()):
        counts = [Counter[str](), Counter[str]()]
        for g, p, q in bags:
            if g != f:
                counts[0].update(p)
                counts[1].update(q)
        words = len(counts[0].keys() | counts[1].keys()) + 1
        totals = [sum(c.values()) + words for c in counts]
        for g, p, q in bags:
            if g == f:
                for side, bag in enumerate((p, q)):
                    # the mean, not the sum: length must not decide
                    s = [np.log((counts[0][w] + 1) / totals[0]) - np.log((counts[1][w] + 1) / totals[1]) for w in bag]
                    scores[side].append(float(np.mean(s)) if s else 0.0)
    return auc(*scores)


def looping(text: str) -> bool:
    """One run of 8 words at least four times, covering more than 30 % of the answer."""
    words = text.split()
    if len(words) < 32:
        return False
    runs = Counter(tuple(words[i : i + 8]) for i in range(len(words) - 7))
    most = max(runs.values())
    return most >= 4 and 8 * most > 0.3 * len(words)


def _ngrams(text: str) -> list[str]:
    words = re.findall(r"\w+|[^\w\s]", text.casefold())
    return words + [f"{a} {b}" for a, b in zip(words, words[1:])]


def _leaks(rows: Sequence[Pair], side: str) -> float:
    """Share of answers with four words running from their own system prompt."""

    def grams(text: str) -> set[tuple[str, ...]]:
        words = re.findall(r"\w+", text.casefold())
        return {tuple(words[i : i + 4]) for i in range(len(words) - 3)}

    return _mean(bool(grams(getattr(r, f"sys_prompt_{side}")) & grams(getattr(r, f"response_{side}"))) for r in rows)


def _script(text: str) -> str:
    scripts = Counter(unicodedata.name(c, "?").split(" ")[0] for c in text if c.isalpha())
    return scripts.most_common(1)[0][0] if scripts else ""


def _mean(values: Iterable) -> float:
    found = [float(v) for v in values]
    return sum(found) / len(found) if found else 0.0
