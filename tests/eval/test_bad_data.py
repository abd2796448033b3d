"""Data that cannot be asked as it is meant is refused in one sentence, or counted; it is never asked as something else."""

import json

import pytest

from ws.cli import main
from ws.errors import BadFile, ScoringImpossible
from ws.eval import protocol
from ws.eval.questions import items_of
from ws.sources import list_of, records


def csv(tmp_path, text, name="d.csv"):
    (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path / name


def test_a_row_with_more_cells_than_columns_is_refused_and_not_shifted(tmp_path):
    head = "prompt,pos_answer,neg_answer\n"
    with pytest.raises(BadFile, match="row 2 has 4 cells, and the header names 3"):
        records(csv(tmp_path, head + "Is it so?,Yes,No,a note\n"), ())
    assert records(csv(tmp_path, head + "Is it so?,Yes,No,\n"), ())[0]["prompt"] == "Is it so?"


def test_words_that_pandas_takes_for_missing_are_words(tmp_path):
    (row,) = records(csv(tmp_path, "prompt,pos_answer,neg_answer,extra\nHow many?,None,NA,\n"), ())
    assert (row["pos_answer"], row["neg_answer"]) == ("None", "NA")
    assert row["extra"] != row["extra"]  # an empty cell is missing


def test_names_that_hold_the_letters_nan_stay_whole():
    assert list_of("['governance', 'nanny']") == ["governance", "nanny"]
    assert list_of("['trust maintenance',nan]") == ["trust maintenance", None]
    assert list_of("[nan, 'x']") == [None, "x"]


def test_json_that_is_no_table_is_refused(tmp_path):
    for name, text in (("a.json", {"a": 1}), ("b.json", [1, 2]), ("c.json", [])):
        (tmp_path / name).write_text(json.dumps(text), encoding="utf-8-sig")
        with pytest.raises(BadFile, match=r"is no table|has no rows"):
            records(tmp_path / name, ())


def test_claims_without_a_text_or_a_difference_are_refused(tiny, tmp_path):
    for claim, variant in (("", "water is wet"), ("water is dry", ""), ("water is wet", "water is wet")):
        file = csv(tmp_path, f"id,claim,true_variant\n1,{claim},{variant}\n")
        with pytest.raises(BadFile, match="1 claims lack a text"):
            items_of(protocol("sycophancy"), tiny, data=str(file))


def test_an_id_that_stands_twice_is_refused_and_never_averaged(tiny, tmp_path):
    file = csv(tmp_path, "id,claim,true_variant\n1,water is dry,water is wet\n1,fire is cold,fire is hot\n")
    with pytest.raises(ScoringImpossible, match="share a key"):
        items_of(protocol("sycophancy"), tiny, data=str(file))


def test_a_vignette_without_its_other_condition_is_left_out_and_named(tiny, tmp_path):
    row = {"foundation_coarse": "Care", "wrong": 3.0}
    for condition, ids in (("other_violate", "ab"), ("self_violate", "a")):
        lines = [json.dumps({**row, "id": i, "text": f"You see {i}."}) for i in ids]
        (tmp_path / f"v_{condition}.jsonl").write_text("\n".join(lines))
    items = items_of(protocol("tinymfv"), tiny, data=str(tmp_path / "v_other_violate.jsonl"))
    assert items.units == ["a/Care"]
    assert items.left_out == {"self_violate lacks it": ["b/Care"]}


def test_the_balance_of_labels_is_not_told_of_units_that_were_not_asked(tiny):
    assert "labels" in items_of(protocol("dilemmas"), tiny).facts
    assert "labels" not in items_of(protocol("dilemmas"), tiny, limit=1).facts


def test_a_limit_above_what_there_is_is_no_smoke_run(tiny):
    assert items_of(protocol("dilemmas"), tiny, limit=3).smoke
    assert not items_of(protocol("dilemmas"), tiny, limit=10**6).smoke


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["dilemmas", "--axis", "authority"], "--axis belongs to foundations"),
        (["foundations", "--axis", "nope"], "--axis is one of"),
        (["dilemmas", "--alphas="], "--alphas is empty"),
        (["dilemmas", "--protocol", "dd-1f/1~t"], "has no protocol"),
    ],
)
def test_flags_that_cannot_be_meant_are_refused_before_any_work(args, says, capsys, monkeypatch):
    monkeypatch.setattr("ws.cli.subject.plan_of", None)
    assert main(["eval", *args]) == 2
    assert says in capsys.readouterr().err
