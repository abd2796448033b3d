"""Pairs that a judge keeps: the stated quadrant and nothing else, by question and answer alone, recorded and resumed."""

import hashlib
import json
import re
from dataclasses import replace

import pytest
from chat_server import Server, error

from ws.data import DataSettings, data
from ws.errors import EndpointFailed, JudgeUnfit, PairsUnfit
from ws.judge import JudgeSettings, PairJudge, sifted
from ws.pairs import Pair, Pairs, check_pairs

SETTINGS = DataSettings(n_topics=40, n_personas=1, n_samples=1, max_len=96, temperature=1.0, min_distinct=0.02)


class Scoring(Server):
    """A judge that reads its scores off the answer, "12/90"; of others every second one shows the trait."""

    always: str | None = None

    def answer(self, sent, at):
        text = sent["messages"][-1]["content"]
        answer = re.search(r"<answer>\n(.*)\n</answer>", text, re.S)[1]
        planted = re.fullmatch(r"(\w+)/(\w+)(?: .*)?", answer)
        letters = hashlib.sha256(answer.encode()).digest()
        scores = planted.groups() if planted else (90 if letters[0] % 2 else 10, 90)
        score = self.always or scores[0 if "<standard>" in text else 1]
        return {"index": at, "message": {"content": f"Hm.\n{score}"}, "finish_reason": "stop"}


@pytest.fixture
def server():
    return Scoring()


PLANTED = {  # (trait/coherence of pos, of neg): whether the pair is kept
    ("50/50", "49/50"): True,
    ("100/100", "0/100"): True,
    ("49/90", "0/90"): False,
    ("90/90", "50/90"): False,
    ("90/49", "0/90"): False,
    ("90/90", "0/49"): False,
    ("REFUSAL/90", "0/90"): False,
    ("90/90", "0/none"): False,
    ("0/90", "90/90"): False,
}


def planted():
    rows = tuple(
        Pair(f"q{i}", *answers, f"p{i}", topic_idx=i, n_tok_pos=3, n_tok_neg=3) for i, answers in enumerate(PLANTED)
    )
    return Pairs(rows, {"dropped": {"empty": 1}}, check_pairs(rows))


def test_exactly_the_stated_quadrant_is_kept_and_both_scores_are_recorded(server):
    pairs = planted()
    with server.running() as endpoint:
        kept = sifted(pairs, PairJudge.of(endpoint), "The model is glad.")
    assert [r.prompt_id for r in kept.rows] == [f"p{i}" for i, good in enumerate(PLANTED.values()) if good]
    record = kept.provenance["judge"]
    assert record["by"] == "endpoint:org/served-model"
    assert (record["kept"], record["judged"]) == (pytest.approx(2 / 9), 9)
    assert record["columns"] == ["pair", "trait_pos", "trait_neg", "coherence_pos", "coherence_neg"]
    assert record["scores"][0] == ["p0/0/0", 50, 49, 50, 50]
    assert record["scores"][6][1] is None
    assert kept.provenance["dropped"] == {"empty": 1, "by the judge": 7}
    assert "127.0.0.1" not in json.dumps(record)


def test_the_judge_sees_question_and_answer_and_never_the_side(server):
    pairs = planted()
    row = replace(pairs.rows[0], sys_prompt_pos="Be very glad.", sys_prompt_neg="Be very sad.")
    with server.running() as endpoint:
        sifted(replace(pairs, rows=(row,)), PairJudge.of(endpoint), "The model is glad.")
    texts = [r["messages"] for r in server.requests]
    assert all(len(m) == 1 and m[0]["role"] == "user" for m in texts)
    text = " ".join(m[0]["content"] for m in texts)
    for word in ("Be very", "p0", "pos", "neg"):
        assert word not in text
    assert "The model is glad." in text


