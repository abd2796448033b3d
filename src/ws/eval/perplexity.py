"""What steering costs: how well the model still says the answers to neutral questions, which no behavior is about.

`neutral-nll/1`: negative log-likelihood per token of 60 reference answers, every token of equal weight, so that a long answer
counts for more than a short one. `neutral-choice/1`: is the right answer likelier per token than a wrong one of the same
form? Whole answers are scored and no options are shown, so there is no order of options to prefer. Unit: the question.

| metric       | is                                                  | larger means                        |
|--------------|-----------------------------------------------------|-------------------------------------|
| neutral_nll  | nats per answer token                               | worse at plain answers              |
| nll_rise     | the same, less that at alpha 0, question by question | steering has cost that much         |
| choice_right | share of questions whose right answer is likelier   | still knows what it knew            |
| choice_gap   | log P(right) - log P(wrong), per token              | knows it by a wider margin          |

Likelihoods of good answers can hold while free answers loop, so `neutral-free/1` lets the model write: 20 neutral requests,
greedy, at most 128 tokens. Unit: the request.

| metric       | is                                                          | larger means               |
|--------------|-------------------------------------------------------------|----------------------------|
| free_repeats | share of an answer's runs of four tokens that came before    | goes round in circles      |
| free_loops   | share of answers that are mostly such runs                  | the same, counted          |
| free_unended | share of answers that found no end                          | rambles                    |
| free_chars   | characters of an answer                                     | says more, or cannot stop  |
"""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ws.behaviors import neutral_prompts
from ws.errors import BadFile
from ws.eval.protocol import Metrics, Protocol
from ws.eval.scoring import Item
from ws.eval.table import by_alpha, refuse_repeats
from ws.models.chat import Chat, encode
from ws.models.load import Base
from ws.models.tiny import EVALS
from ws.sources import is_text, records
from ws.types import Json

if TYPE_CHECKING:
    import pandas as pd

SHIPPED = Path(__file__).parent / "neutral_qa.jsonl"


def neutral_questions(base: Base, data: str | None) -> list[Json]:
    """Neutral questions with answers: a file's (prompt, answer and, for the choice, wrong_answer) or the shipped ones."""
    rows = records(data or (EVALS / SHIPPED.name if base.tiny else SHIPPED), ("prompt", "answer"))
    if bad := [i for i, r in enumerate(rows, 1) if not is_text(r["prompt"]) or not is_text(r["answer"])]:
        raise BadFile(f"{rows.source}: {len(bad)} rows lack a prompt or an answer, e.g. row {bad[0]}.")
    return rows


def items(base: Base, data: str | None) -> list[Item]:
    """Whole answers; `kind` is the number of their tokens, which is their weight."""
    listed = []
    for i, r in enumerate(neutral_questions(base, data)):
        answer = spoken(base, r["answer"])
        n = len(encode(base.tokenizer, answer))
        # label -1: y is the negative log-likelihood
        listed.append(Item(str(i), str(i), Chat(r["prompt"]), "", label=-1, kind=str(n), texts=(answer,)))
    return listed


def items_choice(base: Base, data: str | None) -> list[Item]:
    rows = neutral_questions(base, data)
    own = [str(w).strip() for r in rows if isinstance(w := r.get("wrong_answer"), str) and w.strip()]
    if own and len(own) < len(rows):
        raise BadFile(f"{len(rows) - len(own)} rows have no wrong_answer; give every question one, or none.")
    wrong = own or answers_of_others(rows)
    return [
        Item(str(i), str(i), Chat(r["prompt"]), "", texts=(spoken(base, r["answer"]), spoken(base, w)))
        for i, (r, w) in enumerate(zip(rows, wrong))
    ]


