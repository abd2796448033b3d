"""The paper's data sets: each is read in its own layout, opted into by name, and refused in a sentence where it lacks something."""

import json
import re
from pathlib import Path

import pytest

import ws
from ws.errors import BadFile
from ws.models.tiny import TWINS
from ws.sets import SETS, first_of, load_set, trait_of

CHAT = {
    "messages": [{"role": "user", "content": "Hm?"}, {"role": "assistant", "content": "Ha."}],
    "metadata": {"question_id": "q"},
}
BASE = {
    "dataset": "trivia",
    "question": "Who?",
    "correct_answer": "Ann",
    "answer": ["Ann", "Anne"],
    "incorrect_answer": "Bob",
}
MMLU = {"question": "Which?", "choices": ["w", "x", "y", "z"], "answer": 2, "subject": "letters", "input_formatted": ""}
GCD = {"correct_solution": "1", "incorrect_solution": "2", "number_1": 2, "number_2": 3, "row_id": 0, "style": "formal"}
ROWS = {
    "qa": {"messages": CHAT["messages"][:1], "base": BASE, "metadata": {"prompt_template": "{question}"}},
    "gcd": {"messages": CHAT["messages"], "add_generation_prompt": True, "data": GCD},
    "world_affecting": {"prompt_list": ["Hm?"], "high_reward_answer": "a", "other_answers": ["b"]},
    "tiny_mmlu": {"messages": CHAT["messages"][:1], "add_generation_prompt": True, "data": MMLU},
    "gsm8k": {"question": "How many?", "answer": "One.\n#### 1"},
    "direct_harm": {"instruction": "...", "category": "..."},
    "gsm_danger": {"instruction": "..."},
    "em_questions": {"messages": CHAT["messages"][:1], "id": "wish"},
    **{name: {"instruction": "Say.", "input": "", "output": "Ha."} for name in ("alpaca", "alpaca_french")},
}
"""A row in the published layout; every other set is conversations."""


def write(path, rows):
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


@pytest.mark.parametrize("name", SETS)
def test_a_row_in_the_published_layout_is_read_and_one_that_lacks_a_column_is_refused(name, tmp_path):
    row = ROWS.get(name, CHAT)
    path = write(tmp_path / "rows.jsonl", [row] * 3)
    assert list(load_set(name, file=path, opt_in=[name])) == [row] * 3
    needed = SETS[name].columns[0].split("|")[0].split(".")[0]
    lacking = {k: v for k, v in row.items() if k not in (needed, "messages", "data")}
    with pytest.raises(BadFile, match=r"rows\.jsonl lacks .*\(row 2\); its rows have "):
        load_set(name, file=write(path, [row, lacking, row]), opt_in=[name])


@pytest.mark.parametrize("kind", ["parquet", "json"])
def test_columns_inside_columns_are_read_of_any_file(kind, tmp_path):
    import pandas as pd

    path = tmp_path / f"rows.{kind}"
    table = pd.DataFrame([ROWS["tiny_mmlu"]] * 2)
    table.to_parquet(path) if kind == "parquet" else table.to_json(path, orient="records")
    rows = load_set("tiny_mmlu", file=path)
    assert [first_of(rows, 1, r, "choices|data.choices")[3] for r in rows] == ["z", "z"]
    assert first_of(rows, 1, rows[0], "answer|data.answer") == 2
    assert first_of(rows, 1, rows[0], "nothing|data.nothing") is None


@pytest.mark.parametrize("name", [s.name for s in SETS.values() if s.opt_in])
def test_a_set_with_harmful_texts_is_read_only_by_who_names_it(name, tmp_path):
    path = write(tmp_path / "rows.jsonl", [ROWS.get(name, CHAT)])
    others = tuple(SETS.keys() - {name})
    with pytest.raises(
        ValueError, match=f"holds harmful texts and is no part of ws; `opt_in={re.escape(name)}` reads it"
    ):
        load_set(name, file=path, opt_in=others)
    assert len(load_set(name, file=path, opt_in=(name,))) == 1


def test_the_sets_of_every_recipe_with_harm_are_opted_into_and_the_others_are_not():
    harmful = {n for n in SETS if any(w in n for w in ("evil", "harm", "danger", "refusals", "bad_", "world", "good_"))}
    assert {n for n, s in SETS.items() if s.opt_in} == harmful - {"personality_good"}


def test_a_set_that_the_hub_does_not_have_says_where_a_file_comes_from():
    with pytest.raises(
        BadFile, match=r"alpaca_french is not on the hub; give `file`\. It is Alpaca with answers translated"
    ):
        load_set("alpaca_french")
    for s in SETS.values():
        assert s.id or s.supply
        assert s.size and s.what and s.where


def test_a_set_of_the_hub_is_asked_for_under_its_id_and_split(monkeypatch):
    asked = []
    monkeypatch.setattr("ws.sets.from_hub", lambda *a, **k: asked.append((*a, k["revision"])) or _raise())
    for name, split in (("gsm8k", "train"), ("qa", None), ("refusals", None)):
        with pytest.raises(BadFile):
            load_set(name, split, opt_in=("refusals",), revision="abc")
    assert asked == [
        ("openai/gsm8k", "main", "train", (), "abc"),
        ("cfierro/sycophancy_eval_answer", "default", "test", (), "abc"),
        ("cfierro/alignment-faking-harm_Llama-2-7b-chat", "default", "train_375exs", (), "abc"),
    ]


def _raise():
    raise BadFile("not there")


def test_gcd_is_made_by_rule_without_a_file_and_read_from_one():
    rows = load_set("gcd", "test_instr_q")
    assert (len(rows), rows.source) == (1345, "gcd test_instr_q, made by rule")


@pytest.mark.parametrize(
    ("name", "split", "sentence"),
    [("gms8k", None, "data set 'gms8k' is not known; did you mean 'gsm8k'"), ("gsm8k", "dev", "gsm8k has no split 'dev'; there are test, train")],
)  # fmt: skip
def test_a_name_that_is_not_there_is_refused_with_those_that_are(name, split, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        load_set(name, split)


def test_the_real_rows_are_read(real_data):
    qa = load_set("qa", file=real_data / "sycophancy" / "answer.jsonl")
    assert (len(qa), SETS["qa"].splits["test"]) == (664, 7268)
    gsm = load_set("gsm8k", file=real_data / "gsm8k" / "test.jsonl")
    assert len(gsm) == SETS["gsm8k"].splits["test"] == 1319


def test_a_trait_file_is_five_instructions_a_side_twenty_questions_and_a_rubric(real_data, tmp_path):
    for part in ("extract", "eval"):
        trait = trait_of(real_data / "persona_traits" / f"sycophantic.{part}.json")
        assert (len(trait.instructions), len(trait.questions)) == (5, 20)
        assert "{question}" in trait.rubric
    (tmp_path / "trait.json").write_text('{"questions": []}')
    with pytest.raises(BadFile, match="is no trait file: it has to hold `instruction`"):
        trait_of(tmp_path / "trait.json")


def test_the_page_of_evaluations_lists_every_set_with_its_size_opt_in_and_twin():
    page = (Path(ws.__file__).parents[2] / "docs" / "evaluations.md").read_text()
    for s in SETS.values():
        marks = ["yes" if flag else "" for flag in (s.opt_in, (TWINS / s.name).is_dir())]
        assert f"| `{s.name}` | {s.what} | {s.where} | {s.size} | {marks[0]} | {marks[1]} |" in page
