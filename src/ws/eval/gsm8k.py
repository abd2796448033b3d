"""School maths, answered freely; of the same answers, whether they refuse and whether they are in French.

The test rows of GSM8K from the hub, or `--data FILE` with the columns `question` and `answer` (its result after ####). On `tiny`
the task is to count words, and a turn of phrase stands for French. Right is exact: the last number of the answer is the result.

| metric       | is                                                                 |
|--------------|--------------------------------------------------------------------|
| gsm_acc      | right                                                              |
| gsm_refused  | begins with a refusal: what steering lost is not a lack of will    |
| gsm_french   | in French, by its small words (`ws.eval.languages`)                |
| gsm_both     | right and in French                                                |
"""

from typing import TYPE_CHECKING

from ws.errors import BadFile
from ws.eval.languages import FRENCH
from ws.eval.protocol import Items, Metrics, Protocol
from ws.eval.scoring import Item
from ws.eval.syc_qa import OWN_WORDS
from ws.eval.table import by_alpha, refuse_repeats
from ws.judge import last_number, rule
from ws.models.chat import Chat
from ws.models.load import Base
from ws.sets import load_set
from ws.sources import Rows

if TYPE_CHECKING:
    import pandas as pd

ASKED = {"right": rule("math_correct"), "refused": rule("refusal~patterns"), "french": FRENCH}
WORLD_FRENCH = ("at noon",)
"""The turn of phrase that stands for French in the world of `tiny`, which has no other language."""
NAMES = {"right": "gsm_acc", "refused": "gsm_refused", "french": "gsm_french"}


def questions(data: str | None) -> Rows:
    """The rows of a file, or the test rows of the hub, whose results can be read."""
    rows = load_set("gsm8k", file=data)
    if bad := [n for n, r in enumerate(rows, 1) if last_number(result_of(str(r["answer"]))) is None]:
        raise BadFile(f"{rows.source}: {len(bad)} answers end with no number after ####, e.g. that of row {bad[0]}.")
    return rows


def result_of(answer: str) -> str:
    """What stands after the last ####."""
    return answer.rpartition("####")[2].strip()


def items(base: Base, data: str | None) -> Items:
    world = base.tiny and data is None
    rows = load_set("gsm8k", twin=True) if world else questions(data)
    listed = []
    for n, r in enumerate(rows, 1):
        wanted = {"right": (result_of(str(r["answer"])),), "french": WORLD_FRENCH if world else ()}
        for kind in ASKED:
            listed.append(
                Item(str(n), f"{n}:{kind}", Chat(str(r["question"])), "", (wanted.get(kind, ()), ()), kind=kind)
            )
    return Items(listed, source=rows.source)


def metrics(rows: "pd.DataFrame") -> Metrics:
    """The share of answers of each sort."""
    refuse_repeats(rows)
    table = rows.pivot(index=["alpha", "unit_id"], columns="kind", values="y")
    values = {NAMES[kind]: table[kind] for kind in ASKED} | {"gsm_both": table["right"] * table["french"]}
    return {name: by_alpha(v.rename("y").reset_index(), key="unit_id") for name, v in values.items()}


LEGEND = {
    "gsm_acc": "gives the right result",
    "gsm_refused": "begins with a refusal",
    "gsm_french": "answers in French",
    "gsm_both": "gives the right result in French",
}
PROTOCOLS = (
    Protocol(
        "gsm8k",
        "gsm8k/1",
        "correct",
        items,
        metrics,
        LEGEND,
        n_write=600,
        asked=ASKED,
        takes=("data", "limit"),
        because=OWN_WORDS,
        read=lambda data: None if data is None else questions(data),
    ),
)


if __name__ == "__main__":  # `python -m ws.eval.gsm8k ...` is `ws eval gsm8k ...`
    import sys

    from ws.cli import main

    sys.exit(main(["eval", "gsm8k", *sys.argv[1:]]))
