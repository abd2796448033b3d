"""TIES and DARE on true changes of weights, against the rule written out entry by entry."""

import math

import pytest
import small
import torch
from test_steer import lowrank

from ws.direction import Direction
from ws.direction.forms import BiasShift, RowScale
from ws.direction.merging import blended
from ws.errors import DirectionMismatch


def dense(d, base, name):
    return d.dense(name, base.weight).double()


def by_hand(parts, density):
    """TIES: cut, vote, average those that agree."""
    cut = []
    for p in parts:
        k = int(density * p.numel())
        least = p.abs().flatten().topk(k).values.min()
        cut.append(torch.where(p.abs() >= least, p, 0))
    total = torch.stack(cut)
    side = torch.where(total.sum(0) >= 0, 1.0, -1.0)
    agree = total.sign() == side
    return (total * agree).sum(0) / agree.sum(0).clamp(min=1)


def test_ties_is_cut_vote_and_average_with_the_factors_in_the_vote():
    base = small.base("llama")
    a, b, c = (lowrank(base, seed) for seed in range(3))
    found, kept = blended([a, b, c], [1.0, -0.5, 2.0], how="ties", density=0.3)
    assert kept == 1
    for name in a.forms:
        parts = [k * dense(d, base, name).float() for d, k in ((a, 1.0), (b, -0.5), (c, 2.0))]
        torch.testing.assert_close(found.dense(name, base.weight), by_hand(parts, 0.3), atol=1e-6, rtol=1e-5)
    other, _ = blended([a, b, c], [1.0, 0.5, 2.0], how="ties", density=0.3)
    assert (found - other).norm() > 0.1 * found.norm()


def test_one_direction_at_full_density_stays_itself_and_its_negative_its_negative():
    base = small.base("llama")
    d = lowrank(base)
    for how in ("ties", "dare", "dare-ties"):
        for k in (1.0, -2.0):
            assert (blended([d], [k], how=how, density=1.0)[0] - k * d).norm() < 1e-5 * d.norm()
    assert (blended([d], [1.0], how="ties", density=0.1)[0] - d).norm() > 0.1 * d.norm()


def test_dare_keeps_the_mean_depends_on_its_seed_and_leaves_the_global_one_alone():
    base = small.base("llama")
    a, b = lowrank(base, 0), lowrank(base, 1)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    draws = [blended([a, b], [1.0, 1.0], how="dare", density=0.5, seed=s)[0] for s in range(30)]
    assert torch.equal(before, torch.get_rng_state())
    again, _ = blended([a, b], [1.0, 1.0], how="dare", density=0.5, seed=3)
    assert (again - draws[3]).norm() == 0 and (draws[4] - draws[3]).norm() > 0
    name = next(iter(a.forms))
    mean = torch.stack([dense(d, base, name) for d in draws]).mean(0)
    whole = dense(a + b, base, name)
    assert (mean - whole).norm() < 0.3 * whole.norm() < (dense(draws[0], base, name) - whole).norm()


def test_any_form_and_biases_are_combined_and_a_module_of_one_alone_counts_alone():
    base = small.base("gpt2")
    names = sorted(base.linears)[:2]
    o, _ = base.weight(names[0]).shape
    mark = base.described()
    shift = torch.linspace(-1, 1, o)
    scale = Direction({names[0]: (RowScale(torch.full((o,), 0.1)), BiasShift(shift))}, {"base": mark})
    other = lowrank(base, only=names[1])
    found, kept = blended([scale, other], [-2.0, 1.0], how="ties", density=1.0, weight=base.weight, rank=3)
    torch.testing.assert_close(found.bias(names[0]), -2 * shift)
    assert 0 < kept < 1
    torch.testing.assert_close(
        found.dense(names[1], base.weight), other.dense(names[1], base.weight), atol=1e-5, rtol=1e-4
    )
    with pytest.raises(ValueError, match=r"pass weight=base\.weight"):
        blended([scale], [1.0], how="ties")


def test_what_is_kept_is_the_energy_of_the_cut_combination_biases_included():
    base = small.base("gpt2")
    names = sorted(base.linears)[:3]
    shifts = [Direction({n: (BiasShift(torch.arange(float(base.weight(n).shape[0]))),)}) for n in names]
    parts = [Direction(lowrank(base, seed, only=names[at]).forms) for seed, at in ((0, 0), (1, 0), (2, 1))]
    parts = [parts[0] + 0.01 * shifts[0], *parts[1:], 0.01 * shifts[2]]  # matrix and bias, a matrix, a bias
    (whole, every), (cut, kept) = (blended(parts, [1.0] * 4, how="ties", density=0.4, rank=r) for r in (None, 2))
    assert every == 1
    assert (whole - cut).norm() ** 2 == pytest.approx((1 - kept) * whole.norm() ** 2, rel=1e-4)
    assert math.isnan(blended([0.0 * parts[0]], [1.0], how="ties")[1])  # nothing is there of which to keep a share
    assert 0.5 < kept < 0.999 and cut.provenance["compressed"]["kept"] == kept


def test_bad_requests_are_refused():
    base, foreign = small.base("llama"), small.base("llama", seed=1)
    d = lowrank(base)
    for bad in (dict(how="slerp"), dict(how="ties", density=0.0), dict(how="ties", density=1.5)):
        with pytest.raises(ValueError, match=r"how is one of|density must lie"):
            blended([d], [1.0], **bad)
    with pytest.raises(ValueError, match="one finite factor per direction"):
        blended([d], [1.0, 2.0], how="ties")
    with pytest.raises(ValueError, match="one finite factor per direction"):
        blended([d], [float("nan")], how="ties")
    with pytest.raises(DirectionMismatch, match="different bases"):
        blended([d, lowrank(foreign)], [1.0, 1.0], how="ties")
