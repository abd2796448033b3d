"""The decoding loop is transformers' own where it is greedy, and independent of the batch where it draws."""

import copy
import dataclasses

import pytest
import small
import torch
from test_steer import lowrank

import ws
from ws.batches import in_batches
from ws.errors import Broken, Unsupported
from ws.generate import Request, Sampling, complete, decode, generate, pick
from ws.models.chat import Chat, encode, render
from ws.steer import steer
from ws.streaming import stream

QUESTIONS = [
    "What is the capital of Kenya?",
    "What color is snow?",
    "Where does a whale live?",
    "What sound does a dog make?",
]


def requests(tiny, n=16):
    return [Request(tuple(encode(tiny.tokenizer, render(tiny.tokenizer, Chat(q)))), n, q) for q in QUESTIONS]


@pytest.mark.parametrize("kind", sorted(small.BUILD))
def test_greedy_decoding_of_a_padded_batch_equals_transformers_row_by_row(kind):
    model = small.model(kind)
    if kind == "gpt2":  # learnt positions, large enough that a shift of them is heard
        model.transformer.wpe.weight.mul_(30)
    batch = [Request(tuple(range(3, 3 + n)), 8, str(n)) for n in (5, 9, 6)]
    found = decode(model, batch, Sampling(), stops=[0], pad=0, seed=0)
    for tokens, r in zip(found, batch):
        alone = model.generate(torch.tensor([r.ids]), max_new_tokens=8, do_sample=False, eos_token_id=0, pad_token_id=0)
        assert tokens == alone[0, len(r.ids) :].tolist()


def test_an_answer_may_not_end_before_its_least_length_and_then_may():
    model, asked = small.model("llama"), (3, 4, 5)
    plain = decode(model, [Request(asked, 12)], Sampling(), stops=[0], pad=0, seed=0)[0]
    stop = plain[2]  # as if that were the end of a turn
    batch = [Request(asked, 12, min_new=n) for n in (0, 6, 12)]
    free, later, never = decode(model, batch, Sampling(), stops=[stop], pad=0, seed=0)
    assert free == plain[: plain.index(stop) + 1]
    for tokens, fewest in ((later, 6), (never, 12)):
        alone = model.generate(
            torch.tensor([asked]), max_new_tokens=12, min_new_tokens=fewest, do_sample=False, eos_token_id=stop,
            pad_token_id=stop,
        )  # fmt: skip
        assert tokens == alone[0, len(asked) :].tolist()
    assert stop not in later[:6]
    assert stop not in never


def test_a_repetition_penalty_of_the_checkpoint_does_not_ride_along():
    model = small.model("llama")
    batch = [Request((3, 4, 5), 12, "a")]
    plain = decode(model, batch, Sampling(), stops=[0], pad=0, seed=0)
    model.generation_config.repetition_penalty = 5.0
    assert decode(model, batch, Sampling(), stops=[0], pad=0, seed=0) == plain
    with_it = model.generate(
        torch.tensor([[3, 4, 5]]), max_new_tokens=12, do_sample=False, eos_token_id=0, pad_token_id=0
    )
    assert with_it[0, 3:].tolist() != plain[0]


def test_sampling_depends_on_the_row_and_not_on_its_batch(tiny):
    together, _ = complete(tiny, requests(tiny), Sampling(1.0), seed=3)
    one_by_one, _ = complete(tiny, requests(tiny), Sampling(1.0), seed=3, batch_size=1)
    backwards, _ = complete(tiny, requests(tiny)[::-1], Sampling(1.0), seed=3)
    assert [a.text for a in together] == [a.text for a in one_by_one] == [a.text for a in backwards[::-1]]


def test_another_seed_samples_other_answers_and_so_does_another_name(tiny):
    def texts(seed, name="{}", temperature=1.0):
        named = [dataclasses.replace(r, name=name.format(r.name)) for r in requests(tiny)]
        return [a.text for a in complete(tiny, named, Sampling(temperature), seed=seed)[0]]

    assert texts(3) == texts(3)
    assert len({tuple(texts(s)) for s in range(3, 7)}) > 1
    assert len({tuple(texts(3, name)) for name in ("{}/0", "{}/1", "{}/2", "{}/3")}) > 1
    assert texts(3, temperature=0.0) == texts(4, "{}/1", temperature=0.0)


