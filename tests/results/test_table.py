"""Tables are made from rows: joined by key, methods side by side, published columns first, nothing mixed in silence."""

import io
import json

import numpy as np
import pandas as pd
import pytest
from planted import flipped, moved, pairs_of, planted, rows_of

from ws.errors import BadFile
from ws.eval import recorded
from ws.records import checksums, write_json
from ws.results.measured import measured
from ws.results.published import sheets

N = 120
PUBLISHED = {
    "dilemmas": ("adapter", "delta α=-1", "α=0", "delta α=+1", "pmass @ +1"),
    "informed": ("method", "SI_k2", "SI_k1", "SI_best (post hoc)", "fix_rate", "broke_rate"),
    "sycophancy": ("adapter", "mean_lr", "shift vs base"),
    "foundations": ("cue", "axis", "method", "C", "kl", "Care ↓", "Sanc ↑", "Auth", "Loy", "Fair", "Lib", "SocN"),
}


def write(
    out,
    rows,
    *,
    behavior="honesty",
    method="ws:lora",
    run="tiny-s0-aaaa",
    questions="q",
    limit=None,
    key="k",
    strength=None,
):
    """An evaluation folder, as `ws eval` leaves it."""
    first = rows.iloc[0]
    folder = out / behavior / method.removeprefix("ws:") / run / "eval" / first["eval"] / f"{key}-{method}"
    folder.mkdir(parents=True)
    rows.assign(method=method).to_parquet(folder / "rows.parquet", index=False)
    manifest = {
        "stage": "eval", "key": key,
        "settings": {
            "method": method, "seed": 0, "limit": limit, "protocol": first["protocol"],
            **({} if strength is None else {"strength": strength}),
        },
        "inputs": {"items": questions, "fingerprint": "f", "dtype": "float32", "direction": method},
        "model": {"id": "tiny", "source": "tiny"}, "finished": f"2026-01-01T00:00:0{len(list(out.rglob('rows.parquet')))}Z",
        "files": checksums(folder),
    }  # fmt: skip
    write_json(folder / "manifest.json", manifest)
    return folder


def dilemma_rows(seed=0, up=0.5, down=0.05):
    rng = np.random.default_rng(seed)
    ref = np.repeat(np.where(rng.random(N) < 0.4, -1.0, 1.0), 2) + rng.normal(size=2 * N) / 10
    return asked_once(
        rows_of(ref, moved(rng, ref, up=up, down=down), moved(rng, ref, up=down, down=up), units=pairs_of(2 * N))
    )


def asked_once(rows):
    """Keys end with the order in which the answers were named, and that is folded."""
    return rows.assign(row_key=rows["row_key"] + "/0")


def tables(out, **settings):
    return sheets(measured([out]), **settings)


def test_a_table_is_the_same_whatever_the_order_of_its_rows(tmp_path):
    rows = dilemma_rows()
    write(tmp_path / "a", rows)
    write(tmp_path / "b", rows.sample(frac=1, random_state=1))
    (a, _), (b, _) = tables(tmp_path / "a"), tables(tmp_path / "b")
    assert [s.lines for s in a] == [s.lines for s in b]


def test_published_columns_come_first_in_their_order_and_stay_when_empty(tmp_path):
    write(tmp_path, dilemma_rows().assign(protocol="dd-1f/1"))
    effect, informed = tables(tmp_path)[0]
    assert effect.columns[:5] == PUBLISHED["dilemmas"]
    assert informed.columns[:6] == PUBLISHED["informed"]
    right = dilemma_rows()
    right["y"] = right["y"].abs()  # nothing to fix
    write(tmp_path / "right", right)
    assert tables(tmp_path / "right")[0][1].columns[:6] == PUBLISHED["informed"]


def test_methods_stand_side_by_side_the_largest_change_first(tmp_path):
    write(tmp_path, dilemma_rows(up=0.1), method="ws:oft")
    write(tmp_path, dilemma_rows(up=0.9), method="ws:delora")
    effect, informed = tables(tmp_path)[0]
    assert [line[0] for line in effect.lines] == ["delora", "oft"]
    assert [line[0] for line in informed.lines] == ["ws:delora", "ws:oft"]


