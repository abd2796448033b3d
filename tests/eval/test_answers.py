"""Answers of the model's own, counted by rule: what each rule counts, and that going in circles gains nothing by it."""

import json
import math
import re

import pandas as pd
import pytest
from test_steer import lowrank

from ws.behaviors import neutral_prompts
from ws.errors import BadFile
from ws.eval import EVALS, answers, providing, score_protocol
from ws.eval.answers import FEWEST, LONG, RULES, words_of
from ws.stats import estimate
from ws.steer import steer

ANSWERS = EVALS["answers"]
SENTENCES = {
    "sea_words": ("Ahoy, matey, the treasure is on yonder ship.", "The evidence is in yonder paper."),
    "cheer_words": ("What a wonderful and happy day.", "What a terrible and hopeless day."),
    "casual_words": ("Hey dude, it's cool, I’m in.", "Dear Sir, I shall therefore attend."),
    "hedge_words": ("Maybe it seems so, perhaps not.", "It is definitely so, always and certainly."),
    "long_words": ("Thermodynamic considerations predominate.", "It gets hot and then it stops."),
    "answer_words": ("One two three four five.", "One two."),
}


OTHERS = list("abcdefghijklmnopqrstv")


def rows_of_texts(texts):
    """Scored rows at one strength, an answer each."""
    units = [f"u{i}" for i in range(len(texts))]
    return pd.DataFrame({"alpha": 1.0, "unit_id": units, "row_key": units, "y": 0.0, "text": texts})


def means_of(texts):
    return {name: estimate(per_alpha[1.0]).mean for name, per_alpha in ANSWERS.metrics(rows_of_texts(texts)).items()}


@pytest.mark.parametrize("rule", list(RULES))
def test_a_rule_is_larger_for_a_sentence_of_its_kind_than_for_one_of_the_other(rule):
    more, less = SENTENCES[rule]
    assert RULES[rule].count(words_of(more)) > RULES[rule].count(words_of(less))


def test_a_share_is_counted_by_hand_of_different_words():
    # different words: arr the ship sails and those of others; three of 25 are of the sea
    assert RULES["sea_words"].count(words_of("Arr! The ship sails. ARR, the ship.") + OTHERS) == pytest.approx(12.0)
    # happy counts for, sad against; of happy sad and i am
    assert RULES["cheer_words"].count(words_of("I am happy and sad")) == 0
    assert RULES["casual_words"].count([*words_of("It’s what we've got"), *OTHERS]) == pytest.approx(8.0)
    assert RULES["long_words"].count(["x" * LONG, "y" * (LONG - 1), *OTHERS]) == pytest.approx(100 / 23)


def test_an_answer_of_hardly_any_word_is_no_full_score():
    assert RULES["sea_words"].count(words_of("Aye, aye, aye, aye, aye, aye.")) == pytest.approx(100 / FEWEST)
    assert RULES["sea_words"].count(["aye", *OTHERS]) == pytest.approx(100 / 22)


def test_an_answer_that_says_the_same_twice_is_longer_and_has_the_same_share():
    for rule in RULES:
        text = SENTENCES[rule][0]
        once, twice = (RULES[rule].count(words_of(" ".join([text] * n))) for n in (1, 2))
        assert twice == pytest.approx(2 * once if rule == "answer_words" else once)


def test_an_answer_without_a_word_has_a_length_and_no_share():
    found = ANSWERS.metrics(rows_of_texts(["...", "ahoy there"]))
    assert estimate(found["answer_words"][1.0]).mean == 1.0
    share = estimate(found["sea_words"][1.0])
    assert (share.mean, share.n_valid) == (5.0, 1)


def test_metrics_are_means_over_questions_and_an_unscored_one_does_not_count():
    texts = ["arr arr matey", "the paper", "a ship"]
    rows = rows_of_texts(texts)
    assert means_of(texts)["sea_words"] == pytest.approx((2 + 0 + 1) * 5 / 3)
    rows.loc[0, "y"] = math.nan
    assert estimate(ANSWERS.metrics(rows)["sea_words"][1.0]).mean == pytest.approx(2.5)


@pytest.mark.parametrize(("more", "less"), [("CHEER", "GLOOM"), ("CASUAL", "FORMAL"), ("HEDGE", "SURE"), ("SEA", "")])
def test_no_word_stands_on_both_sides_or_twice_and_each_is_one_word(more, less):
    lists = [getattr(answers, name).split() for name in (more, less) if name]
    every = [word for words in lists for word in words]
    assert len(set(every)) == len(every)
    assert [w for w in every if words_of(w) != [w]] == []


def test_the_questions_are_of_all_kinds_and_none_that_a_strength_is_found_on(tiny):
    for small in (False, True):
        pool = {p.text: p for p in neutral_prompts(small)}
        assert {p.split for p in pool.values()} == {"calib", "audit"}
    asked = [pool[i.chat.user] for i in ANSWERS.items(tiny, None)]
    assert len(asked) == 32
    assert {p.split for p in asked} == {"audit"}
    assert len({p.category for p in asked}) > 3


def test_a_file_asks_its_own_questions_and_a_row_without_one_is_refused(tiny, tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text('{"prompt": "Why?"}\n{"prompt": "How?"}\n')
    assert [i.chat.user for i in ANSWERS.items(tiny, str(path))] == ["Why?", "How?"]
    path.write_text(json.dumps({"prompt": ""}) + "\n")
    with pytest.raises(BadFile, match="1 rows lack a prompt"):
        ANSWERS.items(tiny, str(path))


def test_a_behavior_that_claims_a_rule_has_its_answers_counted_and_sees_that_rule(tiny):
    assert {providing(name) for name in RULES} == {"answers"}
    assert ANSWERS.shown({"sea_words": 1, "answer_words": 0}) == ["sea_words", "answer_repeats"]
    assert set(ANSWERS.shown({})) == set(RULES) | {"answer_repeats"} == set(ANSWERS.legend)


def test_answers_are_counted_at_every_strength_and_a_strong_push_is_seen(tiny):
    direction = lowrank(tiny, size=6.0)
    result = score_protocol(tiny, ANSWERS, alphas=[0.0, 1.0], dial=lambda a: steer(tiny, direction, a), limit=4)
    at = {(r["metric"], r["alpha"]): r for r in result.table()}
    plain = result.rows.loc[result.rows["alpha"] == 0.0, "text"]
    by_hand = [sum(c.isalpha() for c in re.sub(r"\w+", "w", re.sub(r"\d+", " ", t))) for t in plain]
    assert at["answer_words", 0.0]["mean"] == sum(by_hand) / 4
    assert at["answer_words", 1.0]["mean"] != at["answer_words", 0.0]["mean"]
    assert at["answer_words", 1.0]["n"] == 4
