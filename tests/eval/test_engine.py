"""The engine behind every evaluation: what is shared, what is reused, what fits, and what cannot be scored."""

import dataclasses
import math

import pytest
import small
import torch
from test_steer import lowrank

from ws import prefix_cache
from ws.batches import Room, in_batches
from ws.errors import ScoringImpossible
from ws.eval import EVALS, Evaluation, scoring
from ws.eval import score_protocol as run_eval
from ws.eval.protocol import Protocol
from ws.eval.questions import ItemQuestions
from ws.eval.scoring import Item, Score, last_logprobs, prompts_of, score, score_texts, shared_logprobs
from ws.eval.table import plain
from ws.models.chat import Chat
from ws.steer import steer
from ws.study.evaluations import Subject, eval_place, make_eval, make_reference


@pytest.fixture(scope="module")
def items(tiny):
    return EVALS["dilemmas"].items(tiny, None)[:24]


# ---------------------------------------------------------------- shared reading


def test_reading_what_rows_share_once_changes_no_score(tiny, items):
    made = prompts_of(tiny, items)
    rows, starts = [p.ids for p in made], [p.start for p in made]
    assert len(prefix_cache.levels(rows)) == 3
    d = lowrank(tiny, size=0.1)
    alphas = [-1.0, 0.5]
    shared = shared_logprobs(tiny, rows, starts, alphas, lambda a, _: steer(tiny, d, a))
    for k, alpha in enumerate(alphas):
        with steer(tiny, d, alpha):
            torch.testing.assert_close(shared[k::2], last_logprobs(tiny, rows), atol=1e-4, rtol=1e-4)


def test_levels_spell_every_row_and_read_less():
    rows = [[1] * 20 + [5] * 30 + [i] * 4 for i in (2, 3)] + [[1] * 20 + [6] * 30 + [7, i] for i in (2, 3)] + [[1] * 40]
    plan = prefix_cache.levels(rows)
    spelled = [list(plan[0][0][1])]
    for level in plan[1:]:
        spelled = [[*spelled[parent], *tokens] for parent, tokens in level]
    assert spelled == rows
    assert all(tokens for level in plan for _, tokens in level)
    assert sum(len(t) for level in plan for _, t in level) < 0.7 * sum(map(len, rows))
    for few in ([[1, 2, 3]], [[1], [1]], [[1, 2], [3, 4]], [[1] * 30, [1] * 30], [[1] * 9, [1] * 30]):
        spelled = [[]]
        for level in prefix_cache.levels(few):
            spelled = [[*spelled[parent], *tokens] for parent, tokens in level]
        assert [list(s) for s in spelled] == few


def test_a_model_whose_cache_cannot_be_cut_is_read_from_the_beginning(tiny, items, monkeypatch):
    wanted = score(tiny, items, alphas=[0.0])
    monkeypatch.setitem(prefix_cache._holds, tiny.model, False)
    for a, b in zip(wanted, score(tiny, items, alphas=[0.0])):
        assert a[0].logratio == pytest.approx(b[0].logratio, abs=1e-4)


# ---------------------------------------------------------------- alpha 0


def forwards(model, do):
    """How many rows pass through the model while something is done, and what it gave."""
    head, rows = model.get_output_embeddings(), []  # no hook: with one, nothing is kept as the base's own
    forward = head.forward

    def counted(*args, **kwargs):
        out = forward(*args, **kwargs)
        rows.append(out.numel())
        return out

    head.forward = counted
    try:
        return do(), sum(rows)
    finally:
        del head.forward


def test_a_known_alpha_zero_is_not_measured_again(tiny, items):
    d = lowrank(tiny, size=0.1)
    dial = lambda a: steer(tiny, d, a)  # noqa: E731
    known = [s for (s,) in score(tiny, items, alphas=[0.0])]
    both, most = forwards(tiny.model, lambda: score(tiny, items, alphas=[0.0, 1.0], dial=dial))
    reused, fewer = forwards(tiny.model, lambda: score(tiny, items, alphas=[0.0, 1.0], dial=dial, reference=known))
    assert fewer * 2 == most
    assert [r[0] for r in reused] == [r[0] for r in both]
    with pytest.raises(ValueError, match="reference scores were given"):
        score(tiny, items, alphas=[0.0], reference=known[1:])


