"""Parts of a direction add up to it, keep what they promise, and say what they cannot show."""

import pytest
import torch
from direction.test_algebra import a_form
from direction.test_parts import SHAPES, WEIGHTS, flat, recipes
from hypothesis import given, settings
from hypothesis import strategies as st

from ws.direction import Direction
from ws.direction.forms import LowRank
from ws.direction.variants import (
    Flags,
    base_block,
    complement,
    cropped,
    dir_only,
    mag_only,
    norm_matched,
    projected,
    random_norm,
)

weight = WEIGHTS.__getitem__


def double(d):
    return d.to(dtype=torch.float64)


def basis(n, k, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(n, k, generator=g, dtype=torch.float64))[0]


def low_rank(rank=3, seed=0):
    g = torch.Generator().manual_seed(seed)
    pairs = {n: (torch.randn(o, rank, generator=g), torch.randn(rank, i, generator=g)) for n, (o, i) in SHAPES.items()}
    return Direction({n: (LowRank(b, a),) for n, (b, a) in pairs.items()})


def make(recipe):
    kinds, seed = recipe
    g = torch.Generator().manual_seed(seed)
    return Direction({n: tuple(a_form(k, *SHAPES[n], g) for k in some) for n, some in kinds.items()})


@settings(max_examples=30, deadline=None)
@given(recipes, st.integers(1, 4), st.sampled_from(["write", "read", "both"]))
def test_a_projection_and_its_complement_add_up_for_every_form(recipe, k, side):
    d = make(recipe)
    write = {n: basis(o, k) for n, (o, _) in SHAPES.items()} if side != "read" else {}
    read = {n: basis(i, k) for n, (_, i) in SHAPES.items()} if side != "write" else {}
    kept = projected(d, write=write, read=read, weight=weight)
    rest = complement(d, kept)
    size = flat(d).norm()
    assert (flat(double(kept)) + flat(double(rest)) - flat(d)).norm() < 1e-6 * size
    for name in d.forms:  # the projection of the matrices themselves
        left = write[name] @ write[name].mT if side != "read" else torch.eye(SHAPES[name][0], dtype=torch.float64)
        right = read[name] @ read[name].mT if side != "write" else torch.eye(SHAPES[name][1], dtype=torch.float64)
        w = d.dense(name, weight)
        found = double(kept).dense(name, weight) if kept.forms.get(name) else torch.zeros_like(w)
        assert (found - left @ w @ right).norm() < 1e-6 * (1 + w.norm())


def test_a_projected_low_rank_stays_low_rank_and_a_module_without_a_basis_is_left_out():
    d = low_rank()
    some = dict(list(SHAPES.items())[:2])
    kept = projected(d, write={n: basis(o, 2) for n, (o, _) in some.items()})
    assert set(kept.forms) == set(some)
    assert {f.b.shape[1] for fs in kept.forms.values() for f in fs} == {3}
    assert {f.b.shape[1] for fs in complement(d, kept).forms.values() for f in fs} == {3}
    with pytest.raises(ValueError, match="none of the modules"):
        projected(d, write={"model.layers.9.x": basis(8, 2)})


def test_a_random_basis_holds_the_share_of_the_energy_that_chance_says():
    d = low_rank()
    shares = []
    for seed in range(60):
        kept = projected(d, write={n: basis(o, 2, seed) for n, (o, _) in SHAPES.items()})
        shares += [(kept.norms()[n] / d.norms()[n]) ** 2 * o / 2 for n, (o, _) in SHAPES.items()]
    mean, error = torch.tensor(shares).mean(), torch.tensor(shares).std() / len(shares) ** 0.5
    assert abs(mean - 1) < 4 * error
    full = projected(d, write={n: torch.eye(o, dtype=torch.float64) for n, (o, _) in SHAPES.items()})
    torch.testing.assert_close(flat(full), flat(d))


@pytest.mark.parametrize("part", ["top:.34", "middle:.34", "bottom:.34", "energy:.5", "rank:1"])
def test_a_crop_and_its_complement_add_up_and_the_crop_says_that_it_is_of_itself(part):
    d = low_rank()
    kept = cropped(d, part)
    rest = complement(d, kept)
    assert (flat(double(kept)) + flat(double(rest)) - flat(double(d))).norm() < 1e-6 * flat(double(d)).norm()
    assert 0.1 < kept.norm() < 0.999 * d.norm()
    record = kept.provenance["variant"]
    assert record["tautology"] and record["circular"] and record["rank"] == 3 and record["name"] == f"cropped:{part}"


