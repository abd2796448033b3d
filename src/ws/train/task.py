"""A fine-tune on one data set: what a model learns of a task, as one adapter and, against its base, as one direction.

    tuned = finetune(base, task_of(records("gcd.jsonl", ()), "gcd"), adapter="lora", keep_every=20)
    tau = ws.diff(base, tuned.adapter, tuned.adapter, mode="tau+")        # theta_ft - theta

It is the training of one side: the same loop, with the learning rate and the step that have the lowest validation loss. With
`joint`, rows of a second data set are learnt along, each of them `times` times in a pass; the validation counts them once.
Rows of one question are on one side of the split.
"""

import hashlib
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ws.adapters import USUAL, Adapter
from ws.errors import BadFile, TrainingDiverged, Unsupported
from ws.models.chat import Chat
from ws.models.load import Base
from ws.pairs import Pairs, normal_form, question_hashes
from ws.signatures import plain_types
from ws.sources import Rows, cell
from ws.train import default_train, fitted, identity_of, spec_of
from ws.train.checkpoint import Tensors
from ws.train.loop import Examples
from ws.train.sequences import FEWEST_TARGETS, STRAY, Row, finished
from ws.train.settings import TrainSettings
from ws.train.tracking import UNTRACKED, Tracking
from ws.types import Json

PROTOCOL = "finetune/1"
SIDE = "task"
COLUMNS = (
    ("prompt", "question", "instruction", "query", "input"),
    ("response", "answer", "completion", "output", "solution"),
)
"""Names of the columns that are taken for the question and for the answer, where none are named."""
ROLES = ("system", "user", "assistant")


@dataclass(frozen=True)
class Example:
    """One question and the answer that is learnt."""

    user: str
    answer: str
    system: str | None = None
    turns: tuple[tuple[str, str], ...] = ()
    ended: bool = True
    """False where the answer was cut short, so that its end is not learnt."""

    @property
    def chat(self) -> Chat:
        """The question as it is asked."""
        return Chat(self.user, self.system, self.turns)

    @property
    def question(self) -> str:
        """What two rows share that ask the same."""
        return normal_form("\n".join([self.system or "", *(t for turn in self.turns for t in turn), self.user]))


@dataclass(frozen=True, eq=False)
class Task:
    """A data set to learn from."""

    name: str
    rows: tuple[Example, ...]
    source: str = ""
    """The file or the data set, by its name and never its path."""

    @property
    def content_hash(self) -> str:
        """SHA-256 of every field of every row, in order."""
        h = hashlib.sha256()
        for r in self.rows:
            h.update(json.dumps(asdict(r), sort_keys=True).encode())
        return h.hexdigest()


@dataclass(frozen=True, eq=False)
class FineTune:
    """A trained task."""

    adapter: Adapter
    report: Mapping[str, Any] = field(default_factory=dict)
    checkpoints: tuple[tuple[int, Adapter], ...] = ()
    """The adapter at the steps that were kept on the way."""

    def __repr__(self) -> str:
        r = self.report
        return f"FineTune({self.adapter.spec.family} on {self.adapter.base.get('id')}, lr {r['lr']:g}, best step {r['step']}, validation loss {r['val_task']:.3g})"