def test_two_directions_share_one_unsteered_arm_on_disk(tiny, tmp_path):
    for size in (0.1, 0.2):
        d = lowrank(tiny, size=size)
        subject = Subject(tiny, d, tmp_path / str(size), "ws:lora")
        place = eval_place(subject, Evaluation("dilemmas", limit=3), [1.0])
        assert place.manifest is None
        _, record = make_eval(subject, Evaluation("dilemmas", limit=3), alphas=[1.0], out=tmp_path)
        assert place.folder == record.folder and place.manifest is not None
        assert eval_place(subject, Evaluation("dilemmas", limit=3), [2.0]).manifest is None
        assert not record.reused
    chosen = EVALS["dilemmas"]
    asked = [i for i in chosen.items(tiny, None) if i.unit_id in {"0", "1", "2"}]
    questions = ItemQuestions(chosen, tiny, asked)
    record, rows = forwards(tiny.model, lambda: make_reference(questions, tmp_path))
    assert record.reused
    assert rows == 0
    assert questions.unsteered(record.folder) == [s for (s,) in score(tiny, asked, alphas=[0.0])]
    assert not make_reference(ItemQuestions(chosen, tiny, asked[:4]), tmp_path).reused


# ---------------------------------------------------------------- what fits


def test_memory_that_runs_out_halves_the_batch_and_changes_no_score(tiny, items, monkeypatch):
    wanted = score(tiny, items, alphas=[0.0])
    sizes, forward = [], scoring.shared_logprobs

    def small_machine(base, rows, *rest):
        sizes.append(len(rows))
        if len(rows) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(base, rows, *rest)

    monkeypatch.setattr(scoring, "shared_logprobs", small_machine)
    for a, b in zip(wanted, score(tiny, items, alphas=[0.0])):
        assert a[0].logratio == pytest.approx(b[0].logratio, abs=1e-4)
    failed = [n for n in sizes if n > 5]
    assert failed[0] == 24
    assert all(b <= a // 2 for a, b in zip(sizes, sizes[1 : len(failed) + 1]))


def test_batches_are_bounded_by_tokens_and_by_free_memory(tiny, monkeypatch):
    room = Room(tiny.model)
    assert room.fits(100) == 20
    assert room.fits(10**9) == 1
    assert Room(tiny.model, decodes=True).fits(100) == 163
    monkeypatch.setattr("ws.batches.free_memory", lambda device: int(7 * 2 * (100 * room.per_token + room.per_row)))
    assert room.fits(100) == 7
    monkeypatch.setattr("ws.batches.free_memory", lambda device: None)
    assert room.fits(100) == 20


def test_a_row_that_does_not_fit_alone_says_so():
    def run(batch):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        in_batches([1, 2], run, size=lambda x: 2, length=lambda x: x, label="t")


# ---------------------------------------------------------------- what cannot be scored


def test_rows_without_a_score_are_counted_and_named(tiny, items, monkeypatch):
    real = scoring.scores_of

    def one_bad(logp, answers):
        found = real(logp, answers)
        return [dataclasses.replace(found[0], logratio=math.nan, pmass=math.nan), *found[1:]]

    monkeypatch.setattr(scoring, "scores_of", one_bad)
    result = run_eval(tiny, EVALS["dilemmas"], items=items)
    (bad,) = result.rows[result.rows["y"].isna()]["row_key"]
    assert result.note["unscored"] == {"n": 1, "of": 24, "rows": [f"{bad} at alpha 0"]}
    assert len(result.rows) == 24


def test_logits_that_are_not_finite_score_nan():
    answers = scoring.Answers((1,), (2,), ("yes", "no"), "")
    bad = torch.full((1, 5), float("nan"))
    (s,) = scoring.scores_of(bad, [answers])
    assert math.isnan(s.logratio)
    assert math.isnan(s.pmass)


def test_a_model_that_does_not_answer_at_all_gets_one_sentence(tiny, items):
    strict = dataclasses.replace(EVALS["dilemmas"], gate=1.1)
    with pytest.raises(ScoringImpossible, match="in all 24 rows of dd-1f/1 the unsteered"):
        run_eval(tiny, strict, items=items)
    half = dataclasses.replace(EVALS["dilemmas"], gate=0.99952)
    rows = run_eval(tiny, half, items=items).rows
    assert rows["y"].isna().equals(rows["pmass"] < half.gate)


def test_a_protocol_without_rows_says_so(tiny):
    empty = Protocol("none", "none/1", "logratio", lambda base, data: [], plain("logratio"), {})
    with pytest.raises(ScoringImpossible, match="none/1 has no rows"):
        run_eval(tiny, empty)


# ---------------------------------------------------------------- whole answers


def test_whole_answers_score_the_difference_of_their_log_probabilities_per_token(tiny):
    item = Item("u", "k", Chat("What color is snow?"), "", texts=("Snow is white.", "Snow is black."))
    one = dataclasses.replace(item, texts=("Snow is white.",))
    (both,), (alone,) = score_texts(tiny, [item, one], alphas=[0.0])
    ((other,),) = score_texts(tiny, [dataclasses.replace(item, texts=item.texts[1:])], alphas=[0.0])
    assert both.logratio == pytest.approx(alone.logratio - other.logratio, abs=1e-4)
    assert both.logratio > 1
    assert alone.logratio < 0
    asked = Protocol("own", "own/1", "logratio", lambda base, data: [item], plain("logratio"), {})
    d = lowrank(tiny, size=0.3)
    rows = run_eval(tiny, asked, alphas=[1.0], dial=lambda a: steer(tiny, d, a)).rows
    assert rows["y"].notna().all()
    assert rows["y"].nunique() == 2
    with pytest.raises(ValueError, match="takes no thought"):
        run_eval(tiny, asked.thinking(4))


def test_a_score_says_no_more_than_it_knows():
    assert Score(1.0, 0.5, 0.5) == Score(1.0, 0.5, 0.5, False, "", 0)


# ---------------------------------------------------------------- real tokenizers


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["qwen3", "qwen2.5", "llama2"])
def test_thoughts_on_real_tokenizers_open_close_and_answer_with_real_tokens(real_data, name, tiny):
    transformers = pytest.importorskip("transformers")
    folder = real_data / "tokenizers" / name
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    from ws.errors import Unsupported
    from ws.eval.thinking import thinker

    tok = transformers.AutoTokenizer.from_pretrained(folder)
    base = dataclasses.replace(tiny, tokenizer=tok)
    item = Item("u", "k", Chat("Is snow white?"), "My choice:", (("yes",), ("no",)))
    plain_one = thinker(base, item, "plain")
    assert tok.decode(plain_one.tail) == "\n\nMy choice:"
    assert {tok.decode([i]).strip().casefold() for i in plain_one.answers.yes} == {"yes"}
    if name != "qwen3":
        with pytest.raises(Unsupported, match=r"has no single </think>|has no chat template"):
            thinker(base, item)
        return
    t = thinker(base, item)
    assert tok.decode(t.ids).endswith("<|im_start|>assistant\n<think>\n")
    assert tok.decode(t.forced) == " I will answer now.\n</think>\n\nMy choice:"
    assert tok.decode(t.tail) == "\n\nMy choice:"
    assert t.close == tok.convert_tokens_to_ids("</think>") != tok.eos_token_id


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gemma2", "gpt2"])
def test_the_quick_head_is_the_models_own_bit_for_bit_and_is_gone_afterwards(kind, monkeypatch):
    from ws.prefix_cache import last_logits

    monkeypatch.setattr(prefix_cache, "HEAD_ROWS", 40)  # several blocks of 96 words, the last of them shorter
    base = small.base(kind)
    ids = small.ids(5, 9)
    with torch.inference_mode():
        wanted = base.model(input_ids=ids, use_cache=False).logits[:, -1]
        found, _ = last_logits(base.model, input_ids=ids, use_cache=False)
    assert torch.equal(found, wanted)
    head = base.model.get_output_embeddings()
    assert "forward" not in vars(head)
    assert not head._forward_pre_hooks
    with pytest.raises(IndexError):
        last_logits(base.model, input_ids=ids + 10_000, use_cache=False)
    assert "forward" not in vars(head)
