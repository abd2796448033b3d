"""What a direction says of itself to people: how it was made, what it moves, at which strengths, and a few answers.

    {"command": "ws diff --behavior honesty",
     "effects": [{"metric": "logratio_honesty", "protocol": "dd-1f/1", "from": -1, "to": 1, "change": 2.86, "lo": .., "hi": .., "units": 96}],
     "strengths": [{"budget": 1, "neg": -0.8, "pos": 0.9, "matched": true}],
     "answers": [{"question": "...", "answers": [{"alpha": -1, "text": "..."}]}]}

It lies in the header of the direction's file, goes where the file goes, and grows with every evaluation. The content hash
is that of the tensors, so that a direction stays the same however much is known of it. The behavior and its poles in words
stand in the provenance, from which they never change.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ws.types import Json

if TYPE_CHECKING:
    from ws.direction.direction import Direction

LONGEST, QUESTIONS = 300, 3
"""Characters of an answer that a card keeps, and questions."""


def behavior_of(direction: "Direction") -> tuple[str | None, str | None, str | None]:
    """(the behavior's name, what + does in words, what - does), as far as a direction knows."""
    made = direction.provenance.get("training", direction.provenance)
    made = made if isinstance(made, Mapping) else {}
    behavior, poles = made.get("behavior"), made.get("poles")
    name = behavior.get("name") if isinstance(behavior, Mapping) else behavior  # of a method, with its hash
    words = [name, *((poles.get("pos"), poles.get("neg")) if isinstance(poles, Mapping) else (None, None))]
    texts = [x if isinstance(x, str) else None for x in words]
    return texts[0], texts[1], texts[2]


def effect_in_words(effect: Mapping[str, Any]) -> str:
    """A change with its interval, between the two strengths it was measured at."""
    interval = f" [{effect['lo']:+.2f}, {effect['hi']:+.2f}]" if effect.get("lo") is not None else ""
    ends = f"from alpha {effect['from']:+g} to {effect['to']:+g}"
    return f"{effect['metric']} {effect['change']:+.2f}{interval} {ends}"


def strengths_in_words(strengths: Mapping[str, Any]) -> str:
    """The calibrated strengths of both signs."""
    verdict = "" if strengths.get("matched") else ", unmatched"
    return f"{strengths['neg']:+.3g} and {strengths['pos']:+.3g} move the model by {strengths['budget']:g} nat{verdict}"


def calibrated_range(direction: "Direction") -> tuple[float, float] | None:
    """The strengths between which it was calibrated, 0 among them; None where nobody has."""
    ends = [s[side] for s in direction.card.get("strengths", ()) for side in ("neg", "pos")]
    return (min(0.0, *ends), max(0.0, *ends)) if ends else None


def beyond(direction: "Direction", alpha: float) -> str:
    """That a strength lies outside all that is known of it, in words; nothing where it lies inside, or nothing is known."""
    known = [e[end] for e in direction.card.get("effects", ()) for end in ("from", "to")]
    known += calibrated_range(direction) or ()
    if not known or min(0.0, *known) <= alpha <= max(0.0, *known):
        return ""
    return (
        f"{alpha:+g} lies outside {min(0.0, *known):+.3g} to {max(0.0, *known):+.3g}, where it was measured or calibrated; "
        "answers may fall apart"
    )


def facts(direction: "Direction") -> list[tuple[str, str]]:
    """(what, in words) of all that a direction knows of itself, the most important first."""
    name, pos, neg = behavior_of(direction)
    card = direction.card
    lines = [("behavior", name)] if name else []
    lines += [("task", str(card["task"]))] if card.get("task") else []
    lines += [(sign, text) for sign, text in (("alpha > 0", pos), ("alpha < 0", neg)) if text]
    for effect in card.get("effects", ()):
        lines.append(("effect", f"{effect_in_words(effect)} ({effect['protocol']}, {effect['units']} units)"))
    lines += [("strengths", strengths_in_words(s)) for s in card.get("strengths", ())]
    lines += [("again by", card["command"])] if card.get("command") else []
    return lines


def samples(direction: "Direction") -> list[tuple[str, Sequence[tuple[float, str]]]]:
    """(a question, its answers by strength), as the card has them."""
    return [(s["question"], [(a["alpha"], a["text"]) for a in s["answers"]]) for s in direction.card.get("answers", ())]


def markdown(direction: "Direction") -> list[str]:
    """What a direction knows of itself, as lines of a model card, with an empty line behind each part."""
    lines = [f"- {what}: {_plain(text)}" for what, text in facts(direction)]
    lines += [""] if lines else []
    for question, answers in samples(direction):
        rows = [f"| {f'{alpha:+g}' if alpha else 0} | {_plain(text)} |" for alpha, text in answers]
        lines += [f"> {_plain(question)}", "", "| alpha | answer |", "|---|---|", *rows, ""]
    return lines


def _plain(text: str) -> str:
    """Text on one line that Markdown takes for nothing else."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def merged(card: Mapping[str, Any], more: Mapping[str, Any]) -> Json:
    """A card with what is newly known: a measurement takes the place of an older one of the same thing."""
    result = {**card, **more}
    for part, names in (("effects", ("eval", "protocol", "metric")), ("strengths", ("budget",))):
        entries = {tuple(e.get(n) for n in names): e for e in (*card.get(part, ()), *more.get(part, ()))}
        result |= {part: list(entries.values())} if entries else {}
    if "answers" in result:
        result["answers"] = [_short(s) for s in result["answers"][:QUESTIONS]]
    return result


def _short(sample: Mapping[str, Any]) -> Json:
    answers = [{"alpha": a["alpha"], "text": str(a["text"])[:LONGEST]} for a in sample["answers"]]
    return {"question": str(sample["question"])[:LONGEST], "answers": answers}


def is_card(card: object) -> bool:
    """True where the parts that are read again have the types they should have; files come from strangers too."""
    if not isinstance(card, Mapping) or not isinstance(card.get("command", ""), str):
        return False
    parts = [card.get(name, []) for name in ("effects", "strengths", "answers")]
    if not all(isinstance(p, list) and all(isinstance(e, Mapping) for e in p) for p in parts):
        return False
    effects, strengths, questions = parts
    bounds = [e.get(k) for e in effects for k in ("lo", "hi") if e.get(k) is not None]
    numbers = [e.get(k) for e in effects for k in ("from", "to", "change", "units")]
    numbers += [s.get(k) for s in strengths for k in ("budget", "neg", "pos")]
    texts = [e.get(k) for e in effects for k in ("metric", "protocol")]
    for sample in questions:
        answers = sample.get("answers")
        if not isinstance(answers, list) or not all(isinstance(a, Mapping) for a in answers):
            return False
        texts += [sample.get("question"), *(a.get("text") for a in answers)]
        numbers += [a.get("alpha") for a in answers]
    return all(isinstance(n, (int, float)) for n in (*numbers, *bounds)) and all(isinstance(t, str) for t in texts)
