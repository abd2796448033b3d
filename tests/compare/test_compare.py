"""Methods side by side: each cell made once, nothing unmatched called matched, every number again from its rows."""

import csv
import json
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from html_page import refuse_what_a_page_may_not_have

from ws import methods
from ws.adapters import small
from ws.behaviors import load_behavior
from ws.calibrate import CalibrateSettings, divergences, sets_of
from ws.cli import main
from ws.engine import Task
from ws.eval import perplexity
from ws.grid import cells as grid
from ws.grid.compare import cell_places, cells_of, compare, evals_of, how_kl_is_measured
from ws.grid.look import look
from ws.grid.run import serially
from ws.grid.tasks import tasks_of
from ws.models.load import load_lazily
from ws.report import report_of
from ws.report.meanings import meaning
from ws.results.claims import claims_of, costs_of, not_computed
from ws.results.layouts import comparison
from ws.results.measured import measured
from ws.results.page import CUES
from ws.results.published import sheets
from ws.results.trials import Trial, by_method, trial_of_cell
from ws.stats import estimate
from ws.study.stages import material

# wide enough to be met on a few prompts
QUICK = CalibrateSettings(budget=0.3, tolerance=0.3, n_calib=5, n_audit=5, tokens=6, max_evals=4)
pytestmark = [
    pytest.mark.timeout(900),  # a comparison is several evaluations of the embedded model
    pytest.mark.usefixtures("few_neutral_questions"),
]
CHOSEN = ["sl:mean_diff", "prompt:simple", "random:act:0", "random:act:1"]


@pytest.fixture(scope="module")
def honesty():
    return load_behavior("honesty", tiny=True)


def cells_in(tiny, honesty, out, chosen=CHOSEN, **more):
    evals = evals_of(honesty, ["dilemmas"], limit=20)
    return cells_of(tiny, honesty, chosen, evals=evals, out=out, settings=more.pop("settings", QUICK), **more)


@pytest.fixture(scope="module")
def done(tiny, honesty, tmp_path_factory):
    """A small comparison over two seeds: (asked, what it found)."""
    out = tmp_path_factory.mktemp("compare")
    asked = cells_in(tiny, honesty, out, seeds=(0, 1))
    return asked, compare(asked, tiny, honesty)


def cells(asked, tiny):
    """What the cells of a comparison left, as results read it."""
    grid.keep(tiny, asked[0].common)
    records = [p.read() for p in cell_places(asked)]
    return [trial_of_cell(r, Path(asked[0].common.out)) for r in records if r is not None]


def effects(found):
    return found.tables[0]


# ---------------------------------------------------------------- what is done once


def test_seeds_multiply_what_they_change_and_nothing_else(done):
    asked, _ = done
    assert Counter(s.method for s in asked) == {
        "sl:mean_diff": 2,
        "prompt:simple": 1,
        "random:act:0": 1,
        "random:act:1": 1,
    }
    assert grid.Cell.from_json(json.loads(json.dumps(asked[0].as_json()))).as_json() == asked[0].as_json()


def test_a_second_call_makes_no_method_and_gives_the_same_tables(done, tiny, honesty, monkeypatch):
    asked, found = done

    def refuse(*args, **more):
        raise AssertionError("a cell that is done was made again")

    monkeypatch.setattr(methods, "make", refuse)
    again = compare(asked, tiny, honesty)
    assert again.reused and not found.reused
    assert [t.lines for t in again.tables] == [t.lines for t in found.tables]
    with pytest.raises(ValueError, match="made again"):  # and what is not done would be
        compare(cells_in(tiny, honesty, Path(asked[0].common.out), ["repe"]), tiny, honesty)


def test_a_look_at_a_comparison_that_is_done_and_a_rerun_load_no_weights(done, honesty):
    out = Path(done[0][0].common.out)
    load_lazily("tiny")  # which remembers what its files hold
    base = load_lazily("tiny")
    asked = cells_in(base, honesty, out, seeds=(0, 1))
    grid.keep(base, asked[0].common)
    assert all(map(look(asked).done, asked))
    assert compare(asked, base, honesty).reused
    assert not base.loaded
    other = cells_in(base, honesty, out, ["repe"], options={"layers": "99"})
    grid.keep(base, other[0].common)
    assert "names layer 99" in look(other).impossible[other[0].name]  # what is not done is held against the network
    assert base.loaded
    with pytest.raises(ValueError, match="names layer 99"):
        compare(other, base, honesty)


