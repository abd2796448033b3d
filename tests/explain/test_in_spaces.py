"""Every analysis of spaces finds a direction that was planted where it looks, in twenty of twenty draws, and not a scrambled one."""

import math
from dataclasses import replace

import pytest
import small
import torch
from explain import studies
from explain.studies import g, scrambled, subject, writing

from ws.direction import Direction
from ws.direction.forms import BiasShift, Dense, LowRank
from ws.errors import Unsupported
from ws.explain import kept, svd_align
from ws.explain.act_basis import ACT_BASIS, holding, seen
from ws.explain.activation_reading import ACTIVATION_READING, own_shifts, shifts, vectors_from
from ws.explain.angles import ANGLES
from ws.explain.antipasto import ANTIPASTO
from ws.explain.bases.basis import basis, haar, overlap
from ws.explain.bases.spaces import writers_of
from ws.explain.bases.spectra import final_gain, head_of, spectrum_of, unembedding
from ws.explain.bases.states import act_pca, contrast_mean
from ws.explain.func_proj import FUNC_PROJ, moved, spaces
from ws.explain.in_spaces import limit, rows_in
from ws.explain.logit_lens import LOGIT_LENS, lens_of
from ws.explain.mech_bases import MECH_BASES, of_weights
from ws.explain.prompts import held_texts, persona_states
from ws.explain.protocol import Subject
from ws.explain.registry import ANALYSES
from ws.explain.shared_basis import SHARED_BASIS
from ws.explain.svd_align import SVD_ALIGN
from ws.explain.weak_readout import WEAK_READOUT

DRAWS = 20


@pytest.fixture(scope="module")
def llama():
    return small.base("llama")


def first(finding, **where):
    """The first row with these fields."""
    return next(r for r in rows_of(finding) if all(getattr(r, k) == v for k, v in where.items()))


def rows_of(finding):
    """The rows of all tables."""
    return [r for t in finding.tables for r in t.rows]


def test_every_analysis_is_in_the_registry_asks_a_question_and_says_what_it_does_not_show():
    ours = {SVD_ALIGN, WEAK_READOUT, MECH_BASES, ANTIPASTO, LOGIT_LENS, ACTIVATION_READING}
    ours |= {FUNC_PROJ, ACT_BASIS, SHARED_BASIS, ANGLES}
    assert ours <= set(ANALYSES.values()) and len(ours) == 10
    assert all(name == a.name and a.question.endswith("?") and len(a.silent) > 80 for name, a in ANALYSES.items())


# ---------------------------------------------------------------- of weights


def between(base, seed, part):
    """A direction between the top, or the bottom, singular vectors of two writers on both sides; or anywhere."""
    forms = {}
    for i, x in enumerate(writers_of(base)[1:3]):
        s = spectrum_of(base, x.name)
        k = max(1, int(svd_align.SHARE * len(s.s)))
        cut = {"top": slice(0, k), "bottom": slice(-k, None), "": slice(None)}[part]
        u, v = s.u[:, cut].float(), s.v[:, cut].float()
        b = u @ torch.randn(u.shape[1], 2, generator=g(31 * seed + i))
        a = torch.randn(2, v.shape[1], generator=g(31 * seed + i + 9000)) @ v.mT
        forms[x.name] = (LowRank(b, a),)
    return Direction(forms)


@pytest.mark.parametrize("part", ["top", "bottom"])
def test_a_change_between_the_top_or_bottom_singular_vectors_of_w_is_seen_there_and_a_scrambled_one_is_not(llama, part):
    for seed in range(DRAWS):
        there = first(SVD_ALIGN.run(Subject(llama, between(llama, seed, part))), part=part)
        assert there.energy == pytest.approx(1, abs=1e-4) and there.z > 10 and there.ratio > 20
        anywhere = first(SVD_ALIGN.run(Subject(llama, between(llama, seed, ""))), part=part)
        assert abs(anywhere.z) < 6 and anywhere.energy < 0.1


