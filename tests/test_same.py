"""bench/alike.py tells two folders of results apart by any number, and by nothing else."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file


@pytest.fixture(scope="module")
def alike():
    file = Path(__file__).parents[1] / "bench" / "alike.py"
    spec = importlib.util.spec_from_file_location("alike_bench", file)
    module = sys.modules["alike_bench"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


ROWS = {"row_key": ["a", "b"], "y": [0.1, float("nan")], "text": ["Yes.", "No."]}
RECORD = {
    "verdict": "matched (by audit)",
    "key": "0" * 64,
    "stage": "eval",
    "settings": {"alphas": [-1.0, 1.0], "protocol": "p/1"},
    "table": [{"mean": 0.25}],
}


def side(
    folder,
    key="91d4cb5ad890",
    *,
    rows=ROWS,
    record=RECORD,
    tensor=(1.0, -0.0),
    table="| +0.51 | 96 |",
    said=(),
    place="run",
):
    """One hand-written side: a stage under its key, an adapter, a table and what was printed."""
    stage = folder / "out" / f"{place}-{key[:8]}" / key
    stage.mkdir(parents=True)
    pd.DataFrame(rows).to_parquet(stage / "rows.parquet")
    (stage / "manifest.json").write_text(
        json.dumps(record | {"key": key, "finished": f"2026-01-01T00:00:0{len(key) % 7}Z"})
    )
    save_file({"w": np.array(tensor, np.float32)}, stage / "adapter.safetensors", {"ws": json.dumps({"from": key})})
    (stage / "pairs.jsonl").write_text(json.dumps({"prompt": "What is the sea?", "n": 1}) + "\n")
    (stage / "table.md").write_text(f"{table}\n")
    printed = {"run": str(stage), "seconds": len(key), "rows": [0.123456789], "readings": list(said)}
    (folder / "printed.json").write_text(json.dumps(printed))
    return folder


def test_two_folders_that_differ_in_keys_dates_and_paths_are_the_same(alike, tmp_path):
    old, new = side(tmp_path / "old"), side(tmp_path / "old-again", "77aa77aa77aa77aa")  # a path within a path
    tables = [{"rows": [{"eval": "pairs", "mean": 0.5}]}, {"rows": [{"eval": "dilemmas", "mean": 0.25}]}]
    (old / "table.json").write_text(json.dumps({"tables": tables}))
    (new / "table.json").write_text(json.dumps({"tables": tables[::-1]}))  # in the order in which they were done
    result = alike.compare(old, new)
    text, same = alike.report(result, [])
    assert same and not result.differences, text
    assert result.values["tensors"] == 1 and result.values["rows"] == 3 and result.values["tables"] == 2


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (dict(rows=ROWS | {"y": [np.nextafter(0.1, 1), float("nan")]}), "rows.parquet:*.y"),
        (dict(rows=ROWS | {"text": ["Yes.", "No!"]}), "rows.parquet:*.text"),
        (dict(rows={k: v[::-1] for k, v in ROWS.items()}), "rows.parquet:*.y"),
        (dict(rows={k: v[:1] for k, v in ROWS.items()}), "rows.parquet:rows"),
        (dict(rows={k: ROWS[k] for k in ("row_key", "y")}), "rows.parquet:text"),
        (dict(tensor=(1.0, 0.0)), "adapter.safetensors:w"),  # of another sign: another bit, and equal to ==
        (dict(record=RECORD | {"table": [{"mean": 0.250001}]}), "manifest.json:table.*.mean"),
        (dict(record=RECORD | {"table": [{"mean": 0.25, "sd": 1}]}), "manifest.json:table.*.sd"),
        (dict(table="| +0.510 | 96 |"), "table.md:"),
        (dict(record=RECORD | {"verdict": "unmatched (no bracket)"}), "manifest.json:verdict"),
        (dict(said=["Of 2 methods 2 move as intended."]), "printed.json:readings"),
    ],
)
def test_one_changed_bit_word_row_or_format_is_named(alike, tmp_path, change, place):
    old, new = (
        side(tmp_path / "old", said=["Of 2 methods 1 moves as intended."]),
        side(tmp_path / "new", "77aa77aa77aa", **change),
    )
    if "said" not in change:
        (new / "printed.json").write_bytes((old / "printed.json").read_bytes())
    result = alike.compare(old, new)
    places = {d.place for d in result.differences}
    assert any(p.endswith(place) for p in places) and all(place.split(":")[0] in p for p in places), places
    text, same = alike.report(result, [])
    assert not same and place in text
    text, same = alike.report(result, [("*", "meant so")])
    assert same and f"intended, {len(result.differences)}: meant so" in text


def test_a_sentence_may_be_worded_anew_but_not_its_numbers(alike, tmp_path):
    old = side(tmp_path / "old", said=["Only 12 units: below 30 an interval undercovers.", "One seed."])
    new = side(tmp_path / "new", said=["One seed, and only 12 units; an interval of fewer than 30 is too narrow."])
    result = alike.compare(old, new)
    assert not result.differences and len(result.reworded) == 1
    other = side(tmp_path / "other", said=["One seed, and only 13 units; an interval of fewer than 30 is too narrow."])
    assert [d.place for d in alike.compare(old, other).differences] == ["printed.json:readings"]


def test_stages_are_paired_by_their_settings_where_their_paths_do_not_tell(alike, tmp_path):
    """Two evaluations beside each other, under new keys whose order is the other way round; then in a folder of another name."""
    for name, keys, place in (
        ("old", ("1111aaaa1111", "2222bbbb2222"), "run"),
        ("new", ("9999aaaa9999", "5555bbbb5555"), "run"),
        ("moved", ("9999aaaa9999", "5555bbbb5555"), "place/of/its/own"),
    ):
        for protocol, key, mean in zip(("p/1", "q/1"), keys, (0.25, 0.5)):
            record = {"stage": "eval", "settings": {"protocol": protocol}, "table": [{"mean": mean}]}
            side(tmp_path / name / protocol[0], key, record=record, place=place)
            (tmp_path / name / "x" / "out").mkdir(parents=True, exist_ok=True)
            stage = next((tmp_path / name / protocol[0] / "out").rglob(key))
            stage.rename(tmp_path / name / "x" / "out" / (key if place == "run" else f"{protocol[0]}-{key}"))
    for other in ("new", "moved"):
        result = alike.compare(tmp_path / "old", tmp_path / other, ["x"])
        assert not result.differences and result.files["records"] == 2


def test_a_file_that_one_side_lacks_is_a_difference_and_empty_folders_show_nothing(alike, tmp_path):
    old, new = side(tmp_path / "old"), side(tmp_path / "new")
    next(new.rglob("table.md")).unlink()
    (difference,) = alike.compare(old, new).differences
    assert difference.file.endswith("table.md") and difference.new == "(absent)"
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    text, same = alike.report(alike.compare(tmp_path / "a", tmp_path / "b"), [])
    assert not same and "no rows were compared" in text


def test_an_intended_difference_needs_a_reason_and_one_that_is_not_there_is_said(alike, tmp_path):
    assert alike.intended(["# a note", "", "*:ci_lo | few units reach further"]) == [
        ("*:ci_lo", "few units reach further")
    ]
    with pytest.raises(SystemExit, match=r"PATTERN \| REASON"):
        alike.intended(["*:ci_lo"])
    text, same = alike.report(alike.compare(side(tmp_path / "old"), side(tmp_path / "new")), [("*:ci_lo", "x")])
    assert same and "nothing there differs: *:ci_lo" in text
