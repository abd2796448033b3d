"""What a written answer is worth: numbers that a rule reads off it, or that a judge gives.

A protocol whose answers are judged says for each `kind` of its items what is asked of an answer: a rule, or a rubric that no
rule decides and that takes a judge. Gold answers are part of an item: `words` holds the accepted and the wrong ones; of a
rubric with a standard, the standard. What stands after the last colon of a row key names what is asked, and rows that
differ only there are one answer, written once:

    17:right, 17:agree        one answer to question 17, judged twice

An exact rule decides whoever the judge is. A judge's replies are kept by what was asked, so that nothing is paid twice. Where
it abstains a row has no value, and is counted as not scored.
"""

from collections.abc import Iterable, Mapping, Sequence

from ws.errors import ScoringImpossible
from ws.eval.scoring import Item
from ws.judge import Case, Judge, Rule, judge_named
from ws.models.hashes import cache_folder

Asked = Mapping[str, Rule | str]
"""Kind of item to the rule that decides it, or to the name of the rubric that a judge decides."""


def answer_of(row_key: str) -> str:
    """The answer that a row is about: several rows may ask something of one answer."""
    return row_key.rpartition(":")[0] or row_key


def case_of(item: Item, text: str) -> Case:
    """A written answer as a judge sees it."""
    gold, wrong = item.words
    return Case(item.row_key, item.chat.user, text, gold, wrong, " / ".join(gold))


def values_of(asked: Asked, judge: str | None, answers: Iterable[tuple[Item, str]]) -> list[float]:
    """What every answer is worth, in their order; NaN where a judge abstains."""
    answers = list(answers)
    values = [float("nan")] * len(answers)
    for kind in dict.fromkeys(item.kind for item, _ in answers):
        rows = [i for i, (item, _) in enumerate(answers) if item.kind == kind]
        verdicts = judge_of(asked[kind], judge)([case_of(*answers[i]) for i in rows])
        for i, verdict in zip(rows, verdicts):
            values[i] = verdict.number
    return values


def judge_of(asks: Rule | str, judge: str | None) -> Judge:
    """Who decides what is asked of an answer."""
    if isinstance(asks, Rule) and (asks.exact or judge is None):
        return asks
    name = asks.measures if isinstance(asks, Rule) else asks
    if judge is None:
        raise ScoringImpossible(f"{name} is decided by no rule; name a judge with `judge=URL#MODEL` or `judge=MODEL`.")
    return judge_named(judge, name, out=cache_folder())


def needs_judge(asked: Asked) -> Sequence[str]:
    """The rubrics that no rule decides."""
    return list(dict.fromkeys(asks for asks in asked.values() if isinstance(asks, str)))


def short(judge: str) -> str:
    """A judge's name as a part of a protocol's id: of a server, the model behind it."""
    return (judge.partition("#")[2] or judge).replace("@", "-").replace(" ", "-")