@pytest.mark.parametrize(
    "change",
    [
        {"settings": replace(QUICK, budget=0.4)},
        {"settings": None, "alphas": (-1.0, 1.0)},
        {"seeds": (3,)},
        {"alphas": (2.0,)},
    ],
)
def test_a_cell_that_differs_in_one_thing_is_another_cell(done, tiny, honesty, change):
    out = Path(done[0][0].common.out)
    first, other = cell_places([cells_in(tiny, honesty, out, ["sl:mean_diff"], **c)[0] for c in ({}, change)])
    assert first.folder != other.folder
    assert first.read() is not None


def test_tasks_share_what_they_share_and_cells_wait_for_it(tiny, honesty, tmp_path):
    chosen = ["ws:oft", "ws:oft:tau+", "random:gate:0:ia3", "repe", "prompt:simple"]
    tasks = {t.name: t for t in tasks_of(cells_in(tiny, honesty, tmp_path, chosen, seeds=(0, 1)))}
    study = "tiny/honesty"
    arms = {"base/tiny/dilemmas", *(f"base/tiny/perplexity@neutral-{kind}/1" for kind in ("nll", "choice", "free"))}
    each = {f"cell/{study}/{m}/s{s}" for m in ("oft", "ws:oft:tau+", "repe") for s in (0, 1)}
    once = {f"cell/{study}/random:gate:0:ia3/s0", f"cell/{study}/prompt:simple/s0"}
    shared = {f"{kind}/s{s}" for kind in (f"pairs/{study}", f"sides/{study}/oft") for s in (0, 1)}
    assert set(tasks) == arms | each | once | shared  # one cell alone trains its own two sides
    needs = set(tasks[f"cell/{study}/ws:oft:tau+/s1"].needs)
    assert needs == {*arms, f"pairs/{study}/s1", f"sides/{study}/oft/s1"}
    assert set(tasks[f"cell/{study}/repe/s0"].needs) == arms
    assert all(json.loads(json.dumps(t.given)) == t.given for t in tasks.values())


# ---------------------------------------------------------------- what is called equal


def test_unmatched_is_never_shown_as_matched(done, tiny, honesty):
    asked, found = done
    rows = {r["method"]: r for r in effects(found).records}
    shown = {line[effects(found).columns.index("method")].split(" (")[0]: line for line in effects(found).lines}
    kl, cue = (effects(found).columns.index(c) for c in ("kl − / +", "cue"))
    for c in cells(asked, tiny):
        if not c.matched:
            name = c.record["kin"]
            assert not rows[name]["matched"]
            assert shown[name][cue] == "⚪"
            assert "matched)" in shown[name][kl] or "unmatched (" in shown[name][kl]
    prompt = rows["prompt:simple"]
    assert prompt["verdict"].startswith("unmatched (") and prompt["alpha_pos"] == [1.0]
    said = next(r for r in effects(found).readings if r.startswith("Not of equal strength"))
    assert "prompt:simple unmatched (" in said


def test_a_matched_row_is_shown_as_one_and_only_if_all_its_cells_are(done, tiny, honesty):
    asked, _ = done

    def verdicts(cell, word):
        strength = cell.record["strength"]
        points = [{**p, "verdict": word} for p in strength["points"]]
        return replace(cell, record={**cell.record, "strength": {**strength, "points": points}})

    found = cells(asked, tiny)
    asked = claims_of(found[0], honesty)[0]

    def line(words):
        two = [verdicts(c, w) for c, w in zip([c for c in found if c.method == "sl:mean_diff"], words)]
        (kin,), _ = by_method(two, {})
        return comparison.sheet([kin], asked, costs_of(found[0]), kin, {}, title="t"), kin

    sheet, kin = line(["matched", "matched"])
    told = dict(zip(sheet.columns, sheet.lines[0]))
    assert kin.matched and told["cue"] != "⚪" and "matched" not in told["kl − / +"]
    assert any(", 1 matched method: " in r for r in sheet.readings)
    sheet, kin = line(["matched", "unmatched (jump)"])
    told = dict(zip(sheet.columns, sheet.lines[0]))
    assert not kin.matched and told["cue"] == "⚪" and "unmatched (jump, 1 of 2)" in told["kl − / +"]
    assert any(r.startswith("No method is matched") for r in sheet.readings)


