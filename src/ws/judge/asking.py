"""A judge that is a model: every case is one message at temperature 0, and its reply is read by the rubric.

A reply that is not in form is asked for once more, by a message that asks for the last line alone. If that is not in form
either, the judge abstains. Cases that read alike are judged once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ws.endpoint import Endpoint, Question
from ws.errors import BadFile, JudgeUnfit
from ws.generate import HOTTEST, Answer, Sampling
from ws.judge.case import Case, Judge, Verdict
from ws.judge.rubrics import MALFORMED, Rubric, rubric
from ws.judge.rules import rule
from ws.judge.writers import FLAGS, Local, Server, Writer
from ws.models.gguf import names_gguf
from ws.models.load import Base, load
from ws.models.locate import locate, refuse_nowhere
from ws.records import slug
from ws.settings import Range, at_least, refuse_outside

FIRST = 8
"""Cases that are judged before the others, so that a judge that never answers in form costs little."""
NO_REPLY = "no reply"


@dataclass(frozen=True)
class JudgeSettings:
    """How a model is asked for verdicts."""

    judge_concurrency: int = 8
    """Requests under way at once, where the judge is a server."""
    temperature: float = 0.0
    """Sampling temperature of the judge; 0 takes the likeliest words."""
    max_new_tokens: int = 512
    """Longest reply of the judge, which has its verdict at the end."""
    seed: int = 0
    """Seed of the judge's sampling."""

    def __post_init__(self):
        refuse_outside(
            self,
            judge_concurrency=at_least(1),
            temperature=Range(0, HOTTEST),
            max_new_tokens=at_least(1),
            seed=at_least(0),
        )


@dataclass
class Bill:
    """What a judge was asked, and what that took."""

    asked: int = 0
    """Replies that were written now."""
    kept: int = 0
    """Replies that were there already and cost nothing."""
    tokens_in: int = 0
    tokens_out: int = 0
    guessed: bool = False
    """Whether some tokens are guessed from letters, because the server does not count them."""


@dataclass(frozen=True)
class Estimate:
    """What a judge is about to be asked, and what that may take at most, unless replies are not in form."""

    judge: str
    cases: int
    distinct: int
    """Cases that read differently."""
    kept: int
    """Those of them that were judged before."""
    tokens_in: int
    """Tokens of the messages, a guess where the judge is a server."""
    tokens_out: int
    """Most tokens of the replies."""

    @property
    def asked(self) -> int:
        """The requests to come."""
        return self.distinct - self.kept


