"""The items behind a number, and the commands that print them."""

import json
import re

import numpy as np
import pytest
from planted import rows_of
from test_cli import refused
from test_steer import lowrank
from test_table import dilemma_rows, write

from ws.direction import save
from ws.results.items import moved
from ws.results.measured import measured


def test_the_unit_that_moved_most_against_the_wish_is_shown_first(tmp_path):
    ref = np.linspace(-1, 1, 40)
    pos = ref + 0.5
    pos[[7, 23]] = ref[[7, 23]] - [2, 1]
    write(tmp_path, rows_of(ref, pos, ref).sample(frac=1, random_state=0))
    (m,) = measured([tmp_path])
    units = moved(m, alpha=1.0, metric="logratio_honesty")
    assert [u.unit_id for u in units[:2]] == ["u0007", "u0023"]
    assert [u.change for u in units[:2]] == pytest.approx([-2, -1])
    assert units[0].rows[0]["after"] == pytest.approx(ref[7] - 2)
    assert moved(m, alpha=1.0, metric="logratio_honesty", sign=-1)[-1].unit_id == "u0007"


def test_the_changes_of_units_average_to_the_change_of_the_number(tmp_path):
    from ws.results.published import sheets

    write(tmp_path, dilemma_rows())
    (m,) = measured([tmp_path])
    changes = [u.change for u in moved(m, alpha=1.0, metric="logratio_honesty")]
    assert np.mean(changes) == pytest.approx(sheets([m])[0][0].records[0]["delta_pos"])


def test_a_unit_moves_by_the_rows_that_were_scored_at_both_strengths(tmp_path):
    rows = dilemma_rows()
    unit = next(u for u, part in rows[rows["alpha"] == 0].groupby("unit_id") if len(part) > 1)
    of = rows[rows["unit_id"] == unit].set_index(["row_key", "alpha"])["y"]
    lost, *others = of.index.get_level_values("row_key").unique()
    rows.loc[(rows["row_key"] == lost) & (rows["alpha"] == 1), "y"] = np.nan  # below a gate, say
    write(tmp_path, rows)
    (m,) = measured([tmp_path])
    shown = next(u for u in moved(m, alpha=1.0, metric="logratio_honesty") if u.unit_id == unit)
    assert shown.change == pytest.approx(np.mean([of[k, 1.0] - of[k, 0.0] for k in others]))
    assert shown.before == pytest.approx(np.mean([of[k, 0.0] for k in others]))
    assert of[lost, 0.0] != pytest.approx(shown.before)  # or the row that was lost would tell nothing


def test_what_is_not_there_is_said_with_what_is(tmp_path):
    write(tmp_path, dilemma_rows())
    (m,) = measured([tmp_path])
    with pytest.raises(ValueError, match=r"not measured at alpha 2; there are -1, \+1"):
        moved(m, alpha=2.0, metric="logratio_honesty")
    with pytest.raises(ValueError, match="no metric 'x'; there are logratio_honesty"):
        moved(m, alpha=1.0, metric="x")


@pytest.fixture(scope="module")
def story(tiny, tmp_path_factory):
    """A direction measured by a few evaluations, through the command line."""
    from ws.cli import main

    folder = tmp_path_factory.mktemp("report")
    file = save(lowrank(tiny, size=0.2), folder / "direction.safetensors")
    mine = folder / "mine.csv"
    mine.write_text(
        "prompt,pos_answer,neg_answer\nIs it true that the capital of Italy is Rome?,No.,Yes.\n"
        "Is it true that the capital of Italy is Milan?,Yes.,No.\n"
    )
    steered = ["--direction", file, "--out", folder / "out", "--alphas=-1,1"]
    for words in (
        ["dilemmas", *steered, "--limit", 6],
        ["dilemmas", *steered, "--limit", 6, "--n-think", 4],
        ["sycophancy", *steered, "--preset", "pub"],
        ["file", *steered, "--data", mine],
        ["file", *steered, "--data", mine, "--protocol", "file-slot/1"],
        ["perplexity", *steered],
        ["perplexity", "--alphas=0", "--out", folder / "out"],
    ):
        assert main(list(map(str, ["eval", *words]))) == 0, words
    return folder


def test_every_flag_of_eval_reaches_the_rows(story):
    found = {m.protocol.id: m for m in measured([story / "out" / "direct"])}
    assert set(found) == {"dd-1f/1", "dd-1f/1~t4", "syco-yn/pub1", "file/1", "file-slot/1", "neutral-nll/1"}
    assert found["dd-1f/1"].smoke
    assert found["dd-1f/1"].rows["unit_id"].nunique() == 6
    assert not found["file/1"].smoke
    assert found["file/1"].alphas == [-1, 0, 1]
    assert (found["dd-1f/1~t4"].rows["text"] != "").any()
    (bare,) = measured([story / "out" / "base"])
    assert (bare.method, bare.alphas) == ("base", [0.0])


