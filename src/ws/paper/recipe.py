"""What a recipe is: a question of the paper as a value, with its arms, what is measured, and the claims to be decided.

A recipe runs nothing by itself. `plan` says what would be done and `run` composes stages that the other verbs make too, so
that what they have made is found again here, and the other way round.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from ws.errors import BadFile, Unsupported
from ws.eval import Evaluation, protocol, refuse_unjudged
from ws.grid.run import Runner, Tell, serially
from ws.models.load import Base
from ws.paper.panels import Panel
from ws.paper.request import RecipeRequest
from ws.results.sheet import Sheet
from ws.stats.frontier import DELTA
from ws.study.options import Common
from ws.types import Fields, Json

Say = Callable[[str], None]


@dataclass(frozen=True)
class Need:
    """Data that a recipe cannot do without on a model of the hub."""

    name: str
    about: str
    """What it is, and how large."""
    supply: str
    """How to get it, as one sentence."""
    opt_in: bool = False
    """Whether a person has to ask for it by name, because its texts are harmful."""
    file: str = ""
    """The name under which `data` has to name its file, where it lies nowhere else."""
    arms: tuple[str, ...] = ()
    """The arms that need it; the whole recipe where none is named."""

    def missing(self, request: RecipeRequest) -> bool:
        """Whether a person has still to ask for it, or to name its file."""
        if self.arms and request.arms and not set(self.arms) & set(request.arms):
            return False
        unasked = self.opt_in and self.name not in request.opt_in
        return unasked or (bool(self.file) and self.file not in request.files)


@dataclass(frozen=True)
class Arm:
    """One way of steering as the paper names it; its methods make one curve."""

    name: str
    methods: tuple[str, ...]
    """As `ws compare` names them. Several are steps on one way, the last the furthest: checkpoints of a fine-tune."""
    raw: tuple[float, ...] = (-1.0, 1.0)
    """Strengths that are measured as they are."""
    graded: bool = True
    """Whether it has a strength of every KL; a prompt is there or not."""
    options: Fields = field(default_factory=dict)
    """How its pairs and adapters are made, where this arm differs from the others."""
    lr: float | None = None
    """The learning rate, where arms differ in it."""
    behavior: str = ""
    """Whose pairs it is learnt from, where not from the recipe's."""
    turned: bool = False
    """Whether its dial is read the other way: what it does below 0 is set against what others do above."""


@dataclass(frozen=True)
class Measure:
    """A number of an evaluation: what a recipe looks at."""

    evaluation: str
    """NAME, or NAME@PROTOCOL."""
    metric: str
    label: str
    """What a larger number means, for an axis."""
    toward: int = 1
    """The side of the dial that is meant to raise it; 0 for a capability, which nothing should move."""
    unit: str = "share"
    """share (printed in percent, differences in points of 100), points of 100, or another unit."""

    @property
    def delta(self) -> float:
        """How much of a capability may be lost: 5 points."""
        return 100 * DELTA if self.unit == "points" else DELTA

    data: str | None = None
    """The file with its questions, where it is not the evaluation's own."""

    @property
    def protocol(self) -> str:
        """The protocol id, by which its rows are found."""
        name, _, chosen = self.evaluation.partition("@")
        return protocol(name, chosen or None).id

    def evaluated(self, request: RecipeRequest) -> Evaluation:
        """The evaluation it is a number of, of the file and by the judge that a person named."""
        name = self.evaluation.partition("@")[0]
        asked = request.answered(protocol(name, self.protocol))
        judge = request.judge if asked.judgeable else None
        refuse_unjudged(asked, judge)
        return Evaluation(name, asked.id, data=request.files.get(name, self.data), limit=request.limit, judge=judge)

    @property
    def name(self) -> str:
        return f"{self.protocol} {self.metric}"


@dataclass(frozen=True, eq=False)
class Job:
    """What a recipe runs with: a loaded model, what a person asked for, and who does the work."""

    base: Base
    common: Common
    request: RecipeRequest
    options: Fields = field(default_factory=dict)
    """How pairs and adapters are made, as it was typed."""
    run: Runner = serially
    tell: Tell = lambda event: None
    say: Say = lambda line: None
    command: str = ""
    """What a person would type for the same again."""

    def __post_init__(self):
        if not self.base.has_template:
            raise Unsupported(
                f"a recipe asks its questions in a chat, and {self.base.id} has no chat template; take a model that has one."
            )

    @property
    def out(self) -> Path:
        return Path(self.common.out)


