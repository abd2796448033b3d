"""A method that steers answers steers the same tokens wherever they come from: written, thought, put before a slot, or scored whole.

The oracle is a loop that feeds a model one token at a time under the method, as if it were writing: the last token of the
prompt is steered, and every token after it.
"""

from dataclasses import replace

import pytest
import torch

from ws import prefix_cache
from ws.calibrate import divergences
from ws.errors import Unsupported
from ws.eval import protocol
from ws.eval.questions import items_of, measure, plain_dial
from ws.eval.scoring import Item, score, sequence_logprobs
from ws.eval.thinking import score_thinking, thinker
from ws.generate import generate
from ws.methods.activation import paper
from ws.methods.activation.method import Activation, Add, block_name
from ws.models.answers import find_answers
from ws.models.chat import Chat, encode, render
from ws.pairs import Pair
from ws.prefix_cache import answering, padded
from ws.train.sequences import finished

STRONG = 400.0


@pytest.fixture(scope="module")
def method(tiny):
    """Random directions at two blocks, on answers alone."""
    g = torch.Generator().manual_seed(0)
    vectors = [torch.nn.functional.normalize(torch.randn(128, generator=g), dim=0) for _ in range(2)]
    edits = {block_name(tiny, at): Add(v) for at, v in zip((1, 3), vectors)}
    return Activation("paper:planted", edits, "response", provenance={"base": tiny.described()})


@pytest.fixture(scope="module")
def asked(tiny):
    return items_of(protocol("dilemmas"), tiny, limit=5)


@torch.inference_mode()
def written(base, method, alpha, prompt, own):
    """Log-probabilities after the prompt and after each token of an answer, fed one at a time."""
    found, cache, read = [], None, list(prompt)
    with method.at(base, alpha):
        for token in [*own, None]:
            out = base.model(input_ids=torch.tensor([read]), past_key_values=cache, use_cache=True)
            found.append(out.logits[0, -1].log_softmax(-1))
            cache, read = out.past_key_values, [token]
    return torch.stack(found)


def parts(base, item):
    """(the ids of a prompt, the ids of its anchor)."""
    prompt = encode(base.tokenizer, render(base.tokenizer, item.chat))
    whole = encode(base.tokenizer, render(base.tokenizer, item.chat) + item.anchor)
    assert whole[: len(prompt)] == prompt
    return prompt, whole[len(prompt) :]


def logratio(base, item, logp, before):
    found = find_answers(base.tokenizer, item.words, before)
    return float(logp[list(found.yes)].logsumexp(-1) - logp[list(found.no)].logsumexp(-1))


def test_an_anchor_is_steered_as_if_the_model_had_written_it(tiny, method, asked):
    found = measure(tiny, protocol("dilemmas"), asked, alphas=[0.0, STRONG, -STRONG], by=method)
    for item, row in zip(asked, found):
        prompt, anchor = parts(tiny, item)
        assert len(anchor) > 1, "an anchor of one token could not tell"
        text = render(tiny.tokenizer, item.chat) + item.anchor
        for score_, alpha in zip(row, (0.0, STRONG, -STRONG)):
            logp = written(tiny, method, alpha, prompt, anchor)[-1]
            assert score_.logratio == pytest.approx(logratio(tiny, item, logp, text), abs=2e-4)
        with method.at(tiny, STRONG), torch.inference_mode():  # the last token alone is another, weaker thing
            last = tiny.model(input_ids=torch.tensor([prompt + anchor])).logits[0, -1].log_softmax(-1)
        assert abs(logratio(tiny, item, last, text) - row[1].logratio) > 2e-3


def test_reading_shared_beginnings_once_steers_the_same_tokens(tiny, method, asked, monkeypatch):
    shared = score(tiny, asked, alphas=[STRONG], dial=lambda a: method.at(tiny, a))
    monkeypatch.setitem(prefix_cache._holds, tiny.model, False)
    whole = score(tiny, asked, alphas=[STRONG], dial=lambda a: method.at(tiny, a))
    assert [r[0].logratio for r in shared] == pytest.approx([r[0].logratio for r in whole], abs=1e-3)


