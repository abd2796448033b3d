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
