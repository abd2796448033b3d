"""Pictures are whole whatever the numbers are: none, NaN, one, or many."""

from xml.etree import ElementTree

import pytest

from ws.explain.pictures import file_of
from ws.explain.protocol import Bars, Curves, Heat

NAN = float("nan")
PICTURES = {
    "bars": Bars(
        "t",
        "share",
        ["a", "<b> & a long name of a space (write)"],
        [0.5, NAN],
        [0.4, NAN],
        [0.6, NAN],
        [0.1, 0.2],
        (-0.1, 0.1),
    ),
    "nothing to draw": Bars("t", "share", ["a"], [NAN]),
    "heat": Heat("t", "share", ["2", "3"], ["q", "k"], [[0.9, NAN], [-0.2, 0.0]]),
    "wide": Heat("t", "share", ["2"], [str(k) for k in range(20)], [[0.1] * 20]),
    "experts": Heat("t", "norm", ["2", "3"], [str(k) for k in range(256)], [[0.1 * k for k in range(256)]] * 2),
    "curves": Curves("t", "modules", "share", [1.0, 2.0, 21.0], {"one": [0.1, NAN, 1.0], "other": [0.0, 0.5, 0.9]}),
    "one point": Curves("t", "x", "y", [1.0], {"one": [0.1]}),
}


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_a_whole_file_that_says_what_it_shows(name):
    text = file_of(PICTURES[name])
    root = ElementTree.fromstring(text)
    assert root.tag.endswith("svg") and root.get("role") == "img" and root.get("aria-label")
    assert "nan" not in text.replace("sans-serif", "").lower()
    width = float(root.get("viewBox").split()[2])
    for word in root.iter("{http://www.w3.org/2000/svg}text"):
        if word.get("x"):  # no name begins left of the picture
            room = float(word.get("x")) if word.get("text-anchor") == "end" else width
            assert len(word.text or "") * 5 < room


def test_a_cell_for_each_of_many_experts_is_bare_says_its_number_when_it_is_pointed_at_and_fits_a_page():
    root = ElementTree.fromstring(file_of(PICTURES["experts"]))
    of = lambda name: list(root.iter(f"{{http://www.w3.org/2000/svg}}{name}"))  # noqa: E731
    assert float(root.get("viewBox").split()[2]) < 1200 and len(of("rect")) >= 2 * 256
    assert "3, 255: 25.5" in {t.text for t in of("title")}
    assert len(of("text")) < 30  # names of rows and of every sixteenth column, no numbers
    assert max(float(r.get("fill-opacity", 0)) for r in of("rect")) == 1.0


def test_what_has_no_interval_does_not_say_that_it_has_one():
    from ws.explain.pictures import drawn

    assert "95 % interval" in drawn(PICTURES["bars"]) and "95 % interval" not in drawn(PICTURES["nothing to draw"])
