"""Pairs: the same questions, answered by two opposite personas of the model itself.

Every row asks one question twice, under persona i of the pos side and persona i of the neg side. Answers end where the
model ends them; nothing is generated that training would cut.
"""

import json
import logging
import random
import time
from collections.abc import Container, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ws.answer_store import AnswerStore, sha_of
from ws.behaviors import Behavior, Prompt, load_behavior
from ws.endpoint import Endpoint, Question
from ws.errors import PairsUnfit, Unsupported
from ws.generate import HOTTEST, Answer, Request, Sampling, complete, context_of
from ws.judge import PairJudge, sifted
from ws.models.chat import Chat, check_thinking, encode, has_template, refuse_thoughtless, render, thinks, token_called
from ws.models.load import Base
from ws.pairs import MENDS, Check, Pair, Pairs, check_pairs, kept, normal_form, outlook, refuse_failed, unfit
from ws.records import writable, write_text
from ws.settings import Range, above, at_least, refuse_outside
from ws.signatures import plain_types
from ws.types import Json

log = logging.getLogger(__name__)

# 2: a pair of which one side repeats an earlier answer is a duplicate; 3: says which questions were asked;
# 4: last bits of a row no longer depend on its batch, so that a rare token is another
PROTOCOL = "data/4"
GIVEN_PROTOCOL = "given-pairs/2"
TOPICS = 50
TINY_TOPICS = 160  # short questions, short answers
ROWS = 1000  # what n_samples fills up to when it is not given


@dataclass(frozen=True)
class DataSettings:
    """How pairs are made."""

    n_topics: int | None = None
    """How many of the behavior's questions are used; when not given, what its pack says, else 50 (160 on tiny), or all of a data set."""
    n_personas: int | None = None
    """How many of its persona pairs are used; all when not given."""
    n_samples: int | None = None
    """Answers per question and persona; when not given, as many as make about 1,000 rows (one on tiny)."""
    max_len: int = 512
    """Longest training sequence; answers are generated to fit."""
    max_new_tokens: int | None = None
    """Cap on the length of an answer, below what fits."""
    min_new_tokens: int = 0
    """Tokens before which no answer may end; 0 lets every answer end by itself."""
    temperature: float | None = None
    """Sampling temperature; the model family's default when not given."""
    top_p: float | None = None
    """Nucleus of sampling; the model family's default when not given."""
    top_k: int | None = None
    """Candidates of sampling; the model family's default when not given."""
    thinking: str = "off"
    """Whether the model thinks before it answers: off, on or forced."""
    shuffle_topics: bool = True
    """Take the questions in a seeded order instead of the file's."""
    min_distinct: float = 0.2
    """Fewest distinct answers per row, in the worst persona, that are taken for answers and not for one phrase."""
    seed: int = 0
    """Seed of the order and of sampling."""
    accept: tuple[str, ...] = ()
    """Checks that stop nothing although they fail, by name, e.g. ended,distinct; it is recorded."""
    strict: bool = False
    """Stop after the first dozen pairs if they promise no direction, instead of saying so and going on."""

    def __post_init__(self):
        refuse_outside(
            self,
            **dict.fromkeys(("n_topics", "n_personas", "n_samples", "max_new_tokens"), at_least(1)),
            **dict.fromkeys(("min_new_tokens", "top_k", "seed"), at_least(0)),
            max_len=at_least(16),
            temperature=Range(0, HOTTEST),
            top_p=above(0, 1),
            min_distinct=Range(0, 1),
        )
        if self.max_new_tokens is not None and self.min_new_tokens > self.max_new_tokens:
            raise ValueError(
                f"`min_new_tokens` {self.min_new_tokens} is more than `max_new_tokens` {self.max_new_tokens}"
            )
        check_thinking(self.thinking)
        if unknown := [name for name in self.accept if name not in MENDS]:
            raise ValueError(f"there is no check {unknown[0]!r} to `accept`; there are {', '.join(MENDS)}")