@plain_types
def finetune(
    base: Base,
    task: Task,
    settings: TrainSettings | None = None,
    *,
    joint: Task | None = None,
    times: int = 1,
    keep_every: int = 0,
    work: Path | None = None,
    rows_at_once: int | None = None,
    tracking: Tracking = UNTRACKED,
    **changes: Any,
) -> FineTune:
    """Fine-tune one adapter on a data set, and on `times` times a second one where `joint` is given.

    Fields of `TrainSettings` may be given directly: `finetune(base, task, adapter="full", lr=[1e-5])`. `keep_every` keeps the
    adapter every so many steps. With `work`, a second call goes on from where the first was stopped.
    """
    settings = replace(settings or default_task(base, changes.get("adapter", USUAL)), **changes)
    refuse_task(settings, times=times, keep_every=keep_every, joint=joint is not None)
    spec = spec_of(base, settings)
    examples, report = _examples(base, task, joint, times, settings)
    learnt = {
        "task": task.content_hash,
        "joint": joint and joint.content_hash,
        "times": times,
        "keep_every": keep_every,
    }
    best, start, more = fitted(
        base,
        examples,
        settings,
        identity_of(base, settings, **learnt),
        work=work,
        rows_at_once=rows_at_once,
        tracking=tracking,
        keep_every=keep_every,
    )
    if not any(best.steps):
        raise TrainingDiverged(f"no step of training lowered the validation loss on {task.name}; use another `lr`.")
    rows = [*task.rows, *(joint.rows if joint else ())]
    provenance = {
        "protocol": PROTOCOL,
        "settings": asdict(settings),
        "task": {"name": task.name, "source": task.source, "content": task.content_hash},
        **({} if joint is None else {"joint": {"name": joint.name, "content": joint.content_hash, "times": times}}),
        "questions": question_hashes(r.user for r in rows),
        "lr": best.lr,
    }

    def adapter(step: int, state: Tensors) -> Adapter:
        return Adapter(spec, state, start, base.described(), {**provenance, "step": step, "side": SIDE})

    on_the_way = tuple((step, adapter(step, state)) for step, (state,) in best.checkpoints)
    return FineTune(adapter(best.steps[0], best.states[0]), {**report, **more, "val_task": best.val[0]}, on_the_way)


def default_task(base: Base, adapter: str) -> TrainSettings:
    """The defaults of a fine-tune on this base: those of a study's adapters, on all layers."""
    return replace(default_train(base, adapter), layers="all")


def refuse_task(settings: TrainSettings, *, times: int, keep_every: int, joint: bool) -> None:
    """Refuse what a fine-tune of one data set cannot be."""
    if times < 1 or keep_every < 0:
        raise ValueError(f"`times` is 1 or more and `keep_every` 0 or more; got {times} and {keep_every}")
    if times > 1 and not joint:
        raise ValueError("`times` says how often the rows of `joint` are seen; give `joint` too")
    if settings.init != "shared" or settings.stop == "per_branch" or settings.freeze_a:
        raise ValueError(
            "a fine-tune has one side: `init`, `freeze_a` and `stop=per_branch` are for the two of `ws train`"
        )


# ---------------------------------------------------------------- rows


def task_of(
    table: Rows, name: str, *, prompt: str | None = None, response: str | None = None, messages: str | None = None
) -> Task:
    """A table as a task: the columns named, else `messages`, else those that are called like a question and an answer."""
    if messages and (prompt or response):
        raise ValueError("`messages` holds question and answer; leave out `prompt` and `response`")
    first = table[0] if table else {}
    if not (prompt or response) and (messages or "messages" in first):
        read: Callable[[int, Json], Example] = lambda i, row: _of_messages(table, i, row, messages or "messages")  # noqa: E731
    else:
        asked, learnt = _columns(table, prompt, response)
        read = lambda i, row: Example(_text(table, i, row, asked), _text(table, i, row, learnt))  # noqa: E731
    return Task(name, tuple(read(i, row) for i, row in enumerate(table, 1)), table.source)


def task_of_pairs(pairs: Pairs, name: str, side: str) -> Task:
    """One side of a behavior's pairs as a task."""
    rows = tuple(
        Example(r.prompt, getattr(r, f"response_{side}"), ended=getattr(r, f"ended_{side}")) for r in pairs.rows
    )
    return Task(f"{name}-{side}", rows, f"{side} answers of {name}")


def _columns(table: Rows, prompt: str | None, response: str | None) -> list[str]:
    """The columns of question and answer."""
    there = list(table[0]) if table else []
    found = []
    for named, known, option in zip((prompt, response), COLUMNS, ("prompt", "response")):
        likely = [named] if named else [c for c in known if c in there]
        if not likely:
            raise BadFile(
                f"{table.source} has the columns {', '.join(map(str, there))}, and none is called {', '.join(known)} or "
                f"messages; name one with `{option}`."
            )
        found.append(likely[0])
    return found


def _text(table: Rows, number: int, row: Json, column: str) -> str:
    value = cell(table, number, row, column)
    if not isinstance(value, str) or not value.strip():
        raise BadFile(
            f"{table.source}, row {number}: {column} must be a text that is not empty, got {repr(value)[:40]}."
        )
    return value


