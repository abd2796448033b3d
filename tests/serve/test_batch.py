"""Answers side by side: the base among steered ones keeps its bits, a steered one says what it says alone, all seats come free."""

import random
from contextlib import ExitStack

import pytest
import torch
from test_steer import lowrank
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from ws.direction import Direction
from ws.direction.forms import BiasShift, RowScale
from ws.generate import Sampling, generate
from ws.models.chat import Chat, encode, render
from ws.models.modules import weight_of
from ws.serve.batch import Ask, Batch
from ws.serve.reading import PIECE, Pieces
from ws.serve.strengths import dials_of
from ws.serve.text import Text, bytes_of, text_of
from ws.steer import steer

QUESTIONS = ["What is the capital of Kenya?", "What color is snow?", "Where does a crab live?", "Who are you?"]
HOT = Sampling(1.0)
TURN = ("What color is snow?", "Snow is white.")


@pytest.fixture(scope="module")
def dials(tiny):
    directions = [(n, lowrank(tiny, seed=s, size=0.5)) for s, n in enumerate(("honesty", "authority"))]
    return dials_of("tiny", directions, 4.0)


@pytest.fixture
def batch(tiny, dials):
    made = Batch(tiny, dials, rows=12, pieces=Pieces(4_000_000))
    yield made
    made.close()


def ids_of(tiny, question, turns=0):
    return tuple(encode(tiny.tokenizer, render(tiny.tokenizer, Chat(question, None, (TURN,) * turns))))


def ask(ids, strengths=(), **more):
    more = {"sampling": Sampling(), "max_new": 4, "seed": 0, "name": "", "logprobs": 3, "ignore_eos": True, **more}
    return Ask(ids, tuple(sorted(strengths)), **more)


def run(batch, asks, rng=None):
    """What is written of every request; with `rng`, they come a few at a time."""
    written, todo = {a: [] for a in asks}, list(asks)
    while todo or batch:
        for _ in range(min(len(todo), len(todo) if rng is None else rng.randrange(4))):
            batch.add(todo.pop(0))
        for w in batch.step():
            written[w.ask].append(w)
    return written


def bits(written):
    return [(w.token, w.chance, w.top) for w in written]


@pytest.mark.parametrize("text", ["a giraffe \N{GIRAFFE FACE}, na\u00efve \u65e5", "plain"])
def test_the_bytes_of_tokens_are_those_of_their_text_also_of_halves_of_a_character(tiny, text):
    tokens = tiny.tokenizer(text)["input_ids"]
    assert b"".join(bytes_of(tiny.tokenizer, t) for t in tokens) == text.encode()


@pytest.fixture(scope="module")
def spaced():
    """A tokenizer whose words hold their space, and whose decoder leaves out the one that begins a text, as Llama 2's."""
    words = ["<unk>", "▁Once", "▁a", "▁time", "s", "▁", "<0xC3>", "<0xA9>"]
    own = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    own.decoder = decoders.Sequence(steps)
    return PreTrainedTokenizerFast(tokenizer_object=own)


def test_a_token_keeps_the_space_that_a_decoder_leaves_out_at_the_beginning_of_a_text(spaced):
    assert spaced.decode([3]) == "time"
    assert [text_of(spaced, i) for i in range(1, 6)] == [" Once", " a", " time", "s", " "]
    assert b"".join(bytes_of(spaced, i) for i in (1, 2, 3, 4, 5, 6, 7)) == " Once a times é".encode()


def test_a_completion_goes_on_from_the_prompt_and_a_chats_answer_begins_anew(spaced):
    assert Text(spaced, trimmed=False, after=2).add(3) == " time"
    assert Text(spaced).add(3) == "time"
    whole = Text(spaced, ["s é"], trimmed=False, after=2)
    assert "".join([*(whole.add(i) for i in (3, 4, 5, 6, 7)), whole.end()]) == " time"
    assert whole.stopped


def test_base_requests_among_steered_ones_have_the_bits_that_they_have_alone(tiny, dials, batch):
    rng = random.Random(0)
    prompts = [ids_of(tiny, q, turns) for q, turns in zip(QUESTIONS, (0, 0, 3, 8))]
    assert max(map(len, prompts)) > 2 * PIECE
    fresh = lambda: Batch(tiny, dials, rows=12, pieces=Pieces(0))  # noqa: E731
    alone = [bits(run(fresh(), [a])[a]) for a in map(ask, prompts)]
    compared = 0
    for _ in range(10):
        asks = []
        for _ in range(rng.randrange(4, 12)):
            i, strengths = rng.randrange(len(prompts)), []
            if rng.random() < 0.6:
                names = rng.sample(["honesty", "authority"], rng.choice([1, 2]))
                strengths = [(name, rng.uniform(-4, 4)) for name in names]
            more = {"sampling": rng.choice([HOT, Sampling()]), "kl": rng.random() < 0.2} if strengths else {}
            asks.append((i, ask(prompts[i], strengths, answer_only=rng.random() < 0.3, **more)))
        written = run(batch, [a for _, a in asks], rng)
        for i, a in asks:
            if not a.strengths:
                compared += 1
                assert bits(written[a]) == alone[i]
    assert compared > 20
    steered = ask(prompts[0], [("honesty", 2.0)])
    assert bits(run(batch, [steered])[steered]) != alone[0]


