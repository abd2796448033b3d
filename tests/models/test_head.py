"""The head on chosen positions: the model's own logits, their exact gradients, and never all of them at once."""

import pytest
import small
import torch
import transformers as tf

from ws.models import head
from ws.models.head import target_logprobs

KINDS = {
    **small.BUILD,
    "gemma2, capped": lambda: small._gated(
        tf.Gemma2ForCausalLM, tf.Gemma2Config, head_dim=8, final_logit_softcapping=2.0
    ),
    "granite, scaled": lambda: small._gated(tf.GraniteForCausalLM, tf.GraniteConfig, logits_scaling=3.0),
    "cohere, scaled": lambda: small._gated(tf.CohereForCausalLM, tf.CohereConfig, logit_scale=0.2),
    "phi, with a bias": lambda: tf.PhiForCausalLM(
        tf.PhiConfig(**small.COMMON, intermediate_size=64, max_position_embeddings=64)
    ),
}
ROWS, WIDTH = 2, 7
INDEX = [2, 3, 5, 9, 10, 11, 12]
"""Positions of both rows, of which some are left out."""


def network(kind):
    torch.manual_seed(0)
    model = KINDS[kind]().eval().requires_grad_(False)
    for p in model.parameters():  # large enough that a cap, a scale or a bias matters
        p.data.mul_(3) if p.ndim == 2 else p.data.add_(0.3 * torch.randn(p.shape))
    return model


def inputs():
    ids = small.ids(ROWS, WIDTH)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def by_all_logits(model):
    """(log-probabilities of the next tokens at the chosen positions, those tokens), from every logit there is."""
    own = inputs()
    targets = own["input_ids"].roll(-1).flatten()[INDEX].tolist()
    logp = model(**own, use_cache=False).logits.flatten(0, 1).log_softmax(-1)
    return logp[INDEX, targets], targets


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("whole", [False, True])
def test_chosen_positions_have_the_logprobs_and_gradients_that_all_logits_give(kind, whole, monkeypatch):
    monkeypatch.setattr(head, "FEWEST", 1)
    monkeypatch.setattr(head, "PART", 3 * 96)  # three parts
    model = network(kind)
    layer = head.causal(model).base_model.get_input_embeddings()
    shift = torch.zeros(layer.embedding_dim, requires_grad=True)
    layer.register_forward_hook(lambda _, args, y: y + shift)
    wanted, targets = by_all_logits(model)
    found = target_logprobs(model, INDEX, targets, whole=whole, **inputs())
    weights = torch.linspace(-1, 2, len(INDEX))  # another gradient for every position
    (expected,) = torch.autograd.grad((weights * wanted).sum(), shift)
    (gradient,) = torch.autograd.grad((weights * found).sum(), shift)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(gradient, expected, atol=1e-4 * float(expected.abs().max()), rtol=1e-4)
    assert expected.abs().max() > 1e-3
    assert not model.get_output_embeddings()._forward_pre_hooks and "forward" not in vars(model.base_model)


def test_a_head_that_is_trained_gets_its_own_gradient_over_all_parts(monkeypatch):
    monkeypatch.setattr(head, "FEWEST", 1)
    monkeypatch.setattr(head, "PART", 3 * 96)
    model = network("gemma2, capped")
    weight = model.get_output_embeddings().weight.requires_grad_()  # tied: the embedding as well
    wanted, targets = by_all_logits(model)
    (expected,) = torch.autograd.grad(wanted.sum(), weight)
    (gradient,) = torch.autograd.grad(target_logprobs(model, INDEX, targets, **inputs()).sum(), weight)
    torch.testing.assert_close(gradient, expected, atol=1e-4 * float(expected.abs().max()), rtol=1e-4)


def test_no_more_logits_are_there_than_one_part_of_the_targets(monkeypatch):
    monkeypatch.setattr(head, "FEWEST", 1)
    monkeypatch.setattr(head, "PART", 3 * 96)
    model = network("llama")
    sizes = []
    model.get_output_embeddings().register_forward_hook(lambda _, args, y: sizes.append(y.numel() // 96))
    with torch.no_grad():
        target_logprobs(model, INDEX, [1] * len(INDEX), **inputs())
    assert sizes == [0, 2, 2, 3]


@pytest.mark.parametrize("kind", KINDS)
def test_padding_on_the_right_changes_no_number_of_a_row(kind):
    model = network(kind)
    ids = small.ids(2, WIDTH)
    padded = torch.cat([ids, torch.zeros(2, 4, dtype=torch.long)], dim=1)
    with torch.no_grad():
        alone = model(ids, use_cache=False).logits
        beside = model(padded, attention_mask=torch.ones_like(padded), use_cache=False).logits[:, :WIDTH]
    torch.testing.assert_close(beside, alone, atol=1e-4, rtol=1e-4)
