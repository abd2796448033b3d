"""What the verbs of a study share: their settings, and its stages, each reported when it is done."""

from dataclasses import dataclass, fields, replace
from typing import TypeVar

import typer

from ws.cli.fields import with_flags
from ws.cli.options import Declared, Options
from ws.cli.screen import say, say_stage
from ws.data import DataSettings
from ws.diff.lookup import NamedDirection
from ws.direction import Direction
from ws.pairs import Pairs
from ws.records import Record
from ws.replicate import say_of_pairs
from ws.steer import distinct_strengths
from ws.study.options import Common, Judged, Loading, Served
from ws.study.plan import Plan
from ws.study.planning import fold_of
from ws.study.runs import runs
from ws.study.stages import make_direction, make_pairs, make_sides
from ws.train import TrainSettings

L = TypeVar("L", bound=Loading)

MAKING = (DataSettings, TrainSettings, Served)
"""How pairs and adapters are made."""
STUDY = (Common, *MAKING, Judged)

ADAPTER: Declared = (str | None, typer.Option("--adapter", help="Adapter family of the study."))
SEED: Declared = (
    int | None,
    typer.Option("--seed", help="Seed of the study, and of sampling where the temperature is above 0."),
)


@dataclass(frozen=True)
class Dialed:
    """How far the dial is turned."""

    alphas: tuple[float, ...] = (-1.0, -0.5, 0.0, 0.5, 1.0)
    """Strengths to measure, e.g. --alphas=-1,0,1."""

    def __post_init__(self):
        if not self.alphas:
            raise ValueError("`alphas` needs at least one number, e.g. `alphas=-1,0,1`")
        distinct_strengths(self.alphas)


def rooted(options: Options, loading: L) -> L:
    """How a model is loaded; one that nobody named is the one that what is folded into it was made on."""
    if not loading.onto or options.has("model"):
        return loading
    place = fold_of(loading.onto[0], options.text("out") or "out").place
    return replace(loading, model=place.base_model())


def made_on(loading: L, place: NamedDirection, *, origin: str | None = None) -> L:
    """How the model that a direction was made on is loaded, quantised as it was then; or its `origin`, where that is named."""
    if origin is not None:
        return replace(loading, model=origin)
    return replace(loading, model=place.base_model(), quantize=loading.quantize or place.quantize())


def say_pairs(pairs: Pairs, record: Record) -> None:
    """The pairs of a study that are done, and what may keep a direction from being learnt from them."""
    say_stage("data", record)
    say_of_pairs(pairs, say_study)


def say_study(line: str) -> None:
    """A line of progress of the library, its fields as flags."""
    say(with_flags(line, {f.name for settings in MAKING for f in fields(settings)}))


def pairs_and_direction(plan: Plan) -> tuple[Pairs, Direction]:
    """The pairs and the direction of a study, with every stage before it."""
    _say_namesake(plan)
    pairs, record = make_pairs(plan)
    say_pairs(pairs, record)
    sides, record = make_sides(plan, pairs)
    say_stage("train", record)
    direction, record = make_direction(plan, sides)
    say_stage("diff", record)
    return pairs, direction


def _say_namesake(plan: Plan) -> None:
    """Name a run of the same behavior, adapter, model and seed that other options made, before hours go into one more."""
    if plan.train_place.manifest is not None:
        return
    name = {"behavior": plan.name, "adapter": plan.train.adapter, "model": plan.base.id, "seed": plan.train.seed}
    if there := [r["run"] for r in runs(plan.out) if r.items() >= name.items()]:
        say(
            f"note: {there[0]} was made with other options than these, so another direction is made now; "
            "name that run, in the place of its behavior and adapter, to measure what is there"
        )
