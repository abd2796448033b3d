"""Experts that lie in one tensor: every one is a matrix like any other, for spaces, singular values and parts of a direction."""

import architectures as shapes
import pytest
import torch
from models.test_experts import direction_on, stacks_by_name

from ws.direction import Direction
from ws.direction.algebra import restricted
from ws.direction.direction import dot
from ws.direction.forms import LowRank, Stacked
from ws.direction.random import random_like
from ws.direction.variants import base_block, complement, cropped, projected
from ws.errors import Unsupported
from ws.explain import kept
from ws.explain.act_basis import seen
from ws.explain.angles import compared, spaces_of
from ws.explain.antipasto import _closest as closest
from ws.explain.bases.antipasto import DEFAULT
from ws.explain.bases.basis import Basis, haar
from ws.explain.bases.energies import factors
from ws.explain.bases.spaces import Spaces
from ws.explain.bases.spectra import spectrum_of
from ws.explain.param_crop import base_block as kept_block
from ws.explain.protocol import Subject
from ws.explain.registry import ANALYSES
from ws.explain.svd_align import aligned

KINDS = ("gpt-oss", "mixtral", "nemotron-h")


@pytest.fixture(scope="module", params=KINDS)
def base(request):
    return shapes.base(request.param)


def over_experts(base, seed=0):
    return restricted(direction_on(base, seed, dtype=torch.float64), keep="*.experts.*")


@pytest.mark.parametrize("side", ["write", "read"])
def test_what_experts_write_and_read_is_the_sum_over_all_of_them(base, side):
    d = over_experts(base)
    wanted = {}
    for name in d.forms:
        m = d.dense(name, base.weight).double()
        if name.endswith("down_proj") == (side == "write"):
            gram = (m @ m.mT if side == "write" else m.mT @ m).sum(0)
            block = base.layers[name].block
            wanted[block] = wanted.get(block, 0) + gram
    got = factors(d, base, side).of
    assert got.keys() == wanted.keys() and got
    for block, f in got.items():
        torch.testing.assert_close(f @ f.mT, wanted[block], atol=1e-9, rtol=1e-6)


def test_the_alignment_of_a_tensor_of_experts_is_that_of_its_matrices(base):
    d = over_experts(base)
    name = stacks_by_name(base)[0]
    sums = aligned(base, Subject(base, d), name)
    inside = size = 0.0
    for w, m in zip(base.weight(name).double(), d.dense(name, base.weight).double()):
        u, _, vh = torch.linalg.svd(w)
        k = max(1, int(0.1 * min(w.shape)))
        inside += float((u[:, :k].mT @ m @ vh[:k].mT).square().sum())
        size += float(m.square().sum())
    assert sums["top"].inside == pytest.approx(inside, rel=1e-4)
    assert sums["top"].size == pytest.approx(size, rel=1e-6)


def test_a_change_along_the_first_singular_vectors_of_every_expert_is_aligned_and_a_random_one_is_not(base):
    name = stacks_by_name(base)[0]
    w = base.weight(name)
    own = [spectrum_of(base, name, e) for e in range(len(w))]
    b, a = torch.stack([s.u[:, :1] for s in own]).float(), torch.stack([s.v[:, :1].mT for s in own]).float()
    planted = Direction({name: (Stacked(b, a),)}, {"base": base.described()})
    other = random_like(planted, 0, base.weight)
    first, second = (aligned(base, Subject(base, d), name)["top"].row(name, "top") for d in (planted, other))
    assert first.energy == pytest.approx(1, abs=1e-4) and first.z > 10
    assert second.energy < 0.3 and abs(second.z) < 4


@pytest.mark.parametrize("part", ["top:.5", "bottom:.5", "rank:1", "energy:.6"])
def test_a_crop_of_experts_is_the_crop_of_each_and_the_rest_is_what_is_left(base, part):
    d = over_experts(base)
    small = cropped(d, part, base.weight)
    rest = complement(d, small)
    assert dot(small, rest) == pytest.approx(0, abs=1e-5 * dot(d, d)) and 0 < small.norm() < d.norm()
    assert (small + rest - d).norm() < 1e-6 * d.norm()
    name = stacks_by_name(base)[0]
    for at, m in enumerate(small.dense(name, base.weight)):
        alone = Direction({name: (d.forms[name][0].experts[at],)})
        torch.testing.assert_close(m, cropped(alone, part).dense(name, lambda _, m=m: m), atol=1e-6, rtol=1e-4)


