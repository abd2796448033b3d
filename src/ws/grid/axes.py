"""Which studies a sweep is: every combination of its axes, checked before anything runs."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from itertools import product
from typing import Any

from ws.adapters import FAMILIES, USUAL, family, small
from ws.behaviors import load_behavior
from ws.calibrate import CalibrateSettings
from ws.data import DataSettings
from ws.endpoint import Endpoint
from ws.engine import check_engine
from ws.eval import names as evaluations
from ws.eval import protocol
from ws.models.locate import locate
from ws.presets import preset
from ws.records import key_of, slug
from ws.replicate import ALPHAS
from ws.settings import coerced, value_of
from ws.study.options import Common, Served
from ws.study.planning import endpoint_of, served_by
from ws.train import TrainSettings

ONE = {"models": "model", "behaviors": "behavior", "adapters": "adapter", "seeds": "seed", "lrs": "lr"}
"""Axes, and the option that gives one value of each."""


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
    budget: float | None = None
    """Nats: calibrate every direction to this KL, and evaluate at the strengths found instead of --alphas."""
    name: str | None = None
    """What the sweep is called; made from the grid when not given."""


@dataclass(frozen=True)
class Running:
    """Who does the work."""

    engine: str = "local"
    """local (worker processes on this machine) or ray."""
    address: str | None = None
    """A Ray cluster that runs already, e.g. auto or HOST:6379; one is started for this command when not given."""
    workers: int | None = None
    """Workers; one per GPU, or as many as the cores allow, when not given."""
    retries: int = 2
    """How often a study whose worker died is given to another one."""

    def check(self, grid: "Grid") -> None:
        """Refuse what cannot be, before anything runs."""
        check_engine(self.engine, workers=self.workers, address=self.address, retries=self.retries, spread=grid.spread)


@dataclass(frozen=True)
class Cell:
    """One study of a sweep."""

    model: str
    behavior: str | None
    adapter: str
    seed: int
    lr: float | None = None

    @property
    def name(self) -> str:
        """What it is called among the tasks of a sweep."""
        rate = f"/lr{self.lr:g}" if self.lr is not None else ""
        return f"cell/{self.model}/{self.behavior}/{self.adapter}/s{self.seed}{rate}"

    @property
    def label(self) -> str:
        """The same for a line in a log."""
        rate = f", lr {self.lr:g}" if self.lr is not None else ""
        return f"{self.behavior}, {self.adapter}, seed {self.seed}{rate}, {self.model}"


@dataclass(frozen=True, eq=False)
class Grid:
    """A checked sweep: its cells, and what they share."""

    cells: tuple[Cell, ...]
    common: Common
    shared: Mapping[str, Any]
    """Options of data and training that are the same in every cell, as they were given."""
    evals: tuple[str, ...]
    alphas: tuple[float, ...]
    budget: float | None
    threads: Mapping[str, int]
    """CPU threads by model: those the single verbs would take, whatever the number of workers."""
    name: str
    notes: tuple[str, ...] = ()
    endpoint: Endpoint | None = None
    """The server that writes the pairs of every cell, its model settled."""

    def options(self, cell: Cell) -> dict[str, Any]:
        """The options that the single verbs would be given for a cell; a server's address among them, so never written."""
        own: dict[str, Any] = {"adapter": cell.adapter, "seed": cell.seed}
        if cell.lr is not None:
            own["lr"] = [cell.lr]
        return {
            **{k: v for k, v in self.shared.items() if not family(cell.adapter).lacks(k)},
            **own,
            **served_by(self.endpoint),
        }

    def common_of(self, cell: Cell) -> dict[str, Any]:
        """What every verb understands, for a cell; the output folder from wherever a worker stands."""
        told = {f.name: getattr(self.common, f.name) for f in fields(Common)}
        return {**told, "model": cell.model, "behavior": cell.behavior, "threads": self.threads[cell.model]}

    @property
    def device(self) -> str:
        """Where workers stand: `tiny` wants no GPU."""
        return "cpu" if self.common.device == "auto" and set(self.threads) == {"tiny"} else self.common.device

    @property
    def spread(self) -> bool:
        """Whether a model has every device, so that there is one worker."""
        return self.common.device_map is not None

    @property
    def described(self) -> dict[str, Any]:
        """The grid as JSON, and what its name is made from; of a server, its model and not where it is."""
        served = {} if self.endpoint is None else {"endpoint": self.endpoint.described()}
        return {
            **served,
            "cells": [c.name for c in self.cells],
            "shared": dict(self.shared),
            "evals": list(self.evals),
            "alphas": list(self.alphas),
            "budget": self.budget,
            "common": {
                k: getattr(self.common, k) for k in ("preset", "pairs", "dtype", "device", "threads")
            },
        }  # fmt: skip


