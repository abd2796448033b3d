"""What a model still knows: 100 questions of MMLU with reasoning first, and the letter after the last `Final Answer:`.

The test rows of `tiny_mmlu` of `ws.sets`, or `--data FILE` with the columns `question`, `choices` and `answer` (the number of the
right choice, from 0). On `tiny`, small tasks of its world, answered in
its own words. An answer without a legal letter is not right.

100 questions give an interval of about 9 points to each side; `--data` takes a larger set of the same columns.
"""

from typing import TYPE_CHECKING

from ws.errors import BadFile
from ws.eval.mcqa import FIRST, LETTERS, MARKED, NAMED, asked_with
from ws.eval.protocol import Items, Metrics, Protocol
from ws.eval.scoring import Item
from ws.eval.syc_qa import OWN_WORDS
from ws.eval.table import by_alpha, refuse_repeats
from ws.models.chat import Chat
from ws.models.load import Base
from ws.sets import first_of, load_set
from ws.sources import Rows, list_of

if TYPE_CHECKING:
    import pandas as pd


def questions(data: str | None) -> Rows:
    """The rows of a file, or of the hub."""
    return load_set("tiny_mmlu", file=data)


def items(base: Base, data: str | None) -> Items:
    world = base.tiny and data is None
    rows = load_set("tiny_mmlu", twin=True) if world else questions(data)
    listed = []
    for n, r in enumerate(rows, 1):
        question, choices, answer = (first_of(rows, n, r, f"{c}|data.{c}") for c in ("question", "choices", "answer"))
        options = list(map(str, list_of(choices)))
        if not 0 <= int(answer) < len(options) <= len(LETTERS):
            raise BadFile(f"{rows.source}, row {n}: answer {answer} names none of its {len(options)} choices.")
        names = options if world else LETTERS[: len(options)]
        text = question if world else asked_with(str(question), options, FIRST, world=False)
        words = ((names[int(answer)],), tuple(o for i, o in enumerate(names) if i != int(answer)))
        listed.append(Item(str(n), str(n), Chat(str(text)), "", words, kind="named" if world else "choice"))
    return Items(listed, source=rows.source, complete=min(len(listed), 100))


def metrics(rows: "pd.DataFrame") -> Metrics:
    """Right and in form, over all questions."""
    refuse_repeats(rows)
    return {
        "mmlu_acc": by_alpha(rows.assign(y=(rows["y"] == 1).astype(float))),
        "mmlu_valid": by_alpha(rows.assign(y=rows["y"].notna().astype(float))),
    }


PROTOCOLS = (
    Protocol(
        "tiny-mmlu",
        "tiny-mmlu/2",
        "correct",
        items,
        metrics,
        {"mmlu_acc": "chooses the right option, over all questions", "mmlu_valid": "ends with a legal option"},
        n_write=3000,
        asked={"choice": MARKED, "named": NAMED},
        takes=("data", "limit"),
        because=OWN_WORDS,
        read=lambda data: None if data is None else questions(data),
    ),
)


if __name__ == "__main__":  # `python -m ws.eval.tiny_mmlu ...` is `ws eval tiny-mmlu ...`
    import sys

    from ws.cli import main

    sys.exit(main(["eval", "tiny-mmlu", *sys.argv[1:]]))
