"""Rows in slots come and go, and each says what it says alone: the same bits, the same tokens, under its own alpha."""

import random
import sys
from functools import cache

import pytest
import small
import torch
import transformers as tf
from test_steer import lowrank

from ws.direction import Direction
from ws.direction.forms import LowRank
from ws.errors import Unsupported
from ws.generate import Request, Sampling, Stream, complete, decode
from ws.models.chat import encode
from ws.models.modules import linears_of
from ws.models.turned import turn
from ws.slots import Slots, slots_fit
from ws.steer import rows_of, steer

FIT = sorted(small.BUILD.keys() - {"qwen3.5"})
HOT = Sampling(1.0)
rng = random.Random(0)
LENGTHS = [1, 2, 5, 9, 9, 9, 14, 3, 2, 5, 12, 7]
PROMPTS = [tuple(rng.randrange(3, 96) for _ in range(n)) for n in LENGTHS]


@pytest.mark.parametrize("kind", FIT)
def test_a_row_in_slots_has_the_logits_that_the_model_gives_it_alone(kind):
    model = small.model(kind)
    assert slots_fit(model, 40)
    slots = Slots(model)
    slots.enter(PROMPTS, [0] * len(PROMPTS))
    logits = slots.go([p[-1] for p in PROMPTS])
    for row, prompt in zip(logits, PROMPTS):
        alone = model(input_ids=torch.tensor([prompt])).logits[0, -1]
        torch.testing.assert_close(row, alone, rtol=1e-4, atol=1e-4 * float(alone.std()))  # fp32, other shapes


def crowd(model, seats: int, seed: int) -> dict[int, list[torch.Tensor]]:
    """The logits of every row over five steps, where rows enter and leave at random."""
    draw, slots, here, todo = random.Random(seed), Slots(model), [], list(range(len(PROMPTS)))
    draw.shuffle(todo)
    found: dict[int, list[torch.Tensor]] = {i: [] for i in todo}
    while todo or here:
        new = [todo.pop() for _ in range(min(len(todo), seats - len(here), draw.randrange(1, seats + 1)))]
        slots.enter([PROMPTS[i] for i in new], [0] * len(new))
        here += new
        tokens = [PROMPTS[i][-1] if not found[i] else (7 * i + len(found[i])) % 96 for i in here]
        for i, row in zip(here, slots.go(tokens)):
            found[i].append(row.clone())
        for place in reversed(range(len(here))):
            if len(found[here[place]]) == 5:
                slots.leave(place)
                here[place] = here[-1]
                here.pop()
    return found


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_rows_that_come_and_go_have_the_bits_that_each_has_alone(kind):
    model = small.model(kind)
    assert slots_fit(model, 40)
    alone = crowd(model, 1, 0)
    assert all(len(steps) == 5 for steps in alone.values())
    for seats, seed in ((3, 1), (5, 2), (12, 3)):
        for i, steps in crowd(model, seats, seed).items():
            assert all(torch.equal(a, b) for a, b in zip(steps, alone[i])), (seats, i)
    assert not torch.equal(alone[0][0], alone[1][0])


@pytest.mark.parametrize("wide", [256, 896])
@pytest.mark.parametrize("steered", [False, True])
def test_a_row_has_the_bits_it_has_alone_beside_any_number_of_others_in_matrices_of_real_sizes(wide, steered):
    torch.manual_seed(0)
    sizes = dict(hidden_size=wide, intermediate_size=wide + 128, num_hidden_layers=2, vocab_size=96)
    model = tf.LlamaForCausalLM(tf.LlamaConfig(**sizes, num_attention_heads=4, num_key_value_heads=2)).eval()
    turn(model)
    prompts = [tuple(rng.randrange(3, 96) for _ in range((20, 90, 140, 9)[i % 4])) for i in range(36)]
    alphas = [i % 2 for i in range(36)]
    shapes = {x.name: x.module.weight.shape for x in linears_of(model)}
    factors = {n: (LowRank(torch.randn(o, 32) / 9, torch.randn(32, i) / i**0.5),) for n, (o, i) in shapes.items()}

    def first_rows(n: int) -> torch.Tensor:
        slots = Slots(model, alphas=2)
        slots.enter(prompts[:n], alphas[:n])
        return torch.stack([slots.go([i % 96 for i in range(n)])[:2] for _ in range(2)])

    with steer(model, Direction(factors, {}), [0.0, float(steered)]):
        few, others = first_rows(2), [first_rows(n) for n in (3, 7, 12, 18, 36)]
    assert all(torch.equal(few, rows) for rows in others)
    assert not torch.equal(few[:, 0], few[:, 1])


