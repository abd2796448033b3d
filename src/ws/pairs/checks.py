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
TELLS = 0.65
"""AUC from which the answers tell which side gave them."""


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
    return _verdict(False, value < TELLS or value <= max(length, 1 - length))


@dataclass(frozen=True)
class Rule:
    """One check: its number, the verdict on it, what it means, and what mends it."""

    name: str
    number: Callable[[RawPairs], Number]
    limit: Limit
    means: str
    mend: str
    applies: Callable[[RawPairs], bool] = lambda sample: True


OPPOSE = "choose personas that are further apart, or questions on which they differ"

RULES = (
    Rule(
        "empty",
        _dropped("empty"),
        _above(0, 0.2),
        "pairs with an empty side (dropped)",
        "look at what the personas ask for: an answer must have words",
    ),
    Rule("identical", _dropped("identical"), _above(0.05, 0.5), "pairs with equal sides (dropped)", OPPOSE),
    Rule(
        "duplicate",
        _dropped("duplicate"),
        _above(0.1, 0.6),
        "pairs of which a side was seen before (dropped)",
        "ask more questions, and each of them less often (`n_samples`)",
    ),
    Rule(
        "distinct",
        _worse(_distinct, min),
        _one_phrase,
        "distinct answers per row, worst persona",
        "ask other questions: the model has too few phrases for these",
    ),
    Rule(
        "loops",
        _worse(_loops, max),
        _above(0.05, 0.3),
        "answers that repeat themselves",
        "give a higher `temperature`, or a lower `max_new_tokens`",
    ),
    Rule(
        "ended",
        _worse(_ended, min),
        _below(0.8, 0.3),
        "answers that came to their own end",
        "give a higher `max_new_tokens`, or ask for short answers in the template",
    ),
    Rule(
        "length",
        _one(lambda s: s.length_auc),
        _unbalanced,
        "side told by length alone (AUC, .5 is balanced)",
        "ask both personas for answers of one length, or the direction is one of length too",
    ),
    Rule(
        "leaks",
        _worse(_leaks, max),
        _above(0.1),
        "answers that quote their persona",
        "say in the personas who answers, and not what to say",
        applies=lambda s: s.has_personas,
    ),
    Rule(
        "separable",
        _one(lambda s: separability(s.rows)),
        _no_better_than_length,
        "side told by the words (AUC by topic; .5: the personas do not show)",
        OPPOSE,
    ),
    Rule(
        "consistent",
        _one(lambda s: consistency(s.rows)),
        _no_better_than_length,
        "side told by its other answers to the same question (AUC)",
        OPPOSE,
        applies=lambda s: any(len(group) > 1 for group in by_question(s.rows)),
    ),
    Rule(
        "script",
        _one(_scripts),
        _above(0.05),
        "pairs whose sides use different scripts",
        "name the language of the answers in the template",
    ),
)
MENDS = {rule.name: rule.mend for rule in RULES}
"""Check to what mends it."""


def check_pairs(rows: Sequence[Pair], *, min_distinct: float = 0.2) -> tuple[Check, ...]:
    """Every quality check that applies to these pairs, before anything is dropped.

    Pairs without system prompts have no persona that an answer could quote, and one pair a question has no other to agree with.
    """
    sample, checks = RawPairs(rows, min_distinct), []
    for rule in RULES:
        if rule.applies(sample):
            value, pos, neg = rule.number(sample)
            checks.append(Check(rule.name, value, pos, neg, rule.limit(value, sample), rule.means))
    return tuple(checks)


def refuse_failed(checks: Sequence[Check], accept: Sequence[str] = ()) -> list[str]:
    """Raise if a check failed that is not accepted by name; the names of those that failed and are."""
    failed = [c for c in checks if c.verdict == "fail"]
    if bad := [c for c in failed if c.name not in accept]:
        failures = "; ".join(map(in_words, bad))
        raise PairsUnfit(f"these pairs cannot carry a direction: {failures}. `ws data --preview` shows some answers.")
    return [c.name for c in failed]


def in_words(check: Check) -> str:
    """A check that is not ok as its number, what that is, and what mends it."""
    return f"{check.name} = {check.value:.2f}, {check.means}: {MENDS.get(check.name, 'look at the answers')}"


# ---------------------------------------------------------------- statistics of texts


