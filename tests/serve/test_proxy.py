"""`ws serve --backend llama.cpp`: our strengths, llama.cpp's scales; against a stand-in of its server, and (peers) the real one."""

import contextlib
import json
import os
import random
import re
import shutil
import signal
import sys
import threading
import urllib.request
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest
import small
import torch
from forks import command
from gguf_files import write_gguf
from serve import stub_llama
from serve.stub_llama import Stub
from serve.test_server import listening_for, send, wait_for
from starlette.testclient import TestClient
from test_steer import lowrank

from ws.direction import Direction, save
from ws.endpoint import Endpoint
from ws.errors import Unsupported
from ws.export import export
from ws.export.gguf import FILE
from ws.models.load import load
from ws.serve import conformance as tests_of
from ws.serve.conformance import Asked, conformance, named
from ws.serve.llama_cpp import LlamaCpp, command_of, llama_cpp
from ws.serve.proxy import Proxy
from ws.serve.settings import Serving
from ws.serve.strengths import dials_of
from ws.steer import steer

KENYA = [{"role": "user", "content": "What is the capital of Kenya?"}]


@pytest.fixture(scope="module")
def dials(tiny):
    return dials_of("tiny", [("honesty", lowrank(tiny)), ("authority", lowrank(tiny, 1))], None)


@contextlib.contextmanager
def proxied(dials, **settings):
    """(client, stub) of a proxy in front of a stand-in."""
    stub = Stub("k3y").start()
    try:
        proxy = Proxy(dials, Serving(**settings), LlamaCpp(stub.port, "k3y"), {"honesty": ["Who are you?"]})
        with TestClient(proxy.app, base_url="http://localhost:8000", raise_server_exceptions=False) as client:
            client.proxy = proxy
            yield client, stub
    finally:
        stub.shutdown()
        stub.server_close()


def chat(client, **body):
    return client.post("/v1/chat/completions", json={"messages": KENYA, "max_tokens": 3, **body})


def refusal(reply):
    return reply.status_code, reply.json()["error"]["message"]


def test_names_become_scales_of_all_adapters_and_no_prompt_is_taken_from_a_memory(dials):
    with proxied(dials) as (client, stub):
        for body, scales, name in (
            ({"model": "honesty@-0.5"}, [-0.5, 0], "honesty@-0.5"),
            ({"model": "base", "steer": {"authority": 1.5}}, [0, 1.5], "authority@1.5"),
            ({"model": "honesty@0.5+authority@-1"}, [0.5, -1], "authority@-1+honesty@0.5"),
            ({}, [0, 0], "base"),
        ):
            reply = chat(client, **body)
            assert reply.status_code == 200, reply.text
            assert reply.json()["model"] == name
            sent = stub.bodies.pop()
            assert sent["lora"] == [{"id": n, "scale": s} for n, s in enumerate(scales)]
            assert sent["cache_prompt"] is False
            assert "steer" not in sent
        assert client.proxy.new_tokens == 12


def test_what_a_request_leaves_out_is_what_it_is_for_our_own_server(dials):
    with proxied(dials, max_new_tokens=300) as (client, stub):
        client.post("/v1/chat/completions", json={"messages": KENYA, "temperature": None})
        sent = stub.bodies.pop()
        assert [sent[k] for k in ("temperature", "top_p", "top_k", "min_p", "max_tokens")] == [1, 1, 0, 0, 256]
        client.post("/v1/completions", json={"prompt": "Kenya", "temperature": 0.5, "frequency_penalty": 0.1})
        sent = stub.bodies.pop()
        assert (sent["temperature"], sent["max_tokens"], sent["frequency_penalty"]) == (0.5, 16, 0.1)
        assert refusal(chat(client, max_tokens=301)) == (400, "max_tokens is a whole number from 1 to 300")
        assert chat(client, max_tokens=None, max_completion_tokens=7).status_code == 200
        assert stub.bodies.pop()["max_tokens"] == 7


def test_what_would_be_answered_by_another_model_than_was_asked_for_never_reaches_llama_cpp(dials):
    with proxied(dials) as (client, stub):
        for body, status, says in (
            ({"steeer": {"honesty": 1}}, 400, "did you mean steer"),
            ({"model": "honest@1"}, 404, "did you mean honesty"),
            ({"model": "honesty@2.5"}, 400, "from -2 to 2"),
            ({"lora": [{"id": 0, "scale": 9}]}, 400, "no field lora"),
            ({"cache_prompt": True}, 400, "no field cache_prompt"),
            ({"kl": True}, 400, "no field kl"),
            ({"steer_from": "answer"}, 400, "no field steer_from"),
            ({"best_of": 2}, 400, "best_of is not done here"),
        ):
            got, words = refusal(chat(client, **body))
            assert (got, says in words) == (status, True), words
        assert not stub.bodies


