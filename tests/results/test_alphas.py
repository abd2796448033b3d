"""A table of strengths shows a difference where there is one, and small numbers with the decimals they need."""

import math

from ws.results.layouts.alphas import markdown, sheet


def row(alpha, mean, off=0.1, metric="m"):
    numbers = {"mean": mean, "ci_lo": mean - off, "ci_hi": mean + off, "pmass": 1.0, "n": 40}
    return {"eval": "e", "protocol": "p/1", "metric": metric, "alpha": alpha, **numbers}


def cells(*rows):
    return [line[1:] for line in sheet(rows, "a table").lines]  # without the metric


def test_what_is_0_at_every_strength_is_one_line():
    (line,) = cells(*(row(a, 0.0, off=0.0) for a in (-1.0, 0.0, 1.0)))
    assert line[:3] == ("-1…+1", "+0.00", "[+0.00, +0.00]")
    assert len(cells(*(row(a, 0.1 * a, off=0.0) for a in (-1.0, 0.0, 1.0)))) == 3


def test_a_bar_shows_a_difference_and_not_a_constant():
    assert {line[-1] for line in cells(row(-1.0, 2.0), row(0.0, 2.0), row(1.0, 2.0))} == {""}
    assert all(line[-1] for line in cells(row(-1.0, 1.0), row(0.0, 1.5), row(1.0, 2.0)))


def test_a_number_without_an_interval_has_no_bar():
    assert {line[-1] for line in cells(row(-1.0, -2.0, off=math.nan), row(1.0, 2.0, off=math.nan))} == {""}


def test_a_small_number_has_the_same_decimals_on_the_screen_and_in_markdown():
    rows = [row(-1.0, 0.0041, off=0.001), row(1.0, 0.0102, off=0.001)]
    assert "+0.0041" in cells(*rows)[0]
    assert "| -1 | +0.0041 | [+0.0031, +0.0051] |" in markdown(rows)
