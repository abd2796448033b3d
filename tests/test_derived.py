"""`theta + alpha * tau` is a base of its own: what is steered there is the exact sum, and no result of the root is its own."""

import json
import sys

import pytest
import small
import torch
from test_steer import contrast, logits, lowrank

import ws
from ws.derived import derive
from ws.direction import Direction, save
from ws.direction.forms import mapped
from ws.errors import BadFile, DirectionMismatch, ExportRefused, Unsupported
from ws.methods import as_method
from ws.methods.method import refuse_other_base
from ws.models.modules import weight_of
from ws.steer import steer
from ws.study.keys import base_key
from ws.study.options import Loading
from ws.study.planning import fold_of, load_base


def weights(base):
    return {name: t.clone() for name, t in base.model.state_dict().items()}


def in_float64(base, *terms):
    """The weights of every layer as the sum that they should be, in float64."""
    total = {name: base.weight(name).double() for name in base.linears}
    for alpha, d in terms:
        for name, forms in d.forms.items():
            w = base.weight(name).double()
            total[name] = total[name] + sum(alpha * mapped(f, lambda t: t.double()).dense(w) for f in forms)
    return total


@pytest.mark.parametrize("family", ["lora", "ia3", "oft", "dora"])
def test_a_direction_of_the_root_steers_the_derived_base_to_the_sum_of_all_three(family):
    base = small.base("qwen2", dtype=torch.float64)
    tau, w = lowrank(base, seed=1, size=0.1), contrast(base, family)
    derived, k = derive(base, tau, 0.5), -1.5
    truth = in_float64(
        base, (0.5, tau), (k, w)
    )  # scales and rotations are of the root's weights, not of the fine-tune's
    with steer(derived, w, k, fold=True):
        for name, matrix in truth.items():
            assert torch.allclose(derived.weight(name), matrix, rtol=0, atol=1e-6), name  # forms are float32
        folded = logits(derived)
    with steer(derived, w, k):
        assert torch.allclose(logits(derived), folded, rtol=0, atol=1e-5)
    with steer(base, w, k):
        assert (logits(base) - folded).abs().max() > 1e-3


def test_strength_0_is_the_fine_tune_bit_for_bit_and_folding_0_is_the_root():
    base = small.base("llama")
    tau, w = lowrank(base, seed=1), lowrank(base, seed=2)
    derived = derive(base, tau)
    with steer(base, tau, 1.0, fold=True):
        expected, written = logits(base), weights(base)
    assert all(torch.equal(t, written[name]) for name, t in weights(derived).items())
    with steer(derived, w, 0.0):
        assert torch.equal(logits(derived), expected)
    assert not torch.equal(logits(base), expected)
    assert derive(base, tau, 0.0) is base


def test_the_root_is_left_as_it_was_unless_it_is_given_up():
    base = small.base("llama")
    before = weights(base)
    derive(base, lowrank(base))
    assert all(torch.equal(t, before[name]) for name, t in weights(base).items())


def test_a_derived_base_has_names_of_its_own_and_so_do_its_stages():
    base, tiny = small.base("llama"), ws.load("tiny")
    tau = lowrank(base)
    a, again, less = derive(base, tau, name="ft"), derive(base, tau, name="ft"), derive(base, tau, 0.5, name="ft")
    assert (a.id, less.id) == ("llama+ft", "llama+ft@0.5")
    for mark in ("fingerprint", "weights_hash"):
        marks = [getattr(b, mark) for b in (base, a, again, less)]
        assert len(set(marks)) == 3 and marks[1] == marks[2]
    derived = derive(tiny, lowrank(tiny, size=0.01))
    assert derived.tiny and base_key(tiny) != base_key(derived)
    assert derived.described()["root"] == tiny.fingerprint and "root" not in tiny.described()


def test_what_is_made_on_the_root_fits_and_what_is_made_on_the_derived_base_fits_only_there():
    base = small.base("llama")
    w = lowrank(base, seed=2)
    derived = derive(base, lowrank(base, seed=1), 0.5, name="ft")
    refuse_other_base(as_method(w), derived)
    own = Direction(w.forms, {"base": derived.described()})
    refuse_other_base(as_method(own), derived)
    with pytest.raises(DirectionMismatch, match=r"onto=ft@0\.5"):
        refuse_other_base(as_method(own), base)
    with pytest.raises(DirectionMismatch, match=r"onto=ft@0\.5"), steer(base, own, 1.0):
        pass
    other = Direction(w.forms, {"base": {**base.described(), "fingerprint": "0" * 64}})
    with pytest.raises(DirectionMismatch), steer(derived, other, 1.0):
        pass


