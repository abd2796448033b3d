"""The page and the figure of a recipe."""

import json
import math

import pytest

from ws.paper import figures
from ws.paper.page import _figure
from ws.paper.panels import Dot, Line, Panel


def test_a_dot_without_a_number_is_left_out_of_the_picture_and_breaks_no_page():
    ends = (math.nan, math.nan)
    known, unknown = (Dot(50.0, y, ends, ends, "weight at +1") for y in (60.0, math.nan))
    panel = Panel("up", "right (%)", "effect (%)", (Line("weight", (known, known, unknown)), Line("act", (unknown,))))
    written = json.loads(json.dumps(panel.as_json()).replace("NaN", "null"))  # as a recipe's file has it
    drawn = _figure(Panel.from_json(written), ["weight", "act"])
    assert "weight, weight at +1: 60.0 at 50.0" in drawn
    assert "nan" not in drawn.lower()


@pytest.mark.parametrize("columns", [1, 2])
def test_the_names_of_all_arms_and_the_title_stand_inside_the_figure(columns, tmp_path, monkeypatch):
    dot = Dot(50.0, 60.0, (40.0, 60.0), (50.0, 70.0), "at +1")
    arms = ("weight", "finetune", "act_single", "act_all", "bias_only", "tau+", "tau-", "random")
    panel = Panel("up", "x", "y", tuple(Line(a, (dot,), a == "random") for a in arms), start=(50.0, 50.0), limit=45.0)
    kept = []
    monkeypatch.setattr(figures, "saved", lambda figure, path: kept.append(figure) or [path])
    title = "gcd · false_premise · SmolLM2-135M-Instruct.Q4_1 · SMOKE: the first 48 units · REDUCED: 384 rows of a task"
    figures.drawn([panel] * columns, columns, title, tmp_path / "figure.png")
    (figure,) = kept
    figure.canvas.draw()
    for part in (figure.legends[0], figure._suptitle):
        inside, whole = part.get_window_extent(), figure.bbox
        assert whole.x0 <= inside.x0 and inside.x1 <= whole.x1
    assert " ".join(figure.get_suptitle().split()) == title
    assert len(figure.legends[0].get_texts()) == 10
