"""Methods that are trained under both signs: one adapter, and one vector per block."""

from dataclasses import replace

import pytest
import small
import torch
from test_train import quick

from ws import methods
from ws.behaviors import neutral_prompts
from ws.cli import main
from ws.data import DataSettings
from ws.direction.forms import LowRank
from ws.errors import Unsupported
from ws.methods import Material
from ws.methods.activation import post_block
from ws.methods.activation.paper import effect
from ws.methods.signed import signed_lora
from ws.models.head import divergences, states_of
from ws.pairs import Pair, Pairs, marks_in, question_hashes, save_pairs
from ws.prefix_cache import mean_logprobs
from ws.study.plan import Plan
from ws.study.stages import material as material_of
from ws.train.sequences import finished
from ws.train.signed import base_answers

NAMES = ("signed:lora", "post_block")
PLACES = ["school", "shop", "bridge", "garden", "station", "square", "house", "bank", "park", "farm"]
PAIRS = Pairs(
    tuple(
        Pair(f"Who is at the {p}?", "I admit that I am late.", "I say that the bus is late.", p, topic_idx=i)
        for i, p in enumerate(PLACES)
    )
)
QUICK = quick(epochs=4, batch_size=8, eval_every=2, warmup=0, lr=(1e-2,), targets=("down_proj", "o_proj"))


def study(tiny, pairs=PAIRS, **settings) -> Material:
    part = lambda rows: lambda: replace(pairs, rows=rows)  # noqa: E731
    return Material(
        tiny,
        questions=lambda: [r.prompt for r in pairs.rows[:8]],
        pairs=part(pairs.rows[:8]),
        held=part(pairs.rows[8:]),
        settings=lambda adapter: replace(QUICK, **settings),
    )


@pytest.fixture(scope="module", autouse=True)
def one_rate():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(post_block, "LR", (3.0,))
        yield


@pytest.fixture(scope="module")
def made(tiny):
    return {name: methods.make(name, study(tiny)) for name in NAMES}


@pytest.fixture(scope="module")
def without_kl(tiny):
    return signed_lora(study(tiny), kl=0)


def logits(base, *rows):
    return base.model(input_ids=torch.tensor([*rows])).logits


@pytest.mark.parametrize("name", NAMES)
def test_held_out_pairs_move_toward_pos_at_plus_and_toward_neg_at_minus(name, made, tiny):
    assert effect(tiny, made[name], PAIRS.rows[8:]) > 0.1
    turned = methods.make(name, study(tiny, PAIRS.swapped()))
    assert effect(tiny, turned, PAIRS.rows[8:]) < -0.1


@pytest.mark.parametrize("name", NAMES)
def test_each_answer_is_likelier_under_its_sign_and_as_likely_as_the_training_says(name, made, without_kl, tiny):
    method = {**made, "signed:lora": without_kl}[name]
    training = method.provenance["training"]
    for side, sign in (("pos", 1.0), ("neg", -1.0)):
        texts = []
        for r in PAIRS.rows[8:]:
            ids, start, _ = finished(tiny.tokenizer, r.prompt, getattr(r, f"response_{side}"))
            texts.append((tuple(ids), start))
        with torch.no_grad():
            plain = sum(mean_logprobs(tiny, texts)) / len(texts)
            with method.at(tiny, sign):
                steered = sum(mean_logprobs(tiny, texts)) / len(texts)
        assert steered > plain + 0.1
        assert -steered == pytest.approx(training[f"val_{side}"], abs=1e-4)  # answers of one length


@pytest.mark.parametrize("name", NAMES)
def test_zero_is_the_base_bit_for_bit_and_training_leaves_no_trace_and_repeats(name, made, tiny):
    before = {k: v.clone() for k, v in tiny.model.state_dict().items()}
    row = [5, 9, 400, 31]
    plain = logits(tiny, row, row, row)
    again = methods.make(name, study(tiny))
    assert all(torch.equal(v, before[k]) for k, v in tiny.model.state_dict().items())
    assert again.content_hash == made[name].content_hash
    assert torch.equal(logits(tiny, row, row, row), plain) and not any(p.requires_grad for p in tiny.model.parameters())
    with again.at(tiny, [1.0, 0.0, -1.0]):
        up, still, down = logits(tiny, row, row, row)
    assert torch.equal(still, plain[1])
    assert not torch.equal(up, plain[0]) and not torch.equal(down, plain[2]) and not torch.equal(up, down)


@pytest.mark.parametrize("name", NAMES)
def test_another_seed_is_another_training(name, made, tiny):
    assert methods.make(name, study(tiny, seed=1, batch_size=5)).numbers_hash != made[name].numbers_hash


