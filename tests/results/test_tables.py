"""What a table says is computed from its numbers: it can say yes, no, reversed, slight, and not monotone."""

import pytest

from ws.numbers import bar, signed
from ws.results.layouts.alphas import markdown
from ws.results.sentences import verdict
from ws.results.sentences.alphas import readings


def rows(means, ends, metric="logratio_honesty", pmass=1.0, few=False):
    alphas = [-1.0, 0.0, 1.0]
    return [
        dict(eval="e", protocol="p/1", metric=metric, alpha=a, mean=m, ci_lo=m - 0.1, ci_hi=m + 0.1, pmass=pmass, n=40)
        | dict(few_units=few, ends=ends[0], ends_lo=ends[1], ends_hi=ends[2])
        for a, m in zip(alphas, means)
    ]


@pytest.mark.parametrize(
    ("means", "ends", "intent", "told"),
    [
        ([-1, 0, 1], (2, 1.9, 2.1), 1, "+2.00 nat [+1.90, +2.10] from alpha -1 to +1; moves as intended."),
        ([1, 0, -1], (-2, -2.1, -1.9), -1, "+2.00 nat [+1.90, +2.10] from alpha -1 to +1; moves as intended."),
        ([1, 0, -1], (-2, -2.1, -1.9), 1, "REVERSED"),
        ([0, 0.1, 0.05], (0.05, -0.2, 0.3), 1, "no clear effect"),
        ([0, 3, 1], (1, 0.9, 1.1), 1, "not steadily between"),
        ([0, 0.01, 0.02], (0.02, 0.01, 0.03), 1, "by less than 0.1 nat"),
        ([0, 1, 2], (2, float("nan"), float("nan")), 1, "no interval"),
    ],
)
def test_the_verdict_follows_from_the_paired_interval_and_the_way(means, ends, intent, told):
    assert told in readings(rows(means, ends), {"logratio_honesty": intent})[0]


def test_a_metric_without_a_claim_gets_no_verdict():
    assert readings(rows([0, 1, 2], (2, 1, 3)), {"logratio_honesty": 0}) == []
    assert readings(rows([0, 1, 2], (2, 1, 3)), {}) == []


def test_low_answer_mass_and_few_units_are_said():
    told = " ".join(readings(rows([0, 1, 2], (2, 1, 3), pmass=0.4, few=True), {"logratio_honesty": 1}))
    assert "Only 40 units of logratio_honesty" in told
    assert "probability is on the answers" in told and "logratio_honesty 0.40" in told


def test_numbers_carry_signs_and_what_is_missing_is_a_dash():
    assert (signed(1.234), signed(-0.5), signed(None), signed(float("nan"))) == ("+1.23", "-0.50", "–", "–")
    assert bar(1, 1) == "     │█████"
    assert bar(-0.4, 1) == "   ██│     "
    assert bar(None, 1) == ""
    assert "| p/1 | logratio_honesty | 0 | +0.00 | [-0.10, +0.10] | 1.000 | 40 |" in markdown(
        rows([-1, 0, 1], (2, 1, 3))
    )


@pytest.mark.parametrize(
    ("change", "wanted", "word", "slight"),
    [
        ((0.5, 0.4, 0.6), 1, "intended", False),
        ((-0.5, -0.6, -0.4), 1, "reversed", False),
        ((-0.5, -0.6, -0.4), -1, "intended", False),
        ((0.05, 0.04, 0.06), 1, "intended", True),
        ((0.5, -0.1, 1.1), 1, "unclear", False),
        ((0.5, 0.4, 0.6), 0, "unclaimed", False),
        ((0.5, float("nan"), float("nan")), 1, "unknown", False),
        ((float("nan"),) * 3, 1, "unscored", False),
    ],
)
def test_one_rule_says_what_a_change_is(change, wanted, word, slight):
    says = verdict(*change, wanted)
    assert (says.word, says.slight) == (word, slight)
    assert ("less than 0.1 nat" in says.sentence) == slight
    assert says.sentence != verdict(*change, wanted, random=True).sentence or word == "unscored"
