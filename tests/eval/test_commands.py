"""`ws eval` as a person meets it: what is printed around the table, and what is refused."""

import json

import pytest
from test_steer import lowrank

from ws.cli import main
from ws.direction import save


@pytest.fixture
def told(capsys, tiny, tmp_path):
    """Run `ws eval` on a small random direction; its exit code, stdout and stderr."""
    file = save(lowrank(tiny, size=0.05), tmp_path / "direction.safetensors")

    def call(*arguments):
        where = ["--direction", str(file), "--out", str(tmp_path / "out"), "--alphas=-1,1"]
        code = main(["eval", *map(str, arguments), *where])
        return (code, *capsys.readouterr())

    return call


def test_what_was_left_out_and_how_little_there_is_stand_beside_the_table(told):
    code, out, err = told("airisk", "--limit", 3, "--n-think", 8)
    assert code == 0, err
    assert "SMOKE: only 3 units" in out
    assert "left out 24: Truthfulness is served by neither action (e.g. 5, 10, 17)" in out
    assert "labeled" not in out  # that is the balance of all units, of which three were asked
    assert "airisk-truth/1~t8" in out
    assert "order_bias" in out
    assert "shift: y(alpha) = a + b y(0); a moves an undecided item, b above 1 only sharpens\n" in out  # on one line


def test_json_holds_note_and_panels(told):
    code, out, err = told("foundations", "--limit", 30, "--axis", "care_auth", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["protocol"] == "mfv-json/t0"
    assert found["note"]["smoke"] is True
    assert any(title.startswith("cells that changed sides") for title in found["panels"])
    assert {r["metric"] for r in found["rows"]} >= {"common", "d_Care"}


def test_an_axis_where_there_is_none_is_refused(told):
    code, out, err = told("dilemmas", "--axis", "authority", "--limit", 2)
    assert (code, out) == (2, "")
    assert "error: --axis belongs to foundations; dilemmas has none" in err
    code, out, err = told("foundations", "--axis", "authority", "--behavior", "honesty", "--limit", 2)
    assert (code, out) == (2, "")
    assert "error: honesty makes no claim about moral foundations" in err


def test_an_unknown_value_class_is_one_sentence(told):
    code, out, err = told("airisk", "--protocol", "airisk-wit/1")
    assert (code, out) == (2, "")
    assert "the value class 'wit' is not in this data; there are airisk-care/1" in err
