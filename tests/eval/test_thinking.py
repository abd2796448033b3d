"""Guided thought: what is reused equals what is computed anew, and every way to end a thought ends in the same slot."""

import dataclasses
import math

import pytest
import small
import torch
from test_steer import lowrank

from ws import prefix_cache
from ws.errors import ScoringImpossible, Unsupported
from ws.eval import EVALS, Evaluation
from ws.eval import score_protocol as run_eval
from ws.eval.scoring import Item
from ws.eval.thinking import FORCED, score_thinking, thinker
from ws.models.chat import Chat, close_of_thought, encode
from ws.steer import steer


@pytest.fixture(scope="module")
def items(tiny):
    return EVALS["dilemmas"].items(tiny, None)[:10] + EVALS["sycophancy"].items(tiny, None)[:6]


def near(found, wanted, atol=1e-4):
    for a, b in zip(found, wanted, strict=True):
        for x, y in zip(a, b, strict=True):
            assert (x.text, x.forced_close, x.n_thought) == (y.text, y.forced_close, y.n_thought)
            assert x.logratio == pytest.approx(y.logratio, abs=atol)
            assert x.pmass == pytest.approx(y.pmass, abs=atol)


@pytest.mark.parametrize("n_think", [1, 5, 11, 40])
@pytest.mark.parametrize("cot", ["think", "plain"])
def test_a_reused_cache_scores_like_reading_the_whole_text_again(tiny, items, n_think, cot):
    found = score_thinking(tiny, items, n_think=n_think, alphas=[0.0], cot=cot)
    near(found, score_thinking(tiny, items, n_think=n_think, alphas=[0.0], cot=cot, reuse_cache=False))


def test_the_batch_equals_one_prompt_at_a_time_by_transformers_own_generate(tiny, items):
    found = score_thinking(tiny, items, n_think=24, alphas=[0.0])
    for item, (s,) in list(zip(items, found))[::3]:
        t = thinker(tiny, item)
        out = tiny.model.generate(
            torch.tensor([t.ids]), max_new_tokens=24, do_sample=False, eos_token_id=t.close, pad_token_id=0
        )[0, len(t.ids) :].tolist()
        ids = [*t.ids, *out, *(t.tail if out[-1] == t.close else t.forced)]
        with torch.no_grad():
            logp = tiny.model(torch.tensor([ids])).logits[0, -1].log_softmax(-1)
        wanted = float(logp[list(t.answers.yes)].logsumexp(0) - logp[list(t.answers.no)].logsumexp(0))
        assert s.logratio == pytest.approx(wanted, abs=1e-4)
        assert s.forced_close == (out[-1] != t.close)


def test_more_questions_do_not_ask_for_the_whole_vocabulary_more_often(tiny, items, monkeypatch):
    asked, whole = [], type(tiny.tokenizer).get_vocab

    def counted(self):
        asked.append(1)
        return whole(self)

    monkeypatch.setattr(type(tiny.tokenizer), "get_vocab", counted)
    tiny.tokenizer.get_vocab()
    assert asked == [1]
    score_thinking(tiny, items[:2], n_think=1, alphas=[0.0])
    few = len(asked)
    score_thinking(tiny, items[:8], n_think=1, alphas=[0.0])
    assert len(asked) == few


def test_rows_that_finish_early_do_not_change_the_others(tiny, items):
    together = score_thinking(tiny, items, n_think=16, alphas=[0.0])
    assert len({s.n_thought for (s,) in together}) > 1
    alone = [score_thinking(tiny, [item], n_think=16, alphas=[0.0])[0] for item in items]
    near(together, alone)


def test_several_alphas_thought_together_equal_one_at_a_time(tiny, items):
    d = lowrank(tiny, size=1.0)
    dial = lambda a: steer(tiny, d, a)  # noqa: E731
    together = score_thinking(tiny, items[:5], n_think=12, alphas=[-1.0, 0.0, 1.0], dial=dial)
    for k, alpha in enumerate([-1.0, 0.0, 1.0]):
        alone = score_thinking(tiny, items[:5], n_think=12, alphas=[alpha], dial=dial)
        near([[row[k]] for row in together], alone)
    assert any(row[0].text != row[2].text for row in together)


def test_a_thought_that_does_not_end_is_closed_by_a_sentence_and_counted(tiny, items):
    t = thinker(tiny, items[0])
    assert tiny.tokenizer.decode(t.forced).startswith(FORCED + "\n</think>\n\n")
    short = score_thinking(tiny, items, n_think=3, alphas=[0.0])
    assert all(s.forced_close and s.n_thought == 3 for (s,) in short)
    enough = score_thinking(tiny, items, n_think=60, alphas=[0.0])
    assert not any(s.forced_close for (s,) in enough)
    assert all("think>" not in s.text and s.text for (s,) in enough)


def test_the_close_is_the_real_token_and_ends_no_turn(tiny):
    close = close_of_thought(tiny.tokenizer)
    assert close == encode(tiny.tokenizer, "</think>")[0] != tiny.tokenizer.eos_token_id