def test_the_same_method_of_two_studies_is_told_apart(tmp_path):
    write(tmp_path, dilemma_rows(0))
    write(tmp_path, dilemma_rows(1), behavior="sycophancy")
    write(tmp_path, dilemma_rows(2), run="tiny-s0-bbbb")
    names = [line[0] for line in tables(tmp_path)[0][1].lines]
    assert len(set(names)) == 3
    assert any("bbbb" in n for n in names)


def test_a_planted_effect_is_read_from_the_rows_and_chance_is_not(tmp_path):
    write(tmp_path, dilemma_rows(up=0.6, down=0.05), method="ws:real")
    rng = np.random.default_rng(3)
    ref = np.repeat(np.where(rng.random(1000) < 0.4, -1.0, 1.0), 2)
    noise = asked_once(rows_of(ref, flipped(rng, ref, 0.2), flipped(rng, ref, 0.2), units=pairs_of(2000)))
    write(tmp_path, noise, method="ws:noise", questions="many")
    found = {r["method"]: r for s in tables(tmp_path)[0] for r in s.records if "SI_k2" in r}
    assert found["ws:real"]["SI_k1_lo"] > 0
    assert found["ws:real"]["SI_k1_p"] < 0.01
    assert found["ws:noise"]["SI_k2"] < -10  # which is what its null says of random flips
    assert found["ws:noise"]["SI_k2"] == pytest.approx(found["ws:noise"]["SI_k2_null"], abs=4)
    assert found["ws:noise"]["SI_k1_p"] > 0.05


def test_a_change_is_paired_by_unit(tmp_path):
    rng = np.random.default_rng(0)
    ref = rng.normal(size=N) * 10
    write(tmp_path, rows_of(ref, ref + 0.5 + rng.normal(size=N) / 100, ref - 0.5))
    record = tables(tmp_path)[0][0].records[0]
    assert record["delta_pos_hi"] - record["delta_pos_lo"] < 0.02 < 1 < record["base_hi"] - record["base_lo"]


def test_other_questions_make_another_table(tmp_path):
    write(tmp_path, dilemma_rows(), method="ws:lora")
    write(tmp_path, dilemma_rows(1), method="ws:oft", questions="others")
    assert [len(s.lines) for s in tables(tmp_path)[0]] == [1, 1, 1, 1]


def test_runs_of_only_the_first_units_are_left_out_and_said(tmp_path):
    write(tmp_path, dilemma_rows())
    write(tmp_path, dilemma_rows().head(90), method="ws:oft", limit=15)
    made, notes = tables(tmp_path)
    assert [len(s.lines) for s in made] == [1, 1]
    assert "fewer units" in notes[0]
    (tmp_path / "smoke").mkdir()
    write(tmp_path / "smoke", dilemma_rows(), limit=60)
    assert "SMOKE" in tables(tmp_path / "smoke")[0][0].title


def test_the_later_measurement_of_one_direction_counts(tmp_path):
    write(tmp_path, dilemma_rows(up=0.1), key="k1")
    write(tmp_path, dilemma_rows(up=0.9), key="k2")
    (effect, _), _ = tables(tmp_path)
    assert len(effect.lines) == 1
    assert effect.records[0]["delta_pos"] > 0.3


def test_a_strength_that_was_not_measured_is_said(tmp_path):
    write(tmp_path, dilemma_rows())
    made, notes = tables(tmp_path, alpha=2.0)
    assert made == []
    assert "not measured at +2, only at -1, 0, +1" in notes[0]


def test_one_arm_is_never_put_in_the_column_of_two(tmp_path):
    rows = dilemma_rows()
    write(tmp_path, rows[rows["arm"] != "neg"])
    informed = tables(tmp_path)[0][1]
    cells = dict(zip(informed.columns, informed.lines[0]))
    assert cells["SI_k1"] == cells["SI_k2"] == "–"
    assert cells["one arm, k=1"].startswith("+")


