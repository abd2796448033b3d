"""Pairs: what is read is what was written, bad files are named by line, and every check can fail."""

import json
import random
from dataclasses import replace

import pytest

from ws.errors import BadFile, PairsUnfit
from ws.pairs import (
    Pair,
    Pairs,
    auc,
    auc_interval,
    because,
    caveats,
    check_pairs,
    kept,
    load_pairs,
    looping,
    outlook,
    refuse_failed,
    save_pairs,
    separability,
)
from ws.pairs.checks import MENDS

WORDS = ["apple", "river", "stone", "cloud", "tiger", "piano", "candle", "forest", "bridge", "winter"]


def rows(n=60, pos="I am glad about the {w}.", neg="I am sad about the {w}."):
    made = []
    for i in range(n):
        w = WORDS[i % 10] + str(i)
        made.append(
            Pair(
                f"What about {w}?",
                pos.format(w=w),
                neg.format(w=w),
                f"p{i}",
                "Be glad.",
                "Be sad.",
                i,
                0,
                0,
                "mood",
                True,
                True,
                6,
                6,
            )
        )
    return made


def verdicts(some):
    return {c.name: c.verdict for c in check_pairs(some)}


def test_healthy_pairs_pass_every_check():
    assert set(verdicts(rows()).values()) == {"ok"}


@pytest.mark.parametrize(
    ("name", "spoil", "verdict"),
    [
        ("empty", lambda r, i: replace(r, response_pos="") if i % 2 else r, "fail"),
        ("identical", lambda r, i: replace(r, response_neg=r.response_pos.upper()) if i % 3 else r, "fail"),
        ("distinct", lambda r, i: replace(r, response_pos="I am glad."), "fail"),
        ("loops", lambda r, i: replace(r, response_pos="one two three four five six seven eight " * 9), "fail"),
        ("ended", lambda r, i: replace(r, ended_neg=i % 5 == 0), "fail"),
        ("ended", lambda r, i: replace(r, ended_neg=i % 2 == 0), "warn"),
        ("length", lambda r, i: replace(r, n_tok_pos=20), "warn"),
        (
            "leaks",
            lambda r, i: replace(
                r, sys_prompt_pos="Say you are glad about all of it", response_pos=f"You are glad about all {i}"
            ),
            "warn",
        ),
        (
            "separable",
            lambda r, i: replace(r, response_pos=r.response_neg, response_neg=r.response_pos) if i % 2 else r,
            "warn",
        ),
        ("script", lambda r, i: replace(r, response_neg="Мне грустно " + str(i)), "warn"),
    ],
)
def test_every_check_notices_its_defect(name, spoil, verdict):
    assert verdicts([spoil(r, i) for i, r in enumerate(rows())])[name] == verdict


def test_a_failed_check_stops_with_its_number():
    with pytest.raises(PairsUnfit, match=r"empty = 1\.00"):
        refuse_failed(check_pairs([replace(r, response_pos=" ") for r in rows()]))
    refuse_failed(check_pairs(rows()))


def test_a_length_only_difference_is_flagged_beside_the_words():
    some = [
        replace(r, response_pos="yes " * (5 + i % 3), response_neg="yes", n_tok_pos=6, n_tok_neg=1)
        for i, r in enumerate(rows())
    ]
    assert verdicts(some)["length"] == "warn"
    assert verdicts(some)["separable"] == "warn"


def test_dropping_is_by_pair_and_counted():
    some = rows(4)
    some += [some[0], replace(some[1], response_pos=""), replace(some[2], response_pos="same", response_neg="Same!")]
    good, dropped = kept(some)
    assert len(good) == 4
    assert dropped == {"duplicate": 1, "empty": 1, "identical": 1}


def test_a_pair_is_dropped_where_either_side_repeats_an_answer_to_the_same_persona():
    first, other = rows(2)
    again = replace(first, response_neg="Quite another answer.", sample_idx=1)
    assert kept([first, again]) == ((first,), {"duplicate": 1})
    assert kept([first, replace(again, response_pos="And another.")])[1] == {}
    for elsewhere in (replace(again, persona_idx=1), replace(again, prompt=other.prompt)):
        assert kept([first, elsewhere])[1] == {}
    swapped = replace(first, response_pos=first.response_neg, response_neg="Quite another answer.")
    assert kept([first, swapped])[1] == {}, "the sides are counted apart"


def test_an_answer_that_only_a_dropped_pair_holds_may_come_again():
    first = rows(1)[0]
    same = replace(first, response_pos="Hm.", response_neg="hm")
    assert kept([same, replace(first, response_pos="Hm.")])[1] == {"identical": 1}
    repeat = replace(first, response_neg="Never trained on.")
    later = replace(first, response_pos="New.", response_neg="Never trained on.")
    good, dropped = kept([first, repeat, later])
    assert (good, dropped) == ((first, later), {"duplicate": 1})


