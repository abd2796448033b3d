"""One set of tensors under both signs of its dial: the pos answers are learnt at +1, the neg answers at -1.

What both answers of a pair have in common lowers one loss as much as it raises the other, so it is not learnt; what tells
them apart is. The idea of one signed adapter with a KL term is that of the public cwsteer project. Loss, schedule, choice of
learning rate and of the step that is kept are those of the two sides in `loop`.

The KL term holds the model to its base, at both signs, on the base's own greedy answers to the questions of the pairs: no
question comes in that the pairs do not have, so what a strength is found or measured on is still unseen. The loss is that
of a token of an answer: the KL(steered || base) of each token that the base wrote is added to it `kl` times.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from ws.adapters import Attached
from ws.errors import Unsupported
from ws.generate import Request, Sampling, complete
from ws.models.chat import Chat, encode, render
from ws.models.head import divergences, states_of
from ws.models.load import Base
from ws.pairs import Pairs
from ws.progress import progress
from ws.train.checkpoint import Tensors
from ws.train.loop import BestSteps, batches_of, best_rate, refuse_diverged, schedule
from ws.train.losses import Losses, padded
from ws.train.sequences import FEWEST_TARGETS, SIDES, Row, finished, rows_of
from ws.train.settings import TrainSettings
from ws.types import Json

PROTOCOL = "signed/1"
ROWS_AT_ONCE = 64
NEUTRAL_TOKENS = 32  # of an answer of the base: the KL of its first tokens says as much as that of all, and costs less
SIGNS = {"pos": 1.0, "neg": -1.0}

Dial = Callable[[Sequence[float]], AbstractContextManager]
"""The model steered by what is trained, at one strength per row of the batch."""


@dataclass(frozen=True, eq=False)
class Signed(Row):
    """A sequence with its sign; one of the base's own answers has the base's states, which the KL is measured against."""

    sign: float
    of_base: Tensor | None = None


@dataclass
class SignedLosses(Losses):
    """Losses of rows, each under its own sign."""

    dial: Dial = field(kw_only=True)
    kl: float = 0.0

    def targets(self, rows: Sequence[Row]) -> int:
        return super().targets([r for r in rows if isinstance(r, Signed) and r.of_base is None])

    def _loss(self, rows: Sequence[Row]) -> Tensor:
        signed = [r for r in rows if isinstance(r, Signed)]
        answers, neutral = ([r for r in signed if (r.of_base is not None) == kind] for kind in (False, True))
        parts = []
        for some, loss in ((answers, super()._loss), (neutral, self._drift)):
            if some:
                with self.dial([r.sign for r in some]):
                    parts.append(loss(some))
        return torch.stack(parts).sum()

    def _drift(self, rows: Sequence[Signed]) -> Tensor:
        """`kl` times the summed KL to the base at the tokens of its own answers."""
        inputs, index = padded(rows, self.device)
        of_base = torch.cat([r.of_base for r in rows if r.of_base is not None])
        return self.kl * divergences(self.attached.network, index, of_base, **inputs).sum()


@dataclass
class SignedFit:
    """Both signs of one set of tensors; `run` trains it at one learning rate."""

    settings: TrainSettings
    learnt: Sequence[Sequence[Row]]
    """Of every pair: all that is learnt from it, under both signs."""
    judged: Mapping[str, Sequence[Row]]
    """Of every side: what its sign is judged on."""
    losses: SignedLosses
    label: str

    def __post_init__(self):
        self.start = self.losses.attached.state()

    def run(self, lr: float, number: int) -> BestSteps:
        """Train from the start at one learning rate, and keep the best step."""
        settings, attached = self.settings, self.losses.attached
        attached.load(self.start)
        optimizer = torch.optim.AdamW(attached.trainable.values(), lr=lr, weight_decay=settings.weight_decay)
        batches = batches_of(range(len(self.learnt)), settings)
        best = self._outcome(lr, 0)
        history, initial, stale = [self._row(best)], best.mean, 0
        with progress(len(batches), f"training {self.label}, lr {lr:g}") as tick:
            for step, batch in enumerate(batches, 1):
                for group in optimizer.param_groups:
                    group["lr"] = lr * schedule(step - 1, len(batches), settings.warmup)
                self.losses.step([row for i in batch for row in self.learnt[i]], optimizer)
                tick(1)
                if step % settings.eval_every and step < len(batches):
                    continue
                new = self._outcome(lr, step)
                history.append(self._row(new))
                refuse_diverged(initial, new.mean, step, lr)
                if new.mean < best.mean or settings.stop == "none":
                    best, stale = new, 0
                elif (stale := stale + 1) == settings.patience:
                    break
        return replace(best, history=history)

    def _outcome(self, lr: float, step: int) -> BestSteps:
        pos, neg = (self.losses.mean(self.judged[side]) for side in SIDES)
        return BestSteps(lr, (step, step), (pos, neg), [self.losses.attached.state()])

    def _row(self, outcome: BestSteps) -> dict[str, float]:
        return {"step": outcome.steps[0], **{f"val_{side}": v for side, v in zip(SIDES, outcome.val)}}


def fit_signed(
    base: Base,
    pairs: Pairs,
    held: Pairs,
    settings: TrainSettings,
    trainable: Mapping[str, nn.Parameter],
    dial: Dial,
    *,
    grid: Sequence[float],
    extend: bool,
    kl: float = 0.0,
    label: str = "signed",
) -> tuple[Tensors, Json]:
    """The tensors that say pos answers best at +1 and neg answers at -1, as far as the held pairs tell; and a report."""
    if settings.gradient_checkpointing:
        raise Unsupported(f"{label} is not trained with `gradient_checkpointing`; leave it out.")
    learnt, judged = (
        _signed_rows(base, p, settings, fewest=fewest, neutral=kl > 0)
        for p, fewest in ((pairs, FEWEST_TARGETS), (held, 1))
    )
    losses = SignedLosses(Attached(base.model, trainable), base.device, rows_at_once=ROWS_AT_ONCE, dial=dial, kl=kl)
    losses.fit([row for side in learnt.values() for rows in side for row in rows])
    by_pair = [[*pos, *neg] for pos, neg in zip(*(learnt[side] for side in SIDES))]
    by_side = {side: [row for rows in judged[side] for row in rows] for side in SIDES}
    best, attempts, notes = best_rate(SignedFit(settings, by_pair, by_side, losses, label).run, grid, extend=extend)
    val = {f"val_{side}": v for side, v in zip(SIDES, best.val)}
    return best.states[0], {"lr": best.lr, "step": best.steps[0], **val, "tried": attempts, "notes": notes}


def choice(report: Json) -> Json:
    """The step that was kept, as the provenance of what was trained says it."""
    return {k: report[k] for k in ("lr", "step", "val_pos", "val_neg")}


def _signed_rows(
    base: Base, pairs: Pairs, settings: TrainSettings, *, fewest: int, neutral: bool
) -> dict[str, list[list[Row]]]:
    """Of every side and pair: its answer under its sign, and where `neutral` is asked for the base's own under the same."""
    sides, record = rows_of(
        base, pairs, max_len=settings.max_len, allow_template_diff=settings.allow_template_diff, fewest=fewest
    )
    prompts = [pairs.rows[i].prompt for i in record["kept"]]
    thinking = pairs.provenance.get("settings", {}).get("thinking", "off")
    of_base = base_answers(base, prompts, settings.max_len, thinking=thinking) if neutral else {}
    return {
        side: [
            [
                Signed(r.ids, r.start, SIGNS[side]),
                *(Signed(b.ids, b.start, SIGNS[side], s) for b, s in of_base.get(p, ())),
            ]
            for r, p in zip(sides[side], prompts)
        ]
        for side in SIDES
    }


def base_answers(
    base: Base, prompts: Sequence[str], max_len: int, *, thinking: str = "off"
) -> dict[str, list[tuple[Row, Tensor]]]:
    """The base's own greedy answer to every prompt as a row, with its states there; a prompt without an answer has none."""
    asked = list(dict.fromkeys(prompts))
    texts = [render(base.tokenizer, Chat(p), thinking=thinking) for p in asked]
    requests = [Request(tuple(encode(base.tokenizer, t)), NEUTRAL_TOKENS, p) for t, p in zip(texts, asked)]
    answers, _ = complete(base, requests, Sampling(), label="the base's own answers")
    found: dict[str, list[tuple[Row, Tensor]]] = {}
    for prompt, answer in zip(asked, answers):
        ids, start, _ = finished(base.tokenizer, prompt, answer.text, thinking=thinking)
        row = Row(tuple((ids if answer.ended else ids[:-1])[:max_len]), start)
        if len(row.ids) > row.start:
            inputs, index = padded([row], base.device)
            with torch.no_grad():
                found[prompt] = [(row, states_of(base.model, index, **inputs))]
    return found
