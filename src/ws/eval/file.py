"""Your own questions: `ws eval file --data mine.jsonl` (csv, jsonl, json or parquet), in one of two forms.

    prompt, pos_answer, neg_answer
    question, answer_matching_behavior, answer_not_matching_behavior      (the model-written evaluations)

y is the log-probability of the pos answer less that of the neg one, so y > 0 is the side of the behavior.

| protocol      | scores                                                                         |
|---------------|--------------------------------------------------------------------------------|
| `file/1`      | whole answers, per token; any text                                             |
| `file-slot/1` | one word, e.g. Yes and No, or (A) and (B): its tokens at a proven slot, with pmass |

Where one answer is the pos side more often than the other, a plain preference for it looks like the behavior. `balanced`
is the mean over the pos answers that occur, each with the same weight, which cancels such a preference. Rows that belong
together (two wordings of one question) share a value in an optional column `unit_id`.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from ws.errors import BadFile
from ws.eval.perplexity import WHOLE_ANSWERS, spoken
from ws.eval.protocol import Metrics, Protocol
from ws.eval.scoring import Item
from ws.eval.table import by_alpha
from ws.models.chat import Chat
from ws.models.load import Base
from ws.sources import records
from ws.stats import means

if TYPE_CHECKING:
    import pandas as pd

FORMS = (
    ("prompt", "pos_answer", "neg_answer"),
    ("question", "answer_matching_behavior", "answer_not_matching_behavior"),
)
NAMED = 3  # rows named in an error
FEW_ANSWERS = 8  # more different pos answers than these are texts, not options


def questions(data: str | None) -> list[tuple[str, str, str, str]]:
    """(unit, prompt, pos answer, neg answer) of every row; rows that cannot be used are all counted in one sentence."""
    if data is None:
        raise ValueError(
            "the evaluation `file` needs your questions: `data=FILE` with the columns " + ", ".join(FORMS[0])
        )
    rows = records(data, ())
    form = next((f for f in FORMS if set(f) <= rows[0].keys()), None)
    if form is None:
        forms = " or ".join(", ".join(f) for f in FORMS)
        raise BadFile(f"{data} needs the columns {forms}; it has {', '.join(sorted(map(str, rows[0])))}.")
    answers, bad = [], {}
    for i, r in enumerate(rows):
        parts = [r.get(c) for c in form]
        prompt, pos, neg = (p.strip() if isinstance(p, str) else "" for p in parts)
        if why := _unusable(prompt, pos, neg):
            bad[i + 1] = why
        unit = r.get("unit_id")
        answers.append((f"row-{i + 1}" if unit is None else str(unit), prompt, pos, neg))
    if bad:
        examples = "; ".join(f"row {i}: {why}" for i, why in list(bad.items())[:NAMED])
        raise BadFile(f"{len(bad)} of {len(rows)} rows of {data} cannot be scored ({examples}); mend or remove them.")
    return answers


def _unusable(prompt: str, pos: str, neg: str) -> str | None:
    if not (prompt and pos and neg):
        return "an empty or missing text"
    return "both answers are the same" if pos == neg else None


def items(base: Base, data: str | None) -> list[Item]:
    return [
        Item(unit, f"row-{i + 1}", Chat(prompt), "", kind=_kind(pos), texts=(spoken(base, pos), spoken(base, neg)))
        for i, (unit, prompt, pos, neg) in enumerate(questions(data))
    ]


def items_slot(base: Base, data: str | None) -> list[Item]:
    """One-word answers; for (A) and (B) the anchor opens the bracket."""
    slots = []
    for i, (unit, prompt, pos, neg) in enumerate(questions(data)):
        in_brackets = all(a.startswith("(") for a in (pos, neg))
        words = [a.strip("().! ") for a in (pos, neg)]
        if not all(w.isalnum() for w in words):
            raise BadFile(f"row {i + 1} of {data}: {pos!r} and {neg!r} are not one word each; use `protocol=file/1`.")
        anchor = "(" if in_brackets else ""
        slots.append(Item(unit, f"row-{i + 1}", Chat(prompt), anchor, ((words[0],), (words[1],)), kind=_kind(pos)))
    return slots


def _kind(pos: str) -> str:
    """A short pos answer, so that a preference for one of them can be cancelled."""
    return pos if len(pos) <= 12 else ""


def metrics(rows: "pd.DataFrame") -> Metrics:
    table = {"logratio_file": by_alpha(rows)}
    kinds = sorted(rows["kind"].unique())
    if 1 < len(kinds) <= FEW_ANSWERS and "" not in kinds:
        table["balanced"] = {
            float(a): means(
                part["y"].tolist(),
                units=part["unit_id"].tolist(),
                keys=part["row_key"].tolist(),
                weights=part["kind"].to_numpy()[:, None] == kinds,
                factors=[1 / len(kinds)] * len(kinds),
            )
            for a, part in rows.groupby("alpha")
        }
    return table


LEGEND = {
    "logratio_file": "finds your pos answers likelier than your neg ones",
    "balanced": "finds them likelier with every pos answer given one weight, so that a preference for Yes, or for (A), cancels",
}


SLOT = Protocol(
    "file",
    "file-slot/1",
    "logratio_file",
    items_slot,
    metrics,
    LEGEND,
    needs="data",
    read=questions,
    incomparable="use ws eval file",
)
WHOLE = replace(SLOT, id="file/1", items=items, takes=("data", "limit"), because=WHOLE_ANSWERS)
PROTOCOLS = (WHOLE, SLOT)


if __name__ == "__main__":  # `python -m ws.eval.file ...` is `ws eval file ...`
    import sys

    from ws.cli import main

    sys.exit(main(["eval", "file", *sys.argv[1:]]))
