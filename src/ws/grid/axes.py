"""Which cells a grid has: every combination of its axes, checked before anything runs."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import product
from typing import Any

from ws.adapters import USUAL, family, small
from ws.behaviors import load_behavior
from ws.calibrate import CalibrateSettings
from ws.data import DataSettings
from ws.grid.cells import Cell
from ws.models.locate import locate, refuse_nowhere
from ws.presets import preset
from ws.records import key_of, slug
from ws.replicate import ALPHAS, steering
from ws.settings import above, at_least, coerced, refuse_outside, value_of
from ws.study.asked import evaluations_named, named_files, refuse_unmeasured, usual
from ws.study.options import Common, Served
from ws.study.planning import endpoint_of, served_by
from ws.train import TrainSettings
from ws.types import Fields

ONE = {"models": "model", "behaviors": "behavior", "adapters": "adapter", "seeds": "seed", "lrs": "lr"}
"""Axes, and the option that gives one value of each."""
FURTHER = (0.7,)
"""Parts of the first seed's calibrated strengths that are measured too. KL grows with about the sixth power: 0.7 is a tenth."""


@dataclass(frozen=True)
class Swept:
    """What a sweep varies, and how it is run."""

    models: tuple[str, ...] = ()
    """Models, e.g. --models tiny,Qwen/Qwen3-0.6B; --model when not given."""
    behaviors: tuple[str, ...] = ()
    """Behaviors, e.g. --behaviors honesty,sycophancy; --behavior when not given."""
    adapters: tuple[str, ...] = ()
    """Adapter families, e.g. --adapters lora,dora, or all; --adapter when not given."""
    seeds: tuple[int, ...] = ()
    """Seeds, e.g. --seeds 0,1,2; --seed when not given."""
    lrs: tuple[float, ...] = ()
    """Learning rates, a study for each; when not given, every study has its family's own, or chooses one of --lr."""
    evals: tuple[str, ...] = ()
    """Evaluations; what each behavior claims to change, held-out pairs and the cost when not given."""
    data: tuple[str, ...] = ()
    """Data files of evaluations: NAME=FILE, separated by commas."""
    limit: int | None = None
    """Only the first so many units of every evaluation but held-out pairs; the tables say SMOKE."""
    budget: float | None = None
    """Nats: calibrate every direction to this KL, and evaluate at the strengths found instead of --alphas."""
    name: str | None = None
    """What the sweep is called; made from the grid when not given."""

    def __post_init__(self):
        refuse_outside(self, seeds=at_least(0), lrs=above(0, 10), limit=at_least(1))
        named_files(self.data)


@dataclass(frozen=True, eq=False)
class Grid:
    """A checked sweep: its cells, and what they share."""

    cells: tuple[Cell, ...]
    common: Common
    budget: float | None
    described: Fields
    """The grid as JSON, and what its name is made from; of a server, its model and not where it is."""
    name: str
    notes: tuple[str, ...] = ()

    @property
    def threads(self) -> int:
        """CPU threads of a worker: those the single verbs would take, whatever the number of workers."""
        return max(c.common.threads or 1 for c in self.cells)

    @property
    def device(self) -> str:
        """Where workers stand: `tiny` wants no GPU."""
        return (
            "cpu" if self.common.device == "auto" and {c.model for c in self.cells} == {"tiny"} else self.common.device
        )

    @property
    def spread(self) -> bool:
        """Whether a model has every device, so that there is one worker."""
        return self.common.device_map is not None


def grid_of(options: Fields, *, threads: int) -> Grid:
    """The sweep that options describe together. `threads` is what a model other than `tiny` takes by itself.

    Unknown names, empty axes, cells that stand there twice and values no cell can have are refused here.
    """
    common = Common(**coerced(Common, options))
    swept = Swept(**coerced(Swept, options))
    preset(common.preset, "data")
    axes = {many: _axis(many, one, options, swept) for many, one in ONE.items()}
    if axes["adapters"] == ("all",):
        axes["adapters"] = small()
    if common.pairs and len(axes["behaviors"]) > 1:
        raise ValueError("`pairs` are the pairs of one behavior; give one `behavior`, or none, with it")
    if axes["behaviors"] == (None,) and not common.pairs:
        axes["behaviors"] = ("honesty",)
    _known(axes, common)
    names = {f.name for cls in (DataSettings, TrainSettings) for f in fields(cls)}
    shared = {k: v for k, v in options.items() if k in names and k not in ("adapter", "seed")}
    if swept.lrs:  # one study for each rate; `lr` alone is a choice within every study
        shared.pop("lr", None)
    alphas, calibrate = _strengths(options, common, swept)
    endpoint = endpoint_of(Served(**coerced(Served, options)), common)
    files = named_files(swept.data)
    cells = []
    for model, behavior in product(axes["models"], axes["behaviors"]):
        own = load_behavior(behavior, tiny=model == "tiny") if behavior else None
        study = replace(
            common, model=model, behavior=behavior, threads=common.threads or (1 if model == "tiny" else threads)
        )
        protocols = preset(common.preset, "protocol")
        words = swept.evals or tuple(usual(own))
        asked = {word.partition("@")[0] for word in words}
        data = {name: file for name, file in files.items() if name in asked}  # each behavior asks its own
        evals = evaluations_named(own, words, protocols=protocols, data=data, limit=swept.limit)
        for seed, adapter, rate in product(axes["seeds"], axes["adapters"], axes["lrs"] if swept.lrs else (None,)):
            training = {**shared, **({} if rate is None else {"lr": [rate]}), **served_by(endpoint)}
            cell = Cell(study, f"ws:{adapter}", seed, training, evals, alphas, calibrate, lr=rate, study=True)
            cells.append(replace(cell, fractions=further(cell, axes["seeds"])))
    refuse_unmeasured(files, [e.name for cell in cells for e in cell.evals])
    for cell in cells:  # what the settings themselves refuse
        DataSettings(**coerced(DataSettings, cell.plan_options))
        TrainSettings(**coerced(TrainSettings, cell.plan_options))
    described = {
        **({} if endpoint is None else {"endpoint": endpoint.described()}),
        "cells": [c.name for c in cells],
        "shared": dict(shared),
        "evals": list(swept.evals),
        "alphas": list(value_of(tuple[float, ...], options.get("alphas", ALPHAS), "`alphas`")),
        "budget": swept.budget,
        **({} if swept.limit is None else {"limit": swept.limit}),
        **({"data": list(swept.data)} if swept.data else {}),
        "common": {
            **{k: getattr(common, k) for k in ("preset", "pairs", "dtype", "device", "threads")},
            **({} if common.quantize is None else {"quantize": common.quantize}),
        },
    }
    if swept.name is not None and slug(swept.name) != swept.name:
        raise ValueError(f"`name` is that of one folder, of letters, digits, - _ and . alone; got {swept.name!r}")
    name = swept.name or key_of("sweep", {}, described)[:12]
    return Grid(tuple(cells), common, swept.budget, described, name, tuple(_notes(axes["adapters"], shared)))