def test_a_projection_is_one_space_for_all_experts_and_the_block_of_w_one_of_each(base):
    d, (name, *_) = over_experts(base), stacks_by_name(base)
    o = base.weight(name).shape[1]
    space = haar(o, 3, torch.Generator().manual_seed(0)).float()
    inside = projected(d, write={name: space})
    wanted = space.double() @ (space.double().mT @ d.dense(name, base.weight))
    torch.testing.assert_close(inside.dense(name, base.weight), wanted, atol=1e-6, rtol=1e-4)
    block, same = base_block(d, base.weight, 0.5), kept_block(Subject(base, d), 0.5)
    assert (block - same).norm() < 1e-3 * block.norm() and 0 < block.norm() < d.norm()
    for w, m, whole in zip(base.weight(name), block.dense(name, base.weight), d.dense(name, base.weight)):
        u, _, vh = torch.linalg.svd(w)
        k = max(1, int(0.5 * min(w.shape)))
        p, q = u[:, :k] @ u[:, :k].mT, vh[:k].mT @ vh[:k]
        torch.testing.assert_close(m, p.double() @ whole @ q.double(), atol=1e-4, rtol=1e-3)


def test_noise_on_experts_is_as_large_as_the_direction_and_of_full_rank(base):
    d = over_experts(base)
    noise = random_like(d, 0, base.weight, form="gauss")
    assert noise.norms() == pytest.approx(d.norms(), rel=1e-5)
    for name in noise.forms:
        m = noise.dense(name, base.weight)
        assert m.shape == base.weight(name).shape
        assert (torch.linalg.matrix_rank(m) == min(m.shape[1:])).all()


def test_a_direction_has_no_angle_to_itself_and_one_to_another(base):
    d, other = over_experts(base, 0), over_experts(base, 1)
    subject = Subject(base, d, others={"other": other, "same": d})
    own, same, far = (spaces_of(subject, name, "write", rank=2) for name in (None, "same", "other"))
    assert compared(own, same).overlap == pytest.approx(1)
    assert compared(own, far).overlap < 0.5


def test_inputs_inside_of_the_kernel_of_experts_are_refused_and_keeping_a_space_is_not(base):
    d = over_experts(base)
    with pytest.raises(Unsupported, match="inside of their kernel cannot be seen; ask `func_proj`"):
        seen(base, d, [((1, 2, 3), 2)])
    writers = kept.writers_alone(Subject(base, d))
    assert writers.forms.keys() == {n for n in d.forms if n.endswith("down_proj")}


@pytest.mark.parametrize("kind", ["mixtral", "qwen3.5-moe", "nemotron-h"])
def test_spaces_of_a_mixture_are_those_of_what_all_tokens_see_and_one_that_is_not_there_is_said(kind):
    base = shapes.base(kind)
    linear = {
        x.name: (LowRank(torch.ones(len(base.weight(x.name)), 1), torch.ones(1, base.weight(x.name).shape[1])),)
        for x in base.linears.values()
    }
    for d in (over_experts(base), Direction(linear, {"base": base.described()})):
        finding = ANALYSES["mech_bases"].run(Subject(base, d))
        spaces = {r.space for t in finding.tables for r in t.rows}
        assert "write_here" in spaces
        assert ("mlp" in spaces) is not any("mlp is not there" in r for r in finding.readings)
        assert ("mlp" in spaces) is (kind == "qwen3.5-moe")


def test_how_close_two_spaces_come_is_said_only_where_both_have_a_dimension():
    """Those of a small hybrid may have none."""
    own, other = (Spaces("x", write=(Basis("x", torch.eye(4)[:, at : at + 1], "base"),)) for at in (0, 1))
    nothing = Spaces("x", write=(Basis("x", torch.zeros(4, 0), "base"),))
    assert "have the cosine 0.00" in closest({DEFAULT: nothing, "taskdiff": own, "suppressed": other})
    assert closest({DEFAULT: nothing, "taskdiff": nothing, "suppressed": other}) == ""
    assert closest({DEFAULT: own, "taskdiff": own, "suppressed": own}) == ""
