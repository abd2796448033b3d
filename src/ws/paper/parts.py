"""Parts of a recipe made at the same time, by the workers of a grid: fine-tunes, cells on a fine-tune, nulls.

A part is stages that a recipe makes anyway, each in its own place. So a recipe that is run afterwards finds them, and one
that is run alone, in one process, makes them itself.
"""

from dataclasses import asdict, replace
from pathlib import Path

from ws.engine import Task
from ws.grid.run import serially
from ws.grid.tasks import from_anywhere
from ws.paper.recipe import Job, Recipe
from ws.paper.request import RecipeRequest
from ws.settings import coerced
from ws.study.options import Common
from ws.study.worker import kept_base
from ws.types import Fields, Json


def make_ahead(recipe: Recipe, job: Job) -> None:
    """Make the parts of a recipe by the workers that there are; what fails is tried again where the recipe needs it."""
    parts = recipe.parts(job)
    if job.run is serially or len(parts) < 2:
        return
    common = from_anywhere(job.common)
    request = replace(job.request, data=tuple(f"{k}={Path(v).resolve()}" for k, v in job.request.files.items()))
    how = {"recipe": recipe.name, "common": asdict(common), "request": asdict(request), "options": dict(job.options)}
    call, name = f"{__name__}:part", recipe.name
    job.run(
        [Task(f"{name}/{p.name}", call, {**how, "part": p.name}, tuple(f"{name}/{n}" for n in p.needs)) for p in parts],
        job.tell,
    )


def part(task: Fields) -> Json:
    """What a worker does: one part, on a model that it keeps."""
    from ws.paper import recipe_named

    common = Common(**coerced(Common, task["common"]))
    request = RecipeRequest(**coerced(RecipeRequest, task["request"]))
    job = Job(kept_base(common), common, request, task["options"])
    parts = recipe_named(task["recipe"]).on(common.model).parts(job)
    next(p for p in parts if p.name == task["part"]).make()
    return {"made": [task["part"]]}
