"""A judgement: counts, agreement and corrected numbers are those that were planted, and bad files are one sentence."""

import json
import random

import pytest
from test_asking import Judging

import ws
from ws.errors import BadFile
from ws.judge import Case, JudgeSettings
from ws.judge.file import Row, labels_in, rows_in
from ws.judge.judgement import judged, jury
from ws.judge.rubrics import rubric

N = 300


@pytest.fixture
def server():
    return Judging()


def sums(n=N, right=0.4, seed=0):
    """Sums of which a planted share is right, and whether each is."""
    rng, rows = random.Random(seed), []
    for i in range(n):
        good = rng.random() < right
        rows.append({"id": f"s{i}", "question": f"What is 3 x {i}?", "answer": f"It is {3 * i + (not good)}.", "gold": 3 * i, "good": good})  # fmt: skip
    return rows


def write(path, rows):
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


def test_the_exact_rule_gives_the_planted_share(tmp_path, told):
    rows = sums()
    file = write(tmp_path / "sums.jsonl", rows)
    code, out, err = told("judge", file, "--rubric", "math_correct", "--out", tmp_path, "--json")
    content = json.loads(out)
    assert code == 0, err
    assert content["by"] == "rule:math_correct/1"
    assert content["shares"]["correct"]["raw"]["mean"] == pytest.approx(sum(r["good"] for r in rows) / N)
    assert [v["value"] for v in content["verdicts"]] == [float(r["good"]) for r in rows]
    assert "What is" not in out
    assert "It is" not in out


def test_errors_of_a_judge_are_taken_out_where_people_have_labelled_cases(server, tmp_path):
    server.wrong = 0.25
    rows, labelled = sums(120, right=0.1), sums(60, right=0.5, seed=1)
    truth = sum(r["good"] for r in rows) / 120
    file = write(tmp_path / "sums.jsonl", rows)
    human = [{**r, "id": f"g{i}", "human": "YES" if r["good"] else "no"} for i, r in enumerate(labelled)]
    gold = write(tmp_path / "gold.jsonl", human)
    with server.running() as endpoint:
        result = ws.judge(file, "math_correct", by=f"{endpoint.url}#m", gold=gold, out=tmp_path)
    [share] = result.shares
    assert share.raw.ci_lo > truth  # a judge with errors sees shares nearer to a half
    assert share.corrected.low <= truth <= share.corrected.high
    assert share.corrected.high - share.corrected.low > share.raw.ci_hi - share.raw.ci_lo
    assert 0.5 < share.rates.sensitivity < 0.9
    by_name = {a.beside: a for a in result.agreements}
    assert by_name["human"].n == 60
    assert by_name["rule:math_correct/1"].n == 120
    assert by_name["rule:math_correct/1"].equal.mean == pytest.approx(0.75, abs=0.1)
    assert by_name["rule:math_correct/1"].alpha.mean < 0.5
    assert any("rule:math_correct" in line and "too little" in line for line in result.readings())


def test_two_votes_and_a_second_judge_are_set_beside_the_first(server, tmp_path):
    server.wrong = 0.2
    plain = server.answer

    def answer(sent, at):  # every request falls anew, so that a vote differs from another
        sent = {
            **sent,
            "messages": [{"content": f"{sent['messages'][-1]['content']}\n\n{sent['seed']} {sent['model']}"}],
        }
        return plain(sent, at)

    server.answer = answer
    with server.running() as endpoint:
        cases = [Case(r["id"], r["question"], r["answer"], (str(r["gold"]),)) for r in sums(60)]
        other = f"{endpoint.url}#other"
        result = ws.judge(cases, "math_correct", by=f"{endpoint.url}#one", votes=2, second=other, out=tmp_path)
    by_name = {a.beside: a for a in result.agreements}
    for name in ("itself, another vote", "endpoint:other|math_correct/1"):
        assert by_name[name].n == 60
        assert 0.5 < by_name[name].equal.mean < 0.85
    assert {name: bill.asked for name, bill in result.bills.items()} == {
        "endpoint:one|math_correct/1": 60,
        "endpoint:one|math_correct/1 vote 2": 60,
        "endpoint:other|math_correct/1": 60,
    }