@dataclass(frozen=True, repr=False)
class Outcome:
    """What a recipe left: tables, the last of which is its scorecard, pictures, and what none of them says."""

    recipe: str
    folder: Path
    sheets: tuple[Sheet, ...]
    verdicts: tuple[Json, ...]
    """One record per claim: sentence, by, verdict, value, low, high, n, why."""
    panels: tuple[Panel, ...]
    pictures: tuple[Path, ...]
    """The panels as files."""
    notes: tuple[str, ...]
    failed: Mapping[str, str]
    """What could not be made, and why."""
    reused: bool

    def __repr__(self) -> str:
        scorecard = self.sheets[-1]
        return f"{scorecard.title}\n{scorecard.markdown()}\n{self.recipe}, in {self.folder}"

    def as_json(self) -> Json:
        """All of it: absolute paths, NaN as None."""
        return {
            "recipe": self.recipe,
            "folder": str(self.folder.resolve()),
            "claims": list(self.verdicts),
            "tables": [{"title": s.title, "rows": s.records, "readings": s.readings} for s in self.sheets],
            "pictures": [str(p.resolve()) for p in self.pictures],
            "notes": list(self.notes),
            "failed": dict(self.failed),
        }


@dataclass(frozen=True)
class Planned:
    """What a recipe would do, known before a model is loaded."""

    lines: tuple[str, ...]
    """A sentence each: arms, strengths, evaluations, trainings."""
    numbers: Json
    """The same for programs."""
    missing: tuple[Need, ...] = ()
    """Data that is to be supplied first."""


@dataclass(frozen=True)
class Part:
    """Stages of a recipe that one worker makes."""

    name: str
    make: Callable[[], object] = field(compare=False)
    needs: tuple[str, ...] = ()
    """Parts that are made before."""


@dataclass(frozen=True)
class Recipe(ABC):
    """One experiment of the paper."""

    name: str
    section: str
    """Where the paper's experiments are described: 4.1 to 4.12 of the specification."""
    figures: str
    question: str
    model: str
    """The paper's model."""
    needs: tuple[Need, ...] = ()

    learns_tasks: ClassVar[bool] = False
    """Whether fine-tunes of a task are among what it makes."""
    repeats: ClassVar[bool] = True
    """Whether it is made again with every seed."""

    @property
    def asks(self) -> Sequence[str]:
        """The evaluations that it is measured by: NAME, or NAME@PROTOCOL."""
        return ()

    @property
    def reads(self) -> Sequence[str]:
        """The names under which it takes a file in the place of questions, data sets or a behavior."""
        return [*(name.partition("@")[0] for name in self.asks), *(n.file for n in self.needs if n.file)]

    @abstractmethod
    def on(self, model: str) -> "Recipe":
        """The recipe as it is run on a model: on `tiny` its harmless twin."""

    @abstractmethod
    def plan(self, request: RecipeRequest, common: Common) -> Planned:
        """What would be done; refuses what cannot be."""

    @abstractmethod
    def run(self, job: Job) -> Outcome:
        """Do it, from what is there already."""

    def parts(self, job: Job) -> Sequence[Part]:
        """What workers may make at the same time before the recipe is run, which then finds it."""
        return ()

    def missing(self, request: RecipeRequest, model: str) -> tuple[Need, ...]:
        """The data that a person has still to supply for this model."""
        return () if model == "tiny" else tuple(n for n in self.needs if n.missing(request))


def refuse_idle(recipes: Sequence[Recipe], request: RecipeRequest) -> None:
    """Refuse options that none of these recipes takes, and files under names that none of them reads."""
    protocols = [protocol(name.partition("@")[0], name.partition("@")[2] or None) for r in recipes for name in r.asks]
    written = [p for p in protocols if p.n_write]
    who = ", ".join(r.name for r in recipes)
    several = request.seeds if len(request.seeds) > 1 else None
    options = {
        "limit": (request.limit, protocols, "asks no questions"),
        "answer_tokens": (request.answer_tokens, written, "writes no answers"),
        "temperature": (request.temperature, written, "writes no answers"),
        "judge": (request.judge, [p for p in protocols if p.judgeable], "has nothing for a judge to decide"),
        "task_rows": (request.task_rows, [r for r in recipes if r.learns_tasks], "learns no task"),
        "seeds": (several, [r for r in recipes if r.repeats], "is made with one seed"),
    }
    for name, (value, takers, why) in options.items():
        if value is not None and not takers:
            raise ValueError(f"`{name}` does nothing for {who}, which {why}; leave it out")
    known = sorted({name for r in recipes for name in r.reads})
    for name, file in request.files.items():
        if name not in known:
            there = f"it reads {', '.join(known)}" if known else "it reads none"
            raise ValueError(f"{who} reads no file as {name!r}; {there}")
        if not Path(file).exists():
            raise BadFile(f"there is no data file at {file}.")
        for p in protocols:  # what cannot be asked is refused before anything is trained
            if p.eval == name:
                p.read(file)


def arms_named(arms: Sequence[Arm], names: Sequence[str]) -> tuple[Arm, ...]:
    """The arms that are asked for by name, in the recipe's order; all of them where none is named."""
    chosen = named([a.name for a in arms], names)
    return tuple(a for a in arms if a.name in chosen)


def named(known: Iterable[str], names: Sequence[str]) -> list[str]:
    """Of what is known by name what is asked for, in the order in which it is known; all of it where no name is asked for."""
    known = list(known)
    if odd := [n for n in names if n not in known]:
        raise ValueError(f"there is no arm {odd[0]!r} in this recipe; there are {', '.join(known)}")
    return [n for n in known if not names or n in names]