def test_strengths_as_given_are_measured_and_said_and_ranked_by_nothing(tiny, honesty, tmp_path):
    few = {"n_calib": 5, "tokens": 6}
    as_given = {"settings": None, "alphas": (-1.0, 1.0), "kl": few}
    asked = cells_in(tiny, honesty, tmp_path, ["sl:mean_diff", "prompt:simple"], **as_given)
    found = compare(asked, tiny, honesty)
    assert {r["verdict"] for r in effects(found).records} == {"as given"}
    plan, _ = grid.cell_plan(asked[0])
    method = methods.make("sl:mean_diff", material(plan))
    kl = {p["alpha"]: p["kl"] for p in grid.read_strength(grid.strength_place(asked[0], plan, method))["points"]}
    (d,) = divergences(tiny, method, sets_of(tiny, CalibrateSettings(**few), honesty).calib, [1.0], tokens=6)
    assert kl[1.0] == pytest.approx(d.p95, rel=1e-4)
    with pytest.raises(ValueError, match="`tolerance` says how strengths are sought"):
        how_kl_is_measured({"tolerance": 0.1})
    assert any("do not rank them" in r for r in effects(found).readings)
    with pytest.raises(ValueError, match="one below 0 and one above"):
        cells_in(tiny, honesty, tmp_path, settings=None, alphas=(1.0,))


# ---------------------------------------------------------------- numbers


def test_every_number_of_the_table_comes_again_from_the_rows(done, tiny, honesty):
    asked, found = done
    all_cells = cells(asked, tiny)
    (kin,) = (k for k in by_method(all_cells, {})[0] if k.name == "sl:mean_diff")
    row = next(r for r in effects(found).records if r["method"] == "sl:mean_diff")
    each = []
    for c in kin.each:  # by hand: half the difference of the means of y
        rows = c.evals["dd-1f/1"].rows
        mean = {a: rows[rows["alpha"] == a].groupby("unit_id")["y"].mean().mean() for a in (c.neg, c.pos)}
        each.append((mean[c.pos] - mean[c.neg]) / 2)
    assert row["each"] == pytest.approx(each)
    assert row["axis"] == pytest.approx(sum(each) / 2)
    assert row["axis_lo"] < min(each) and max(each) < row["axis_hi"]  # two seeds know little
    assert row["same_sign"] == 2 and row["sd"] == pytest.approx(abs(each[0] - each[1]) / math.sqrt(2))
    records = list(csv.DictReader((found.folder / "cells.csv").open()))
    assert len(records) == len(asked)
    alone = next(r for r in records if r["method"] == "sl:mean_diff" and r["seed"] == "0")
    e = estimate(kin.each[0].axis("dd-1f/1", "logratio_honesty"))
    assert float(alone["axis"]) == pytest.approx(e.mean) and float(alone["axis_lo"]) == pytest.approx(e.ci_lo)


def test_the_reference_stands_beside_itself_as_nothing_and_others_are_paired_with_it(done, tiny, honesty):
    asked, found = done
    rows = {r["method"]: r for r in effects(found).records}
    assert "against" not in rows["sl:mean_diff"]
    wanted = rows["prompt:simple"]["axis"] - rows["sl:mean_diff"]["axis"]
    assert rows["prompt:simple"]["against"] == pytest.approx(wanted)
    other = compare(asked, tiny, honesty, reference="prompt:simple")
    assert not other.reused  # another question, another report
    assert {r["method"]: r for r in effects(other).records}["sl:mean_diff"]["against"] == pytest.approx(-wanted)
    with pytest.raises(ValueError, match="not among the methods"):
        compare(asked, tiny, honesty, reference="repe")


def altered(cell, *, method=None, seed=None, verdict=None, shift=None):
    """A cell as it would be of another method or seed, with another verdict, or with this axis on dilemmas."""
    verdicts = verdict if isinstance(verdict, dict) else dict.fromkeys((cell.neg, cell.pos), verdict)
    method, seed = method or cell.method, cell.seed if seed is None else seed
    needs = methods.needs(method)
    own = {
        "asked": method,
        "seed": seed,
        "kin": needs.kin,
        "control": needs.seed == "draw",
        "places": methods.places(method),
    }
    strength = cell.record["strength"]
    points = [{**p, "verdict": verdicts.get(p["alpha"]) or p["verdict"]} for p in strength["points"]]
    evals = dict(cell.evals)
    if shift is not None:
        rows = evals["dd-1f/1"].rows
        evals["dd-1f/1"] = replace(evals["dd-1f/1"], rows=rows.assign(y=shift * np.sign(rows["alpha"])))
    content = f"{cell.record['content']} {method} s{seed} {shift}"
    return Trial(
        {**cell.record, **own, "content": content, "numbers": content, "strength": {**strength, "points": points}},
        evals,
    )