IN_NO_KEY = ("accept", "strict")
"""Settings that change no answer: with and without them a study is the same one."""

PREVIEW_QUESTIONS = 10


@dataclass(frozen=True, eq=False)
class Preview:
    """A few questions of a study with their answers, nothing dropped, and what checks say of them."""

    rows: tuple[Pair, ...]
    checks: tuple[Check, ...]
    planned: int
    """How many pairs the whole study asks for."""


def preview(
    base: Base, source: Behavior | Pairs, settings: DataSettings, *, endpoint: Endpoint | None = None
) -> Preview:
    """A few questions, answered as the study would have them answered: word for word what would stand in its pairs.

    Answers that are there already cost nothing, so all of them are looked at.
    """
    given = source if isinstance(source, Pairs) else source.answers
    if given is not None:
        chosen = None if isinstance(source, Pairs) else {normal_form(p.text) for p in topics_of(source, settings)}
        rows = _used(base, given, chosen)[1]
        return Preview(tuple(rows), check_pairs(rows, min_distinct=settings.min_distinct), len(rows))
    assert isinstance(source, Behavior)
    whole = rows_to_fill(source, settings)
    personas, samples = (1 + max(getattr(r, f"{of}_idx") for r in whole) for of in ("persona", "sample"))
    samples = min(samples, 2 if personas == 1 else 1)  # two answers a side show whether it keeps to one
    n_topics = min(PREVIEW_QUESTIONS, 1 + max(r.topic_idx for r in whole))
    rows, _ = ask(base, source, replace(settings, n_topics=n_topics, n_samples=samples), endpoint=endpoint)
    checks = _as_asked(check_pairs(rows, min_distinct=settings.min_distinct), settings)
    return Preview(tuple(rows), checks, len(whole))


@plain_types
def data(
    base: Base,
    behavior: Behavior | str,
    settings: DataSettings | None = None,
    *,
    batch_size: int | None = None,
    endpoint: Endpoint | None = None,
    judge: PairJudge | str | None = None,
    work: Path | None = None,
    **changes: Any,
) -> Pairs:
    """Pairs of answers under the opposite personas of a behavior.

    A behavior that brings a data set gives its own pairs, checked in the same way. Fields of `DataSettings` may be given
    directly: `ws.data(base, "honesty", n_topics=20)`. With `endpoint`, a server answers and the base lends only its
    tokenizer; `work` is where its answers are kept as they come. A `judge`, by its address or its model, drops the pairs
    whose sides do not show what they should.
    """
    settings = replace(settings or default_data(base), **changes)
    if isinstance(behavior, str):
        behavior = load_behavior(behavior, tiny=base.tiny)
    refuse_topics(behavior, changes.get("n_topics"))
    if judge is not None:
        who = PairJudge.of(judge, out=work) if isinstance(judge, str) else judge
        pairs = data(base, behavior, settings, batch_size=batch_size, endpoint=endpoint, work=work)
        return sifted(pairs, who, behavior.pos_means)
    if behavior.answers is not None:
        if endpoint is not None:
            raise ValueError(f"the data set of {behavior.name!r} gives the answers; leave out `generate_with`")
        return _from_dataset(base, behavior, settings)
    rows, writer = ask(base, behavior, settings, batch_size=batch_size, endpoint=endpoint, work=work)
    checks = _as_asked(check_pairs(rows, min_distinct=settings.min_distinct), settings)
    try:
        overruled = refuse_failed(checks, settings.accept)
    except PairsUnfit as e:
        if work is None:
            raise
        raise PairsUnfit(f"{e} {_kept_unfit(rows, checks, work)}") from None
    good, dropped = kept(rows)
    return Pairs(
        good,
        {
            "source": "generated" if endpoint is None else "endpoint",
            "protocol": PROTOCOL,
            "behavior": behavior.name,
            "poles": {"pos": behavior.pos_means, "neg": behavior.neg_means},
            "behavior_hash": behavior.content_hash,
            "settings": asdict(settings),
            "sampling": asdict(sampling_of(base, settings)),
            "template": "chat" if has_template(base.tokenizer) else "plain",
            "topics": sorted({r.topic_idx for r in rows}),
            "n_generated": len(rows),
            "dropped": dropped,
            "overruled": overruled,
            **writer,
        },
        checks,
    )