def test_a_steered_request_among_others_is_what_the_steered_model_says_alone(tiny, dials, batch):
    strengths = [[("honesty", -0.8)], [("honesty", 0.5), ("authority", -1.0)], [("authority", 2.0)], []]
    asks = [ask(ids_of(tiny, q), s, ignore_eos=False, max_new=12) for q, s in zip(QUESTIONS, strengths)]
    written = run(batch, asks)
    for a, q, s in zip(asks, QUESTIONS, strengths):
        alphas = {"honesty": 0.0, "authority": 0.0, **dict(s)}
        with (
            steer(tiny, dials.by_name["honesty"].direction, alphas["honesty"]),
            steer(tiny, dials.by_name["authority"].direction, alphas["authority"]),
        ):
            assert "".join(w.text for w in written[a]) == generate(tiny, q, max_new_tokens=12)
            tokens = [w.token for w in written[a]]
            logits = tiny.model(input_ids=torch.tensor([[*a.ids, *tokens[:-1]]])).logits[0, len(a.ids) - 1 :]
        expected = logits.log_softmax(-1)[range(len(tokens)), tokens]
        got = torch.tensor([w.chance.logprob for w in written[a]])
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-4)  # fp32, other shapes


def test_directions_of_other_families_are_turned_row_by_row_too(tiny):
    """A scale of rows and a shift of biases, as ia3 and bias leave them, beside factors."""
    g = torch.Generator().manual_seed(0)
    sizes = {name: weight_of(layer.module).shape[0] for name, layer in tiny.linears.items()}
    scales = {n: (RowScale(0.1 * torch.randn(o, generator=g)),) for n, o in sizes.items()}
    shifts = {n: (BiasShift(0.1 * torch.randn(o, generator=g)),) for n, o in sizes.items()}
    about = {"base": tiny.described()}
    kinds = {"a": lowrank(tiny), "b": Direction(scales, about), "c": Direction(shifts, about)}
    batch = Batch(tiny, dials_of("tiny", list(kinds.items()), 4.0), rows=4, pieces=Pieces(0))
    ids = ids_of(tiny, QUESTIONS[0])
    asks = [ask(ids, s, max_new=1) for s in ([("a", 0.5), ("b", -1.0)], [("b", 1.0), ("c", 0.5)], [("c", -1.0)], [])]
    seen = []
    for a, (w,) in run(batch, asks).items():
        with ExitStack() as stack:
            for name, alpha in a.strengths:
                stack.enter_context(steer(tiny, kinds[name], alpha))
            seen.append(tiny.model(input_ids=torch.tensor([ids])).logits[0, -1].log_softmax(-1))
        assert w.chance.logprob == pytest.approx(float(seen[-1][w.token]), abs=1e-4)  # fp32, other shapes
    assert min(float((x - seen[-1]).abs().max()) for x in seen[:-1]) > 0.01


def test_a_seed_draws_the_answer_of_generate_and_each_choice_draws_its_own(tiny, batch):
    one = ask(
        ids_of(tiny, "Who are you?"), sampling=HOT, seed=7, name="Who are you?", n=3, ignore_eos=False, max_new=24
    )
    texts = ["", "", ""]
    for w in run(batch, [one])[one]:
        texts[w.choice] += w.text
    assert texts[0] == generate(tiny, "Who are you?", temperature=1.0, seed=7, max_new_tokens=24)
    assert len(set(texts)) > 1


def test_steering_answers_alone_reads_the_prompt_as_the_base_and_once_for_all(tiny, dials, batch):
    ids = ids_of(tiny, "What color is snow?", 4)
    plain = ask(ids)
    run(batch, [plain])
    only = ask(ids, [("honesty", 2.0)], answer_only=True)
    whole = ask(ids, [("honesty", 2.0)])
    first = {a: run(batch, [a])[a] for a in (only, whole)}
    assert (first[only][0].cached, first[whole][0].cached) == (len(ids) - 1, 0)
    base = tiny.model(input_ids=torch.tensor([ids[:-1]]), use_cache=True)
    with steer(tiny, dials.by_name["honesty"].direction, 2.0):
        logits = tiny.model(input_ids=torch.tensor([ids[-1:]]), past_key_values=base.past_key_values).logits[0, -1]
    assert abs(float(logits.log_softmax(-1).max()) - first[only][0].top[0].logprob) < 1e-4
    assert bits(first[only]) != bits(first[whole])


