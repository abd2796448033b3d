"""The plan that options describe: what was typed, the config file, the preset, the defaults."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from ws.adapters import family
from ws.behaviors import Behavior, load_behavior
from ws.data import GIVEN_SETTINGS, DataSettings, default_data, refuse_topics
from ws.derived import derive
from ws.diff.lookup import NamedDirection, lookup
from ws.endpoint import Endpoint
from ws.judge import JudgeSettings, PairJudge
from ws.models.load import Base, choose_device, load_lazily
from ws.models.locate import depth_of
from ws.models.modules import layer_slice
from ws.pairs import load_pairs
from ws.presets import preset
from ws.records import refuse_unwritable
from ws.settings import coerced
from ws.steer import checked_strengths
from ws.study.options import Common, Judged, Served
from ws.study.plan import Plan
from ws.train import TrainSettings, default_train, spec_of
from ws.types import Json

Values = Mapping[str, Any]
"""Options by name, as they were typed or configured."""


def plan_of(
    common: Common, options: Values, base: Base | None = None, *, device: str | None = None, waiting: bool = False
) -> Plan:
    """The study that options, config file, preset and defaults describe together; `base` if it is loaded already."""
    plan = outline_of(common, options, base, device=device, waiting=waiting)
    refuse_misfit(plan)  # here, not after an hour of generation
    return plan


def refuse_misfit(plan: Plan) -> None:
    """Refuse layers, targets and a rank that the model of a study has not; one that is trained already had them."""
    if plan.train_place.manifest is None:
        spec_of(plan.base, plan.train)


def outline_of(
    common: Common, options: Values, base: Base | None = None, *, device: str | None = None, waiting: bool = False
) -> Plan:
    """The same study, whose layers, targets and rank nobody has held against the network: where it lies needs none."""
    refuse_settings(options)
    served = Served(**coerced(Served, options))
    if base is None:  # what cannot be is refused before a model is loaded
        refuse_place_to_work(common, device=device)
    behavior = behavior_meant(common)
    if common.pairs:
        _refuse_unread(options, (), "`pairs` gives the answers")
    elif behavior is not None and behavior.answers is not None:
        _refuse_unread(options, GIVEN_SETTINGS, f"the data set of {behavior.name!r} gives the answers")
    if behavior is not None and not common.pairs:
        refuse_topics(behavior, coerced(DataSettings, options).get("n_topics"))
    layers = coerced(TrainSettings, options).get("layers")
    if base is None and layers and (depth := depth_of(common.model)) is not None:
        layer_slice(layers, depth)
    endpoint = endpoint_of(served, common)
    judge = judge_of(Judged(**coerced(Judged, options)), common)
    base = base or load_base(common, device=device, waiting=waiting)
    data_settings, train_settings = settings_for(common, options, base)
    return Plan(
        base,
        behavior,
        data_settings,
        train_settings,
        out=Path(common.out),
        pairs_file=Path(common.pairs) if common.pairs else None,
        endpoint=endpoint,
        judge=judge,
    )


def behavior_meant(common: Common) -> Behavior | None:
    """The behavior of a study: the one that is named, honesty where none is; None of pairs alone."""
    if common.pairs and not common.behavior:
        return None
    return load_behavior(common.behavior or "honesty", tiny=common.model == "tiny")


def refuse_settings(options: Values) -> None:
    """Refuse options that no study can have, whatever its model."""
    DataSettings(**coerced(DataSettings, options))
    train = TrainSettings(**coerced(TrainSettings, options))
    of = family(train.adapter)
    if foreign := [
        name for name in coerced(TrainSettings, options) if of.lacks(name) and options[name] not in (None, False)
    ]:
        raise ValueError(f"{of.name} has no {foreign[0]}; leave out `{foreign[0]}`")


def refuse_place_to_work(common: Common, *, device: str | None = None) -> None:
    """Refuse a device that is not here, an output folder that cannot be written, and pairs or folds that cannot be read."""
    if (device or common.device) != "auto":
        choose_device(device or common.device)
    if common.pairs is not None:
        load_pairs(common.pairs)
    for text in common.onto:
        fold_of(text, common.out)
    refuse_unwritable(Path(common.out))


def refuse_unreadable(common: Common) -> None:
    """The same, and a behavior that is not known: for a verb that does something else than make a study's plan."""
    refuse_place_to_work(common)
    if common.behavior is not None:
        load_behavior(common.behavior, tiny=common.model == "tiny")


def _refuse_unread(options: Values, matter: Collection[str], why: str) -> None:
    """Refuse options about answers that a model would write, where the answers are there already."""
    trained_by = {f.name for f in fields(TrainSettings)}
    asking = [
        f.name for f in fields(DataSettings) if f.name not in trained_by and f.name not in ("min_distinct", "accept")
    ]
    unread = [f"`{k}`" for k in (*asking, "generate_with") if k in options and k not in matter]
    if unread:
        raise ValueError(f"{why}; leave out {', '.join(unread)}")


