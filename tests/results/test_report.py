"""A report shows what `ws table` prints, says what is missing, and shows the text of strangers as text."""

import json
import math
import re
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
from html_page import number, numbers_in, refuse_what_a_page_may_not_have
from test_table import dilemma_rows, write

import ws
from tools.browser import Browser, executable
from ws.errors import BadFile
from ws.pairs import Check, Pair, Pairs, save_pairs
from ws.records import checksums, write_json
from ws.report import comparison, place_of, report_of
from ws.report.meanings import meaning
from ws.report.sweep import _answer
from ws.results.measured import measured
from ws.results.published import sheets
from ws.results.sentences import SMOKE
from ws.results.sheet import Sheet
from ws.stats import Estimate

EVIL = "<script>alert('x')</script> & \" <img src=x onerror=y> \x07 \N{RIGHT-TO-LEFT OVERRIDE}"
SHOWN = EVIL.replace("\x07", "\N{REPLACEMENT CHARACTER}")
CHECKS = (
    Check("ended", 0.2, 0.1, 0.2, "fail", "answers that came to their own end"),
    Check("loops", 0.0, 0.0, 0.0, "ok", EVIL),
)


def stage(folder, name, files, **more):
    """A finished stage with these files."""
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in files.items():
        write_json(folder / file, content)
    manifest = {
        "stage": name,
        "key": "k",
        "settings": {},
        "inputs": {},
        "versions": {"torch": "2"},
        "finished": "2026-01-01T00:00:00Z",
    }
    write_json(folder / "manifest.json", {**manifest, "seconds": 1.0, "files": checksums(folder), **more})


