"""Directions obey the laws of the matrices they stand for, in factors, against dense float64."""

import itertools
import math
from dataclasses import fields

import pytest
import torch
from conftest import SHAPED
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from ws.direction import Direction, cosine, dot
from ws.direction.forms import BiasShift, BlockRotation, ColScale, Dense, LowRank, RowScale, tensors
from ws.errors import DirectionMismatch

SHAPES = {"wide": (8, 16), "tall": (16, 8)}
WEIGHTS = {
    n: torch.randn(s, generator=torch.Generator().manual_seed(i), dtype=torch.float64)
    for i, (n, s) in enumerate(SHAPES.items())
}


def test_a_shape_that_breaks_its_promise_is_an_error_while_tests_run():
    assert {"ws.direction.forms", "ws.explain.bases.basis", "ws.methods.parts"} <= set(SHAPED)
    assert LowRank(torch.zeros(4, 2), torch.zeros(2, 3)).dense(torch.zeros(4, 3)).shape == (4, 3)
    with pytest.raises(TypeCheckError):
        LowRank(torch.zeros(4, 2), torch.zeros(3, 3))


def rand(*shape, g):
    return torch.randn(*shape, generator=g, dtype=torch.float64)


def a_form(kind, o, i, g):
    return {
        "lowrank": lambda: LowRank(rand(o, 3, g=g), rand(3, i, g=g)),
        "row": lambda: RowScale(rand(o, g=g)),
        "col": lambda: ColScale(rand(i, g=g)),
        "block": lambda: BlockRotation(rand(i // 4, 4, 4, g=g)),
        "scaled block": lambda: BlockRotation(rand(i // 2, 2, 2, g=g), rand(o, g=g)),
        "bias": lambda: BiasShift(rand(o, g=g)),
        "dense": lambda: Dense(rand(o, i, g=g)),
    }[kind]()


KINDS = ["lowrank", "row", "col", "block", "scaled block", "bias", "dense"]


def a_direction(kinds, seed):
    g = torch.Generator().manual_seed(seed)
    return Direction({n: tuple(a_form(k, *SHAPES[n], g) for k in some) for n, some in kinds.items()})


def directions():
    """Recipes of directions: any mixture of forms on any of two modules, and a seed."""
    some = st.lists(st.sampled_from(KINDS), min_size=1, max_size=3)
    kinds = st.dictionaries(st.sampled_from(sorted(SHAPES)), some, min_size=1)
    return st.tuples(kinds, st.integers(0, 10_000))


def flat(d):
    """A direction as one long float64 vector: every matrix, then every bias."""
    parts = []
    for n, w in WEIGHTS.items():
        parts.append(
            d.dense(n, WEIGHTS.__getitem__).flatten() if n in d.forms else torch.zeros(w.numel(), dtype=torch.float64)
        )
        v = d.bias(n) if n in d.forms else None
        parts.append(torch.zeros(w.shape[0], dtype=torch.float64) if v is None else v)
    return torch.cat(parts)


finite = st.floats(-4, 4, allow_nan=False).filter(lambda k: abs(k) > 1e-3)


@settings(max_examples=60, deadline=None)
@given(directions(), directions(), finite)
def test_sum_and_scale_are_those_of_the_matrices(a, b, k):
    a, b = a_direction(*a), a_direction(*b)
    torch.testing.assert_close(flat(a + b), flat(a) + flat(b))
    torch.testing.assert_close(flat(k * (a + b)), flat(k * a + k * b))
    torch.testing.assert_close(flat(-a), -flat(a))
    torch.testing.assert_close(flat((a + b) - b), flat(a), atol=1e-12, rtol=1e-9)


@settings(max_examples=60, deadline=None)
@given(directions(), directions())
def test_inner_products_equal_the_dense_ones_for_every_pair_of_forms(a, b):
    a, b = a_direction(*a), a_direction(*b)
    wanted = float(flat(a) @ flat(b))
    scale = float(flat(a).norm() * flat(b).norm())
    assert abs(dot(a, b, WEIGHTS.__getitem__) - wanted) <= 1e-10 * scale
    assert abs(a.norm(WEIGHTS.__getitem__) - float(flat(a).norm())) <= 1e-10 * float(flat(a).norm())


@pytest.mark.parametrize("rows", [3, 8])
def test_inner_products_of_matrices_larger_than_a_slice_are_those_of_the_whole(monkeypatch, rows):
    monkeypatch.setattr("ws.direction.forms.ROWS_AT_ONCE", rows)
    for left, right in itertools.product(KINDS, KINDS):
        a, b = (a_direction({n: [kind] for n in SHAPES}, seed) for seed, kind in enumerate((left, right)))
        scale = float(flat(a).norm() * flat(b).norm())
        assert abs(dot(a, b, WEIGHTS.__getitem__) - float(flat(a) @ flat(b))) <= 1e-10 * scale, (left, right)


@settings(max_examples=20, deadline=None)
@given(directions())
def test_a_direction_and_its_negative_point_opposite_ways(a):
    a = a_direction(*a)
    assert cosine(a, -a, WEIGHTS.__getitem__) == pytest.approx(-1)
    assert cosine(a, a, WEIGHTS.__getitem__) == pytest.approx(1)


@settings(max_examples=40, deadline=None)
@given(directions(), st.integers(0, 99))
def test_applying_forms_to_inputs_equals_the_matrix(a, seed):
    a = a_direction(*a)
    for n, forms in a.forms.items():
        x = torch.randn(2, 3, SHAPES[n][1], generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        w = WEIGHTS[n]
        got = sum(f(x, w, x @ w.mT) for f in forms)
        bias = a.bias(n)
        torch.testing.assert_close(got, x @ a.dense(n, WEIGHTS.__getitem__).mT + (0 if bias is None else bias))


@pytest.mark.parametrize("kind", KINDS)
def test_a_form_fits_the_sizes_it_was_made_for_and_no_other(kind):
    form = a_form(kind, 8, 16, torch.Generator().manual_seed(0))
    any_out, any_in = kind in ("col", "block"), kind in ("row", "bias")
    assert form.fits(8, 16)
    assert [form.fits(o, 16) for o in (7, 9, 16)] == [any_out] * 3
    assert [form.fits(8, i) for i in (8, 15, 17)] == [any_in] * 3


def unchecked(kind, *values):
    """A form of tensors whose shapes its own annotations refuse while the tests run."""
    form = object.__new__(kind)
    for field, value in itertools.zip_longest(fields(kind), values):
        object.__setattr__(form, field.name, value)
    return form


def test_factors_that_are_no_factors_of_any_matrix_fit_none():
    ones = lambda *s: torch.ones(*s, dtype=torch.float64)  # noqa: E731
    blocks = [(BlockRotation, e) for e in (ones(4, 4, 5), ones(4, 5, 4), ones(2, 4, 4), ones(16, 16))]
    ranks = [(LowRank, ones(8, b), ones(a, 16)) for b, a in ((3, 2), (2, 3))]
    ranks.append((LowRank, ones(8, 1, 1), ones(1, 16)))
    others = [(RowScale, ones(8, 1)), (ColScale, ones(1, 16)), (BiasShift, ones(1, 8)), (Dense, ones(16, 8))]
    assert not any(unchecked(*form).fits(8, 16) for form in (*blocks, *ranks, *others))
    assert not BlockRotation(ones(4, 4, 4), ones(9)).fits(8, 16) and BlockRotation(ones(4, 4, 4), ones(8)).fits(8, 16)


def test_equal_sides_cancel_to_exactly_zero():
    g = torch.Generator().manual_seed(0)
    a = Direction({"wide": (LowRank(rand(8, 3, g=g), rand(3, 16, g=g)), RowScale(rand(8, g=g)))})
    assert all(float(t.abs().max()) == 0 for f in (a - a).forms["wide"] for k, t in tensors(f).items() if k != "a")


def test_factors_that_cancel_have_a_norm_of_rounding_and_no_error():
    for seed in range(20):  # of some the sum of squares, taken by way of the factors, ends below 0
        g = torch.Generator().manual_seed(seed)
        b, a = rand(8, 3, g=g), rand(3, 16, g=g)
        d = Direction({"wide": (LowRank(torch.cat([b, -b], 1), torch.cat([a, a])),)})
        assert 0 <= d.norm() < 1e-6 and 0 <= d.norms()["wide"] < 1e-6


def test_a_zero_direction_has_no_cosine():
    zero = Direction({"wide": (RowScale(torch.zeros(8)),)})
    assert math.isnan(cosine(zero, zero, WEIGHTS.__getitem__))


def test_sizes_that_need_the_base_say_so():
    with pytest.raises(ValueError, match=r"pass weight=base\.weight"):
        Direction({"wide": (RowScale(torch.ones(8)),)}).norm()


def test_directions_of_different_bases_are_not_added():
    a = Direction({"wide": (RowScale(torch.ones(8)),)}, {"base": {"fingerprint": "aaaa"}})
    b = Direction({"wide": (RowScale(torch.ones(8)),)}, {"base": {"fingerprint": "bbbb"}})
    with pytest.raises(DirectionMismatch, match="different bases"):
        a + b
    assert (a + a).fingerprint == "aaaa"


def test_a_scaled_direction_says_by_how_much_all_in_all():
    d = Direction({"wide": (RowScale(torch.ones(8)),)}, {"made_by": "hand"})
    assert (-0.5 * (4.0 * d)).provenance == {"made_by": "hand", "scale": -2.0}
    assert "scale" not in d.provenance


def test_scaling_by_nan_is_refused():
    with pytest.raises(ValueError, match="finite"):
        Direction({"wide": (RowScale(torch.ones(8)),)}) * math.nan
