"""The picture of a dial: what stands in it, whichever metrics, poles and answers there are."""

import math

import pytest
from small import BEHAVIORS

from ws.behaviors import load_behavior
from ws.results.dial import dial_picture
from ws.results.sentences.alphas import chance


def row(metric, alpha, mean, off=0.2):
    return {
        "eval": "e",
        "protocol": "e/1",
        "metric": metric,
        "alpha": alpha,
        "mean": mean,
        "ci_lo": mean - off,
        "ci_hi": mean + off,
        "n": 40,
    }


TABLE = [row(m, a, slope * a) for m, slope in (("logratio", 1.0), ("wrongness", -2.0)) for a in (-1.0, 0.0, 1.0)]
RANDOM = [
    {
        "eval": "e",
        "protocol": "e/1",
        "metric": "logratio",
        "n": 12,
        "alphas": [-1.0, 1.0],
        "each": [[-0.1, 0.3], [0.2, -0.2]],
    }
]
SAMPLES = [
    {
        "question": "Is it so?",
        "answers": [{"alpha": a, "thought": "Hm.", "text": f"Answer {a:g}."} for a in (-1.0, 0.0, 1.0)],
    }
]


@pytest.fixture
def texts(tmp_path, monkeypatch):
    """The words of a picture, as they are drawn."""
    from matplotlib.figure import Figure
    from matplotlib.text import Text

    drawn = []
    save = Figure.savefig

    def keep(figure, *args, **kwargs):
        drawn.extend(" ".join(t.get_text().split()) for t in figure.findobj(Text))
        save(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", keep)

    def draw(table, **more):
        drawn.clear()
        words = {"poles": ("more honest", "more dishonest"), "sides": {}, "meanings": {}, **more}
        dial_picture(table, tmp_path / "dial.png", title="a dial", **words)
        assert (tmp_path / "dial.png").stat().st_size > 10_000
        return drawn

    return draw


def test_the_picture_says_which_way_is_which_what_chance_does_and_what_was_answered(texts):
    words = texts(TABLE, sides={"logratio": 1, "wrongness": -1}, random=RANDOM, samples=SAMPLES)
    assert "← more dishonest more honest →" in words
    assert "← more honest more dishonest →" in words  # a larger wrongness is the other pole
    assert "range of 2 random directions of the same norm" in words
    assert {"“Is it so?”", "Answer -1.", "Answer 0.", "Answer 1.", "thinks: Hm."} <= set(words)


def test_a_picture_without_claims_answers_or_random_directions_says_nothing_of_them(texts):
    words = texts(TABLE)
    assert not any("honest" in w or "random" in w or "thinks" in w for w in words)


def test_metrics_without_an_interval_are_drawn_without_one(texts):
    assert texts([row("logratio", a, a, off=math.nan) for a in (-1.0, 0.0, 1.0)])


def test_chance_is_said_over_the_same_span_as_the_effect():
    assert chance(TABLE, RANDOM) == [
        "Chance: over the same span 2 random directions of the same norm move logratio by -0.40 to +0.40 nat, on 12 units."
    ]
    one_end = [{**RANDOM[0], "alphas": [1.0], "each": [[0.3], [-0.2]]}]
    assert "by -0.20 to +0.30 nat" in chance(TABLE, one_end)[0]
    assert chance([row("other", 1.0, 1.0)], RANDOM) == []


@pytest.mark.parametrize(("name", "tiny"), BEHAVIORS)
def test_the_poles_of_a_behavior_are_a_few_different_words(name, tiny):
    pos, neg = load_behavior(name, tiny=tiny).poles
    assert pos != neg
    assert all(0 < len(pole) < 70 and not pole.startswith(("The", "a ", "an ")) for pole in (pos, neg))
