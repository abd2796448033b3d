"""What analyses found, as one HTML page and the same in Markdown: question, table, picture, and what it does not show."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ws.explain.pictures import drawn
from ws.explain.protocol import Analysis, Finding, Picture
from ws.explain.show import meanings, sheet_of
from ws.records import slug
from ws.results.page import Html, figure, note, page, paragraph, points, section, sentence, table


@dataclass(frozen=True, eq=False)
class Answered:
    """An analysis with its finding; or, instead, why there is none."""

    analysis: Analysis
    on: str
    """The evaluation it was measured on; nothing where weights alone were read."""
    finding: Finding | None
    seconds: float = 0.0
    why_not: str = ""

    @property
    def title(self) -> str:
        """Its heading."""
        return f"{self.analysis.name}, on {self.on}" if self.on else self.analysis.name


def html(title: str, answer: str, about: str, answered: Sequence[Answered]) -> str:
    """The page."""
    parts = [_section(a) for a in answered if a.finding is not None]
    if missing := _missing(answered):
        parts.append(section("Not answered", points(missing)))
    return page(title, answer, parts, about=about)


def _section(a: Answered) -> Html:
    assert a.finding is not None
    tables = []
    for t in a.finding.tables:
        if t.rows:
            tables.append(table(sheet_of(t), meanings=meanings(t)))
    pictures = [figure(drawn(p), p.title, wide=True) for p in a.finding.pictures]
    return section(
        a.title,
        paragraph(a.analysis.question),
        points(a.finding.readings),
        *pictures,
        *tables,
        note("What this does not show", paragraph(sentence(a.analysis.silent))),
    )


def markdown(name: str, title: str, answer: str, about: str, answered: Sequence[Answered]) -> str:
    """The same in Markdown; pictures are files beside it, which begin with its name."""
    lines = [f"# {title}", "", answer, "", about, ""]
    for a in answered:
        if a.finding is None:
            continue
        lines += [f"## {a.title}", "", a.analysis.question, ""]
        lines += [f"- {r}" for r in a.finding.readings] + [""]
        for file, p in picture_files(a, name).items():
            lines += [f"![{p.title}]({file})", ""]
        for t in a.finding.tables:
            if t.rows:
                lines += [sheet_of(t).markdown()]
        lines += [f"What this does not show: {a.analysis.silent}", ""]
    if missing := _missing(answered):
        lines += ["## Not answered", "", *(f"- {m}" for m in missing), ""]
    return "\n".join(lines)


def picture_files(a: Answered, page: str) -> dict[str, Picture]:
    """The pictures of an analysis on a page by the name of their file."""
    if a.finding is None:
        return {}
    name = slug(a.title.replace(", on ", "-"))
    return {f"{page}-{name}-{k}.svg": p for k, p in enumerate(a.finding.pictures, 1)}


def _missing(answered: Sequence[Answered]) -> list[str]:
    return [f"{a.title}: {a.why_not}" for a in answered if a.finding is None]


def shown(a: Answered, most: int) -> Answered:
    """The same with tables of so many rows, for a terminal."""
    if a.finding is None:
        return a
    tables = tuple(replace(t, most=min(most, t.most or most)) for t in a.finding.tables)
    return replace(a, finding=replace(a.finding, tables=tables))
