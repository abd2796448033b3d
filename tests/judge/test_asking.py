"""Judges that are models: nothing is lost, nothing is paid twice, and what is not in form is no verdict."""

import hashlib
import logging
import re
import sys
import time
from dataclasses import replace

import pytest
from chat_server import Server, error
from forks import Child

from ws.errors import EndpointFailed, JudgeUnfit
from ws.judge import MALFORMED, Case, JudgeSettings, judge_named
from ws.judge.writers import FLAGS

CASES = [Case(f"row {i}", f"What is 3 x {i}?", f"It is {3 * i + i % 2}.", gold=(str(3 * i),)) for i in range(40)]
RIGHT = [float(i % 2 == 0) for i in range(40)]


class Judging(Server):
    """A judge of sums: by its letters it is wrong, out of form or refusing on planted shares of the cases."""

    wrong = refusing = malformed = 0.0
    never = False

    def answer(self, sent, at):
        text = sent["messages"][-1]["content"]
        again = text.endswith("nothing else.")
        share = int(hashlib.sha256(text.partition("Give that line")[0].strip().encode()).hexdigest()[:8], 16) / 2**32
        gold = re.search(r"<correct_answer>\n(\d+)", text)[1]
        right = f"It is {gold}." in text
        verdict = f"Correct Answer: {'YES' if right != (share < self.wrong) else 'NO'}"
        if self.never or share > 1 - self.refusing:
            verdict = "I am sorry, I cannot judge this."
        elif share > 1 - self.refusing - self.malformed and not again:
            verdict = f"{verdict}, I would say"
        return {"index": at, "message": {"content": f"Let me see.\n{verdict}"}, "finish_reason": "stop"}

    def reply(self, sent):
        usage = {"prompt_tokens": 100, "completion_tokens": 10}
        return {**super().reply(sent), "usage": usage}


@pytest.fixture
def server():
    return Judging()


def judged(endpoint, cases=CASES, *, out=None, vote=0, **settings):
    judge = judge_named(endpoint, "math_correct", JudgeSettings(**settings), out=out, vote=vote)
    return judge(cases), judge


def test_verdicts_are_those_of_the_judge_in_the_order_of_the_cases(server):
    server.slow = lambda sent: (sent["seed"] % 5) / 200
    with server.running() as endpoint:
        verdicts, judge = judged(endpoint)
    assert [v.value for v in verdicts] == RIGHT
    assert {v.by for v in verdicts} == {"endpoint:org/served-model|math_correct/1"}
    assert (verdicts[0].tokens_in, verdicts[0].tokens_out) == (100, 10)
    assert verdicts[0].reply.endswith("Correct Answer: YES")
    assert (judge.bill.asked, judge.bill.kept, judge.bill.tokens_in, judge.bill.tokens_out) == (40, 0, 4000, 400)
    first = server.requests[0]
    assert [m["role"] for m in first["messages"]] == ["user"]
    assert (first["temperature"], first["n"], first["max_tokens"]) == (0.0, 1, 512)


