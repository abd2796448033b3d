"""Directions made of activation differences and matrices, and the controls that act where they and others act."""

from dataclasses import dataclass

import pytest
import small
import torch

from ws import methods
from ws.direction.forms import LowRank
from ws.methods import Material, places
from ws.methods.activation.states import INTO, Contrast, states
from ws.methods.activation.vectors import mean_diff
from ws.methods.activation.writing import projected

WRITERS = ("self_attn.o_proj", "mlp.down_proj")


class Plain:
    pad_token_id = 0


BASE = small.base("llama", tokenizer=Plain())


@dataclass(frozen=True, eq=False)
class Planted(Material):
    """A material whose texts are rows of numbers, read by the model itself."""

    def states(self, names, pool="last"):
        rows = [tuple(small.ids(1, 9, seed=s)[0].tolist()) for s in range(12)]
        sides = [[(r, len(r) - 1) for r in part] for part in (rows[:6], rows[6:])]
        return Contrast(*(states(self.base, side, names) for side in sides))


MATERIAL = Planted(BASE, layers="1-2", questions=list)


@torch.inference_mode()
def logits():
    return BASE.model(input_ids=small.ids(), use_cache=False).logits


def dense(name: str) -> dict[str, torch.Tensor]:
    forms = methods.make(name, MATERIAL).direction.forms  # type: ignore[attr-defined]
    found = {}
    for module, (form,) in forms.items():
        assert isinstance(form, LowRank)
        found[module] = form.b.double() @ form.a.double()
    return found


@pytest.mark.parametrize("which", ["top", "tail"])
def test_a_constructed_change_writes_the_difference_where_one_input_is_seen(which):
    found = dense(f"constructed:{which}")
    blocks = MATERIAL.block_names
    assert set(found) == {f"{b}.{w}" for b in blocks for w in WRITERS}
    read = MATERIAL.states([*blocks, *(INTO + n for n in found)])
    for name, dw in found.items():
        w = BASE.weight(name).double()
        block = name.rsplit(".", 2)[0]
        u = torch.nn.functional.normalize((read.pos[block].double() - read.neg[block].double()).mean(0), dim=0)
        gram = torch.linalg.eigh(w @ w.T)[1]  # another way to the inputs: left vectors, brought through the matrix
        v = torch.nn.functional.normalize(w.T @ gram[:, -1 if which == "top" else 0], dim=0)
        inputs = torch.cat([read.pos[INTO + name], read.neg[INTO + name]]).double()
        v = v if float((inputs @ v).mean()) > 0 else -v
        torch.testing.assert_close(dw, 1e-3 * w.norm() * torch.outer(u, v), atol=1e-6, rtol=1e-4)
        assert float(dw.norm() / w.norm()) == pytest.approx(1e-3, rel=1e-5)
        assert float(((inputs @ dw.T) @ u).mean()) > 0  # a positive alpha writes toward pos


def test_what_enters_a_matrix_is_what_it_multiplies():
    name = f"{MATERIAL.block_names[0]}.mlp.down_proj"
    found = MATERIAL.states([name, INTO + name])
    torch.testing.assert_close(found.pos[INTO + name] @ BASE.weight(name).T, found.pos[name], atol=1e-5, rtol=1e-4)


def test_a_random_input_is_another_with_every_draw_and_the_same_with_the_same():
    one, two, again = (dense(f"constructed:random:{k}") for k in (0, 1, 0))
    for name in one:
        assert torch.equal(one[name], again[name]) and float(one[name].norm()) == pytest.approx(float(two[name].norm()))
        assert abs(float((one[name] * two[name]).sum() / one[name].norm() ** 2)) < 0.9


