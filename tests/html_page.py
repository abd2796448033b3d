"""A page as a browser has it: its elements, its text, and the cells of its tables."""

import re
from html.parser import HTMLParser

from ws.results.page import VOID

TEXT = ("aria-label", "title", "content")
"""Attributes that hold words and lead nowhere."""


class Read(HTMLParser):
    """Elements with their attributes, the text outside of style, and every table as lines of cells."""

    def __init__(self, markup: str):
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.text = self.style = ""
        self.tables: list[list[list[str]]] = []
        self.feed(markup)
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"{tag} closes another element"

    def handle_data(self, data):
        if "style" in self.open:
            self.style += data
            return
        self.text += data
        if {"td", "th"} & set(self.open) and "svg" not in self.open:
            self.tables[-1][-1][-1] += data


def refuse_what_a_page_may_not_have(text: str) -> Read:
    """The page, if it asks for nothing, runs nothing, and can be used without eyes and without a mouse."""
    read = Read(text)
    assert not re.search(r"url\(|@import|//[a-z]", read.style)
    assert not [
        v for _, a in read.tags for k, v in a.items() if k not in TEXT and re.search(r"//|javascript:|data:", v or "")
    ]
    names = {name for name, _ in read.tags}
    assert not {"script", "iframe", "link", "object", "embed", "img", "form", "base"} & names
    assert not [k for _, attributes in read.tags for k in attributes if k.startswith("on") or k in ("src", "srcset")]
    heads = [int(name[1]) for name, _ in read.tags if re.fullmatch("h[1-6]", name)]
    assert heads[0] == 1 and heads.count(1) == 1
    assert all(b - a <= 1 for a, b in zip(heads, heads[1:])), "a level of headings is left out"
    regions = [a["aria-label"] for _, a in read.tags if a.get("role") == "region"]
    assert len(set(regions)) == len(regions) and "table" not in regions, "a place without a name of its own"
    places = [a["id"] for _, a in read.tags if "id" in a]
    assert len(set(places)) == len(places)
    assert {a["href"] for name, a in read.tags if name == "a"} <= {f"#{p}" for p in places}
    assert all(a.get("scope") in ("col", "row") for name, a in read.tags if name == "th")
    assert all(a.get("aria-label") or a.get("aria-hidden") for name, a in read.tags if name == "svg")
    return read


def numbers_in(text: str) -> set[tuple[str, str]]:
    """Every number that stands before its interval, with it; in cells of their own too."""
    return set(re.findall(r"([+-]\d+\.\d+)[ |]*(\[[+-]\d+\.\d+, [+-]\d+\.\d+\])", text))


def number(value: float, low: float, high: float, digits: int = 2) -> tuple[str, str]:
    """A number with its interval, as `numbers_in` finds it."""
    return f"{value:+.{digits}f}", f"[{low:+.{digits}f}, {high:+.{digits}f}]"
