"""Choosing, weighing, projecting and compressing directions is what it is for the matrices themselves."""

import pytest
import torch
from direction.test_algebra import KINDS, a_form
from hypothesis import given, settings
from hypothesis import strategies as st

from ws.direction import Direction, dot
from ws.direction.algebra import (
    SCOPES,
    compressed,
    cosines,
    gram,
    orthonormalized,
    over_depth,
    project_out,
    restricted,
    scaled_by,
)
from ws.direction.forms import Dense, LowRank

SHAPES = {
    f"model.layers.{n}.{kind}": shape for n in range(3) for kind, shape in (("attn.q", (8, 16)), ("mlp.down", (16, 8)))
}
WEIGHTS = {
    n: torch.randn(s, generator=torch.Generator().manual_seed(i), dtype=torch.float64)
    for i, (n, s) in enumerate(SHAPES.items())
}
weight = WEIGHTS.__getitem__


def make(recipe):
    kinds, seed = recipe
    g = torch.Generator().manual_seed(seed)
    return Direction({n: tuple(a_form(k, *SHAPES[n], g) for k in some) for n, some in kinds.items()})


some = st.lists(st.sampled_from(KINDS), min_size=1, max_size=2)
recipes = st.tuples(st.dictionaries(st.sampled_from(sorted(SHAPES)), some, min_size=1), st.integers(0, 10_000))
scopes = st.sampled_from(sorted(SCOPES))


def flat(d, names=None):
    parts = []
    for n, w in WEIGHTS.items():
        there = n in d.forms and (names is None or n in names)
        v = d.bias(n) if there else None
        parts.append(d.dense(n, weight).flatten() if there else torch.zeros(w.numel(), dtype=torch.float64))
        parts.append(torch.zeros(w.shape[0], dtype=torch.float64) if v is None else v)
    return torch.cat(parts)


@settings(max_examples=30, deadline=None)
@given(st.lists(recipes, min_size=2, max_size=4), scopes)
def test_a_gram_table_holds_the_dense_inner_products_of_every_group(recipes, scope):
    ds = [make(r) for r in recipes]
    tables = gram(ds, weight, scope=scope)
    for group, table in tables.items():
        names = {n for n in SHAPES if SCOPES[scope](n) == group}
        stacked = torch.stack([flat(d, names) for d in ds])
        wanted = stacked @ stacked.mT
        assert (table - wanted).abs().max() <= 1e-5 * wanted.diagonal().max().clamp(min=1e-12)
    size = flat(ds[0]).norm() * flat(ds[1]).norm()
    whole = gram(ds, weight)["all"]
    assert float(cosines(whole)[0, 1]) == pytest.approx(float(flat(ds[0]) @ flat(ds[1]) / size), abs=1e-5)


