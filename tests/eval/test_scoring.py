"""Scores do not depend on the batch, and steering several alphas at once is steering each."""

import copy
import dataclasses

import pytest
import torch
from test_steer import lowrank

from ws.errors import ScoringImpossible
from ws.eval import EVALS
from ws.eval import pairs as pairs_eval
from ws.eval import score_protocol as run_eval
from ws.eval.scoring import Item, last_logprobs, prompts_of, score, score_texts, sequence_logprobs, slot_text
from ws.models.chat import Chat, render
from ws.steer import steer
from ws.train.sequences import rows_of


@pytest.fixture(scope="module")
def items(tiny):
    return EVALS["dilemmas"].items(tiny, None)[:40] + EVALS["sycophancy"].items(tiny, None)[:40]


def test_a_row_alone_equals_the_row_in_a_padded_batch(tiny, items, monkeypatch):
    together = score(tiny, items, alphas=[0.0])
    monkeypatch.setattr("ws.batches.CPU_TOKENS", 1)
    for a, b in zip(together, score(tiny, items, alphas=[0.0])):
        assert a[0].logratio == pytest.approx(b[0].logratio, abs=1e-4)
        assert a[0].pmass == pytest.approx(b[0].pmass, abs=1e-4)


def test_scores_equal_a_plain_forward_of_the_whole_text(tiny, items):
    from ws.eval.scoring import proven

    for item, (s,) in zip(items[::9], score(tiny, items[::9], alphas=[0.0])):
        with torch.no_grad():
            logp = tiny.model(torch.tensor([list(prompts_of(tiny, [item])[0].ids)])).logits[0, -1].log_softmax(-1)
        found = proven(tiny, item)
        assert s.logratio == pytest.approx(
            float(logp[list(found.yes)].logsumexp(0) - logp[list(found.no)].logsumexp(0)), abs=1e-4
        )


def test_several_alphas_in_one_batch_equal_one_at_a_time(tiny, items):
    d = lowrank(tiny, size=0.05)
    dial = lambda a: steer(tiny, d, a)  # noqa: E731
    alphas = [-1.0, 0.0, 0.5, 1.0]
    together = score(tiny, items, alphas=alphas, dial=dial)
    for k, alpha in enumerate(alphas):
        alone = score(tiny, items, alphas=[alpha], dial=dial)
        for a, b in zip(together, alone):
            assert a[k].logratio == pytest.approx(b[0].logratio, abs=1e-4)
    assert max(abs(r[0].logratio - r[3].logratio) for r in together) > 1e-2


def test_the_reference_arm_is_the_bare_model_bit_for_bit(tiny, items):
    d = lowrank(tiny, size=0.05)
    steered = score(tiny, items, alphas=[0.0, 1.0], dial=lambda a: steer(tiny, d, a))
    assert [r[0] for r in steered] == [r[0] for r in score(tiny, items, alphas=[0.0])]


def test_an_alpha_without_a_direction_is_refused(tiny, items):
    with pytest.raises(ValueError, match="something to steer by"):
        score(tiny, items, alphas=[1.0])


def test_the_slot_is_the_last_token_whatever_the_padding(tiny):
    rows = [[5, 6, 7], [5, 6, 7, 8, 9, 10, 11], [9]]
    together = last_logprobs(tiny, rows)
    for row, lp in zip(rows, together):
        torch.testing.assert_close(lp, last_logprobs(tiny, [row])[0], atol=2e-5, rtol=1e-4)


def test_answer_log_probabilities_equal_a_plain_forward(tiny):
    from test_train import PAIRS

    sides, _ = rows_of(tiny, PAIRS, max_len=64)
    rows = [(r.ids, r.start) for r in sides["pos"]]
    for (ids, start), (mean,) in zip(rows, sequence_logprobs(tiny, rows, alphas=[0.0])):
        with torch.no_grad():
            logp = tiny.model(torch.tensor([ids])).logits[0].log_softmax(-1)
        wanted = [float(logp[t - 1, ids[t]]) for t in range(start, len(ids))]
        assert mean == pytest.approx(sum(wanted) / len(wanted), abs=1e-4)


def test_a_row_longer_than_the_context_is_refused_and_named_and_never_cut(tiny, items):
    def asked(words, **more):
        return dataclasses.replace(items[0], row_key="long", chat=Chat("snow " * words), **more)

    rest = r"tokens\), e\.g\. long with \d{4}; shorten their text"
    for row in (asked(1100), asked(900, anchor="snow " * 200)):
        with pytest.raises(ScoringImpossible, match=r"1 of 2 rows are longer .* \(1024 " + rest):
            score(tiny, [items[0], row], alphas=[0.0])
    with pytest.raises(ScoringImpossible, match=r"1 of 1 rows .* \(1024 " + rest):
        score_texts(tiny, [asked(900, texts=(" Yes.", " snow" * 200))], alphas=[0.0])


@pytest.mark.parametrize(("anchor", "answer"), [("Snow is whi", "te."), ("Snow is ", "white."), ("Snow is", "")])
def test_an_answer_that_starts_no_token_of_its_own_is_refused(tiny, anchor, answer):
    def item(text):
        return Item("u", "k", Chat("What color is snow?"), anchor, texts=(text,))

    with pytest.raises(ScoringImpossible, match=f"the answer {answer!r} of k does not start a new token after"):
        score_texts(tiny, [item(answer)], alphas=[0.0])
    ((found,),) = score_texts(tiny, [item(" white.")], alphas=[0.0])
    assert found.logratio < 0


def test_without_a_chat_template_the_answer_starts_on_a_line_of_its_own(tiny):
    base = dataclasses.replace(tiny, tokenizer=copy.deepcopy(tiny.tokenizer))
    base.tokenizer.chat_template = None
    item = Item("u", "k", Chat("Is snow white?"), "My choice:", (("yes",), ("no",)))
    assert slot_text(base, item) == "Is snow white?\nMy choice:"
    assert slot_text(base, dataclasses.replace(item, anchor="")) == "Is snow white?"
    assert slot_text(tiny, item) == render(tiny.tokenizer, item.chat) + "My choice:"


def test_rows_say_all_that_a_table_needs(tiny):
    d = lowrank(tiny, size=0.05)
    result = run_eval(
        tiny, EVALS["dilemmas"], alphas=[-1, 1], dial=lambda a: steer(tiny, d, a), method="ws:lora", seed=3, limit=5
    )
    rows = result.rows
    assert set(rows["alpha"]) == {-1.0, 0.0, 1.0}
    assert set(rows["arm"]) == {"neg", "ref", "pos"}
    assert rows["unit_id"].nunique() == 5
    assert set(rows["method"]) == {"ws:lora"}
    assert set(rows["seed"]) == {3}
    assert not rows.duplicated(["row_key", "alpha"]).any()


def test_a_direction_toward_the_pos_answers_raises_the_pairs_metric(tiny):
    from test_train import PAIRS, quick

    from ws.diff import diff
    from ws.train import train

    settings = quick(epochs=12, lr=(5e-3,))
    d = diff(tiny, *train(tiny, PAIRS, settings))
    result = pairs_eval.score_pairs(tiny, PAIRS, alphas=[-1, 1], dial=lambda a: steer(tiny, d, a), method="ws:lora")
    by_alpha = {r["alpha"]: r["mean"] for r in result.table()}
    assert by_alpha[-1.0] < by_alpha[0.0] < by_alpha[1.0]