def test_a_whole_answer_in_one_pass_is_steered_as_if_it_were_written(tiny, method):
    asked = items_of(protocol("perplexity"), tiny, limit=4)
    asked = [*asked, replace(asked[0], anchor=" Well", row_key="anchored")]
    found = measure(tiny, protocol("perplexity"), asked, alphas=[0.0, STRONG], by=method)
    for item, (plain, steered) in zip(asked, found):
        prompt, anchor = parts(tiny, item)
        answer = encode(tiny.tokenizer, render(tiny.tokenizer, item.chat) + item.anchor + item.texts[0])
        answer = answer[len(prompt) + len(anchor) :]
        logp = written(tiny, method, STRONG, prompt, [*anchor, *answer])[len(anchor) : -1]
        wanted = float(logp.gather(-1, torch.tensor(answer)[:, None]).mean())
        assert steered.logratio == pytest.approx(wanted, abs=1e-3) and abs(steered.logratio - plain.logratio) > 0.01
    ids = (*prompt, *anchor, *answer)
    ((scored,),) = sequence_logprobs(tiny, [(ids, len(prompt))], alphas=[STRONG], dial=lambda a: method.at(tiny, a))
    own = ids[len(prompt) :]
    logp = written(tiny, method, STRONG, prompt, own)[:-1]
    assert scored == pytest.approx(float(logp.gather(-1, torch.tensor(own)[:, None]).mean()), abs=1e-3)


@pytest.mark.parametrize("reuse", [True, False])
def test_a_thought_its_close_and_the_anchor_are_all_the_models_own(tiny, method, asked, reuse):
    dial = lambda a: method.at(tiny, a)  # noqa: E731
    for n_think in (3, 40):  # cut short, and ended by itself
        found = score_thinking(tiny, asked[:2], n_think=n_think, alphas=[STRONG], dial=dial, reuse_cache=reuse)
        for item, (one,) in zip(asked[:2], found):
            t = thinker(tiny, item)
            with method.at(tiny, STRONG), torch.inference_mode():
                cache, read, thought = None, list(t.ids), []
                while len(thought) < n_think and t.close not in thought:
                    out = tiny.model(input_ids=torch.tensor([read]), past_key_values=cache, use_cache=True)
                    cache, read = out.past_key_values, [int(out.logits[0, -1].argmax())]
                    thought += read
            after = t.tail if thought[-1] == t.close else t.forced
            logp = written(tiny, method, STRONG, t.ids, [*thought, *after])[-1]
            wanted = float(logp[list(t.answers.yes)].logsumexp(-1) - logp[list(t.answers.no)].logsumexp(-1))
            assert one.forced_close == (thought[-1] != t.close)
            assert one.logratio == pytest.approx(wanted, abs=2e-3)


def test_what_is_written_after_an_anchor_goes_on_from_a_steered_one(tiny, method):
    free = protocol("perplexity", "neutral-free/1")
    item = replace(items_of(free, tiny, limit=1)[0], anchor=" The answer is")
    prompt, anchor = parts(tiny, item)
    found = measure(tiny, replace(free, n_write=6), [item], alphas=[STRONG], by=method)[0][0]
    ids: list[int] = []
    for _ in range(6):
        ids.append(int(written(tiny, method, STRONG, prompt, [*anchor, *ids])[-1].argmax()))
    text = tiny.tokenizer.decode(ids[: found.n_thought], skip_special_tokens=True).strip()
    assert found.n_thought > 1 and found.text.strip() == text


def test_calibration_and_evaluation_steer_the_same_tokens(tiny, method):
    question = "What is the capital of Kenya?"
    (d,) = divergences(tiny, method, [question], [STRONG], tokens=5, thinking="off")
    prompt = encode(tiny.tokenizer, render(tiny.tokenizer, Chat(question)))
    own: list[int] = []
    with torch.inference_mode():
        while len(own) < d.n_tokens:
            own.append(int(written(tiny, method, STRONG, prompt, own)[-1].argmax()))
        ids, mask, positions = padded(tiny, [prompt + own])
        kls = []
        for alpha in (STRONG, 0.0):  # the text in one pass, as a whole answer is scored
            with answering([len(prompt) - 1]), method.at(tiny, alpha):
                out = tiny.model(input_ids=ids, attention_mask=mask, position_ids=positions).logits[0]
            kls.append(out.log_softmax(-1)[len(prompt) - 1 : -1])
    kl = (kls[0].exp() * (kls[0] - kls[1])).sum(-1)
    assert list(d.tokens[0]) == pytest.approx(kl.tolist(), abs=2e-3) and max(d.tokens[0]) > 0.05


