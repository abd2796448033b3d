"""One self-contained HTML page: `ws report`, `ws explain` and `ws watch` make theirs of these parts.

    body = [section("What it does", paragraph("..."), table(sheet), figure(svg, "what the picture shows"))]
    write_text(path, page("honesty on tiny", "The answer in one sentence.", body))

A part is `Html`, and everything else is text and is escaped: the answers of a model are text of strangers. A page has no
script and asks for nothing outside itself, which its own policy makes the browser enforce. It reads well on a phone, on
paper, with a keyboard and in the dark. The same parts give the same bytes.
"""

import html
import re
from collections.abc import Iterable, Mapping, Sequence

from ws.results.sheet import Sheet
from ws.version import __version__

NOT_TEXT = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
"""Characters that no HTML file may hold, half a surrogate pair among them."""
VOID = ("meta", "br", "hr", "img")
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"

CUES = {"🟢": "green", "🟡": "yellow", "🔴": "red", "⚪": "white"}
"""Dots that stand for a verdict in tables."""


class Html(str):
    """Markup, which is written as it is; any other text is escaped first."""


def tag(name: str, /, *inside: object, **attributes: object) -> Html:
    """An element: `tag("td", text, class_="number")`. None is nothing, a list is its members.

    The names of attributes lose an underscore at the end and get dashes for those inside; one that is None or False is left out.
    """
    words = [f' {_name(k)}="{escaped(_value(v))}"' for k, v in attributes.items() if v is not None and v is not False]
    opened = f"<{name}{''.join(words)}>"
    return Html(opened if name in VOID else f"{opened}{joined(*inside)}</{name}>")


def joined(*parts: object) -> Html:
    """Parts behind each other."""
    return Html("".join(_part(p) for p in parts))


def escaped(text: object) -> Html:
    """A text that shows as it is, in an element or in an attribute."""
    return Html(html.escape(NOT_TEXT.sub("\N{REPLACEMENT CHARACTER}", str(text)), quote=True))


def _part(part: object) -> str:
    if part is None:
        return ""
    if isinstance(part, Html):
        return part
    if isinstance(part, str) or not isinstance(part, Iterable):
        return escaped(part)
    return joined(*part)


def _name(attribute: str) -> str:
    return attribute.removesuffix("_").replace("_", "-")


def _value(value: object) -> object:
    return "" if value is True else value


# ---------------------------------------------------------------- parts


def page(title: str, answer: object, body: Sequence[Html], *, about: object = None) -> str:
    """The whole file. `answer` is the one sentence to be read first, `about` the small line above it."""
    titles = re.findall(r'<section id="([^"]+)"><h2>(.*?)</h2>', "".join(body))
    links = [tag("li", tag("a", Html(text), href=f"#{name}")) for name, text in titles]
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("style", Html(STYLE)),
    )
    top = tag(
        "header",
        tag("p", about, class_="about") if about else None,
        tag("h1", title),
        tag("p", sentence(answer) if type(answer) is str else answer, class_="answer"),
        tag("nav", tag("ul", links), aria_label="On this page") if len(links) > 2 else None,
    )
    skip = tag("a", "To the content", href="#content", class_="skip")
    foot = tag("footer", f"ws {__version__}. This file is whole: it asks for nothing and runs nothing.")
    content = tag("body", skip, top, tag("main", *body, id="content"), foot)
    return "<!doctype html>\n" + tag("html", head, content, lang="en") + "\n"


def section(title: str, *inside: object, name: str = "") -> Html:
    """A part of the page with a heading; `name` is its address, the title's own words when not given."""
    return tag("section", tag("h2", title), *inside, id=name or address(title))


def address(text: str) -> str:
    """A text as the address of a part of the page."""
    return "-".join(re.findall(r"[a-z0-9]+", text.lower())) or "part"


def paragraph(*inside: object, faint: bool = False) -> Html:
    return tag("p", *inside, class_="faint" if faint else None)