def table_of(kin_cells, honesty, reference):
    """The table of dilemmas from cells, and its methods by name."""
    found, _ = by_method(kin_cells, {})
    by_name = {k.name: k for k in found}
    asked = claims_of(kin_cells[0], honesty)[0]
    costs = costs_of(kin_cells[0])
    return comparison.sheet(found, asked, costs, by_name[reference], {}, title="t"), by_name


def test_a_draw_without_a_number_is_counted_and_spoils_no_other(done, tiny, honesty):
    found = {c.method: c for c in cells(done[0], tiny) if c.seed == 0}
    draws = [altered(found["random:act:0"], method=f"random:act:{i}", shift=(i - 4.5) / 10) for i in range(10)]
    lost = altered(found["random:act:0"], method="random:act:10", shift=math.nan)
    sheet, _ = table_of([*draws, lost, found["sl:mean_diff"]], honesty, "sl:mean_diff")
    (told,) = (r for r in sheet.readings if r.startswith("random:act,"))
    assert "10 draws" in told and "1 more without a number" in told and "which holds 0" in told
    away, _ = table_of([*(altered(d, shift=3.0) for d in draws), found["sl:mean_diff"]], honesty, "sl:mean_diff")
    assert any("does NOT hold 0" in r for r in away.readings)


def test_one_random_draw_gives_no_range_and_is_no_absence_of_draws(done, tiny, honesty):
    found = {c.method: c for c in cells(done[0], tiny) if c.seed == 0}
    alone, _ = table_of([found["random:act:0"], found["sl:mean_diff"]], honesty, "sl:mean_diff")
    assert any("(1 draw)" in str(cell) for line in alone.lines for cell in line)
    assert any(r.startswith("One draw gives no range") for r in alone.readings)
    none, _ = table_of([found["sl:mean_diff"]], honesty, "sl:mean_diff")
    assert any(r.startswith("No random directions were measured") for r in none.readings)


def test_outside_random_is_only_said_of_rows_of_the_same_kl(done, tiny, honesty):
    found = {c.method: c for c in cells(done[0], tiny) if c.seed == 0}
    draws = [altered(found["random:act:0"], method=f"random:act:{i}", shift=i / 100) for i in range(3)]
    for verdict, cell, record in (("matched", "yes", True), ("unmatched (audit)", "yes (unmatched)", None)):
        far = altered(found["sl:mean_diff"], verdict=verdict, shift=50.0)
        sheet, _ = table_of([far, *draws], honesty, "sl:mean_diff")
        at = [line[sheet.columns.index("method")].split(" (")[0] for line in sheet.lines].index("sl:mean_diff")
        assert sheet.lines[at][sheet.columns.index("outside random")] == cell
        assert sheet.records[at]["outside_random"] is record


def test_rows_without_a_score_are_counted_and_what_cannot_be_computed_is_said(done, tiny, honesty):
    cell = next(c for c in cells(done[0], tiny) if c.method == "sl:mean_diff")
    assert not any("without a score" in r for r in table_of([cell], honesty, "sl:mean_diff")[0].readings)
    whole = cell.evals["dd-1f/1"]
    at = whole.rows["alpha"].isin([cell.neg, cell.pos])
    holed = whole.rows.assign(y=whole.rows["y"].mask(whole.rows.index.isin(whole.rows.index[at][:3])))
    one = Trial(cell.record, {**cell.evals, "dd-1f/1": replace(whole, rows=holed)})
    sheet, _ = table_of([one], honesty, "sl:mean_diff")
    assert any(f"left out of every number: sl:mean_diff 3 of {at.sum()}." in r for r in sheet.readings)
    assert not_computed(cell, honesty) == []
    lacking = altered(cell)
    lacking._metrics["dd-1f/1"] = {"common": {}}
    (told,) = not_computed(lacking, honesty)
    assert told == "dd-1f/1: logratio_honesty cannot be computed from these units, so common stands in its place."


