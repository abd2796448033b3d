"""Pairs written by a server: the same rows whatever the order of its replies, and no failure of it is hidden."""

import errno
import json
import logging
import time
from dataclasses import replace

import pytest
from chat_server import Server, error

from ws.behaviors import load_behavior
from ws.cli import main
from ws.data import DataSettings, data
from ws.endpoint import Endpoint, Question
from ws.errors import BadFile, EndpointFailed, PairsUnfit
from ws.generate import Sampling
from ws.study.plan import Plan
from ws.study.stages import make_pairs
from ws.train import TrainSettings

ASKED = [Question(f"pos/q{i}", f"question {i}", "be brief", 20, 3) for i in range(6)]
SETTINGS = DataSettings(n_topics=8, n_personas=2, n_samples=2, max_len=96)


@pytest.fixture
def server():
    return Server()


def test_rows_are_the_same_whatever_the_order_of_the_replies(server, tiny):
    with server.running() as endpoint:
        one = data(tiny, "honesty", SETTINGS, endpoint=replace(endpoint, concurrency=1))
        server.slow = lambda sent: (sent["seed"] % 7) / 300
        many = data(tiny, "honesty", SETTINGS, endpoint=endpoint)
        other = data(tiny, "honesty", SETTINGS, endpoint=endpoint, seed=1)
    assert one.content_hash == many.content_hash
    assert one.content_hash != other.content_hash


def test_a_request_carries_the_persona_the_sampling_its_own_seed_and_how_many_answers_are_wanted(server, tiny):
    with server.running() as endpoint:
        made = data(tiny, "honesty", replace(SETTINGS, temperature=0.6, top_k=7), endpoint=endpoint)
    assert len(server.requests) == 8 * 2 * 2  # questions, personas, sides; samples go together
    first = server.requests[0]
    assert [m["role"] for m in first["messages"]] == ["system", "user"]
    assert (first["temperature"], first["top_k"], first["n"]) == (0.6, 7, 2)
    assert "min_p" not in first
    assert first["chat_template_kwargs"] == {"enable_thinking": False}
    assert len({r["seed"] for r in server.requests}) == len(server.requests)
    assert all(0 < r["max_tokens"] < 96 for r in server.requests)
    assert {r["messages"][0]["content"] for r in server.requests} == {
        s for r in made.rows for s in (r.sys_prompt_pos, r.sys_prompt_neg)
    }
    assert all(not r.response_pos.endswith(" ") and r.n_tok_pos > 3 for r in made.rows)


def test_no_more_requests_are_under_way_than_allowed(server):
    server.slow = lambda sent: 0.02
    with server.running() as endpoint:
        replace(endpoint, concurrency=2).complete(ASKED, Sampling(1.0), seed=0)
    assert server.peak == 2


def test_a_server_that_gives_one_answer_at_a_time_is_asked_again_with_another_seed(server):
    server.most = 1
    with server.running() as endpoint:
        found, _ = endpoint.complete(ASKED, Sampling(1.0), seed=0)
    assert [len(a) for a in found] == [3] * 6
    assert len({a.text for answers in found for a in answers}) == 18
    assert len(server.requests) == 18