def test_a_layer_is_chosen_by_what_its_vector_does_at_the_tokens_it_will_steer(tiny, method):
    pair = Pair("Who broke the cup?", "I broke the cup.", "The bus broke the cup.", "p0", "", "", 0)
    total = 0.0
    for sign, answer in ((1, pair.response_pos), (-1, pair.response_neg)):
        ids, start, _ = finished(tiny.tokenizer, pair.prompt, answer)
        for alpha in (1, -1):
            logp = written(tiny, method * STRONG, alpha, ids[:start], ids[start:])[:-1]
            total += sign * alpha * float(logp.gather(-1, torch.tensor(ids[start:])[:, None]).mean()) / 2
    assert paper.effect(tiny, method * STRONG, [pair]) == pytest.approx(total, abs=1e-3)
    everywhere = replace(method * STRONG, positions="all")
    assert abs(paper.effect(tiny, everywhere, [pair]) - total) > 0.01


def test_rows_of_other_lengths_keep_their_own_starts_and_prompts_stay_as_they_are(tiny, method):
    rows, starts = [[5, 6, 7, 8, 9, 10], [11, 12, 13]], [4, 1]
    ids, mask, positions = padded(tiny, rows)

    @torch.inference_mode()
    def put_out(alpha: float):
        kept = []
        with answering(starts), method.at(tiny, alpha):
            block = tiny.model.get_submodule(block_name(tiny, 1))
            handle = block.register_forward_hook(
                lambda m, a, out: kept.append(out[0] if isinstance(out, tuple) else out)
            )
            tiny.model(input_ids=ids, attention_mask=mask, position_ids=positions)
            handle.remove()
        return kept[0]

    moved = (put_out(STRONG) - put_out(0.0)).norm(dim=-1)
    for i, (row, start) in enumerate(zip(rows, starts)):
        own = moved[i, -len(row) :]
        assert own[:start].tolist() == [0.0] * start
        assert own[start:].tolist() == pytest.approx([STRONG] * (len(row) - start), rel=1e-3)


def test_a_pass_that_does_not_say_where_its_rows_start_is_refused(tiny, method):
    ids, mask, positions = padded(tiny, [[1, 2, 3]])
    with answering([1, 1]), method.at(tiny, 1.0), pytest.raises(ValueError, match="one per row"):
        tiny.model(input_ids=ids, attention_mask=mask, position_ids=positions)
    with answering([1]), method.at(tiny, 1.0), pytest.raises(ValueError, match="no positions"):
        tiny.model(input_ids=ids, attention_mask=mask)
    with method.at(tiny, 1.0):
        tiny.model(input_ids=ids)
    with pytest.raises(Unsupported, match="does not say where an answer starts"):
        plain_dial(tiny, method, "lm-eval", marks_answers=False)
    assert plain_dial(tiny, method, "pairs") is not None


def test_an_item_without_an_anchor_is_steered_at_the_end_of_its_prompt(tiny, method):
    item = Item("u", "r", Chat("Is the sky blue? Answer Yes or No."), "", words=(("yes",), ("no",)))
    ((found,),) = score(tiny, [item], alphas=[STRONG], dial=lambda a: method.at(tiny, a))
    text = render(tiny.tokenizer, item.chat)
    logp = written(tiny, method, STRONG, encode(tiny.tokenizer, text), [])[-1]
    assert found.logratio == pytest.approx(logratio(tiny, item, logp, text), abs=1e-3)
    assert generate(tiny, "Is the sky blue?", max_new_tokens=3)
