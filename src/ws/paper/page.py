"""One HTML page of a recipe: its question, its scorecard, its figures and every table."""

from dataclasses import replace
from pathlib import Path

from ws.numbers import finite, some
from ws.paper.claims import FAILS, HOLDS, OPEN
from ws.paper.panels import Line, Panel
from ws.paper.recipe import Outcome, Recipe
from ws.records import write_text
from ws.results import chart
from ws.results.page import Html, figure, figures, joined, page, paragraph, points, section, table

FILE = "report.html"
BUILT_IN = (
    "`tiny` was built so that steering works, and this is a harmless twin of the paper's experiment: it shows that the "
    "software works, and nothing about the paper's models."
)


def write_page(recipe: Recipe, outcome: Outcome, model: str) -> Path:
    """The page in the recipe's folder; its path."""
    file = outcome.folder / FILE
    write_text(file, page_of(recipe, outcome, model))
    return file


def page_of(recipe: Recipe, outcome: Outcome, model: str) -> str:
    """The page as one HTML file."""
    counts = {says: sum(v["says"] == says for v in outcome.verdicts) for says in (HOLDS, FAILS, OPEN)}
    answer = f"{some(len(outcome.verdicts), 'claim')}: {', '.join(f'{n} {says}' for says, n in counts.items())}."
    *tables, scorecard = outcome.sheets
    about = f"Figures of the paper: {recipe.figures}. The paper's model: {recipe.model}."
    names = list(dict.fromkeys(line.name for p in outcome.panels for line in p.lines))
    drawn = [figures(_figure(p, names) for p in outcome.panels), _legend(outcome.panels, names)] if names else []
    body = [
        section("Scorecard", table(scorecard), paragraph(about, faint=True)),
        *([section("Figures", *drawn)] if drawn else []),
        section("Tables", *(table(s) for s in tables)),
        section("What this does not show", points([*([BUILT_IN] if model == "tiny" else []), *outcome.notes])),
    ]
    return page(recipe.question, answer, body, about=f"{recipe.name} · {model} · {recipe.section}")


def _figure(panel: Panel, names: list[str]) -> Html:
    panel = replace(panel, lines=tuple(filter(None, map(_known, panel.lines))))
    dots = [d for line in panel.lines for d in line.dots]
    x, y = chart.around(panel.x, [d.x for d in dots]), chart.around(panel.y, [d.y for d in dots])
    marks = [] if panel.limit is None or not x.low < panel.limit else [chart.crossing(x=panel.limit)]
    for line in panel.lines:
        color = names.index(line.name)
        own = line.dots
        if panel.start is not None:  # else they are no way from there, and each stands by itself
            marks.append(chart.line([(d.x, d.y) for d in line.dots], color, dashed=line.random, faint=line.random))
            own = line.dots[1:]
        says = [f"{line.name}, {d.note}: {d.y:.{panel.digits}f} at {d.x:.{panel.digits}f}" for d in own]
        marks.append(chart.dots([(d.x, d.y) for d in own], says, color, faint=line.random))
    if panel.start is not None:
        marks.append(chart.dots([panel.start], [panel.origin], 0, faint=True, size=6))
    ends = [(line.name, line.dots[-1]) for line in panel.lines]
    words = "; ".join(f"{name} ends at {d.y:.{panel.digits}f} with {d.x:.{panel.digits}f}" for name, d in ends)
    return figure(chart.plot(panel.title, words, x, y, marks), panel.title)


def _known(line: Line) -> Line | None:
    """The line without dots whose numbers are unknown: an effect among what is solved has none where nothing is."""
    dots = tuple(d for d in line.dots if finite(d.x) and finite(d.y))
    return replace(line, dots=dots) if dots else None


def _legend(panels: tuple[Panel, ...], names: list[str]) -> Html:
    random = {line.name for p in panels for line in p.lines if line.random}
    keys = [(chart.key(k, faint=name in random), name) for k, name in enumerate(names)]
    rules = ["thin upright line: 5 points of the capability lost"] if any(p.limit is not None for p in panels) else []
    rules += [f"large grey dot, where lines begin: {p.origin}" for p in panels if p.start is not None][:1]
    return joined(chart.legend(keys), paragraph("; ".join(rules), faint=True) if rules else None)