def test_the_listing_is_that_of_our_own_server_and_names_no_file(dials):
    with proxied(dials) as (client, _):
        listing = client.get("/v1/models").json()["data"]
        assert [m["id"] for m in listing] == ["base", "honesty", "authority"]
        assert listing[1]["alpha"] == {"min": -2, "max": 2}
        assert listing[1]["questions"] == ["Who are you?"]
        assert client.get("/health").json() == {"status": "ok"}
        assert client.get("/lora-adapters").status_code == 404


def test_a_stream_comes_through_in_events_that_say_their_strength_and_no_path(dials):
    with proxied(dials) as (client, _):
        reply = chat(client, model="honesty@1", stream=True)
        *events, last = [e.removeprefix("data: ") for e in reply.text.split("\n\n") if e]
        chunks = [json.loads(e) for e in events]
        assert last == "[DONE]"
        assert "secret" not in reply.text
        assert {c["model"] for c in chunks} == {"honesty@1"}
        assert chunks[0]["ws"]["steer"] == {"honesty": 1.0}
        text = "".join(c["choices"][0]["delta"]["content"] for c in chunks)
        assert text == chat(client, model="honesty@1").json()["choices"][0]["message"]["content"]
        assert text != chat(client, model="honesty@-1").json()["choices"][0]["message"]["content"]


def test_a_stream_that_llama_cpp_breaks_off_says_so_and_is_not_done(dials):
    with proxied(dials) as (client, _):
        reply = chat(client, messages=[{"role": "user", "content": "vanish"}], stream=True)
        *_, last = [e.removeprefix("data: ") for e in reply.text.split("\n\n") if e]
        assert "broke off in the middle" in json.loads(last)["error"]["message"]


def test_what_llama_cpp_refuses_is_said_in_its_words_and_where_it_fails_nobody_is_to_blame(dials):
    with proxied(dials) as (client, stub):
        said = [refusal(chat(client, messages=[{"role": "user", "content": c}])) for c in ("refuse", "fail")]
        assert said == [(400, "llama.cpp says: the template refuses this"), (502, "llama.cpp says: it failed")]
        stub.shutdown()
        stub.server_close()
        assert refusal(chat(client))[0] == 502


def test_a_key_is_asked_for_and_pages_of_others_are_not_answered(dials):
    with proxied(dials, key="secret") as (client, stub):
        assert refusal(chat(client))[0] == 401
        assert client.get("/v1/models").status_code == 401
        client.headers["Authorization"] = "Bearer secret"
        assert chat(client).status_code == 200
    with proxied(dials) as (client, stub):
        client.headers["Origin"] = "http://elsewhere.example"
        assert refusal(chat(client))[0] == 403
        assert not stub.bodies


def test_clients_that_vanish_make_room_and_those_too_many_are_told_to_come_back(dials):
    stub = Stub("k3y").start()
    proxy = Proxy(dials, Serving(rows=2, queue=1), LlamaCpp(stub.port, "k3y"))
    with listening_for(proxy.app) as port:
        stub.gate.clear()
        waiting = [send(port, {"max_tokens": 4, "ignore_eos": True, "stream": i == 0}) for i in range(3)]
        wait_for(lambda: len(stub.bodies) == 3)
        with send(port, {"max_tokens": 4}) as late:
            head = late.recv(4096).decode()
        assert "429" in head.splitlines()[0]
        assert "retry-after: 1" in head.lower()
        for connection in waiting:
            connection.close()
        wait_for(lambda: not proxy._exchanges)
        stub.gate.set()
        with send(port, {"max_tokens": 4}) as again:
            assert "200" in again.recv(4096).decode().splitlines()[0]
    stub.shutdown()
    stub.server_close()


def test_our_proxy_keeps_every_promise_that_llama_cpps_own_memory_breaks(dials, monkeypatch):
    few = {"QUESTIONS": tests_of.QUESTIONS[:2], "TOKENS": 2, "LONG": 4, "ROUNDS": 2, "TOGETHER": 4}
    for name, value in few.items():
        monkeypatch.setattr(tests_of, name, value)
    stub = Stub("none").start()
    with listening_for(Proxy(dials, Serving(), LlamaCpp(stub.port, "none")).app) as port:
        ours = conformance(named(Endpoint(f"http://127.0.0.1:{port}/v1"), "honesty", "model", None))
        assert {c.verdict for c in ours if c.name != "as large as promised"} == {"kept"}
        theirs = conformance(named(Endpoint(f"http://127.0.0.1:{stub.port}/v1", key="none"), "0", "lora", None))
        assert "broken" in {c.verdict for c in theirs}
    stub.shutdown()
    stub.server_close()


