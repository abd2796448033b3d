"""The shipped behavior whose answers are given: what a user gets wrong, gone along with or corrected."""

import json
import sys
from pathlib import Path

import pytest

from ws.behaviors import HERE, false_claims, load_behavior
from ws.data import data
from ws.pairs import normal_form

ROOT = Path(__file__).parents[2]
TOOL = ROOT / "tools/false_premise"
FILE = HERE / "false_premise.jsonl"
ROWS = [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def build(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOL))
    import build

    yield build
    for name in ("build", "items"):
        sys.modules.pop(name)


def test_the_tool_writes_the_shipped_pairs_byte_for_byte(build):
    assert [json.dumps(r, ensure_ascii=False) for r in build.rows()] == FILE.read_text(encoding="utf-8").splitlines()


def test_one_side_keeps_what_is_wrong_and_the_other_names_what_is_right(build):
    lines = [line.split(" | ") for table in build.TABLES.values() for line in table.strip().splitlines()]
    assert len(lines) == len(ROWS) >= 300
    for (what, right, *wrong, _), row in zip(lines, ROWS):
        assert right.casefold() in row["response_neg"].casefold()
        assert right.casefold() not in row["response_pos"].casefold()
        false = wrong[0] if wrong else what
        assert false in row["prompt"]
        assert false.casefold() in row["response_pos"].casefold()


def test_length_does_not_tell_the_sides_apart():
    longer = [len(r["response_pos"]) > len(r["response_neg"]) for r in ROWS]
    assert 0.35 < sum(longer) / len(longer) < 0.65


def test_no_question_is_asked_twice_and_none_is_a_shipped_claim():
    prompts = [normal_form(r["prompt"]) for r in ROWS]
    assert len(set(prompts)) == len(prompts)
    claims = [
        normal_form(r[k])
        for split in ("train", "heldout")
        for r in false_claims(split)
        for k in ("claim", "true_variant")
    ]
    assert not [(p, c) for p in prompts for c in claims if c in p]


def test_its_pairs_pass_the_checks_on_any_model(tiny):
    pairs = data(tiny, "false_premise")
    assert len(pairs.rows) == len(ROWS)
    assert not [c for c in pairs.checks if c.verdict == "fail"]
    assert load_behavior("false_premise").intent == {"logratio_pairs": 1, "logratio": 1}