def test_abstentions_are_counted_by_reason_and_averaged_nowhere(server):
    server.refusing = 0.3
    with server.running() as endpoint:
        rows = sums(100)
        cases = [Case(r["id"], r["question"], r["answer"], (str(r["gold"]),)) for r in rows]
        result = ws.judge(cases, "math_correct", by=f"{endpoint.url}#m")
    known = [r["good"] for r, v in zip(rows, result.verdicts) if v.value is not None]
    assert 15 <= result.abstained <= 45
    assert result.why == {"not in form": result.abstained}
    assert result.shares[0].raw.mean == pytest.approx(sum(known) / len(known))
    assert result.shares[0].raw.n_valid == 100 - result.abstained
    assert any("have no verdict" in line for line in result.readings())


def test_scores_have_a_mean_a_share_and_alpha_of_distances():
    texts = ["", "A fine answer to this.", "aye " * 20, "Another fine one."]
    cases = [Case(str(i), "Well?", texts[i % 4]) for i in range(40)]
    rows = [Row(c, c.id, 90.0 if i % 2 else 0.0) for i, c in enumerate(cases)]
    result = judged(rows, jury("coherence_0_100"), rows)
    assert result.mean.mean == 50
    assert result.corrected_mean.value == pytest.approx(45)  # people give 90 where the rule gives 100
    [human] = result.agreements
    assert human.equal.mean == 1
    assert 0.97 < human.alpha.mean < 1


def test_the_plan_says_what_it_takes_and_asks_nothing(server, tmp_path, told):
    file = write(tmp_path / "sums.jsonl", sums(30))
    with server.running() as endpoint:
        words = ("judge", file, "--rubric", "math_correct", "--by", f"{endpoint.url}#m", "--out", tmp_path)
        code, out, _ = told(*words, "--check", "--price", "3/15", "--max-new-tokens", "100", "--json")
        [plan] = json.loads(out)["judges"]
        assert (code, server.requests) == (0, [])
        assert (plan["asked"], plan["kept"], plan["tokens_out"]) == (30, 0, 3000)
        assert plan["cost"] == pytest.approx((plan["tokens_in"] * 3 + 3000 * 15) / 1e6)
        code, out, err = told(*words, "--price", "3/15")
        assert code == 0
        assert "30 replies to ask for" in err
        assert "30 replies asked for, 0 kept, 3,000 tokens in and 300 out, 0.01 at that price" in " ".join(out.split())
        assert "What is" not in out + err
        code, out, err = told(*words, "--show-texts")
        assert "What is 3 x 7?" in out
        assert "0 replies asked for, 30 kept" in " ".join(out.split())


def test_a_number_with_a_trait_needs_a_standard_and_takes_one_for_all(tmp_path):
    file = write(tmp_path / "a.jsonl", [{"question": "q", "answer": "a"}])
    with pytest.raises(BadFile, match=r"lacks the columns \['standard'\]"):
        rows_in(file, rubric("trait_0_100"))
    [row] = rows_in(file, rubric("trait_0_100"), standard="It is short.")
    assert (row.case.id, row.unit, row.case.standard) == ("1", "1", "It is short.")


def test_gold_may_be_several_texts_numbers_or_a_list_in_a_csv(tmp_path):
    rows = [{"question": "q", "answer": "a", "gold": g} for g in ("x", ["x", "y"], 12, 12.0, "[not a list")]
    assert [r.case.gold for r in rows_in(write(tmp_path / "a.jsonl", rows), rubric("fact_correct"))] == [
        ("x",), ("x", "y"), ("12",), ("12",), ("[not a list",),
    ]  # fmt: skip
    (tmp_path / "a.csv").write_text("question,answer,gold\nq,,\"['x', 'y']\"\n")
    [row] = rows_in(tmp_path / "a.csv", rubric("fact_correct"))
    assert (row.case.answer, row.case.gold) == ("", ("x", "y"))


