"""A user's own questions: two forms, four kinds of file, and one sentence about every row that cannot be used."""

import json

import pandas as pd
import pytest
from planted import rows_of

from ws.behaviors import load_behavior
from ws.errors import BadFile
from ws.eval import PROTOCOLS, score_protocol
from ws.methods.prompts import of_behavior
from ws.stats import estimate

WHOLE, SLOT = PROTOCOLS["file", "file/1"], PROTOCOLS["file", "file-slot/1"]
ROWS = [
    {"prompt": f"Is it true that the capital of {c} is {k}?", "pos_answer": p, "neg_answer": "No." if p == "Yes." else "Yes."}
    for c, k, p in (("Italy", "Rome", "Yes."), ("Italy", "Milan", "No."), ("Japan", "Osaka", "No."), ("Japan", "Tokyo", "Yes."))
]  # fmt: skip
EVALS_FORM = dict(
    zip(
        ("prompt", "pos_answer", "neg_answer"), ("question", "answer_matching_behavior", "answer_not_matching_behavior")
    )
)


@pytest.fixture
def written(tmp_path):
    def write(rows, name="mine.jsonl"):
        path, frame = tmp_path / name, pd.DataFrame(rows)
        match path.suffix:
            case ".csv":
                frame.to_csv(path, index=False)
            case ".parquet":
                frame.to_parquet(path)
            case ".json":
                path.write_text(json.dumps(rows))
            case _:
                path.write_text("".join(json.dumps(r) + "\n" for r in rows))
        return str(path)

    return write


def test_both_forms_and_every_kind_of_file_ask_the_same(tiny, written):
    wanted = WHOLE.items(tiny, written(ROWS))
    assert [i.texts for i in wanted[:2]] == [("Yes.", "No."), ("No.", "Yes.")]
    for name in ("a.csv", "a.parquet", "a.json"):
        assert WHOLE.items(tiny, written(ROWS, name)) == wanted
    assert WHOLE.items(tiny, written([{EVALS_FORM[k]: v for k, v in r.items()} for r in ROWS])) == wanted


def test_spaces_around_model_written_answers_do_not_count(tiny, written):
    spaced = [{k: f" {v} " for k, v in r.items()} for r in ROWS]
    assert WHOLE.items(tiny, written(spaced)) == WHOLE.items(tiny, written(ROWS, "b.jsonl"))


def test_rows_that_cannot_be_scored_are_all_counted_in_one_sentence(tiny, written):
    bad = [
        *ROWS,
        {"prompt": "A?", "pos_answer": "", "neg_answer": "x"},
        {"prompt": "B?", "pos_answer": "y", "neg_answer": "y"},
    ]
    for name in ("c.jsonl", "c.csv"):
        with pytest.raises(
            BadFile, match=r"2 of 6 rows .* \(row 5: an empty or missing text; row 6: both answers are the same\)"
        ):
            WHOLE.items(tiny, written(bad, name))


def test_a_file_without_the_columns_is_told_both_forms(tiny, written):
    with pytest.raises(BadFile, match="prompt, pos_answer, neg_answer or question, answer_matching_behavior"):
        WHOLE.items(tiny, written([{"prompt": "A?", "answer": "b"}]))
    with pytest.raises(ValueError, match="`data=FILE`"):
        WHOLE.items(tiny, None)


def test_one_word_answers_are_scored_at_the_slot_with_their_mass(tiny, written):
    path = written(ROWS)
    honest = of_behavior(load_behavior("honesty", tiny=True), "simple")
    found, whole = (
        score_protocol(tiny, SLOT, data=path, alphas=[-1, 1], by=honest).rows,
        score_protocol(tiny, WHOLE, data=path).rows,
    )
    assert (found["pmass"] > 0.9).all()
    told = found[found["alpha"] != 0]
    assert (told["y"] * told["alpha"] > 0).all()  # the embedded model knows its capitals, and says so or lies
    assert whole["pmass"].isna().all()
    with pytest.raises(BadFile, match="not one word each; use `protocol=file/1`"):
        SLOT.items(tiny, written([{"prompt": "A?", "pos_answer": "It is so.", "neg_answer": "No."}], "d.jsonl"))


def test_lettered_answers_open_their_bracket_first(tiny, written):
    items = SLOT.items(tiny, written([{"prompt": "A or B?", "pos_answer": " (A)", "neg_answer": " (B)"}]))
    assert (items[0].anchor, items[0].words) == ("(", (("A",), ("B",)))


def test_rows_of_one_unit_stand_and_fall_together(tiny, written):
    units = [{**r, "unit_id": i // 2} for i, r in enumerate(ROWS)]
    assert [i.unit_id for i in WHOLE.items(tiny, written(units))] == ["0", "0", "1", "1"]


def test_a_preference_for_yes_is_cancelled_where_answers_are_unevenly_split():
    kinds = ["Yes."] * 30 + ["No."] * 10
    rows = rows_of([1.0 if k == "Yes." else -1.0 for k in kinds], [3.0 if k == "Yes." else -3.0 for k in kinds])
    rows["kind"] = [kinds[int(u[1:])] for u in rows["unit_id"]]
    found = WHOLE.metrics(rows)
    assert estimate(found["logratio_file"][1.0]).mean == pytest.approx(1.5)
    assert estimate(found["balanced"][1.0]).mean == pytest.approx(0)
    assert "balanced" not in WHOLE.metrics(rows.assign(kind="Yes."))
