"""A grid is checked before anything runs, and shared work stands in it once."""

import shutil

import pytest

from ws.adapters import FAMILIES, small
from ws.behaviors import HERE
from ws.cli import main
from ws.errors import BadFile
from ws.grid.axes import grid_of
from ws.grid.cells import Cell
from ws.grid.run import Running
from ws.grid.sweep import sweep
from ws.grid.tasks import tasks_of
from ws.models.load import load
from ws.models.tiny import FOLDER
from ws.run_sweep import arguments
from ws.study.planning import plan_of


def grid(**given):
    return grid_of(given, threads=4)


def test_every_combination_is_a_cell():
    made = grid(adapters="lora,ia3", seeds="0,1,2", behaviors="honesty,sycophancy")
    assert len(made.cells) == len({c.name for c in made.cells}) == 12
    assert {c.model for c in made.cells} == {"tiny"}
    assert len(grid(adapters="all").cells) == len(small()) == len(FAMILIES) - 1
    assert [(c.behavior, c.adapter, c.seed) for c in grid().cells] == [("honesty", "lora", 0)]
    assert [(c.behavior, c.adapter, c.seed) for c in grid(behavior="authority", adapter="oft", seed=3).cells] == [
        ("authority", "oft", 3)
    ]
    assert [c.lr for c in grid(lrs="1e-3,2e-3").cells] == [1e-3, 2e-3]


def test_a_behavior_that_claims_its_held_out_pairs_is_swept_by_them_once():
    (cell,) = grid(behaviors="pirate", models="some/model").cells
    assert [e.name for e in cell.evals].count("pairs") == 1


def test_a_sweep_of_a_few_units_asks_them_of_all_but_held_out_pairs_and_is_another_sweep():
    few, whole = grid(limit=5), grid()
    assert {e.name: e.limit for e in few.cells[0].evals} == {
        e.name: None if e.name == "pairs" else 5 for e in whole.cells[0].evals
    }
    assert few.name != whole.name and not any(e.limit for e in whole.cells[0].evals)


def test_a_file_of_questions_goes_to_the_behaviors_that_ask_them_and_is_found_from_wherever_a_worker_stands(
    tmp_path, monkeypatch
):
    (tmp_path / "mine.csv").write_text("a\n1\n")
    monkeypatch.chdir(tmp_path)
    made = grid(behaviors="honesty,pirate", models="some/model", data="dilemmas=mine.csv")
    files = {(c.behavior, e.name): e.data for c in made.cells for e in c.evals}
    assert {place for place, file in files.items() if file} == {("honesty", "dilemmas")}
    assert made.name != grid(behaviors="honesty,pirate", models="some/model").name
    asked = [t.given["eval"] for t in tasks_of(made.cells) if t.name.endswith("/dilemmas")]
    asked += [e for t in tasks_of(made.cells) if "cell" in t.given for e in t.given["cell"]["evals"]]
    assert {e["data"] for e in asked if e["name"] == "dilemmas"} == {str(tmp_path / "mine.csv")}
    with pytest.raises(ValueError, match="`data` names airisk, which is not among the evaluations"):
        grid(data="airisk=mine.csv")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"data": "mine.csv"}, "takes NAME=FILE"),
        ({"limit": 0}, "must be at least 1"),
        ({"adapters": "lora,lora"}, "names 'lora' twice"),
        ({"seeds": "1,1"}, "names 1 twice"),
        ({"lrs": "1e-3,0.001"}, "names 0.001 twice"),
        ({"adapters": ""}, "`adapters` is empty"),
        ({"behaviors": []}, "`behaviors` is empty"),
        ({"adapters": "lora,dorra"}, "did you mean 'dora'"),
        ({"adapters": "all,lora"}, "all stands alone"),
        ({"evals": "sycofancy"}, "did you mean 'sycophancy'"),
        ({"evals": "pairs,pairs"}, "'pairs' twice"),
        ({"evals": "file"}, "questions of your own"),
        ({"seeds": "0,x"}, "`seeds` must be a whole number"),
        ({"seed": 1, "seeds": "1,2"}, "not both"),
        ({"model": "tiny", "models": "tiny"}, "not both"),
        ({"lrs": "-1"}, "`lrs` must lie between 0"),
        ({"epochs": 0}, "`epochs` must lie between 0"),
        ({"alphas": "0"}, "other than 0"),
        ({"budget": 1.0, "alphas": "-1,1"}, "leave out `alphas`"),
        ({"budget": -1.0}, "`budget` must lie between 0"),
        ({"n_calib": 5}, "give a `budget` with it"),
        ({"budget": 1.0, "n_calib": 0}, "`n_calib` must be at least 1"),
        ({"pairs": "x.jsonl", "behaviors": "honesty,sycophancy"}, "pairs of one behavior"),
        ({"adapters": "ia3,bias", "rank": 4}, "`rank` means nothing to ia3, bias"),
        ({"preset": "pubb"}, "preset is one of"),
    ],
)
def test_a_bad_grid_is_refused_before_anything_runs(given, said):
    with pytest.raises(ValueError, match=said):
        grid(**given)