def points(lines: Iterable[object]) -> Html | None:
    """A list of sentences; nothing where there are none."""
    items = [tag("li", sentence(line) if type(line) is str else line) for line in lines]
    return tag("ul", items, class_="points") if items else None


def sentence(text: str) -> Html:
    """A sentence in which `words` in such marks are those that are typed, and cues are dots of their color."""
    parts = re.split("`([^`]+)`", text)
    return joined(*(tag("code", part) if at % 2 else _with_cues(part) for at, part in enumerate(parts)))


def _with_cues(text: str) -> Html:
    """A text whose colored dots need no font that has them."""
    parts = re.split(f"([{''.join(CUES)}])", text)
    dots = (tag("span", class_=f"cue {CUES[p]}", role="img", aria_label=CUES[p]) if p in CUES else p for p in parts)
    return joined(*dots)


def facts(pairs: Iterable[tuple[object, object]]) -> Html:
    """A list of names with what they stand for."""
    return tag("dl", [joined(tag("dt", name), tag("dd", value)) for name, value in pairs])


def note(title: str, *inside: object, warning: bool = False) -> Html:
    """A box that stands out."""
    return tag("aside", tag("h3", title), *inside, class_="note warning" if warning else "note", aria_label=title)


def folded(summary: object, *inside: object, open_: bool = False) -> Html:
    """A part that is opened by a click or a key; on paper it is open."""
    return tag("details", tag("summary", summary), *inside, open_=open_)


def commands(lines: Iterable[str]) -> Html:
    """What can be typed, a command a line."""
    return tag("pre", tag("code", "\n".join(lines)), tabindex="0", role="region", aria_label="commands")


def figure(picture: Html, caption: object, *, wide: bool = False) -> Html:
    """A picture with a sentence below it. The picture says in its own words what it shows (`chart.plot` does)."""
    return tag("figure", picture, tag("figcaption", caption), class_="wide" if wide else None)


def figures(parts: Iterable[Html]) -> Html:
    """Pictures side by side where there is room."""
    return tag("div", *parts, class_="figures")


def table(
    sheet: Sheet,
    *,
    meanings: Mapping[str, str] | None = None,
    cells: Mapping[tuple[int, str], object] | None = None,
    name: str = "",
) -> Html:
    """A sheet: its title as the caption, what it says below it, and what a column means where the pointer rests on its name.

    Columns without a name are left out. `cells` replaces the text of some cells, by line and column; `name` is what a
    screen reader calls a table that has no title.
    """
    meanings, cells = meanings or {}, cells or {}
    shown = [(at, c) for at, c in enumerate(sheet.columns) if c]
    heads = [
        tag("th", tag("abbr", c, title=meanings[c]) if c in meanings else c, scope="col", class_=_kind(sheet, c))
        for _, c in shown
    ]
    rows = []
    for n, line in enumerate(sheet.lines):
        row = [_cell(cells.get((n, c), line[at]), _kind(sheet, c), heads_row=k == 0) for k, (at, c) in enumerate(shown)]
        mark = "faint" if n in sheet.faint else "marked" if n in sheet.marked else None
        rows.append(tag("tr", row, class_=mark))
    caption = tag("caption", sheet.title) if sheet.title else None
    whole = tag("table", caption, tag("thead", tag("tr", heads)), tag("tbody", rows))
    explained = [(c, meanings[c]) for _, c in shown if c in meanings]
    return joined(
        tag("div", whole, class_="table", tabindex="0", role="region", aria_label=sheet.title or name or "table"),
        folded("What the columns mean", facts(explained)) if explained else None,
        paragraph(sentence(sheet.expected), faint=True) if sheet.expected else None,
        points(sheet.readings),
    )


def _kind(sheet: Sheet, column: str) -> str | None:
    return None if column in sheet.words else "number"


def _cell(inside: object, kind: str | None, *, heads_row: bool) -> Html:
    """One cell; the first of a line names it, unless it is that of the line above again."""
    names = heads_row and inside != ""
    inside = _with_cues(inside) if type(inside) is str else inside
    return tag("th" if names else "td", inside, class_=kind, scope="row" if names else None)


