"""`ws replicate`: the whole story, its table, and what to type next."""

from collections.abc import Mapping
from dataclasses import dataclass
from shlex import quote

from ws.cli.options import Options, verb
from ws.cli.result import VerbResult
from ws.cli.screen import Screen, safe_text
from ws.cli.study import MAKING, Dialed, say_study
from ws.cli.tables import samples_table
from ws.eval import protocol
from ws.explain import published
from ws.pairs import caveats
from ws.presets import preset
from ws.replicate import DRAWS, Ending, Story, is_small, steering
from ws.replicate import replicate as replicate_study
from ws.results.layouts import alphas
from ws.results.measured import measured
from ws.results.sentences.alphas import chance, readings, side_effect
from ws.results.sentences.questions import not_held_out, pairs_left_out
from ws.settings import at_least, refuse_outside
from ws.study.asked import evaluations_named, named_files, usual
from ws.study.options import Common, Judged
from ws.study.planning import behavior_meant, plan_of

FEW_STEPS = 10  # optimiser steps below which a direction says more about the start than about the answers


@dataclass(frozen=True)
class Evaluations:
    """What is measured."""

    evals: tuple[str, ...] = ()
    """Evaluations by name or NAME@PROTOCOL; those of the behavior's claims, held-out pairs and perplexity when not given."""
    data: tuple[str, ...] = ()
    """Data files of evaluations: NAME=FILE, separated by commas."""
    limit: int | None = None
    """Only the first so many units of every evaluation but held-out pairs; the table says SMOKE."""

    def __post_init__(self):
        refuse_outside(self, limit=at_least(1))
        named_files(self.data)


@dataclass(frozen=True, eq=False)
class Replication(VerbResult):
    """A replication."""

    story: Story
    ending: Ending

    def as_json(self) -> Mapping[str, object]:
        return self.story.as_json()

    def show(self, screen: Screen) -> None:
        plan = self.story.plan
        screen.show("")
        for at, sample in enumerate(self.story.samples):
            if at == 0:
                screen.show("[bold]questions that training never saw, along the dial[/]")
            screen.show(f"\n[bold]“{safe_text(sample['question'])}”[/]")
            screen.show(samples_table(sample, header=at == 0))
        screen.show("")
        smoke = ", SMOKE: not all units" if self.story.smoke else ""
        title = f"{plan.name}: {plan.train.adapter} on {plan.base.id}, seed {plan.seed}{smoke}"
        screen.sheet(alphas.sheet(self.story.headline, title))
        screen.points(self._readings())
        screen.show("")
        if self.story.subspace:
            screen.sheet(published.sheet(self.story.subspace))
        model = "" if plan.base.tiny else f" --model {plan.base.source}"
        out = "" if str(plan.out) == "out" else f" --out {quote(str(plan.out))}"
        run = f"{out} {quote(self.story.folder.name)}"
        screen.show(
            f"plot   {self.story.plot.resolve()}\nrun    {self.story.folder.resolve()}\n"
            f"pairs  {self.story.data_folder.resolve()}\n\n"
            f"next:  ws chat{model}{run}\n       ws generate{model}{run} {quote(self._question())} --alphas=-1,0,1\n"
            f"       ws show{run} --worst 10\n       ws report{run}\n       ws table{out}\n       ws runs{out}"
        )

    def _readings(self) -> list[str]:
        """What the table says, and what to know about the rows, pairs and training below it."""
        story, plan = self.story, self.story.plan
        legend = {m: t for r in story.headline for m, t in protocol(r["eval"], r["protocol"]).legend.items()}
        lines = list(readings(story.headline, plan.behavior.intent if plan.behavior else {}, legend))
        evaluations = measured(story.evals)
        lines += [*not_held_out(evaluations), *pairs_left_out(evaluations)]
        lines += chance(story.headline, story.random)
        if not story.random and self.ending.draws is None and not is_small(plan):
            lines.append(
                f"No random directions were measured beside it, which a model this large takes long for; --draws {DRAWS} does."
            )
        if cost := side_effect(story.rows):
            lines.append(cost)
        more = len({r["metric"] for r in story.rows}) - len({r["metric"] for r in story.headline})
        if more:
            lines.append(
                f"{more} more metrics of these protocols, about which {plan.name} claims nothing, are in {story.table.name}."
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


@verb(Common, Dialed, Evaluations, Ending, *MAKING, Judged)
def replicate(options: Options) -> VerbResult:
    """The whole story of one study."""
    common = options.of(Common)
    alphas = steering(options.of(Dialed).alphas)
    asked = options.of(Evaluations)
    behavior = behavior_meant(common)
    evals = evaluations_named(
        behavior,
        asked.evals or usual(behavior),
        protocols=preset(common.preset, "protocol"),
        data=named_files(asked.data),
        limit=asked.limit,
    )
    plan = plan_of(common, options.values)
    ending = options.of(Ending)
    story = replicate_study(plan, alphas=alphas, evals=evals, ending=ending, tables=published.tables, say=say_study)
    return Replication(story, ending)