@pytest.mark.parametrize("rank", [1, 2, 30])
@pytest.mark.parametrize(("ranks", "rows"), [(96, 99), (5, 7), (1, 1)])
def test_both_ways_of_multiplying_low_ranks_agree_however_much_is_multiplied_at_once(monkeypatch, rank, ranks, rows):
    monkeypatch.setattr("ws.direction.algebra.RANKS_AT_ONCE", ranks)
    monkeypatch.setattr("ws.direction.algebra.VALUES_AT_ONCE", 5 * 20 * rows)
    g = torch.Generator().manual_seed(0)
    ds = [
        Direction({"m.0.x": (LowRank(torch.randn(24, rank, generator=g), torch.randn(rank, 20, generator=g)),)})
        for _ in range(5)
    ]
    stacked = torch.stack([d.dense("m.0.x", lambda _: torch.zeros(24, 20)).double().flatten() for d in ds])
    torch.testing.assert_close(gram(ds)["all"], stacked @ stacked.mT, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("rank", [2, 40])  # in factors, and in slices of the matrices
def test_large_factors_that_nearly_cancel_keep_their_digits(rank):
    g = torch.Generator().manual_seed(0)
    rand = lambda *s: torch.randn(*s, generator=g)  # noqa: E731
    b, a = 100 * rand(48, rank), rand(rank, 40)
    ds = [Direction({"m.0.x": (LowRank(torch.cat([b + rand(48, rank), -b], 1), torch.cat([a, a])),)}) for _ in range(3)]
    zero = torch.zeros(48, 40, dtype=torch.float64)
    stacked = torch.stack([d.to(dtype=torch.float64).dense("m.0.x", lambda _: zero).flatten() for d in ds])
    wanted = stacked @ stacked.mT
    assert (gram(ds)["all"] - wanted).abs().max() <= 1e-5 * wanted.diagonal().max()


@settings(max_examples=30, deadline=None)
@given(recipes, recipes, scopes)
def test_what_is_projected_out_is_gone_in_every_group(a, b, scope):
    d, u = make(a), make(b)
    rest = project_out(d, u, weight, scope=scope)
    for group in {SCOPES[scope](n) for n in u.forms}:
        names = {n for n in SHAPES if SCOPES[scope](n) == group}
        x, y = flat(rest, names), flat(u, names)
        assert abs(float(x @ y)) <= 1e-6 * max(1e-12, float(flat(d).norm() * y.norm()))
    if scope == "global":
        gone = flat(d) - flat(rest)
        torch.testing.assert_close(gone, (flat(d) @ flat(u)) / (flat(u) @ flat(u)) * flat(u), atol=1e-9, rtol=1e-6)


@settings(max_examples=15, deadline=None)
@given(st.lists(recipes, min_size=2, max_size=3))
def test_an_orthonormal_list_is_one(recipes):
    ds = [make(r) for r in recipes]
    try:
        found = orthonormalized(ds, weight)
    except ValueError:
        stacked = torch.stack([flat(d) / flat(d).norm() for d in ds])
        assert torch.linalg.svdvals(stacked)[-1] < 1e-5
        return
    stacked = torch.stack([flat(d) for d in found])
    torch.testing.assert_close(stacked @ stacked.mT, torch.eye(len(ds), dtype=torch.float64), atol=1e-6, rtol=0)


@settings(max_examples=20, deadline=None)
@given(recipes, st.integers(1, 6))
def test_compressing_is_the_best_cut_of_every_matrix_and_says_what_it_keeps(recipe, rank):
    d = make(recipe)
    cut, kept = compressed(d, rank=rank, weight=weight)
    best = total = 0.0
    for n in d.forms:
        s = torch.linalg.svdvals(d.dense(n, weight)).square()
        v = d.bias(n)
        v = 0.0 if v is None else float(v.square().sum())
        best, total = best + float(s[:rank].sum()) + v, total + float(s.sum()) + v
        got = torch.linalg.svdvals(cut.dense(n, weight).double())
        assert got[rank:].max() <= 1e-5 * max(1.0, float(got[0])) if len(got) > rank else True
    assert kept == pytest.approx(best / total, rel=1e-6)


def test_compressing_a_low_rank_to_its_own_rank_changes_nothing_and_below_it_does():
    g = torch.Generator().manual_seed(0)
    d = Direction({n: (a_form("lowrank", *s, g),) for n, s in SHAPES.items()})
    whole, kept = compressed(d, rank=3)
    torch.testing.assert_close(flat(whole.to(dtype=torch.float64)), flat(d), atol=1e-5, rtol=1e-4)
    assert kept == pytest.approx(1)
    less, kept = compressed(d, energy=0.5)
    assert 0.5 <= kept < 0.99
    assert sum(f.b.shape[1] for fs in less.forms.values() for f in fs if isinstance(f, LowRank)) < 18


@settings(max_examples=20, deadline=None)
@given(recipes)
def test_a_part_and_its_complement_are_the_whole(recipe):
    d = make(recipe)
    names = sorted(d.forms)
    if len(names) < 2:
        with pytest.raises(ValueError, match="leaves no module"):
            restricted(d, drop=[names[0]])
        return
    part, rest = restricted(d, keep=[names[0]]), restricted(d, drop=[names[0]])
    torch.testing.assert_close(flat(part) + flat(rest), flat(d))
    assert flat(part).norm() < flat(d).norm()


@pytest.mark.parametrize("energy", [0.3, 0.6, 0.9])
def test_the_least_rank_that_keeps_a_share_of_the_energy_is_taken_in_every_module(energy):
    g = torch.Generator().manual_seed(0)
    d = Direction({n: (Dense(5 * torch.randn(s, generator=g)),) for n, s in SHAPES.items()})
    cut, _ = compressed(d, energy=energy)
    for name, (form,) in cut.forms.items():
        squares = torch.linalg.svdvals(d.dense(name, weight).double()).square()
        shares = (squares.cumsum(0) / squares.sum()).tolist()
        assert form.a.shape[0] == 1 + sum(share < energy for share in shares)


def test_all_of_the_energy_takes_no_more_ranks_than_there_are():
    for seed in range(8):
        g = torch.Generator().manual_seed(seed)
        low = a_form("lowrank", 8, 16, g)
        d = Direction({"m.0.x": (Dense(low.b @ low.a),)})  # of rank 3, and nothing but rounding beyond it
        cut, kept = compressed(d, energy=1.0)
        assert cut.forms["m.0.x"][0].a.shape[0] == 3 and kept == pytest.approx(1)
        assert compressed(d, energy=1e-6)[0].forms["m.0.x"][0].a.shape[0] == 1


def test_factors_by_pattern_and_by_depth():
    d = Direction({n: (Dense(torch.ones(s, dtype=torch.float64)),) for n, s in SHAPES.items()})
    value = lambda x, n: float(x.dense(n, weight)[0, 0])  # noqa: E731
    by_name = scaled_by(d, {"*.mlp.*": 2.0, "*.0.*": 3.0})
    assert [
        value(by_name, n) for n in ("model.layers.0.attn.q", "model.layers.0.mlp.down", "model.layers.2.attn.q")
    ] == [3, 6, 1]
    deep = over_depth(d, [0.0, 1.0])
    assert [value(deep, f"model.layers.{n}.attn.q") for n in range(3)] == [0, 0.5, 1]
    assert [value(over_depth(d, [2.0]), f"model.layers.{n}.attn.q") for n in range(3)] == [2, 2, 2]
    later = Direction({f"m.{n}.x": (Dense(torch.ones(2, 2)),) for n in range(3, 8)})  # the first layer touched counts
    bent = over_depth(later, [1.0, 0.0, 4.0])
    assert [float(bent.forms[f"m.{n}.x"][0].m[0, 0]) for n in range(3, 8)] == [1, 0.5, 0, 2, 4]
    for values in ([], [1.0, float("nan")]):
        with pytest.raises(ValueError, match="depth factors must be finite numbers"):
            over_depth(d, values)
    with pytest.raises(ValueError, match="not finite"):
        scaled_by(d, {"*.mlp.*": float("inf")})


@pytest.mark.parametrize("call", [lambda d: restricted(d, keep=["*.nope.*"]), lambda d: scaled_by(d, {"nope": 1.0})])
def test_a_pattern_that_matches_nothing_is_an_error(call):
    d = Direction({n: (Dense(torch.ones(s)),) for n, s in SHAPES.items()})
    with pytest.raises(ValueError, match="match no module"):
        call(d)


def test_a_direction_in_the_span_of_others_has_no_orthogonal_part():
    d = Direction({n: (Dense(torch.ones(s)),) for n, s in SHAPES.items()})
    with pytest.raises(ValueError, match="lies in the span"):
        orthonormalized([d, d * 2], weight)
    assert dot(d, d) > 0
