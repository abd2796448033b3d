"""Nulls are trained once, beside the run they belong to, and are found again by whoever needs them."""

from dataclasses import replace

import pytest
from test_train import PAIRS, quick

from ws.behaviors import load_behavior
from ws.data import DataSettings, default_data, rows_to_fill
from ws.pairs import save_pairs
from ws.records import read
from ws.study.plan import Plan
from ws.study.stages import make_direction, make_pairs, make_sides, pairs_of
from ws.watch import make_nulls, matrix, opened, watched
from ws.watch.nulls import data_like, reordered


def a_study(tiny, out, name, pairs):
    """A study on given pairs, with its direction; the plan."""
    save_pairs(pairs, out / f"{name}.jsonl")
    settings = quick(lr=(1e-2,), epochs=2)
    plan = Plan(tiny, None, default_data(tiny), settings, out=out, pairs_file=out / f"{name}.jsonl")
    make_direction(plan, make_sides(plan, make_pairs(plan)[0])[0])
    return plan


@pytest.fixture(scope="module")
def study(tiny, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    a_study(tiny, out, "trad_care", PAIRS.swapped())
    plan = a_study(tiny, out, "capitals", PAIRS)
    return plan, make_nulls(plan.run_folder, tiny, permuted=3, control="trad_care")


def test_every_null_is_trained_once_and_a_control_that_is_there_is_not(tiny, study):
    plan, records = study
    assert len(records) == 3 + 2
    assert not any(r.reused for r in records)
    as_they_come: list = []
    again = make_nulls(plan.run_folder, tiny, permuted=3, control="trad_care", say=as_they_come.append)
    assert as_they_come == again
    assert all(r.reused for r in again)
    assert [r.folder for r in again] == [r.folder for r in records]


def test_permuted_labels_lie_where_a_comparison_looks_for_them(study):
    plan, records = study
    assert records[1].folder == replace(plan, labels=1).train_place.folder
    assert records[1].key == replace(plan, labels=1).train_place.key


def test_a_direction_comes_with_all_its_nulls_and_each_of_them_counts(tiny, study):
    plan, _ = study
    against = watched(plan.run_folder.name, tiny, plan.out, control="trad_care")
    assert against.missing() == []
    assert list(against.twins) == ["shared", "independent"]
    assert against.direction.name.startswith("capitals (")
    pos, neg = matrix(opened(str(plan.run_folder), tiny, plan.out), [against], tiny)
    assert (pos.name, neg.name) == (f"{plan.run_folder.name}/pos", f"{plan.run_folder.name}/neg")
    assert pos.same_data
    assert pos.start == "shared"
    assert len(pos.against.permuted) == 3
    assert len(pos.against.random) == 20
    assert pos.cos > max(pos.against.permuted) > min(pos.against.permuted) > neg.cos
    assert pos.against.control == pytest.approx(-pos.cos, abs=0.05)  # the same pairs, swapped
    assert pos.ceiling > 0.5


def test_a_twin_of_another_start_has_another_start_and_the_same_pairs_in_another_order(tiny, study):
    plan, _ = study
    twins = watched(str(plan.run_folder), tiny, plan.out, control="trad_care").twins
    from ws.watch import angles

    table = angles([pos for pos, _ in twins.values()], [watched(str(plan.run_folder), tiny, plan.out).direction], tiny)
    assert [table.mode(k, 0) for k in (0, 1)] == ["shared", "independent"]
    other = reordered(PAIRS)
    assert other.rows != PAIRS.rows
    assert sorted(r.prompt for r in other.rows) == sorted(r.prompt for r in PAIRS.rows)


def test_a_control_is_asked_by_the_settings_of_the_run(tiny, tmp_path):
    how = DataSettings(n_topics=12, n_personas=1, n_samples=1, max_len=64, max_new_tokens=9, seed=5, accept=("ended",))
    plan = Plan(tiny, load_behavior("honesty", tiny=True), how, quick(lr=(1e-2,), epochs=1), out=tmp_path)
    make_sides(plan, make_pairs(plan)[0])
    (record,) = make_nulls(plan.run_folder, tiny, permuted=0, starts=(), control="trad_care")
    control = pairs_of(record.manifest, plan.out).pairs
    assert control.provenance["behavior"] == "trad_care"
    assert control.provenance["n_generated"] == 12
    assert control.provenance["settings"]["max_new_tokens"] == 9
    assert control.provenance["settings"]["seed"] == 5


@pytest.mark.parametrize("times", [1, 3])
def test_a_control_of_given_answers_asks_for_about_as_many_and_none_longer(tiny, study, times):
    plan, _ = study
    pairs = pairs_of(read(plan.run_folder / "train"), plan.out).pairs
    longest = max(max(r.n_tok_pos, r.n_tok_neg) for r in pairs.rows)
    behavior = load_behavior("trad_care", tiny=True)
    settings = data_like(tiny, replace(pairs, rows=pairs.rows * times), behavior)
    assert len(rows_to_fill(behavior, settings)) == 8 * times
    assert settings.max_new_tokens == longest < 16