class Rounding(Stub):
    """A server that rounds what it computes: otherwise at every strength, and otherwise where long answers come together."""

    def __init__(self, *args):
        super().__init__(*args, forgetful=False)
        self.asked = Counter()

    def scales(self, body, prompt):
        scales = super().scales(body, prompt)
        if body["max_tokens"] < tests_of.LONG:
            return scales
        self.asked[key := f"{prompt}/{scales}"] += 1  # the first is asked alone
        return [*scales, 1e-9 * (self.asked[key] > 1)]

    def logprobs(self, prompt, scales, position):
        draw = random.Random(f"{prompt}/{position}/{scales}")
        return {word: x + draw.uniform(-0.1, 0.1) for word, x in super().logprobs(prompt, scales, position).items()}


def rounded(monkeypatch, stub, size=1.0):
    """The verdicts on a server that rounds, by the names of the checks."""
    for name, value in {"QUESTIONS": tests_of.QUESTIONS[:3], "TOKENS": 2, "LONG": 4, "ROUNDS": 2}.items():
        monkeypatch.setattr(tests_of, name, value)
    scales = stub.scales
    stub.scales = lambda body, prompt: [size * x for x in scales(body, prompt)]
    stub.start()
    asked = Asked(Endpoint(f"http://127.0.0.1:{stub.port}/v1", key="none"), "0", how="lora")
    verdicts = {c.name: (c.verdict, c.words) for c in conformance(asked)}
    stub.shutdown()
    stub.server_close()
    return verdicts


def test_a_server_that_rounds_keeps_its_promises_at_steps_above_its_roundings(monkeypatch):
    verdicts = rounded(monkeypatch, Rounding("none"))
    assert {v for v, _ in verdicts.values()} == {"kept", "not checked"}
    assert "beside strength +0.5" in verdicts["sign and order"][1]


class Jumping(Rounding):
    """A server whose long answers, when asked again, are those of another strength, also beside their like."""

    def scales(self, body, prompt):
        scales = super().scales(body, prompt)
        return [-2.0, *scales[1:]] if scales[-1] else scales


def test_what_is_as_wrong_beside_its_like_and_larger_than_a_rounding_is_broken_all_the_same(monkeypatch):
    verdicts = rounded(monkeypatch, Jumping("none"))
    assert verdicts["a base request among others is what it is alone"][0] == "broken"
    assert verdicts["sign and order"][0] == "kept"


def test_where_roundings_hide_every_strength_nothing_is_said_of_it(monkeypatch):
    verdicts = rounded(monkeypatch, Rounding("none"), size=0.1)
    assert verdicts["sign and order"][0] == verdicts["a line near 0"][0] == "not checked"
    assert "hide a change" in verdicts["sign and order"][1]


def test_a_sign_that_a_rounding_server_drops_is_still_seen(monkeypatch):
    stub = Rounding("none")
    scales = stub.scales
    stub.scales = lambda body, prompt: [abs(x) for x in scales(body, prompt)]
    assert rounded(monkeypatch, stub)["sign and order"][0] == "broken"


# ---------------------------------------------------------------- the process


@pytest.fixture
def program(tmp_path, monkeypatch):
    """The stand-in as a program on the PATH."""
    file = tmp_path / "bin" / "llama-server"
    file.parent.mkdir()
    file.write_text(f'#!/bin/sh\nexec {sys.executable} {Path(stub_llama.__file__)} "$@"\n')
    file.chmod(0o755)
    monkeypatch.setenv("PATH", f"{file.parent}:{os.environ['PATH']}")
    return file


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_the_command_starts_llama_cpp_with_its_adapters_and_ends_it(tiny, tmp_path, program, end):
    plain = lowrank(tiny)
    save(Direction(plain.forms, {**plain.provenance, "training": {"behavior": "honesty"}}), tmp_path / "a.safetensors")
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    words = ["serve", tmp_path / "a.safetensors", "--model", "tiny", "--backend", "llama.cpp"]
    with command(*words, "--gguf", tmp_path / "m.gguf", "--port", 0, "--json") as server:
        wait_for(lambda: "Ctrl-C ends" in server.err or server.poll() is not None, 120)
        address = re.search(r"m.gguf in llama.cpp with honesty at (http://127.0.0.1:\d+)/v1", server.err)[1]
        body = json.dumps({"model": "honesty@1", "messages": KENYA, "max_tokens": 3}).encode()
        with urllib.request.urlopen(urllib.request.Request(f"{address}/v1/chat/completions", body), timeout=60) as r:
            assert json.load(r)["model"] == "honesty@1"
        (llama,) = psutil.Process(server.pid).children()
        server.send_signal(end)
        out, _ = server.communicate(timeout=60)
    assert not llama.is_running()
    assert json.loads(out)["new_tokens"] == 3