def endpoint_of(served: Served, common: Common) -> Endpoint | None:
    """The server that answers, with its model's name settled, or None."""
    if served.generate_with is None:
        if served.generate_model:
            raise ValueError("`generate_model` names a model of the server in `generate_with`; give its address too")
        return None
    if common.pairs:
        raise ValueError("`pairs` gives the answers; leave out `generate_with`")
    endpoint = Endpoint.from_environment(
        served.generate_with, model=served.generate_model, concurrency=served.generate_concurrency
    )
    return replace(endpoint, model=endpoint.served())


def judge_of(judged: Judged, common: Common) -> PairJudge | None:
    """Who keeps pairs, with the name of a server's model settled, or None."""
    if judged.judge is None:
        return None
    settings = JudgeSettings(judge_concurrency=judged.judge_concurrency)
    return PairJudge.of(judged.judge, settings, out=Path(common.out))


def served_by(endpoint: Endpoint | None) -> Json:
    """The options that name a server, its model settled, for a worker: handed to it and written nowhere."""
    if endpoint is None:
        return {}
    return {
        "generate_with": endpoint.url,
        "generate_model": endpoint.model,
        "generate_concurrency": endpoint.concurrency,
    }


def planned_settings(common: Common, options: Values, base: Base) -> tuple[DataSettings, TrainSettings]:
    """How pairs and adapters of a study on this base are made; layers, targets and a rank that it has not are refused."""
    data_settings, train_settings = settings_for(common, options, base)
    spec_of(base, train_settings)
    return data_settings, train_settings


def settings_for(common: Common, options: Values, base: Base) -> tuple[DataSettings, TrainSettings]:
    """How pairs and adapters of a study are made: defaults for the base, then the preset, then what was typed."""
    data_options, train_options = coerced(DataSettings, options), coerced(TrainSettings, options)
    of = family(train_options.get("adapter", TrainSettings().adapter))
    data_settings = replace(default_data(base), **preset(common.preset, "data"))
    train_settings = fitted(default_train(base, of.name), preset(common.preset, "train", of.name))
    return replace(data_settings, **data_options), replace(train_settings, **train_options)


def insist_on_pairs(plan: Plan) -> None:
    """Refuse to start where a model that is not whole anywhere would have to write the pairs."""
    if not plan.has_answers and plan.endpoint is None and plan.data_place.manifest is None:
        raise ValueError(
            "a sharded model writes no pairs: make them first, by the same command as `ws data` without `processes` and "
            "`shard` (`device_map` auto spreads the model over the devices), or give `pairs` or `generate_with`"
        )


@runtime_checkable
class Model(Protocol):
    """Whatever names a model and where it is to stand: the options of a verb, or a study of a grid."""

    @property
    def model(self) -> str: ...
    @property
    def dtype(self) -> str: ...
    @property
    def device(self) -> str: ...
    @property
    def threads(self) -> int | None: ...


def load_base(
    options: Model, *, device: str | None = None, waiting: bool = False, out: str | Path | None = None
) -> Base:
    """The model that options name, with what they fold into it; `device` instead of theirs, or in main memory until it
    is spread over devices. Runs are found below `out`, or the output folder of the options."""
    below = getattr(options, "out", "out") if out is None else out
    folds = [fold_of(text, below) for text in getattr(options, "onto", ())]
    base = load_lazily(
        options.model,
        dtype=options.dtype,
        device=device or options.device,
        threads=options.threads,
        device_map=getattr(options, "device_map", None),
        quantize=getattr(options, "quantize", None),
        waiting=waiting,
    )
    for fold in folds:
        base = derive(base, fold.place.direction(base), fold.alpha, name=fold.name, in_place=True)
    return base


@dataclass(frozen=True)
class Fold:
    """A direction that is folded into a model, and how much of it."""

    name: str
    place: NamedDirection
    alpha: float


def fold_of(text: str, out: str | Path) -> Fold:
    """What RUN@ALPHA names, where the strength is 1 if it is left out; what names nothing is refused."""
    head, _, tail = text.rpartition("@")
    try:
        name, alpha = (head, float(tail)) if head else (text, 1.0)
    except ValueError:  # OWNER/NAME@REVISION
        name, alpha = text, 1.0
    checked_strengths([alpha])
    place = lookup(name, out)
    named_by = place.run or (place.path if place.is_adapter or place.path.stem != "direction" else place.path.parent)
    return Fold(named_by.name.removesuffix(".safetensors"), place, alpha)


def fitted(settings: TrainSettings, of_preset: Values) -> TrainSettings:
    """A preset's training values, without those the family does not have."""
    of = family(settings.adapter)
    return replace(settings, **{k: v for k, v in of_preset.items() if not of.lacks(k)})
