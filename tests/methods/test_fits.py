"""What each method makes of states with a known direction in them."""

import math

import gguf
import pytest
import small
import torch
from methods.makes import FITS, planted

from ws.errors import BadFile
from ws.methods.activation import ablation, clusters, gated, imported, paper, sspace, transport, turning, vectors
from ws.methods.activation.method import Activation, Add, block_name
from ws.methods.activation.states import EMBEDDED, states

DRAWS = 200
ADDITIVE = {
    "mean_diff": vectors.mean_diff,
    "mean_centred": vectors.mean_centred,
    "pca": vectors.pca,
    "sspace_act": vectors.sspace_act,
    "cosine_gated": lambda p, n: gated.cosine_gated(p, n).v,
    "directional_ablation": lambda p, n: ablation.directional_ablation(p, n).v,
    "spherical": lambda p, n: turning.spherical(p, n).v,
}


def cos(a, b) -> float:
    return float(torch.nn.functional.cosine_similarity(a.double(), b.double(), dim=-1).mean())


@pytest.mark.parametrize("name", ADDITIVE)
def test_a_planted_direction_is_found_with_its_sign_in_every_draw(name):
    found = []
    for seed in range(DRAWS):
        pos, neg, v = planted(4.0, n=256, d=24, seed=seed)
        found.append(cos(ADDITIVE[name](pos, neg), v))
    assert min(found) > 0.95


