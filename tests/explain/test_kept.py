"""What a space keeps of an effect, and what adding the mean shift does instead, on directions whose effect lies where it was put."""

import math

import pytest
import torch
from explain import studies, worlds

from ws.calibrate import CalibrateSettings
from ws.direction import Direction
from ws.direction.forms import BiasShift, LowRank
from ws.eval import Evaluation
from ws.explain import act_basis, activation_reading, func_proj, kept, shared_basis
from ws.explain.bases.basis import Basis, haar
from ws.explain.measure import FULL, ZERO

WRITERS = [f"model.layers.{n}.{kind}" for n in (2, 3) for kind in ("self_attn.o_proj", "mlp.down_proj")]


@pytest.fixture(scope="module")
def slopes(tiny):
    return worlds.gradients(tiny, Evaluation("dilemmas", limit=4), WRITERS)


@pytest.fixture(scope="module")
def honesty(tiny, slopes):
    """Rank 1 in every writer, along its gradient, and as much again that writes elsewhere and does little."""
    forms = {}
    for at, (name, slope) in enumerate(slopes.items()):
        u, _, vh = torch.linalg.svd(slope.double(), full_matrices=False)
        noise = worlds.unit(at, *slope.shape)
        beside = noise.b - u[:, :1].float() @ (u[:, :1].float().mT @ noise.b)
        forms[name] = (LowRank(torch.cat([u[:, :1].float(), beside], 1) * 0.5, torch.cat([vh[:1].float(), noise.a])),)
    return Direction(forms, {"base": tiny.described()})


def spaces_of(tiny, slopes):
    """The planted space of every block, and one that has nothing to do with it."""
    planted, other = {}, {}
    for block in (2, 3):
        columns = [torch.linalg.svd(s.double())[0][:, :1] for n, s in slopes.items() if f".{block}." in n]
        q, _ = torch.linalg.qr(torch.cat([*columns, haar(128, 2, studies.g(block))], 1))
        planted[block] = Basis("planted", q[:, :2].float(), "base")
        other[block] = Basis("other", q[:, 2:].float(), "heldout_acts")
    return {"planted": planted, "other": other}


def test_the_space_an_effect_was_put_in_keeps_it_and_another_keeps_none(tiny, slopes, honesty, tmp_path, monkeypatch):
    monkeypatch.setattr(kept, "DRAWS", {"effect": 2})
    subject = studies.subject(tiny, honesty, measure=worlds.measure(tiny, honesty, tmp_path))
    writers = kept.writers_alone(subject)
    rows, effects = kept.measured_parts(subject, writers, spaces_of(tiny, slopes), controlled=["planted"])
    inside, outside = (next(r for r in rows if r.space == name) for name in ("planted", "other"))
    assert inside.keep.mean > 0.8 and abs(inside.drop.mean) < 0.2 and inside.norm.mean > inside.keep.mean
    assert abs(outside.keep.mean) < 0.1 and outside.drop.mean > 0.9
    assert max(abs(inside.random_low), abs(inside.random_high)) < 0.3 and math.isnan(outside.random_low)
    by_name = {e.variant: e for e in effects}
    assert by_name[FULL].retained.mean == 1 and by_name[ZERO].delta.mean == 0
    assert by_name[kept.WRITERS].retained.mean == pytest.approx(1, abs=1e-4)  # there is nothing else
    assert sum(e.control == "keep:planted" for e in effects) == 2
    sentence = kept.readings_of(rows, effects, "planted", "the planted space")[0]
    assert "100 % of the effect of the whole" in sentence and "random spaces keep" in sentence


@pytest.mark.parametrize(
    "analysis", [func_proj.FUNC_PROJ, act_basis.ACT_BASIS, shared_basis.SHARED_BASIS], ids=lambda a: a.name
)
def test_analyses_that_measure_lay_effects_beside_energies(analysis, tiny, honesty, tmp_path, monkeypatch):
    monkeypatch.setattr(kept, "DRAWS", {"effect": 1})
    monkeypatch.setattr(func_proj, "RANKS", (2,))
    monkeypatch.setattr(act_basis, "SHARES", (0.5,))
    monkeypatch.setattr(shared_basis, "RANKS", (2,))
    others = {"other": studies.scrambled(tiny, 3, blocks=[2, 3])}
    own = studies.subject(tiny, honesty, measure=worlds.measure(tiny, honesty, tmp_path), others=others)
    finding = analysis.run(own)
    energies, inside, effects, controls = (t.rows for t in finding.tables)
    assert {r.space for r in energies} == {r.space for r in inside}
    assert not any(e.control for e in effects) and controls and all(c.control for c in controls)
    assert len(finding.readings) > 1 and finding.pictures


def test_a_change_that_is_a_vector_is_reproduced_by_adding_it_at_the_same_kl(tiny, slopes, tmp_path, monkeypatch):
    few = CalibrateSettings(n_calib=10, n_audit=8, tokens=6, tolerance=0.1)
    monkeypatch.setattr(activation_reading, "AT_EQUAL_KL", few)
    u = torch.linalg.svd(slopes[WRITERS[1]].double())[0][:, 0].float()
    d = Direction({WRITERS[1]: (BiasShift(2 * u),)}, {"base": tiny.described()})
    finding = activation_reading.run(studies.subject(tiny, d, measure=worlds.measure(tiny, d, tmp_path)))
    (row,) = finding.tables[1].rows
    assert row.strength == pytest.approx(1, rel=0.15) and row.kl > 0
    assert row.share.mean == pytest.approx(1, abs=0.15)
