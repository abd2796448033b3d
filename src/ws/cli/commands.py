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
    """One line of 65 characters."""
    group: str = "make"
    words: str = ""
    """The words after its name, as the usage shows them."""
    examples: tuple[str, ...] = ()
    """Commands that run on `tiny`, after one `ws replicate`."""
    usual: tuple[str, ...] = ()
    """The options that short help shows; all of them where none is named."""
    resumes: bool = False
    """Whether the same command goes on from what is done."""
    examines: bool = False
    """Whether it is there to say what is wrong with this installation, and so has to run where something is."""

    def verb(self) -> "Verb":
        """The verb itself."""
        module, _, attribute = self.address.partition(":")
        return getattr(import_module(module), attribute)


GROUPS = {
    "make": "from questions to a direction",
    "measure": "what a direction does, and at which strength",
    "use": "talk with it, or carry it elsewhere",
    "look": "at what is there",
}

COMMANDS = {
    "replicate": Command(
        "ws.cli.replicate:replicate",
        "Run the whole story: data, train, diff, eval, table.",
        examples=("ws replicate", "ws replicate --behavior sycophancy --adapter oft --seed 1"),
        usual=("model", "behavior", "adapter", "seed", "alphas", "out"),
        resumes=True,
    ),
    "new": Command(
        "ws.cli.new:new",
        "Write a behavior pack that runs as it is, for you to change.",
        words="BEHAVIOR",
        examples=("ws new cheerful",),
    ),
    "data": Command(
        "ws.cli.data:data",
        "Make pairs: questions, answered under two opposite personas.",
        examples=("ws data --preview", "ws data --behavior sycophancy"),
        usual=("model", "behavior", "preview", "n_topics", "temperature", "out"),
        resumes=True,
    ),
    "train": Command(
        "ws.cli.train:train",
        "Fine-tune two adapters in step, one on each side of the pairs.",
        examples=("ws train", "ws train --adapter dora --rank 4"),
        usual=("model", "behavior", "adapter", "rank", "seed", "out"),
        resumes=True,
    ),
    "finetune": Command(
        "ws.cli.finetune:finetune",
        "Fine-tune on one data set: a task, and its direction.",
        examples=("ws finetune --data honesty:pos", "ws finetune --data honesty:pos --keep-every 4 --adapter full"),
        usual=("model", "data", "adapter", "lr", "joint", "keep_every", "seed", "out"),
        resumes=True,
    ),
    "diff": Command(
        "ws.cli.diff:diff",
        "Take the exact difference of both sides, or of any two models.",
        words="[LEFT] [RIGHT]",
        examples=("ws diff", "ws diff honesty --out honesty.safetensors"),
        usual=("model", "behavior", "adapter", "seed", "mode", "out"),
        resumes=True,
    ),
    "sweep": Command(
        "ws.cli.sweep:sweep",
        "Run many studies: families, seeds, behaviors, models.",
        examples=("ws sweep --adapters lora,oft --seeds 0,1 --check", "ws sweep --adapters lora,oft --seeds 0,1"),
        usual=("models", "behaviors", "adapters", "seeds", "workers", "check", "status", "out"),
        resumes=True,
    ),
    "eval": Command(
        "ws.cli.evaluate:evaluate",
        "Measure a direction, any method or the model over a grid of alphas.",
        group="measure",
        words="NAME [DIRECTION]",
        examples=("ws eval dilemmas honesty", "ws eval perplexity honesty --alphas=-1,0,1"),
        usual=("model", "method", "behavior", "alphas", "limit", "out"),
        resumes=True,
    ),
    "calibrate": Command(
        "ws.cli.calibrate:calibrate",
        "Find the strengths at which a method moves the model by one KL.",
        group="measure",
        words="[DIRECTION]",
        examples=("ws calibrate honesty", "ws calibrate --method prompt:simple --behavior honesty"),
        usual=("model", "method", "behavior", "budget", "n_calib", "out"),
    ),
    "compare": Command(
        "ws.cli.compare:compare",
        "Set methods side by side at equal KL, beside random directions.",
        group="measure",
        examples=("ws compare --methods ws:lora,prompt:simple --check", "ws compare --methods ws:lora,prompt:simple"),
        usual=("model", "behavior", "methods", "seeds", "evals", "check", "out"),
        resumes=True,
    ),
    "judge": Command(
        "ws.cli.judge:judge",
        "Judge answers by a rule, a server or a model, and judge the judge.",
        group="measure",
        words="FILE",
        examples=(
            "ws judge answers.jsonl --rubric math_correct",
            "ws judge answers.jsonl --rubric refusal --by tiny --check",
        ),
        usual=("rubric", "by", "gold", "second", "votes", "check", "show_texts", "out"),
        resumes=True,
    ),
    "explain": Command(
        "ws.cli.explain:explain",
        "See where in the weights a behavior sits: layers, matrices, spaces.",
        group="measure",
        words="[DIRECTION]",
        examples=("ws explain honesty --what localization --limit 20", "ws explain honesty --evals none"),
        usual=("what", "evals", "alpha", "top", "limit", "out"),
        resumes=True,
    ),
    "watch": Command(
        "ws.cli.watch:watch",
        "See whether fine-tunes drift toward a behavior, beside nulls.",
        group="measure",
        words="[FINE-TUNE ...]",
        examples=(
            "ws watch --directions honesty --make-nulls",
            "ws watch honesty --directions honesty",
            "ws watch honesty --directions honesty --detectors all",
        ),
        usual=("directions", "model", "behaviors", "base", "detectors", "make_nulls", "labels", "out"),
        resumes=True,
    ),
    "paper": Command(
        "ws.cli.paper:paper",
        "Run the paper's experiments, each ending with a scorecard.",
        group="measure",
        words="[RECIPE]",
        examples=("ws paper --list", "ws paper lr_sweep --check"),
        usual=("list", "check", "model", "arms", "strengths", "limit", "report", "out"),
        resumes=True,
    ),
    "chat": Command(
        "ws.cli.chat:chat",
        "Talk with a model in the terminal, with the dial in reach.",
        group="use",
        words="[DIRECTION ...]",
        examples=("ws chat honesty", "ws chat honesty --alpha=-1"),
        usual=("model", "alpha", "system", "temperature", "thinking"),
    ),
    "serve": Command(
        "ws.cli.serve:serve",
        "Serve a model over HTTP; every request names its own strengths.",
        group="use",
        words="[DIRECTION ...]",
        examples=("ws serve honesty", "ws serve honesty --port 8001 --max-alpha 2"),
        usual=("model", "port", "host", "max_alpha", "rows", "threads"),
    ),
    "generate": Command(
        "ws.cli.generate:generate",
        "Answer one prompt at several alphas, side by side.",
        group="use",
        words="[DIRECTION] QUESTION",
        examples=(
            "ws generate honesty 'What is the capital of Kenya?'",
            "ws generate honesty 'What sound does a cow make?' --alphas=-2,0,2",
        ),
        usual=("model", "alphas", "system", "max_new_tokens", "temperature", "thinking"),
    ),
    "export": Command(
        "ws.cli.export:export",
        "Carry a direction to another tool, and prove that it arrived.",
        group="use",
        words="DIRECTION",
        examples=(
            "ws export honesty --alpha 1 --out honest",
            "ws export honesty --alpha=-1 --to merged --out dishonest",
        ),
        usual=("to", "alpha", "out", "rank", "model"),
    ),
    "verify": Command(
        "ws.cli.verify:verify",
        "Check that an export, or a server, does what it promised.",
        group="use",
        words="[DIR]",
        examples=("ws verify honest",),
        usual=("server", "name", "how", "base"),
    ),
    "runs": Command(
        "ws.cli.runs:runs",
        "List the runs in the output folder.",
        group="look",
        examples=("ws runs", "ws runs --behavior honesty --adapter lora"),
    ),
    "table": Command(
        "ws.cli.table:table",
        "Show a line per run or method, or every table from the rows.",
        group="look",
        words="[RUN ...]",
        examples=("ws table", "ws table --full", "ws table honesty --markdown"),
    ),
    "show": Command(
        "ws.cli.show:show",
        "Show the items behind a number: what was asked, and how it moved.",
        group="look",
        words="RUN",
        examples=("ws show honesty --worst 5", "ws show honesty --eval dilemmas --best 3"),
    ),
    "report": Command(
        "ws.cli.report:report",
        "Write one HTML page of a run, a sweep or a comparison.",
        group="look",
        words="[RUN|SWEEP|COMPARISON]",
        examples=("ws report", "ws report honesty --file honesty.html"),
    ),
    "inspect": Command(
        "ws.cli.inspect:inspect",
        "Say what a direction is: what made it, its forms, its size.",
        group="look",
        words="DIRECTION",
        examples=("ws inspect honesty", "ws inspect honesty --json"),
    ),
    "doctor": Command(
        "ws.cli.doctor:doctor",
        "Check this machine and a model: what works, and what fits.",
        group="look",
        examples=("ws doctor", "ws doctor --model tiny"),
        usual=("model", "adapter", "device", "dtype"),
        examines=True,
    ),
    "completion": Command(
        "ws.cli.completion:completion",
        "Print completion of verbs, options and runs for a shell.",
        group="look",
        words="SHELL",
        examples=("source <(ws completion bash)", "ws completion fish"),
    ),
}
