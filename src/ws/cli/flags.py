"""What the commands understand besides the settings of the stages."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ws.cli.out import said
from ws.errors import BadFile
from ws.settings import coerced
from ws.study.options import Common as Common
from ws.study.options import Served as Served
from ws.study.options import insist_on_pairs as insist_on_pairs
from ws.study.options import load_base as load_base
from ws.study.options import plan_of as plan_of
from ws.study.options import planned_settings as planned_settings


@dataclass(frozen=True)
class Across:
    """Training on several devices, and who is told of it."""

    processes: int = 1
    """Processes that train as one, a device each; torchrun and accelerate launch do the same."""
    shard: bool = False
    """Spread the base's weights over the processes (FSDP2), for a model that one device cannot hold."""
    rows_at_once: int | None = None
    """Rows in memory at once, in each process; changes no result."""
    report_to: tuple[str, ...] = ()
    """Experiment trackers that are told the losses: trackio, wandb, mlflow, tensorboard."""

    def __post_init__(self):
        if self.processes < 1 or (self.rows_at_once is not None and self.rows_at_once < 1):
            raise ValueError("--processes and --rows-at-once must be at least 1")


@dataclass(frozen=True)
class Dialed:
    """How far the dial is turned."""

    alphas: tuple[float, ...] = (-1.0, -0.5, 0.0, 0.5, 1.0)
    """Strengths to measure, e.g. --alphas=-1,0,1."""


@dataclass(frozen=True)
class Evaluated:
    """What an evaluation is run on."""

    run: str | None = None
    """A run folder, as `ws runs` lists them; its direction is used."""
    direction: str | None = None
    """A direction.safetensors, or any method file."""
    method: str | None = None
    """A method by name, made from --behavior: ws:lora, repe, sl:mean_diff, paper:all, prompt:simple, random:act:0, vectors:FILE."""
    data: str | None = None
    """A data file (csv, jsonl, json, parquet) instead of the hub's or the embedded one."""
    protocol: str | None = None
    """Protocol id, where an evaluation has several; airisk takes any value class, e.g. airisk-care/1."""
    n_think: int | None = None
    """Tokens of thought before the answer, instead of the protocol's own number; the id then says so."""
    axis: str | None = None
    """foundations: trad_care, authority or care_auth; the axis that the behavior claims when not given."""
    limit: int | None = None
    """Only the first so many units; the table says SMOKE."""
    tasks: tuple[str, ...] = ()
    """lm-eval only: tasks of lm-evaluation-harness, e.g. --tasks=arc_easy,winogrande."""
    include_path: str | None = None
    """lm-eval only: a folder with your own task files."""
    origin: str | None = None
    """The base the direction was made on, when the model is a fine-tune of it."""


@dataclass(frozen=True)
class Shown:
    """Which items `ws show` prints."""

    out: str = "out"
    """Output folder, below which a run is found by its name."""
    eval: str | None = None
    """The evaluation, where the run has several: its name or its protocol id."""
    data: str | None = None
    """The questions, where the run was measured on several: a part of their file's name, or of what `items` names them by."""
    metric: str | None = None
    """The metric whose units are ranked; the evaluation's first when not given."""
    alpha: float | None = None
    """The strength beside 0; +1, or the largest there is, when not given."""
    worst: int | None = None
    """So many units that moved least, or most against what the behavior wants (default: 10)."""
    best: int | None = None
    """So many units that moved most as the behavior wants."""


@dataclass(frozen=True)
class Tabled:
    """Which tables `ws table` makes, and how it writes them."""

    out: str = "out"
    """Output folder, searched when no run or folder is named."""
    eval: tuple[str, ...] = ()
    """Only these evaluations, by name or protocol id."""
    behavior: tuple[str, ...] = ()
    """Only these behaviors."""
    alpha: float | None = None
    """The strength of the forward arm; +1, or the largest there is, when not given."""
    markdown: bool = False
    """Markdown for a README."""
    csv: bool = False
    """One CSV of every table's numbers."""


@dataclass(frozen=True)
class Generated:
    """What `ws generate` prints."""

    prompt: str | None = None
    """The question."""
    system: str | None = None
    """A system prompt; none when not given."""
    direction: str | None = None
    """A direction.safetensors; without one, --behavior and --adapter name a study whose direction is used."""
    also: tuple[str, ...] = ()
    """More directions at a strength of their own: FILE@ALPHA, separated by commas."""
    alphas: tuple[float, ...] = (-1.0, 0.0, 1.0)
    """Strengths, side by side, e.g. --alphas=-1,0,1."""
    max_new_tokens: int = 64
    """Longest answer."""
    temperature: float = 0.0
    """0 takes the likeliest token."""
    thinking: str = "off"
    """off, on or forced."""
    origin: str | None = None
    """The base the direction was made on, when the model is a fine-tune of it."""