@pytest.mark.parametrize(
    "bad",
    [
        lambda sent: error(500, "worker died"),
        lambda sent: error(429, "slow down", Retry_After="0"),
        lambda sent: (200, b"<html>not json", {}),
        lambda sent: (200, b'{"choices": []}', {}),
        lambda sent: (200, b'{"choices": [{"message": {"content": "x"}, "finish_reason": "banana"}]}', {}),
        lambda sent: (200, b'{"error": {"message": "busy"}}', {}),
        lambda sent: (200, b'{"choices": [', {"Content_Length": "9999"}),
        lambda sent: error(503, "busy", Content_Length="9999"),
        lambda sent: error(429, "slow down", Retry_After="\u00b2"),
        lambda sent: (200, b"[" * 200_000, {}),
        lambda sent: lambda wire: wire.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n40\r\n{"),
        lambda sent: lambda wire: wire.write(b"nonsense\r\n\r\n"),
        lambda sent: lambda wire: None,
    ],
)
def test_a_passing_failure_is_tried_again_and_changes_nothing(server, bad, caplog):
    with server.running() as endpoint:
        whole, _ = endpoint.complete(ASKED, Sampling(1.0), seed=0)
        server.requests.clear()
        server.bad = lambda number, sent: bad(sent) if number % 2 else None
        again, _ = replace(endpoint, concurrency=1).complete(ASKED, Sampling(1.0), seed=0)
    assert again == whole
    assert len(server.requests) == 12
    assert "trying again" in caplog.text


def test_a_timeout_is_tried_again(server):
    late = iter([0.6])
    server.slow = lambda sent: next(late, 0.0)
    with server.running() as endpoint:
        found, _ = replace(endpoint, timeout=0.2).complete(ASKED[:1], Sampling(1.0), seed=0)
    assert len(found[0]) == 3
    assert len(server.requests) == 2


def test_a_server_that_sends_a_little_now_and_then_is_not_waited_for_for_ever(server):
    def drip(wire):
        wire.write(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(30):
            wire.write(b" ")
            wire.flush()
            time.sleep(0.05)

    server.bad = lambda number, sent: drip if number == 1 else None
    with server.running() as endpoint:
        start = time.monotonic()
        found, _ = replace(endpoint, timeout=0.2).complete(ASKED[:1], Sampling(1.0), seed=0)
        assert time.monotonic() - start < 1.2
    assert len(found[0]) == 3
    assert len(server.requests) == 2


def test_a_server_that_keeps_failing_ends_with_one_sentence_and_what_was_answered_is_not_asked_for_again(
    server, tmp_path, caplog
):
    server.bad = lambda number, sent: (
        error(503, "overloaded") if "question 4" in sent["messages"][-1]["content"] else None
    )
    with server.running() as endpoint:
        endpoint = replace(endpoint, concurrency=1)
        with pytest.raises(EndpointFailed, match=r"6 times in a row \(the server says 503: overloaded\).*goes on from"):
            endpoint.complete(ASKED, Sampling(1.0), seed=0, work=tmp_path)
        server.bad = lambda number, sent: None
        server.requests.clear()
        with caplog.at_level(logging.INFO):
            resumed, _ = endpoint.complete(ASKED, Sampling(1.0), seed=0, work=tmp_path)
        assert "4 of 6 questions were answered before" in caplog.text
        assert [r["messages"][-1]["content"] for r in server.requests] == ["question 4", "question 5"]
        whole, _ = endpoint.complete(ASKED, Sampling(1.0), seed=0)
    assert resumed == whole


def test_what_is_under_way_when_another_request_fails_is_kept_and_not_paid_twice(server, tmp_path):
    server.slow = lambda sent: 0.0 if sent["messages"][-1]["content"] == "question 0" else 0.2
    server.bad = lambda number, sent: error(401, "no") if sent["messages"][-1]["content"] == "question 0" else None
    with server.running() as endpoint:
        with pytest.raises(EndpointFailed, match="401"):
            endpoint.complete(ASKED, Sampling(1.0), seed=0, work=tmp_path)
        assert len(server.requests) == 6
        server.bad, server.slow = (lambda number, sent: None), (lambda sent: 0.0)
        server.requests.clear()
        endpoint.complete(ASKED, Sampling(1.0), seed=0, work=tmp_path)
    assert [r["messages"][-1]["content"] for r in server.requests] == ["question 0"]


def test_a_single_question_that_is_refused_ends_all_unless_it_may_be(server, tmp_path):
    server.bad = lambda number, sent: (
        error(400, "filtered") if sent["messages"][-1]["content"] == "question 3" else None
    )
    with server.running() as endpoint:
        with pytest.raises(EndpointFailed, match="refuses the request with 400: filtered"):
            endpoint.complete(ASKED, Sampling(1.0), seed=0)
        answers, _ = endpoint.complete(ASKED, Sampling(1.0), seed=0, work=tmp_path, may_refuse=True)
        assert [a.text == "" for question in answers for a in question] == [False] * 9 + [True] * 3 + [False] * 6
        assert [q.user for q in endpoint.unanswered(ASKED, Sampling(1.0), seed=0, work=tmp_path)] == ["question 3"]


def test_tokens_are_those_that_the_server_counts(server, tmp_path):
    one = [replace(a, samples=1) for a in ASKED[:2]]
    usage = {"prompt_tokens": 11, "completion_tokens": 7}
    plain = server.reply
    server.reply = lambda sent: {**plain(sent), "usage": usage}
    with server.running() as endpoint:
        for _ in range(2):  # from the server, and from what is kept
            answers, _ = endpoint.complete(one, Sampling(0.0), seed=0, work=tmp_path)
            assert [(a.n_read, a.n_tokens) for [a] in answers] == [(11, 7)] * 2
        server.reply = lambda sent: {**plain(sent), "usage": {"prompt_tokens": "many"}}
        answers, _ = endpoint.complete(one, Sampling(0.0), seed=0)
        assert [(a.n_read, a.n_tokens) for [a] in answers] == [(0, 0)] * 2


def test_a_line_cut_off_by_a_kill_is_asked_for_again_and_other_settings_are_refused(server, tmp_path):
    with server.running() as endpoint:
        whole, _ = endpoint.complete(ASKED, Sampling(1.0), seed=0, work=tmp_path)
        file = tmp_path / "resume" / "answers.jsonl"
        file.write_text(file.read_text()[:-20])
        server.requests.clear()
        assert endpoint.complete(ASKED, Sampling(1.0), seed=0, work=tmp_path)[0] == whole
        assert len(server.requests) == 1
        with pytest.raises(BadFile, match="other settings"):
            endpoint.complete(ASKED, Sampling(0.5), seed=0, work=tmp_path)


@pytest.mark.parametrize("left", ["", "half of the first li"])
def test_a_file_of_answers_without_its_first_line_counts_as_none(server, tmp_path, left):
    (tmp_path / "resume").mkdir()
    (tmp_path / "resume" / "answers.jsonl").write_text(left)
    with server.running() as endpoint:
        whole, _ = endpoint.complete(ASKED, Sampling(1.0), seed=0, work=tmp_path)
        server.requests.clear()
        assert endpoint.complete(ASKED, Sampling(1.0), seed=0, work=tmp_path)[0] == whole
    assert server.requests == []


def test_going_on_writes_no_kept_answer_again(server, tmp_path, monkeypatch):
    with server.running() as endpoint:
        whole, _ = endpoint.complete(ASKED, Sampling(1.0), seed=0, work=tmp_path)
        file = tmp_path / "resume" / "answers.jsonl"
        before = file.read_bytes()
        file.write_bytes(before + b'{"name": "pos')

        def full(*_):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr("ws.answer_store.write_text", full)
        assert endpoint.complete(ASKED, Sampling(1.0), seed=0, work=tmp_path)[0] == whole
    assert file.read_bytes() == before


def test_a_kept_answer_that_is_damaged_is_asked_for_again_and_that_is_said(server, tmp_path, caplog):
    with server.running() as endpoint:
        whole, _ = endpoint.complete(ASKED, Sampling(1.0), seed=0, work=tmp_path)
        file = tmp_path / "resume" / "answers.jsonl"
        lines = file.read_bytes().split(b"\n")
        lines[2], lines[3], lines[4] = bytes(len(lines[2])), b"7", b'{"asks": "a\xff"}'
        file.write_bytes(b"\n".join(lines))
        server.requests.clear()
        assert endpoint.complete(ASKED, Sampling(1.0), seed=0, work=tmp_path)[0] == whole
    assert len(server.requests) == 3
    assert "3 of 6 answers" in caplog.text


def test_kept_answers_are_those_to_the_very_question_and_not_to_one_of_the_same_name(server, tmp_path):
    with server.running() as endpoint:
        for asked in (
            ASKED,
            [replace(a, system="be long") for a in ASKED],
            [replace(a, user=a.user + "?") for a in ASKED],
            [replace(a, max_new=9) for a in ASKED],
            [replace(a, samples=2) for a in ASKED],
        ):
            server.requests.clear()
            alone, _ = endpoint.complete(asked, Sampling(1.0), seed=0)
            kept, _ = endpoint.complete(asked, Sampling(1.0), seed=0, work=tmp_path)
            assert kept == alone
            assert len(server.requests) == 12
        server.requests.clear()
        endpoint.complete(ASKED, Sampling(1.0), seed=0, work=tmp_path)
    assert server.requests == []


def test_two_behaviors_with_one_working_folder_get_their_own_answers(server, tiny, tmp_path):
    with server.running() as endpoint:
        behaviors = [load_behavior(name) for name in ("trad_care", "authority")]  # of the same questions and names
        apart = [data(tiny, b, SETTINGS, endpoint=endpoint) for b in behaviors]
        shared = [data(tiny, b, SETTINGS, endpoint=endpoint, work=tmp_path) for b in behaviors]
    assert [p.content_hash for p in shared] == [p.content_hash for p in apart]


def test_a_folder_that_cannot_be_written_is_one_sentence(server, tmp_path):
    (tmp_path / "resume").write_text("no folder")
    with server.running() as endpoint, pytest.raises(BadFile, match="cannot be written"):
        endpoint.complete(ASKED, Sampling(1.0), seed=0, work=tmp_path)
    assert server.requests == []


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        (
            error(401, "bad key s3cret"),
            r"refuses the request with 401: bad key \*\*\*\. Its key goes into .*WS_GENERATE_KEY",
        ),
        (error(404, "no such model"), "Check the address"),
        (error(400, "unknown field top_k"), "top_k=0"),
        (error(400, "context too long"), "400: context too long"),
        ((302, b"", {"Location": "http://elsewhere.example/v1"}), "redirects to http://elsewhere.example/v1"),
        ((302, b"", {"Location": "http://[x"}), r"redirects to http://\[x; give"),
        ((200, b'data: {"choices": []}\n\ndata: [DONE]\n\n', {}), "streams its replies"),
    ],
)
def test_what_another_try_cannot_mend_stops_at_once(server, bad, told):
    server.bad = lambda number, sent: bad
    with server.running() as endpoint, pytest.raises(EndpointFailed, match=told):
        replace(endpoint, concurrency=1, key="s3cret").complete(ASKED, Sampling(1.0), seed=0)
    assert len(server.requests) == 1
    assert server.heads[0]["Authorization"] == "Bearer s3cret"