def test_foundations_carry_cue_axis_and_arrows(tmp_path, tiny):
    from ws.eval import EVALS

    chosen = EVALS["foundations"]
    items = {i.row_key: i for i in chosen.items(tiny, None)}
    rows = rows_of(
        *(
            np.array([0.05 * (n % 7) + a * (i.kind == "Sanctity") for n, i in enumerate(items.values())])
            for a in (0, 1, -1)
        )
    )
    asked = dict(zip(sorted(rows["row_key"].unique(), key=lambda k: int(k.rsplit("/", 1)[1])), items.values()))
    for column in ("unit_id", "kind", "label", "row_key"):  # the key last: the others are found by it
        rows[column] = [getattr(asked[k], column) for k in rows["row_key"]]
    rows = rows.assign(eval="foundations", protocol=chosen.id, metric=chosen.metric)
    write(tmp_path, rows, behavior="trad_care")
    bare, axis = tables(tmp_path)[0]
    assert axis.columns[:12] == PUBLISHED["foundations"]
    cells = dict(zip(axis.columns, axis.lines[0]))
    assert cells["cue"] == "🟢"
    assert float(cells["axis"]) == pytest.approx(1, abs=0.02)
    assert cells["Sanc ↑"].startswith("+1.00±")
    assert len(bare.columns) == 8


def test_markdown_is_a_table_that_markdown_readers_take(tmp_path):
    write(tmp_path, dilemma_rows())
    lines = tables(tmp_path)[0][0].markdown().splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("|"))
    assert len({line.count("|") for line in lines[at : at + 3]}) == 1
    assert lines[at].startswith("| adapter | delta α=-1 | α=0 | delta α=+1 | pmass @ +1 |")
    assert any(line.startswith("- expected") for line in lines)


def test_every_number_of_a_table_is_that_of_its_rows(tmp_path):
    rows = dilemma_rows()
    write(tmp_path, rows)
    record = tables(tmp_path)[0][0].records[0]
    by_unit = rows.groupby(["alpha", "unit_id"])["y"].mean().groupby("alpha").mean()
    assert record["base"] == pytest.approx(by_unit[0.0])
    assert record["delta_pos"] == pytest.approx(by_unit[1.0] - by_unit[0.0])
    assert json.dumps(record)


def test_unfinished_stages_and_foreign_files_are_not_tabulated(tmp_path):
    folder = write(tmp_path, dilemma_rows())
    (folder / "manifest.json").unlink()
    assert measured([tmp_path]) == []
    with pytest.raises(BadFile, match="no folder"):
        measured([tmp_path / "nowhere"])
    other = write(tmp_path, dilemma_rows().assign(protocol="dd-9/9"), key="k9")
    with pytest.raises(ValueError, match="'weather' need the distribution that brings it"):
        recorded("weather", "weather/1")
    with pytest.raises(ValueError, match="'dd-9/9' were written by another version"):
        measured([other])


# ---------------------------------------------------------------- which measurement, and whether it is enough to say


def at_other_strength(rows, scale):
    """The same rows as a run over another grid would have written them."""
    return rows.assign(alpha=rows["alpha"] * scale)


def test_a_later_grid_without_the_strength_of_the_table_does_not_replace_it(tmp_path):
    write(tmp_path, dilemma_rows(up=0.9), key="k1")
    write(tmp_path, at_other_strength(dilemma_rows(up=0.1), 0.25), key="k2")
    (effect, _), _ = tables(tmp_path)
    assert [r["alpha_pos"] for r in effect.records] == [1.0]
    assert "α=+1/-1" in effect.title
    (effect, _), _ = tables(tmp_path, alpha=0.25)
    assert [r["alpha_pos"] for r in effect.records] == [0.25]
    assert "α=+0.25/-0.25" in effect.title


def test_a_row_of_another_strength_says_so_in_its_label(tmp_path):
    write(tmp_path, dilemma_rows())
    write(tmp_path, at_other_strength(dilemma_rows(1), 0.25), method="ws:oft")
    (effect, informed), _ = tables(tmp_path)
    assert {line[0] for line in effect.lines} == {"lora", "oft (α=+0.25/-0.25)"}
    assert {line[0] for line in informed.lines} == {"ws:lora", "ws:oft (α=+0.25/-0.25)"}
    assert "α=+1/-1" in informed.title


def sought(neg, pos, *verdicts, budget=1.0, more=()):
    """Strengths as a calibration leaves them, and others that were given."""
    points = [{"alpha": a, "kl": 1.0, "verdict": v} for a, v in zip((neg, pos), verdicts)]
    given = [{"alpha": a, "kl": 0.1, "verdict": "as given"} for a in more]
    return {"budget": budget, "neg": neg, "pos": pos, "points": [*points, *given]}


