"""A page is whole, asks for nothing, runs nothing, and shows the text of strangers as text."""

import html
import re
from xml.etree import ElementTree

import pytest
from html_page import Read, refuse_what_a_page_may_not_have
from hypothesis import given
from hypothesis import strategies as st

from ws.results import chart
from ws.results.page import (
    STYLE,
    Html,
    commands,
    escaped,
    facts,
    figure,
    folded,
    joined,
    note,
    page,
    paragraph,
    points,
    section,
    table,
    tag,
)
from ws.results.sheet import Sheet

EVIL = "<script>alert('x')</script> & \" onclick=1"
SHEET = Sheet(
    EVIL,
    "expected: " + EVIL,
    ("method", "mean", ""),
    ((EVIL, "+1.00", "█"), ("b", "-1.00", "")),
    (),
    (EVIL,),
    faint=(1,),
)


def whole() -> str:
    x, y = (
        chart.Axis("alpha", -1, 1, ticks=((-1, "-1"), (1, "+1"))),
        chart.around(EVIL, [1.0, 2.0, float("nan")], zero=True),
    )
    ends = [(-1, 0.5, 1.5), (1, 1.0, 2.0)]
    marks = [
        chart.crossing(y=0),
        chart.crossing(x=0),
        chart.band(ends),
        chart.line([(-1, 1), (1, 2)]),
        chart.whiskers(ends),
        chart.dots([(-1, 1), (1, 2)], [EVIL, "b"]),
        chart.labels([(-1, 1, EVIL), (1, 2, "b")]),
    ]
    picture = chart.plot(EVIL, EVIL, x, y, marks)
    strip = chart.strip(EVIL, (-1, 1), value=0.5, ends=(0.2, 0.7), around=(-0.1, 0.1), each=[0.4, 0.6])
    body = [
        section("One", paragraph(EVIL), table(SHEET, meanings={"mean": EVIL}, cells={(1, "mean"): strip})),
        section(EVIL, figure(picture, EVIL), facts([(EVIL, EVIL)]), chart.legend([(chart.key(1), EVIL)])),
        section("Three", note(EVIL, EVIL), folded(EVIL, EVIL), commands([EVIL]), points([EVIL])),
    ]
    return page(EVIL, EVIL, body, about=EVIL)


def test_text_of_strangers_is_text_in_every_part_of_a_page():
    read = refuse_what_a_page_may_not_have(whole())
    assert read.text.count(EVIL) > 15  # and it is there as it was


@given(st.text())
def test_any_text_comes_back_as_it_was_but_for_what_no_file_may_hold(text):
    for markup in (tag("p", text), joined(text), escaped(text)):
        assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]", markup)
        markup.encode()
    assert "<" not in escaped(text) and '"' not in escaped(text)
    plain = re.sub("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]", "\N{REPLACEMENT CHARACTER}", text)
    assert html.unescape(escaped(plain)) == plain


def test_markup_is_not_escaped_twice_and_lists_are_their_members():
    assert tag("p", Html("<b>1</b>"), ["<", tag("i", 2)], None) == "<p><b>1</b>&lt;<i>2</i></p>"
    assert (
        tag("td", "x", class_="a", aria_label="b", open=False, hidden=True)
        == '<td class="a" aria-label="b" hidden="">x</td>'
    )


def test_a_page_makes_the_browser_refuse_whatever_it_might_ask_for():
    policy = next(a["content"] for name, a in Read(whole()).tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none';")


def test_the_same_parts_give_the_same_bytes():
    assert whole() == whole()


def test_a_page_can_be_used_without_eyes_and_without_a_mouse():
    read = refuse_what_a_page_may_not_have(whole())
    for _, a in read.tags:
        if "table" in a.get("class", "").split():  # it scrolls, so the keyboard must get there
            assert a["tabindex"] == "0" and a["aria-label"]
    assert dict(read.tags)["html"]["lang"] == "en"
    assert dict(read.tags)["main"]["id"] == "content"  # where the first link leads


def test_a_column_without_a_name_is_left_out_and_every_cell_of_the_others_is_there():
    read = Read(table(SHEET))
    assert "█" not in read.text
    assert all(cell in read.text for line in SHEET.lines for cell in line[:2])


# ---------------------------------------------------------------- colors


def _luminance(color: str) -> float:
    color = color[1:] if len(color) == 7 else "".join(2 * c for c in color[1:])
    parts = [int(color[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    r, g, b = (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(a: str, b: str) -> float:
    """The ratio that WCAG asks about."""
    high, low = sorted((_luminance(a), _luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_every_text_can_be_read_on_everything_it_stands_on(theme):
    colors = dict(re.findall(r"--(\w+): (#\w+)", STYLE.split(":root {")[theme + 1]))
    for on in ("paper", "soft", "note", "warning", "neg", "zero", "pos"):
        assert contrast(colors["ink"], colors[on]) >= 7, on
        assert contrast(colors["faint"], colors[on]) >= 4.5, on
    for ink in ("accent", "warm"):
        assert contrast(colors[ink], colors["paper"]) >= 4.5, ink
    for n in range(chart.COLORS):
        assert contrast(colors[f"c{n}"], colors["paper"]) >= 3, n  # graphics
    assert contrast("#000", "#fff") == pytest.approx(21)


# ---------------------------------------------------------------- pictures


def numbers_in(markup: str) -> list[float]:
    tree = ElementTree.fromstring(markup)
    assert not any(
        "nan" in v for e in tree.iter() for k, v in e.attrib.items() if k in ("d", "x", "y", "cx", "cy", "x1", "x2")
    )
    return [(float(e.get("cx")), float(e.get("cy"))) for e in tree.iter("circle")]


def test_a_dot_lies_where_its_numbers_say():
    x, y = chart.Axis("a", 0, 10), chart.Axis("b", 0, 1)
    shown = chart.plot("t", "d", x, y, [chart.dots([(0, 0), (10, 1), (5, 0.5)], ["", "", ""])])
    left, right, middle = numbers_in(shown)
    assert left[0] < right[0] and left[1] > right[1]  # up is less, in a picture
    assert middle == pytest.approx(((left[0] + right[0]) / 2, (left[1] + right[1]) / 2), abs=0.1)
    log = chart.plot(
        "t", "d", chart.Axis("a", 0.01, 1, log=True), y, [chart.dots([(0.01, 0), (1, 0), (0.1, 0)], [""] * 3)]
    )
    a, b, c = (p[0] for p in numbers_in(log))
    assert c == pytest.approx((a + b) / 2, abs=0.1)


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_an_axis_has_a_few_round_numbers_within_its_ends(low, width):
    axis = chart.Axis("a", low, low + width)
    if low + width > low + 1e-9 * abs(low):
        assert 2 <= len(axis.marked) <= 7
        assert all(low - 1e-6 * width <= x <= low + width * (1 + 1e-6) for x, _ in axis.marked)


@given(st.floats(1e-6, 1e3), st.floats(1.01, 1e5))
def test_a_logarithmic_axis_has_numbers_too(low, times):
    marked = chart.Axis("a", low, low * times, log=True).marked
    assert 1 <= len(marked) <= 8
    assert all(low * 0.999 <= x <= low * times * 1.001 for x, _ in marked)


def test_an_axis_around_no_number_at_all_is_still_one():
    for log in (False, True):
        axis = chart.around("a", [float("nan")], log=log)
        assert axis.low < axis.high and axis.marked