def test_models_whose_rows_cannot_come_and_go_are_refused_by_a_stream_and_answered_the_plain_way(tiny):
    recurrent = small.model("qwen3.5")
    sliding = tf.MistralForCausalLM(
        tf.MistralConfig(**small.COMMON, intermediate_size=64, num_key_value_heads=2, sliding_window=100)
    )
    assert not slots_fit(recurrent, 20)
    assert slots_fit(sliding, 60)
    assert not slots_fit(sliding, 120)
    with pytest.raises(Unsupported, match="cannot come and go"):
        Stream(recurrent, HOT, stops=[0], rows=4)
    with pytest.raises(Unsupported, match="more than the windows"):
        Stream(sliding, HOT, stops=[0], rows=4).add(Request(PROMPTS[2], 115))


def test_a_model_that_falls_back_answers_every_request_as_a_plain_batch_does(tiny, monkeypatch):
    requests = [Request(tuple(encode(tiny.tokenizer, t)), 12, t) for t in ("What color", "Where does", "Who")]
    streamed, _ = complete(tiny, requests, HOT, seed=1)
    monkeypatch.setattr(sys.modules["ws.generate"], "slots_fit", lambda *_, **__: False)
    order: list[int] = []
    plain, _ = complete(tiny, requests, HOT, seed=1, batch_size=2, keep=lambda i, a: order.append(i))
    assert plain == streamed
    assert sorted(order) == [0, 1, 2]


# ---------------------------------------------------------------- streams

MODEL = cache(lambda: small.model("llama"))
REQUESTS = [Request(p, 4 + i % 7, str(i)) for i, p in enumerate(PROMPTS)]


def drained(stream: Stream, requests) -> list[list[int]]:
    numbers = [stream.add(r) for r in requests]
    tokens: dict[int, list[int]] = {n: [] for n in numbers}
    while stream:
        for number, token, _ in stream.step():
            tokens[number].append(token)
    return [tokens[n] for n in numbers]


def test_a_stream_writes_what_a_batch_of_one_writes_however_many_rows_it_has():
    alone = [decode(MODEL(), [r], HOT, stops=[5, 6], pad=0, seed=3)[0] for r in REQUESTS]
    assert len({tuple(tokens) for tokens in alone}) == len(alone)
    for rows in (1, 3, 5, 40):
        assert drained(Stream(MODEL(), HOT, stops=[5, 6], rows=rows, seed=3), REQUESTS) == alone
    assert drained(Stream(MODEL(), HOT, stops=[5, 6], rows=5, seed=4), REQUESTS) != alone


def test_every_step_computes_only_rows_that_somebody_waits_for():
    stream = Stream(MODEL(), HOT, stops=[], rows=5, seed=3)
    requests = [Request(p, 12, str(i)) for i, p in enumerate(PROMPTS[:10])]
    assert sum(map(len, drained(stream, requests))) == stream.slots.computed == 120


def test_a_request_may_come_late_and_another_leave_early_and_the_rest_say_the_same():
    whole = drained(Stream(MODEL(), HOT, stops=[], rows=4, seed=3), REQUESTS[:6])
    stream = Stream(MODEL(), HOT, stops=[], rows=4, seed=3)
    numbers = [stream.add(r) for r in REQUESTS[:5]]
    tokens: dict[int, list[int]] = {}
    for step in range(40):
        if step == 2:
            stream.cancel(numbers[1])  # is being written
            stream.cancel(numbers[4])  # waits
            numbers.append(stream.add(REQUESTS[5]))
        for number, token, done in stream.step():
            tokens.setdefault(number, []).append(token)
            assert done == (len(tokens[number]) == REQUESTS[number].max_new)
    assert not stream
    assert [tokens.get(n) for n in numbers] == [whole[0], whole[1][:2], *whole[2:4], None, whole[5]]


