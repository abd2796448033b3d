"""Pictures of comparisons: strengths that do nothing do not stretch the scale of those that do something."""

import re

from ws.results.plots import frontier


def curve(name, *kls):
    points = [{"alpha": a, "kl": kl, "value": a, "low": a - 0.1, "high": a + 0.1} for a, kl in zip((1.0, -1.0), kls)]
    return {"name": name, "control": False, "points": points}


def exponents(file):
    """The powers of ten on the axes."""
    text = file.read_text()
    return {int(n.replace("−", "-")) for n in re.findall(r"10\^\{([−-]?\d+)\}", text)}


def test_a_strength_that_does_nothing_does_not_stretch_the_scale_and_is_counted(tmp_path):
    drawn = frontier([curve("a", 0.02, 0.03)], "a title", "change", None, tmp_path / "plain")[1]
    weak = [curve("a", 0.02, 0.03), curve("b", 1e-7, 2e-7)]
    cut = frontier(weak, "a title", "change", None, tmp_path / "weak")[1]
    assert min(exponents(cut)) >= min(exponents(drawn)) > -4
    assert "2 points whose KL is 4 decades below the largest are left out" in cut.read_text()
    assert "left out" not in drawn.read_text()


def test_numbers_of_a_search_cover_no_other_and_its_panel_shows_no_empty_decade():
    from itertools import combinations

    from matplotlib.text import Text

    from ws.results import plots

    rough = [[4.0**k, 0.01 * 16.0**k] for k in range(-2, 6)]
    tries = [[2.112, 2.5], [1.752, 0.42], [1.92, 1.1], [1.90, 1.07], [1.882, 1.01]]
    side = {"target": 1.0, "p95": 1.01, "alpha": 1.882, "verdict": "matched", "ladder": rough, "history": tries}
    search = {"method": "ws:lora", "settings": {"tolerance": 0.05}, "pos": side, "neg": side}
    figure, axes = plots.grid_of(1, 1, width=4, height=4)
    axis = axes[0, 0]
    plots._search(axis, search, sides=("pos",))
    whole = axis.get_xlim()
    plots._close_up(axis, side)
    low, high = axis.get_xlim()
    assert whole[1] / whole[0] > 1000 and high / low < 1.5 and low < 1.752 < 2.112 < high
    figure.draw_without_rendering()
    boxes = [Text.get_window_extent(text) for text in axis.texts]  # without the lines that lead to the points
    assert [text.get_text() for text in axis.texts] == ["1", "2", "3", "4", "5"]
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))
