"""`ws finetune`: one adapter on one data set, and its direction."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ws.adapters import family
from ws.cli.named import words_of
from ws.cli.options import Options, verb
from ws.cli.result import VerbResult
from ws.cli.screen import Screen, say_stage
from ws.cli.study import rooted
from ws.errors import Unsupported
from ws.numbers import share
from ws.presets import preset
from ws.records import Record
from ws.sets import set_of
from ws.settings import at_least, refuse_outside
from ws.study.options import Common
from ws.study.planning import fitted as of_preset
from ws.study.planning import load_base, refuse_place_to_work, refuse_settings
from ws.study.task import FORMS, Learning, TaskPlan, make_task, make_task_direction
from ws.train.settings import TrainSettings, spec_of
from ws.train.task import FineTune, default_task, refuse_task
from ws.train.tracking import refuse_missing


@dataclass(frozen=True)
class Learnt:
    """What a fine-tune learns."""

    data: str | None = None
    """A file (jsonl, json, csv, parquet), a hub data set as org/name#config/split, a set of the paper as gcd#train_instr_q, or one side of a behavior as honesty:pos."""
    name: str | None = None
    """What the task is called; the name of its data when not given."""
    prompt: str | None = None
    """Column of the question; prompt, question, instruction, query or input when not given."""
    response: str | None = None
    """Column of the answer; response, answer, completion, output or solution when not given."""
    messages: str | None = None
    """Column of whole conversations; messages where there is one."""
    joint: str | None = None
    """A second data set that is learnt along, in the same forms, such as the side of a behavior that is wanted."""
    times: int = 1
    """How often a pass holds every row of --joint."""
    keep_every: int = 0
    """Keep the adapter every so many steps, in train/checkpoints."""
    opt_in: tuple[str, ...] = ()
    """Sets of harmful texts that may be read, by name."""
    train_embeddings: bool = False
    """Train embeddings and head too, as the paper's code does. A direction holds linear layers alone, so this is refused."""
    report_to: tuple[str, ...] = ()
    """Trackers that are told the losses: trackio, wandb, mlflow, tensorboard."""

    def __post_init__(self):
        refuse_outside(self, times=at_least(1), keep_every=at_least(0))


@dataclass(frozen=True, eq=False)
class Tuned(VerbResult):
    """A fine-tune and its direction."""

    plan: TaskPlan
    tuned: FineTune
    training: Record
    direction: Record

    def as_json(self) -> Mapping[str, object]:
        facts = {k: self.direction.manifest[k] for k in ("norm", "bytes", "content")}
        return {
            "run": self.plan.run_folder.name,
            "folder": str(self.plan.run_folder.resolve()),
            "report": dict(self.tuned.report),
            "direction": {"file": str((self.direction.folder / "direction.safetensors").resolve()), **facts},
            "checkpoints": [str(f.resolve()) for f in self._checkpoints],
        }

    def show(self, screen: Screen) -> None:
        r, first = self.tuned.report, self.tuned.report["tried"][0].get("history", [{}])[0]
        before = f" from {first['val_task']:.3f}" if "val_task" in first else ""
        word = "last" if self.plan.train.stop == "none" else "best"
        joint = f", {share(r['joint_share'])} of them joint" if self.plan.joint else ""
        screen.show(
            f"{screen.text(self.plan.task.name)}, {self.plan.train.adapter}: {r['n_train']} rows a pass{joint}, {r['n_val']} for "
            f"validation; lr {r['lr']:g}, {word} at step {r['step']}, validation loss {r['val_task']:.3f}{before}; "
            f"|tau| {self.direction.manifest['norm']:.3g}"
        )
        if r["n_dropped"] or r["n_truncated"]:
            screen.show(
                f"{r['n_dropped']} of {r['n_rows']} rows left out, {r['n_truncated']} cut at {self.plan.train.max_len} tokens"
            )
        if self._checkpoints:
            screen.show(
                f"{len(self._checkpoints)} checkpoints, each a direction of its own: {self._checkpoints[0].resolve()}"
            )
        for note in r["notes"]:
            screen.show(f"note: {screen.text(note)}")
        screen.show(str(self.plan.run_folder.resolve()))
        name = words_of(self.plan.run_folder, self.plan.out)
        screen.next(["chat", *name], ["generate", f"--onto={name[0]}", *name[1:]])

    @property
    def _checkpoints(self) -> Sequence[Path]:
        return [self.training.folder / "checkpoints" / f"step-{n}" for n in self.tuned.report["checkpoints"]]


@verb(Learnt, Common, TrainSettings, unlisted=("behavior", "pairs", "init", "freeze_a", "test_share"))
def finetune(options: Options) -> VerbResult:
    """One adapter on one data set."""
    common, learnt = rooted(options, options.of(Common)), options.of(Learnt)
    # 1. everything that can be refused is refused before a model is loaded
    if learnt.data is None:
        raise ValueError(f"`data` says what is learnt: {FORMS}")
    if options.has("behavior", "pairs"):
        raise ValueError("a fine-tune learns what `data` names; one side of a behavior is `data=honesty:pos`")
    if learnt.train_embeddings:
        raise Unsupported(
            "a direction holds changes of linear layers inside the blocks, so embeddings and head are not trained; leave out "
            "`train_embeddings`."
        )
    refuse_missing(learnt.report_to)
    how = options.typed(TrainSettings)
    refuse_settings(how)
    refuse_task(TrainSettings(**how), times=learnt.times, keep_every=learnt.keep_every, joint=learnt.joint is not None)
    refuse_place_to_work(common)
    for name in learnt.opt_in:
        set_of(name)
    learning = Learning(learnt.data, learnt.joint, learnt.times, learnt.keep_every, learnt.name).read(
        prompt=learnt.prompt,
        response=learnt.response,
        messages=learnt.messages,
        opt_in=learnt.opt_in,
        twin=common.model == "tiny",
    )
    # 2. the training, and its direction
    base = load_base(common)
    adapter = str(how.get("adapter", TrainSettings().adapter))
    train = of_preset(default_task(base, adapter), preset(common.preset, "train", family(adapter).name))
    train = replace(train, **how)
    spec_of(base, train)

    plan = learning.plan(base, train, common, command=shlex.join(["ws", *_without_paths(options.words)]))
    tuned, training = make_task(plan, report_to=learnt.report_to)
    say_stage("train", training)
    _, direction = make_task_direction(plan, tuned)
    say_stage("diff", direction)
    return Tuned(plan, tuned, training, direction)


def _without_paths(words: Sequence[str]) -> list[str]:
    """The words of a command, files by their names alone: a card goes where its file goes."""
    parts = [word.rpartition("=") for word in words]
    return [
        flag + equals + (Path(value).name if "/" in value and Path(value).exists() else value)
        for flag, equals, value in parts
    ]