def test_alignment_and_its_published_form_are_those_of_the_matrices(llama):
    x = writers_of(llama)[1]
    w = llama.weight(x.name).double()
    low = LowRank(torch.randn(len(w), 3, generator=g(0)), torch.randn(3, w.shape[1], generator=g(1)))
    u, _, vh = torch.linalg.svd(w, full_matrices=False)
    dense = (low.b @ low.a).double()
    m, r = u.mT @ dense @ vh.mT, len(vh)
    k = max(1, int(0.1 * r))
    inside = float(m[:k, :k].square().sum())
    for form in (low, Dense(low.b @ low.a)):
        row = first(SVD_ALIGN.run(Subject(llama, Direction({x.name: (form,)}))), part="top")
        assert row.energy == pytest.approx(inside / float(dense.square().sum()), rel=1e-3)
        assert row.null == pytest.approx(k * k / (w.shape[0] * w.shape[1]))
        assert row.pub == pytest.approx(inside / float(m.square().sum()) / (k / r) ** 2, rel=1e-3)


def test_random_changes_are_aligned_by_chance_within_the_error_of_the_draws():
    products = svd_align.random_products(40, 24, 5, 3)
    s = torch.linspace(1, 2, 5).double()
    energies = torch.einsum("i,nij,j->n", s, products, s) / s.square().sum()
    error = float(energies.std()) / math.sqrt(len(energies))
    assert abs(float(energies.mean()) - 9 / (40 * 24)) < 4 * error


def test_a_change_that_writes_where_the_head_barely_reads_is_seen_and_a_scrambled_one_is_not(llama):
    v, _ = unembedding(llama)
    weak = v[:, -1:].float()
    for seed in range(DRAWS):
        there = first(WEAK_READOUT.run(Subject(llama, writing(llama, lambda _: weak, seed))))
        anywhere = first(WEAK_READOUT.run(Subject(llama, scrambled(llama, seed, rank=8))))
        assert there.energy == pytest.approx(1, abs=1e-4) and there.ratio == pytest.approx(32, rel=1e-3)
        assert there.z > 5 > 4 > anywhere.z


def test_a_base_whose_final_norm_has_a_gain_is_read_through_it():
    base = small.base("llama", seed=3)
    base.model.model.norm.weight.data = torch.linspace(0.2, 3.0, 32)
    v, _ = unembedding(base)
    row = first(WEAK_READOUT.run(Subject(base, writing(base, lambda _: v[:, -1:].float()))))
    assert row.ratio == pytest.approx(32, rel=1e-3) and row.pub < 16


def test_a_direction_without_writers_or_without_matrices_is_refused_in_a_sentence(llama):
    reads = studies.reading(llama, lambda _: torch.eye(32))
    for analysis in (WEAK_READOUT, LOGIT_LENS):
        with pytest.raises(ValueError, match="changes no matrix that writes"):
            analysis.run(Subject(llama, reads))
    shift = Direction({writers_of(llama)[0].name: (BiasShift(torch.ones(32)),)})
    with pytest.raises(ValueError, match="biases alone"):
        SVD_ALIGN.run(Subject(llama, shift))
    with pytest.raises(ValueError, match="name some of the same base"):
        ANGLES.run(Subject(llama, reads))
    with pytest.raises(Unsupported, match="explain a run, not a file"):
        ANTIPASTO.run(Subject(llama, reads))


# ---------------------------------------------------------------- mechanistic spaces


def test_a_change_planted_in_one_mechanistic_space_is_read_as_lying_there_and_a_scrambled_one_nowhere(tiny):
    states = persona_states(subject(tiny, Direction({})))
    places = [s.cut(4) for s in (act_pca(states), contrast_mean(states), *of_weights(tiny))]
    for seed in range(DRAWS):
        space = places[seed % 2]
        rows = rows_in(writing(tiny, lambda b, s=space: s.write[b].vectors, seed), tiny, places, draws=50)
        own = next(r for r in rows if r.space == space.name)
        assert own.energy == pytest.approx(1, abs=1e-3) and own.z > 10
        assert own.energy == max(r.energy for r in rows)
        rows = rows_in(scrambled(tiny, seed, rank=32), tiny, places, draws=50)
        assert all(abs(r.z) < limit(DRAWS * len(rows)) + 1 for r in rows)


