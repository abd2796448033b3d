"""A fine-tune on a data set as a run: made once, found again by its key, and its direction beside it.

plan = TaskPlan(base, task, settings, out=Path("out"))
record = make_task(plan)                   # out/gcd/lora/tiny-s0-1a2b3c4d/train
tau, record = make_task_direction(plan)    # ... /direction/direction.safetensors
"""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

from ws.adapters import load_adapter, save_adapter
from ws.behaviors import names as behavior_names
from ws.behaviors.dataset import HUB
from ws.diff import diff
from ws.direction import Direction
from ws.direction import load as load_direction
from ws.errors import BadFile
from ws.models.load import Base
from ws.records import Place, Record, slug
from ws.sets import SETS, load_set
from ws.sources import from_hub, records
from ws.study.keys import base_key, beside
from ws.study.options import Common
from ws.study.plan import training_place
from ws.study.planning import plan_of
from ws.study.stages import checkpoint_name, make_pairs
from ws.train.settings import TrainSettings
from ws.train.task import PROTOCOL, SIDE, FineTune, Task, finetune, task_of, task_of_pairs
from ws.train.tracking import UNTRACKED, Tracking
from ws.types import Json

DIRECTION = "direction.safetensors"
FORMS = "a file, a hub data set as org/name#config/split, a set of the paper as gcd#train_instr_q, or one side of a behavior as honesty:pos"


@dataclass(frozen=True, eq=False)
class TaskPlan:
    """One fine-tune: a base, what it learns, and how."""

    base: Base
    task: Task
    train: TrainSettings
    joint: Task | None = None
    times: int = 1
    keep_every: int = 0
    out: Path = Path("out")
    command: str = ""

    @property
    def run_folder(self) -> Path:
        """Where training, direction and evaluations lie."""
        return self.train_place.folder.parent

    @cached_property
    def train_place(self) -> Place:
        """Where the trained adapter lies, in the run's folder."""
        joint = None if self.joint is None else {"content": self.joint.content_hash, "times": self.times}
        inputs = {
            **base_key(self.base),
            "task": self.task.content_hash,
            "joint": joint,
            "keep_every": self.keep_every,
            "protocol": PROTOCOL,
        }
        return training_place(self.out, slug(self.task.name), self.base.id, asdict(self.train), inputs)

    @cached_property
    def direction_place(self) -> Place:
        """Where the direction lies, in the run's folder."""
        inputs = {"train": self.train_place.key, **base_key(self.base)}
        return Place("direction", self.run_folder / "direction", {"mode": "tau+"}, inputs)


def make_task(plan: TaskPlan, *, report_to: Sequence[str] = ()) -> tuple[FineTune, Record]:
    """The trained adapter, made once; a killed training goes on from where it was."""

    def make(work: Path) -> Json:
        own = {"model": plan.base.id, "behavior": plan.task.name, "run": plan.run_folder.name}
        tracking = Tracking(report_to, plan.run_folder / "tracking", own) if report_to else UNTRACKED
        tuned = finetune(
            plan.base,
            plan.task,
            plan.train,
            joint=plan.joint,
            times=plan.times,
            keep_every=plan.keep_every,
            work=work,
            tracking=tracking,
        )
        save_adapter(tuned.adapter, work / SIDE, plan.base)
        for step, adapter in tuned.checkpoints:
            save_adapter(adapter, work / checkpoint_name(step), plan.base)
        tasks = [{"name": t.name, "source": t.source, "rows": len(t.rows)} for t in (plan.task, plan.joint) if t]
        return {"report": dict(tuned.report), "base": plan.base.described(), "tasks": tasks}

    record = plan.train_place.once(make, beside=beside(plan.base))
    report, folder = record.manifest["report"], record.folder
    on_the_way = tuple((step, load_adapter(folder / checkpoint_name(step))) for step in report["checkpoints"])
    return FineTune(load_adapter(folder / SIDE), report, on_the_way), record


