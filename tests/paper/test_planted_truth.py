"""The claims of every recipe hold where they are planted and not where the opposite is; bench/claims.py draws each a hundred times."""

import pytest

from bench.claims import SIMULATED, drawn, held
from ws.paper import names, recipe_named


def test_every_recipe_is_simulated_with_all_its_claims():
    assert sorted(SIMULATED) == sorted(names())
    for name in SIMULATED:
        recipe = recipe_named(name)
        if hasattr(recipe, "claims"):
            assert drawn(name, 20).claims == recipe.claims


@pytest.mark.parametrize("name", ["monitor_curve", "em_validate", "lora_vs_full"])
def test_a_planted_claim_holds_and_its_opposite_does_not(name):
    for sentence, (true, false, _) in held(name, 5, 400):
        assert (true, false) == (5, 0), sentence
