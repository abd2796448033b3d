"""`prompt:pairs`: a question is asked under every persona pair of its behavior, and its numbers are averaged."""

from dataclasses import replace

import numpy as np
import pytest

from ws import methods
from ws.behaviors import load_behavior
from ws.calibrate import divergences
from ws.calibrate.prompts import prompt_sets
from ws.eval import protocol
from ws.eval.questions import averaged, items_of, measure
from ws.eval.scoring import Score
from ws.methods.prompts import SystemPrompts, of_behavior
from ws.models.chat import Chat

PACK = load_behavior("honesty", tiny=True)
ASKED = protocol("dilemmas")


@pytest.fixture(scope="module")
def asked(tiny):
    return items_of(ASKED, tiny, limit=4)


def alone(i: int) -> SystemPrompts:
    return SystemPrompts(f"prompt:{i}", *PACK.systems(i))


def test_a_row_is_the_mean_over_the_pairs_of_what_each_of_them_gives(tiny, asked):
    found = measure(tiny, ASKED, asked, alphas=[-1.0, 0.0, 1.0], by=of_behavior(PACK, "pairs"))
    each = [measure(tiny, ASKED, asked, alphas=[-1.0, 0.0, 1.0], by=alone(i)) for i in range(len(PACK.personas))]
    assert len(each) == 5
    for row, rows in zip(found, zip(*each)):
        for at, s in enumerate(row):
            for number in ("logratio", "pmass", "maxp"):
                wanted = np.mean([getattr(r[at], number) for r in rows])
                assert getattr(s, number) == pytest.approx(wanted, abs=1e-4)
    spread = [abs(a[2].logratio - b[2].logratio) for a, b in zip(each[0], each[1])]
    assert max(spread) > 0.05, "the pairs have to differ"


def test_a_known_zero_is_taken_as_it_is(tiny, asked):
    plain = [row[0] for row in measure(tiny, ASKED, asked, alphas=[0.0])]
    marked = [replace(s, logratio=s.logratio + 100) for s in plain]
    found = measure(tiny, ASKED, asked, alphas=[0.0, 1.0], by=of_behavior(PACK, "pairs"), reference=marked)
    assert [row[0] for row in found] == marked and all(abs(row[1].logratio) < 50 for row in found)


def test_a_behavior_with_one_pair_has_one_prompt(tiny, asked):
    one = replace(PACK, pairs=PACK.personas[:1])
    pairs, simple = of_behavior(one, "pairs"), of_behavior(one, "simple")
    assert pairs.chats(Chat("Hi"), 1.0) == simple.chats(Chat("Hi"), 1.0) == (simple.chat(Chat("Hi"), 1.0),)
    by = [measure(tiny, ASKED, asked, alphas=[1.0, -1.0], by=m) for m in (pairs, simple)]
    assert by[0] == by[1]


def test_its_kl_is_over_the_tokens_of_all_pairs(tiny):
    prompts = prompt_sets(True, 3, 3).calib
    (found,) = divergences(tiny, of_behavior(PACK, "pairs"), prompts, [1.0], tokens=4, thinking="off")
    each = [divergences(tiny, alone(i), prompts, [1.0], tokens=4, thinking="off")[0] for i in range(len(PACK.personas))]
    assert found.n_tokens == sum(d.n_tokens for d in each) and len(found.tokens) == 3
    for at, tokens in enumerate(found.tokens):  # prompts stay what is sampled
        assert list(tokens) == pytest.approx([t for d in each for t in d.tokens[at]], abs=1e-4)
    pooled = [t for d in each for part in d.tokens for t in part]
    assert found.p95 == pytest.approx(float(np.quantile(pooled, 0.95)), abs=1e-4)


def test_it_comes_back_from_its_file_and_strengths_are_three(tmp_path):
    method = of_behavior(PACK, "pairs")
    again = methods.load(methods.save(method, tmp_path / "pairs.safetensors"))
    assert again.content_hash == method.content_hash != of_behavior(PACK, "simple").content_hash
    assert again.chats(Chat("Hi"), -1.0) == method.chats(Chat("Hi"), -1.0) and len(again.chats(Chat("Hi"), -1.0)) == 5
    assert again.chats(Chat("Hi"), 0.0) == (Chat("Hi"),)
    with pytest.raises(ValueError, match="alpha is -1, 0 or 1"):
        again.chats(Chat("Hi"), 0.5)


def test_numbers_are_averaged_and_the_text_is_the_first():
    scores = [
        Score(1.0, 0.5, 0.25, True, "a", 3),
        Score(3.0, 1.0, 0.75, True, "b", 4),
        Score(2.0, 0.0, 0.5, False, "c", 5),
    ]
    assert averaged(scores) == Score(2.0, 0.5, 0.5, True, "a", 4)
    assert averaged(scores[:1]) is scores[0]