def test_show_prints_question_answers_and_both_numbers(story, told):
    run = next((story / "out" / "direct").iterdir())
    code, out, _ = told("show", run, "--eval", "file/1", "--worst", 2)
    assert code == 0
    assert "Is it true that the capital of Italy is Rome?" in out
    assert "No. over Yes." in out
    assert "→" in out
    code, out, _ = told("show", run, "--eval", "dd-1f/1~t4", "--best", 1)
    assert re.search(
        r"Situation: .*\. Action: [^/]* / Answer Yes or No\.", out
    )  # lines of a question do not run together
    code, out, _ = told("show", run, "--eval", "dd-1f/1~t4", "--best", 1, "--alpha", -1, "--json")
    found = json.loads(out)
    assert (found["alpha"], len(found["units"])) == (-1, 1)
    assert {"prompt", "wanted", "unwanted", "before", "after", "text_before"} <= found["units"][0]["rows"][0].keys()


def test_show_and_table_refuse_what_is_not_there(story, told):
    run, out = next((story / "out" / "direct").iterdir()), ["--out", story / "out"]
    refused(told("show", "nothing", *out), "no run folder")
    refused(told("show", run, "--eval", "airisk"), "no airisk here; there are")
    refused(told("show", run, "--worst", 0), "--worst must be at least 1")
    refused(told("show", run, "--worst", 1, "--best", 1), "not both")
    refused(told("table", *out, "--eval", "nothing"), "nothing to tabulate for --eval nothing; there is")
    refused(told("table", *out, "--markdown", "--csv"), "one of --markdown, --csv and --json")
    refused(told("eval", "perplexity", *out, "--n-think", 3), "takes no thought")
    refused(told("eval", "dilemmas", *out, "--tasks", "a"), "--tasks does nothing for dilemmas")
    refused(
        told("eval", "lm-eval", *out, "--n-think", 3), "does nothing for lm-eval, whose questions come from --tasks"
    )


def test_table_writes_one_set_of_numbers_four_ways(story, told):
    out = ["table", "--out", story / "out", "--eval", "file,perplexity"]
    objects = json.loads(told(*out, "--json")[1])["tables"]
    rises = [r for t in objects for r in t["rows"] if r.get("metric") == "neutral_nll"]
    assert len(rises) == 1
    shown = f"{rises[0]['delta_pos']:+.2f}"
    for flags in ([], ["--markdown"]):
        code, text, _ = told(*out, *flags)
        assert code == 0
        assert shown in text
        assert "neutral_nll" in text
    lines = told(*out, "--csv")[1].splitlines()
    assert lines[0].startswith("table,eval,protocol,model")
    assert len(lines) == 1 + sum(len(t["rows"]) for t in objects)


def test_a_smoke_run_does_not_stand_for_the_full_one(tmp_path, told):
    full = write(tmp_path, dilemma_rows(), key="k1")
    rows = dilemma_rows()
    smoke = write(tmp_path, rows[rows["unit_id"] < "u0010"], limit=10, key="k2")
    write(tmp_path, rows.assign(alpha=lambda r: r["alpha"] / 4), key="k3")
    code, out, _ = told("show", full.parents[2])
    assert code == 0
    assert "of 120 units" in out
    assert "0 → +1" in out
    assert f"SMOKE: ws show {smoke}" in out
    code, out, _ = told("show", smoke)
    assert code == 0
    assert "SMOKE: not all units" in out


def test_one_of_several_sets_of_questions_can_be_chosen(tmp_path, told):
    rows = dilemma_rows()
    write(tmp_path, rows, key="k1", questions="a" * 64)
    other = write(tmp_path, rows[rows["unit_id"] < "u0050"], key="k2", questions="b" * 64)
    run = other.parents[2]
    for asked, units in (("aaaa", 120), ("bbbb", 50)):
        code, out, _ = told("show", run, "--data", asked)
        assert code == 0
        assert f"of {units} units" in out
        assert "also measured" not in out
    refused(told("show", run, "--data", "cccc"), "no evaluation on 'cccc' here; there are")


def test_what_a_prompt_says_to_a_terminal_is_not_passed_on():
    from ws.cli.screen import safe_text

    assert safe_text("a\x1b[31mred\x07\x9b2J") == "a�[31mred��2J"
    assert safe_text("two\r\nlines\tand a tab") == "two\nlines\tand a tab"


def test_the_worst_of_a_cost_is_its_largest_rise(story, told):
    run = next((story / "out" / "direct").iterdir())
    for alpha in (1, -1):
        shown = json.loads(told("show", run, "--eval", "perplexity", "--worst", 60, "--alpha", alpha, "--json")[1])
        changes = [u["change"] for u in shown["units"]]
        assert changes == sorted(changes, reverse=True)


def test_a_table_refuses_a_strength_in_one_sentence(story, told):
    out = ["table", "--out", story / "out"]
    for alpha in (0, -1):
        refused(told(*out, "--alpha", alpha), "--alpha must be above 0; measured: +1")
    refused(told(*out, "--alpha", 7), "nothing was measured at --alpha 7; measured: +1")