def make_task_direction(plan: TaskPlan, tuned: FineTune) -> tuple[Direction, Record]:
    """`theta_ft - theta`, made once."""

    def make(work: Path) -> Json:
        file = work / DIRECTION
        card = {"task": plan.task.name, **({"command": plan.command} if plan.command else {})}
        change = diff(plan.base, tuned.adapter, tuned.adapter, mode="tau+", into=file, card=card)
        return {"content": change.content_hash, "norm": change.norm(plan.base.weight), "bytes": file.stat().st_size}

    record = plan.direction_place.once(make, beside=beside(plan.base))
    direction = load_direction(record.folder / DIRECTION)
    if record.manifest["content"] not in direction.content_hashes:
        raise BadFile(f"{record.folder}/{DIRECTION} is not what was written there; move the folder away and run again.")
    return direction, record


@dataclass(frozen=True)
class Learning:
    """What a fine-tune learns as it was asked for: data sets, or the texts that name them."""

    data: Task | str
    joint: Task | str | None = None
    times: int = 1
    keep_every: int = 0
    name: str | None = None

    def read(
        self,
        *,
        prompt: str | None = None,
        response: str | None = None,
        messages: str | None = None,
        opt_in: Collection[str] = (),
        twin: bool = False,
    ) -> "Learning":
        """The same with everything read that needs no model; the columns are those of `data`.

        `twin` takes for a set of the paper what the world of `tiny` has in its place.
        """
        columns = {"prompt": prompt, "response": response, "messages": messages}
        data = self.data if _waits(self.data) else read_task(str(self.data), opt_in=opt_in, twin=twin, **columns)
        joint = self.joint if _waits(self.joint) else read_task(str(self.joint), opt_in=opt_in, twin=twin)
        return replace(self, data=data, joint=joint)

    def plan(self, base: Base, train: TrainSettings, common: Common, *, command: str = "") -> TaskPlan:
        """The fine-tune of a base; one side of a behavior is generated now where it is not there."""
        data, joint = (read_side(t, common, base) if isinstance(t, str) else t for t in (self.data, self.joint))
        assert data is not None
        named = data if self.name is None else replace(data, name=self.name)
        return TaskPlan(base, named, train, joint, self.times, self.keep_every, Path(common.out), command)


def _waits(part: Task | str | None) -> bool:
    """Whether nothing is to be read of it yet."""
    return not isinstance(part, str) or is_side(part)


def is_side(text: str) -> bool:
    """True for BEHAVIOR:pos and BEHAVIOR:neg, whose answers need the model where personas give them."""
    name, _, side = text.rpartition(":")
    return side in ("pos", "neg") and (name in behavior_names() or name.endswith((".yaml", ".yml")))


def read_task(
    text: str,
    *,
    prompt: str | None = None,
    response: str | None = None,
    messages: str | None = None,
    opt_in: Collection[str] = (),
    twin: bool = False,
) -> Task:
    """The task that a text names, without a model; see FORMS. `twin` is for `tiny`."""
    columns = {"prompt": prompt, "response": response, "messages": messages}
    if (hub := HUB.fullmatch(text)) is not None:
        dataset, revision, config, split = hub.groups()
        return task_of(from_hub(dataset, config, split, (), revision=revision), dataset.rpartition("/")[2], **columns)
    name, _, split = text.partition("#")
    if name in SETS:
        return task_of(
            load_set(name, split or None, opt_in=opt_in, twin=twin),
            slug(f"{name}-{split}" if split else name),
            **columns,
        )
    if not Path(text).expanduser().is_file():
        raise BadFile(f"{text!r} names no data to learn from: give {FORMS}.")
    return task_of(records(Path(text).expanduser(), ()), Path(text).stem, **columns)


def read_side(text: str, common: Common, base: Base) -> Task:
    """The answers of one side of a behavior, which are generated where they are not there."""
    name, _, side = text.rpartition(":")
    plan = plan_of(replace(common, behavior=name, pairs=None), {}, base)
    return task_of_pairs(make_pairs(plan)[0], plan.name, side)