def test_planted_failures_lose_nothing_and_what_is_kept_is_not_paid_twice(server, tmp_path):
    server.malformed, server.refusing = 0.2, 0.1
    server.slow = lambda sent: (sent["seed"] % 7) / 300
    with server.running() as endpoint:
        clean, _ = judged(endpoint)
        n_clean = len(server.requests)
        cut = lambda wire: wire.write(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{")  # noqa: E731
        faults = {0: error(429, "slow down", Retry_After="0"), 1: error(500, "oops"), 2: cut}
        server.bad = lambda number, sent: faults.get(number % 7)
        server.requests.clear()
        verdicts, judge = judged(endpoint, out=tmp_path)
        assert verdicts == clean
        assert len(server.requests) > 1.3 * n_clean
        assert judge.bill.asked == n_clean
        abstained = [v for v in verdicts if v.value is None]
        assert 1 <= len(abstained) <= 8
        assert {v.label for v in abstained} == {MALFORMED}
        assert all(v.tokens_in == 200 for v in abstained)  # both tries count
        assert n_clean > 40 + len(abstained)
        server.requests.clear()
        again, judge = judged(endpoint, [replace(c, id=f"other {c.id}") for c in reversed(CASES)], out=tmp_path)
    assert again == verdicts[::-1]
    assert server.requests == []
    assert (judge.bill.asked, judge.bill.tokens_in) == (0, 0)


def test_a_reply_out_of_form_is_asked_for_once_more_by_the_last_line_alone(server):
    server.malformed = 1.0
    with server.running() as endpoint:
        verdicts, _ = judged(endpoint, CASES[:3])
    assert [v.value for v in verdicts] == RIGHT[:3]
    texts = [r["messages"][-1]["content"] for r in server.requests]
    assert sum(t.endswith("Give that line and nothing else.") for t in texts) == 3
    assert len(texts) == 6


def test_cases_that_read_alike_are_judged_once(server):
    with server.running() as endpoint:
        verdicts, _ = judged(endpoint, [replace(CASES[0], id=str(i)) for i in range(20)])
    assert [v.value for v in verdicts] == [1.0] * 20
    assert len(server.requests) == 1


def test_other_rubrics_votes_models_and_temperatures_share_no_replies(server, tmp_path):
    with server.running() as endpoint:
        for n, more in enumerate(({}, {"vote": 1}, {"temperature": 1.0}, {"max_new_tokens": 9}, {"seed": 1}), 1):
            judged(endpoint, CASES[:2], out=tmp_path, **more)
            judged(endpoint, CASES[:2], out=tmp_path, **more)
            assert len(server.requests) == 2 * n, more
        judged(replace(endpoint, model="another"), CASES[:2], out=tmp_path)
        assert len(server.requests) == 12
        judged(endpoint, [replace(c, gold=("1",)) for c in CASES[:2]], out=tmp_path)
        assert len(server.requests) == 14


def test_what_a_judge_will_take_is_said_before_anything_is_asked(server, tmp_path):
    with server.running() as endpoint:
        judged(endpoint, CASES[:10], out=tmp_path)
        server.requests.clear()
        judge = judge_named(endpoint, "math_correct", JudgeSettings(max_new_tokens=50), out=tmp_path)
        other = judge.estimate([*CASES, CASES[0]])
        same = judge_named(endpoint, "math_correct", out=tmp_path).estimate([*CASES, CASES[0]])
    assert server.requests == []
    assert (other.cases, other.distinct, other.kept, other.asked, other.tokens_out) == (41, 40, 0, 40, 2000)
    assert (same.kept, same.asked, same.tokens_out) == (10, 30, 30 * 512)
    letters = sum(len(judge.rubric.prompt(c)) for c in CASES[10:])
    assert letters / 4.1 < same.tokens_in < letters / 3


def test_a_judge_that_never_answers_in_form_is_stopped_after_eight_cases(server):
    server.never = True
    with server.running() as endpoint:
        with pytest.raises(JudgeUnfit, match=r"never answers in form: of its first 8 replies none .* `max_new_tokens`"):
            judged(endpoint)
        assert len(server.requests) == 16
        verdicts, _ = judged(endpoint, CASES[:3])  # of so few, nothing follows
    assert [v.value for v in verdicts] == [None] * 3


def test_a_case_that_the_server_refuses_abstains_and_the_others_are_judged(server, caplog):
    server.bad = lambda number, sent: (
        error(400, "content filter") if "What is 3 x 12?" in sent["messages"][-1]["content"] else None
    )
    with server.running() as endpoint:
        verdicts, _ = judged(endpoint)
    assert [i for i, v in enumerate(verdicts) if v.value is None] == [12]
    assert verdicts[12].label == "no reply"
    assert "400: content filter" in caplog.text


def test_a_server_that_goes_down_ends_with_one_sentence_and_the_same_call_goes_on(server, tmp_path):
    server.bad = lambda number, sent: error(503, "down") if number > 20 else None
    with server.running() as endpoint:
        with pytest.raises(EndpointFailed, match="`judge_concurrency=1`") as e:
            judged(replace(endpoint, concurrency=2, flags=FLAGS), out=tmp_path)
        assert "generate" not in str(e.value)
        server.bad = lambda number, sent: None
        server.requests.clear()
        verdicts, judge = judged(endpoint, out=tmp_path)
    assert [v.value for v in verdicts] == RIGHT
    assert len(server.requests) == 20
    assert judge.bill.kept == 20


def _judge_all(url, out):
    judge_named(f"{url}#org/served-model", "math_correct", JudgeSettings(judge_concurrency=4), out=out)(CASES)


def test_a_judge_that_is_killed_goes_on_from_the_verdicts_it_has(server, tmp_path):
    server.slow = lambda sent: 0.05
    with server.running() as endpoint:
        with Child(_judge_all, endpoint.url, tmp_path) as child:
            until = time.monotonic() + 60
            while len(server.requests) < 25 and time.monotonic() < until:
                time.sleep(0.01)
            child.kill()
            child.wait()
        time.sleep(0.1)
        paid = len(server.requests)
        verdicts, judge = judged(replace(endpoint, model="org/served-model"), out=tmp_path)
    assert [v.value for v in verdicts] == RIGHT
    assert 25 <= paid < 40
    assert (
        len(server.requests) <= 40 + 2 * 4
    )  # what was under way at the kill, and what had come and was not yet written
    assert judge.bill.kept >= paid - 2 * 4


def test_two_commands_with_one_store_do_not_pay_for_the_same(server, tmp_path):
    server.slow = lambda sent: 0.02
    with server.running() as endpoint:
        children = [Child(_judge_all, endpoint.url, tmp_path) for _ in range(2)]
        for child in children:
            with child:
                assert child.wait(60) == 0, child.err
    assert len(server.requests) == 40


def test_the_key_of_a_judge_is_its_own(monkeypatch, server):
    monkeypatch.setenv("WS_JUDGE_KEY", "jk")
    monkeypatch.setenv("WS_GENERATE_KEY", "gk")
    with server.running() as endpoint:
        judge_named(endpoint.url, "math_correct")(CASES[:1])
    assert server.heads[0]["Authorization"] == "Bearer jk"
    with pytest.raises(ValueError, match="a judge takes an address"):
        judge_named("http:/nowhere", "math_correct")
    server.models = ["one", "two"]
    with (
        server.running() as endpoint,
        pytest.raises(ValueError, match=r"2 models \(one, two\); name one with URL#MODEL"),
    ):
        judge_named(endpoint.url, "math_correct")


def test_a_local_model_judges_and_its_replies_are_kept(tiny, tmp_path, monkeypatch):
    judge = judge_named(tiny, "refusal", JudgeSettings(max_new_tokens=4), out=tmp_path)
    cases = [Case(str(i), f"Question {i}?", "No.") for i in range(4)]
    verdicts = judge(cases)
    assert {v.by for v in verdicts} == {"model:tiny|refusal/1"}
    assert all(v.label == MALFORMED and v.tokens_in > 20 and v.tokens_out > 0 for v in verdicts)
    assert judge.estimate(cases).asked == 0
    monkeypatch.setattr(
        sys.modules["ws.judge.writers"], "complete", lambda *a, **k: pytest.fail("asked again") if a[1] else None
    )
    assert judge_named("tiny", "refusal", JudgeSettings(max_new_tokens=4), out=tmp_path)(cases) == verdicts


def test_a_case_too_long_for_a_local_judge_abstains(tiny, caplog):
    judge = judge_named(tiny, "refusal", JudgeSettings(max_new_tokens=4))
    with caplog.at_level(logging.WARNING):
        short, long = judge([Case("a", "q", "No."), Case("b", "q", "no " * 9000)])
    assert (short.label, long.label) == (MALFORMED, "no reply")
    assert "1 of 2 cases are too long" in caplog.text
