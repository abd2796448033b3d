"""Each analysis finds what was put in, and says what it cannot show."""

import math
from dataclasses import replace

import pytest
import torch
from explain.worlds import METRIC, MODULES, gradients, measure, planted

from ws.eval import Evaluation
from ws.explain import dw_decomp, equal_kl
from ws.explain.degradation import DEGRADATION
from ws.explain.layer_module import LAYER_MODULE
from ws.explain.multiseed import MULTISEED
from ws.explain.param_crop import PARAM_CROP
from ws.explain.protocol import Subject, Variant
from ws.explain.registry import ANALYSES, selection
from ws.explain.tau_geometry import _row

WHERE = MODULES[0]
"""model.layers.2.self_attn.o_proj"""


@pytest.fixture(autouse=True)
def _few(monkeypatch):
    """Few prompts and one draw: the questions here are whether, not how exactly."""
    monkeypatch.setattr(equal_kl, "PROMPTS", 8)
    monkeypatch.setattr(dw_decomp, "DRAWS", {"effect": 1})


@pytest.fixture(scope="module")
def subject(tiny, tmp_path_factory):
    direction = planted(tiny, gradients(tiny, Evaluation("dilemmas", limit=4), MODULES), WHERE, 1)
    return Subject(tiny, direction, measure(tiny, direction, tmp_path_factory.mktemp("explain")))


def test_layers_and_kinds_carry_what_was_put_there_and_a_random_direction_does_not(subject):
    finding = LAYER_MODULE.run(subject)
    effects = {e.variant: e for e in finding.tables[0].rows}
    for place in ("o_proj", "layer2"):
        assert effects[f"only:{place}"].retained.mean > 0.8
        assert effects[f"without:{place}"].retained.mean < 0.2
    assert all(abs(effects[f"only:{k}"].retained.mean) < 0.2 for k in ("v_proj", "down_proj", "layer3"))
    assert all(abs(effects[f"random:{k}"].retained.mean) < 0.2 for k in range(5))
    # made to move the model as much, the right place does no less; noise as loud does little
    assert effects["only:o_proj at equal KL"].retained.mean > 0.8


def test_crops_are_flagged_and_leave_what_they_do_not_keep(subject):
    effects = {e.variant: e for e in PARAM_CROP.run(subject).tables[0].rows}
    crop, rest = effects["energy:.9"], effects["rest of energy:.9"]
    assert crop.retained.mean == pytest.approx(1, abs=1e-3) and crop.flags.tautology and crop.flags.rank == 1
    assert abs(rest.retained.mean) < 1e-3 and rest.size < 1e-3
    block, rest = effects["base_block:0.1"], effects["rest of base_block:0.1"]
    assert not block.flags.tautology and block.flags.basis_source == "base"
    assert block.size**2 + rest.size**2 == pytest.approx(1, abs=1e-4)
    assert block.size < 0.9


def test_strengths_of_equal_kl_are_equal(subject):
    m = subject.measure
    parts = [Variant("half", scales=dict.fromkeys(MODULES, 0.5)), Variant("o", scales={WHERE: 1.0})]
    before = equal_kl.divergence(m, [m.full, *parts], [1.0, 1.0, 1.0])
    assert before[1] < before[0] / 2
    shares = equal_kl.matched(m, parts)
    assert all(equal_kl.is_equal(kl) for _, kl in shares.values())
    assert shares["half"][0] == pytest.approx(2, rel=0.2)


def test_direction_and_size_are_taken_apart(subject):
    rows = {(r.variant, r.strength): r for r in dw_decomp.DW_DECOMP.run(subject).tables[0].rows}
    full, flat = rows["full", "same alpha"], rows["dir_only", "same alpha"]
    assert flat.delta.mean == pytest.approx(full.delta.mean, rel=1e-3)  # all modules were as large before
    for kind in ("mag_only", "random_norm"):
        assert all(abs(rows[f"{kind}:{k}", "same alpha"].delta.mean) < 0.3 * full.delta.mean for k in range(1))
    assert len(rows) == 1 + 2 * 3 and equal_kl.is_equal(rows["dir_only", "equal KL"].kl)
    assert full.si is not None and full.fix is not None


def test_the_cost_stands_beside_the_effect_along_the_dial(subject):
    rows = {r.alpha: r for r in DEGRADATION.run(subject).tables[0].rows}
    assert rows[1.0].effect.mean == pytest.approx(subject.measure([])[0].delta.mean, rel=1e-4)
    assert rows[-1.0].effect.mean < 0 < rows[0.5].effect.mean < rows[1.0].effect.mean
    assert abs(rows[2.0].nll.mean) > abs(rows[0.5].nll.mean) > 0
    assert set(rows) == {-2.0, -1.0, -0.5, 0.5, 1.0, 2.0}


def test_another_training_of_the_same_is_laid_beside_and_one_of_something_else_is_not(subject, tiny, tmp_path):
    again = planted(tiny, {n: torch.randn(tiny.weight(n).shape) for n in MODULES}, WHERE, 2)
    finding = MULTISEED.run(replace(subject, others={"again": again}))
    own, other = finding.tables[0].rows
    assert own.cosine == pytest.approx(1) and abs(other.cosine) < 0.3
    assert other.delta.mean < own.delta.mean
    foreign = type(again)(again.forms, {**again.provenance, "adapter": "oft"})
    with pytest.raises(Exception, match="no other training"):
        MULTISEED.run(replace(subject, others={"foreign": foreign}))


def test_the_geometry_of_two_sides_is_by_its_definitions():
    r = _row("3", torch.tensor([[9.0, -3.0], [-3.0, 4.0]], dtype=torch.float64))
    assert (r.where, r.tau_plus, r.tau_minus, r.direction) == ("layer 3", 3, 2, pytest.approx(math.sqrt(19)))
    assert r.cos_anti == pytest.approx(0.5) and r.asymmetry == pytest.approx(1.5)
    assert r.drift == pytest.approx(math.sqrt(7 / 19)) and r.cos_dW_M == pytest.approx(5 / math.sqrt(7 * 19))
    assert math.isnan(_row("x", torch.zeros(2, 2, dtype=torch.float64)).cos_anti)


def test_every_analysis_says_its_question_and_what_it_does_not_show():
    assert selection(["all"]) == list(ANALYSES.values())
    assert len(selection([])) < len(ANALYSES)
    for a in ANALYSES.values():
        assert a.question.endswith("?") and a.silent.endswith(".") and len(a.silent) > 60
    assert METRIC