def auc(pos: Sequence[float], neg: Sequence[float]) -> float:
    """P(a pos value is larger than a neg value), ties half: 0.5 says the number tells nothing."""
    from scipy.stats import rankdata

    if not pos or not neg:
        return 0.5
    ranks = rankdata(np.concatenate([np.asarray(pos, float), np.asarray(neg, float)]))
    return float((ranks[: len(pos)].sum() - len(pos) * (len(pos) + 1) / 2) / (len(pos) * len(neg)))


def separability(rows: Sequence[Pair]) -> float:
    """AUC of a naive Bayes on words and word pairs that has never seen the topic it judges."""
    return _auc_of(_scores_by_topic(rows))


def consistency(rows: Sequence[Pair]) -> float:
    """AUC of a naive Bayes that has seen only other answers to the same question.

    What a side says may hang on the question, so that no word stands for the side: "that is wrong" of one deed, "that is
    fine" of another. Other personas and samples of the side then say it too.
    """
    return _auc_of(_scores_by_question(rows))


def auc_interval(rows: Sequence[Pair], name: str, resamples: int = 2000) -> tuple[float, float]:
    """The 95 % interval of `separable` or `consistent` over questions; all there is between 0 and 1 where there is one."""
    from scipy.special import stdtrit

    scores = {"separable": _scores_by_topic, "consistent": _scores_by_question}[name](rows)
    numbers = {t: i for i, t in enumerate(sorted({t for t, _, _ in scores}))}
    n = len(numbers)
    if n < 2:
        return 0.0, 1.0
    topic = np.array([numbers[t] for t, _, _ in scores])
    pos, neg = (np.array([s[side] for s in scores]) for side in (1, 2))
    wins = (pos[:, None] > neg[None]) + (pos[:, None] == neg[None]) / 2
    member = np.eye(n)[topic]  # (rows, topics)
    wins, size = member.T @ wins @ member, member.sum(axis=0)
    drawn = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), resamples).astype(float)
    found = ((drawn @ wins) * drawn).sum(axis=1) / (drawn @ size) ** 2
    value, far = float(wins.sum() / size.sum() ** 2), float(stdtrit(n - 1, 0.975) * found.std())
    return max(0.0, value - far), min(1.0, value + far)


Scored = tuple[int, float, float]
"""The topic of a pair, and the scores of its pos and its neg answer; a higher one says pos."""
Bag = list[str]


def _auc_of(scores: Sequence[Scored]) -> float:
    return auc([p for _, p, _ in scores], [n for _, _, n in scores])


def _scores_by_topic(rows: Sequence[Pair], folds: int = 5) -> list[Scored]:
    """Every pair, judged by what the pairs of other topics say."""
    topics = sorted({r.topic_idx for r in rows})
    if len(topics) < 2:
        return []
    fold = {t: i % min(folds, len(topics)) for i, t in enumerate(topics)}
    bags = [(r.topic_idx, _ngrams(r.response_pos), _ngrams(r.response_neg)) for r in rows]
    scores = []
    for f in sorted(set(fold.values())):
        score = _learn([(p, n) for t, p, n in bags if fold[t] != f])
        scores += [(t, score(p), score(n)) for t, p, n in bags if fold[t] == f]
    return scores


def _scores_by_question(rows: Sequence[Pair]) -> list[Scored]:
    """Every pair of a question with several, judged by what the others of it say."""
    scores = []
    for group in by_question(rows):
        bags = [(_ngrams(r.response_pos), _ngrams(r.response_neg)) for r in group]
        for i, (p, n) in enumerate(bags if len(bags) > 1 else []):
            score = _learn(bags[:i] + bags[i + 1 :])
            scores.append((group[i].topic_idx, score(p), score(n)))
    return scores


def by_question(rows: Sequence[Pair]) -> list[list[Pair]]:
    """The pairs of each question."""
    groups: dict[int, list[Pair]] = defaultdict(list)
    for r in rows:
        groups[r.topic_idx].append(r)
    return list(groups.values())


def _learn(bags: Iterable[tuple[Bag, Bag]]) -> Callable[[Bag], float]:
    """How much the words of an answer speak for pos, after these pairs: a mean over them, so that length does not decide."""
    counts = Counter[str](), Counter[str]()
    for both in bags:
        for count, bag in zip(counts, both):
            count.update(bag)
    words = len(counts[0].keys() | counts[1].keys()) + 1
    totals = [sum(c.values()) + words for c in counts]

    def score(bag: Bag) -> float:
        s = [np.log((counts[0][w] + 1) / totals[0]) - np.log((counts[1][w] + 1) / totals[1]) for w in bag]
        return float(np.mean(s)) if s else 0.0

    return score


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
