"""`ws table` is one screen: a line per run or method, whole at 80 columns, the newest first, nothing mixed in unasked."""

import json
import re

import pytest
from test_cli import refused
from test_steer import lowrank
from test_table import at_strengths, dilemma_rows, sought, write

from ws.direction import Direction, save
from ws.records import write_json
from ws.results.layouts.overview import word
from ws.results.measured import measured
from ws.results.overview import entries


def of_time(folder, when):
    manifest = json.loads((folder / "manifest.json").read_text())
    write_json(folder / "manifest.json", {**manifest, "finished": when})


@pytest.fixture
def screen(told, monkeypatch):
    """What `ws table` prints on a terminal of so many columns."""

    def printed(*arguments, columns=80):
        monkeypatch.setenv("COLUMNS", str(columns))
        code, out, err = told("table", *arguments)
        assert code == 0, err
        return out

    return printed


@pytest.mark.parametrize("columns", [80, 120])
def test_a_line_holds_one_run_with_its_interval_and_verdict_at_any_width(tmp_path, screen, columns):
    write(tmp_path, dilemma_rows(up=0.9), method="ws:lora")
    write(tmp_path, dilemma_rows(1, up=0.05, down=0.05), method="ws:delora", behavior="sycophancy")
    out = screen("--out", tmp_path, columns=columns)
    (line,) = [x for x in out.splitlines() if "ws:lora" in x]
    assert re.search(r"honesty .* [+-]\d\.\d\d \[[+-]\d\.\d\d, [+-]\d\.\d\d\] .*as intended", line)
    table = out.split("•")[0].splitlines()
    assert len([x for x in table if "ws:" in x]) == 2
    assert len([x for x in table if x.strip()]) <= 5  # title, head, two lines, and which columns a wider one has
    assert all(len(x.rstrip()) <= columns for x in table)


def test_the_newest_stands_first(tmp_path):
    for n, method in enumerate(("ws:old", "ws:new", "ws:older")):
        of_time(write(tmp_path, dilemma_rows(n), method=method), f"2026-0{(2, 3, 1)[n]}-01T00:00:00Z")
    assert [e.of.method for e in entries(measured([tmp_path]))] == ["ws:new", "ws:old", "ws:older"]


def test_the_effect_is_the_paired_change_from_end_to_end_toward_the_pole_that_is_wanted(tmp_path):
    rows = dilemma_rows()
    write(tmp_path, rows)
    (entry,) = entries(measured([tmp_path]))
    y = rows.pivot_table(index="row_key", columns="alpha", values="y")
    assert entry.effect.mean == pytest.approx((y[1.0] - y[-1.0]).mean())
    assert entry.effect.ci_lo < entry.effect.mean < entry.effect.ci_hi
    write(tmp_path / "back", rows.assign(y=-rows["y"]))
    (back,) = entries(measured([tmp_path / "back"]))
    assert back.effect.mean == pytest.approx(-entry.effect.mean)
    assert (word(entry), word(back)) == ("as intended", "REVERSED")


def test_other_output_folders_inside_are_named_and_not_mixed_in(tmp_path, screen):
    write(tmp_path, dilemma_rows())
    write(tmp_path / "smoke", dilemma_rows(1), method="ws:inner")
    out = screen("--out", tmp_path)
    assert "ws:inner" not in out
    assert "other output folders inside are left out" in out
    assert "smoke (1 evaluation)" in " ".join(out.split())
    assert "ws:inner" in screen("--out", tmp_path / "smoke")


def test_a_smoke_run_is_a_line_only_where_there_is_nothing_else_and_says_so(tmp_path):
    write(tmp_path, dilemma_rows(), key="k1")
    rows = dilemma_rows()
    few = rows[rows["unit_id"] < "u0015"]
    write(tmp_path, few, key="k2", limit=15)
    (entry,) = entries(measured([tmp_path]))
    assert word(entry) == "as intended"
    write(tmp_path / "only", few, limit=15)
    assert [word(e) for e in entries(measured([tmp_path / "only"]))] == ["SMOKE"]