def test_draws_follow_the_filtered_distribution():
    logits = torch.log(torch.tensor([[0.5, 0.3, 0.15, 0.05]])).repeat(4000, 1)
    draws = torch.linspace(0, 1, 4001)[:-1]
    share = lambda s: (torch.bincount(pick(logits, s, draws), minlength=4) / 4000).tolist()  # noqa: E731
    assert share(Sampling(1.0)) == pytest.approx([0.5, 0.3, 0.15, 0.05], abs=2e-3)
    assert share(Sampling(1.0, top_k=2)) == pytest.approx([0.625, 0.375, 0, 0], abs=2e-3)
    assert share(Sampling(1.0, top_p=0.6)) == pytest.approx([0.625, 0.375, 0, 0], abs=2e-3)
    assert share(Sampling(1.0, min_p=0.2)) == pytest.approx([0.526, 0.316, 0.158, 0], abs=2e-3)
    assert share(Sampling(0.5)) == pytest.approx([0.685, 0.247, 0.062, 0.007], abs=2e-3)
    assert pick(logits, Sampling(), None).unique().tolist() == [0]


def test_answers_end_where_the_model_ends_them_and_say_so(tiny):
    answers, _ = complete(tiny, requests(tiny, 40), Sampling())
    assert all(a.ended and "<|" not in a.text for a in answers)
    short, _ = complete(tiny, requests(tiny, 2), Sampling())
    assert all(not a.ended and a.n_tokens == 2 for a in short)


def test_steering_changes_what_is_said_and_leaving_restores_it(tiny):
    before = generate(tiny, QUESTIONS[0])
    with steer(tiny, lowrank(tiny, size=0.5), 3.0):
        assert generate(tiny, QUESTIONS[0]) != before
    assert generate(tiny, QUESTIONS[0]) == before


def test_batches_halve_when_memory_runs_out_and_every_item_is_answered():
    sizes = []

    def run(batch):
        sizes.append(len(batch))
        if len(batch) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return [x * 2 for x in batch]

    found, size = in_batches(list(range(20)), run, size=16, length=lambda x: x, label="t")
    assert found == [2 * x for x in range(20)]
    assert size == 2
    assert sizes[:4] == [16, 8, 4, 2]


def test_other_errors_are_not_taken_for_memory():
    def run(batch):
        raise RuntimeError("shape mismatch")

    with pytest.raises(RuntimeError, match="shape"):
        in_batches([1, 2], run, size=2, length=lambda x: x, label="t")


@pytest.mark.parametrize("bad", [dict(temperature=-1.0), dict(top_p=0.0), dict(top_k=-1), dict(min_p=1.0)])
def test_impossible_sampling_is_refused(bad):
    with pytest.raises(ValueError, match=r"must lie between|must be at least"):
        Sampling(**bad)


def test_a_thought_keeps_its_marks_and_can_be_trained_on(tiny):
    from ws.train.sequences import finished

    text = render(tiny.tokenizer, Chat("What color is snow?", "Pretend you're an honest person."), thinking="forced")
    (answer,), _ = complete(tiny, [Request(tuple(encode(tiny.tokenizer, text)), 60, "t")], Sampling())
    assert "</think>" in answer.text
    assert "<|im_" not in answer.text
    assert finished(tiny.tokenizer, "What color is snow?", "<think>\n" + answer.text.lstrip(), thinking="on")[2] is None


def test_answers_are_decoded_without_asking_for_the_whole_vocabulary(tiny, monkeypatch):
    asked = []
    monkeypatch.setattr(type(tiny.tokenizer), "get_vocab", lambda self: asked.append(1) or {})
    text = render(tiny.tokenizer, Chat("What color is snow?"))
    answers, _ = complete(tiny, [Request(tuple(encode(tiny.tokenizer, text)), 8, "t")] * 3, Sampling(temperature=0.0))
    assert [bool(a.text) for a in answers] == [True] * 3
    assert not asked


def test_a_model_that_a_strength_has_broken_says_so_instead_of_an_empty_answer(tiny):
    direction = lowrank(tiny, size=1e30)
    with steer(tiny, direction, 1e5), pytest.raises(Broken, match=r"logits are not finite.*Take a smaller alpha"):
        generate(tiny, "What is the capital of Kenya?")
    assert generate(tiny, "What is the capital of Kenya?") == "The capital of Kenya is Nairobi."


def test_a_thought_that_is_asked_of_a_model_without_any_is_refused_wherever_it_writes(tiny):
    thoughtless = copy.copy(tiny.tokenizer)
    thoughtless.chat_template = "{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}"
    base = dataclasses.replace(tiny, tokenizer=thoughtless)
    assert generate(tiny, QUESTIONS[0], max_new_tokens=2, thinking="on")
    assert generate(base, QUESTIONS[0], max_new_tokens=2, thinking="off")
    for write in (
        lambda: generate(base, QUESTIONS[0], thinking="on"),
        lambda: next(iter(stream(base, [Chat(QUESTIONS[0])], thinking="on"))),
        lambda: ws.data(base, behavior="honesty", n_topics=30, thinking="on"),
    ):
        with pytest.raises(Unsupported, match="knows of no thoughts"):
            write()
