"""`ws runs` says when each run was made, what sets it apart from others of its name, and what it does."""

import json

import pytest
from test_table import dilemma_rows, write

from ws.records import write_json

SETTINGS = {"adapter": "lora", "seed": 0, "lr": 0.002, "epochs": 4}


def run(out, name, finished, *, pairs="a" * 64, n_topics=120, made="data/1", **settings):
    """A run that was trained and measured, as far as `ws runs` reads it."""
    folder = write(out, dilemma_rows(), run=name, key="k").parents[2]
    settings = {**SETTINGS, **settings}
    manifest = {"stage": "train", "key": "k", "base": {"id": "tiny"}, "settings": settings, "finished": finished}
    inputs = {"pairs": pairs, "dtype": "float32", "protocol": "train/1"}
    write_json(_made(folder / "train") / "manifest.json", {**manifest, "inputs": inputs, "files": {}})
    data = {
        "stage": "data",
        "key": pairs,
        "settings": {"n_topics": n_topics, "n_personas": 5},
        "inputs": {"protocol": made},
    }
    write_json(_made(out / "data" / "tiny" / "honesty" / pairs[:12]) / "manifest.json", data)
    return folder


def _made(folder):
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def several(tmp_path):
    """Three runs of one name, and one of another seed."""
    run(tmp_path, "tiny-s0-aaaaaaaa", "2026-11-26T08:00:00Z")
    run(tmp_path, "tiny-s0-bbbbbbbb", "2026-11-28T08:00:00Z", lr=0.004)
    run(tmp_path, "tiny-s0-cccccccc", "2026-11-27T08:00:00Z", pairs="c" * 64, n_topics=40)
    run(tmp_path, "tiny-s1-dddddddd", "2026-11-25T08:00:00Z", seed=1)
    return tmp_path


def test_runs_of_one_name_are_told_apart_by_the_options_that_differ(several, told):
    rows = {r["run"]: r for r in json.loads(told("runs", "--out", several, "--json")[1])["runs"]}
    assert rows["tiny-s0-bbbbbbbb"]["differs"] == {"lr": 0.004, "n_topics": 120}
    assert rows["tiny-s0-cccccccc"]["differs"] == {"lr": 0.002, "n_topics": 40}
    assert rows["tiny-s1-dddddddd"]["differs"] == {}  # a seed is part of the name


def test_runs_whose_pairs_an_older_version_made_are_told_apart_by_its_protocol(tmp_path, told):
    run(tmp_path, "tiny-s0-aaaaaaaa", "2026-11-26T08:00:00Z")
    run(tmp_path, "tiny-s0-bbbbbbbb", "2026-11-28T08:00:00Z", pairs="b" * 64, made="data/2")
    newer, older = json.loads(told("runs", "--out", tmp_path, "--json")[1])["runs"]
    assert (newer["differs"], older["differs"]) == ({"pairs protocol": "data/2"}, {"pairs protocol": "data/1"})


@pytest.mark.parametrize("columns", [80, 120])
def test_a_line_has_the_date_the_effect_and_what_differs_and_the_newest_is_first(several, told, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    code, out, _ = told("runs", "--out", several)
    assert code == 0
    lines = [x for x in out.splitlines() if "tiny-s" in x]
    assert [x.split()[-4] for x in lines] == [
        f"tiny-s{n}" for n in ("0-bbbbbbbb", "0-cccccccc", "0-aaaaaaaa", "1-dddddddd")
    ]
    assert all(x.startswith("11-2") and " [+" in x and len(x.rstrip()) <= columns for x in lines)
    assert "lr 0.004" in out and "n_topics 40" in out