def test_one_sign_that_misses_the_budget_is_enough_to_be_unmatched(done, tiny, honesty):
    cell = next(c for c in cells(done[0], tiny) if c.method == "sl:mean_diff")
    for missed in ((), ("neg",), ("pos",)):
        told = {getattr(cell, s): "unmatched (jump)" if s in missed else "matched" for s in ("neg", "pos")}
        one = altered(cell, verdict=told)
        assert one.matched == (not missed)
        sheet, by = table_of([one], honesty, "sl:mean_diff")
        assert (sheet.lines[0][0] == "⚪") == bool(missed)
        assert by["sl:mean_diff"].verdict == ("unmatched (jump)" if missed else "matched")


def test_methods_are_paired_by_seed_and_draws_with_no_seed_at_all(done, tiny, honesty):
    found = {c.method: c for c in cells(done[0], tiny) if c.seed == 0}
    trained = [altered(found["sl:mean_diff"], seed=s, shift=s * 1.0) for s in range(3)]
    other = [altered(found["sl:mean_diff"], method="repe", seed=s, shift=s * 1.0 + 0.5) for s in (2, 1, 0)]
    draws = [altered(found["random:act:0"], method=f"random:act:{i}", shift=float(i)) for i in range(4)]
    _, by = table_of([*trained, *other, *draws, found["prompt:simple"]], honesty, "sl:mean_diff")
    told = ("dd-1f/1", "logratio_honesty", 1.0)
    paired = by["repe"].against(by["sl:mean_diff"], *told)
    assert paired.each == pytest.approx([0.5] * 3)  # seeds differ by 1 from each other, and not within a pair
    assert by["sl:mean_diff"].against(by["random:act"], *told) is None
    assert by["random:act"].against(by["sl:mean_diff"], *told) is None
    assert len(by["random:act"].against(by["prompt:simple"], *told).each) == 4
    assert len(by["prompt:simple"].against(by["random:act"], *told).each) == 4
    sheet, _ = table_of([*trained, *draws], honesty, "random:act")
    assert {line[sheet.columns.index("axis − random:act's")] for line in sheet.lines} == {"–", "reference"}


def test_seeds_that_changed_nothing_are_one_measurement_and_the_table_says_so(done, tiny, honesty):
    cell = next(c for c in cells(done[0], tiny) if c.method == "sl:mean_diff" and c.seed == 0)

    def jittered(seed, by):
        one = altered(cell, seed=seed)  # a content of its own, since a content holds its seed
        m = one.evals["dd-1f/1"]
        noise = by * np.random.default_rng(seed).normal(size=len(m.rows))
        return replace(one, evals={**one.evals, "dd-1f/1": replace(m, rows=m.rows.assign(y=m.rows["y"] + noise))})

    for again in (
        [jittered(s, 1e-6) for s in (1, 2)],
        [replace(cell, record={**cell.record, "seed": s}) for s in (1, 2)],
    ):
        sheet, by = table_of([cell, *again], honesty, "sl:mean_diff")
        told = dict(zip(sheet.columns, sheet.lines[0]))
        assert (told["seeds"], len(by["sl:mean_diff"].each)) == ("do not apply", 1)
        assert sheet.records[0]["repeats"] == [1, 2] and math.isnan(sheet.records[0]["sd"])
        assert any("count once: sl:mean_diff (3 seeds, 1 measured)" in r for r in sheet.readings)
        assert any(r.startswith("One seed:") for r in sheet.readings)
    sheet, by = table_of([cell, *(jittered(s, 0.1) for s in (1, 2))], honesty, "sl:mean_diff")
    assert len(by["sl:mean_diff"].each) == 3 and sheet.records[0]["repeats"] is None
    assert not any("count once" in r for r in sheet.readings)
    draws = [altered(altered(cell, shift=0.0), method=f"random:act:{i}") for i in range(3)]
    assert len(table_of([*draws, cell], honesty, "sl:mean_diff")[1]["random:act"].each) == 3


def test_another_intent_is_another_report(done, tiny, honesty):
    asked, found = done
    turned = replace(honesty, intent={k: -v for k, v in honesty.intent.items()})
    other = compare(asked, tiny, turned)
    assert other.folder != found.folder
    axis = {r["method"]: r["axis"] for r in effects(found).records}
    assert {r["method"]: -r["axis"] for r in effects(other).records} == pytest.approx(axis)


