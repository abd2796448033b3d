"""Nulls are trained once, beside the run they belong to, and are found again by whoever needs them."""

from dataclasses import replace

import pytest
from test_train import PAIRS, quick

from ws.data import default_data
from ws.pairs import save_pairs
from ws.study.plan import Plan
from ws.study.stages import make_direction, make_pairs, make_sides
from ws.watch import make_nulls, matrix, opened, watched
from ws.watch.nulls import reordered


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
