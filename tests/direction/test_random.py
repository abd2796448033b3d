"""Random controls are as large as what they control, module by module, and point elsewhere."""

import pytest
import torch
from direction.test_algebra import KINDS, SHAPES, WEIGHTS, a_form

from ws.direction import Direction, cosine, random_like
from ws.direction.forms import BiasShift, Dense, LowRank, tensors
from ws.errors import Unsupported


@pytest.mark.parametrize("kind", KINDS)
def test_a_random_direction_has_the_norm_of_every_module_and_another_direction(kind):
    g = torch.Generator().manual_seed(0)
    d = Direction({n: (a_form(kind, *s, g), a_form("bias", *s, g)) for n, s in SHAPES.items()})
    drawn = [random_like(d, seed, WEIGHTS.__getitem__) for seed in (0, 1)]
    for r in drawn:
        for name, size in d.norms(WEIGHTS.__getitem__).items():
            assert r.norms(WEIGHTS.__getitem__)[name] == pytest.approx(size, rel=1e-5)
        assert abs(cosine(r.to(dtype=torch.float64), d, WEIGHTS.__getitem__)) < 0.5
    assert drawn[0].content_hash == random_like(d, 0, WEIGHTS.__getitem__).content_hash != drawn[1].content_hash


def test_a_low_rank_direction_keeps_its_singular_values():
    g = torch.Generator().manual_seed(0)
    d = Direction({"wide": (a_form("lowrank", 8, 16, g),)})
    r = random_like(d, 0, WEIGHTS.__getitem__)
    wanted = torch.linalg.svdvals(d.dense("wide", WEIGHTS.__getitem__))[:3]
    got = torch.linalg.svdvals(r.dense("wide", WEIGHTS.__getitem__))[:3]
    torch.testing.assert_close(got.double(), wanted, rtol=1e-5, atol=1e-5)


def test_random_singular_vectors_have_no_sign_that_is_likelier():
    d = Direction({"wide": (a_form("lowrank", 8, 16, torch.Generator().manual_seed(0)),)})
    drawn = [random_like(d, seed, WEIGHTS.__getitem__).forms["wide"][0] for seed in range(60)]
    for first in ([r.b[0, 0] for r in drawn], [r.a[0, 0] for r in drawn]):
        assert 15 < sum(map(bool, [x > 0 for x in first])) < 45


@pytest.mark.parametrize("kind", ["row", "col", "block", "bias"])
def test_a_random_gate_has_the_entries_of_the_gate_in_another_order_and_with_other_signs(kind):
    d = Direction({n: (a_form(kind, *s, torch.Generator().manual_seed(0)),) for n, s in SHAPES.items()})
    drawn = [random_like(d, seed, WEIGHTS.__getitem__, form="gate") for seed in (0, 1)]
    assert drawn[0].content_hash != drawn[1].content_hash
    for r in drawn:
        assert r.norms(WEIGHTS.__getitem__) == pytest.approx(d.norms(WEIGHTS.__getitem__))
        for name, (form,) in r.forms.items():
            for key, t in tensors(form).items():
                of = tensors(d.forms[name][0])[key]
                scale = t.norm() / of.norm()  # rows differ in length, so the same gates elsewhere are another size
                torch.testing.assert_close(t.abs().flatten().sort()[0], scale * of.abs().flatten().sort()[0])
                assert (t.sign() != of.sign()).any() and not torch.allclose(t.abs(), scale * of.abs())


def test_each_form_of_a_random_direction_is_what_its_name_says():
    g = torch.Generator().manual_seed(0)
    low = Direction({"wide": (a_form("lowrank", 8, 16, g), a_form("bias", 8, 16, g))})
    of = {form: random_like(low, 0, WEIGHTS.__getitem__, form=form) for form in ("like", "gauss", "spectrum")}
    kinds = {form: [type(f) for f in r.forms["wide"]] for form, r in of.items()}
    assert kinds == {"like": [LowRank, BiasShift], "gauss": [Dense, BiasShift], "spectrum": [LowRank, BiasShift]}
    for form, r in of.items():
        record = r.provenance
        assert (record["seed"], record["like"], record.get("form", "like")) == (0, low.content_hash, form)
        assert r.norms(WEIGHTS.__getitem__) == pytest.approx(low.norms(WEIGHTS.__getitem__), rel=1e-5)
        assert r.bias("wide").norm() == pytest.approx(float(low.bias("wide").norm()), rel=1e-5)
    row = Direction({"wide": (a_form("row", 8, 16, g),)})
    assert type(random_like(row, 0, WEIGHTS.__getitem__).forms["wide"][0]) is Dense
    for form, d, words in (("spectrum", row, "not low rank"), ("gate", low, "lowrank form is no gate")):
        with pytest.raises(Unsupported, match=words):
            random_like(d, 0, WEIGHTS.__getitem__, form=form)
    with pytest.raises(ValueError, match="form is like, gauss, spectrum, gate; got 'other'"):
        random_like(low, 0, WEIGHTS.__getitem__, form="other")