def test_what_is_read_is_looked_for_among_the_inputs(tiny):
    places = [s.cut(4) for s in of_weights(tiny) if s.read]
    mlp = next(s for s in places if s.name == "mlp")
    rows = rows_in(studies.reading(tiny, lambda b: mlp.read[b].vectors), tiny, places, draws=20)
    assert {r.side for r in rows} == {"read"}
    assert rows[0].space == "mlp" and rows[0].energy == pytest.approx(1, abs=1e-3)


def test_the_table_of_spaces_flags_the_changes_own_basis_as_circular_and_leaves_it_out_of_the_reading(tiny):
    finding = MECH_BASES.run(subject(tiny, scrambled(tiny, 1, rank=16)))
    rows = {(r.space, r.side): r for r in rows_of(finding)}
    own = rows["own", "write"]
    assert own.flags.circular and own.of_best == pytest.approx(1) and own.flags.basis_source == "same_direction"
    assert not any(r.flags.circular for key, r in rows.items() if key[0] != "own")
    assert {"taskdiff", "suppressed", "gate_active", "ov", "write_not_read", "taskdiff_or_act_pca"} <= {
        s for s, _ in rows
    }
    assert "own" not in finding.readings[0]
    assert len(finding.pictures[1].names if hasattr(finding.pictures[1], "names") else finding.pictures[1].rows) > 10


def test_without_a_study_the_spaces_of_weights_remain_and_it_says_so(tiny):
    finding = MECH_BASES.run(Subject(tiny, scrambled(tiny, 1)))
    assert {r.flags.basis_source for r in rows_of(finding)} == {"base", "same_direction"}
    assert any("a run has and a file has not" in r for r in finding.readings)


@pytest.mark.parametrize("given", ["a data set", "a file of pairs"])
def test_a_run_without_personas_is_read_in_the_spaces_of_weights_and_says_so(tiny, given):
    study = subject(tiny, scrambled(tiny, 1))
    behavior = replace(study.material.behavior, answers=study.material.pairs()) if given == "a data set" else None
    finding = MECH_BASES.run(replace(study, material=replace(study.material, behavior=behavior)))
    assert {r.flags.basis_source for r in rows_of(finding)} == {"base", "same_direction"}
    assert any("they take personas, and the pairs of this run come from none" in r for r in finding.readings)


def test_the_published_spaces_are_compared_at_their_own_rank_and_the_trap_is_told(tiny):
    finding = ANTIPASTO.run(subject(tiny, scrambled(tiny, 2, rank=16)))
    names = {r.space for r in rows_of(finding)}
    assert {"taskdiff_x_suppressed_x_write", "taskdiff_x_logits_read", "write_x_notlogits"} <= names
    assert all(r.null == pytest.approx(r.rank / 128) for r in rows_of(finding) if r.rank)
    assert any("telescopes" in r for r in finding.readings)
    assert "random one of its own rank" in finding.tables[0].note


# ---------------------------------------------------------------- words


def test_a_change_that_writes_one_tokens_row_says_that_token_and_a_scrambled_one_says_none(tiny):
    head, gain, lens = head_of(tiny), final_gain(tiny), lens_of(tiny)
    told, centred = 0, head - head.mean(0)
    loudest = [t for t in range(300, 2900, 30) if int((head @ centred[t]).argmax()) == t][:DRAWS]
    for seed, token in enumerate(loudest):
        u = (centred[token] / gain)[:, None]
        finding = LOGIT_LENS.run(Subject(tiny, writing(tiny, lambda _, u=u: u, seed, blocks=[3])))
        word = tiny.tokenizer.decode([token]).strip()
        row = finding.tables[0].rows[0]
        told += word in (row.plus + " " + row.minus).split() and row.share > 0.99
        anywhere = LOGIT_LENS.run(Subject(tiny, scrambled(tiny, seed, blocks=[3], rank=16))).tables[0].rows[0]
        assert anywhere.z < 6
    assert told == len(loudest) == DRAWS
    random = torch.randn(128, 200, generator=g(0)).double()
    assert (lens.energy(random / random.norm(dim=0)) > 0).all()