def test_an_answer_cut_at_the_limit_has_no_end_and_a_filtered_missing_or_blank_one_is_empty(server):
    def choice(sent):
        reasons = {
            "question 0": ("cut off", "length"),
            "question 1": ("secret", "content_filter"),
            "question 2": (None, "stop"),
            "question 3": (" \n ", "stop"),
            "question 4": ("half a smile \ud83d", "stop"),
        }
        text, reason = reasons[sent["messages"][-1]["content"]]
        reply = {"choices": [{"message": {"content": text}, "finish_reason": reason}] * sent["n"]}
        return 200, json.dumps(reply).encode(), {}

    server.bad = lambda number, sent: choice(sent)
    with server.running() as endpoint:
        found, _ = endpoint.complete(ASKED[:5], Sampling(1.0), seed=0)
    expected = [("cut off", False), ("", False), ("", True), ("", True), ("half a smile \ufffd", True)]
    assert [(a[0].text, a[0].ended) for a in found] == expected


def test_pairs_say_that_a_server_wrote_them_and_never_where_or_with_which_key(server, tiny, tmp_path):
    server.models = ["/home/me/models/served-model"]
    with server.running() as endpoint:
        endpoint = replace(endpoint, key="s3cret")
        plan = Plan(tiny, _honesty(), SETTINGS, TrainSettings(), out=tmp_path, endpoint=endpoint)
        pairs, record = make_pairs(plan)
        own = replace(plan, endpoint=None)
        assert plan.data_place.key != own.data_place.key
        assert plan.data_place.key != replace(plan, endpoint=replace(endpoint, model="other")).data_place.key
        assert plan.data_place.key == replace(plan, endpoint=replace(endpoint, concurrency=3)).data_place.key
    assert pairs.provenance["source"] == "endpoint"
    assert pairs.provenance["endpoint"]["model"] == "served-model"
    assert "system_fingerprint stub-1" in pairs.provenance["endpoint"]["reported"]
    written = "".join(p.read_text() for p in tmp_path.rglob("*") if p.is_file())
    assert "s3cret" not in written
    assert "127.0.0.1" not in written
    assert "/home/me" not in written
    assert not list(record.folder.glob("resume"))