def test_a_crop_at_its_own_rank_changes_nothing_and_is_flagged_a_tautology():
    d = low_rank(rank=3)
    same = cropped(d, "rank:3")
    torch.testing.assert_close(flat(double(same)), flat(double(d)), atol=1e-6, rtol=1e-5)
    assert same.provenance["variant"]["tautology"] and same.provenance["variant"]["rank"] == 3
    assert not torch.allclose(flat(double(cropped(d, "rank:2"))), flat(double(d)), atol=1e-2)
    thirds = [cropped(d, p) for p in ("top:.3334", "middle:.3334", "bottom:.3334")]
    sizes = [t.norm() for t in thirds]
    assert sizes == sorted(sizes, reverse=True)
    torch.testing.assert_close(flat(double(thirds[0] + thirds[1] + thirds[2])), flat(double(d)), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("part", ["top", "top:0", "energy:1.5", "rank:1.5", "rank:0", "best:.5", ""])
def test_a_crop_that_is_none_is_refused_with_what_there_is(part):
    with pytest.raises(ValueError, match=r"a crop is top:\.25"):
        cropped(low_rank(), part)


def test_the_block_of_the_base_keeps_what_lies_between_its_top_singular_vectors():
    d = low_rank()
    kept, rest = base_block(d, weight, 0.5), None
    rest = complement(d, kept)
    assert (flat(double(kept)) + flat(double(rest)) - flat(double(d))).norm() < 1e-6 * flat(double(d)).norm()
    for name in SHAPES:
        u, _, vh = torch.linalg.svd(WEIGHTS[name], full_matrices=False)
        inside = u.mT @ double(kept).dense(name, weight) @ vh.mT
        assert inside[4:].abs().max() < 1e-6 and inside[:, 4:].abs().max() < 1e-6 and inside[:4, :4].abs().max() > 0.1
        assert (u.mT @ double(rest).dense(name, weight) @ vh.mT)[:4, :4].abs().max() < 1e-5


def test_norms_are_moved_between_modules_and_nothing_else():
    d = low_rank()
    full, flat_sizes = d.norms(), dir_only(d)
    assert flat_sizes.norm() == pytest.approx(d.norm(), rel=1e-6)
    assert len({round(n, 4) for n in flat_sizes.norms().values()}) == 1 < len({round(n, 4) for n in full.values()})
    for name in SHAPES:
        a, b = flat(double(flat_sizes), [name]), flat(double(d), [name])
        assert float(a @ b / a.norm() / b.norm()) == pytest.approx(1, abs=1e-6)
    noise = mag_only(d, 0, weight)
    assert noise.norms() == pytest.approx(full, rel=1e-5)
    even = random_norm(d, 0, weight)
    assert even.norms() == pytest.approx(flat_sizes.norms(), rel=1e-5)
    for r in (noise, even):
        a, b = flat(double(r)), flat(double(d))
        assert abs(float(a @ b / a.norm() / b.norm())) < 0.4
    assert mag_only(d, 1, weight).content_hash != noise.content_hash


def test_a_matched_variant_is_as_large_as_the_whole_in_every_module():
    d = low_rank()
    kept = projected(d, write={n: basis(o, 2) for n, (o, _) in SHAPES.items()})
    assert norm_matched(kept, d).norms() == pytest.approx(d.norms(), rel=1e-5)
    assert kept.norm() < 0.9 * d.norm()


def test_a_basis_says_where_it_comes_from_and_one_of_the_direction_itself_is_circular():
    d, write = low_rank(), {n: basis(o, 2) for n, (o, _) in SHAPES.items()}
    own = projected(d, write=write, flags=Flags("same_direction", rank=2.0))
    base = projected(d, write=write)
    assert own.provenance["variant"]["circular"] and not base.provenance["variant"]["circular"]
    rest = complement(d, own)
    assert rest.provenance["variant"]["circular"] and rest.provenance["variant"]["name"] == "complement"
    chain = norm_matched(own, d).provenance["variant"]
    assert chain["circular"] and chain["of"]["name"] == "projected"
    with pytest.raises(ValueError, match="a basis is made from one of"):
        Flags("thin air")


def test_a_direction_of_one_column_cut_from_a_matrix_has_its_hash():
    columns = torch.linalg.svd(torch.randn(4, 3, generator=torch.Generator().manual_seed(0)))[0]
    b = columns.mT.contiguous().mT[:, :1]  # contiguous to torch, and still no block of bytes
    assert Direction({"m": (LowRank(b, torch.ones(1, 3)),)}).content_hash == (
        Direction({"m": (LowRank(b.clone(memory_format=torch.contiguous_format), torch.ones(1, 3)),)}).content_hash
    )