def test_pairs_without_system_prompts_have_no_persona_to_quote():
    bare = [replace(r, sys_prompt_pos="", sys_prompt_neg="") for r in rows()]
    assert verdicts(bare).keys() == verdicts(rows()).keys() - {"leaks"}


def test_auc_is_the_probability_of_being_larger():
    assert auc([2, 3], [0, 1]) == 1
    assert auc([0, 1], [2, 3]) == 0
    assert auc([1, 1], [1, 1]) == 0.5


def test_separability_judges_topics_it_has_not_seen():
    assert separability(rows()) > 0.95
    assert separability([replace(r, response_neg=r.response_pos) for r in rows()]) == 0.5


def test_looping_text_is_told_from_long_text():
    assert looping("again and again we come to this place " * 6)
    assert not looping(" ".join(f"w{i}" for i in range(200)))


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_pairs_come_back_as_they_were(tmp_path, suffix):
    before, path = Pairs(tuple(rows(5))), tmp_path / f"p.{suffix}"
    if suffix == "jsonl":
        save_pairs(before, path)
    else:
        import pandas as pd

        pd.DataFrame([vars(r) for r in before.rows]).to_parquet(path)
    assert load_pairs(path).rows == before.rows
    assert load_pairs(path).content_hash == before.content_hash != Pairs(tuple(rows(4))).content_hash


def test_three_columns_are_enough(tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text(
        "".join(
            json.dumps({"prompt": p, "response_pos": "a", "response_neg": "b"}) + "\n" for p in ("One?", "Two?", "one")
        )
    )
    found = load_pairs(path, "mood")
    assert [r.topic_idx for r in found.rows] == [0, 1, 0]
    assert {r.behavior for r in found.rows} == {"mood"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "empty"),
        ('{"prompt": "a", "response_pos": "b", "response_neg": "c"}\n{oops\n', "line 2 is not JSON"),
        (
            '{"prompt": "a", "response_pos": "b"}\n',
            "line 1: response_neg must be a text that is not empty, got nothing",
        ),
        ('{"prompt": "a", "response_pos": "b", "response_neg": 3}\n', "got 3"),
        ("[1, 2]\n", "expected an object"),
        ('{"prompt": "a", "response_pos": "b", "response_neg": "B."}\n', "identical in every row"),
    ],
)
def test_a_malformed_file_is_refused_with_its_line(tmp_path, text, told):
    path = tmp_path / "bad.jsonl"
    path.write_text(text)
    with pytest.raises(BadFile, match=told):
        load_pairs(path)


def test_other_bytes_are_refused(tmp_path):
    for name in ("x.jsonl", "x.parquet"):
        (tmp_path / name).write_bytes(b"\xff\xfe\x00garbage")
        with pytest.raises(BadFile, match=name):
            load_pairs(tmp_path / name)
    with pytest.raises(BadFile, match="no pairs file"):
        load_pairs(tmp_path / "none.jsonl")


def test_texts_with_unusual_line_ends_come_back_whole(tmp_path):
    odd = replace(rows(1)[0], response_pos="one\u2028two\u0085three")
    save_pairs(Pairs((odd, rows(2)[1])), tmp_path / "p.jsonl")
    assert load_pairs(tmp_path / "p.jsonl").rows[0] == odd
    (tmp_path / "bom.jsonl").write_bytes(
        b"\xef\xbb\xbf" + b'{"prompt": "a?", "response_pos": "b", "response_neg": "c"}\r\n'
    )
    assert load_pairs(tmp_path / "bom.jsonl").rows[0].response_neg == "c"


@pytest.mark.parametrize(
    ("column", "value", "told"),
    [
        ("ended_pos", "no", "true or false"),
        ("topic_idx", "a", "a whole number"),
        ("n_tok_pos", -1, "a whole number"),
        ("behavior", 3, "text"),
        ("ended_neg", 1, "true or false"),
    ],
)
def test_optional_columns_are_of_their_kind_or_refused_by_line(tmp_path, column, value, told):
    good = {"prompt": "a?", "response_pos": "b", "response_neg": "c"}
    (tmp_path / "p.jsonl").write_text(json.dumps(good) + "\n" + json.dumps({**good, column: value}) + "\n")
    with pytest.raises(BadFile, match=f"line 2: {column} must be {told}"):
        load_pairs(tmp_path / "p.jsonl")


def test_one_question_is_one_topic_whatever_the_file_numbers_it(tmp_path):
    lines = [
        {"prompt": p, "response_pos": "b", "response_neg": "c", "topic_idx": i}
        for i, p in enumerate(["One?", "Two?", "one", "Two?"])
    ]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(r) + "\n" for r in lines))
    assert [r.topic_idx for r in load_pairs(tmp_path / "p.jsonl").rows] == [0, 1, 0, 1]