def _honesty():
    return load_behavior("honesty", tiny=True)


def test_answers_that_are_no_use_are_named_so_that_the_server_can_be_asked_again(server, tiny, tmp_path):
    blank = {"index": 0, "message": {"content": " \n"}, "finish_reason": "stop"}
    server.answer = lambda sent, at: blank
    with server.running() as endpoint:
        for work, told in (
            (tmp_path, f"kept in {tmp_path / 'resume' / 'unfit-pairs.jsonl'}, marked unfit"),
            (None, "shows some answers"),
        ):
            with pytest.raises(PairsUnfit, match=told):
                data(tiny, "honesty", SETTINGS, endpoint=endpoint, work=work)


def test_a_killed_generation_goes_on_from_the_answers_it_has(server, tiny, tmp_path):
    server.bad = lambda number, sent: error(400, "stop here") if number == 20 else None
    with server.running() as endpoint:
        plan = Plan(
            tiny, _honesty(), SETTINGS, TrainSettings(), out=tmp_path, endpoint=replace(endpoint, concurrency=1)
        )
        with pytest.raises(EndpointFailed):
            make_pairs(plan)
        make_pairs(plan)
        assert len(server.requests) == 8 * 2 * 2 + 1


@pytest.mark.parametrize(
    ("url", "more", "told"),
    [
        ("localhost:8000", {}, "takes an address"),
        ("ftp://x/v1", {}, "takes an address"),
        ("http://me:pw@x/v1", {}, "WS_GENERATE_KEY"),
        ("http:/me:pw@x/v1", {}, "takes an address"),
        ("me:pw@x/v1", {}, "takes an address"),
        ("http://x/v1?key=pw", {}, "WS_GENERATE_KEY"),
        ("http://x/v1#pw", {}, "WS_GENERATE_KEY"),
        ("http://x:port/v1", {}, "takes an address"),
        ("http://x:99999/v1", {}, "takes an address"),
        ("http://[::1/v1", {}, "takes an address"),
        ("http://x..y/v1", {}, "takes an address"),
        ("http://x/v1 and more", {}, "takes an address"),
        ("http://x/v\u00e9", {}, "takes an address"),
        ("https://x/v1", {"key": "pw\nx"}, "line break"),
        ("https://x/v1", {"key": "pw\u2013"}, "line break"),
        ("http://far.example/v1", {"key": "k"}, "plain http"),
        ("http://localhost/v1", {"concurrency": 0}, "at least 1"),
    ],
)
def test_an_address_that_cannot_be_right_is_refused(url, more, told):
    with pytest.raises(ValueError, match=told) as e:
        Endpoint(url, **more)
    assert "pw" not in str(e.value)
    assert (
        repr(Endpoint("https://far.example/v1", key="k"))
        == "Endpoint(model=None, concurrency=8, timeout=600.0, wait=1.0)"
    )


