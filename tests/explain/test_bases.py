"""Spaces of a model are orthonormal, combine as they say, and a direction planted in one is seen there and nowhere else."""

import math

import pytest
import small
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ws.direction import Direction
from ws.direction.forms import Dense, LowRank
from ws.explain.bases import Basis, basis, complement, cosines, intersection, overlap, union, without
from ws.explain.bases.antipasto import NAMES, antipasto
from ws.explain.bases.basis import haar, participation
from ws.explain.bases.energies import factors, row_norms, share, shares
from ws.explain.bases.spaces import Spaces, readers_of, writers_of
from ws.explain.bases.spectra import final_gain, head_of, spectrum_of, unembedding
from ws.explain.bases.states import (
    act_pca,
    attention_contrast,
    clusters,
    contrast_mean,
    erased,
    gate_active,
    published_suppressed,
    published_taskdiff,
    suppressed,
    taskdiff,
)
from ws.explain.bases.weights import (
    mlp_space,
    ov_space,
    qk_space,
    read_space,
    unembed_null,
    unembed_read,
    write_here,
    write_not_read,
    write_space,
    write_x_notlogits,
)
from ws.models.base import Base

WIDTH = 16


def g(seed):
    return torch.Generator().manual_seed(seed)


def a_space(rank, seed, *, width=WIDTH, source="base"):
    return Basis(f"s{seed}", haar(width, rank, g(seed)).float(), source)


def orthonormal(b):
    return torch.allclose(b.vectors.double().mT @ b.vectors.double(), torch.eye(b.rank, dtype=torch.float64), atol=1e-5)


def outside(b, space):
    """The sine of the angle between every vector of a basis and a space."""
    x, y = b.vectors.double(), space.vectors.double()
    return (x - y @ (y.mT @ x)).norm(dim=0)


ranks, seeds = st.integers(1, 9), st.integers(0, 1000)


@settings(max_examples=25, deadline=None)
@given(ranks, ranks, seeds)
def test_every_combination_is_orthonormal_and_lies_where_it_says(i, j, seed):
    a, b = a_space(i, seed), a_space(j, seed + 5000)
    both, rest, either = intersection(a, b), without(a, b), union([a, b])
    assert all(map(orthonormal, (both, rest, either, complement(a))))
    assert outside(rest, either).max() < 1e-5 if rest.rank else True
    assert (b.vectors.mT @ rest.vectors).abs().max() < 1e-5 if rest.rank else True
    assert outside(a, either).max() < 1e-5 and outside(b, either).max() < 1e-5
    assert either.rank == min(WIDTH, i + j)
    assert complement(a).rank == WIDTH - i
    assert i == WIDTH or (a.vectors.mT @ complement(a).vectors).abs().max() < 1e-5


@settings(max_examples=25, deadline=None)
@given(ranks, ranks, seeds)
def test_an_intersection_halves_the_principal_angles_and_is_the_same_from_both_sides(i, j, seed):
    a, b = a_space(i, seed), a_space(j, seed + 5000)
    both = intersection(a, b)
    assert both.rank == int((cosines(a, b) >= 0.5).sum())
    expected = (1 - (1 + both.values.double()) / 2).clamp(min=0).sqrt()
    for space in (a, b):
        torch.testing.assert_close(outside(both, space), expected, atol=1e-3, rtol=1e-3)
    if both.rank:
        assert overlap(both, intersection(b, a)) == pytest.approx(1, abs=1e-5)


def test_spaces_that_share_a_plane_meet_in_it_and_spaces_at_right_angles_meet_nowhere():
    q = haar(WIDTH, 6, g(0)).float()
    a, b = Basis("a", q[:, :4], "base"), Basis("b", q[:, 2:6], "heldout_acts")
    both = intersection(a, b)
    assert both.rank == 2 and overlap(both, Basis("", q[:, 2:4], "base")) == pytest.approx(1, abs=1e-5)
    assert both.source == "heldout_acts"
    assert intersection(Basis("", q[:, :2], "base"), Basis("", q[:, 3:], "base")).rank == 0
    assert without(a, a).rank == 0 and without(a, b).rank == 2


def test_a_combination_is_as_circular_as_the_worst_of_its_parts():
    parts = [a_space(3, i, source=s) for i, s in enumerate(("base", "same_direction", "heldout_acts"))]
    assert union(parts).source == "same_direction"
    assert union(parts[::2]).source == "heldout_acts"
    with pytest.raises(ValueError, match="a basis is made from one of base"):
        Basis("x", torch.eye(3), "somewhere")
    with pytest.raises(ValueError, match="one width"):
        union([a_space(2, 0), a_space(2, 1, width=8)])