def test_the_projection_is_that_of_the_singular_vectors_of_both_matrices_side_by_side():
    g = torch.Generator().manual_seed(0)
    a, b, v = torch.randn(12, 7, generator=g), torch.randn(12, 20, generator=g), torch.randn(12, generator=g)
    u = torch.linalg.svd(torch.cat([a, b], dim=1).double())[0]
    lengths = []
    for rank in (1, 4, 12):
        wanted = u[:, :rank] @ (u[:, :rank].T @ v.double())
        found = projected(v, [a, b], rank)
        torch.testing.assert_close(found.double(), wanted, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(projected(found, [a, b], rank), found, atol=1e-5, rtol=1e-5)
        lengths.append(float(found.norm()))
    assert lengths == sorted(lengths) and lengths[-1] == pytest.approx(float(v.norm()), rel=1e-5)


def test_svd_steering_adds_the_projected_mean_difference_at_its_block():
    made = methods.make("svd:4", MATERIAL)
    read = MATERIAL.states(MATERIAL.block_names)
    for name, edit in made.edits.items():  # type: ignore[attr-defined]
        v = mean_diff(read.pos[name], read.neg[name])
        wanted = projected(v, [BASE.weight(f"{name}.{w}") for w in WRITERS], 4)
        assert torch.equal(edit.v, wanted) and 0 < float(edit.v.norm()) < 1
    whole = methods.make("svd:32", MATERIAL)
    for name, edit in whole.edits.items():  # type: ignore[attr-defined]
        torch.testing.assert_close(edit.v, mean_diff(read.pos[name], read.neg[name]), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["constructed:top", "constructed:random:0", "svd:4", "random:constructed:1"])
def test_zero_is_the_base_one_is_not_and_a_scaled_method_is_a_scaled_dial(name):
    method, plain = methods.make(name, MATERIAL), logits()
    with method.at(BASE, 0.0):
        assert torch.equal(logits(), plain)
    with method.at(BASE, 40.0):
        moved = logits()
    assert float((moved - plain).abs().max()) > 1e-3
    with (method * 40.0).at(BASE, 1.0):  # type: ignore[operator]
        torch.testing.assert_close(logits(), moved, rtol=1e-4, atol=1e-5)


PAIRED = [
    ("paper:all", "random:paper:0"),
    ("paper:all-code", "random:paper:0:all-code"),
    ("sl:mean_diff", "random:act:0"),
    ("constructed:top", "random:constructed:0"),
    ("constructed:tail", "random:constructed:0:tail"),
]


def acts(name: str):
    """Where a method acts, and how large it is there."""
    made = methods.make(name, MATERIAL)
    if isinstance(made, methods.activation.method.Activation):
        return made.positions, {n: float(e.v.norm()) for n, e in made.edits.items()}  # type: ignore[attr-defined]
    return "weights", made.direction.norms(BASE.weight)  # type: ignore[attr-defined]


@pytest.mark.parametrize(("name", "control"), PAIRED)
def test_a_control_acts_where_its_method_does_on_the_same_tokens_and_as_strongly(name, control):
    assert places(name) == places(control)
    (tokens, sizes), (theirs, control_sizes) = acts(name), acts(control)
    assert tokens == theirs
    assert control_sizes == pytest.approx(sizes, rel=1e-4) and list(sizes) == list(control_sizes)
    other = control.replace(":0", ":1")
    assert methods.make(control, MATERIAL).content_hash != methods.make(other, MATERIAL).content_hash


def test_controls_of_other_places_are_not_what_a_method_stands_beside():
    named = [n for pair in PAIRED for n in pair]
    for one in named:
        for other in named:
            if places(one) == places(other):
                assert acts(one)[0] == acts(other)[0] and list(acts(one)[1]) == list(acts(other)[1])
    assert places("ws:oft") == places("random:spectrum:3") == "weights"
    assert len({places(n) for n in ("repe", "paper:all", "paper:single", "ws:lora", "prompt:pairs")}) == 5
    assert places("paper:single") == places("random:paper:7:single")


def test_a_constructed_change_keeps_its_inputs_where_its_control_writes_something_else():
    one, control = dense("constructed:top"), dense("random:constructed:0")
    for name in one:
        v, theirs = (torch.linalg.svd(d)[2][0] for d in (one[name], control[name]))
        assert abs(float(v @ theirs)) == pytest.approx(1, abs=1e-5)
        u, other = (torch.linalg.svd(d)[0][:, 0] for d in (one[name], control[name]))
        assert abs(float(u @ other)) < 0.9


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("constructed:middle", "constructed:top, constructed:tail or constructed:random:NUMBER"),
        ("constructed:random", "constructed:random:NUMBER"),
        ("constructed:top:1", "constructed:random:NUMBER"),
        ("svd:0", "rank of 1 or more"),
        ("svd:x", "rank of 1 or more"),
        ("random:paper:0:pair", "has no 'pair'"),
        ("random:act:0:lora", "the same for all"),
    ],
)
def test_what_cannot_be_constructed_is_refused_before_any_work(name, words):
    with pytest.raises(ValueError, match=words):
        methods.check(name)


def test_a_default_comparison_has_controls_for_all_it_compares():
    chosen = methods.selection([])
    random = {places(n) for n in chosen if n.startswith("random:")}
    assert {places(n) for n in chosen if not n.startswith(("random:", "prompt:"))} == random
