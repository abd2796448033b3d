"""What steering costs on neutral questions: every token counts once, and a model that breaks is seen to break."""

import json

import numpy as np
import pandas as pd
import pytest
from planted import rows_of
from test_steer import lowrank

from ws.errors import BadFile
from ws.eval import PROTOCOLS, score_protocol
from ws.eval.perplexity import SHIPPED, answers_of_others
from ws.generate import generate
from ws.stats import change, estimate
from ws.steer import steer

NLL, CHOICE = PROTOCOLS["perplexity", "neutral-nll/1"], PROTOCOLS["perplexity", "neutral-choice/1"]
FREE = PROTOCOLS["perplexity", "neutral-free/1"]


def nll_rows(ref, pos, tokens):
    rows = rows_of(ref, pos)
    return rows.assign(kind=[str(tokens[int(u[1:])]) for u in rows["unit_id"]])


def test_every_token_weighs_the_same_whatever_answer_it_is_in():
    rng = np.random.default_rng(0)
    tokens, ref, pos = rng.integers(1, 40, 60), rng.random(60), rng.random(60)
    found = NLL.metrics(nll_rows(ref, pos, tokens))
    assert estimate(found["neutral_nll"][1.0]).mean == pytest.approx((tokens * pos).sum() / tokens.sum())
    assert estimate(found["nll_rise"][1.0]).mean == pytest.approx((tokens * (pos - ref)).sum() / tokens.sum())
    both = change(found["neutral_nll"][0.0], found["neutral_nll"][1.0])
    assert both.mean == pytest.approx(estimate(found["nll_rise"][1.0]).mean)


def test_answers_of_different_lengths_and_one_likelihood_leave_nothing_uncertain():
    tokens = np.arange(1, 61)
    e = estimate(NLL.metrics(nll_rows(np.full(60, 0.5), np.full(60, 0.7), tokens))["neutral_nll"][1.0])
    assert (e.ci_lo, e.ci_hi) == (pytest.approx(0.7), pytest.approx(0.7))


def test_intervals_of_the_rise_cover_what_is_planted():
    rng, hits, n = np.random.default_rng(1), 0, 60
    for _ in range(n):
        tokens, noise = rng.integers(2, 30, 60), rng.normal(size=60)
        e = estimate(NLL.metrics(nll_rows(np.zeros(60), 0.4 + noise, tokens))["nll_rise"][1.0], resamples=300)
        hits += e.ci_lo <= 0.4 <= e.ci_hi
    assert hits / n > 0.88  # of 60 experiments


def test_a_push_that_breaks_the_model_costs_and_no_push_costs_nothing(tiny):
    direction = lowrank(tiny, size=0.5)
    for chosen, metric, sign in ((NLL, "nll_rise", 1), (CHOICE, "choice_gap", -1)):
        found = score_protocol(
            tiny, chosen, alphas=[3.0], dial=lambda a: steer(tiny, direction, a), method="random", limit=12
        )
        groups = chosen.metrics(found.rows)[metric]
        moved = change(groups[0.0], groups[3.0])
        assert sign * moved.mean > 0.5, chosen.id
        assert estimate(groups[0.0]).mean == pytest.approx(0, abs=1e-12) or chosen is CHOICE


def test_the_tiny_model_knows_its_own_neutral_answers(tiny):
    found = score_protocol(tiny, CHOICE)
    assert found.table()[0]["mean"] > 0.95
    assert found.rows["unit_id"].nunique() >= 50


def test_the_shipped_questions_are_enough_and_each_has_one_right_answer():
    rows = [json.loads(line) for line in SHIPPED.read_text().splitlines()]
    assert len(rows) >= 50
    assert len({r["prompt"] for r in rows}) == len({r["id"] for r in rows}) == len(rows)
    assert all(r["answer"] != r["wrong_answer"] for r in rows)


def test_a_wrong_answer_is_of_the_same_form_and_never_the_right_one():
    rows = [{"prompt": f"How much is {i}?", "answer": f"It is {i % 2}."} for i in range(6)]
    rows += [{"prompt": "Which day?", "answer": "Monday."}, {"prompt": "Which day?", "answer": "Friday."}]
    wrong = answers_of_others(rows)
    assert all(w != r["answer"] for w, r in zip(wrong, rows))
    assert wrong[6:] == ["Friday.", "Monday."]
    with pytest.raises(BadFile, match="two different answers"):
        answers_of_others(rows[:1])


def test_half_a_column_of_wrong_answers_is_refused(tiny, tmp_path):
    path = tmp_path / "qa.parquet"
    pd.DataFrame({"prompt": ["A?", "B?"], "answer": ["a", "b"], "wrong_answer": ["b", None]}).to_parquet(path)
    with pytest.raises(BadFile, match="1 rows have no wrong_answer"):
        CHOICE.items(tiny, str(path))
    assert len(NLL.items(tiny, str(path))) == 2


def test_an_answer_that_goes_in_circles_is_seen_and_one_that_does_not_is_not():
    from ws.eval.writing import repeated

    assert repeated([1, 2, 3, 4, 5, 6, 7, 8]) == 0.0
    assert repeated([1, 2, 3, 4] * 8) == pytest.approx(1 - 4 / 29)
    assert repeated([5] * 3) == 0.0  # too short to have a run
    rows = pd.DataFrame(
        {
            "alpha": [0.0] * 3 + [1.0] * 3,
            "unit_id": ["a", "b", "c"] * 2,
            "row_key": ["a", "b", "c"] * 2,
            "y": [0.0, 0.1, 0.2, 0.9, 0.8, 0.1],
            "forced_close": [False] * 3 + [True, True, False],
            "text": ["four"] * 3 + ["fourfour"] * 3,
        }
    )
    found = FREE.metrics(rows)
    told = {m: [estimate(found[m][a]).mean for a in (0.0, 1.0)] for m in found}
    assert told["free_loops"] == [0.0, pytest.approx(2 / 3)]
    assert told["free_unended"] == [0.0, pytest.approx(2 / 3)]
    assert told["free_chars"] == [4.0, 8.0]
    assert told["free_repeats"] == [pytest.approx(0.1), pytest.approx(0.6)]


def test_free_answers_are_those_of_generate_at_every_strength_and_a_broken_model_is_seen(tiny):
    direction = lowrank(tiny, size=6.0)
    result = score_protocol(tiny, FREE, alphas=[-1.0, 0.0, 1.0], dial=lambda a: steer(tiny, direction, a), limit=2)
    items = FREE.items(tiny, None)[:2]
    for alpha, part in result.rows.groupby("alpha"):
        with steer(tiny, direction, float(alpha)):
            alone = [generate(tiny, i.chat.user, max_new_tokens=128) for i in items]
        assert part.sort_values("row_key")["text"].tolist() == [
            t for _, t in sorted(zip([i.row_key for i in items], alone))
        ]
    at = {r["alpha"]: r["mean"] for r in result.table() if r["metric"] == "free_unended"}
    assert at[0.0] == 0.0
    assert max(at[-1.0], at[1.0]) > 0.5


def test_free_answers_leave_no_room_for_a_thought(tiny):
    with pytest.raises(ValueError, match="takes no thought"):
        score_protocol(tiny, FREE.thinking(8))
