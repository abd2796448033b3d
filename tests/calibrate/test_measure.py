"""What a strength is measured on: what the steered model itself says, and for the audit, other questions."""

import sys
from dataclasses import replace

import pytest
import torch

from ws.calibrate import CalibrateSettings, calibrate, divergences
from ws.calibrate.prompts import prompt_sets
from ws.methods.activation.method import Activation, Add, block_name
from ws.models.chat import Chat, encode, render, stop_tokens

QUICK = CalibrateSettings(n_calib=8, n_audit=8, tokens=12, thoughts="off")
PROMPTS = prompt_sets(True, 8, 8)


def added(base, size: float) -> Activation:
    g = torch.Generator().manual_seed(0)
    v = torch.nn.functional.normalize(torch.randn(128, generator=g), dim=0)
    return Activation("sl:planted", {block_name(base, 3): Add(size * v)}, provenance={"base": base.described()})


def test_where_steering_changes_what_is_said_the_measure_follows_what_the_steered_model_says(tiny):
    method, prompt, n = added(tiny, 2000.0), PROMPTS.calib[1], 8
    head = encode(tiny.tokenizer, render(tiny.tokenizer, Chat(prompt)))

    @torch.inference_mode()
    def next_logp(alpha, said):
        with method.at(tiny, alpha):
            return tiny.model(input_ids=torch.tensor([[*head, *said]])).logits[0, -1].double().log_softmax(-1)

    said: dict[float, list[int]] = {1.0: [], 0.0: []}
    for alpha, tokens in said.items():
        while len(tokens) < n and not set(tokens) & set(stop_tokens(tiny.tokenizer, tiny.model)):
            tokens.append(int(next_logp(alpha, tokens).argmax()))
    assert said[1.0] != said[0.0], "the steered model has to say something else"

    def along(tokens):
        steps = [(next_logp(1.0, tokens[:t]), next_logp(0.0, tokens[:t])) for t in range(len(tokens))]
        return [float((s.exp() * (s - b)).sum()) for s, b in steps]

    (found,) = divergences(tiny, method, [prompt], [1.0], tokens=n, thinking="off")
    assert list(found.tokens[0]) == pytest.approx(along(said[1.0]), rel=1e-2, abs=1e-3)
    assert list(found.tokens[0]) != pytest.approx(along(said[0.0]), rel=0.1)  # along the base's own answer


def test_a_strength_is_audited_on_questions_it_was_not_found_on(tiny, monkeypatch):
    asked, measure = [], divergences

    def spy(base, method, prompts, alphas, **how):
        asked.append((set(prompts), measure(base, method, prompts, alphas, **how)))
        return asked[-1][1]

    monkeypatch.setattr(sys.modules["ws.calibrate"], "divergences", spy)
    found = calibrate(tiny, added(tiny, 40.0), settings=replace(QUICK, max_evals=2, tokens=6), prompts=PROMPTS)
    *searched, (checked, (pos, neg)) = asked
    assert checked == set(PROMPTS.audit) and not any(prompts & checked for prompts, _ in searched)
    assert set.union(*(prompts for prompts, _ in searched)) == set(PROMPTS.calib)
    assert (pos.alpha, neg.alpha) == (found.alpha_pos, found.alpha_neg)
    assert (found.pos.audit, found.neg.audit) == (pos.p95, neg.p95)


def test_the_measure_is_the_95th_percentile_of_the_tokens_of_all_prompts_together(tiny):
    (d,) = divergences(tiny, added(tiny, 60.0), PROMPTS.calib, [1.0], tokens=12)
    pooled = sorted(t for tokens in d.tokens for t in tokens)

    def at(share):
        place = share * (len(pooled) - 1)
        low, rest = pooled[int(place)], place - int(place)
        return low + rest * (pooled[min(int(place) + 1, len(pooled) - 1)] - low)

    assert (d.p50, d.p95, d.p99) == pytest.approx((at(0.5), at(0.95), at(0.99)))
    assert at(0.9) < 0.95 * d.p95 and max(pooled) == d.largest > d.p95  # or another quantile would do as well
    assert d.mean == pytest.approx(sum(pooled) / d.n_tokens) and d.rollouts == pytest.approx([sum(t) for t in d.tokens])
    low, high = d.interval()
    assert low < d.p95 < high


def test_prompts_and_answers_that_do_not_fit_the_context_together_are_refused(tiny, monkeypatch):
    longest = max(len(encode(tiny.tokenizer, render(tiny.tokenizer, Chat(p)))) for p in PROMPTS.calib)
    monkeypatch.setattr(sys.modules["ws.calibrate.kl"], "context_of", lambda model: longest + 3)

    def measured(tokens):
        return divergences(tiny, added(tiny, 60.0), PROMPTS.calib, [1.0], tokens=tokens, thinking="off")

    assert measured(3)[0].n_tokens <= 3 * len(PROMPTS.calib)
    with pytest.raises(ValueError, match=f"{longest} tokens of prompt and 4 new ones do not fit .* of {longest + 3}"):
        measured(4)
    with pytest.raises(ValueError, match="at least one token, got 0"):
        measured(0)


@pytest.mark.parametrize(("room", "most"), [(3.5, 3), (0, 1)])
def test_a_batch_keeps_no_more_log_probabilities_than_it_may_and_one_row_always(tiny, monkeypatch, room, most):
    module, sizes, tokens = sys.modules["ws.calibrate.kl"], [], 2
    batch = module._batch

    def counted(base, method, rows, *rest):
        sizes.append(len(rows))
        return batch(base, method, rows, *rest)

    monkeypatch.setattr(module, "_batch", counted)
    monkeypatch.setattr(module, "LOGITS", int(room * tokens * tiny.model.config.vocab_size * 4))
    divergences(tiny, added(tiny, 60.0), PROMPTS.calib, [1.0], tokens=tokens, thinking="off")
    assert max(sizes) == most and sum(sizes) == len(PROMPTS.calib)
