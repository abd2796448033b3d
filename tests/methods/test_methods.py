"""Every method keeps the promises of the interface: zero is the base, rows are their own, blocks leave no trace."""

import itertools
from contextlib import ExitStack

import pytest
import small
import torch
from methods.makes import BASE, KINDS, METHODS, all_kinds, low_rank

from ws import methods
from ws.behaviors import load_behavior
from ws.errors import BadFile, DirectionMismatch, Unsupported
from ws.methods import prompts
from ws.methods.activation.method import Activation, Add, block_name
from ws.methods.weights import Weights
from ws.models.chat import Chat

IDS = small.ids()
ACTS = [k for k in KINDS if k != "prompt"]


@torch.inference_mode()
def logits(base=BASE, ids=IDS):
    return base.model(input_ids=ids, use_cache=False).logits


PLAIN = logits()


def traces(base=BASE):
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in base.model.modules()]
    return hooks, list(base.model.state_dict()), [p.data_ptr() for p in base.model.parameters()]


CLEAN = traces()


@pytest.mark.parametrize("kind", KINDS)
def test_zero_is_the_base_bit_for_bit_and_one_is_not(kind):
    method = METHODS[kind]
    for zero in (0.0, [0.0, 0.0, 0.0]):
        with method.at(BASE, zero):
            assert torch.equal(logits(), PLAIN)
    with method.at(BASE, [0.0, 1.0, -1.0]):
        moved = logits()
    assert torch.equal(moved[0], PLAIN[0])
    if kind != "prompt":
        for row in (1, 2):
            assert (moved[row] - PLAIN[row]).abs().max() > 1e-3
    assert torch.equal(logits(), PLAIN) and traces() == CLEAN


@pytest.mark.parametrize("kind", ACTS)
def test_a_row_is_steered_by_its_own_strength_as_if_alone(kind):
    method = METHODS[kind]
    with method.at(BASE, [0.7, -0.4, 1.0]):
        together = logits()
    for row, alpha in enumerate((0.7, -0.4, 1.0)):
        with method.at(BASE, alpha):
            alone = logits()[row]
        torch.testing.assert_close(together[row], alone, rtol=1e-4, atol=2e-5)  # fp32, another order of sums


@pytest.mark.parametrize("kind", ACTS)
def test_a_wrong_number_of_strengths_is_refused_and_leaves_nothing(kind):
    with pytest.raises(ValueError, match="one per row"), METHODS[kind].at(BASE, [1.0, 1.0]):
        logits()
    assert torch.equal(logits(), PLAIN) and traces() == CLEAN


@pytest.mark.parametrize(("left", "right"), list(itertools.combinations_with_replacement(KINDS, 2)))
def test_two_methods_nest_overlap_and_leave_in_any_order(left, right):
    first, second = METHODS[left], METHODS[right]
    with first.at(BASE, 1.0), second.at(BASE, -1.0):
        both = logits()
    assert torch.equal(logits(), PLAIN) and traces() == CLEAN
    a, b = first.at(BASE, 1.0), second.at(BASE, -1.0)
    a.__enter__()
    b.__enter__()
    assert torch.equal(logits(), both)
    a.__exit__(None, None, None)  # the outer one first
    alone = logits()
    b.__exit__(None, None, None)
    with second.at(BASE, -1.0):
        assert torch.equal(logits(), alone)
    with pytest.raises(RuntimeError, match="stop"), ExitStack() as dials:  # noqa: PT012
        dials.enter_context(first.at(BASE, 1.0))
        dials.enter_context(second.at(BASE, [0.0, 1.0, -1.0]))
        raise RuntimeError("stop")
    assert torch.equal(logits(), PLAIN) and traces() == CLEAN


@pytest.mark.parametrize("kind", KINDS)
def test_a_method_comes_back_from_its_file_as_it_was(kind, tmp_path):
    method = METHODS[kind]
    file = methods.save(method, tmp_path / "method.safetensors")
    again = methods.load(file)
    assert (again.name, again.bound, again.content_hash) == (method.name, method.bound, method.content_hash)
    assert methods.save(again, tmp_path / "again.safetensors").read_bytes() == file.read_bytes()
    with method.at(BASE, 1.0):
        wanted = logits()
    with again.at(BASE, 1.0):
        torch.testing.assert_close(logits(), wanted, rtol=1e-5, atol=1e-6)  # fp32; read tensors are aligned otherwise


def test_a_direction_file_is_read_as_the_method_it_is(tmp_path):
    from ws.direction import save

    file = save(low_rank(BASE), tmp_path / "direction.safetensors")
    assert methods.load(file).name == "ws:lora"


def test_a_file_of_another_tool_is_refused_by_name(tmp_path):
    from safetensors.torch import save_file

    save_file({"0": torch.ones(32)}, tmp_path / "v.safetensors")
    with pytest.raises(BadFile, match="vectors:"):
        methods.load(tmp_path / "v.safetensors")


@pytest.mark.parametrize("kind", ["sides", "angular", "spherical", "prompt"])
def test_a_strength_beyond_the_bound_is_refused(kind):
    assert METHODS[kind].bound == 1.0
    with pytest.raises(ValueError, match=r"\|alpha\|"), METHODS[kind].at(BASE, 1.5):
        pass


