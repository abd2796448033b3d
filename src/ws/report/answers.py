"""The same questions along the dial, side by side."""

from collections.abc import Sequence

from ws.numbers import alpha_of, some
from ws.report.study import Study
from ws.results.page import Html, joined, paragraph, section, tag
from ws.types import Fields


def part(study: Study) -> Html | None:
    """Held-out questions with their answers at both ends of the dial and at 0."""
    if not study.samples:
        return None
    n = some(len(study.samples), "question")
    about = paragraph(
        f"{n} that nothing was learnt from, taken by their place among the test questions before anything was answered.",
        faint=True,
    )
    return section("The same questions along the dial", about, *map(_question, study.samples), name="answers")


def _question(sample: Fields) -> Html:
    return joined(tag("h3", sample["question"], dir="auto"), cards([_answer(a) for a in sample["answers"]]))


def _answer(answer: Fields) -> tuple[float, object]:
    thought = tag("p", "thinks: ", answer["thought"], class_="thought", dir="auto") if answer.get("thought") else None
    return answer["alpha"], joined(thought, tag("p", answer["text"] or "(no answer yet)", dir="auto"))


def cards(answers: Sequence[tuple[float, object]]) -> Html:
    """What was said at each strength, in boxes of the color of its side."""
    boxes = [
        tag(
            "div",
            tag("p", f"alpha {alpha_of(alpha)}" if alpha else "alpha 0, the base", class_="strength"),
            text,
            class_=f"card {'pos' if alpha > 0 else 'neg' if alpha else 'zero'}",
        )
        for alpha, text in answers
    ]
    return tag("div", boxes, class_="cards")