def test_what_was_read_under_one_strength_is_taken_for_no_other(tiny, batch):
    ids = ids_of(tiny, "What color is snow?", 4)
    a, b = ask(ids, [("honesty", 1.0)]), ask(ids, [("honesty", -1.0)])
    first = bits(run(batch, [a])[a])
    assert run(batch, [b])[b][0].cached == 0
    again = ask(ids, [("honesty", 1.0)])
    written = run(batch, [again])[again]
    assert written[0].cached == len(ids) - 1
    assert bits(written) == first
    longer = ask((*ids[:PIECE], 5, 6, 7), [("honesty", 1.0)])
    assert run(batch, [longer])[longer][0].cached == PIECE


def test_memory_of_prompts_stays_within_its_bound_and_forgets_the_oldest(tiny, dials):
    pieces = Pieces(600_000)
    batch = Batch(tiny, dials, rows=4, pieces=pieces)
    prompts = [ids_of(tiny, q, 4) for q in QUESTIONS]
    for ids in prompts:
        run(batch, [ask(ids)])
        assert 0 < pieces.bytes <= 600_000
    cached = [run(batch, [a])[a][0].cached for a in (ask(prompts[-1]), ask((9, *prompts[0])))]
    assert cached[0] > 0
    assert cached[1] == 0


def test_the_kl_beside_a_token_is_that_of_the_steered_distribution_to_the_base(tiny, dials, batch):
    ids = ids_of(tiny, "What color is snow?")
    a = ask(ids, [("honesty", 2.0)], kl=True, logprobs=None)
    b = ask(ids, kl=True)
    written = run(batch, [a, b])
    tokens = [w.token for w in written[a]]
    row = torch.tensor([[*ids, *tokens[:-1]]])
    q = tiny.model(input_ids=row).logits[0, len(ids) - 1 :].log_softmax(-1)
    with steer(tiny, dials.by_name["honesty"].direction, 2.0):
        p = tiny.model(input_ids=row).logits[0, len(ids) - 1 :].log_softmax(-1)
    expected = (p.exp() * (p - q)).sum(-1)
    torch.testing.assert_close(torch.tensor([w.kl for w in written[a]]), expected, rtol=1e-3, atol=1e-5)
    assert expected.max() > 1e-3
    assert [w.kl for w in written[b]] == [0.0] * 4


def test_a_strength_that_breaks_the_model_ends_its_row_alone_and_leaves_nothing_behind(tiny, dials):
    wild = dials_of("tiny", [("wild", dials.by_name["honesty"].direction * 1e30)], 1e6)
    batch = Batch(tiny, wild, rows=4, pieces=Pieces(1_000_000))
    ids = ids_of(tiny, "What color is snow?")
    plain = ask(ids)
    alone = bits(run(batch, [plain])[plain])
    broken, beside = (
        ask(ids_of(tiny, "Who are you?", 2), [("wild", 1e6)]),
        ask(ids),
    )  # longer, so that it reaches further
    written = run(batch, [broken, beside])
    assert [(w.token, w.finish) for w in written[broken]] == [(None, "broken")]
    after = [ask(ids) for _ in range(4)]
    again = run(batch, after)
    assert bits(written[beside]) == alone
    assert all(bits(again[a]) == alone for a in after)
    batch.close()


def test_a_request_that_is_cancelled_frees_its_rows_wherever_it_is_and_the_model_is_left_as_it_was(tiny, batch):
    hooks = lambda: [len(m._forward_hooks) for m in batch.base.model.modules()]  # noqa: E731
    before = hooks()  # transformers leaves some of its own
    ids = ids_of(tiny, "What color is snow?", 8)
    kept = ask(ids_of(tiny, "Who are you?"))
    alone = bits(run(batch, [kept])[kept])
    again, others = ask(kept.ids), [ask(ids, [("honesty", 1.0 + i)], n=2, max_new=200) for i in range(8)]
    for a in (again, *others):
        batch.add(a)
    written = list(batch.step())
    for a in others[:3]:  # read, being read, waiting
        batch.cancel(a)
    for _ in range(4):
        written += batch.step()
    for a in others[3:]:
        batch.cancel(a)
    while batch:
        written += batch.step()
    assert bits([w for w in written if w.ask is again]) == alone
    assert hooks() == before
    assert len(batch.slots) == 0


def test_a_request_with_many_answers_does_not_keep_others_waiting(tiny, batch):
    many = ask(ids_of(tiny, "Who are you?"), n=40, max_new=4, sampling=HOT)
    one = ask(ids_of(tiny, "What color is snow?"), max_new=4)
    batch.add(many)
    order = [w.ask for w in batch.step()]
    batch.add(one)
    while batch:
        order += [w.ask for w in batch.step() if w.finish]
    assert order.index(one) < 30 < len(order)


def test_a_short_prompt_is_not_kept_waiting_by_a_long_one(tiny, batch):
    long, short = ask(ids_of(tiny, "Who are you?", 30)), ask(ids_of(tiny, "What color is snow?"))
    assert len(long.ids) > 500
    batch.add(long)
    batch.add(short)
    first = None
    while first is None:
        first = next(iter(batch.step()), None)
    assert first.ask is short
