"""Two opposite fine-tunes of one base, in step with each other.

Both sides start from the same stored tensors, see the same pairs in the same order for the same number of steps, and
share learning rate and stopping step, chosen by the mean of their validation losses. They take turns on one loaded
base: an interval of steps for pos, the same for neg, then both are judged. What one side has and the other lacks is
then the behavior, and not the luck of two runs. How published work does it (a stopping step per side, none at all, a
start per side) is one setting each.
"""

import hashlib
import json
import logging
import math
import os
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ws.adapters import USUAL, Adapter, Attached, Family, Spec, family
from ws.batches import is_out_of_memory, progress
from ws.direction.direction import Direction
from ws.direction.file import apart
from ws.errors import BadFile, TrainingDiverged, Unsupported
from ws.models.chat import has_template
from ws.models.load import Base
from ws.models.modules import blocks_of, select
from ws.pairs import Pairs, marks_of
from ws.records import key_of, writable
from ws.signatures import plain_types
from ws.steer import steer
from ws.train.processes import ALONE, Group, spread
from ws.train.sequences import SIDES, Parts, Row, rows_of, split
from ws.train.tracking import UNTRACKED, Tracking

log = logging.getLogger(__name__)

PROTOCOL = "train/2"  # 2: questions are split in three
STOPS = ("shared", "per_branch", "none")
CHECKPOINT_SECONDS = float(os.environ.get("WS_CHECKPOINT_SECONDS", "20"))


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
    """Names of linear layers, e.g. q_proj,down_proj; the family's default when not given."""
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
        if self.checkpoints < 0:
            raise ValueError(f"checkpoints must not be negative, got {self.checkpoints}")
        if self.stop not in STOPS:
            raise ValueError(f"stop is one of {', '.join(STOPS)}; got {self.stop!r}")
        if any(not 0 < x < 10 or not math.isfinite(x) for x in self.lr):
            raise ValueError(f"every learning rate must lie between 0 and 10, got {self.lr}")
        for name in ("batch_size", "eval_every", "patience"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.epochs > 0 or self.warmup < 0 or self.max_len < 8:
            raise ValueError("epochs must be positive, warmup not negative, max_len at least 8")
        if not (0 < self.val_share < 1 and 0 < self.test_share < 1 and self.val_share + self.test_share < 1):
            raise ValueError(
                f"val_share and test_share lie between 0 and 1 and leave something to train on, got {self.val_share:g} "
                f"and {self.test_share:g}"
            )

    def parts(self, topics: Iterable[int]) -> Parts:
        """The study's questions in three parts."""
        return split(topics, val_share=self.val_share, test_share=self.test_share, seed=self.seed)


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
    **changes: Any,
) -> Sides:
    """Fine-tune two adapters on the two sides of the pairs.

    Fields of `TrainSettings` may be given directly: `ws.train(base, pairs, adapter="lora", rank=8)`. With `work`, the
    state is saved there now and then, and a second call goes on from it to the same tensors. With `group`, from
    `ws.train.processes.join`, several processes train as one. `rows_at_once` changes memory and not the result. `tracking`
    is told the losses.
    """
    settings = replace(settings or default_train(base, changes.get("adapter", USUAL)), **changes)
    of = family(settings.adapter)
    spec = spec_of(base, settings)
    parts = settings.parts(pairs.topics)
    if of.whole and group.shard:
        raise Unsupported(f"{of.name} trains whole matrices, which are not spread; leave out `shard`, or take lora.")
    rows, told = rows_of(base, pairs, max_len=settings.max_len, allow_template_diff=settings.allow_template_diff)
    topics = [pairs.rows[i].topic_idx for i in told["kept"]]
    inside, outside = ([at for at, t in enumerate(topics) if t in part] for part in (parts.train, parts.val))
    if not inside or not outside:
        raise ValueError(
            f"{len(inside)} pairs are left for training and {len(outside)} for validation; give more questions"
        )
    start = group.tensors_as_main(of.start(base, spec)) if of.start else {}
    report: dict[str, Any] = {
        **{k: v for k, v in told.items() if k not in ("kept", "left_out")},
        "n_train": len(inside),
        "n_val": len(outside),
        "n_test": len(topics) - len(inside) - len(outside),
    }

    with ExitStack() as undo:
        pos_start, neg_start = _starts(of, base, spec, settings, start)
        starts = group.tensors_as_main(pos_start), group.tensors_as_main(neg_start)
        own = {*base.model.parameters()}
        attached = undo.enter_context(of.attached(base, spec, settings.seed))
        if settings.gradient_checkpointing:
            _checkpoint_activations(base, attached.network, undo)
        if group.shard:
            adapters = [p for p in attached.network.parameters() if p not in own] or attached.trainable.values()
            spread(blocks_of(base.model)[1], attached.network, adapters, group.device)
        if start:  # PiSSA: the start is taken off beside the adapter, the base stays whole
            undo.enter_context(steer(base, Direction(of.start_forms(start, spec)), -1.0))
        told_apart = {
            **asdict(settings),
            "pairs": pairs.content_hash,
            "base": base.weights_hash,
            "dtype": str(base.dtype),
        }
        identity = key_of("checkpoint", told_apart, {})
        fit = _Fit(
            base, attached, rows, inside, outside, settings, starts, work, identity, group, rows_at_once or 64, tracking
        )
        best, tried, notes = _choose_lr(fit, settings.lr or of.lr, extend=not settings.lr and len(of.lr) > 1)
    report |= {
        "template": "chat" if has_template(base.tokenizer) else "plain",
        "rows_at_once": fit.micro,
        "lr": best.lr,
        "step": min(best.steps),
        "steps": list(best.steps),
        "checkpoints": [step for step, _ in best.kept],
        "val_pos": best.val[0],
        "val_neg": best.val[1],
        "tried": tried,
        "notes": notes,
    }
    provenance = {
        "protocol": PROTOCOL,
        "settings": asdict(settings),
        "pairs": pairs.content_hash,
        **({"behavior": pairs.provenance["behavior"]} if "behavior" in pairs.provenance else {}),
        "questions": marks_of(r.prompt for r in pairs.of(parts.train | parts.val).rows),
        "lr": best.lr,
    }

    def made(steps: Sequence[int], states: Sequence[dict[str, Tensor]]) -> tuple[Adapter, Adapter]:
        told = {**provenance, "step": min(steps), "steps": list(steps)}
        pos, neg = (Adapter(spec, t, start, base.described(), {**told, "side": s}) for s, t in zip(SIDES, states))
        return pos, neg

    kept = [Sides(*made((step, step), states), {"step": step}) for step, states in best.kept]
    return Sides(*made(best.steps, best.state), report, tuple(kept))


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
    candidates = list(base.linears.values()) if settings.targets else of.targets(list(base.linears.values()))
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