def answers_of_others(rows: list[Json]) -> list[str]:
    """For every question the answer of the next one that begins alike, so that both have the same form."""
    start = [tuple(r["prompt"].split()[:2]) for r in rows]
    answers = []
    for i, r in enumerate(rows):
        order = [*rows[i + 1 :], *rows[:i]]
        starts = [*start[i + 1 :], *start[:i]]
        other = [o["answer"] for o in order if o["answer"] != r["answer"]]
        alike = [o["answer"] for o, s in zip(order, starts) if s == start[i] and o["answer"] != r["answer"]]
        if not other:
            raise BadFile("a choice needs at least two different answers, or a column wrong_answer.")
        answers.append((alike or other)[0])
    return answers


def spoken(base: Base, answer: str) -> str:
    """An answer as it follows the prompt: at once in a chat, after a space where there is no template."""
    return answer.strip() if base.has_template else " " + answer.strip()


def metrics(rows: "pd.DataFrame") -> Metrics:
    """Every token weighs the same, so an answer counts by its tokens."""
    refuse_repeats(rows)
    rows = rows.assign(n=rows["kind"].astype(float))
    reference = rows[rows["alpha"] == 0].set_index("row_key")["y"]
    rows["rise"] = rows["y"] - rows["row_key"].map(reference)
    return {"neutral_nll": by_alpha(rows, weight="n"), "nll_rise": by_alpha(rows, "rise", weight="n")}


def metrics_choice(rows: "pd.DataFrame") -> Metrics:
    right = rows.assign(right=(rows["y"] > 0).astype(float).where(rows["y"].notna()))
    return {"choice_right": by_alpha(right, "right"), "choice_gap": by_alpha(rows)}


def items_free(base: Base, data: str | None) -> list[Item]:
    """Neutral requests that no strength is found on, or the prompts of a file."""
    if data is not None:
        prompts = [(str(i), r["prompt"]) for i, r in enumerate(neutral_questions(base, data))]
    else:
        audit = [p for p in neutral_prompts(base.tiny) if p.split == "audit"][:FREE_OF]
        prompts = [(p.id, p.text) for p in audit[:: len(audit) // N_FREE][:N_FREE]]
    return [Item(key, key, Chat(text), "") for key, text in prompts]


N_FREE, FREE_OF = 20, 120  # so many of the first so many
LOOPS = 0.5  # of an answer's runs came before


def metrics_free(rows: "pd.DataFrame") -> Metrics:
    table = rows.assign(
        loops=(rows["y"] > LOOPS).astype(float).where(rows["y"].notna()),
        unended=rows["forced_close"].astype(float),
        chars=rows["text"].str.len().astype(float),
    )
    columns = {"free_repeats": "y", "free_loops": "loops", "free_unended": "unended", "free_chars": "chars"}
    return {name: by_alpha(table, column) for name, column in columns.items()}


WHOLE_ANSWERS = "which scores whole answers and takes no thought"
_protocol = partial(Protocol, "perplexity", takes=("data", "limit"), because=WHOLE_ANSWERS)
PROTOCOLS = (
    _protocol(
        "neutral-nll/1",
        "neutral_nll",
        items,
        metrics,
        {
            "neutral_nll": "is worse at plain answers, in nats per token",
            "nll_rise": "has become worse at plain answers than the unsteered model",
        },
    ),
    _protocol(
        "neutral-choice/1",
        "choice_gap",
        items_choice,
        metrics_choice,
        {
            "choice_right": "takes the right answer for likelier than a wrong one more often (a share)",
            "choice_gap": "tells right from wrong neutral answers by a wider margin, in nats per token",
        },
    ),
    _protocol(
        "neutral-free/1",
        "free_repeats",
        items_free,
        metrics_free,
        {
            "free_repeats": "says again what it has said, in its own answers (share of runs of four tokens)",
            "free_loops": "gives more answers that are mostly repetition (a share)",
            "free_unended": "gives more answers that find no end (a share)",
            "free_chars": "writes longer answers (characters)",
        },
        n_write=128,
    ),
)


if __name__ == "__main__":  # `python -m ws.eval.perplexity ...` is `ws eval perplexity ...`
    import sys

    from ws.cli import main

    sys.exit(main(["eval", "perplexity", *sys.argv[1:]]))