def test_a_direction_that_was_measured_as_a_run_and_as_a_file_is_one_line(tmp_path):
    write(tmp_path, dilemma_rows(), key="k1")
    alone = write(tmp_path / "x", dilemma_rows(), key="k2").parents[2]
    (tmp_path / "direct").mkdir()
    alone.rename(tmp_path / "direct" / "0123456789ab")
    (entry,) = entries(measured([tmp_path]))
    assert entry.behavior == "honesty"


def test_a_direction_file_says_which_behavior_it_is_of_and_the_table_shows_it(tiny, tmp_path, told):
    plain = lowrank(tiny, size=0.05)
    named = Direction(plain.forms, {**plain.provenance, "training": {"behavior": "honesty"}})
    for direction, file in ((named, "named"), (plain, "plain")):
        save(direction, tmp_path / f"{file}.safetensors")
        asked = ("--direction", tmp_path / f"{file}.safetensors", "--limit", 2, "--alphas=1")
        assert told("eval", "dilemmas", *asked, "--out", tmp_path / file)[0] == 0
    assert [m.behavior for m in measured([tmp_path / "named"]) if m.method != "base"] == ["honesty"]
    assert [m.behavior for m in measured([tmp_path / "plain"]) if m.method != "base"] == [None]
    assert "honesty" in told("table", "--out", tmp_path / "named")[1]


def test_a_strength_that_missed_its_budget_is_called_unmatched(tmp_path):
    rows = at_strengths(dilemma_rows(), neg=-0.5, pos=0.5)
    write(tmp_path, rows, strength=sought(-0.5, 0.5, "matched", "unmatched (audit)"))
    assert [word(e) for e in entries(measured([tmp_path]))] == ["unmatched"]


def test_draws_of_one_random_control_are_one_line_with_their_range(tmp_path, screen):
    for n in range(3):
        write(tmp_path, dilemma_rows(n, up=0.1 * n, down=0.1), method=f"random:act:{n}", run=f"tiny-s{n}")
    write(tmp_path, dilemma_rows(up=0.9))
    out = screen("--out", tmp_path)
    (line,) = [x for x in out.splitlines() if "random:act" in x]
    assert re.search(r"random:act x3 .*[+-]\d\.\d\d…[+-]\d\.\d\d", line)
    assert len(json.loads(screen("--out", tmp_path, "--json"))["runs"]) == 4


def test_more_runs_than_a_screen_holds_are_counted_and_all_in_json(tmp_path, screen):
    for n in range(23):
        write(tmp_path, dilemma_rows(n), run=f"tiny-s0-{n:04d}", method=f"ws:m{n:02d}")
    out = screen("--out", tmp_path)
    assert len(re.findall(r"ws:m\d\d", out)) == 20
    assert "3 older of 23 are not shown" in out
    assert len(json.loads(screen("--out", tmp_path, "--json"))["runs"]) == 23


def test_every_table_is_one_flag_away(tmp_path, screen):
    folder = write(tmp_path, dilemma_rows())
    assert "SI_k2" not in screen("--out", tmp_path)
    for flags in (["--full"], ["--eval", "dilemmas"], ["--run", folder.parents[2].resolve()], ["--markdown"]):
        assert "SI_k" in screen("--out", tmp_path, *flags, columns=200)


def test_an_output_folder_that_is_not_there_is_called_one(tmp_path, told):
    code, _, err = told("table", "--out", tmp_path / "nowhere")
    assert (code, err) == (
        2,
        f"error: there is no output folder {tmp_path / 'nowhere'} yet; `ws replicate` makes the first run in it\n",
    )


def test_nothing_but_the_bare_model_is_no_table(tmp_path, told):
    rows = dilemma_rows()
    write(tmp_path, rows[rows["alpha"] == 0])
    refused(told("table", "--out", tmp_path), "only strength 0 was measured")