# ---------------------------------------------------------------- the loop


@dataclass
class _Side:
    """One side in between its turns: parameter values, optimiser state, and the step that is kept so far."""

    state: dict[str, Tensor]
    moments: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    """Per parameter: AdamW's step, exp_avg and exp_avg_sq."""
    best: dict[str, Tensor] = field(default_factory=dict)
    step: int = 0
    """The step of `best`, and its validation loss."""
    val: float = math.inf
    stale: int = 0
    """Validations since then."""
    kept: dict[int, dict[str, Tensor]] = field(default_factory=dict)
    """The states of the steps that are kept as checkpoints, in main memory."""

    def keep(self, step: int, val: float) -> None:
        """Take the state of now for the one that is kept."""
        self.best, self.step, self.val, self.stale = dict(self.state), step, val, 0


@dataclass
class _Best:
    """What one learning rate came to: of each side, the step that is kept."""

    lr: float
    steps: tuple[int, int]
    val: tuple[float, float]
    state: list[dict[str, Tensor]]
    kept: list[tuple[int, list[dict[str, Tensor]]]] = field(default_factory=list)
    """Steps that both sides reached and kept, with the states of both."""

    @property
    def mean(self) -> float:
        return 0.5 * (self.val[0] + self.val[1])


@dataclass
class _Fit:
    """Everything one learning rate needs to be tried."""

    base: Base
    attached: Attached
    rows: dict[str, list[Row]]
    inside: list[int]
    outside: list[int]
    settings: TrainSettings
    starts: tuple[dict[str, Tensor], dict[str, Tensor]]
    work: Path | None
    identity: str = ""
    """What a checkpoint must have been made for: pairs, settings and base."""
    group: Group = ALONE
    micro: int = 64
    """Rows at once; halves when memory runs out."""
    tracking: Tracking = UNTRACKED

    def __post_init__(self):
        self.micro = min(self.micro, self.settings.batch_size)
        order = random.Random(f"order/{self.settings.seed}")
        flat: list[int] = []
        for _ in range(math.ceil(self.settings.epochs)):
            flat += order.sample(self.inside, len(self.inside))
        flat = flat[: max(1, round(self.settings.epochs * len(self.inside)))]
        size = self.settings.batch_size
        self.plan = [flat[i : i + size] for i in range(0, len(flat), size)]
        self.steps = len(self.plan)
        n = self.settings.checkpoints
        self.marks = {max(1, round(k * self.steps / n)) for k in range(1, n + 1)}

    def run(self, lr: float, at: int) -> _Best:
        """Train both sides at one learning rate; of each, the tensors of the step that is kept."""
        sides, step, history = self._resume(at) or self._begun()
        initial = 0.5 * (history[0]["val_pos"] + history[0]["val_neg"])
        saved_at = time.monotonic()
        told = {**asdict(self.settings), "lr": lr}
        with (
            self.tracking.run(told) as report,
            progress(self.steps, f"training {self.settings.adapter}, lr {lr:g}", shown=self.group.main) as tick,
        ):
            for past in history:
                report(past)
            tick(step)
            while step < self.steps and any(going := [s.stale < self.settings.patience for s in sides]):
                until = min(step + self.settings.eval_every, self.steps)
                row: dict[str, Any] = {"step": until}
                for side, name, on in zip(sides, SIDES, going):
                    if on:
                        row[f"train_{name}"] = self._interval(side, name, lr, step, until)
                tick(until - step)
                step = until
                # a side that has stopped is as it was
                val = [self._judge(s, n) if on else s.val for s, n, on in zip(sides, SIDES, going)]
                row |= {f"val_{n}": v for n, v, on in zip(SIDES, val, going) if on}
                history.append(row)
                report(row)
                mean = 0.5 * (val[0] + val[1])
                if not math.isfinite(mean) or mean > 3 * initial + 2:
                    raise TrainingDiverged(
                        f"the validation loss went from {initial:.2f} to {mean:.2f} at step {step} with lr {lr:g}; use a smaller `lr`."
                    )
                self._choose(sides, step, val)
                if self.work is not None and self.group.main and time.monotonic() - saved_at > CHECKPOINT_SECONDS:
                    self._save(at, lr, sides, step, history)
                    saved_at = time.monotonic()
        self.history = history
        pos, neg = sides
        kept = [(step, [pos.kept[step], neg.kept[step]]) for step in sorted(pos.kept.keys() & neg.kept.keys())]
        return _Best(lr, (pos.step, neg.step), (pos.val, neg.val), [pos.best, neg.best], kept)

    def _begun(self) -> tuple[list[_Side], int, list[dict[str, Any]]]:
        """Both sides at their start, judged."""
        sides = [_Side({k: t.clone() for k, t in s.items()}) for s in self.starts]
        for side, name in zip(sides, SIDES):
            side.keep(0, self._judge(side, name))
        return sides, 0, [{"step": 0, "val_pos": sides[0].val, "val_neg": sides[1].val}]

    def _choose(self, sides: Sequence[_Side], step: int, val: Sequence[float]) -> None:
        """Keep this step of both sides, of one, or of none, as `stop` says."""
        if self.settings.stop == "shared":
            better = [val[0] + val[1] < sides[0].val + sides[1].val] * 2
        elif self.settings.stop == "per_branch":
            better = [v < s.val for s, v in zip(sides, val)]
        else:
            better = [True, True]
        for side, v, keep in zip(sides, val, better):
            if keep:
                side.keep(step, v)
            else:
                side.stale += 1

    def _interval(self, side: _Side, name: str, lr: float, start: int, until: int) -> float:
        """Steps `start` to `until` of one side; its mean training loss."""
        params = dict(self.attached.trainable)
        self.attached.load(side.state)
        optimizer = torch.optim.AdamW(params.values(), lr=lr, weight_decay=self.settings.weight_decay)
        for key, p in params.items():
            if key in side.moments:
                moments = side.moments[key]  # AdamW counts its steps on the CPU; the rest lies where its parameter does
                optimizer.state[p] = {
                    k: t.clone() if k == "step" else t.to(p.device, copy=True) for k, t in moments.items()
                }
        total = 0.0
        for step in range(start, until):
            for group in optimizer.param_groups:
                group["lr"] = lr * _schedule(step, self.steps, self.settings.warmup)
            total += self._step([self.rows[name][i] for i in self.plan[step]], optimizer)
            if not math.isfinite(total):
                raise TrainingDiverged(
                    f"the loss of the {name} side is not a number at step {step + 1} with lr {lr:g}; use a smaller `lr`."
                )
            if step + 1 in self.marks:
                side.kept[step + 1] = {k: t.cpu() for k, t in self.attached.state().items()}
        side.state = self.attached.state()
        side.moments = {
            key: {k: v.detach().clone() for k, v in optimizer.state[p].items()} for key, p in params.items()
        }
        return total / max(1, until - start)

    def _step(self, rows: list[Row], optimizer: torch.optim.Optimizer) -> float:
        """One optimiser step over `batch_size` rows; the mean loss per target token."""
        targets = sum(len(r.ids) - r.start for r in rows)

        def part(some: Sequence[Row], weight: float) -> float:
            loss = weight * self._loss(some) / targets
            loss.backward()
            return float(loss.detach())

        total = self._in_parts(rows, part, again=optimizer.zero_grad)
        self.group.add_gradients(self.attached.trainable.values())
        nn.utils.clip_grad_norm_(self.attached.trainable.values(), 1.0)
        optimizer.step()
        return total

    def _judge(self, side: _Side, name: str) -> float:
        """Validation loss per target token of one side."""
        self.attached.load(side.state)
        rows = sorted((self.rows[name][i] for i in self.outside), key=lambda r: len(r.ids))
        with torch.no_grad():
            total = self._in_parts(rows, lambda some, weight: weight * float(self._loss(some)), again=lambda: None)
        return total / sum(len(r.ids) - r.start for r in rows)

    def _in_parts(
        self, rows: Sequence[Row], part: Callable[[Sequence[Row], float], float], again: Callable[[], None]
    ) -> float:
        """The sum of `part` over all processes and as many rows at once as memory takes; `again` clears a failed try."""
        while True:
            try:
                again()
                own = sum(part(some, weight) for some, weight in self.group.passes(rows, self.micro))
                break
            except (torch.OutOfMemoryError, RuntimeError) as e:
                if (
                    is_out_of_memory(e) and self.group.shard
                ):  # the others are in the middle of a pass, and cannot go back
                    raise Unsupported(
                        f"memory ran out with {self.micro} rows at once; give a smaller `rows_at_once`, or `gradient_checkpointing`."
                    ) from e
                if not is_out_of_memory(e) or self.micro == 1:
                    raise
                self.micro = max(1, self.micro // 2)
                log.warning("out of memory; %d rows at once from here on", self.micro)
        return self.group.total(own)

    def _loss(self, rows: Sequence[Row]) -> Tensor:
        """Summed cross-entropy of the target tokens; logits only from the first target on."""
        width = max(len(r.ids) for r in rows)
        keep = width - min(r.start for r in rows) + 1
        device = self.device
        ids = torch.tensor([list(r.ids) + [0] * (width - len(r.ids)) for r in rows], device=device)
        mask = torch.tensor([[1] * len(r.ids) + [0] * (width - len(r.ids)) for r in rows], device=device)
        labels = torch.tensor(
            [[-100] * r.start + list(r.ids[r.start :]) + [-100] * (width - len(r.ids)) for r in rows], device=device
        )
        logits = self.attached.network(input_ids=ids, attention_mask=mask, use_cache=False, logits_to_keep=keep).logits
        wanted = labels[:, width - keep + 1 :]
        return nn.functional.cross_entropy(
            logits[:, :-1].flatten(0, 1).float(), wanted.flatten(), ignore_index=-100, reduction="sum"
        )

    @property
    def device(self) -> torch.device:
        """Where tokens go in."""
        return torch.device(self.group.device) if self.group.shard else self.base.device

    # ------------------------------------------------------------ kill and go on

    def _file(self, at: int) -> Path:
        assert self.work is not None
        return self.work / "resume" / f"lr-{at}.safetensors"

    def _save(self, at: int, lr: float, sides: Sequence[_Side], step: int, history: list[dict[str, Any]]) -> None:
        """The whole state as one safetensors file, atomically: tensors, and the rest as JSON in its header, with a hash."""
        flat: dict[str, Tensor] = {}
        for name, side in zip(SIDES, sides):
            parts = {"now": side.state, "best": side.best, **{f"step {n}": t for n, t in side.kept.items()}}
            flat |= {f"{name}/{part}/{k}": t for part, tensors in parts.items() for k, t in tensors.items()}
            flat |= {f"{name}/{m}/{k}": t for k, moments in side.moments.items() for m, t in moments.items()}
        kept = [{"step": s.step, "val": s.val, "stale": s.stale} for s in sides]
        head = {"identity": self.identity, "lr": lr, "step": step, "kept": kept, "history": history}
        path, state = self._file(at), json.dumps(head)
        flat = apart(flat)
        writable(path.parent)
        temporary = path.with_suffix(".tmp")
        try:
            save_file(flat, temporary, metadata={"state": state, "sha256": _digest(state, flat)})
            with open(temporary, "rb") as f:
                os.fsync(f.fileno())  # or a machine that goes down may keep the name and not what it names
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    def _resume(self, at: int) -> tuple[list[_Side], int, list[dict[str, Any]]] | None:
        """The saved state of learning rate number `at`, or None."""
        there = self.work is not None and self._file(at).is_file()
        if 0 < self.group.total(there) < self.group.size:
            raise BadFile(f"only some processes see {self._file(at)}; give an `out` that all machines share.")
        if not there:
            return None
        saved = _read_checkpoint(self._file(at))
        damaged = self.group.total(saved is None) > 0  # to one is to all, or they would not go in step
        if saved is None or damaged:
            log.warning("%s is damaged; this learning rate is trained from its beginning", self._file(at))
            return None
        head, tensors = saved
        if head["identity"] != self.identity:
            raise BadFile(
                f"{self._file(at)} is a checkpoint of other pairs, settings or another base; give another work folder."
            )
        flat = {k: t.to(self.device) for k, t in tensors.items()}
        sides = []
        for name, told in zip(SIDES, head["kept"]):
            parts: dict[str, dict[str, Tensor]] = {}
            for key, t in flat.items():
                side, what, parameter = key.split("/", 2)
                if side == name:
                    parts.setdefault(what, {})[parameter] = t
            now, best = parts.pop("now"), parts.pop("best")
            kept = {int(n[5:]): parts.pop(n) for n in [n for n in parts if n.startswith("step ")]}
            moments = {
                p: {m: parts[m][p].cpu() if m == "step" else parts[m][p] for m in parts}
                for p in next(iter(parts.values()))
            }
            checkpoints = {n: {k: t.cpu() for k, t in state.items()} for n, state in kept.items()}
            sides.append(_Side(now, moments, best, **told, kept=checkpoints))
        log.info("going on at step %d of %d", head["step"], self.steps)
        return sides, head["step"], head["history"]


def _choose_lr(fit: _Fit, grid: Sequence[float], *, extend: bool) -> tuple[_Best, list[dict[str, Any]], list[str]]:
    """Try every learning rate, keep the lowest validation loss; at an end of a default grid, go one further."""
    notes: list[str] = []
    tried: list[dict[str, Any]] = []
    best: _Best | None = None  # one at a time: a side may be as large as the model

    def attempt(lr: float) -> None:
        nonlocal best
        try:
            found = fit.run(lr, len(tried))
        except TrainingDiverged as e:
            tried.append({"lr": lr, "step": None, "val": None, "diverged": str(e)})
            notes.append(str(e))
            return
        tried.append({"lr": lr, "step": min(found.steps), "val": found.mean, "history": fit.history})
        if best is None or (found.mean, found.lr) < (best.mean, best.lr):
            best = found

    for lr in sorted(grid):
        attempt(lr)
    if best is not None and extend:
        ordered = sorted(grid)
        if best.lr in (ordered[0], ordered[-1]):
            further = ordered[0] ** 2 / ordered[1] if best.lr == ordered[0] else ordered[-1] ** 2 / ordered[-2]
            notes.append(f"the best learning rate {best.lr:g} was an end of the grid, so {further:.2g} was tried too")
            attempt(further)
    if best is None:
        raise TrainingDiverged(
            f"training diverged at every learning rate tried ({', '.join(f'{x:g}' for x in grid)}); use a smaller `lr`."
        )
    if not any(best.steps):
        raise TrainingDiverged(
            "no step of training lowered the validation loss, so there is nothing to subtract; use another `lr` or more pairs."
        )
    return best, tried, notes


def _starts(of: Family, base: Base, spec: Spec, settings: TrainSettings, start: Mapping[str, Tensor]):
    """The tensors both sides start from: one set, or two where the family draws them and `init` says independent."""
    found = []
    for side in SIDES:
        seed = settings.seed if settings.init == "shared" else settings.seed * 2 + 1_000_003 * (1 + SIDES.index(side))
        with of.attached(base, spec, seed) as fresh:
            found.append(fresh.state() | {k: t.to(base.device).clone() for k, t in start.items()})
    return found[0], found[1]


def _checkpoint_activations(base: Base, network: nn.Module, undo: ExitStack) -> None:
    """Recompute activations in the backward pass, until `undo` is left."""
    model: Any = base.model
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


def _drop_new_hooks(module: nn.Module, before: Mapping[int, Any]) -> None:
    """Remove the forward hooks that were not there before."""
    for key in [k for k in module._forward_hooks if k not in before]:
        del module._forward_hooks[key]


def _read_checkpoint(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
    """What `_save` wrote, or None where the file is anything else: half of it, or with other bytes in it."""
    try:
        with safe_open(path, framework="pt") as f:
            told = f.metadata() or {}
            tensors = {k: f.get_tensor(k) for k in f.keys()}
    except (SafetensorError, OSError):
        return None
    if told.get("sha256") != _digest(told.get("state", ""), tensors):
        return None
    return json.loads(told["state"]), tensors


def _digest(state: str, tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over all of a checkpoint."""
    h = hashlib.sha256(state.encode())
    for name in sorted(tensors):
        t = tensors[name]
        h.update(f"{name} {t.dtype} {tuple(t.shape)} ".encode())
        h.update(t.reshape(-1).view(torch.uint8).numpy().data)
    return h.hexdigest()


def _schedule(step: int, steps: int, warmup: int) -> float:
    """Linear warm-up, then linear decay to 0 over the rest."""
    if step < warmup:
        return (step + 1) / (warmup + 1) if steps > warmup else 1.0
    return max(0.0, (steps - step) / max(1, steps - warmup))
