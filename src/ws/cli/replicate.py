"""`ws replicate`: the whole story, its table, and what to type next."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from ws.cli.options import Options, verb
from ws.cli.result import VerbResult
from ws.cli.screen import Screen
from ws.cli.study import MAKING, Dialed, say_study
from ws.eval import protocol
from ws.pairs import caveats
from ws.presets import preset
from ws.replicate import Story
from ws.replicate import replicate as replicate_study
from ws.results.layouts import alphas
from ws.results.measured import measured
from ws.results.sentences.alphas import readings, side_effect
from ws.results.sentences.questions import not_held_out, pairs_left_out
from ws.study.options import Common
from ws.study.planning import plan_of

FEW_STEPS = 10  # optimiser steps below which a direction says more about the start than about the answers


@dataclass(frozen=True, eq=False)
class Replication(VerbResult):
    """A replication."""

    story: Story

    def as_json(self) -> Mapping[str, object]:
        return self.story.as_json()

    def show(self, screen: Screen) -> None:
        plan = self.story.plan
        screen.show("")
        title = f"{plan.name}: {plan.train.adapter} on {plan.base.id}, seed {plan.seed}"
        screen.sheet(alphas.sheet(self.story.headline, title))
        screen.points(self._readings())
        here = Path.cwd().resolve()
        file = Path(self.story.direction["file"])
        near = file.relative_to(here) if file.is_relative_to(here) else file
        model = "" if plan.base.tiny else f" --model {plan.base.source}"
        out = "" if str(plan.out) == "out" else f" --out {quote(str(plan.out))}"
        screen.show(
            f"\nplot   {self.story.plot.resolve()}\nrun    {self.story.folder.resolve()}\n"
            f"pairs  {self.story.data_folder.resolve()}\n\n"
            f"next:  ws generate{model} --direction {quote(str(near))} --alphas=-1,0,1 --prompt {quote(self._question())}\n"
            f"       ws show{out} {quote(self.story.folder.name)} --worst 10\n       ws table{out}\n       ws runs{out}"
        )

    def _readings(self) -> list[str]:
        """What the table says, and what to know about the rows, pairs and training below it."""
        story, plan = self.story, self.story.plan
        legend = {m: t for r in story.headline for m, t in protocol(r["eval"], r["protocol"]).legend.items()}
        lines = list(readings(story.headline, plan.behavior.intent if plan.behavior else {}, legend))
        evaluations = measured(story.evals)
        lines += [*not_held_out(evaluations), *pairs_left_out(evaluations)]
        if cost := side_effect(story.rows):
            lines.append(cost)
        more = len({r["metric"] for r in story.rows}) - len({r["metric"] for r in story.headline})
        if more:
            lines.append(
                f"{more} more metrics of these protocols, about which {plan.name} claims nothing, are in table.md."
            )
        t = story.training
        if t["step"] < FEW_STEPS:
            lines.append(
                f"training: the best step was {t['step']}, on {t['n_train']} pairs; that is little to learn from."
            )
        return lines + [f"pairs: {line}" for line in caveats(story.pairs)]

    def _question(self) -> str:
        """A question for the next command."""
        plan = self.story.plan
        if plan.name.startswith("honesty") and plan.base.tiny:
            return "What is the capital of Kenya?"
        texts = [p.text for p in plan.behavior.prompts if p.split == "train"] if plan.behavior else []
        return (texts or ["Hello?"])[-1]


@verb(Common, Dialed, *MAKING)
def replicate(options: Options) -> VerbResult:
    """The whole story of one study."""
    common = options.of(Common)
    plan = plan_of(common, options.values)
    alphas = options.of(Dialed).alphas
    return Replication(replicate_study(plan, alphas=alphas, protocols=preset(common.preset, "protocol"), say=say_study))