def _as_asked(checks: Sequence[Check], settings: DataSettings) -> tuple[Check, ...]:
    """The checks; answers that the settings cut, or do not let end, only warn where few came to their own end.

    Training gives an answer that did not end no end token.
    """
    soft = [
        replace(c, verdict="warn") if _cut(settings) and c.name == "ended" and c.verdict == "fail" else c
        for c in checks
    ]
    for before, after in zip(checks, soft):
        if before is not after:
            log.warning(
                "%.0f %% of the answers of one side did not end within the settings' %s tokens; they are trained without an end",
                100 * (1 - after.value),
                settings.max_new_tokens or settings.min_new_tokens,
            )
    return tuple(soft)


def _cut(settings: DataSettings) -> bool:
    """True where the settings say when an answer is over, or may not be."""
    return bool(settings.min_new_tokens or settings.max_new_tokens)


def _kept_unfit(rows: Sequence[Pair], checks: Sequence[Check], work: Path) -> str:
    """Write the pairs that failed, each marked with the checks that did, and say where they are."""
    names, file = [c.name for c in checks if c.verdict == "fail"], work / "resume" / "unfit-pairs.jsonl"
    writable(file.parent)
    write_text(file, "".join(json.dumps({**asdict(r), "unfit": names}) + "\n" for r in rows))
    return (
        f"All {len(rows)} pairs are kept in {file}, marked unfit. `accept={','.join(names)}` trains on them all the same; "
        f"move {file.parent} away to have them written again."
    )


def ask(
    base: Base,
    behavior: Behavior,
    settings: DataSettings,
    *,
    batch_size: int | None = None,
    endpoint: Endpoint | None = None,
    work: Path | None = None,
) -> tuple[list[Pair], Json]:
    """Every row with the answers of both sides, before anything is looked at, and who wrote them."""
    grid, sampling = rows_to_fill(behavior, settings), sampling_of(base, settings)
    if endpoint is None:
        answers, writer = _own(base, grid, settings, sampling, batch_size, work, behavior.name)
    else:
        answers, writer = _served(base, grid, settings, sampling, endpoint, work, behavior.name)
    return [_filled(cell, pos, neg) for cell, pos, neg in zip(grid, answers[::2], answers[1::2])], writer


def _filled(cell: Pair, pos: Answer, neg: Answer) -> Pair:
    """A row of the grid with both of its answers."""
    return replace(
        cell,
        response_pos=pos.text,
        response_neg=neg.text,
        ended_pos=pos.ended,
        ended_neg=neg.ended,
        n_tok_pos=pos.n_tokens,
        n_tok_neg=neg.n_tokens,
    )


GIVEN_SETTINGS = ("n_topics", "shuffle_topics", "seed", "min_distinct")
"""Settings that mean something where a data set gives the answers."""


def _from_dataset(base: Base, behavior: Behavior, settings: DataSettings) -> Pairs:
    """The pairs of a behavior's data set, on the questions of this study."""
    assert behavior.answers is not None
    questions = {normal_form(p.text) for p in topics_of(behavior, settings)}
    pairs = checked(
        base, behavior.answers, questions=questions, min_distinct=settings.min_distinct, accept=settings.accept
    )
    record = {
        "behavior": behavior.name,
        "poles": {"pos": behavior.pos_means, "neg": behavior.neg_means},
        "behavior_hash": behavior.content_hash,
        "settings": {k: getattr(settings, k) for k in GIVEN_SETTINGS},
    }
    return Pairs(pairs.rows, {**pairs.provenance, **record}, pairs.checks)


