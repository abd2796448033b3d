"""Equal strength for any method: zero costs nothing, a known model is solved, and only what passed is called matched."""

import math
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, replace

import pytest
import torch
from methods.makes import low_rank
from torch import nn

from ws import prefix_cache
from ws.behaviors import load_behavior
from ws.calibrate import CalibrateSettings, Calibration, PromptSets, calibrate, divergences, prompt_targets
from ws.calibrate.prompts import prompt_sets
from ws.cli import main
from ws.methods import as_method
from ws.methods.activation.method import POSITIONS, Activation, Add, block_name
from ws.methods.method import Method, dial_of
from ws.methods.prompts import of_behavior
from ws.pairs import marks_in, question_hashes
from ws.prefix_cache import SHORTEST, Beginnings, holds
from ws.study.stages import make_calibration

QUICK = CalibrateSettings(n_calib=8, n_audit=8, tokens=12, thoughts="off")
PROMPTS = prompt_sets(True, 8, 8)


def added(base, size: float = 1.0) -> Activation:
    g = torch.Generator().manual_seed(0)
    v = torch.nn.functional.normalize(torch.randn(128, generator=g), dim=0)
    return Activation("sl:planted", {block_name(base, 3): Add(size * v)}, provenance={"base": base.described()})


@dataclass(frozen=True, eq=False)
class Shifted(Method):
    """A toy with a closed form: the logits of one answer token get + alpha (or a step of it)."""

    token: int = 5
    step: float | None = None
    kind = "toy"

    @contextmanager
    def at(self, base, alphas):
        dial = dial_of(alphas, self.bound)
        if dial is None:
            yield base.model
            return
        alpha = torch.as_tensor(dial, dtype=torch.float32).reshape(-1, 1)
        if self.step is not None:
            alpha = torch.where(alpha.abs() < self.step, 0.1 * alpha.sign(), 8.0 * alpha.sign())

        def hook(module, args, out):
            out.logits[..., self.token] += alpha
            return out

        handle = base.model.register_forward_hook(hook)
        try:
            yield base.model
        finally:
            handle.remove()

    def packed(self):
        return {"token": self.token}, {}

    @classmethod
    def unpacked(cls, name, settings, tensors, provenance):
        return cls(name, settings["token"])


class Flat(nn.Module):
    """A model that says the same about every token: KL of a shifted logit has a closed form."""

    def __init__(self, inner, logits):
        super().__init__()
        self.inner, self.config, self.generation_config = inner, inner.config, None
        self.bare = nn.Parameter(logits, requires_grad=False)

    def get_output_embeddings(self):
        return self.inner.get_output_embeddings()

    def forward(self, input_ids, **more):
        from transformers.modeling_outputs import CausalLMOutputWithPast

        rows = self.bare.expand(input_ids.shape[0], 1, -1).clone()
        return CausalLMOutputWithPast(logits=rows, past_key_values=more.get("past_key_values"))


@pytest.fixture(scope="module")
def flat(tiny):
    g = torch.Generator().manual_seed(0)
    logits = torch.randn(tiny.model.config.vocab_size, generator=g)
    logits[7] = 4.0  # the likeliest, and no stop token

    base = replace(tiny)
    network = Flat(tiny.model, logits)
    object.__setattr__(base, "model", network)
    return base, logits


def closed_form(logits: torch.Tensor, alpha: float, token: int = 5) -> float:
    base = logits.double().log_softmax(-1)
    shifted = logits.double().clone()
    shifted[token] += alpha
    steered = shifted.log_softmax(-1)
    return float((steered.exp() * (steered - base)).sum())


def test_a_closed_form_toy_is_measured_and_solved_within_the_tolerance(flat):
    base, logits = flat
    for d in divergences(base, Shifted("toy"), ["Hi"], [0.0, 1.0, 4.0, -2.0], tokens=3, thinking="off"):
        assert d.p95 == pytest.approx(closed_form(logits, d.alpha), rel=1e-4, abs=2e-6)  # fp32
    found = calibrate(base, Shifted("toy"), settings=QUICK, prompts=PROMPTS)
    assert found.pos.status == "ok" and closed_form(logits, found.alpha_pos) == pytest.approx(1.0, rel=0.051)
    assert found.neg.status == "no_bracket"  # taking one unlikely token away cannot cost a nat
    assert found.neg.verdict == "unmatched (no_bracket)" and not found.matched


def test_a_planted_step_ends_as_a_jump(flat):
    found = calibrate(flat[0], Shifted("toy", step=3.3), settings=QUICK, prompts=PROMPTS)
    assert found.pos.status == "jump" and found.pos.verdict == "unmatched (jump)"


def test_strength_zero_costs_exactly_nothing_beside_strengths_that_do(tiny):
    method = added(tiny, 60.0)
    zero, one, minus = divergences(tiny, method, PROMPTS.calib, [0.0, 1.0, -1.0], tokens=12)
    assert zero.largest == 0.0 and min(one.p95, minus.p95) > 1e-4
    assert one.n_tokens == sum(map(len, one.tokens)) and len(one.tokens) == 8