def _of_messages(table: Rows, number: int, row: Json, column: str) -> Example:
    """A conversation: perhaps a system prompt, turns of user and assistant, and the last answer, which is learnt."""
    value = cell(table, number, row, column)
    try:
        value = json.loads(value) if isinstance(value, str) else value
        said = [(str(m["role"]), m["content"]) for m in value]
    except (TypeError, KeyError, ValueError):
        said = []
    system = said[0][1] if said and said[0][0] == "system" else None
    turns = said[system is not None :]
    texts = [text for _, text in said]
    if (
        len(turns) < 2
        or [role for role, _ in turns] != ["user", "assistant"] * (len(turns) // 2)
        or not all(isinstance(t, str) and t.strip() for t in texts)
    ):
        raise BadFile(
            f"{table.source}, row {number}: {column} is no conversation of user and assistant, each with a text, that ends "
            "with an answer."
        )
    both = [(turns[i][1], turns[i + 1][1]) for i in range(0, len(turns), 2)]
    user, answer = both.pop()
    return Example(user, answer, system, tuple(both))


def _examples(base: Base, task: Task, joint: Task | None, times: int, settings: TrainSettings) -> tuple[Examples, Json]:
    """The rows as training sequences, in those that are learnt from and those that the step is chosen on."""
    rows, of, report = [], [], dict[str, Any]()
    for part, data in (("task", task), ("joint", joint)):
        if data is not None:
            own, kept, counts = _encoded(base, data, settings)
            rows += own
            of += [(part, data.rows[i].question) for i in kept]
            report |= {f"{k}" if part == "task" else f"joint_{k}": n for k, n in counts.items()}
    if sum(len(r.ids) - r.start for r in rows) < FEWEST_TARGETS:
        raise ValueError(f"{task.name} holds fewer than {FEWEST_TARGETS} tokens to learn; give more or longer answers.")
    held = _held(sorted({question for _, question in of}), settings)
    val = [i for i, (_, question) in enumerate(of) if question in held]
    train = [i for i, (part, q) in enumerate(of) if q not in held for _ in range(times if part == "joint" else 1)]
    if not any(of[i][0] == "task" for i in train) or not val:
        raise ValueError(
            f"{task.name} has too few questions to learn from some and choose the step on others; give more."
        )
    seen_joint = sum(of[i][0] == "joint" for i in train)
    report |= {"n_train": len(train), "n_val": len(val), "joint_share": seen_joint / len(train)}
    return Examples({SIDE: rows}, train, val), report


def _held(questions: Sequence[str], settings: TrainSettings) -> set[str]:
    """The questions that learning rate and step are chosen on."""
    order = list(questions)
    random.Random(f"task/{settings.seed}").shuffle(order)
    return set(order[: max(1, round(settings.val_share * len(order)))])


def _encoded(base: Base, task: Task, settings: TrainSettings) -> tuple[list[Row], list[int], Json]:
    """Rows as token ids, the numbers of those that are used, and how many were not."""
    rows, kept, strange, cut = [], [], 0, 0
    for i, example in enumerate(task.rows):
        ids, start, difference = finished(base.tokenizer, example.chat, example.answer)
        ids = ids if example.ended else ids[:-1]
        strange += difference is not None
        if (difference is not None and not settings.allow_template_diff) or min(len(ids), settings.max_len) <= start:
            continue
        cut += len(ids) > settings.max_len
        rows.append(Row(tuple(ids[: settings.max_len]), start))
        kept.append(i)
    if strange > STRAY * len(task.rows) and not settings.allow_template_diff:
        raise Unsupported(
            f"the chat template writes {strange} of the {len(task.rows)} finished conversations of {task.name} differently from "
            "prompt + answer + end of turn; `allow_template_diff` trains anyway."
        )
    if not rows:
        raise ValueError(
            f"no row of {task.name} has an answer within {settings.max_len} tokens; give a larger `max_len`."
        )
    counts = {"n_rows": len(task.rows), "n_dropped": len(task.rows) - len(rows), "n_truncated": cut}
    return rows, kept, {**counts, "targets": sum(len(r.ids) - r.start for r in rows)}