def checked(
    base: Base,
    pairs: Pairs,
    *,
    questions: Container[str] | None = None,
    min_distinct: float = 0.2,
    accept: Sequence[str] = (),
) -> Pairs:
    """Pairs that somebody else wrote, as a study uses them: tokens counted, quality checked, useless rows dropped.

    `questions` are those that are used, folded; all when not given.
    """
    numbers, rows = _used(base, pairs, questions)
    checks = check_pairs(rows, min_distinct=min_distinct)
    overruled = refuse_failed(checks, accept)
    dropped: dict[str, list[int]] = {}
    for i, reason in unfit(rows).items():
        dropped.setdefault(reason, []).append(numbers[i])
    good, _ = kept(rows)
    record = {
        "protocol": GIVEN_PROTOCOL,
        "template": "chat" if has_template(base.tokenizer) else "plain",
        "n_rows": len(pairs.rows),
        "n_questions": len({normal_form(r.prompt) for r in pairs.rows}),
        "n_rows_used": len(rows),
        "topics": sorted({r.topic_idx for r in rows}),
        "n_questions_used": len({normal_form(r.prompt) for r in rows}),
        "dropped": {reason: len(places) for reason, places in dropped.items()},
        "dropped_rows": dropped,
        "overruled": overruled,
    }
    return Pairs(good, {**pairs.provenance, **record}, checks)


def _used(base: Base, pairs: Pairs, questions: Container[str] | None) -> tuple[list[int], list[Pair]]:
    """The rows of given pairs on these questions, with their numbers in the file."""
    numbers = [i for i, r in enumerate(pairs.rows, 1) if questions is None or normal_form(r.prompt) in questions]
    rows = [pairs.rows[i - 1] for i in numbers]
    if not all(r.n_tok_pos and r.n_tok_neg for r in rows):  # counts of two tokenizers say nothing about length
        rows = [_counted(base, r) for r in rows]
    return numbers, rows


def _counted(base: Base, r: Pair) -> Pair:
    """A pair with the token counts of this base."""
    pos, neg = _length(base, r.response_pos, r.ended_pos), _length(base, r.response_neg, r.ended_neg)
    return replace(r, n_tok_pos=pos, n_tok_neg=neg)


def _length(base: Base, answer: str, ended: bool) -> int:
    """Tokens of an answer, with the one that ends it."""
    return len(encode(base.tokenizer, answer)) + ended


def _own(
    base: Base,
    grid: Sequence[Pair],
    settings: DataSettings,
    sampling: Sampling,
    batch_size: int | None,
    work: Path | None,
    name: str,
) -> tuple[list[Answer], Json]:
    """The base's own answers, pos and neg of every row in turn, and the batch size that fitted; kept as they come."""
    refuse_thoughtless(base.tokenizer, settings.thinking)
    requests, fewest = [], settings.min_new_tokens
    for cell, room in zip(grid, _rooms(base, grid, settings)):
        for side, system in _sides(cell):
            text = render(base.tokenizer, Chat(cell.prompt, system), thinking=settings.thinking)
            requests.append(
                Request(tuple(encode(base.tokenizer, text)), room, f"{side}/{_name(cell)}/{cell.sample_idx}", fewest)
            )
    store = AnswerStore(work, sha_of([PROTOCOL, base.fingerprint, str(base.dtype), asdict(sampling), settings.seed]))
    asks = [sha_of(asdict(r)) for r in requests]
    missing = [i for i, ask in enumerate(asks) if ask not in store.answers]
    if len(missing) < len(requests):
        log.info("%d of %d answers were written before", len(requests) - len(missing), len(requests))
    preflight = Preflight(grid, settings)
    for i, ask in enumerate(asks):
        if ask in store.answers:
            preflight.see(i, store.answers[ask][0])

    def keep(number: int, answer: Answer) -> None:
        i = missing[number]
        store.add(asks[i], requests[i].name, [answer])
        preflight.see(i, answer)

    _, fitted = complete(
        base,
        [requests[i] for i in missing],
        sampling,
        seed=settings.seed,
        batch_size=batch_size,
        first={n for n, i in enumerate(missing) if i in preflight.numbers},
        keep=keep,
        label=f"{name} answers",
    )
    return [store.answers[ask][0] for ask in asks], {"batch_size": fitted}