def test_an_end_of_turn_inside_a_thought_is_dropped_and_the_thought_closed(tiny, items, monkeypatch):
    """Any stop but the close ends a thought; here it is the fifth token that the model would think."""
    t = thinker(tiny, items[0])
    out = tiny.model.generate(torch.tensor([t.ids]), max_new_tokens=5, do_sample=False, pad_token_id=0)
    fifth = int(out[0, -1])
    monkeypatch.setattr("ws.eval.thinking.stop_tokens", lambda *a: [fifth])
    found = score_thinking(tiny, items, n_think=40, alphas=[0.0])
    assert found[0][0].forced_close
    assert found[0][0].n_thought == 4
    near(found, score_thinking(tiny, items, n_think=40, alphas=[0.0], reuse_cache=False))


@pytest.mark.parametrize("kind", sorted(small.BUILD))
def test_every_architecture_scores_the_same_with_and_without_its_cache(kind, tiny, monkeypatch):
    base = small.base(kind, tokenizer=tiny.tokenizer)
    monkeypatch.setattr("ws.eval.thinking.close_of_thought", lambda tokenizer: None)
    monkeypatch.setattr("ws.eval.thinking.refuse_too_long", lambda *a: None)
    ids = iter([[5, 6, 7, 8, 9, 10], [11, 12, 13], [14, 15, 16, 17]])
    one = thinker(tiny, Item("u", "k", Chat("Well?"), "A:", (("yes",), ("no",))), "plain")
    answers = dataclasses.replace(one.answers, yes=(20, 21), no=(30,))
    rows = [dataclasses.replace(one, ids=tuple(i), tail=(40, 41, 42), forced=(43, 44), answers=answers) for i in ids]
    monkeypatch.setattr("ws.eval.thinking.thinker", lambda base, item, cot: rows[int(item.row_key)])
    items = [Item("u", str(i), Chat(""), "") for i in range(3)]
    monkeypatch.setattr("ws.eval.thinking.stop_tokens", lambda *a: list(range(0, 96, 7)))
    found = score_thinking(base, items, n_think=9, alphas=[0.0], cot="plain")
    near(found, score_thinking(base, items, n_think=9, alphas=[0.0], cot="plain", reuse_cache=False))
    assert prefix_cache.holds(base) == (kind != "qwen3.5")


def test_a_model_without_thought_tokens_is_refused_by_think_and_served_by_plain(tiny, items):
    import copy

    bare = copy.copy(tiny.tokenizer)
    bare.chat_template = None
    plain = dataclasses.replace(tiny, tokenizer=bare)
    with pytest.raises(Unsupported, match="no chat template"):
        score_thinking(plain, items[:1], n_think=4, alphas=[0.0])
    ((s,),) = score_thinking(plain, items[:1], n_think=4, alphas=[0.0], cot="plain")
    assert math.isfinite(s.logratio)


@pytest.mark.parametrize(
    ("name", "protocol", "instead"),
    [
        ("airisk", None, "use airisk-truth/plain1, whose"),
        ("airisk", "airisk-care/1", "use airisk-care/plain1, whose"),
        ("dilemmas", "dd-cot/1", "use dd-cot/plain1, whose"),
        ("tinymfv", "mfv-json/t64", "use mfv-json/t64-plain, whose"),
        ("foundations", "mfv-json/t64", "use mfv-json/t64-plain, whose"),
        ("dilemmas", "dd-1f/1", "ask it without a thought"),
    ],
)
def test_a_thought_asked_of_a_model_without_any_is_refused_before_training_and_what_may_be_asked_is_named(
    tiny, monkeypatch, name, protocol, instead
):
    asked = Evaluation(name, protocol, n_think=8 if protocol == "dd-1f/1" else None, limit=2).questions(tiny)
    asked.check()
    monkeypatch.setattr("ws.eval.questions.thinks", lambda tokenizer: False)
    with pytest.raises(ScoringImpossible, match=f"this one has none; {instead}"):
        asked.check()
    if "plain" in instead:
        Evaluation(name, instead.split()[1].strip(","), limit=2).questions(tiny).check()


def test_a_thought_that_does_not_fit_the_context_is_refused_and_named(tiny, items):
    with pytest.raises(ScoringImpossible, match=r"16 of 16 rows are longer .* e\.g\. \S+ with"):
        score_thinking(tiny, items, n_think=1020, alphas=[0.0])
    with pytest.raises(ValueError, match="at least one token"):
        score_thinking(tiny, items, n_think=0, alphas=[0.0])
    with pytest.raises(ValueError, match="think, plain"):
        score_thinking(tiny, items, n_think=4, alphas=[0.0], cot="aloud")


def test_rows_of_a_thinking_protocol_hold_the_thought_and_how_it_ended(tiny):
    chosen = EVALS["dilemmas"].thinking(8)
    assert chosen.id == "dd-1f/1~t8"
    assert chosen.thinking(0).id == "dd-1f/1~t0" != EVALS["dilemmas"].id
    result = run_eval(tiny, chosen, limit=2)
    assert result.rows["text"].str.len().min() > 0
    share = result.rows["forced_close"].mean()
    assert result.note["forced_share"] == {"0": pytest.approx(share)}
    assert set(result.rows["protocol"]) == {"dd-1f/1~t8"}