def test_rows_that_were_dropped_do_not_renumber_those_that_are_left(tmp_path):
    before = Pairs(tuple(rows(6)[i] for i in (4, 2, 5)))
    save_pairs(before, tmp_path / "p.jsonl")
    assert load_pairs(tmp_path / "p.jsonl").rows == before.rows
    grouped = Pairs(tuple(replace(r, topic_idx=i // 2) for i, r in enumerate(rows(6))))
    save_pairs(grouped, tmp_path / "g.jsonl")
    assert load_pairs(tmp_path / "g.jsonl").rows == grouped.rows


# ---------------------------------------------------------------- what the checks say of learning


def verdicts_on_deeds(n=40, personas=3, told=True):
    """Judgements whose words stand for no side: pos says "fine" of every other deed, and "wrong" of the rest."""
    made = []
    for i in range(n):
        for p in range(personas):
            coin = (i * 7 + p * 3) % 5 < 2
            fine = (i % 2 == 0) if told else coin
            pos, neg = ("That is fine.", "That is wrong.") if fine else ("That is wrong.", "That is fine.")
            made.append(Pair(f"Is deed {i} fine?", pos, neg, f"q{i}", "a", "b", i, p, n_tok_pos=4, n_tok_neg=4))
    return made


def test_answers_that_hang_on_the_question_are_told_by_those_of_other_personas_and_not_by_words():
    checks = {c.name: c for c in check_pairs(verdicts_on_deeds(), min_distinct=0)}
    assert checks["separable"].value < 0.65
    assert checks["consistent"].value > 0.95
    assert checks["consistent"].verdict == "ok"
    null = {c.name: c for c in check_pairs(verdicts_on_deeds(told=False), min_distinct=0)}
    assert null["consistent"].verdict == "warn"
    assert outlook(tuple(checks.values()))[0] == "ok"
    assert outlook(tuple(null.values()))[0] == "warn"
    assert "consistent" not in verdicts(rows()), "one pair a question has no other to agree with"


def coins(topics, seed):
    """Pairs of which no word says anything, two a topic."""
    draw = random.Random(seed)
    answer = lambda: " ".join(draw.choices(WORDS, k=6))  # noqa: E731
    return [Pair(f"q{t}", answer(), answer(), topic_idx=t, persona_idx=p) for t in range(topics) for p in range(2)]


@pytest.mark.parametrize("name", ["separable", "consistent"])
def test_an_interval_of_words_that_say_nothing_mostly_holds_one_half_and_narrows_with_more_questions(name):
    ends = [auc_interval(coins(10, seed), name) for seed in range(40)]
    assert sum(low <= 0.5 <= high for low, high in ends) >= 34
    assert all(0 <= low <= high <= 1 for low, high in ends)
    few, many = (auc_interval(coins(n, 0), name) for n in (6, 60))
    assert many[1] - many[0] < few[1] - few[0]
    assert auc_interval(rows(), "separable")[0] > 0.9
    assert auc_interval(coins(1, 0), name) == (0.0, 1.0), "one question has no others to be compared with"


def test_a_few_lucky_answers_are_no_yes():
    """.67 of six questions is a healthy number whose interval reaches chance."""
    some = next(r for r in (coins(6, seed) for seed in range(200)) if verdicts(r)["separable"] == "ok")
    checks = [c for c in check_pairs(some) if c.name != "consistent"]
    assert outlook(checks)[0] == "ok"
    assert outlook(checks, some)[0] == "warn"


def test_the_outlook_names_the_cause_and_the_mend():
    assert outlook(check_pairs(rows()))[0] == "ok"
    grade, said = outlook(check_pairs([replace(r, response_neg=r.response_pos) for r in rows()]))
    assert grade == "fail"
    assert "identical = 1.00" in said
    assert "choose personas that are further apart" in said
    assert set(MENDS) >= {c.name for c in check_pairs(verdicts_on_deeds())}


def test_too_many_equal_pairs_among_a_few_questions_are_no_verdict_on_the_others():
    some = [replace(r, response_neg=r.response_pos) if i % 10 < 6 else r for i, r in enumerate(rows())]
    checks = check_pairs(some)
    assert {c.name: c.verdict for c in checks}["identical"] == "fail"
    assert outlook(checks)[0] == "fail"
    grade, said = outlook(checks, some)
    assert grade == "warn"
    assert "identical = 0.60" in said
    assert "Other questions may do better" in said
    assert outlook(checks[:3], [replace(r, response_neg=r.response_pos) for r in rows()])[0] == "fail"


def test_few_pairs_are_counted_with_why_the_others_are_gone():
    about = {"n_generated": 60, "dropped": {"identical": 46}}
    few = Pairs(tuple(rows(14)), about, check_pairs(rows(14)))
    assert caveats(few)[0].startswith("Fewer than about 100 pairs teach little")
    assert because(few).startswith(" About the pairs: 14 of 60 pairs (46 identical dropped). Fewer than about 100")
    many = Pairs(tuple(rows(120)), {}, check_pairs(rows(120)))
    assert (caveats(many), because(many)) == ([], "")
