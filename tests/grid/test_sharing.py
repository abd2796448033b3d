"""`ws sweep` and `ws compare` are two calls of one grid: what one has made the other finds, and a look says what a run will make."""

import json
import shutil
from collections import Counter
from dataclasses import asdict

import pytest

from ws.behaviors import load_behavior
from ws.calibrate import CalibrateSettings, sets_of
from ws.direction import load as load_direction
from ws.eval import Evaluation
from ws.grid.axes import grid_of
from ws.grid.cells import cell_plan, keep
from ws.grid.compare import cells_of
from ws.grid.look import look
from ws.grid.run import serially
from ws.grid.tasks import tasks_of
from ws.models.load import Base, load
from ws.pairs import mark_of
from ws.study.evaluations import Subject, make_eval

pytestmark = pytest.mark.usefixtures("few_neutral_questions")
FEW = {"n_topics": 48, "n_samples": 1, "n_personas": 1, "epochs": 2.0}
QUICK = CalibrateSettings(budget=0.3, tolerance=0.5, n_calib=4, n_audit=4, tokens=4, max_evals=2)
NLL = Evaluation("perplexity", "neutral-nll/1")


def of_sweep(out, **more):
    """The cells of a sweep of one study."""
    options = {"adapter": "ia3", "evals": "perplexity", "out": str(out), **FEW, **more}
    return grid_of(options, threads=1).cells


def of_comparison(tiny, out, chosen=("ws:ia3",), **more):
    """The cells of a comparison at the same strengths."""
    settings = more.pop("settings", QUICK)
    honesty = load_behavior("honesty", tiny=True)
    return cells_of(tiny, honesty, chosen, evals=[NLL], settings=settings, options=FEW, out=out, **more)


def done(tiny, cells):
    """Do these cells in this process; every one must come to its end."""
    keep(tiny, cells[0].common)
    outcomes = serially(tasks_of(cells))
    assert [o.error for o in outcomes.values() if not o.done] == []


def stages(out):
    """What is done below a folder: its stage, and when it was made; a card that grew since makes it no other."""
    manifests = {str(p.parent): json.loads(p.read_text()) for p in out.rglob("manifest.json")}
    found = {folder: (m["stage"], m.get("finished"), m.get("seconds")) for folder, m in manifests.items()}
    return {folder: one for folder, one in found.items() if one[0] not in ("reference", "strengths")}


def made(out, before):
    """How many stages of each kind were made since."""
    return Counter(stage for folder, (stage, *_) in (stages(out).items() - before.items()))


def todo(cells):
    """How many stages of each kind a look finds to do, each shared one once."""
    seen = look(cells)
    assert seen.impossible == {}
    places = {s.place: s.kind.split()[0] for each in seen.stages.values() for s in each if not s.done}
    return Counter(places.values())


def agree(tiny, out, cells):
    """What a look finds to do, which must be what the run then makes, and after which nothing is left."""
    keep(tiny, cells[0].common)
    before, expected = stages(out), todo(cells)
    done(tiny, cells)
    assert made(out, before) == expected
    assert todo(cells) == {}
    return expected


@pytest.fixture(scope="module")
def swept(tiny, tmp_path_factory):
    """The folder of a calibrated sweep that is done."""
    out = tmp_path_factory.mktemp("swept")
    all_stages = {"data": 1, "train": 1, "direction": 1, "calibrate": 1, "eval": 1}
    assert agree(tiny, out, of_sweep(out, **asdict(QUICK))) == all_stages
    return out


@pytest.fixture
def trained(swept, tmp_path):
    """A folder in which the same direction was made and nothing was measured."""
    out = tmp_path / "out"
    shutil.copytree(swept, out, ignore=shutil.ignore_patterns("calibrate", "strengths", "eval", "base", "cells"))
    return out


def test_a_comparison_after_a_sweep_calibrates_and_measures_nothing_again(swept, tiny):
    assert agree(tiny, swept, of_comparison(tiny, swept)) == {"cell": 1}
    assert agree(tiny, swept, of_comparison(tiny, swept)) == {}


def test_a_sweep_after_a_comparison_calibrates_and_measures_nothing_again(trained, tiny):
    assert agree(tiny, trained, of_comparison(tiny, trained)) == {"calibrate": 1, "eval": 1, "cell": 1}
    assert agree(tiny, trained, of_sweep(trained, **asdict(QUICK))) == {}


def test_an_evaluation_of_a_calibrated_sweep_says_which_questions_its_strength_was_found_on(swept, tiny):
    (file,) = swept.glob("honesty/ia3/*/eval/perplexity/*/manifest.json")
    manifest = json.loads(file.read_text())
    prompts = sets_of(tiny, QUICK, load_behavior("honesty", tiny=True)).calib
    assert manifest["used"]["to calibrate"] == sorted(map(mark_of, prompts)) != []
    assert manifest["settings"]["strength"]["budget"] == QUICK.budget


# ---------------------------------------------------------------- what is not the same is looked for and made


@pytest.mark.parametrize("setting", [{"budget": 0.5}])
def test_a_calibration_with_another_setting_is_not_the_one_that_is_looked_for(trained, tiny, setting):
    done(tiny, of_sweep(trained, **{**asdict(QUICK), **setting}))
    assert agree(tiny, trained, of_sweep(trained, **asdict(QUICK))) == {"calibrate": 1, "eval": 1}


def test_an_evaluation_under_another_protocol_is_not_the_one_that_is_looked_for(trained, tiny):
    done(tiny, of_sweep(trained, alphas="-1,1", evals="perplexity@neutral-choice/1"))
    assert agree(tiny, trained, of_sweep(trained, alphas="-1,1")) == {"eval": 1}


def test_an_evaluation_on_an_edited_base_is_not_the_one_that_is_looked_for(trained, tiny):
    cells = of_sweep(trained, alphas="-1,1")
    keep(tiny, cells[0].common)
    plan, _ = cell_plan(cells[0])
    direction = load_direction(plan.direction_place.folder / "direction.safetensors")
    edited = load("tiny")
    next(iter(edited.linears.values())).module.weight.data[0, 0] += 0.5
    edited = Base(edited.model, edited.tokenizer, edited.fingerprint, edited.id, source=edited.source)
    assert edited.weights_hash != tiny.weights_hash
    make_eval(Subject(edited, direction, plan.run_folder, "ws:ia3"), NLL, alphas=(-1.0, 1.0), out=trained)
    assert agree(tiny, trained, cells) == {"eval": 1}


def test_test_pairs_of_another_split_are_not_the_ones_that_are_looked_for(trained, tiny):
    assert agree(tiny, trained, of_sweep(trained, alphas="-1,1", evals="pairs")) == {"eval": 1}
    assert todo(of_sweep(trained, alphas="-1,1", evals="pairs", test_share=0.3)) == {
        "train": 1,
        "direction": 1,
        "eval": 1,
    }


def test_a_method_that_is_no_direction_is_done_when_its_record_is(trained, tiny):
    cells = of_comparison(tiny, trained, ("prompt:simple",))
    keep(tiny, cells[0].common)
    assert todo(cells) == {"cell": 1, "eval": 1}  # the evaluation is measured within the cell
    done(tiny, cells)
    assert todo(cells) == {}