def training(folder, model="tiny", cosine=-0.1):
    """The record of a training; the pairs that it names need not be there."""
    settings = {"adapter": "lora", "seed": 0}
    report = {"step": 29, "n_train": 45, "n_val": 5, "n_test": 5}
    shape = {"norm": 3.0, "norm_pos": 2.0, "norm_neg": 2.0, "cos_tau": cosine}
    base = {"id": model, "revision": None, "weights_hash": "f" * 64, "fingerprint": "f"}
    inputs = {"pairs": "p" * 64, "dtype": "float32", "weights": "f"}
    about = {"settings": settings, "report": report, "geometry": shape, "base": base, "device": "cpu", "inputs": inputs}
    stage(folder / "train", "train", {}, **about)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that was measured, with a text of a stranger in every place where there may be one."""
    tmp_path = tmp_path_factory.mktemp("run")
    place = write(tmp_path, dilemma_rows())
    folder = place.parents[2]
    training(folder)
    rows = measured([folder])[0].rows
    keys = list(dict.fromkeys(rows["row_key"]))
    _items(place, keys)
    answers = [{"alpha": a, "thought": EVIL, "text": EVIL} for a in (-1.0, 0.0, 1.0)]
    stage(folder / "samples" / "a", "samples", {"samples.json": [{"question": EVIL, "answers": answers}]})
    changes = {"eval": "dilemmas", "protocol": rows["protocol"][0], "metric": "logratio_honesty", "n": 12}
    stage(
        folder / "random" / "a",
        "random",
        {"changes.json": [{**changes, "alphas": [-1.0, 1.0], "each": [[0.1, -0.1], [-0.2, 0.2]]}]},
    )
    pairs = Pairs(
        tuple(Pair(EVIL + str(i), EVIL, "no", prompt_id=EVIL, sys_prompt_pos=EVIL) for i in range(9)),
        {"overruled": ["ended"]},
        CHECKS,
    )
    data = tmp_path / "data" / "tiny" / "honesty" / ("p" * 12)
    data.mkdir(parents=True)
    save_pairs(pairs, data / "pairs.jsonl")
    checks = [vars(c) for c in CHECKS]
    stage(data, "data", {}, key="p" * 64, provenance=pairs.provenance, checks=checks, content=pairs.content_hash)
    return folder


def _items(place, keys):
    """The questions of an evaluation, written again with its manifest."""
    import pandas as pd

    pd.DataFrame({"row_key": keys, "prompt": EVIL, "wanted": "yes", "unwanted": EVIL}).to_parquet(
        place / "items.parquet"
    )
    manifest = json.loads((place / "manifest.json").read_text())
    write_json(place / "manifest.json", {**manifest, "files": checksums(place)})


@pytest.fixture(scope="module")
def text(run):
    """Its page."""
    return report_of(run)


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """A run of which nothing was done but one evaluation."""
    folder = write(tmp_path_factory.mktemp("bare"), dilemma_rows(up=0.9), behavior="mine").parents[2]
    training(folder)
    return folder


# ---------------------------------------------------------------- a run


def test_text_of_strangers_is_text_wherever_it_stands(text):
    read = refuse_what_a_page_may_not_have(text)
    assert read.text.count(SHOWN) > 20  # question, thoughts and answers, pairs, personas, items, checks


def test_the_tables_of_a_page_are_those_that_ws_table_prints(run, text, told):
    read = refuse_what_a_page_may_not_have(text)
    printed = told("table", run, "--markdown")[1]
    lines = [[c.strip() for c in line.strip("|").split("|")] for line in printed.splitlines() if line.startswith("|")]
    assert len(lines) > 5
    tables = [line for t in read.tables for line in t]
    for line in lines:
        assert set(line[0]) <= set("-:") or line in tables, line


def test_every_number_of_a_page_is_one_that_a_command_prints(run, text, told):
    known = numbers_in(told("table", run, "--markdown")[1])
    shown = numbers_in(refuse_what_a_page_may_not_have(text).text)
    assert len(shown & known) > 2  # the tables of `ws table`
    for r in _rows(run):  # and what `ws eval` prints of them
        known |= {number(r["mean"], r["ci_lo"], r["ci_hi"], n) for n in (2, 4)}
        known |= {number(r["ends"], r["ends_lo"], r["ends_hi"])} if math.isfinite(r["ends"]) else set()
    assert len(shown) > 5
    assert shown <= known, shown - known


def _rows(run):
    from ws.eval import tables

    return [r for m in measured([run]) for r in tables(m.rows)]


def test_the_same_run_gives_the_same_page_and_the_page_is_small(run, text):
    assert text == report_of(run)
    assert 20_000 < len(text.encode()) < 2_000_000


# ---------------------------------------------------------------- what is missing


def test_a_run_of_which_only_the_training_is_there_says_what_is_missing(tmp_path):
    folder = tmp_path / "honesty" / "lora" / "tiny-s0-aaaa"
    training(folder, cosine=None)  # as where a side has not moved
    read = refuse_what_a_page_may_not_have(report_of(folder))
    assert "cosine –" in read.text
    assert "`" not in read.text
    assert "ws diff" in read.text
    assert "The pairs are not here" in read.text
    for part in ("What moved least", "Side effects", "Strengths", "Every table", "along the dial"):
        assert part not in read.text
    assert "What this does not show" in read.text


def test_what_was_not_done_and_what_cannot_be_known_stands_in_the_box_of_what_is_not_shown(bare, text):
    page = refuse_what_a_page_may_not_have(report_of(bare)).text
    for sentence in (
        "No random directions were measured",
        "What steering costs was not measured",
        "One seed",
        "mine does not ship with ws",
    ):
        assert sentence in page
    assert "moves as intended" not in page  # nothing is known of an intention
    assert "No random directions were measured" not in text  # where they were
    assert "moves as intended" in text


def test_a_check_that_failed_and_was_overruled_is_a_warning(text):
    assert "Overruled by the user: the check ended failed" in text
    assert re.search(r'<tr class="marked"><th scope="row">ended</th><td>fail</td>', text)


def test_a_smoke_run_says_so_first(tmp_path):
    folder = write(tmp_path, dilemma_rows(), limit=12).parents[2]
    training(folder)
    assert re.search(r'class="answer">SMOKE', report_of(folder))


def test_a_comparison_of_a_part_of_the_units_says_so_before_its_answer():
    lines = ("ws:lora has the largest axis.", "Only 12 units.", SMOKE)
    sheet = Sheet("", "", ("method",), (), (), lines)
    assert comparison._answer([sheet]) == f"{SMOKE} {lines[0]}"
    assert comparison._answer([replace(sheet, readings=lines[:2])]) == lines[0]
    assert comparison._answer([]) == "No method could be compared."


def test_a_picture_of_costs_says_what_the_behavior_wants_only_of_what_it_claims():
    numbers = {"behavior_metric": "mean", "method": "ws:lora", "axis": 0.5, "control": False, "matched": True}
    numbers |= {"nll_rise_neg": 0.1, "nll_rise_pos": 0.2, "protocol": "p"}

    def picture(**intent):
        sheet = Sheet("", "", ("method",), (("ws:lora",),), (numbers,))
        return str(comparison._against_cost(SimpleNamespace(cells=lambda s: [], intent=intent), sheet))

    wanted, unclaimed = "upwards is more of what the behavior wants", "about which the behavior claims nothing"
    assert wanted in picture(mean=-1) and unclaimed not in picture(mean=-1)
    for intent in ({"mean": 0}, {"other": 1}):
        assert wanted not in picture(**intent) and unclaimed in picture(**intent)


def test_without_a_name_it_is_the_newest_run_that_was_measured(tmp_path):
    for name, day in (("tiny-s0-measured", "01"), ("tiny-s0-control", "02")):
        folder = tmp_path / "honesty" / "lora" / name
        training(folder)
        manifest = json.loads((folder / "train" / "manifest.json").read_text())
        write_json(folder / "train" / "manifest.json", {**manifest, "finished": f"2026-01-{day}T00:00:00Z"})
    assert place_of(None, tmp_path).name == "tiny-s0-control"
    write(tmp_path, dilemma_rows(), run="tiny-s0-measured")
    assert place_of(None, tmp_path).name == "tiny-s0-measured"


def test_a_folder_that_is_none_of_these_is_refused_in_one_sentence(tmp_path):
    with pytest.raises(BadFile, match="is no run, no sweep and no comparison"):
        report_of(tmp_path)


def test_rows_that_were_changed_after_they_were_written_make_no_page(bare, tmp_path):
    run = shutil.copytree(bare, tmp_path / "mine" / "lora" / "tiny-s0-aaaa")
    (rows,) = run.rglob("rows.parquet")
    rows.write_bytes(rows.read_bytes()[:-1] + b"x")
    with pytest.raises(BadFile, match="other bytes"):
        report_of(run)


def test_strengths_that_lie_close_do_not_cover_each_other_below_a_picture():
    from ws.report.effect import _ticks

    assert [text for _, text in _ticks([-1.0, -0.5, 0.0, 0.5, 1.0])] == ["-1", "-0.5", "0", "+0.5", "+1"]
    assert [text for _, text in _ticks([-34.9796, -31.0, 0.0, 14.8871, 21.2672])] == ["-35", "0", "+21.3"]


# ---------------------------------------------------------------- words and the command


def test_every_column_of_a_table_says_what_it_means(run):
    for sheet in sheets(measured([run]))[0]:
        assert not [c for c in sheet.columns if meaning(c) is None], sheet.title


def test_the_command_writes_the_page_where_it_is_told_to(run, text, told, tmp_path):
    out = run.parents[2]
    code, printed, _ = told("report", "tiny-s0", "--out", out)
    assert code == 0
    assert str(run / "report.html") in printed
    assert (run / "report.html").read_text() == text
    code, printed, _ = told("report", "--out", out, "--json")  # the newest
    assert json.loads(printed)["about"] == str(run)
    for words in (
        (run, "--out", tmp_path / "a" / "page.html"),
        ("tiny-s0", "--out", out, "--file", tmp_path / "b.html"),
    ):
        code, printed, _ = told("report", *words, "--json")
        assert code == 0
        assert words[-1].stat().st_size == json.loads(printed)["bytes"]
    code, _, error = told("report", run, "--file", tmp_path / "page.pdf")
    assert (code, error.count("\n")) == (2, 1)
    assert "--file is the page to write, which ends in .html" in error
    (tmp_path / "taken").touch()
    code, _, error = told("report", run, "--file", tmp_path / "taken" / "page.html")
    assert (code, error.count("\n")) == (2, 1)
    assert "give another --file" in error


def test_what_has_no_page_is_refused_with_the_runs_sweeps_and_comparisons_there_are(tmp_path, told):
    training(tmp_path / "honesty" / "lora" / "tiny-s0-4f0c2a77")
    for file in ("sweep/night/sweep.json", "compare/tiny/honesty/ab12/report.json"):
        (tmp_path / file).parent.mkdir(parents=True)
        write_json(tmp_path / file, {})
    code, _, error = told("report", "nosuch", "--out", tmp_path)
    assert (code, error.count("\n")) == (2, 1)
    assert "is no run, no sweep and no comparison below" in error
    for place in ("honesty/lora/tiny-s0-4f0c2a77", "sweep/night", "compare/tiny/honesty/ab12"):
        assert place in error
        assert place_of(place, tmp_path) == tmp_path / place


def test_in_python_it_is_one_call(run, text, tmp_path):
    assert ws.report(run, tmp_path / "page.html").read_text() == text
    assert ws.report("tiny-s0", out=run.parents[2]) == run / "report.html"


# ---------------------------------------------------------------- in a browser


@pytest.fixture(scope="module")
def browser():
    if executable() is None:
        pytest.skip("there is no Chromium on the path")
    with Browser.found() as browser:
        yield browser


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_nothing_runs_out_of_the_screen_and_nothing_is_asked_for(browser, text, tmp_path, dark):
    file = tmp_path / "page.html"
    file.write_text(text)
    page = browser.open(file.as_uri(), dark=dark)
    for width in (320, 400, 800, 1400):
        page.resize(width, 800)
        assert page.value("document.documentElement.scrollWidth") <= width
    assert page.asked() == [file.as_uri()]
    assert not page.complaints()
    assert page.value("getComputedStyle(document.body).backgroundColor") == (
        "rgb(21, 23, 26)" if dark else "rgb(255, 255, 255)"
    )
    assert SHOWN in page.value("document.body.textContent")
    tables = "[...document.querySelectorAll('.table')].every(t => t.tabIndex == 0)"
    assert page.value(tables)


def test_the_largest_effect_of_a_sweep_is_that_on_one_metric_and_one_seed_is_called_one():
    def effect(behavior, metric, mean):
        found = Estimate(mean, mean - 0.1, mean + 0.1, 20, 20, 20, 20)
        of = {"behavior": behavior, "metric": metric, "adapter": "lora", "sign": 1, "agree": 1, "seeds": (0,)}
        return SimpleNamespace(over=SimpleNamespace(found=found), **of)

    several = [
        effect("pirate", "logratio", 0.5),
        effect("technical", "logratio", 0.7),
        effect("pirate", "sea_words", 9.0),
    ]
    sentence = _answer(SimpleNamespace(headline=several))
    assert "on logratio is that of technical lora, +0.70" in sentence
    assert "over units: " in sentence and sentence.endswith("; one seed.")
    assert "is that of lora, +9.00" in _answer(SimpleNamespace(headline=several[2:]))
