"""What `ws eval` measures: a run, a file, a method by name, a study whose direction is made now, or the model alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ws import methods
from ws.cli.options import Options
from ws.cli.study import made_on, pairs_and_direction
from ws.diff import lookup, run_with
from ws.direction import Direction
from ws.eval import Evaluation
from ws.eval.questions import RunPairs
from ws.methods import Method
from ws.methods.file import is_method
from ws.models import Base
from ws.records import find_run, slug
from ws.settings import at_least, refuse_outside
from ws.study import evaluations
from ws.study.evaluations import name_and_seed
from ws.study.options import Common
from ws.study.plan import Plan
from ws.study.planning import load_base, plan_of
from ws.study.runs import behavior_of
from ws.study.stages import make_pairs, material, method_folder, pairs_of


@dataclass(frozen=True)
class Evaluated:
    """What an evaluation is run on."""

    method: str | None = None
    """A method by name, made from --behavior: ws:lora, repe, sl:mean_diff, paper:all, prompt:simple, random:act:0, vectors:FILE."""
    data: str | None = None
    """A data file (csv, jsonl, json, parquet) instead of the hub's or the embedded one."""
    protocol: str | None = None
    """Protocol id, where an evaluation has several; airisk takes any value class, e.g. airisk-care/1."""
    n_think: int | None = None
    """Tokens of thought before the answer, instead of the protocol's own number; the id then says so."""
    judge: str | None = None
    """Who judges written answers where no exact rule does: URL#MODEL, or a model by name; rules that come near when not given."""
    axis: str | None = None
    """foundations: trad_care, authority or care_auth; the axis that the behavior claims when not given."""
    limit: int | None = None
    """Only the first so many units; the table says SMOKE."""
    tasks: tuple[str, ...] = ()
    """lm-eval only: tasks of lm-evaluation-harness, e.g. --tasks=arc_easy,winogrande."""
    include_path: str | None = None
    """lm-eval only: a folder with your own task files."""
    origin: str | None = None
    """The base the direction was made on, when the model is a fine-tune of it, or it quantised."""

    def __post_init__(self):
        refuse_outside(self, n_think=at_least(0), limit=at_least(1))


@dataclass(frozen=True, eq=False)
class BehaviorSubject(evaluations.Subject):
    """What is measured, and the behavior it is about."""

    behavior: str | None = None

    def strengths(self, alphas: Sequence[float], *, typed: bool) -> Sequence[float]:
        """The strengths to measure; a method that is there or not has only three, and needs no list of them."""
        graded = self.by is None or getattr(self.by, "graded", True)
        return alphas if graded or typed else (-1.0, 0.0, 1.0)


@dataclass(frozen=True, eq=False)
class EvalRequest:
    """An evaluation as it was asked for."""

    evaluation: Evaluation
    common: Common
    evaluated: Evaluated
    named: str | None
    """What was typed for a direction."""
    alphas: Sequence[float]
    options: Options

    def subject(self) -> BehaviorSubject:
        """What is measured, made now if it is not there."""
        if self.evaluated.method:
            return self._by_name(self.evaluated.method)
        if self.named:
            return self._by_place(self.named)
        if not any(self.alphas) and not self._asks_a_run:
            base = load_base(self.common)
            folder = Path(self.common.out) / "base" / slug(base.id)
            return BehaviorSubject(base, None, folder, behavior=self.common.behavior)
        plan = self._plan()
        self._can_be_asked(plan.base)  # what cannot be scored is said before hours of training
        pairs, direction = pairs_and_direction(plan)
        name = f"ws:{plan.train.adapter}"
        return BehaviorSubject(
            plan.base,
            direction,
            plan.run_folder,
            name,
            plan.train.seed,
            pairs=RunPairs(pairs, plan.train),
            behavior=plan.name,
        )

    def _plan(self) -> Plan:
        """The study that is measured, or whose material is; the `judge` is that of the evaluation, and keeps no pairs."""
        return plan_of(self.common, {k: v for k, v in self.options.values.items() if k != "judge"})

    def _by_name(self, name: str) -> BehaviorSubject:
        """Any method, made now from a study's material."""
        methods.check(name)
        plan = self._plan()
        self._can_be_asked(plan.base)
        method = methods.make(name, material(plan))
        return BehaviorSubject(
            plan.base,
            method,
            method_folder(plan, method),
            method.name,
            plan.seed,
            origin=self._origin(),
            pairs=RunPairs(make_pairs(plan)[0], plan.train) if self._asks_a_run else None,
            behavior=plan.name,
        )

    def _by_place(self, name: str) -> BehaviorSubject:
        """What lies somewhere, on the model it was made on unless another is named; that of a run is measured as the run's."""
        out = Path(self.common.out)
        place = lookup(name, out)
        common = self.common
        if not self.options.has("model") and not is_method(place.path):
            common = made_on(common, place, origin=self.evaluated.origin)
        base = load_base(common)
        by = methods.load_named(name, self._origin() or base, out=out)
        run = place.run or (run_with(by, out) if isinstance(by, Direction) else None)
        if run is None:
            return self._steered(base, by, out / "direct" / by.content_hash[:12], self.common.behavior)
        folder, manifest = find_run(str(run), out)
        self._refuse_another_study(name, folder, manifest)
        pairs = pairs_of(manifest, out) if self._asks_a_run else None
        return self._steered(base, by, folder, self.common.behavior or behavior_of(folder), pairs)

    def _steered(
        self,
        base: Base,
        by: Direction | Method,
        folder: Path,
        behavior: str | None,
        pairs: RunPairs | None = None,
    ) -> BehaviorSubject:
        return BehaviorSubject(base, by, folder, *name_and_seed(by), self._origin(), pairs, behavior)

    def _origin(self) -> Base | None:
        origin = self.evaluated.origin
        return load_base(replace(self.common, model=origin, quantize=None)) if origin else None

    def _can_be_asked(self, base: Base) -> None:
        """Refuse questions that cannot be asked; those of a run are there when it is."""
        if not self._asks_a_run:
            self.evaluation.questions(base).check()

    @property
    def _asks_a_run(self) -> bool:
        return self.evaluation.chosen.of_run

    def _refuse_another_study(self, run: str, folder: Path, manifest: Mapping[str, Any]) -> None:
        """Refuse flags that describe another study than the run is."""
        own = {"behavior": behavior_of(folder), **manifest["settings"]}
        for name, value in self.options.only("behavior", "adapter", "seed").items():
            if str(value) != str(own.get(name)):
                raise ValueError(f"--{name} {value} is not what {run} was made with ({own.get(name)}); leave it out")