def grid_of(given: Mapping[str, Any], *, threads: int) -> Grid:
    """The sweep that options describe together. `threads` is what a model other than `tiny` takes by itself.

    Unknown names, empty axes, cells that stand there twice and values no cell can have are refused here.
    """
    common = Common(**coerced(Common, given))
    swept = Swept(**coerced(Swept, given))
    preset(common.preset, "data")
    axes = {many: _axis(many, one, given, swept) for many, one in ONE.items()}
    if axes["adapters"] == ("all",):
        axes["adapters"] = small()
    if common.pairs and len(axes["behaviors"]) > 1:
        raise ValueError("--pairs are the pairs of one behavior; give one --behavior, or none, with it")
    if axes["behaviors"] == (None,) and not common.pairs:
        axes["behaviors"] = ("honesty",)
    _known(axes, common)
    # one study for each rate; `--lr` alone is a choice within every study
    rates = axes["lrs"] if swept.lrs else (None,)
    cells = tuple(
        Cell(model, behavior, adapter, seed, rate)
        for model, behavior, seed, adapter, rate in product(
            axes["models"], axes["behaviors"], axes["seeds"], axes["adapters"], rates
        )
    )
    evals = _evals(swept.evals)
    settings = {f.name for cls in (DataSettings, TrainSettings) for f in fields(cls)}
    shared = {k: v for k, v in given.items() if k in settings and k not in ("adapter", "seed")}
    if swept.lrs:
        shared.pop("lr", None)
    if swept.budget is not None:
        if "alphas" in given:
            raise ValueError("--budget finds the strengths; leave out --alphas, or --budget")
        CalibrateSettings(budget=swept.budget)
    alphas = value_of(tuple[float, ...], given.get("alphas", ALPHAS), "`alphas`")
    if not any(alphas):
        raise ValueError("--alphas must hold a strength other than 0")
    grid = Grid(
        cells=cells,
        common=common,
        shared=shared,
        evals=evals,
        alphas=alphas,
        budget=swept.budget,
        threads={m: common.threads or (1 if m == "tiny" else threads) for m in axes["models"]},
        name="",
        notes=tuple(_notes(axes["adapters"], shared)),
        endpoint=endpoint_of(Served(**coerced(Served, given)), common),
    )
    for cell in cells:  # what the settings themselves refuse
        options = grid.options(cell)
        DataSettings(**coerced(DataSettings, options))
        TrainSettings(**coerced(TrainSettings, options))
    name = slug(swept.name) if swept.name else key_of("sweep", {}, grid.described)[:12]
    object.__setattr__(grid, "name", name)
    return grid


def nearest(name: str, known: Any) -> str:
    """A hint for a name that is nearly one of those known, or nothing."""
    found = get_close_matches(str(name), [str(k) for k in known], 1)
    return f"; did you mean {found[0]!r}?" if found else ""


def _axis(many: str, one: str, given: Mapping[str, Any], swept: Swept) -> tuple[Any, ...]:
    """The values of an axis: its own option, or the option for one value, or the default."""
    if many in given:
        if one in given and not (many == "lrs" and one == "lr"):
            raise ValueError(f"give --{one} or --{many}, not both")
        values = getattr(swept, many)
        if not values:
            raise ValueError(f"--{many} is empty; name at least one, or leave it out")
        twice = [v for v, n in Counter(values).items() if n > 1]
        if twice:
            raise ValueError(f"--{many} names {twice[0]!r} twice, which would be the same study twice")
        return values
    if many == "seeds":
        seed = coerced(TrainSettings, {"seed": given.get("seed", 0)})["seed"]
        return (seed,)
    defaults = {"models": "tiny", "behaviors": None, "adapters": USUAL, "lrs": None}
    return (given.get(one, defaults[many]),)


def _known(axes: Mapping[str, tuple[Any, ...]], common: Common) -> None:
    """Refuse names that mean nothing: models that can be none, behaviors, adapters."""
    for name in axes["adapters"]:
        if name == "all":
            raise ValueError("--adapters all stands alone: it names every family")
        try:
            family(name)
        except ValueError as e:
            raise ValueError(f"{e}{nearest(name, FAMILIES)}") from None
    folders = [locate(m)[:2] for m in axes["models"]]  # whether it can be loaded is seen when it is
    if len({slug(name) for _, name in folders}) < len(folders):
        raise ValueError(f"two of the models {', '.join(map(str, axes['models']))} have one name; give one of them")
    names = []
    for behavior in axes["behaviors"]:
        if behavior is not None:
            for model in axes["models"]:
                found = load_behavior(behavior, tiny=model == "tiny")
            names.append(found.name)
    if twice := [n for n, k in Counter(names).items() if k > 1]:
        raise ValueError(f"two of the behaviors are both called {twice[0]!r}; rename one of them")


def _evals(names: tuple[str, ...]) -> tuple[str, ...]:
    if twice := [n for n, k in Counter(names).items() if k > 1]:
        raise ValueError(f"--evals names {twice[0]!r} twice")
    for name in names:
        try:
            chosen = protocol(name)
        except ValueError as e:
            raise ValueError(f"{e}{nearest(name, evaluations())}") from None
        if chosen.needs:
            raise ValueError(f"the evaluation {name} asks questions of your own; run `ws eval {name} --run RUN` for it")
    return names


def _notes(adapters: tuple[str, ...], shared: Mapping[str, Any]) -> list[str]:
    found = []
    for option in shared:
        without = [a for a in adapters if family(a).lacks(option)]
        if without:
            if len(without) == len(adapters):
                raise ValueError(f"--{option.replace('_', '-')} means nothing to {', '.join(without)}; leave it out")
            found.append(f"--{option.replace('_', '-')} means nothing to {', '.join(without)}, and is left out there")
    return found
