"""Settings of a training: the fields, the defaults for a base, and the adapter that they ask for."""

from collections.abc import Iterable
from dataclasses import dataclass

from ws.adapters import USUAL, Spec, family
from ws.adapters.family import MOST_RANK
from ws.errors import Unsupported
from ws.models.load import Base
from ws.models.modules import layer_numbers, refuse_experts, select
from ws.settings import Range, above, at_least, refuse_outside
from ws.train.sequences import Parts, split

STOPS = ("shared", "per_branch", "none")


@dataclass(frozen=True)
class TrainSettings:
    """How both sides are trained."""

    adapter: str = USUAL
    """Adapter family: {adapters}."""
    rank: int | None = None
    """Rank of each adapter, where the family has one; the direction has twice that."""
    lora_alpha: float | None = None
    """The adapter's own scale times its rank; twice the rank when not given."""
    block_size: int | None = None
    """Block size of oft and boft."""
    delora_lambda: float | None = None
    """Size of a DeLoRA change, which its training hardly moves; 15 when not given."""
    lr: tuple[float, ...] = ()
    """Learning rates to try; the family's own grid when not given."""
    epochs: float = 1.0
    """Passes over the training pairs."""
    batch_size: int = 16
    """Pairs per step, whatever fits memory at once."""
    weight_decay: float = 0.01
    """AdamW's weight decay."""
    warmup: int = 5
    """Steps of linear warm-up, before a linear decay to 0."""
    layers: str | None = None
    """Layers to train: all, 0.3-0.8 (fractions), 8-21, or 3,5,7; the family's default when not given."""
    targets: tuple[str, ...] = ()
    """Names of linear layers, e.g. q_proj,down_proj, or experts; the family's default when not given."""
    max_len: int = 512
    """Longest training sequence, in tokens."""
    val_share: float = 0.1
    """Share of the questions that learning rate, stopping step and layers are chosen on."""
    test_share: float = 0.1
    """Share of the questions that nothing is learnt from or chosen on; `ws eval pairs` reports them."""
    eval_every: int = 10
    """Steps between validations."""
    patience: int = 2
    """Validations without improvement before training stops."""
    stop: str = "shared"
    """Which step is kept: shared (one for both sides, the lowest mean validation loss), per_branch (each side's own lowest) or none (the last)."""
    init: str = "shared"
    """Whether both sides start from the same tensors (shared) or not (independent)."""
    freeze_a: bool = False
    """Leave A as both sides share it, so that their difference has rank r and not 2r, where a family has an A."""
    seed: int = 0
    """Seed of initialisation, order and split."""
    checkpoints: int = 0
    """Evenly spaced steps whose two sides are kept beside the result; ft:lora:2 is the second as a method."""
    gradient_checkpointing: bool = False
    """Trade time for memory."""
    allow_template_diff: bool = False
    """Train although the chat template writes the finished conversation differently."""

    def __post_init__(self):
        family(self.adapter)
        if self.init not in ("shared", "independent"):
            raise ValueError(f"init is shared or independent, got {self.init!r}")
        if self.freeze_a and self.init == "independent":
            raise ValueError("freeze_a leaves A as both sides share it, and init independent draws two; give only one")
        if self.stop not in STOPS:
            raise ValueError(f"stop is one of {', '.join(STOPS)}; got {self.stop!r}")
        refuse_outside(
            self,
            rank=Range(1, MOST_RANK),
            lr=above(0, 10),
            epochs=above(0, 10_000),
            weight_decay=Range(0, 10),
            max_len=at_least(8),
            **dict.fromkeys(("lora_alpha", "delora_lambda"), above(0, 1e6)),
            **dict.fromkeys(("block_size", "batch_size", "eval_every", "patience"), at_least(1)),
            **dict.fromkeys(("warmup", "seed", "checkpoints"), at_least(0)),
            **dict.fromkeys(("val_share", "test_share"), above(0, 1)),
        )
        if self.layers is not None:
            layer_numbers(self.layers)
        if not (0 < self.val_share < 1 and 0 < self.test_share < 1 and self.val_share + self.test_share < 1):
            raise ValueError(
                f"val_share and test_share lie between 0 and 1 and leave something to train on, got {self.val_share:g} "
                f"and {self.test_share:g}"
            )

    def parts(self, topics: Iterable[int]) -> Parts:
        """The study's questions in three parts."""
        return split(topics, val_share=self.val_share, test_share=self.test_share, seed=self.seed)


def default_train(base: Base, adapter: str) -> TrainSettings:
    """The defaults for this base: `tiny` is small, so it takes small adapters, larger steps and more of them."""
    if not base.tiny:
        return TrainSettings(adapter=adapter)
    of = family(adapter)
    return TrainSettings(
        adapter=adapter,
        rank=8 if of.default_rank else None,
        delora_lambda=2.0 if of.default_lambda else None,  # 15 moves so small a model ten times as far as LoRA does
        lr=() if of.tiny_lr is None else (of.tiny_lr,),
        epochs=2,
        max_len=128,
        batch_size=32,
    )


def spec_of(base: Base, settings: TrainSettings) -> Spec:
    """The adapter on its layers, with everything impossible refused."""
    of = family(settings.adapter)
    refuse_experts(base.model, settings.targets)
    candidates = of.targets([x for x in base.linears.values() if x.usual])
    if settings.targets:
        candidates = list(base.layers.values())
    if not candidates:
        raise Unsupported(f"{of.name} finds none of its layers in this model; name them with `targets`.")
    chosen = select(candidates, layers=settings.layers or of.default_layers, depth=base.depth, targets=settings.targets)
    return of.spec(
        chosen,
        rank=settings.rank,
        lora_alpha=settings.lora_alpha,
        block_size=settings.block_size,
        delora_lambda=settings.delora_lambda,
        freeze_a=settings.freeze_a,
    )
