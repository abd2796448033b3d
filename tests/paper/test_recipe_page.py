"""The page of a recipe."""

import json
import math

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
