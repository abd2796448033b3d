"""The checks: numbers about pairs, each with its limits; one that fails says that no direction can be learnt from them."""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ws.errors import PairsUnfit
from ws.pairs.pair import Check, Grade, Pair
from ws.pairs.questions import normal_form

SIDES = ("pos", "neg")


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
        elif normal_form(r.response_pos) == normal_form(r.response_neg):
            reasons[i] = "identical"
        elif any(s in seen for s in sides):
            reasons[i] = "duplicate"
        else:
            seen.update(sides)
    return reasons


# ---------------------------------------------------------------- what is looked at


@dataclass(frozen=True)
class RawPairs:
    """Pairs before anything is dropped, and what several checks look at."""

    rows: Sequence[Pair]
    min_distinct: float

    def answers(self, side: str) -> list[str]:
        """The answers of one side."""
        return [getattr(r, f"response_{side}") for r in self.rows]

    def by_persona(self, side: str) -> list[list[str]]:
        """The answers of each persona of one side."""
        groups: dict[int, list[str]] = defaultdict(list)
        for r, answer in zip(self.rows, self.answers(side)):
            groups[r.persona_idx].append(answer)
        return list(groups.values())

    @cached_property
    def dropped(self) -> dict[str, int]:
        """The number of rows that teach nothing, by reason."""
        return kept(self.rows)[1]

    @cached_property
    def length_auc(self) -> float:
        """AUC of the number of tokens as a sign of the side; 0.5 says nothing."""
        return auc([r.n_tok_pos for r in self.rows], [r.n_tok_neg for r in self.rows])

    @property
    def has_personas(self) -> bool:
        """True where any row has a system prompt."""
        return any(r.sys_prompt_pos or r.sys_prompt_neg for r in self.rows)


def _distinct(sample: RawPairs, side: str) -> float:
    """Distinct answers per row of the worst persona."""
    return min(len(set(answers)) / len(answers) for answers in sample.by_persona(side))


def _loops(sample: RawPairs, side: str) -> float:
    return _mean(map(looping, sample.answers(side)))


def _ended(sample: RawPairs, side: str) -> float:
    return _mean(getattr(r, f"ended_{side}") for r in sample.rows)


def _leaks(sample: RawPairs, side: str) -> float:
    """Share of answers with four words running from their own system prompt."""

    def grams(text: str) -> set[tuple[str, ...]]:
        words = re.findall(r"\w+", text.casefold())
        return {tuple(words[i : i + 4]) for i in range(len(words) - 3)}

    prompts = [getattr(r, f"sys_prompt_{side}") for r in sample.rows]
    return _mean(bool(grams(prompt) & grams(answer)) for prompt, answer in zip(prompts, sample.answers(side)))


def _scripts(sample: RawPairs) -> float:
    return _mean(_script(r.response_pos) != _script(r.response_neg) for r in sample.rows)


# ---------------------------------------------------------------- the table

Number = tuple[float, float | None, float | None]
"""A check's number, and that of each side where both have one."""
Limit = Callable[[float, RawPairs], Grade]
"""The verdict on a number."""


def _one(of: Callable[[RawPairs], float]) -> Callable[[RawPairs], Number]:
    """One number for both sides together."""
    return lambda sample: (of(sample), None, None)


def _dropped(reason: str) -> Callable[[RawPairs], Number]:
    """The share of rows that are dropped for one reason."""
    return _one(lambda sample: sample.dropped.get(reason, 0) / len(sample.rows))


def _worse(
    of: Callable[[RawPairs, str], float], choose: Callable[[float, float], float]
) -> Callable[[RawPairs], Number]:
    """The number of the worse side: `choose` is max or min."""

    def number(sample: RawPairs) -> Number:
        pos, neg = of(sample, "pos"), of(sample, "neg")
        return choose(pos, neg), pos, neg

    return number


def _verdict(fail: bool, warn: bool) -> Grade:
    return "fail" if fail else "warn" if warn else "ok"


def _above(warn: float, fail: float = np.inf) -> Limit:
    return lambda value, _: _verdict(value > fail, value > warn)


def _below(warn: float, fail: float = -np.inf) -> Limit:
    return lambda value, _: _verdict(value < fail, value < warn)


def _one_phrase(value: float, sample: RawPairs) -> Grade:
    """Fails for too few distinct answers, and for a persona that gives the same answer every time."""
    groups = [answers for side in SIDES for answers in sample.by_persona(side)]
    single = any(len(set(answers)) == 1 and len(answers) > 1 for answers in groups)
    return _verdict(value < sample.min_distinct or single, value < 0.5)


def _unbalanced(value: float, _: RawPairs) -> Grade:
    return _verdict(False, not 0.35 <= value <= 0.65)


def _no_better_than_length(value: float, sample: RawPairs) -> Grade:
    length = sample.length_auc
    return _verdict(False, value < 0.65 or value <= max(length, 1 - length))


@dataclass(frozen=True)
class Rule:
    """One check: its number, the verdict on it, and what it means."""

    name: str
    number: Callable[[RawPairs], Number]
    limit: Limit
    means: str


RULES = (
    Rule("empty", _dropped("empty"), _above(0, 0.2), "pairs with an empty side (dropped)"),
    Rule("identical", _dropped("identical"), _above(0.05, 0.5), "pairs with equal sides (dropped)"),
    Rule("duplicate", _dropped("duplicate"), _above(0.1, 0.6), "pairs of which a side was seen before (dropped)"),
    Rule("distinct", _worse(_distinct, min), _one_phrase, "distinct answers per row, worst persona"),
    Rule("loops", _worse(_loops, max), _above(0.05, 0.3), "answers that repeat themselves"),
    Rule("ended", _worse(_ended, min), _below(0.8, 0.3), "answers that came to their own end"),
    Rule("length", _one(lambda s: s.length_auc), _unbalanced, "side told by length alone (AUC, .5 is balanced)"),
    Rule("leaks", _worse(_leaks, max), _above(0.1), "answers that quote their persona"),
    Rule(
        "separable",
        _one(lambda s: separability(s.rows)),
        _no_better_than_length,
        "side told by the words (AUC by topic; .5: the personas do not show)",
    ),
    Rule("script", _one(_scripts), _above(0.05), "pairs whose sides use different scripts"),
)


def check_pairs(rows: Sequence[Pair], *, min_distinct: float = 0.2) -> tuple[Check, ...]:
    """Every quality check that applies to these pairs, before anything is dropped.

    Pairs without system prompts have no persona that an answer could quote.
    """
    sample, checks = RawPairs(rows, min_distinct), []
    for rule in RULES:
        if rule.name != "leaks" or sample.has_personas:
            value, pos, neg = rule.number(sample)
            checks.append(Check(rule.name, value, pos, neg, rule.limit(value, sample), rule.means))
    return tuple(checks)


def refuse_failed(checks: Sequence[Check]) -> None:
    """Raise if a check failed."""
    if bad := [c for c in checks if c.verdict == "fail"]:
        failures = "; ".join(f"{c.name} = {c.value:.2f} ({c.means})" for c in bad)
        raise PairsUnfit(
            f"these pairs cannot carry a direction: {failures}. Look at the answers, the personas and the prompts."
        )


# ---------------------------------------------------------------- statistics of texts


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


def _script(text: str) -> str:
    scripts = Counter(unicodedata.name(c, "?").split(" ")[0] for c in text if c.isalpha())
    return scripts.most_common(1)[0][0] if scripts else ""


def _mean(values: Iterable[float]) -> float:
    numbers = [float(v) for v in values]
    return sum(numbers) / len(numbers) if numbers else 0.0
