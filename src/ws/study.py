"""One study, from the words a person gives to the plan that stages follow: flags, config file, preset, defaults."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ws.errors import BadFile
from ws.settings import coerced

if TYPE_CHECKING:
    from ws.models.load import Base
    from ws.stages import Plan


@dataclass(frozen=True)
class Common:
    """What every verb understands."""

    model: str = "tiny"
    """tiny, a hub id, id@revision, or a folder."""
    behavior: str | None = None
    """A shipped behavior (honesty, honesty5, sycophancy, trad_care, authority) or the path of a YAML pack; honesty when not given."""
    pairs: str | None = None
    """Your own pairs (JSON lines or parquet: prompt, response_pos, response_neg) instead of generated ones."""
    out: str = "out"
    """Output folder."""
    preset: str = "ws"
    """Set of defaults: ws, pub (the published fork) or paper."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps."""
    dtype: str = "auto"
    """Precision of the base: auto, float32, bfloat16, float16 or float64."""
    threads: int | None = None
    """CPU threads; tiny runs on one when not given."""


def plan_of(common: Common, given: Mapping[str, Any], base: "Base | None" = None) -> "Plan":
    """The study that flags, config file, preset and defaults describe together; `base` if it is loaded already."""
    from ws.adapters import family
    from ws.behaviors import load_behavior
    from ws.data import DataSettings, default_data
    from ws.presets import preset
    from ws.stages import Plan, fitted
    from ws.train import TrainSettings, default_train, spec_of

    wanted_data = coerced(DataSettings, given, source="--")
    wanted_train = coerced(TrainSettings, given, source="--")
    of = family(wanted_train.get("adapter", "lora"))
    preset(common.preset, "data")  # an unknown preset is refused before a model is loaded
    if common.pairs and not Path(common.pairs).is_file():
        raise BadFile(
            f"there is no pairs file at {common.pairs}. It is JSON lines or parquet with prompt, response_pos, response_neg."
        )
    tiny = common.model == "tiny"
    behavior = None
    if common.behavior or not common.pairs:
        behavior = load_behavior(common.behavior or "honesty", tiny=tiny)
    base = base or load_base(common)
    data_settings = replace(default_data(base), **preset(common.preset, "data"))
    train_settings = fitted(default_train(base, of.name), preset(common.preset, "train"))
    train_settings = replace(train_settings, **wanted_train)
    spec_of(base, train_settings)  # layers, targets and rank are refused here, not after an hour of generation
    return Plan(
        base,
        behavior,
        replace(data_settings, **wanted_data),
        train_settings,
        out=Path(common.out),
        pairs_file=Path(common.pairs) if common.pairs else None,
    )


def load_base(common: Any) -> "Base":
    """The base that is named, in the precision and on the device that are."""
    from ws.models.load import load

    return load(common.model, dtype=common.dtype, device=common.device, threads=common.threads)