@dataclass(frozen=True, eq=False)
class ModelJudge:
    """A model that gives verdicts by a rubric."""

    rubric: Rubric
    writer: Writer
    max_new_tokens: int = 512
    vote: int = 0
    """The number of the vote: another one asks the same again."""
    bill: Bill = field(default_factory=Bill)

    @property
    def id(self) -> str:
        """What stands in its verdicts."""
        return f"{self.writer.id}|{self.rubric.id}"

    @property
    def name(self) -> str:
        """Its id, with the number of the vote where that is not the first."""
        return f"{self.id} vote {self.vote + 1}" if self.vote else self.id

    @property
    def measures(self) -> str:
        """The rubric whose numbers it gives."""
        return self.rubric.name

    def estimate(self, cases: Sequence[Case]) -> Estimate:
        """What these cases would take; nothing is asked."""
        questions = [self._question(case) for case in _distinct(cases).values()]
        missing = self.writer.missing(questions)
        tokens = sum(self.writer.count(q.user) for q in missing)
        kept = len(questions) - len(missing)
        return Estimate(self.name, len(cases), len(questions), kept, tokens, self.max_new_tokens * len(missing))

    def __call__(self, cases: Sequence[Case]) -> list[Verdict]:
        """A verdict for every case, in their order."""
        distinct = _distinct(cases)
        some = list(distinct.values())
        verdicts = self._judged(some[:FIRST])
        if len(verdicts) == FIRST and all(v.value is None and v.label in (MALFORMED, NO_REPLY) for v in verdicts):
            raise JudgeUnfit(
                f"{self.writer.id} never answers in form: of its first {FIRST} replies none has a last line as "
                f"{self.rubric.name} asks for, {self.rubric.form!r}, and none at the second try. Take an abler model, or "
                "give it more room by `max_new_tokens`."
            )
        verdicts += self._judged(some[FIRST:])
        by_key = dict(zip(distinct, verdicts))
        return [by_key[case.key] for case in cases]

    def _judged(self, cases: Sequence[Case]) -> list[Verdict]:
        first = self._written([self._question(case) for case in cases])
        bad = [i for i, a in enumerate(first) if self.rubric.parse(a.text)[1] == MALFORMED]
        second = dict(zip(bad, self._written([self._question(cases[i], again=True) for i in bad])))
        return [self._verdict([a, second[i]] if i in second else [a]) for i, a in enumerate(first)]

    def _verdict(self, tries: Sequence[Answer]) -> Verdict:
        """The verdict of the last try."""
        value, label = self.rubric.parse(tries[-1].text)
        if label == MALFORMED and not any(t.text for t in tries):
            label = NO_REPLY
        return Verdict(
            value,
            label,
            self.id,
            sum(t.n_read for t in tries),
            sum(t.n_tokens for t in tries),
            tries[-1].text,
        )

    def _question(self, case: Case, *, again: bool = False) -> Question:
        text = self.rubric.again(case) if again else self.rubric.prompt(case)
        return Question(f"{case.key[:16]}/{self.vote}{'/again' if again else ''}", text, None, self.max_new_tokens)

    def _written(self, questions: Sequence[Question]) -> list[Answer]:
        if not questions:
            return []
        new = {q.name for q in self.writer.missing(questions)}
        answers = self.writer.write(questions, f"{self.rubric.name} verdicts")
        bill = self.bill
        bill.asked, bill.kept = bill.asked + len(new), bill.kept + len(questions) - len(new)
        for question, answer in zip(questions, answers):
            if question.name in new:
                bill.tokens_in += answer.n_read or self.writer.count(question.user)
                bill.tokens_out += answer.n_tokens or self.writer.count(answer.text)
                bill.guessed |= not answer.n_read
        return answers


def _distinct(cases: Sequence[Case]) -> Mapping[str, Case]:
    """Cases by what they read."""
    return {case.key: case for case in reversed(cases)}


def refuse_nobody(by: str) -> None:
    """Refuse a judge by name that is nowhere, before anything is loaded or asked."""
    if by.partition(":")[0] == "rule":
        if own := by.partition(":")[2]:
            rule(own)
    elif not by.startswith(("http:", "https:")):
        try:
            names_gguf(by) or locate(by)
        except BadFile:
            raise BadFile(
                f"{by!r} is no judge: take rule, the address of a server (http://...#MODEL), or a model (tiny, a hub id, a folder)."
            ) from None
        refuse_nowhere(by)


def judge_named(
    by: str | Base | Endpoint,
    name: str,
    settings: JudgeSettings | None = None,
    *,
    out: Path | None = None,
    vote: int = 0,
) -> Judge:
    """The judge that is meant: `rule`, `rule:NAME`, an address with the model after a #, a model by name, or a value.

    `out` is the folder below which replies are kept.
    """
    settings = settings or JudgeSettings()
    if isinstance(by, str) and by.partition(":")[0] == "rule":
        own = by.partition(":")[2]
        return rule(own or name)
    one = rubric(name)
    folder = None if out is None else out / "judges" / slug(one.id)
    sampling = Sampling(settings.temperature)
    if isinstance(by, str) and by.startswith(("http:", "https:")):
        url, _, model = by.partition("#")
        by = Endpoint.from_environment(url, model=model or None, concurrency=settings.judge_concurrency, flags=FLAGS)
    if isinstance(by, Endpoint):
        writer: Writer = Server(replace(by, model=by.served()), sampling, settings.seed, folder)
    else:
        writer = Local(load(by) if isinstance(by, str) else by, sampling, settings.seed, folder)
    return ModelJudge(one, writer, settings.max_new_tokens, vote)