def test_batches_do_not_change_the_measure(tiny):
    method = added(tiny, 60.0)
    whole = divergences(tiny, method, PROMPTS.calib, [1.0, -1.0], tokens=10)
    alone = divergences(tiny, method, PROMPTS.calib, [1.0, -1.0], tokens=10, batch_size=1)
    for a, b in zip(whole, alone):
        assert a.p95 == pytest.approx(b.p95, abs=1e-5) and a.n_tokens == b.n_tokens


def test_the_measure_is_that_of_two_plain_forward_passes_over_the_same_text(tiny):
    method, prompt = added(tiny, 200.0), PROMPTS.calib[0]
    from ws.models.chat import Chat, encode, render

    (found,) = divergences(tiny, method, [prompt], [1.0], tokens=6, thinking="off")
    head = encode(tiny.tokenizer, render(tiny.tokenizer, Chat(prompt)))
    with method.at(tiny, 1.0), torch.inference_mode():
        ids = list(head)
        for _ in found.tokens[0]:
            ids.append(int(tiny.model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
        steered = tiny.model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
    with torch.inference_mode():
        plain = tiny.model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
    kl = (steered.exp() * (steered - plain)).sum(-1)[len(head) - 1 : -1]
    torch.testing.assert_close(torch.tensor(found.tokens[0]), kl, atol=1e-4, rtol=1e-3)


def test_a_method_is_brought_to_its_budget_and_the_audit_decides_whether_it_is_matched(tiny):
    found = calibrate(tiny, added(tiny, 40.0), settings=replace(QUICK, budget=0.5), prompts=PROMPTS)
    for side, sign in ((found.pos, 1), (found.neg, -1)):
        assert side.status in ("ok", "jump") and side.alpha * sign > 0
        assert side.ci_lo <= side.p95 <= side.ci_hi and side.evaluations == len(side.history) + 1
        if side.status == "ok":
            assert abs(side.p95 / 0.5 - 1) <= 0.05
        assert side.matched == (side.status == "ok" and 0.5 / 1.25 <= side.audit_lo <= side.audit_hi <= 0.625)
    assert Calibration.from_json(found.as_json()) == found


def test_a_prompt_is_measured_and_other_methods_can_be_held_to_it(tiny):
    prompt = of_behavior(load_behavior("honesty", tiny=True), "simple")
    pos, neg = prompt_targets(tiny, prompt, QUICK)
    found = calibrate(tiny, prompt, settings=QUICK)
    assert (found.pos.p95, found.neg.p95) == (pos, neg) and pos > 0
    assert found.pos.evaluations == 1 and found.pos.verdict.startswith("unmatched")
    like = calibrate(tiny, added(tiny, 40.0), settings=QUICK, targets=(pos, neg))
    assert (like.pos.target, like.neg.target) == (pos, neg)


def test_prompts_are_distinct_and_apart_from_training_and_audit(monkeypatch):
    for tiny, there in ((True, 720), (False, 150)):
        whole = prompt_sets(tiny)
        assert len({*whole.calib, *whole.audit}) == there and len(whole.audit) == 2 * len(whole.calib)
        shares = [Counter(kinds) for kinds in (whole.calib_kinds, whole.audit_kinds)]
        if tiny:  # what strengths are found and checked on is of the same kinds, as often
            assert all(shares[1][k] == 2 * n for k, n in shares[0].items())
        sets = prompt_sets(tiny, 50, 100)
        assert len({*sets.calib, *sets.audit}) == 150
        with pytest.raises(ValueError, match="share"):
            prompt_sets(tiny, 50, 100, trained_on=[f"  {sets.audit[3].upper()} "])
        with pytest.raises(ValueError, match="asked for"):
            prompt_sets(tiny, 500, 100)
    for name in ("honesty", "sycophancy", "trad_care", "authority"):
        for tiny in (True, False):
            prompt_sets(tiny, 50, 100, trained_on=[p.text for p in load_behavior(name, tiny=tiny).train])
    from ws.behaviors import Prompt
    from ws.calibrate import prompts

    twice = tuple(Prompt(f"{s}{i}", f"Why {i % 6}?", f"c{i}", s) for s in ("calib", "audit") for i in range(7))
    monkeypatch.setattr(prompts, "neutral_prompts", lambda tiny: twice)
    with pytest.raises(ValueError, match="share"):
        prompt_sets(True, 7, 7)


@pytest.fixture
def passes(monkeypatch):
    """(rows, tokens) of every pass of more than one token."""
    seen, whole = [], prefix_cache.last_logits

    def watched(model, *, input_ids, **rest):
        if input_ids.shape[1] > 1:
            seen.append(tuple(input_ids.shape))
        return whole(model, input_ids=input_ids, **rest)

    monkeypatch.setattr(prefix_cache, "last_logits", watched)
    return seen


INSTRUCTED = PromptSets(
    tuple(f"Answer in one short and friendly sentence, please, and do not hurry: {p}" for p in PROMPTS.calib), ()
)


def test_what_the_base_has_read_is_gone_on_from_and_changes_no_bit(tiny, passes):
    method, known = added(tiny, 40.0), Beginnings()

    def prompts_read():
        found = len(passes)
        passes.clear()
        return found

    assert holds(tiny)
    prompts_read()
    for alphas in ([1.0, -1.0], [0.5, -0.7], [0.0, 2.0]):
        plain = divergences(tiny, method, INSTRUCTED.calib, alphas, tokens=6)
        assert prompts_read() == 4  # the steered model's and the base's, each what all begin with and the rest
        again = divergences(tiny, method, INSTRUCTED.calib, alphas, tokens=6, beginnings=known)
        assert again == plain
        assert prompts_read() == (4 if alphas == [1.0, -1.0] else 2)
    rows, kept = known._last
    assert known.of(rows) is not None and torch.equal(known.of(rows).mask, kept.mask)
    assert known.of(rows[::-1]) is None  # of the same lengths, and not the same
    one = divergences(tiny, method, INSTRUCTED.calib, [1.0], tokens=6, beginnings=known)  # another batch is read
    assert prompts_read() == 4 and one == divergences(tiny, method, INSTRUCTED.calib, [1.0], tokens=6)


@pytest.mark.parametrize("positions", POSITIONS)
def test_what_prompts_have_in_common_is_read_once_for_each_strength_and_the_measure_stays(
    tiny, passes, monkeypatch, positions
):
    method, alphas = replace(added(tiny, 60.0), positions=positions), [0.0, 1.0, -1.0]
    assert holds(tiny)
    passes.clear()
    shared = divergences(tiny, method, INSTRUCTED.calib, alphas, tokens=8)
    (first, start), (rest, own), *of_base = passes
    assert (first, rest) == (3, 24) and start >= SHORTEST and of_base == [(first, start), (rest, own)]
    monkeypatch.setitem(prefix_cache._holds, tiny.model, False)
    passes.clear()
    whole = divergences(tiny, method, INSTRUCTED.calib, alphas, tokens=8)
    assert [n for n, _ in passes] == [24, 24] and passes[0][1] >= start + own
    assert shared[0].largest == whole[0].largest == 0.0
    for a, b in zip(shared[1:], whole[1:]):
        assert a.n_tokens == b.n_tokens and a.p95 == pytest.approx(b.p95, rel=1e-3) and a.p95 > 1e-4


def test_prompts_that_begin_unlike_are_read_whole(tiny, passes):
    assert holds(tiny)
    passes.clear()
    unlike = [f"{n} {p}" for n, p in enumerate(PROMPTS.calib)]
    divergences(tiny, added(tiny), unlike, [1.0, -1.0], tokens=2)
    assert [n for n, _ in passes] == [16, 16]


def test_a_method_is_not_calibrated_on_questions_it_was_made_from(tiny):
    seen, other = PROMPTS.audit[0], "What is nobody's question?"
    method = added(tiny, 40.0)
    made_from = replace(
        method, provenance={"of": [{"training": {"questions": question_hashes([other, f" {seen.upper()} "])}}]}
    )
    with pytest.raises(ValueError, match="was made from the question"):
        calibrate(tiny, made_from, settings=QUICK, prompts=PROMPTS)
    fine = replace(method, provenance={"training": {"questions": question_hashes([other])}})
    assert calibrate(tiny, fine, settings=replace(QUICK, max_evals=1), prompts=PROMPTS).pos.history
    assert marks_in(fine.provenance) == {question_hashes([other])} and marks_in(method.provenance) is None
    with pytest.raises(ValueError, match="both the calibration and the audit"):
        PromptSets((seen,), (seen.lower(),))


def test_a_calibration_is_made_once_and_keyed_by_what_it_depends_on(tiny, tmp_path):
    method = added(tiny, 40.0)
    few = replace(QUICK, max_evals=2, n_calib=5, n_audit=5)
    found, record = make_calibration(tiny, method, few, tmp_path)
    again, reused = make_calibration(tiny, method, few, tmp_path)
    assert reused.reused and again == found and (record.folder / "history.png").stat().st_size > 1000
    other, third = make_calibration(tiny, added(tiny, 41.0), few, tmp_path)
    assert third.folder != record.folder and other.pos.history != found.pos.history


def test_a_direction_is_calibrated_as_the_method_it_is(tiny):
    direction = low_rank(tiny)
    found = calibrate(tiny, direction, settings=QUICK)
    assert found.method == as_method(direction).name == "ws:lora"
    assert math.isfinite(found.alpha_pos) and found.alpha_neg < 0


def test_settings_that_mean_nothing_are_refused():
    for bad in ({"budget": 0.0}, {"tolerance": -1.0}, {"tokens": 0}, {"thoughts": "loud"}, {"budget": math.inf}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            CalibrateSettings(**bad)
    assert PromptSets(("a",), ("b",)).calib == ("a",)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--like", "prompt:simple"], "say which with --behavior"),
        (["--save", "x.txt"], "ends in .safetensors"),
    ],
)
def test_a_calibration_that_cannot_be_meant_is_refused_before_it_is_made(capsys, tmp_path, flags, words):
    code = main(["calibrate", "--direction", str(tmp_path / "d.safetensors"), "--out", str(tmp_path / "out"), *flags])
    assert code == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