def test_a_row_may_not_end_before_its_least_length():
    plain = decode(MODEL(), [Request(PROMPTS[6], 12)], Sampling(), stops=[], pad=0, seed=0)[0]
    stop = plain[2]
    requests = [Request(PROMPTS[6], 12, min_new=n) for n in (0, 6, 12)]
    expected = [decode(MODEL(), [r], Sampling(), stops=[stop], pad=0, seed=0)[0] for r in requests]
    assert drained(Stream(MODEL(), Sampling(), stops=[stop], rows=3), requests) == expected
    assert len(expected[0]) < 6 <= len(expected[1])


def test_equal_prompts_are_read_once_unless_their_alphas_differ(monkeypatch):
    model, read = MODEL(), []
    assert slots_fit(model, 40)
    model.register_forward_pre_hook(lambda m, a, k: read.append(tuple(k["input_ids"].shape)), with_kwargs=True)
    for alphas, expected in (([0, 0, 0, 0], (1, 13)), ([0, 1, 1, 0], (2, 13))):
        read.clear()
        Slots(model, alphas=2).enter([PROMPTS[6]] * 4, alphas)
        assert read == [expected]
    slots = Slots(model)
    slots.enter([PROMPTS[6]] * 2, [0, 0])
    read.clear()
    slots.enter([PROMPTS[6], PROMPTS[3]], [0, 0])  # a row that is still here has read it
    assert read == [(1, 8)]


@pytest.mark.parametrize("rows", [3, 12])
def test_rows_keep_their_own_alphas_when_they_move(rows):
    base = small.base("llama")
    direction = lowrank(base, size=0.5)
    alphas = [0.0, 2.0, -2.0, 1.0]
    requests = [Request(PROMPTS[i % 3 + 4], 4 + i % 7, str(i), alpha=i % 4) for i in range(12)]
    expected = []
    for r in requests:
        with steer(base, direction, alphas[r.alpha]):
            expected.append(decode(base.model, [r], HOT, stops=[5], pad=0, seed=3)[0])
    with steer(base, direction, alphas):
        stream = Stream(base.model, HOT, stops=[5], rows=rows, seed=3, alphas=4)
        assert drained(stream, requests) == expected
    assert expected != drained(Stream(base.model, HOT, stops=[5], rows=rows, seed=3, alphas=4), requests)


def test_a_direction_that_no_row_of_a_batch_turns_is_not_computed():
    base = small.base("llama")
    endless = lowrank(base, size=float("inf"))  # times 0 no number
    ids = torch.tensor([[3, 4], [5, 6]])
    bare = base.model(input_ids=ids).logits
    with steer(base, endless, [0.0, 1.0]):
        with rows_of([0, 0], 2):
            assert torch.equal(base.model(input_ids=ids).logits, bare)
        with rows_of([0, 1], 2):
            assert not base.model(input_ids=ids).logits.isfinite().all()


def test_as_many_alphas_are_needed_as_the_rows_name():
    base = small.base("llama")
    with (
        steer(base, lowrank(base, size=0.5), [1.0, 2.0]),
        rows_of([0, 2], 3),
        pytest.raises(ValueError, match="name 3"),
    ):
        base.model(input_ids=torch.tensor([[3, 4], [5, 6]]))


def test_memory_that_runs_out_halves_the_rows_and_every_request_is_answered_once(tiny, monkeypatch):
    requests = [Request(tuple(encode(tiny.tokenizer, f"What is {i}")), 6, str(i)) for i in range(9)]
    whole, _ = complete(tiny, requests, HOT)
    go, sizes, answered = Slots.go, [], []

    def scarce(self, tokens):
        sizes.append(len(self))
        if len(self) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return go(self, tokens)

    monkeypatch.setattr(Slots, "go", scarce)
    again, size = complete(tiny, requests, HOT, batch_size=8, keep=lambda i, a: answered.append(i))
    assert again == whole
    assert size == 2
    assert sizes[:3] == [8, 4, 2]
    assert sorted(answered) == list(range(9))
    monkeypatch.setattr(Slots, "go", lambda self, tokens: (_ for _ in ()).throw(RuntimeError("shape mismatch")))
    with pytest.raises(RuntimeError, match="shape"):
        complete(tiny, requests, HOT)