def test_checks_of_what_tells_the_sides_apart_know_that_a_judge_chose(server, caplog):
    pairs = planted()
    with server.running() as endpoint:
        kept = sifted(pairs, PairJudge.of(endpoint), "The model is glad.")
    before, after = ({c.name: c for c in p.checks} for p in (pairs, kept))
    assert after["separable"].means.endswith("of the pairs that the judge kept")
    assert after["judged"].value == pytest.approx(2 / 9)
    assert after["judged"].verdict == "warn"
    assert after["empty"] == before["empty"]
    assert "keeps 22 % of the pairs" in caplog.text


def test_a_judge_that_keeps_nothing_or_says_nothing_is_one_sentence(server):
    with server.running() as endpoint:
        server.always = "90"
        with pytest.raises(PairsUnfit, match=r"keeps none of 9 pairs \(0 lack a score\).*'The model is glad.'"):
            sifted(planted(), PairJudge.of(endpoint), "The model is glad.")
        server.always = "I cannot say."
        with pytest.raises(JudgeUnfit, match="never answers in form"):
            sifted(planted(), PairJudge.of(endpoint), "The model is glad.")
    with pytest.raises(ValueError, match="what no rule decides takes a judge"):
        PairJudge.of("rule")


def test_a_study_with_a_judge_is_another_study_and_is_found_again(server, tiny, tmp_path, told):
    words = ["data", "--n-topics", 40, "--n-personas", 1, "--min-distinct", "0", "--out", tmp_path, "--json"]
    with server.running() as endpoint:
        judge = ["--judge", f"{endpoint.url}#m"]
        code, out, err = told(*words, *judge)
        assert code == 0, err
        first, n = json.loads(out), len(server.requests)
        code, out, err = told(*words, *judge, "--judge-concurrency", 2)
        assert (json.loads(out)["folder"], len(server.requests)) == (first["folder"], n)
        code, out, err = told(*words)
        plain = json.loads(out)
    assert plain["folder"] != first["folder"]
    assert 0 < first["n"] < plain["n"]
    assert "judged" in {c["name"] for c in first["checks"]}
    assert endpoint.url not in "".join(p.read_text() for p in tmp_path.rglob("*.json*"))


def test_what_was_judged_before_the_server_went_down_is_not_paid_again(server, tiny, tmp_path):
    server.bad = lambda number, sent: error(503, "down") if number > 20 else None
    with server.running() as endpoint:
        judge = PairJudge.of(replace(endpoint, concurrency=1), JudgeSettings(), out=tmp_path)
        with pytest.raises(EndpointFailed):
            data(tiny, "honesty", SETTINGS, judge=judge)
        server.bad = lambda number, sent: None
        server.requests.clear()
        whole = data(tiny, "honesty", SETTINGS, judge=judge)
        n = len(server.requests)
        server.requests.clear()
        alone = data(tiny, "honesty", SETTINGS, judge=PairJudge.of(endpoint))
    assert len(server.requests) == n + 20
    assert whole.content_hash == alone.content_hash


def test_a_judge_of_pairs_without_a_behavior_has_nothing_to_measure_by(tmp_path, told, server):
    file = tmp_path / "mine.jsonl"
    rows = [{"prompt": f"q{i}", "response_pos": f"yes {i}", "response_neg": f"no {i}"} for i in range(30)]
    file.write_text("".join(json.dumps(r) + "\n" for r in rows))
    with server.running() as endpoint:
        code, _, err = told("data", "--pairs", file, "--judge", f"{endpoint.url}#m", "--out", tmp_path)
    assert code == 2
    assert "name the --behavior of these pairs" in err


def test_the_judge_of_an_evaluation_keeps_no_pairs(monkeypatch, told, tmp_path):
    options = {}

    def plan_of(common, values):
        options.update(values)
        raise ValueError("far enough")

    monkeypatch.setattr("ws.cli.subject.plan_of", plan_of)
    judge = ["--judge", "http://localhost:1/v1#m"]
    code, _, err = told("eval", "syc-qa", "--behavior", "honesty", *judge, "--alphas=-1,1", "--out", tmp_path)
    assert (code, "far enough" in err) == (2, True), err
    assert options["behavior"] == "honesty"
    assert "judge" not in options