def refuse_unreachable(grid: Grid) -> None:
    """Refuse models of the hub that are neither there nor in the cache, each asked for once."""
    for model in dict.fromkeys(c.model for c in grid.cells):
        refuse_nowhere(model)


def further(cell: Cell, seeds: Sequence[int]) -> tuple[float, ...]:
    """The parts of its strengths that a cell is measured at too: for the first seed, and for no random direction."""
    return FURTHER if cell.calibrate is not None and cell.seed == seeds[0] and cell.needs.seed != "draw" else ()


def _strengths(options: Fields, common: Common, swept: Swept) -> tuple[tuple[float, ...], Fields | None]:
    """(strengths as they are, settings of the calibration): one of them holds something."""
    if swept.budget is not None:
        if "alphas" in options:
            raise ValueError("`budget` finds the strengths; leave out `alphas`, or `budget`")
        return (), asdict(
            CalibrateSettings(**{**preset(common.preset, "calibrate"), **coerced(CalibrateSettings, options)})
        )
    if lost := [f.name for f in fields(CalibrateSettings) if f.name in options]:
        raise ValueError(f"`{lost[0]}` says how strengths are sought; give a `budget` with it")
    alphas = value_of(tuple[float, ...], options.get("alphas", ALPHAS), "`alphas`")
    return tuple(steering(alphas)), None


def _axis(many: str, one: str, options: Fields, swept: Swept) -> tuple[Any, ...]:
    """The values of an axis: its own option, or the option for one value, or the default."""
    if many in options:
        if one in options and not (many == "lrs" and one == "lr"):
            raise ValueError(f"give `{one}` or `{many}`, not both")
        values = getattr(swept, many)
        if not values:
            raise ValueError(f"`{many}` is empty; name at least one, or leave it out")
        twice = [v for v, n in Counter(values).items() if n > 1]
        if twice:
            raise ValueError(f"`{many}` names {twice[0]!r} twice, which would be the same study twice")
        return values
    if many == "seeds":
        seed = coerced(TrainSettings, {"seed": options.get("seed", 0)})["seed"]
        return (seed,)
    defaults = {"models": "tiny", "behaviors": None, "adapters": USUAL, "lrs": None}
    return (options.get(one, defaults[many]),)


def _known(axes: Mapping[str, tuple[Any, ...]], common: Common) -> None:
    """Refuse names that mean nothing: models that can be none, behaviors, adapters."""
    for name in axes["adapters"]:
        if name == "all":
            raise ValueError("`adapters` all stands alone: it names every family")
        family(name)
    folders = [locate(m)[:2] for m in axes["models"]]  # whether it can be loaded is seen when it is
    if len({slug(name) for _, name in folders}) < len(folders):
        raise ValueError(f"two of the models {', '.join(map(str, axes['models']))} have one name; give one of them")
    names = []
    for behavior in axes["behaviors"]:
        if behavior is not None:
            for model in axes["models"]:
                pack = load_behavior(behavior, tiny=model == "tiny")
            names.append(pack.name)
    if twice := [n for n, k in Counter(names).items() if k > 1]:
        raise ValueError(f"two of the behaviors are both called {twice[0]!r}; rename one of them")


def _notes(adapters: tuple[str, ...], shared: Fields) -> list[str]:
    notes = []
    for option in shared:
        without = [a for a in adapters if family(a).lacks(option)]
        if without:
            if len(without) == len(adapters):
                raise ValueError(f"`{option}` means nothing to {', '.join(without)}; leave it out")
            notes.append(f"`{option}` means nothing to {', '.join(without)}, and is left out there")
    return notes
