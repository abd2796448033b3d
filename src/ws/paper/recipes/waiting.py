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


QWEN7, QWEN1, LLAMA = "Qwen/Qwen2.5-7B-Instruct", "Qwen/Qwen2.5-1.5B-Instruct", "meta-llama/Llama-2-7b-chat-hf"


def _waits(name: str, section: str, figures: str, question: str, model: str, lacking: str) -> Waiting:
    return Waiting(name, section, figures, question, model, lacking=lacking)


RECIPES = {
    r.name: r
    for r in (
        _waits(
            "syc_qa", "4.1", "Figs 2, 12-14, 16", "Does steering change content, and not only tone?", QWEN7,
            "this version has no evaluation that asks the four cues of the sycophancy questions.",
        ),
        _waits(
            "syc_tone", "4.2", "Fig 15", "How far do all arms move tone on questions like those of training?", QWEN7,
            "this version has no evaluation of the persona's tone.",
        ),
        _waits(
            "gcd", "4.3", "Figs 3, 4, 17-20", "Can sycophancy that a task fine-tune has taught be undone?", QWEN1,
            "this version trains no task fine-tune to steer on.",
        ),
        _waits(
            "evil_mcqa", "4.4", "Figs 5, 11, 21-26", "Does a direction of open answers move multiple choice?", QWEN7,
            "this version has no evaluation of two options with and without reasoning.",
        ),
        _waits(
            "evil_indist", "4.5", "Fig 27", "How far do all arms raise the trait on questions like those of training?", QWEN7,
            "this version has no evaluation of the persona's tone.",
        ),
        _waits(
            "refusal", "4.6", "Figs 6, 7, 28-32", "Can refusals that a task fine-tune has lost be restored?", LLAMA,
            "this version trains no task fine-tune to steer on.",
        ),
        _waits(
            "variations", "4.7", "section 4.4", "Which difference matters: layers, averaging, or the space?", "those of 4.1, 4.3, 4.4, 4.6",
            "it is a table over four recipes that this version cannot run.",
        ),
        _waits(
            "monitor_cos", "4.8", "Figs 8, 9, 34, 35", "Do directions of bad advice lie near other bad fine-tunes?", QWEN7,
            "this version trains no task fine-tunes to watch.",
        ),
        _waits(
            "monitor_curve", "4.9", "Figs 36, 37", "Do cosines rise before the model misbehaves?", QWEN7,
            "this version trains no task fine-tunes to watch.",
        ),
        _waits(
            "em_validate", "4.10", "Fig 33, Table 6", "How misaligned are the fine-tunes on bad advice?", QWEN7,
            "this version has no evaluation of emergent misalignment.",
        ),
        _waits(
            "lora_vs_full", "4.11", "Fig 10", "Do fine-tunes add up better as LoRA than as full fine-tunes?", "not stated",
            "this version trains no task fine-tune whose direction could be added.",
        ),
    )
}  # fmt: skip