def test_random_draws_stand_in_one_row_with_their_range_and_interval(done):
    _, found = done
    row = next(r for r in effects(found).records if r["control"])
    assert (row["method"], row["n"], row["of"]) == ("random:act", 2, "draw")
    assert any(r.startswith("random:act, 2 draws") and "range" in r for r in effects(found).readings)
    trained = next(r for r in effects(found).records if r["method"] == "sl:mean_diff")
    low, high = min(row["each"]), max(row["each"])
    outside = not low <= trained["axis"] <= high
    assert trained["outside_random"] == (outside if trained["matched"] else None)


def test_one_seed_is_said_and_several_are_not(done, tiny, honesty):
    asked, found = done
    assert not any(r.startswith("One seed") for r in effects(found).readings)
    alone = compare([s for s in asked if s.seed == 0], tiny, honesty)
    assert any(r.startswith("One seed") for r in effects(alone).readings)
    assert any("SMOKE" in r for r in effects(alone).readings)


def test_the_files_are_there_and_hold_the_published_columns(done):
    _, found = done
    text = (found.folder / "tables.md").read_text()
    assert "| adapter | delta α=− | α=0 | delta α=+ |" in text
    assert "| method | SI_k2 | SI_k1 | SI_best (post hoc) | fix_rate | broke_rate |" in text
    assert {p.suffix for p in found.plots} == {".png", ".svg"}
    assert all(p.stat().st_size > 5000 for p in found.plots)
    assert {p.stem.split("-")[0] for p in found.plots} == {"axis", "frontier", "calibration"}
    told = json.loads((found.folder / "report.json").read_text())
    assert len(told["tables"]) == len(found.tables)


def test_how_strengths_were_found_stands_in_the_published_files_with_every_try(done, tiny, honesty):
    asked, found = done
    out = Path(asked[0].common.out)
    sheet = found.tables[-1]
    assert sheet.columns[:3] == ("method", "alpha_pos", "alpha_neg") and "audit_pos" in sheet.columns
    files = {f: list(csv.DictReader((found.folder / "kl_calibration" / f"{f}.csv").open())) for f in ("summary", "audit", "root_history")}  # fmt: skip
    assert len(files["summary"]) == len(asked) and len(files["audit"]) == 2 * len(asked)
    for c in cells(asked, tiny):
        told = c.calibration(out)
        mine = {f: [r for r in rows if (r["method"], r["seed"]) == (told["method"], str(c.seed))] for f, rows in files.items()}  # fmt: skip
        (row,) = mine["summary"]
        assert float(row["alpha_pos"]) == c.pos and float(row["p95_at_neg"]) == told["neg"]["p95"]
        assert row["converged_pos"] == str(told["pos"]["status"] == "ok")
        tried = [(float(r["alpha"]), float(r["p95"])) for r in mine["root_history"] if r["stage"] == "history"]
        assert tried == [tuple(t) for s in ("pos", "neg") for t in told[s]["history"]]
        for line in sheet.lines:  # of the first seed and draw
            if line[0] == told["method"] and c.seed == 0:
                assert (line[-1] == "matched") == told["matched"] and float(line[1]) == pytest.approx(c.pos, rel=1e-3)
    assert sorted(line[0] for line in sheet.lines) == ["prompt:simple", "random:act:0", "sl:mean_diff"]


def test_ws_table_reads_the_same_rows_with_their_kl(done):
    asked, _ = done
    found, _ = sheets([m for m in measured([Path(asked[0].common.out)]) if m.protocol.eval == "dilemmas"])
    records = [r for r in found[0].records if r["method"] == "prompt:simple"]
    assert records and all(r["matched"] is False and r["kl_pos"] < QUICK.budget for r in records)


# ---------------------------------------------------------------- what breaks


