"""Random controls are as large as what they control, module by module, and point elsewhere."""

import pytest
import torch
from direction.test_algebra import KINDS, SHAPES, WEIGHTS, a_form

from ws.direction import Direction, cosine, random_like


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