def at_strengths(rows, **old_to_new):
    """The same rows, measured at other strengths."""
    return rows.assign(alpha=rows["alpha"].replace({-1.0: old_to_new["neg"], 1.0: old_to_new["pos"]}))


def test_a_row_that_missed_the_budget_stands_below_all_that_met_it_and_says_so_at_any_width(tmp_path):
    both = ("matched", "matched")
    write(tmp_path, at_strengths(dilemma_rows(up=0.2), neg=-2, pos=3), strength=sought(-2, 3, *both))
    big, missed = at_strengths(dilemma_rows(up=0.9), neg=-1, pos=1), sought(-1, 1, "matched", "unmatched (audit)")
    write(tmp_path, big, method="ws:oft", strength=missed)
    (effect, informed), _ = tables(tmp_path)
    assert [line[0] for line in effect.lines] == ["lora", "oft (unmatched)"]
    assert [line[0] for line in informed.lines] == ["ws:lora", "ws:oft (unmatched)"]
    assert effect.records[1]["delta_pos"] > effect.records[0]["delta_pos"]
    assert any(r.startswith("ws:oft (unmatched)") for r in effect.readings)


def test_a_table_at_a_budget_takes_the_strengths_that_were_found_and_not_others_beside_them(tmp_path):
    rows, more = at_strengths(dilemma_rows(), neg=-2, pos=3), at_strengths(dilemma_rows(1), neg=-1, pos=1)
    both = pd.concat([rows, more[more["alpha"] != 0]], ignore_index=True)
    write(tmp_path, both, strength=sought(-2, 3, "matched", "matched", more=(-1.0, 1.0)))
    (effect, _), _ = tables(tmp_path)
    assert (effect.records[0]["alpha_neg"], effect.records[0]["alpha_pos"]) == (-2.0, 3.0)
    (effect, _), _ = tables(tmp_path, alpha=1.0)  # what is asked for is given
    assert effect.records[0]["alpha_pos"] == 1.0


def test_of_two_searches_for_one_budget_the_matched_one_counts_and_not_the_larger_strength(tmp_path):
    later = at_strengths(dilemma_rows(), neg=-2.6, pos=2.9), sought(-2.6, 2.9, "matched", "unmatched (audit)")
    for key, (rows, strength) in {
        "k1": (at_strengths(dilemma_rows(), neg=-2, pos=2.5), sought(-2, 2.5, "matched", "matched")), "k2": later,
    }.items():  # fmt: skip
        write(tmp_path, rows, key=key, strength=strength)
    (effect, _), _ = tables(tmp_path)
    assert [(r["alpha_neg"], r["alpha_pos"]) for r in effect.records] == [(-2.0, 2.5)]


def test_a_random_direction_is_not_said_to_move_as_intended_and_nothing_is_no_clear_change(tmp_path):
    write(tmp_path, dilemma_rows(up=0.9), method="random:act:0")
    (effect, _), _ = tables(tmp_path)
    assert "a random direction, of which nothing is expected" in effect.readings[0]
    still = dilemma_rows(up=0.0, down=0.0)
    rows = still.assign(y=still["y"] + 1e-6 * still["alpha"])
    write(tmp_path / "none", rows, behavior="sycophancy")  # claims nothing about dilemmas
    (effect, _), _ = tables(tmp_path / "none")
    assert "a clear change, but by less than 0.1 nat; the behavior claims nothing" in effect.readings[0]


def test_every_row_is_read_out(tmp_path):
    write(tmp_path, dilemma_rows())
    write(tmp_path, dilemma_rows(1), method="ws:oft")
    for s in tables(tmp_path)[0]:
        assert [sum(r.startswith(f"{m}") for r in s.readings) for m in ("ws:lora", "ws:oft")] == [1, 1]


