"""Bad requests by the hundred: none crashes the server, none is told a path or another's text, none keeps a row."""

import json
import random
import re
import socket
import time

import pytest
from conftest import LONG
from hypothesis import HealthCheck, given, settings
from serve.test_server import KENYA, client_of, listening, send, wait_for
from test_steer import lowrank

SECRET = "The capital of Kenya is Nairobi"
JUNK = [None, True, False, 0, -1, 1.5, 1e308, 10**40, "", "x", "x" * 3000, "\x00", "é\u202e🙂", [], {}, [[]], [None]]
JUNK += [
    {"a": {"b": []}},
    "../../etc/passwd",
    "/home/x.safetensors",
    "base@",
    "honesty@1e999",
    "honesty@1+",
    "+",
    "@",
    "-1",
]
JUNK += [
    "honesty@0.5",
    {"honesty": 0.5},
    {"honesty": "x"},
    {"": 0},
    [{"role": "user", "content": ""}],
    [{"role": 1}],
    "{{x}}",
]
FIELDS = [
    "model",
    "messages",
    "prompt",
    "steer",
    "steer_from",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "seed",
    "n",
    "stop",
]
FIELDS += [
    "max_tokens",
    "max_completion_tokens",
    "logprobs",
    "top_logprobs",
    "stream",
    "stream_options",
    "tools",
    "tool_choice",
]
FIELDS += ["kl", "echo", "ignore_eos", "chat_template_kwargs", "logit_bias", "response_format", "user", "nonsense", "é"]
PATH = re.compile(r"/(home|work|tmp|usr|root|opt|var)/|Traceback|\.py\b|site-packages")


def bad(draw: random.Random) -> tuple[str, bytes, dict[str, bytes]]:
    """An address, a body and headers that are seldom right."""
    place = draw.choice(["/v1/chat/completions", "/v1/completions"])
    body: object = {"messages": KENYA} if "chat" in place else {"prompt": "What color"}
    assert isinstance(body, dict)
    for _ in range(draw.randrange(4)):
        body[draw.choice(FIELDS)] = draw.choice(JUNK)
    raw = json.dumps(body).encode()
    how = draw.random()
    if how < 0.1:
        raw = raw[: draw.randrange(len(raw))]
    elif how < 0.2:
        at = draw.randrange(len(raw))
        raw = raw[:at] + draw.randbytes(draw.randrange(1, 9)) + raw[at:]
    elif how < 0.25:
        raw = draw.randbytes(draw.randrange(200))
    names = ["content-type", "authorization", "origin", "accept", "x-forwarded-for", "host"]
    junk = [b"", b"x" * 500, b"text/plain", b"\xff\xfe", b"Bearer ", b"http://localhost:8000", b"localhost:8000"]
    heads = {draw.choice(names): draw.choice(junk) for _ in range(draw.randrange(3))}
    return place, raw, heads


def hammer(client, n: int, seed: int) -> dict[int, int]:
    draw, statuses = random.Random(seed), {}
    for i in range(n):
        place, raw, heads = bad(draw)
        reply = client.post(place, content=raw, headers=heads)
        statuses[reply.status_code] = statuses.get(reply.status_code, 0) + 1
        assert reply.status_code < 500, (place, raw, heads, reply.text)
        assert not PATH.search(reply.text.replace("/home/x.safetensors", "")), (raw, reply.text)
        assert SECRET not in reply.text
        if reply.status_code != 200:
            assert reply.json()["error"]["message"], (raw, reply.text)
        if i % 50 == 0:  # somebody else, whose answer no other may see
            said = client.post("/v1/chat/completions", json={"messages": KENYA, "temperature": 0, "max_tokens": 12})
            assert SECRET in said.text
    wait_for(lambda: client.server.worker.answers == 0)
    return statuses


@pytest.fixture(scope="module")
def directions(tiny):
    return [("honesty", lowrank(tiny, seed=0, size=0.3))]


def few_tokens(monkeypatch):
    """Answers of one token where a request does not say, so that those that are answered take no time."""
    monkeypatch.setattr("ws.serve.requests.CHAT_TOKENS", 1)
    monkeypatch.setattr("ws.serve.requests.COMPLETION_TOKENS", 1)


def test_hundreds_of_bad_requests_are_each_answered_by_a_sentence(tiny, directions, monkeypatch):
    few_tokens(monkeypatch)
    with client_of(tiny, directions, max_new_tokens=12, max_body=4000) as client:
        statuses = hammer(client, 300, 0)
    assert {200, 400, 403, 404} <= statuses.keys()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_thousands_of_bad_requests_crash_and_leak_nothing(tiny, directions, monkeypatch):
    """Ten thousand of them where `just long` asks; a thousand otherwise."""
    few_tokens(monkeypatch)
    with client_of(tiny, directions, max_new_tokens=12, max_body=4000) as client:
        statuses = hammer(client, 10_000 if LONG else 1000, 1)
    assert {200, 400, 403, 404, 413} <= statuses.keys()


def raw_requests(draw: random.Random, n: int) -> list[bytes]:
    """What is hardly HTTP."""
    whole = b'POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 40\r\n\r\n{"messages": '
    lines = [
        b"GET / HTTP/9.9\r\n\r\n",
        b"\r\n\r\n",
        b"GET " + b"x" * 9000,
        b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    ]
    lines += [b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n"]
    kinds = [lambda: draw.choice(lines), lambda: whole[: draw.randrange(len(whole))], lambda: draw.randbytes(300)]
    return [draw.choice(kinds)() for _ in range(n)]


@pytest.mark.parametrize("n", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_what_is_hardly_http_and_clients_that_vanish_leave_a_server_that_answers(tiny, directions, n):
    with listening(tiny, directions, rows=4, queue=n) as (port, server):
        for raw in raw_requests(random.Random(n), n):
            with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
                connection.sendall(raw)
        gone = [send(port, {"model": f"honesty@{i % 3 - 1}", "max_tokens": 900, "stream": True}) for i in range(n)]
        wait_for(lambda: server.worker.counts.new_tokens > 20)
        for connection in gone:
            connection.close()
        wait_for(lambda: server.worker.answers == 0, 60)
        time.sleep(0.05)
        with send(port, {"max_tokens": 2}) as connection:
            assert b"200 OK" in connection.recv(65536)


@pytest.mark.slow
@pytest.mark.peers
def test_schemathesis_finds_no_request_of_the_servers_own_description_that_it_fails_at(tiny, directions, monkeypatch):
    schemathesis = pytest.importorskip("schemathesis")
    few_tokens(monkeypatch)
    with client_of(tiny, directions, max_new_tokens=4) as client:
        schema = schemathesis.openapi.from_dict(client.get("/openapi.json").json())
        asked = []
        for operation in schema.get_all_operations():
            one = operation.ok()

            @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), database=None)
            @given(case=one.as_strategy())
            def ask(case):
                body = {"json": case.body} if case.method == "POST" else {}
                reply = client.request(case.method, case.formatted_path, **body)
                asked.append(reply.status_code)
                assert reply.status_code < 500, (case.body, reply.text)

            ask()
    assert len(asked) > 60
    assert {200, 400} <= set(asked)