def test_token_energy_is_that_of_the_definition(llama):
    lens, head = lens_of(llama), torch.nn.functional.normalize(head_of(llama).double(), dim=1)
    h = haar(32, 1, g(0))
    expected = len(head) * float((head @ h).square().sum()) / float((head.mT @ head).square().sum())
    assert float(lens.energy(h)[0]) == pytest.approx(expected, rel=1e-4)


# ---------------------------------------------------------------- beside other directions


def test_directions_that_write_into_one_space_share_it_and_scrambled_ones_do_not(llama):
    for seed in range(DRAWS):
        space = haar(32, 2, g(seed)).float()
        own, same = (writing(llama, lambda _, s=space: s, 100 * k + seed) for k in (0, 1))
        others = {"same": same, "other": scrambled(llama, seed + 500)}
        rows = {r.other: r for r in ANGLES.run(Subject(llama, own, others=others)).tables[0].rows}
        assert rows["same"].overlap > 0.99 and rows["same"].z > 10
        assert abs(rows["other"].z) < 5 and rows["other"].overlap < 0.4


def test_what_families_share_is_found_without_this_one_and_with_it_is_circular(llama):
    for seed in range(DRAWS):
        space = haar(32, 4, g(seed)).float()
        family = {f"f{k}": writing(llama, lambda _, s=space: s, 100 * k + seed) for k in range(1, 4)}
        inside = SHARED_BASIS.run(Subject(llama, writing(llama, lambda _, s=space: s, seed), others=family))
        outside = SHARED_BASIS.run(Subject(llama, scrambled(llama, seed), others=family))
        assert first(inside, space="others8").energy > 0.999 and first(inside, space="others8").z > 5
        assert first(outside, space="others8").z < 4
        assert not first(inside, space="others8").flags.circular
        alone = first(outside, space="all8")
        assert alone.flags.circular and alone.ratio > 2  # it holds itself, whatever it is


# ---------------------------------------------------------------- what the change does to activations


def test_the_activations_that_a_change_moves_hold_what_it_writes_and_nothing_of_another(tiny):
    texts = held_texts(subject(tiny, Direction({})))
    for seed in range(DRAWS):
        space = haar(128, 1, g(seed)).float()
        d = writing(tiny, lambda _, s=space: s, seed, blocks=[3])
        found = spaces(moved(tiny, d, texts, 1.0))
        assert set(found) == {3, 4, 5}  # later blocks answer to it
        own = kept.energy(d, tiny, {3: found[3].cut(1)}, "moved1")
        other = kept.energy(scrambled(tiny, seed, blocks=[3], rank=16), tiny, {3: found[3].cut(1)}, "moved1")
        assert own.energy > 0.95 and own.flags.circular and other.energy < 0.2


def test_the_second_moment_of_what_is_written_is_that_of_the_matrices(tiny):
    x = next(x for x in writers_of(tiny) if x.block == 2)
    d = writing(tiny, lambda _: torch.eye(128)[:, :5], 3, blocks=[2])
    d = Direction({x.name: d.forms[x.name]}, d.provenance)
    texts = held_texts(subject(tiny, d), whole=True)
    inputs = []
    hook = tiny.model.get_submodule(x.name).register_forward_pre_hook(lambda m, a: inputs.append(a[0][0].double()))
    for ids, _ in texts:
        tiny.model(input_ids=torch.tensor([ids]))
    hook.remove()
    w = d.dense(x.name, tiny.weight).double()
    c = sum(w @ rows.mT @ rows @ w.mT for rows in inputs)
    found = seen(tiny, d, texts)[2]
    values = torch.linalg.eigvalsh(c).flip(0)[: found.rank]
    torch.testing.assert_close(found.values.double().square(), values, rtol=1e-3, atol=1e-4 * float(values[0]))
    assert holding(found, 1e-9).rank == 1 and holding(found, 1.0).rank == found.rank


