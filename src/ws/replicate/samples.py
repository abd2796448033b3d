"""The dial, seen: a few held-out questions, answered at both ends of the dial and at 0.

The questions are chosen by their place among the test questions alone, before anything is answered. Answers take the likeliest
token; a model that thinks thinks first, and its thought stands beside the answer.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from ws.direction import Direction
from ws.generate import generate
from ws.records import Place, Record, refuse_damaged, write_json
from ws.steer import steer
from ws.study.keys import base_key, beside
from ws.study.plan import Plan
from ws.types import Json

PROTOCOL = "samples/1"
FILE = "samples.json"
ANSWER, THOUGHT = 96, 256
"""Most new tokens of an answer, and of a thought with its answer."""


def held_out_questions(plan: Plan, n: int) -> list[str]:
    """`n` of the questions that nothing was learnt from or chosen on, evenly spread over them."""
    numbers = sorted(plan.parts.test)
    n = min(n, len(numbers))
    return [plan.questions[numbers[len(numbers) * (2 * i + 1) // (2 * n)]][0] for i in range(n)]


def make_samples(plan: Plan, direction: Direction, alphas: Sequence[float], n: int) -> tuple[list[Json], Record]:
    """`n` questions with their answers at the lowest strength, at 0 and at the highest, made once."""
    base = plan.base
    limit, thinking = (THOUGHT, "on") if base.thinks else (ANSWER, "off")
    ends = sorted({min(alphas), 0.0, max(alphas)})
    questions = held_out_questions(plan, n)
    settings = {"protocol": PROTOCOL, "alphas": ends, "thinking": thinking, "max_new_tokens": limit}
    inputs = {**base_key(base), "direction": direction.content_hash, "questions": questions}
    place = Place.below(plan.run_folder / "samples", "samples", settings, inputs)

    def texts_at(alpha: float) -> list[str]:
        with steer(base, direction, alpha):
            return generate(base, questions, max_new_tokens=limit, thinking=thinking)

    def make(work: Path) -> Json:
        answers = {alpha: texts_at(alpha) for alpha in ends}
        samples = [
            {"question": q, "answers": [{"alpha": a, **_in_parts(answers[a][i])} for a in ends]}
            for i, q in enumerate(questions)
        ]
        write_json(work / FILE, samples)
        return {"n": len(samples)}

    record = place.once(make, beside=beside(base, direction))
    refuse_damaged(record.folder, record.manifest)
    return json.loads((record.folder / FILE).read_text()), record


def _in_parts(text: str) -> Json:
    """The thought and the answer of a text; an answer that was never begun is empty."""
    if not text.lstrip().startswith("<think>"):
        return {"thought": "", "text": text.strip()}
    thought, _, answer = text.partition("</think>")
    return {"thought": thought.replace("<think>", "").strip(), "text": answer.strip()}