def _long(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


PREFLIGHT_PAIRS = 12
WORTH_SAYING = 60.0
"""Seconds that the rest must take for a doubt to be said before it is done."""


class Preflight:
    """The first dozen pairs of a study, looked at as soon as they are there, while the others are being written."""

    def __init__(self, grid: Sequence[Pair], settings: DataSettings):
        self.grid, self.settings, self.start = grid, settings, time.monotonic()
        # one sample of as many questions as there are, and persona by persona
        order = sorted(range(len(grid)), key=lambda i: (grid[i].sample_idx, grid[i].persona_idx, grid[i].topic_idx))
        step = max(1, len(order) // PREFLIGHT_PAIRS)
        self.cells = order[::step][:PREFLIGHT_PAIRS] if len(grid) > PREFLIGHT_PAIRS else []
        self.numbers = {2 * i + side for i in self.cells for side in (0, 1)}
        """The numbers of their answers."""
        self.answers: dict[int, Answer] = {}
        self.seen = 0

    def see(self, number: int, answer: Answer) -> None:
        """Take note of an answer; with the last of the first, say what they promise."""
        self.seen += 1
        if number in self.numbers and number not in self.answers:
            self.answers[number] = answer
            if len(self.answers) == len(self.numbers):
                self._judge([_filled(self.grid[i], self.answers[2 * i], self.answers[2 * i + 1]) for i in self.cells])

    def _judge(self, rows: list[Pair]) -> None:
        """Say what is hopeless or doubtful, with the time that the rest takes; stop there only if that was asked for."""
        checks = check_pairs(rows, min_distinct=self.settings.min_distinct)
        settled = {*self.settings.accept, *(("ended",) if _cut(self.settings) else ())}
        checks = tuple(replace(c, verdict="warn") if c.name in settled and c.verdict == "fail" else c for c in checks)
        grade, sentence = outlook(checks, rows)
        rest = (time.monotonic() - self.start) * (2 * len(self.grid) / self.seen - 1)
        if grade == "ok" or (rest < WORTH_SAYING and not self.settings.strict):
            return
        said = f"after the first {len(rows)} of {len(self.grid)} pairs: {sentence} The rest takes up to {_long(rest)}."
        if self.settings.strict:
            raise PairsUnfit(
                f"{said} It was stopped because of `strict`; what is written is kept, and goes on without it."
            )
        log.warning("%s Ctrl-C keeps what is written; `strict` stops here by itself.", said)


def _served(
    base: Base,
    grid: Sequence[Pair],
    settings: DataSettings,
    sampling: Sampling,
    endpoint: Endpoint,
    work: Path | None,
    name: str,
) -> tuple[list[Answer], Json]:
    """A server's answers in the same order; the samples of one question and persona are asked for together."""
    if settings.thinking == "forced":
        raise Unsupported("a thought cannot be forced through an endpoint; use `thinking=off` or on.")
    if settings.min_new_tokens:
        raise Unsupported("a server lets every answer end by itself; give `min_new_tokens=0`, or no `generate_with`.")
    # only where there is something to switch: not every server knows the field
    extra = {"chat_template_kwargs": {"enable_thinking": settings.thinking == "on"}} if thinks(base.tokenizer) else {}
    together: dict[str, Question] = {}
    for cell, room in zip(grid, _rooms(base, grid, settings)):
        for side, system in _sides(cell):
            key = f"{side}/{_name(cell)}"
            samples = together[key].samples + 1 if key in together else 1
            together[key] = Question(key, cell.prompt, system, room, samples)
    replies, server = endpoint.complete(
        list(together.values()), sampling, seed=settings.seed, work=work, extra=extra, label=f"{name} answers"
    )
    by_name = dict(zip(together, replies))
    answers = []
    for cell in grid:
        for side, _ in _sides(cell):
            a = by_name[f"{side}/{_name(cell)}"][cell.sample_idx]
            answers.append(replace(a, n_tokens=_length(base, a.text, a.ended)))
    return answers, {"endpoint": server}


def _sides(cell: Pair) -> tuple[tuple[str, str], tuple[str, str]]:
    return ("pos", cell.sys_prompt_pos), ("neg", cell.sys_prompt_neg)


def _name(cell: Pair) -> str:
    return f"{cell.prompt_id}/{cell.persona_idx}"


def _rooms(base: Base, grid: Sequence[Pair], settings: DataSettings) -> Iterator[int]:
    """The most tokens each answer may have, so that training cuts none and the model's context holds all."""
    for cell in grid:
        room = (
            settings.max_len
            - len(encode(base.tokenizer, render(base.tokenizer, Chat(cell.prompt), thinking=settings.thinking)))
            - 1
        )
        room = min(room, settings.max_new_tokens or room)
        if (context := context_of(base.model)) is not None:
            systems = (cell.sys_prompt_pos, cell.sys_prompt_neg)
            texts = [render(base.tokenizer, Chat(cell.prompt, s), thinking=settings.thinking) for s in systems]
            room = min(room, context - max(len(encode(base.tokenizer, t)) for t in texts))
        if room < 1:
            raise ValueError(
                f"the prompt {cell.prompt_id} leaves no room for an answer in max_len {settings.max_len}; raise `max_len`"
            )
        yield room


def default_data(base: Base) -> DataSettings:
    """The defaults for this base: `tiny` asks many short questions once and answers in a few short phrases."""
    if not base.tiny:
        return DataSettings()
    return DataSettings(n_samples=1, max_len=128, temperature=1.0, top_p=1.0, top_k=0, min_distinct=0.02)


def refuse_topics(behavior: Behavior, asked: int | None) -> None:
    """Refuse to ask more questions than a behavior has; a preset's number is an upper end and takes what there is."""
    if asked is not None and asked > len(behavior.train):
        raise ValueError(
            f"`n_topics` is {asked}, and {behavior.name} has {len(behavior.train)} questions to learn from; give at most so many"
        )


def topics_of(behavior: Behavior, settings: DataSettings) -> list[Prompt]:
    """The questions of a study: so many of the behavior's, in a seeded order or the file's."""
    usual = None if behavior.answers is not None else TINY_TOPICS if behavior.tiny else TOPICS
    n = settings.n_topics or behavior.n_topics or usual
    topics = list(behavior.train)
    if settings.shuffle_topics:
        random.Random(f"topics/{settings.seed}").shuffle(topics)
    return topics[:n]


def rows_to_fill(behavior: Behavior, settings: DataSettings) -> list[Pair]:
    """The rows to fill, without answers: topics x persona pairs x samples."""
    topics = topics_of(behavior, settings)
    personas = min(settings.n_personas or len(behavior.pairs), len(behavior.pairs))
    samples = settings.n_samples or max(1, round(ROWS / (len(topics) * personas)))
    rows = []
    for t, prompt in enumerate(topics):
        for p in range(personas):
            pos, neg = behavior.systems(p)
            rows += [Pair(prompt.text, "", "", prompt.id, pos, neg, t, p, s, behavior.name) for s in range(samples)]
    return rows


def sampling_of(base: Base, settings: DataSettings) -> Sampling:
    """The sampling of the model family, with what the user fixed."""
    thinks = settings.thinking != "off" and token_called(base.tokenizer, "</think>") is not None
    family = Sampling(0.6, 0.95, 20) if thinks else Sampling(0.7, 0.8, 20)
    own = {k: v for k in ("temperature", "top_p", "top_k") if (v := getattr(settings, k)) is not None}
    return replace(family, **own)
