"""What the direction was learnt from: how many pairs, what the checks say of them, and a few to read."""

from ws.numbers import NO, finite
from ws.pairs import MENDS, Check, Pair, Pairs, caveats, counted, outlook
from ws.report.meanings import meanings
from ws.report.study import Study
from ws.results.page import Html, folded, joined, note, paragraph, points, section, sentence, table, tag
from ws.results.sheet import Sheet

SHOWN, LETTERS = 4, 600
"""Pairs to read, and most characters of a text."""


def part(study: Study) -> Html:
    """The pairs of the run, or why they cannot be shown."""
    pairs = study.pairs
    if isinstance(pairs, str):
        return section("Pairs", note("The pairs are not here", paragraph(sentence(pairs)), warning=True))
    _, well = outlook(pairs.checks) if pairs.checks else ("ok", "These pairs were not checked.")
    overruled = pairs.provenance.get("overruled") or []
    warned = [
        f"Overruled by the user: the check {name} failed, and the pairs were taken all the same." for name in overruled
    ]
    return section(
        "Pairs",
        paragraph(f"{counted(pairs)}. {well}"),
        note("Warnings", points([*warned, *caveats(pairs)]), warning=True) if warned or caveats(pairs) else None,
        _checks(pairs.checks) if pairs.checks else None,
        folded(f"Some of the {len(pairs.rows)} pairs", *map(_pair, _spread(pairs))),
    )


def _checks(checks: tuple[Check, ...]) -> Html:
    """The checks as a table; what mends one that is not ok stands in it."""

    def line(c: Check) -> tuple[str, ...]:
        sides = (f"{x:.2f}" if finite(x) else NO for x in (c.pos, c.neg))
        return (
            c.name,
            c.verdict,
            f"{c.value:.2f}",
            *sides,
            c.means,
            "" if c.verdict == "ok" else MENDS.get(c.name, ""),
        )

    sheet = Sheet(
        "checks of the pairs, before any was dropped",
        "",
        ("check", "verdict", "value", "pos", "neg", "is", "what mends it"),
        tuple(map(line, checks)),
        (),
        words=("check", "verdict", "is", "what mends it"),
        marked=tuple(n for n, c in enumerate(checks) if c.verdict != "ok"),
    )
    return table(sheet, meanings=meanings(sheet))


def _spread(pairs: Pairs) -> list[Pair]:
    """A few pairs, evenly spread over all of them and chosen by nothing else."""
    n = min(SHOWN, len(pairs.rows))
    return [pairs.rows[len(pairs.rows) * (2 * i + 1) // (2 * n)] for i in range(n)]


def _pair(pair: Pair) -> Html:
    """A question with both answers, and the personas that gave them."""
    boxes = [
        tag(
            "div",
            tag("p", side, class_="strength"),
            tag("p", _cut(answer), dir="auto"),
            tag("p", "persona: ", _cut(persona), class_="thought", dir="auto") if persona else None,
            class_=f"card {side}",
        )
        for side, answer, persona in (
            ("neg", pair.response_neg, pair.sys_prompt_neg),
            ("pos", pair.response_pos, pair.sys_prompt_pos),
        )
    ]
    return joined(tag("h3", _cut(pair.prompt), dir="auto"), tag("div", boxes, class_="cards"))


def _cut(text: str) -> str:
    return text if len(text) <= LETTERS else f"{text[:LETTERS]} …"
