"""Recipes that this version cannot run yet: what each asks, and what it waits for."""

from dataclasses import dataclass

from ws.errors import Unsupported
from ws.paper.recipe import Job, Outcome, Planned, Recipe
from ws.paper.request import RecipeRequest
from ws.study.options import Common


@dataclass(frozen=True)
class Waiting(Recipe):
    """A recipe without the parts that would run it."""

    def on(self, model: str) -> "Waiting":
        return self

    def plan(self, request: RecipeRequest, common: Common) -> Planned:
        raise Unsupported(f"{self.name} cannot be run: {self.lacking}")

    def run(self, job: Job) -> Outcome:
        raise Unsupported(f"{self.name} cannot be run: {self.lacking}")


RECIPES = {
    r.name: r
    for r in (
        Waiting(
            "gcd",
            "4.3",
            "Figs 3, 4, 17-20",
            "Can sycophancy that a task fine-tune has taught be undone?",
            "Qwen/Qwen2.5-1.5B-Instruct",
            lacking="this version does not steer a task fine-tune by directions of its base.",
        ),
        Waiting(
            "refusal",
            "4.6",
            "Figs 6, 7, 28-32",
            "Can refusals that a task fine-tune has lost be restored?",
            "meta-llama/Llama-2-7b-chat-hf",
            lacking="this version does not steer a task fine-tune by directions of its base.",
        ),
        Waiting(
            "lora_vs_full",
            "4.11",
            "Fig 10",
            "Do fine-tunes add up better as LoRA than as full fine-tunes?",
            "not stated",
            lacking="this version does not add the directions of two task fine-tunes.",
        ),
    )
}