def test_the_kl_term_holds_neutral_answers_to_the_base(tiny):
    neutral = [p.text for p in neutral_prompts(True)[:3]]
    drift = []
    for method in (signed_lora(study(tiny, epochs=10, patience=1), kl=kl) for kl in (0.0, 10.0)):
        total = 0.0
        for [(row, _)] in base_answers(tiny, neutral, 64).values():
            with torch.no_grad():
                base = logits(tiny, row.ids)[0, row.start - 1 : -1].log_softmax(-1)
                for sign in (1.0, -1.0):
                    with method.at(tiny, sign):
                        own = logits(tiny, row.ids)[0, row.start - 1 : -1].log_softmax(-1)
                    total += float((own.exp() * (own - base)).sum())
        drift.append(total)
    assert 0 < drift[1] < 0.7 * drift[0]


def test_the_kl_that_is_trained_on_is_that_of_all_words_with_its_gradient():
    base, other = small.base("llama"), small.base("llama", seed=1)
    other.model.lm_head.weight.data.copy_(base.model.lm_head.weight)
    ids, index = small.ids(2, 7), [0, 3, 8, 13]
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    with torch.no_grad():
        reference = states_of(other.model, index, **inputs)
        logq = other.model(**inputs).logits.flatten(0, 1)[index].log_softmax(-1)
    embedding = base.model.get_input_embeddings().weight.requires_grad_(True)
    try:
        ours = divergences(base.model, index, reference, **inputs)
        (gradient,) = torch.autograd.grad(ours.sum(), embedding)
        logp = base.model(**inputs).logits.flatten(0, 1)[index].log_softmax(-1)
        plain = torch.nn.functional.kl_div(logq, logp, log_target=True, reduction="none").sum(-1)
        torch.testing.assert_close(ours, plain)
        torch.testing.assert_close(gradient, torch.autograd.grad(plain.sum(), embedding)[0])
        assert (plain > 1e-3).all()
    finally:
        embedding.requires_grad_(False)


def test_a_signed_adapter_is_a_direction_of_its_own_rank_with_a_file(made, tmp_path):
    direction = made["signed:lora"].direction
    assert {type(f) for forms in direction.forms.values() for f in forms} == {LowRank}
    assert {f.a.shape[0] for forms in direction.forms.values() for f in forms} == {4}
    for method in made.values():
        assert methods.load(methods.save(method, tmp_path / "m.safetensors")).content_hash == method.content_hash


def test_its_file_is_exported_and_vectors_are_refused(made, tmp_path, capsys):
    signed, vectors = (str(methods.save(m, tmp_path / f"{m.kind}.safetensors")) for m in made.values())
    assert main(["export", signed, "--model", "tiny", "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "adapter_model.safetensors").is_file()
    assert main(["export", vectors, "--model", "tiny", "--out", str(tmp_path / "none")]) != 0
    assert "post_block is not one change of the weights" in capsys.readouterr().err


def test_a_study_trains_it_once_and_it_says_what_it_was_made_from(tiny, tmp_path, monkeypatch):
    save_pairs(PAIRS, tmp_path / "pairs.jsonl")
    plan = Plan(
        tiny, None, DataSettings(accept=("distinct",)), QUICK, out=tmp_path / "out", pairs_file=tmp_path / "pairs.jsonl"
    )
    first = methods.make("signed:lora", material_of(plan))
    parts = plan.parts
    for part, seen in ((parts.train, True), (parts.val, True), (parts.test, False)):
        for i in part:
            marks = marks_in(first.provenance)
            assert marks is not None and (question_hashes([PAIRS.rows[i].prompt]) in marks) == seen
    monkeypatch.setattr("ws.methods.signed.signed_lora", None)
    assert methods.make("signed:lora", material_of(plan)).content_hash == first.content_hash
    other = material_of(replace(plan, train=replace(QUICK, epochs=3)))
    with pytest.raises(TypeError):
        methods.make("signed:lora", other)


def test_what_it_needs_is_known_by_name():
    one, two = map(methods.needs, NAMES)
    assert (one.adapter, one.trains, one.answers, one.places) == ("lora", True, True, "weights")
    with pytest.raises(ValueError, match="a signed adapter is signed:lora"):
        methods.check("signed:ia3")
    assert (two.adapter, two.answers, two.places) == (None, True, "activations")


def test_activations_that_are_not_kept_are_refused(tiny):
    with pytest.raises(Unsupported, match="leave it out"):
        methods.make("post_block", study(tiny, gradient_checkpointing=True))
