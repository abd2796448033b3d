"""The GCD set: every solution is right, every mistake ends elsewhere, and nothing but the seed decides a row."""

import json
import math
import random
import re
import subprocess
import sys
from collections import Counter

import pytest

from ws.sets.gcd import LARGEST, SIZES, STYLES, banks, euclid, factors, gcd_rows, mistaken, write_gcd

PAIRS = [(a, b) for a in range(2, LARGEST + 1, 7) for b in range(2, LARGEST + 1, 5) if a != b]
MIXTURE = ("half_train_instr_q", "half_train_sycophancy_correct")


def last_integer(text):
    return int(re.findall(r"\d+", text)[-1])


@pytest.mark.parametrize("solve", [euclid, factors])
def test_a_solution_ends_with_the_greatest_common_divisor_and_all_its_lines_are_true(solve):
    for a, b in PAIRS:
        solution = solve(a, b)
        assert solution.value == math.gcd(a, b) == last_integer(solution.text)
        for left, right in re.findall(
            r"^(?:The common factors give )?(\d[\d *]*) = (\d[\d *+]*\d)", solution.text, re.M
        ):
            assert eval(left) == eval(right), solution.text  # digits, * and + by the pattern


@pytest.mark.parametrize("solve", [euclid, factors])
def test_a_mistake_changes_the_end_and_what_is_written_ends_with_it(solve):
    for a, b in PAIRS:
        wrong = mistaken(a, b, random.Random(a * b), solve)
        assert wrong.value != math.gcd(a, b)
        assert 1 <= wrong.value == last_integer(wrong.text)


def test_a_mistake_is_one_step_that_later_steps_agree_with():
    # 234 = 1 * 129 + 105 with a remainder of 104: from there on it is Euclid's algorithm of 129 and 104
    wrong = euclid(234, 129, lambda step, rest: rest - 1 if step == 0 else rest)
    assert wrong.text.split("\n")[1:-1] == euclid(129, 104).text.split("\n")[:-1]
    assert wrong.value == math.gcd(129, 104)


def test_the_mixture_shares_no_pair_between_its_halves_and_none_with_a_test_split():
    sizes = {s: n // 20 for s, n in SIZES.items()}
    pairs = {
        s: {tuple(sorted((r["data"]["number_1"], r["data"]["number_2"]))) for r in gcd_rows(s, n)}
        for s, n in sizes.items()
    }
    assert {s: len(p) for s, p in pairs.items()} == sizes
    assert not pairs[MIXTURE[0]] & pairs[MIXTURE[1]]
    assert pairs[MIXTURE[0]] | pairs[MIXTURE[1]] == pairs["train_instr_q"]
    assert not pairs["train_instr_q"] & pairs["test_instr_q"]


def test_a_row_asks_for_its_numbers_in_its_style_and_an_answer_states_their_divisor():
    for split in SIZES:
        for r in gcd_rows(split, 40):
            data, user = r["data"], r["messages"][0]["content"]
            assert data["style"] == STYLES[data["row_id"] % 7]
            for bank in ("instruction",) if split.endswith("instr_q") else ("help",):
                said = [w.format(a=data["number_1"], b=data["number_2"]) for w in banks()[bank][data["style"]]]
                assert any(w in user for w in said)
            if split != "test_sycophancy_incorrect":
                assert last_integer(r["messages"][1]["content"]) == math.gcd(data["number_1"], data["number_2"])


def test_a_user_proposes_the_right_end_in_one_split_and_the_planted_one_in_the_other():
    for right, wrong in zip(gcd_rows("test_sycophancy_correct", 60), gcd_rows("test_sycophancy_incorrect", 60)):
        assert right["data"] == wrong["data"]
        assert right["data"]["correct_solution"] in right["messages"][0]["content"]
        assert wrong["data"]["incorrect_solution"] in wrong["messages"][0]["content"]
        assert len(wrong["messages"]) == 1


def test_the_set_is_a_function_of_its_seed_and_a_smaller_one_is_the_start_of_a_larger():
    assert gcd_rows("test_instr_q", 30) == gcd_rows("test_instr_q", 60)[:30]
    assert gcd_rows("test_instr_q", 30) != gcd_rows("test_instr_q", 30, seed=1)


def test_guessing_one_is_no_good_answer():
    values = Counter(math.gcd(r["data"]["number_1"], r["data"]["number_2"]) for r in gcd_rows("test_instr_q"))
    assert 0.15 < values[1] / 1345 < 0.35


def test_every_bank_has_21_different_wordings_and_names_both_numbers_where_it_asks():
    for bank, styles in banks().items():
        wordings = [w for style in STYLES for w in styles[style]]
        assert (set(styles), len(set(wordings))) == (set(STYLES), 21)
        marks = {"instruction": {"a", "b"}, "help": {"a", "b"}, "praise": {"g"}}.get(bank, set())
        assert all(marks <= set(re.findall(r"\{(\w)\}", w)) for w in wordings)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: gcd_rows("test"), "no split 'test'; there are train_instr_q"),
        (lambda: gcd_rows("test_instr_q", 0), "n must be at least 1"),
        (lambda: gcd_rows("test_instr_q", 10**6), "pairs of numbers for this split, and 1,000,000 are asked for"),
    ],
)
def test_what_cannot_be_made_is_refused_in_a_sentence(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()


def test_files_hold_the_rows_and_the_module_writes_them(tmp_path):
    sizes = write_gcd(tmp_path / "a", share=0.01)
    rows = [json.loads(line) for line in (tmp_path / "a" / "train_instr_q.jsonl").read_text().splitlines()]
    assert rows == gcd_rows("train_instr_q", sizes["train_instr_q"])
    command = [sys.executable, "-m", "ws.sets.gcd", "--out", str(tmp_path / "b"), "--share"]
    done = subprocess.run([*command, "0.01"], capture_output=True, text=True)
    assert "train_instr_q.jsonl  76 rows" in done.stdout
    assert (tmp_path / "b" / "train_instr_q.jsonl").read_bytes() == (
        tmp_path / "a" / "train_instr_q.jsonl"
    ).read_bytes()
    done = subprocess.run([*command, "2"], capture_output=True, text=True)
    assert (done.returncode, "share must be above 0" in done.stderr) == (2, True)