def test_the_newline_at_the_end_of_a_key_is_not_part_of_it(monkeypatch):
    monkeypatch.setenv("WS_GENERATE_KEY", " s3cret\n")
    assert Endpoint.from_environment("https://far.example/v1").key == "s3cret"
    monkeypatch.setenv("WS_GENERATE_KEY", "\n")
    assert Endpoint.from_environment("https://far.example/v1").key is None


def test_a_server_that_answers_with_a_page_is_asked_six_times_and_then_quoted(server):
    page = (
        b"<html><head><style>p {color: red}</style><title>Please sign in</title></head><body>\x1b[31mHi s3cret</body>"
    )
    server.listing = (200, page)
    server.bad = lambda number, sent: (200, page, {})
    with server.running() as endpoint:
        with pytest.raises(EndpointFailed, match="lists no models"):
            endpoint.complete(ASKED, Sampling(1.0), seed=0)
        endpoint = replace(endpoint, model="m", key="s3cret", concurrency=1)
        with pytest.raises(
            EndpointFailed, match=r"6 times in a row \(the reply is not JSON \(Please sign in \[31mHi \*\*\*"
        ):
            endpoint.complete(ASKED, Sampling(1.0), seed=0)
    assert len(server.requests) == 6


def test_the_command_names_the_models_of_a_server_that_has_several_and_says_when_there_is_none(
    server, capsys, tmp_path
):
    server.models = ["a", "b"]
    with server.running() as endpoint:
        assert main(["data", "--out", str(tmp_path), "--generate-with", endpoint.url]) == 2
        assert "the server has 2 models (a, b); name one with --generate-model" in capsys.readouterr().err
        few = ["--n-topics", "4", "--n-personas", "1", "--max-len", "96"]
        command = ["data", "--out", str(tmp_path), *few, "--generate-model", "b", "--generate-with", endpoint.url]
        assert main(command) == 0
        assert {r["model"] for r in server.requests} == {"b"}
        capsys.readouterr()
    assert main(command) == 0  # done: no server is needed any more
    assert "reused" in capsys.readouterr().err
    assert main([*command, "--seed", "1"]) == 1
    assert "there is no server at http://127.0.0.1:" in capsys.readouterr().err