@pytest.mark.parametrize(
    ("given", "said"), [({"behaviors": "honesti"}, "is not known"), ({"models": "tiny,./nowhere"}, "no model folder")]
)
def test_names_of_files_that_are_not_there_are_refused(given, said):
    with pytest.raises(BadFile, match=said):
        grid(**given)


def test_a_setting_that_a_family_lacks_is_left_out_there_and_that_is_said():
    made = grid(adapters="lora,ia3", rank=4)
    assert [c.plan_options.get("rank") for c in made.cells] == [4, None]
    assert made.notes == ("`rank` means nothing to ia3, and is left out there",)


def test_shared_work_is_one_task_and_studies_need_theirs():
    made = grid(adapters="lora,ia3,oft", seeds="0,1", behaviors="honesty,sycophancy")
    tasks = {t.name: t for t in tasks_of(made.cells)}
    kinds = [n.split("/")[0] for n in tasks]
    assert (kinds.count("pairs"), kinds.count("cell")) == (4, 12)
    assert {n for n in tasks if n.startswith("base/")} == {
        "base/tiny/dilemmas",
        "base/tiny/sycophancy",
        "base/tiny/perplexity",
    }
    assert tasks["cell/tiny/sycophancy/oft/s1"].needs[0] == "pairs/tiny/sycophancy/s1"


def test_the_name_of_a_sweep_is_its_grid_and_not_who_runs_it():
    one = grid(adapters="lora,ia3", seeds="0,1", out="a").name
    assert grid(adapters="lora,ia3", seeds="0,1", out="b").name == one
    assert grid(adapters="lora,ia3", seeds="0,2").name != one
    assert grid(adapters="lora,ia3", seeds="0,1", epochs=3).name != one
    assert grid(name="my-study").name == "my-study"


def test_threads_are_those_of_the_single_verbs_whatever_the_number_of_workers():
    for made, threads in ((grid(), 1), (grid(threads=2), 2), (grid_of({"models": "some/model"}, threads=4), 4)):
        assert {made.threads, *(c.common.threads for c in made.cells)} == {threads}


def test_the_published_door_tries_every_family_unless_some_are_named():
    published = ["--behavior", "honesty", "--n-personas", "1", "--n-samples", "50"]
    assert arguments(published) == ["sweep", "--adapters", "all", *published]
    assert arguments(["--adapters=lora"]) == ["sweep", "--adapters=lora"]


def test_a_worker_that_stands_elsewhere_finds_models_packs_and_pairs(tmp_path, monkeypatch, tiny):
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    here.mkdir(), elsewhere.mkdir()
    monkeypatch.chdir(here)
    shutil.copytree(FOLDER, here / "model")
    shutil.copy(HERE / "authority.yaml", here / "mine.yaml")
    shutil.copytree(HERE / "tiny", here / "tiny")
    (here / "pairs.jsonl").write_text("{}")
    made = grid(models="tiny,./model", behaviors="mine.yaml,honesty")
    tasks = tasks_of(made.cells)
    own = tasks_of(grid(pairs="pairs.jsonl", out="there").cells)[0].given["cell"]["common"]
    assert [c.model for c in made.cells] == ["tiny", "tiny", "./model", "./model"]
    monkeypatch.chdir(elsewhere)
    for task in tasks:
        if "cell" in task.given:
            cell = Cell.from_json(task.given["cell"])
            common = cell.common
            assert common.behavior == "honesty" or plan_of(common, cell.plan_options, tiny).name == "authority"
            assert common.model == "tiny" or load(common.model).id == "model"
    assert (own["pairs"], own["out"]) == (str(here / "pairs.jsonl"), str(here / "there"))


def test_with_a_device_map_there_is_one_worker_and_it_has_every_device(tmp_path, monkeypatch):
    told = {}
    monkeypatch.setattr("ws.engine.run", lambda tasks, **how: told.update(how) or {}.pop("stop"))
    spread = grid(device_map="auto", out=str(tmp_path))
    with pytest.raises(KeyError, match="stop"):
        sweep(spread)
    assert (told["spread"], told["workers"]) == (True, None)
    with pytest.raises(ValueError, match="leave out `workers`"):
        sweep(spread, Running(workers=2))
    with pytest.raises(ValueError, match="`retries` must be at least 0"):
        sweep(grid(out=str(tmp_path)), Running(retries=-1))


def test_a_word_in_a_config_file_that_is_no_truth_value_is_refused(tmp_path, capsys):
    (tmp_path / "study.yaml").write_text(f'check: "false"\nout: {tmp_path / "out"}\n')
    assert main(["sweep", "--config", str(tmp_path / "study.yaml")]) == 2
    assert "--check must be true or false, got 'false'" in capsys.readouterr().err
    (tmp_path / "study.yaml").write_text(f"check: true\nout: {tmp_path / 'out'}\n")
    assert main(["sweep", "--config", str(tmp_path / "study.yaml")]) == 0
    assert "1 study, 0 done" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()