def test_what_a_bias_writes_counts_as_what_is_written(tiny):
    v = torch.randn(128, generator=g(0))
    d = Direction({"model.layers.2.mlp.down_proj": (BiasShift(v),)}, {"base": tiny.described()})
    along = {2: basis("v", v[:, None], "base")}
    assert kept.energy(d, tiny, along, "v").energy == pytest.approx(1, abs=1e-5)
    assert kept.energy(d, tiny, {2: basis("w", torch.roll(v, 1)[:, None], "base")}, "w").energy < 0.2
    found = seen(tiny, d, held_texts(subject(tiny, d), whole=True))
    assert overlap(found[2], along[2]) == pytest.approx(1, abs=1e-5)
    q = Direction({"model.layers.2.self_attn.q_proj": (BiasShift(v),)}, {"base": tiny.described()})
    with pytest.raises(ValueError, match="nothing that reads or writes"):
        MECH_BASES.run(Subject(tiny, q))


def test_findings_made_from_the_change_itself_are_flagged_circular(tiny):
    own = subject(tiny, scrambled(tiny, 4))
    for analysis in (FUNC_PROJ, ACT_BASIS):
        finding = analysis.run(own)
        assert all(r.flags.circular for r in finding.tables[0].rows), analysis.name
        assert any("from the change itself" in r for r in finding.readings)


def test_keep_and_drop_add_up_and_random_spaces_hold_their_share(tiny):
    own = subject(tiny, scrambled(tiny, 5, rank=16))
    writers = kept.writers_alone(own)
    space = {b: basis("x", haar(128, 8, g(b)), "heldout_acts") for b in range(6)}
    found = {v.name: v for v in kept.variants(writers, tiny, space, "x8", draws=30)}
    whole = found["keep:x8"].direction + found["drop:x8"].direction
    assert (whole - writers).norm() < 1e-5 * writers.norm()
    assert found["norm:x8"].direction.norm() == pytest.approx(writers.norm(), rel=1e-4)
    shares = [v.direction.norm() ** 2 / writers.norm() ** 2 for v in found.values() if v.control == "keep:x8"]
    error = float(torch.tensor(shares).std()) / math.sqrt(len(shares))
    assert abs(sum(shares) / len(shares) - 8 / 128) < 4 * error


# ---------------------------------------------------------------- read as a shift of activations


def test_a_change_that_is_a_vector_is_read_as_that_vector_and_a_scrambled_one_is_not(tiny):
    texts = held_texts(subject(tiny, Direction({})), most=3)
    for seed in range(DRAWS):
        v = 0.1 * torch.randn(128, generator=g(seed))
        d = Direction({"model.layers.2.mlp.down_proj": (BiasShift(v),)}, {"base": tiny.described()})
        found = vectors_from(tiny, own_shifts(tiny, d, texts))
        assert set(found.edits) == {"model.layers.2"}
        torch.testing.assert_close(found.edits["model.layers.2"].v, v, atol=1e-3, rtol=1e-2)
    for change, constant in ((d, True), (scrambled(tiny, 1, blocks=[2], rank=16), False)):
        rows = shifts(tiny, change, texts, ["model.layers.2"])["model.layers.2"]
        assert (float(rows.mean(0).square().sum() / rows.square().sum(1).mean()) > 0.999) == constant


def test_the_reading_names_the_persona_contrast_where_it_was_planted(tiny):
    own = subject(tiny, Direction({}))
    states = persona_states(own)
    planted = states.difference(4).mean(0)
    d = Direction({"model.layers.3.mlp.down_proj": (BiasShift(0.05 * planted),)}, {"base": tiny.described()})
    finding = ACTIVATION_READING.run(subject(tiny, d))
    rows = {r.where: r for r in finding.tables[0].rows}
    there = rows["layer 3"]
    assert (
        there.persona > 0.99
        and there.constant > 0.999
        and there.linear > 0.999
        and there.own == pytest.approx(1, abs=1e-3)
    )
    assert rows["layer 2"].size == 0 and math.isnan(rows["layer 2"].persona)
    anywhere = ACTIVATION_READING.run(subject(tiny, scrambled(tiny, 3, blocks=[3], rank=16)))
    assert abs(next(r for r in anywhere.tables[0].rows if r.where == "layer 3").persona) < 0.6