def test_a_broken_cell_is_a_row_that_says_why_and_stops_nothing(
    tiny, honesty, tmp_path, capsys, monkeypatch, few_neutral_questions
):
    monkeypatch.chdir(tmp_path)
    for name, usual in few_neutral_questions.items():  # workers are asked to ask all of them
        monkeypatch.setattr(perplexity, name, usual)
    Path("gone.safetensors").write_text("no tensors")
    where = ["--behavior", "honesty", "--evals", "dilemmas", "--limit", "6", "--out", str(tmp_path)]
    quick = ["--alphas=-1,1", "--n-calib", "5", "--tokens", "6"]
    code = main(["compare", "--methods", "sl:mean_diff,vectors:gone.safetensors", *where, *quick])
    out, err = capsys.readouterr()
    assert code == 1, err
    assert "1 of 2 cells failed: vectors:gone.safetensors s0" in err
    assert "FAILED" in out and "sl:mean_diff" in out
    code = main(["compare", "--methods", "sl:mean_diff", *where, *quick, "--json"])
    out, err = capsys.readouterr()
    assert code == 0
    assert json.loads(out)["failed"] == {} and "1 of them done already" in err


def test_a_worker_that_reads_a_cell_from_json_puts_it_where_it_is_looked_for(tiny, honesty, tmp_path):
    asked = cells_of(
        tiny,
        honesty,
        methods.selection(["all"], draws=1),
        evals=evals_of(honesty),
        settings=CalibrateSettings(),
        out=tmp_path,
    )
    assert len(asked) > 50
    for one in asked:
        read = grid.Cell.from_json(json.loads(json.dumps(one.as_json(), sort_keys=True)))
        assert len({p.folder for p in cell_places([read, one])}) == 1


def test_a_pack_without_engineered_prompts_is_compared_without_them(capsys, tmp_path):
    import yaml

    from ws.behaviors import HERE

    pack = yaml.safe_load((HERE / "honesty.yaml").read_text())
    for part in (pack, pack["tiny"]):
        part.pop("engineered", None)
    pack["tiny"]["prompts"] = {"source": "list", "list": ["What color is snow?", "Is snow white?", "Is coal black?"]}
    own = tmp_path / "own.yaml"
    own.write_text(yaml.safe_dump({**pack, "name": "own"}))
    asked = ["compare", "--check", "--json", "--behavior", str(own), "--out", str(tmp_path / "out")]
    assert main(asked) == 0
    told = capsys.readouterr()
    assert "own has no texts for prompt:engineered, which is left out" in told.err
    cells = [c["cell"] for c in json.loads(told.out)["cells"]]
    assert "prompt:simple s0" in cells
    assert not any(c.startswith("prompt:engineered") for c in cells)
    assert main([*asked, "--methods", "prompt:engineered"]) == 0  # who names it is told where it fails
    assert "prompt:engineered s0" in capsys.readouterr().out


def test_tasks_that_need_a_failed_one_are_skipped_and_the_others_are_done():
    done = []
    tasks = [
        Task("gone", "ws.nowhere:work"), Task("after", "builtins:print", {}, ("gone",)), Task("alone", "builtins:len", {"a": 1}),
    ]  # fmt: skip
    ends = serially(tasks, lambda event: done.append((event.task.name, event.kind)))
    assert done == [
        ("gone", "started"),
        ("gone", "failed"),
        ("after", "skipped"),
        ("alone", "started"),
        ("alone", "done"),
    ]
    assert "ModuleNotFoundError" in ends["gone"].error
    assert ends["after"].error.startswith("it needs gone, which failed: ModuleNotFoundError")
    assert ends["alone"].value == 1


def test_a_comparison_of_a_few_units_counts_its_costs_on_few_too(honesty):
    few, whole = evals_of(honesty, ["dilemmas", "perplexity"], limit=3), evals_of(honesty, ["dilemmas", "perplexity"])
    assert {e.limit for e in few} == {3} and {e.limit for e in whole} == {None}
    assert [e.chosen.id for e in few] == ["dd-1f/1", "neutral-nll/1", "neutral-choice/1", "neutral-free/1"]
    assert [e.of_first(2).limit for e in few] == [2] * 4 and [e.of_first(9).limit for e in few] == [3] * 4


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--methods", "ws:lorra"], "there is no adapter 'lorra'"),
        (["--methods", "repe", "--reference", "ws:lora"], "the reference 'ws:lora' is not among the methods repe"),
        (["--evals", "pairs"], "there are airisk, answers, dilemmas, em, foundations"),
        (["--evals", "dilemas"], "evaluation 'dilemas' is not known"),
        (["--seeds", "0,0"], "seeds are different whole numbers"),
        (["--alphas=1"], "one below 0 and one above"),
        (["--draws", "0"], "draws must be at least 1"),
        (["--seed", "1"], "--seeds is the factor"),
        (["--device-map", "auto", "--workers", "2"], "leave out --workers"),
        (["--data", "dilemmas"], "--data takes NAME=FILE"),
        (["--data", "airisk=x.csv"], "not among the evaluations"),
        (["--limit", "0"], "--limit must be at least 1"),
        (["--methods", ""], "--methods is empty"),
        (["--workers", "0"], "--workers must be at least 1"),
    ],
)
def test_what_cannot_be_meant_is_one_sentence(capsys, tmp_path, flags, words):
    code = main(["compare", "--out", str(tmp_path / "out"), *flags])
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert words in err
    assert not (tmp_path / "out").exists()