STYLE = """
:root { color-scheme: light dark;
  --paper: #fff; --ink: #1c1e21; --faint: #5c6370; --rule: #d9dce1; --soft: #f4f5f7; --accent: #1b4f8a; --warm: #a84300;
  --band: #d4d7dc; --neg: #fbe3d6; --zero: #f0f1f3; --pos: #dbe9f6; --note: #f3f6fa; --warning: #fdf3e3; --edge: #d98a1f;
  --c0: #0072b2; --c1: #c24e00; --c2: #00805f; --c3: #a8528a; --c4: #946200; --c5: #2f7fb3; --c6: #7f4a1f; --c7: #6a3d9a; }
@media (prefers-color-scheme: dark) { :root {
  --paper: #15171a; --ink: #e6e7ea; --faint: #a3a9b4; --rule: #363a42; --soft: #1e2126; --accent: #8ab8f0; --warm: #ffac70;
  --band: #454a54; --neg: #43291c; --zero: #24272c; --pos: #1b3049; --note: #1a212b; --warning: #2c2417; --edge: #d98a1f;
  --c0: #6ab7ea; --c1: #ff9d5c; --c2: #4fc9a4; --c3: #e69bcb; --c4: #e5b95c; --c5: #9ad0f2; --c6: #d3a27c; --c7: #bd9be6; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 62rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.6 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", "DejaVu Sans", sans-serif; }
h1 { font-size: 1.75rem; line-height: 1.25; margin: 0 0 .75rem; text-wrap: balance; overflow-wrap: anywhere; }
h2 { font-size: 1.3rem; line-height: 1.3; margin: 3rem 0 .75rem; padding-top: .75rem; border-top: 1px solid var(--rule); }
h3 { font-size: 1.05rem; line-height: 1.4; margin: 1.75rem 0 .5rem; overflow-wrap: anywhere; }
p, ul, dl { margin: .75rem 0; max-width: 44rem; overflow-wrap: anywhere; }
a { color: var(--accent); }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; border-radius: 2px; }
.skip { position: absolute; left: -100vw; } .skip:focus { left: 1rem; top: .5rem; background: var(--paper); padding: .25rem .5rem; }
.about, .faint, figcaption, caption, footer, dt, summary { color: var(--faint); }
.about { margin: 0 0 .25rem; font-size: .95rem; }
.answer { font-size: 1.2rem; line-height: 1.5; margin: 0 0 1rem; max-width: 46rem; }
nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1.1rem; padding: 0; list-style: none; max-width: none; font-size: .95rem; }
nav a { display: inline-block; padding: .15rem 0; }
.points { padding-left: 1.2rem; } .points li { margin: .35rem 0; }
dl { display: grid; grid-template-columns: minmax(7rem, max-content) 1fr; gap: .3rem 1.25rem; max-width: 52rem; }
dd { margin: 0; min-width: 0; overflow-wrap: anywhere; }
@media (max-width: 34rem) { th, td { padding-right: .6rem; } table { font-size: .82rem; } tbody th { min-width: 4rem; } dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: .6rem; } }
.table { overflow-x: auto; margin: 1rem 0 .75rem; }
table { border-collapse: collapse; font-size: .9rem; line-height: 1.45; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding: 0 0 .4rem; font-weight: 600; }
th, td { padding: .3rem 1rem .3rem 0; text-align: left; vertical-align: top; }
th { font-weight: 600; } thead th { color: var(--faint); font-weight: 500; vertical-align: bottom; }
thead tr, tbody tr { border-bottom: 1px solid var(--rule); }
.number { text-align: right; white-space: nowrap; } tbody th { font-weight: 500; min-width: 7rem; } tbody th:has(.cue) { min-width: 0; } tbody td:not(.number):not(:empty) { min-width: 6.5rem; }
.cue { display: inline-block; width: .8em; height: .8em; border-radius: 50%; border: 1.5px solid currentColor; vertical-align: -.05em; }
.green { color: #2e9e5b; background: #2e9e5b; } .yellow { color: #d9a514; background: #d9a514; } .red { color: #d64545; background: #d64545; }
.white { color: var(--faint); }
tr.faint td, tr.faint th { color: var(--faint); } tr.marked th, tr.marked td { color: var(--warm); }
abbr { text-decoration: underline dotted; text-underline-offset: 3px; cursor: help; }
figure { margin: .75rem 0 1rem; min-width: 0; } figcaption { font-size: .9rem; line-height: 1.45; max-width: 44rem; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(19rem, 100%), 1fr)); gap: 0 1.75rem; }
svg { display: block; width: 100%; height: auto; max-width: 34rem; max-height: 24rem; overflow: visible; } .wide svg { max-width: 44rem; max-height: none; }
svg text { fill: var(--ink); font-size: 12px; font-family: inherit; } svg .small { font-size: 11px; fill: var(--faint); }
.rule { stroke: var(--rule); fill: none; } .axis { stroke: var(--faint); fill: none; } .band { fill: var(--band); stroke: var(--band); }
.zero { stroke: var(--faint); stroke-opacity: .6; } .target { fill: var(--pos); }
svg.strip { width: 15rem; height: 1.25rem; max-width: none; } svg.key { display: inline-block; width: 18px; height: 14px; vertical-align: -2px; }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.4rem; font-size: .9rem; color: var(--faint); max-width: none; }
details { margin: .75rem 0; } summary { cursor: pointer; width: fit-content; }
details[open] > summary { margin-bottom: .5rem; } details::details-content { width: 100%; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(13rem, 100%), 1fr)); gap: .75rem; margin: .5rem 0 1rem; }
.card { border-radius: 8px; padding: .7rem .9rem; background: var(--zero); } .card.pos { background: var(--pos); } .card.neg { background: var(--neg); }
.card p { margin: .3rem 0 0; } .card .strength { margin: 0; font-size: .85rem; color: var(--faint); } .thought { font-style: italic; font-size: .92rem; color: var(--faint); }
.columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(20rem, 100%), 1fr)); gap: 0 2rem; }
h4 { font-size: .95rem; margin: .5rem 0; color: var(--faint); font-weight: 600; }
.unit { border-top: 1px solid var(--rule); padding: .5rem 0; } .unit p { margin: .3rem 0; white-space: pre-line; } .unit .faint { font-size: .92rem; }
.note { background: var(--note); border-left: 4px solid var(--accent); border-radius: 4px; padding: .75rem 1.1rem; margin: 1.5rem 0; max-width: 48rem; }
.note.warning { background: var(--warning); border-color: var(--edge); } .note h3 { margin: 0 0 .35rem; } .note > :last-child { margin-bottom: 0; }
code { overflow-wrap: anywhere; } :not(pre) > code { background: var(--soft); padding: .05em .3em; border-radius: 4px; font-size: .92em; }
pre { background: var(--soft); border-radius: 6px; padding: .8rem 1rem; overflow-x: auto; font-size: .88rem; line-height: 1.55; }
code, pre { font-family: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; }
footer { margin-top: 4rem; padding-top: .75rem; border-top: 1px solid var(--rule); font-size: .9rem; }
@media print {
  :root { color-scheme: light; font-size: 9.5pt; } body { max-width: none; padding: 0; } nav, .skip { display: none; }
  details::details-content { content-visibility: visible; height: auto; } .table { overflow: visible; } pre { white-space: pre-wrap; }
  table { font-size: .74rem; } th, td { padding-right: .5rem; overflow-wrap: anywhere; } .number { white-space: normal; } tbody th { min-width: 0; }
  h2, h3, caption { break-after: avoid; } figure, tr, .note, .card { break-inside: avoid; } section { break-before: auto; } }
"""
