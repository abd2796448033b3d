"""`ws serve` as a person runs it: it says where it is, and Ctrl-C ends it in order."""

import json
import os
import re
import shutil
import signal

import pytest
from forks import command
from serve.test_server import wait_for
from test_steer import lowrank

from ws import connect
from ws.direction import Direction, save
from ws.serve.listen import bound
from ws.serve.settings import KEY


def test_the_command_serves_directions_by_their_names_as_they_were_read_until_ctrl_c(tiny, tmp_path):
    plain = lowrank(tiny, size=1.0)
    save(Direction(plain.forms, {**plain.provenance, "training": {"behavior": "honesty"}}), tmp_path / "a.safetensors")
    file, copy = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    shutil.copy(file, copy)
    with command("serve", file, copy, "--port", 0, "--json", env={KEY: "secret\n"}) as server:
        wait_for(lambda: "Ctrl-C ends" in server.err, 120)
        address = re.search(r"tiny with honesty, honesty2 at (http://127.0.0.1:\d+)/v1", server.err)[1]
        client = connect(address, key="secret")
        os.truncate(copy, 100)  # as `cp` of another file over it begins
        whole, cut, base = (client.chat("Who are you?", steer=s) for s in ({"honesty": 1}, {"honesty2": 1}, {}))
        assert whole == cut != base
        server.send_signal(signal.SIGINT)
        out, err = server.communicate(timeout=60)
    assert (server.returncode, err.count("\n")) == (0, 1)
    assert json.loads(out)["requests"] == {"200": 4}


def test_a_port_that_is_taken_or_a_method_that_is_no_direction_is_one_sentence(told, tmp_path):
    with bound("127.0.0.1", 0) as place:
        code, _, err = told("serve", "--port", place.getsockname()[1])
    assert (code, err.count("\n")) == (2, 1)
    assert "address already in use; --port 0 takes a free one" in err
    code, _, err = told("serve", "--host", "0.0.0.0")
    assert code == 2
    assert KEY in err
    code, _, err = told("serve", "nobody", "--out", tmp_path)
    assert code == 2
    assert "'nobody'" in err


def test_a_direction_of_another_model_is_named_and_no_option_that_is_not_there(tiny, told, tmp_path):
    plain = lowrank(tiny)
    about = {"base": {**plain.provenance["base"], "id": "smollm2", "fingerprint": "f" * 64}}
    file = save(Direction(plain.forms, about), tmp_path / "other.safetensors")
    code, out, err = told("serve", save(plain, tmp_path / "mine.safetensors"), file, "--model", "tiny", "--port", 0)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert f"{file} was made on smollm2, and tiny is served" in err
    assert "origin" not in err


@pytest.mark.parametrize("verb", ["serve", "chat"])
def test_a_direction_that_is_named_twice_is_refused_before_a_model_is_loaded(tiny, told, tmp_path, monkeypatch, verb):
    monkeypatch.setattr("ws.study.planning.load_lazily", lambda *a, **k: pytest.fail("a model was loaded"))
    file = save(lowrank(tiny), tmp_path / "direction.safetensors")
    code, out, err = told(verb, file, file)
    assert (code, out, err) == (2, "", f"error: {file} stands there twice; name it once\n")
    code, _, err = told(verb, file, "--direction", tmp_path)
    assert (code, err) == (2, f"error: {file} and {tmp_path} are the same direction; name it once\n")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--rows", 0), "--rows must lie between 1 and 4096"),
        (("--port", 70000), "--port must lie between 0 and 65535"),
        (("--max-alpha", -1), "--max-alpha must lie between 0"),
    ],
)
def test_limits_that_cannot_be_are_refused_before_a_model_is_loaded(told, monkeypatch, flags, words):
    monkeypatch.setattr("ws.study.planning.load_lazily", lambda *a, **k: pytest.fail("a model was loaded"))
    code, out, err = told("serve", *flags)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert words in err


@pytest.mark.parametrize("text", ["a b", "", "é"])
def test_a_key_that_no_header_can_carry_is_refused(told, text):
    assert told("serve", "--key", text)[0] == 2
