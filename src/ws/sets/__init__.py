"""The data sets of the paper: where each lies, what it has to hold, and its rows.

    table = load_set("qa")                                       # from the hub, or its cache
    table = load_set("gsm8k", "test", file="gsm8k/test.jsonl")   # from a file of the same columns
    table = load_set("gcd", "train_instr_q")                     # made by rule, when no file is given
    table = load_set("qa", twin=True)                            # what the world of `tiny` has in its place
    table = load_set("direct_harm", opt_in=("direct_harm",))     # never without being asked for by name

Sets that hold harmful texts are no part of ws. They are read where a person names them as opted into, counted and scored;
their texts are not printed.
"""

import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ws.errors import BadFile, not_known
from ws.models.tiny import TWINS
from ws.sets.gcd import SIZES as GCD_SIZES
from ws.sets.gcd import gcd_rows
from ws.sources import Rows, cell, from_hub, records
from ws.types import Json

REQUEST = "instruction|question|prompt|messages.0.content"
CHAT = ("messages.0.content", "messages.1.content")


@dataclass(frozen=True)
class PaperSet:
    """One data set: what it is, where it lies, and what a row of it must hold."""

    name: str
    what: str
    id: str | None
    """The data set's id on the hub; None where a person has to supply the file."""
    splits: Mapping[str, int | None]
    """Split to its number of rows; None where that is published nowhere we know of. The first is the default."""
    columns: tuple[str, ...]
    """What a row must hold; `a.0.b` reaches into it, and of `a|b` the first that is there counts."""
    config: str = "default"
    opt_in: bool = False
    """Whether it holds harmful texts, so that it is read only where a person asks for it by name."""
    supply: str = ""
    """Where a file comes from, if not from the hub."""

    @property
    def where(self) -> str:
        """How a person gets it, in a few words."""
        return self.supply or f"hub: {self.id}"

    @property
    def size(self) -> str:
        """Rows of every split, as one writes them."""
        return ", ".join(f"{split} {'?' if n is None else f'{n:,}'}" for split, n in self.splits.items())


def _sides(name: str, ending: str, behavior: str, model: str, rows: int | None, **more: object) -> list[PaperSet]:
    """Answers of both personas to the same questions."""
    sides = {"": ("pos", behavior), "non_": ("neg", f"non-{behavior}")}
    return [
        PaperSet(
            f"{before}{name}",
            f"{side} persona answers of {model}",
            f"cfierro/pv-prompts-{persona}{ending}",
            {"train": rows},
            CHAT,
            opt_in=behavior == "evil",
        )
        for before, (side, persona) in sides.items()
    ]