def test_two_fine_tunes_are_folded_one_after_another():
    base = small.base("llama", dtype=torch.float64)
    one, other = lowrank(base, seed=1), contrast(base, "ia3")
    both = derive(derive(base, one, name="one"), other, 2.0, name="other")
    assert both.id == "llama+one+other@2" and both.root.onto == ("one", "other@2")
    for name, matrix in in_float64(base, (1.0, one), (2.0, other)).items():
        assert torch.allclose(both.weight(name), matrix, rtol=0, atol=1e-6), name


def test_a_fold_is_named_as_a_request_names_a_direction_and_read_before_the_model_is(tmp_path, monkeypatch):
    base = small.base("llama")
    save(lowrank(base), tmp_path / "french.safetensors")
    assert (fold_of(f"{tmp_path}/french.safetensors", tmp_path).alpha) == 1.0
    fold = fold_of(f"{tmp_path}/french.safetensors@-0.5", tmp_path)
    assert (fold.name, fold.alpha) == ("french", -0.5)
    monkeypatch.setattr("ws.study.planning.load_lazily", lambda *a, **k: pytest.fail("the model was loaded first"))
    for text, error in (
        (f"{tmp_path}/german.safetensors", BadFile),
        (f"{tmp_path}/french.safetensors@1e9", ValueError),
    ):
        with pytest.raises(error):
            load_base(Loading(onto=(text,)))


def test_commands_work_on_a_derived_base_and_its_own_direction_does_the_rest(tmp_path, told, tiny):
    tau = lowrank(tiny, seed=3, size=6.0)
    file = tmp_path / "other.safetensors"
    save(tau, file)
    ask = ["generate", "--prompt", "What does a builder make?", "--max-new-tokens", "8", "--json", "--quiet"]
    answers = {}
    for name, more in {
        "root": [],
        "derived": [f"--onto={file}@0.7"],
        "steered": ["--direction", file, "--alphas=0.7"],
        "undone": [f"--onto={file}@0.7", "--direction", file, "--alphas=-0.7"],
    }.items():
        code, out, err = told(*ask, *more)
        assert code == 0, err
        answers[name] = json.loads(out)
    texts = {name: a["answers"][0]["text"] for name, a in answers.items()}
    assert texts["derived"] == texts["steered"] != texts["root"] == texts["undone"]
    assert answers["derived"]["model"] == "tiny+other@0.7"


def test_what_needs_the_files_of_a_derived_base_is_refused(tmp_path):
    tiny = ws.load("tiny")
    tau = lowrank(tiny, size=0.01)
    derived = ws.derive(tiny, tau)
    with pytest.raises(Unsupported, match="in memory only"):
        ws.models.checkpoint.checkpoint_of(derived)
    with pytest.raises((Unsupported, ExportRefused), match="in memory only"):
        ws.export(derived, tau, tmp_path / "there", to="merged")
    with pytest.raises(Unsupported, match="steered"), ws.steer(tiny, tau, 1.0):
        ws.derive(tiny, tau)


def test_nothing_is_folded_into_packed_weights_nor_copied_before_that_is_known(monkeypatch):
    base = small.base("llama")
    monkeypatch.setattr(sys.modules["ws.steer"], "is_packed", lambda layer: True)
    monkeypatch.setattr(sys.modules["ws.derived"], "deepcopy", lambda model: pytest.fail("the model was copied first"))
    with pytest.raises(Unsupported, match="nothing can be folded into packed weights"):
        derive(base, lowrank(base))


def test_the_root_of_a_base_that_was_written_over_is_read_from_its_files():
    tiny = ws.load("tiny")
    derived = derive(ws.load("tiny"), lowrank(tiny), in_place=True)
    name = next(iter(tiny.linears))
    assert torch.equal(derived.root.weight(name).float(), weight_of(tiny.linears[name].module))
    assert not torch.equal(derived.weight(name), tiny.weight(name))