@pytest.mark.parametrize("kind", ["add", "response", "weights"])
def test_scaling_an_additive_method_is_scaling_its_dial(kind):
    with (METHODS[kind] * 0.5).at(BASE, 1.0):
        scaled = logits()
    with METHODS[kind].at(BASE, 0.5):
        torch.testing.assert_close(logits(), scaled, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["gated", "ablation", "angular", "spherical", "linear", "chars", "sspace", "topk"])
def test_a_method_that_is_not_additive_cannot_be_scaled(kind):
    with pytest.raises(TypeError, match="not additive"):
        METHODS[kind] * 0.5


def test_a_method_of_another_base_is_refused():
    other = small.base("llama", seed=3)
    for kind in ("weights", "add", "sspace"):
        with pytest.raises(DirectionMismatch, match="Load that base"), METHODS[kind].at(other, 1.0):
            pass


def test_a_module_that_is_not_there_is_an_error_not_a_skip():
    lost = Activation("x", {"model.layers.9": Add(torch.ones(32))})
    with pytest.raises(DirectionMismatch, match="not in this model"), lost.at(BASE, 1.0):
        pass


def test_checkpoints_as_arms_are_the_two_sides_themselves():
    plus, minus = low_rank(BASE, 1), low_rank(BASE, 2)
    sides = Weights("ft:lora", plus, below=minus, largest=1.0)
    for alpha, of in ((1.0, plus), (-1.0, minus)):
        with sides.at(BASE, alpha):
            found = logits()
        with Weights("x", of).at(BASE, alpha):
            assert torch.equal(logits(), found)


@pytest.mark.parametrize("kind", ["gpt2", "neox", "qwen3.5", "gemma3", "phi3"])
def test_other_architectures_are_steered_and_restored(kind):
    base = small.base(kind)
    plain = logits(base)
    method = Activation("x", {block_name(base, 1): Add(torch.randn(32))})
    with method.at(base, [1.0, 0.0, -1.0]):
        moved = logits(base)
    assert torch.equal(moved[1], plain[1]) and (moved[0] - plain[0]).abs().max() > 1e-3
    assert torch.equal(logits(base), plain)


def test_all_kinds_work_in_bfloat16():
    base = small.base("llama", dtype=torch.bfloat16)
    plain = logits(base)
    for kind, method in all_kinds(base).items():
        with method.at(base, [0.0, 1.0, -1.0]):
            moved = logits(base)
        assert moved.dtype == torch.bfloat16 and torch.equal(moved[0], plain[0]) and moved.isfinite().all(), kind


def test_response_changes_the_end_of_a_prompt_and_every_token_decoded_after_it():
    base, method = BASE, METHODS["response"]
    with method.at(base, 1.0), torch.inference_mode():
        whole = base.model(input_ids=IDS, use_cache=True)
        step = base.model(input_ids=IDS[:, :1], past_key_values=whole.past_key_values)
    assert torch.equal(whole.logits[:, :-1], PLAIN[:, :-1])
    assert (whole.logits[:, -1] - PLAIN[:, -1]).abs().max() > 1e-3
    with torch.inference_mode():
        cache = base.model(input_ids=IDS, use_cache=True).past_key_values
        assert (base.model(input_ids=IDS[:, :1], past_key_values=cache).logits - step.logits).abs().max() > 1e-3


# ---------------------------------------------------------------- prompts


@pytest.mark.parametrize("tiny", [False, True])
@pytest.mark.parametrize("name", ["honesty", "honesty5", "sycophancy", "trad_care", "authority"])
def test_every_shipped_behavior_has_both_prompts_for_both_poles(name, tiny):
    behavior = load_behavior(name, tiny=tiny)
    for which in prompts.KINDS:
        p = prompts.of_behavior(behavior, which)
        assert p.pos != p.neg
        for text in (p.pos, p.neg):
            assert not any(w in text for w in ("Yes", "No ", "JSON", "Action", "choice", "is_wrong", "{"))
    for text in prompts.of_behavior(behavior, "engineered").packed()[0].values():
        assert 3 <= sum(text.count(c) for c in ".!") <= 6


def test_a_prompt_is_there_or_not():
    p, chat = METHODS["prompt"], Chat("Why?")
    assert p.chat(chat, 0.0) is chat
    assert p.chat(chat, 1.0).system == "Pretend you're an honest person."
    assert p.chat(Chat("Why?", "Be brief."), -1.0).system == "Pretend you're a dishonest person.\n\nBe brief."
    with pytest.raises(ValueError, match="-1, 0 or 1"):
        p.chat(chat, 0.5)


def test_only_prompts_change_what_is_asked():
    chat = Chat("Why?")
    assert all(m.chat(chat, 0.3) is chat for kind, m in METHODS.items() if kind != "prompt")


def test_a_behavior_without_engineered_prompts_says_what_to_add():
    from dataclasses import replace

    with pytest.raises(Unsupported, match="engineered"):
        prompts.of_behavior(replace(load_behavior("honesty"), engineered=None), "engineered")


# ---------------------------------------------------------------- names


def test_a_name_that_no_line_makes_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match="sl:mean_diff"):
        methods.check("sl:mean_dif")
    with pytest.raises(ValueError, match="no adapter"):
        methods.check("ws:lorra")
    for name in methods.names():
        methods.check(name)