def test_every_cluster_points_along_the_planted_direction():
    for seed in range(DRAWS // 4):
        pos, neg, v = planted(8.0, n=256, d=16, noise=0.5, seed=seed)
        assert float((clusters.topk_clusters(pos, neg).centroids @ v).min()) > 0.95


def test_paper_vectors_are_the_mean_difference_at_its_own_size():
    pos, neg, v = planted(4.0, n=256, d=24)
    mean = (pos - neg).mean(0)
    assert cos(mean, v) > 0.95 and float(mean.norm()) == pytest.approx(4.0, rel=0.2)


def test_centring_takes_the_contrast_away_and_is_therefore_not_the_default():
    off = [abs(cos(vectors.pca_centred(p, n), v)) for p, n, v in (planted(4.0, n=256, d=24, seed=s) for s in range(50))]
    assert sum(off) / len(off) < 0.5


def test_mean_diff_and_mean_centred_are_one_method():
    for seed in range(20):
        pos, neg, _ = planted(seed=seed)
        torch.testing.assert_close(vectors.mean_diff(pos, neg), vectors.mean_centred(pos, neg), rtol=0, atol=1e-6)


def test_swapping_the_sides_negates_every_vector():
    pos, neg, _ = planted()
    for name in ("mean_diff", "mean_centred", "pca", "sspace_act"):
        torch.testing.assert_close(ADDITIVE[name](pos, neg), -ADDITIVE[name](neg, pos))


def test_sides_without_a_difference_have_no_vector():
    pos, _, _ = planted()
    with pytest.raises(ValueError, match="same states"):
        vectors.mean_diff(pos, pos)


@pytest.mark.parametrize("contrast", [0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0])
def test_chars_moves_toward_pos_at_every_size_of_the_contrast(contrast):
    pos, neg, v = planted(contrast, noise=0.05)
    edit = transport.chars(pos, neg)
    h = neg[None]
    moved = (edit(h, 1.0) - h)[0]
    assert moved.isfinite().all() and float(moved.norm(dim=-1).min()) > 0
    if contrast >= 1.0:
        assert float((moved @ v).mean()) == pytest.approx(contrast, rel=0.35)


def test_the_transport_plan_has_the_given_masses():
    a, b = torch.tensor([0.2, 0.3, 0.5]).double(), torch.tensor([0.6, 0.4]).double()
    plan = transport.sinkhorn(torch.rand(3, 2).double(), a.log(), b.log()).exp()
    torch.testing.assert_close(plan.sum(0), b, atol=1e-6, rtol=0)
    torch.testing.assert_close(plan.sum(1), a, atol=1e-3, rtol=0)


def test_linear_act_maps_one_side_onto_the_other():
    g = torch.Generator().manual_seed(0)
    neg = torch.randn(4000, 3, generator=g)
    pos = neg.flip(0) * torch.tensor([2.0, 0.5, 1.0]) + torch.tensor([1.0, -1.0, 0.0])
    there = transport.linear_act(pos, neg)(neg[None], 1.0)[0]
    torch.testing.assert_close(there.sort(0).values, pos.sort(0).values, atol=1e-3, rtol=1e-3)


def test_spherical_has_no_nan_for_parallel_opposite_or_zero_tokens_and_keeps_lengths():
    v = torch.nn.functional.normalize(torch.randn(16), dim=0)
    edit = turning.Spherical(v)
    h = torch.stack([5 * v, -5 * v, torch.zeros(16), 1e-20 * v, torch.randn(16), v + 1e-4 * torch.randn(16)])[None]
    for alpha in (1.0, -1.0, 0.5, 1e-6):
        new = edit(h, alpha)
        assert new.isfinite().all()
        torch.testing.assert_close(new.norm(dim=-1), h.norm(dim=-1), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(edit(h, 1.0)[0, 4], h[0, 4].norm() * v, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(edit(h, -1.0)[0, 4], -h[0, 4].norm() * v, atol=1e-5, rtol=1e-5)


def test_angular_turns_inside_its_plane_only():
    pos, neg, _ = planted()
    edit = turning.angular(pos, neg)
    h = torch.randn(1, 5, 32)
    for alpha, target in ((1.0, 1.0), (-1.0, -1.0)):
        new = edit(h, alpha)[0]
        inside = torch.stack([new @ edit.b1, new @ edit.b2], dim=-1)
        torch.testing.assert_close(inside[:, 0] / inside.norm(dim=-1), torch.full((5,), target), atol=1e-5, rtol=0)
        torch.testing.assert_close(new.norm(dim=-1), h[0].norm(dim=-1))
    half = edit(h, 0.5)[0]
    before, after = (torch.atan2(x @ edit.b2, x @ edit.b1).abs() for x in (h[0], half))
    torch.testing.assert_close(after, before / 2, atol=1e-5, rtol=1e-5)


def test_ablation_takes_the_part_along_v_away_and_puts_the_middle_of_one_side_there():
    pos, neg, _ = planted()
    edit = ablation.directional_ablation(pos, neg)
    h = torch.randn(1, 4, 32)
    for alpha in (1.0, -1.0, 2.0):
        torch.testing.assert_close(edit(h, alpha)[0] @ edit.v, (alpha * edit.mu).expand(4), atol=1e-5, rtol=1e-5)


def test_sspace_w_gates_by_the_cosine_in_singular_coordinates():
    g = torch.Generator().manual_seed(0)
    weight, bias, y = (torch.randn(*s, generator=g) for s in ((8, 5), (8,), (1, 3, 8)))
    pos, neg, _ = planted(d=8)
    edit = sspace.sspace_w(pos, neg, weight, bias)
    u, s, _ = torch.linalg.svd(weight.double(), full_matrices=False)
    d = torch.nn.functional.normalize((u.T / s.sqrt()[:, None]) @ (pos - neg).double().mean(0), dim=0)
    x = (y.double() - bias) @ u / s.sqrt()
    gate = torch.nn.functional.cosine_similarity(x, d, dim=-1).abs()[..., None]
    torch.testing.assert_close(edit(y, 1.5).double(), y + 1.5 * gate * (u @ (s.sqrt() * d)), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", FITS)
def test_every_edit_is_continuous_at_zero(kind):
    pos, neg, _ = planted()
    edit, h = FITS[kind](pos, neg), torch.randn(2, 3, 32)
    for alpha in (1e-6, -1e-6):
        assert float((edit(h, alpha) - h).abs().max()) < 1e-3


# ---------------------------------------------------------------- states of a model


class Plain:
    pad_token_id = 0


def test_states_are_block_outputs_at_the_last_token_or_averaged_over_the_answer():
    base = small.base("llama", tokenizer=Plain())
    names = [EMBEDDED, *(block_name(base, at) for at in range(4))]
    long, short = tuple(small.ids(1, 9)[0].tolist()), tuple(small.ids(1, 5, seed=1)[0].tolist())
    found = states(base, [(short, 4), (long, 6), (long, 8)], names)
    for ids, row, tokens in ((short, 0, slice(4, 5)), (long, 1, slice(6, 9)), (long, 2, slice(8, 9))):
        with torch.inference_mode():
            out = base.model(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states
        for at in range(4):  # the last of theirs is after the final norm, which is not a block's output
            wanted = out[at][0, tokens].mean(0)
            torch.testing.assert_close(found[names[at]][row], wanted, atol=1e-5, rtol=1e-4)
    assert all(found[names[4]].isfinite().all(1))


def test_all_layers_steps_add_up_to_the_last_vector_and_include_the_last_block():
    base = small.base("llama")
    a = [torch.randn(32) for _ in range(5)]
    made = paper.all_layers(base, a, "paper:all")
    edits = {name: e.v for name, e in made.edits.items() if isinstance(e, Add)}
    assert list(edits) == [block_name(base, at) for at in range(4)]
    torch.testing.assert_close(sum(edits.values()), a[4] - a[0])
    code = paper.all_layers(base, a, "paper:all-code", as_code=True)
    assert block_name(base, 3) not in code.edits
    assert torch.equal(code.edits[block_name(base, 0)].v, a[1])  # type: ignore[attr-defined]


# ---------------------------------------------------------------- other tools' vectors


def test_tables_of_vectors_follow_hidden_indices_or_blocks(tmp_path):
    from safetensors.torch import save_file

    base = small.base("llama")
    table = torch.randn(5, 32)
    save_file({"response_avg_diff": table}, tmp_path / "hidden.safetensors")
    save_file({"v": table[1:].clone()}, tmp_path / "blocks.safetensors")
    save_file({f"layer_activations.{at}": table[at + 1].clone() for at in (1, 2)}, tmp_path / "named.safetensors")
    for file, blocks in (("hidden", range(4)), ("blocks", range(4)), ("named", (1, 2))):
        made = imported.from_safetensors(base, tmp_path / f"{file}.safetensors")
        assert list(made.edits) == [block_name(base, at) for at in blocks]
        for at in blocks:
            assert torch.equal(made.edits[block_name(base, at)].v, table[at + 1])  # type: ignore[attr-defined]


def test_vectors_that_do_not_fit_are_refused(tmp_path):
    from safetensors.torch import save_file

    base = small.base("llama")
    for tensors in (
        {"0": torch.ones(16)},
        {"9": torch.ones(32)},
        {"v": torch.ones(7, 32)},
        {"a.1.b.2": torch.ones(32)},
    ):
        save_file(tensors, tmp_path / "v.safetensors")
        with pytest.raises(BadFile):
            imported.from_safetensors(base, tmp_path / "v.safetensors")


def test_gguf_control_vectors_are_added_to_the_output_of_their_block(tmp_path):
    base = small.base("llama")
    writer = gguf.GGUFWriter(str(tmp_path / "v.gguf"), "controlvector")
    writer.add_string("controlvector.model_hint", "llama")
    writer.add_uint32("controlvector.layer_count", 3)
    table = torch.randn(4, 32)
    for at in (1, 2, 3):
        writer.add_tensor(f"direction.{at}", table[at].numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    made = imported.from_gguf(base, tmp_path / "v.gguf")
    for at in (1, 2, 3):
        assert torch.equal(made.edits[block_name(base, at)].v, table[at])  # type: ignore[attr-defined]
    assert isinstance(made, Activation) and math.isfinite(float(table.sum()))
