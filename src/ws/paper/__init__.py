"""The paper's experiments as recipes: Fierro & Roger, Steering Language Models with Weight Arithmetic (arXiv 2511.05408).

    ws.paper("lr_sweep")                                 # on `tiny`: curves, claims, figures
    recipe_named("lr_sweep").on("tiny").run(Job(base, Common(out="out"), RecipeRequest()))     # what it does

| file                  | holds                                                                        |
|-----------------------|------------------------------------------------------------------------------|
| `request.py`          | what a person may ask of a recipe                                            |
| `recipe.py`           | what a recipe is: arms, numbers, data                                        |
| `steering.py`         | recipes that steer: cells of a grid, curves, frontiers                       |
| `curves.py`           | capability against effect, per arm, side and seed                            |
| `claims.py`           | claims and the tests that decide them                                        |
| `domains.py`          | fine-tunes on two data sets that answer the same questions                   |
| `monitoring.py`       | recipes that watch such fine-tunes: cosines across domains                   |
| `monitoring_curve.py` | ... step by step                                                             |
| `misaligned.py`       | ... and what they answer                                                     |
| `tuned.py`            | task fine-tunes as directions                                                |
| `on_task.py`          | recipes that steer one by directions of its base                             |
| `panels.py`           | pictures as values; `curve_panels.py` makes them of curves                   |
| `figures.py`          | ... as files; `heatmap.py` draws cosines                                     |
| `scorecard.py`        | tables and files of a recipe                                                 |
| `page.py`             | one HTML page                                                                |
| `recipes/`            | the recipes themselves                                                       |
"""

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING

from ws.errors import not_known

if TYPE_CHECKING:
    from ws.paper.recipe import Need, Recipe

WHERE = {
    "syc_qa": "syc",
    "syc_tone": "syc",
    "gcd": "tasks",
    "evil_mcqa": "evil",
    "evil_indist": "evil",
    "refusal": "tasks",
    "variations": "variations",
    "monitor_cos": "monitor",
    "monitor_curve": "monitor",
    "em_validate": "monitor",
    "lora_vs_full": "lora_vs_full",
    "lr_sweep": "lr_sweep",
}
"""Recipe to its file in `recipes`; in the order of the specification."""


def names() -> list[str]:
    """Every recipe."""
    return list(WHERE)


def recipe_named(name: str) -> "Recipe":
    """The recipe of this name."""
    if name not in WHERE:
        raise ValueError(not_known("recipe", name, names()))
    module = import_module(f"{__name__}.recipes.{WHERE[name]}")
    found = module.RECIPES[name] if hasattr(module, "RECIPES") else module.RECIPE
    assert found.name == name
    return found


def missing_data(needs: "Sequence[Need]") -> str:
    """What a recipe lacks, and how to get it, as one sentence."""
    return f"the data {needs[0].name} is missing ({needs[0].about}): {needs[0].supply}"