def test_tables_of_other_questions_have_other_titles_and_name_them_in_their_rows(tmp_path):
    write(tmp_path, dilemma_rows(), method="ws:lora")
    write(tmp_path, dilemma_rows(1), method="ws:oft", questions="others")
    made, _ = tables(tmp_path)
    assert len({s.title for s in made}) == len(made)
    assert len({s.records[0]["items"] for s in made}) == 2
    for file in tmp_path.rglob("manifest.json"):
        write_json(file, json.loads(file.read_text()) | {"note": {"source": "mine.csv"}})
    made, _ = tables(tmp_path)
    assert len({s.title for s in made}) == len(made)
    assert all("mine.csv" in s.title and s.records[0]["data"] == "mine.csv" for s in made)


def test_the_two_wrongnesses_of_tiny_mfv_have_two_names(tmp_path, tiny):
    from ws.eval import EVALS

    chosen = EVALS["tinymfv"]
    rows = planted(chosen, chosen.items(tiny, None), lambda item, alpha: alpha)
    write(tmp_path, rows.assign(forced_close=False, seed=0))
    (table,) = tables(tmp_path)[0]
    assert table.columns[:2] == ("Method", "wrongness")
    assert "wrongness, both" in table.columns
    assert len(set(table.columns)) == len(table.columns)
    assert {"wrongness_other", "wrongness_both"} <= table.records[0].keys()
    assert "wrongness" not in table.records[0]


def test_a_budget_of_tokens_cuts_off_answers_where_answers_are_written_and_thoughts_where_it_is_thought(tmp_path):
    for name, protocol, what in (("answers", "answers/2", "answers"), ("dilemmas", "dd-1f/1", "thoughts")):
        rows = dilemma_rows().assign(eval=name, protocol=protocol, text="I see.", forced_close=True)
        write(tmp_path / name, rows)
        said = [line for s in tables(tmp_path / name)[0] for line in s.readings if "cut off by their budget" in line]
        assert said and all(line.startswith(f"Most {what} were") for line in said)


def test_informedness_of_a_few_items_is_not_read_as_a_finding(tmp_path):
    ref = np.array([-1.0, 1.0, 1.0])
    write(tmp_path, rows_of(ref, np.abs(ref), -np.abs(ref)))
    informed = tables(tmp_path)[0][1]
    assert informed.records[0]["too_small"]
    assert informed.records[0]["few_units"]
    assert "a class is too small to say (1 unit wrong, 2 right at alpha 0)" in informed.readings[0]
    cells = dict(zip(informed.columns, informed.lines[0]))
    assert cells["SI_k1"].endswith("(few)")
    assert cells.get("sign (cal)", "–") == "–"


def test_a_small_p_is_below_a_thousandth_and_never_0(tmp_path):
    write(tmp_path, dilemma_rows(up=0.9, down=0.01))
    informed = tables(tmp_path)[0][1]
    assert dict(zip(informed.columns, informed.lines[0]))["p"] == "<0.001"
    assert "p <0.001" in informed.readings[0]


def test_a_foundation_without_a_scored_cell_is_a_dash(tiny):
    from ws.eval import EVALS

    chosen = EVALS["foundations"]
    rows = planted(
        chosen, chosen.items(tiny, None), lambda item, alpha: alpha, pmass=lambda item, alpha: float(alpha == 0)
    )
    cells = [cell for line in chosen.panels(rows, {})[0].lines for cell in line.values()]
    assert "–" in cells
    assert not any("nan" in c for c in cells)


def test_a_narrow_terminal_shows_whole_columns_and_names_those_it_has_no_room_for():
    from rich.console import Console

    from ws.results.sheet import Sheet

    names = ("method", "axis", "axis [95 % CI]", "units")
    lines = (
        ("ws:lora", "+1.23", "+1.23 [+1.00, +1.45]", "96"),
        ("a method that failed, for a long reason", "–", "–", "–"),
    )
    sheet = Sheet("title", "", names, lines, ())

    def printed(width):
        console = Console(width=width, file=io.StringIO(), highlight=False)
        console.print(sheet.rich(width))
        return console.file.getvalue()

    wide, narrow = printed(120), printed(46)
    assert "[+1.00, +1.45]" in wide and "96" in wide and "no room" not in wide
    assert "+1.23" in narrow and "[+1.00" not in narrow
    assert "no room at this width: axis [95 % CI], units" in " ".join(narrow.split())
    assert "…" not in wide + narrow
    assert "".join(["long", "reason"]) in "".join(narrow.split())