@dataclass(frozen=True)
class Calibrated:
    """What `ws calibrate` finds the strengths of."""

    direction: str | None = None
    """A direction.safetensors, or any method file."""
    method: str | None = None
    """A method by name, made from --behavior: ws:lora, repe, sl:mean_diff, paper:all, prompt:simple, random:act:0, vectors:FILE."""
    like: str | None = None
    """Instead of a budget: as much as this prompt does, e.g. prompt:engineered; needs --behavior."""
    save: str | None = None
    """Also write the method itself to this .safetensors file."""
    origin: str | None = None
    """The base the direction was made on, when the model is a fine-tune of it."""


@dataclass(frozen=True)
class Compared:
    """What `ws compare` sets side by side."""

    methods: tuple[str, ...] = ()
    """Methods by name, or default, published (the fork's), all; random:act stands for --draws of them. See docs/calibrate.md for the names."""
    seeds: tuple[int, ...] = (0,)
    """Seeds of pairs and training, e.g. --seeds=0,1,2."""
    evals: tuple[str, ...] = ()
    """Evaluations by name or NAME@PROTOCOL; those of the behavior's claims when not given. What steering costs is always measured."""
    alphas: tuple[float, ...] = ()
    """Strengths measured as they are, e.g. --alphas=-1,1; without --budget nothing is calibrated then."""
    reference: str | None = None
    """The method that the others are set against, paired; the first when not given."""
    draws: int | None = None
    """Random directions of each form; when not given 5, and 20 of random:spectrum, :act and :paper with --methods all."""
    data: tuple[str, ...] = ()
    """Data files of evaluations: NAME=FILE, separated by commas."""
    limit: int | None = None
    """Only the first so many units of every evaluation; the tables say SMOKE."""
    check: bool = False
    """Print the cells, which of them are done, and stop."""
    workers: int | None = None
    """Processes that do the cells; as many as the cores allow on a CPU, and this process alone on a GPU, when not given."""
    markdown: bool = False
    """Print the tables as Markdown."""


@dataclass(frozen=True)
class Exported:
    """What `ws export` writes."""

    to: str = "peft"
    """peft (stock peft, vLLM), merged (a whole model), gguf-lora (the folder llama.cpp's converter reads), or mergekit."""
    alpha: float | None = None
    """Strength of the export."""
    alphas: tuple[float, ...] = ()
    """Several strengths that share one file of weights (peft only), e.g. --alphas=-1,0.5,1."""
    out: str | None = None
    """The folder to write; it must be new or empty."""
    rank: int | None = None
    """Cut the direction to this rank; needed where a family is not low rank and the target is."""
    model: str | None = None
    """The base: tiny, a hub id, id@revision, a folder or a GGUF file; the one the direction names if left out."""
    origin: str | None = None
    """The base the direction was made on, when the model is a fine-tune of it."""
    dtype: str = "auto"
    """Precision the promise is computed in."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps."""
    threads: int | None = None
    """CPU threads."""


def stage_settings() -> dict[str, type]:
    """The settings classes of the stages; imported here so that `ws --help` stays fast."""
    from ws.data import DataSettings
    from ws.train import TrainSettings

    return {"data": DataSettings, "train": TrainSettings}


def sweep_settings() -> list[type]:
    """The settings of a sweep; imported here for the same reason."""
    from ws.grid.sweep import Running, Swept

    return [Swept, Running]


def calibrate_settings() -> type:
    """The settings of a calibration; imported here for the same reason."""
    from ws.calibrate import CalibrateSettings

    return CalibrateSettings


def study_of(plan: Any) -> tuple[Any, Any]:
    """The pairs and the direction of a study, with every stage before it."""
    from ws.study.stages import make_direction, make_pairs, make_sides

    pairs, record = make_pairs(plan)
    said("data", record)
    sides, record = make_sides(plan, pairs)
    said("train", record)
    direction, record = make_direction(plan, sides)
    said("diff", record)
    return pairs, direction


def pairs_of(manifest: dict[str, Any], common: Common) -> tuple[Any, Any]:
    """The pairs a run was trained on, found by their key, and its settings."""
    from ws.records import read, verify
    from ws.study.stages import read_pairs
    from ws.train import TrainSettings

    wanted = manifest["inputs"]["pairs"]
    for path in Path(common.out).glob(f"data/*/*/{wanted[:12]}"):
        if (found := read(path)) and found["key"] == wanted:
            verify(path, found)
            settings = TrainSettings(**coerced(TrainSettings, manifest["settings"], source="the run's "))
            return read_pairs(path, found), settings
    raise BadFile(
        f"the pairs of this run (key {wanted[:12]}) are not below {common.out}/data; give the --out they were made in."
    )
