"""`ws explain` answers what it is asked, says what it cannot, and its page is whole."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
from explain.worlds import METRIC, MODULES, gradients, planted
from html_page import refuse_what_a_page_may_not_have
from test_steer import lowrank

import ws
from ws.direction import Direction, save
from ws.direction.variants import Flags
from ws.eval import Evaluation
from ws.explain import dw_decomp, equal_kl, localization, svd_align
from ws.explain.measure import Measure
from ws.explain.protocol import Table, Variant
from ws.explain.show import sheet_of
from ws.progress import watchers
from ws.results.measured import evaluations_below

QUICK = ["--evals", "dilemmas", "--limit", "4", "--behavior", "honesty"]


@pytest.fixture(scope="module")
def file(tiny, tmp_path_factory):
    slopes = gradients(tiny, Evaluation("dilemmas", limit=4), MODULES[:3])
    path = tmp_path_factory.mktemp("file") / "planted.safetensors"
    save(planted(tiny, slopes, MODULES[0], 0), path)
    return path


@pytest.fixture(autouse=True)
def _few(monkeypatch):
    """Few prompts for a KL: the questions here are what is said, not how exactly."""
    monkeypatch.setattr(localization, "KL_PROMPTS", 4)


def test_a_file_is_explained_on_a_page_that_holds_tables_pictures_and_what_they_do_not_show(file, told, tmp_path):
    out = tmp_path / "out"
    code, text, err = told("explain", file, "--what", "localization", *QUICK, "--top", 1, "--out", out, "--json")
    assert code == 0, err
    found = json.loads(text)
    (analysis,) = found["analyses"]
    assert analysis["analysis"] == "localization" and analysis["on"] == "dilemmas" and analysis["does_not_show"]
    assert any(MODULES[0].removeprefix("model.layers.") in r for r in analysis["readings"])
    (part,) = found["parts"].values()
    assert list(ws.load_direction(part).forms) == [MODULES[0]]
    page = Path(found["page"]).read_text()
    refuse_what_a_page_may_not_have(page)
    assert page.count("<svg") >= 2 and "What this does not show" in page and METRIC in page
    markdown = Path(found["markdown"]).read_text()
    assert "![" in markdown and "| where |" in markdown
    assert evaluations_below(out) == ([], [])  # parts are no lines of a table of results


def measure(tiny, file, tmp_path):
    direction = ws.load_direction(file)
    return Measure(tiny, direction, Evaluation("dilemmas", limit=4), 1.0, tmp_path / "parts", tmp_path)


def test_weights_alone_are_read_where_nothing_is_measured(file, told, tmp_path):
    code, text, err = told("explain", file, "--what", "svd_align", "--evals", "none", "--out", tmp_path / "out")
    assert code == 0, err
    assert "top tenths" in text and "Not shown:" in text and "svd_align.html" in text
    assert "no room at this width" not in text  # in a file there is all of a table
    (columns,) = (line for line in text.splitlines() if line.startswith("Columns: "))
    assert "; z = " in columns and "; null = " in columns
    explained = [part.partition(" = ")[0] for part in columns.removeprefix("Columns: ").split("; ")]
    assert len(set(explained)) == len(explained)  # once, however many tables have it
    assert all(word in err for word in ("explain 1 of 1: svd_align …", "explain 1 of 1: svd_align, "))
    asked = f"ws explain {file} --evals none --out {tmp_path / 'out'}"
    assert text.rstrip().endswith(f"next:  {asked} --what all")  # the direction as it was named, which is found again


def test_direction_and_size_taken_apart_are_written_in_the_published_columns(file, told, tmp_path, monkeypatch):
    monkeypatch.setattr(dw_decomp, "DRAWS", {"effect": 1})
    monkeypatch.setattr(equal_kl, "PROMPTS", 4)
    code, text, err = told("explain", file, "--what", "dw_decomp", *QUICK, "--out", tmp_path / "out", "--json")
    assert code == 0, err
    (written,) = (tmp_path / "out").rglob("dw_decomp_ablation/*.csv")
    with open(written, newline="") as f:
        lines = list(csv.DictReader(f))
    assert written.name == "dilemmas.csv"
    assert list(lines[0]) == ["variant", "SI", "fix/broke @ +1", "mean_lr delta @ +1"]
    assert [line["variant"] for line in lines] == ["full", "dir_only", "mag_only:0", "random_norm:0"]
    (analysis,) = json.loads(text)["analyses"]
    rows = {r["variant"]: r for r in analysis["tables"][0]["rows"] if r["strength"] == "same alpha"}
    for line in lines:
        row = rows[line["variant"]]
        assert float(line["mean_lr delta @ +1"]) == pytest.approx(row["delta"]["mean"])
        assert float(line["SI"]) == pytest.approx(row["si"]["value"], nan_ok=True)
        assert line["fix/broke @ +1"] == row["rows"]
    moved = {line["variant"]: abs(float(line["mean_lr delta @ +1"])) for line in lines}
    assert moved["full"] > 3 * max(moved["mag_only:0"], moved["random_norm:0"])


def test_a_table_that_is_cut_says_where_the_rest_is(file, told, tmp_path):
    asked = ("explain", file, "--what", "svd_align", "--evals", "none", "--out", tmp_path / "out")
    _, text, _ = told(*asked)
    assert "12 of " not in text  # three modules
    many = [svd_align.Alignment(f"layer {k}", "top", 0.1, 0.1, 1.0, 0.0, 1.0) for k in range(20)]
    sheet = sheet_of(Table("t", many, most=12))
    assert sheet.expected == "12 of 20 lines are shown here; the .json beside the page has all."
    (rows,) = (line.split()[1] for line in text.splitlines() if line.startswith("rows "))
    assert sum(len(t["rows"]) for a in json.loads(Path(rows).read_text()) for t in a["tables"]) >= 8


def test_an_answer_on_other_questions_or_at_another_strength_leaves_the_page_and_its_pictures(file, told, tmp_path):
    written = {}
    for more in ((), ("--alpha=-1",), ("--evals", "sycophancy")):
        asked = ("explain", file, "--what", "svd_align", "--out", tmp_path / "out", *more)
        page = Path(json.loads(told(*asked, "--json")[1])["markdown"])
        pictures = [line for line in page.read_text().splitlines() if line.startswith("![")]
        assert pictures and all((page.parent / p.split("](")[1].rstrip(")")).is_file() for p in pictures)
        written[page.stem] = pictures
    assert list(written) == ["svd_align", "svd_align-alpha-1", "svd_align-sycophancy"]
    assert len({p for pictures in written.values() for p in pictures}) == sum(map(len, written.values()))


def test_flags_that_all_lines_share_stand_in_the_title_where_no_width_cuts_them_off():
    circular = Flags("same_direction")
    rows = [svd_align.Alignment(f"layer {k}", "top", 0.1, 0.1, 1.0, 0.0, 1.0) for k in range(2)]
    alike, apart = sheet_of(Table("t", rows)), sheet_of(Table("t", [rows[0], replace(rows[1], flags=circular)]))
    assert alike.title == "t, basis: base" and "flags" not in alike.columns
    assert apart.title == "t" and apart.columns[-1] == "flags" and "circular" in apart.lines[1][-1]
    assert "flags" in sheet_of(Table("t", rows[:1])).columns


def test_parts_are_counted_while_they_are_measured(file, tiny, tmp_path):
    seen = []
    watchers.append(lambda label, done, total: seen.append((label, done, total)))
    try:
        own = measure(tiny, file, tmp_path)
        own([Variant(f"half {k}", scales={MODULES[0]: 0.5 + k}) for k in range(3)])
    finally:
        watchers.pop()
    assert [(d, t) for label, d, t in seen if label.startswith("parts of the direction, on dilemmas")] == [(4, 4)]


def test_a_notebook_asks_the_same(file, tiny, tmp_path):
    explanation = ws.explain(tiny, file, what=["svd_align"], evals=["none"], out=tmp_path)
    assert "svd_align: Between the top tenths" in repr(explanation)
    assert explanation.files.page.is_file() and (explanation.files.page.parent / "subspace_summary.csv").is_file()
    with pytest.raises(ValueError, match="there is no analysis 'svd'"):
        ws.explain(tiny, file, what=["svd"], out=tmp_path)


def test_what_cannot_be_asked_is_one_sentence(file, told, tmp_path):
    def refused(*words):
        code, out, err = told("explain", *words, "--out", tmp_path / "out")
        assert code == 2 and not out
        return err.strip().splitlines()[-1]

    assert "did you mean 'svd_align'?" in refused(file, "--what", "svd_aling")
    assert "at --alpha 0 a direction does nothing" in refused(file, "--alpha", "0")
    assert "measures effects" in refused(file, "--what", "localization", "--evals", "none")
    assert "lays the direction beside others" in refused(file, "--what", "angles", "--evals", "none")
    assert "reads the pairs of a study" in refused(file, "--what", "antipasto", "--evals", "none")
    assert "ws explain needs a direction" in refused()
    _, _, err = told("explain", file, "--what", "svd_align,antipasto", "--evals", "none", "--out", tmp_path / "out")
    assert len(err.strip().splitlines()) == 1  # before the first of them is asked


def test_directions_of_another_base_are_neither_explained_nor_laid_beside(tiny, told, tmp_path):
    forms = lowrank(tiny, only="layers.1").forms
    own, other = tmp_path / "own.safetensors", tmp_path / "other.safetensors"
    ws.save_direction(Direction(forms, {"base": tiny.described()}), own)
    ws.save_direction(Direction(forms, {"base": {"fingerprint": "0" * 64, "id": "another"}}), other)
    ask = ("--model", "tiny", "--evals", "none", "--out", tmp_path / "out")
    for words in ((other, "--what", "svd_align"), (own, "--what", "angles", "--beside", other)):
        code, _, err = told("explain", *words, *ask)
        assert code == 2 and "the direction was made from base 00000000… (another)" in err
    assert told("explain", own, "--what", "svd_align", *ask)[0] == 0