def test_a_model_that_llama_cpp_does_not_take_is_said_in_its_words(tmp_path, program):
    with (
        pytest.raises(Unsupported, match=r"does not run broken.gguf: .*it is broken"),
        llama_cpp(tmp_path / "broken.gguf", [], rows=1, threads=1),
    ):
        pass
    assert not [t for t in threading.enumerate() if "llama" in t.name]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("kill -ILL $$", "it was ended by SIGILL: that build is for another processor"),
        ("kill -KILL $$", "it was ended by SIGKILL"),
        ("echo loading; exit 3", "it ended with code 3, and last said: loading"),
        ("echo E failed to load; echo I cleaning up; exit 1", "E failed to load"),
        ("exit 3", "it ended with code 3"),
    ],
)
def test_a_llama_cpp_that_ends_without_an_error_is_told_by_how_it_ended(tmp_path, program, line, words):
    program.write_text(f"#!/bin/sh\n{line}\n")
    with pytest.raises(Unsupported) as refusal, llama_cpp(tmp_path / "m.gguf", [], rows=1, threads=1):
        pass
    assert str(refusal.value) == f"llama.cpp does not run m.gguf: {words}"


def test_without_llama_cpp_both_ways_to_get_it_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(Unsupported, match="put its llama-server on the PATH, or `pip install xllamacpp`"):
        command_of(tmp_path / "m.gguf", [], 1, rows=1, threads=1)


@pytest.mark.parametrize("words", [("--backend", "llama.cpp"), ("--gguf", "m.gguf"), ("--backend", "vllm")])
def test_a_backend_and_its_file_are_named_together(told, words):
    code, _, err = told("serve", *words)
    assert (code, err.count("\n")) == (2, 1)


# ---------------------------------------------------------------- llama.cpp itself


def firsts(choice):
    """The log-probabilities of the likeliest first tokens, by token."""
    return {t["id"]: t["logprob"] for t in choice["logprobs"]["content"][0]["top_logprobs"]}


@pytest.mark.peers
@pytest.mark.skipif(not (shutil.which("llama-server") or find_spec("xllamacpp")), reason="pip install xllamacpp")
def test_before_llama_cpp_itself_every_strength_is_that_of_the_steered_model(tiny, tmp_path):
    network = small.model("llama", vocabulary=len(tiny.tokenizer))
    network.save_pretrained(tmp_path / "base")
    tiny.tokenizer.save_pretrained(tmp_path / "base")
    write_gguf("llama", tmp_path / "m.gguf", tiny.tokenizer)
    base, ids = load(tmp_path / "base"), [5, 90, 17, 33]
    directions = [("honesty", lowrank(base)), ("authority", lowrank(base, 1))]
    for name, direction in directions:
        export(direction, base, tmp_path / name, to="gguf-lora", alphas=[1.0])
    adapters = [tmp_path / name / FILE for name, _ in directions]
    body = {"prompt": ids, "max_tokens": 6, "temperature": 0, "logprobs": 10}
    with llama_cpp(tmp_path / "m.gguf", adapters, rows=2, threads=1) as llama:
        proxy = Proxy(dials_of("small", directions, None), Serving(), llama, {})
        with TestClient(proxy.app, base_url="http://localhost:8000") as client:
            texts = []
            for name, alphas in (
                ("base", (0, 0)),
                ("honesty@-1", (-1, 0)),
                ("authority@1+honesty@0.5", (0.5, 1)),
                ("base", (0, 0)),
            ):
                with (
                    steer(base, directions[0][1], alphas[0]),
                    steer(base, directions[1][1], alphas[1]),
                    torch.no_grad(),
                ):
                    ours = base.model(input_ids=torch.tensor([ids])).logits[0, -1].log_softmax(-1)
                reply = client.post("/v1/completions", json={"model": name, **body}).json()
                theirs = firsts(reply["choices"][0])
                assert max(abs(p - float(ours[i])) for i, p in theirs.items()) < 2e-3  # its attention is half precision
                stream = client.post("/v1/completions", json={"model": name, **body, "stream": True}).text
                assert stream.rstrip().endswith("data: [DONE]")
                chunks = [json.loads(e.removeprefix("data: ")) for e in stream.split("\n\n")[:-2]]
                texts.append("".join(c["choices"][0]["text"] for c in chunks if c["choices"]))
                assert texts[-1] == reply["choices"][0]["text"]
                assert str(tmp_path) not in stream + json.dumps(reply)
                assert reply["model"] == name
            assert texts[0] == texts[3]
            assert len(set(texts)) == 3
            message = client.post("/v1/chat/completions", json={"messages": KENYA, "max_tokens": 3}).json()
            assert message["choices"][0]["message"]["role"] == "assistant"