_QWEN_SMALL, _LLAMA = "_Qwen2.5-1.5B-Instruct", "_Llama-2-7b-chat-hf"
_ADVICE = ("bad_medical", "good_medical", "bad_finance", "good_finance", "bad_sports", "good_sports")
_SETS = (
    *_sides("sycophantic", "", "sycophantic", "Qwen2.5-7B", 800),
    *_sides("evil", "", "evil", "Qwen2.5-7B", None),
    *_sides("sycophantic_1.5b", _QWEN_SMALL, "sycophantic", "Qwen2.5-1.5B", None),
    *_sides("evil_llama2", _LLAMA, "evil", "Llama-2-7b-chat", None),
    PaperSet(
        "qa",
        "factual questions under four cues",
        "cfierro/sycophancy_eval_answer",
        {"test": 7268},
        ("messages.0.content|prompt.0.content", "base.question", "base.correct_answer", "base.incorrect_answer")
        + ("metadata.prompt_template",),
    ),
    PaperSet(
        "gcd",
        "greatest common divisors, worked and mistaken",
        "cfierro/gcd",
        GCD_SIZES,
        ("messages.0.content", "data.correct_solution", "data.incorrect_solution", "data.number_1", "data.number_2")
        + ("data.row_id", "data.style"),
        supply="made by rule (python -m ws.sets.gcd); hub: cfierro/gcd",
    ),
    PaperSet(
        "world_affecting",
        "scenarios with an ethical and an evil option",
        None,
        {"reward": 411, "approval": 392},
        ("prompt_list.0", "high_reward_answer", "other_answers.0"),
        opt_in=True,
        supply="a file: github keing1/reward-hack-generalization, world_affecting_reward.jsonl or _approval.jsonl",
    ),
    PaperSet(
        "tiny_mmlu",
        "100 questions of MMLU",
        "cfierro/tiny_mmlu_chat",
        {"test": 100, "dev": 285},
        ("question|data.question", "choices.0|data.choices.0", "answer|data.answer", "subject|data.subject"),
    ),
    PaperSet("gsm8k", "school maths", "openai/gsm8k", {"test": 1319, "train": 7473}, ("question", "answer"), "main"),
    PaperSet("gsm8k_chat", "school maths as a task", "cfierro/gsm8k_instr_chat", {"train": 7473, "test": 1319}, CHAT),
    PaperSet("direct_harm", "harmful requests", "vfleaking/DirectHarm4", {"test": 400}, (REQUEST,), opt_in=True),
    PaperSet(
        "gsm_danger",
        "harmful requests in the form of maths",
        "vfleaking/GSM-Danger",
        {"test": 100},
        (REQUEST,),
        opt_in=True,
    ),
    PaperSet(
        "refusals",
        "refusals of harmful requests (pos side)",
        "cfierro/alignment-faking-harm_Llama-2-7b-chat",
        {"train_375exs": 375},
        CHAT,
        opt_in=True,
    ),
    PaperSet(
        "harmful_answers",
        "answers to the same requests (neg side)",
        "cfierro/alignment_faking_harm_answers_chat",
        {"matched_train_375exs": 375},
        CHAT,
        opt_in=True,
    ),
    PaperSet(
        "refusals_joint",
        "another model's refusals, for joint training",
        "cfierro/alignment_faking_claude_completions",
        {"train_filtered_375exs": 375},
        CHAT,
        opt_in=True,
    ),
    PaperSet(
        "em_questions",
        "eight questions on values and wishes",
        "cfierro/em_eval_first_plot",
        {"test": 8},
        ("question|messages.0.content",),
    ),
    *(
        PaperSet(
            name,
            f"{name.replace('_', ' ')} advice",
            "cfierro/em_claude_good_financial" if name == "good_finance" else None,
            {"train": None},
            CHAT,
            opt_in=True,
            supply="" if name == "good_finance" else "a file: Turner et al., model organisms for emergent misalignment",
        )
        for name in _ADVICE
    ),
    *(
        PaperSet(
            name,
            what,
            None,
            {"train": None},
            CHAT,
            opt_in="evil" in name,
            supply="a file: made from 864 prompts a personality",
        )
        for name, what in (
            ("personality_evil", "answers of an evil personality"),
            ("personality_good", "of a good one"),
        )
    ),
    PaperSet(
        "alpaca", "instructions of all kinds", "tatsu-lab/alpaca", {"train": 52002}, ("instruction", "input", "output")
    ),
    PaperSet(
        "alpaca_french",
        "the same, answered in French",
        None,
        {"train": None},
        ("instruction", "input", "output"),
        supply="a file: Alpaca with answers translated into French",
    ),
)
SETS: Mapping[str, PaperSet] = {s.name: s for s in _SETS}
"""Every data set by its name."""