def test_an_output_folder_that_is_a_file_is_one_sentence(capsys, tmp_path):
    (tmp_path / "file").touch()
    code = main(["compare", "--methods", "prompt:simple", "--evals", "dilemmas", "--out", str(tmp_path / "file")])
    told = capsys.readouterr()
    assert (code, told.out) == (2, "")
    assert "cannot be written" in told.err and "Traceback" not in told.err


def test_a_check_says_what_would_be_done_and_does_nothing(capsys, tmp_path):
    code = main(["compare", "--check", "--methods", "all", "--seeds", "0,1", "--out", str(tmp_path / "out"), "--json"])
    told = json.loads(capsys.readouterr().out)
    assert code == 0 and not (tmp_path / "out").exists()
    names = Counter(c["cell"].rpartition(" s")[0] for c in told["cells"])
    assert names["ws:lora"] == 2 and names["prompt:simple"] == 1 and names["random:act:19"] == 1
    assert {t for t in told["tasks"] if t.startswith("sides")} == {
        f"sides/tiny/honesty/{a}/s{s}" for a in small() for s in range(2)
    }


@pytest.mark.parametrize(
    ("flags", "budget", "tolerance"),
    [([], 1.0, 0.05), (["--preset", "pub"], 0.5, 0.1), (["--preset", "pub", "--budget", "2"], 2.0, 0.1)],
)
def test_a_preset_names_the_budget_and_a_flag_wins(capsys, tmp_path, flags, budget, tolerance):
    asked = [
        "compare",
        "--check",
        "--json",
        "--methods",
        "prompt:simple",
        "--evals",
        "dilemmas",
        "--out",
        str(tmp_path / "out"),
    ]
    assert main([*asked, *flags]) == 0
    told = json.loads(capsys.readouterr().out)["calibrate"]
    assert (told["budget"], told["tolerance"]) == (budget, tolerance)


def test_a_look_counts_every_evaluation_and_says_how_long_the_rest_may_take(done, tiny, honesty):
    out = Path(done[0][0].common.out)
    asked = cells_in(tiny, honesty, out, ["sl:mean_diff", "repe"], seeds=(0,))
    grid.keep(tiny, asked[0].common)
    seen = look(asked)
    assert [seen.done(c) for c in asked] == [True, False]
    assert seen.counted("eval") == (2 * len(asked[0].evals), len(asked[0].evals))
    assert seen.ahead(asked[1]) == f"to do: {len(asked[0].evals)} evaluations"
    assert seen.seconds is not None and seen.seconds > 0
    assert look(asked[:1]).seconds == 0


def test_a_method_that_is_named_twice_is_refused_and_one_of_two_groups_is_measured_once():
    with pytest.raises(ValueError, match="`methods` names 'repe' twice"):
        methods.selection(["repe", "prompt:simple", "repe"])
    assert methods.selection(["default", "repe"]).count("repe") == 1


def test_the_page_of_a_comparison_has_every_cell_of_its_tables_and_every_method_in_its_pictures(done):
    _, found = done
    read = refuse_what_a_page_may_not_have(report_of(found.folder))
    lines = [line for t in read.tables for line in t]
    for table in found.tables:
        cued = [["" if c in CUES else c for c in line] for line in table.lines]
        assert all(line in lines for line in cued), table.title
        assert not [c for c in table.columns if meaning(c) is None], table.title
    for name in {c["method"] for c in found.cells}:
        assert any(name in a.get("aria-label", "") for tag, a in read.tags if tag == "svg"), name
    assert found.tables[0].readings[0] in read.text
