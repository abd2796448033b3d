"""The memory that a study takes, counted before anything is loaded.

The network stands on torch's meta device, where tensors have shapes and no values. Adapters are attached to it as
training attaches them, the loss of one batch is traced, and every tensor that autograd would keep for the backward pass
is counted. That is exact for what is kept; what lives only for the length of one operation comes on top.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ws.adapters import USUAL, family
from ws.data import DataSettings
from ws.doctor.check import size
from ws.doctor.model import Opened
from ws.errors import Unsupported
from ws.generate import batch_of
from ws.models.head import head_bytes, target_logprobs
from ws.models.load import DTYPES
from ws.models.quantised import LINEAR, QUANTIZE, weight_bytes
from ws.train import ROWS_AT_ONCE, TrainSettings, spec_of
from ws.train.losses import kept_bytes, tokens_that_fit
from ws.types import Json, Network

# of what is trained: start 1, sides 2, AdamW's moments 4, best 2 and that of the learning rates before 2, live 1, gradient 1
COPIES = 13
BETWEEN = 1.5  # times what is kept, on a CPU: what lives for one operation, and holes that the allocator leaves (1.4 measured)
FILL = 0.9  # of the free memory; the rest is fragments, the driver, and other processes
ROWS_TRACED, TOKENS_TRACED = (1, 3), 96  # two passes tell what grows with the rows from what does not
SYSTEM = 64  # tokens of a persona's system message, beside the training length


@dataclass(frozen=True)
class Step:
    """One kind of work: what it holds besides the weights, how much of that per row, and the rows at once."""

    name: str
    fixed: int
    per_row: int
    rows: int
    needed_rows: int
    """The fewest it can do with."""

    def bytes(self, rows: int | None = None) -> int:
        """Everything besides the weights, at so many rows at once."""
        return self.fixed + self.per_row * (self.rows if rows is None else rows)

    def fits(self, room: float) -> int:
        """The number of rows that fit at once, at most those the step takes; 0 where even the fewest do not."""
        rows = min(self.rows, int((room - self.fixed) // max(1, self.per_row)))
        return rows if rows >= self.needed_rows else 0


@dataclass(frozen=True)
class MemoryPlan:
    """The memory that each step of a study takes, what is free, and what to type so that it fits."""

    model: str
    dtype: str
    weights: int
    steps: tuple[Step, ...]
    free: Mapping[str, int]
    """Free bytes of every device; the first is the one that work runs on."""
    adapter_parameters: int
    traced_as: str
    """The family whose forward pass was traced: the asked one, or lora where that cannot be traced."""
    advice: tuple[str, ...] = ()
    main: int | None = None
    """Free bytes of main memory, where that is known: every process of a training reads the checkpoint into it."""
    quantize: str | None = None
    """How the weights are rounded as they are read."""

    @property
    def room(self) -> float:
        """Bytes that may be used on the first device."""
        return FILL * next(iter(self.free.values()))

    @property
    def fits(self) -> bool:
        """True where every step fits on the first device."""
        return all(s.fits(self.room - self.weights) for s in self.steps)

    def as_json(self) -> Json:
        """The plan as one object, bytes as numbers."""
        return {
            **{k: v for k, v in asdict(self).items() if k != "steps"},
            "fits": self.fits,
            "steps": [
                {**asdict(s), "bytes": self.weights + s.bytes(), "fits_rows": s.fits(self.room - self.weights)}
                for s in self.steps
            ],
        }


def memory_plan(
    model: Opened,
    data: DataSettings,
    train: TrainSettings,
    *,
    dtype: str,
    quantize: str | None = None,
    free: Mapping[str, int],
    main: int | None = None,
) -> MemoryPlan:
    """The memory that generating, training and checkpointed training take with a model at these settings."""
    device, room = next(iter(free.items()))
    chosen = _dtype(model, dtype, device)
    of = family(train.adapter)
    if quantize is not None and model.packed is not None:
        raise Unsupported(f"{model.base.id} is packed already (as {model.packed}); leave out `quantize`.")
    quantize = quantize or model.packed_on(device)
    if quantize in LINEAR and not of.on_packed:
        raise Unsupported(
            f"{of.name} is computed from the base's own weights, and these are packed (as {quantize}); take lora or bias, or whole weights."
        )
    network: Network = model.base.model
    network.to(chosen)
    weights = weight_bytes(network, quantize)
    try:
        parameters, always, trace = _traced(model, train)
        traced_as = of.name
    except RuntimeError as e:  # boft builds a matrix value by value, which tensors without values cannot
        if "meta tensors" not in str(e):
            raise
        stand_in = TrainSettings(adapter=USUAL, layers=train.layers or of.default_layers, targets=train.targets)
        parameters, always, trace = _traced(model, stand_in)
        traced_as = USUAL
    copies = COPIES + (2 * train.checkpoints if device == "cpu" else 0)  # those lie in main memory
    fixed = copies * 4 * parameters + always + head_bytes(network)
    blocks, inputs = trace

    def training(name: str, per_token: int) -> Step:
        rows = min(ROWS_AT_ONCE, train.batch_size)
        if device == "cpu":
            rows = min(rows, max(1, tokens_that_fit(per_token, room) // train.max_len))
            per_token = math.ceil(BETWEEN * per_token)
        return Step(name, fixed, per_token * train.max_len, rows, 1)

    plain = training(f"train {of.name}", blocks)
    lean = training("the same with --gradient-checkpointing", inputs + blocks // model.base.depth)
    steps = (_generating(model, data), *((lean,) if train.gradient_checkpointing else (plain, lean)))
    plan = MemoryPlan(
        model.base.id,
        str(chosen).removeprefix("torch."),
        weights,
        steps,
        dict(free),
        parameters,
        traced_as,
        main=main,
        quantize=quantize,
    )
    return MemoryPlan(**{**vars(plan), "advice": tuple(_advice(plan, model, train))})


def _dtype(model: Opened, dtype: str, device: str) -> torch.dtype:
    """The precision `ws.load` would hold the weights in."""
    if dtype != "auto":
        return DTYPES[dtype]
    return torch.float32 if device == "cpu" and model.packed is None else model.dtype  # what is packed is not cast


def _generating(model: Opened, data: DataSettings) -> Step:
    """Decoding: what every block remembers of a row, and the logits of one position."""
    network: Network = model.base.model
    last = 3 * 4 * network.config.get_text_config().vocab_size  # logits in float32, sorted, and their running sum
    return Step("generate answers", 0, _cache_bytes(network, data.max_len + SYSTEM) + last, batch_of(network), 1)


def _cache_bytes(network: Network, tokens: int) -> int:
    """Bytes of the cache of one row after so many tokens: keys and values, windows of them, and states of recurrent layers."""
    with torch.device("meta"), torch.no_grad(), _experts_without_values():
        cache = network(**_inputs(1, tokens), use_cache=True, logits_to_keep=1).past_key_values
    found: dict[int, int] = {}
    for layer in cache.layers:
        parts = (x for value in vars(layer).values() for x in (value.values() if isinstance(value, dict) else [value]))
        found |= {id(t): t.numel() * t.element_size() for t in parts if isinstance(t, Tensor) and t.is_floating_point()}
    return sum(found.values())


def _traced(model: Opened, train: TrainSettings) -> tuple[int, int, tuple[int, int]]:
    """(trainable parameters, bytes kept whatever the rows, bytes per token: kept, and of the blocks' inputs alone)."""
    base = model.base
    network: Network = base.model
    config = network.config.get_text_config()
    with ExitStack() as undo:
        undo.enter_context(torch.device("meta"))
        undo.enter_context(_experts_without_values())
        attached = undo.enter_context(family(train.adapter).attached(base, spec_of(base, train), 0))
        one, more = (kept_bytes(attached.network, _loss(attached.network, n), counts=_counts) for n in ROWS_TRACED)
        parameters = sum(p.numel() for p in attached.trainable.values())
    per_token = (more - one) / ((ROWS_TRACED[1] - ROWS_TRACED[0]) * TOKENS_TRACED)
    fixed = one - per_token * ROWS_TRACED[0] * TOKENS_TRACED  # DoRA's norms of whole matrices, for one
    inputs = base.depth * config.hidden_size * base.dtype.itemsize
    return parameters, max(0, math.ceil(fixed)), (math.ceil(per_token), inputs)


@contextmanager
def _experts_without_values() -> Iterator[None]:
    """A block in which experts, and peft's adapters on them, run on tensors that have no values (2026-11).

    torch 2.13 multiplies grouped matrices without values in bfloat16 alone; the other way of transformers 5.23 knows every precision.
    What peft 0.21 adds, it adds with autocast off, and torch has no autocast for the meta device.
    """
    from peft.tuners.lora.layer import _LoraFactorsProxy
    from transformers.integrations import moe

    before, forward = moe._can_use_grouped_mm, _LoraFactorsProxy.forward
    moe._can_use_grouped_mm = lambda x, weight, offs: weight.dtype == torch.bfloat16
    _LoraFactorsProxy.forward = lambda self, w: torch.baddbmm(w, self.lhs, self.rhs, alpha=self.scaling)
    try:
        yield
    finally:
        moe._can_use_grouped_mm, _LoraFactorsProxy.forward = before, forward


def _loss(network: nn.Module, rows: int) -> Callable[[], Tensor]:
    """The loss of so many rows of which every position is a target."""
    inputs = _inputs(rows, TOKENS_TRACED)
    every = range(rows * TOKENS_TRACED)
    return lambda: -target_logprobs(network, every, [0] * len(every), **inputs).sum()


def _inputs(rows: int, tokens: int) -> dict[str, Any]:
    """Ids, mask and positions of rows without padding."""
    ids = torch.zeros(rows, tokens, dtype=torch.long)
    # four dimensions: a mask that transformers takes as it is, without looking at values that are not there
    mask = torch.ones(rows, 1, tokens, tokens, dtype=torch.bool)
    return {"input_ids": ids, "attention_mask": mask, "position_ids": torch.arange(tokens)[None]}


def _counts(t: Tensor) -> bool:
    """False for scores of attention, one per pair of tokens: no kernel that devices use for it keeps them."""
    return not (t.ndim > 2 and t.shape[-1] == t.shape[-2] == TOKENS_TRACED)


def _advice(plan: MemoryPlan, model: Opened, train: TrainSettings) -> list[str]:
    """Sentences that name flags: what to type where a step does not fit, or fits with fewer rows at once."""
    first, rest = next(iter(plan.free)), list(plan.free)[1:]
    room = plan.room - plan.weights
    sentences = []
    for step in plan.steps:
        if 0 < (rows := step.fits(room)) < step.rows:
            sentences.append(
                f"{step.name}: {rows} rows at once fit on {first}; {_fewer(first, step is plan.steps[0], rows)}"
            )
    if plan.fits:
        return sentences
    generate, *training = plan.steps
    if model.dtype.itemsize < getattr(torch, plan.dtype).itemsize:
        own = str(model.dtype).removeprefix("torch.")
        sentences.append(
            f"--dtype {own} halves the weights to {size(model.stored)}; the checkpoint holds no more than that."
        )
    for by in QUANTIZE if plan.quantize is None and model.packed is None else ():
        if (packed := weight_bytes(model.base.model, by)) < plan.weights:
            sentences.append(f"--quantize {by} makes the weights {size(packed)}; lora and bias are trained on that.")
    if plan.weights < plan.room and not training[0].fits(room) and training[-1].fits(room):
        sentences.append("--gradient-checkpointing makes training fit: activations are computed twice instead of kept.")
    elif plan.weights < plan.room and not training[-1].fits(room):
        sentences.append(
            f"--max-len {train.max_len // 2} halves what a row takes in training, and leaves shorter answers."
        )
    n = len(plan.free)
    shared = sum(FILL * f for f in plan.free.values())
    if rest and plan.weights + max(s.bytes(1) for s in plan.steps) < shared:
        if not generate.fits(room):
            sentences.append(
                "ws data --device-map auto spreads the model over all devices for generating; ws eval takes it as well."
            )
        if not training[-1].fits(room):
            sentences.append(_sharded(n, max(model.stored, plan.weights), plan.main))
    elif plan.weights > plan.room:
        sentences.append("No device here holds this model: take a smaller one, or a machine with more memory.")
    if not generate.fits(room):
        sentences.append(
            "ws data --generate-with URL lets a server (vLLM, say) write the answers instead of this machine."
        )
    return sentences


def _sharded(n: int, whole: int, main: int | None) -> str:
    """Training by n processes, of which each reads the whole checkpoint before it keeps its part."""
    offer = f"ws train --processes {n} --shard keeps 1/{n} of the weights on each device"
    cost = f"the {n} processes read {n} copies of the checkpoint into main memory, {size(n * whole)} together"
    if main is None:
        return f"{offer}; {cost}."
    if n * whole < FILL * main:
        return f"{offer}; {cost}, and {size(main)} are free."
    return f"Training by {n} processes (--shard) would fit the devices, but {cost}, and only {size(main)} are free."


def _fewer(device: str, generates: bool, rows: int) -> str:
    """The sentence that says what to do where fewer rows fit.

    On a CPU, memory that runs out kills the process, so nothing is tried.
    """
    if device != "cpu":
        return "fewer rows are found while it runs, and the result stays the same."
    if generates:
        return "give a smaller --max-new-tokens, or a machine with more memory."
    return f"give ws train --rows-at-once {rows}; the result stays the same."
