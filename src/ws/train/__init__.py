"""Two opposite fine-tunes of one base, in step with each other.

Both sides start from the same stored tensors, see the same pairs in the same order for the same number of steps, and
share learning rate and stopping step, chosen by the mean of their validation losses. They take turns on one loaded
base: an interval of steps for pos, the same for neg, then both are judged. What one side has and the other lacks is
then the behavior, and not the luck of two runs. How published work does it (a stopping step per side, none at all, a
start per side) is one setting each.

`settings` says how, `sequences` makes token ids of pairs, `loop` takes the steps with `losses`, `checkpoint` is what a
training goes on from, `processes` lets several work as one, and `tracking` hands losses to experiment trackers.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ws.adapters import USUAL, Adapter, Attached, Family, Spec, family
from ws.direction.direction import Direction
from ws.errors import TrainingDiverged, Unsupported
from ws.models.chat import has_template
from ws.models.load import Base
from ws.models.modules import blocks_of, is_packed
from ws.pairs import Pairs, because, question_hashes
from ws.records import key_of
from ws.signatures import plain_types
from ws.steer import steer
from ws.train.checkpoint import Checkpoints, Tensors
from ws.train.loop import BestSteps, Examples, Fit, best_rate
from ws.train.losses import Losses
from ws.train.processes import ALONE, Group, spread
from ws.train.sequences import SIDES, Parts, rows_of
from ws.train.settings import TrainSettings as TrainSettings
from ws.train.settings import default_train as default_train
from ws.train.settings import spec_of as spec_of
from ws.train.tracking import UNTRACKED, Tracking
from ws.types import Json, Network

PROTOCOL = "train/2"  # 2: questions are split in three
ROWS_AT_ONCE = 64  # tried first; halved when memory runs out


@dataclass(frozen=True, eq=False)
class Sides:
    """Both trained sides; unpacks as `pos, neg`."""

    pos: Adapter
    neg: Adapter
    report: Mapping[str, Any] = field(default_factory=dict)
    checkpoints: tuple["Sides", ...] = ()
    """Both sides at the steps that were kept on the way, in their order."""

    def __iter__(self) -> Iterator[Adapter]:
        return iter((self.pos, self.neg))

    def __repr__(self) -> str:
        r, spec = self.report, self.pos.spec
        steps = f", best step {r['step']}" if "step" in r else ""
        losses = f", validation loss {r['val_pos']:.3g} and {r['val_neg']:.3g}" if "val_pos" in r else ""
        rate = f", lr {r['lr']:g}" if "lr" in r else ""
        return f"Sides({spec.family} on {self.pos.base.get('id')}, {len(spec.modules)} modules{rate}{steps}{losses})"


@plain_types
def train(
    base: Base,
    pairs: Pairs,
    settings: TrainSettings | None = None,
    *,
    work: Path | None = None,
    group: Group = ALONE,
    rows_at_once: int | None = None,
    tracking: Tracking = UNTRACKED,
    start_seed: int | None = None,
    **changes: Any,
) -> Sides:
    """Fine-tune two adapters on the two sides of the pairs.

    Fields of `TrainSettings` may be given directly: `ws.train(base, pairs, adapter="lora", rank=8)`. With `work`, the
    state is saved there now and then, and a second call goes on from it to the same tensors. With `group`, from
    `ws.train.processes.join`, several processes train as one. `rows_at_once` changes memory and not the result.
    `tracking` is told the losses. `start_seed` draws another start than the settings' seed does, and changes nothing else.
    """
    settings = replace(settings or default_train(base, changes.get("adapter", USUAL)), **changes)
    spec, parts = spec_of(base, settings), settings.parts(pairs.topics)
    examples, report = _examples(base, pairs, settings, parts)
    begun = settings if start_seed is None else replace(settings, seed=start_seed)
    identity = identity_of(base, begun, pairs=pairs.content_hash)
    try:
        best, start, more = fitted(
            base,
            examples,
            settings,
            identity,
            work=work,
            group=group,
            rows_at_once=rows_at_once,
            tracking=tracking,
            begun=begun,
        )
    except TrainingDiverged as e:
        raise TrainingDiverged(f"{e}{because(pairs)}") from None
    report |= {**more, "val_pos": best.val[0], "val_neg": best.val[1]}
    provenance = {
        "protocol": PROTOCOL,
        "settings": asdict(settings),
        "pairs": pairs.content_hash,
        **{k: pairs.provenance[k] for k in ("behavior", "poles") if k in pairs.provenance},
        "questions": question_hashes(r.prompt for r in pairs.of(parts.train | parts.val).rows),
        "lr": best.lr,
        **({} if start_seed is None else {"start_seed": start_seed}),
    }

    def adapters(steps: Sequence[int], states: Sequence[Tensors]) -> tuple[Adapter, Adapter]:
        own = {**provenance, "step": min(steps), "steps": list(steps)}
        pos, neg = (Adapter(spec, t, start, base.described(), {**own, "side": s}) for s, t in zip(SIDES, states))
        return pos, neg

    on_the_way = [Sides(*adapters((step, step), states), {"step": step}) for step, states in best.checkpoints]
    return Sides(*adapters(best.steps, best.states), report, tuple(on_the_way))


def fitted(
    base: Base,
    examples: Examples,
    settings: TrainSettings,
    identity: str,
    *,
    work: Path | None = None,
    group: Group = ALONE,
    rows_at_once: int | None = None,
    tracking: Tracking = UNTRACKED,
    begun: TrainSettings | None = None,
    keep_every: int = 0,
) -> tuple[BestSteps, Tensors, Json]:
    """The best steps of sides trained on a base, the start that the base gives them, and what a report says of it.

    `identity` names all that a stopped training must share with the one that goes on; `begun` draws another start.
    """
    of, spec = family(settings.adapter), spec_of(base, settings)
    if of.whole and group.shard:
        raise Unsupported(f"{of.name} trains whole matrices, which are not spread; leave out `shard`, or take lora.")
    if group.shard and any(is_packed(x.module) for x in base.linears.values()):
        raise Unsupported(
            f"{base.id} is quantised, and packed weights are not spread; leave out `shard` or `quantize`."
        )
    start = group.tensors_as_main(of.start(base, spec)) if of.start else {}
    with ExitStack() as undo:
        starts = _starts(of, base, spec, begun or settings, start, group)[: len(examples.rows)]
        attached = _attached(of, base, spec, settings, start, group, undo)
        device = torch.device(group.device) if group.shard else base.device
        losses = Losses(attached, device, group, min(rows_at_once or ROWS_AT_ONCE, settings.batch_size))
        losses.fit([r for side in examples.rows.values() for r in side])
        checkpoints = Checkpoints(work, identity, group, device, tuple(examples.rows))
        fit = Fit(settings, examples, starts, losses, checkpoints, tracking, keep_every)
        best, attempts, notes = best_rate(fit.run, settings.lr or of.lr, extend=not settings.lr and len(of.lr) > 1)
    report = {
        "template": _template(base),
        "rows_at_once": losses.rows_at_once,
        "tokens_at_once": losses.tokens_at_once,
        "lr": best.lr,
        "step": min(best.steps),
        "steps": list(best.steps),
        "checkpoints": [step for step, _ in best.checkpoints],
        "tried": attempts,
        "notes": notes,
    }
    return best, start, report


def _examples(base: Base, pairs: Pairs, settings: TrainSettings, parts: Parts) -> tuple[Examples, Json]:
    """The pairs as training sequences, in the parts of the study; and what the report says of them."""
    rows, record = rows_of(base, pairs, max_len=settings.max_len, allow_template_diff=settings.allow_template_diff)
    topics = [pairs.rows[i].topic_idx for i in record["kept"]]
    learnt, judged = ([i for i, t in enumerate(topics) if t in part] for part in (parts.train, parts.val))
    if not learnt or not judged:
        raise ValueError(
            f"{len(learnt)} pairs are left for training and {len(judged)} for validation; give more questions.{because(pairs)}"
        )
    report = {k: v for k, v in record.items() if k not in ("kept", "left_out")}
    counts = {"n_train": len(learnt), "n_val": len(judged), "n_test": len(topics) - len(learnt) - len(judged)}
    return Examples(rows, learnt, judged), report | counts


def identity_of(base: Base, settings: TrainSettings, **learnt: object) -> str:
    """A hash of everything that a stopped training must share with the one that goes on; `learnt` is what from."""
    own = {**learnt, "base": base.weights_hash, "dtype": str(base.dtype)}
    return key_of("checkpoint", {**asdict(settings), **own}, {})


def _template(base: Base) -> str:
    """The way in which a conversation is written for this base: chat or plain."""
    return "chat" if has_template(base.tokenizer) else "plain"


def _starts(
    of: Family, base: Base, spec: Spec, settings: TrainSettings, start: Mapping[str, Tensor], group: Group
) -> tuple[Tensors, Tensors]:
    """The tensors both sides start from: one set, or two where the family draws them and `init` says independent."""
    seeds = [settings.seed * 2 + 1_000_003 * (1 + i) for i in range(len(SIDES))]
    starts = []
    for seed in [settings.seed] if settings.init == "shared" else seeds:
        with of.attached(base, spec, seed) as fresh:
            own = fresh.state() | {k: t.to(base.device).clone() for k, t in start.items()}
        starts.append(group.tensors_as_main(own))
    return starts[0], starts[-1]


def _attached(
    of: Family,
    base: Base,
    spec: Spec,
    settings: TrainSettings,
    start: Mapping[str, Tensor],
    group: Group,
    undo: ExitStack,
) -> Attached:
    """The adapter on the base as it is trained, until `undo` is left; with `shard`, the base is spread for good."""
    own = {*base.model.parameters()}
    attached = undo.enter_context(of.attached(base, spec, settings.seed))
    if settings.gradient_checkpointing:
        _checkpoint_activations(base, attached.network, undo)
    if group.shard:
        adapters = [p for p in attached.network.parameters() if p not in own] or attached.trainable.values()
        spread(blocks_of(base.model)[1], attached.network, adapters, group.device)
    if start:  # PiSSA: the start is taken off beside the adapter, the base stays whole
        undo.enter_context(steer(base, Direction(of.start_forms(start, spec)), -1.0))
    return attached


def _checkpoint_activations(base: Base, network: nn.Module, undo: ExitStack) -> None:
    """Recompute activations in the backward pass, until `undo` is left."""
    model: Network = base.model
    dropouts = ("attention_dropout", "resid_pdrop", "attn_pdrop", "embd_pdrop", "hidden_dropout")
    if any(float(getattr(model.config, k, 0) or 0) > 0 for k in dropouts):
        raise Unsupported(
            "this model has dropout, which gradient checkpointing would switch on; train without `gradient_checkpointing`."
        )
    new = hasattr(model, "activation_checkpointing_enable")  # transformers 5.23 renames it (2026-11)
    kind = "activation" if new else "gradient"
    options = {f"{kind}_checkpointing_kwargs": {"use_reentrant": False}}
    getattr(model, f"{kind}_checkpointing_enable")(**options)
    undo.callback(getattr(model, f"{kind}_checkpointing_disable"))
    # enabling also hooks the embedding so that its output needs gradients, and disabling leaves that hook behind
    embedding = model.get_input_embeddings()
    hooks = dict(embedding._forward_hooks)
    undo.callback(_drop_new_hooks, embedding, hooks)
    network.train()
    for layer in network.modules():
        if hasattr(layer, "A_log"):
            layer.eval()  # in training mode, kernels of Mamba layers go around the modules that adapters sit on


def _drop_new_hooks(module: nn.Module, before: Mapping[int, object]) -> None:
    """Remove the forward hooks that were not there before."""
    for key in [k for k in module._forward_hooks if k not in before]:
        del module._forward_hooks[key]
