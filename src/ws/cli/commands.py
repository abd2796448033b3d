"""The verbs of the command line. A new one is a line here and a file beside this one."""

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ws.cli.options import Verb


@dataclass(frozen=True)
class Command:
    """A verb by its address, so that `ws --help` loads none of them."""

    address: str
    """module:attribute of a `Verb`, imported when it is called."""
    summary: str
    resumes: bool = False
    """Whether the same command goes on from what is done."""

    def verb(self) -> "Verb":
        """The verb itself."""
        module, _, attribute = self.address.partition(":")
        return getattr(import_module(module), attribute)


COMMANDS = {
    "replicate": Command(
        "ws.cli.replicate:replicate", "Run the whole story: data, train, diff, eval, table.", resumes=True
    ),
    "new": Command("ws.cli.new:new", "Write a behavior pack that runs as it is, for you to change."),
    "data": Command(
        "ws.cli.data:data", "Make pairs: the same questions, answered by two opposite personas.", resumes=True
    ),
    "train": Command(
        "ws.cli.train:train",
        "Fine-tune two adapters, one on each side of the pairs; on several devices with --processes.",
        resumes=True,
    ),
    "diff": Command(
        "ws.cli.diff:diff",
        "Make the direction: the exact difference of a study's two sides, or of any two models LEFT and RIGHT.",
        resumes=True,
    ),
    "sweep": Command(
        "ws.cli.sweep:sweep",
        "Run many studies: families, seeds, behaviors, models and learning rates; restarted at will.",
        resumes=True,
    ),
    "eval": Command(
        "ws.cli.evaluate:evaluate",
        "Measure a direction or any method with one evaluation, over a grid of alphas; with --alphas=0, the model alone.",
        resumes=True,
    ),
    "generate": Command("ws.cli.generate:generate", "Answer one prompt at several alphas, side by side."),
    "chat": Command("ws.cli.chat:chat", "Talk with a model in the terminal, with the dial in reach."),
    "calibrate": Command(
        "ws.cli.calibrate:calibrate",
        "Find the strengths, one per sign, at which a direction or any other method moves the model by a given KL.",
    ),
    "compare": Command(
        "ws.cli.compare:compare",
        "Set methods side by side at equal KL: effects, intervals, side effects, random directions; tables and plots.",
        resumes=True,
    ),
    "show": Command(
        "ws.cli.show:show", "Show the items behind a number: what was asked, and what it scored at 0 and steered."
    ),
    "table": Command(
        "ws.cli.table:table",
        "Make every table again from the rows: runs and methods side by side, published columns first.",
    ),
    "inspect": Command(
        "ws.cli.inspect:inspect",
        "Say what a direction file is: what made it, its forms, and how large it is per layer and module.",
    ),
    "export": Command(
        "ws.cli.export:export",
        "Carry a direction to another tool, load it again (transformers, peft) and prove that it moves the model as promised.",
    ),
    "verify": Command(
        "ws.cli.verify:verify",
        "Load an export again with its consumer's own loader and check that it does what was promised.",
    ),
    "doctor": Command(
        "ws.cli.doctor:doctor",
        "Check this machine, and with --model a model: versions, devices, template, answers, memory; with a small study as a self-test.",
    ),
    "runs": Command(
        "ws.cli.runs:runs",
        "List the runs in the output folder; --behavior, --adapter, --model and --seed narrow the list.",
    ),
}