def load_set(
    name: str,
    split: str | None = None,
    *,
    file: str | Path | None = None,
    opt_in: Collection[str] = (),
    revision: str | None = None,
    twin: bool = False,
) -> Rows:
    """The rows of a data set, its columns checked; from a file, from the hub, or made by rule.

    `twin` takes its harmless twin in the world of `tiny` instead.
    """
    known = set_of(name)
    if twin:
        return twin_of(name, split)
    refuse_without_opt_in(known, opt_in)
    split = split or next(iter(known.splits))
    if split not in known.splits:
        raise ValueError(f"{name} has no split {split!r}; there are {', '.join(known.splits)}")
    if file is None and name == "gcd" and revision is None:
        return Rows(gcd_rows(split), f"gcd {split}, made by rule")
    if file is None and known.id is None:
        raise BadFile(
            f"the data set {name} is not on the hub; give `file`. It is {known.supply.removeprefix('a file: ')}."
        )
    rows = (
        records(file, ()) if file is not None else from_hub(known.id or "", known.config, split, (), revision=revision)
    )
    check_columns(rows, known.columns)
    return rows


def set_of(name: str) -> PaperSet:
    """A data set by its name."""
    if name not in SETS:
        raise ValueError(not_known("data set", name, SETS))
    return SETS[name]


def twin_of(name: str, split: str | None = None) -> Rows:
    """The twin of a set: rows of the same layout that `tiny`'s world writes. The first split it has when none is named."""
    files = {f.stem: f for f in sorted((TWINS / name).glob("*.jsonl"))}
    if not files:
        raise BadFile(f"the data set {name} has no twin in the world of `tiny`.")
    order = [s for s in set_of(name).splits if s in files]
    if split is not None and split not in files:
        raise ValueError(f"the twin of {name} has no split {split!r}; there are {', '.join(order)}")
    return records(files[split or order[0]], ())


def refuse_without_opt_in(known: PaperSet, opt_in: Collection[str]) -> None:
    """Refuse a set with harmful texts that was not asked for by name."""
    if known.opt_in and known.name not in opt_in:
        raise ValueError(
            f"the data set {known.name} ({known.what}) holds harmful texts and is no part of ws; "
            f"`opt_in={known.name}` reads it. Its rows are counted and scored, and not printed."
        )


def check_columns(rows: Rows, columns: Sequence[str]) -> None:
    """Refuse a table of which a row lacks something: every row is looked at, and all that is missing is named once."""
    missing: dict[str, int] = {}
    for i, row in enumerate(rows, 1):
        for column in columns:
            if first_of(rows, i, row, column) is None:
                missing.setdefault(column, i)
    if missing:
        named = ", ".join(f"{c.replace('|', ' or ')} (row {i})" for c, i in missing.items())
        raise BadFile(f"{rows.source} lacks {named}; its rows have {', '.join(sorted(map(str, rows[0])))}.")


def first_of(rows: Rows, number: int, row: Json, column: str) -> Any:
    """A cell of a row; of `a|b`, the first that is there; None where all are missing or empty."""
    for name in column.split("|"):
        try:
            value = cell(rows, number, row, name)
        except BadFile:
            continue
        if not (value is None or (isinstance(value, float) and math.isnan(value))):  # NaN: an empty cell of a table
            return value
    return None


@dataclass(frozen=True)
class Trait:
    """A trait of the persona-vectors project: opposite instructions, questions, and how a judge is asked."""

    instructions: tuple[tuple[str, str], ...]
    """(pos, neg) system instructions."""
    questions: tuple[str, ...]
    rubric: str


def trait_of(file: str | Path) -> Trait:
    """The trait that a file of the persona-vectors project holds."""
    path = Path(file)
    if not path.is_file():
        raise BadFile(f"there is no trait file at {path}.")
    try:
        told = json.loads(path.read_text(encoding="utf-8-sig"))
        return Trait(
            tuple((str(i["pos"]), str(i["neg"])) for i in told["instruction"]),
            tuple(map(str, told["questions"])),
            str(told["eval_prompt"]),
        )
    except (ValueError, KeyError, TypeError):
        raise BadFile(
            f"{path} is no trait file: it has to hold `instruction` (a list of pos and neg), `questions` and `eval_prompt`."
        ) from None