def test_columns_that_repeat_each_other_span_one_dimension_and_effective_rank_counts_what_counts():
    x = torch.randn(WIDTH, 1, generator=g(0))
    assert basis("x", torch.cat([x, 2 * x, -x], 1), "base").rank == 1
    assert basis("x", torch.zeros(WIDTH, 2), "base").rank == 0
    assert participation(torch.ones(5)) == pytest.approx(5)
    assert participation(torch.tensor([1.0, 1e-6, 1e-6])) == pytest.approx(1)
    assert math.isnan(participation(torch.zeros(2)))
    assert a_space(4, 0).effective_rank == 4


# ---------------------------------------------------------------- of a model's weights


@pytest.fixture(scope="module")
def llama():
    return small.base("llama")


def test_a_decomposition_is_that_of_the_weight_and_comes_from_the_cache_the_second_time(llama, monkeypatch):
    for x in (*writers_of(llama)[:2], *readers_of(llama, 32)[:5]):
        found = spectrum_of(llama, x.name)
        w = llama.weight(x.name).double()
        torch.testing.assert_close((found.u * found.s) @ found.v.mT, w, atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(found.s, torch.linalg.svdvals(w), atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(found.onto_u(w), found.u.mT @ w, atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(found.onto_v(w.mT), found.v.mT @ w.mT, atol=1e-6, rtol=1e-5)
    monkeypatch.setattr(torch.linalg, "eigh", None)
    assert torch.equal(spectrum_of(llama, x.name).s, found.s)
    coarse = Base(small.model("llama", dtype=torch.bfloat16), None, "", "llama", weights=llama.weights_hash)
    for other in (
        small.base("llama", seed=1),
        coarse,
    ):  # other weights, or another precision of the same, are another entry
        with pytest.raises(TypeError):
            spectrum_of(other, x.name)


@pytest.mark.parametrize("kind", ["llama", "gemma3", "gpt2", "neox"])
def test_the_gain_of_the_final_norm_is_found_whatever_norm_it_is(kind):
    base = small.base(kind)
    norm = {"gpt2": "transformer.ln_f", "neox": "gpt_neox.final_layer_norm"}.get(kind, "model.norm")
    module = base.model.get_submodule(norm)
    module.weight.data = torch.linspace(0.5, 2.0, 32)
    extra = 1.0 if kind == "gemma3" else 0.0
    torch.testing.assert_close(final_gain(base), torch.linspace(0.5, 2.0, 32) + extra, atol=1e-4, rtol=1e-4)
    _, s = unembedding(small.base(kind), gain=False)
    torch.testing.assert_close(s, torch.linalg.svdvals(head_of(base).double()), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gemma2"])
def test_spaces_of_a_model_are_orthonormal_and_say_their_source(kind):
    base = small.base(kind)
    made = [write_space, read_space, write_here, unembed_read, unembed_null, write_not_read, write_x_notlogits]
    for spaces in [make(base) for make in (*made, ov_space, qk_space, mlp_space)]:
        assert all(orthonormal(b) and b.source == "base" and b.width == 32 for b in spaces.all), spaces.name
        assert all(len(spaces.side(s)) in (0, base.depth) for s in ("write", "read"))


def test_models_with_fused_attention_have_no_circuit_spaces_and_the_others_still():
    for kind in ("gpt2", "neox"):
        base = small.base(kind)
        assert ov_space(base) is None and qk_space(base) is None
        assert mlp_space(base).write[0].rank == 8
        assert len(writers_of(base)) == 2 * base.depth and len(readers_of(base, 32)) == 2 * base.depth


def test_the_space_of_ov_is_that_of_the_product_of_both_matrices_head_by_head(llama):
    names = {x.leaf.rsplit(".", 1)[-1]: x.name for x in llama.linears.values() if x.block == 1}
    v, o = (llama.weight(names[n]).double() for n in ("v_proj", "o_proj"))
    heads = [o[:, 8 * h : 8 * h + 8] @ v[8 * (h // 2) : 8 * (h // 2) + 8] for h in range(4)]
    u, _, _ = torch.linalg.svd(torch.cat(heads, 1))
    assert overlap(ov_space(llama).write[1], Basis("", u[:, :8].float(), "base")) == pytest.approx(1, abs=1e-4)
    _, _, vh = torch.linalg.svd(torch.cat(heads))
    assert overlap(ov_space(llama).read[1], Basis("", vh[:8].mT.float(), "base")) == pytest.approx(1, abs=1e-4)


# ---------------------------------------------------------------- what later layers erase


def test_what_later_blocks_take_back_is_seen_and_what_they_add_to_is_not():
    found = 0
    for seed in range(20):
        q, noise = haar(WIDTH, 4, g(seed)), torch.randn(2, 200, WIDTH, generator=g(seed + 100), dtype=torch.float64)
        z = torch.randn(200, 4, generator=g(seed + 200), dtype=torch.float64)
        written = z @ q.mT + 0.05 * noise[0]
        later = z @ torch.diag(torch.tensor([-0.8, -0.8, 0.8, 0.8]).double()) @ q.mT + 0.05 * noise[1]
        space = erased(written, later, "heldout_acts").cut(2)
        planted, added = Basis("", q[:, :2].float(), "base"), Basis("", q[:, 2:].float(), "base")
        found += overlap(space, planted) > 0.95 and overlap(space, added) < 0.05
    assert found == 20


# ---------------------------------------------------------------- energies


def planted(base, spaces, side, *, rank=2, seed=0, scramble=False):
    """A direction whose writers write only into given spaces (or readers read only from them); or anywhere."""
    forms = {}
    linears = writers_of(base) if side == "write" else readers_of(base, 32)
    for i, x in enumerate(linears):
        o, n = base.weight(x.name).shape
        space = spaces.side(side)[x.block].vectors
        inside = space @ torch.randn(space.shape[1], rank, generator=g(97 * seed + i))
        anywhere = torch.randn(32, rank, generator=g(97 * seed + i + 40_000))
        chosen = anywhere if scramble else inside
        other = torch.randn(n if side == "write" else o, rank, generator=g(97 * seed + i + 80_000))
        forms[x.name] = (LowRank(chosen, other.mT) if side == "write" else LowRank(other, chosen.mT),)
    return Direction(forms)


@pytest.mark.parametrize("side", ["write", "read"])
def test_a_direction_planted_in_a_space_is_seen_there_in_twenty_of_twenty_draws_and_a_scrambled_one_is_not(llama, side):
    spaces = {"write": write_here, "read": mlp_space}[side](llama).cut(4)
    inside = [shares(planted(llama, spaces, side, seed=s), llama, spaces, draws=50)[side] for s in range(20)]
    outside = [
        shares(planted(llama, spaces, side, seed=s, scramble=True), llama, spaces, draws=50)[side] for s in range(20)
    ]
    assert all(e.energy == pytest.approx(1, abs=1e-5) and e.z > 5 and e.of_best > 0.99 for e in inside)
    assert all(abs(e.z) < 4 and 0.3 < e.ratio < 2 for e in outside)
    assert all(e.null == pytest.approx(4 / 32) for e in (*inside, *outside))


def test_random_spaces_hold_their_share_of_the_dimensions_within_the_error_of_the_draws(llama):
    d = planted(llama, write_here(llama), "write", rank=3)
    for rank in (1, 4, 11):
        spaces = Spaces("any", write=(a_space(rank, 3, width=32),) * 4)
        e = shares(d, llama, spaces, draws=400)["write"]
        assert e.null == pytest.approx(rank / 32)
        assert abs(e.draws_mean - e.null) < 4 * e.draws_sd / math.sqrt(400)
        assert e.draws_sd > 0 and e.rank == rank


def test_the_draws_are_those_of_random_spaces_against_the_direction_itself(llama):
    d = planted(llama, write_here(llama).cut(3), "write", rank=2)
    parts = factors(d, llama, "write")
    direct = []
    for seed in range(300):
        b = haar(32, 4, g(seed))
        direct.append(sum(float((b.mT @ f).square().sum()) for f in parts.of.values()) / parts.size)
    quick = share(parts, dict.fromkeys(parts.of, a_space(4, 0, width=32)), draws=300)
    direct = torch.tensor(direct)
    assert quick.draws_mean == pytest.approx(float(direct.mean()), abs=0.02)
    assert quick.draws_sd == pytest.approx(float(direct.std()), rel=0.25)
    assert row_norms(32, 4, 300).sum(1).sub(4).abs().max() < 1e-9


def test_energies_in_factors_are_those_of_the_matrices_whatever_the_form(llama):
    x = writers_of(llama)[3]
    o, n = llama.weight(x.name).shape
    low = LowRank(torch.randn(o, 5, generator=g(1)), torch.randn(5, n, generator=g(2)))
    b = a_space(6, 9, width=o)
    for form in (low, Dense(low.b @ low.a)):
        found = share(factors(Direction({x.name: (form,)}), llama, "write"), {x.block: b})
        w = (low.b @ low.a).double()
        expected = float((b.vectors.double().mT @ w).square().sum() / w.square().sum())
        s = torch.linalg.svdvals(w).square()
        assert found.energy == pytest.approx(expected, rel=1e-5)
        assert found.best == pytest.approx(float(s[:6].sum() / s.sum()), rel=1e-5)


def test_a_full_fine_tune_is_kept_no_wider_than_the_stream_and_its_energies_are_those_of_the_matrices(llama):
    forms = {
        x.name: Dense(torch.randn(*llama.weight(x.name).shape, generator=g(i))) for i, x in enumerate(writers_of(llama))
    }
    d = Direction({n: (f,) for n, f in forms.items()})
    parts, same = factors(d, llama, "write"), a_space(5, 4, width=32)
    assert all(f.shape == (32, 32) for f in parts.of.values())
    inside = sum(float((same.vectors.double().mT @ f.m.double()).square().sum()) for f in forms.values())
    whole = sum(float(f.m.double().square().sum()) for f in forms.values())
    assert share(parts, dict.fromkeys(parts.of, same)).energy == pytest.approx(inside / whole, rel=1e-5)
    stacked = torch.linalg.svdvals(torch.cat([f.m.double() for f in forms.values()], 1)).square()
    torch.testing.assert_close(parts.together, stacked, rtol=1e-6, atol=1e-6)


def test_a_space_of_the_whole_model_is_graded_against_one_space_and_not_one_per_block(llama):
    d = planted(llama, write_here(llama).cut(4), "write", rank=4)
    same = a_space(4, 1, width=32)
    own = tuple(Basis("", haar(32, 4, g(50 + i)).float(), "base") for i in range(4))
    of_model = shares(d, llama, Spaces("a", write=(same,) * 4))["write"]
    of_blocks = shares(d, llama, Spaces("b", write=own))["write"]
    assert of_model.best < of_blocks.best


# ---------------------------------------------------------------- of states


@pytest.fixture(scope="module")
def seen(tiny):
    """The states of tiny on twelve questions under both personas of honesty."""
    from ws.behaviors import load_behavior
    from ws.explain.bases.states import read_states
    from ws.methods.activation.states import persona_texts

    behavior = load_behavior("honesty", tiny=True)
    return read_states(tiny, persona_texts(tiny, behavior, ["What is the capital of Kenya?", "What does a cow eat?"]))


def test_spaces_of_states_are_orthonormal_per_block_and_know_that_prompts_made_them(seen):
    made = [contrast_mean, taskdiff, attention_contrast, act_pca, clusters, gate_active, suppressed]
    for spaces in [make(seen) for make in made]:
        assert all(orthonormal(b) and b.source == "heldout_acts" and b.width == 128 for b in spaces.all), spaces.name
        assert len(spaces.write) == 6 and all(b.rank for b in spaces.write[:-1]), spaces.name
    assert suppressed(seen).write[-1].rank == 0


def test_the_persona_contrast_holds_its_own_mean_and_the_published_one_is_centred_and_does_not(seen):
    mean = contrast_mean(seen).write[3]
    assert overlap(taskdiff(seen).write[3], mean) == pytest.approx(1, abs=0.01)
    at = max(1, int(0.7 * 6)) - 1
    assert overlap(published_taskdiff(seen).write[0], contrast_mean(seen).write[at]) < 0.9


def test_the_published_suppressed_space_telescopes_to_the_last_state_less_an_early_one(seen):
    published, apart = published_suppressed(seen, a_space(8, 0, width=128))
    assert apart < 1e-9 and published.write[0].rank > 0


def test_the_published_combinations_are_there_by_their_names(seen, tiny):
    found = antipasto(tiny, seen)
    assert set(NAMES) <= found.spaces.keys() and found.telescope < 1e-9
    assert all(orthonormal(s.write[0]) for s in found.spaces.values())
    logits = found.spaces["logits_read"].write[0]
    for name in ("write_x_notlogits", "taskdiff_x_write_x_notlogits"):
        space = found.spaces[name].write[0]
        assert not space.rank or float(cosines(space, logits)[0]) < 1e-4