def test_labels_may_name_rows_by_id_or_bring_their_own(tmp_path):
    one = rubric("refusal")
    rows = rows_in(write(tmp_path / "a.jsonl", [{"id": i, "question": "q", "answer": f"a{i}"} for i in range(3)]), one)
    labels = [{"id": 1, "human": "refusal"}, {"id": 2, "human": ""}, {"id": 0, "human": 0}]
    found = labels_in(write(tmp_path / "b.jsonl", labels), one, rows)
    assert [(r.case.answer, r.human) for r in found] == [("a1", 1.0), ("a0", 0.0)]
    own = [{"question": "q", "answer": "z", "human": "COMPLIANT"}]
    assert [r.case.answer for r in labels_in(write(tmp_path / "c.jsonl", own), one, rows)] == ["z"]


BAD = {
    "no such file": (None, "there is no data file"),
    "no answers": ([{"question": "q", "gold": "1"}], "lacks the columns ['answer']"),
    "no gold": ([{"question": "q", "answer": "a"}], "lacks the columns ['gold']"),
    "an empty gold": ([{"question": "q", "answer": "a", "gold": ""}], "needs 'gold', and the case '1' has none"),
    "an id twice": ([{"id": 1, "question": "q", "answer": "a", "gold": "1"}] * 2, "1 ids stand twice, e.g. '1'"),
    "a wrong label": (
        [{"question": "q", "answer": "a", "gold": "1", "human": "MAYBE"}],
        "`human` of '1' is 'MAYBE'; math_correct has YES, NO",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_one_sentence(name, tmp_path, told):
    rows, words = BAD[name]
    file = tmp_path / "a.jsonl" if rows is None else write(tmp_path / "a.jsonl", rows)
    code, out, err = told("judge", file, "--rubric", "math_correct", "--out", tmp_path)
    assert code == 2
    assert words in err
    assert out == ""
    assert len(err.strip().splitlines()) == 1


BAD_LABELS = {
    "no labels": ([{"id": "s0"}], "lacks the columns ['human']"),
    "no id": ([{"human": "YES"}], "has neither `id` nor question and answer"),
    "another id": ([{"id": "x", "human": "YES"}], "labels 1 ids that are not in the file that is judged, e.g. 'x'"),
    "nothing but empty": ([{"id": "s0", "human": ""}], "has no label in its column `human`"),
}


@pytest.mark.parametrize("name", BAD_LABELS)
def test_a_bad_file_of_labels_is_one_sentence(name, tmp_path, told):
    rows, words = BAD_LABELS[name]
    file, gold = write(tmp_path / "a.jsonl", sums(2)), write(tmp_path / "g.jsonl", rows)
    code, _, err = told("judge", file, "--rubric", "math_correct", "--gold", gold, "--out", tmp_path)
    assert code == 2
    assert words in err


def test_impossible_judges_are_refused_in_one_sentence(tmp_path, told, tiny):
    file = write(tmp_path / "a.jsonl", sums(2))
    for words, sentence in {
        ("--rubric", "math_corect"): "rubric 'math_corect' is not known; did you mean 'math_correct'",
        (): "ws judge needs a --rubric",
        ("--rubric", "trait_0_100", "--standard", "short"): "what no rule decides takes a judge",
        ("--rubric", "math_correct", "--by", "no such model"): "'no such model' is no model",
        ("--rubric", "math_correct", "--by", "rule:refusal~patterns"): "is about refusal, and not about math_correct",
        ("--rubric", "math_correct", "--votes", "2"): "a rule says the same every time; leave out --votes",
        ("--rubric", "math_correct", "--price", "cheap"): "--price is IN/OUT for a million tokens",
    }.items():
        code, out, err = told("judge", file, *words, "--out", tmp_path)
        assert (code, out) == (2, ""), words
        assert sentence in err, (words, err)
    with pytest.raises(ValueError, match="says the same every time at temperature 0"):
        jury("math_correct", tiny, votes=2)
    assert len(jury("math_correct", tiny, votes=2, settings=JudgeSettings(temperature=1.0)).others) == 1


def test_a_judge_without_any_verdict_fails(tmp_path, told):
    file = write(tmp_path / "a.jsonl", sums(2))
    code, out, err = told(
        *("judge", file, "--rubric", "math_correct", "--by", "tiny", "--max-new-tokens", "3", "--out", tmp_path)
    )
    assert code == 1
    assert "2 without a verdict (2 not in form)" in out
    assert "model:tiny|math_correct/1 gives no verdict on any of 2 cases" in err
