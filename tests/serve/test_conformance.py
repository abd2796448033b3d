"""`ws verify --server` keeps quiet of a server that keeps its promises, and finds each of the faults that others published."""

import json

import pytest
from serve.test_server import listening
from test_steer import lowrank

from ws.cli.verify import Conformance
from ws.direction import save
from ws.endpoint import Endpoint
from ws.serve import conformance as tests_of
from ws.serve.conformance import Check, conformance, named
from ws.serve.promise import promise_of
from ws.serve.reading import Reading
from ws.serve.requests import Reader
from ws.serve.strengths import Dials
from ws.slots import Slots


@pytest.fixture(scope="module")
def direction(tiny):
    return lowrank(tiny, seed=0, size=0.5)


@pytest.fixture(scope="module")
def promise(tiny, direction):
    return promise_of(tiny, direction)


@pytest.fixture(autouse=True)
def few(monkeypatch):
    few = {"QUESTIONS": tests_of.QUESTIONS[:2], "TOKENS": 2, "LONG": 8, "STEPS": (0.2,), "ROUNDS": 2, "TOGETHER": 6}
    for name, value in few.items():
        monkeypatch.setattr(tests_of, name, value)


def broken(tiny, direction, promise, **settings):
    """The checks that a server with this direction breaks."""
    with listening(tiny, [("honesty", direction)], **settings) as (port, _):
        asked = named(Endpoint(f"http://127.0.0.1:{port}/v1", wait=0.01), None, "model", None)
        checks = conformance(asked, promise)
    assert all(c.words for c in checks)
    return {c.name for c in checks if c.verdict == "broken"}, {c.name for c in checks if c.verdict == "not checked"}


def test_our_server_keeps_every_promise(tiny, direction, promise):
    assert broken(tiny, direction, promise) == (set(), set())


def test_a_base_request_that_gets_an_adapters_change_in_a_mixed_batch_is_seen(tiny, direction, monkeypatch):
    go = Slots.go

    def contaminated(self, tokens):
        numbers = [n for _, n in self._keys]
        self._keys = [(k, n or max(numbers)) for k, n in self._keys]
        logits = go(self, tokens)
        self._keys = [(k, n) for (k, _), n in zip(self._keys, numbers)]
        return logits

    monkeypatch.setattr(Slots, "go", contaminated)
    found, _ = broken(tiny, direction, None)
    assert "a base request among others is what it is alone" in found


@pytest.mark.slow
def test_a_scale_that_is_wrong_by_a_constant_is_seen_where_the_direction_is_at_hand(tiny, direction, promise):
    assert "as large as promised" in broken(tiny, direction * 2**0.5, promise)[0]
    assert broken(tiny, direction * 2**0.5, None) == (set(), {"as large as promised"})


def test_a_memory_of_prompts_that_forgets_under_which_strength_they_were_read_is_seen(
    tiny, direction, promise, monkeypatch
):
    begin = Reading.__init__
    monkeypatch.setattr(
        Reading, "__init__", lambda self, m, pieces, ids, strengths, *n: begin(self, m, pieces, ids, (), *n)
    )
    found, _ = broken(tiny, direction, promise)
    assert "after each other" in found


def turned(monkeypatch, how):
    strengths = Dials.strengths
    monkeypatch.setattr(
        Dials,
        "strengths",
        lambda self, *a: tuple((n, x) for n, x in ((n, how(x)) for n, x in strengths(self, *a)) if x),
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "name"),
    [
        (abs, "sign and order"),
        (lambda x: x and 1.0, "sign and order"),
        (lambda x: x**3, "a line near 0"),
        (lambda x: 0.0, "a strength moves it"),
    ],
)
def test_strengths_that_mean_something_else_are_seen(tiny, direction, monkeypatch, how, name):
    turned(monkeypatch, how)
    assert name in broken(tiny, direction, None)[0]


@pytest.mark.slow
def test_a_server_that_answers_for_names_it_does_not_have_is_seen(tiny, direction, monkeypatch):
    wanted = Reader.chat

    def lenient(self, body, client):
        known = body.get("model", "").partition("@")[0] == "honesty" and "much" not in body["model"]
        return wanted(self, body if known else {**body, "model": "base"}, client)

    monkeypatch.setattr(Reader, "chat", lenient)
    assert "unknown names are refused" in broken(tiny, direction, None)[0]


def test_the_command_prints_a_verdict_for_people_and_for_programs(tiny, direction, told, tmp_path):
    file = save(direction, tmp_path / "direction.safetensors")
    with listening(tiny, [("honesty", direction * 3.0)]) as (port, _):
        code, out, err = told("verify", file, "--server", f"http://127.0.0.1:{port}", "--how", "steer")
    assert code == 1
    assert "broken       as large as promised: at" in out
    saw = [line.partition(": ")[2] for line in out.splitlines()]
    assert len(set(saw)) == len(saw)  # each promise says what was seen of it
    assert "as large as promised" in err
    code, _, err = told("verify", "--server", f"http://127.0.0.1:{port}")
    assert code == 1
    assert "there is no server" in err
    assert told("verify")[0] == told("verify", file, "--name", "x")[0] == 2
    result = Conformance("honesty", [Check("a", "kept", "it is"), Check("b", "broken", "it is not")])
    assert json.dumps(result.as_json())
    assert result.as_json()["kept"] is False
